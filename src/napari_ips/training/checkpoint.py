"""State of a training run between two steps, and its checkpoint file."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from napari_ips.config import NetworkConfig, TrainConfig
from napari_ips.errors import IPSError
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.weights import load_weights, read_tensors, write_tensors

_FORMAT = "napari-ips checkpoint 2"
# Settings that may differ between a run and its resumption.
_FREE = {
    "iterations", "minutes", "device", "backend", "output", "checkpoint_seconds", "notes",
}  # fmt: skip
# Of the learning rate, once the loss was not finite.
_SLOWER = 0.3

Tensors = dict[str, Tensor]


class Figures(NamedTuple):
    """PSNR (dB) and SSIM on the held-out crops."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Kept:
    """A copy of tensors of the run, and what was measured with them."""

    iteration: int
    figures: Figures
    tensors: Tensors


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

    Attributes
    ----------
    config : TrainConfig
        As it was given: what another one is compared with when the run is resumed.
    network, averaged : CrossImageFusionNetwork
        The network that is trained, and the average of its weights.
    optimiser : torch.optim.Adam
    teacher : CrossImageFusionNetwork or None
        The network whose decisions are learnt as well.
    iteration : int
        Steps done.
    seconds : float
        What they took.
    noise : float or None
        The largest noise that is added, once it is measured.
    slowed : bool
        Whether the run was rolled back, and its learning rate lowered.
    before : Figures or None
        Of the weights that the run started from.
    good : Kept or None
        Everything as it was last measured, to which the run can be rolled back.
    best : Kept or None
        The averaged weights with the highest PSNR so far.
    """

    config: TrainConfig
    network: CrossImageFusionNetwork
    averaged: CrossImageFusionNetwork
    optimiser: torch.optim.Adam
    teacher: CrossImageFusionNetwork | None
    iteration: int = 0
    seconds: float = 0.0
    noise: float | None = None
    slowed: bool = False
    before: Figures | None = None
    good: Kept | None = None
    best: Kept | None = None

    @classmethod
    def begin(cls, config: TrainConfig, device: torch.device) -> Self:
        """Start from scratch, seeded, or from other weights."""
        if config.start_from is None:
            # What others draw at random in this process stays as it would have been.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                network = CrossImageFusionNetwork.from_config(config.network)
        else:
            network, _ = load_weights(config.start_from)
        return cls._of(network, config, device)

    @classmethod
    def _of(
        cls, network: CrossImageFusionNetwork, config: TrainConfig, device: torch.device
    ) -> Self:
        network = network.to(device).train()
        network.set_scan_backend(config.backend)
        averaged = copy.deepcopy(network).requires_grad_(False).eval()
        optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        return cls(config, network, averaged, optimiser, _teacher(config, device))

    @property
    def rate(self) -> float:
        """Learning rate at the start of the run, lowered if it was rolled back."""
        return self.config.learning_rate * (_SLOWER if self.slowed else 1.0)

    @property
    def is_measured(self) -> bool:
        """Whether the weights were measured as they are now."""
        return self.good is not None and self.good.iteration == self.iteration

    def keep(self, figures: Figures) -> None:
        """Remember what was measured, the state, and the weights if they are the best.

        Untrained weights are never the best, whatever they reach.
        """
        self.before = self.before or figures
        self.good = Kept(self.iteration, figures, _copied(self._tensors()))
        counts = self.iteration > 0 or self.config.start_from is not None
        if counts and (self.best is None or figures.psnr > self.best.figures.psnr):
            weights = _copied(self.averaged.state_dict())
            self.best = Kept(self.iteration, figures, weights)

    def roll_back(self) -> bool:
        """Go back to the last good state, at a lower learning rate; only once.

        The time that was spent stays spent.

        Returns
        -------
        bool
            False, and nothing done, if the run was rolled back before.
        """
        if self.slowed or self.good is None:
            return False
        self.slowed = True
        self._restore(self.good.tensors)
        self.iteration = self.good.iteration
        return True

    def save(self) -> Path:
        """Write the checkpoint; the former one stays until the new one is complete."""
        tensors = self._tensors()
        metadata = {
            "format": _FORMAT,
            "config": self.config.model_dump_json(),
            "iteration": str(self.iteration),
            "seconds": repr(self.seconds),
            "noise": json.dumps(self.noise),
            "slowed": json.dumps(self.slowed),
            "before": json.dumps(self.before),
        }
        for name, kept in (("good", self.good), ("best", self.best)):
            if kept is not None:
                tensors |= {f"{name}.{key}": value for key, value in kept.tensors.items()}
                metadata[name] = json.dumps([kept.iteration, *kept.figures])
        path = checkpoint_path(self.config.output)
        write_tensors(path, tensors, metadata)
        return path

    @classmethod
    def load(cls, config: TrainConfig, device: torch.device) -> Self:
        """Read the checkpoint of a run with these settings.

        The weights that the run started from need not be there any more, but those of
        its teacher.

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
            raise IPSError(
                f"{path} is no checkpoint of this version of napari-ips; start anew with "
                "--overwrite."
            )
        saved = json.loads(metadata["config"])
        if config.start_from is not None and "network" not in config.model_fields_set:
            network = NetworkConfig.model_validate(saved["network"])
            config = config.model_copy(update={"network": network})
        _check_same_settings(config, saved, path)
        with torch.random.fork_rng(devices=[]):
            untrained = CrossImageFusionNetwork.from_config(config.network)
        state = cls._of(untrained, config, device)
        state._restore(tensors)
        state.iteration = int(metadata["iteration"])
        state.seconds = float(metadata["seconds"])
        state.noise = json.loads(metadata["noise"])
        state.slowed = json.loads(metadata["slowed"])
        before = json.loads(metadata["before"])
        state.before = Figures(*before) if before else None
        state.good = _kept("good", tensors, metadata)
        state.best = _kept("best", tensors, metadata)
        return state

    def _tensors(self) -> Tensors:
        """Name all tensors of the networks and the optimiser."""
        tensors: Tensors = {}
        for prefix, module in (("network", self.network), ("averaged", self.averaged)):
            tensors |= {f"{prefix}.{k}": v for k, v in module.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{k}": v for k, v in moments.items()}
        return tensors

    def _restore(self, tensors: Tensors) -> None:
        """Take over copies of what `_tensors` named."""
        self.network.load_state_dict(_part(tensors, "network."))
        self.averaged.load_state_dict(_part(tensors, "averaged."))
        moments: dict[int, dict[str, Tensor]] = {}
        # The optimiser would go on with the very tensors that it is given.
        for key, tensor in _copied(_part(tensors, "optimiser.")).items():
            number, name = key.split(".", 1)
            moments.setdefault(int(number), {})[name] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _teacher(config: TrainConfig, device: torch.device) -> CrossImageFusionNetwork | None:
    """Load the network to learn from, if there is one."""
    if config.teacher is None:
        return None
    if config.decision_loss == 0.0:
        raise IPSError("A teacher teaches decisions; give decision_loss some weight.")
    teacher, _ = load_weights(config.teacher)
    shapes = config.network, teacher.config
    if any(shape.output != "selection" for shape in shapes):
        raise IPSError("Only a network that selects can learn from another one that does.")
    if teacher.config.in_channels != config.network.in_channels:
        raise IPSError(
            f"The teacher {config.teacher} sees {teacher.config.in_channels} channels, the "
            f"network to train {config.network.in_channels}; choose another teacher."
        )
    teacher.set_scan_backend(config.backend)
    return teacher.to(device)


def _copied(tensors: dict[str, Any]) -> Tensors:
    return {key: tensor.detach().clone() for key, tensor in tensors.items()}


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _kept(name: str, tensors: Tensors, metadata: dict[str, str]) -> Kept | None:
    if name not in metadata:
        return None
    iteration, psnr, ssim = json.loads(metadata[name])
    return Kept(iteration, Figures(psnr, ssim), _part(tensors, f"{name}."))


def _check_same_settings(config: TrainConfig, before: dict[str, Any], path: Path) -> None:
    """Refuse to go on with other settings than the run was started with."""
    now = json.loads(config.model_dump_json())
    # What a former version did not know was as it is by default.
    before = {k: f.default for k, f in TrainConfig.model_fields.items()} | before
    different = sorted(k for k in now if k not in _FREE and before[k] != now[k])
    if different:
        raise IPSError(
            f"{path} was made with other settings ({', '.join(different)}); "
            "resume with the same ones, or start anew with --overwrite."
        )
