"""Geometry: the fixed grid of cores in which the network sees an image, scale by scale.

At every scale the image is cut into cores of `CORE` pixels, which the network sees with a
halo around them. The grid depends on the size of the image alone, and the cores of one
scale hold those of the next finer one, so that whatever is computed core by core is the
same in whatever portions and order the work is done.
"""

from __future__ import annotations

from dataclasses import dataclass

# Edge of a core, in pixels of its scale. Larger ones leave the processor's cache.
CORE = 256

Area = tuple[slice, slice]
Shape = tuple[int, int]


@dataclass(frozen=True)
class Core:
    """The part ``y``, ``x`` of an image at 1/``scale`` of its resolution."""

    scale: int
    y: slice
    x: slice

    @property
    def area(self) -> Area:
        """The core as slices, in pixels of its scale."""
        return self.y, self.x

    @property
    def key(self) -> str:
        """Name of the core: scale and upper left corner."""
        return f"{self.scale}-{self.y.start}-{self.x.start}"

    def in_image(self, shape: Shape) -> Area:
        """Return the core in pixels of the image, which has ``shape``."""
        return clipped(times(self.area, self.scale), shape)


def scaled(shape: Shape, scale: int) -> Shape:
    """Return the size of an image at 1/``scale`` of the resolution, rounded up."""
    return -(-shape[0] // scale), -(-shape[1] // scale)


def cores(shape: Shape, scale: int) -> list[Core]:
    """Cover an image of ``shape`` pixels with cores at a scale, row by row."""
    rows, columns = (_intervals(length) for length in scaled(shape, scale))
    return [Core(scale, y, x) for y in rows for x in columns]


def children(core: Core, shape: Shape) -> list[Core]:
    """Return the cores at twice the resolution that cover the same part."""
    finer = core.scale // 2
    rows, columns = (
        [
            part
            for part in _intervals(length)
            if 2 * whole.start <= part.start < 2 * whole.stop
        ]
        for whole, length in zip(core.area, scaled(shape, finer), strict=True)
    )
    return [Core(finer, y, x) for y in rows for x in columns]


def parent(core: Core, shape: Shape) -> Core:
    """Return the core at half the resolution that holds this one."""
    coarser = 2 * core.scale
    y, x = (
        next(
            whole
            for whole in _intervals(length)
            if 2 * whole.start <= part.start < 2 * whole.stop
        )
        for part, length in zip(core.area, scaled(shape, coarser), strict=True)
    )
    return Core(coarser, y, x)


def grown(area: Area, margin: int, shape: Shape) -> Area:
    """Widen an area by ``margin`` pixels on every side, as far as ``shape`` goes."""
    y, x = (slice(part.start - margin, part.stop + margin) for part in area)
    return clipped((y, x), shape)


def times(area: Area, factor: int) -> Area:
    """Return an area in pixels ``factor`` times as small."""
    y, x = (slice(part.start * factor, part.stop * factor) for part in area)
    return y, x


def over(area: Area, factor: int) -> Area:
    """Return an area in pixels ``factor`` times as large: all that it touches."""
    y, x = (slice(part.start // factor, -(-part.stop // factor)) for part in area)
    return y, x


def clipped(area: Area, shape: Shape) -> Area:
    """Return what of an area lies in an image of ``shape`` pixels."""
    return overlap(area, (slice(0, shape[0]), slice(0, shape[1])))


def overlap(area: Area, other: Area) -> Area:
    """Return the part that two areas share, which may be empty."""
    y, x = (
        slice(max(one.start, two.start), min(one.stop, two.stop))
        for one, two in zip(area, other, strict=True)
    )
    return y, x


def is_empty(area: Area) -> bool:
    """Tell whether an area holds no pixel."""
    return any(part.start >= part.stop for part in area)


def within(area: Area, outer: Area) -> Area:
    """Return where ``area`` lies within ``outer``."""
    y, x = (
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(area, outer, strict=True)
    )
    return y, x


def _intervals(length: int) -> list[slice]:
    """Cut at multiples of `CORE`; a rest of less than half joins its neighbour."""
    count = max(1, (length + CORE // 2) // CORE)
    bounds = [*range(0, count * CORE, CORE), length]
    return [slice(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]
