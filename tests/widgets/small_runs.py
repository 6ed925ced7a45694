"""What the tests of the training dock share: small runs in a folder of their own."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from skimage import data

from napari_ips import NetworkConfig, TrainConfig

SMALL = NetworkConfig(width=4, local_blocks=1, mamba_blocks=1, d_state=4)


def settings(**changed: Any) -> TrainConfig:
    """Return the settings of a run of moments, which needs images and an output yet."""
    values = {
        "images": (),
        "output": Path("weights.safetensors"),
        "network": SMALL,
        "iterations": 6,
        "batch_size": 1,
        "crop_size": 32,
        "validation_crops": 2,
        "validation_interval": 2,
        "checkpoint_seconds": 0.0,
        "device": "cpu",
    }
    return TrainConfig(**(values | changed))


@dataclass
class Sources:
    """In the place of what the form says: sharp images, and settings."""

    title: str = "cells 20x"
    changed: dict[str, Any] = field(default_factory=dict)

    def prepare(self, run: Any, stop: threading.Event, callback: Any) -> TrainConfig:
        write_images(run.images)
        return settings(images=(run.images,), output=run.output, **self.changed)


def write_images(folder: Path) -> None:
    for name in ("camera", "coins"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
