"""Metrics from models of human vision: contrast sensitivity and local contrast."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from napari_ips.evaluation.metrics.gradient import sobel_edges
from napari_ips.evaluation.metrics.images import Grey, Image, comparable, stretched

# Chen and Varshney: edge of a region in pixels, and the power of its gradients.
REGION = 16
SALIENCY_POWER = 5


def q_cb(fused: Image, a: Image, b: Image) -> float:
    """Contrast preservation (Chen and Blum, Image Vision Comput. 27, 2009).

    Each image, stretched to 0 to 255, is filtered by the contrast sensitivity
    ``exp(-(r / 15.387)^2) - 0.7622 exp(-(r / 1.3456)^2)``, r being the frequency in
    cycles per image divided by 15. Its contrast is ``C = |G2 * I / (G4 * I) - 1|``, with
    Gaussians of sigma 2 and 4 cut to 31 x 31 pixels (0 beyond the border), masked as
    ``P = C^3 / (C^2 + 0.0001)``. The result is the mean over the pixels of
    ``(PA^2 QA + PB^2 QB) / (PA^2 + PB^2)`` with ``QA = min(PA, PF) / max(PA, PF)``.
    From 0 to 1, higher is better, 1 for sources that equal the fused image.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    f, first, second = (
        _masked_contrast(stretched(image)) for image in comparable(fused, a, b)
    )
    squares = first**2 + second**2
    share = np.divide(first**2, squares, out=np.full_like(squares, 0.5), where=squares > 0)
    return float(np.mean(share * _kept(first, f) + (1 - share) * _kept(second, f)))


def q_cv(fused: Image, a: Image, b: Image) -> float:
    """Visible error in salient regions (Chen and Varshney, Inf. Fusion 8, 2007).

    All images are stretched to 0 to 255. The differences A - F and B - F are filtered by
    the contrast sensitivity of Mannos and Sakrison, ``2.6 (0.0192 + 0.144 r)
    exp(-(0.144 r)^1.1)``, r being the frequency in cycles per image divided by 4. In
    regions of 16 x 16 pixels, filled up with 0 at the far borders, D is the mean square
    of that, and the saliency S the sum of the 5th powers of the Sobel gradient of the
    source. The result is ``sum(SA DA + SB DB) / sum(SA + SB)`` over the regions.
    From 0 (sources that equal the fused image), without limit; lower is better.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    f, *sources = (stretched(image) for image in comparable(fused, a, b))
    r = _frequency(f.shape) / 4
    visible = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    errors = [
        _region_sums(_filtered(source - f, visible) ** 2) / REGION**2 for source in sources
    ]
    saliencies = [
        _region_sums(sobel_edges(source).strength ** SALIENCY_POWER) for source in sources
    ]
    if not np.any(saliencies):
        return float(np.mean(errors))
    return float(np.average(errors, weights=saliencies))


def _masked_contrast(image: Grey) -> Grey:
    r = _frequency(image.shape) / 15
    sensitivity = np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    seen = _filtered(image, sensitivity)
    fine, coarse = _blurred(seen, 2), _blurred(seen, 4)
    ratio = np.divide(fine, coarse, out=np.ones_like(fine), where=coarse != 0)
    contrast = np.abs(ratio - 1)
    masked: Grey = contrast**3 / (contrast**2 + 1e-4)
    return masked


def _kept(before: Grey, after: Grey) -> Grey:
    """Smaller divided by larger one of two contrasts, 1 where both are 0."""
    larger = np.maximum(before, after)
    smaller = np.minimum(before, after)
    return np.divide(smaller, larger, out=np.ones_like(larger), where=larger > 0)


def _blurred(image: Grey, sigma: float) -> Grey:
    """Filter by a Gaussian with its factor of the continuous plane, not of sum 1."""
    reach = 15
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    for axis in (0, 1):
        image = ndimage.correlate1d(image, weights, axis=axis, mode="constant")
    return image


def _frequency(shape: tuple[int, ...]) -> Grey:
    """Frequencies of `scipy.fft.rfft2` in cycles per image."""
    height, width = shape
    along_y = np.fft.fftfreq(height, 1 / height)[:, np.newaxis]
    along_x = np.fft.rfftfreq(width, 1 / width)
    frequency: Grey = np.sqrt(along_y**2 + along_x**2)
    return frequency


def _filtered(image: Grey, response: Grey) -> Grey:
    filtered: Grey = fft.irfft2(fft.rfft2(image) * response, image.shape)
    return filtered


def _region_sums(values: Grey) -> Grey:
    """Add up regions of 16 x 16 pixels, those at the far borders being filled with 0."""
    height, width = (-(-length // REGION) for length in values.shape)
    missing = [(0, -length % REGION) for length in values.shape]
    squares = np.pad(values, missing).reshape(height, REGION, width, REGION)
    sums: Grey = squares.sum(axis=(1, 3))
    return sums
