"""One step of the training: its loss, its learning rate, the average of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_ips.config import TrainConfig
from napari_ips.device import is_short_of_memory
from napari_ips.errors import IPSError
from napari_ips.events import LossPoint
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.training.checkpoint import TrainingState
from napari_ips.training.images import ImagePool
from napari_ips.training.pairs import PairBatch, make_batch


def learning_rate(initial: float, decay_start: float, fraction: float) -> float:
    """Return the rate: constant until ``decay_start``, then linear to zero."""
    if fraction <= decay_start:
        return initial
    return initial * (1.0 - fraction) / (1.0 - decay_start)


def take_step(
    state: TrainingState, pool: ImagePool, config: TrainConfig, device: torch.device
) -> LossPoint | None:
    """Train for one step.

    Returns
    -------
    LossPoint or None
        None if loss or gradient is not finite; the weights are then as they were.

    Raises
    ------
    IPSError
        If memory does not suffice.
    """
    started = time.perf_counter()
    fraction = config.fraction_done(state.iteration, state.seconds)
    rate = learning_rate(state.rate, config.decay_start, fraction)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    with enough_memory(config.batch_size, config.crop_size, "the batch size or "):
        loss, norm = _differentiate(state, pool, config, device)
    finite = math.isfinite(loss) and math.isfinite(norm)
    if finite:
        state.optimiser.step()
        _average(state, config.ema_decay)
        state.iteration += 1
    state.seconds += time.perf_counter() - started
    return LossPoint(state.iteration, loss, rate, fraction) if finite else None


@contextmanager
def enough_memory(crops: int, size: int, settings: str = "") -> Iterator[None]:
    """Say plainly that memory does not suffice, and which settings to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_short_of_memory(error):
            raise
        raise IPSError(
            f"Memory does not suffice for {crops} crops of {size} pixels at once; lower "
            f"{settings}the crop size."
        ) from error


def _differentiate(
    state: TrainingState, pool: ImagePool, config: TrainConfig, device: torch.device
) -> tuple[float, float]:
    """Put clipped gradients into the network; return the loss and their norm before."""
    batch = make_batch(pool, config, state.iteration).to(device)
    if state.teacher is not None:
        batch = taught(batch, state.teacher, config.teacher_share)
    state.optimiser.zero_grad(set_to_none=True)
    loss = fusion_loss(state.network, batch, config)
    loss.backward()  # type: ignore[no-untyped-call]
    limit = config.gradient_clip or math.inf
    norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), limit)
    return float(loss.detach()), float(norm)


def taught(batch: PairBatch, teacher: CrossImageFusionNetwork, share: float) -> PairBatch:
    """Mix what another network says of the sources into the selection to learn.

    It says how sure one can be, which the truth, 0 or 1, does not (knowledge distillation:
    Hinton, Vinyals and Dean, arXiv:1503.02531).
    """
    with torch.no_grad():
        sure = torch.sigmoid(teacher(batch.source1, batch.source2))
    return replace(batch, selection=torch.lerp(batch.selection, sure, share))


def fusion_loss(
    network: CrossImageFusionNetwork, batch: PairBatch, config: TrainConfig
) -> Tensor:
    """Return the L1 loss of Eq. (3), plus the cross-entropy of the selection.

    The latter counts every pixel by how much the choice matters there, that is by the
    difference of the sources without their noise, and a little even where there is none:
    of what cannot be told the network has to say so, by log-odds of 0. Unlike the L1 loss
    it still pulls where the network is sure and wrong.
    """
    half = config.precision == "bfloat16"
    with torch.autocast(batch.source1.device.type, torch.bfloat16, enabled=half):
        raw = network(batch.source1, batch.source2)
    raw = raw.float()
    if network.config.output == "image":
        return F.l1_loss(raw, batch.target)
    fused = torch.lerp(batch.source2, batch.source1, torch.sigmoid(raw))
    loss = F.l1_loss(fused, batch.target)
    if config.decision_loss == 0.0:
        return loss
    entropy = F.binary_cross_entropy_with_logits(
        raw.expand_as(batch.selection), batch.selection, reduction="none"
    )
    stake = batch.stake + config.decision_floor
    return loss + config.decision_loss * (stake * entropy).mean()


def _average(state: TrainingState, decay: float) -> None:
    """Move the averaged weights; early on they follow faster."""
    decay = min(decay, (1.0 + state.iteration) / (10.0 + state.iteration)) if decay else 0.0
    pairs = zip(state.averaged.parameters(), state.network.parameters(), strict=True)
    with torch.no_grad():
        for averaged, current in pairs:
            averaged.lerp_(current, 1.0 - decay)
