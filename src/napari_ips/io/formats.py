"""Kinds of image files, units, and errors of reading, each named in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_ips.errors import IPSError

TIFF = (".tif", ".tiff")
# Written by others in the same format, never by us.
TIFF_KIN = (*TIFF, ".btf", ".tf2", ".tf8", ".lsm", ".stk")
JPEG = (".jpg", ".jpeg")
PNG = (".png",)
IMAGES = TIFF + PNG + JPEG
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")

MICROMETRE = "µm"
_UNITS = {
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns"), MICROMETRE),
    **dict.fromkeys(("micrometer", "micrometre", "micrometers"), MICROMETRE),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), "nm"),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), "cm"),
}
_NO_UNITS = ("", "pixel", "pixels", "px", "null")


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a zarr array or group."""
    return path.is_dir() and any((path / name).exists() for name in ZARR_FILES)


@contextmanager
def plainly_read(path: Path | str) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into an IPSError that names it."""
    try:
        yield
    except (IPSError, MemoryError):
        raise
    # Decoders raise exceptions of every kind on damaged files.
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise IPSError(f"{path} cannot be read: {error.strerror}.") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise IPSError(f"{path} cannot be read; it may be damaged ({reason}).") from error


def clean_unit(unit: str | None) -> str | None:
    """Return the usual spelling of a unit of length, None for pixels or nothing."""
    if unit is None or unit.strip().lower() in _NO_UNITS:
        return None
    return _UNITS.get(unit.strip().lower(), unit.strip())


def split_suffix(name: str) -> tuple[str, str]:
    """Split the name of a file before its suffix, to which a ``.ome`` belongs."""
    path = Path(name)
    suffix = path.suffix
    if path.stem.lower().endswith(".ome"):
        suffix = path.stem[-len(".ome") :] + suffix
    return name.removesuffix(suffix), suffix


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Key that sorts slice_2 before slice_10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
