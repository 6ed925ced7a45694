"""Fusion of one block of a stack: the part that tiles, threads and clusters share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ips.config import FuseConfig
from napari_ips.fusion.blend import average, soft_weights, take
from napari_ips.fusion.evidence import neighbour_log_odds
from napari_ips.fusion.focus import confidence, focus_curve, sub_slice_depth
from napari_ips.fusion.scales import neighbour_evidence
from napari_ips.intensity import IntensityRange, luminance
from napari_ips.network import CrossImageFusionNetwork

# Normalised intensities beyond these are cut off before the network sees them.
_LIMITS = (-1.0, 2.0)


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
        0 where all slices are the same, to 1 where the choice is beyond doubt. Noise raises
        it, the more the more slices there are.
    """

    fused: NDArray[Any]
    index: NDArray[np.uint16]
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]


@dataclass(frozen=True)
class FusionSettings:
    """Settings of a fusion with everything measured that was left to be measured.

    They are the same for every block of a stack, so that blocks fit together.
    """

    config: FuseConfig
    intensities: IntensityRange
    scales: tuple[int, ...]
    smoothing: float
    temperature: float


def fuse_block(
    network: CrossImageFusionNetwork, block: NDArray[Any], settings: FusionSettings
) -> FusionResult:
    """Fuse a block (n, H, W[, colours]) of a stack, n at least 2."""
    grey = luminance(block) if block.ndim == 4 else block
    valid = np.isfinite(grey)
    normalised = settings.intensities.normalise(_filled(grey, valid))
    # A hot pixel, or a huge value that means no data, must not outshout its surroundings.
    normalised = np.clip(normalised, *_LIMITS)
    slices = torch.from_numpy(normalised).to(next(network.parameters()).device)
    if settings.config.strategy == "fold":
        curve = _fold(network, slices, settings)
    else:
        curve = focus_curve(_evidence(network, slices, settings))
    possible = torch.from_numpy(valid).to(curve.device)
    masked = curve.masked_fill(~possible, -torch.inf)
    masked = torch.where(possible.any(0), masked, torch.zeros_like(curve))
    index = masked.argmax(0)
    picks = index.cpu().numpy().astype(np.uint16)
    if settings.config.mode == "soft":
        fused = average(block, soft_weights(masked, settings.temperature))
        fused = np.where(_nowhere(valid, block.ndim), take(block, picks), fused)
    else:
        fused = take(block, picks)
    return FusionResult(
        fused.astype(block.dtype, copy=False),
        picks,
        sub_slice_depth(curve, index).cpu().numpy().astype(np.float32),
        np.where(valid.any(axis=0), confidence(curve).cpu().numpy(), 0.0).astype(
            np.float32
        ),
    )


def _filled(grey: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Give pixels without a finite value that of the nearest slice below, or else above.

    So they differ from no neighbour, and the slices on both sides are still compared.
    """
    if valid.all():
        return grey
    filled = np.where(valid, grey, 0)
    known = valid.copy()
    order = range(len(grey))
    for slices in (order, order[::-1]):
        for before, here in zip(slices, slices[1:], strict=False):
            take_over = known[before] & ~known[here]
            filled[here][take_over] = filled[before][take_over]
            known[here] |= take_over
    return filled


def _nowhere(valid: NDArray[np.bool_], ndim: int) -> NDArray[np.bool_]:
    """Where no slice holds a finite value, as a mask that fits the fused image."""
    missing = np.logical_not(valid.any(axis=0))
    return missing[..., None] if ndim == 4 else missing


def _evidence(
    network: CrossImageFusionNetwork, slices: Tensor, settings: FusionSettings
) -> Tensor:
    tile = settings.config.tile
    if settings.config.regularise:
        return neighbour_evidence(
            network, slices, settings.scales, settings.smoothing, tile
        )
    return neighbour_log_odds(network, slices, tile)


def _fold(
    network: CrossImageFusionNetwork, slices: Tensor, settings: FusionSettings
) -> Tensor:
    """Fuse slice after slice into a running result; return scores (n, H, W).

    The score of a slice is the evidence with which it beat the result of those before
    it, and falls below all others where a later slice won.
    """
    running = slices[0]
    scores = torch.zeros_like(slices)
    for k in range(1, len(slices)):
        evidence = _evidence(network, torch.stack([running, slices[k]]), settings)[0]
        scores[k] = scores[:k].amax(0) + evidence
        running = torch.where(evidence > 0, slices[k], running)
    return scores
