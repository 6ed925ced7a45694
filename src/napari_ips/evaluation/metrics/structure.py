"""Metrics from the structural similarity of fused image and sources in local windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ips.evaluation.metrics.images import LEVELS, Grey, Image, comparable

# Smaller variances, relative to the mean square, are what rounding leaves of 0.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Similarity:
    """Weights of the window along each axis, and the constant (c1 and c2) of SSIM.

    With a constant that only keeps flat windows from dividing 0 by 0, SSIM is the
    universal image quality index of Wang and Bovik (IEEE Signal Process. Lett. 9, 2002).
    """

    window: NDArray[np.float64]
    constant: float


@dataclass(frozen=True)
class Local:
    """An image with its mean and variance in every window that lies inside it."""

    image: Grey
    mean: Grey
    variance: Grey


def _gaussian(length: int, sigma: float) -> NDArray[np.float64]:
    offsets = np.arange(length) - (length - 1) / 2
    weights: NDArray[np.float64] = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    return weights


PIELLA = Similarity(np.full(8, 1 / 8), (1e-6 * (LEVELS - 1)) ** 2)
YANG = Similarity(_gaussian(7, 1.5), 2e-16)


def q_s(fused: Image, a: Image, b: Image) -> float:
    """Fusion quality index (Piella and Heijmans, ICIP 2003, first variant, Q).

    Mean over all windows of ``l SSIM(A, F) + (1 - l) SSIM(B, F)``, l being the variance
    of A divided by the sum of those of A and B (1/2 where both are 0). SSIM in windows
    of 8 x 8 pixels of equal weight inside the image, both constants (1e-6 * 255)^2.
    From -1 to 1, higher is better, 1 for sources that equal the fused image.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources, at least 8 x 8 pixels.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    quality, _ = _piella(*comparable(fused, a, b, PIELLA.window.size))
    return float(quality.mean())


def q_w(fused: Image, a: Image, b: Image) -> float:
    """Weighted fusion quality index (Piella and Heijmans, ICIP 2003, second variant).

    As `q_s`, but the mean over the windows is weighted by the larger one of the
    variances of A and B. From -1 to 1, higher is better, 1 for sources that equal the
    fused image.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources, at least 8 x 8 pixels.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    return _weighted(*comparable(fused, a, b, PIELLA.window.size))


def q_e(fused: Image, a: Image, b: Image) -> float:
    """Edge-dependent fusion quality index (Piella and Heijmans, ICIP 2003, third variant).

    Product of `q_w` of the images and `q_w` of their edge images, the strengths of the
    Prewitt gradient (0 beyond the border); the exponent alpha of the edges is 1. From
    -1 to 1, higher is better, 1 for sources that equal the fused image.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources, at least 8 x 8 pixels.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    f, first, second = comparable(fused, a, b, PIELLA.window.size)
    edges = _weighted(_prewitt(f), _prewitt(first), _prewitt(second))
    return _weighted(f, first, second) * edges


def q_y(fused: Image, a: Image, b: Image) -> float:
    """Similarity that tells redundant from complementary places (Yang et al., 2008).

    Information Fusion 9, 156-160. Mean over all windows of ``l SSIM(A, F) +
    (1 - l) SSIM(B, F)`` where SSIM(A, B) is at least 0.75, and of the larger one of
    SSIM(A, F) and SSIM(B, F) elsewhere; l as in `q_s`. SSIM in Gaussian windows of
    7 x 7 pixels (sigma 1.5) inside the image, both constants 2e-16. Flat windows have no
    variance here; in the field's MATLAB code rounding errors stand in for it, so that
    images with large flat areas get other values there. From -1 to 1, higher is better,
    1 for sources that equal the fused image.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources, at least 7 x 7 pixels.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    f, first, second = (
        _local(image, YANG) for image in comparable(fused, a, b, YANG.window.size)
    )
    of_first, of_second = (_ssim(source, f, YANG) for source in (first, second))
    share = _share(first.variance, second.variance)
    quality = np.where(
        _ssim(first, second, YANG) >= 0.75,
        share * of_first + (1 - share) * of_second,
        np.maximum(of_first, of_second),
    )
    return float(quality.mean())


def _weighted(fused: Grey, a: Grey, b: Grey) -> float:
    quality, saliency = _piella(fused, a, b)
    if not saliency.any():
        return float(quality.mean())
    return float(np.average(quality, weights=saliency))


def _piella(fused: Grey, a: Grey, b: Grey) -> tuple[Grey, Grey]:
    """Quality of every window, and its saliency (the larger variance of the sources)."""
    f, first, second = (_local(image, PIELLA) for image in (fused, a, b))
    share = _share(first.variance, second.variance)
    quality = share * _ssim(first, f, PIELLA) + (1 - share) * _ssim(second, f, PIELLA)
    return quality, np.maximum(first.variance, second.variance)


def _share(first: Grey, second: Grey) -> Grey:
    """Part that the first of two variances has in their sum, 1/2 where both are 0."""
    total = first + second
    return np.divide(first, total, out=np.full_like(total, 0.5), where=total > 0)


def _local(image: Grey, settings: Similarity) -> Local:
    mean = _smooth(image, settings.window)
    square = _smooth(image * image, settings.window)
    variance = square - mean * mean
    return Local(image, mean, np.where(variance > _ROUNDING * square, variance, 0))


def _ssim(x: Local, y: Local, settings: Similarity) -> Grey:
    product = x.mean * y.mean
    covariance = _smooth(x.image * y.image, settings.window) - product
    covariance[(x.variance == 0) | (y.variance == 0)] = 0
    c = settings.constant
    brightness = (2 * product + c) / (x.mean**2 + y.mean**2 + c)
    similarity: Grey = brightness * (2 * covariance + c) / (x.variance + y.variance + c)
    return similarity


def _smooth(values: Grey, window: NDArray[np.float64]) -> Grey:
    """Weighted means in all windows that lie inside the image."""
    before = window.size // 2
    for axis, length in enumerate(values.shape):
        means = ndimage.correlate1d(values, window, axis=axis, mode="constant")
        inside = slice(before, before + length - window.size + 1)
        values = means[inside] if axis == 0 else means[:, inside]
    return values


def _prewitt(image: Grey) -> Grey:
    along_y, along_x = (
        ndimage.prewitt(image, axis=axis, mode="constant") for axis in (0, 1)
    )
    strength: Grey = np.sqrt(along_x**2 + along_y**2)
    return strength
