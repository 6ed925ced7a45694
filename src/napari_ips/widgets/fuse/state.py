"""What the fuse widget was asked to do, and what of that cannot work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.files import work_folder
from napari_ips.widgets.stacks import (
    axes_of,
    level_zero,
    stack_of,
    stack_of_layers,
    z_candidates,
)

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_ips.io import LazyStack


MAPS = ("index", "depth", "confidence")


@dataclass(frozen=True)
class FuseState:
    """Everything that decides a fusion.

    Attributes
    ----------
    layer : Image or None
        The z-stack, which decides where it is sharp.
    z_axis : int or None
        Axis of its slices.
    slices : (int, int)
        First slice, and the one after the last.
    others : tuple of Image
        Layers of the same size that are fused by the same decision.
    reference : int or None
        Channel of the layer that decides for all of its channels; None: each for itself.
    config : FuseConfig
    output : Path or None
        OME-Zarr to write; None: the result is kept in memory.
    """

    layer: Image | None = None
    z_axis: int | None = None
    slices: tuple[int, int] = (0, 0)
    others: tuple[Image, ...] = ()
    reference: int | None = None
    config: FuseConfig = FuseConfig()
    output: Path | None = None

    @property
    def layers(self) -> tuple[Image, ...]:
        """All layers that are fused, the one that decides first."""
        return () if self.layer is None else (self.layer, *self.others)

    @property
    def reference_channel(self) -> int | None:
        """Channel of `stack` that decides for all; None: each for itself."""
        return 0 if self.others else self.reference

    def stack(self) -> LazyStack:
        """Return the z-stack; other layers are its other channels.

        Raises
        ------
        IPSError
            If a layer is no z-stack, or they do not fit together.
        """
        assert self.layer is not None and self.z_axis is not None, "see problems()"
        if self.others:
            return stack_of_layers(self.layers, self.z_axis)
        return stack_of(self.layer, self.z_axis)

    @property
    def maps(self) -> dict[str, Path]:
        """The maps that are written beside the output, by name; {} in memory."""
        if self.output is None:
            return {}
        from napari_ips.io.results import beside

        return {name: beside(self.output, name) for name in MAPS}

    def problems(self) -> dict[str, str]:
        """Return what cannot work, in plain words, by the name of the field."""
        if self.layer is None:
            return {
                "layer": "There is no z-stack: open one, or take one of File > Open "
                "Sample > IPS Focus Stacking."
            }
        found = {
            "layer": _layer_problem(self.layer),
            "z_axis": self._z_problem(),
            "slices": self._slices_problem(),
            "others": self._others_problem(),
            "output": self._output_problem(),
        }
        return {field: told for field, told in found.items() if told}

    def _z_problem(self) -> str:
        assert self.layer is not None
        if not z_candidates(self.layer):
            return "This is a single image; a z-stack has one axis more."
        if self.z_axis is None:
            return "Choose the axis along which the focus changes."
        try:
            axes_of(self.layer, self.z_axis)
        except IPSError as error:
            return str(error)
        if level_zero(self.layer).shape[self.z_axis] < 2:
            return "There is only one slice along this axis."
        return ""

    def _slices_problem(self) -> str:
        first, end = self.slices
        return "" if self._z_problem() or end - first > 1 else "Choose two or more slices."

    def _others_problem(self) -> str:
        assert self.layer is not None
        if not self.others or self._z_problem():
            return ""
        assert self.z_axis is not None
        if "C" in axes_of(self.layer, self.z_axis):
            return f"{self.layer.name} has channels of its own; take no other layers."
        return ""

    def _output_problem(self) -> str:
        if self.output is None:
            return ""
        if not self.output.name:
            return "Name the folder of the result."
        if not self.output.name.endswith(".zarr"):
            return "End the name of the folder in .ome.zarr."
        if not self.output.parent.is_dir():
            return f"There is no folder {self.output.parent}."
        if not os.access(self.output.parent, os.W_OK):
            return f"The folder {self.output.parent} cannot be written to."
        for path in (self.output, *self.maps.values()):
            if os.path.lexists(path):
                return f"{path.name} exists already; choose another name."
        if work_folder(self.output).exists():
            return "A stopped run of this name is there; choose another name."
        return ""


def _layer_problem(layer: Image) -> str:
    kind = np.dtype(level_zero(layer).dtype)
    if kind.kind not in "iuf":
        return f"Its values are {kind}; integers or floats can be fused."
    return ""
