"""Height maps made smooth: what is sure fills in what is not, and spikes go."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ips.errors import IPSError

Grid = NDArray[np.float32]

# Confidence from where a height is trusted as it is; below half of it, most are chance.
_SURE, _NOTHING = 0.9, 0.5
# Keeps the mean of unsure heights where there are no others.
_LEAST = 1e-6
_MEDIAN = 5
_OUTLIER = 4.0


def smooth_heights(
    heights: ArrayLike,
    confidence: ArrayLike | None = None,
    *,
    sigma: float = 3.0,
    stride: int = 1,
) -> Grid:
    """Smooth a height map and make it coarser, by the heights that can be trusted.

    Squares of pixels are averaged, heights far from the median of their neighbours are
    dropped, what is dropped or unsure is interpolated, and a Gaussian is laid over it
    (normalised convolution). A tilted plane stays as it is, up to its edges.

    Parameters
    ----------
    heights : array_like, shape (Y, X)
        In any unit. NaN and infinity stand for unknown heights.
    confidence : array_like, shape (Y, X), optional
        0..1, as in `FusionResult`. Without it, all heights are trusted alike.
    sigma : float
        Of the Gaussian, in pixels of `heights`. 0 leaves out the Gaussian.
    stride : int
        Size of the squares in pixels. Those at the far edges may be smaller.

    Returns
    -------
    ndarray of float32, shape (ceil(Y / stride), ceil(X / stride))
        Finite everywhere.

    Raises
    ------
    IPSError
        If the shapes do not fit or no height is finite.
    """
    known = np.asarray(heights, np.float32)
    if known.ndim != 2 or min(known.shape) < 2:
        raise IPSError(f"A height map has two axes of 2 or more pixels, not {known.shape}.")
    trust = _trust(known, confidence)
    if not trust.any():
        raise IPSError("The height map holds no finite height.")
    lowest, highest = known[trust > 0].min(), known[trust > 0].max()
    y, x = (square_centres(length, stride) / length for length in known.shape)
    known, trust = average_squares(np.where(trust > 0, known, 0), trust, stride)
    # Without its slope, neither edges nor what is filled in need a special treatment.
    plane = _plane(known, trust, y, x)
    level = known - plane
    trust = np.where(_is_outlier(level, trust), 0, trust)
    smooth = _blurred(_filled(level, trust), trust, sigma / stride) + plane
    return np.asarray(smooth.clip(lowest, highest), np.float32)


def average_squares(
    values: NDArray[Any], weights: Grid, stride: int
) -> tuple[NDArray[np.float32], Grid]:
    """Average squares of pixels by weight.

    Parameters
    ----------
    values : ndarray, shape (Y, X) or (Y, X, colours)
    weights : ndarray, shape (Y, X)
    stride : int
        Size of the squares in pixels.

    Returns
    -------
    values, weights : ndarray of float32
        Means over each square; that of the values is 0 where there is no weight.
    """
    if stride == 1:
        return values.astype(np.float32), weights
    heavy = weights if values.ndim == 2 else weights[..., None]
    total, weight = _sums(values * heavy, stride), _sums(weights, stride)
    pixels = _sums(np.ones_like(weights), stride)
    divisor = np.where(weight > 0, weight, 1)
    mean = total / (divisor if values.ndim == 2 else divisor[..., None])
    return mean.astype(np.float32), (weight / pixels).astype(np.float32)


def square_centres(length: int, stride: int) -> Grid:
    """Return the centres, in pixels, of the squares along an axis of `length` pixels."""
    first = np.arange(0, length, stride)
    last = np.minimum(first + stride, length) - 1
    return np.asarray((first + last) / 2, np.float32)


def _sums(values: NDArray[Any], stride: int) -> NDArray[Any]:
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], stride)
        values = np.asarray(np.add.reduceat(values, starts, axis=axis))
    return values


def _trust(heights: Grid, confidence: ArrayLike | None) -> Grid:
    """Return weights 0..1; more than 0 for all finite heights."""
    finite = np.isfinite(heights)
    if confidence is None:
        return finite.astype(np.float32)
    told = np.asarray(confidence, np.float32)
    if told.shape != heights.shape:
        raise IPSError(
            f"The confidence has shape {told.shape}, the height map {heights.shape}."
        )
    told = np.where(finite & np.isfinite(told), told, 0).clip(0, 1)
    # Where all is dim or noisy, the best of it counts.
    sure = min(_SURE, float(np.percentile(told[finite], 75))) if finite.any() else 0.0
    if sure <= 0:
        return finite.astype(np.float32)
    trust = ((told / sure - _NOTHING) / (1 - _NOTHING)).clip(_LEAST, 1)
    return np.where(finite, trust, 0).astype(np.float32)


def _plane(heights: Grid, trust: Grid, y: Grid, x: Grid) -> Grid:
    """Return the plane that fits heights at `y` and `x` best, weighted by trust."""
    terms = np.stack([np.ones_like(heights), *np.meshgrid(y, x, indexing="ij")])
    products = np.einsum("iyx,jyx,yx->ij", terms, terms, trust)
    with_heights = np.einsum("iyx,yx,yx->i", terms, trust, heights)
    # Also where all that is known lies on a line.
    factors = np.linalg.lstsq(products, with_heights, rcond=1e-6)[0]
    return np.asarray(np.einsum("i,iyx->yx", factors, terms), np.float32)


def _is_outlier(heights: Grid, trust: Grid) -> NDArray[np.bool_]:
    """Find heights that stand out of their neighbourhood (Hampel filter)."""
    from scipy import ndimage

    filled = _filled(heights, trust)
    off = np.abs(filled - ndimage.median_filter(filled, _MEDIAN, mode="nearest"))
    # The median deviation of normal noise is 0.67 of its standard deviation.
    spread = float(np.median(off[trust > 0])) / 0.67
    # On a slope without noise, a step or two between pixels are no spike.
    axes = [n for n in (0, 1) if filled.shape[n] > 1]
    step = sum(float(np.median(np.abs(np.diff(filled, axis=n)))) for n in axes)
    return np.asarray(off > max(_OUTLIER * spread, 2 * step, 1e-4 * float(np.ptp(filled))))


def _filled(heights: Grid, trust: Grid) -> Grid:
    """Interpolate what is not trusted, from ever wider surroundings."""
    from scipy import ndimage

    if min(heights.shape) < 2 or trust.min() >= 1:
        weight = float(trust.sum())
        mean = float((heights * trust).sum()) / weight if weight else 0.0
        return np.where(trust > 0, heights, np.float32(mean))
    coarse, share = average_squares(heights, trust, 2)
    # One trusted pixel of the four speaks for them.
    wide = _filled(coarse, (4 * share).clip(0, 1))
    factors = [fine / few for fine, few in zip(heights.shape, wide.shape, strict=True)]
    around = ndimage.zoom(wide, factors, order=1, mode="nearest", grid_mode=True)
    return (trust * heights + (1 - trust) * around).astype(np.float32)


def _blurred(heights: Grid, trust: Grid, sigma: float) -> Grid:
    """Blur by a normalised convolution; past the edges nothing has a weight."""
    from scipy import ndimage

    if sigma <= 0:
        return heights
    weight = np.maximum(trust, 0.05)
    total, weights = (
        ndimage.gaussian_filter(part, sigma, truncate=3, mode="constant")
        for part in (heights * weight, weight)
    )
    return np.asarray(total / weights, np.float32)
