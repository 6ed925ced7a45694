"""Fusion of z-stacks in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ips.config import FuseConfig
from napari_ips.device import choose_device
from napari_ips.errors import IPSError
from napari_ips.events import Progress, ProgressCallback
from napari_ips.fusion.block import FusionResult, FusionSettings, fuse_block
from napari_ips.fusion.noise import noise_level
from napari_ips.fusion.scales import SCALES, scales_for
from napari_ips.fusion.tiles import tiles
from napari_ips.intensity import IntensityRange, luminance
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.weights import load_weights

# Edge of the blocks that are fused one after another, to bound memory.
_BLOCK = 1280
# Pixels around a block that are read with it.
_HALO = 96
# Part of the image, in pixels, in which the noise is measured.
_NOISE_WINDOW = 512
_MOST_SLICES = 65536


def fuse_stack(
    stack: ArrayLike,
    axis: int = 0,
    *,
    rgb: bool | None = None,
    config: FuseConfig | None = None,
    callback: ProgressCallback | None = None,
) -> FusionResult:
    """Fuse a z-stack into one all-in-focus image.

    Every slice is compared with the next one by the network; the evidence summed over z
    is a focus curve per pixel, whose peak is the focused slice. Colours are decided
    together, on their luminance.

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
        Called with `Progress` after each block; what it raises ends the work.

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
        return _single(slices[0])
    network = _network(config)
    settings = measure_settings(slices, config)
    height, width = slices.shape[1:3]
    parts = tiles((height, width), _BLOCK, _HALO, align=SCALES[-1])
    result = FusionResult(
        np.empty(slices.shape[1:], slices.dtype),
        np.empty((height, width), np.uint16),
        np.empty((height, width), np.float32),
        np.empty((height, width), np.float32),
    )
    for done, part in enumerate(parts, start=1):
        block = fuse_block(network, slices[:, *part.padded], settings)
        for whole, piece in zip(_arrays(result), _arrays(block), strict=True):
            whole[part.core] = piece[part.inner]
        if callback:
            callback(Progress("fusing", done, len(parts)))
    return result


def measure_settings(slices: NDArray[Any], config: FuseConfig) -> FusionSettings:
    """Measure intensity range and noise of (n, Y, X[, colours]) and settle the rest.

    A noisy stack is averaged over more pixels and more slices.
    """
    grey = luminance(slices) if slices.ndim == 4 else slices
    intensities = IntensityRange.of(grey)
    y, x = (
        slice(max(0, (n - _NOISE_WINDOW) // 2), (n + _NOISE_WINDOW) // 2)
        for n in grey.shape[1:]
    )
    noise = noise_level(intensities.normalise(grey[:, y, x]))
    smoothing = config.smoothing or min(10.0, 0.6 + 80.0 * noise)
    temperature = config.temperature or min(2.0, 1.0 + 15.0 * noise)
    scales = scales_for((grey.shape[1], grey.shape[2]))
    return FusionSettings(config, intensities, scales, smoothing, temperature)


def _network(config: FuseConfig) -> CrossImageFusionNetwork:
    network, _ = load_weights(config.weights)
    if network.config.in_channels != 1:
        raise IPSError(
            f"The weights {config.weights} are for {network.config.in_channels} channels; "
            "stacks are fused by weights for one."
        )
    network.set_scan_backend(config.backend)
    return network.to(choose_device(config.device))


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
    if len(slices) > _MOST_SLICES:
        raise IPSError(
            f"{len(slices)} slices are too many; at most {_MOST_SLICES} are fused."
        )
    return slices


def _single(image: NDArray[Any]) -> FusionResult:
    """Return a stack of one slice as it is, with no confidence in the choice."""
    shape = image.shape[:2]
    return FusionResult(
        image.copy(),
        np.zeros(shape, np.uint16),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )


def _arrays(result: FusionResult) -> tuple[NDArray[Any], ...]:
    return result.fused, result.index, result.depth, result.confidence
