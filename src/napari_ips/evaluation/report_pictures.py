"""The pictures of a report: crops, error maps and index maps of single samples."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import uniform_filter

from napari_ips.evaluation.benchmark import Row
from napari_ips.evaluation.colours import MAGMA, VIRIDIS, Pixels, coloured, displayed
from napari_ips.evaluation.datasets import Sample
from napari_ips.evaluation.measures import INNER_BORDER, MEASURES
from napari_ips.evaluation.metrics import grey
from napari_ips.evaluation.record import Record
from napari_ips.evaluation.scenes import Scene, load
from napari_ips.evaluation.tables import data_title

Array = NDArray[Any]

CROP = 128
# Whole images and maps are brought to this edge, or the report would become huge.
LARGEST_EDGE = 360
# The scale of error maps ends there, or at this fraction of the range if that is more.
_PERCENTILE = 99.5
_SMALLEST_SCALE = 0.01
_MARKED = (255, 64, 64)


@dataclass(frozen=True)
class Picture:
    """A picture with a line below; ``crop`` ones are shown pixel by pixel."""

    pixels: Pixels
    caption: str
    crop: bool = False

    def data_uri(self) -> str:
        """Return the picture as text that a page can hold."""
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(self.pixels)).save(
            stream, "PNG", optimize=True
        )
        return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


@dataclass(frozen=True)
class Sheet:
    """The pictures of a sample: titled rows, the sources first, then each method."""

    title: str
    rows: tuple[tuple[str, tuple[Picture, ...]], ...]


def choose(
    samples: Sequence[Sample], rows: Sequence[Row], method: str, count: int
) -> list[Sample]:
    """Choose the samples of each data set on which a method is worst.

    By PSNR within the border, or the first figure there is; by their order where there
    is none.
    """
    figures = {(r.dataset, r.sample): r.figures for r in rows if r.method == method}
    groups: dict[tuple[str, bool], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.dataset, sample.truth is not None), []).append(sample)

    def badness(sample: Sample) -> float:
        known = figures.get((sample.dataset, sample.name), {})
        for name in ("psnr_inner", *MEASURES):
            if name in known:
                return -known[name] if MEASURES[name].higher else known[name]
        return np.inf

    return [
        sample
        for group in groups.values()
        for sample in sorted(group, key=badness, reverse=True)[:count]
    ]


def draw_all(
    samples: Sequence[Sample], rows: Sequence[Row], first: str, record: Record
) -> Iterator[Sheet]:
    """Draw the sheets of samples one by one, the method `first` before the others."""
    ordered = sorted(rows, key=lambda row: row.method != first)
    for sample in samples:
        of_sample = (sample.dataset, sample.name)
        own = [row for row in ordered if (row.dataset, row.sample) == of_sample]
        sheet = draw(sample, own, record)
        if sheet is not None:
            yield sheet


def draw(sample: Sample, rows: Sequence[Row], record: Record) -> Sheet | None:
    """Draw the sheet of a sample, if any method made something of it.

    Parameters
    ----------
    sample : Sample
    rows : sequence of Row
        Those of the sample; the first method that made something decides on the crop and
        on the scale of the error maps.
    record : Record
        Holds the images.
    """
    images = {row.method: record.image(sample, row.method) for row in rows}
    made = {method: image for method, image in images.items() if image is not None}
    if not made:
        return None
    scene = load(sample)
    low, high = (float(v) for v in np.percentile(scene.slices, [0.1, 99.9]))
    maps = {method: _error_maps(image, scene) for method, image in made.items()}
    first = next(iter(made))
    area = _place(maps[first], list(made.values()), scene)
    index = record.index(sample, first)
    drawn = [("sources", _sources(scene, index, area, low, high))]
    limits = {name: _limit(error) for name, error in maps[first].items()}
    for row in rows:
        if row.method in made:
            pictures = [_crop(made[row.method], area, low, high, "fused")]
            for name, error in maps[row.method].items():
                caption = f"{name}, white: {100 * limits[name]:.2g} % of the range"
                shown = coloured(error / limits[name], MAGMA)
                if scene.truth is not None:
                    pictures.append(Picture(shown[area], f"{name} there", crop=True))
                pictures.append(_whole(shown, caption))
            pictures += _index(record.index(sample, row.method), len(scene.slices))
            drawn.append((f"{row.method}{_figures(row)}", tuple(pictures)))
        else:
            drawn.append((f"{row.method}: {row.failure}", ()))
    y, x = area
    dataset = data_title(sample.dataset, sample.truth is not None)
    place = f"crops from row {y.start} and column {x.start}"
    return Sheet(f"{dataset}, {sample.name}: {place}", tuple(drawn))


def _figures(row: Row) -> str:
    told = [
        f"{MEASURES[name].label} {value:.{MEASURES[name].digits}f}"
        for name, value in row.figures.items()
    ]
    return f": {', '.join(told)}" if told else ""


def _error_maps(image: Array, scene: Scene) -> dict[str, Array]:
    """Absolute errors (Y, X) by name, as fractions of the range of values."""
    reference = scene.slices if scene.truth is None else scene.truth
    top, bottom = float(reference.max()), float(reference.min())
    width = 255.0 if reference.dtype == np.uint8 else (top - bottom) or 1.0
    if scene.truth is not None:
        return {"error": _difference(image, scene.truth) / width}
    differences = (_difference(image, part) / width for part in scene.slices)
    if scene.pair:
        return dict(zip(("difference to A", "difference to B"), differences, strict=True))
    # A detail that no slice has was invented.
    nearest = next(differences)
    for difference in differences:
        nearest = np.minimum(nearest, difference)
    return {"difference to the nearest slice": nearest}


def _difference(image: Array, other: Array) -> Array:
    difference: Array = np.abs(image.astype(np.float64) - other)
    return difference.mean(axis=-1) if difference.ndim == 3 else difference


def _limit(error: Array) -> float:
    """Find the end of the scale, off the border, where some errors outshine all others."""
    if _roomy(error):
        inside = slice(INNER_BORDER, -INNER_BORDER)
        error = error[inside, inside]
    return max(_SMALLEST_SCALE, float(np.percentile(error, _PERCENTILE)))


def _place(
    maps: dict[str, Array], images: Sequence[Array], scene: Scene
) -> tuple[slice, slice]:
    """Find where the error is largest, or without a truth, where methods differ most."""
    interest = next(iter(maps.values()))
    if scene.truth is None and len(images) > 1:
        interest = np.std([grey(image) for image in images], axis=0, dtype=np.float64)
    height, width = interest.shape
    around = uniform_filter(interest, min(CROP, height, width), mode="constant")
    if _roomy(interest):
        around[:INNER_BORDER] = around[-INNER_BORDER:] = 0
        around[:, :INNER_BORDER] = around[:, -INNER_BORDER:] = 0
    row, column = np.unravel_index(np.argmax(around), around.shape)
    return _window(int(row), height), _window(int(column), width)


def _roomy(image: Array) -> bool:
    height, width = image.shape
    return bool(min(height, width) > CROP + 2 * INNER_BORDER)


def _window(centre: int, length: int) -> slice:
    size = min(CROP, length)
    start = min(max(0, centre - size // 2), length - size)
    return slice(start, start + size)


def _sources(
    scene: Scene, index: Array | None, area: tuple[slice, slice], low: float, high: float
) -> tuple[Picture, ...]:
    """Draw the sources, and the truth; of a stack the sharpest slice and the outer ones."""
    last = len(scene.slices) - 1
    sharpest = 0
    if scene.pair:
        shown = {0: "A", 1: "B"}
    else:
        sharpest = last // 2 if index is None else int(np.median(index[area]))
        shown = {n: f"slice {n}" for n in sorted({0, sharpest, last})}
    whole = Image.fromarray(displayed(scene.slices[sharpest], low, high))
    (y, x), draw_on = area, ImageDraw.Draw(whole)
    thickness = max(1, max(whole.size) // LARGEST_EDGE * 2)
    draw_on.rectangle((x.start, y.start, x.stop, y.stop), outline=_MARKED, width=thickness)
    pictures = [_whole(np.asarray(whole), f"{shown[sharpest]}, and where the crops are")]
    pictures += [_crop(scene.slices[n], area, low, high, name) for n, name in shown.items()]
    if scene.truth is not None:
        pictures.append(_crop(scene.truth, area, low, high, "truth"))
    return tuple(pictures)


def _crop(
    image: Array, area: tuple[slice, slice], low: float, high: float, caption: str
) -> Picture:
    return Picture(displayed(image[area], low, high), caption, crop=True)


def _index(index: Array | None, count: int) -> list[Picture]:
    if index is None:
        return []
    caption = f"slice taken, violet: 0, yellow: {count - 1}"
    return [_whole(coloured(index / max(1, count - 1), VIRIDIS), caption)]


def _whole(pixels: Pixels, caption: str) -> Picture:
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST_EDGE, LARGEST_EDGE), Image.Resampling.BOX)
    return Picture(np.asarray(image), caption)
