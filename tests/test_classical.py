"""Pyramids and the guided filter, on pairs and stacks made here."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_ips.errors import IPSError
from napari_ips.evaluation import classical
from napari_ips.evaluation.baselines import mean_projection, rounded
from napari_ips.evaluation.classical import dtcwt, guided_filter, laplacian_pyramid
from napari_ips.evaluation.metrics import psnr
from napari_ips.evaluation.pyramids import Laplacian, Wavelets


def guided_image(stack):
    return guided_filter(stack).fused


@pytest.fixture
def unlimited(monkeypatch):
    """Round what a method gives, but do not limit it to the range of the slices.

    Between limits that are one value, any result would come out right.
    """
    monkeypatch.setattr(
        classical, "_limited", lambda image, stack: rounded(image, stack.dtype)
    )


methods = pytest.mark.parametrize("fuse", [laplacian_pyramid, dtcwt, guided_image])
pyramids = pytest.mark.parametrize("fuse", [laplacian_pyramid, dtcwt])


def scene(dtype=np.uint8, rgb=False, shape=(96, 128)):
    """Two slices, the left half sharp in the first, the right in the second; the truth."""
    noise = np.random.default_rng(1).random(shape + (3,) * rgb)
    smooth = gaussian_filter(noise, (1.5, 1.5, 0)[: noise.ndim])
    scaled = (smooth - smooth.min()) / np.ptp(smooth)
    truth = (scaled * (1 if dtype == np.float32 else 250)).astype(dtype)
    blurred = gaussian_filter(truth, (3, 3, 0)[: truth.ndim])
    middle = shape[1] // 2
    stack = np.stack([truth, blurred])
    stack[0, :, middle:], stack[1, :, middle:] = blurred[:, middle:], truth[:, middle:]
    return stack, truth


@methods
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("rgb", [False, True])
def test_sharp_halves_are_found(fuse, dtype, rgb):
    stack, truth = scene(dtype, rgb)
    fused = fuse(stack)
    assert fused.dtype == dtype
    limits = float(np.ptp(truth))
    assert psnr(fused, truth, limits) > psnr(mean_projection(stack), truth, limits) + 8
    # Away from the seam nothing but the truth is in focus.
    assert psnr(fused[:, :40], truth[:, :40], limits) > 40


@methods
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("colours", [(), (3,), (4,)])
def test_identical_slices_give_themselves(fuse, dtype, colours, unlimited):
    image = np.random.default_rng(2).random((37, 51, *colours)) * 200
    stack = np.repeat(image.astype(dtype)[None], 3, axis=0)
    # Floats are not rounded to what they were.
    inexact = 1e-3 if dtype == np.float32 else 0
    np.testing.assert_allclose(fuse(stack), stack[0], rtol=0, atol=inexact)


@methods
def test_flat_stack_stays_flat(fuse, unlimited):
    stack = np.full((4, 33, 40), 7, np.uint16)
    np.testing.assert_array_equal(fuse(stack), stack[0])


@methods
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (5, 4), (17, 33), (64, 7)])
@pytest.mark.parametrize("colours", [(), (3,)])
def test_any_size_and_one_slice(fuse, size, colours, unlimited):
    shape = (*size, *colours)
    stack = np.random.default_rng(3).integers(0, 255, (3, *shape)).astype(np.uint8)
    assert fuse(stack).shape == shape
    np.testing.assert_array_equal(fuse(stack[:1]), stack[0])


@methods
@given(gain=st.floats(0.01, 100), offset=st.floats(-100, 100))
@settings(max_examples=5, deadline=None)
def test_commutes_with_affine_intensities(fuse, gain, offset):
    stack, _ = scene(np.float32, shape=(48, 64))
    changed = fuse(stack.astype(np.float64) * gain + offset)
    expected = fuse(stack.astype(np.float64)) * gain + offset
    # Where slices are as good as equally sharp, rounding may decide for either.
    error = np.abs(changed - expected)
    assert np.quantile(error, 0.98) < 1e-3 * gain + 1e-5 * (abs(offset) + 1)


@methods
def test_result_stays_within_its_slices(fuse):
    stack = np.random.default_rng(4).integers(0, 255, (5, 40, 52, 3)).astype(np.uint8)
    fused = fuse(stack)
    assert (fused >= stack.min(axis=0)).all()
    assert (fused <= stack.max(axis=0)).all()


@methods
def test_every_slice_of_a_stack_counts(fuse):
    _, truth = scene(shape=(64, 160))
    stack = np.stack([gaussian_filter(truth, 4)] * 5)
    for number in range(5):
        part = slice(32 * number, 32 * (number + 1))
        stack[number, :, part] = truth[:, part]
    fused = fuse(stack)
    assert psnr(fused, truth) > psnr(mean_projection(stack), truth) + 5
    for number in range(5):
        middle = slice(32 * number + 12, 32 * number + 20)
        error = fused[:, middle].astype(float) - truth[:, middle]
        blur = stack[number - 1][:, middle].astype(float) - truth[:, middle]
        assert np.square(error).mean() < 0.05 * np.square(blur).mean()


def test_guided_filter_names_the_slices():
    stack, _ = scene()
    index = guided_filter(stack).index
    assert index.dtype == np.uint16
    assert (index[:, :48] == 0).all()
    assert (index[:, 80:] == 1).all()


def test_guided_filter_follows_an_edge_of_the_guide():
    """Weights stop at a step that a Gaussian of the same reach would cross."""
    texture = gaussian_filter(np.random.default_rng(5).random((64, 96)), 1)
    truth = np.where(np.arange(96) < 50, 40, 200) + 300 * (texture - texture.mean())
    truth = np.clip(truth, 0, 255).astype(np.uint8)
    near = np.where(np.arange(96) < 50, truth, gaussian_filter(truth, 4))
    far = np.where(np.arange(96) < 50, gaussian_filter(truth, 4), truth)
    index = guided_filter(np.stack([near, far])).index
    seam = np.abs(index - (np.arange(96) >= 50)).mean(axis=0)
    assert seam[:44].max() == seam[56:].max() == 0


@pytest.mark.parametrize("transform", [Laplacian, Wavelets])
@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (41, 33, 3), (1, 2)])
def test_transforms_give_back_the_image(transform, shape):
    image = np.random.default_rng(6).random(shape).astype(np.float32)
    pyramid = transform(shape, 4)
    np.testing.assert_allclose(pyramid.synthesise(pyramid.analyse(image)), image, atol=1e-5)


@pytest.mark.parametrize("transform", [Laplacian, Wavelets])
def test_detail_is_of_what_changes_only(transform):
    flat = transform((48, 64), 3).analyse(np.full((48, 64), 5, np.uint8))
    assert len(flat.detail) == 3
    assert max(np.abs(band).max() for band in flat.detail) < 1e-4


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchwavelets", None)
    with pytest.raises(IPSError, match=r"napari-ips\[benchmark\]"):
        dtcwt(np.zeros((2, 16, 16), np.uint8))


@methods
@pytest.mark.parametrize("shape", [(8, 8), (0, 8, 8), (2, 0, 8), (1, 2, 8, 8, 3)])
def test_what_is_no_stack_is_refused(fuse, shape):
    with pytest.raises(IPSError, match="A stack has the shape"):
        fuse(np.zeros(shape, np.uint8))


@pyramids
@pytest.mark.parametrize("wrong", [{"levels": 0}, {"window": -1}, {"window": np.nan}])
def test_wrong_settings_of_pyramids_are_refused(fuse, wrong):
    with pytest.raises(IPSError, match="level|window"):
        fuse(np.zeros((2, 16, 16), np.uint8), **wrong)


@pytest.mark.parametrize("wrong", [{"radius": 0}, {"epsilon": 0}, {"base_radius": -1}])
def test_wrong_settings_of_the_guided_filter_are_refused(wrong):
    with pytest.raises(IPSError, match="radii"):
        guided_filter(np.zeros((2, 16, 16), np.uint8), **wrong)
