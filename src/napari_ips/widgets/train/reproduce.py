"""A training as a command line that repeats it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import tomli_w

from napari_ips.config import TrainConfig
from napari_ips.errors import IPSError
from napari_ips.widgets.train.state import TrainState

# Settings with an option of their own on the command line; the others go by --set.
_OPTIONS = (
    "notes",
    "start_from",
    "z_stacks",
    "iterations",
    "minutes",
    "batch_size",
    "crop_size",
    "learning_rate",
    "seed",
    "device",
)


def as_command(state: TrainState) -> str:
    """Return the command line that trains the same.

    Raises
    ------
    IPSError
        If it is trained on layers, which no command could read.
    """
    if state.layers:
        raise IPSError(
            f"{state.layers[0].layer.name} is a layer: untick the layers and add their "
            "files instead, then there is a command line."
        )
    config = state.config(Path("weights.safetensors"), state.paths)
    parts = ["napari-ips", "train", *map(str, state.paths), "--name", state.title]
    if config.preset != "microscopy":
        parts += ["--preset", config.preset]
    for name, value in _changed(config).items():
        if name in _OPTIONS:
            parts += [f"--{name.replace('_', '-')}", str(value)]
        else:
            parts += ["--set", _assignment(name, value)]
    return shlex.join(parts)


def _changed(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that the preset would not give; those of the network dotted."""
    told = {"images": config.images, "output": config.output}
    length = {"iterations": config.iterations, "minutes": config.minutes}
    preset = TrainConfig.from_preset(config.preset, **told, **length)
    given = config.model_dump(mode="json", exclude={"images", "output", "preset"})
    usual = preset.model_dump(mode="json")
    # An option that is given by the preset but not wanted cannot be taken back.
    network, usual_network = given.pop("network"), usual.pop("network")
    changed = {name: value for name, value in given.items() if value != usual[name]}
    changed |= {name: value for name, value in length.items() if value is not None}
    if config.start_from is None:
        changed |= {
            f"network.{name}": value
            for name, value in network.items()
            if value != usual_network[name]
        }
    return changed


def _assignment(name: str, value: Any) -> str:
    """Write ``name=value`` with the value in TOML."""
    return f"{name}={tomli_w.dumps({'value': value}).partition('=')[2].strip()}"
