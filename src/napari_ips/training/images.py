"""The images of a training run, and sharp crops of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from napari_ips.config import TrainConfig
from napari_ips.errors import IPSError
from napari_ips.intensity import FloatImage
from napari_ips.noise import photon_noise_level
from napari_ips.training.quality import measure
from napari_ips.training.reading import Page, TrainingImage, read_images

__all__ = ["ImagePool", "TrainingImage", "load_images", "measured_noise"]

NO_IMAGES = "No images were found; give TIFF, PNG, JPEG or OME-Zarr files."

_CROP_TRIES = 8
# Half of the levels drawn in training are above 1/4 of the largest.
_LARGEST_TO_MEDIAN = 4.0
_LEAST_NOISE, _MOST_NOISE = 0.01, 0.3
# Rows and columns that noise is measured in at most.
_NOISE_EDGE = 1024
# Fewer crops than these make no training.
HANDFUL = 5


@dataclass(frozen=True)
class ImagePool:
    """The images of a training run, and why others were left out.

    Attributes
    ----------
    images : tuple of TrainingImage
        Usable images.
    rejected : tuple of (name, reason)
        Unreadable, too small, soft, empty and saturated ones.
    min_sharpness, max_saturated : float
        Crops that are softer or more saturated are drawn again.
    """

    images: tuple[TrainingImage, ...]
    rejected: tuple[tuple[str, str], ...]
    min_sharpness: float
    max_saturated: float = 1.0

    def draw(
        self, count: int, size: int, rng: np.random.Generator, margin: int = 0
    ) -> FloatImage:
        """Draw ``count`` sharp crops, (count, channels, size, size), larger images more.

        With a margin every edge is longer by twice as much.
        """
        pixels = np.array([image.pixels for image in self.images], dtype=np.float64)
        picks = rng.choice(len(self.images), size=count, p=pixels / pixels.sum())
        crops = [self._sharp_crop(self.images[k], size, rng, margin) for k in picks]
        return np.stack(crops)

    def _sharp_crop(
        self, image: TrainingImage, size: int, rng: np.random.Generator, margin: int
    ) -> FloatImage:
        """Draw until a crop is sharp; after some tries take the best of them."""
        best, best_score = image.crop(size, rng, margin), -np.inf
        inside = slice(margin, margin + size)
        for _ in range(_CROP_TRIES):
            crop = image.crop(size, rng, margin)
            quality = measure(crop[:, inside, inside], image.top)
            too_much = quality.saturated > self.max_saturated
            score = -quality.saturated if too_much else quality.sharpness
            if score > best_score:
                best, best_score = crop, score
            if best_score >= self.min_sharpness:
                break
        return best


def load_images(
    config: TrainConfig,
    pages: Iterable[Page] = (),
    *,
    stop: threading.Event | None = None,
) -> ImagePool:
    """Read every usable image of files and folders.

    Parameters
    ----------
    config : TrainConfig
        Its ``images``: TIFF (8, 16, 32 bit), PNG, JPEG, OME-Zarr, or folders. Every page
        is an image; ``z_stacks`` says what is taken of z-stacks. With a network of one
        channel colours become luminance. Images smaller than ``crop_size``, softer than
        ``min_sharpness`` or more saturated than ``max_saturated`` are left out.
    pages : iterable of Page
        Images that are in no file.
    stop : threading.Event, optional
        Set from another thread, it ends the work with `Stopped`.

    Raises
    ------
    IPSError
        If no image is usable, or they hold but a handful of crops.
    Stopped
        If `stop` was set.
    """
    accepted: list[TrainingImage] = []
    rejected: list[tuple[str, str]] = []
    for facts, image in read_images(config, pages, stop=stop):
        reason = facts.why_not(config.min_sharpness, config.max_saturated)
        if reason or image is None:
            rejected.append((facts.name, reason))
        else:
            accepted.append(image)
    if not accepted:
        if not rejected:
            raise IPSError(NO_IMAGES)
        raise IPSError(
            f"None of {len(rejected)} images can be used for training; "
            f"give sharp images of at least {config.crop_size} x {config.crop_size} "
            f"pixels. The first one: {rejected[0][0]}: {rejected[0][1]}"
        )
    side = config.crop_size
    room = sum((h // side) * (w // side) for _, h, w in (i.data.shape for i in accepted))
    if room < HANDFUL:
        raise IPSError(
            f"The usable images hold {room} of the {HANDFUL} crops of {side} x {side} "
            "pixels that are needed at least; give more or larger ones, or lower the crop "
            "size."
        )
    return ImagePool(
        tuple(accepted), tuple(rejected), config.min_sharpness, config.max_saturated
    )


def measured_noise(pool: ImagePool) -> float:
    """Return the largest noise to add in training, from the noise of the images.

    A focused image carries the noise of its camera, and its blurred copy does not: the
    network could take noise for focus. Noise that is added to both hides this where it is
    at least as strong. Training draws levels ``noise * u**2``, u uniform in 0..1, so half
    of them are above a quarter of ``noise``: it is set to four times the level of the
    images, the median over them. Larger factors would hide more, but would teach to mix
    where there is detail to choose by.

    Returns
    -------
    float
        `TrainConfig.noise`, within 0.01 and 0.3. Clean 8-bit images give up to 0.03.
    """
    return noise_to_add([noise_of(image) for image in pool.images])


def noise_of(image: TrainingImage) -> float:
    """Measure the noise of the middle of an image; see `photon_noise_level`."""
    height, width = image.data.shape[1:]
    y, x = max(0, (height - _NOISE_EDGE) // 2), max(0, (width - _NOISE_EDGE) // 2)
    middle = image.data[:, y : y + _NOISE_EDGE, x : x + _NOISE_EDGE]
    planes = image.intensities.normalise(middle)
    return float(np.median([photon_noise_level(plane) for plane in planes]))


def noise_to_add(levels: Iterable[float]) -> float:
    """Return `TrainConfig.noise` for images with such noise; see `measured_noise`."""
    known = list(levels)
    typical = float(np.median(known)) if known else 0.0
    return float(np.clip(_LARGEST_TO_MEDIAN * typical, _LEAST_NOISE, _MOST_NOISE))
