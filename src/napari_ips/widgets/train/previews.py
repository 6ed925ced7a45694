"""Layers that show how a held-out crop is fused while the network learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_ips.events import Preview
from napari_ips.widgets.results import KEY, role_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

NAMES = ("source 1", "source 2", "result", "error")
# Between two pictures, as a share of their width.
_GAP = 0.05
# An error is shown in full colour where this share of the pixels is below it at first,
# and never if it is below noise.
_PERCENTILE = 99.5
_LEAST_ERROR = 0.02
# Time for the window between two layers that are added or removed, milliseconds.
_BETWEEN = 30

# Rows live until their last layer is removed, also if their dock is gone by then.
_leaving: set[PreviewLayers] = set()


class PreviewLayers:
    """Four small images in a row, below what the viewer shows.

    Neither the view nor the other layers are changed; an empty viewer shows the row.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: list[Image] = []
        self._visible = True
        self._pictures: list[NDArray[np.float32]] = []
        self._shape: tuple[int, ...] = ()
        self._place: tuple[Any, Any, Any] = ((1.0, 1.0), (0.0, 0.0), None)
        self._limits: dict[str, tuple[float, float]] = {}
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_BETWEEN)
        self._timer.timeout.connect(self._add_next)
        self._former: list[Image] = []
        self._farewell = QTimer()
        self._farewell.setInterval(_BETWEEN)
        self._farewell.timeout.connect(self._remove_next)

    @property
    def layers(self) -> list[Image]:
        """Those that the user did not remove."""
        return [layer for layer in self._layers if layer in self._viewer.layers]

    def show(self, preview: Preview) -> None:
        """Show a preview in the place of the last one; new layers come one by one."""
        self._pictures = _pictures(preview)
        if self._layers and self._shape == preview.target.shape:
            for layer, picture in zip(self._layers, self._pictures, strict=False):
                if layer in self._viewer.layers:
                    layer.data = picture
            return
        self.remove()
        self._shape = preview.target.shape
        self._place = self._find_place()
        self._limits = _limits(preview)
        self._add_next()

    def set_visible(self, visible: bool) -> None:
        """Show or hide the row, now and when it comes."""
        self._visible = visible
        for layer in self.layers:
            layer.visible = visible

    def look(self) -> None:
        """Move the view to the row."""
        if not self.layers:
            return
        # napari fits the view only to layers with all axes of the viewer.
        corners = np.concatenate([x.extent.world[:, -2:] for x in self.layers])
        low, high = corners.min(axis=0), corners.max(axis=0)
        camera = self._viewer.scene.camera
        camera.center = (*camera.center[:-2], *((low + high) / 2))
        fits = np.divide(self._viewer.canvas.size, np.maximum(high - low, 1e-9))
        camera.zoom = float(0.95 * fits.min())

    def remove(self) -> None:
        """Remove the row, one layer after the other."""
        self._timer.stop()
        self._former += self.layers
        self._layers = []
        if self._former:
            _leaving.add(self)
            self._farewell.start()

    def _add_next(self) -> None:
        """Add a layer in this turn of the loop, for napari takes a while for each."""
        layers, number = self._viewer.layers, len(self._layers)
        active, alone = layers.selection.active, not [x for x in layers if not _ours(x)]
        name, picture = NAMES[number], self._pictures[number]
        scale, corner, units = self._place
        step = self._shape[2] * (1 + _GAP) * scale[1]
        options: dict[str, Any] = {
            "name": name,
            "scale": scale,
            "translate": (corner[0], corner[1] + number * step),
            "metadata": {KEY: {"role": "preview"}},
            "visible": self._visible,
            "rgb": picture.ndim == 3,
        }
        if units is not None:
            options["units"] = units
        if picture.ndim == 2:
            shown = "inferno" if name == "error" else "gray"
            options |= {"colormap": shown, "contrast_limits": self._limits[name]}
        layer = Image(picture, **options)
        layers.append(layer)
        self._layers.append(layer)
        if active is not None:
            layers.selection.active = active
        if len(self._layers) < len(NAMES):
            self._timer.start()
        elif alone:
            self._viewer.fit_to_view()

    def _remove_next(self) -> None:
        """Remove a layer in this turn of the loop.

        napari takes a while for each, and with some drivers ends in a fault when it draws
        after several were removed at once.
        """
        layer = self._former.pop()
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        if not self._former:
            self._farewell.stop()
            _leaving.discard(self)

    def _find_place(self) -> tuple[Any, Any, Any]:
        """Return scale, first corner and units: below all layers, and as wide."""
        shape = self._shape
        others = [layer for layer in self._viewer.layers if not _ours(layer)]
        if not others:
            return (1.0, 1.0), (0.0, 0.0), None
        extent = self._viewer.layers.get_extent(others)
        (_, left), (bottom, right) = extent.world[:, -2:]
        row = shape[2] * (len(NAMES) + _GAP * (len(NAMES) - 1))
        scale = max(right - left, 1e-9) / row
        corner = bottom + scale * (0.5 + _GAP * shape[1]), left
        return (scale, scale), corner, extent.units and extent.units[-2:]


def _ours(layer: Layer) -> bool:
    return role_of(layer) == "preview"


def _pictures(preview: Preview) -> list[NDArray[np.float32]]:
    """Return the four pictures, grey or RGB; the error is always grey."""
    shown = [_picture(a) for a in (preview.source1, preview.source2, preview.fused)]
    return [*shown, np.abs(preview.fused - preview.target).mean(axis=0)]


def _picture(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    colour = len(planes) == 3
    picture: NDArray[np.float32] = np.moveaxis(planes, 0, -1).clip(0, 1)
    return picture if colour else planes[0]


def _limits(preview: Preview) -> dict[str, tuple[float, float]]:
    low, high = np.percentile(preview.target, (0.5, 99.5))
    error = np.percentile(np.abs(preview.fused - preview.target), _PERCENTILE)
    grey = float(low), float(max(high, low + 1e-3))
    return dict.fromkeys(NAMES, grey) | {"error": (0.0, max(float(error), _LEAST_ERROR))}
