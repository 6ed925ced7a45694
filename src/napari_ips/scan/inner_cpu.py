"""A Mamba layer between its two outer projections, with its gradients, on the CPU.

What `mamba_ssm` calls the inner function: convolution, projection to step sizes, B and C,
scan and gate as one step for PyTorch's gradients. It is for training; `fused_cpu` infers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from napari_ips import ahead
from napari_ips.kernels import elementwise as kernels
from napari_ips.kernels import recurrence
from napari_ips.scan.streams import (
    Columns,
    Floats,
    array,
    decay_of,
    for_columns,
    paired,
    parts_of,
    room_for_states,
    unpadded,
    whole,
)


def mamba_inner(
    xz: Tensor,
    conv1d: tuple[Tensor, Tensor],
    x_proj: Tensor,
    dt_proj: tuple[Tensor, Tensor],
    A: Tensor,
    D: Tensor,
) -> Tensor:
    """Return what a Mamba layer makes of its projected tokens, before the last projection.

    Parameters
    ----------
    xz : Tensor on the CPU, shape (batch, L, 2 d)
        Inputs of the convolution, and of the gate.
    conv1d, dt_proj : (Tensor, Tensor)
        Weight and bias, as in torch.
    x_proj : Tensor, shape (dt_rank + 2 n, d)
        To step sizes, B and C.
    A : Tensor, shape (d, n)
        Decay rates, negative.
    D : Tensor, shape (d,)
        Weight of the direct path.

    Returns
    -------
    Tensor of float32, shape (batch, L, d)
    """
    ahead.wait_for_it()
    taps = torch.cat([conv1d[0][:, 0].T, conv1d[1][None]])
    step = torch.cat([dt_proj[0].T, dt_proj[1][None]])
    out: Tensor = _Inner.apply(xz, taps, x_proj, step, A, D)  # type: ignore[no-untyped-call]
    return out


class _Weights(NamedTuple):
    """As the kernels take them: d padded to whole vectors (e), n to an even number (m)."""

    taps: Floats  # (taps + 1, e): and the bias
    step: Floats  # (dt_rank + 1, e): and the bias
    decay: Floats  # (m, e): A / log(2)
    skip: Floats  # (1, e): D


class _Streams(NamedTuple):
    """What is kept of every token; the rest is sooner computed anew than read again."""

    xz: Floats  # (batch, L, 2 e)
    low: Floats  # (batch, L, dt_rank): what step sizes are made of
    b: Floats  # (batch, L, m)
    c: Floats  # (batch, L, m)
    y: Floats  # (batch, L, e): scanned, before the direct path and the gate
    states: Floats  # kept for the backward pass


class _Gradients(NamedTuple):
    """Of the streams; and of the weights, for every sample.

    Those of ``low``, ``b`` and ``c`` are sums over the columns of a task: first comes the
    part of the columns.
    """

    xz: Floats
    u: Floats
    low: Floats
    b: Floats
    c: Floats
    taps: Floats
    step: Floats
    decay: Floats
    skip: Floats


class _Inner(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, xz: Tensor, *parameters: Tensor) -> Tensor:
        taps, x_proj, step, A, D = parameters
        weights = _Weights(whole(taps), whole(step), decay_of(A), whole(D[None]))
        halves = _halves(xz)
        u = _convolve(halves, weights)
        x = unpadded(u, len(D)) @ x_proj.T
        low, b, c = torch.split(x, [len(step) - 1, A.shape[1], A.shape[1]], dim=-1)
        new = np.empty_like(u), room_for_states(*u.shape[:2], *weights.decay.shape)
        streams = _Streams(halves, array(low), paired(b), paired(c), *new)
        out = _scan(u, streams, weights)
        ctx.save_for_backward(x_proj)
        ctx.streams, ctx.weights, ctx.n = streams, weights, A.shape[1]
        return unpadded(out, len(D))

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(  # type: ignore[override]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, ...]:
        (gout,), (x_proj,) = grads, ctx.saved_tensors
        streams, weights, n, d = ctx.streams, ctx.weights, ctx.n, gout.shape[-1]
        u, of = _convolve(streams.xz, weights), _room(streams, weights)
        _scan_backward(u, streams, weights, whole(gout), of)
        sums = (of.low.sum(0), of.b.sum(0)[..., :n], of.c.sum(0)[..., :n])
        gx = torch.from_numpy(np.concatenate(sums, axis=-1)).flatten(0, 1)
        torch.from_numpy(of.u).flatten(0, 1)[:, :d].addmm_(gx, x_proj)
        _convolve_backward(streams, weights, of)
        return (
            _joined(of.xz, d),
            unpadded(of.taps.sum(0), d),
            gx.T @ unpadded(u, d).flatten(0, 1),
            unpadded(of.step.sum(0), d),
            unpadded(of.decay.sum(0), d).T[:, :n],
            unpadded(of.skip.sum((0, 1)), d),
        )


def _convolve(xz: Floats, weights: _Weights) -> Floats:
    out = np.empty((*xz.shape[:2], weights.skip.shape[1]), np.float32)

    def work(i: int, columns: Columns, _: int) -> None:
        kernels.convolve(xz[i], weights.taps, columns, out[i])

    for_columns(out, work)
    return out


def _scan(u: Floats, streams: _Streams, weights: _Weights) -> Floats:
    """Fill in y and states; return what leaves the gate."""
    out = np.empty_like(u)

    def work(i: int, columns: Columns, _: int) -> None:
        xz, low, b, c, y, states = (stream[i] for stream in streams)
        delta = np.empty_like(y)
        kernels.step_sizes(low, weights.step, columns, delta)
        recurrence.forward(u[i], delta, weights.decay, b, c, columns, y, states)
        kernels.gate(y, u[i], weights.skip, xz, columns, out[i])

    for_columns(out, work)
    return out


def _scan_backward(
    u: Floats, streams: _Streams, weights: _Weights, gout: Floats, of: _Gradients
) -> None:
    """Fill in all gradients but what comes through projection and convolution."""

    def work(i: int, columns: Columns, part: int) -> None:
        xz, low, b, c, y, states = (stream[i] for stream in streams)
        delta, gdelta, gy = (np.empty_like(y) for _ in range(3))
        kernels.step_sizes(low, weights.step, columns, delta)
        gated = (y, u[i], weights.skip, xz, columns, gout[i])
        kernels.gate_backward(*gated, gy, of.u[i], of.skip[i], of.xz[i])
        scanned = (u[i], delta, weights.decay, b, c, columns, states, gy)
        sums = (of.decay[i], of.b[part, i], of.c[part, i])
        recurrence.backward(*scanned, of.u[i], gdelta, *sums)
        stepped = (low, weights.step, columns, gdelta)
        kernels.step_sizes_backward(*stepped, of.low[part, i], of.step[i])

    for_columns(gout, work)


def _convolve_backward(streams: _Streams, weights: _Weights, of: _Gradients) -> None:
    def work(i: int, columns: Columns, _: int) -> None:
        given = (streams.xz[i], weights.taps, columns, of.u[i])
        kernels.convolve_backward(*given, of.xz[i], of.taps[i])

    for_columns(of.u, work)


def _room(streams: _Streams, weights: _Weights) -> _Gradients:
    """Make room for gradients, with zeros where the kernels add to them."""
    batch, parts = len(streams.y), parts_of(streams.y)

    def zeros(number: int, like: Floats) -> Floats:
        return np.zeros((number, *like.shape), np.float32)

    return _Gradients(
        np.zeros_like(streams.xz),
        np.empty_like(streams.y),
        *(zeros(parts, stream) for stream in (streams.low, streams.b, streams.c)),
        *(zeros(batch, weight) for weight in weights),
    )


def _halves(xz: Tensor) -> Floats:
    """Pad either half to whole vectors."""
    halves = whole(xz.view(*xz.shape[:2], 2, -1))
    return halves.reshape(*xz.shape[:2], -1)


def _joined(xz: Floats, channels: int) -> Tensor:
    """Undo `_halves`."""
    return unpadded(xz.reshape(*xz.shape[:2], 2, -1), channels).flatten(-2)
