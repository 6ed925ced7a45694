"""The part of the retouch dock that saves the edited map, and applies maps to stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari.viewer
from napari.layers import Image
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QProgressBar,
    QPushButton,
    QWidget,
)

from napari_ips.errors import IPSError
from napari_ips.widgets.dock import LayerBox
from napari_ips.widgets.results import facts
from napari_ips.widgets.retouch.maps import apply_map, layers_of_map, picture_of_map
from napari_ips.widgets.retouch.retouching import Retouching
from napari_ips.widgets.save_dialog import ask_where, save_elsewhere
from napari_ips.widgets.stacks import stack_of, z_axis_of
from napari_ips.widgets.work import Workers

_EDITED = "edited map"
_FILES = "Index maps (*.ome.tif *.ome.tiff *.tif *.tiff *.png *.zarr)"


class MapPanel(QGroupBox):
    """Saves the edited map, and fuses stacks by it or by one from a file."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__("Index map", parent)
        self._viewer = viewer
        self._retouching: Retouching | None = None
        self._workers = Workers(self, self._check)
        self._build()
        self.use(None)

    def _build(self) -> None:
        self.stack = LayerBox(
            "The z-stack, such as another channel, that a map is applied to"
        )
        self.save = QPushButton("Sa&ve map...")
        self.save.setToolTip(
            "Save the edited map: for each pixel the number of its slice, counted from 0"
        )
        self.apply = QPushButton("&Apply map")
        self.apply.setToolTip(
            "Fuse that stack anew: each pixel from the slice in the edited map"
        )
        self.apply_file = QPushButton("Apply &file...")
        self.apply_file.setToolTip("Fuse that stack by a map that was saved earlier")
        self.progress = QProgressBar()
        self.progress.setToolTip("How much of the stack is fused by the map")
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Stop; no layer is added")
        form = QFormLayout()
        form.addRow("&Stack", self.stack)
        layout = QGridLayout(self)
        layout.addWidget(self.save, 0, 0, 1, 2)
        layout.addLayout(form, 1, 0, 1, 2)
        layout.addWidget(self.apply, 2, 0)
        layout.addWidget(self.apply_file, 2, 1)
        layout.addWidget(self.progress, 3, 0)
        layout.addWidget(self.stop, 3, 1)
        self.save.clicked.connect(self._on_save)
        self.apply.clicked.connect(self._on_apply)
        self.apply_file.clicked.connect(self._on_apply_file)
        self.stop.clicked.connect(self.stop_work)

    def use(self, retouching: Retouching | None) -> None:
        """Save and apply other edits, or none."""
        self._retouching = retouching
        self._check()

    def list_stacks(self) -> None:
        """Offer the z-stacks that are in the viewer now."""
        stacks = [layer for layer in self._viewer.layers if _is_stack(layer)]
        self.stack.fill(stacks, self.stack.currentData())
        self._check()

    def apply_to(self, layer: Image, index: Any, name: str) -> None:
        """Fuse a stack by a map (T, C, Y, X), or by one in a file, into new layers."""
        z_axis = z_axis_of(layer)
        if z_axis is None:
            return
        retouching = self._retouching
        if retouching is not None and layer is retouching.source:
            z_axis = retouching.z_axis
        try:
            stack = stack_of(layer, z_axis)
        except IPSError as error:
            show_error(str(error))
            return

        def add(result: tuple[Any, Any]) -> None:
            for data, options in layers_of_map(layer, z_axis, *result, name):
                self._viewer.add_image(data, **options)

        self.progress.setRange(0, 0)
        worker = create_worker(
            apply_map, stack, index, _progress={"desc": f"Applying {name}"}
        )
        worker.yielded.connect(self._on_progress)
        self._workers.start("apply", worker, add)

    def stop_work(self) -> None:
        """Stop applying a map; nothing comes of it."""
        self._workers.stop("apply")

    def _check(self) -> None:
        busy, stacks = "apply" in self._workers, self.stack.count() > 0
        self.save.setEnabled(self._retouching is not None)
        self.apply.setEnabled(self._retouching is not None and stacks and not busy)
        self.apply_file.setEnabled(stacks and not busy)
        for part in (self.progress, self.stop):
            part.setVisible(busy)

    def _on_progress(self, step: tuple[int, int]) -> None:
        done, total = step
        self.progress.setRange(0, total)
        self.progress.setValue(done)

    def _on_save(self) -> None:
        retouching, place = self._retouching, ask_where(_EDITED, self)
        if retouching is not None and place is not None:
            edits = retouching.edits
            told = {**retouching.told, "retouched pixels": edits.retouched}
            metadata = edits.followers[0].stack.metadata
            save_elsewhere(picture_of_map(edits.index(), metadata, told), *place)

    def _on_apply(self) -> None:
        if self._retouching is not None:
            index = self._retouching.edits.index()
            self.apply_to(self.stack.currentData(), index, _EDITED)

    def _on_apply_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Apply a map", "", _FILES)
        if name:
            self.apply_to(self.stack.currentData(), Path(name), Path(name).name)


def _is_stack(layer: Any) -> bool:
    if not isinstance(layer, Image) or layer.ndim < 3 or facts(layer) is not None:
        return False
    return z_axis_of(layer) is not None
