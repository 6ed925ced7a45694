"""Write OME-Zarr 0.5: a zarr v3 group with levels of resolution, written in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ips.io.display import display_window
from napari_ips.io.ome_terms import channel_names_and_colours, length_word, time_word
from napari_ips.io.pyramid import (
    Picture,
    Piece,
    Progress,
    Steps,
    Window,
    doubled,
    halved,
    in_parallel,
    level_sizes,
    windows,
)

if TYPE_CHECKING:
    import zarr

_CHUNK = 512
# A tile of the source is larger than a chunk, and best read once.
_BLOCK = 2 * _CHUNK
_METHODS = {
    "image": ("mean", "mean of 2 x 2 pixels"),
    "map": ("mean", "mean of 2 x 2 pixels, NaN left out"),
    "index": ("nearest", "every second pixel, since a mean of slice numbers is no slice"),
}


def write_ome_zarr(folder: Path, picture: Picture, progress: Progress | None) -> None:
    """Write a picture as an OME-Zarr image, into a folder that is not there yet.

    The axes are t and c, where there are several, then y and x. The samples of an RGB
    picture become channels, as the format has no axis for them.
    """
    import zarr

    group = zarr.create_group(folder, zarr_format=3)
    levels = _write_levels(group, picture, progress)
    attributes: dict[str, Any] = {
        "ome": {
            "version": "0.5",
            "multiscales": [_multiscale(picture, len(levels))],
            "omero": {"channels": _omero_channels(picture, levels[-1])},
        }
    }
    if picture.provenance:
        attributes["napari-ips"] = dict(picture.provenance)
    # Last: without them, the folder is no image.
    group.attrs.put(attributes)


def _write_levels(
    group: zarr.Group, picture: Picture, progress: Progress | None
) -> list[zarr.Array[Any]]:
    sizes = level_sizes(*picture.shape[2:4])
    cuts = [windows(*sizes[0], _BLOCK, _BLOCK)]
    cuts += [windows(*size, _CHUNK, _CHUNK) for size in sizes[1:]]
    steps = Steps(len(picture.planes) * sum(map(len, cuts)), progress)
    levels: list[zarr.Array[Any]] = []
    for n, size in enumerate(sizes):
        level = _create(group, str(n), picture, size)
        write = _Copy(picture, level) if n == 0 else _Shrink(picture, levels[-1], level)
        in_parallel(write, picture.pieces(cuts[n]), steps)
        levels.append(level)
    return levels


def _axes(picture: Picture) -> str:
    times, channels = picture.shape[0], _channels(picture)
    return ("t" if times > 1 else "") + ("c" if channels > 1 else "") + "yx"


def _channels(picture: Picture) -> int:
    return picture.shape[4] if picture.rgb else picture.shape[1]


def _create(
    group: zarr.Group, name: str, picture: Picture, size: tuple[int, int]
) -> zarr.Array[Any]:
    from zarr.codecs import ZstdCodec

    axes = _axes(picture)
    lengths = dict(zip("tcyx", (picture.shape[0], _channels(picture), *size), strict=True))
    chunks = {"t": 1, "c": 1, "y": min(_CHUNK, size[0]), "x": min(_CHUNK, size[1])}
    return group.create_array(
        name,
        shape=tuple(lengths[letter] for letter in axes),
        chunks=tuple(chunks[letter] for letter in axes),
        dtype=picture.dtype,
        # Not blosc: the order of its blocks depends on its threads.
        compressors=ZstdCodec(level=3),
        dimension_names=list(axes),
    )


def _place(picture: Picture, t: int, c: int, window: Window) -> tuple[int | slice, ...]:
    """Return where a window of a plane lies in the arrays of the store."""
    leading = {"t": t, "c": c}
    return (*(leading[letter] for letter in _axes(picture)[:-2]), *window)


class _Copy:
    """Copy a block of a plane to the largest level, samples to channels."""

    def __init__(self, picture: Picture, level: zarr.Array[Any]) -> None:
        self._picture = picture
        self._level = level

    def __call__(self, piece: Piece) -> None:
        t, c, window = piece
        block = self._picture.read(t, c, window)
        if not self._picture.rgb:
            self._write(t, c, window, block)
            return
        for sample in range(block.shape[2]):
            self._write(t, sample, window, block[:, :, sample])

    def _write(self, t: int, c: int, window: Window, block: Any) -> None:
        # One chunk at a time: of several at once, zarr writes on when one has failed.
        height, width = block.shape
        for y, x in windows(height, width, _CHUNK, _CHUNK):
            chunk = (
                slice(window[0].start + y.start, window[0].start + y.stop),
                slice(window[1].start + x.start, window[1].start + x.stop),
            )
            self._level[_place(self._picture, t, c, chunk)] = block[y, x]


class _Shrink:
    """Make a chunk of a level, in all samples, from the level above."""

    def __init__(
        self, picture: Picture, upper: zarr.Array[Any], level: zarr.Array[Any]
    ) -> None:
        self._picture = picture
        self._upper = upper
        self._level = level

    def __call__(self, piece: Piece) -> None:
        t, c, window = piece
        source = doubled(window, *self._upper.shape[-2:])
        for channel in range(_channels(self._picture)) if self._picture.rgb else (c,):
            block = np.asarray(self._upper[_place(self._picture, t, channel, source)])
            shrunk = halved(block, self._picture.kind)
            self._level[_place(self._picture, t, channel, window)] = shrunk


def _multiscale(picture: Picture, levels: int) -> dict[str, Any]:
    method, description = _METHODS[picture.kind]
    return {
        "name": picture.name,
        "axes": [_axis(letter, picture) for letter in _axes(picture)],
        "datasets": [
            {"path": str(n), "coordinateTransformations": _transformations(picture, 2**n)}
            for n in range(levels)
        ],
        "type": method,
        "metadata": {"description": description, "method": "napari_ips.io.pyramid.halved"},
    }


def _axis(letter: str, picture: Picture) -> dict[str, str]:
    metadata = picture.metadata
    if letter == "c":
        return {"name": "c", "type": "channel"}
    if letter == "t":
        axis = {"name": "t", "type": "time"}
        unit = time_word(metadata.time_unit) if metadata.time_step else None
    else:
        axis = {"name": letter, "type": "space"}
        unit = length_word(metadata.unit) if metadata.pixel_size else None
    return axis | {"unit": unit} if unit else axis


def _transformations(picture: Picture, factor: int) -> list[dict[str, Any]]:
    """Return the size of the pixels of a level, and where the first of them lies."""
    metadata = picture.metadata
    height, width = metadata.pixel_size or (1.0, 1.0)
    _, y, x = metadata.origin or (0.0, 0.0, 0.0)
    # The centre of a pixel is that of all the pixels it was made of.
    shift = (factor - 1) / 2
    scale = {"t": metadata.time_step or 1.0, "y": height * factor, "x": width * factor}
    place = {"y": y + shift * height, "x": x + shift * width}
    axes = _axes(picture)
    return [
        {"type": "scale", "scale": [float(scale.get(letter, 1.0)) for letter in axes]},
        {
            "type": "translation",
            "translation": [float(place.get(letter, 0.0)) for letter in axes],
        },
    ]


def _omero_channels(picture: Picture, smallest: zarr.Array[Any]) -> list[dict[str, Any]]:
    whole = (slice(None), slice(None))

    def values(t: int, c: int) -> Any:
        return np.asarray(smallest[_place(picture, t, c, whole)])

    return [
        {
            "label": name,
            "color": colour,
            # Shown, the transparency of RGBA would cover the colours.
            "active": not (picture.rgb and c == 3),
            "window": display_window(picture, c, values),
        }
        for c, (name, colour) in enumerate(channel_names_and_colours(picture))
    ]
