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

# What a disk reads at once anyway: inner axes up to so many bytes are not taken apart.
_SHORT = 4096
# Whole rows are read together up to this size.
_LONG = 2**20


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
        out = np.empty([len(part) for part in ranges], self.dtype)
        lead, page = ranges[: self._leading], ranges[self._leading :]
        for where in np.ndindex(*(len(part) for part in lead)) if out.size else ():
            file, offset = self._places[_flat(lead, where, self.shape)]
            with FileIO(file) as opened:
                self._read_page(opened, offset, page, out[where])
        return out[tuple(slice(None) if isinstance(i, slice) else 0 for i in index)]

    def _read_page(
        self, file: FileIO, offset: int, window: list[range], out: NDArray[Any]
    ) -> None:
        """Read a window: one run of bytes after another, each as long as can be."""
        shape = self.shape[self._leading :]
        axis = _run_axis(shape, window, self.dtype.itemsize)
        outer, along, inner = window[:axis], window[axis], window[axis + 1 :]
        run = np.empty((along[-1] + 1 - along[0], *shape[axis + 1 :]), self.dtype)
        taken = [slice(None, None, along.step)]
        taken += [slice(part.start, part.stop, part.step) for part in inner]
        for where in np.ndindex(*(len(part) for part in outer)):
            first = _flat(outer, where, shape) * shape[axis] + along[0]
            file.seek(offset + first * run[:1].nbytes)
            _fill(file, run)
            out[where] = run[tuple(taken)]


def _flat(parts: list[range], where: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return the number of a place in all of `shape`, given the place in `parts`."""
    number = 0
    for part, place, n in zip(parts, where, shape, strict=False):
        number = number * n + part[place]
    return number


def _run_axis(shape: tuple[int, ...], window: list[range], itemsize: int) -> int:
    """Choose the axis along which a run of bytes goes; the axes after it are read whole.

    These are short, or wanted whole, and then a run is still not longer than need be.
    """
    axis = len(shape) - 1
    size = itemsize * shape[axis]
    wanted = window[axis] == range(shape[axis])
    while axis and (size <= _SHORT or (wanted and size <= _LONG)):
        axis -= 1
        size *= shape[axis]
        wanted = wanted and window[axis] == range(shape[axis])
    return axis


def _fill(file: FileIO, part: NDArray[Any]) -> None:
    view = part.reshape(-1).view(np.uint8).data
    while view:
        count = file.readinto(view)
        if not count:
            raise EOFError("the file ends too soon")
        view = view[count:]
