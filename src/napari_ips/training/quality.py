"""Whether an image, or a crop of one, is sharp enough to train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ips.intensity import FloatImage
from napari_ips.noise import noise_by_pixel

Verdict = Literal["sharp", "soft", "empty", "saturated"]

# Sharpness is judged by blocks of this edge, in pixels. Blocks whose standard deviation
# is a smaller share of the image's range, or hardly more than their noise, are empty, and
# so is an image of mostly such.
_BLOCK = 32
_LEAST_CONTRAST = 0.02
_LEAST_OVER_NOISE = 1.5
_LEAST_FILLED = 0.1


@dataclass(frozen=True)
class Quality:
    """What was measured of an image or a crop.

    Attributes
    ----------
    sharpness : float
        See `sharpness`; 0 if empty.
    saturated : float
        See `saturated_share`.
    """

    sharpness: float
    saturated: float

    @property
    def empty(self) -> bool:
        """Whether there is nearly no contrast, or only that of noise."""
        return self.sharpness == 0.0

    def verdict(self, min_sharpness: float, max_saturated: float) -> Verdict:
        """Judge by the two thresholds of `TrainConfig`."""
        if self.saturated > max_saturated:
            return "saturated"
        if self.empty:
            return "empty"
        return "soft" if self.sharpness < min_sharpness else "sharp"


def measure(image: FloatImage, top: float) -> Quality:
    """Measure a crop, (channels, H, W), whose image is clipped at ``top``."""
    return Quality(sharpness(image), saturated_share(image, top))


def sharpness(image: FloatImage) -> float:
    """Measure how much of an image's contrast is in its finest detail.

    Parameters
    ----------
    image : ndarray, shape (channels, H, W)
        Intensities in range 0..1.

    Returns
    -------
    float
        Median, over the blocks of 32 x 32 pixels that are not empty, of the standard
        deviation of the block less its 3 x 3 mean, divided by that of the block. Focused
        images reach 0.1 to 0.6, those blurred by several pixels stay below 0.06. It is 0
        where fewer than a tenth of the blocks hold anything but noise. Noise of more than
        about 0.01 passes for detail where there is other contrast.
    """
    contrast = _blocks(image).std(axis=(0, 2, 4))
    noise = np.median(_blocks(noise_by_pixel(image)), axis=(0, 2, 4))
    filled = contrast > np.maximum(_LEAST_CONTRAST, _LEAST_OVER_NOISE * noise)
    if filled.mean() < _LEAST_FILLED:
        return 0.0
    detail = _blocks(fine_detail(image)).std(axis=(0, 2, 4))
    return float(np.median(detail[filled] / contrast[filled]))


def fine_detail(image: FloatImage) -> FloatImage:
    """Return an image (channels, H, W) less its 3 x 3 mean."""
    detail: FloatImage = image - ndimage.uniform_filter(image, (1, 3, 3))
    return detail


def saturated_share(image: FloatImage, top: float) -> float:
    """Return the share of pixels of (channels, H, W) that are at the top in all channels.

    Whether the top is that of the camera need not be known: if it is not, next to no pixel
    is there.
    """
    return float(at_the_top(image, top).mean())


def at_the_top(image: FloatImage, top: float) -> NDArray[np.bool_]:
    """Tell which pixels (H, W) are at the top in all channels."""
    reached: NDArray[np.bool_] = (image >= top).min(axis=0)
    return reached


def _blocks(image: FloatImage) -> FloatImage:
    """Cut whole blocks of an image: (channels, rows, edge, columns, edge)."""
    channels, height, width = image.shape
    edge = min(_BLOCK, height, width)
    rows, columns = height // edge, width // edge
    whole = image[:, : rows * edge, : columns * edge]
    return whole.reshape(channels, rows, edge, columns, edge)
