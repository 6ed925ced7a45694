"""Places in the canvas as pixels of a z-stack: clicks, the view, and drawn shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ips.widgets.stacks import axes_of

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Points

Area = tuple[slice, slice]

# A mouse that moved less than this between press and release has clicked, pixels.
_CLICK = 4
_MARKER = "picked place"
# Of the marker, as a share of its size.
_BORDER = 0.06


def pixel_at(layer: Image, z_axis: int, world: Sequence[float]) -> tuple[int, int] | None:
    """Return row and column at a place in the world; None outside of the image."""
    y, x = _image_axes(layer, z_axis)
    place = np.rint(layer.world_to_data(world)).astype(int)
    shape = _shape(layer)
    if not all(0 <= place[n] < shape[n] for n in (y, x)):
        return None
    return int(place[y]), int(place[x])


def around(pixel: tuple[int, int], radius: int, shape: tuple[int, int]) -> Area:
    """Return the square of ``2 radius + 1`` pixels around one, as far as it is inside."""
    y, x = (
        slice(max(0, n - radius), min(length, n + radius + 1))
        for n, length in zip(pixel, shape, strict=True)
    )
    return y, x


def area_in_view(viewer: napari.Viewer, layer: Image, z_axis: int) -> Area | None:
    """Return the part of the image that the canvas shows; None if it shows nothing."""
    camera = viewer.scene.camera
    half = np.array(viewer.canvas.viewbox_size(viewer.layers)) / 2 / camera.zoom
    centre = np.array(camera.center)[-2:]
    corners = []
    for sides in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        corner = np.array(viewer.dims.point, float)
        corner[list(viewer.dims.displayed)[-2:]] = centre + half * sides
        corners.append(corner)
    return _bounds(layer, z_axis, corners)


def area_of_shapes(viewer: napari.Viewer, layer: Image, z_axis: int) -> Area | None:
    """Return the bounding box of the selected shapes.

    Of the active layer, else of the topmost shapes layer with a selection; None if no
    shape within the image is selected.
    """
    from napari.layers import Shapes

    active = viewer.layers.selection.active
    for shapes in [active, *reversed(viewer.layers)]:
        if isinstance(shapes, Shapes) and shapes.selected_data:
            corners = []
            for number in shapes.selected_data:
                for vertex in shapes.data[number]:
                    known = np.asarray(shapes.data_to_world(vertex))
                    corner = np.array(viewer.dims.point, float)
                    corner[len(corner) - len(known) :] = known
                    corners.append(corner)
            return _bounds(layer, z_axis, corners)
    return None


def slice_in_view(viewer: napari.Viewer, layer: Image, z_axis: int) -> int:
    """Return the slice at the position of the viewer's sliders."""
    return int(step_in_view(viewer, layer)[z_axis])


def step_in_view(viewer: napari.Viewer, layer: Image) -> list[int]:
    """Return the position of the viewer's sliders in pixels of a layer, inside of it."""
    place = np.rint(layer.world_to_data(viewer.dims.point)).astype(int)
    last = np.array(_shape(layer)) - 1
    return [int(n) for n in np.clip(place, 0, last)]


def show_slice(viewer: napari.Viewer, layer: Image, z_axis: int, slice_: int) -> None:
    """Move the slider of the z axis to a slice of a layer."""
    place = np.array(layer.world_to_data(viewer.dims.point), float)
    place[z_axis] = slice_
    axis = viewer.dims.ndim - layer.ndim + z_axis
    viewer.dims.set_point(axis, float(layer.data_to_world(place)[z_axis]))


class Clicks:
    """Tells where the image is clicked, while panning and drawing work as before."""

    def __init__(
        self, viewer: napari.Viewer, clicked: Callable[[Sequence[float]], None]
    ) -> None:
        self._viewer = viewer
        self._clicked = clicked

    def listen(self, on: bool) -> None:
        """Begin or cease to tell."""
        callbacks = self._viewer.mouse_drag_callbacks
        if on and self._on_press not in callbacks:
            callbacks.append(self._on_press)
        elif not on and self._on_press in callbacks:
            callbacks.remove(self._on_press)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        active = self._viewer.layers.selection.active
        # In other modes, a click paints, draws or selects.
        free = active is None or str(active.mode) == "pan_zoom"
        if event.button != 1 or not free or self._viewer.dims.ndisplay != 2:
            return
        start, far = np.array(event.pos), 0.0
        yield
        while event.type == "mouse_move":
            far = max(far, float(np.hypot(*(np.array(event.pos) - start))))
            yield
        if far < _CLICK:
            self._clicked(event.position)


class Marker:
    """A square around the picked place, as a layer that lasts as long as it is needed."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._layer: Points | None = None

    def show(self, layer: Image, z_axis: int, pixel: tuple[int, int], radius: int) -> None:
        """Mark a pixel of a layer and those within a radius."""
        if _image_axes(layer, z_axis) != (layer.ndim - 2, layer.ndim - 1):
            return
        middle, right = np.zeros((2, layer.ndim))
        middle[-2:] = right[-2:] = pixel
        right[-1] += 2 * radius + 1
        here, there = (np.asarray(layer.data_to_world(place)) for place in (middle, right))
        if self._layer is None or self._layer not in self._viewer.layers:
            self._add(layer)
        assert self._layer is not None
        self._layer.data = here[None, -2:]
        self._layer.size = float(np.linalg.norm(there - here))
        self._layer.border_width = _BORDER
        self._layer.selected_data = set()

    def remove(self) -> None:
        """Take the mark away."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None

    def _add(self, layer: Image) -> None:
        selected = set(self._viewer.layers.selection)
        active = self._viewer.layers.selection.active
        self._layer = self._viewer.add_points(
            np.zeros((0, 2)),
            name=_MARKER,
            units=layer.units[-2:],
            symbol="square",
            face_color="transparent",
            border_color="orange",
            # A single pixel is to be seen at any zoom.
            canvas_size_limits=(16, 100_000),
        )
        self._viewer.layers.selection = selected
        self._viewer.layers.selection.active = active


def _bounds(layer: Image, z_axis: int, corners: Sequence[Any]) -> Area | None:
    """Return the pixels between places in the world, as far as they are in the image."""
    places = np.array([layer.world_to_data(corner) for corner in corners])
    shape, area = _shape(layer), []
    for n in _image_axes(layer, z_axis):
        low = max(0, int(np.rint(places[:, n].min())))
        high = min(shape[n], int(np.rint(places[:, n].max())) + 1)
        if low >= high:
            return None
        area.append(slice(low, high))
    return area[0], area[1]


def _image_axes(layer: Image, z_axis: int) -> tuple[int, int]:
    axes = axes_of(layer, z_axis)
    return axes.index("Y"), axes.index("X")


def _shape(layer: Image) -> tuple[int, ...]:
    whole = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(n) for n in whole.shape[: layer.ndim])
