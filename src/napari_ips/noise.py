"""Noise of a stack, and the settings that follow from it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_ips.intensity import FloatImage

# Immerkaer's operator: blind to planes and second-order surfaces, so mostly to images.
_OPERATOR = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_GAIN = 6.0
_MEDIAN_TO_SIGMA = 0.6745


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
        float(np.median(np.abs(ndimage.convolve(s, _OPERATOR)[1:-1, 1:-1])))
        for s, mean in zip(whole, brightness, strict=True)
        if mean >= max(brightness) / 2
    ]
    # Zero is the level of an empty or saturated slice, which tells nothing of the others.
    measured = [level for level in levels if level > 0]
    return min(measured, default=0.0) / (_GAIN * _MEDIAN_TO_SIGMA)
