"""How sequences are arranged for the kernels of the CPU, and shared out to threads."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_ips.kernels.lanes import LANES
from napari_ips.kernels.recurrence import CHUNK

_BLOCK = 2 * LANES  # the fewest channels of a task

Floats = NDArray[np.float32]


class Task(NamedTuple):
    """Columns of a sample, and which part of all they are."""

    sample: int
    part: int
    columns: tuple[int, int]


def tasks_of(batch: int, channels: int) -> list[Task]:
    """Share out samples; and blocks of channels, where there are too few samples."""
    if batch * channels == 0:
        return []
    parts = min(-(-torch.get_num_threads() // batch), max(1, channels // _BLOCK))
    width = -(-channels // (parts * LANES)) * LANES
    return [
        Task(sample, part, (start, min(start + width, channels)))
        for sample in range(batch)
        for part, start in enumerate(range(0, channels, width))
    ]


def whole(tensor: Tensor, unit: int = LANES) -> Floats:
    """Pad the last axis with zeros to a multiple of ``unit``: to whole vectors."""
    missing = -tensor.shape[-1] % unit
    return array(F.pad(tensor, (0, missing)) if missing else tensor)


def paired(tensor: Tensor) -> Floats:
    """Pad the last axis, the states, to an even number."""
    return whole(tensor, 2)


def array(tensor: Tensor) -> Floats:
    """Return a contiguous array of float32, without a copy where it is one."""
    values: Floats = tensor.detach().float().contiguous().numpy()
    return values


def tensor(values: Floats, channels: int) -> Tensor:
    """Return an array without what `whole` or `paired` added to it."""
    return torch.from_numpy(values)[..., :channels]


def decay_of(rates: Tensor) -> Floats:
    """Arrange the decay rates A (d, n) as (n, d), for powers of 2; n padded to be even."""
    even = F.pad(rates, (0, rates.shape[1] % 2))
    return whole(even.T / math.log(2))


def room_for_states(batch: int, length: int, states: int, channels: int) -> Floats:
    """Make room for what the forward pass keeps of so many tokens."""
    chunks = -(-length // CHUNK)
    return np.empty((batch, chunks * states, channels), np.float32)
