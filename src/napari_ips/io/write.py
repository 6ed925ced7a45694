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
from napari_ips.io.formats import MICROMETRE, PNG, TIFF, clean_unit

# ImageJ's own format holds these; Fiji and napari then read the exact scale.
_IMAGEJ_GREY = ("uint8", "uint16", "float32")
_OME = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
_CENTIMETRES = {"nm": 1e-7, MICROMETRE: 1e-4, "mm": 0.1, "cm": 1.0}
# Room for headers below the 4 GB that offsets of classic TIFF can reach.
_CLASSIC_LIMIT = 2**32 - 2**25


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
        if image.dtype.name not in ("uint8", "uint16"):
            raise IPSError(
                f"PNG holds 8 or 16 bits, not {image.dtype}; save {path.stem}.tif instead."
            )
        with _new_file(path, overwrite) as part:
            _write_png(part, image)
        return
    _check_tiff(path, image)
    axes = "YXS"[: image.ndim]
    with _new_file(path, overwrite) as part:
        _write_tiff(part, image, axes, pixel_size, None, clean_unit(unit))


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
    axes = "ZYXS"[: stack.ndim]
    with _new_file(path, overwrite) as part:
        _write_tiff(part, stack, axes, pixel_size, z_step, clean_unit(unit))


def check_writable(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise IPSError if a file cannot be written there, before long work is done.

    Its folder has to exist and be writable; the file must not exist, unless it is to be
    overwritten.
    """
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        raise IPSError(f"The folder {folder} does not exist; make it first.")
    if path.is_dir():
        raise IPSError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise IPSError(f"{path} exists; choose another name, or say --overwrite.")
    if not os.access(folder, os.W_OK):
        raise IPSError(f"The folder {folder} is read-only; choose another one.")


@contextmanager
def _new_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a temporary path that becomes `path`, which must not exist even then."""
    check_writable(path, overwrite=overwrite)
    with written_whole(path) as part:
        yield part
        check_writable(path, overwrite=overwrite)


def _check_tiff(path: Path, data: NDArray[Any]) -> None:
    if path.suffix.lower() not in TIFF:
        kinds = ".tif or .png" if data.ndim < 4 else ".tif"
        raise IPSError(f"{path.name} is of no known kind; end the name in {kinds}.")
    if data.dtype.kind not in "uif":
        raise IPSError(f"{data.dtype} values cannot be saved; integers or floats can.")


def _write_png(part: Path, image: NDArray[Any]) -> None:
    import imagecodecs

    native = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    part.write_bytes(imagecodecs.png_encode(native))


def _write_tiff(
    part: Path,
    data: NDArray[Any],
    axes: str,
    pixel_size: tuple[float, float] | None,
    z_step: float | None,
    unit: str | None,
) -> None:
    import tifffile

    options: dict[str, Any] = {
        "photometric": "rgb" if axes.endswith("S") else "minisblack",
        "compression": "zlib",
        "bigtiff": data.nbytes > _CLASSIC_LIMIT,
        "metadata": {"axes": axes},
    }
    if axes.endswith("S") and data.shape[-1] == 4:
        options["extrasamples"] = ["unassalpha"]
    if _fits_imagej(data, axes):
        options |= _imagej_options(axes, pixel_size, z_step, unit)
    else:
        options |= _resolution_in_centimetres(pixel_size, unit)
        if data.dtype.name in _OME:
            options["ome"] = True
            options["metadata"] |= _ome_metadata(pixel_size, z_step, unit)
    tifffile.imwrite(part, data, **options)


def _fits_imagej(data: NDArray[Any], axes: str) -> bool:
    if data.nbytes > _CLASSIC_LIMIT:
        return False
    if axes.endswith("S"):
        return data.dtype.name == "uint8" and data.shape[-1] == 3
    return data.dtype.name in _IMAGEJ_GREY


def _imagej_options(
    axes: str,
    pixel_size: tuple[float, float] | None,
    z_step: float | None,
    unit: str | None,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    if unit is not None:
        # The field is ASCII; this is how ImageJ itself writes it.
        metadata["unit"] = unit.encode("ascii", "backslashreplace").decode()
        metadata["unit"] = metadata["unit"].replace("\\xb5", "\\u00B5")
    if z_step is not None:
        metadata["spacing"] = z_step
    options: dict[str, Any] = {"imagej": True, "metadata": metadata}
    if pixel_size is not None:
        options["resolution"] = (1 / pixel_size[1], 1 / pixel_size[0])
    return options


def _resolution_in_centimetres(
    pixel_size: tuple[float, float] | None, unit: str | None
) -> dict[str, Any]:
    """For readers that know neither OME nor ImageJ metadata."""
    if pixel_size is None or unit not in _CENTIMETRES:
        return {}
    y, x = (size * _CENTIMETRES[unit] for size in pixel_size)
    return {"resolution": (1 / x, 1 / y), "resolutionunit": "CENTIMETER"}


def _ome_metadata(
    pixel_size: tuple[float, float] | None, z_step: float | None, unit: str | None
) -> dict[str, Any]:
    sizes: dict[str, float] = {}
    if pixel_size is not None:
        sizes |= {"PhysicalSizeY": pixel_size[0], "PhysicalSizeX": pixel_size[1]}
    if z_step is not None:
        sizes["PhysicalSizeZ"] = z_step
    return sizes | {f"{name}Unit": unit or "pixel" for name in sizes}
