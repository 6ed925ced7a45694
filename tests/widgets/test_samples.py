from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("key", "shape", "dtype", "rgb"),
    [
        ("brightfield", (12, 512, 512, 3), np.uint8, True),
        ("fluorescence", (12, 512, 512), np.uint16, False),
    ],
)
def test_sample_stack_opens_with_scale_units_and_axes(viewer, key, shape, dtype, rgb):
    (layer,) = viewer.open_sample("napari-ips", key)
    assert layer.data.shape == shape
    assert layer.data.dtype == dtype
    assert layer.rgb is rgb
    assert tuple(layer.scale) == (2.0, 0.5, 0.5)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert layer.axis_labels == ("z", "y", "x")


def test_fluorescence_is_shown_in_green_from_dark_to_bright(viewer):
    (layer,) = viewer.open_sample("napari-ips", "fluorescence")
    assert layer.colormap.name == "green"
    low, high = layer.contrast_limits
    # Neither the offset of the camera nor single noisy pixels rule what is seen.
    assert np.mean(layer.data < low) < 0.02
    assert 0.0001 < np.mean(layer.data > high) < 0.02


def test_pair_opens_as_a_stack_of_two(viewer):
    (layer,) = viewer.open_sample("napari-ips", "pair")
    assert layer.data.shape == (2, 512, 512)
    assert tuple(layer.scale) == (4.0, 0.5, 0.5)
    assert layer.axis_labels == ("z", "y", "x")
    far, near = layer.data.astype(float)
    sharpness = [np.abs(np.diff(image)).mean(0) for image in (far, near)]
    # Each is the sharper one somewhere.
    assert 0.02 < np.mean(sharpness[0] > sharpness[1]) < 0.98
