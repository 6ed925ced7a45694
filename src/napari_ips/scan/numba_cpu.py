"""The selective scan on the CPU: numba, threads over batch and blocks of channels.

Vectors run along the channels of a token. The state of a vector of channels stays in a
register for `_CHUNK` tokens. The backward pass recomputes the states of a chunk from one
that the forward pass saved.

The kernels release the interpreter lock and are shared out to plain threads. Numba's own
parallel loops would bring a second pool of OpenMP threads beside PyTorch's, and each
spins while the other works: on a busy machine that cost a factor of ten.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from napari_ips.scan.common import scan_with
from napari_ips.scan.lanes import (
    LANES,
    exp2,
    inner,
    load,
    multiply,
    multiply_add,
    splat,
    store,
    total,
)
from napari_ips.scan.threads import share_out

_CHUNK = 32
_BLOCK = (
    2 * LANES
)  # the fewest channels of a task, where there are more threads than samples

_LN2 = np.float32(math.log(2))

Floats = NDArray[np.float32]
# u, delta, A / log(2), B, C
Streams = tuple[Floats, Floats, Floats, Floats, Floats]


def unavailable() -> str | None:
    """Return why this backend cannot be used, or None when it can."""
    return None


@inner
def _add(array, row, column, a, b):
    store(array, row, column, multiply_add(a, b, load(array, row, column)))


@inner
def _drive(u, delta, start, count, column, drive, k):
    """Put the products of inputs and step sizes of a chunk to ``drive``."""
    for t in range(count):
        product = multiply(load(u, start + t, column), load(delta, start + t, column))
        store(drive, t, k, product)


@inner
def _clear(array, count):
    for t in range(count):
        for k in range(array.shape[1]):
            array[t, k] = np.float32(0.0)


@nb.njit(nogil=True, cache=True)
def _forward(u, delta, decay, b, c, columns, y, saved):
    """Fill columns of y (L, d) and, if there is room, the states before every chunk."""
    length, states = u.shape[0], decay.shape[0]
    drive = np.zeros((_CHUNK, LANES), np.float32)
    state = np.zeros((states, LANES), np.float32)
    keep = saved.shape[0] > 0
    nothing = np.intp(0)
    for k in range(columns[0], columns[1], LANES):
        _clear(state, states)
        for start in range(0, length, _CHUNK):
            count = min(_CHUNK, length - start)
            _drive(u, delta, start, count, k, drive, nothing)
            for t in range(count):
                store(y, start + t, k, splat(np.float32(0.0)))
            for n in range(states):
                rate, s = load(decay, n, k), load(state, n, nothing)
                if keep:
                    store(saved, start // _CHUNK * states + n, k, s)
                for t in range(count):
                    kept = exp2(multiply(load(delta, start + t, k), rate))
                    new = multiply(load(drive, t, nothing), splat(b[start + t, n]))
                    s = multiply_add(s, kept, new)
                    out = multiply_add(s, splat(c[start + t, n]), load(y, start + t, k))
                    store(y, start + t, k, out)
                store(state, n, nothing, s)


@inner
def _recompute(delta, rate, b, start, count, n, column, drive, k, factors, states):
    """Fill in the states of a chunk, of which the first is known, and their factors."""
    s = load(states, 0, 0)
    for t in range(count):
        factor = exp2(multiply(load(delta, start + t, column), rate))
        store(factors, t, 0, factor)
        new = multiply(load(drive, t, k), splat(b[start + t, n]))
        s = multiply_add(s, factor, new)
        store(states, t + 1, 0, s)


@nb.njit(nogil=True, cache=True)
def _backward(u, delta, decay, b, c, columns, saved, gy, gu, gdelta, ga, gb, gc):
    """Fill columns of the gradients; gb and gc (L, n) hold the sums over these columns.

    ``decay`` is A / log(2), since the factors are powers of 2; ``ga`` starts as zeros.
    """
    length, number = u.shape[0], decay.shape[0]
    first, width = columns[0], columns[1] - columns[0]
    nothing = np.intp(0)
    states = np.zeros((_CHUNK + 1, LANES), np.float32)
    factors = np.zeros((_CHUNK, LANES), np.float32)
    sums_b = np.zeros((_CHUNK, LANES), np.float32)
    sums_c = np.zeros((_CHUNK, LANES), np.float32)
    drive = np.zeros((_CHUNK, width), np.float32)
    gdrive = np.zeros((_CHUNK, width), np.float32)
    gstep = np.zeros((_CHUNK, width), np.float32)
    gstate = np.zeros((number, width), np.float32)
    for chunk in range((length - 1) // _CHUNK, -1, -1):
        start = chunk * _CHUNK
        count = min(_CHUNK, length - start)
        for k in range(0, width, LANES):
            _drive(u, delta, start, count, first + k, drive, k)
        _clear(gdrive, count)
        _clear(gstep, count)
        for n in range(number):
            _clear(sums_b, count)
            _clear(sums_c, count)
            for k in range(0, width, LANES):
                at = first + k
                rate = load(decay, n, at)
                store(states, nothing, nothing, load(saved, chunk * number + n, at))
                _recompute(delta, rate, b, start, count, n, at, drive, k, factors, states)
                gs, gd = load(gstate, n, k), load(ga, n, at)
                for back in range(count):
                    t = count - 1 - back
                    out = load(gy, start + t, at)
                    gs = multiply_add(out, splat(c[start + t, n]), gs)
                    after = load(states, t + 1, nothing)
                    _add(sums_c, t, nothing, out, after)
                    _add(sums_b, t, nothing, gs, load(drive, t, k))
                    _add(gdrive, t, k, gs, splat(b[start + t, n]))
                    gs = multiply(gs, load(factors, t, nothing))
                    gpower = multiply(gs, load(states, t, nothing))
                    _add(gstep, t, k, gpower, rate)
                    gd = multiply_add(gpower, load(delta, start + t, at), gd)
                store(gstate, n, k, gs)
                store(ga, n, at, gd)
            for t in range(count):
                gb[start + t, n] = total(load(sums_b, t, nothing))
                gc[start + t, n] = total(load(sums_c, t, nothing))
        for k in range(0, width, LANES):
            at = first + k
            for t in range(count):
                gd = load(gdrive, t, k)
                store(gu, start + t, at, multiply(gd, load(delta, start + t, at)))
                by_power = multiply(load(gstep, t, k), splat(_LN2))
                by_drive = multiply_add(gd, load(u, start + t, at), by_power)
                store(gdelta, start + t, at, by_drive)


class _Task(NamedTuple):
    """Columns of a sample, and which part of all they are."""

    sample: int
    part: int
    columns: tuple[int, int]


def _tasks(batch: int, channels: int) -> list[_Task]:
    """Share out samples; and blocks of channels, where there are too few samples."""
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
        chunks = -(-length // _CHUNK) if any(ctx.needs_input_grad) else 0
        saved = np.empty((batch, chunks * A.shape[1], channels), np.float32)
        y = np.empty_like(streams[0])

        tasks = _tasks(batch, channels)

        def work(number: int) -> None:
            i, _, columns = tasks[number]
            _forward(*_of_sample(streams, i), columns, y[i], saved[i])

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
        gb = np.empty((len(tasks) // batch, *streams[3].shape), np.float32)
        gc = np.empty_like(gb)
        gy = _padded(grads[0])

        def work(number: int) -> None:
            i, part, columns = tasks[number]
            known = (*_of_sample(streams, i), columns, ctx.saved_states[i], gy[i])
            _backward(*known, gu[i], gdelta[i], ga[i], gb[part, i], gc[part, i])

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
    return F.pad(tensor.detach(), (0, -tensor.shape[-1] % LANES))


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
