"""What the tests of training share: small runs, and how they are disturbed."""

from __future__ import annotations

import errno
from pathlib import Path

import torch
from PIL import Image
from skimage import data

from napari_ips import NetworkConfig, TrainConfig
from napari_ips.events import LossPoint, ValidationPoint
from napari_ips.training import step, train
from napari_ips.weights import read_tensors

SMALL = NetworkConfig(width=4, local_blocks=1, mamba_blocks=1, d_state=4)


def put_images(folder: Path) -> Path:
    """Write three sharp images."""
    folder.mkdir()
    shown = {"camera": data.camera(), "coins": data.coins(), "brick": data.brick()}
    for name, image in shown.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def settings(folder: Path, **values) -> TrainConfig:
    """Return those of a run of six small steps; a checkpoint after each."""
    defaults = {
        "images": (folder,),
        "output": folder.parent / "w.safetensors",
        "network": SMALL,
        "iterations": 6,
        "batch_size": 2,
        "crop_size": 32,
        "validation_crops": 2,
        "validation_interval": 3,
        "checkpoint_seconds": 0,
        "device": "cpu",
        # What "auto" takes depends on the processor.
        "precision": "float32",
    }
    return TrainConfig.from_preset(
        values.pop("preset", "microscopy"), **(defaults | values)
    )


def run_until(run, wanted: type, iteration: int = 0) -> list:
    """Take the events of a run up to one of a kind, and close it there."""
    events = []
    for event in run:
        events.append(event)
        if isinstance(event, wanted) and getattr(event, "iteration", 0) >= iteration:
            break
    run.close()
    return events


def steps(events) -> list[int]:
    return [event.iteration for event in events if isinstance(event, LossPoint)]


def measured(events) -> dict[int, float]:
    return {e.iteration: e.psnr for e in events if isinstance(e, ValidationPoint)}


def equal_weights(one: Path, other: Path) -> bool:
    first, second = read_tensors(one)[0], read_tensors(other)[0]
    return first.keys() == second.keys() and all(
        torch.equal(second[name], tensor) for name, tensor in first.items()
    )


def break_loss(monkeypatch, *calls: int) -> None:
    """Make the loss of these calls, counted from 1, not a number."""
    true_loss, count = step.fusion_loss, iter(range(1, 10**6))

    def broken(network, batch, config):
        loss = true_loss(network, batch, config)
        return loss * float("nan") if next(count) in calls else loss

    monkeypatch.setattr(step, "fusion_loss", broken)


def fill_disk(monkeypatch) -> None:
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)


def trained(config: TrainConfig, **options) -> list:
    return list(train(config, **options))
