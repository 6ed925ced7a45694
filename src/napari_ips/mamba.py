"""The Mamba block of the network (Section III-B, Eqs. 4-7)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from napari_ips.config import NetworkConfig
from napari_ips.scan import fuses_blocks, selective_scan, trains_on_cpu
from napari_ips.scan.conv import causal_conv1d


class Mamba(nn.Module):
    """Selective state space layer, with the parameters of ``mamba_ssm.Mamba``.

    Names, shapes and initialisation are those of Mamba-1, so that a state dict of one
    loads into the other.

    Parameters
    ----------
    d_model : int
        Channels of a token.
    d_state : int
        State size N per inner channel.
    d_conv : int
        Taps of the causal depthwise convolution.
    expand : int
        Inner width, relative to ``d_model``.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2
    ) -> None:
        super().__init__()
        d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)
        self.backend = "auto"
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(
            d_inner, d_inner, d_conv, groups=d_inner, padding=d_conv - 1
        )
        self.x_proj = nn.Linear(d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, d_inner)
        states = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(torch.log(states).repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)
        self._initialise_step_size()

    def _initialise_step_size(self, low: float = 1e-3, high: float = 0.1) -> None:
        """Draw initial step sizes log-uniformly from [low, high], as Mamba does."""
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        step = torch.exp(
            torch.rand_like(self.dt_proj.bias) * math.log(high / low) + math.log(low)
        ).clamp(min=1e-4)
        inverse_softplus = step + torch.log(-torch.expm1(-step))
        with torch.no_grad():
            self.dt_proj.bias.copy_(inverse_softplus)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, L, d_model) to the same shape; token k sees tokens 0 to k."""
        xz = self.in_proj(tokens)
        if trains_on_cpu(tokens, self.backend):
            out: Tensor = self.out_proj(self._inner(xz))
            return out
        x, z = xz.chunk(2, dim=-1)
        x = causal_conv1d(x, self.conv1d.weight, self.conv1d.bias, self.backend)
        sizes = [self.dt_rank, self.d_state, self.d_state]
        step, B, C = self.x_proj(x).split(sizes, dim=-1)
        step = step @ self.dt_proj.weight.T
        y = selective_scan(
            x.transpose(1, 2),
            step.transpose(1, 2),
            -torch.exp(self.A_log.float()),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D.float(),
            z.transpose(1, 2),
            self.dt_proj.bias.float(),
            delta_softplus=True,
            backend=self.backend,
        )
        out = self.out_proj(y.transpose(1, 2))
        return out

    def _inner(self, xz: Tensor) -> Tensor:
        """Do what is between the outer projections as one step of the gradients."""
        from napari_ips.scan import inner_cpu

        return inner_cpu.mamba_inner(
            xz,
            (self.conv1d.weight, cast(Tensor, self.conv1d.bias)),
            self.x_proj.weight,
            (self.dt_proj.weight, self.dt_proj.bias),
            -torch.exp(self.A_log),
            self.D,
        )


class MambaBlock(nn.Module):
    """Layer normalisation, a Mamba layer, and an identity around both."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        d_model = 2 * config.width
        self.norm = nn.LayerNorm(d_model)
        self.mamba = Mamba(d_model, config.d_state, config.d_conv, config.expand)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, L, d_model) to the same shape."""
        if fuses_blocks(tokens, self.mamba.backend):
            return self._fused(tokens)
        out: Tensor = tokens + self.mamba(self.norm(tokens))
        return out

    def _fused(self, tokens: Tensor) -> Tensor:
        """Do the same in one kernel, without a graph for gradients."""
        from napari_ips.scan import fused_cpu

        norm, mamba = self.norm, self.mamba
        weights = fused_cpu.pack(
            norm=(norm.weight, norm.bias),
            in_proj=mamba.in_proj.weight,
            conv1d=(mamba.conv1d.weight, cast(Tensor, mamba.conv1d.bias)),
            x_proj=mamba.x_proj.weight,
            dt_proj=(mamba.dt_proj.weight, mamba.dt_proj.bias),
            A_log=mamba.A_log,
            D=mamba.D,
            out_proj=mamba.out_proj.weight,
        )
        return fused_cpu.mamba_block(tokens, weights, norm.eps)
