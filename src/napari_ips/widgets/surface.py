"""The dock "3-D surface": a height map as a relief with the fused image on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari.viewer
import numpy as np
from napari.layers import Image, Layer, Surface
from napari.qt.threading import create_worker
from napari.utils.events import Event
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ips.errors import IPSError
from napari_ips.surface import SurfaceMesh
from napari_ips.surface_files import SUFFIXES, write_surface
from napari_ips.widgets.reliefs import (
    Relief,
    ZScale,
    coloring_of,
    confidence_of,
    for_the_screen,
    height_layers,
    image_layers,
    of_one_run,
    pixel_size,
    placement,
    plane_shown,
    z_scale,
)
from napari_ips.widgets.results import facts

# Which height map a surface layer was made of.
_MADE_OF = "napari-ips surface of"
_FILTERS = ("OBJ with a texture (*.obj)", "PLY with colours (*.ply)")
# From in front and above, a little from the left: relief shows and little is hidden.
_VIEW = (-0.65, -0.7, 0.3)
_WAIT_MS = 300


class SurfaceWidget(QWidget):
    """Shows a height map as a surface, which follows the fields, and exports it."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._worker: Any = None
        self._hidden: list[Layer] = []
        self._scale: ZScale | None = None
        # So that turning a wheel does not make a surface for each step.
        self._timer = QTimer(self, singleShot=True, interval=_WAIT_MS)
        self._timer.timeout.connect(self._update_shown)
        self._build()
        layers = viewer.layers
        self._connections: tuple[tuple[Any, Any], ...] = (
            (layers.events.inserted, self._list_heights),
            (layers.events.removed, self._on_removed),
            (layers.events.renamed, self._list_heights),
            (layers.selection.events.active, self._follow),
            (viewer.dims.events.ndisplay, self._on_ndisplay),
        )
        for emitter, slot in self._connections:
            emitter.connect(slot)
        self._list_heights()
        self._follow()

    def event(self, event: QEvent) -> bool:
        """Let go of the viewer when the dock that holds the widget is closed."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._close_down()
        return bool(super().event(event))

    def _build(self) -> None:
        self.heights = _layer_box("Height map, as a fusion makes it (depth)")
        self.image = _layer_box("The image that is laid on the surface")
        self.smoothing = _number(3, 0, 50, " px", 0.5)
        self.smoothing.setToolTip(
            "Radius of the smoothing; heights that are sure count more"
        )
        self.step = _number(1, 1e-4, 1e6, "", 0.1)
        self.exaggeration = _number(1, 0.1, 100, " ×", 0.5)
        self.exaggeration.setToolTip(
            "How much steeper than it is; 1 is true scale. Not in exported files"
        )
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.show_button = QPushButton("&Show in 3-D")
        self.show_button.setToolTip("Add the surface to the viewer and look at it in 3-D")
        self.export_button = QPushButton("&Export…")
        self.export_button.setToolTip(
            "Save it at true scale for other programs: OBJ or PLY"
        )
        form = QFormLayout()
        form.addRow("&Height map", self.heights)
        form.addRow("&Image", self.image)
        form.addRow("S&moothing", self.smoothing)
        form.addRow("Slice &distance", self.step)
        form.addRow("E&xaggeration", self.exaggeration)
        buttons = QHBoxLayout()
        buttons.addWidget(self.show_button)
        buttons.addWidget(self.export_button)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.note)
        layout.addLayout(buttons)
        layout.addStretch()
        self.heights.currentIndexChanged.connect(self._on_heights)
        self.image.currentIndexChanged.connect(self._timer.start)
        for field in (self.smoothing, self.step, self.exaggeration):
            field.valueChanged.connect(self._timer.start)
        self.show_button.clicked.connect(self._on_show)
        self.export_button.clicked.connect(self._on_export)

    # What can be chosen

    def _list_heights(self, event: Event | None = None) -> None:
        found = height_layers(self._viewer.layers)
        before = self.heights.currentData()
        _fill(self.heights, [(layer.name, layer) for layer in found])
        if self.heights.currentData() is before:
            self._list_images()
        else:
            self._on_heights()

    def _list_images(self) -> None:
        chosen = self.heights.currentData()
        images = image_layers(self._viewer.layers, chosen) if chosen else []
        items: list[tuple[str, Image | None]] = [(layer.name, layer) for layer in images]
        _fill(self.image, [*items, ("Colours of the heights", None)])

    def _on_heights(self) -> None:
        self._timer.stop()
        chosen = self.heights.currentData()
        # Its own fused image rather than one that was chosen for another height map.
        self.image.clear()
        self._list_images()
        self._scale = z_scale(self._viewer.layers, chosen) if chosen else None
        self._show_scale(chosen)
        self.show_button.setEnabled(chosen is not None)
        self.export_button.setEnabled(chosen is not None)

    def _show_scale(self, chosen: Image | None) -> None:
        known = self._scale is not None
        unit = f"{chosen.units[-1]:~P}" if chosen else ""
        self.step.blockSignals(True)
        self.step.setSuffix(f" {unit}")
        self.step.setValue(self._scale.step if self._scale else 1.0)
        self.step.blockSignals(False)
        self.step.setEnabled(chosen is not None and not known)
        source = (facts(chosen) or {}).get("source name") if chosen else None
        if known:
            self.step.setToolTip(f"As in {source}")
        else:
            self.step.setToolTip("What a height of 1 is in the image's unit of length")
        if chosen is None:
            self.note.setText("Fuse a z-stack first; its height map becomes the surface.")
        elif not known:
            self.note.setText(
                "The distance of the slices is not known: enter it for a true scale."
            )
        self.note.setVisible(not known)

    def _follow(self, event: Event | None = None) -> None:
        """Choose the height map that belongs to the selected layer."""
        active = self._viewer.layers.selection.active
        if active is None:
            return
        for n in range(self.heights.count()):
            candidate = self.heights.itemData(n)
            made_of = active.metadata.get(_MADE_OF) == str(candidate.unique_id)
            if made_of or active in of_one_run(self._viewer.layers, candidate):
                # An index map also is a height map, but only if it is selected itself.
                own = self.heights.findData(active)
                self.heights.setCurrentIndex(own if own >= 0 else n)
                return

    # Making it

    def _relief(self, exaggeration: float) -> Relief:
        layers, chosen = self._viewer.layers, self.heights.currentData()
        image, point = self.image.currentData(), self._viewer.dims.point
        scale = self._scale
        distances = scale is not None and not scale.in_slices
        return Relief(
            plane_shown(chosen, point),
            confidence_of(layers, chosen, point),
            coloring_of(image, point) if image is not None else None,
            pixel_size(chosen),
            (1.0 if distances else self.step.value()) * exaggeration,
            self.smoothing.value(),
        )

    def _on_show(self) -> None:
        self._make(then_look=True)

    def _update_shown(self) -> None:
        if self._surface() is not None:
            self._make(then_look=False)

    def _make(self, *, then_look: bool) -> None:
        self._timer.stop()
        chosen, exaggeration = self.heights.currentData(), self.exaggeration.value()
        if chosen is None:
            return
        origin = self._scale.origin if self._scale else 0.0

        def finish(mesh: SurfaceMesh | str) -> None:
            if self._worker is not worker:
                return
            self._set_busy(None)
            if isinstance(mesh, str):
                show_error(mesh)
            elif chosen in self._viewer.layers:
                self._put(mesh, chosen, origin)
                if then_look:
                    self._look(chosen)

        worker = create_worker(_made, self._relief(exaggeration))
        worker.returned.connect(finish)
        self._set_busy(worker)
        worker.start()

    def _put(self, mesh: SurfaceMesh, chosen: Image, origin: float) -> None:
        """Add the surface, or give it its new shape."""
        look = _look_of(mesh, chosen)
        values = look.pop("values")
        data = (mesh.vertices, mesh.faces, values)
        layer = self._surface()
        if layer is None:
            self._viewer.add_surface(
                data,
                name=f"{chosen.name} surface",
                metadata={_MADE_OF: str(chosen.unique_id)},
                shading="smooth",
                **look,
                **placement(chosen, origin),
            )
            return
        layer.texture = None
        layer.data = data
        for name, value in look.items():
            setattr(layer, name, value)

    def _surface(self) -> Surface | None:
        """Return the surface of the chosen height map, if it is there."""
        chosen = self.heights.currentData()
        for layer in self._viewer.layers:
            if chosen and layer.metadata.get(_MADE_OF) == str(chosen.unique_id):
                return layer
        return None

    # Looking at it

    def _look(self, chosen: Image) -> None:
        if self._viewer.dims.ndisplay == 3:
            self._on_ndisplay()
        else:
            self._viewer.dims.ndisplay = 3
        self._viewer.camera.set_view_direction(_VIEW, up_direction=(1, 0, 0))
        self._viewer.fit_to_view(layers=[self._surface()])

    def _on_ndisplay(self, event: Event | None = None) -> None:
        """In 3-D show the surface instead of the flat images, in 2-D the other way."""
        surface = self._surface()
        if surface is None:
            return
        if self._viewer.dims.ndisplay == 2:
            surface.visible = False
            self._show_hidden()
            return
        flat = of_one_run(self._viewer.layers, self.heights.currentData())
        flat.append(self.image.currentData())
        for layer in flat:
            if layer is not None and layer.visible:
                layer.visible = False
                self._hidden.append(layer)
        surface.visible = True

    def _show_hidden(self) -> None:
        for layer in self._hidden:
            layer.visible = True
        self._hidden = []

    def _on_removed(self, event: Event) -> None:
        if event.value in self._hidden:
            self._hidden.remove(event.value)
        if _MADE_OF in event.value.metadata:
            self._show_hidden()
        self._list_heights()

    # Export

    def _on_export(self) -> None:
        chosen = self.heights.currentData()
        name, kind = QFileDialog.getSaveFileName(
            self, "Export the surface", f"{chosen.name}.obj", ";;".join(_FILTERS)
        )
        if not name:
            return
        path = Path(name)
        if path.suffix.lower() not in SUFFIXES:
            path = path.with_name(path.name + SUFFIXES[_FILTERS.index(kind)])
        # The dialog has asked about the name that it gave, and about no other.
        agreed = str(path) == name and path.exists()

        def finish(told: list[Path] | str) -> None:
            if self._worker is not worker:
                return
            self._set_busy(None)
            if isinstance(told, str):
                show_error(told)
            else:
                show_info(
                    f"Saved {', '.join(file.name for file in told)} in {path.parent}."
                )

        worker = create_worker(
            _exported,
            self._relief(exaggeration=1.0).in_full(),
            path,
            agreed,
            _progress={"desc": f"Exporting {path.name}"},
        )
        worker.returned.connect(finish)
        self._set_busy(worker)
        worker.start()

    def _set_busy(self, worker: Any) -> None:
        self._worker = worker
        self.export_button.setEnabled(worker is None and self.heights.count() > 0)

    def _close_down(self) -> None:
        self._timer.stop()
        for emitter, slot in self._connections:
            emitter.disconnect(slot)
        self._connections = ()
        self._worker = None


def _made(relief: Relief) -> SurfaceMesh | str:
    """Make the mesh, in another thread; what is wrong comes back as a line."""
    try:
        return relief.mesh()
    except IPSError as error:
        return str(error)


def _exported(relief: Relief, path: Path, overwrite: bool) -> list[Path] | str:
    try:
        return write_surface(path, relief.mesh(), overwrite=overwrite)
    except IPSError as error:
        return str(error)


def _look_of(mesh: SurfaceMesh, chosen: Image) -> dict[str, Any]:
    """Return values, colours and texture of a surface layer."""
    if mesh.texture is not None:
        # A texture is multiplied by the colours under it: white leaves it as it is.
        return {
            "values": np.ones(len(mesh.vertices), np.float32),
            "texcoords": mesh.uv,
            "texture": for_the_screen(mesh.texture),
            "colormap": "gray",
            "contrast_limits": (0.0, 1.0),
        }
    z = mesh.vertices[:, 0]
    low, high = float(z.min()), float(z.max())
    return {
        "values": z,
        "colormap": chosen.colormap.name if chosen.colormap.name != "gray" else "viridis",
        "contrast_limits": (low, high if high > low else low + 1),
    }


def _layer_box(tip: str) -> QComboBox:
    box = QComboBox()
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    box.setMinimumContentsLength(16)
    return box


def _fill(box: QComboBox, items: list[tuple[str, Any]]) -> None:
    """Fill a box anew, and keep what was chosen if it is still there."""
    before = box.currentData()
    box.blockSignals(True)
    had_any = box.count() > 0
    box.clear()
    for text, value in items:
        box.addItem(text, value)
    values = [value for _, value in items]
    box.setCurrentIndex(values.index(before) if had_any and before in values else 0)
    box.blockSignals(False)


def _number(
    value: float, least: float, most: float, suffix: str, step: float
) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setRange(least, most)
    field.setDecimals(3 if least < 0.1 and least else 1)
    field.setSingleStep(step)
    field.setValue(value)
    field.setSuffix(suffix)
    # While a number is typed, its first digits are not yet a choice.
    field.setKeyboardTracking(False)
    return field
