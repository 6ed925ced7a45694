"""The training loop: a generator of typed events (Section III-C)."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_ips.config import TrainConfig
from napari_ips.device import choose_device
from napari_ips.errors import IPSError
from napari_ips.events import (
    CheckpointSaved,
    ImagesFound,
    LossPoint,
    TrainingEvent,
    TrainingFinished,
    ValidationPoint,
)
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.training.checkpoint import TrainingState, checkpoint_path, with_start
from napari_ips.training.images import ImagePool, load_images
from napari_ips.training.pairs import PairBatch, make_batch
from napari_ips.training.validation import split_pool, validate, validation_batches
from napari_ips.weights import save_weights


def train(
    config: TrainConfig, *, resume: bool = False, overwrite: bool = False
) -> Iterator[TrainingEvent]:
    """Train weights on in-focus images; yield events while it goes.

    The generator can be closed between two events; what was checkpointed until then can
    be resumed. On one device a resumed run computes bit for bit what an undisturbed one
    would have (with ``iterations``; ``minutes`` depend on the clock).

    Parameters
    ----------
    config : TrainConfig
        All settings.
    resume : bool
        Go on from the checkpoint of a run with the same settings.
    overwrite : bool
        Whether existing weights, or the checkpoint of another run, may be replaced.

    Yields
    ------
    TrainingEvent
        `ImagesFound` first, a `LossPoint` per step, and `TrainingFinished` at the end.

    Raises
    ------
    IPSError
        If no image is usable, the output exists, the loss is no longer finite, or a
        file cannot be written.
    """
    _check_output(config, resume, overwrite)
    config = with_start(config)
    device = choose_device(config.device)
    pool = load_images(config)
    yield ImagesFound(len(pool.images), pool.rejected)
    if not resume:
        checkpoint_path(config.output).unlink(missing_ok=True)
    training, held_out = split_pool(pool, config)
    checks = validation_batches(held_out, config)
    state = (
        TrainingState.load(config, device)
        if resume
        else TrainingState.begin(config, device)
    )
    fraction = _fraction(state, config)
    while fraction < 1.0:
        yield _step(state, training, config, fraction, device)
        if state.iteration % config.validation_interval == 0:
            yield ValidationPoint(
                state.iteration, *validate(state.averaged, checks, device)
            )
        if state.iteration % config.checkpoint_interval == 0:
            yield CheckpointSaved(state.iteration, state.save(config))
        fraction = _fraction(state, config)
    psnr, ssim = validate(state.averaged, checks, device)
    if not math.isfinite(psnr):
        raise IPSError(_not_finite(state, config))
    card = _card(config, state, pool, psnr, ssim)
    save_weights(config.output, state.averaged, card)
    checkpoint_path(config.output).unlink(missing_ok=True)
    yield TrainingFinished(state.iteration, config.output, psnr, ssim)


def _check_output(config: TrainConfig, resume: bool, overwrite: bool) -> None:
    output, checkpoint = config.output, checkpoint_path(config.output)
    if output.suffix != ".safetensors":
        raise IPSError(f"The weights are written as .safetensors, not as {output.name}.")
    if resume and output.exists() and not checkpoint.exists():
        raise IPSError(
            f"{output} is finished: there is nothing to resume. To train it further, start "
            f"a new run with --start-from {output} and another output."
        )
    if overwrite:
        return
    if output.exists():
        raise IPSError(f"{output} exists; choose another name or pass --overwrite.")
    if checkpoint.exists() and not resume:
        raise IPSError(
            f"{checkpoint} holds an unfinished run; pass --resume to go on with it, "
            "or --overwrite to start anew."
        )


def _fraction(state: TrainingState, config: TrainConfig) -> float:
    """Return how much of the run is done, by steps or by minutes, whichever is further."""
    by_steps = state.iteration / config.iterations if config.iterations else 0.0
    by_time = state.seconds / (60.0 * config.minutes) if config.minutes else 0.0
    return max(by_steps, by_time)


def learning_rate(config: TrainConfig, fraction: float) -> float:
    """Return the rate: constant until ``decay_start``, then linear to zero."""
    if fraction <= config.decay_start:
        return config.learning_rate
    return config.learning_rate * (1.0 - fraction) / (1.0 - config.decay_start)


def _step(
    state: TrainingState,
    pool: ImagePool,
    config: TrainConfig,
    fraction: float,
    device: torch.device,
) -> LossPoint:
    started = time.perf_counter()
    rate = learning_rate(config, fraction)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    batch = make_batch(pool, config, state.iteration).to(device)
    state.optimiser.zero_grad(set_to_none=True)
    loss = fusion_loss(state.network, batch, config)
    loss.backward()  # type: ignore[no-untyped-call]
    limit = config.gradient_clip or math.inf
    norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), limit)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise IPSError(_not_finite(state, config))
    state.optimiser.step()
    _average(state, config.ema_decay)
    state.iteration += 1
    state.seconds += time.perf_counter() - started
    return LossPoint(state.iteration, float(loss.detach()), rate, fraction)


def fusion_loss(
    network: CrossImageFusionNetwork, batch: PairBatch, config: TrainConfig
) -> Tensor:
    """Return the L1 loss of Eq. (3), plus the cross-entropy of the selection.

    The latter counts every pixel by how much the choice matters there, that is by the
    difference of the sources without their noise, and a little even where there is none:
    of what cannot be told the network has to say so, by log-odds of 0. Unlike the L1 loss
    it still pulls where the network is sure and wrong.
    """
    raw = network(batch.source1, batch.source2)
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


def _not_finite(state: TrainingState, config: TrainConfig) -> str:
    path = checkpoint_path(config.output)
    kept = f"The last good state is kept in {path}." if path.exists() else ""
    return (
        f"The loss is no longer finite after {state.iteration} iterations; "
        f"lower the learning rate (now {config.learning_rate:g}). {kept}".rstrip()
    )


def _card(
    config: TrainConfig, state: TrainingState, pool: ImagePool, psnr: float, ssim: float
) -> dict[str, str]:
    """Say what the weights are, in strings; structured values as JSON."""
    kinds = Counter(f"{image.data.dtype}" for image in pool.images)
    training_set = {
        "images": len(pool.images),
        "pixels": sum(image.pixels for image in pool.images),
        "dtypes": dict(kinds),
        "left_out": len(pool.rejected),
    }
    settings = config.model_dump(mode="json", exclude={"images", "output", "network"})
    return {
        "preset": config.preset,
        "iterations": str(state.iteration),
        "training_minutes": f"{state.seconds / 60.0:.1f}",
        "training_set": json.dumps(training_set),
        "validation": json.dumps({"psnr": round(psnr, 3), "ssim": round(ssim, 5)}),
        "settings": json.dumps(settings),
        "licence": "BSD-3-Clause",
    }
