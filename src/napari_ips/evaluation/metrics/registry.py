"""All metrics that need no truth, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from napari_ips.evaluation.metrics.gradient import q_g, q_sf
from napari_ips.evaluation.metrics.images import Image
from napari_ips.evaluation.metrics.information import q_mi, q_ncie
from napari_ips.evaluation.metrics.perception import q_cb, q_cv
from napari_ips.evaluation.metrics.phase import q_p
from napari_ips.evaluation.metrics.structure import q_e, q_s, q_w, q_y


@dataclass(frozen=True)
class FusionMetric:
    """A measure of how well a fused image keeps what its two sources show.

    ``function(fused, a, b)`` takes arrays (Y, X) or (Y, X, C) of any integer or float
    dtype and returns the figure; ``label`` is how the field writes it.
    """

    name: str
    label: str
    function: Callable[[Image, Image, Image], float]
    higher_is_better: bool = True


FUSION_METRICS: dict[str, FusionMetric] = {
    metric.name: metric
    for metric in (
        FusionMetric("q_mi", "Q_MI", q_mi),
        FusionMetric("q_ncie", "Q_NCIE", q_ncie),
        FusionMetric("q_g", "Q_G", q_g),
        FusionMetric("q_sf", "Q_SF", q_sf),
        FusionMetric("q_s", "Q_S", q_s),
        FusionMetric("q_w", "Q_W", q_w),
        FusionMetric("q_e", "Q_E", q_e),
        FusionMetric("q_y", "Q_Y", q_y),
        FusionMetric("q_p", "Q_P", q_p),
        FusionMetric("q_cb", "Q_CB", q_cb),
        FusionMetric("q_cv", "Q_CV", q_cv, higher_is_better=False),
    )
}
