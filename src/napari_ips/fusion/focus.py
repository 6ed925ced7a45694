"""From evidence about neighbouring slices to a focus curve, and what is read from it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focus_curve(evidence: Tensor) -> Tensor:
    """Sum the evidence (n - 1, H, W) over z: the focus curve (n, H, W) of every pixel."""
    return F.pad(evidence.cumsum(0), (0, 0, 0, 0, 1, 0))


def sub_slice_depth(curve: Tensor, index: Tensor) -> Tensor:
    """Return the peak of a parabola through the three points around the maximum.

    Parameters
    ----------
    curve : Tensor, shape (n, H, W)
        Focus curve.
    index : Tensor, shape (H, W)
        Its argmax.

    Returns
    -------
    Tensor, shape (H, W)
        Depth in slices, at most half a slice from ``index``.
    """
    last = len(curve) - 1
    here = curve.gather(0, index[None])[0]
    below = curve.gather(0, (index - 1).clamp(min=0)[None])[0]
    above = curve.gather(0, (index + 1).clamp(max=last)[None])[0]
    bend = (2.0 * here - below - above).clamp(min=1e-6)
    offset = (0.5 * (above - below) / bend).clamp(-0.5, 0.5)
    inside = (index > 0) & (index < last)
    return index + torch.where(inside, offset, torch.zeros_like(offset))


def confidence(curve: Tensor) -> Tensor:
    """Return how far the peak stands above the mean of the curve, as 0..1 (H, W).

    One minus the exponential of minus that height, which is in log-odds: 0 where all
    slices are the same, near 1 where the focused one is beyond doubt.
    """
    return 1.0 - torch.exp(curve.mean(0) - curve.amax(0))
