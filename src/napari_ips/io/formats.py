"""The file formats: pixels, and what the file says about its axes and its scale."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_ips.errors import IPSError

TIFF = (".tif", ".tiff")
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
# What tifffile logs, and then goes on with fewer pages, when a file ends too soon.
_DAMAGE = re.compile("page offset|corrupted|circular|failed to reshape")


@dataclass(frozen=True)
class Scale:
    """Pixel size (y, x), distance of slices, and their unit; None where unknown."""

    pixel_size: tuple[float, float] | None = None
    z_step: float | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Pixels:
    """An image file: an array (lazy for zarr), one letter per axis, and the scale.

    The letters: Z, Y, X, C (channel), T (time), S (colour samples), Q (unknown).
    """

    data: Any
    axes: str
    scale: Scale


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a zarr array or group."""
    return path.is_dir() and any((path / name).exists() for name in ZARR_FILES)


def load(path: Path) -> Pixels:
    """Read one image file or zarr store.

    Raises
    ------
    IPSError
        If it is missing, of an unknown kind, damaged, or of several unlike images.
    """
    if not path.exists():
        raise IPSError(f"{path} does not exist.")
    suffix = path.suffix.lower()
    if is_zarr(path):
        reader = _load_zarr
    elif path.is_dir():
        raise IPSError(f"{path} is a folder, but one image is needed here.")
    elif suffix in TIFF:
        reader = _load_tiff
    elif suffix in PNG:
        reader = _load_png
    elif suffix in JPEG:
        reader = _load_jpeg
    else:
        known = ", ".join(IMAGES)
        raise IPSError(f"{path.name} is of no known kind; known: {known}, zarr folders.")
    with plainly_read(path):
        pixels = reader(path)
    if np.dtype(pixels.data.dtype).kind not in "uif":
        kind = pixels.data.dtype
        raise IPSError(f"{path} holds {kind} values; integers or real numbers are needed.")
    return pixels


@contextmanager
def plainly_read(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into an IPSError that names it."""
    try:
        yield
    except (IPSError, MemoryError):
        raise
    # Decoders raise exceptions of every kind on damaged files.
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise IPSError(f"{path} cannot be read: {error.strerror}.") from error
        raise IPSError(f"{path} cannot be read; it may be damaged ({error}).") from error


def clean_unit(unit: str | None) -> str | None:
    """Return the usual spelling of a unit of length, None for pixels or nothing."""
    if unit is None or unit.strip().lower() in _NO_UNITS:
        return None
    return _UNITS.get(unit.strip().lower(), unit.strip())


def _known_letters(axes: str) -> str:
    return "".join(letter if letter in "ZYXSTC" else "Q" for letter in axes)


def _load_png(path: Path) -> Pixels:
    # Not with Pillow, which reduces 16-bit colour to 8 bits.
    import imagecodecs

    image = imagecodecs.png_decode(path.read_bytes())
    return Pixels(image, "YXS"[: image.ndim], Scale())


def _load_jpeg(path: Path) -> Pixels:
    from PIL import Image

    with Image.open(path) as opened:
        image = np.asarray(opened if opened.mode == "L" else opened.convert("RGB"))
    return Pixels(image, "YXS"[: image.ndim], Scale())


@contextmanager
def _damage_raised() -> Iterator[None]:
    """Turn what tifffile merely logs about a damaged file into an error."""
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("tifffile")
    listener = Listener(logging.ERROR)
    logger.addHandler(listener)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate
    for message in messages:
        if _DAMAGE.search(message):
            raise ValueError(message)


def _load_tiff(path: Path) -> Pixels:
    import tifffile

    with _damage_raised(), tifffile.TiffFile(path) as file:
        first, *others = file.series
        if any(s.shape[-2:] == first.shape[-2:] or len(s) > 1 for s in others):
            raise IPSError(
                f"{path.name} holds {len(file.series)} images that do not form one stack "
                "(positions, or pages of different sizes); save one of them by itself."
            )
        data = first.asarray()
        return Pixels(data, _known_letters(first.axes), _tiff_scale(file))


def _tiff_scale(file: Any) -> Scale:
    if file.is_ome:
        return _ome_scale(file.ome_metadata)
    page = file.pages.first
    resolution = [page.tags.get(tag) for tag in ("YResolution", "XResolution")]
    ratios = [tag.value[0] / tag.value[1] for tag in resolution if tag and tag.value[1]]
    size = (1 / ratios[0], 1 / ratios[1]) if len(ratios) == 2 and all(ratios) else None
    if file.is_imagej:
        described = file.imagej_metadata
        unit = clean_unit(described.get("unit"))
        if unit is None and size == (1.0, 1.0):
            size = None
        step = described.get("spacing")
        return Scale(size, None if step is None else abs(float(step)), unit)
    tag = page.tags.get("ResolutionUnit")
    # Dots per inch are a printer's figure, most often invented; centimetres are not.
    if size is not None and tag is not None and tag.value == 3:
        return Scale((size[0] * 1e4, size[1] * 1e4), None, MICROMETRE)
    return Scale()


def _ome_scale(xml: str) -> Scale:
    from xml.etree import ElementTree

    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    if pixels is None:
        return Scale()
    sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "YXZ"]
    # Micrometres are what OME-XML means when it is silent.
    units = [clean_unit(pixels.get(f"PhysicalSize{a}Unit", MICROMETRE)) for a in "YXZ"]
    y, x, z = (None if size is None else float(size) for size in sizes)
    if y is None or x is None or units[0] != units[1]:
        return Scale()
    return Scale((y, x), z if units[2] == units[1] else None, units[1])


def _load_zarr(path: Path) -> Pixels:
    import zarr

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return Pixels(node, _array_axes(node), Scale())
    attributes: dict[str, Any] = dict(node.attrs)
    described = attributes.get("ome", attributes)
    if "multiscales" not in described:
        inside = ", ".join(sorted(node)[:5]) or "nothing"
        raise IPSError(
            f"{path} is no OME-Zarr image; pass one that it holds, e.g. {path}/0 "
            f"(it holds: {inside})."
        )
    image = described["multiscales"][0]
    array: Any = node[image["datasets"][0]["path"]]
    axes = image.get("axes", ["t", "c", "z", "y", "x"][-array.ndim :])
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in axes]
    letters = _known_letters("".join(str(name)[0].upper() for name in names))
    return Pixels(array, letters, _zarr_scale(image, axes, letters))


def _array_axes(array: Any) -> str:
    """Return the axes of a bare zarr array: by its dimension names, else by its shape."""
    names: tuple[str | None, ...] = getattr(array.metadata, "dimension_names", None) or ()
    letters = _known_letters("".join((name or "q")[0].upper() for name in names))
    if len(letters) == array.ndim and {"Y", "X"} <= set(letters):
        return letters
    colour = array.ndim > 2 and array.shape[-1] in (3, 4)
    spatial = "YXS" if colour else "YX"
    return spatial.rjust(array.ndim, "Q")


def _zarr_scale(image: dict[str, Any], axes: list[Any], letters: str) -> Scale:
    factors = np.ones(len(letters))
    levels = (image["datasets"][0], image)
    steps = [
        step for level in levels for step in level.get("coordinateTransformations", ())
    ]
    scales = [step["scale"] for step in steps if step.get("type") == "scale"]
    if not scales:
        return Scale()
    for scale in scales:
        factors = factors * np.asarray(scale, float)
    size = {letter: float(f) for letter, f in zip(letters, factors, strict=True)}
    units = {
        letter: clean_unit(axis.get("unit"))
        for letter, axis in zip(letters, axes, strict=True)
        if isinstance(axis, dict)
    }
    if units.get("Y") != units.get("X"):
        return Scale()
    step_known = "Z" in size and units.get("Z") == units.get("Y")
    return Scale((size["Y"], size["X"]), size["Z"] if step_known else None, units.get("Y"))


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Key that sorts slice_2 before slice_10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
