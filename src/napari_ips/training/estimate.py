"""How long a training would take, and how much memory: from a few trial steps."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from napari_ips.config import TrainConfig
from napari_ips.device import choose_device
from napari_ips.errors import Stopped
from napari_ips.training.checkpoint import Figures, TrainingState, with_start
from napari_ips.training.images import ImagePool, load_images
from napari_ips.training.loop import settled
from napari_ips.training.reading import Page
from napari_ips.training.step import take_step
from napari_ips.training.validation import split_pool, validate, validation_batches

_TRIALS = 5
_SECONDS = 10.0
_SAMPLING = 0.02
# Gradients, moments, the average, the last good state and the best weights.
_COPIES = 10


@dataclass(frozen=True)
class RunEstimate:
    """What a run is expected to take.

    Attributes
    ----------
    images : int
        Usable ones.
    iterations : int
        Steps of the run, those given or as many as its minutes allow.
    step_seconds, total_seconds : float
        For a step, and for all of them with the measurements between.
    peak_memory : int
        Bytes beyond those that the program takes already; of a CUDA GPU, its own memory.
    """

    images: int
    iterations: int
    step_seconds: float
    total_seconds: float
    peak_memory: int

    @property
    def summary(self) -> str:
        """Tell all of it in one line."""
        minutes = self.total_seconds / 60.0
        length = f"{minutes / 60.0:.1f} h" if minutes >= 90.0 else f"{minutes:.1f} min"
        return (
            f"About {length}: {self.iterations:,} steps of {self.step_seconds:.2g} s on "
            f"{self.images} image{'s' * (self.images != 1)}, with "
            f"{self.peak_memory / 1e9:.2g} GB of memory."
        )


def estimate_run(
    config: TrainConfig,
    pages: Iterable[Page] = (),
    *,
    stop: threading.Event | None = None,
) -> RunEstimate:
    """Try a few steps of a run with its own images and network; write nothing.

    Parameters
    ----------
    config : TrainConfig
    pages : iterable of Page
        Images that are in no file.
    stop : threading.Event, optional
        Set from another thread, it ends the work with `Stopped`.

    Returns
    -------
    RunEstimate

    Raises
    ------
    IPSError
        As `train` would, where images, weights, device or memory do not suffice.
    Stopped
        If `stop` was set.
    """
    stop = stop or threading.Event()
    config = with_start(config)
    device = choose_device(config.device)
    with _peak_memory(device) as peak:
        state = TrainingState.begin(config, device)
        pool = load_images(config, pages, stop=stop)
        trial = settled(config, state, pool, device)
        # Where a run is short, its learning rate would fall within the trial.
        trial = trial.model_copy(update={"iterations": 10**9, "minutes": None})
        measuring = _try_measuring(trial, state, pool, device, stop)
        needed = _needed(trial, state, pool, device)
        step = _try_steps(trial, state, pool, device, stop)
        taken = peak()
    count = _iterations(config, step)
    measurements = count // config.validation_interval + 1
    return RunEstimate(
        images=len(pool.images),
        iterations=count,
        step_seconds=step,
        total_seconds=count * step + measurements * measuring,
        # Memory that was taken and freed before is taken again without growth.
        peak_memory=taken if device.type == "cuda" else max(taken, needed),
    )


def _try_measuring(
    config: TrainConfig,
    state: TrainingState,
    pool: ImagePool,
    device: torch.device,
    stop: threading.Event,
) -> float:
    """Return the seconds that one measurement on the held-out crops takes."""
    _, held_out = split_pool(pool, config)
    batches = validation_batches(held_out, config)
    for _ in range(2):  # the first time, kernels are compiled
        if stop.is_set():
            raise Stopped
        start = time.perf_counter()
        figures = Figures(*validate(state.averaged, batches[:1], device))
        seconds = time.perf_counter() - start
    state.keep(figures)
    return seconds * len(batches)


def _needed(
    config: TrainConfig, state: TrainingState, pool: ImagePool, device: torch.device
) -> int:
    """Return the bytes of images, weights, and what a step, the first, keeps at once."""
    saved: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    training, _ = split_pool(pool, config)
    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        take_step(state, training, config, device)
    images = sum(image.data.nbytes for image in pool.images)
    weights = sum(p.nbytes for p in state.network.parameters())
    return images + sum(saved.values()) + _COPIES * weights


def _try_steps(
    config: TrainConfig,
    state: TrainingState,
    pool: ImagePool,
    device: torch.device,
    stop: threading.Event,
) -> float:
    """Return the mean seconds of a step."""
    training, _ = split_pool(pool, config)
    done, start = 0, time.perf_counter()
    while done < 1 or (done < _TRIALS and time.perf_counter() - start < _SECONDS):
        if stop.is_set():
            raise Stopped
        take_step(state, training, config, device)
        done += 1
    return (time.perf_counter() - start) / done


def _iterations(config: TrainConfig, step_seconds: float) -> int:
    """Return the steps of a run: the length given, whichever is reached first."""
    lengths = [config.iterations] if config.iterations else []
    if config.minutes:
        lengths.append(max(1, math.ceil(60.0 * config.minutes / step_seconds)))
    return min(lengths)


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Follow how many bytes more than at first are taken, at most."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        torch.cuda.empty_cache()
        return
    process, over = psutil.Process(), threading.Event()
    first = process.memory_info().rss
    seen = [first]

    def sample() -> None:
        while not over.wait(_SAMPLING):
            seen[0] = max(seen[0], process.memory_info().rss)

    thread = threading.Thread(target=sample, name="memory", daemon=True)
    thread.start()
    try:
        yield lambda: seen[0] - first
    finally:
        over.set()
        thread.join()
