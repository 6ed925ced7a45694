"""Typed events that long work reports while it runs.

Fusion calls back with them, training yields them; the command line, the widgets and
the tests all watch the same objects. Work stops between two events: a callback that
raises, or a training generator that is closed, ends it cleanly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The run had its length, was asked to end, or could not go on.
Reason = Literal["length", "asked", "diverged"]


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` steps of the work called ``task`` are finished."""

    task: str
    done: int
    total: int


@dataclass(frozen=True)
class Begun(Progress):
    """Tiles are about to be fused, ``done`` of them were so before.

    ``arrays`` are those in which the results come to be, by name: "fused" and the maps
    that are wanted, numpy or zarr, (T, C, Y, X[, colours]); zero where no tile is done.
    """

    arrays: Mapping[str, Any]


@dataclass(frozen=True)
class TileDone(Progress):
    """A tile of the fused image, at time ``t``, is finished.

    ``c`` is the channel that was decided on; ``y`` and ``x`` are the tile in pixels.
    """

    t: int
    c: int
    y: slice
    x: slice


@dataclass(frozen=True)
class ImagesFound:
    """What training found: usable images, and (path, reason) of those left out."""

    accepted: int
    rejected: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LossPoint:
    """One training step: its loss, learning rate, and the fraction of the run done."""

    iteration: int
    loss: float
    learning_rate: float
    fraction: float


@dataclass(frozen=True)
class ValidationPoint:
    """Mean PSNR (dB) and SSIM on the held-out crops after ``iteration`` steps.

    The first one, at the start, is of the weights that the run starts from.
    """

    iteration: int
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Preview:
    """A held-out crop as the network sees and fuses it after ``iteration`` steps.

    The arrays are float32 (channels, H, W), in units of the range of the image:
    the two shuffled sources, the fused image, and what it should be.
    """

    iteration: int
    source1: NDArray[np.float32]
    source2: NDArray[np.float32]
    fused: NDArray[np.float32]
    target: NDArray[np.float32]


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint from which training can go on was written to ``path``."""

    iteration: int
    path: Path


@dataclass(frozen=True)
class CheckpointFailed:
    """No checkpoint could be written, for the reason given; training goes on."""

    iteration: int
    reason: str


@dataclass(frozen=True)
class RolledBack:
    """The loss was no longer finite: back to ``iteration``, at a lower learning rate."""

    iteration: int
    learning_rate: float


@dataclass(frozen=True)
class TrainingFinished:
    """Training ended; the best weights are at ``path``.

    ``iteration`` is that of these weights, ``psnr_before`` that of those the run started
    from, on the same crops. ``reason``: the run had its length, it was asked to end, or
    the loss was not finite at a lower learning rate either.
    """

    iteration: int
    path: Path
    psnr: float
    ssim: float
    psnr_before: float
    reason: Reason = "length"


TrainingEvent = (
    ImagesFound
    | LossPoint
    | ValidationPoint
    | Preview
    | CheckpointSaved
    | CheckpointFailed
    | RolledBack
    | TrainingFinished
)
ProgressCallback = Callable[[Progress], None]
