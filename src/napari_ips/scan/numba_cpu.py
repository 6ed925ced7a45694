"""The selective scan on the CPU: numba, threads over batch and blocks of channels.

The state is laid out (d_state, channels), so that SIMD lanes run along the channels of
a token, and every lane of a block stays in the first-level cache. The backward pass
recomputes the states from one that is saved every `_CHECKPOINT` tokens.

The kernels release the interpreter lock and are shared out to plain threads. Numba's own
parallel loops would bring a second pool of OpenMP threads beside PyTorch's, and each
spins while the other works: on a busy machine that cost a factor of ten.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba as nb
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from napari_ips.scan.common import scan_with

_CHECKPOINT = 32
_BLOCK = 32  # channels per task; with 16 the sums over channels cost twice as much

_LOG2E = np.float32(1.4426950408889634)
# Minimax polynomial of 2**f on [-0.5, 0.5] (Cephes exp2f); error below 1e-7.
_P1 = np.float32(6.931472028550421e-1)
_P2 = np.float32(2.402264791363012e-1)
_P3 = np.float32(5.550332471162809e-2)
_P4 = np.float32(9.618437357674640e-3)
_P5 = np.float32(1.339887440266574e-3)
_P6 = np.float32(1.535336188319500e-4)


def unavailable() -> str | None:
    """Return why this backend cannot be used, or None when it can."""
    return None


@nb.njit(inline="always", fastmath=True)
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) in float32 from additions and products only, so that it vectorises."""
    t = min(max(x * _LOG2E, np.float32(-126.0)), np.float32(126.0))
    n = np.floor(t + np.float32(0.5))
    f = t - n
    p = _P6 * f + _P5
    p = p * f + _P4
    p = p * f + _P3
    p = p * f + _P2
    p = p * f + _P1
    p = p * f + np.float32(1.0)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@nb.njit(nogil=True, fastmath=True, cache=True)
def _forward(task, u, delta, a, b, c, y, saved):  # type: ignore[no-untyped-def]
    """Fill y (batch, L, d) and, every _CHECKPOINT tokens, the state before it, in saved."""
    _, length, channels = u.shape
    n_state = a.shape[0]
    blocks = (channels + _BLOCK - 1) // _BLOCK
    i = task // blocks
    first = (task % blocks) * _BLOCK
    width = min(_BLOCK, channels - first)
    state = np.zeros((n_state, _BLOCK), np.float32)
    decay = np.zeros((n_state, _BLOCK), np.float32)
    step = np.zeros(_BLOCK, np.float32)
    drive = np.zeros(_BLOCK, np.float32)
    total = np.zeros(_BLOCK, np.float32)
    for n in range(n_state):
        for k in range(width):
            decay[n, k] = a[n, first + k]
    for t in range(length):
        if saved.shape[0] > 0 and t % _CHECKPOINT == 0:
            saved[task, t // _CHECKPOINT] = state
        for k in range(width):
            step[k] = delta[i, t, first + k]
            drive[k] = step[k] * u[i, t, first + k]
            total[k] = np.float32(0.0)
        for n in range(n_state):
            bn = b[i, t, n]
            cn = c[i, t, n]
            for k in range(_BLOCK):
                s = _exp(step[k] * decay[n, k]) * state[n, k] + drive[k] * bn
                state[n, k] = s
                total[k] += s * cn
        for k in range(width):
            y[i, t, first + k] = total[k]


@nb.njit(nogil=True, fastmath=True, cache=True)
def _backward(task, u, delta, a, b, c, saved, gy, gu, gdelta, ga, gb, gc):  # type: ignore[no-untyped-def]
    """Fill the gradients; ga, gb and gc hold partial sums, to be added up after."""
    _, length, channels = u.shape
    n_state = a.shape[0]
    blocks = (channels + _BLOCK - 1) // _BLOCK
    i = task // blocks
    first = (task % blocks) * _BLOCK
    width = min(_BLOCK, channels - first)
    decay = np.zeros((n_state, _BLOCK), np.float32)
    for n in range(n_state):
        for k in range(width):
            decay[n, k] = a[n, first + k]
    states = np.zeros((_CHECKPOINT + 1, n_state, _BLOCK), np.float32)
    factors = np.zeros((_CHECKPOINT, n_state, _BLOCK), np.float32)
    gstate = np.zeros((n_state, _BLOCK), np.float32)
    gdecay = np.zeros((n_state, _BLOCK), np.float32)
    step = np.zeros((_CHECKPOINT, _BLOCK), np.float32)
    value = np.zeros((_CHECKPOINT, _BLOCK), np.float32)
    gout = np.zeros(_BLOCK, np.float32)
    gstep = np.zeros(_BLOCK, np.float32)
    gdrive = np.zeros(_BLOCK, np.float32)
    for chunk in range(saved.shape[1] - 1, -1, -1):
        start = chunk * _CHECKPOINT
        count = min(_CHECKPOINT, length - start)
        states[0] = saved[task, chunk]
        for j in range(count):
            t = start + j
            for k in range(width):
                step[j, k] = delta[i, t, first + k]
                value[j, k] = u[i, t, first + k]
            for n in range(n_state):
                bn = b[i, t, n]
                for k in range(_BLOCK):
                    factor = _exp(step[j, k] * decay[n, k])
                    factors[j, n, k] = factor
                    states[j + 1, n, k] = (
                        factor * states[j, n, k] + step[j, k] * value[j, k] * bn
                    )
        for j in range(count - 1, -1, -1):
            t = start + j
            for k in range(width):
                gout[k] = gy[i, t, first + k]
            for k in range(_BLOCK):
                gstep[k] = np.float32(0.0)
                gdrive[k] = np.float32(0.0)
            for n in range(n_state):
                bn = b[i, t, n]
                cn = c[i, t, n]
                gbn = np.float32(0.0)
                gcn = np.float32(0.0)
                for k in range(_BLOCK):
                    gs = gstate[n, k] + gout[k] * cn
                    gcn += gout[k] * states[j + 1, n, k]
                    gbn += gs * step[j, k] * value[j, k]
                    gdrive[k] += gs * bn
                    gexp = gs * states[j, n, k] * factors[j, n, k]
                    gstep[k] += gexp * decay[n, k]
                    gdecay[n, k] += gexp * step[j, k]
                    gstate[n, k] = gs * factors[j, n, k]
                gb[task % blocks, i, t, n] = gbn
                gc[task % blocks, i, t, n] = gcn
            for k in range(width):
                gu[i, t, first + k] = gdrive[k] * step[j, k]
                gdelta[i, t, first + k] = gstep[k] + gdrive[k] * value[j, k]
    for n in range(n_state):
        for k in range(width):
            ga[i, n, first + k] = gdecay[n, k]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="selective-scan")


def share_out(work: Callable[[int], None], tasks: int) -> None:
    """Do ``work`` for every task, on as many threads as PyTorch is set to use."""
    workers = min(tasks, torch.get_num_threads())
    if workers == 1:
        _work_off(work, range(tasks))
        return
    shares = [range(k, tasks, workers) for k in range(workers)]
    futures = [_threads().submit(_work_off, work, share) for share in shares]
    for future in futures:
        future.result()


def _work_off(work: Callable[[int], None], tasks: range) -> None:
    for task in tasks:
        work(task)


class _Scan(torch.autograd.Function):
    """The bare recurrence with its own backward pass, on channel-last arrays."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        u, delta, A, B, C = inputs
        arrays = [_tokens(u), _tokens(delta), _array(A.T), _tokens(B), _tokens(C)]
        batch, length, channels = arrays[0].shape
        tasks = batch * -(-channels // _BLOCK)
        keep = tasks if any(ctx.needs_input_grad) else 0
        saved = np.empty((keep, -(-length // _CHECKPOINT), A.shape[1], _BLOCK), np.float32)
        y = np.empty((batch, length, channels), np.float32)
        share_out(lambda task: _forward(task, *arrays, y, saved), tasks)
        ctx.save_for_backward(*inputs)
        ctx.saved_states = saved
        return torch.from_numpy(y).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C = ctx.saved_tensors
        arrays = [_tokens(u), _tokens(delta), _array(A.T), _tokens(B), _tokens(C)]
        batch, length, channels = arrays[0].shape
        blocks = -(-channels // _BLOCK)
        gu, gdelta = np.empty_like(arrays[0]), np.empty_like(arrays[1])
        ga = np.empty((batch, A.shape[1], channels), np.float32)
        gb = np.empty((blocks, *arrays[3].shape), np.float32)
        gc = np.empty_like(gb)
        gy = _tokens(grads[0])
        inputs = (*arrays, ctx.saved_states, gy)
        outputs = (gu, gdelta, ga, gb, gc)
        share_out(lambda task: _backward(task, *inputs, *outputs), batch * blocks)
        return (
            torch.from_numpy(gu).transpose(1, 2),
            torch.from_numpy(gdelta).transpose(1, 2),
            torch.from_numpy(ga.sum(0)).T,
            torch.from_numpy(gb.sum(0)).transpose(1, 2),
            torch.from_numpy(gc.sum(0)).transpose(1, 2),
        )


def _array(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    array: np.ndarray[Any, np.dtype[np.float32]] = tensor.detach().contiguous().numpy()
    return array


def _tokens(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(batch, channels, L) as a contiguous (batch, L, channels) array."""
    return _array(tensor.transpose(1, 2))


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
