"""Fused images by an index map that was chosen or edited by hand, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ips.errors import IPSError
from napari_ips.events import ProgressCallback, TileDone
from napari_ips.fusion.blend import take
from napari_ips.fusion.tiles import Area, cores
from napari_ips.io import LazyStack

# Edge of a tile, in cores: of each group of slices no more than this is in memory.
_TILE = 4


def take_slices(
    stack: LazyStack,
    index: NDArray[np.integer],
    area: Area,
    *,
    t: int = 0,
    c: int = 0,
    where: NDArray[np.bool_] | None = None,
) -> NDArray[np.generic]:
    """Take the pixels of an area from the slices that an index map names.

    No more is read than, of each slice that is named, the part in which it is.

    Parameters
    ----------
    stack : LazyStack
    index : ndarray of integers, shape (h, w)
        Slices, counted from 0, of the pixels of the area.
    area : (slice, slice)
        Rows and columns, with a start and a stop.
    t, c : int
        Time point and channel.
    where : ndarray of bool, shape (h, w), optional
        The pixels that are wanted, by default all. The others are 0, whatever `index`
        says of them.

    Returns
    -------
    ndarray, shape (h, w) or (h, w, colours)
        In the dtype of the stack.

    Raises
    ------
    IPSError
        If the map does not fit the area, names a slice that the stack has not, or the
        stack cannot be read.
    """
    shape = tuple(part.stop - part.start for part in area)
    if index.shape != shape:
        raise IPSError(
            f"A map of the shape {index.shape} does not fit an area of the shape {shape}."
        )
    wanted = np.ones(shape, np.bool_) if where is None else where
    named = np.unique(index[wanted])
    _check_slices(stack, named)
    taken = np.zeros((*shape, *stack.colours), stack.dtype)
    # Slices in one chunk are decoded together.
    depth = stack.chunk_shape[0]
    for chunk in np.unique(named // depth):
        first, stop = int(chunk) * depth, (int(chunk) + 1) * depth
        inside = wanted & (index >= first) & (index < stop)
        part = _bounds(inside)
        y, x = (
            slice(whole.start + piece.start, whole.start + piece.stop)
            for whole, piece in zip(area, part, strict=True)
        )
        used = index[part][inside[part]]
        slices = slice(int(used.min()), int(used.max()) + 1)
        values = stack.read(t, c, slices, y, x)
        picks = np.where(inside[part], index[part], slices.start) - slices.start
        taken[part][inside[part]] = take(values, picks)[inside[part]]
    return taken


def apply_index(
    stack: LazyStack, index: ArrayLike, callback: ProgressCallback | None = None
) -> NDArray[np.generic]:
    """Fuse a stack in memory, each pixel from the slice that an index map names.

    Parameters
    ----------
    stack : LazyStack
        Also another channel than that from which the map is.
    index : array_like of integers, shape (Y, X), (T, Y, X) or (T, C, Y, X)
        Slices, counted from 0. A map of one time point or channel is used for all.
    callback : callable, optional
        Called with `TileDone` after each tile; what it raises ends the work.

    Returns
    -------
    ndarray, shape (T, C, Y, X) or (T, C, Y, X, colours)

    Raises
    ------
    IPSError
        If the map is not of the size of the images, or names slices that are not there.
    """
    image = empty_image(stack)
    for event, pixels in fused_tiles(stack, index):
        image[event.t, event.c, event.y, event.x] = pixels
        if callback:
            callback(event)
    return image


def fused_tiles(
    stack: LazyStack, index: ArrayLike
) -> Iterator[tuple[TileDone, NDArray[np.generic]]]:
    """Iterate over the tiles of `apply_index`, for work that stops in between.

    Yields
    ------
    event : TileDone
        Which tile it is, and how many are done.
    pixels : ndarray, shape (h, w) or (h, w, colours)

    Raises
    ------
    IPSError
        As `apply_index`; what is wrong with the map, before the first tile.
    """
    whole = fit_index(stack, index)
    times, channels, _, *image = stack.shape
    tiles = [
        core.in_image((image[0], image[1])) for core in cores((image[0], image[1]), _TILE)
    ]
    total, done = times * channels * len(tiles), 0
    for t, c in np.ndindex(times, channels):
        for y, x in tiles:
            pixels = take_slices(stack, whole[t, c, y, x], (y, x), t=t, c=c)
            done += 1
            yield TileDone("applying the map", done, total, t, c, y, x), pixels


def empty_image(stack: LazyStack) -> NDArray[np.generic]:
    """Return zeros of the shape (T, C, Y, X) or (T, C, Y, X, colours) of a fused image."""
    times, channels, _, *image = stack.shape
    return np.zeros((times, channels, *image, *stack.colours), stack.dtype)


def fit_index(stack: LazyStack, index: ArrayLike) -> NDArray[np.integer]:
    """Return a view (T, C, Y, X) of an index map, or refuse it.

    Raises
    ------
    IPSError
        If it holds no integers, is not of the size of the images, or names slices that
        the stack has not.
    """
    array = np.asarray(index)
    if array.dtype.kind not in "iu":
        raise IPSError(f"An index map holds whole numbers of slices, not {array.dtype}.")
    times, channels, _, *image = stack.shape
    if array.shape[-2:] != tuple(image):
        raise IPSError(
            f"The map is of the shape {array.shape}, but images of {stack.name} are of "
            f"{image[0]} x {image[1]} pixels; take a map of that size."
        )
    if array.ndim == 3:
        array = array[:, None]
    try:
        whole = np.broadcast_to(array, (times, channels, *image))
    except ValueError:
        raise IPSError(
            f"The map is of the shape {array.shape}, but {stack.name} has {times} time "
            f"points and {channels} channels; take a map of as many, or of one."
        ) from None
    _check_slices(stack, np.array([array.min(), array.max()]))
    return whole


def _check_slices(stack: LazyStack, named: NDArray[np.integer]) -> None:
    if named.size and not 0 <= named.min() <= named.max() < stack.shape[2]:
        raise IPSError(
            f"The map names slices {named.min()} to {named.max()}, but {stack.name} has "
            f"{stack.shape[2]}, counted from 0; take the map of this stack."
        )


def _bounds(mask: NDArray[np.bool_]) -> Area:
    """Return the smallest area that holds all of a mask that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
