"""How long training from scratch takes until pairs are fused well enough."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from napari_ips.config import FuseConfig, TrainConfig
from napari_ips.device import choose_device
from napari_ips.errors import IPSError
from napari_ips.evaluation.datasets import PairSample, find_samples
from napari_ips.evaluation.metrics import psnr, value_range
from napari_ips.evaluation.scenes import Scene, load
from napari_ips.events import Progress, ProgressCallback
from napari_ips.fusion import fuse_pair
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.training.checkpoint import TrainingState
from napari_ips.training.images import load_images
from napari_ips.training.loop import settled
from napari_ips.training.step import take_step
from napari_ips.weights import save_weights

PAIRS = 12
INTERVAL = 30.0


@dataclass(frozen=True)
class Measurement:
    """Mean PSNR (dB) of the pairs after so many seconds and steps of training."""

    seconds: float
    iteration: int
    psnr: float


@dataclass(frozen=True)
class GoalRow:
    """A training from scratch.

    Attributes
    ----------
    goal : float
        PSNR in dB that was aimed at.
    longest : float
        Minutes after which it was given up.
    seconds : float or None
        Of training until then, without the time of measuring; None if it was given up.
    pairs : int
        So many were fused.
    measurements : tuple of Measurement
    """

    goal: float
    longest: float
    seconds: float | None
    pairs: int
    measurements: tuple[Measurement, ...]


def find_pairs(folder: Path, count: int = PAIRS) -> list[Scene]:
    """Read the first pairs of a folder that have a truth.

    Raises
    ------
    IPSError
        If there are none.
    """
    samples = [
        sample
        for sample in find_samples(folder)
        if isinstance(sample, PairSample) and sample.truth is not None
    ]
    if not samples:
        raise IPSError(f"--pairs {folder}: there are no pairs (A, B) with a truth (GT).")
    return [load(sample) for sample in samples[:count]]


def train_to_goal(
    config: TrainConfig,
    pairs: Sequence[Scene],
    goal: float,
    *,
    interval: float = INTERVAL,
    callback: ProgressCallback | None = None,
) -> GoalRow:
    """Train until the mean PSNR of the fused pairs reaches a goal.

    The PSNR is of all colours and the full frame, in the soft mode of the default
    quality, by the averaged weights. Nothing is kept of the training.

    Parameters
    ----------
    config : TrainConfig
        Its ``minutes`` are when the training is given up.
    pairs : sequence of Scene
        Each with its truth.
    goal : float
        In dB.
    interval : float
        Seconds of training between two measurements.
    callback : callable, optional
        Called with `Progress` in seconds of training.

    Raises
    ------
    IPSError
        If no image is usable, the loss is not finite, or memory does not suffice.
    """
    device, minutes = choose_device(config.device), config.minutes
    if minutes is None:
        raise ValueError("the settings need a length in minutes")
    pool = load_images(config)
    state = TrainingState.begin(config, device)
    config = settled(config, state, pool, device)
    found: list[Measurement] = []
    longest, due, reached = 60.0 * minutes, interval, None
    while reached is None and state.seconds < longest:
        if take_step(state, pool, config, device) is None:
            raise IPSError("The loss of the training is no longer finite; it was given up.")
        if callback is not None:
            callback(Progress("training to the goal", int(state.seconds), int(longest)))
        if state.seconds < min(due, longest):
            continue
        due = state.seconds + interval
        quality = _mean_psnr(state.averaged, pairs, config.device)
        found.append(Measurement(state.seconds, state.iteration, quality))
        reached = state.seconds if quality >= goal else None
    return GoalRow(goal, minutes, reached, len(pairs), tuple(found))


def _mean_psnr(
    network: CrossImageFusionNetwork, pairs: Sequence[Scene], device: str
) -> float:
    with tempfile.TemporaryDirectory(prefix="napari-ips-") as folder:
        path = Path(folder) / "trained.safetensors"
        save_weights(path, network, {})
        config = FuseConfig(weights=str(path), mode="soft", device=device)
        return fmean(_psnr(scene, config) for scene in pairs)


def _psnr(scene: Scene, config: FuseConfig) -> float:
    assert scene.truth is not None
    fused = fuse_pair(*scene.slices, rgb=scene.rgb, config=config).fused
    return psnr(fused, scene.truth, value_range(scene.truth))
