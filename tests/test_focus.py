"""From evidence about neighbouring slices to the focus curve and what is read from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ips.fusion.blend import STEP_REACH, mixed_at_steps
from napari_ips.fusion.focus import (
    confidence,
    focus_curve,
    probabilities,
    sub_slice_depth,
)
from napari_ips.noise import noise_level


def pixel(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]


@given(
    st.lists(st.floats(0, 20, width=32), max_size=6),
    st.lists(st.floats(0, 20, width=32), min_size=1, max_size=6),
)
def test_a_curve_with_one_peak_is_the_running_sum(rising, falling):
    evidence = pixel(*rising, *(-value for value in falling))
    curve = focus_curve(evidence)
    torch.testing.assert_close(curve.diff(dim=0), evidence, atol=1e-4, rtol=1e-4)


@given(*[st.floats(0.125, 20, width=32)] * 3)
def test_a_valley_between_two_peaks_is_the_focus(rise, first, second):
    curve = focus_curve(pixel(rise, -first, second, -rise))
    assert curve[2] > max(curve[1], curve[3])
    assert curve.argmax() == 2


def test_the_depth_of_a_valley_lies_between_its_peaks():
    curve = focus_curve(pixel(5, -2, 1.5, -5))
    depth = float(sub_slice_depth(curve, curve.argmax(0)))
    assert depth == pytest.approx(1.9, abs=0.2)


@pytest.mark.parametrize("slices", [2, 16, 100])
def test_confidence_is_the_share_of_what_could_be_known(slices):
    equal = probabilities(torch.zeros(slices, 1, 1), 1.0)
    assert float(confidence(equal)) == pytest.approx(0, abs=1e-6)
    certain = torch.zeros(slices, 1, 1)
    certain[slices // 2] = 1
    assert float(confidence(certain)) == 1
    some = math.isqrt(slices)
    shared = torch.zeros(slices, 1, 1)
    shared[:some] = 1 / some
    assert float(confidence(shared)) == pytest.approx(1 - math.log(some) / math.log(slices))


def test_a_higher_temperature_is_less_sure():
    curve = focus_curve(pixel(3, -4, -2))
    sure, unsure = (float(confidence(probabilities(curve, t))) for t in (1.0, 2.0))
    assert sure > unsure + 0.1


def two_depths(slices: int, lower: int, upper: int) -> torch.Tensor:
    """Probabilities of a scene with a step in its middle, every slice certain."""
    probable = torch.zeros(slices, 40, 60)
    probable[lower, :, :30] = 1
    probable[upper, :, 30:] = 1
    return probable


@pytest.mark.parametrize("upper", [3, 4])
def test_slices_are_not_mixed_on_a_smooth_surface(upper):
    surface = two_depths(8, 3, upper)
    torch.testing.assert_close(mixed_at_steps(surface), surface)


def test_slices_are_mixed_around_a_step_and_only_there():
    step = two_depths(8, 0, 6)
    mixed = mixed_at_steps(step)
    torch.testing.assert_close(mixed.sum(0), torch.ones(40, 60))
    assert 0.2 < mixed[0, 20, 30] < 0.8
    far = [*range(30 - STEP_REACH), *range(30 + STEP_REACH, 60)]
    torch.testing.assert_close(mixed[:, :, far], step[:, :, far])


def test_noise_is_measured_where_there_is_light():
    rng = np.random.default_rng(0)
    light = rng.normal(0.5, 0.05, (3, 64, 64)).astype(np.float32)
    dark = rng.normal(0.01, 0.001, (2, 64, 64)).astype(np.float32)
    assert noise_level(np.concatenate([dark, light])) == pytest.approx(0.05, rel=0.1)
