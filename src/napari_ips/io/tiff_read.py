"""TIFF files read lazily: series, their axes, and where their pixels lie."""

from __future__ import annotations

import logging
import math
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.io.formats import plainly_read
from napari_ips.io.pixels import Pixels, known_letters
from napari_ips.io.tiff_metadata import tiff_metadata
from napari_ips.io.uncompressed import Place, UncompressedPages

# What tifffile logs, and then goes on with fewer pages, when a file ends too soon.
_DAMAGE = re.compile("page offset|corrupted|circular|failed to reshape")
# What it warns of when one of several files is not there.
_MISSING = "OME series failed to read"


def open_tiff(path: Path) -> tuple[Pixels, ...]:
    """Open all images of a TIFF that are stacks of one kind: the positions.

    Only OME-TIFF tells positions. Of pyramids the full resolution is taken, and single
    images beside stacks (labels, overviews) are left out.

    Raises
    ------
    IPSError
        If the file is damaged, incomplete, or holds unlike images.
    """
    file = _OpenFile(path)
    series = file.tiff.series
    if not series:
        raise IPSError(f"{path.name} holds no images that can be read.")
    numbers = [0]
    if series[0].kind == "ome":
        stacks = [n for n, one in enumerate(series) if "Z" in one.axes]
        numbers = stacks or list(range(len(series)))
    elif not file.tiff.is_lsm:
        _refuse_unlike_images(path, series)
    names = _names(path, [series[n].name for n in numbers])
    return tuple(
        _pixels(path, file, n, name) for n, name in zip(numbers, names, strict=True)
    )


def open_tiff_series(path: Path, number: int, name: str) -> Pixels:
    """Open one series of a TIFF."""
    return _pixels(path, _OpenFile(path), number, name)


def _refuse_unlike_images(path: Path, series: list[Any]) -> None:
    """Let pass nothing beside the stack but a small picture, such as a thumbnail."""
    size = series[0].shape[-2:]
    if any(len(one) > 1 or one.shape[-2:] == size for one in series[1:]):
        raise IPSError(
            f"{path.name} holds {len(series)} images that do not form one stack "
            "(positions, or pages of different sizes); save one of them by itself."
        )


class _OpenFile:
    """A TIFF that is closed when nothing refers to it any more."""

    def __init__(self, path: Path) -> None:
        import tifffile

        with plainly_read(path), _damage_raised():
            self.tiff = tifffile.TiffFile(path)
            weakref.finalize(self, self.tiff.close)
            # Found now, while what tifffile logs is heard.
            self.tiff.series  # noqa: B018


class _CompressedPages:
    """A series whose strips and tiles are decoded as they are needed."""

    def __init__(self, file: _OpenFile, series: Any) -> None:
        import zarr

        self._file = file
        self._array = zarr.open_array(series.aszarr(level=0), mode="r")
        self.shape: tuple[int, ...] = self._array.shape
        self.dtype: np.dtype[Any] = self._array.dtype
        self.chunks: tuple[int, ...] = self._array.chunks
        self.chunk_bytes = math.prod(self.chunks) * self.dtype.itemsize

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        return np.asarray(self._array[index])


def _pixels(path: Path, file: _OpenFile, number: int, name: str) -> Pixels:
    series = file.tiff.series[number]
    with plainly_read(path), _damage_raised():
        _refuse_parts(path, file.tiff)
        places = _places(path, series)
        data: Any
        # An offset of 0 says that a page was left out, and has a fill value.
        as_it_is = series.keyframe.is_final and all(offset for _, offset in places)
        if as_it_is and series.transform is None:
            stored = series.dtype.newbyteorder(series.keyframe.parent.byteorder)
            data = UncompressedPages(series.shape, stored, places)
        else:
            data = _CompressedPages(file, series)
        metadata = tiff_metadata(file.tiff, number)
    axes = known_letters(series.axes)
    again = (open_tiff_series, (path.absolute(), number, name))
    return Pixels(name, data, axes, metadata, data.chunk_bytes, again, path)


def _places(path: Path, series: Any) -> list[Place]:
    """Find where each page begins, and that none is missing or cut off."""
    itemsize = series.dtype.itemsize
    if series.dataoffset is not None and not series.is_multifile:
        # One block, of which ImageJ describes the first page only.
        end = series.dataoffset + math.prod(series.shape) * itemsize
        _check_end(path, end)
        return [(str(path), series.dataoffset)]
    pages = list(series)
    missing = sum(page is None for page in pages)
    if missing:
        raise IPSError(
            f"{missing} of {len(pages)} planes of {path.name} are missing; if it is one "
            "of several files, put the others beside it."
        )
    ends: dict[str, int] = {}
    places = []
    for page in pages:
        file = page.parent.filehandle.path
        if page.dataoffsets:
            end = page.dataoffsets[-1] + page.databytecounts[-1]
            ends[file] = max(end, ends.get(file, 0))
        places.append((file, page.dataoffsets[0] if page.dataoffsets else 0))
    for file, end in ends.items():
        _check_end(Path(file), end)
    return places


def _check_end(path: Path, end: int) -> None:
    size = path.stat().st_size
    if size < end:
        raise ValueError(f"{path.name} has {size} bytes and should have {end}")


def _refuse_parts(path: Path, tiff: Any) -> None:
    """Refuse a file whose axes only another file knows."""
    described = re.search('<BinaryOnly[^>]*MetadataFile="([^"]*)"', tiff.ome_metadata or "")
    if described:
        raise IPSError(
            f"{path.name} is a part of a larger image, which {described[1]} describes; "
            "pass that file if it is a TIFF."
        )


def _names(path: Path, names: list[str]) -> list[str]:
    """Name the positions as the file does, or by number where it does not well."""
    if len(names) == 1:
        return [path.name]
    if all(names) and len(set(names)) == len(names):
        return names
    return [str(n) for n in range(len(names))]


@contextmanager
def _damage_raised() -> Iterator[None]:
    """Turn what tifffile merely logs about a damaged file into an error."""
    messages: list[str] = []
    thread = get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # Other threads may be reading other files.
            message = record.getMessage()
            damaged = record.levelno >= logging.ERROR and _DAMAGE.search(message)
            if record.thread == thread and (damaged or _MISSING in message):
                messages.append(message)

    logger = logging.getLogger("tifffile")
    listener = Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
    if messages:
        raise ValueError(messages[0])
