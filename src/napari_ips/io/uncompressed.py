"""Uncompressed pages, of which only the bytes that are asked for are read.

Not memory-mapped: when a file is cut off or a network drive fails, a read raises an
error, where a memory map ends the process.
"""

from __future__ import annotations

import math
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A file and where in it a page begins.
Place = tuple[str, int]

# What a disk reads at once anyway: inner axes up to this size are not taken apart.
_RUN = 4096


class UncompressedPages:
    """An array that lies in files as it is, in one block or page by page.

    Parameters
    ----------
    shape : tuple of int
    stored : dtype
        As in the file, with its byte order.
    places : list of (file, offset)
        Of each page, in order; their number divides the first axes of `shape`.
    """

    def __init__(
        self, shape: tuple[int, ...], stored: np.dtype[Any], places: list[Place]
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = stored
        self.chunk_bytes = stored.itemsize
        self._places = places
        leading = 0
        while math.prod(self.shape[:leading]) < len(places):
            leading += 1
        if math.prod(self.shape[:leading]) != len(places):
            raise ValueError(f"{len(places)} pages do not fit the shape {self.shape}")
        self._leading = leading

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        """Read a part; slices with a positive step, or whole numbers."""
        ranges = [
            range(*i.indices(n)) if isinstance(i, slice) else range(i, i + 1)
            for i, n in zip(index, self.shape, strict=True)
        ]
        lead, page = ranges[: self._leading], ranges[self._leading :]
        out = np.empty([len(part) for part in ranges], self.dtype)
        for where in np.ndindex(*(len(part) for part in lead)):
            number = 0
            for part, place, n in zip(lead, where, self.shape, strict=False):
                number = number * n + part[place]
            file, offset = self._places[number]
            with FileIO(file) as opened:
                out[where] = self._read_page(opened, offset, page)
        return out[tuple(slice(None) if isinstance(i, slice) else 0 for i in index)]

    def _read_page(self, file: FileIO, offset: int, window: list[range]) -> NDArray[Any]:
        """Read a window: one run of bytes after another, each as long as can be."""
        shape = self.shape[self._leading :]
        run = _run_axis(shape, window, self.dtype.itemsize)
        outer, inner = window[:run], window[run + 1 :]
        first, last = window[run][0], window[run][-1]
        found = np.empty(
            [len(part) for part in outer] + [last + 1 - first, *shape[run + 1 :]],
            self.dtype,
        )
        step = math.prod(shape[run + 1 :]) * self.dtype.itemsize
        for where in np.ndindex(*(len(part) for part in outer)):
            number = 0
            for part, place, n in zip(outer, where, shape, strict=False):
                number = number * n + part[place]
            file.seek(offset + (number * shape[run] + first) * step)
            _fill(file, found[where])
        taken = [slice(None, None, window[run].step)]
        taken += [slice(part.start, part.stop, part.step) for part in inner]
        return found[(slice(None),) * len(outer) + tuple(taken)]


def _run_axis(shape: tuple[int, ...], window: list[range], itemsize: int) -> int:
    """Choose the axis along which a run of bytes goes; the axes after it are whole."""
    axis = len(shape) - 1
    size = itemsize * shape[axis]
    while axis and (size <= _RUN or window[axis] == range(shape[axis])):
        axis -= 1
        size *= shape[axis]
    return axis


def _fill(file: FileIO, part: NDArray[Any]) -> None:
    view = part.reshape(-1).view(np.uint8).data
    while view:
        count = file.readinto(view)
        if not count:
            raise EOFError("the file ends too soon")
        view = view[count:]
