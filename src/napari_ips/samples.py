"""Sample data of the napari plugin, simulated on the spot from bundled images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.simulation import demo_image, simulate_stack

LayerData = tuple[NDArray[Any], dict[str, Any], str]

# Invented, but of the size that a 20x objective gives; micrometres.
PIXEL_SIZE = 0.5
Z_STEP = 2.0


def brightfield_stack() -> list[LayerData]:
    """Return a stained tissue section with hills and valleys, (12, 512, 512, 3) uint8."""
    stack = simulate_stack(demo_image("tissue"), 12).stack
    return [_image_layer(stack, "tissue (simulated)", rgb=True)]


def fluorescence_stack() -> list[LayerData]:
    """Return a tilted, hazy, noisy fluorescent tissue, (12, 512, 512) uint16."""
    simulated = simulate_stack(
        demo_image("fluorescence"),
        12,
        relief="tilt",
        layering="additive",
        blur="gaussian",
        blur_per_slice=1.3,
        noise=0.02,
    )
    # A few noisy pixels, brighter than all else, would make the tissue look dim.
    limits = tuple(float(v) for v in np.percentile(simulated.stack, (0.1, 99.9)))
    name = "cells (simulated)"
    return [_image_layer(simulated.stack, name, colormap="green", contrast_limits=limits)]


def two_source_pair() -> list[LayerData]:
    """Return two images of one scene, far and near in focus, (2, 512, 512) uint8."""
    # The first and last slice of three: what is in the middle is soft in both.
    stack = simulate_stack(
        demo_image("gravel"), 3, relief="cells", blur_per_slice=3, seed=3
    ).stack
    ends = stack[[0, -1]]
    return [_image_layer(ends, "two images (simulated)", z_step=2 * Z_STEP)]


def _image_layer(
    data: NDArray[Any], name: str, z_step: float = Z_STEP, **options: Any
) -> LayerData:
    described = {
        "name": name,
        "scale": (z_step, PIXEL_SIZE, PIXEL_SIZE),
        "units": ("micrometer",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    return data, described | options, "image"
