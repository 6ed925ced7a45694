"""Stacks of which every slice is a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.io.formats import IMAGES, natural_key, plainly_read
from napari_ips.io.load import load
from napari_ips.io.pixels import Pixels, read_part


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order of their names."""
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    ]
    if not files:
        raise IPSError(f"{folder} holds no images ({', '.join(IMAGES)}).")
    return sorted(files, key=natural_key)


def stack_of_files(files: Sequence[Path], name: str, folder: Path | None) -> Pixels:
    """Make a stack of files in the order given, each of them one slice.

    The stack lies in ``folder``, if they are all of its images, or else in the first.

    Sizes are compared by the headers; pixels are read file by file, when needed.

    Raises
    ------
    IPSError
        If there are less than two files, or one is missing, no single image, or unlike
        the first one.
    """
    if len(files) < 2:
        only = f" ({files[0].name})" if files else ""
        raise IPSError(
            f"A stack needs at least two slices, but {name} has {len(files)} "
            f"image{only}; if it is a stack, pass that file itself."
        )
    slices = [_Slice(file) for file in files]
    first = slices[0]
    for other in slices[1:]:
        if (other.shape, other.dtype) != (first.shape, first.dtype):
            raise IPSError(
                f"{other.path.name} ({_described(other)}) is unlike {first.path.name} "
                f"({_described(first)}); all slices need one size and type."
            )
    again = ([file.absolute() for file in files], name, folder and folder.absolute())
    return Pixels(
        name,
        _SliceFiles(slices),
        "ZYXS"[: 1 + len(first.shape)],
        first.metadata,
        max(one.chunk_bytes for one in slices),
        (stack_of_files, again),
        folder or files[0],
        tuple(files),
    )


class _Slice:
    """A file that is one image, (Y, X) or (Y, X, 3 or 4): opened anew to be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        pixels = _single(path)
        self.metadata = pixels.metadata
        self.chunk_bytes = pixels.chunk_bytes
        self.dtype = pixels.data.dtype.newbyteorder("=")
        lengths = dict(zip(pixels.axes, pixels.data.shape, strict=True))
        samples = lengths.get("S", 1)
        # Of grey with transparency the grey.
        colours = (samples,) if samples > 2 else ()
        self.shape: tuple[int, ...] = (lengths["Y"], lengths["X"], *colours)

    def read(self, y: slice, x: slice) -> NDArray[Any]:
        pixels = _single(self.path)
        places: dict[str, int | slice] = {"Y": y, "X": x}
        if len(self.shape) == 3:
            places["S"] = slice(None)
        with plainly_read(self.path):
            return read_part(pixels.data, pixels.axes, places, "YXS")


class _SliceFiles:
    """The files as one array, (Z, Y, X) or (Z, Y, X, 3 or 4)."""

    def __init__(self, slices: list[_Slice]) -> None:
        self._slices = slices
        self.shape = (len(slices), *slices[0].shape)
        self.dtype = slices[0].dtype

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[Any]:
        z, y, x = index[:3]
        read = [one.read(y, x) for one in self._slices[z]]
        found = np.stack(read) if read else np.empty((0, *self.shape[1:]), self.dtype)
        return found if read else found[:, y, x]


def _single(path: Path) -> Pixels:
    pixels, *others = load(path)
    shape = tuple(pixels.data.shape)
    several = any(n > 1 for n, a in zip(shape, pixels.axes, strict=True) if a not in "YXS")
    if others or several or not {"Y", "X"} <= set(pixels.axes):
        raise IPSError(
            f"{path.name} holds several images (shape {shape}), but each file of a "
            "folder or list is one slice; pass a stack by itself."
        )
    return pixels


def _described(image: _Slice) -> str:
    colours = f", {image.shape[2]} colours" if len(image.shape) == 3 else ""
    return f"{image.shape[1]} x {image.shape[0]}{colours}, {image.dtype}"
