"""The figures of a benchmark: what they are called, and where they can be had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.evaluation.datasets import PairSample, Sample
from napari_ips.evaluation.methods import Fused
from napari_ips.evaluation.metrics import (
    FUSION_METRICS,
    SSIM_WINDOW,
    grey,
    height_error,
    psnr,
    ssim,
    textured,
    value_range,
)
from napari_ips.evaluation.scenes import Scene

Channel = Literal["luminance", "rgb"]
Array = NDArray[Any]

INNER_BORDER = 12


@dataclass(frozen=True)
class Measure:
    """A figure of a fused image.

    ``digits`` are those worth printing after the point; ``higher`` tells whether a
    higher value is better.
    """

    label: str
    digits: int
    higher: bool = True


AGAINST_TRUTH = {
    "psnr": Measure("PSNR", 2),
    "psnr_inner": Measure("inner", 2),
    "ssim": Measure("SSIM", 4),
    "height_error": Measure("height", 3, higher=False),
}
AGAINST_SOURCES = {
    # Q_CV is no fraction, but in the hundreds.
    name: Measure(metric.label, 1 if name == "q_cv" else 4, metric.higher_is_better)
    for name, metric in FUSION_METRICS.items()
}
MEASURES = AGAINST_TRUTH | AGAINST_SOURCES
# The six of Tables I and II of the paper.
WITHOUT_TRUTH = tuple(
    name
    for name in AGAINST_SOURCES
    if name in ("q_mi", "q_sf", "q_s", "q_cb", "q_g", "q_ncie")
)


def parse_measures(text: str) -> tuple[str, ...]:
    """Read names out of `MEASURES` separated by commas, or "all".

    Raises
    ------
    IPSError
        If one is unknown.
    """
    if text == "all":
        return tuple(MEASURES)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in MEASURES:
            raise IPSError(
                f"Unknown measure: {name or '(none given)'}; choose from all, "
                f"{', '.join(MEASURES)}."
            )
    return tuple(name for name in MEASURES if name in names)


def columns(samples: Sequence[Sample], names: Sequence[str] | None) -> list[str]:
    """List the measures that a run on these samples can give, in order.

    Parameters
    ----------
    samples : sequence of Sample
    names : sequence of str or None
        What was asked for; None for the defaults.
    """
    if names is not None:
        return [name for name in MEASURES if name in names]
    known = any(sample.truth is not None for sample in samples)
    unknown = any(
        sample.truth is None and isinstance(sample, PairSample) for sample in samples
    )
    return [*(AGAINST_TRUTH if known else ()), *(WITHOUT_TRUTH if unknown else ())]


def default_measures(scene: Scene) -> tuple[str, ...]:
    """Against the truth if there is one, else against the sources."""
    return WITHOUT_TRUTH if scene.truth is None else tuple(AGAINST_TRUTH)


def measured(
    fused: Fused, scene: Scene, names: Sequence[str], channel: Channel
) -> dict[str, float]:
    """Measure a fused image.

    PSNR and SSIM take 255 as the range of uint8 values, and the truth's maximum minus
    minimum for every other dtype (see `metrics.value_range`).

    Returns
    -------
    dict
        The figures of ``names`` that can be had: those against the truth need it, those
        against the sources a pair, the height error two height maps.
    """
    possible = _against_truth(fused, scene, channel) if scene.truth is not None else {}
    if scene.pair:
        possible |= {
            name: partial(metric.function, fused.image, *scene.slices)
            for name, metric in FUSION_METRICS.items()
        }
    figures = {name: possible[name]() for name in names if name in possible}
    # A measure that has nothing to go by, such as texture, gives NaN.
    return {name: figure for name, figure in figures.items() if not math.isnan(figure)}


def _against_truth(
    fused: Fused, scene: Scene, channel: Channel
) -> dict[str, partial[float]]:
    truth, image = scene.truth, fused.image
    assert truth is not None
    limits = value_range(truth)
    if channel == "luminance":
        image, truth = grey(image), grey(truth)
    possible = {"psnr": partial(psnr, image, truth, limits)}
    if min(truth.shape[:2]) >= SSIM_WINDOW:
        possible["ssim"] = partial(ssim, image, truth, limits)
    if min(truth.shape[:2]) >= 2 * INNER_BORDER + SSIM_WINDOW:
        possible["psnr_inner"] = partial(psnr, image, truth, limits, INNER_BORDER)
    if fused.depth is not None and scene.height is not None:
        mask = textured(grey(truth), limits)
        possible["height_error"] = partial(height_error, fused.depth, scene.height, mask)
    return possible
