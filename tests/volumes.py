"""What the tests of `fuse_to_file` share: tiny weights, stacks, and trees of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_ips import FuseConfig
from napari_ips.fusion import fuse_to_file
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.weights import save_weights

_WEIGHTS = "tiny.safetensors"


def tiny_weights(folder: Path, in_channels: int = 1) -> Path:
    """Save a network that is fast and, though untrained, decides for both sides."""
    path = folder / _WEIGHTS
    torch.manual_seed(0)
    network = CrossImageFusionNetwork(
        width=4, local_blocks=1, mamba_blocks=1, in_channels=in_channels
    )
    last = network.reconstruction[-1]
    with torch.no_grad():
        usual = network(*torch.rand(2, 1, in_channels, 64, 64))
        last.bias -= usual.mean()
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
