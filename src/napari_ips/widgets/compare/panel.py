"""The part of the compare dock that chooses how compared images are looked at."""

from __future__ import annotations

from collections.abc import Sequence

import napari.viewer
from napari.layers import Image
from napari.utils.events import Event
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QButtonGroup,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QRadioButton,
    QSlider,
    QVBoxLayout,
)

from napari_ips.widgets.compare.views import CompareViews
from napari_ips.widgets.dock import Dock, LayerBox

_BLINK_MS = 700
_STEPS = 1000


class ViewPanel(Dock):
    """Shows compared layers side by side, swiped or blinking, until "Done"."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._views = CompareViews(viewer)
        self._layers: list[Image] = []
        self._build()
        self._blinking = QTimer(self)
        self._blinking.setInterval(_BLINK_MS)
        self._blinking.timeout.connect(self._blink)
        # The divider stays on its place on screen, once the canvas was drawn anew.
        self._moved = QTimer(self)
        self._moved.setSingleShot(True)
        self._moved.timeout.connect(self._move_divider)
        self.listen(
            (viewer.layers.events.removed, self._on_removed),
            (viewer.scene.camera.events.center, self._on_camera),
            (viewer.scene.camera.events.zoom, self._on_camera),
        )
        self.setEnabled(False)

    def compare(self, layers: Sequence[Image]) -> None:
        """Show these layers, two or more, in the view that is chosen."""
        # napari fills its grid in the order of the layers.
        self._layers = [layer for layer in self._viewer.layers if layer in layers]
        for box, layer in zip((self.first, self.second), self._layers, strict=False):
            box.fill(self._layers, layer)
        self.setEnabled(True)
        self._show()

    def end(self) -> None:
        """Show the viewer as it was before."""
        self._blinking.stop()
        self._layers = []
        self._views.end()
        for box in (self.first, self.second):
            box.clear()
        self.setEnabled(False)

    def close_down(self) -> None:
        """End, and listen to the viewer no more."""
        super().close_down()
        self.end()

    def _build(self) -> None:
        self.side_by_side = QRadioButton("Side &by side")
        self.side_by_side.setToolTip("A cell for each image; all are zoomed together")
        self.swipe = QRadioButton("S&wipe")
        self.swipe.setToolTip("A left of a divider, B right of it, on the same spot")
        self.blink = QRadioButton("Bl&ink")
        self.blink.setToolTip("A and B in turns on the same spot")
        self.side_by_side.setChecked(True)
        group, row = QButtonGroup(self), QHBoxLayout()
        for button in (self.side_by_side, self.swipe, self.blink):
            group.addButton(button)
            row.addWidget(button)
        group.buttonClicked.connect(self._show)
        self.first = LayerBox("Left of the divider, or the first to blink")
        self.second = LayerBox("Right of the divider, or the second to blink")
        for box in (self.first, self.second):
            box.activated.connect(self._show)
        self.divider = QSlider(Qt.Orientation.Horizontal)
        self.divider.setRange(0, _STEPS)
        self.divider.setValue(_STEPS // 2)
        self.divider.setToolTip("Where the divider is, in what is visible of the image")
        self.divider.valueChanged.connect(self._move_divider)
        self.done = QPushButton("&Done")
        self.done.setToolTip("End the comparison: all layers are shown as before")
        self.done.clicked.connect(self.end)
        form = QFormLayout()
        form.addRow("&A", self.first)
        form.addRow("B", self.second)
        form.addRow("Di&vider", self.divider)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addLayout(form)
        layout.addWidget(self.done)

    def _show(self) -> None:
        self._blinking.stop()
        pair = self.first.currentData(), self.second.currentData()
        single = self.side_by_side.isChecked()
        for widget in (self.first, self.second):
            widget.setEnabled(not single)
        self.divider.setEnabled(self.swipe.isChecked())
        if single:
            self._views.side_by_side(self._layers)
        elif self.swipe.isChecked():
            self._views.swipe(*pair)
            self._move_divider()
        else:
            self._views.blink(pair[0])
            self._blinking.start()

    def _blink(self) -> None:
        first, second = self.first.currentData(), self.second.currentData()
        self._views.blink(second if first.visible else first)

    def _move_divider(self) -> None:
        self._views.move_divider(self.divider.value() / _STEPS)

    def _on_camera(self, event: Event) -> None:
        if self._views.cover is not None:
            self._moved.start()

    def _on_removed(self, event: Event) -> None:
        if event.value == self._views.cover:
            self.end()
        elif event.value in self._layers:
            left = [layer for layer in self._layers if layer != event.value]
            if len(left) > 1:
                self.compare(left)
            else:
                self.end()
