"""The dock "Retouch by slice": paint slices into a fused image with napari's brush."""

from __future__ import annotations

import napari.viewer
from napari.layers import Image
from napari.utils.events import Event
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
)

from napari_ips.errors import IPSError
from napari_ips.widgets.dock import Dock, LayerBox
from napari_ips.widgets.results import role_of
from napari_ips.widgets.retouch.brush import Brush
from napari_ips.widgets.retouch.map_panel import MapPanel
from napari_ips.widgets.retouch.retouching import Retouching, begin, begun, obstacle

_HOW = (
    "Find the slice in which the spot is sharp, and paint over it. Erasing brings the "
    "fused pixels back."
)


class RetouchWidget(Dock):
    """Opens the index map of a fused image as labels, and shows what is done to it."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._retouching: Retouching | None = None
        self._build()
        events = viewer.layers.events
        self.listen(
            (events.inserted, self._list),
            (events.removed, self._list),
            (events.renamed, self._list),
        )
        self._list()

    def _build(self) -> None:
        self.image = LayerBox("The fused image to retouch")
        self.edit = QPushButton("&Edit slices")
        self.edit.setToolTip(
            "Open the index map as labels: each label is a slice, and what you paint "
            "changes the fused image at once"
        )
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.count = QLabel()
        self.discard = QPushButton("Discard e&dits")
        self.discard.setToolTip("Put the image and its labels back to how they were fused")
        self.brush = Brush(self._viewer)
        self.maps = MapPanel(self._viewer)
        form = QFormLayout()
        form.addRow("I&mage", self.image)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        for part in (self.edit, self.text, self.brush):
            layout.addWidget(part)
        row = QHBoxLayout()
        row.addWidget(self.count, stretch=1)
        row.addWidget(self.discard)
        layout.addLayout(row)
        layout.addWidget(self.maps)
        layout.addStretch()
        self.image.currentIndexChanged.connect(self._show)
        self.edit.clicked.connect(self._on_edit)
        self.discard.clicked.connect(self._on_discard)

    def _list(self, event: Event | None = None) -> None:
        images = [layer for layer in self._viewer.layers if role_of(layer) == "fused"]
        self.image.fill(images, self.image.currentData(), *images[-1:])
        self.maps.list_stacks()
        self._show()

    def _show(self) -> None:
        """Show the state of the chosen image."""
        image: Image | None = self.image.currentData()
        retouching = begun(image)
        if self._retouching is not None:
            self._retouching.changed.disconnect(self._show_text)
        if retouching is not None:
            retouching.changed.connect(self._show_text)
        self._retouching = retouching
        labels = retouching.labels_in(self._viewer.layers) if retouching else None
        self.brush.use(retouching, labels)
        self.maps.use(retouching)
        self._show_text()

    def _show_text(self) -> None:
        image = self.image.currentData()
        problem = obstacle(self._viewer.layers, image) if self._retouching is None else ""
        self.edit.setEnabled(not problem)
        count = self._retouching.edits.retouched if self._retouching else 0
        self.discard.setEnabled(count > 0)
        self.text.setText(problem or _HOW)
        self.count.setText(f"{count:,} pixels retouched" if count else "")

    def _on_edit(self) -> None:
        try:
            retouching = begin(self._viewer.layers, self.image.currentData())
        except IPSError as error:
            show_error(str(error))
            return
        labels = retouching.show_in(self._viewer)
        self._show()
        labels.mode = "paint"

    def _on_discard(self) -> None:
        if self._retouching is not None:
            self._retouching.discard()

    def close_down(self) -> None:
        """Let go of the viewer; the edits live on with their layers."""
        super().close_down()
        if self._retouching is not None:
            self._retouching.changed.disconnect(self._show_text)
            self._retouching = None
        self.brush.use(None, None)
        self.maps.stop_work()
