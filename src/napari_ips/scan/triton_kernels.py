"""Triton kernels of the selective scan; `triton_gpu` launches them and says why.

Importing this module imports Triton. Axes inside the kernels are (states, channels)
for the running state and (tokens, channels) for tiles, channels last, so that the 32
lanes of a warp hold 32 neighbouring channels and read channel-last tensors coalesced.

Shapes of what the kernels exchange, all contiguous and in the computing dtype:
``A`` (n, d); ``states`` and ``adjoints`` (batch, chunks + 1, n, d); ``sums``
(batch, chunks, d). ``states[:, k]`` is the state that enters chunk k, and
``adjoints[:, k]`` is the gradient with respect to it.

Layout: ``tl.max_contiguous(..., [1, 1])`` on the indices of a tile keeps the compiler
from loading four channels per lane. So one lane has one channel, sums over states and
scans over tokens stay within a lane, and no shared memory or barrier is needed.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)


@triton.jit
def _compose(decay1, drive1, decay2, drive2):
    """Two steps x -> decay * x + drive, the first one first, as a single step."""
    return decay1 * decay2, decay2 * drive1 + drive2


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _softplus(x):
    """log(1 + exp(x)) without overflow, and exact for very negative x."""
    e = tl.exp(-tl.abs(x))
    w = 1.0 + e
    # (w - 1) is what of e survived the addition: dividing by it undoes its rounding.
    log1p = tl.where(w > 1.0, tl.log(w) * (e / tl.where(w > 1.0, w - 1.0, 1.0)), e)
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def _step_size(raw, bias, SOFTPLUS: tl.constexpr):
    x = raw + bias
    if SOFTPLUS:
        x = _softplus(x)
    return x


@triton.jit
def _vector(pointer, at, mask, REAL: tl.constexpr):
    return tl.load(pointer + at, mask=mask, other=0.0).to(REAL)


@triton.jit
def _tile(pointer, strides, batch, token, ch):
    """Pointers to a (tokens, channels) tile; see the module's note on layouts."""
    at = token[:, None] * strides[2] + ch[None, :] * strides[1]
    return pointer + batch * strides[0] + tl.max_contiguous(at, [1, 1])


@triton.jit
def sweep(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    states,
    sums,
    out,
    u_strides,
    delta_strides,
    B_strides,
    C_strides,
    z_strides,
    out_strides,
    channels,
    n_states,
    length,
    chunks,
    N: tl.constexpr,
    BD: tl.constexpr,
    CHUNK: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REAL: tl.constexpr,
):
    """Run the recurrence through one chunk, token by token; the state in registers.

    Without ``out`` it starts from zero and leaves what the chunk adds to the state in
    ``states[:, chunk + 1]`` and the sum of its step sizes in ``sums``. With ``out`` it
    starts from ``states[:, chunk]`` and writes the outputs.

    Grid: (batch * chunks, blocks of BD channels).
    """
    batch = (tl.program_id(0) // chunks).to(tl.int64)
    chunk = (tl.program_id(0) % chunks).to(tl.int64)
    ch = tl.program_id(1) * BD + tl.arange(0, BD)
    n = tl.arange(0, N)
    ch_in, n_in = ch < channels, n < n_states
    tile_in = n_in[:, None] & ch_in[None, :]
    tile = tl.max_contiguous(n[:, None] * channels + ch[None, :], [1, 1])
    decay_rate = tl.load(A + tile, mask=tile_in, other=0.0)
    first = chunk * CHUNK

    u_at = u + batch * u_strides[0] + first * u_strides[2] + ch * u_strides[1]
    delta_at = delta + batch * delta_strides[0] + first * delta_strides[2]
    delta_at += ch * delta_strides[1]
    B_at = B + batch * B_strides[0] + first * B_strides[2]
    slot = states + (batch * (chunks + 1) + chunk) * n_states * channels
    offset = tl.zeros([BD], REAL)
    if bias is not None:
        offset = _vector(bias, ch, ch_in, REAL)
    if out is None:
        state = tl.zeros([N, BD], REAL)
        total = tl.zeros([BD], REAL)
    else:
        state = tl.load(slot + tile, mask=tile_in, other=0.0)
        C_at = C + batch * C_strides[0] + first * C_strides[2]
        out_at = out + batch * out_strides[0] + first * out_strides[2]
        out_at += ch * out_strides[1]
        skip = tl.zeros([BD], REAL)
        if D is not None:
            skip = _vector(D, ch, ch_in, REAL)
        if z is not None:
            z_at = z + batch * z_strides[0] + first * z_strides[2] + ch * z_strides[1]

    for _ in range(tl.minimum(CHUNK, length - first).to(tl.int32)):
        x = _vector(u_at, 0, ch_in, REAL)
        step = _step_size(_vector(delta_at, 0, ch_in, REAL), offset, SOFTPLUS)
        drive = (step * x)[None, :] * _vector(B_at, n * B_strides[1], n_in, REAL)[:, None]
        state = tl.exp(step[None, :] * decay_rate) * state + drive
        if out is None:
            total += step
        else:
            c = _vector(C_at, n * C_strides[1], n_in, REAL)
            y = tl.sum(state * c[:, None], axis=0) + skip * x
            if z is not None:
                gate = _vector(z_at, 0, ch_in, REAL)
                y *= gate * _sigmoid(gate)
                z_at += z_strides[2]
            tl.store(out_at, y.to(out.dtype.element_ty), mask=ch_in)
            C_at += C_strides[2]
            out_at += out_strides[2]
        u_at += u_strides[2]
        delta_at += delta_strides[2]
        B_at += B_strides[2]

    if out is None:
        tl.store(slot + n_states * channels + tile, state, mask=tile_in)
        tl.store(sums + (batch * chunks + chunk) * channels + ch, total, mask=ch_in)


@triton.jit
def adjoint_sweep(
    delta,
    A,
    C,
    z,
    bias,
    grad,
    adjoints,
    delta_strides,
    C_strides,
    z_strides,
    grad_strides,
    channels,
    n_states,
    length,
    chunks,
    N: tl.constexpr,
    BD: tl.constexpr,
    CHUNK: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REAL: tl.constexpr,
):
    """Run the adjoint recurrence backwards through one chunk, from zero.

    Leaves what the chunk's own outputs contribute to the gradient of the state that
    enters it in ``adjoints[:, chunk]``. ``grad`` is the gradient of the scan's output.

    Grid: (batch * chunks, blocks of BD channels).
    """
    batch = (tl.program_id(0) // chunks).to(tl.int64)
    chunk = (tl.program_id(0) % chunks).to(tl.int64)
    ch = tl.program_id(1) * BD + tl.arange(0, BD)
    n = tl.arange(0, N)
    ch_in, n_in = ch < channels, n < n_states
    tile_in = n_in[:, None] & ch_in[None, :]
    tile = tl.max_contiguous(n[:, None] * channels + ch[None, :], [1, 1])
    decay_rate = tl.load(A + tile, mask=tile_in, other=0.0)
    count = tl.minimum(CHUNK, length - chunk * CHUNK).to(tl.int32)
    last = chunk * CHUNK + count - 1

    delta_at = delta + batch * delta_strides[0] + last * delta_strides[2]
    delta_at += ch * delta_strides[1]
    C_at = C + batch * C_strides[0] + last * C_strides[2]
    grad_at = grad + batch * grad_strides[0] + last * grad_strides[2]
    grad_at += ch * grad_strides[1]
    if z is not None:
        z_at = z + batch * z_strides[0] + last * z_strides[2] + ch * z_strides[1]
    offset = tl.zeros([BD], REAL)
    if bias is not None:
        offset = _vector(bias, ch, ch_in, REAL)

    adjoint = tl.zeros([N, BD], REAL)
    for _ in range(count):
        dy = _vector(grad_at, 0, ch_in, REAL)
        if z is not None:
            gate = _vector(z_at, 0, ch_in, REAL)
            dy *= gate * _sigmoid(gate)
            z_at -= z_strides[2]
        step = _step_size(_vector(delta_at, 0, ch_in, REAL), offset, SOFTPLUS)
        adjoint += _vector(C_at, n * C_strides[1], n_in, REAL)[:, None] * dy[None, :]
        adjoint *= tl.exp(step[None, :] * decay_rate)
        delta_at -= delta_strides[2]
        C_at -= C_strides[2]
        grad_at -= grad_strides[2]

    slot = adjoints + (batch * (chunks + 1) + chunk) * n_states * channels
    tl.store(slot + tile, adjoint, mask=tile_in)


@triton.jit
def carry(
    states,
    sums,
    A,
    channels,
    n_states,
    chunks,
    K: tl.constexpr,
    BD: tl.constexpr,
    REVERSE: tl.constexpr,
    REAL: tl.constexpr,
):
    """Carry the state over the chunks, in place: K of them at a time, by a tree.

    Forward, slots 1 to ``chunks`` go from what each chunk adds to the state after it;
    in reverse, slots ``chunks - 1`` to 0 from each chunk's own adjoint to the whole.

    Grid: (batch * n, blocks of BD channels).
    """
    batch = (tl.program_id(0) // n_states).to(tl.int64)
    n = tl.program_id(0) % n_states
    ch = tl.program_id(1) * BD + tl.arange(0, BD)
    ch_in = ch < channels
    decay_rate = tl.load(A + n * channels + ch, mask=ch_in, other=0.0)
    states += batch * (chunks + 1) * n_states * channels + n * channels
    sums += batch * chunks * channels

    row = tl.arange(0, K)
    carried = tl.zeros([BD], REAL)
    for first in range(0, chunks, K):
        order = first + row
        tile_in = (order < chunks)[:, None] & ch_in[None, :]
        if REVERSE:
            chunk = chunks - 1 - order
            slot = chunk
        else:
            chunk = order
            slot = order + 1
        total_at = sums + chunk.to(tl.int64)[:, None] * channels + ch[None, :]
        state_at = states + slot.to(tl.int64)[:, None] * n_states * channels + ch[None, :]
        total = tl.load(total_at, mask=tile_in, other=0.0)
        local = tl.load(state_at, mask=tile_in, other=0.0)
        decay = tl.exp(total * decay_rate[None, :])
        decay, local = tl.associative_scan((decay, local), 0, _compose)
        state = local + decay * carried[None, :]
        tl.store(state_at, state, mask=tile_in)
        carried = tl.sum(tl.where(row[:, None] == K - 1, state, 0.0), axis=0)


@triton.jit
def gradients(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    grad,
    states,
    adjoints,
    du,
    ddelta,
    dB,
    dC,
    dD,
    dz,
    dbias,
    u_strides,
    delta_strides,
    B_strides,
    C_strides,
    z_strides,
    grad_strides,
    du_strides,
    ddelta_strides,
    dz_strides,
    channels,
    n_states,
    length,
    chunks,
    T: tl.constexpr,
    BD: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REAL: tl.constexpr,
):
    """Compute all gradients of a tile of T tokens by BD channels, state by state.

    Both recurrences run again inside the tile, from ``states[:, chunk]`` forwards and
    from ``adjoints[:, chunk + 1]`` backwards, and so meet at every token without being
    stored. Sums over channels go to ``dB`` and ``dC`` (blocks, batch, n, length), sums
    over tokens to ``dD`` and ``dbias`` (batch, chunks, d); that of A replaces the state
    it came from in ``states[:, chunk]``. The caller adds these partial sums up, in a
    fixed order, so that equal inputs give bitwise equal gradients.

    Grid: (batch * chunks, blocks of BD channels).
    """
    batch = (tl.program_id(0) // chunks).to(tl.int64)
    chunk = (tl.program_id(0) % chunks).to(tl.int64)
    ch = tl.program_id(1) * BD + tl.arange(0, BD)
    ch_in = ch < channels
    first = chunk * T
    t = tl.arange(0, T)
    token = first + t
    token_in = token < length
    tile_in = token_in[:, None] & ch_in[None, :]

    u_at = _tile(u, u_strides, batch, token, ch)
    delta_at = _tile(delta, delta_strides, batch, token, ch)
    grad_at = _tile(grad, grad_strides, batch, token, ch)
    offset = tl.zeros([BD], REAL)
    if bias is not None:
        offset = _vector(bias, ch, ch_in, REAL)

    raw = _vector(delta_at, 0, tile_in, REAL)
    step = _step_size(raw, offset[None, :], SOFTPLUS)
    # Tokens past the end neither drive nor decay: they hand the adjoint on unchanged.
    step = tl.where(tile_in, step, 0.0)
    # The adjoint decays by the step of the next token. That of the tile's last token
    # is already in the adjoint that comes in.
    next_in = tile_in & (t < T - 1)[:, None] & (token + 1 < length)[:, None]
    next_raw = _vector(delta_at, delta_strides[2], next_in, REAL)
    next_step = tl.where(next_in, _step_size(next_raw, offset[None, :], SOFTPLUS), 0.0)
    x = _vector(u_at, 0, tile_in, REAL)
    drive = step * x
    dy = _vector(grad_at, 0, tile_in, REAL)
    if z is not None:
        z_at = _tile(z, z_strides, batch, token, ch)
        gate = _vector(z_at, 0, tile_in, REAL)
        dy *= gate * _sigmoid(gate)

    # One address and offsets, not T addresses: registers are what limits this kernel.
    B_at = B + batch * B_strides[0] + first * B_strides[2]
    C_at = C + batch * C_strides[0] + first * C_strides[2]
    block = (tl.program_id(1) * (tl.num_programs(0) // chunks) + batch) * n_states
    dB_at = dB + block * length + first
    dC_at = dC + block * length + first
    state_at = states + (batch * (chunks + 1) + chunk) * n_states * channels + ch
    adjoint_at = adjoints + (batch * (chunks + 1) + chunk + 1) * n_states * channels + ch
    rate_at = A + ch

    through_B = tl.zeros([T, BD], REAL)
    through_decay = tl.zeros([T, BD], REAL)
    y = tl.zeros([T, BD], REAL)
    for _ in range(n_states):
        rate = tl.load(rate_at, mask=ch_in, other=0.0)
        b = _vector(B_at, t * B_strides[2], token_in, REAL)[:, None]
        c = _vector(C_at, t * C_strides[2], token_in, REAL)[:, None]
        entering = tl.load(state_at, mask=ch_in, other=0.0)
        incoming = tl.load(adjoint_at, mask=ch_in, other=0.0)

        decay = tl.exp(step * rate[None, :])
        decay, local = tl.associative_scan((decay, drive * b), 0, _compose)
        state = local + decay * entering[None, :]
        decay = tl.exp(next_step * rate[None, :])
        decay, local = tl.associative_scan((decay, dy * c), 0, _compose, reverse=True)
        adjoint = local + decay * incoming[None, :]

        # What was left of the previous state, times its gradient.
        kept = (state - drive * b) * adjoint
        y += c * state
        through_B += b * adjoint
        through_decay += rate[None, :] * kept
        tl.store(dB_at + t, tl.sum(drive * adjoint, axis=1), mask=token_in)
        tl.store(dC_at + t, tl.sum(dy * state, axis=1), mask=token_in)
        tl.store(state_at, tl.sum(step * kept, axis=0), mask=ch_in)
        rate_at += channels
        B_at += B_strides[1]
        C_at += C_strides[1]
        dB_at += length
        dC_at += length
        state_at += channels
        adjoint_at += channels

    x_grad = step * through_B
    step_grad = through_decay + x * through_B
    sum_at = (batch * chunks + chunk) * channels + ch
    if D is not None:
        skip = _vector(D, ch, ch_in, REAL)[None, :]
        x_grad += skip * dy
        y += skip * x
        tl.store(dD + sum_at, tl.sum(dy * x, axis=0), mask=ch_in)
    if SOFTPLUS:
        step_grad *= _sigmoid(raw + offset[None, :])
    if bias is not None:
        tl.store(dbias + sum_at, tl.sum(step_grad, axis=0), mask=ch_in)
    du_at = _tile(du, du_strides, batch, token, ch)
    tl.store(du_at, x_grad.to(du.dtype.element_ty), mask=tile_in)
    ddelta_at = _tile(ddelta, ddelta_strides, batch, token, ch)
    tl.store(ddelta_at, step_grad.to(ddelta.dtype.element_ty), mask=tile_in)
    if z is not None:
        sig = _sigmoid(gate)
        dgate = _vector(grad_at, 0, tile_in, REAL) * y * sig * (1.0 + gate * (1.0 - sig))
        dz_at = _tile(dz, dz_strides, batch, token, ch)
        tl.store(dz_at, dgate.to(dz.dtype.element_ty), mask=tile_in)
