"""The recurrence of the selective scan, forward and backward.

Vectors run along the channels of a token. The state of a vector of channels stays in a
register for `CHUNK` tokens. The backward pass recomputes the states of a chunk from one
that the forward pass saved.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numba as nb
import numpy as np

from napari_ips.kernels.lanes import (
    LANES,
    exp2,
    inner,
    load,
    multiply,
    multiply_add,
    smaller,
    splat,
    store,
    total,
)

CHUNK = 32
_HIGHEST = np.float32(128)
_LN2 = np.float32(math.log(2))


@inner
def _add(array, row, column, a, b):
    store(array, row, column, multiply_add(a, b, load(array, row, column)))


@inner
def _factor(delta, row, column, rate):
    """2**(delta * rate), infinite from 2**128 on."""
    return exp2(smaller(splat(_HIGHEST), multiply(load(delta, row, column), rate)))


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
def forward(u, delta, decay, b, c, columns, y, saved):
    """Fill columns of y (L, d) and, if there is room, the states before every chunk."""
    length, states = u.shape[0], decay.shape[0]
    drive = np.zeros((CHUNK, LANES), np.float32)
    state = np.zeros((states, LANES), np.float32)
    keep = saved.shape[0] > 0
    nothing = np.intp(0)
    for k in range(columns[0], columns[1], LANES):
        _clear(state, states)
        for start in range(0, length, CHUNK):
            count = min(CHUNK, length - start)
            _drive(u, delta, start, count, k, drive, nothing)
            for t in range(count):
                store(y, start + t, k, splat(np.float32(0.0)))
            for n in range(states):
                rate, s = load(decay, n, k), load(state, n, nothing)
                if keep:
                    store(saved, start // CHUNK * states + n, k, s)
                for t in range(count):
                    kept = _factor(delta, start + t, k, rate)
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
        factor = _factor(delta, start + t, column, rate)
        store(factors, t, 0, factor)
        new = multiply(load(drive, t, k), splat(b[start + t, n]))
        s = multiply_add(s, factor, new)
        store(states, t + 1, 0, s)


@nb.njit(nogil=True, cache=True)
def backward(u, delta, decay, b, c, columns, saved, gy, gu, gdelta, ga, gb, gc):
    """Fill columns of the gradients; gb and gc (L, n) hold the sums over these columns.

    ``decay`` is A / log(2), since the factors are powers of 2; ``ga`` starts as zeros,
    and so does ``gu``, or as what there is to add to. The number of states is even: two
    at a time share what is read and written for a token.
    """
    length, number = u.shape[0], decay.shape[0]
    first, width = columns[0], columns[1] - columns[0]
    nothing = np.intp(0)
    states1 = np.zeros((CHUNK + 1, LANES), np.float32)
    states2 = np.zeros((CHUNK + 1, LANES), np.float32)
    factors1 = np.zeros((CHUNK, LANES), np.float32)
    factors2 = np.zeros((CHUNK, LANES), np.float32)
    sums_b = np.zeros((CHUNK, 2 * LANES), np.float32)
    sums_c = np.zeros((CHUNK, 2 * LANES), np.float32)
    drive = np.zeros((CHUNK, width), np.float32)
    gdrive = np.zeros((CHUNK, width), np.float32)
    gstep = np.zeros((CHUNK, width), np.float32)
    gstate = np.zeros((number, width), np.float32)
    for chunk in range((length - 1) // CHUNK, -1, -1):
        start, row = chunk * CHUNK, chunk * number
        count = min(CHUNK, length - start)
        for k in range(0, width, LANES):
            _drive(u, delta, start, count, first + k, drive, k)
        _clear(gdrive, count)
        _clear(gstep, count)
        for n in range(0, number, 2):
            m = n + 1
            _clear(sums_b, count)
            _clear(sums_c, count)
            for k in range(0, width, LANES):
                at = first + k
                rate1, rate2 = load(decay, n, at), load(decay, m, at)
                store(states1, nothing, nothing, load(saved, row + n, at))
                store(states2, nothing, nothing, load(saved, row + m, at))
                known = (b, start, count)
                _recompute(delta, rate1, *known, n, at, drive, k, factors1, states1)
                _recompute(delta, rate2, *known, m, at, drive, k, factors2, states2)
                gs1, ga1 = load(gstate, n, k), load(ga, n, at)
                gs2, ga2 = load(gstate, m, k), load(ga, m, at)
                for back in range(count):
                    t = count - 1 - back
                    out, driven = load(gy, start + t, at), load(drive, t, k)
                    gs1 = multiply_add(out, splat(c[start + t, n]), gs1)
                    gs2 = multiply_add(out, splat(c[start + t, m]), gs2)
                    _add(sums_c, t, nothing, out, load(states1, t + 1, nothing))
                    _add(sums_c, t, LANES, out, load(states2, t + 1, nothing))
                    _add(sums_b, t, nothing, gs1, driven)
                    _add(sums_b, t, LANES, gs2, driven)
                    by_drive = multiply_add(gs1, splat(b[start + t, n]), load(gdrive, t, k))
                    by_drive = multiply_add(gs2, splat(b[start + t, m]), by_drive)
                    store(gdrive, t, k, by_drive)
                    gs1 = multiply(gs1, load(factors1, t, nothing))
                    gs2 = multiply(gs2, load(factors2, t, nothing))
                    power1 = multiply(gs1, load(states1, t, nothing))
                    power2 = multiply(gs2, load(states2, t, nothing))
                    by_step = multiply_add(power1, rate1, load(gstep, t, k))
                    store(gstep, t, k, multiply_add(power2, rate2, by_step))
                    ga1 = multiply_add(power1, load(delta, start + t, at), ga1)
                    ga2 = multiply_add(power2, load(delta, start + t, at), ga2)
                store(gstate, n, k, gs1)
                store(gstate, m, k, gs2)
                store(ga, n, at, ga1)
                store(ga, m, at, ga2)
            for t in range(count):
                gb[start + t, n] = total(load(sums_b, t, nothing))
                gb[start + t, m] = total(load(sums_b, t, LANES))
                gc[start + t, n] = total(load(sums_c, t, nothing))
                gc[start + t, m] = total(load(sums_c, t, LANES))
        for k in range(0, width, LANES):
            at = first + k
            for t in range(count):
                gd, before = load(gdrive, t, k), load(gu, start + t, at)
                store(
                    gu, start + t, at, multiply_add(gd, load(delta, start + t, at), before)
                )
                by_power = multiply(load(gstep, t, k), splat(_LN2))
                by_drive = multiply_add(gd, load(u, start + t, at), by_power)
                store(gdelta, start + t, at, by_drive)


def compile_now() -> None:
    """Scan no token, for which numba compiles the kernels or finds them."""
    none = np.zeros((0, LANES), np.float32)
    b, two = np.zeros((0, 2), np.float32), np.zeros((2, LANES), np.float32)
    known = (none, none, two, b, b, (0, LANES))
    forward(*known, none, none)
    backward(*known, none, none, none, none, two, b, b)
