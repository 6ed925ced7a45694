"""Measures of a fused image against the known truth.

Every function takes ``(image, truth)`` in this order, both of shape (Y, X) or
(Y, X, C), computes in float64, and says in its docstring the formula, the range of
values, which direction is better, and where it comes from.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.intensity import luminance

SSIM_WINDOW = 7
TEXTURE_SIGMA = 1.5
TEXTURE_GRADIENT = 0.01

Image = NDArray[Any]


def grey(image: Image) -> Image:
    """Return the luminance (Y, X) of a colour image; a grey one stays as it is."""
    return luminance(image) if image.ndim == 3 else image


def value_range(truth: Image) -> float:
    """Range of grey values that errors are measured against.

    255 for uint8; for every other dtype the truth's own maximum minus minimum, since
    12 or 14 used bits of 16, or floats of any unit, have no other natural range.

    Raises
    ------
    IPSError
        If the truth is constant and not uint8, so that no range can be derived.
    """
    if truth.dtype == np.uint8:
        return 255.0
    spread = float(truth.max()) - float(truth.min())
    if not spread > 0:
        raise IPSError("The truth has no range of values to measure against (constant).")
    return spread


def psnr(
    image: Image, truth: Image, data_range: float | None = None, border: int = 0
) -> float:
    """Peak signal-to-noise ratio in dB.

    ``10 * log10(data_range**2 / mean((image - truth)**2))``, the mean going over all
    pixels and channels. From 0 (or less) to infinity, higher is better; identical
    images give ``inf``. Computed by `skimage.metrics.peak_signal_noise_ratio`.

    Parameters
    ----------
    image, truth : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and what it should be.
    data_range : float, optional
        Range of possible values; `value_range` of the truth if not given.
    border : int
        So many pixels are left out along each edge.

    Raises
    ------
    IPSError
        If the shapes differ, or the border leaves nothing over.
    """
    measures = _scikit_image_metrics()
    limits = value_range(truth) if data_range is None else data_range
    image, truth = _comparable(image, truth, border, smallest=1)
    if np.array_equal(image, truth):
        return math.inf
    return float(measures.peak_signal_noise_ratio(truth, image, data_range=limits))


def ssim(
    image: Image, truth: Image, data_range: float | None = None, border: int = 0
) -> float:
    """Mean structural similarity (Wang et al., IEEE Trans. Image Process. 13, 2004).

    ``(2 mx my + c1) (2 sxy + c2) / ((mx^2 + my^2 + c1) (sx^2 + sy^2 + c2))`` with means,
    variances and covariance in 7 x 7 windows of equal weight, c1 = (0.01 data_range)^2
    and c2 = (0.03 data_range)^2; averaged over the image and, for colour, over the
    channels. From -1 to 1, higher is better, 1 for identical images. Computed by
    `skimage.metrics.structural_similarity` with its defaults.

    Parameters
    ----------
    image, truth : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and what it should be.
    data_range : float, optional
        Range of possible values; `value_range` of the truth if not given.
    border : int
        So many pixels are left out along each edge, before anything is computed.

    Raises
    ------
    IPSError
        If the shapes differ, or fewer than 7 x 7 pixels are left.
    """
    measures = _scikit_image_metrics()
    limits = value_range(truth) if data_range is None else data_range
    image, truth = _comparable(image, truth, border, smallest=SSIM_WINDOW)
    channels = -1 if truth.ndim == 3 else None
    return float(
        measures.structural_similarity(
            truth, image, data_range=limits, channel_axis=channels
        )
    )


def textured(truth: Image, data_range: float | None = None) -> NDArray[np.bool_]:
    """Pixels whose focus can be judged at all.

    True where the Gaussian gradient magnitude of the truth (sigma 1.5 px) exceeds 1 %
    of the data range per pixel. On a flat background any slice is as sharp as any other,
    so that a height error there says nothing.

    Parameters
    ----------
    truth : ndarray, (Y, X)
        The all-in-focus image, one channel.
    data_range : float, optional
        Range of possible values; `value_range` of the truth if not given.
    """
    from scipy.ndimage import gaussian_gradient_magnitude

    gradient = gaussian_gradient_magnitude(truth.astype(np.float64), TEXTURE_SIGMA)
    limits = value_range(truth) if data_range is None else data_range
    mask: NDArray[np.bool_] = gradient > TEXTURE_GRADIENT * limits
    return mask


def height_error(depth: Image, height: Image, mask: NDArray[np.bool_]) -> float:
    """Mean absolute difference of two height maps over the pixels of a mask, in slices.

    From 0 to the number of slices, lower is better; ``nan`` if the mask is empty.

    Parameters
    ----------
    depth, height : ndarray, (Y, X)
        Measured and true slice number of every pixel (fractions allowed).
    mask : ndarray of bool, (Y, X)
        Where to look; see `textured`.

    Raises
    ------
    IPSError
        If the shapes differ.
    """
    if not depth.shape == height.shape == mask.shape:
        raise IPSError(
            f"Height maps and mask differ in shape: {depth.shape}, {height.shape}, "
            f"{mask.shape}."
        )
    if not mask.any():
        return math.nan
    difference = depth[mask].astype(np.float64) - height[mask]
    return float(np.abs(difference).mean())


def _scikit_image_metrics() -> Any:
    """Import scikit-image late: it is slow to load, and its functions carry no types."""
    return import_module("skimage.metrics")


def _comparable(
    image: Image, truth: Image, border: int, smallest: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both images as float64 without their border, once they are known to match."""
    if image.shape != truth.shape:
        raise IPSError(f"Image {image.shape} and truth {truth.shape} differ in shape.")
    height, width = truth.shape[0] - 2 * border, truth.shape[1] - 2 * border
    if border < 0 or min(height, width) < smallest:
        raise IPSError(
            f"An image of {truth.shape[0]} x {truth.shape[1]} pixels is too small for "
            f"this measure with a border of {border}."
        )
    inner = (slice(border, border + height), slice(border, border + width))
    return image[inner].astype(np.float64), truth[inner].astype(np.float64)
