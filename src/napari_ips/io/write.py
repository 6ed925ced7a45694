"""Write images and z-stacks: whole or not at all, and never over something unasked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.files import written_whole
from napari_ips.io.formats import PNG, TIFF, clean_unit, is_zarr
from napari_ips.io.metadata import Metadata
from napari_ips.io.pyramid import Picture
from napari_ips.io.tiff import write_tiff


def write_image(
    path: str | Path,
    image: NDArray[Any],
    *,
    pixel_size: tuple[float, float] | None = None,
    unit: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write one image as TIFF or PNG.

    Parameters
    ----------
    path : path
        Ends in ``.tif``, ``.tiff`` or ``.png``.
    image : ndarray, (Y, X) or (Y, X, 3 or 4)
        Any integer or float type for TIFF; uint8 or uint16 for PNG.
    pixel_size : (float, float), optional
        Height and width of a pixel; kept by TIFF only.
    unit : str, optional
        Of `pixel_size`, such as "µm".
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    IPSError
        If the file exists, cannot be written, or cannot hold the image.
    """
    path = Path(path)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise IPSError(f"An array of the shape {image.shape} cannot be saved as an image.")
    if path.suffix.lower() in PNG:
        check_png(path, image.dtype)
        with new_file(path, overwrite) as part:
            write_png(part, image)
        return
    _check_tiff(path, image)
    metadata = Metadata(pixel_size, unit=clean_unit(unit))
    picture = Picture(image[None, None], metadata, image.ndim == 3, path.stem)
    with new_file(path, overwrite) as part:
        write_tiff(part, picture)


def write_stack(
    path: str | Path,
    stack: NDArray[Any],
    *,
    pixel_size: tuple[float, float] | None = None,
    z_step: float | None = None,
    unit: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a z-stack as one TIFF.

    Parameters
    ----------
    path : path
        Ends in ``.tif`` or ``.tiff``.
    stack : ndarray, (Z, Y, X) or (Z, Y, X, 3 or 4), any integer or float type
    pixel_size : (float, float), optional
        Height and width of a pixel.
    z_step : float, optional
        Distance of two slices.
    unit : str, optional
        Of `pixel_size` and `z_step`, such as "µm".
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    IPSError
        If the file exists, cannot be written, or cannot hold the stack.
    """
    path = Path(path)
    if stack.ndim not in (3, 4) or (stack.ndim == 4 and stack.shape[3] not in (3, 4)):
        raise IPSError(f"An array of the shape {stack.shape} cannot be saved as a stack.")
    _check_tiff(path, stack)
    metadata = Metadata(pixel_size, z_step, clean_unit(unit))
    picture = Picture(stack[None], metadata, stack.ndim == 4, path.stem, second="Z")
    with new_file(path, overwrite) as part:
        write_tiff(part, picture)


def check_writable(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise IPSError if a file cannot be written there, before long work is done.

    Its folder has to exist and be writable; the file must not exist, unless it is to be
    overwritten. A name that ends in ``.zarr`` stands for a folder, and takes the place
    of nothing but a zarr store.
    """
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        raise IPSError(f"The folder {folder} does not exist; make it first.")
    if path.suffix.lower() == ".zarr":
        if path.exists() and not is_zarr(path):
            raise IPSError(f"{path} is no zarr store, so it is kept; choose another name.")
    elif path.is_dir():
        raise IPSError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise IPSError(
            f"{path} exists; choose another name, or let it be overwritten (--overwrite)."
        )
    if not os.access(folder, os.W_OK):
        raise IPSError(f"The folder {folder} is read-only; choose another one.")


@contextmanager
def new_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a temporary path that becomes `path`, which must not exist even then."""
    check_writable(path, overwrite=overwrite)
    with written_whole(path) as part:
        yield part
        check_writable(path, overwrite=overwrite)


def check_png(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise IPSError if PNG cannot hold values of this type."""
    if dtype.name not in ("uint8", "uint16"):
        raise IPSError(
            f"PNG holds 8 or 16 bits, not {dtype}; save {path.stem}.tif instead."
        )


def write_png(part: Path, image: NDArray[Any]) -> None:
    """Write an image (Y, X) or (Y, X, 3 or 4) as PNG."""
    import imagecodecs

    native = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    part.write_bytes(imagecodecs.png_encode(native))


def _check_tiff(path: Path, data: NDArray[Any]) -> None:
    if path.suffix.lower() not in TIFF:
        kinds = ".tif or .png" if data.ndim < 4 else ".tif"
        raise IPSError(f"{path.name} is of no known kind; end the name in {kinds}.")
    if data.dtype.kind not in "uif":
        raise IPSError(f"{data.dtype} values cannot be saved; integers or floats can.")
