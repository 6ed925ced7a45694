"""How fast the network learns: steps per second, on images that scikit-image ships."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from napari_ips.config import TrainConfig
from napari_ips.device import choose_device, why_no_bfloat16
from napari_ips.errors import IPSError
from napari_ips.evaluation.speed.rounds import Rounds, in_turn, median_or_none
from napari_ips.events import ProgressCallback
from napari_ips.simulation import demo_image
from napari_ips.training.checkpoint import TrainingState
from napari_ips.training.images import ImagePool, load_images
from napari_ips.training.loop import settled
from napari_ips.training.step import take_step

ROUNDS = Rounds(40, seconds=20.0)
_IMAGES = ("tissue", "gravel", "coins")


@dataclass(frozen=True)
class TrainingRow:
    """Training of the preset for micrographs at one precision.

    Attributes
    ----------
    precision : {"float32", "bfloat16"}
    steps_per_second : float or None
        From the median of ``runs``.
    ratio : float or None
        Seconds of a step in float32 to those of one at this precision.
    runs : tuple of float
        Seconds of each step.
    why : str
        Why it was not measured.
    """

    precision: str
    steps_per_second: float | None = None
    ratio: float | None = None
    runs: tuple[float, ...] = ()
    why: str = ""


def measure_training(
    rounds: Rounds = ROUNDS,
    device: str | None = None,
    callback: ProgressCallback | None = None,
    **settings: object,
) -> list[TrainingRow]:
    """Take steps in float32 and bfloat16 in turn, and keep nothing of them.

    Parameters
    ----------
    rounds : Rounds
        Each is a step at each precision; what compiles is not counted.
    device : str, optional
    callback : callable, optional
        Called with `Progress`.
    **settings
        Of `TrainConfig`, put over those of the preset.

    Raises
    ------
    IPSError
        If the loss is not finite, or memory does not suffice.
    """
    chosen = choose_device(device or "auto")
    config = TrainConfig.from_preset(
        "microscopy", images=(), output=Path("none.safetensors"), iterations=10**9,
        device=str(chosen), **settings,
    )  # fmt: skip
    pool = load_images(config, [(name, demo_image(name)) for name in _IMAGES])
    why = why_no_bfloat16(chosen)
    steps: dict[str, Callable[[], float]] = {}
    for precision in ("float32",) if why else ("float32", "bfloat16"):
        given = config.model_copy(update={"precision": precision})
        state = TrainingState.begin(given, chosen)
        step = partial(_step, state, pool, settled(given, state, pool, chosen), chosen)
        step()  # compiles
        steps[precision] = step
    runs = in_turn(steps, rounds, "training", callback)
    plain = median_or_none(runs["float32"])
    return [
        _row(name, runs[name], plain) if name in runs else TrainingRow(name, why=why)
        for name in ("float32", "bfloat16")
    ]


def _step(
    state: TrainingState, pool: ImagePool, config: TrainConfig, device: torch.device
) -> float:
    start = perf_counter()
    if take_step(state, pool, config, device) is None:
        raise IPSError("The loss of the training is not finite; this should not happen.")
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start


def _row(precision: str, runs: list[float], plain: float | None) -> TrainingRow:
    typical = median_or_none(runs)
    if typical is None or plain is None:
        return TrainingRow(precision)
    return TrainingRow(precision, 1 / typical, plain / typical, tuple(runs))
