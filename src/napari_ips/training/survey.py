"""What training would find in the images: facts, noise, and a sample of crops."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_ips.config import TrainConfig
from napari_ips.events import ProgressCallback
from napari_ips.training.images import HANDFUL, NO_IMAGES, noise_of, noise_to_add
from napari_ips.training.quality import Quality, Verdict, measure
from napari_ips.training.reading import ImageFacts, Page, TrainingImage, read_images


@dataclass(frozen=True)
class CropSample:
    """A crop as training may draw it.

    Attributes
    ----------
    image : str
        Name of the image.
    pixels : ndarray of float32, shape (crop, crop)
        Grey, 0..1.
    quality : Quality
    """

    image: str
    pixels: NDArray[np.float32]
    quality: Quality

    @property
    def sharpness(self) -> float:
        """See `napari_ips.training.quality.sharpness`."""
        return self.quality.sharpness

    @property
    def saturated(self) -> float:
        """Share of the pixels at the highest intensity of the image."""
        return self.quality.saturated

    @property
    def empty(self) -> bool:
        """Whether there is nearly no contrast, or only that of noise."""
        return self.quality.empty

    def verdict(self, min_sharpness: float, max_saturated: float) -> Verdict:
        """Judge by the two thresholds of `TrainConfig`."""
        return self.quality.verdict(min_sharpness, max_saturated)


@dataclass(frozen=True)
class ImageSurvey:
    """What was found in the images of a training run.

    Attributes
    ----------
    config : TrainConfig
        For which was looked; its thresholds are those meant below.
    images : tuple of ImageFacts
        All images, also those that are left out.
    crops : tuple of CropSample
        Evenly spread over all images, also over soft ones, and at random inside.
    noise : float
        What ``noise = "measured"`` would add at most.
    """

    config: TrainConfig
    images: tuple[ImageFacts, ...]
    crops: tuple[CropSample, ...]
    noise: float

    @property
    def usable(self) -> tuple[ImageFacts, ...]:
        """The images that training takes."""
        return tuple(image for image in self.images if not self._why_not(image))

    @property
    def rejected(self) -> tuple[tuple[str, str], ...]:
        """Name and reason of those that it does not take."""
        told = ((image.name, self._why_not(image)) for image in self.images)
        return tuple((name, reason) for name, reason in told if reason)

    @property
    def summary(self) -> str:
        """What was found, in one to four plain lines."""
        readable = [image for image in self.images if image.dtype]
        usable, left_out = len(self.usable), len(self.rejected)
        found = _counted(len(self.images), "image")
        lines = [f"{found}: {usable} usable, {left_out} left out."]
        if readable:
            lines += [_sizes(readable), _kinds(readable, self.config.network.in_channels)]
        if usable:
            lines.append(
                f"Noise to add, as measured: up to {self.noise:.3f} of the intensity range."
            )
        return "\n".join(lines)

    @property
    def problem(self) -> str:
        """What stands in the way of training, in one plain line, or ""."""
        return self.problem_at(self.config.min_sharpness, self.config.max_saturated)

    def problem_at(self, min_sharpness: float, max_saturated: float) -> str:
        """Return what would stand in the way with other thresholds."""
        if not self.images:
            return NO_IMAGES
        reasons = [image.why_not(min_sharpness, max_saturated) for image in self.images]
        if all(reasons):
            return self._none_usable(reasons)
        verdicts = Counter(c.verdict(min_sharpness, max_saturated) for c in self.crops)
        sharp = verdicts.pop("sharp", 0)
        if sharp >= HANDFUL:
            return ""
        rest = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        others = f" ({rest})" if rest else ""
        return (
            f"Only {sharp} of {len(self.crops)} crops are sharp{others}: too few to "
            "train on. Give more images in focus, or lower the least sharpness."
        )

    def usable_share(self, min_sharpness: float, max_saturated: float) -> float:
        """Return the share of the crops that are sharp by other thresholds."""
        verdicts = [crop.verdict(min_sharpness, max_saturated) for crop in self.crops]
        return verdicts.count("sharp") / len(verdicts) if verdicts else 0.0

    def _why_not(self, image: ImageFacts) -> str:
        return image.why_not(self.config.min_sharpness, self.config.max_saturated)

    def _none_usable(self, reasons: list[str]) -> str:
        count, size = len(self.images), self.config.crop_size
        who = f"None of {count} images" if count > 1 else "The image"
        verb = "is" if count > 1 else "is not"
        if all(image.dtype and min(image.shape) < size for image in self.images):
            return (
                f"{who} {verb} large enough for crops of {size} pixels; give larger ones, "
                "or make the crops smaller."
            )
        if all(reason.startswith("soft") for reason in reasons):
            sharpest = max(image.quality.sharpness for image in self.images)
            return (
                f"{who} {verb} in focus: the sharpness is {sharpest:.3f} at most. Give "
                "sharp images, or lower the least sharpness."
            )
        return f"{who} {verb} usable. {self.images[0].name}: {reasons[0].rstrip('.')}."


def survey_images(
    config: TrainConfig,
    pages: Iterable[Page] = (),
    *,
    count: int = 48,
    stop: threading.Event | None = None,
    callback: ProgressCallback | None = None,
) -> ImageSurvey:
    """Read all images once, and tell what training would find.

    No more is kept than the crops, whatever the size of the images. The same images
    and settings give the same survey.

    Parameters
    ----------
    config : TrainConfig
        All settings of the run; the images, crops and thresholds matter.
    pages : iterable of Page
        Images that are in no file, such as those of layers.
    count : int
        Crops at most.
    stop : threading.Event, optional
        Set from another thread, it ends the work.
    callback : callable, optional
        Called with `Progress`, in files.

    Raises
    ------
    IPSError
        If a file or folder that is named does not exist. That nothing is usable is a
        finding: see `ImageSurvey.problem`.
    Stopped
        If `stop` was set.
    """
    facts: list[ImageFacts] = []
    noise: list[float] = []
    sample = _Sample(count)
    for known, image in read_images(config, pages, stop=stop, callback=callback):
        number = len(facts)
        facts.append(known)
        if image is None or known.flaw:
            continue
        if not known.why_not(config.min_sharpness, config.max_saturated):
            noise.append(noise_of(image))
        if sample.wants(number):
            rng = np.random.default_rng([config.seed, number])
            sample.add(_crops(image, config.crop_size, sample.quota, rng))
    return ImageSurvey(config, tuple(facts), sample.evenly(), noise_to_add(noise))


def _crops(
    image: TrainingImage, size: int, count: int, rng: np.random.Generator
) -> list[CropSample]:
    crops = (image.crop(size, rng) for _ in range(count))
    return [
        CropSample(image.name, crop.mean(axis=0).clip(0.0, 1.0), measure(crop, image.top))
        for crop in crops
    ]


class _Sample:
    """Crops of evenly spread images; about twice as many as wanted are kept at most."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._step = 1
        self._by_image: list[list[CropSample]] = []

    @property
    def quota(self) -> int:
        """Crops that the next image has to give, if it is the last one."""
        return math.ceil(self._count / (len(self._by_image) + 1))

    def wants(self, number: int) -> bool:
        """Tell whether the image of this number is one of the sample."""
        return number % self._step == 0

    def add(self, crops: list[CropSample]) -> None:
        """Keep the crops of an image, and fewer of those before it."""
        self._by_image.append(crops)
        if len(self._by_image) > 2 * self._count:
            self._by_image = self._by_image[::2]
            self._step *= 2
        quota = math.ceil(self._count / len(self._by_image))
        self._by_image = [crops[:quota] for crops in self._by_image]

    def evenly(self) -> tuple[CropSample, ...]:
        """Return as many crops as wanted, those of an image together."""
        images = len(self._by_image)
        if images > self._count:
            picks = [k * images // self._count for k in range(self._count)]
            return tuple(self._by_image[k][0] for k in picks)
        # The first crop of each image, the second of each, and so on, while they last.
        lengths = enumerate(map(len, self._by_image))
        order = sorted((rank, n) for n, length in lengths for rank in range(length))
        chosen = sorted((n, rank) for rank, n in order[: self._count])
        return tuple(self._by_image[n][rank] for n, rank in chosen)


def _sizes(images: Sequence[ImageFacts]) -> str:
    """Say in a line how large the images are, in pixels."""
    shapes = sorted({image.shape for image in images}, key=math.prod)
    (height, width), (most_high, most_wide) = shapes[0], shapes[-1]
    if len(shapes) == 1:
        return f"{width} x {height} pixels."
    return f"From {width} x {height} to {most_wide} x {most_high} pixels."


def _kinds(images: Sequence[ImageFacts], channels: int) -> str:
    """Say in a line of what values the images are, and what becomes of colours."""
    depths = Counter(_depth(image.dtype) for image in images)
    colours = Counter(_handled(image.colours, channels) for image in images)
    return "; ".join(_listed(kinds) for kinds in (depths, colours)) + "."


def _depth(dtype: str) -> str:
    kind = np.dtype(dtype)
    return f"{8 * kind.itemsize} bit{' float' * (kind.kind == 'f')}"


def _handled(colours: int, channels: int) -> str:
    """Say how an image is brought to the channels of the network."""
    if colours:
        alone = channels == 1
        return "RGB, taken as luminance" if alone else f"RGB, as {channels} channels"
    return "grey" if channels == 1 else f"grey, repeated to {channels} channels"


def _listed(kinds: Counter[str]) -> str:
    """Name one kind, or count several."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
