"""Settings of the fusion of one stack, with what was left to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ips.config import FuseConfig
from napari_ips.fusion.scales import scales_for
from napari_ips.fusion.tiles import Shape
from napari_ips.intensity import FloatImage, IntensityRange, luminance
from napari_ips.noise import noise_level

# Normalised intensities beyond these are cut off before the network sees them.
_LIMITS = (-1.0, 2.0)


@dataclass(frozen=True)
class FusionSettings:
    """What every part of a stack is fused with, so that the parts fit together.

    Attributes
    ----------
    config : FuseConfig
        The user's choices.
    shape : (height, width)
        Of the whole image, pixels.
    offset : float
        Subtracted from all intensities before they become float32, which would round
        small contrasts on a high base.
    intensities : IntensityRange
        What becomes 0 and 1 for the network, after `offset` was subtracted.
    scales : tuple of int
        At which slices are compared.
    smoothing : float
        Sigma of the neighbourhood, pixels.
    temperature : float
        Of the soft mode.
    """

    config: FuseConfig
    shape: Shape
    offset: float
    intensities: IntensityRange
    scales: tuple[int, ...]
    smoothing: float
    temperature: float

    @classmethod
    def measured(
        cls,
        config: FuseConfig,
        shape: Shape,
        offset: float,
        samples: FloatImage,
        centre: FloatImage,
    ) -> FusionSettings:
        """Settle range, neighbourhood and temperature of a stack.

        A noisy stack is averaged over more pixels and more slices.

        Parameters
        ----------
        config, shape, offset
            As above.
        samples : ndarray
            Intensities from all over the stack, less the offset.
        centre : ndarray, shape (n, h, w)
            A part of every slice, in which the noise is measured, less the offset.
        """
        intensities = IntensityRange.of(samples)
        noise = noise_level(intensities.normalise(centre))
        return cls(
            config,
            shape,
            offset,
            intensities,
            scales_of(config, shape),
            config.smoothing or min(10.0, 0.4 + 50.0 * noise),
            config.temperature or min(2.0, 0.7 + 55.0 * noise),
        )

    def normalised(self, values: Tensor) -> Tensor:
        """Map intensities, less the offset, to what the network sees.

        A hot pixel, or a huge value that means no data, must not outshout its
        surroundings.
        """
        scaled = (values - self.intensities.low) / self.intensities.width
        return scaled.clamp(*_LIMITS)


def scales_of(config: FuseConfig, shape: Shape) -> tuple[int, ...]:
    """Return the scales at which the slices of an image of ``shape`` are compared."""
    one_scale = config.strategy == "fold" or not config.regularise
    return (1,) if one_scale else scales_for(shape)


def grey_values(stack: NDArray[Any], offset: float) -> Tensor:
    """Return the intensities or luminances of (n, H, W[, colours]) less an offset.

    Returns
    -------
    Tensor, shape (n, H, W), float32
        Pixels without a finite value have that of the nearest slice below, or else
        above, so that they differ from no neighbour and the slices on both sides are
        still compared; 0 where no slice has one.
    """
    values = np.empty(stack.shape[:3], np.float32)
    for slice_, into in zip(stack, values, strict=True):
        grey = luminance(slice_) if slice_.ndim == 3 else slice_
        # What is beyond float32 becomes infinite, which counts as no value.
        with np.errstate(over="ignore"):
            into[...] = grey.astype(np.float64) - offset
    if stack.dtype.kind == "f":
        _fill(values)
    return torch.from_numpy(values)


def finite(stack: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Tell which pixels (n, H, W) have a finite value; None when all have."""
    if stack.dtype.kind != "f":
        return None
    valid: NDArray[np.bool_] = np.isfinite(luminance(stack) if stack.ndim == 4 else stack)
    return None if valid.all() else valid


def _fill(values: FloatImage) -> None:
    known = np.isfinite(values)
    if known.all():
        return
    values[~known] = 0.0
    order = range(len(values))
    for slices in (order, order[::-1]):
        for before, here in zip(slices, slices[1:], strict=False):
            take_over = known[before] & ~known[here]
            values[here][take_over] = values[before][take_over]
            known[here] |= take_over
