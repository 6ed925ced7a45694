"""Write TIFF in strips, as ImageJ's own format where that holds the image."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.io.formats import MICROMETRE
from napari_ips.io.ome_terms import channel_names_and_colours, ome_metadata, seconds
from napari_ips.io.pyramid import THREADS, Picture, Progress, Steps

OME_TYPES = (
    *("int8", "uint8", "int16", "uint16", "int32", "uint32"),
    *("float32", "float64"),
)
# Room for headers below the 4 GB that offsets of classic TIFF can reach.
CLASSIC_LIMIT = 2**32 - 2**25
# ImageJ's own format holds these; Fiji and napari then read the exact scale.
_IMAGEJ_GREY = ("uint8", "uint16", "float32")
_CENTIMETRES = {"nm": 1e-7, MICROMETRE: 1e-4, "mm": 0.1, "cm": 1.0}
# A tag holds a quotient of two numbers of 32 bits.
_LARGEST = 2.0**32 - 1
_STRIP_BYTES = 2**18
# Of rows that are in memory at once.
_BAND_BYTES = 2**25


def write_tiff(part: Path, picture: Picture, progress: Progress | None = None) -> None:
    """Write a picture as a TIFF that every reader opens, without levels of resolution.

    ImageJ's format where it holds the type and the size, else OME-TIFF, else, for types
    that neither knows, the shape and the axes in the words of tifffile.
    """
    import tifffile

    shape, axes = picture.shape_without_single
    rows = _rows_per_strip(picture)
    options: dict[str, Any] = {
        "shape": shape,
        "dtype": picture.dtype,
        "rowsperstrip": rows,
        "compression": "zlib",
        "bigtiff": picture.nbytes > CLASSIC_LIMIT,
        **colour_options(picture),
    }
    if _fits_imagej(picture):
        options |= _imagej_options(picture, axes)
    elif picture.dtype.name in OME_TYPES:
        options |= resolution_in_centimetres(picture)
        options |= {"ome": True, "metadata": ome_metadata(picture, axes)}
    else:
        options |= resolution_in_centimetres(picture)
        options |= {"ome": False, "metadata": {"axes": axes}}
    tifffile.imwrite(part, _encoded_strips(picture, rows, progress), **options)


def colour_options(picture: Picture) -> dict[str, Any]:
    """Return how tifffile is to call the samples of a pixel."""
    if not picture.rgb:
        return {"photometric": "minisblack"}
    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": "contig"}
    if picture.shape[4] == 4:
        options["extrasamples"] = ["unassalpha"]
    return options


def resolution_in_centimetres(picture: Picture, factor: int = 1) -> dict[str, Any]:
    """Return the resolution for readers that know neither OME nor ImageJ metadata."""
    metadata = picture.metadata
    if metadata.pixel_size is None or metadata.unit not in _CENTIMETRES:
        return {}
    centimetres = factor * _CENTIMETRES[metadata.unit]
    height, width = (size * centimetres for size in metadata.pixel_size)
    return _resolution(height, width) | {"resolutionunit": "CENTIMETER"}


def _resolution(height: float, width: float) -> dict[str, Any]:
    """Return pixels per unit, unless they are more or fewer than the tags can hold."""
    per_unit = (1 / width, 1 / height)
    if not all(1 / _LARGEST < value < _LARGEST for value in per_unit):
        return {}
    return {"resolution": per_unit}


def _rows_per_strip(picture: Picture) -> int:
    row_bytes = picture.nbytes // (len(picture.planes) * picture.shape[2])
    return min(max(_STRIP_BYTES // row_bytes, 1), picture.shape[2])


def _encoded_strips(
    picture: Picture, rows: int, progress: Progress | None
) -> Iterator[bytes]:
    """Compress strip by strip, with no more than a band of rows in memory."""
    height, width = picture.shape[2:4]
    row_bytes = picture.nbytes // (len(picture.planes) * height)
    band = max(_BAND_BYTES // (row_bytes * rows), 1) * rows
    starts = range(0, height, band)
    steps = Steps(len(picture.planes) * len(starts), progress)
    with ThreadPoolExecutor(THREADS) as pool:
        for t, c in picture.planes:
            for start in starts:
                window = (slice(start, min(start + band, height)), slice(0, width))
                pixels = picture.read(t, c, window)
                # Before the last strip is out, after which nobody asks for more.
                steps()
                yield from pool.map(
                    _encoded, np.split(pixels, range(rows, len(pixels), rows))
                )


def _encoded(strip: NDArray[Any]) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.deflate_encode(strip.tobytes()))


def _fits_imagej(picture: Picture) -> bool:
    if picture.nbytes > CLASSIC_LIMIT:
        return False
    if picture.rgb:
        return picture.dtype.name == "uint8" and picture.shape[4] == 3
    return picture.dtype.name in _IMAGEJ_GREY


def _imagej_options(picture: Picture, axes: str) -> dict[str, Any]:
    known = picture.metadata
    metadata: dict[str, Any] = {"axes": axes}
    if known.unit is not None:
        # The field is ASCII; this is how ImageJ itself writes it.
        metadata["unit"] = known.unit.encode("ascii", "backslashreplace").decode()
        metadata["unit"] = metadata["unit"].replace("\\xb5", "\\u00B5")
    if "Z" in axes and known.z_step is not None:
        metadata["spacing"] = known.z_step
    interval = seconds(known.time_step, known.time_unit)
    if "T" in axes and interval is not None:
        metadata["finterval"] = interval
    if "C" in axes and picture.kind == "image":
        metadata |= _imagej_channels(picture)
    options: dict[str, Any] = {"imagej": True, "metadata": metadata}
    if known.pixel_size is not None:
        options |= _resolution(*known.pixel_size)
    return options


def _imagej_channels(picture: Picture) -> dict[str, Any]:
    ramp = np.arange(256) / 255
    tables = []
    for _, colour in channel_names_and_colours(picture):
        full = np.frombuffer(bytes.fromhex(colour), np.uint8)
        tables.append(np.rint(full[:, None] * ramp).astype(np.uint8))
    metadata: dict[str, Any] = {"mode": "composite", "LUTs": tables}
    windows = [channel.window for channel in picture.metadata.channels]
    if len(windows) == len(tables) and all(windows):
        metadata["Ranges"] = tuple(float(end) for window in windows for end in window or ())
    return metadata
