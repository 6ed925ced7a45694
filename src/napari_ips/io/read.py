"""Read z-stacks and images, whatever files they come in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.io.formats import (
    IMAGES,
    Pixels,
    Scale,
    is_zarr,
    load,
    natural_key,
    plainly_read,
)

Source = str | Path | Sequence[str | Path]

_NAMED = {"T": "time points", "C": "channels"}


@dataclass(frozen=True)
class Stack:
    """A z-stack in memory.

    Attributes
    ----------
    data : ndarray, (Z, Y, X) or (Z, Y, X, 3 or 4), integer or float
    rgb : bool
        Whether there is a last axis of colours.
    pixel_size : (float, float), optional
        Height and width of a pixel.
    z_step : float, optional
        Distance of two slices.
    unit : str, optional
        Of `pixel_size` and `z_step`, such as "µm".
    names : tuple of str
        Where each slice came from: file names, or one file name with the slice's number.
    """

    data: NDArray[Any]
    rgb: bool
    pixel_size: tuple[float, float] | None
    z_step: float | None
    unit: str | None
    names: tuple[str, ...]


def read_stack(source: Source, axes: str | None = None, z_axis: int | None = None) -> Stack:
    """Read a z-stack of at least two slices.

    Parameters
    ----------
    source : path or list of paths
        A TIFF, a zarr array or OME-Zarr group, a folder of images (in natural order of
        their names), or a list of image files (in the order given).
    axes : str, optional
        One letter per axis of the file, in place of what the file says: Z, Y, X, S
        (colour), T, C.
    z_axis : int, optional
        The axis of the file along which the slices lie, in place of what it says.

    Returns
    -------
    Stack

    Raises
    ------
    IPSError
        If the source cannot be read, or is not, or not clearly, one z-stack.
    """
    if not isinstance(source, str | Path):
        files = [Path(item) for item in source]
        if len(files) != 1:
            return _stack_of_files(files, "the list", axes, z_axis)
        source = files[0]
    path = Path(source)
    if path.is_dir() and not is_zarr(path):
        return _stack_of_files(_images_in(path), str(path), axes, z_axis)
    pixels = load(path)
    data, rgb = _z_first(path, pixels, axes, z_axis)
    # Slices along what the file calls Y or X: its scale belongs to other axes then.
    turned = z_axis is not None and pixels.axes[z_axis] in "YX"
    scale = Scale() if turned else pixels.scale
    names = tuple(f"{path.name}[{z}]" for z in range(len(data)))
    return Stack(data, rgb, scale.pixel_size, scale.z_step, scale.unit, names)


def read_image(path: str | Path) -> NDArray[Any]:
    """Read the one image of a file.

    Returns
    -------
    ndarray, (Y, X) or (Y, X, 3), integer or float
        Transparency is dropped.

    Raises
    ------
    IPSError
        If the file cannot be read or holds more than one image.
    """
    pages = read_pages(path)
    image = next(pages)
    if next(pages, None) is not None:
        raise IPSError(f"{path} holds more than one image, but one is needed here.")
    return image


def read_pages(path: str | Path) -> Iterator[NDArray[Any]]:
    """Iterate over all images of a file: pages, slices, channels, time points.

    Yields
    ------
    ndarray, (Y, X) or (Y, X, 3), integer or float
        Transparency is dropped. Of a zarr array one page at a time is in memory.

    Raises
    ------
    IPSError
        If the file cannot be read.
    """
    pixels = load(Path(path))
    axes = pixels.axes
    if not {"Y", "X"} <= set(axes):
        raise IPSError(f"{path} holds no images: its axes are {axes}.")
    leading = [n for n, letter in enumerate(axes) if letter not in "YXS"]
    for position in np.ndindex(*(pixels.data.shape[n] for n in leading)):
        index: list[int | slice] = [slice(None)] * len(axes)
        for axis, place in zip(leading, position, strict=True):
            index[axis] = place
        with plainly_read(Path(path)):
            page = _in_memory(pixels.data[tuple(index)])
        left = [letter for letter in axes if letter in "YXS"]
        image = _samples_last(page.transpose(*_order(left, "YXS")), "S" in left)
        yield image[..., :3] if image.ndim == 3 else image


def _order(letters: Sequence[str], wanted: str) -> list[int]:
    return [letters.index(letter) for letter in wanted if letter in letters]


def _in_memory(data: Any) -> NDArray[Any]:
    """Load an array, in this machine's byte order: PyTorch knows no other."""
    array = np.asarray(data)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _samples_last(image: NDArray[Any], has_samples: bool) -> NDArray[Any]:
    """Drop a last axis of one sample, or of grey with transparency."""
    if has_samples and image.shape[-1] in (1, 2):
        return image[..., 0]
    return image


def _images_in(folder: Path) -> list[Path]:
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    ]
    if not files:
        raise IPSError(f"{folder} holds no images ({', '.join(IMAGES)}).")
    return sorted(files, key=natural_key)


def _stack_of_files(
    files: list[Path], whence: str, axes: str | None, z_axis: int | None
) -> Stack:
    if axes is not None or z_axis is not None:
        raise IPSError("Axes cannot be chosen for a stack of files: each file is a slice.")
    if len(files) < 2:
        name = f" ({files[0].name})" if files else ""
        raise IPSError(
            f"A stack needs at least two slices, but {whence} has {len(files)} "
            f"image{name}; if it is a stack, pass that file itself."
        )
    first = _slice(files[0])
    data = np.empty((len(files), *first.data.shape), first.data.dtype)
    data[0] = first.data
    for z, path in enumerate(files[1:], start=1):
        image = _slice(path).data
        if image.shape != data.shape[1:] or image.dtype != data.dtype:
            raise IPSError(
                f"{path.name} ({_described(image)}) is unlike {files[0].name} "
                f"({_described(first.data)}); all slices need one size and type."
            )
        data[z] = image
    names = tuple(path.name for path in files)
    scale = first.scale
    return Stack(data, data.ndim == 4, scale.pixel_size, scale.z_step, scale.unit, names)


def _slice(path: Path) -> Pixels:
    """Read a file that is one slice: a single image, its colours last."""
    pixels = load(path)
    with plainly_read(path):
        data, axes = _without_single_axes(pixels.data, pixels.axes)
    if set(axes) - set("YXS"):
        raise IPSError(
            f"{path.name} holds several images (shape {data.shape}), but each file of a "
            "folder or list is one slice; pass a stack by itself."
        )
    return Pixels(data.transpose(*_order(axes, "YXS")), axes, pixels.scale)


def _described(image: NDArray[Any]) -> str:
    colours = f", {image.shape[2]} colours" if image.ndim == 3 else ""
    return f"{image.shape[1]} x {image.shape[0]}{colours}, {image.dtype}"


def _without_single_axes(data: Any, axes: str) -> tuple[NDArray[Any], str]:
    """Drop axes of length one other than Y and X, and the transparency of grey."""
    if "S" in axes and data.shape[axes.index("S")] == 2:
        data = np.take(data, [0], axis=axes.index("S"))
    single = [
        n for n, letter in enumerate(axes) if data.shape[n] == 1 and letter not in "YX"
    ]
    kept = "".join(letter for n, letter in enumerate(axes) if n not in single)
    return np.squeeze(_in_memory(data), axis=tuple(single)), kept


def _z_first(
    path: Path, pixels: Pixels, axes: str | None, z_axis: int | None
) -> tuple[NDArray[Any], bool]:
    """Find the axis of the slices and bring it to the front, colours to the end."""
    shape = tuple(pixels.data.shape)
    letters = pixels.axes if axes is None else axes.upper()
    _check_letters(path, letters, shape)
    if z_axis is not None:
        letters = _with_z_at(path, letters, shape, z_axis)
    # Before anything is loaded: a zarr array may be larger than memory.
    _check_axes(path, letters, shape)
    with plainly_read(path):
        data, letters = _without_single_axes(pixels.data, letters)
    if "Z" not in letters:
        letters = letters.replace("Q", "Z")
    ordered = data.transpose(*_order(letters, "ZYXS"))
    return np.ascontiguousarray(ordered), "S" in letters


def _check_letters(path: Path, letters: str, shape: tuple[int, ...]) -> None:
    known = len(letters) == len(shape) and set(letters) <= set("ZYXSTCQ")
    twice = any(letters.count(letter) > 1 for letter in "ZYXSTC")
    if not known or twice or not {"Y", "X"} <= set(letters):
        raise IPSError(
            f"{path.name} has the shape {shape}, to which the axes {letters!r} do not "
            "fit; give one of the letters Z, Y, X, S, T, C for each, Y and X among them."
        )


def _with_z_at(path: Path, letters: str, shape: tuple[int, ...], z_axis: int) -> str:
    """Rename the axes so that the one numbered `z_axis` is Z."""
    if not -len(shape) <= z_axis < len(shape):
        raise IPSError(f"{path.name} has no axis {z_axis}: its shape is {shape}.")
    z_axis %= len(shape)
    renamed = list(letters.replace("Z", "Q"))
    renamed[z_axis] = "Z"
    if not {"Y", "X"} <= set(renamed):
        # The slices lie along what passed for Y or X: the other two are the image.
        plane = [n for n in range(len(shape)) if n != z_axis and shape[n] > 1]
        if len(plane) == 3 and renamed[plane[2]] == "S":
            plane.pop()
        if len(plane) != 2:
            raise IPSError(f"With the z axis {z_axis}, the shape {shape} is not a stack.")
        for n in range(len(shape)):
            if n != z_axis and renamed[n] in "YX":
                renamed[n] = "Q"
        renamed[plane[0]], renamed[plane[1]] = "Y", "X"
    return "".join(renamed)


def _check_axes(path: Path, letters: str, shape: tuple[int, ...]) -> None:
    """Refuse what is not one z-stack: the message says what to do."""
    size = dict(zip(letters, shape, strict=True))
    samples = size.get("S", 1)
    if samples > 4:
        raise IPSError(f"{path.name} has {samples} colours per pixel; 1 to 4 are known.")
    others = [
        (letter, length)
        for letter, length in zip(letters, shape, strict=True)
        if letter not in "YXS" and length > 1
    ]
    slices = [length for letter, length in others if letter == "Z"]
    named = [(letter, length) for letter, length in others if letter in _NAMED]
    unknown = [length for letter, length in others if letter == "Q"]
    where = f"{path.name}, shape {shape}, axes {letters.replace('Q', '?')}"
    if not others:
        raise IPSError(
            f"A stack needs at least two slices, but this is one image ({where})."
        )
    if named and not slices and not unknown:
        letter, length = named[0]
        raise IPSError(
            f"This has {length} {_NAMED[letter]} but no z axis ({where}); if those are "
            f"the slices, say so with --z-axis {letters.index(letter)}."
        )
    if named:
        letter, length = named[0]
        raise IPSError(
            f"This has {length} {_NAMED[letter]} beside its slices ({where}); save one of "
            "them as a stack of its own."
        )
    if len(unknown) + len(slices) > 1:
        raise IPSError(
            f"Which axis holds the slices is not clear ({where}); say it with --z-axis N "
            "and leave one stack in the file."
        )
