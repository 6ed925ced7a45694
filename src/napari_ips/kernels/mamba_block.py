"""Inference through a Mamba block in one kernel.

A block is causal: what it needs of earlier tokens are the state of its scan and the last
inputs of its convolution. So a few tokens at a time go through the whole block, and
everything in between stays in the first-level cache.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from napari_ips.kernels.lanes import (
    COLUMNS,
    LANES,
    ROWS,
    add,
    add_product,
    exp2,
    inner,
    load,
    load_tile,
    multiply,
    multiply_add,
    silu,
    softplus,
    splat,
    store,
    store_tile,
    total,
    zero_tile,
)

TOKENS = 48  # a multiple of ROWS, that go through the block at a time

# Not as literals, for each of which numba would compile a function anew.
_FIRST = np.intp(0)
_ADD, _REPLACE = np.bool_(True), np.bool_(False)

Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """Weights of a block, padded with zeros to whole vectors: d outside, e inside."""

    norm: Floats  # (3, d): scale, offset, 1 where a channel exists
    project_in: Floats  # (d, 2 e)
    convolution: Floats  # (taps + 1, e): taps, bias
    project_x: Floats  # (e, dt_rank + 2 n, padded): step, B, C
    step: Floats  # (dt_rank + 1, e): weight, bias
    decay: Floats  # (n, e): A / log(2)
    skip: Floats  # (1, e): D
    project_out: Floats  # (e, d)


class Scratch(NamedTuple):
    """What the kernel keeps between its steps; see `Weights` for the sizes."""

    rows: Floats  # (TOKENS, d)
    normed: Floats  # (TOKENS, d)
    xz: Floats  # (taps - 1 + TOKENS, 2 e)
    u: Floats  # (TOKENS, e)
    step: Floats  # (TOKENS, e)
    drive: Floats  # (TOKENS, e)
    x: Floats  # (TOKENS, dt_rank + 2 n, padded)
    state: Floats  # (n, e)


@inner
def _copy(source, source_row, rows, columns, target, target_row):
    for t in range(rows):
        for k in range(columns):
            target[target_row + t, k] = source[source_row + t, k]


@inner
def _normalise(tokens, count, weight, channels, epsilon, out):
    """Layer normalisation of the first ``count`` rows."""
    width = tokens.shape[1]
    for t in range(count):
        summed = load(tokens, t, 0)
        for k in range(LANES, width, LANES):
            summed = add(summed, load(tokens, t, k))
        mean = splat(-total(summed) / channels)
        summed = splat(np.float32(0.0))
        for k in range(0, width, LANES):
            centred = multiply(add(load(tokens, t, k), mean), load(weight, 2, k))
            summed = multiply_add(centred, centred, summed)
            store(out, t, k, centred)
        scale = splat(np.float32(1.0) / np.sqrt(total(summed) / channels + epsilon))
        for k in range(0, width, LANES):
            scaled = multiply(load(out, t, k), scale)
            store(out, t, k, multiply_add(scaled, load(weight, 0, k), load(weight, 1, k)))


@inner
def _project(x, count, weight, out, row, accumulate):
    """Put x @ weight to ``out`` from ``row`` on, or add it; rows to the next tile too."""
    for t in range(0, count, ROWS):
        for n in range(0, weight.shape[1], COLUMNS * LANES):
            tile = load_tile(out, row + t, n) if accumulate else zero_tile()
            for k in range(weight.shape[0]):
                tile = add_product(tile, x, t, k, weight, k, n)
            store_tile(out, row + t, n, tile)


@inner
def _convolve(x, count, weight, out):
    """Causal convolution with SiLU; row t + taps - 1 of x is token t."""
    taps = weight.shape[0] - 1
    for t in range(count):
        for k in range(0, out.shape[1], LANES):
            y = load(weight, taps, k)
            for j in range(taps):
                y = multiply_add(load(x, t + j, k), load(weight, j, k), y)
            store(out, t, k, silu(y))


@inner
def _step_sizes(x, count, weight, u, step, drive):
    """Step sizes from the first columns of x, and their products with u."""
    rank = weight.shape[0] - 1
    for t in range(count):
        for k in range(0, u.shape[1], LANES):
            y = load(weight, rank, k)
            for r in range(rank):
                y = multiply_add(splat(x[t, r]), load(weight, r, k), y)
            y = softplus(y)
            store(step, t, k, y)
            store(drive, t, k, multiply(y, load(u, t, k)))


@inner
def _scan(step, drive, count, decay, x, first, skip, state, y):
    """Add the scan to y, which holds u before; column ``first`` of x is the first of B."""
    states = decay.shape[0]
    for k in range(0, y.shape[1], LANES):
        d = load(skip, 0, k)
        for t in range(count):
            store(y, t, k, multiply(load(y, t, k), d))
        for n in range(states):
            rate = load(decay, n, k)
            s = load(state, n, k)
            for t in range(count):
                kept = exp2(multiply(load(step, t, k), rate))
                s = multiply_add(
                    s, kept, multiply(load(drive, t, k), splat(x[t, first + n]))
                )
                c = splat(x[t, first + states + n])
                store(y, t, k, multiply_add(s, c, load(y, t, k)))
            store(state, n, k, s)


@inner
def _gate(y, count, xz, row):
    """Multiply y by the SiLU of the second half of xz."""
    width = y.shape[1]
    for t in range(count):
        for k in range(0, width, LANES):
            store(y, t, k, multiply(load(y, t, k), silu(load(xz, row + t, width + k))))


@nb.njit(nogil=True, cache=True)
def mamba_block(tokens, epsilon, weights, scratch, out):
    """Fill out (L, d_model) from tokens of that shape; the scratch starts as zeros."""
    length, channels = tokens.shape
    past = weights.convolution.shape[0] - 2
    rank = weights.step.shape[0] - 1
    rows, xz, u, x = scratch.rows, scratch.xz, scratch.u, scratch.x
    step, drive = scratch.step, scratch.drive
    for start in range(0, length, TOKENS):
        count = min(TOKENS, length - start)
        _copy(tokens, start, count, channels, rows, _FIRST)
        _normalise(rows, count, weights.norm, channels, epsilon, scratch.normed)
        _project(scratch.normed, count, weights.project_in, xz, past, _REPLACE)
        _convolve(xz, count, weights.convolution, u)
        _project(u, count, weights.project_x, x, _FIRST, _REPLACE)
        _step_sizes(x, count, weights.step, u, step, drive)
        _scan(step, drive, count, weights.decay, x, rank, weights.skip, scratch.state, u)
        _gate(u, count, xz, past)
        _copy(xz, count, past, u.shape[1], xz, _FIRST)
        _project(u, count, weights.project_out, rows, _FIRST, _ADD)
        _copy(rows, _FIRST, count, channels, out, start)


def make_scratch(weights: Weights) -> Scratch:
    """Make room for a block with these weights; it starts as zeros."""

    def zeros(*shape: int) -> Floats:
        return np.zeros(shape, np.float32)

    inner, outer = weights.project_out.shape
    past = len(weights.convolution) - 2
    return Scratch(
        rows=zeros(TOKENS, outer),
        normed=zeros(TOKENS, outer),
        xz=zeros(past + TOKENS, 2 * inner),
        u=zeros(TOKENS, inner),
        step=zeros(TOKENS, inner),
        drive=zeros(TOKENS, inner),
        x=zeros(TOKENS, weights.project_x.shape[1]),
        state=zeros(*weights.decay.shape),
    )


def compile_now() -> None:
    """Send no token through a block, for which numba compiles the kernel or finds it."""

    def zeros(*shape: int) -> Floats:
        return np.zeros(shape, np.float32)

    d, e = COLUMNS * LANES, LANES
    weights = Weights(
        norm=zeros(3, d),
        project_in=zeros(d, 2 * e),
        convolution=zeros(2, e),
        project_x=zeros(e, d),
        step=zeros(2, e),
        decay=zeros(1, e),
        skip=zeros(1, e),
        project_out=zeros(e, d),
    )
    none = zeros(0, d)
    mamba_block(none, 1e-5, weights, make_scratch(weights), none.copy())
