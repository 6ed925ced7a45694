"""Evidence about focus from a neighbourhood and from several scales."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from napari_ips.fusion.evidence import neighbour_log_odds
from napari_ips.network import CrossImageFusionNetwork

# The network also compares the slices at these fractions of the resolution, where a wide
# blur is a small one; what it says there counts by this weight.
SCALES = (1, 2, 4, 8, 16)
_COARSE_WEIGHT = 0.4
# A scale is of use while the image keeps so many pixels along its shorter edge.
_SMALLEST = 48
# At the coarsest scale a wide neighbourhood, sigma in pixels of the image, joins in: it
# decides where nothing nearer shows texture.
WIDE_SIGMA = 30.0
# Smallest neighbourhood, in pixels of the scale.
_LEAST_SIGMA = 0.6
# Differences count by their square up to about this share of the intensity range, and
# linearly above; sums of such weights below the floor say little about focus.
_KNEE = 0.02
_FLOOR = 0.0005


def scales_for(shape: tuple[int, int]) -> tuple[int, ...]:
    """Return the scales at which an image of ``shape`` pixels is compared."""
    return tuple(k for k in SCALES if k == 1 or min(shape) // k >= _SMALLEST)


def neighbour_evidence(
    network: CrossImageFusionNetwork,
    slices: Tensor,
    scales: tuple[int, ...],
    sigma: float,
    tile: int,
) -> Tensor:
    """Compare every slice with the one below it, at several scales.

    Where two slices hardly differ the network guesses. Its log-odds are averaged over a
    neighbourhood and over the scales, weighted by how much the slices differ, so that
    the pixels around and the scale that know better decide.

    Parameters
    ----------
    network : CrossImageFusionNetwork
        With one input channel.
    slices : Tensor, shape (n, H, W)
        Normalised intensities.
    scales : tuple of int
        Of `scales_for` the whole image, also where ``slices`` are a block of it.
    sigma : float
        Of the Gaussian neighbourhood, in pixels.
    tile : int
        Edge of the tiles the network sees, in pixels.

    Returns
    -------
    Tensor, shape (n - 1, H, W)
        At k the averaged log-odds that slice k + 1 is sharper than slice k.
    """
    shape = slices.shape[1:]
    evidence = torch.zeros_like(slices[1:])
    total = torch.full_like(evidence, _FLOOR)
    for scale in scales:
        coarse = downscale(slices, scale)
        log_odds = neighbour_log_odds(network, coarse, tile)
        importance = 1.0 if scale == 1 else _COARSE_WEIGHT
        for k, odds in enumerate(log_odds):
            difference = (coarse[k + 1] - coarse[k]).abs()
            weight = difference**2 / (difference + _KNEE)
            both = torch.stack([odds * weight, weight])
            near = smooth(both, max(_LEAST_SIGMA, sigma / scale))
            if scale == scales[-1]:
                near = near + smooth(both, WIDE_SIGMA / scale)
            near = importance * upscale(near, scale, shape)
            evidence[k] += near[0]
            total[k] += near[1]
    return evidence / total


def downscale(images: Tensor, scale: int) -> Tensor:
    """Average (n, H, W) over squares; the border is repeated to fill the last ones."""
    if scale == 1:
        return images
    padding = (0, -images.shape[2] % scale, 0, -images.shape[1] % scale)
    return F.avg_pool2d(F.pad(images[:, None], padding, mode="replicate"), scale)[:, 0]


def upscale(images: Tensor, scale: int, shape: torch.Size) -> Tensor:
    """Enlarge (n, h, w) linearly, and cut to ``shape``: the inverse of `downscale`."""
    if scale == 1:
        return images
    large = F.interpolate(images[:, None], scale_factor=scale, mode="bilinear")
    return large[:, 0, : shape[0], : shape[1]]


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Filter (n, H, W) with a Gaussian, mirrored at the border.

    As two products with banded matrices, which every device multiplies at its full
    speed; a convolution of a single channel is slow on the CPU.
    """
    rows, columns = (_gaussian_matrix(n, sigma).to(images.device) for n in images.shape[1:])
    return rows @ images @ columns.T


@lru_cache(maxsize=16)
def _gaussian_matrix(length: int, sigma: float) -> Tensor:
    """Return the (length, length) matrix that filters a column of that length."""
    identity = np.eye(length, dtype=np.float32)
    matrix = gaussian_filter1d(identity, sigma, axis=0, mode="mirror", truncate=3.0)
    return torch.from_numpy(matrix)
