"""In-focus training images: found, read, checked for sharpness, and cropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ips.config import TrainConfig
from napari_ips.errors import IPSError
from napari_ips.intensity import FloatImage, IntensityRange, luminance

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".zarr"}
# Sharpness is judged by blocks of this edge, in pixels. Blocks whose standard deviation
# is a smaller share of the image's range are empty, and so is an image of mostly such.
_BLOCK = 32
_LEAST_CONTRAST = 0.02
_LEAST_FILLED = 0.1
_CROP_TRIES = 8
# Integer images with fewer grey levels in range show quantisation steps, not detail.
_FEWEST_LEVELS = 24


def sharpness(image: FloatImage) -> float:
    """Measure how much of an image's contrast is in its finest detail.

    Parameters
    ----------
    image : ndarray, shape (channels, H, W)
        Intensities in range 0..1.

    Returns
    -------
    float
        Median, over the blocks of 32 x 32 pixels that are not empty, of the standard
        deviation of the block less its 3 x 3 mean, divided by that of the block. Focused
        images reach 0.1 to 0.6, those blurred by several pixels stay below 0.06. It is 0
        where fewer than a tenth of the blocks hold anything.
    """
    detail = image - ndimage.uniform_filter(image, (1, 3, 3))
    contrast = _block_deviation(image)
    filled = contrast > _LEAST_CONTRAST
    if filled.mean() < _LEAST_FILLED:
        return 0.0
    return float(np.median(_block_deviation(detail)[filled] / contrast[filled]))


def _block_deviation(image: FloatImage) -> FloatImage:
    """Return the standard deviation of every whole block of an image."""
    channels, height, width = image.shape
    edge = min(_BLOCK, height, width)
    rows, columns = height // edge, width // edge
    whole = image[:, : rows * edge, : columns * edge]
    blocks = whole.reshape(channels, rows, edge, columns, edge)
    deviation: FloatImage = blocks.std(axis=(0, 2, 4))
    return deviation


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

    def crop(self, size: int, rng: np.random.Generator) -> FloatImage:
        """Cut a random square, turned and mirrored at random, normalised to 0..1."""
        y, x = (int(rng.integers(0, n - size + 1)) for n in self.data.shape[1:])
        patch = self.data[:, y : y + size, x : x + size]
        patch = np.rot90(patch, int(rng.integers(4)), axes=(1, 2))
        if rng.random() < 0.5:
            patch = patch[:, :, ::-1]
        return self.intensities.normalise(patch)


@dataclass(frozen=True)
class ImagePool:
    """The images of a training run, and why others were left out.

    Attributes
    ----------
    images : tuple of TrainingImage
        Usable images.
    rejected : tuple of (name, reason)
        Unreadable, too small, soft and empty ones.
    min_sharpness : float
        Crops below are drawn again.
    """

    images: tuple[TrainingImage, ...]
    rejected: tuple[tuple[str, str], ...]
    min_sharpness: float

    def draw(self, count: int, size: int, rng: np.random.Generator) -> FloatImage:
        """Draw ``count`` sharp crops, (count, channels, size, size), larger images more."""
        pixels = np.array([image.pixels for image in self.images], dtype=np.float64)
        picks = rng.choice(len(self.images), size=count, p=pixels / pixels.sum())
        return np.stack([self._sharp_crop(self.images[k], size, rng) for k in picks])

    def _sharp_crop(
        self, image: TrainingImage, size: int, rng: np.random.Generator
    ) -> FloatImage:
        """Draw until a crop is sharp; after some tries take the sharpest of them."""
        best, best_score = image.crop(size, rng), -1.0
        for _ in range(_CROP_TRIES):
            crop = image.crop(size, rng)
            score = sharpness(crop)
            if score > best_score:
                best, best_score = crop, score
            if best_score >= self.min_sharpness:
                break
        return best


def find_files(sources: Iterable[Path]) -> list[Path]:
    """List the image files among files and folders (searched recursively), sorted."""
    files: list[Path] = []
    for source in map(Path, sources):
        if not source.exists():
            raise IPSError(f"{source} does not exist; give files or folders of images.")
        if source.is_file() or source.suffix.lower() == ".zarr":
            files.append(source)
            continue
        inside = (p for p in sorted(source.rglob("*")) if p.suffix.lower() in _SUFFIXES)
        files.extend(p for p in inside if not _within_zarr(p, source))
    return files


def _within_zarr(path: Path, top: Path) -> bool:
    return any(part.endswith(".zarr") for part in path.relative_to(top).parts[:-1])


def load_images(config: TrainConfig) -> ImagePool:
    """Read every usable image of files and folders.

    Parameters
    ----------
    config : TrainConfig
        Its ``images``: TIFF (8, 16, 32 bit; every page an image), PNG, JPEG, OME-Zarr, or
        folders. With a network of one channel colours become luminance. Images smaller
        than ``crop_size`` or softer than ``min_sharpness`` are left out.

    Raises
    ------
    IPSError
        If no image is usable.
    """
    accepted: list[TrainingImage] = []
    rejected: list[tuple[str, str]] = []
    for path in find_files(config.images):
        try:
            for name, page in _pages(path):
                image = _prepare(name, page, config.network.in_channels)
                reason = _why_not(image, page.dtype, config.crop_size, config.min_sharpness)
                if reason:
                    rejected.append((name, reason))
                else:
                    accepted.append(image)
        except IPSError as error:
            rejected.append((str(path), str(error)))
    if not accepted:
        first = f" The first one: {rejected[0][0]}: {rejected[0][1]}" if rejected else ""
        raise IPSError(
            f"None of {len(rejected)} images can be used for training; "
            f"give sharp images of at least {config.crop_size} x {config.crop_size} "
            f"pixels.{first}"
        )
    return ImagePool(tuple(accepted), tuple(rejected), config.min_sharpness)


def _pages(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    from napari_ips.io import read_pages

    for number, page in enumerate(read_pages(path)):
        yield (f"{path}, page {number + 1}" if number else str(path)), page


def _prepare(name: str, page: NDArray[Any], channels: int) -> TrainingImage:
    """Bring a page (H, W[, colours]) to (channels, H, W)."""
    if page.ndim == 3 and channels == 1:
        page = luminance(page)
    planes = np.moveaxis(page, -1, 0)[:channels] if page.ndim == 3 else page[None]
    if len(planes) != channels:
        planes = np.repeat(planes[:1], channels, axis=0)
    return TrainingImage(name, np.ascontiguousarray(planes), IntensityRange.of(planes))


def _why_not(
    image: TrainingImage, dtype: np.dtype[Any], crop_size: int, min_sharpness: float
) -> str | None:
    """Return why an image is of no use, or None."""
    height, width = image.data.shape[1:]
    if min(height, width) < crop_size:
        return f"{height} x {width} pixels, smaller than a crop of {crop_size}"
    if dtype.kind in "iu" and image.intensities.width < _FEWEST_LEVELS:
        return f"empty: a range of {image.intensities.width:.0f} grey levels only"
    if not np.isfinite(image.data).all():
        return "holds NaN or infinite values"
    measured = sharpness(image.intensities.normalise(image.data))
    if measured == 0.0:
        return "empty: nearly no contrast"
    if measured < min_sharpness:
        return f"soft: sharpness {measured:.3f} is below {min_sharpness:g}"
    return None
