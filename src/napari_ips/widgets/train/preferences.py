"""What the training widget remembers from one session to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.settings import get_plugin_settings

from napari_ips.config import PRESETS, TrainConfig
from napari_ips.errors import IPSError
from napari_ips.widgets.train.state import preset_values

_PLUGIN = "napari-ips"
# Of the settings of a training, those that stay from one run to the next.
_KEPT = ("preset", "z_stacks", "batch_size", "crop_size", "device", "precision")
_SCRATCH = "from scratch"


def remembered() -> TrainConfig:
    """Return the settings of the last run; the defaults where they fit no more.

    They are of no images and no output.
    """
    kept = _preferences()
    preset = kept.preset if kept.preset in PRESETS else "microscopy"
    start = None if kept.start_from == _SCRATCH else kept.start_from
    values = preset_values(preset, start is not None) | {"start_from": start}
    if start is not None:
        del values["network"]
    nowhere: dict[str, Any] = {"images": (), "output": Path("weights.safetensors")}
    try:
        return TrainConfig.checked(
            **nowhere
            | values
            | {name: getattr(kept, name) for name in _KEPT}
            | {kept.unit: int(kept.length) if kept.unit == "iterations" else kept.length}
        )
    except IPSError:
        default = preset_values("microscopy", True) | {"start_from": "default"}
        del default["network"]
        return TrainConfig(**nowhere, **default, minutes=10)


def remember(config: TrainConfig) -> None:
    """Keep the settings; napari writes them down at once."""
    kept = _preferences()
    unit = "minutes" if config.minutes is not None else "iterations"
    values = {name: getattr(config, name) for name in _KEPT}
    values |= {"start_from": config.start_from or _SCRATCH, "unit": unit}
    values["length"] = float(getattr(config, unit))
    for name, value in values.items():
        if getattr(kept, name) != value:
            setattr(kept, name, value)


def _preferences() -> Any:
    return get_plugin_settings(_PLUGIN).training
