"""State of a training run between two steps, and its checkpoint file."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from napari_ips.config import TrainConfig
from napari_ips.errors import IPSError
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.weights import load_weights, read_tensors, write_tensors

_FORMAT = "napari-ips checkpoint 1"
# Settings that may differ between a run and its resumption.
_FREE = {"iterations", "minutes", "device", "backend", "output", "checkpoint_interval"}


def checkpoint_path(output: Path) -> Path:
    """Return where the checkpoints of a run that writes ``output`` are kept."""
    return output.with_name(output.stem + ".checkpoint.safetensors")


def with_start(config: TrainConfig) -> TrainConfig:
    """Take over the network of the weights that a run starts from.

    Raises
    ------
    IPSError
        If the settings ask for another network than these weights have.
    """
    if config.start_from is None:
        return config
    network, _ = load_weights(config.start_from)
    if "network" in config.model_fields_set and config.network != network.config:
        raise IPSError(
            f"The weights {config.start_from} have another network than the settings (or "
            "the preset) ask for; leave the network out, or start from scratch."
        )
    return config.model_copy(update={"network": network.config})


@dataclass
class TrainingState:
    """Everything that the next step depends on.

    The batches are drawn from the seed and the iteration alone, so that no state of a
    random generator belongs to it.
    """

    network: CrossImageFusionNetwork
    averaged: CrossImageFusionNetwork
    optimiser: torch.optim.Adam
    iteration: int = 0
    seconds: float = 0.0

    @classmethod
    def begin(cls, config: TrainConfig, device: torch.device) -> Self:
        """Start from scratch, seeded, or from other weights."""
        if config.start_from is None:
            torch.manual_seed(config.seed)
            network = CrossImageFusionNetwork.from_config(config.network)
        else:
            network, _ = load_weights(config.start_from)
        network = network.to(device).train()
        network.set_scan_backend(config.backend)
        averaged = copy.deepcopy(network).requires_grad_(False).eval()
        optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        return cls(network, averaged, optimiser)

    def save(self, config: TrainConfig) -> Path:
        """Write the checkpoint; the former one stays until the new one is complete."""
        tensors: dict[str, Tensor] = {}
        for prefix, module in (("network", self.network), ("averaged", self.averaged)):
            tensors |= {f"{prefix}.{k}": v for k, v in module.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{k}": v for k, v in moments.items()}
        metadata = {
            "format": _FORMAT,
            "config": config.model_dump_json(),
            "iteration": str(self.iteration),
            "seconds": repr(self.seconds),
        }
        path = checkpoint_path(config.output)
        write_tensors(path, tensors, metadata)
        return path

    @classmethod
    def load(cls, config: TrainConfig, device: torch.device) -> Self:
        """Read the checkpoint of a run with these settings.

        Raises
        ------
        IPSError
            If there is none, it is damaged, or it belongs to other settings.
        """
        path = checkpoint_path(config.output)
        if not path.exists():
            raise IPSError(f"There is nothing to resume: {path} does not exist.")
        tensors, metadata = read_tensors(path)
        if metadata.get("format") != _FORMAT:
            raise IPSError(f"{path} is no checkpoint of napari-ips.")
        _check_same_settings(config, metadata["config"], path)
        state = cls.begin(config, device)
        state.network.load_state_dict(_part(tensors, "network."))
        state.averaged.load_state_dict(_part(tensors, "averaged."))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _part(tensors, "optimiser.").items():
            number, name = key.split(".", 1)
            moments.setdefault(int(number), {})[name] = tensor
        groups = state.optimiser.state_dict()["param_groups"]
        state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        state.iteration = int(metadata["iteration"])
        state.seconds = float(metadata["seconds"])
        return state


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _check_same_settings(config: TrainConfig, saved: str, path: Path) -> None:
    """Refuse to go on with other settings than the run was started with."""
    before, now = json.loads(saved), json.loads(config.model_dump_json())
    different = sorted(k for k in now if k not in _FREE and before.get(k) != now[k])
    if different:
        raise IPSError(
            f"{path} was made with other settings ({', '.join(different)}); "
            "resume with the same ones, or start anew with --overwrite."
        )
