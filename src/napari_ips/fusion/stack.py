"""Fusion of a z-stack in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import ProgressCallback
from napari_ips.fusion.arrays import fuse_to_arrays
from napari_ips.fusion.decide import FusionResult
from napari_ips.fusion.plan import MOST_SLICES
from napari_ips.io import wrap_array


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
        Called with `Progress` and `TileDone`; what it raises ends the work.

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
    slices = _as_slices(np.asarray(stack), axis, rgb)
    lazy = wrap_array(slices, "ZYXS"[: slices.ndim])
    arrays = fuse_to_arrays(lazy, config=config, callback=callback)
    return FusionResult(
        arrays.fused[0, 0], arrays.index[0, 0], arrays.depth[0, 0], arrays.confidence[0, 0]
    )


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
