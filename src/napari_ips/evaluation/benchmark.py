"""Fuse every sample with every method, and measure what comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, median
from typing import Any, TypeVar

from napari_ips.errors import IPSError
from napari_ips.evaluation.datasets import Sample
from napari_ips.evaluation.measures import MEASURES, Channel, default_measures, measured
from napari_ips.evaluation.methods import Fused, Method
from napari_ips.evaluation.scenes import Scene, load
from napari_ips.events import Progress, ProgressCallback

_Out = TypeVar("_Out")
# Gets each sample, the name of a method, and what it made.
Keep = Callable[[Sample, str, Fused], None]


@dataclass(frozen=True)
class Row:
    """Figures of one method on one sample.

    ``figures`` holds those of `measures.MEASURES` that were asked for and can be had;
    ``seconds`` is the time of the fusion alone. Where the method failed, ``failure``
    says why, and there is nothing else.
    """

    dataset: str
    sample: str
    method: str
    truth: bool
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Mean:
    """Mean figures of a method over the samples of a data set.

    Samples with and without a truth are apart, as they have other figures. ``seconds``
    is the median, for the first fusion also loads and compiles. ``failed`` of the
    ``samples`` have no figures.
    """

    dataset: str
    method: str
    truth: bool
    samples: int
    failed: int
    figures: dict[str, float]
    seconds: float | None


def run(
    samples: Sequence[Sample],
    methods: Mapping[str, Method],
    *,
    measures: Sequence[str] | None = None,
    channel: Channel = "luminance",
    keep: Keep | None = None,
    callback: ProgressCallback | None = None,
) -> Iterator[Row]:
    """Fuse and measure.

    What fails on one sample, reading it included, becomes a row that says so.

    Parameters
    ----------
    samples : sequence of Sample
        See `datasets.find_samples`.
    methods : dict
        By name; see `methods.parse_methods` and `external`. ``best-slice`` picks its
        slice by the truth where there is one.
    measures : sequence of str, optional
        Names out of `measures.MEASURES`, each taken where it can be. By default those
        against the truth where there is one, else those against the two sources, save
        slow ones.
    channel : {"luminance", "rgb"}
        What of colour images PSNR and SSIM are measured on.
    keep : callable, optional
        Called with the sample, the name of the method and its `Fused`; what it raises
        ends the run.
    callback : callable, optional
        Called with `Progress` after each sample and method.

    Returns
    -------
    iterator of Row
        One for each sample and method, as soon as it is measured.
    """
    total, done = len(samples) * len(methods), 0
    for sample in samples:
        scene, why = _attempt(lambda: load(sample))  # noqa: B023
        for name, method in methods.items():
            row = Row(sample.dataset, sample.name, name, sample.truth is not None)
            if scene is None:
                yield replace(row, failure=why)
            else:
                yield _fused_row(row, scene, method, measures, channel, keep)
            done += 1
            if callback is not None:
                callback(Progress("benchmark", done, total))


def means(rows: Sequence[Row]) -> list[Mean]:
    """Average the rows over the samples, for each data set and method.

    A figure that is missing for some samples is averaged over the others. One infinite
    PSNR (an identical image) makes the mean infinite.
    """
    groups: dict[tuple[str, bool, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.truth, row.method), []).append(row)
    return [
        Mean(
            dataset,
            method,
            truth,
            samples=len(group),
            failed=sum(bool(row.failure) for row in group),
            figures=_mean_figures(group),
            seconds=_median([row.seconds for row in group if row.seconds is not None]),
        )
        for (dataset, truth, method), group in groups.items()
    ]


def flat(item: Row | Mean) -> dict[str, Any]:
    """Return the fields, with each figure as one of them."""
    values: dict[str, Any] = asdict(item)
    figures: dict[str, float] = values.pop("figures")
    return values | figures


def first_of_each(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """Keep the first so many samples of each data set, or all.

    Raises
    ------
    IPSError
        If the limit is less than 1.
    """
    if limit is not None and limit < 1:
        raise IPSError(f"The limit must be at least 1 (got {limit}).")
    taken: Counter[str] = Counter()
    kept = []
    for sample in samples:
        taken[sample.dataset] += 1
        if limit is None or taken[sample.dataset] <= limit:
            kept.append(sample)
    return kept


def _fused_row(
    row: Row,
    scene: Scene,
    method: Method,
    measures: Sequence[str] | None,
    channel: Channel,
    keep: Keep | None,
) -> Row:
    fused, why = _attempt(lambda: method(scene))
    if fused is None:
        return replace(row, failure=why)
    if keep is not None:
        keep(scene.sample, row.method, fused)
    names = default_measures(scene) if measures is None else measures
    figures, why = _attempt(lambda: measured(fused, scene, names, channel))
    if figures is None:
        return replace(row, failure=why)
    return replace(row, figures=figures, seconds=fused.seconds)


def _attempt(work: Callable[[], _Out]) -> tuple[_Out | None, str]:
    """Do some work; return what it gives, or None and why it failed.

    Whatever fails, hours of other figures may depend on going on.
    """
    try:
        return work(), ""
    except IPSError as error:
        return None, str(error)
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _mean_figures(rows: Sequence[Row]) -> dict[str, float]:
    return {
        name: fmean(row.figures[name] for row in rows if name in row.figures)
        for name in MEASURES
        if any(name in row.figures for row in rows)
    }


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
