"""From evidence about neighbouring slices to a focus curve, and what is read from it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# A filled valley stands above the peaks beside it by this share of its depth.
_OVER_PEAKS = 0.5


def focus_curve(evidence: Tensor) -> Tensor:
    """Sum the evidence (n - 1, H, W) over z: the focus curve (n, H, W) of every pixel.

    A place is sharpest at one depth, so that a slice between two that seem sharper lies
    between them in focus too: nearly transparent objects, and slices closer than the depth
    of field, have such a valley at the focus. It is filled, and it is the peak.
    """
    curve = F.pad(evidence.cumsum(0), (0, 0, 0, 0, 1, 0))
    below, here, above = curve[:-2], curve[1:-1], curve[2:]
    depth = torch.minimum(below, above) - here
    filled = torch.maximum(below, above) + _OVER_PEAKS * depth
    curve[1:-1] = torch.where(depth > 0, filled, here)
    return curve


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


def probabilities(curve: Tensor, temperature: float) -> Tensor:
    """Return how likely every slice is the sharpest one: softmax(curve / T), (n, H, W)."""
    return torch.softmax(curve / temperature, dim=0)


def confidence(probable: Tensor) -> Tensor:
    """Return how much is known of the depth, as 0..1 (H, W), of `probabilities`.

    One less the entropy of the probabilities over that of n equal ones: 0 where every slice
    is as likely as any other, 1 where one of them is certain, 0.5 where a square root of n
    of them share it. Slices that are identical but for their noise come out near 0 however
    many they are.
    """
    return 1.0 + torch.xlogy(probable, probable).sum(0) / math.log(len(probable))
