"""Edits of an index map, and the fused images that follow them pixel by pixel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.widgets.stacks import as_planes, from_planes
from napari_ips.widgets.work import told

if TYPE_CHECKING:
    from napari_ips.io import LazyStack

Box = tuple[slice, slice]
Plane = tuple[int, int]
# What was read for a change, or why it could not be read.
Pixels = list[NDArray[Any]] | str
Elsewhere = Callable[[Callable[[], Pixels], Callable[[Pixels], None]], None]


class WatchedArray(np.ndarray[Any, np.dtype[Any]]):
    """An array that tells its owner which part of it was written.

    All tools of a Labels layer, undo and redo among them, write by assignment to its
    data, but only some of them send an event.
    """

    on_write: Callable[[Any], None] | None = None

    def __array_finalize__(self, parent: Any) -> None:
        # Views and copies are not watched.
        self.on_write = None

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if self.on_write is not None:
            self.on_write(key)


@dataclass
class Follower:
    """A fused image that follows the edits of an index map.

    Attributes
    ----------
    pixels : callable
        Returns the image as (T, C, Y, X[, colours]), writable; None once it is gone.
    stack : LazyStack
        From which it was fused.
    originals : dict
        The planes that were edited, as they were before.
    """

    pixels: Callable[[], NDArray[Any] | None]
    stack: LazyStack
    originals: dict[Plane, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """Pixels of one plane whose label is not the one that the fused images show."""

    plane: Plane
    box: Box
    labels: NDArray[Any]
    changed: NDArray[np.bool_]
    edited: NDArray[np.bool_]


class Edits:
    """An index map as labels, and the fused images that follow what is written into it.

    A label is a slice, counted from 1. Where it is the one of the beginning, or 0, or
    beyond the stack, the fused images are what they were.

    Parameters
    ----------
    index : ndarray
        Slices counted from 0; its axes are `letters`.
    letters : str
        T, C, Z, Y, X; a missing C, or one of length 1, stands for all channels, and Z is
        of length 1 if it is there.
    followers : list of Follower
    changed : callable
        Called without arguments after fused images have changed.
    failed : callable
        Called with a line that says why the slices could not be read.
    elsewhere : callable
        Called with a function that reads, to be run in another thread, and a function
        for what it returned, to be run in this one.
    at_once : int
        Up to how many pixels are read in this thread instead.

    Attributes
    ----------
    labels : WatchedArray
        To be edited; its axes are `letters`.
    retouched : int
        How many pixels are not as they were fused.
    """

    def __init__(
        self,
        index: NDArray[Any],
        letters: str,
        followers: list[Follower],
        changed: Callable[[], None],
        failed: Callable[[str], None],
        elsewhere: Elsewhere,
        at_once: int,
    ) -> None:
        self.letters = letters
        self.followers = followers
        self.retouched = 0
        self.slices = min(follower.stack.shape[2] for follower in followers)
        kind = np.uint16 if self.slices < 2**16 - 1 else np.int32
        labels: NDArray[Any] = np.array(index, kind)
        labels += 1
        self.labels = labels.view(WatchedArray)
        self._now: NDArray[Any] = as_planes(np.asarray(self.labels), letters)
        self._start = self._now.copy()
        self._shown: dict[Plane, NDArray[Any]] = {}
        self._waiting: dict[Plane, list[Box]] = defaultdict(list)
        self._changed, self._failed, self._elsewhere = changed, failed, elsewhere
        self._at_once, self._busy = at_once, False
        self.labels.on_write = self._written

    def index(self) -> NDArray[np.uint16]:
        """Return the edited map, (T, C, Y, X): slices counted from 0."""
        named = np.where(self._names_slice(self._now), self._now, self._start)
        return (named - 1).astype(np.uint16)

    def discard(self) -> None:
        """Put everything back to how it was fused."""
        self.labels[...] = from_planes(self._start, self.letters)

    def _written(self, key: Any) -> None:
        for plane, box in self._touched(key):
            self._waiting[plane].append(box)
        self._next()

    def _next(self) -> None:
        """Take up what waits, one plane after the other."""
        while self._waiting and not self._busy:
            plane, boxes = self._waiting.popitem()
            change = self._change(plane, _hull(boxes))
            if change is None:
                continue
            read = partial(told(self._read), change)
            if change.labels.size <= self._at_once:
                self._show(change, read())
            else:
                self._busy = True
                self._elsewhere(read, partial(self._arrived, change))

    def _arrived(self, change: Change, pixels: Pixels) -> None:
        self._busy = False
        self._show(change, pixels)
        # What was painted meanwhile is compared with what is shown now.
        self._next()

    def _touched(self, key: Any) -> Iterator[tuple[Plane, Box]]:
        """Return the planes that an index into the labels covers, and where in them."""
        shape, whole = self.labels.shape, tuple(map(slice, self.labels.shape))
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) != len(shape) or not all(isinstance(p, slice) for p in parts):
            parts = whole
        bounds = [range(n)[part] for part, n in zip(parts, shape, strict=True)]
        places = dict(zip(self.letters, bounds, strict=True))
        if all(bounds):
            y, x = (_span(places[letter]) for letter in "YX")
            for plane in product(*(places.get(letter, range(1)) for letter in "TC")):
                yield plane, (y, x)

    def _change(self, plane: Plane, box: Box) -> Change | None:
        if plane not in self._shown:
            self._shown[plane] = self._start[plane].copy()
        changed = self._now[plane][box] != self._shown[plane][box]
        if not changed.any():
            return None
        rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
        inner = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        y, x = (
            slice(int(outer.start + part.start), int(outer.start + part.stop))
            for outer, part in zip(box, inner, strict=True)
        )
        labels = self._now[plane][y, x].copy()
        edited = self._names_slice(labels) & (labels != self._start[plane][y, x])
        return Change(plane, (y, x), labels, changed[inner], edited)

    def _names_slice(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        return (labels > 0) & (labels <= self.slices)

    def _planes_of(self, follower: Follower, plane: Plane) -> Iterator[Plane]:
        """Return the planes of a fused image that one plane of the labels stands for."""
        times, channels = (
            range(many) if one == 1 else [n]
            for n, one, many in zip(
                plane, self._now.shape, follower.stack.shape[:2], strict=False
            )
        )
        yield from product(times, channels)

    def _read(self, change: Change) -> list[NDArray[Any]]:
        """Read what the followers take of a change; return it plane by plane."""
        from napari_ips.fusion import take_slices

        index = np.where(change.edited, change.labels, 1) - 1
        where = change.edited & change.changed
        return [
            take_slices(follower.stack, index, change.box, t=t, c=c, where=where)
            for follower in self.followers
            for t, c in self._planes_of(follower, change.plane)
        ]

    def _show(self, change: Change, pixels: Pixels) -> None:
        if isinstance(pixels, str):
            self._failed(pixels)
            return
        taken = iter(pixels)
        for follower in self.followers:
            image = follower.pixels()
            for plane in self._planes_of(follower, change.plane):
                values = next(taken)
                if image is not None:
                    _put(follower, image, plane, change, values)
        shown, start = (
            planes[change.plane][change.box] for planes in (self._shown, self._start)
        )
        before = self._names_slice(shown) & (shown != start)
        self.retouched += int(change.edited[change.changed].sum())
        self.retouched -= int(before[change.changed].sum())
        shown[change.changed] = change.labels[change.changed]
        self._changed()


def _put(
    follower: Follower,
    image: NDArray[Any],
    plane: Plane,
    change: Change,
    values: NDArray[Any],
) -> None:
    if plane not in follower.originals:
        follower.originals[plane] = image[plane].copy()
    original = follower.originals[plane][change.box]
    edited = change.edited[..., None] if values.ndim == 3 else change.edited
    mixed = np.where(edited, values, original)
    image[plane][change.box][change.changed] = mixed[change.changed]


def _span(places: range) -> slice:
    return slice(min(places), max(places) + 1)


def _hull(boxes: list[Box]) -> Box:
    """Return the smallest box that holds all boxes."""
    y, x = (
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*boxes, strict=True)
    )
    return y, x
