"""Layers that show how a held-out crop is fused while the network learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_ips.events import Preview
from napari_ips.widgets.results import KEY, role_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

NAMES = ("source 1", "source 2", "result", "error")
# Between two pictures, as a share of their width.
_GAP = 0.05
# An error is shown in full colour where this share of the pixels is below it at first,
# and never if it is below noise.
_PERCENTILE = 99.5
_LEAST_ERROR = 0.02


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
        self._shape: tuple[int, ...] = ()

    @property
    def layers(self) -> list[Image]:
        """Those that the user did not remove."""
        return [layer for layer in self._layers if layer in self._viewer.layers]

    def show(self, preview: Preview) -> None:
        """Show a preview in the place of the last one."""
        pictures = _pictures(preview)
        if self._layers and self._shape == preview.target.shape:
            for layer, picture in zip(self._layers, pictures, strict=True):
                if layer in self._viewer.layers:
                    layer.data = picture
            return
        self.remove()
        self._add(pictures, preview)

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
        """Remove the row."""
        for layer in self.layers:
            self._viewer.layers.remove(layer)
        self._layers = []

    def _add(self, pictures: list[NDArray[np.float32]], preview: Preview) -> None:
        layers = self._viewer.layers
        active, alone = layers.selection.active, not layers
        scale, corner, units = self._place(preview.target.shape)
        step = preview.target.shape[2] * (1 + _GAP) * scale[1]
        limits = _limits(preview)
        for number, (name, picture) in enumerate(zip(NAMES, pictures, strict=True)):
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
                options |= {"colormap": shown, "contrast_limits": limits[name]}
            layer = Image(picture, **options)
            layers.append(layer)
            self._layers.append(layer)
        self._shape = preview.target.shape
        if alone:
            self._viewer.fit_to_view()
        elif active in layers:
            layers.selection.active = active

    def _place(self, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Return scale, first corner and units: below all layers, and as wide."""
        others = [layer for layer in self._viewer.layers if role_of(layer) != "preview"]
        if not others:
            return (1.0, 1.0), (0.0, 0.0), None
        extent = self._viewer.layers.get_extent(others)
        (_, left), (bottom, right) = extent.world[:, -2:]
        row = shape[2] * (len(NAMES) + _GAP * (len(NAMES) - 1))
        scale = max(right - left, 1e-9) / row
        corner = bottom + scale * (0.5 + _GAP * shape[1]), left
        return (scale, scale), corner, extent.units and extent.units[-2:]


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
