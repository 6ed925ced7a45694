"""Noise of stacks and of single images, in units of their intensity range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ips.intensity import FloatImage

# Immerkaer's operator: blind to planes and second-order surfaces, so mostly to images.
_OPERATOR = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_GAIN = 6.0
_MEDIAN_TO_SIGMA = 0.6745
# Blocks of a focused image in which little but noise is seen: the calmest of all.
_BLOCK = 32
_CALM = 10.0


def noise_level(slices: FloatImage) -> float:
    """Estimate the standard deviation of the noise of a stack.

    Immerkaer's operator with a median instead of a mean; the least value over the
    slices is taken, since in the most defocused slice detail disturbs least. Slices
    darker than half of the brightest are passed over: beyond the ends of a specimen, as in
    confocal stacks, there is neither light nor its noise.

    Parameters
    ----------
    slices : ndarray, shape (n, H, W)
        Normalised intensities. Slices that are not finite throughout are passed over.

    Returns
    -------
    float
        In units of the intensity range.
    """
    if min(slices.shape[1:]) < 3:
        return 0.0
    whole = [s for s in slices if np.isfinite(s).all()]
    brightness = [float(s.mean()) for s in whole]
    levels = [
        float(np.median(noise_by_pixel(s[None])[0, 1:-1, 1:-1]))
        for s, mean in zip(whole, brightness, strict=True)
        if mean >= max(brightness) / 2
    ]
    # Zero is the level of an empty or saturated slice, which tells nothing of the others.
    measured = [level for level in levels if level > 0]
    return min(measured, default=0.0)


def photon_noise_level(image: FloatImage) -> float:
    """Estimate the noise of one focused image, whose variance rises with the intensity.

    As `noise_level`, but in blocks of 32 x 32 pixels, each for its own brightness. The
    tenth percentile of the blocks is taken: the calm ones show noise, others detail.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        Normalised intensities, all finite.

    Returns
    -------
    float
        ``level``, where the standard deviation at intensity I is
        ``level * sqrt(0.3 + 0.7 I)``; 0 where nothing can be told.
    """
    if min(image.shape) < 3:
        return 0.0
    noise = np.median(_blocks(noise_by_pixel(image[None])[0, 1:-1, 1:-1]), axis=1)
    brightness = _blocks(image[1:-1, 1:-1]).mean(axis=1).clip(min=0.0)
    levels = noise / np.sqrt(0.3 + 0.7 * brightness)
    # Blocks without any are saturated or cut off at black.
    measured = levels[levels > 0]
    if measured.size == 0:
        return 0.0
    return float(np.percentile(measured, _CALM))


def noise_by_pixel(image: FloatImage) -> FloatImage:
    """Return what of an image (n, H, W) may be noise.

    The median over an area, the larger the better, estimates its standard deviation.
    """
    rough: FloatImage = np.abs(ndimage.convolve(image, _OPERATOR[None]))
    rough /= _GAIN * _MEDIAN_TO_SIGMA
    return rough


def _blocks(image: FloatImage) -> NDArray[np.float32]:
    """Cut an image into whole blocks, (blocks, pixels of a block)."""
    height, width = image.shape
    edge = min(_BLOCK, height, width)
    rows, columns = height // edge, width // edge
    whole = image[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge)
    return whole.swapaxes(1, 2).reshape(rows * columns, -1)
