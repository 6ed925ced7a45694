"""From the evidence of a core to its pixels: which slice, how deep, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ips.fusion.blend import average, mixed_at_steps, soft_weights, take
from napari_ips.fusion.focus import confidence, focus_curve, probabilities, sub_slice_depth
from napari_ips.fusion.settings import FusionSettings, finite
from napari_ips.fusion.tiles import Area

_FEWEST_FOR_STEPS = 4


@dataclass(frozen=True)
class FusionResult:
    """A fused stack.

    Attributes
    ----------
    fused : ndarray, shape (Y, X) or (Y, X, colours)
        All-in-focus image, in the dtype of the stack.
    index : ndarray of uint16, shape (Y, X)
        Slice, counted from 0, in which the pixel is sharpest.
    depth : ndarray of float32, shape (Y, X)
        The same at sub-slice precision, in slices.
    confidence : ndarray of float32, shape (Y, X)
        0 where all slices are the same but for their noise, to 1 where one is beyond doubt.
    """

    fused: NDArray[Any]
    index: NDArray[np.uint16]
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]


@dataclass(frozen=True)
class FusedPart:
    """A part of a fused image; ``fused`` holds one image for each channel."""

    fused: tuple[NDArray[Any], ...]
    index: NDArray[np.uint16]
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The three maps and the fused images."""
        return self.index, self.depth, self.confidence, *self.fused

    @classmethod
    def of(cls, arrays: Sequence[NDArray[Any]]) -> FusedPart:
        """Make a part of `arrays`."""
        index, depth, sure, *fused = arrays
        return cls(tuple(fused), index, depth, sure)


def decide(
    evidence: Tensor,
    inside: Area,
    stack: NDArray[Any],
    others: Sequence[NDArray[Any]],
    settings: FusionSettings,
) -> FusedPart:
    """Fuse a part of a stack by evidence about its neighbouring slices.

    Parameters
    ----------
    evidence : Tensor, shape (n - 1, H, W)
        Log-odds that slice k + 1 is sharper than slice k, of the part and around it.
    inside : (slice, slice)
        Where the part lies in the evidence, (h, w).
    stack : ndarray, shape (n, h, w[, colours])
        The part of the stack.
    others : sequence of ndarray
        The same part of other channels, which are fused by the same decision.
    settings : FusionSettings
    """
    around = focus_curve(evidence)
    curve = around[:, *inside]
    valid = finite(stack)
    masked = curve
    if valid is not None:
        possible = torch.from_numpy(valid).to(curve.device)
        masked = curve.masked_fill(~possible, -torch.inf)
        masked = torch.where(possible.any(0), masked, torch.zeros_like(curve))
    index = masked.argmax(0)
    picks = index.cpu().numpy().astype(np.uint16)
    probable = probabilities(masked, settings.temperature)
    weights = None
    if settings.config.mode == "soft":
        weights = soft_weights(_mixed(probable, around, inside, settings))
    return FusedPart(
        tuple(_blend(channel, picks, weights) for channel in (stack, *others)),
        picks,
        sub_slice_depth(curve, index).cpu().numpy().astype(np.float32),
        confidence(probable).clamp(0.0, 1.0).cpu().numpy().astype(np.float32),
    )


def _mixed(
    probable: Tensor, around: Tensor, inside: Area, settings: FusionSettings
) -> Tensor:
    """Return probabilities (n, h, w), mixed at steps of the depth."""
    # Steps by more than a slice take four; and who wants raw decisions gets these.
    if len(probable) < _FEWEST_FOR_STEPS or not settings.config.regularise:
        return probable
    mixed = mixed_at_steps(probabilities(around, settings.temperature))[:, *inside]
    # What has no value is never picked, whatever lies around it.
    return torch.where(probable > 0, mixed, probable)


def untouched(stack: NDArray[Any], others: Sequence[NDArray[Any]]) -> FusedPart:
    """Return a stack of one slice as it is, with no confidence in the choice."""
    shape = stack.shape[1:3]
    return FusedPart(
        tuple(np.array(channel[0]) for channel in (stack, *others)),
        np.zeros(shape, np.uint16),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )


def _blend(
    stack: NDArray[Any], picks: NDArray[np.uint16], weights: NDArray[np.float32] | None
) -> NDArray[Any]:
    if weights is None:
        return take(stack, picks)
    fused = average(stack, weights)
    valid = finite(stack)
    if valid is None:
        return fused
    # Where no slice with a weight has a value, the picked slice says what there is.
    missing = np.logical_not((valid & (weights > 0)).any(axis=0))
    if stack.ndim == 4:
        missing = missing[..., None]
    return np.where(missing, take(stack, picks), fused)
