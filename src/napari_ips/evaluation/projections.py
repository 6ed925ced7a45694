"""Classical flattening of z-stacks of any size, tile by tile.

The same images as the functions of `baselines` make of stacks in memory, of which only
a few slices of one tile are held at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.evaluation.baselines import (
    PREFILTER,
    REACH,
    WINDOW,
    detail,
    rounded,
    squared_laplacian,
)
from napari_ips.events import Progress
from napari_ips.fusion.tiles import Area, grown, within
from napari_ips.io.lazy import LazyStack

Method = Literal["max", "mean", "slice", "window"]
METHODS: tuple[Method, ...] = get_args(Method)
Array = NDArray[Any]
_Steps = Generator[Progress, None, Array]

_TILE = 1024
_SLOPE = 1  # Pixels that a Laplacian reaches beyond its own.


class Flattening:
    """Flatten one time point and channel of a z-stack with a classical method.

    Iterating does the work: it yields a `Progress` after each portion of slices of each
    tile, and may be left at any of them. After the last one there is the `image`.

    Parameters
    ----------
    stack : LazyStack
    t, c : int
        Time point and channel, from 0.
    z : slice
        Which slices, as for arrays.
    method : {"max", "mean", "slice", "window"}
        `max_projection`, `mean_projection`, `best_single_slice` or `window_energy`
        (with its defaults) of `napari_ips.evaluation.baselines`. Pixels are the same as
        of these; only equally sharp slices may be told apart differently, where the
        last bits of float arithmetic decide.
    tile : int, optional
        Edge of a tile in pixels; by default 1024, or as many whole chunks of the file
        as hold that.

    Attributes
    ----------
    image : ndarray, (Y, X) or (Y, X, 3 or 4), of the dtype of the stack

    Raises
    ------
    IPSError
        If there is no such method or no slice in ``z``; while iterating, if there is no
        such time point or channel, or the stack cannot be read.
    """

    image: Array

    def __init__(
        self,
        stack: LazyStack,
        t: int = 0,
        c: int = 0,
        z: slice = slice(None),
        method: Method = "max",
        tile: int | None = None,
    ) -> None:
        if method not in METHODS:
            known = ", ".join(METHODS)
            raise IPSError(f"There is no method {method!r}; choose from {known}.")
        slices = range(*z.indices(stack.shape[2]))
        if not slices:
            raise IPSError(
                f"There is no slice to flatten in {z} of {stack.shape[2]} slices."
            )
        work = {"max": _max, "mean": _mean, "slice": _best_slice, "window": _window}
        self._steps = work[method](_Plane(stack, t, c, slices, tile))

    def __iter__(self) -> Iterator[Progress]:
        self.image = yield from self._steps


@dataclass(frozen=True)
class _Plane:
    """One time point and channel of a stack, cut into tiles and portions of slices."""

    stack: LazyStack
    t: int
    c: int
    slices: range
    tile: int | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.stack.shape[3:]

    def empty(self) -> Array:
        return np.empty((*self.shape, *self.stack.colours), self.stack.dtype)

    def tiles(self) -> list[Area]:
        rows, columns = (
            [slice(start, min(start + edge, length)) for start in range(0, length, edge)]
            for edge, length in zip(self._edges(), self.shape, strict=True)
        )
        return [(y, x) for y in rows for x in columns]

    def portions(self) -> list[range]:
        """Return the slices in groups that are decoded together."""
        size = max(1, self.stack.chunk_shape[0] if self.stack.chunk_bytes else 1)
        return [self.slices[n : n + size] for n in range(0, len(self.slices), size)]

    def read(self, numbers: range, area: Area) -> Iterator[tuple[int, Array]]:
        """Read a window of some slices: number and pixels of each."""
        first, last = min(numbers), max(numbers)
        z = slice(first, last + 1)
        block = self.stack.read(self.t, self.c, z, *area)
        return ((number, block[number - first]) for number in numbers)

    def _edges(self) -> tuple[int, int]:
        if self.tile is not None:
            return self.tile, self.tile
        chunk = self.stack.chunk_shape[1:] if self.stack.chunk_bytes else (1, 1)
        height, width = (-(-_TILE // edge) * edge for edge in chunk)
        return height, width


class _Count:
    """Counts the steps of a flattening."""

    def __init__(self, task: str, total: int) -> None:
        self._task, self._total, self._done = task, total, 0

    def step(self) -> Progress:
        self._done += 1
        return Progress(self._task, self._done, self._total)


def _max(plane: _Plane) -> _Steps:
    image, tiles, portions = plane.empty(), plane.tiles(), plane.portions()
    count = _Count("max projection", len(tiles) * len(portions))
    for area in tiles:
        brightest: Array | None = None
        for numbers in portions:
            for _, part in plane.read(numbers, area):
                brightest = part if brightest is None else np.maximum(brightest, part)
            yield count.step()
        image[area] = brightest
    return image


def _mean(plane: _Plane) -> _Steps:
    image, tiles, portions = plane.empty(), plane.tiles(), plane.portions()
    count = _Count("mean projection", len(tiles) * len(portions))
    for area in tiles:
        total = np.zeros(image[area].shape, np.float64)
        for numbers in portions:
            for _, part in plane.read(numbers, area):
                total += part
            yield count.step()
        image[area] = rounded(total / len(plane.slices), image.dtype)
    return image


def _best_slice(plane: _Plane) -> _Steps:
    image, tiles, portions = plane.empty(), plane.tiles(), plane.portions()
    count = _Count("best single slice", len(tiles) * (len(portions) + 1))
    scores = dict.fromkeys(plane.slices, 0.0)
    for area in tiles:
        outer = grown(area, _SLOPE, plane.shape)
        for numbers in portions:
            for number, part in plane.read(numbers, outer):
                squares = squared_laplacian(part)[within(area, outer)]
                scores[number] += float(squares.sum())
            yield count.step()
    best = plane.slices[int(np.argmax(list(scores.values())))]
    for area in tiles:
        ((_, image[area]),) = plane.read(range(best, best + 1), area)
        yield count.step()
    return image


def _window(plane: _Plane) -> _Steps:
    image, tiles, portions = plane.empty(), plane.tiles(), plane.portions()
    count = _Count("window energy", len(tiles) * len(portions))
    for area in tiles:
        outer = grown(area, REACH, plane.shape)
        inner = within(area, outer)
        chosen = image[area]
        largest = np.full(chosen.shape[:2], -np.inf, np.float32)
        for numbers in portions:
            for _, part in plane.read(numbers, outer):
                energy = detail(part, WINDOW, PREFILTER)[inner]
                sharper = energy > largest
                largest[sharper] = energy[sharper]
                chosen[sharper] = part[inner][sharper]
            yield count.step()
    return image
