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
    slices is taken, since in the most defocused slice detail disturbs least.

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
    levels = [
        float(np.median(np.abs(ndimage.convolve(s, _OPERATOR)[1:-1, 1:-1])))
        for s in slices
        if np.isfinite(s).all()
    ]
    # Zero is the level of an empty or saturated slice, which tells nothing of the others.
    measured = [level for level in levels if level > 0]
    return min(measured, default=0.0) / (_GAIN * _MEDIAN_TO_SIGMA)
