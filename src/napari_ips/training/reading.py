"""Images for training as they are found in files, each with what speaks against it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.config import TrainConfig
from napari_ips.errors import IPSError, Stopped
from napari_ips.events import Progress, ProgressCallback
from napari_ips.intensity import FloatImage, IntensityRange, luminance
from napari_ips.training.quality import Quality, at_the_top, sharpness

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".zarr"}
# Integer images with fewer grey levels in range show quantisation steps, not detail.
_FEWEST_LEVELS = 24
_TOO_LARGE = "too large for the memory; cut it into smaller images"


# Name and pixels (H, W[, colours]) of an image.
Page = tuple[str, NDArray[Any]]


@dataclass(frozen=True)
class TrainingImage:
    """One image (channels, H, W) in its own dtype, with the range that becomes 0..1."""

    name: str
    data: NDArray[Any]
    intensities: IntensityRange

    @property
    def pixels(self) -> int:
        """Pixels of one channel."""
        return int(self.data.shape[1] * self.data.shape[2])

    @cached_property
    def top(self) -> float:
        """The highest intensity of the image, normalised; infinite if it is the only one.

        Pixels there are saturated, if many are.
        """
        highest = self.data.max(keepdims=True)
        if highest == self.data.min():
            return float("inf")
        return float(self.intensities.normalise(highest).item())

    def crop(self, size: int, rng: np.random.Generator, margin: int = 0) -> FloatImage:
        """Cut a random square, turned and mirrored at random, normalised to 0..1.

        With a margin it comes with as much of what lies around it, mirrored beyond the
        border of the image.
        """
        y, x = (int(rng.integers(0, n - size + 1)) for n in self.data.shape[1:])
        patch = self._with_margin(y, x, size, margin)
        patch = np.rot90(patch, int(rng.integers(4)), axes=(1, 2))
        if rng.random() < 0.5:
            patch = patch[:, :, ::-1]
        return self.intensities.normalise(patch)

    def _with_margin(self, y: int, x: int, size: int, margin: int) -> NDArray[Any]:
        edge = size + 2 * margin
        rows, columns = (
            np.pad(np.arange(length), margin, mode="reflect")[start : start + edge]
            for start, length in zip((y, x), self.data.shape[1:], strict=True)
        )
        return self.data[:, rows[:, None], columns]


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image without its pixels.

    Attributes
    ----------
    name : str
        The file, and which page or part of it.
    shape : (height, width)
        Pixels; (0, 0) of a file that cannot be read.
    colours : int
        0 for grey.
    dtype : str
        As stored.
    quality : Quality
        Of the whole image; ``saturated`` is that of its least saturated part.
    flaw : str
        Why it is of no use whatever the thresholds, or "".
    """

    name: str
    shape: tuple[int, int] = (0, 0)
    colours: int = 0
    dtype: str = ""
    quality: Quality = Quality(0.0, 0.0)
    flaw: str = ""

    def why_not(self, min_sharpness: float, max_saturated: float) -> str:
        """Return why the image is left out, or ""."""
        if self.flaw:
            return self.flaw
        verdict = self.quality.verdict(min_sharpness, max_saturated)
        if verdict == "saturated":
            return f"saturated: everywhere more than {max_saturated:.0%} of the pixels"
        if verdict == "empty":
            return "empty: nearly no contrast but noise"
        if verdict == "soft":
            measured = self.quality.sharpness
            return f"soft: sharpness {measured:.3f} is below {min_sharpness:g}"
        return ""


def read_images(
    config: TrainConfig,
    pages: Iterable[Page] = (),
    *,
    stop: threading.Event | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[tuple[ImageFacts, TrainingImage | None]]:
    """Read the images of files and folders one by one.

    Parameters
    ----------
    config : TrainConfig
        Its ``images``, ``z_stacks``, ``crop_size`` and ``network.in_channels`` matter,
        and the sharpness for parts of z-stacks.
    pages : iterable of Page
        Images that are in no file; they come first.
    stop : threading.Event, optional
        Set from another thread, it ends the work with `Stopped`.
    callback : callable, optional
        Called with `Progress`, in files.

    Yields
    ------
    (ImageFacts, TrainingImage or None)
        None if the file, or the rest of it, cannot be read.

    Raises
    ------
    IPSError
        If a file or folder that is named does not exist.
    Stopped
        If `stop` was set.
    """
    stop = stop or threading.Event()
    for name, page in pages:
        if stop.is_set():
            raise Stopped
        yield _judged(name, page, config)
    files = find_files(config.images)
    for done, path in enumerate(files):
        if callback is not None:
            callback(Progress("reading", done, len(files)))
        try:
            for name, page in _pages(path, config, stop):
                if stop.is_set():
                    raise Stopped
                yield _judged(name, page, config)
        except IPSError as error:
            yield ImageFacts(str(path), flaw=str(error)), None
        except MemoryError:
            yield ImageFacts(str(path), flaw=_TOO_LARGE), None
    if callback is not None:
        callback(Progress("reading", len(files), len(files)))


def find_files(sources: Iterable[Path]) -> list[Path]:
    """List the image files among files and folders (searched recursively), sorted.

    Hidden files are left out, and what is named twice is taken once: an image must not be
    both trained on and kept out.
    """
    from napari_ips.io.formats import is_zarr

    files: dict[Path, Path] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise IPSError(f"{source} does not exist; give files or folders of images.")
        single = source.is_file() or source.suffix.lower() == ".zarr" or is_zarr(source)
        for path in [source] if single else sorted(_images_within(source)):
            files.setdefault(path.resolve(), path)
    return list(files.values())


def _images_within(folder: Path) -> Iterator[Path]:
    from napari_ips.io.formats import is_zarr

    for place, folders, names in os.walk(folder):
        # The chunks of a zarr may be millions: its folder is not searched.
        zarrs = [
            n for n in folders if n.lower().endswith(".zarr") or is_zarr(Path(place, n))
        ]
        folders[:] = [n for n in folders if n not in zarrs]
        images = [n for n in names if Path(n).suffix.lower() in _SUFFIXES]
        yield from (Path(place, n) for n in zarrs + images if not n.startswith("."))


def _pages(
    path: Path, config: TrainConfig, stop: threading.Event
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the images of a file, (H, W[, colours]), or what is in focus of its stacks."""
    from napari_ips.io import read_pages

    if config.z_stacks != "slices":
        from napari_ips.training.stacks import in_focus_of_file

        parts = in_focus_of_file(path, config, stop)
        if parts is not None:
            yield from parts
            return
    for number, page in enumerate(read_pages(path)):
        yield (f"{path}, page {number + 1}" if number else str(path)), page


def _judged(
    name: str, page: NDArray[Any], config: TrainConfig
) -> tuple[ImageFacts, TrainingImage | None]:
    height, width = page.shape[:2]
    colours = page.shape[2] if page.ndim == 3 else 0
    known = (name, (height, width), colours, str(page.dtype))
    try:
        image = _prepared(name, page, config.network.in_channels)
    except IPSError as error:
        return ImageFacts(*known, flaw=str(error)), None
    flaw = _flaw(image, page.dtype, config.crop_size)
    quality = Quality(0.0, 0.0) if flaw else _measured(image, config.crop_size)
    return ImageFacts(*known, quality, flaw), image


def _prepared(name: str, page: NDArray[Any], channels: int) -> TrainingImage:
    """Bring a page (H, W[, colours]) to (channels, H, W)."""
    if page.ndim == 3 and channels == 1:
        page = luminance(page)
    planes = np.moveaxis(page, -1, 0)[:channels] if page.ndim == 3 else page[None]
    if len(planes) != channels:
        planes = np.repeat(planes[:1], channels, axis=0)
    return TrainingImage(name, np.ascontiguousarray(planes), IntensityRange.of(planes))


def _flaw(image: TrainingImage, dtype: np.dtype[Any], crop_size: int) -> str:
    """Return why an image is of no use whatever the thresholds, or ""."""
    height, width = image.data.shape[1:]
    if min(height, width) < crop_size:
        return f"{height} x {width} pixels, smaller than a crop of {crop_size}"
    if not np.isfinite(image.data).all():
        return "holds NaN or infinite values"
    if dtype.kind in "iu" and image.intensities.width < _FEWEST_LEVELS:
        return f"empty: a range of {image.intensities.width:.0f} grey levels only"
    return ""


def _measured(image: TrainingImage, crop_size: int) -> Quality:
    """Measure how sharp an image is, and how saturated its least saturated part."""
    normalised = image.intensities.normalise(image.data)
    at_top = at_the_top(normalised, image.top)
    rows, columns = (n // crop_size for n in at_top.shape)
    whole = at_top[: rows * crop_size, : columns * crop_size]
    parts = whole.reshape(rows, crop_size, columns, crop_size).mean(axis=(1, 3))
    return Quality(sharpness(normalised), float(parts.min()))
