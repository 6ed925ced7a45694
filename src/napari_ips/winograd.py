"""Convolutions 3 x 3 on the CPU by Winograd's method, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from napari_ips import ahead
from napari_ips.kernels import winograd as kernels
from napari_ips.kernels.winograd import Floats, fits, make_scratch
from napari_ips.scan.threads import share_out

__all__ = ["convolve", "fits", "join"]


def _matrices(weights: Sequence[Tensor]) -> Floats:
    """Transform weights (outputs, inputs, 3, 3) each into (16 * inputs, outputs)."""
    g = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])
    stacked = torch.stack([weight.detach() for weight in weights])
    transformed = torch.einsum("ia,jb,socab->sijco", g, g, stacked).flatten(1, 3)
    matrices: Floats = transformed.contiguous().numpy()
    return matrices


def _pixels(image: Tensor) -> Floats:
    """(batch, c, H, W) as (batch, H * W, c), a view where the memory order allows it."""
    pixels: Floats = image.detach().permute(0, 2, 3, 1).contiguous().flatten(1, 2).numpy()
    return pixels


def _room(like: Tensor, channels: int) -> Tensor:
    shape = (len(like), channels, *like.shape[2:])
    return torch.empty(shape, memory_format=torch.channels_last)


def convolve(image: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve, with gradients.

    Parameters
    ----------
    image : Tensor of float32 on the CPU, shape (batch, c, H, W)
        Fastest in memory order (batch, H, W, c).
    conv : nn.Conv2d
        Of 3 x 3 pixels with a bias, whose border is padded by 1; see `fits` for its
        numbers of channels.

    Returns
    -------
    Tensor of float32, shape (batch, d, H, W)
    """
    out: Tensor = _Convolution.apply(image, conv.weight, conv.bias)  # type: ignore[no-untyped-call]
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)
        return _convolved(image, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient,), (image, weight) = grads, ctx.saved_tensors
        back = weight.flip(2, 3).transpose(0, 1)
        by_image = _convolved(gradient, back, torch.zeros(len(back)))
        by_weight: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            image, weight.shape, gradient, padding=1
        )
        return by_image, by_weight, gradient.sum((0, 2, 3))


def _convolved(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    (d, c), (height, width) = weight.shape[:2], image.shape[2:]
    (matrices,) = _matrices([weight])
    out = _room(image, d)
    source, target, offset = _pixels(image), _pixels(out), bias.detach()[None].numpy()

    def run(k: int) -> None:
        scratch = make_scratch(0, width, c, d)
        kernels.convolve(source[k], (height, width), matrices, offset, scratch, target[k])

    share_out(run, len(source))
    return out


def join(
    features: Tensor, others: Tensor, residual: Sequence[nn.Conv2d], joining: nn.Conv2d
) -> Tensor:
    """Send features through residual blocks, join them with others, and rectify.

    Without a graph for gradients.

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
    out = _room(features, c)
    first, second, target = _pixels(features), _pixels(others), _pixels(out)

    def run(k: int) -> None:
        scratch = make_scratch(len(residual), width, c, c)
        size = (height, width)
        given = (matrices, biases[:, None], scratch)
        kernels.join(first[k], second[k], size, *given, target[k])

    share_out(run, batch)
    return out
