"""Measures of a fused image: against the known truth, and against its two sources.

`FUSION_METRICS` lists those of the second kind by name.
"""

from napari_ips.evaluation.metrics.gradient import q_g, q_sf
from napari_ips.evaluation.metrics.information import q_mi, q_ncie
from napari_ips.evaluation.metrics.perception import q_cb, q_cv
from napari_ips.evaluation.metrics.phase import q_p
from napari_ips.evaluation.metrics.registry import FUSION_METRICS, FusionMetric
from napari_ips.evaluation.metrics.structure import q_e, q_s, q_w, q_y
from napari_ips.evaluation.metrics.truth import (
    SSIM_WINDOW,
    grey,
    height_error,
    psnr,
    ssim,
    textured,
    value_range,
)

__all__ = [
    "FUSION_METRICS",
    "SSIM_WINDOW",
    "FusionMetric",
    "grey",
    "height_error",
    "psnr",
    "q_cb",
    "q_cv",
    "q_e",
    "q_g",
    "q_mi",
    "q_ncie",
    "q_p",
    "q_s",
    "q_sf",
    "q_w",
    "q_y",
    "ssim",
    "textured",
    "value_range",
]
