"""The selective scan on the CPU: numba, threads over batch and blocks of channels.

The kernels release the interpreter lock and are shared out to plain threads. Numba's own
parallel loops would bring a second pool of OpenMP threads beside PyTorch's, and each
spins while the other works: on a busy machine that cost a factor of ten.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from napari_ips.kernels.lanes import LANES
from napari_ips.kernels.recurrence import CHUNK, backward, forward
from napari_ips.scan.common import scan_with
from napari_ips.scan.threads import share_out

_BLOCK = 2 * LANES  # the fewest channels of a task

Floats = NDArray[np.float32]
# u, delta, A / log(2), B, C
Streams = tuple[Floats, Floats, Floats, Floats, Floats]


def unavailable() -> str | None:
    """Return why this backend cannot be used, or None when it can."""
    return None


class _Task(NamedTuple):
    """Columns of a sample, and which part of all they are."""

    sample: int
    part: int
    columns: tuple[int, int]


def _tasks(batch: int, channels: int) -> list[_Task]:
    """Share out samples; and blocks of channels, where there are too few samples."""
    if batch * channels == 0:
        return []
    parts = min(-(-torch.get_num_threads() // batch), max(1, channels // _BLOCK))
    width = -(-channels // (parts * LANES)) * LANES
    return [
        _Task(sample, part, (start, min(start + width, channels)))
        for sample in range(batch)
        for part, start in enumerate(range(0, channels, width))
    ]


class _Scan(torch.autograd.Function):
    """The bare recurrence with its own backward pass, on channel-last arrays."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        u, delta, A, B, C = inputs
        streams = _streams(u, delta, A, B, C)
        batch, length, channels = streams[0].shape
        chunks = -(-length // CHUNK) if any(ctx.needs_input_grad) else 0
        saved = np.empty((batch, chunks * A.shape[1], channels), np.float32)
        y = np.empty_like(streams[0])
        tasks = _tasks(batch, channels)

        def work(number: int) -> None:
            i, _, columns = tasks[number]
            forward(*_of_sample(streams, i), columns, y[i], saved[i])

        share_out(work, len(tasks))
        ctx.save_for_backward(*inputs)
        ctx.saved_states = saved
        return _channels(y, u.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C = ctx.saved_tensors
        streams = _streams(u, delta, A, B, C)
        batch, _, channels = streams[0].shape
        tasks = _tasks(batch, channels)
        gu, gdelta = np.empty_like(streams[0]), np.empty_like(streams[1])
        ga = np.zeros((batch, *streams[2].shape), np.float32)
        parts = 1 + max((task.part for task in tasks), default=0)
        gb = np.zeros((parts, *streams[3].shape), np.float32)
        gc = np.zeros_like(gb)
        gy = _padded(grads[0])

        def work(number: int) -> None:
            i, part, columns = tasks[number]
            known = (*_of_sample(streams, i), columns, ctx.saved_states[i], gy[i])
            backward(*known, gu[i], gdelta[i], ga[i], gb[part, i], gc[part, i])

        share_out(work, len(tasks))
        d = u.shape[1]
        return (
            _channels(gu, d),
            _channels(gdelta, d),
            torch.from_numpy(ga.sum(0)).T[:d],
            _channels(gb.sum(0), B.shape[1]),
            _channels(gc.sum(0), C.shape[1]),
        )


def _of_sample(streams: Streams, sample: int) -> Streams:
    u, delta, decay, b, c = streams
    return u[sample], delta[sample], decay, b[sample], c[sample]


def _streams(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Streams:
    """Arrange the inputs for the kernels."""
    decay = _array(_whole(A.T / math.log(2)))
    return _padded(u), _padded(delta), decay, _tokens(B), _tokens(C)


def _whole(tensor: Tensor) -> Tensor:
    """Pad the last axis with zeros to whole vectors."""
    missing = -tensor.shape[-1] % LANES
    return F.pad(tensor, (0, missing)) if missing else tensor


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().contiguous().numpy()
    return array


def _tokens(tensor: Tensor) -> Floats:
    """(batch, channels, L) as a contiguous (batch, L, channels) array."""
    return _array(tensor.transpose(1, 2))


def _padded(tensor: Tensor) -> Floats:
    """Arrange a stream as `_tokens` does, in whole vectors."""
    return _array(_whole(tensor.transpose(1, 2)))


def _channels(tokens: Floats, channels: int) -> Tensor:
    """(batch, L, channels and more) as (batch, channels, L)."""
    return torch.from_numpy(tokens).transpose(1, 2)[:, :channels]


def recurrence(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Compute Eq. (6) without the D term, in float32, on the CPU."""
    y: Tensor = _Scan.apply(u, delta, A, B, C)  # type: ignore[no-untyped-call]
    return y


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan in float32; see `napari_ips.scan.selective_scan`."""
    return scan_with(
        recurrence, u, delta, A, B, C, D, z, delta_bias, delta_softplus, torch.float32
    )
