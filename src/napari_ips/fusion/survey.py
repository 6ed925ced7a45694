"""One look at a whole stack before it is fused: its range, its noise, its coarse scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import ProgressCallback
from napari_ips.fusion.compute import Runner, Telling
from napari_ips.fusion.memory import whole_or_quarters
from napari_ips.fusion.plan import Plan, Plane
from napari_ips.fusion.scales import downscale
from napari_ips.fusion.settings import FusionSettings, grey_values
from napari_ips.fusion.tiles import Area, Core, Shape, over, scaled, within
from napari_ips.intensity import FloatImage, luminance

# Reads all slices of an area of the image: (n, h, w) or (n, h, w, colours).
Reader = Callable[[slice, slice], NDArray[Any]]

# Pixels of the whole stack that its intensity range is taken from.
_SAMPLES = 2_000_000
# Part of the image, in pixels, in which the noise is measured.
_NOISE_WINDOW = 512
# Rows, of the scale wanted, that are scaled down at once.
_STRIP = 64


class CoarseLevel(Protocol):
    """The whole stack at 1/``scale``, small enough to be read in large parts."""

    scale: int

    def read(self, area: Area) -> Tensor:
        """Read (n, h, w) of normalised intensities."""

    def write(self, area: Area, values: Tensor) -> None:
        """Put in a part; parts of different tiles at once, from several threads."""


class LevelInMemory:
    """A coarse level of a stack of ``slices`` images of ``shape`` pixels."""

    def __init__(self, slices: int, shape: Shape, scale: int) -> None:
        self.scale = scale
        self._values = torch.empty(slices, *scaled(shape, scale))

    def read(self, area: Area) -> Tensor:
        """Read (n, h, w) of normalised intensities."""
        return self._values[:, *area]

    def write(self, area: Area, values: Tensor) -> None:
        """Put in a part."""
        self._values[:, *area] = values


def prepare(
    plan: Plan,
    plane: Plane,
    runner: Runner,
    callback: ProgressCallback,
    new_level: Callable[[int, Shape, int], CoarseLevel],
) -> tuple[FusionSettings, CoarseLevel | None]:
    """Measure a plane, and fill its coarse level if one of its scales needs it.

    Parameters
    ----------
    plan : Plan
    plane : Plane
        One of its planes.
    runner : Runner
        That works on the tiles.
    callback : callable
        Called with `Progress` after each tile.
    new_level : callable
        Makes a level of a number of slices, a shape and a scale.
    """
    read, shape, tiles = plan.readers(plane)[0], plan.image_shape, plan.tiles
    telling = Telling(runner, "measuring", len(tiles), callback)
    settings = measure(read, plan.slices, shape, tiles, plan.config, telling)
    if 2 * plan.top not in settings.scales:
        return settings, None
    level = new_level(plan.slices, shape, 2 * plan.top)
    telling = Telling(runner, "scaling down", len(tiles), callback)
    fill_level(read, tiles, level, settings, telling)
    return settings, level


def measure(
    read: Reader,
    slices: int,
    shape: Shape,
    tiles: Sequence[Core],
    config: FuseConfig,
    runner: Runner,
) -> FusionSettings:
    """Look at a whole stack, tile by tile, and settle how to fuse it."""
    centre = read(*_centre(shape))
    grey = luminance(centre) if centre.ndim == 4 else centre
    known = grey[np.isfinite(grey)]
    offset = float(np.median(known)) if known.size else 0.0
    if known.dtype == np.float64 and known.size:
        low, high = np.percentile(known, [1, 99], method="nearest")
        # Outliers, such as a huge value for no data, are no harm.
        if not high / 2 - low / 2 < np.finfo(np.float32).max / 2:
            raise IPSError(
                f"Intensities from {low:.3g} to {high:.3g} are too far apart to be "
                "compared; rescale the stack."
            )
    step = max(1, math.ceil(math.sqrt(slices * shape[0] * shape[1] / _SAMPLES)))

    def sample(part: Core) -> FloatImage:
        y, x = part.in_image(shape)
        picked = read(y, x)[:, -y.start % step :: step, -x.start % step :: step]
        return grey_values(picked, offset).numpy().reshape(-1)

    def sample_tile(tile: Core) -> FloatImage:
        parts = whole_or_quarters(sample, tile, shape)
        return np.concatenate([picked for _, picked in parts])

    samples = {tile.key: picked for tile, picked in runner.tiles(sample_tile, tiles)}
    everything = np.concatenate([samples[tile.key] for tile in tiles])
    noise_sample = grey_values(centre, offset).numpy()
    return FusionSettings.measured(config, shape, offset, everything, noise_sample)


def fill_level(
    read: Reader,
    tiles: Sequence[Core],
    level: CoarseLevel,
    settings: FusionSettings,
    runner: Runner,
) -> None:
    """Scale a whole stack down, tile by tile, into its coarse level."""

    def fill(part: Core) -> None:
        y, x = part.in_image(settings.shape)
        data = Kept(read, (y, x))
        values = read_scaled(data, (y, x), level.scale, settings)
        level.write(over((y, x), level.scale), values)

    def fill_tile(tile: Core) -> None:
        whole_or_quarters(fill, tile, settings.shape)

    for _ in runner.tiles(fill_tile, tiles):
        pass


class Kept:
    """A reader of an area that was read once and is kept."""

    def __init__(self, read: Reader, area: Area) -> None:
        self.area = area
        self.data: NDArray[Any] = read(*area)

    def __call__(self, y: slice, x: slice) -> NDArray[Any]:
        """Return all slices of a part of the area."""
        return self.data[:, *within((y, x), self.area)]


def scaled_down(values: Tensor, factor: int) -> Tensor:
    """Average (n, h, w) over squares of ``factor``, a power of 2, by halving."""
    for _ in range(factor.bit_length() - 1):
        values = downscale(values)
    return values


def read_scaled(read: Reader, area: Area, factor: int, settings: FusionSettings) -> Tensor:
    """Read an area of the image, in its pixels, as normalised values at 1/``factor``.

    The area has to begin at multiples of the factor, and to end so too or at the border.
    """
    y, x = area
    strips = []
    # No large part of an image is ever held as float32.
    for start in range(y.start, y.stop, _STRIP * factor):
        rows = slice(start, min(y.stop, start + _STRIP * factor))
        values = settings.normalised(grey_values(read(rows, x), settings.offset))
        strips.append(scaled_down(values, factor))
    return torch.cat(strips, dim=1)


def _centre(shape: Shape) -> Area:
    y, x = (
        slice(max(0, (n - _NOISE_WINDOW) // 2), min(n, (n + _NOISE_WINDOW) // 2))
        for n in shape
    )
    return y, x
