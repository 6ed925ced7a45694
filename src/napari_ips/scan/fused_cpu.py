"""Inference through a Mamba block on the CPU, in one kernel."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_ips import ahead
from napari_ips.kernels.lanes import COLUMNS, LANES
from napari_ips.kernels.mamba_block import Floats, Weights, make_scratch
from napari_ips.kernels.mamba_block import mamba_block as kernel
from napari_ips.scan.threads import share_out


def pack(
    norm: tuple[Tensor, Tensor],
    in_proj: Tensor,
    conv1d: tuple[Tensor, Tensor],
    x_proj: Tensor,
    dt_proj: tuple[Tensor, Tensor],
    A_log: Tensor,
    D: Tensor,
    out_proj: Tensor,
) -> Weights:
    """Arrange the parameters of a block; pairs are weight and bias, as in torch."""
    d_model, d_inner = out_proj.shape
    outer, inner = _padded(d_model, COLUMNS * LANES), _padded(d_inner, LANES)
    columns = _padded(len(x_proj), COLUMNS * LANES)
    x_and_z = F.pad(in_proj.view(2, d_inner, d_model), (0, 0, 0, inner - d_inner))
    return Weights(
        _array(torch.stack([*norm, torch.ones(d_model)]), 3, outer),
        _array(x_and_z.flatten(0, 1).T, outer, 2 * inner),
        _array(torch.cat([conv1d[0][:, 0].T, conv1d[1][None]]), None, inner),
        _array(x_proj.T, inner, columns),
        _array(torch.cat([dt_proj[0].T, dt_proj[1][None]]), None, inner),
        _array(A_log.exp().mul(-math.log2(math.e)).T, None, inner),
        _array(D[None], 1, inner),
        _array(out_proj.T, inner, outer),
    )


def _padded(width: int, unit: int) -> int:
    return -(-width // unit) * unit


def _array(matrix: Tensor, rows: int | None, columns: int) -> Floats:
    """Pad a matrix with zeros; torch starts it at a multiple of 64 bytes."""
    missing = (rows or len(matrix)) - len(matrix)
    padded = F.pad(matrix.detach(), (0, columns - matrix.shape[1], 0, missing))
    array: Floats = padded.contiguous().numpy()
    return array


def mamba_block(tokens: Tensor, weights: Weights, epsilon: float) -> Tensor:
    """Return tokens + Mamba(LayerNorm(tokens)), without a graph for gradients.

    Parameters
    ----------
    tokens : Tensor on the CPU, shape (batch, L, d_model)
        Sequences; several are shared out to as many threads as PyTorch is set to use.
    weights : Weights
        See `pack`.
    epsilon : float
        Of the layer normalisation.

    Returns
    -------
    Tensor of float32, shape (batch, L, d_model)
    """
    ahead.wait_for_it()
    out = torch.empty(tokens.shape)
    source, target = tokens.detach().float().contiguous().numpy(), out.numpy()

    def run(sequence: int) -> None:
        scratch = make_scratch(weights)
        kernel(source[sequence], epsilon, weights, scratch, target[sequence])

    share_out(run, len(source))
    return out
