"""Write a result, larger than memory if need be, in the format its name asks for."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from napari_ips.errors import IPSError
from napari_ips.io.formats import PNG, TIFF, split_suffix
from napari_ips.io.pyramid import Kind, Picture, Progress
from napari_ips.io.tiff import OME_TYPES, write_tiff
from napari_ips.io.write import check_png, check_writable, new_file, write_png

if TYPE_CHECKING:
    from napari_ips.io.metadata import Metadata

Format = Literal["OME-Zarr", "OME-TIFF", "TIFF", "PNG"]

# All levels of resolution, of which each is a quarter of the one above.
_LEVELS = 1.4
# Without loss, images of a camera hardly ever shrink that far.
_BEST_COMPRESSION = 4


def write_result(
    path: str | Path,
    array: Any,
    metadata: Metadata,
    *,
    rgb: bool,
    name: str,
    provenance: Mapping[str, Any] | None = None,
    kind: Kind = "image",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a fused image, or a map that belongs to it, without loading it as a whole.

    The same array and metadata always make the same bytes. The name appears when all is
    written; until then, whatever it held before stays.

    Parameters
    ----------
    path : path
        Ends in ``.zarr`` for OME-Zarr 0.5, in ``.ome.tif`` for OME-TIFF, both with
        levels of resolution; in ``.tif`` for a TIFF without them; or in ``.png``, which
        is loaded as a whole.
    array : ndarray or zarr array, (T, C, Y, X) or (T, C, Y, X, 3 or 4)
        Any integer or float type that the format knows.
    metadata : Metadata
        Of the stack that was fused; what there is to say of z is dropped.
    rgb : bool
        Whether the last axis holds the colours of a pixel.
    name : str
        Of the image, told in OME metadata.
    provenance : mapping, optional
        How the image came about, in values of JSON; kept by OME-Zarr and OME-TIFF.
    kind : "image", "index" or "map"
        An index map is shrunk by leaving pixels out, the others by means. Only an
        image is shown in the colours and windows of the channels.
    overwrite : bool
        Replace an existing file, or an existing zarr store.
    progress : callable, optional
        Called in this thread with the number of steps done and of all steps.

    Raises
    ------
    IPSError
        If `check_result_path` objects, the disk is full, or the place cannot be written.
    """
    path = Path(path)
    check_result_path(
        path, shape=array.shape, dtype=array.dtype, rgb=rgb, overwrite=overwrite
    )
    picture = Picture(array, metadata, rgb, name, kind, provenance=dict(provenance or {}))
    with new_file(path, overwrite) as part:
        _write(_format(path), part, picture, progress)


def check_result_path(
    path: str | Path, *, shape: Sequence[int], dtype: DTypeLike, rgb: bool, overwrite: bool
) -> None:
    """Raise IPSError if a result cannot be written, as far as is known beforehand.

    Parameters
    ----------
    path : path
    shape : sequence of int
        (T, C, Y, X) or (T, C, Y, X, 3 or 4).
    dtype : dtype
    rgb : bool
        Whether the last axis holds the colours of a pixel.
    overwrite : bool
        Whether an existing file or zarr store may be replaced.

    Raises
    ------
    IPSError
        If the suffix is unknown, the format cannot hold the type or the shape, the
        folder is missing or read-only, the name is taken, or the disk is far too small.
    """
    path, dtype = Path(path), np.dtype(dtype)
    kind = _format(path)
    _check_content(path, kind, tuple(shape), dtype, rgb)
    check_writable(path, overwrite=overwrite)
    levels = _LEVELS if kind in ("OME-Zarr", "OME-TIFF") else 1.0
    least = math.prod(shape) * dtype.itemsize * levels / _BEST_COMPRESSION
    free = shutil.disk_usage(path.parent).free
    if free < least:
        raise IPSError(
            f"{path} needs at least {least / 1e9:.3g} GB, but the disk has only "
            f"{free / 1e9:.3g} GB left; choose another disk."
        )


def beside(path: Path, name: str) -> Path:
    """Return the path of a map that is written beside an image: ``f.index.tif``."""
    stem, suffix = split_suffix(path.name)
    # Of the maps, PNG holds the index alone.
    return path.with_name(f"{stem}.{name}{'.tif' if suffix.lower() in PNG else suffix}")


def _format(path: Path) -> Format:
    name = path.name.lower()
    if name.endswith(".zarr"):
        return "OME-Zarr"
    if name.endswith(tuple(f".ome{suffix}" for suffix in TIFF)):
        return "OME-TIFF"
    if name.endswith(TIFF):
        return "TIFF"
    if name.endswith(PNG):
        return "PNG"
    raise IPSError(
        f"{path.name} is of no known kind; end the name in .ome.zarr, .ome.tif, .tif or "
        ".png."
    )


def _check_content(
    path: Path, kind: Format, shape: tuple[int, ...], dtype: np.dtype[Any], rgb: bool
) -> None:
    if len(shape) != (5 if rgb else 4) or (rgb and shape[4] not in (3, 4)):
        raise IPSError(f"An array of the shape {shape} cannot be saved as an image.")
    if min(shape) < 1:
        raise IPSError(f"An array of the shape {shape} has no pixels to be saved.")
    if dtype.kind not in "uif":
        raise IPSError(f"{dtype} values cannot be saved; integers or floats can.")
    if rgb and shape[1] > 1:
        raise IPSError(
            f"{path.name} cannot hold several channels of coloured pixels; save one by one."
        )
    stem, _ = split_suffix(path.name)
    if kind == "OME-TIFF" and dtype.name not in OME_TYPES:
        raise IPSError(f"OME-TIFF holds no {dtype} values; save {stem}.ome.zarr instead.")
    if kind == "PNG":
        check_png(path, dtype)
        if shape[0] > 1 or shape[1] > 1:
            raise IPSError(
                f"PNG holds one image, but these are {shape[0]} times and {shape[1]} "
                f"channels; save {stem}.ome.tif instead."
            )


def _write(kind: Format, part: Path, picture: Picture, progress: Progress | None) -> None:
    if kind == "OME-Zarr":
        from napari_ips.io.ome_zarr import write_ome_zarr

        write_ome_zarr(part, picture, progress)
    elif kind == "OME-TIFF":
        from napari_ips.io.ome_tiff import write_ome_tiff

        write_ome_tiff(part, picture, progress)
    elif kind == "TIFF":
        write_tiff(part, picture, progress)
    else:
        write_png(part, picture.read(0, 0, (slice(None), slice(None))))
        if progress is not None:
            progress(1, 1)
