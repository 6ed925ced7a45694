"""Geometry of tiles: cores that cover an image, each read with a halo around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A tile of an image, as slices along y and x.

    Attributes
    ----------
    core : tuple of slice
        The part of the image that the tile answers for; cores neither overlap nor leave
        gaps.
    padded : tuple of slice
        The core with its halo, cut at the border of the image.
    """

    core: tuple[slice, slice]
    padded: tuple[slice, slice]

    @property
    def inner(self) -> tuple[slice, slice]:
        """Return where the core lies within the padded part."""
        y, x = (
            slice(core.start - padded.start, core.stop - padded.start)
            for core, padded in zip(self.core, self.padded, strict=True)
        )
        return y, x


def tiles(shape: tuple[int, int], edge: int, halo: int, align: int = 1) -> list[Tile]:
    """Cover an image with tiles whose padded edge is at most ``edge`` pixels.

    Parameters
    ----------
    shape : (height, width)
        Of the image, pixels.
    edge : int
        Largest padded edge; must exceed twice the halo by ``align``.
    halo : int
        Pixels read around the core.
    align : int
        Cores start at multiples of this number.
    """
    rows, columns = (list(_intervals(length, edge, halo, align)) for length in shape)
    return [Tile((y, x), (py, px)) for y, py in rows for x, px in columns]


def _intervals(
    length: int, edge: int, halo: int, align: int
) -> Iterator[tuple[slice, slice]]:
    """Split a length evenly; yield core and padded interval of each part."""
    if length <= edge:
        yield slice(0, length), slice(0, length)
        return
    units = -(-length // align)
    count = -(-units // ((edge - 2 * halo) // align))
    bounds = [min(length, align * round(k * units / count)) for k in range(count + 1)]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        yield slice(start, stop), slice(max(0, start - halo), min(length, stop + halo))
