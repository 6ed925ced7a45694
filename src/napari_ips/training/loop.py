"""The training loop: a generator of typed events (Section III-C)."""

from __future__ import annotations

import copy
import logging
import math
import threading
import time
from collections.abc import Generator
from typing import Any

import torch

from napari_ips.ahead import compile_ahead
from napari_ips.config import TrainConfig
from napari_ips.device import choose_device, why_no_bfloat16
from napari_ips.errors import IPSError
from napari_ips.events import (
    CheckpointFailed,
    CheckpointSaved,
    ImagesFound,
    Reason,
    RolledBack,
    TrainingEvent,
    TrainingFinished,
    ValidationPoint,
)
from napari_ips.files import locked, plainly_written, remove_leftovers
from napari_ips.training.card import make_card
from napari_ips.training.checkpoint import (
    Figures,
    Kept,
    TrainingState,
    checkpoint_path,
    with_start,
)
from napari_ips.training.images import ImagePool, load_images, measured_noise
from napari_ips.training.step import take_step
from napari_ips.training.validation import (
    preview,
    split_pool,
    validate,
    validation_batches,
)
from napari_ips.weights import save_weights

_log = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    finish: threading.Event | None = None,
) -> Generator[TrainingEvent]:
    """Train weights on in-focus images; yield events while it goes.

    The weights are measured on held-out crops at the start, every
    ``validation_interval`` steps, and at the end. The best of them by PSNR are written,
    however the run ends; those it starts from count too, unless they are untrained.

    The generator can be closed between two events, which pauses the run: it writes a
    checkpoint if it can, and nothing else. On one device, with the same number of
    threads, a resumed run computes bit for bit what an undisturbed one would have (with
    ``iterations``; ``minutes`` depend on the clock).

    Where loss, gradient or PSNR is not finite, the run goes back to where it was measured
    last, with a lower learning rate. The second time it ends.

    Parameters
    ----------
    config : TrainConfig
        All settings.
    resume : bool
        Go on from the checkpoint of a run with the same settings.
    overwrite : bool
        Whether existing weights, or the checkpoint of another run, may be replaced.
    finish : threading.Event, optional
        Once it is set, from any thread, the run ends after the step that it is at.

    Yields
    ------
    TrainingEvent
        `ImagesFound` first, a `LossPoint` per step, and `TrainingFinished` at the end.

    Raises
    ------
    IPSError
        If no image is usable, the output exists or another program trains it, memory
        does not suffice, nothing measured was finite, or the weights cannot be written. A
        checkpoint that cannot be written is a `CheckpointFailed` instead.
    """
    busy = f"Another program trains {config.output}; wait for it, or choose another output."
    with locked(config.output, busy):
        yield from _train(config, resume, overwrite, finish or threading.Event())


def _train(
    config: TrainConfig, resume: bool, overwrite: bool, finish: threading.Event
) -> Generator[TrainingEvent]:
    """Do what `train` says, while nobody else does so for the same output."""
    _check_output(config, resume, overwrite)
    for path in (config.output, checkpoint_path(config.output)):
        with plainly_written(path):
            remove_leftovers(path)
    device = choose_device(config.device)
    compile_ahead(device.type, training=True)
    state = (
        TrainingState.load(config, device)
        if resume
        else TrainingState.begin(with_start(config), device)
    )
    config = state.config
    pool = load_images(config)
    yield ImagesFound(len(pool.images), pool.rejected)
    if not resume:
        with plainly_written(config.output):
            checkpoint_path(config.output).unlink(missing_ok=True)
    config = settled(config, state, pool, device)
    try:
        reason = yield from _steps(config, state, pool, device, finish)
    except GeneratorExit:
        _pause(state)
        raise
    best = state.best
    if best is None:
        raise IPSError(
            f"The loss is no longer finite after {state.iteration} iterations, even at a "
            f"lower learning rate than {config.learning_rate:g}, and no weights were "
            "measured before; start anew with a lower one."
        )
    card = make_card(config, state, pool, best, reason, device)
    _write(state, best, card, overwrite=overwrite)
    yield TrainingFinished(
        best.iteration,
        config.output,
        *best.figures,
        psnr_before=(state.before or best.figures).psnr,
        reason=reason,
    )


def _check_output(config: TrainConfig, resume: bool, overwrite: bool) -> None:
    output, checkpoint = config.output, checkpoint_path(config.output)
    if output.suffix != ".safetensors":
        raise IPSError(f"The weights are written as .safetensors, not as {output.name}.")
    if output.stem.endswith(".checkpoint"):
        raise IPSError(f"Names like {output.name} are for checkpoints; choose another one.")
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


def settled(
    config: TrainConfig, state: TrainingState, pool: ImagePool, device: torch.device
) -> TrainConfig:
    """Put the noise of the images and the precision of the device into settings.

    The noise is measured once in a run, for the images may have changed when it is resumed.
    """
    found: dict[str, Any] = {}
    if config.noise == "measured":
        state.noise = measured_noise(pool) if state.noise is None else state.noise
        found["noise"] = state.noise
    if config.precision == "auto":
        # On a GPU it was never measured.
        half = device.type == "cpu" and not why_no_bfloat16(device)
        found["precision"] = "bfloat16" if half else "float32"
    return config.model_copy(update=found)


def _steps(
    config: TrainConfig,
    state: TrainingState,
    pool: ImagePool,
    device: torch.device,
    finish: threading.Event,
) -> Generator[TrainingEvent, None, Reason]:
    """Train until the end; return why it is one.

    Whatever an event is followed by depends on the state alone, so that a run that is
    closed there and resumed does the same.
    """
    # A fusion in the same process sets the threads of PyTorch to one for its own threads
    # and for those that begin meanwhile. A run that was begun before keeps its number.
    training, held_out = split_pool(pool, config)
    checks = validation_batches(held_out, config)
    saved = time.monotonic()
    while True:
        ended = _why_ended(config, state, finish)
        due = ended or state.iteration % config.validation_interval == 0
        if due and not state.is_measured:
            figures = Figures(*validate(state.averaged, checks, device))
            if math.isfinite(figures.psnr):
                state.keep(figures)
                yield ValidationPoint(state.iteration, *figures)
                yield preview(state.averaged, checks, state.iteration, device)
                continue
        elif ended:
            return ended
        elif point := take_step(state, training, config, device):
            yield point
            if time.monotonic() - saved >= config.checkpoint_seconds:
                yield _checkpoint(state)
                saved = time.monotonic()
            continue
        # Something was not finite.
        if state.good is None:
            raise IPSError(
                "What the network computes is not finite before any training; start from "
                "other weights, or check the images."
            )
        if not state.roll_back():
            return "diverged"
        yield RolledBack(state.iteration, state.rate)


def _why_ended(
    config: TrainConfig, state: TrainingState, finish: threading.Event
) -> Reason | None:
    if config.fraction_done(state.iteration, state.seconds) >= 1.0:
        return "length"
    # Of a run that was just begun there is nothing yet to be written.
    return "asked" if finish.is_set() and state.iteration > 0 else None


def _checkpoint(state: TrainingState) -> CheckpointSaved | CheckpointFailed:
    try:
        return CheckpointSaved(state.iteration, state.save())
    except IPSError as error:
        return CheckpointFailed(state.iteration, str(error))


def _pause(state: TrainingState) -> None:
    """Write a checkpoint if possible; who closes a generator expects no error."""
    try:
        state.save()
    except Exception as error:
        _log.warning("No checkpoint was written at the end: %s", error)


def _write(
    state: TrainingState, best: Kept, card: dict[str, str], *, overwrite: bool
) -> None:
    """Write the best weights, in the place of the checkpoint.

    Raises
    ------
    IPSError
        If they cannot be written, or others took their name meanwhile; the run is then
        kept as a checkpoint, if possible.
    """
    output = state.config.output
    checkpoint = checkpoint_path(output)
    network = copy.deepcopy(state.averaged)
    network.load_state_dict(best.tensors)
    try:
        if output.exists() and not overwrite:
            raise IPSError(f"{output} was made by others meanwhile; move it away.")
        save_weights(output, network, card)
    except IPSError as error:
        _pause(state)
        kept = f" The run is kept in {checkpoint}; go on with --resume."
        raise IPSError(f"{error}{kept if checkpoint.exists() else ''}") from error
    checkpoint.unlink(missing_ok=True)
