"""Metrics from the differences of neighbouring pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_ips.evaluation.metrics.images import LEVELS, Grey, Image, comparable

# Stands in for 0 where a gradient divides.
_TINY = 1e-5


@dataclass(frozen=True)
class Edges:
    """Strength and angle (radians, -pi/2 to pi/2) of the gradient of every pixel."""

    strength: Grey
    angle: Grey


def q_g(fused: Image, a: Image, b: Image) -> float:
    """Gradient preservation Q_AB/F (Xydeas and Petrovic, Electron. Lett. 36, 2000).

    With strength g and angle t of Sobel gradients (0 beyond the border), the relative
    strength ``G = min(gA, gF) / max(gA, gF)`` and angle ``T = 1 - |tA - tF| * 2 / pi``
    give ``QA = 0.9994 / (1 + exp(-15 (G - 0.5))) * 0.9879 / (1 + exp(-22 (T - 0.8)))``.
    The result is ``sum(gA QA + gB QB) / sum(gA + gB)`` over all pixels. From 0 to 0.975
    (sources that equal the fused image), higher is better.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    after, *sources = (sobel_edges(image) for image in comparable(fused, a, b))
    weights = [np.where(source.strength, source.strength, _TINY) for source in sources]
    kept = [_preservation(source, after) for source in sources]
    return float(np.average(kept, weights=weights))


def q_sf(fused: Image, a: Image, b: Image) -> float:
    """Spatial frequency (Eskicioglu and Fisher, IEEE Trans. Commun. 43, 1995).

    ``sqrt(RF^2 + CF^2)`` of the fused luminance in 0 to 1, RF^2 and CF^2 being the sums
    of the squared differences of neighbours along x and along y divided by the number
    of pixels. From 0 to 1.41, higher is taken as better; noise raises it too, and the
    sources only set the scale of images that are not uint8.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    luminance = comparable(fused, a, b)[0] / (LEVELS - 1)
    squares = sum(
        np.square(np.diff(luminance, axis=axis)).sum() for axis in range(luminance.ndim)
    )
    return float(np.sqrt(squares / luminance.size))


def sobel_edges(image: Grey) -> Edges:
    """Return strength and angle of the Sobel gradients, 0 being beyond the border."""
    along_y, along_x = (_sobel(image, axis) for axis in (0, 1))
    slope = along_y / np.where(np.abs(along_x) > _TINY, along_x, _TINY)
    return Edges(np.sqrt(along_x**2 + along_y**2), np.arctan(slope))


def _sobel(image: Grey, axis: int) -> Grey:
    gradient: Grey = ndimage.sobel(image, axis=axis, mode="constant")
    return gradient


def _preservation(source: Edges, fused: Edges) -> Grey:
    """How much of the strength and angle of its edges a source keeps, 0 to 1."""
    before = np.maximum(source.strength, _TINY)
    after = np.maximum(fused.strength, _TINY)
    strength = np.minimum(before, after) / np.maximum(before, after)
    angle = 1 - np.abs(source.angle - fused.angle) * 2 / np.pi
    return 0.9994 * _sigmoid(15 * (strength - 0.5)) * 0.9879 * _sigmoid(22 * (angle - 0.8))


def _sigmoid(values: Grey) -> Grey:
    curve: Grey = 1 / (1 + np.exp(-values))
    return curve
