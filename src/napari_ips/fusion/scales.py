"""Evidence about focus from a neighbourhood and from several scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from napari_ips.fusion.tiles import Area, Shape, times, within

# The network also compares the slices at these fractions of the resolution, where a wide
# blur is a small one; what it says there counts by this weight.
SCALES = (1, 2, 4, 8, 16)
_COARSE_WEIGHT = 0.4
# A scale is of use while the image keeps so many pixels along its shorter edge.
_SMALLEST = 48
# At the coarsest scale a wide neighbourhood, sigma in pixels of the image, joins in: it
# decides where nothing nearer shows texture.
_WIDE_SIGMA = 30.0
# Smallest neighbourhood, in pixels of the scale.
_LEAST_SIGMA = 0.4
# Differences count by their square up to about this share of the intensity range, and
# linearly above; sums of such weights below the floor say little about focus.
_KNEE = 0.02
_FLOOR = 0.0005
# The local branch sees 11 pixels around a pixel; the scan sees on, but ever less. Where
# pixels are few the halo costs little.
_NETWORK_HALO = 16
_COARSE_HALO = 48
_COARSE_FROM = 8
# Sigmas at which a Gaussian is cut off.
TRUNCATE = 3.0
# Pixels that a part of its matrix makes: few, so that it holds few zeros.
_BAND = 48


@dataclass(frozen=True)
class Evidence:
    """Weighted sums of log-odds over a neighbourhood and over the scales so far.

    Attributes
    ----------
    sums : Tensor, shape (2, n - 1, h, w)
        Of weighted log-odds that slice k + 1 is sharper than slice k, and of the weights.
    area : (slice, slice)
        The part of the image they are for, in pixels of their scale.
    """

    sums: Tensor
    area: Area

    def mean(self) -> Tensor:
        """Return the averaged log-odds (n - 1, h, w)."""
        return self.sums[0] / (self.sums[1] + _FLOOR)

    def part(self, area: Area) -> Evidence:
        """Return the evidence of a smaller area."""
        y, x = within(area, self.area)
        return Evidence(self.sums[..., y, x], area)

    def enlarged(self, area: Area) -> Evidence:
        """Return the evidence at twice the resolution, for an area in those pixels."""
        # PyTorch is twice as fast with single images as with as many channels.
        images = self.sums.flatten(0, 1)[:, None]
        large = F.interpolate(images, scale_factor=2, mode="bilinear")
        y, x = within(area, times(self.area, 2))
        return Evidence(large.view(2, -1, *large.shape[2:])[..., y, x], area)


def scales_for(shape: Shape) -> tuple[int, ...]:
    """Return the scales at which an image of ``shape`` pixels is compared."""
    return tuple(k for k in SCALES if k == 1 or min(shape) // k >= _SMALLEST)


def halo(scale: int, scales: tuple[int, ...], sigma: float) -> int:
    """Return how far around a core the network has to see, in pixels of the scale.

    A multiple of 4, so that what the network does at half and quarter resolution falls
    on the same pixels wherever the window begins.
    """
    least = _COARSE_HALO if scale >= _COARSE_FROM else _NETWORK_HALO
    wanted = least + math.ceil(TRUNCATE * max(_sigmas(scale, scales, sigma)))
    return -(-wanted // 4) * 4


def weighted(
    log_odds: Tensor,
    below: Tensor,
    above: Tensor,
    scale: int,
    scales: tuple[int, ...],
    sigma: float,
) -> Tensor:
    """Return sums over the neighbourhood of weighted log-odds and of the weights.

    Where two slices hardly differ the network guesses; what it says counts by how much
    they differ.

    Parameters
    ----------
    log_odds, below, above : Tensor, shape (H, W)
        What the network says of two slices, and the slices.
    scale : int
        Their scale, one of ``scales``.
    scales : tuple of int
        Of `scales_for` the whole image.
    sigma : float
        Of the Gaussian neighbourhood, in pixels of the image.

    Returns
    -------
    Tensor, shape (2, H, W)
    """
    difference = (above - below).abs()
    weight = difference**2 / (difference + _KNEE)
    both = torch.stack([log_odds * weight, weight])
    importance = 1.0 if scale == 1 else _COARSE_WEIGHT
    parts = [smooth(both, s) for s in _sigmas(scale, scales, sigma)]
    return importance * torch.stack(parts).sum(0)


def _sigmas(scale: int, scales: tuple[int, ...], sigma: float) -> list[float]:
    """Neighbourhoods at a scale, in its pixels."""
    sigmas = [max(_LEAST_SIGMA, sigma / scale)]
    return sigmas + ([_WIDE_SIGMA / scale] if scale == scales[-1] else [])


def downscale(images: Tensor) -> Tensor:
    """Average (n, H, W) over squares of 2 x 2; the border is repeated to fill the last."""
    padding = (0, images.shape[2] % 2, 0, images.shape[1] % 2)
    if any(padding):
        images = F.pad(images[:, None], padding, mode="replicate")[:, 0]
    return F.avg_pool2d(images[:, None], 2)[:, 0]


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Filter (n, H, W) with a Gaussian, mirrored at the border.

    As products with parts of a banded matrix, which every device multiplies at its full
    speed; a convolution of a single channel is slow on the CPU.
    """
    height, width = images.shape[1:]
    rows = [m.to(images.device) @ images[:, k] for m, k in _gaussian(height, sigma)]
    images = torch.cat(rows, dim=1)
    columns = [images[..., k] @ m.to(images.device).T for m, k in _gaussian(width, sigma)]
    return torch.cat(columns, dim=2)


@lru_cache(maxsize=64)
def _gaussian(length: int, sigma: float) -> list[tuple[Tensor, slice]]:
    """Return parts of the matrix that filters a column of that length.

    Each makes the next few pixels, of those in the slice.
    """
    identity = np.eye(length, dtype=np.float32)
    matrix = gaussian_filter1d(identity, sigma, axis=0, mode="mirror", truncate=TRUNCATE)
    reach = math.ceil(TRUNCATE * sigma)
    parts = []
    for start in range(0, length, _BAND):
        stop = min(start + _BAND, length)
        seen = slice(max(0, start - reach), min(stop + reach, length))
        part = np.ascontiguousarray(matrix[start:stop, seen])
        parts.append((torch.from_numpy(part), seen))
    return parts
