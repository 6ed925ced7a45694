"""Fusion of stacks and pairs with the bundled weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from napari_ips import FuseConfig, IPSError, fuse_pair, fuse_stack, simulate_stack
from napari_ips.config import NetworkConfig
from napari_ips.evaluation.metrics import psnr
from napari_ips.events import Progress, TileDone
from napari_ips.fusion import memory, plan, tiles
from napari_ips.fusion.settings import FusionSettings
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.weights import save_weights


@pytest.fixture(scope="module")
def simulated():
    """A tilted, opaque scene in five slices, 8 bit."""
    return simulate_stack(data.camera()[100:228, 150:290], 5, relief="tilt", seed=1)


def fuse(stack, **values):
    callback = values.pop("callback", None)
    return fuse_stack(stack, config=FuseConfig(device="cpu", **values), callback=callback)


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("strategy", ["integrate", "fold"])
def test_a_stack_becomes_sharper_than_any_slice_or_projection(simulated, mode, strategy):
    result = fuse(simulated.stack, mode=mode, strategy=strategy)
    truth = simulated.truth
    others = [simulated.stack.max(0), simulated.stack.mean(0), *simulated.stack]
    best = max(psnr(image, truth) for image in others)
    assert psnr(result.fused, truth) > best + 4
    assert np.abs(result.depth - simulated.height).mean() < 0.6
    assert result.fused.dtype == np.uint8


def test_hard_mode_takes_every_value_from_the_stack(simulated):
    result = fuse(simulated.stack, mode="hard")
    rows, columns = np.indices(result.index.shape)
    assert np.array_equal(result.fused, simulated.stack[result.index, rows, columns])


def test_maps_have_their_dtypes_and_ranges(simulated):
    result = fuse(simulated.stack)
    assert (result.index.dtype, result.depth.dtype) == (np.uint16, np.float32)
    assert result.index.max() <= 4
    assert np.abs(result.depth - result.index).max() <= 0.5
    assert result.confidence.min() >= 0
    assert result.confidence.max() <= 1


@pytest.mark.parametrize(
    "dtype",
    [
        "uint8",
        "int16",
        "uint16",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "float32",
        "float64",
    ],
)
def test_every_dtype_comes_back_as_itself(simulated, dtype):
    stack = simulated.stack[:, :40, :40].astype(dtype)
    assert fuse(stack).fused.dtype == np.dtype(dtype)


@settings(max_examples=8)
@given(st.floats(1e-3, 1e5), st.floats(-1e5, 1e5))
def test_an_affine_change_of_intensity_changes_the_result_alike(gain, offset):
    stack = simulate_stack(data.coins()[:40, :48], 3, seed=2).stack.astype(np.float64)
    before, after = fuse(stack), fuse(gain * stack + offset)
    assert (before.index != after.index).mean() < 0.002
    np.testing.assert_allclose(
        after.fused, gain * before.fused + offset, atol=gain * 0.5, rtol=1e-6
    )


def test_colours_are_decided_together(simulated):
    tints = np.array([1.0, 0.7, 0.4])
    colours = (simulated.stack[..., None] * tints).astype(np.uint8)
    result = fuse(colours, mode="hard")
    rows, columns = np.indices(result.index.shape)
    assert result.fused.shape == (*simulated.truth.shape, 3)
    assert np.array_equal(result.fused, colours[result.index, rows, columns])


def test_the_z_axis_may_be_anywhere(simulated):
    expected = fuse(simulated.stack)
    for axis in (1, 2, -1):
        moved = np.moveaxis(simulated.stack, 0, axis)
        result = fuse_stack(moved, axis, config=FuseConfig(device="cpu"))
        assert np.array_equal(result.fused, expected.fused)


def test_reversing_the_stack_reverses_the_index(simulated):
    forward, backward = fuse(simulated.stack), fuse(simulated.stack[::-1])
    differs = np.abs(forward.index.astype(int) - (4 - backward.index.astype(int))) > 1
    sure = (forward.confidence > 0.5) & (backward.confidence > 0.5)
    assert sure.mean() > 0.5
    assert differs[sure].mean() < 0.02


def test_a_pair_is_a_stack_of_two(simulated):
    a, b = simulated.stack[1], simulated.stack[3]
    config = FuseConfig(device="cpu")
    pair, stack = fuse_pair(a, b, config=config), fuse(np.stack([a, b]))
    assert np.array_equal(pair.fused, stack.fused)
    assert set(np.unique(pair.index)) == {0, 1}


def test_pairs_that_do_not_fit_are_refused(simulated):
    a = simulated.stack[0]
    with pytest.raises(IPSError, match="differ in size"):
        fuse_pair(a, a[:-1])
    with pytest.raises(IPSError, match="differ in dtype"):
        fuse_pair(a, a.astype(float))


def test_identical_slices_give_their_value_without_confidence():
    image = data.coins()[:60, :60]
    result = fuse(np.stack([image] * 4))
    assert np.array_equal(result.fused, image)
    assert result.confidence.max() < 0.05


def test_identical_slices_with_noise_give_nearly_their_mean():
    rng = np.random.default_rng(0)
    image = data.coins()[:96, :96].astype(float)
    stack = image + rng.normal(0, 12, (6, *image.shape))
    result = fuse(stack)
    assert (
        psnr(result.fused, image, data_range=255)
        > psnr(stack[0], image, data_range=255) + 4
    )


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_stack_stays_constant(value):
    result = fuse(np.full((3, 20, 20), value, np.uint8))
    assert (result.fused == value).all()
    assert (result.confidence == 0).all()


def test_a_single_slice_is_returned_as_it_is(simulated):
    result = fuse(simulated.stack[:1])
    assert np.array_equal(result.fused, simulated.stack[0])
    assert not result.index.any()
    assert not result.confidence.any()


@pytest.mark.parametrize("shape", [(2, 1, 1), (3, 2, 5), (2, 1, 40), (4, 33, 7)])
def test_tiny_and_odd_images(shape):
    stack = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    assert fuse(stack).fused.shape == shape[1:]


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_values_that_are_not_finite_never_win(simulated, mode):
    stack = simulated.stack.astype(np.float32)
    stack[:2, :30] = np.nan
    stack[4, 50:60] = np.inf
    stack[:, :5, :5] = np.nan
    result = fuse(stack, mode=mode)
    assert np.isnan(result.fused[:5, :5]).all()
    finite = np.isfinite(result.fused)
    finite[:5, :5] = True
    assert finite.all()
    assert (result.index[5:30] >= 2).all()
    assert (result.index[50:60] != 4).all()
    assert (result.confidence[:5, :5] == 0).all()


def test_negative_and_huge_values(simulated):
    stack = simulated.stack[:3].astype(np.float64)
    for changed in (-stack, stack * 1e30, stack - 1e6, stack * 1e-30):
        result = fuse(changed)
        assert np.isfinite(result.fused).all()
        rounding = 1e-9 * np.abs(changed).max()
        assert result.fused.min() >= changed.min() - rounding
        assert result.fused.max() <= changed.max() + rounding


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (np.zeros((5, 5)), "shape"),
        (np.zeros((2, 3, 4, 5, 6)), "shape"),
        (np.zeros((0, 5, 5)), "empty"),
        (np.zeros((3, 5, 5), complex), "dtype"),
        (np.zeros((3, 5, 5), bool), "true and false"),
        (np.array([["a"]]), "dtype"),
    ],
)
def test_what_is_no_stack_is_refused(stack, message):
    with pytest.raises(IPSError, match=message):
        fuse(stack)


def test_progress_reaches_its_end_and_can_cancel(simulated):
    wide = np.concatenate([simulated.stack[:2, :20]] * 5, axis=2)
    seen: list[Progress] = []
    fuse(wide, tile=256, callback=seen.append)
    tiles_done = [p for p in seen if isinstance(p, TileDone)]
    assert [p.done for p in tiles_done] == list(range(1, tiles_done[0].total + 1))
    assert tiles_done[0].total > 1

    def cancel(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse(wide, tile=256, callback=cancel)


@pytest.fixture(scope="module")
def large():
    """Odd sizes, several cores at every scale, three slices."""
    image = data.camera()[100:401, 40:463]
    return simulate_stack(image, 3, relief="relief", noise=0.01, seed=3).stack


@pytest.fixture(scope="module")
def fused_whole(large):
    return fuse(large, tile=4096)


@pytest.mark.parametrize("tile", [256, 512])
def test_the_result_is_the_same_for_every_size_of_tile(large, fused_whole, tile):
    tiled = fuse(large, tile=tile)
    for name in ("fused", "index", "depth", "confidence"):
        assert np.array_equal(getattr(tiled, name), getattr(fused_whole, name)), name


def test_the_grid_of_cores_hardly_changes_the_result(large, fused_whole, monkeypatch):
    for module in (tiles, memory, plan):
        monkeypatch.setattr(module, "CORE", 192)
    other = fuse(large, tile=256)
    assert psnr(other.fused, fused_whole.fused, data_range=255) > 50
    sure = (other.confidence > 0.5) & (fused_whole.confidence > 0.5)
    same = np.abs(other.depth - fused_whole.depth)[sure] < 0.5
    assert same.mean() > 0.96


def test_weights_that_regress_the_image_work_too(simulated, tmp_path):
    config = NetworkConfig(width=4, local_blocks=1, mamba_blocks=1, output="image")
    save_weights(
        tmp_path / "w.safetensors", CrossImageFusionNetwork.from_config(config), {}
    )
    result = fuse(simulated.stack, weights=str(tmp_path / "w.safetensors"), mode="hard")
    rows, columns = np.indices(result.index.shape)
    assert np.array_equal(result.fused, simulated.stack[result.index, rows, columns])


def test_weights_for_several_channels_are_refused(simulated, tmp_path):
    config = NetworkConfig(width=4, local_blocks=1, mamba_blocks=1, in_channels=3)
    save_weights(
        tmp_path / "w.safetensors", CrossImageFusionNetwork.from_config(config), {}
    )
    with pytest.raises(IPSError, match="for 3 channels"):
        fuse(simulated.stack, weights=str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("value", [5_000.0, 1e30, -3.4e38])
def test_a_single_wild_pixel_changes_nothing_further_away(simulated, value):
    stack = simulated.stack.astype(np.float32)
    before = fuse(stack)
    stack[2, 60, 70] = value
    after = fuse(stack)
    near = np.zeros(before.index.shape, bool)
    near[40:81, 50:91] = True
    assert (before.index != after.index)[~near].mean() < 0.08
    assert psnr(after.fused[:40], before.fused[:40], data_range=255) > 50


def test_slices_without_values_disturb_neither_depth_nor_confidence(simulated):
    stack = simulated.stack.astype(np.float32)
    whole = fuse(stack)
    stack[0] = np.nan
    rest = fuse(stack)
    assert rest.confidence.min() < 0.9
    elsewhere = simulated.height > 1.6
    same = rest.index[elsewhere] == whole.index[elsewhere]
    assert same.mean() > 0.97
    stuck = np.abs(rest.depth - rest.index)[elsewhere] == 0.5
    assert stuck.mean() < 0.2


def test_an_empty_frame_does_not_hide_the_noise(simulated):
    noisy = simulated.stack + np.random.default_rng(0).normal(0, 12, simulated.stack.shape)
    config = FuseConfig(device="cpu")
    shape, samples = noisy.shape[1:], noisy.astype(np.float32)
    alone = FusionSettings.measured(config, shape, 0.0, samples, samples)
    assert alone.smoothing > 2
    black = np.concatenate([samples, np.zeros_like(samples[:1])])
    both = FusionSettings.measured(config, shape, 0.0, black, black)
    assert both.smoothing == pytest.approx(alone.smoothing, rel=0.3)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_the_largest_64_bit_values_do_not_overflow(dtype):
    stack = np.full((3, 20, 20), np.iinfo(dtype).max, dtype)
    assert (fuse(stack).fused > np.iinfo(dtype).max - 4096).all()


def test_ranges_that_no_number_holds_are_refused():
    stack = np.random.default_rng(0).uniform(-1, 1, (3, 20, 20)) * 1.7e308
    with pytest.raises(IPSError, match="too far apart"):
        fuse(stack)


def test_colours_in_the_wrong_place_are_refused(simulated):
    with pytest.raises(IPSError, match="Colours are the last"):
        fuse_stack(simulated.stack[..., None], rgb=True)
