"""What stands around the scan of a Mamba layer, with its gradients, for training.

Each kernel does columns of a sample in one pass, where PyTorch takes several that write
an array each. ``xz`` (L, 2 d) holds the inputs of the convolution and those of the gate.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from napari_ips.kernels.lanes import (
    LANES,
    add,
    inner,
    load,
    multiply,
    multiply_add,
    sigmoid,
    silu,
    softplus,
    splat,
    store,
    subtract,
    total,
)


@inner
def _silu_slope(x):
    """Return the derivative of x * sigmoid(x)."""
    one, s = splat(np.float32(1.0)), sigmoid(x)
    return multiply(s, multiply_add(x, subtract(one, s), one))


@inner
def _convolved(xz, weight, t, k):
    """Return what the convolution makes of token t, before the SiLU."""
    taps = weight.shape[0] - 1
    y = load(weight, taps, k)
    for j in range(max(0, taps - 1 - t), taps):
        y = multiply_add(load(xz, t - taps + 1 + j, k), load(weight, j, k), y)
    return y


@nb.njit(nogil=True, cache=True)
def convolve(xz, weight, columns, out):
    """Fill columns of out (L, d) from xz; weight (taps + 1, d) ends with the bias."""
    for k in range(columns[0], columns[1], LANES):
        for t in range(len(xz)):
            store(out, t, k, silu(_convolved(xz, weight, t, k)))


@nb.njit(nogil=True, cache=True)
def convolve_backward(xz, weight, columns, gout, gxz, gweight):
    """Add to columns of the gradients, which start as zeros."""
    taps = weight.shape[0] - 1
    for k in range(columns[0], columns[1], LANES):
        for t in range(len(xz)):
            g = multiply(load(gout, t, k), _silu_slope(_convolved(xz, weight, t, k)))
            store(gweight, taps, k, add(load(gweight, taps, k), g))
            for j in range(max(0, taps - 1 - t), taps):
                past = t - taps + 1 + j
                by_x = multiply_add(g, load(weight, j, k), load(gxz, past, k))
                store(gxz, past, k, by_x)
                by_weight = multiply_add(g, load(xz, past, k), load(gweight, j, k))
                store(gweight, j, k, by_weight)


@inner
def _step(x, weight, t, k):
    """Return what the projection makes of the first columns of x, before the softplus."""
    rank = weight.shape[0] - 1
    y = load(weight, rank, k)
    for r in range(rank):
        y = multiply_add(splat(x[t, r]), load(weight, r, k), y)
    return y


@nb.njit(nogil=True, cache=True)
def step_sizes(x, weight, columns, out):
    """Fill columns of out (L, d) from x; weight (rank + 1, d) ends with the bias."""
    for k in range(columns[0], columns[1], LANES):
        for t in range(len(x)):
            store(out, t, k, softplus(_step(x, weight, t, k)))


@nb.njit(nogil=True, cache=True)
def step_sizes_backward(x, weight, columns, gout, gx, gweight):
    """Add to columns of gweight, zeros at first; fill gx with sums over these columns."""
    rank, nothing = weight.shape[0] - 1, np.intp(0)
    sums = np.zeros((rank, LANES), np.float32)
    for t in range(len(x)):
        for r in range(rank):
            store(sums, r, nothing, splat(np.float32(0.0)))
        for k in range(columns[0], columns[1], LANES):
            g = multiply(load(gout, t, k), sigmoid(_step(x, weight, t, k)))
            store(gweight, rank, k, add(load(gweight, rank, k), g))
            for r in range(rank):
                by_weight = multiply_add(g, splat(x[t, r]), load(gweight, r, k))
                store(gweight, r, k, by_weight)
                by_x = multiply_add(g, load(weight, r, k), load(sums, r, nothing))
                store(sums, r, nothing, by_x)
        for r in range(rank):
            gx[t, r] = total(load(sums, r, nothing))


@nb.njit(nogil=True, cache=True)
def gate(y, u, skip, xz, columns, out):
    """Fill columns of out (L, d) with (y + skip * u) * silu(z), skip (1, d)."""
    width = y.shape[1]
    for k in range(columns[0], columns[1], LANES):
        d = load(skip, 0, k)
        for t in range(len(y)):
            both = multiply_add(d, load(u, t, k), load(y, t, k))
            store(out, t, k, multiply(both, silu(load(xz, t, width + k))))


@nb.njit(nogil=True, cache=True)
def gate_backward(y, u, skip, xz, columns, gout, gy, gu, gskip, gxz):
    """Fill columns of the gradients, those of z in the second half of gxz."""
    width = y.shape[1]
    for k in range(columns[0], columns[1], LANES):
        d, summed = load(skip, 0, k), splat(np.float32(0.0))
        for t in range(len(y)):
            g, given, z = load(gout, t, k), load(u, t, k), load(xz, t, width + k)
            both = multiply_add(d, given, load(y, t, k))
            store(gxz, t, width + k, multiply(multiply(g, both), _silu_slope(z)))
            g = multiply(g, silu(z))
            store(gy, t, k, g)
            store(gu, t, k, multiply(g, d))
            summed = multiply_add(g, given, summed)
        store(gskip, 0, k, summed)


def compile_now() -> None:
    """Take no token, for which numba compiles the kernels or finds them."""

    def zeros(rows: int, columns: int) -> NDArray[np.float32]:
        return np.zeros((rows, columns), np.float32)

    xz, x, low = zeros(0, 2 * LANES), zeros(0, LANES), zeros(0, 1)
    weight, columns = zeros(2, LANES), (0, LANES)
    convolve(xz, weight, columns, x)
    convolve_backward(xz, weight, columns, x, xz, weight)
    step_sizes(low, weight, columns, x)
    step_sizes_backward(low, weight, columns, x, low, weight)
    gate(x, x, weight, xz, columns, x)
    gate_backward(x, x, weight, xz, columns, x, x, x, weight, xz)
