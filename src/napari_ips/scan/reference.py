"""The selective scan as a plain loop over tokens: slow, and the truth for the others."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_ips.scan.common import scan_with


def unavailable() -> str | None:
    """Return why this backend cannot be used, or None when it can."""
    return None


def recurrence(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Compute Eq. (6) token by token, without the D term. Any device and float dtype."""
    batch, channels, length = u.shape
    state = u.new_zeros(batch, channels, A.shape[1])
    outputs = []
    for t in range(length):
        decay = torch.exp(delta[:, :, t, None] * A)
        drive = (delta[:, :, t] * u[:, :, t])[:, :, None] * B[:, None, :, t]
        state = decay * state + drive
        outputs.append((state * C[:, None, :, t]).sum(-1))
    return torch.stack(outputs, dim=-1) if outputs else torch.zeros_like(u)


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
