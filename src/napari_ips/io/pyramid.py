"""Pictures larger than memory, window by window, and their levels of resolution."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_ips.io.metadata import Metadata

Kind = Literal["image", "index", "map"]
Window = tuple[slice, slice]
Piece = tuple[int, int, Window]
Progress = Callable[[int, int], None]
Item = TypeVar("Item")

# A level that fits a screen needs no smaller one.
_SMALLEST = 512
THREADS = min(4, os.cpu_count() or 1)
_BATCH = 256


@dataclass(frozen=True)
class Picture:
    """What is to be written: a numpy or zarr array (T, C, Y, X[, S]) and its meaning.

    A z-stack is a picture as well, whose axes are (T, Z, Y, X[, S]).
    """

    array: Any
    metadata: Metadata
    rgb: bool
    name: str
    kind: Kind = "image"
    second: Literal["C", "Z"] = "C"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def axes(self) -> str:
        """Return a letter per axis."""
        return f"T{self.second}YX" + ("S" if self.rgb else "")

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (T, C, Y, X[, S])."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the values, in the byte order of this machine."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype).newbyteorder("=")
        return dtype

    @property
    def nbytes(self) -> int:
        """Return the size in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def shape_without_single(self) -> tuple[tuple[int, ...], str]:
        """Return the shape without T and C where there is only one, and its axes."""
        kept = [
            (letter, n)
            for letter, n in zip(self.axes, self.shape, strict=True)
            if letter not in "TC" or n > 1
        ]
        return tuple(n for _, n in kept), "".join(letter for letter, _ in kept)

    @property
    def planes(self) -> list[tuple[int, int]]:
        """Return (t, c) of every plane, in the order of files."""
        return list(np.ndindex(self.shape[0], self.shape[1]))

    def pieces(self, windows: list[Window]) -> Iterator[Piece]:
        """Return (t, c, window) of every window in every plane."""
        return ((t, c, window) for t, c in self.planes for window in windows)

    def read(self, t: int, c: int, window: Window) -> NDArray[Any]:
        """Load a window (Y, X[, S]) of a plane."""
        return np.ascontiguousarray(self.array[(t, c, *window)], self.dtype)


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return height and width of every level, from the full size down."""
    sizes = [(height, width)]
    while max(sizes[-1]) > _SMALLEST:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def windows(height: int, width: int, rows: int, columns: int) -> list[Window]:
    """Cut a plane into windows, row by row."""
    return [
        (slice(y, min(y + rows, height)), slice(x, min(x + columns, width)))
        for y, x in itertools.product(range(0, height, rows), range(0, width, columns))
    ]


def doubled(window: Window, height: int, width: int) -> Window:
    """Return the window that becomes ``window`` one level further down."""
    y, x = window
    return (
        slice(2 * y.start, min(2 * y.stop, height)),
        slice(2 * x.start, min(2 * x.stop, width)),
    )


def halved(block: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """Halve the size of a block (Y, X[, S]), rounded up.

    A pixel is the mean of 2 x 2 pixels, of integers the nearest integer, halves
    rounded up; NaN is left out of a mean unless there is nothing else. Of an index map
    every second pixel is kept, since a mean of slice numbers is no slice.
    """
    if kind == "index":
        return block[::2, ::2]
    odd = [(0, length % 2) for length in block.shape[:2]]
    # The pixels at an odd edge count twice, which leaves the mean of those there are.
    block = np.pad(block, [*odd, *[(0, 0)] * (block.ndim - 2)], mode="edge")
    four = [block[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    if block.dtype.kind in "ui":
        return _integer_mean(four)
    return _mean_without_nan(four)


def _integer_mean(four: list[NDArray[Any]]) -> NDArray[Any]:
    # In two parts that overflow in no type: quarters, and the sum of what they leave.
    a, b, c, d = four
    quarters = (a >> 2) + (b >> 2) + (c >> 2) + (d >> 2)
    rest = (a & 3) + (b & 3) + (c & 3) + (d & 3)
    mean: NDArray[Any] = quarters + ((rest + 2) >> 2)
    return mean


def _mean_without_nan(four: list[NDArray[Any]]) -> NDArray[Any]:
    dtype = four[0].dtype
    total = np.zeros(four[0].shape, np.float64)
    count = np.zeros(four[0].shape, np.uint8)
    # Infinity less infinity, nothing by nothing: NaN is the answer.
    with np.errstate(invalid="ignore"):
        for part in four:
            known = ~np.isnan(part)
            np.add(total, part, out=total, where=known)
            count += known
        return (total / count).astype(dtype)


def in_parallel(
    function: Callable[[Item], None], items: Iterable[Item], done: Callable[[], None]
) -> None:
    """Call a function with every item in a few threads; ``done`` after each, here.

    Nothing runs any more when this returns or raises.
    """
    items = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        # A pool takes all it is given at once, and a long series has a million pieces.
        while batch := list(itertools.islice(items, _BATCH)):
            for _ in pool.map(function, batch):
                done()


class Steps:
    """Count the steps of a job and tell a callback, if there is one."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._done = 0

    def __call__(self) -> None:
        """Count one step."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
