"""Batches of training pairs: sharp crops, blurred and shuffled (Section III-A)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor

from napari_ips.config import TrainConfig
from napari_ips.shuffling import blob_mask, draw_kernel_size, low_pass, pixel_mask, shuffle
from napari_ips.training.images import ImagePool

# A slice that is only nearly in focus is blurred by a kernel of at most this size.
_NEAR_FOCUS = 7
# JPEG of lower quality is for no measurement.
_LEAST_QUALITY = 60


@dataclass(frozen=True)
class PairBatch:
    """Two sources and what they should become, each (batch, channels, H, W).

    Attributes
    ----------
    source1, source2 : Tensor
        What the network sees.
    target : Tensor
        The sharper pixel of every position, without the noise of the sources.
    selection : Tensor
        1 where source 1 holds the sharper pixel, else 0.
    stake : Tensor
        Difference of the sources before noise: how much the choice matters.
    """

    source1: Tensor
    source2: Tensor
    target: Tensor
    selection: Tensor
    stake: Tensor

    def to(self, device: torch.device) -> PairBatch:
        """Return the batch on another device."""
        return PairBatch(*(getattr(self, f.name).to(device) for f in fields(self)))

    @classmethod
    def join(cls, pairs: Sequence[PairBatch]) -> PairBatch:
        """Join batches along the first axis."""
        return cls(*(torch.cat([getattr(p, f.name) for p in pairs]) for f in fields(cls)))


def make_batch(pool: ImagePool, config: TrainConfig, iteration: int) -> PairBatch:
    """Draw the batch of one iteration.

    The random numbers depend on the seed and the iteration alone, so that a resumed run
    draws the very batches that an undisturbed one would have drawn.
    """
    rng = np.random.default_rng([config.seed, iteration])
    generator = Generator().manual_seed(int(rng.integers(2**62)))
    margin = config.kernel_range[1] // 2 if config.surroundings else 0
    crops = pool.draw(config.batch_size, config.crop_size, rng, margin)
    pairs = [
        _make_pair(torch.from_numpy(crop)[None], margin, config, generator)
        for crop in crops
    ]
    return PairBatch.join(pairs)


def _make_pair(
    focused: Tensor, margin: int, config: TrainConfig, generator: Generator
) -> PairBatch:
    """Make a pair of a crop that comes with a margin of what lies around it."""
    black = 0.0
    if config.intensity_jitter:
        focused, black = _jitter(focused, generator)
    limit = math.inf
    if config.overexposed > 0 and _chance(config.overexposed, generator):
        focused, limit = _overexposed(focused, margin, generator)
    sharper, softer = _defocus(focused, margin, black, config, generator)
    mask = _mask(sharper.shape, config, generator)
    first, second = shuffle(sharper, softer, mask)
    if _chance(0.5, generator):
        first, second, mask = second, first, 1.0 - mask
    if isinstance(config.noise, str):
        raise ValueError("measure the noise first, once for the whole run")
    if config.noise > 0:
        level = config.noise * _uniform(0.0, 1.0, generator) ** 2
        grain = config.noise_grain > 0 and _chance(config.noise_grain, generator)
        first, second = (_add_noise(s, level, grain, generator) for s in (first, second))
    images = first, second, sharper, softer
    first, second, sharper, softer = (image.clamp(max=limit) for image in images)
    if config.jpeg > 0 and _chance(config.jpeg, generator):
        quality = _LEAST_QUALITY + _below(100 - _LEAST_QUALITY, generator)
        first, second = _compressed(first, quality), _compressed(second, quality)
    return PairBatch(first, second, sharper, mask, (sharper - softer).abs())


def _defocus(
    focused: Tensor,
    margin: int,
    black: float,
    config: TrainConfig,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Return the sharper and the softer image, each with its own filter, no margins.

    Light comes from around the crop as well, unless the border is to be dark: then all is
    black there.
    """
    low, high = config.kernel_range
    size = draw_kernel_size(low, high, generator)
    kind = config.low_pass[_below(len(config.low_pass), generator)]
    dark = _chance(config.dark_border, generator)
    inside = sharper = _inside(focused, margin)
    nearest = min(size - 2, _NEAR_FOCUS)
    if nearest >= low and _chance(config.both_defocused, generator):
        near = draw_kernel_size(low, nearest, generator)
        sharper = _inside(low_pass(focused, kind, near), margin)
    if dark:
        return sharper, low_pass(inside - black, kind, size, "constant") + black
    return sharper, _inside(low_pass(focused, kind, size), margin)


def _inside(image: Tensor, margin: int) -> Tensor:
    height, width = image.shape[2:]
    return image[..., margin : height - margin, margin : width - margin]


def _mask(shape: tuple[int, ...], config: TrainConfig, generator: Generator) -> Tensor:
    """Return a mask by pixel (the paper's) or, for a share of the pairs, by blobs."""
    if not _chance(config.coherent, generator):
        return pixel_mask(shape, config.mask_ratio, generator)
    low, high = config.blob_scale
    scale = low * (high / low) ** _uniform(0.0, 1.0, generator)
    batch, channels, height, width = shape
    return blob_mask((batch, channels, height, width), config.mask_ratio, scale, generator)


def _jitter(image: Tensor, generator: Generator) -> tuple[Tensor, float]:
    """Change gamma, contrast and offset, and invert some: cameras and stains differ.

    The darkest that there can be then, which was 0, is returned as well.
    """
    gamma = 2.0 ** _uniform(-0.7, 0.7, generator)
    image = image.clamp(min=0.0) ** gamma
    contrast = 2.0 ** _uniform(-2.0, 0.3, generator)
    offset = _uniform(0.0, max(0.0, 1.0 - contrast), generator)
    image = contrast * image + offset
    if _chance(0.25, generator):
        return 1.0 - image, 1.0 - (contrast + offset)
    return image, offset


def _overexposed(image: Tensor, margin: int, generator: Generator) -> tuple[Tensor, float]:
    """Brighten the highlights, and draw the intensity at which a camera cuts them off.

    Blurred first and cut off then, they spread over what is darker up to a sharp rim.
    """
    share = _uniform(0.5, 0.98, generator)
    limit = float(_inside(image, margin).quantile(share))
    stretch = 2.0 ** _uniform(0.0, 3.0, generator)
    return torch.where(image > limit, limit + stretch * (image - limit), image), limit


def _add_noise(image: Tensor, level: float, grain: bool, generator: Generator) -> Tensor:
    """Add noise whose variance rises with the intensity, as of photons, plus a floor.

    With grain, neighbouring pixels have some of it in common, as after the interpolation
    of colours or a resampling.
    """
    sigma = level * torch.sqrt(0.3 + 0.7 * image.clamp(min=0.0))
    noise = torch.randn(image.shape, generator=generator)
    if grain:
        noise = low_pass(noise, "gaussian", 5)
        noise = noise / noise.std()
    return image + sigma * noise


def _compressed(images: Tensor, quality: int) -> Tensor:
    """Store and read the channels as JPEG, as many published images have been."""
    values = (images.clamp(0.0, 1.0) * 255.0).round().byte()
    planes = [_through_jpeg(plane.numpy(), quality) for plane in values.flatten(0, 1)]
    return torch.from_numpy(np.stack(planes)).reshape(images.shape).float() / 255.0


def _through_jpeg(plane: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(plane).save(file, "JPEG", quality=quality)
    with Image.open(file) as stored:
        return np.asarray(stored)


def _chance(probability: float, generator: Generator) -> bool:
    return float(torch.rand((), generator=generator)) < probability


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _below(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
