"""Training pairs: what the network sees, what it should choose, and how it is judged."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data

from napari_ips import TrainConfig
from napari_ips.config import NetworkConfig
from napari_ips.intensity import IntensityRange
from napari_ips.training.images import ImagePool, TrainingImage
from napari_ips.training.pairs import PairBatch, make_batch
from napari_ips.training.step import fusion_loss


@pytest.fixture(scope="module")
def pool():
    image = data.camera()[None]
    return ImagePool((TrainingImage("camera", image, IntensityRange.of(image)),), (), 0.06)


def settings(**values):
    plain = {
        "noise": 0.0, "jpeg": 0.0, "both_defocused": 0.0, "overexposed": 0.0,
        "crop_size": 64,
    }  # fmt: skip
    run = {"images": (), "output": "w.safetensors", "iterations": 1, "batch_size": 8}
    return TrainConfig(**(run | plain | values))


def chosen(batch):
    return torch.where(batch.selection.bool(), batch.source1, batch.source2)


def test_pairs_hold_the_sharp_pixel_on_the_selected_side(pool):
    batch = make_batch(pool, settings(), 0)
    assert torch.equal(chosen(batch), batch.target)
    assert torch.equal(batch.stake, (batch.source1 - batch.source2).abs())
    assert 0.2 < batch.selection.mean() < 0.8


def test_jpeg_changes_what_the_network_sees_and_not_what_it_learns(pool):
    before, after = (
        make_batch(pool, settings(jpeg=j, batch_size=1), 0) for j in (0.0, 1.0)
    )
    assert torch.equal(before.target, after.target)
    assert torch.equal(before.stake, after.stake)
    change = (before.source1.clamp(0, 1) - after.source1).abs()
    assert 0.0005 < change.mean() < 0.05
    levels = after.source1 * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


@pytest.fixture(scope="module")
def half():
    """An image with light in its right half alone, and grain by which it is sharp."""
    image = np.random.default_rng(0).integers(60, 90, (1, 128, 128), np.uint8)
    image[..., 64:] += 120
    return ImagePool((TrainingImage("half", image, IntensityRange(0, 255)),), (), 0.0)


def test_light_comes_from_around_a_crop(half):
    """Blurred with its surroundings, a dark crop is brighter along the border to them."""
    plain = {"intensity_jitter": False, "dark_border": 0.0, "coherent": 0.0}
    plain |= {"low_pass": ("mean",), "kernel_range": (31, 31), "crop_size": 32}
    for surroundings in (True, False):
        config = settings(surroundings=surroundings, **plain)
        batches = [make_batch(half, config, k) for k in range(20)]
        batch = PairBatch.join(batches)
        dark = batch.target.amax((1, 2, 3)) < 0.4
        softer = torch.where(batch.selection.bool(), batch.source2, batch.source1)[dark]
        assert 10 < len(softer) < 150
        lit = softer.amax((1, 2, 3)) > 0.45
        assert bool(lit.any()) is surroundings


def test_a_dark_border_is_no_darker_than_the_black_of_the_image():
    """Whatever contrast and offset: black is what it was, and all beyond the border."""
    image = np.random.default_rng(0).choice([0, 255], (1, 96, 96)).astype(np.uint8)
    grainy = ImagePool((TrainingImage("grain", image, IntensityRange(0, 255)),), (), 0.0)
    config = settings(dark_border=1.0, coherent=0.0, kernel_range=(21, 31))
    for k in range(10):
        batch = make_batch(grainy, config, k)
        softer = torch.where(batch.selection.bool(), batch.source2, batch.source1)
        black = batch.target.amin((1, 2, 3), keepdim=True)
        white = batch.target.amax((1, 2, 3), keepdim=True)
        softer = (softer - black) / (white - black)
        assert softer.min() > 0.0
        corner, middle = softer[..., 0, 0], softer[..., 32, 32]
        assert (corner < 0.6 * middle).all()


def test_beyond_the_border_of_the_image_lies_its_mirror_image(pool):
    image = pool.images[0]
    whole = image.data.shape[1]
    plain = image.crop(whole, np.random.default_rng(1))
    wide = image.crop(whole, np.random.default_rng(1), margin=20)
    mirrored = np.pad(plain, [(0, 0), (20, 20), (20, 20)], mode="reflect")
    np.testing.assert_array_equal(wide, mirrored)


def test_overexposed_highlights_spread_over_what_is_darker(pool):
    """Light is blurred first and cut off then, so it is at the limit beyond its rim."""
    for noise in (0.0, 0.2):
        spread = []
        for k in range(10):
            batch = make_batch(pool, settings(overexposed=1.0, noise=noise), k)
            for one in range(len(batch.target)):
                limit = batch.target[one].max()
                sources = torch.stack([batch.source1[one], batch.source2[one]])
                assert sources.max() <= limit
                lost = (sources == limit) & (batch.target[one] < 0.8 * limit)
                spread.append(bool(lost.any()))
        assert sum(spread) > len(spread) / 10


@pytest.mark.parametrize(
    ("grain", "lowest", "highest"), [(0.0, -0.1, 0.1), (1.0, 0.3, 0.9)]
)
def test_noise_with_grain_is_shared_by_neighbours(pool, grain, lowest, highest):
    config = settings(noise=0.2, noise_grain=grain, coherent=1.0, blob_scale=(24.0, 24.0))
    batch = make_batch(pool, config, 3)
    noise = chosen(batch) - batch.target
    pairs = torch.stack([noise[..., :-1].flatten(), noise[..., 1:].flatten()])
    assert lowest < float(torch.corrcoef(pairs)[0, 1]) < highest


def test_a_network_has_to_say_that_it_cannot_tell():
    same = torch.from_numpy(np.random.default_rng(0).random((1, 1, 8, 8), np.float32))
    batch = PairBatch(same, same, same, (same > 0.5).float(), torch.zeros_like(same))
    config = settings()

    class Says(SimpleNamespace):
        config = NetworkConfig()

        def __call__(self, source1, source2):
            return torch.full_like(source1, self.odds)

    unsure, sure = (float(fusion_loss(Says(odds=odds), batch, config)) for odds in (0, 4))
    assert unsure == pytest.approx(config.decision_floor * math.log(2), rel=1e-3)
    assert sure > 2 * unsure
