"""Inter-image pixel shuffling (Section III-A): training pairs from sharp images.

Everything works on torch tensors of shape (batch, channels, H, W) and draws its random
numbers from a `torch.Generator` that is passed in.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from napari_ips.config import LowPassKind


def draw_kernel_size(smallest: int, largest: int, generator: Generator) -> int:
    """Draw an odd kernel size uniformly from [smallest, largest] (Section III-C)."""
    count = (largest - smallest) // 2 + 1
    return smallest + 2 * int(torch.randint(count, (), generator=generator))


def low_pass(
    image: Tensor, kind: LowPassKind, size: int, padding: str = "reflect"
) -> Tensor:
    """Blur a focused image into a defocused one, I_d of Eq. (1).

    Parameters
    ----------
    image : Tensor, shape (batch, channels, H, W)
        Focused image.
    kind : {"mean", "median", "gaussian"}
        Filter (Table V). The Gaussian's sigma is a sixth of its size.
    size : int
        Odd edge of the kernel in pixels; 1 returns the image.
    padding : {"reflect", "constant"}
        What lies beyond the border: the image mirrored, or zeros, which darken it.

    Returns
    -------
    Tensor
        Shape and dtype of ``image``.
    """
    if size % 2 == 0 or size < 1:
        raise ValueError(f"size must be odd and positive, not {size}")
    if size == 1:
        return image
    padded = _pad(image, size // 2, padding)
    if kind == "mean":
        taps = image.new_full((size,), 1.0 / size)
    elif kind == "gaussian":
        x = torch.arange(size, dtype=image.dtype, device=image.device) - size // 2
        taps = torch.exp(-0.5 * (x * 6.0 / size) ** 2)
        taps = taps / taps.sum()
    elif kind == "median":
        windows = padded.unfold(2, size, 1).unfold(3, size, 1)
        return windows.flatten(4).median(dim=4).values
    else:
        raise ValueError(f"kind must be mean, median or gaussian, not {kind!r}")
    return _separable(padded, taps)


def _pad(image: Tensor, margin: int, padding: str) -> Tensor:
    """Pad by a margin that may exceed the image, which torch's reflection refuses."""
    while margin > 0:
        step = min(margin, *(length - 1 for length in image.shape[2:]))
        if padding == "reflect" and step < 1:
            padding, step = "replicate", margin
        if padding != "reflect":
            step = margin
        image = F.pad(image, (step,) * 4, mode=padding)
        margin -= step
    return image


def _separable(padded: Tensor, taps: Tensor) -> Tensor:
    """Convolve rows, then columns, without further padding."""
    batch, channels, height, width = padded.shape
    planes = padded.reshape(batch * channels, 1, height, width)
    planes = F.conv2d(F.conv2d(planes, taps[None, None, None]), taps[None, None, :, None])
    return planes.reshape(batch, channels, *planes.shape[2:])


def pixel_mask(shape: tuple[int, ...], ratio: float, generator: Generator) -> Tensor:
    """Draw m of Eq. (2): every pixel and channel 0 with probability ``ratio``, else 1."""
    return (torch.rand(shape, generator=generator) >= ratio).float()


def blob_mask(
    shape: tuple[int, int, int, int], ratio: float, scale: float, generator: Generator
) -> Tensor:
    """Draw a mask of smooth regions, of which a share of about ``ratio`` is 0.

    Noise smoothed over ``scale`` pixels is cut at its own quantile, so that regions in
    and out of focus have curved borders as in a real pair. All channels share it.
    """
    batch, channels, height, width = shape
    # A coarse grid enlarged smoothly is the same noise, at a fraction of the cost.
    coarse = [max(2, math.ceil(length / scale) + 1) for length in (height, width)]
    noise = torch.randn((batch, 1, *coarse), generator=generator)
    smooth = F.interpolate(noise, (height, width), mode="bicubic", align_corners=True)
    threshold = smooth.flatten(1).quantile(ratio, dim=1)[:, None, None, None]
    return (smooth >= threshold).float().expand(shape).clone()


def shuffle(focused: Tensor, defocused: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange the pixels of two images where ``mask`` is 0, Eq. (2).

    Shuffling twice with the same mask gives both images back. The values are picked,
    not multiplied, so that the pair at every position stays bit-exact.

    Parameters
    ----------
    focused, defocused, mask : Tensor
        Of one shape; the mask holds 0 and 1.

    Returns
    -------
    first, second : Tensor
        I_f m + I_d (1 - m), and I_f (1 - m) + I_d m.
    """
    keep = mask.bool()
    return torch.where(keep, focused, defocused), torch.where(keep, defocused, focused)
