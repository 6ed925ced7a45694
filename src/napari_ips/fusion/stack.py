"""Fusion of a z-stack in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import Progress, ProgressCallback
from napari_ips.fusion.compute import Workers, load_network
from napari_ips.fusion.decide import FusionResult, untouched
from napari_ips.fusion.fuser import EvidenceInMemory, StackFuser
from napari_ips.fusion.memory import tile_edge
from napari_ips.fusion.scales import scales_for
from napari_ips.fusion.survey import LevelInMemory, fill_level, measure
from napari_ips.fusion.tiles import CORE, cores
from napari_ips.network import CrossImageFusionNetwork

MOST_SLICES = 65536


def fuse_stack(
    stack: ArrayLike,
    axis: int = 0,
    *,
    rgb: bool | None = None,
    config: FuseConfig | None = None,
    callback: ProgressCallback | None = None,
) -> FusionResult:
    """Fuse a z-stack in memory into one all-in-focus image.

    Every slice is compared with the next one by the network; the evidence summed over z
    is a focus curve per pixel, whose peak is the focused slice. Colours are decided
    together, on their luminance. For stacks in files, larger than memory, with channels
    or time points, see `fuse_to_file`.

    Parameters
    ----------
    stack : array_like, shape (Z, Y, X) or (Z, Y, X, 3 or 4), z at ``axis``
        Any integer or float dtype.
    axis : int
        The z axis.
    rgb : bool, optional
        Whether the last axis holds colours. By default it does when there are four axes
        and the last has length 3 or 4.
    config : FuseConfig, optional
        How to fuse.
    callback : callable, optional
        Called with `Progress` after each tile; what it raises ends the work.

    Returns
    -------
    FusionResult

    Raises
    ------
    IPSError
        If the array is no z-stack, is complex or holds objects, or the weights or the
        device are not there.

    Notes
    -----
    An affine change of the intensities changes ``fused`` with it and leaves the rest.
    NaN and infinite values never win; where no slice is finite, neither is ``fused``.
    """
    config = config or FuseConfig()
    slices = _as_slices(np.asarray(stack), axis, rgb)
    if len(slices) == 1:
        part = untouched(slices, ())
        return FusionResult(part.fused[0], part.index, part.depth, part.confidence)
    network = load_network(config)
    device = next(network.parameters()).device
    with Workers(device) as workers:
        return _fuse(slices, config, network, workers, callback)


def _fuse(
    slices: NDArray[Any],
    config: FuseConfig,
    network: CrossImageFusionNetwork,
    workers: Workers,
    callback: ProgressCallback | None,
) -> FusionResult:
    shape = (slices.shape[1], slices.shape[2])
    pixel_bytes = slices[0, 0, 0].nbytes
    top = tile_edge(config, len(slices), pixel_bytes) // CORE
    tiles = cores(shape, top)
    level = None
    if 2 * top in scales_for(shape):
        level = LevelInMemory(len(slices), shape, 2 * top)

    def read(y: slice, x: slice) -> NDArray[Any]:
        return slices[:, y, x]

    settings = measure(read, len(slices), shape, tiles, config, workers)
    if level is not None:
        fill_level(read, tiles, level, settings, workers)
    fuser = StackFuser(network, settings, [read], level, EvidenceInMemory(), workers)
    result = FusionResult(
        np.empty(slices.shape[1:], slices.dtype),
        np.empty(shape, np.uint16),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
    )
    for done, (tile, part) in enumerate(workers.tiles(fuser.fuse, tiles), start=1):
        area = tile.in_image(shape)
        result.fused[area] = part.fused[0]
        result.index[area] = part.index
        result.depth[area] = part.depth
        result.confidence[area] = part.confidence
        if callback:
            callback(Progress("fusing", done, len(tiles)))
    return result


def _as_slices(stack: NDArray[Any], axis: int, rgb: bool | None) -> NDArray[Any]:
    """Check a stack and bring z to the front: (Z, Y, X) or (Z, Y, X, colours)."""
    if stack.dtype.kind not in "iufb":
        raise IPSError(f"A stack of dtype {stack.dtype} cannot be fused; use int or float.")
    if stack.dtype == bool:
        raise IPSError("A stack of true and false cannot be fused; give intensities.")
    if rgb is None:
        rgb = stack.ndim == 4 and stack.shape[-1] in (3, 4)
    if stack.ndim != (4 if rgb else 3):
        kind = (
            "colour stack has axes (Z, Y, X, colours)"
            if rgb
            else "stack has axes (Z, Y, X)"
        )
        raise IPSError(f"A {kind}, but this array has shape {stack.shape}.")
    if not -stack.ndim <= axis < stack.ndim or (rgb and axis % stack.ndim == 3):
        raise IPSError(f"Axis {axis} cannot be z in an array of shape {stack.shape}.")
    if rgb and stack.shape[-1] not in (3, 4):
        raise IPSError(
            f"Colours are the last 3 or 4 values, but the shape is {stack.shape}."
        )
    slices = np.moveaxis(stack, axis, 0)
    if 0 in slices.shape:
        raise IPSError(f"The stack is empty: its shape is {stack.shape}.")
    if len(slices) > MOST_SLICES:
        raise IPSError(
            f"{len(slices)} slices are too many; at most {MOST_SLICES} are fused."
        )
    return slices
