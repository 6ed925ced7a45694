"""Read z-stacks and images, whatever files they come in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.io.formats import plainly_read
from napari_ips.io.lazy import Source, open_stacks
from napari_ips.io.load import load
from napari_ips.io.pixels import Pixels, read_part

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
    stacks = open_stacks(source, axes, z_axis)
    stack = stacks[0]
    if len(stacks) > 1:
        raise IPSError(
            f"{source} holds {len(stacks)} positions, beginning with {stack.name}; save "
            "one of them as a stack of its own."
        )
    for letter, count in zip("TC", stack.shape, strict=False):
        if count > 1:
            raise IPSError(
                f"{stack.name} has {count} {_NAMED[letter]} beside its slices; save one of "
                "them as a stack of its own."
            )
    if stack.shape[2] < 2:
        raise IPSError(f"A stack needs at least two slices, but {stack.name} has one.")
    everything = slice(None)
    return Stack(
        stack.read(0, 0, everything, everything, everything),
        stack.samples > 0,
        stack.metadata.pixel_size,
        stack.metadata.z_step,
        stack.metadata.unit,
        stack.slice_names,
    )


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
    for pixels in load(Path(path)):
        axes = pixels.axes
        if not {"Y", "X"} <= set(axes):
            raise IPSError(f"{path} holds no images: its axes are {axes}.")
        yield from _pages(Path(path), pixels)


def _pages(path: Path, pixels: Pixels) -> Iterator[NDArray[Any]]:
    shape = pixels.data.shape
    leading = [n for n, letter in enumerate(pixels.axes) if letter not in "YXS"]
    # Several axes may be unknown: each gets a letter of its own.
    letters = list(pixels.axes)
    for n in leading:
        letters[n] = str(n)
    for position in np.ndindex(*(shape[n] for n in leading)):
        places: dict[str, int | slice] = dict.fromkeys("YXS", slice(None))
        places |= zip(map(str, leading), position, strict=True)
        with plainly_read(path):
            page = read_part(pixels.data, letters, places, "YXS")
        yield _without_transparency(page)


def _without_transparency(image: NDArray[Any]) -> NDArray[Any]:
    if image.ndim == 2:
        return image
    return image[..., 0] if image.shape[2] < 3 else image[..., :3]
