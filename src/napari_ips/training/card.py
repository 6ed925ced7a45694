"""The card of trained weights: what they are, for people and programs to read."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from napari_ips.config import TrainConfig
from napari_ips.events import Reason
from napari_ips.training.checkpoint import Figures, Kept, TrainingState
from napari_ips.training.images import ImagePool

# Told elsewhere in the card, or of no use to who gets the weights.
_TOLD_APART = {"images", "output", "network", "start_from", "teacher", "notes"}


def told_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as a card tells them."""
    return config.model_dump(mode="json", exclude=_TOLD_APART)


def make_card(
    config: TrainConfig,
    state: TrainingState,
    pool: ImagePool,
    best: Kept,
    reason: Reason,
    device: torch.device,
) -> dict[str, str]:
    """Say what the best weights of a run are, in strings; structured values as JSON.

    Of files and folders only the last part of their paths is told.
    """
    training_set = {
        "images": len(pool.images),
        "pixels": sum(image.pixels for image in pool.images),
        "dtypes": dict(Counter(f"{image.data.dtype}" for image in pool.images)),
        "left_out": len(pool.rejected),
    }
    card = {
        "preset": config.preset,
        "notes": config.notes,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "start_from": Path(config.start_from).name if config.start_from else "",
        "teacher": Path(config.teacher).name if config.teacher else "",
        "iterations": str(best.iteration),
        "training_minutes": f"{state.seconds / 60.0:.1f}",
        "reason": reason,
        "device": _name(device),
        "noise": f"{config.noise}",
        "sources": json.dumps([path.absolute().name for path in config.images]),
        "training_set": json.dumps(training_set),
        "validation": _rounded(best.figures),
        "validation_before": _rounded(state.before) if state.before else "",
        "settings": json.dumps(told_settings(config)),
        "licence": "BSD-3-Clause",
    }
    return {key: text for key, text in card.items() if text}


def _rounded(figures: Figures) -> str:
    return json.dumps({"psnr": round(figures.psnr, 3), "ssim": round(figures.ssim, 5)})


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
