"""Fused intensities from the slices and the focus curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ips.fusion.scales import TRUNCATE, smooth

# Neighbourhood in which a step of the depth is looked for, sigma in pixels; and how far
# around a pixel what is done at steps depends on the evidence.
_STEP_SIGMA = 1.5
STEP_REACH = math.ceil(2 * TRUNCATE * _STEP_SIGMA)


def take(stack: NDArray[Any], index: NDArray[Any]) -> NDArray[Any]:
    """Take every pixel from the slice that ``index`` (H, W) names: the hard mode."""
    picks = index[None, ..., None] if stack.ndim == 4 else index[None]
    taken: NDArray[Any] = np.take_along_axis(stack, picks.astype(np.intp), axis=0)[0]
    return taken


def average(stack: NDArray[Any], weights: NDArray[np.float32]) -> NDArray[Any]:
    """Average the slices with weights (n, H, W) that sum to one: the soft mode.

    Values that are not finite count for nothing, nor does their weight. The mean is
    rounded and kept in the range of an integer dtype; it is exact to float64, 53 bits.
    """
    total = np.zeros(stack.shape[1:], dtype=np.float64)
    # In float64, else an offset far from zero would magnify the rounding of the sum.
    everything = np.zeros_like(total)
    for values, weight in zip(stack, weights, strict=True):
        if not weight.any():
            continue
        share = weight[..., None] if stack.ndim == 4 else weight
        if stack.dtype.kind == "f":
            known = np.isfinite(values)
            share = np.where(known, share, np.float32(0))
            values = np.where(known, values, 0)
        total += values * share.astype(np.float64)
        everything += share
    total /= np.where(everything > 0, everything, 1.0)
    if stack.dtype.kind in "iu":
        limits = np.iinfo(stack.dtype)
        # The largest 64-bit integers are no float64: the next one below is.
        highest = float(limits.max)
        if stack.dtype.itemsize == 8:
            highest = float(np.nextafter(highest, 0.0))
        total = np.clip(np.rint(total), limits.min, highest)
    return total.astype(stack.dtype)


def mixed_at_steps(probable: Tensor) -> Tensor:
    """Mix the slices around a step of the depth.

    Beside a step no slice is right: a slice that is sharp here holds the blurred light of
    what lies higher or lower next to it. Where the slices of a small neighbourhood lie more
    than one apart (standard deviation), the neighbourhood's mean takes over by and by.

    Parameters
    ----------
    probable : Tensor, shape (n, H, W)
        Probabilities of the slices.

    Returns
    -------
    Tensor, shape (n, H, W)
        The same, smoothed at steps. It depends on what lies `STEP_REACH` pixels around.
    """
    nearby = smooth(probable, _STEP_SIGMA)
    z = torch.arange(len(probable), dtype=probable.dtype, device=probable.device)
    mean, square = (torch.einsum("n,nyx->yx", power, nearby) for power in (z, z * z))
    spread = (square - mean**2).clamp(min=0.0).sqrt()
    share = smooth((spread - 1.0).clamp(0.0, 1.0)[None], _STEP_SIGMA)
    return torch.lerp(probable, nearby, share)


def soft_weights(probable: Tensor) -> NDArray[np.float32]:
    """Return the weights of the slices, (n, H, W), of their probabilities.

    Those too small to change an 8-bit value are dropped, so that far slices stay out.
    """
    weights = torch.where(probable < 1e-3, torch.zeros_like(probable), probable)
    array: NDArray[np.float32] = (weights / weights.sum(0)).cpu().numpy()
    return array
