"""The dock "3-D surface": a height map as a relief with the fused image on it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import napari.viewer
from napari.layers import Image, Layer, Surface
from napari.qt.threading import create_worker
from napari.utils.events import Event
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout

from napari_ips.surface.files import SUFFIXES, companions, write_surface
from napari_ips.surface.mesh import SurfaceMesh
from napari_ips.widgets.dock import Dock
from napari_ips.widgets.results import facts
from napari_ips.widgets.save import check_free, completed_path
from napari_ips.widgets.surface.fields import SurfaceFields
from napari_ips.widgets.surface.reliefs import (
    Relief,
    ZScale,
    coloring_of,
    confidence_of,
    height_layers,
    image_layers,
    look_of,
    of_one_run,
    pixel_size,
    placement,
    plane_shown,
    z_scale,
)
from napari_ips.widgets.work import Workers, told

# Which height map a surface layer was made of.
_MADE_OF = "napari-ips surface of"
_FILTERS = ("OBJ with a texture (*.obj)", "PLY with colours (*.ply)")
# From in front and above, a little from the left: relief shows and little is hidden.
_VIEW = (-0.65, -0.7, 0.3)
_WAIT_MS = 300


class SurfaceWidget(Dock):
    """Shows a height map as a surface, which follows the fields, and exports it."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._workers = Workers(self, self._enable_buttons)
        self._hidden: list[Layer] = []
        # So that turning a wheel does not make a surface for each step.
        self._timer = QTimer(self, singleShot=True, interval=_WAIT_MS)
        self._timer.timeout.connect(self._update_shown)
        self._build()
        layers = viewer.layers
        self.listen(
            (layers.events.inserted, self._list_heights),
            (layers.events.removed, self._on_removed),
            (layers.events.renamed, self._list_heights),
            (layers.selection.events.active, self._follow),
            (viewer.dims.events.ndisplay, self._on_ndisplay),
        )
        self._list_heights()
        self._on_heights()
        self._follow()

    def _build(self) -> None:
        self.fields = SurfaceFields()
        self.show_button = QPushButton("&Show in 3-D")
        self.show_button.setToolTip("Add the surface to the viewer and look at it in 3-D")
        self.export_button = QPushButton("&Export…")
        self.export_button.setToolTip(
            "Save it at true scale for other programs: OBJ or PLY"
        )
        buttons = QHBoxLayout()
        buttons.addWidget(self.show_button)
        buttons.addWidget(self.export_button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.fields)
        layout.addLayout(buttons)
        layout.addStretch()
        self.fields.heights_changed.connect(self._on_heights)
        self.fields.changed.connect(self._timer.start)
        self.show_button.clicked.connect(self._on_show)
        self.export_button.clicked.connect(self._on_export)

    # What can be chosen

    def _chosen(self) -> Image | None:
        return self.fields.heights.currentData()

    def _scale(self) -> ZScale | None:
        chosen = self._chosen()
        return z_scale(self._viewer.layers, chosen) if chosen else None

    def _list_heights(self, event: Event | None = None) -> None:
        before = self._chosen()
        self.fields.list_heights(height_layers(self._viewer.layers))
        if self._chosen() is before:
            self._list_images(anew=False)
        else:
            self._on_heights()

    def _list_images(self, *, anew: bool) -> None:
        chosen = self._chosen()
        images = image_layers(self._viewer.layers, chosen) if chosen else []
        self.fields.list_images(images, anew=anew)

    def _on_heights(self) -> None:
        self._timer.stop()
        self._list_images(anew=True)
        self.fields.show_scale(self._scale())
        self._enable_buttons()

    def _follow(self, event: Event | None = None) -> None:
        """Choose the height map that belongs to the selected layer."""
        active, box = self._viewer.layers.selection.active, self.fields.heights
        offered = [box.itemData(n) for n in range(box.count())]
        if active is None:
            return
        if active in offered:
            box.setCurrentIndex(offered.index(active))
            return
        for n, candidate in enumerate(offered):
            made_of = active.metadata.get(_MADE_OF) == str(candidate.unique_id)
            if made_of or active in of_one_run(self._viewer.layers, candidate):
                box.setCurrentIndex(n)
                return

    # Making it

    def _relief(self, chosen: Image, exaggeration: float) -> Relief:
        layers, point = self._viewer.layers, self._viewer.dims.point
        image = self.fields.image.currentData()
        scale = self._scale()
        step = scale.step if scale else self.fields.step.value()
        if scale and not scale.in_slices:
            step = 1.0
        return Relief(
            plane_shown(chosen, point),
            confidence_of(layers, chosen, point),
            coloring_of(image, point) if image is not None else None,
            pixel_size(chosen),
            step * exaggeration,
            self.fields.smoothing.value(),
        )

    def _on_show(self) -> None:
        self._make(then_look=True)

    def _update_shown(self) -> None:
        if self._surface() is not None:
            self._make(then_look=False)

    def _make(self, *, then_look: bool) -> None:
        chosen = self._chosen()
        self._timer.stop()
        if chosen is None:
            return
        scale = self._scale()
        origin = scale.origin if scale else 0.0

        def put(mesh: SurfaceMesh) -> None:
            if chosen in self._viewer.layers:
                surface = self._put(mesh, chosen, origin)
                if then_look:
                    self._look(surface)

        relief = self._relief(chosen, self.fields.exaggeration.value())
        self._workers.start("show", create_worker(told(_mesh_for_viewer), relief), put)

    def _enable_buttons(self) -> None:
        possible = self._chosen() is not None
        self.show_button.setEnabled(possible)
        self.export_button.setEnabled(possible and "export" not in self._workers)

    def _put(self, mesh: SurfaceMesh, chosen: Image, origin: float) -> Surface:
        """Add the surface of a height map, or give it its new shape."""
        look = look_of(mesh, chosen)
        data = (mesh.vertices, mesh.faces, look.pop("values"))
        layer = self._surface(chosen)
        if layer is None:
            source = (facts(chosen) or {}).get("source name", chosen.name)
            return self._viewer.add_surface(
                data,
                name=f"{source} surface",
                metadata={_MADE_OF: str(chosen.unique_id)},
                shading="smooth",
                **look,
                **placement(chosen, origin),
            )
        layer.texture = None
        layer.data = data
        for name, value in look.items():
            setattr(layer, name, value)
        return layer

    def _surface(self, of: Image | None = None) -> Surface | None:
        """Return the surface of a height map, by default the chosen one, if it is there."""
        chosen = of or self._chosen()
        for layer in self._viewer.layers:
            if chosen and layer.metadata.get(_MADE_OF) == str(chosen.unique_id):
                return layer
        return None

    # Looking at it

    def _look(self, surface: Surface) -> None:
        if self._viewer.dims.ndisplay == 3:
            self._on_ndisplay()
        else:
            self._viewer.dims.ndisplay = 3
        self._viewer.scene.camera.set_view_direction(_VIEW, up_direction=(1, 0, 0))
        # napari cannot fit layers that have fewer axes than the viewer.
        alone = surface.ndim == self._viewer.dims.ndim
        self._viewer.fit_to_view(layers=[surface] if alone else None)

    def _on_ndisplay(self, event: Event | None = None) -> None:
        """In 3-D show the surface instead of the flat images, in 2-D the other way."""
        surface, chosen = self._surface(), self._chosen()
        if surface is None or chosen is None:
            return
        if self._viewer.dims.ndisplay == 2:
            for layer in self._viewer.layers:
                layer.visible &= _MADE_OF not in layer.metadata
            self._show_hidden()
            return
        image = self.fields.image.currentData()
        for layer in (*of_one_run(self._viewer.layers, chosen), image):
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
        chosen = self._chosen()
        if chosen is None:
            return
        source = (facts(chosen) or {}).get("source name", chosen.name)
        name, kind = QFileDialog.getSaveFileName(
            self, "Export the surface", f"{source} surface.obj", ";;".join(_FILTERS)
        )
        if not name:
            return
        path, asked = completed_path(name, SUFFIXES, SUFFIXES[_FILTERS.index(kind)])
        # With a surface that may be replaced goes what belongs to it.
        agreed = asked and path.exists()
        relief = self._relief(chosen, exaggeration=1.0).in_full()

        @told
        def export() -> list[Path]:
            if not agreed:
                for file in (path, *companions(path)):
                    check_free(file)
            return write_surface(path, relief.mesh(), overwrite=agreed)

        def tell(files: list[Path]) -> None:
            show_info(f"Saved {', '.join(file.name for file in files)} in {path.parent}.")

        progress = {"desc": f"Exporting {path.name}"}
        self._workers.start("export", create_worker(export, _progress=progress), tell)

    def close_down(self) -> None:
        """Let go of the viewer, and of what is not ready yet."""
        super().close_down()
        self._timer.stop()
        for purpose in ("show", "export"):
            self._workers.stop(purpose)


def _mesh_for_viewer(relief: Relief) -> SurfaceMesh:
    # napari loads these for its first surface; here they do not keep the window waiting.
    import_module("pandas")
    import_module("scipy.spatial.transform")
    return relief.mesh()
