"""Z-stacks that are read window by window, of any size and from any source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.io.axes import letters_by_shape, settle_axes
from napari_ips.io.formats import is_zarr, plainly_read
from napari_ips.io.load import load
from napari_ips.io.metadata import Channel, Metadata
from napari_ips.io.pixels import Pixels, read_part
from napari_ips.io.slices import images_in, stack_of_files
from napari_ips.io.zarr_read import array_pixels

__all__ = ["Channel", "LazyStack", "Metadata", "open_stacks", "wrap_array"]

Source = str | Path | Sequence[str | Path]

_MISNUMBERED = {"T": "time point", "C": "channel"}


class LazyStack:
    """The z-stacks of one position, not loaded: one for each time point and channel.

    Made by `open_stacks` and `wrap_array`. It may be read by several threads at once and
    sent to other processes, which open the file again. A chunk of a zarr array that was
    never written is, as zarr has it, filled with the array's fill value.

    Attributes
    ----------
    name : str
        Of the position, or else of the file.
    shape : (int, int, int, int, int)
        Time points, channels, slices, height, width; 1 for what the file has not.
    samples : int
        0 for grey, 3 or 4 for colours.
    dtype : dtype
        In this machine's byte order.
    axes : str
        The axes that the file has, one letter each, such as "TCZYX".
    metadata : Metadata
    chunk_bytes : int
        What has to be decoded at least to read one pixel.
    chunk_shape : (int, int, int)
        The slices, rows and columns of that; a whole slice where nothing is decoded.
    path : Path, optional
        The file, store or folder; None for an array in memory.
    files : tuple of Path
        The file of each slice, where every slice has its own.
    slice_names : tuple of str
        Where each slice comes from: file names, or one name with the slice's number.
    """

    def __init__(self, pixels: Pixels, position: int = 0) -> None:
        lengths = dict(zip(pixels.axes, pixels.data.shape, strict=True))
        t, c, z, y, x = (int(lengths.get(letter, 1)) for letter in "TCZYX")
        samples = int(lengths.get("S", 1))
        many = lengths.get("P", 1) > 1
        self.name = f"{pixels.name}[{position}]" if many else pixels.name
        self.shape = (t, c, z, y, x)
        # Of grey with transparency the grey.
        self.samples = samples if samples > 2 else 0
        self.dtype: np.dtype[Any] = np.dtype(pixels.data.dtype).newbyteorder("=")
        self.axes = "".join(letter for letter in pixels.axes if letter not in "PQ")
        self.metadata = pixels.metadata
        if len(self.metadata.channels) != c:
            self.metadata = replace(self.metadata, channels=())
        self.chunk_bytes = pixels.chunk_bytes
        chunks = getattr(pixels.data, "chunks", None)
        edges = dict(zip(pixels.axes, chunks, strict=True)) if chunks else {}
        self.chunk_shape = (int(edges.get("Z", 1)), edges.get("Y", y), edges.get("X", x))
        self.path = pixels.path
        self.files = pixels.files
        names = tuple(file.name for file in pixels.files)
        self.slice_names = names or tuple(f"{pixels.name}[{n}]" for n in range(z))
        self._pixels = pixels
        self._position = position

    @property
    def colours(self) -> tuple[int, ...]:
        """What colours add to the shape of an image: their number, or nothing."""
        return (self.samples,) if self.samples else ()

    def read(self, t: int, c: int, z: slice, y: slice, x: slice) -> NDArray[Any]:
        """Read a window of some slices.

        Parameters
        ----------
        t, c : int
            Time point and channel, from 0.
        z, y, x : slice
            As for arrays: what lies outside is left out. Steps are positive.

        Returns
        -------
        ndarray, (Z, Y, X) or (Z, Y, X, 3 or 4)

        Raises
        ------
        IPSError
            If there is no such time point or channel, or the window cannot be read.
        """
        self._check_number("T", t, self.shape[0])
        self._check_number("C", c, self.shape[1])
        parts = (z, y, x)
        z, y, x = (slice(*s.indices(n)) for s, n in zip(parts, self.shape[2:], strict=True))
        places: dict[str, int | slice] = {"T": t, "C": c, "Z": z, "Y": y, "X": x}
        places["P"] = self._position
        if self.samples:
            places["S"] = slice(None)
        try:
            with plainly_read(self.path or self.name):
                return read_part(self._pixels.data, self._pixels.axes, places, "ZYXS")
        except IPSError as error:
            window = ", ".join(
                f"{a} {s.start}:{s.stop}" for a, s in zip("zyx", (z, y, x), strict=True)
            )
            where = f"t {t}, c {c}, {window}"
            raise IPSError(f"{str(error).removesuffix('.')}, at {where}.") from error

    def _check_number(self, letter: str, number: int, count: int) -> None:
        if not 0 <= number < count:
            what = _MISNUMBERED[letter]
            raise IPSError(
                f"{self.name} has no {what} {number}: it has {count}, counted from 0."
            )

    def __reduce__(self) -> tuple[Callable[..., LazyStack], tuple[Any, ...]]:
        pixels = self._pixels
        return _reopened, (*pixels.reopen, pixels.axes, pixels.metadata, self._position)

    def __repr__(self) -> str:
        return f"<LazyStack {self.name!r} {self.shape} {self.dtype}>"


def open_stacks(
    source: Source, axes: str | None = None, z_axis: int | None = None
) -> tuple[LazyStack, ...]:
    """Open z-stacks without loading them.

    Axes come from the metadata. One unknown axis before Y and X (pages of a TIFF, the
    first axis of a plain zarr array) is taken for the slices, unless the last axis is
    the shortest of the three: then the image is refused, as is everything with several
    unknown axes. Without names, a last axis of length 3 or 4 of three or more holds
    colours.

    A z axis of length one is a stack of one slice where zarr or `axes` name it; TIFF
    leaves axes of length one out, and an image without a z axis is refused.

    Parameters
    ----------
    source : path or list of paths
        A TIFF (OME, ImageJ, plain, BigTIFF), an OME-Zarr image, plate, well or series of
        images, a zarr array, a folder of images (in natural order of their names), or a
        list of image files, each a slice (in the order given).
    axes : str, optional
        One letter per axis of the file, in place of what it says: Z, Y, X, S (colours),
        T (time), C (channels), P (positions).
    z_axis : int, optional
        Only which axis holds the slices, in place of what the file says.

    Returns
    -------
    tuple of LazyStack
        One for each position.

    Raises
    ------
    IPSError
        If the source cannot be read, has no z axis, or its axes are not clear; the
        message says what to pass then.
    """
    found = _found(source, axes, z_axis)
    stacks: list[LazyStack] = []
    for pixels in found:
        shape = tuple(int(n) for n in pixels.data.shape)
        name = pixels.name if len(found) == 1 else f"{source}, {pixels.name}"
        letters = settle_axes(name, shape, pixels.axes, axes, z_axis)
        metadata = pixels.metadata.for_axes(pixels.axes, letters)
        settled = replace(pixels, axes=letters, metadata=metadata)
        positions = shape[letters.index("P")] if "P" in letters else 1
        stacks += (LazyStack(settled, n) for n in range(positions))
    return tuple(stacks)


def wrap_array(
    array: Any,
    axes: str | None = None,
    metadata: Metadata | None = None,
    name: str = "array",
) -> LazyStack:
    """Take an array for z-stacks, of which no more is computed than is read.

    Parameters
    ----------
    array : numpy, dask or zarr array, or what can be made one
    axes : str, optional
        One letter per axis, as for `open_stacks`; by default as told there.
    metadata : Metadata, optional
        What is known of the image.
    name : str
        What results and messages call it.

    Returns
    -------
    LazyStack

    Raises
    ------
    IPSError
        If the axes do not fit or are not clear, or there are several positions.
    """
    pixels = _array_pixels(array, name)
    shape = tuple(int(n) for n in pixels.data.shape)
    told = "The array" if name == "array" else name
    letters = settle_axes(told, shape, pixels.axes, axes)
    if "P" in letters and shape[letters.index("P")] > 1:
        raise IPSError("The array holds several positions; pass them one by one.")
    return LazyStack(replace(pixels, axes=letters, metadata=metadata or Metadata()))


class _DaskArray:
    """A dask array of which a part is computed when it is read."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.chunks = array.chunksize

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        # Threads of dask's own would compete with those that call this.
        return np.asarray(self._array[index].compute(scheduler="synchronous"))


def _array_pixels(array: Any, name: str) -> Pixels:
    if not isinstance(array, np.ndarray):
        import zarr

        if isinstance(array, zarr.Array):
            return array_pixels(array, name)
    again = (_array_pixels, (array, name))
    chunk_bytes = 0
    data = array
    if hasattr(array, "__dask_graph__"):
        data = _DaskArray(array)
        chunk_bytes = math.prod(array.chunksize) * array.dtype.itemsize
    elif not all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")):
        data = np.asarray(array)
    axes = letters_by_shape(tuple(data.shape))
    return Pixels(name, data, axes, Metadata(), chunk_bytes, again)


def _found(source: Source, axes: str | None, z_axis: int | None) -> tuple[Pixels, ...]:
    if isinstance(source, str | Path):
        folder = Path(source)
        if not folder.is_dir() or is_zarr(folder):
            return load(folder)
        files, name = images_in(folder), str(folder)
    else:
        files, name, folder = [Path(item) for item in source], "the list", None
        if len(files) == 1:
            return _found(files[0], axes, z_axis)
    if axes is not None or z_axis is not None:
        raise IPSError("Axes cannot be chosen for a stack of files: each file is a slice.")
    return (stack_of_files(files, name, folder),)


def _reopened(
    function: Callable[..., Pixels],
    arguments: tuple[Any, ...],
    axes: str,
    metadata: Metadata,
    position: int,
) -> LazyStack:
    return LazyStack(replace(function(*arguments), axes=axes, metadata=metadata), position)
