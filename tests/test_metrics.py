import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ips.errors import IPSError
from napari_ips.evaluation.metrics import (
    height_error,
    psnr,
    ssim,
    textured,
    value_range,
)

RNG = np.random.default_rng(0)


def image(shape=(32, 40), dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("shape", [(32, 40), (32, 40, 3)])
def test_known_error_gives_the_known_psnr(shape):
    truth = image(shape)
    assert psnr(truth + 5, truth) == pytest.approx(20 * math.log10(255 / 5))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
def test_range_of_other_dtypes_is_that_of_the_truth(dtype):
    truth = (image() * 10).astype(dtype)
    spread = float(truth.max()) - float(truth.min())
    assert value_range(truth) == spread
    assert psnr(truth + dtype(7), truth) == pytest.approx(20 * math.log10(spread / 7))


def test_given_range_overrides_the_derived_one():
    truth = image(dtype=np.uint16)
    assert psnr(truth + 1, truth, 65535) == pytest.approx(20 * math.log10(65535))


def test_identical_images_are_infinitely_good():
    truth = image((20, 20, 3))
    assert psnr(truth, truth) == math.inf
    assert ssim(truth, truth) == pytest.approx(1.0)


@given(offset=st.integers(1, 50), scale=st.floats(0.5, 100))
@settings(max_examples=20, deadline=None)
def test_affine_change_of_both_images_leaves_the_figures(offset, scale):
    truth = image(dtype=np.float64)
    noisy = truth + RNG.normal(0, 5, truth.shape)
    moved = [values * scale + offset for values in (noisy, truth)]
    assert psnr(*moved) == pytest.approx(psnr(noisy, truth), rel=1e-6)
    changed = [values * scale for values in (noisy, truth)]
    assert ssim(*changed) == pytest.approx(ssim(noisy, truth), rel=1e-6)


def test_border_is_left_out_of_both_measures():
    truth = image((40, 40))
    spoilt = truth.copy()
    spoilt[:3] = 255
    spoilt[:, -3:] = 255
    assert psnr(spoilt, truth, border=3) == math.inf
    assert ssim(spoilt, truth, border=3) == pytest.approx(1.0)
    assert psnr(spoilt, truth, border=2) < 40
    assert ssim(spoilt, truth, border=2) < 0.999


def test_more_noise_is_worse():
    truth = image(dtype=np.float32)
    figures = [
        (psnr(noisy, truth), ssim(noisy, truth))
        for noisy in (truth + RNG.normal(0, sigma, truth.shape) for sigma in (2, 10, 40))
    ]
    assert figures == sorted(figures, reverse=True)


def test_colour_ssim_is_the_mean_over_channels():
    truth, other = image((32, 32, 3)), image((32, 32, 3), seed=1)
    channels = [ssim(other[..., band], truth[..., band]) for band in range(3)]
    assert ssim(other, truth) == pytest.approx(np.mean(channels))


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_unlike_shapes_are_refused(measure):
    with pytest.raises(IPSError, match="differ in shape"):
        measure(image((8, 8)), image((8, 9)))


def test_too_small_images_are_refused():
    with pytest.raises(IPSError, match="too small"):
        ssim(image((6, 30)), image((6, 30)))
    with pytest.raises(IPSError, match="too small"):
        psnr(image((24, 24)), image((24, 24)), border=12)


def test_constant_float_truth_is_refused():
    with pytest.raises(IPSError, match="constant"):
        psnr(np.ones((8, 8)), np.ones((8, 8)))


def test_texture_is_where_the_truth_changes():
    truth = np.zeros((40, 40), np.uint8)
    truth[:, 20:] = 200
    mask = textured(truth)
    assert mask[:, 19:21].all()
    assert not mask[:, :10].any()
    assert not mask[:, 30:].any()


def test_height_error_counts_the_mask_only():
    height = np.zeros((4, 4), np.float32)
    depth = height.copy()
    depth[0] = 2.0
    depth[1] = -1.0
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    assert height_error(depth, height, mask) == pytest.approx(1.5)
    assert math.isnan(height_error(depth, height, np.zeros_like(mask)))
    with pytest.raises(IPSError, match="shape"):
        height_error(depth[:2], height, mask)


def test_height_error_of_unsigned_indices_does_not_wrap():
    height = np.full((2, 2), 3, np.uint16)
    assert height_error(np.zeros((2, 2), np.uint16), height, height > 0) == 3.0
