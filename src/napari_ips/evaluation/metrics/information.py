"""Metrics from the joint histograms of the fused image and its sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_ips.evaluation.metrics.images import LEVELS, Grey, Image, comparable, stretched

Histogram = NDArray[np.float64]


def q_mi(fused: Image, a: Image, b: Image) -> float:
    """Normalised mutual information (Hossny et al., Electron. Lett. 44, 2008).

    ``2 (I(A, F) / (H(A) + H(F)) + I(B, F) / (H(B) + H(F)))`` with the mutual information
    I and the entropies H of histograms of 256 bins, each image stretched to its own
    range. From 0 to 2, higher is better; 2 where both sources equal the fused image.
    A term is 0 where source and fused image are both constant.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    levels, *sources = (_levels(image) for image in comparable(fused, a, b))
    return sum(_normalised_information(source, levels) for source in sources)


def q_ncie(fused: Image, a: Image, b: Image) -> float:
    """Nonlinear correlation information entropy (Wang, Shen, Jin, in Image Fusion, 2008).

    ``1 + sum(l / 3 * log256(l / 3))`` over the eigenvalues l of the 3 x 3 matrix of the
    nonlinear correlations of A, B and F. The correlation of two images is their mutual
    information in units of log 256 (histograms of 256 bins, each image stretched to its
    own range); the diagonal is 1. From 0.80 (nothing in common) to 1, higher is better.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image and its two sources.

    Raises
    ------
    IPSError
        If the images do not fit together; see `images.comparable`.
    """
    fused_levels, *sources = (_levels(image) for image in comparable(fused, a, b))
    images = [*sources, fused_levels]
    correlation = np.eye(3)
    for row, column in ((0, 1), (0, 2), (1, 2)):
        information = _information(_joint(images[row], images[column]))
        correlation[row, column] = correlation[column, row] = information / np.log2(LEVELS)
    # Rounding, or a matrix that is none of correlations, can make one negative.
    shares = np.linalg.eigvalsh(correlation).clip(0) / 3
    return 1 - _entropy(shares) / float(np.log2(LEVELS))


def _levels(image: Grey) -> NDArray[np.intp]:
    return stretched(image).astype(np.intp)


def _normalised_information(x: NDArray[np.intp], y: NDArray[np.intp]) -> float:
    joint = _joint(x, y)
    entropies = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))
    return 2 * _information(joint) / entropies if entropies else 0.0


def _joint(x: NDArray[np.intp], y: NDArray[np.intp]) -> Histogram:
    """Joint probabilities (256, 256) of the grey levels of two images."""
    counts = np.bincount((LEVELS * x + y).ravel(), minlength=LEVELS**2)
    return counts.reshape(LEVELS, LEVELS) / x.size


def _information(joint: Histogram) -> float:
    """Mutual information in bits."""
    marginals = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))
    return marginals - _entropy(joint)


def _entropy(probabilities: Histogram) -> float:
    """Entropy in bits."""
    present = probabilities[probabilities > 0]
    return float(-(present * np.log2(present)).sum())
