"""What the tests of `fuse_to_file` share: tiny weights, stacks, and trees of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_ips import FuseConfig
from napari_ips.fusion import fuse_to_file
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.weights import save_weights

_WEIGHTS = "tiny.safetensors"


def tiny_weights(folder: Path, in_channels: int = 1) -> Path:
    """Save a network that is fast and, though untrained, decides for both sides."""
    path = folder / _WEIGHTS
    torch.manual_seed(13)
    network = CrossImageFusionNetwork(
        width=4, local_blocks=1, mamba_blocks=1, in_channels=in_channels
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()  # closer to zero, so that no side has the upper hand
    shape = (2, 1, in_channels, 128, 128)
    sources = torch.from_numpy(noise(*shape).astype(np.float32) / 250)
    last = network.reconstruction[-1]
    with torch.no_grad():
        usual = network(*sources)
        weight = (sources[0] - sources[1]).square().mean(1, keepdim=True)
        last.bias -= (usual * weight).sum() / weight.sum()
        for parameter in (last.weight, last.bias):
            parameter *= 5 / usual.std()
    save_weights(path, network, {})
    return path


def noise(*shape: int, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """Return noise (..., Y, X[, 3]) that is stronger here and weaker there."""
    rng = np.random.default_rng(seed)
    colours = shape[-1:] if shape[-1] == 3 else ()
    *leading, height, width = shape[: len(shape) - len(colours)]
    strength = rng.random((*leading, -(-height // 40), -(-width // 40)))
    strength = strength.repeat(40, axis=-2).repeat(40, axis=-1)[..., :height, :width]
    strength = strength.reshape(*strength.shape, *(1 for _ in colours))
    return (rng.random(shape) * strength * 250).astype(dtype)


def config(weights: Path, **values: Any) -> FuseConfig:
    return FuseConfig(**{"weights": str(weights), "device": "cpu", "tile": 256} | values)


def fuse(source: Any, output: Path, weights: Path, **options: Any) -> list[dict[str, Path]]:
    """Fuse with tiny weights and small tiles."""
    settings = options.pop("settings", {})
    return fuse_to_file(source, output, config=config(weights, **settings), **options)


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
