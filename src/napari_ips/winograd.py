"""Convolutions 3 x 3 on the CPU, to infer only, by Winograd's method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from napari_ips import ahead
from napari_ips.kernels.winograd import Floats, convolve, fits, make_scratch
from napari_ips.scan.threads import share_out

__all__ = ["fits", "join"]


def _matrices(weights: Sequence[Tensor]) -> Floats:
    """Transform weights (outputs, inputs, 3, 3) each into (16 * inputs, outputs)."""
    g = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])
    stacked = torch.stack([weight.detach() for weight in weights])
    transformed = torch.einsum("ia,jb,socab->sijco", g, g, stacked).flatten(1, 3)
    matrices: Floats = transformed.contiguous().numpy()
    return matrices


def _pixels(image: Tensor) -> Floats:
    """(batch, c, H, W) as (batch, H * W, c), a view where the memory order allows it."""
    pixels: Floats = image.permute(0, 2, 3, 1).contiguous().flatten(1, 2).numpy()
    return pixels


def join(
    features: Tensor, others: Tensor, residual: Sequence[nn.Conv2d], joining: nn.Conv2d
) -> Tensor:
    """Send features through residual blocks, join them with others, and rectify.

    Parameters
    ----------
    features, others : Tensor of float32 on the CPU, shape (batch, c, H, W)
        Fastest in memory order (batch, H, W, c). See `fits` for c.
    residual : sequence of nn.Conv2d
        Both convolutions of every block, from c channels to c.
    joining : nn.Conv2d
        Convolution from 2 c channels to c, of which the first c are the blocks'.

    Returns
    -------
    Tensor of float32, shape (batch, c, H, W)
    """
    ahead.wait_for_it()
    batch, c, height, width = features.shape
    convs = [*residual, joining]
    halves = joining.weight[:, :c], joining.weight[:, c:]
    matrices = _matrices([*(conv.weight for conv in residual), *halves])
    biases = torch.stack([cast(Tensor, conv.bias).detach() for conv in convs]).numpy()
    out = torch.empty((batch, height, width, c)).permute(0, 3, 1, 2)
    first, second, target = _pixels(features), _pixels(others), _pixels(out)

    def run(k: int) -> None:
        scratch = make_scratch(len(residual), width, c)
        size = (height, width)
        convolve(first[k], second[k], size, matrices, biases[:, None], scratch, target[k])

    share_out(run, batch)
    return out
