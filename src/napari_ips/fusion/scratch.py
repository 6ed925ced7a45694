"""What is needed on disk while a z-stack is fused: settings, coarse scales, evidence."""

from __future__ import annotations

import dataclasses
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_ips.config import FuseConfig
from napari_ips.files import plainly_written, written_whole
from napari_ips.fusion.scales import Evidence
from napari_ips.fusion.settings import FusionSettings
from napari_ips.fusion.tiles import CORE, Area, Core, Shape, scaled
from napari_ips.fusion.window import evidence_area
from napari_ips.intensity import IntensityRange


class LevelOnDisk:
    """A coarse level of a stack, in a zarr array; see `CoarseLevel`."""

    def __init__(self, folder: Path, scale: int) -> None:
        import zarr

        self.scale = scale
        self._folder = folder
        self._array: Any = zarr.open_array(folder / "level", mode="r+")

    @staticmethod
    def create(folder: Path, slices: int, shape: Shape, scale: int) -> LevelOnDisk:
        """Make the array; each tile fills chunks of its own."""
        import zarr

        with plainly_written(folder):
            zarr.create_array(
                folder / "level",
                shape=(slices, *scaled(shape, scale)),
                chunks=(slices, CORE // 2, CORE // 2),
                dtype="float32",
                overwrite=True,
            )
        return LevelOnDisk(folder, scale)

    def read(self, area: Area) -> Tensor:
        """Read (n, h, w) of normalised intensities."""
        return torch.from_numpy(np.asarray(self._array[:, *area]))

    def write(self, area: Area, values: Tensor) -> None:
        """Put in the part of one tile."""
        with plainly_written(self._folder):
            self._array[:, *area] = values.numpy()


class EvidenceOnDisk:
    """Evidence in a file for each core; see `EvidenceStore`."""

    def __init__(self, folder: Path, shape: Shape, device: torch.device) -> None:
        self._folder = folder
        self._shape = shape
        self._device = device

    def get(self, core: Core) -> Evidence | None:
        """Return what was kept for a core."""
        path = self._path(core)
        if not path.exists():
            return None
        sums = torch.from_numpy(np.load(path)).to(self._device)
        return Evidence(sums, evidence_area(core, self._shape))

    def put(self, core: Core, evidence: Evidence) -> None:
        """Keep the evidence of a core."""
        # Written by NumPy itself, a full disk would be some error without a name.
        buffer = BytesIO()
        np.save(buffer, evidence.sums.cpu().numpy())
        with written_whole(self._path(core)) as path:
            path.write_bytes(buffer.getbuffer())

    def _path(self, core: Core) -> Path:
        return self._folder / f"evidence-{core.key}.npy"


def save_settings(folder: Path, settings: FusionSettings) -> None:
    """Write what was measured of a stack."""
    told = dataclasses.asdict(settings)
    del told["config"]
    with written_whole(folder / "settings.json") as path:
        path.write_text(json.dumps(told))


def load_settings(folder: Path, config: FuseConfig) -> FusionSettings | None:
    """Read what was measured of a stack; None if it was not measured yet."""
    path = folder / "settings.json"
    if not path.exists():
        return None
    told = json.loads(path.read_text())
    told["intensities"] = IntensityRange(**told["intensities"])
    told["shape"] = tuple(told["shape"])
    told["scales"] = tuple(told["scales"])
    return FusionSettings(config=config, **told)
