"""The selective scan in plain torch, for any device: parallel inside chunks of tokens.

Inside a chunk the recurrence is solved by doubling: after step k every token holds the
result of the 2**k tokens that end in it. Only products of decays occur, never their
ratios, so that nothing overflows however strong the decay is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from napari_ips.scan.common import scan_with

_CHUNK = 256


def unavailable() -> str | None:
    """Return why this backend cannot be used, or None when it can."""
    return None


def _scan_chunk(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the outputs (batch, d, T) of a chunk, and the state (batch, d, n) after."""
    decay = torch.exp(delta[..., None] * A[:, None])  # (batch, d, T, n)
    states = (delta * u)[..., None] * B.transpose(1, 2)[:, None]
    first = states[:, :, :1] + decay[:, :, :1] * state[:, :, None]
    states = torch.cat([first, states[:, :, 1:]], dim=2)
    offset = 1
    while offset < u.shape[2]:
        reached = states[:, :, offset:] + decay[:, :, offset:] * states[:, :, :-offset]
        states = torch.cat([states[:, :, :offset], reached], dim=2)
        doubled = decay[:, :, offset:] * decay[:, :, :-offset]
        decay = torch.cat([decay[:, :, :offset], doubled], dim=2)
        offset *= 2
    y = torch.einsum("bdtn,bnt->bdt", states, C)
    return y, states[:, :, -1]


def recurrence(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Compute Eq. (6) without the D term, chunk by chunk; any device and float dtype.

    With gradients each chunk is recomputed in the backward pass, which keeps memory at
    one chunk of states, ``batch * d * 256 * n`` values times a few.
    """
    batch, channels, length = u.shape
    state = u.new_zeros(batch, channels, A.shape[1])
    outputs = []
    for start in range(0, length, _CHUNK):
        tokens = slice(start, start + _CHUNK)
        chunk = (u[..., tokens], delta[..., tokens], A, B[..., tokens], C[..., tokens])
        if torch.is_grad_enabled():
            y, state = checkpoint(_scan_chunk, *chunk, state, use_reentrant=False)
        else:
            y, state = _scan_chunk(*chunk, state)
        outputs.append(y)
    return torch.cat(outputs, dim=2) if outputs else torch.zeros_like(u)


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
    """Scan in at least float32; see `napari_ips.scan.selective_scan`."""
    compute = torch.promote_types(u.dtype, torch.float32)
    return scan_with(
        recurrence, u, delta, A, B, C, D, z, delta_bias, delta_softplus, compute
    )
