"""Metrics without truth: what must hold for all of them, and for images of any kind."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter
from skimage import data

from napari_ips.errors import IPSError
from napari_ips.evaluation import metrics
from napari_ips.evaluation.metrics import FUSION_METRICS, q_mi, q_p, q_sf

NAMES = sorted(FUSION_METRICS)
EACH = pytest.mark.parametrize("name", NAMES)
# What they give where both sources equal the fused image; see the docstrings.
BEST = {
    "q_mi": 2,
    "q_g": 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-4.4)),
    "q_s": 1,
    "q_w": 1,
    "q_e": 1,
    "q_y": 1,
    "q_cb": 1,
    "q_cv": 0,
}


def measure(name, fused, a, b):
    return FUSION_METRICS[name].function(fused, a, b)


def soft(image, edge=7):
    size = (edge, edge, 1)[: image.ndim]
    return np.rint(uniform_filter(image.astype(float), size)).astype(image.dtype)


def pair(sharp):
    """Sharp left and right half, and the image put together from them."""
    blurred, middle = soft(sharp), sharp.shape[1] // 2
    a, b = sharp.copy(), blurred.copy()
    a[:, middle:], b[:, middle:] = blurred[:, middle:], sharp[:, middle:]
    return sharp, a, b


def full_range(images):
    """Images whose levels stay whole numbers when they are stretched to 0 to 255."""
    copies = [image.copy() for image in images]
    for image in copies:
        image[0, :2] = 0, 255
    return copies


@pytest.fixture(scope="module")
def scene():
    return pair(data.camera()[60:200, 130:300])


@pytest.fixture(scope="module")
def colour():
    return pair(data.coffee()[150:214, 200:280])


@EACH
def test_registry_knows_every_metric_by_its_name(name):
    metric = FUSION_METRICS[name]
    assert metric.name == name
    assert metric.label.lower() == name
    assert metric.function is getattr(metrics, name)
    told = " ".join(metric.function.__doc__.split())
    assert "From " in told
    assert ("lower is better" in told) is not metric.higher_is_better


@EACH
def test_taking_what_is_sharp_beats_the_mean_of_the_sources(name, scene):
    fused, a, b = scene
    mean = np.rint((a.astype(float) + b) / 2).astype(np.uint8)
    taken, averaged = (measure(name, image, a, b) for image in (fused, mean))
    assert isinstance(taken, float)
    assert (taken > averaged) is FUSION_METRICS[name].higher_is_better


@EACH
def test_sources_may_be_swapped(name, scene):
    fused, a, b = scene
    assert measure(name, fused, b, a) == pytest.approx(measure(name, fused, a, b), abs=1e-9)


@pytest.mark.parametrize("name", sorted(BEST))
def test_sources_that_equal_the_fused_image_give_the_best_value(name, scene):
    image = scene[1]
    assert measure(name, image, image, image) == pytest.approx(BEST[name], abs=1e-3)
    assert measure(name, *scene) != pytest.approx(BEST[name], abs=1e-3)


@EACH
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_unit_of_other_dtypes_does_not_matter(name, dtype, scene):
    plain = [image.astype(np.float64) for image in full_range(scene)]
    moved = [(image * 30 + 700).astype(dtype) for image in plain]
    assert measure(name, *moved) == pytest.approx(measure(name, *plain), rel=1e-5)


@EACH
def test_floats_over_the_whole_range_give_what_bytes_give(name, scene):
    whole = full_range(scene)
    floats = [image / 255 for image in whole]
    assert measure(name, *floats) == pytest.approx(measure(name, *whole), rel=1e-5)


def test_scale_of_floats_is_that_of_both_sources():
    a, b = np.full((8, 8), 3.0), np.full((8, 8), 5.0)
    fused = a.copy()
    fused[:, 4:] = 4
    assert q_sf(fused, a, b) == pytest.approx(0.5 * math.sqrt(8 / 64))


@EACH
def test_grey_in_three_channels_is_grey(name, scene):
    layers = [np.stack([image] * 3, axis=2) for image in scene]
    assert measure(name, *layers) == measure(name, *scene)


@EACH
def test_alpha_is_ignored(name, colour):
    opaque = [np.dstack([image, image[..., 0]]) for image in colour]
    assert measure(name, *opaque) == measure(name, *colour)


def test_bytes_of_colour_are_rounded_as_in_matlab():
    image = np.zeros((1, 3, 3), np.uint8)
    image[0, 1] = 100, 0, 0
    image[0, 2] = 0, 100, 100
    # 29.8936 and 70.1064
    assert q_sf(image, image, image) == pytest.approx(
        math.sqrt((30**2 + 40**2) / 3) / 255, rel=1e-12
    )


@EACH
def test_sizes_that_differ_are_refused(name, scene):
    fused, a, b = scene
    for images in ((fused[1:], a, b), (fused, a[:, 1:], b), (fused, a, b.T)):
        with pytest.raises(IPSError, match="differ in size"):
            measure(name, *images)


@pytest.mark.parametrize("shape", [(20,), (20, 20, 2), (20, 20, 5), (2, 20, 20, 3)])
def test_what_is_no_image_is_refused(shape):
    image = np.zeros(shape, np.uint8)
    with pytest.raises(IPSError, match="shape"):
        q_mi(image, image, image)


@pytest.mark.parametrize(
    ("name", "edge"), [("q_s", 8), ("q_w", 8), ("q_e", 8), ("q_y", 7), ("q_p", 11)]
)
def test_images_smaller_than_the_window_are_refused(name, edge, rng):
    image = rng.integers(0, 255, (edge, 30)).astype(np.uint8)
    assert np.isfinite(measure(name, image, image, image))
    with pytest.raises(IPSError, match=f"too small.* {edge} x {edge}"):
        measure(name, *[image[1:]] * 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value, scene):
    fused, a, b = (image.astype(np.float32) for image in scene)
    fused[3, 4] = value
    with pytest.raises(IPSError, match="NaN or infinite"):
        q_mi(fused, a, b)


def test_constant_sources_without_a_scale_are_refused():
    image = np.ones((20, 20))
    with pytest.raises(IPSError, match="constant"):
        q_mi(image, image, image)


@EACH
@given(
    levels=st.tuples(*[st.integers(0, 255)] * 3),
    shape=st.tuples(st.integers(11, 20), st.integers(11, 20)),
)
@settings(max_examples=10)
def test_constant_images_are_measured(name, levels, shape):
    value = measure(name, *(np.full(shape, level, np.uint8) for level in levels))
    # No feature lies inside; the frame of zeros around the image is none of q_p's.
    assert math.isfinite(value) or (name == "q_p" and math.isnan(value))


@EACH
@given(seed=st.integers(0, 1000), flat=st.sampled_from([(), (0,), (1,), (0, 1), (1, 2)]))
@settings(max_examples=10)
def test_values_stay_in_their_range(name, seed, flat):
    random = np.random.default_rng(seed)
    images = [random.integers(0, 256, (17, 23)).astype(np.uint8) for _ in range(3)]
    for number in flat:
        images[number][:, 5:] = 255
    value = measure(name, *images)
    lowest = {"q_ncie": 0.8, "q_s": -1, "q_w": -1, "q_e": -1, "q_y": -1}.get(name, 0)
    highest = {"q_mi": 2, "q_sf": math.sqrt(2), "q_cv": math.inf}.get(name, 1)
    assert lowest <= value <= highest


def test_no_feature_at_all_has_no_q_p():
    image = np.full((32, 32), 90, np.uint8)
    assert math.isnan(q_p(image, image, image))
