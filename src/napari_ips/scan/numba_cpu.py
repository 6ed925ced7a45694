"""The selective scan on the CPU: numba, threads over batch and blocks of channels.

The kernels release the interpreter lock and are shared out to plain threads. Numba's own
parallel loops would bring a second pool of OpenMP threads beside PyTorch's, and each
spins while the other works: on a busy machine that cost a factor of ten.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from napari_ips.kernels.recurrence import backward, forward
from napari_ips.scan.common import scan_with
from napari_ips.scan.streams import (
    Columns,
    Floats,
    decay_of,
    for_columns,
    paired,
    parts_of,
    room_for_states,
    unpadded,
    whole,
)

# u, delta, A / log(2), B, C
Streams = tuple[Floats, Floats, Floats, Floats, Floats]


def unavailable() -> str | None:
    """Return why this backend cannot be used, or None when it can."""
    return None


class _Scan(torch.autograd.Function):
    """The bare recurrence with its own backward pass, on channel-last arrays."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        u, delta, A, B, C = inputs
        streams = _streams(u, delta, A, B, C)
        batch, length, channels = streams[0].shape
        kept = length if any(ctx.needs_input_grad) else 0
        saved = room_for_states(batch, kept, len(streams[2]), channels)
        y = np.empty_like(streams[0])

        def work(i: int, columns: Columns, _: int) -> None:
            forward(*_of_sample(streams, i), columns, y[i], saved[i])

        for_columns(y, work)
        ctx.save_for_backward(*inputs)
        ctx.saved_states = saved
        return _channels(y, u.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C = ctx.saved_tensors
        streams = _streams(u, delta, A, B, C)
        gu, gdelta = np.zeros_like(streams[0]), np.empty_like(streams[1])
        ga = np.zeros((len(gu), *streams[2].shape), np.float32)
        gb = np.zeros((parts_of(gu), *streams[3].shape), np.float32)
        gc = np.zeros_like(gb)
        gy = _padded(grads[0])

        def work(i: int, columns: Columns, part: int) -> None:
            known = (*_of_sample(streams, i), columns, ctx.saved_states[i], gy[i])
            backward(*known, gu[i], gdelta[i], ga[i], gb[part, i], gc[part, i])

        for_columns(gu, work)
        d = u.shape[1]
        return (
            _channels(gu, d),
            _channels(gdelta, d),
            unpadded(ga.sum(0), d).T[:, : A.shape[1]],
            _channels(gb.sum(0), B.shape[1]),
            _channels(gc.sum(0), C.shape[1]),
        )


def _of_sample(streams: Streams, sample: int) -> Streams:
    u, delta, decay, b, c = streams
    return u[sample], delta[sample], decay, b[sample], c[sample]


def _streams(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Streams:
    """Arrange the inputs for the kernels."""
    b, c = paired(B.transpose(1, 2)), paired(C.transpose(1, 2))
    return _padded(u), _padded(delta), decay_of(A), b, c


def _padded(stream: Tensor) -> Floats:
    return whole(stream.transpose(1, 2))


def _channels(tokens: Floats, channels: int) -> Tensor:
    """(batch, L, channels and more) as (batch, channels, L)."""
    return unpadded(tokens, channels).transpose(1, 2)


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
