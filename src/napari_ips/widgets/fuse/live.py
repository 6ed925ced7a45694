"""Layers of a fusion that is under way, and what becomes of them when it is done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_ips.events import TileDone
from napari_ips.widgets.fuse.state import FuseState
from napari_ips.widgets.results import KEY
from napari_ips.widgets.stacks import flat_axes, flat_placement, from_planes

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ips.fusion import FusedArrays

# Pixels that are shown of an image, and of all time points and channels, while it is
# fused: so many are sent to the screen again and again without a hitch.
_OF_IMAGE = 2048 * 2048
_OF_ALL = 2**26


class Pictures:
    """What is shown of results that are not ready: the arrays, thinned if they are large.

    Written by the thread that works, read by the window; a picture that is torn for a
    moment does no harm.
    """

    def __init__(self) -> None:
        self.step = 1
        self.shown: dict[str, NDArray[Any]] = {}
        self._arrays: Mapping[str, Any] = {}

    def begin(self, arrays: Mapping[str, Any]) -> None:
        """Take the arrays in which results come to be, (T, C, Y, X[, colours])."""
        self._arrays = arrays
        times, channels, height, width = arrays["fused"].shape[:4]
        too_many = max(
            height * width / _OF_IMAGE, times * channels * height * width / _OF_ALL
        )
        self.step = max(1, math.ceil(math.sqrt(too_many)))
        if self.step == 1 and all(isinstance(a, np.ndarray) for a in arrays.values()):
            self.shown = dict(arrays)
            return
        self.shown = {
            name: np.zeros(
                (*a.shape[:2], *(-(-n // self.step) for n in a.shape[2:4]), *a.shape[4:]),
                a.dtype,
            )
            for name, a in arrays.items()
        }

    def take(self, tile: TileDone) -> None:
        """Show a tile that got ready."""
        if self.shown.get("fused") is self._arrays["fused"]:
            return
        decides_all = self._arrays["index"].shape[1] == 1
        channels = range(self._arrays["fused"].shape[1]) if decides_all else (tile.c,)
        for c in channels:
            self._copy(tile.t, c, tile.y, tile.x)

    def _copy(self, t: int, c: int, y: slice, x: slice) -> None:
        rows, columns = (-(-part.start // self.step) for part in (y, x))
        for name, array in self._arrays.items():
            if c >= array.shape[1]:
                continue
            part = np.asarray(array[t, c, y, x])
            first = [-start % self.step for start in (y.start, x.start)]
            part = part[first[0] :: self.step, first[1] :: self.step]
            into = self.shown[name][t, c]
            into[rows : rows + part.shape[0], columns : columns + part.shape[1]] = part


class ResultLayers:
    """The layers of one run in a viewer.

    Parameters
    ----------
    viewer : ViewerModel
    state : FuseState
        Of the run.
    """

    def __init__(self, viewer: ViewerModel, state: FuseState) -> None:
        assert state.layer is not None and state.z_axis is not None
        self._viewer = viewer
        self._state = state
        self._source, self._z_axis = state.layer, state.z_axis
        self._axes = flat_axes(state.layer, state.z_axis)
        self._facts = _facts(state)
        self.layers: dict[tuple[str, int], Image] = {}
        self._pictures = Pictures()
        self._to_add: list[tuple[str, int]] = []
        self._to_finish: list[tuple[str, int]] = []
        self._hidden: list[Image] = []

    @property
    def fused(self) -> Image | None:
        """The fused image of the layer that decided, if it is still in the viewer."""
        layer = self.layers.get(("fused", 0))
        return layer if layer in self._viewer.layers else None

    def begin(self, pictures: Pictures) -> None:
        """Show the fused image in front of all other layers, and hide what is fused.

        The other layers come by `add_next`: napari takes a tenth of a second for each.
        """
        self._pictures = pictures
        self._to_add = [
            (name, number)
            for name in pictures.shown
            for number in range(len(self._sources(name)))
        ]
        self._to_finish = self._to_add[::-1]
        # Whoever works on another layer, such as labels, is left in peace.
        active = self._viewer.layers.selection.active
        self.add_next()
        if active is not None and active not in self._state.layers:
            self._viewer.layers.selection.active = active
        self._hidden = [source for source in self._state.layers if source.visible]
        for source in self._hidden:
            source.visible = False

    def add_next(self) -> bool:
        """Add the next layer, behind those that are there; False if there is none."""
        if not self._to_add:
            return False
        name, number = self._to_add.pop(0)
        active = self._viewer.layers.selection.active
        data = self._in_axes(self._pictures.shown[name], number, name)
        layer = self._made(name, number, [data], self._pictures.step)
        self._viewer.layers.insert(self._place(), layer)
        if self.layers:
            self._viewer.layers.selection.active = active
        self.layers[name, number] = layer
        return True

    def _place(self) -> int:
        """Return where the next layer goes: behind its run, or in front of all images."""
        layers = self._viewer.layers
        if present := self._present():
            return int(min(layers.index(layer) for layer in present))
        images = [n for n, layer in enumerate(layers) if isinstance(layer, Image)]
        return max(images, default=-1) + 1

    def refresh(self) -> None:
        """Show what has become of the tiles since."""
        for layer in self._present():
            if layer.visible:
                layer.refresh(thumbnail=False, extent=False, highlight=False)

    def finish_next(self, outcome: FusedArrays | dict[str, Path]) -> bool:
        """Show a result itself, in full resolution; False if all are shown so."""
        if not self._to_finish:
            return False
        name, number = self._to_finish.pop()
        layer = self.layers[name, number]
        if layer not in self._viewer.layers:
            return True
        if isinstance(outcome, dict):
            self.layers[name, number] = self._opened(layer, name, number, outcome[name])
            return True
        data = self._in_axes(getattr(outcome, name), number, name)
        if data.shape != layer.data.shape:
            placed = self._placed(data, 1)
            layer.data = data
            for key in ("scale", "translate", "affine"):
                if key in placed:
                    setattr(layer, key, placed[key])
        layer.refresh()
        return True

    def discard(self) -> None:
        """Remove the layers of a run that came to nothing, and show what was fused."""
        layers = self._viewer.layers
        for layer in self._present():
            layers.remove(layer)
        for source in self._hidden:
            source.visible = True
        if self._viewer.layers.selection.active is None and self._source in layers:
            self._viewer.layers.selection.active = self._source

    def _present(self) -> list[Image]:
        return [layer for layer in self.layers.values() if layer in self._viewer.layers]

    def _sources(self, name: str) -> tuple[Image, ...]:
        return self._state.layers if name == "fused" else (self._source,)

    def _in_axes(self, array: Any, number: int, name: str) -> Any:
        """Return a view of (T, C, Y, X[, colours]) in the axes of a result."""
        if len(self._state.layers) > 1:
            array = array[:, number if name == "fused" else 0][:, None]
        return from_planes(array, self._axes)

    def _placed(self, data: Any, step: int) -> dict[str, Any]:
        """Return where a result lies whose pixels are so many times as large."""
        one = "C" in self._axes and data.shape[self._axes.index("C")] == 1
        placed = flat_placement(self._source, self._z_axis, one_channel=one)
        if step == 1:
            return placed
        factor = np.ones(len(self._axes))
        factor[[self._axes.index(a) for a in "YX"]] = step
        # The first pixels that are shown are the first of all; none is moved.
        if "affine" in placed:
            affine = placed["affine"].copy()
            affine[:-1, :-1] *= factor
            return placed | {"affine": affine}
        return placed | {"scale": tuple(np.multiply(placed["scale"], factor))}

    def _told(self, name: str, source: Image) -> dict[str, Any]:
        of_layer = {"source": str(source.unique_id), "source name": source.name}
        return {"role": name, **self._facts, **of_layer}

    def _opened(self, layer: Image, name: str, number: int, path: Path) -> Image:
        """Put the levels of a file that was written in the place of a layer."""
        levels = [self._in_axes(level, number, name) for level in _levels(path, layer.rgb)]
        layers = self._viewer.layers
        active, place = layers.selection.active, layers.index(layer)
        opened = self._made(name, number, levels, 1)
        opened.metadata[KEY]["file"] = str(path)
        opened.visible = layer.visible
        if not layer.rgb:
            opened.contrast_limits, opened.colormap = layer.contrast_limits, layer.colormap
        layers.remove(layer)
        layers.insert(place, opened)
        opened.name = layer.name
        layers.selection.active = opened if active == layer else active
        return opened

    def _made(self, name: str, number: int, levels: list[Any], step: int) -> Image:
        """Make the layer of a result, whose pixels are so many times as large."""
        source = self._sources(name)[number]
        layer = Image(
            levels if len(levels) > 1 else levels[0],
            multiscale=len(levels) > 1,
            metadata={KEY: self._told(name, source)},
            **self._placed(levels[0], step),
            **_looks(name, source, self._state),
        )
        layer.colorbar.visible = name != "fused"
        return layer


def _levels(path: Path, rgb: bool) -> list[Any]:
    """Open the levels of an OME-Zarr of ours as lazy (T, C, Y, X[, colours])."""
    import dask.array as da
    import zarr

    lazy: Any = da.from_array
    group = zarr.open_group(path, mode="r")
    scales: Any = group.attrs["ome"]
    multiscale = scales["multiscales"][0]
    letters = [axis["name"] for axis in multiscale["axes"]]
    levels = []
    for dataset in multiscale["datasets"]:
        array = lazy(group[dataset["path"]])
        array = array[tuple(slice(None) if a in letters else None for a in "tcyx")]
        # The format has the colours of a pixel as channels.
        levels.append(da.moveaxis(array, 1, -1)[:, None] if rgb else array)
    return levels


def _looks(name: str, source: Image, state: FuseState) -> dict[str, Any]:
    """Return how a result is named and shown."""
    if name == "fused":
        looks = {
            "name": f"{source.name} fused",
            "rgb": bool(source.rgb),
            "blending": source.blending,
            "opacity": source.opacity,
        }
        if source.rgb:
            return looks
        return looks | {
            "colormap": source.colormap,
            "contrast_limits": source.contrast_limits,
            "gamma": source.gamma,
        }
    first, end = state.slices
    shown = {"visible": False, "colormap": "viridis"}
    if name == "confidence":
        return shown | {"name": f"{source.name} confidence", "contrast_limits": (0, 1)}
    if name == "index":
        limits = (first, max(end - 1, first + 1))
        return shown | {"name": f"{source.name} focus index", "contrast_limits": limits}
    metadata = state.stack().metadata
    step = metadata.z_step or 1.0
    unit = "slices" if metadata.z_step is None else metadata.unit
    told = f"{source.name} depth" + (f" ({unit})" if unit else "")
    return shown | {
        "name": told,
        "contrast_limits": (first * step, max(end - 1, first + 1) * step),
    }


def _facts(state: FuseState) -> dict[str, Any]:
    from napari_ips.weights import package_version

    assert state.layer is not None
    return {
        "run": uuid4().hex,
        "decided by": str(state.layer.unique_id),
        "z axis": state.z_axis,
        "slices": list(state.slices),
        "reference channel": state.reference_channel,
        "weights": state.config.weights,
        "settings": state.config.model_dump(mode="json"),
        "version": package_version(),
    }
