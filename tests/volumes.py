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
    """Save a network that is fast and, untrained, decides differently everywhere."""
    path = folder / _WEIGHTS
    torch.manual_seed(0)
    network = CrossImageFusionNetwork(
        width=4, local_blocks=1, mamba_blocks=1, in_channels=in_channels
    )
    save_weights(path, network, {})
    return path


def noise(*shape: int, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """Return an array in which no two windows are alike."""
    values = np.random.default_rng(seed).integers(0, 4000, shape)
    return (values % 256 if dtype == "uint8" else values).astype(dtype)


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
