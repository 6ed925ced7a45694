"""Zarr arrays and OME-Zarr images, plates and series, read lazily."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_ips.errors import IPSError
from napari_ips.io.axes import letters_by_shape
from napari_ips.io.formats import plainly_read
from napari_ips.io.metadata import (
    Channel,
    Metadata,
    clean_color,
    clean_time_unit,
    length_metadata,
)
from napari_ips.io.pixels import Pixels

_TYPES = {"time": "T", "channel": "C"}
_NAMES = {"time": "T", "channel": "C", "channels": "C", "position": "P", "rgb": "S"}


def open_zarr(path: Path) -> tuple[Pixels, ...]:
    """Open a zarr array, an OME-Zarr image, or all images of a plate or series.

    Of the resolutions the first, highest one is taken.

    Raises
    ------
    IPSError
        If it is a group of something else, or damaged.
    """
    import zarr

    with plainly_read(path):
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            return (open_zarr_image(path, path.name),)
        inside = list(_images_in(path, node))
    if inside == [""]:
        return (open_zarr_image(path, path.name),)
    return tuple(open_zarr_image(path / name, name) for name in inside)


def open_zarr_image(path: Path, name: str) -> Pixels:
    """Open a zarr array or an OME-Zarr image by itself."""
    import zarr

    with plainly_read(path):
        node = zarr.open(path, mode="r")
        again = (open_zarr_image, (path.absolute(), name))
        if isinstance(node, zarr.Array):
            pixels = array_pixels(node, name)
        else:
            described = _described(node)
            if "multiscales" not in described:
                raise IPSError(f"{path} is listed as an image but is none.")
            pixels = _image_pixels(node, described, name)
    return replace(pixels, reopen=again, path=path)


def array_pixels(array: Any, name: str) -> Pixels:
    """Describe a bare zarr array; its axes by their names, else by its shape."""
    return Pixels(
        name,
        array,
        _array_axes(array),
        Metadata(),
        _chunk_bytes(array),
        (array_pixels, (array, name)),
    )


def _chunk_bytes(array: Any) -> int:
    # Of shards the inner chunks, which can be read by themselves.
    return int(math.prod(array.chunks) * array.dtype.itemsize)


def _described(group: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = dict(group.attrs)
    described: dict[str, Any] = attributes.get("ome", attributes)
    return described


def _images_in(path: Path, group: Any) -> Iterator[str]:
    """Yield the path of each image inside a group; "" if the group itself is one."""
    described = _described(group)
    if "plate" in described:
        for well in described["plate"]["wells"]:
            for field in _described(group[well["path"]])["well"]["images"]:
                yield f"{well['path']}/{field['path']}"
    elif "well" in described:
        for field in described["well"]["images"]:
            yield str(field["path"])
    elif "multiscales" in described:
        yield ""
    elif described.get("bioformats2raw.layout") == 3:
        yield from _series(group)
    else:
        inside = ", ".join(sorted(group)[:5]) or "nothing"
        raise IPSError(
            f"{path} is no OME-Zarr image; pass one that it holds, e.g. {path}/0 "
            f"(it holds: {inside})."
        )


def _series(group: Any) -> Iterator[str]:
    """Yield what bioformats2raw lists, or else has numbered."""
    listed = _described(group["OME"]).get("series") if "OME" in group else None
    if listed:
        yield from (str(name) for name in listed)
        return
    number = 0
    while str(number) in group:
        yield str(number)
        number += 1


def _image_pixels(group: Any, described: dict[str, Any], name: str) -> Pixels:
    image = described["multiscales"][0]
    array: Any = group[image["datasets"][0]["path"]]
    # Before version 0.4 axes had names only, or were these five.
    axes = image.get("axes", ["t", "c", "z", "y", "x"][-array.ndim :])
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    letters = _ome_letters(axes)
    if len(letters) != array.ndim:
        raise ValueError(f"{len(letters)} axes are told of {array.ndim}")
    metadata = replace(
        _scale(image, axes, letters), channels=_channels(described.get("omero", {}))
    )
    return replace(array_pixels(array, name), axes=letters, metadata=metadata)


def _ome_letters(axes: list[dict[str, Any]]) -> str:
    """Return the axes by their types; spatial ones by name, else in the order z, y, x."""
    letters = [
        _TYPES.get(str(axis.get("type")), _letter(str(axis.get("name", ""))))
        for axis in axes
    ]
    space = [n for n, axis in enumerate(axes) if axis.get("type") == "space"]
    if not {letters[n] for n in space} <= set("ZYX") and len(space) in (2, 3):
        for n, letter in zip(space, "ZYX"[-len(space) :], strict=True):
            letters[n] = letter
    return "".join(letters)


def _letter(name: str) -> str:
    name = name.lower()
    letter = _NAMES.get(name, name.upper())
    return letter if len(letter) == 1 and letter in "PTCZYXS" else "Q"


def _array_axes(array: Any) -> str:
    """Return the axes by the names in zarr 3, or those xarray keeps in zarr 2."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    letters = "".join(_letter(name or "") for name in names)
    if len(letters) == array.ndim and {"Y", "X"} <= set(letters):
        return letters
    return letters_by_shape(array.shape)


def _scale(image: dict[str, Any], axes: list[dict[str, Any]], letters: str) -> Metadata:
    """Combine the transformations of the dataset and, after them, of the image."""
    factors, shifts = np.ones(len(letters)), np.zeros(len(letters))
    scaled = shifted = False
    for level in (image["datasets"][0], image):
        for step in level.get("coordinateTransformations", ()):
            if step.get("type") == "scale":
                factors, shifts = factors * step["scale"], shifts * step["scale"]
                scaled = True
            elif step.get("type") == "translation":
                shifts = shifts + step["translation"]
                shifted = True
    if not scaled:
        return Metadata()
    size = dict(zip(letters, factors.tolist(), strict=True))
    units = {a: axis.get("unit") for a, axis in zip(letters, axes, strict=True)}
    shift = dict(zip(letters, shifts.tolist(), strict=True)) if shifted else None
    lengths = length_metadata(size, units, shift)
    time_unit = clean_time_unit(units.get("T"))
    # A step of 1 without a unit says nothing.
    if "T" not in size or (time_unit is None and size["T"] == 1):
        return lengths
    return replace(lengths, time_step=size["T"], time_unit=time_unit)


def _channels(omero: dict[str, Any]) -> tuple[Channel, ...]:
    return tuple(
        Channel(
            channel.get("label") or None,
            clean_color(channel.get("color")),
            _window(channel.get("window") or {}),
        )
        for channel in omero.get("channels", ())
    )


def _window(window: dict[str, Any]) -> tuple[float, float] | None:
    if window.get("start") is None or window.get("end") is None:
        return None
    return (float(window["start"]), float(window["end"]))
