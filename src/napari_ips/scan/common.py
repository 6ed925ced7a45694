"""The elementwise parts of the selective scan that the CPU backends share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Recurrence = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def scan_with(
    recurrence: Recurrence,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    compute_dtype: torch.dtype,
) -> Tensor:
    """Wrap a bare recurrence into the whole operator, computed in ``compute_dtype``."""
    dtype = u.dtype
    u, delta, A, B, C = (t.to(compute_dtype) for t in (u, delta, A, B, C))
    if delta_bias is not None:
        delta = delta + delta_bias.to(compute_dtype)[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    y = recurrence(u, delta, A, B, C)
    if D is not None:
        y = y + D.to(compute_dtype)[:, None] * u
    if z is not None:
        y = y * F.silu(z.to(compute_dtype))
    return y.to(dtype)
