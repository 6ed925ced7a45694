"""Ways to look at images of the same place: side by side, swiped, or in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import napari.viewer
from napari.layers import Image, Layer

from napari_ips.widgets.results import KEY
from napari_ips.widgets.stacks import level_zero

# What is changed of one image is changed of all that are looked at together.
LINKED = ("contrast_limits", "gamma")
# Canvas pixels; napari takes what is below 1 for a fraction.
_SPACING = 4.0
# Rare in images, dark or bright, grey or in colours.
_DIVIDER = "magenta"


@dataclass
class _Before:
    """What the viewer showed before, to be restored."""

    visible: dict[Layer, bool]
    named: dict[Layer, tuple[bool, str]]
    grid: tuple[bool, int, tuple[int, int], float]
    ndisplay: int
    active: Layer | None


class CompareViews:
    """Shows some layers alone, and afterwards the viewer as it was.

    Zoom and place stay where the user leaves them.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._before: _Before | None = None
        self._shown: list[Layer] = []
        self._cover: Image | None = None
        self._covering: Image | None = None
        self._shrunk = 1.0

    @property
    def active(self) -> bool:
        """Whether layers are being compared."""
        return self._before is not None

    @property
    def cover(self) -> Image | None:
        """The layer that lies over the left part while swiping."""
        return self._cover

    def side_by_side(self, layers: Sequence[Image]) -> None:
        """Show each layer in a cell of its own, under its name."""
        self._start(layers)
        before = self._field()
        grid = self._viewer.canvas.grid
        grid.stride, grid.shape, grid.spacing = 1, (-1, -1), _SPACING
        grid.enabled = True
        self._shrunk = self._field() / before
        self._viewer.scene.camera.zoom *= self._shrunk

    def swipe(self, left: Image, right: Image) -> None:
        """Show the left part of one layer over the other; see `move_divider`."""
        self._start([right])
        right.name_overlay.position = "top_right"
        self._covering = left
        self._cover = _cover_of(left)
        self._viewer.add_layer(self._cover)
        self._cover.bounding_box.points = False
        self._cover.bounding_box.line_color = _DIVIDER
        self._cover.bounding_box.line_thickness = 2
        self._cover.bounding_box.visible = True
        self._cover.name_overlay.visible = True
        self._select(right)
        self._link([right, self._cover])

    def move_divider(self, fraction: float) -> None:
        """Move the divider to a fraction, 0 to 1, of the visible columns."""
        if self._cover is None or self._covering is None:
            return
        data = level_zero(self._covering)
        columns = data.shape[-2 if self._covering.rgb else -1]
        first, end = self._visible_columns(columns)
        column = round(first + min(max(fraction, 0.0), 1.0) * (end - first))
        _show(self._cover, column > 0)
        # A view: nothing is copied but what goes to the screen.
        colours = (slice(None),) if self._covering.rgb else ()
        self._cover.data = data[(..., slice(0, max(1, column)), *colours)]

    def blink(self, layer: Image) -> None:
        """Show one layer alone; called in turns for two."""
        self._start([layer])

    def end(self) -> None:
        """Show the viewer as it was; layers that are new are hidden."""
        before, self._before = self._before, None
        if before is None:
            return
        self._clear()
        for layer in self._viewer.layers:
            _show(layer, before.visible.get(layer, False))
            shown, position = before.named.get(layer, (False, "top_left"))
            layer.name_overlay.visible = shown
            layer.name_overlay.position = position
        grid = self._viewer.canvas.grid
        grid.enabled, grid.stride, grid.shape, grid.spacing = before.grid
        self._viewer.dims.ndisplay = before.ndisplay
        self._select(before.active)

    def _start(self, layers: Sequence[Image]) -> None:
        if self._before is None:
            self._before = self._state()
        self._clear()
        self._viewer.dims.ndisplay = 2
        for layer in self._viewer.layers:
            _show(layer, layer in layers)
            layer.name_overlay.visible = layer.visible
            layer.name_overlay.position = "top_left"
        self._link(layers)

    def _clear(self) -> None:
        """Take back what the last view did."""
        viewer, layers = self._viewer, self._viewer.layers
        names = [layer.name for layer in self._shown if layer in layers]
        if len(names) > 1:
            layers.unlink_layers(names, LINKED)
        self._shown = []
        cover, self._cover, self._covering = self._cover, None, None
        if cover is not None and cover in layers:
            layers.remove(cover)
        if self._shrunk != 1:
            viewer.scene.camera.zoom /= self._shrunk
            self._shrunk = 1.0
        viewer.canvas.grid.enabled = False

    def _state(self) -> _Before:
        layers, grid = list(self._viewer.layers), self._viewer.canvas.grid
        named = {
            layer: (layer.name_overlay.visible, layer.name_overlay.position)
            for layer in layers
        }
        return _Before(
            {layer: layer.visible for layer in layers},
            named,
            (grid.enabled, grid.stride, grid.shape, grid.spacing),
            self._viewer.dims.ndisplay,
            self._viewer.layers.selection.active,
        )

    def _link(self, layers: Sequence[Image]) -> None:
        self._shown = list(layers)
        if len(layers) > 1:
            self._viewer.layers.link_layers([layer.name for layer in layers], LINKED)

    def _select(self, layer: Layer | None) -> None:
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.selection.active = layer

    def _field(self) -> float:
        """Return the zoom at which what the whole canvas shows now fits a grid cell."""
        viewer = self._viewer
        canvas = viewer.canvas.size
        cells = viewer.canvas.grid.actual_shape(viewer.layers)
        extent = viewer.layers.extent.world[:, list(viewer.dims.displayed)]
        zooms = []
        for pixels, number, (low, high) in zip(canvas, cells, extent.T, strict=True):
            field = min(pixels / viewer.scene.camera.zoom, high - low) or 1.0
            zooms.append(pixels / number / field)
        return float(min(zooms))

    def _visible_columns(self, width: int) -> tuple[int, int]:
        """Return the first column on screen of the lower layer, and the one after."""
        (under,) = (layer for layer in self._shown if layer != self._cover)
        first, last = (int(corner[-1]) for corner in under.corner_pixels)
        first, end = max(0, first), min(width, last + 1)
        return (first, end) if end - first > 1 else (0, width)


def _show(layer: Layer, visible: bool) -> None:
    """Show or hide a layer; napari draws all anew also where nothing changes."""
    if layer.visible != visible:
        layer.visible = visible


def _cover_of(layer: Image) -> Image:
    """Make a layer that looks like another one, and hides what is below it."""
    _, options, _ = layer.as_layer_data_tuple()
    changed: dict[str, Any] = {
        "name": f"{layer.name} (left)",
        "metadata": {KEY: {"role": "swipe"}},
        "blending": "opaque",
        "multiscale": False,
        "visible": True,
    }
    return Layer.create(level_zero(layer), options | changed, "image")
