"""How sequences are arranged for the kernels of the CPU, and shared out to threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_ips.kernels.lanes import LANES
from napari_ips.kernels.recurrence import CHUNK
from napari_ips.scan.threads import share_out

_BLOCK = 2 * LANES  # the fewest channels of a task

Floats = NDArray[np.float32]


Columns = tuple[int, int]


class _Task(NamedTuple):
    """Columns of a sample, and which part of all they are."""

    sample: int
    columns: Columns
    part: int


def for_columns(tokens: Floats, work: Callable[[int, Columns, int], None]) -> None:
    """Do ``work`` for all columns (batch, L, d) of every sample, on several threads.

    It is told the sample, its columns, and which of `parts_of` they are.
    """
    tasks = _tasks(tokens)
    share_out(lambda number: work(*tasks[number]), len(tasks))


def parts_of(tokens: Floats) -> int:
    """Return into how many parts the columns are shared out."""
    return 1 + max((task.part for task in _tasks(tokens)), default=0)


def _tasks(tokens: Floats) -> list[_Task]:
    """Share out samples; and blocks of channels, where there are too few samples."""
    batch, _, channels = tokens.shape
    if batch * channels == 0:
        return []
    parts = min(-(-torch.get_num_threads() // batch), max(1, channels // _BLOCK))
    width = -(-channels // (parts * LANES)) * LANES
    return [
        _Task(sample, (start, min(start + width, channels)), part)
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


def unpadded(values: Floats, channels: int) -> Tensor:
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
