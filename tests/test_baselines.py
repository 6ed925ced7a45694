import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_ips.errors import IPSError
from napari_ips.evaluation.baselines import (
    best_single_slice,
    max_projection,
    mean_projection,
    window_energy,
)
from napari_ips.evaluation.metrics import psnr


def half_and_half(dtype=np.uint8, rgb=False):
    """Two slices, the left half sharp in the first and the right half in the second."""
    shape = (64, 96, 3) if rgb else (64, 96)
    truth = np.random.default_rng(1).integers(0, 250, shape).astype(dtype)
    blurred = gaussian_filter(truth, (3, 3, 0)[: truth.ndim])
    first, second = truth.copy(), truth.copy()
    first[:, 48:] = blurred[:, 48:]
    second[:, :48] = blurred[:, :48]
    return np.stack([first, second]), truth


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("rgb", [False, True])
def test_projections_keep_dtype_and_are_what_they_say(dtype, rgb):
    stack, _ = half_and_half(dtype, rgb)
    for project, expected in (
        (max_projection, stack.max(0)),
        (mean_projection, stack.mean(0)),
    ):
        result = project(stack)
        assert result.dtype == dtype
        assert np.abs(result - expected).max() <= (0.5 if dtype != np.float32 else 1e-4)


def test_mean_is_rounded_not_cut():
    stack = np.array([[[0]], [[1]], [[1]]], np.uint8)
    assert mean_projection(stack)[0, 0] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("rgb", [False, True])
def test_window_energy_finds_the_sharp_halves(dtype, rgb):
    stack, truth = half_and_half(dtype, rgb)
    result = window_energy(stack)
    assert result.fused.dtype == dtype
    assert result.index.dtype == np.uint16
    assert (result.index[:, :40] == 0).all()
    assert (result.index[:, 56:] == 1).all()
    np.testing.assert_array_equal(result.fused[:, :40], truth[:, :40])
    assert psnr(result.fused, truth) > psnr(mean_projection(stack), truth) + 5


def test_window_energy_takes_every_value_from_the_slice_it_names():
    stack = np.random.default_rng(2).integers(0, 255, (5, 20, 30, 3)).astype(np.uint8)
    result = window_energy(stack)
    rows, columns = np.indices(result.index.shape)
    np.testing.assert_array_equal(result.fused, stack[result.index, rows, columns])


def test_wider_window_has_fewer_borders():
    stack = np.random.default_rng(3).integers(0, 255, (4, 64, 64)).astype(np.uint8)
    borders = [
        np.count_nonzero(np.diff(window_energy(stack, width).index.astype(int), axis=1))
        for width in (1.0, 4.0)
    ]
    assert borders[1] < borders[0]


def test_best_slice_with_and_without_truth():
    stack, truth = half_and_half()
    stack = np.stack([gaussian_filter(truth, 2), *stack, truth])
    for selection in (best_single_slice(stack), best_single_slice(stack, truth)):
        assert (selection.index == 3).all()
        np.testing.assert_array_equal(selection.fused, truth)


def test_oracle_follows_the_truth_and_not_the_sharpness():
    stack, truth = half_and_half()
    soft = gaussian_filter(truth, 4)
    selection = best_single_slice(np.stack([truth, soft]), soft)
    assert (selection.index == 1).all()


@pytest.mark.parametrize("shape", [(5, 5), (0, 5, 5), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize(
    "method", [max_projection, mean_projection, best_single_slice, window_energy]
)
def test_what_is_no_stack_is_refused(method, shape):
    with pytest.raises(IPSError, match="shape"):
        method(np.zeros(shape, np.uint8))


def test_impossible_window_is_refused():
    with pytest.raises(IPSError, match="window"):
        window_energy(np.zeros((2, 8, 8)), window=0)
