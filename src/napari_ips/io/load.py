"""Open an image file or store, of whatever kind it is."""

from __future__ import annotations

from pathlib import Path

from napari_ips.errors import IPSError
from napari_ips.io.formats import IMAGES, JPEG, PNG, TIFF_KIN, is_zarr
from napari_ips.io.pictures import open_picture
from napari_ips.io.pixels import Pixels
from napari_ips.io.tiff_read import open_tiff
from napari_ips.io.zarr_read import open_zarr


def load(path: Path) -> tuple[Pixels, ...]:
    """Open an image file or zarr store, of which no pixels are read yet.

    Returns
    -------
    tuple of Pixels
        One for each position.

    Raises
    ------
    IPSError
        If it is missing, of an unknown kind, damaged, or of several unlike images.
    """
    if not path.exists():
        raise IPSError(f"{path} does not exist.")
    suffix = path.suffix.lower()
    if is_zarr(path):
        return open_zarr(path)
    if path.is_dir():
        raise IPSError(f"{path} is a folder, but one image is needed here.")
    if suffix in TIFF_KIN:
        return open_tiff(path)
    if suffix in PNG + JPEG:
        return (open_picture(path),)
    known = ", ".join(IMAGES)
    raise IPSError(f"{path.name} is of no known kind; known: {known}, zarr folders.")
