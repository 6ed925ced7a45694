"""The causal depthwise convolution with SiLU that stands before the scan."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from napari_ips.scan.dispatch import choose_backend


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, backend: str = "auto"
) -> Tensor:
    """Convolve every channel with its own taps over past tokens, then apply SiLU.

    Parameters
    ----------
    x : Tensor, shape (batch, L, d)
        Tokens.
    weight : Tensor, shape (d, 1, taps)
        The last tap belongs to the present token.
    bias : Tensor, shape (d,), optional
        Added before the SiLU.
    backend : str
        With ``"mamba_ssm"`` (also by ``"auto"``) the kernel of causal-conv1d is used.

    Returns
    -------
    Tensor, shape (batch, L, d)
    """
    if backend == "auto":
        backend, _ = choose_backend(x.device.type, x.dtype)
    if backend == "mamba_ssm":
        from napari_ips.scan import mamba

        fused: Tensor = mamba.causal_conv1d(x.transpose(1, 2), weight[:, 0], bias)
        return fused.transpose(1, 2)
    taps = weight.shape[-1]
    padded = F.pad(x, (0, 0, taps - 1, 0))
    out = padded[:, : x.shape[1]] * weight[:, 0, 0]
    for k in range(1, taps):
        out = out + padded[:, k : k + x.shape[1]] * weight[:, 0, k]
    if bias is not None:
        out = out + bias
    return F.silu(out)
