"""Training: the presets, the events and results of a run, and where it starts from."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch
from skimage import data

from napari_ips import FuseConfig, IPSError, NetworkConfig, TrainConfig, fuse_stack
from napari_ips.config import PRESETS
from napari_ips.evaluation.metrics import psnr
from napari_ips.events import (
    CheckpointSaved,
    ImagesFound,
    LossPoint,
    Preview,
    TrainingFinished,
    ValidationPoint,
)
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.simulation import simulate_stack
from napari_ips.training import loop, train
from napari_ips.training.images import load_images, measured_noise
from napari_ips.training.pairs import make_batch
from napari_ips.training.step import learning_rate, taught
from napari_ips.weights import load_weights, read_card, read_tensors, save_weights
from trainings import (
    SMALL,
    equal_weights,
    measured,
    put_images,
    run_until,
    settings,
    trained,
)


@pytest.fixture
def folder(tmp_path):
    return put_images(tmp_path / "images")


def test_the_paper_preset_is_section_3_c(folder):
    config = settings(folder, preset="paper")
    assert (config.batch_size, config.learning_rate) == (2, 1e-4)
    plain = TrainConfig.from_preset("paper", images=(folder,), output="w.safetensors")
    assert (plain.batch_size, plain.iterations) == (1, 1_000_000)
    assert (plain.low_pass, plain.kernel_range) == (("mean",), (3, 31))
    assert (plain.mask_ratio, plain.coherent, plain.noise) == (0.5, 0.0, 0.0)
    assert (plain.network.output, plain.network.global_stride) == ("image", 1)
    rates = [learning_rate(1e-4, plain.decay_start, f) for f in (0.0, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 0.0])


@pytest.mark.parametrize("preset", ["paper", "microscopy"])
def test_a_run_reports_events_and_writes_weights(folder, preset):
    config = settings(folder, preset=preset, iterations=4)
    events = trained(config)
    step, measurement = [LossPoint, CheckpointSaved], [ValidationPoint, Preview]
    assert [type(e) for e in events] == [
        ImagesFound, *measurement, *step, *step, *step, *measurement, *step, *measurement,
        TrainingFinished,
    ]  # fmt: skip
    assert list(measured(events)) == [0, 3, 4]
    assert sorted(p.name for p in folder.parent.iterdir()) == ["images", "w.safetensors"]
    finished = events[-1]
    assert finished.psnr_before == measured(events)[0]
    assert finished.psnr == measured(events)[finished.iteration]
    assert finished.reason == "length"


def test_previews_show_one_crop_more_and_more_in_focus(folder):
    shown = [e for e in trained(settings(folder)) if isinstance(e, Preview)]
    assert [p.iteration for p in shown] == [0, 3, 6]
    for preview in shown:
        for image in (preview.source1, preview.source2, preview.fused, preview.target):
            assert (image.dtype, image.shape) == (np.float32, (1, 32, 32))
        np.testing.assert_array_equal(preview.target, shown[0].target)
    assert not np.array_equal(shown[0].fused, shown[-1].fused)


def test_the_card_tells_where_weights_come_from(folder, tmp_path):
    start = tmp_path / "start.safetensors"
    trained(settings(folder, output=start, iterations=1))
    camera = folder / "camera.png"
    config = settings(
        folder, images=(folder, camera), notes="for thin sections", start_from=str(start),
        noise=0.02, output=tmp_path / "tuned.safetensors",
    )  # fmt: skip
    finished = trained(config)[-1]
    card = read_card(config.output)
    assert card["preset"] == "microscopy"
    assert card["notes"] == "for thin sections"
    assert json.loads(card["sources"]) == ["images", "camera.png"]
    assert card["start_from"] == "start.safetensors"
    assert str(tmp_path) not in json.dumps(card)
    assert (card["noise"], card["reason"], card["device"]) == ("0.02", "length", "cpu")
    assert card["iterations"] == str(finished.iteration)
    before, after = json.loads(card["validation_before"]), json.loads(card["validation"])
    assert before["psnr"] == pytest.approx(finished.psnr_before, abs=1e-3)
    assert after["psnr"] == pytest.approx(finished.psnr, abs=1e-3)
    assert {"psnr", "ssim"} == before.keys() == after.keys()
    age = datetime.now(UTC) - datetime.fromisoformat(card["date"])
    assert timedelta(0) <= age < timedelta(minutes=5)


def test_fused_stacks_are_better_after_a_short_training(folder, tmp_path):
    """Trained for seconds, it beats the same network untrained, on a simulated stack."""
    shape = NetworkConfig(width=8, local_blocks=2, mamba_blocks=1, d_state=4, unshuffle=1)
    config = settings(
        folder, network=shape, iterations=60, batch_size=4, crop_size=48, ema_decay=0.9,
        learning_rate=3e-3, validation_crops=4, validation_interval=30,
        kernel_range=(9, 31), both_defocused=0.0, noise=0.0, intensity_jitter=False,
    )  # fmt: skip
    torch.manual_seed(0)
    untrained = tmp_path / "untrained.safetensors"
    save_weights(untrained, CrossImageFusionNetwork.from_config(shape), {})
    finished = trained(config)[-1]
    assert finished.psnr > finished.psnr_before + 3.0
    simulated = simulate_stack(data.page()[:160, :160], 5, blur_per_slice=2.0)

    def quality(weights):
        settings = FuseConfig(weights=str(weights), device="cpu", regularise=False)
        fused = fuse_stack(simulated.stack, config=settings).fused
        return psnr(simulated.truth, fused, 255.0)

    assert quality(config.output) > quality(untrained) + 1.0


def test_fine_tuning_starts_from_other_weights(folder, tmp_path):
    trained(settings(folder, iterations=1))
    start, _ = read_tensors(folder.parent / "w.safetensors")
    tuned = settings(
        folder, iterations=1, start_from=str(folder.parent / "w.safetensors"),
        output=tmp_path / "tuned.safetensors", learning_rate=1e-12, ema_decay=0.0,
    )  # fmt: skip
    trained(tuned)
    tensors, _ = read_tensors(tuned.output)
    for name, tensor in start.items():
        torch.testing.assert_close(tensors[name], tensor, atol=1e-9, rtol=0)


def test_fine_tuning_that_makes_it_worse_returns_the_weights_it_started_from(
    folder, tmp_path
):
    start = tmp_path / "start.safetensors"
    trained(settings(folder, output=start, iterations=20, learning_rate=3e-3))
    worse = settings(
        folder, start_from=str(start), output=tmp_path / "worse.safetensors",
        learning_rate=1.0, ema_decay=0.0, gradient_clip=0.0, iterations=6,
    )  # fmt: skip
    events = trained(worse)
    assert max(measured(events).values()) == measured(events)[0]
    assert events[-1].iteration == 0
    assert events[-1].psnr == events[-1].psnr_before
    original, kept = read_tensors(start)[0], read_tensors(worse.output)[0]
    assert all(torch.equal(kept[name], tensor) for name, tensor in original.items())


def test_starting_from_weights_of_another_network_is_refused(folder, tmp_path):
    trained(settings(folder, iterations=1))
    other = settings(
        folder, network=NetworkConfig(width=9), output=tmp_path / "x.safetensors",
        start_from=str(folder.parent / "w.safetensors"),
    )  # fmt: skip
    with pytest.raises(IPSError, match="another network"):
        next(train(other))


def test_training_in_bfloat16_differs_little_and_writes_float32(folder, tmp_path):
    whole = trained(settings(folder))
    half = trained(
        settings(folder, precision="bfloat16", output=tmp_path / "half.safetensors")
    )
    losses = [[e.loss for e in run if isinstance(e, LossPoint)] for run in (whole, half)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    tensors, _ = read_tensors(tmp_path / "half.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


@pytest.mark.parametrize(("why", "taken"), [("", "bfloat16"), ("too old", "float32")])
def test_automatic_precision_is_that_of_the_processor(folder, monkeypatch, why, taken):
    monkeypatch.setattr(loop, "why_no_bfloat16", lambda device: why)
    config = settings(folder, precision="auto")
    trained(config)
    card = read_card(config.output)
    assert json.loads(card["settings"])["precision"] == taken


def test_noise_is_measured_once_and_told_in_the_card(folder, monkeypatch, tmp_path):
    config = settings(folder, noise="measured")
    given = settings(folder, noise=0.07, output=tmp_path / "given.safetensors")
    monkeypatch.setattr(loop, "measured_noise", lambda pool: 0.07)
    run_until(train(config), LossPoint, 2)
    monkeypatch.setattr(loop, "measured_noise", lambda pool: 0.2)
    trained(config, resume=True)
    trained(given)
    assert equal_weights(config.output, given.output)
    card = read_card(config.output)
    assert (card["noise"], json.loads(card["settings"])["noise"]) == ("0.07", 0.07)


def test_noise_that_is_measured_is_that_of_the_images(folder):
    config = settings(folder, noise="measured", iterations=1)
    trained(config)
    assert float(read_card(config.output)["noise"]) == measured_noise(load_images(config))


def test_a_training_leaves_random_numbers_of_others_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(settings(folder, iterations=1))
    assert torch.equal(torch.rand(3), expected)


def test_settings_survive_toml_and_refuse_what_they_do_not_know(folder, tmp_path):
    config = settings(folder, network=NetworkConfig(width=7), minutes=2.5)
    config.to_toml(tmp_path / "c.toml")
    assert TrainConfig.from_toml(tmp_path / "c.toml") == config
    with pytest.raises(IPSError, match="learning_rat"):
        settings(folder, learning_rat=1.0)
    with pytest.raises(IPSError, match="as iterations or as minutes"):
        TrainConfig.from_preset("paper", images=(folder,), output="w", iterations=None)
    with pytest.raises(IPSError, match="no preset 'paperr'"):
        TrainConfig.from_preset("paperr", images=(folder,), output="w")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_toml_in_full(folder, tmp_path, preset):
    config = TrainConfig.from_preset(preset, images=(folder,), output="w", iterations=9)
    config.to_toml(tmp_path / "c.toml")
    assert TrainConfig.from_toml(tmp_path / "c.toml") == config


def test_kernels_that_are_all_large_are_possible(folder):
    trained(settings(folder, kernel_range=(9, 31), both_defocused=1.0))


def test_what_a_teacher_says_is_mixed_into_what_is_learnt(folder):
    batch = make_batch(load_images(settings(folder)), settings(folder), 0)
    sure = torch.full_like(batch.selection, 2.0)
    mixed = taught(batch, lambda *_: sure, 0.25)
    expected = 0.75 * batch.selection + 0.25 / (1 + np.exp(-2.0))
    torch.testing.assert_close(mixed.selection, expected)
    assert torch.equal(mixed.source1, batch.source1)


def test_a_run_learns_what_its_teacher_says(folder, tmp_path):
    teacher, pupil = tmp_path / "teacher.safetensors", tmp_path / "pupil.safetensors"
    network = CrossImageFusionNetwork.from_config(SMALL)
    with torch.no_grad():
        network.reconstruction[-1].weight.zero_()
        network.reconstruction[-1].bias.fill_(-4.0)  # always the second source
    save_weights(teacher, network, {})
    length = {"iterations": 30, "validation_interval": 30}
    options = {"learning_rate": 3e-2, "decision_floor": 1.0, "ema_decay": 0.0}
    learns = {"teacher": str(teacher), "teacher_share": 1.0}
    trained(settings(folder, output=pupil, **length, **options, **learns))
    pair = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert load_weights(pupil)[0](*pair).mean() < -1.0
    assert read_card(pupil)["teacher"] == "teacher.safetensors"
    assert "teacher" not in json.loads(read_card(pupil)["settings"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"output": "image"}, "Only a network that selects"),
        ({"in_channels": 3}, "sees 3 channels, the network to train 1"),
    ],
)
def test_a_teacher_of_another_kind_is_refused(folder, tmp_path, changes, told):
    teacher = tmp_path / "teacher.safetensors"
    shape = SMALL.model_copy(update=changes)
    save_weights(teacher, CrossImageFusionNetwork.from_config(shape), {})
    with pytest.raises(IPSError, match=told):
        trained(settings(folder, teacher=str(teacher)))
    with pytest.raises(IPSError, match="give decision_loss some weight"):
        trained(settings(folder, teacher=str(teacher), decision_loss=0))
