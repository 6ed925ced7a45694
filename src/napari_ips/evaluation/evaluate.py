"""Measure fusion methods on a folder of pairs and stacks whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_ips.config import QUALITIES, FuseConfig
from napari_ips.errors import IPSError
from napari_ips.evaluation import baselines
from napari_ips.evaluation.datasets import PairSample, Sample, StackSample, find_samples
from napari_ips.evaluation.metrics import (
    SSIM_WINDOW,
    grey,
    height_error,
    psnr,
    ssim,
    textured,
    value_range,
)
from napari_ips.events import Progress, ProgressCallback
from napari_ips.io import read_image, read_stack

Channel = Literal["luminance", "rgb"]
Array = NDArray[Any]

INNER_BORDER = 12


@dataclass(frozen=True)
class Scene:
    """What a method gets: slices (Z, Y, X[, C]), the truth (Y, X[, C]), and the rest.

    ``height`` (Y, X) is the true slice of every pixel, None where it is not known. A
    pair is a stack of two.
    """

    slices: Array
    rgb: bool
    truth: Array
    height: Array | None
    pair: bool


@dataclass(frozen=True)
class Fused:
    """What a method gives: an image, and a height map in slices if it measures one."""

    image: Array
    depth: Array | None = None


@dataclass(frozen=True)
class Row:
    """Figures of one method on one sample, or their means over a data set.

    ``psnr`` (dB) is over the full frame, ``psnr_inner`` leaves out 12 pixels along each
    edge; ``ssim`` over the full frame; ``height_error`` in slices, over textured pixels.
    A figure that does not apply is None. ``seconds`` is the time of the fusion alone.
    ``samples`` is 1, or the number that a mean was taken over (``sample`` is "mean").
    """

    dataset: str
    sample: str
    method: str
    psnr: float
    psnr_inner: float | None
    ssim: float
    height_error: float | None
    seconds: float
    samples: int = 1


Method = Callable[[Scene, FuseConfig], Fused]


def _ips(**settings: Any) -> Method:
    def fuse(scene: Scene, config: FuseConfig) -> Fused:
        from napari_ips.fusion import fuse_pair, fuse_stack

        chosen = config.model_copy(update=settings)
        if scene.pair:
            result = fuse_pair(*scene.slices, rgb=scene.rgb, config=chosen)
        else:
            result = fuse_stack(scene.slices, rgb=scene.rgb, config=chosen)
        return Fused(result.fused, result.depth)

    return fuse


def _window_energy(scene: Scene, _: FuseConfig) -> Fused:
    selection = baselines.window_energy(scene.slices)
    return Fused(selection.fused, selection.index)


METHODS: dict[str, Method] = {
    "ips": _ips(mode="soft"),
    "ips-hard": _ips(mode="hard"),
    "ips-raw": _ips(regularise=False),
    "ips-fast": _ips(mode="soft", **QUALITIES["fast"]),
    "ips-best": _ips(mode="soft", **QUALITIES["best"]),
    "window-energy": _window_energy,
    "max": lambda scene, _: Fused(baselines.max_projection(scene.slices)),
    "mean": lambda scene, _: Fused(baselines.mean_projection(scene.slices)),
    "best-slice": lambda scene, _: Fused(
        baselines.best_single_slice(scene.slices, scene.truth).fused
    ),
}
DEFAULT_METHODS = ("ips", "window-energy", "max", "mean", "best-slice")


def evaluate(
    folder: str | Path,
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    config: FuseConfig | None = None,
    channel: Channel = "luminance",
    limit: int | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Row]:
    """Fuse every sample of a folder with every method and measure against the truth.

    PSNR and SSIM take 255 as the range of uint8 values, and the truth's maximum minus
    minimum for every other dtype (see `metrics.value_range`).

    Parameters
    ----------
    folder : path
        Pairs or stacks, laid out as `datasets.find_samples` says. Samples without a
        truth are passed over.
    methods : sequence of str
        Keys of `METHODS`. ``best-slice`` is an oracle: it picks its slice by the truth.
    config : FuseConfig, optional
        Weights, device and so on of the ``ips`` methods; each sets its own mode.
    channel : {"luminance", "rgb"}
        Measure colour images by their luminance, or by all three channels.
    limit : int, optional
        Measure the first so many samples of each data set only.
    callback : callable, optional
        Called with `Progress` after each sample and method.

    Returns
    -------
    iterator of Row
        One for each sample and method, as soon as it is measured.

    Raises
    ------
    IPSError
        For unknown methods and for folders without truth at once; for samples that
        cannot be read or do not fit together when their turn comes.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise IPSError(
            f"Unknown method: {', '.join(unknown) or '(none given)'}; choose from "
            f"{', '.join(METHODS)}."
        )
    samples = _first_of_each(measurable(find_samples(folder)), limit)
    if not samples:
        raise IPSError(f"No truth in {folder}: PSNR and SSIM need GT/ or truth.tif.")
    settings = config or FuseConfig()
    return _rows(samples, list(dict.fromkeys(methods)), settings, channel, callback)


def measurable(samples: Sequence[Sample]) -> list[Sample]:
    """Leave out the samples without a truth."""
    return [sample for sample in samples if sample.truth is not None]


def means(rows: Sequence[Row]) -> list[Row]:
    """Average the rows over the samples, for each data set and method.

    A figure that is missing for some samples is averaged over the others. One infinite
    PSNR (an identical image) makes the mean infinite.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.method), []).append(row)
    return [
        Row(
            dataset=dataset,
            sample="mean",
            method=method,
            psnr=fmean(row.psnr for row in group),
            psnr_inner=_mean_of_known([row.psnr_inner for row in group]),
            ssim=fmean(row.ssim for row in group),
            height_error=_mean_of_known([row.height_error for row in group]),
            seconds=fmean(row.seconds for row in group),
            samples=len(group),
        )
        for (dataset, method), group in groups.items()
    ]


def _rows(
    samples: Sequence[Sample],
    methods: Sequence[str],
    config: FuseConfig,
    channel: Channel,
    callback: ProgressCallback | None,
) -> Iterator[Row]:
    total = len(samples) * len(methods)
    done = 0
    for sample in samples:
        scene = load(sample)
        for method in methods:
            start = perf_counter()
            fused = METHODS[method](scene, config)
            seconds = perf_counter() - start
            yield _measure(sample, method, scene, fused, channel, seconds)
            done += 1
            if callback is not None:
                callback(Progress("evaluating", done, total))


def load(sample: Sample) -> Scene:
    """Read the images of a sample and check that they fit together."""
    if sample.truth is None:
        raise IPSError(f"{sample.name} has no truth to measure against.")
    truth = read_image(sample.truth)
    slices, rgb, height = (
        _read_pair(sample) if isinstance(sample, PairSample) else _read_stack(sample)
    )
    if slices.shape[1:] != truth.shape:
        raise IPSError(
            f"{sample.name}: the truth has the shape {truth.shape}, the sources "
            f"{slices.shape[1:]}."
        )
    if height is not None and height.shape != truth.shape[:2]:
        raise IPSError(f"{sample.name}: height.npy and the truth differ in shape.")
    return Scene(slices, rgb, truth, height, isinstance(sample, PairSample))


def _read_pair(sample: PairSample) -> tuple[Array, bool, None]:
    a, b = read_image(sample.a), read_image(sample.b)
    if a.shape != b.shape or a.dtype != b.dtype:
        raise IPSError(f"{sample.name}: the images in A and B differ in size or dtype.")
    return np.stack([a, b]), a.ndim == 3, None


def _read_stack(sample: StackSample) -> tuple[Array, bool, Array | None]:
    stack = read_stack(sample.stack)
    height = None if sample.height is None else _read_height(sample.height)
    return stack.data, stack.rgb, height


def _read_height(path: Path) -> Array:
    try:
        height: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IPSError(f"{path} cannot be read as a NumPy array: {error}") from error
    return height


def _measure(
    sample: Sample,
    method: str,
    scene: Scene,
    fused: Fused,
    channel: Channel,
    seconds: float,
) -> Row:
    image, truth = fused.image, scene.truth
    limits = value_range(truth)
    if channel == "luminance":
        image, truth = grey(image), grey(truth)
    roomy = min(truth.shape[:2]) >= 2 * INNER_BORDER + SSIM_WINDOW
    error = None
    if fused.depth is not None and scene.height is not None:
        mask = textured(grey(scene.truth), limits)
        error = height_error(fused.depth, scene.height, mask) if mask.any() else None
    return Row(
        dataset=sample.dataset,
        sample=sample.name,
        method=method,
        psnr=psnr(image, truth, limits),
        psnr_inner=psnr(image, truth, limits, INNER_BORDER) if roomy else None,
        ssim=ssim(image, truth, limits),
        height_error=error,
        seconds=seconds,
    )


def _first_of_each(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    if limit is not None and limit < 1:
        raise IPSError(f"The limit must be at least 1 (got {limit}).")
    taken: dict[str, int] = {}
    kept = []
    for sample in samples:
        taken[sample.dataset] = taken.get(sample.dataset, 0) + 1
        if limit is None or taken[sample.dataset] <= limit:
            kept.append(sample)
    return kept


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
