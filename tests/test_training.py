"""Training: images, pairs, the loop, and runs that are broken off."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data

from napari_ips import IPSError, NetworkConfig, TrainConfig
from napari_ips.events import (
    CheckpointSaved,
    ImagesFound,
    LossPoint,
    TrainingFinished,
    ValidationPoint,
)
from napari_ips.training import loop, train
from napari_ips.weights import load_weights, read_tensors

SMALL = NetworkConfig(width=4, local_blocks=1, mamba_blocks=1, d_state=4)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Sharp images in the formats that labs have."""
    images = tmp_path / "images"
    (images / "deeper").mkdir(parents=True)
    camera, coins = data.camera(), data.coins()
    Image.fromarray(camera).save(images / "camera.png")
    Image.fromarray(coins).save(images / "coins.jpg", quality=95)
    tifffile.imwrite(images / "pages.tif", np.stack([coins, coins[::-1]]) * np.uint16(200))
    tifffile.imwrite(images / "deeper" / "float.tif", camera.astype(np.float32) / 3 - 9)
    Image.fromarray(data.astronaut()).save(images / "colour.png")
    return images


def settings(folder: Path, **values) -> TrainConfig:
    defaults = {
        "images": (folder,),
        "output": folder.parent / "w.safetensors",
        "network": SMALL,
        "iterations": 6,
        "batch_size": 2,
        "crop_size": 32,
        "validation_crops": 2,
        "validation_interval": 3,
        "checkpoint_interval": 2,
        "device": "cpu",
    }
    return TrainConfig.from_preset(
        values.pop("preset", "microscopy"), **(defaults | values)
    )


def test_the_paper_preset_is_section_3_c(folder):
    config = settings(folder, preset="paper")
    assert (config.batch_size, config.learning_rate) == (2, 1e-4)
    plain = TrainConfig.from_preset("paper", images=(folder,), output="w.safetensors")
    assert (plain.batch_size, plain.iterations) == (1, 1_000_000)
    assert (plain.low_pass, plain.kernel_range) == (("mean",), (3, 31))
    assert (plain.mask_ratio, plain.coherent, plain.noise) == (0.5, 0.0, 0.0)
    assert (plain.network.output, plain.network.global_stride) == ("image", 1)
    rates = [loop.learning_rate(plain, f) for f in (0.0, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 0.0])


@pytest.mark.parametrize("preset", ["paper", "microscopy"])
def test_a_run_reports_events_and_writes_weights(folder, preset):
    config = settings(folder, preset=preset)
    events = list(train(config))
    assert [type(e) for e in events] == [
        ImagesFound, LossPoint, LossPoint, CheckpointSaved, LossPoint, ValidationPoint,
        LossPoint, CheckpointSaved, LossPoint, LossPoint, ValidationPoint, CheckpointSaved,
        TrainingFinished,
    ]  # fmt: skip
    _, card = load_weights(config.output)
    assert card["preset"] == preset
    assert card["iterations"] == "6"
    leftovers = sorted(p.name for p in folder.parent.iterdir())
    assert leftovers == ["images", "w.safetensors"]


def test_a_network_learns_to_choose(folder):
    """Trained for seconds, it already tells focus far better than an untrained one."""
    easy = {"kernel_range": (9, 31), "both_defocused": 0.0, "noise": 0.0}
    shape = NetworkConfig(width=8, local_blocks=2, mamba_blocks=1, d_state=4, unshuffle=1)
    config = settings(
        folder, network=shape, batch_size=4, crop_size=48, iterations=90, ema_decay=0.9,
        learning_rate=3e-3, intensity_jitter=False, validation_crops=8,
        validation_interval=90, **easy,
    )  # fmt: skip
    untrained = config.model_copy(update={"iterations": 1, "learning_rate": 1e-9})
    before = list(train(untrained))[-1].psnr
    after = list(train(config, overwrite=True))[-1].psnr
    assert after > before + 3.0


def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(folder, tmp_path):
    whole = settings(folder, iterations=8, output=tmp_path / "whole.safetensors")
    parts = settings(folder, iterations=8, output=tmp_path / "parts.safetensors")
    list(train(whole))
    for event in (run := train(parts)):
        if isinstance(event, CheckpointSaved) and event.iteration == 4:
            break
    run.close()
    resumed = [e for e in train(parts, resume=True) if isinstance(e, LossPoint)]
    assert [p.iteration for p in resumed] == [5, 6, 7, 8]
    expected, _ = read_tensors(whole.output)
    got, _ = read_tensors(parts.output)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_a_killed_run_is_resumed_from_its_last_checkpoint(folder, tmp_path):
    config = settings(folder, iterations=100_000, checkpoint_interval=3)
    config.to_toml(tmp_path / "run.toml")
    code = (
        "from napari_ips import TrainConfig, train\n"
        f"for _ in train(TrainConfig.from_toml({str(tmp_path / 'run.toml')!r})): pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    checkpoint = tmp_path / "w.checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, metadata = read_tensors(checkpoint)
    reached = int(metadata["iteration"])
    assert reached >= 3
    ended = settings(folder, iterations=reached + 2, checkpoint_interval=3)
    points = [e for e in train(ended, resume=True) if isinstance(e, LossPoint)]
    assert [p.iteration for p in points] == [reached + 1, reached + 2]


def test_existing_outputs_and_unfinished_runs_are_not_overwritten(folder):
    config = settings(folder, iterations=2)
    run = train(config)
    for event in run:
        if isinstance(event, CheckpointSaved):
            break
    run.close()
    with pytest.raises(IPSError, match="unfinished run"):
        next(train(config))
    other = settings(folder, iterations=2, learning_rate=1e-5)
    with pytest.raises(IPSError, match=r"other settings \(learning_rate\)"):
        list(train(other, resume=True))
    list(train(config, resume=True))
    with pytest.raises(IPSError, match="exists"):
        next(train(config))
    list(train(config, overwrite=True))


def test_resuming_nothing_is_an_error(folder):
    with pytest.raises(IPSError, match="nothing to resume"):
        list(train(settings(folder), resume=True))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(folder, monkeypatch):
    config = settings(folder, iterations=50)
    true_loss = loop.fusion_loss

    def broken(network, batch, config):
        loss = true_loss(network, batch, config)
        return loss * float("nan") if calls.append(0) or len(calls) == 5 else loss

    calls: list[int] = []
    monkeypatch.setattr(loop, "fusion_loss", broken)
    with pytest.raises(IPSError, match=r"no longer finite after 4 iterations.*kept in"):
        list(train(config))
    tensors, metadata = read_tensors(folder.parent / "w.checkpoint.safetensors")
    assert metadata["iteration"] == "4"
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before(folder, monkeypatch):
    config = settings(folder)
    run = train(config)
    for event in run:
        if isinstance(event, CheckpointSaved):
            break

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(IPSError, match="disk is full"):
        list(run)
    _, metadata = read_tensors(folder.parent / "w.checkpoint.safetensors")
    assert metadata["iteration"] == "2"


def test_fine_tuning_starts_from_other_weights(folder, tmp_path):
    list(train(settings(folder, iterations=1)))
    start, _ = read_tensors(folder.parent / "w.safetensors")
    tuned = settings(
        folder, iterations=1, start_from=str(folder.parent / "w.safetensors"),
        output=tmp_path / "tuned.safetensors", learning_rate=1e-12, ema_decay=0.0,
    )  # fmt: skip
    list(train(tuned))
    tensors, _ = read_tensors(tuned.output)
    for name, tensor in start.items():
        torch.testing.assert_close(tensors[name], tensor, atol=1e-9, rtol=0)


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


def test_overwriting_forgets_the_unfinished_run_before(folder):
    config = settings(folder)
    run = train(config)
    for event in run:
        if isinstance(event, CheckpointSaved):
            break
    run.close()
    fresh = train(config, overwrite=True)
    for event in fresh:
        if isinstance(event, LossPoint):
            break
    fresh.close()
    with pytest.raises(IPSError, match="nothing to resume"):
        list(train(config, resume=True))


def test_kernels_that_are_all_large_are_possible(folder):
    list(train(settings(folder, kernel_range=(9, 31), both_defocused=1.0)))


def test_starting_from_weights_of_another_network_is_refused(folder, tmp_path):
    list(train(settings(folder, iterations=1)))
    other = settings(
        folder, network=NetworkConfig(width=9), output=tmp_path / "x.safetensors",
        start_from=str(folder.parent / "w.safetensors"),
    )  # fmt: skip
    with pytest.raises(IPSError, match="another network"):
        next(train(other))
