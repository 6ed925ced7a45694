"""The part of the retouch dock that chooses the slice to paint with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import napari.viewer
from napari.layers import Labels, Layer
from napari.utils.events import Event
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QGroupBox,
    QLabel,
    QPushButton,
    QSlider,
    QSpinBox,
    QWidget,
)

from napari_ips.widgets.places import show_slice, slice_in_view
from napari_ips.widgets.results import facts
from napari_ips.widgets.retouch.retouching import OPACITY, Retouching

PEEK_KEY, PICK_KEY = "S", "D"


class Brush(QGroupBox):
    """Keeps label, z slider and the number of the slice together, while one paints."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__("Brush", parent)
        self._viewer = viewer
        self._retouching: Retouching | None = None
        self._labels: Labels | None = None
        self._before: dict[Layer, tuple[bool, float]] = {}
        self._build()
        self.use(None, None)

    def _build(self) -> None:
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.number = QSpinBox()
        for part in (self.slider, self.number):
            part.setToolTip(
                "The slice that is painted with, counted from 0; the viewer shows it too"
            )
        self.follow = QCheckBox("&Paint with the slice shown")
        self.follow.setChecked(True)
        self.follow.setToolTip(
            "The brush takes the slice to which the z slider of the viewer is moved"
        )
        self.peek = QCheckBox(f"&See that slice (hold {PEEK_KEY})")
        self.peek.setToolTip(
            "Show the slice of the stack in place of the results, to judge if it is sharp; "
            f"with the labels selected, hold the key {PEEK_KEY} to look for a moment"
        )
        self.pick = QPushButton(f"P&ick from image ({PICK_KEY})")
        self.pick.setToolTip(
            "Then click into the image: the brush takes the slice that is used there; or "
            f"point there and press {PICK_KEY}"
        )
        self.colours = QCheckBox("Show slice &colours")
        self.colours.setChecked(True)
        self.colours.setToolTip(
            "Tint each pixel by its slice; without, the retouched image is seen as it is"
        )
        caption = QLabel("S&lice")
        caption.setBuddy(self.number)
        layout = QGridLayout(self)
        layout.addWidget(caption, 0, 0)
        layout.addWidget(self.slider, 0, 1)
        layout.addWidget(self.number, 0, 2)
        layout.addWidget(self.follow, 1, 0, 1, 3)
        layout.addWidget(self.peek, 2, 0, 1, 3)
        layout.addWidget(self.colours, 3, 0, 1, 3)
        layout.addWidget(self.pick, 4, 0, 1, 3)
        self.slider.valueChanged.connect(self.number.setValue)
        self.number.valueChanged.connect(self._on_number)
        self.follow.toggled.connect(self._on_step)
        self.peek.toggled.connect(self._on_peek)
        self.colours.toggled.connect(self._on_colours)
        self.pick.clicked.connect(self._on_pick)

    def use(self, retouching: Retouching | None, labels: Labels | None) -> None:
        """Paint into another layer, or into none."""
        if labels is not None and labels is self._labels:
            return
        self.peek.setChecked(False)
        if self._labels is not None:
            self._labels.events.selected_label.disconnect(self._on_label)
            self._viewer.dims.events.current_step.disconnect(self._on_step)
        self._retouching, self._labels = retouching, labels
        self.setEnabled(labels is not None)
        if retouching is None or labels is None:
            return
        for part in (self.slider, self.number):
            part.blockSignals(True)
            part.setRange(0, retouching.edits.slices - 1)
            part.blockSignals(False)
        labels.events.selected_label.connect(self._on_label)
        self._viewer.dims.events.current_step.connect(self._on_step)
        labels.bind_key(PEEK_KEY, self._hold_peek, overwrite=True)
        labels.bind_key(PICK_KEY, self._pick_under_cursor, overwrite=True)
        self.colours.setChecked(labels.opacity > 0)
        self._on_step()

    def _on_number(self, z: int) -> None:
        """Paint with a slice, and show it."""
        self.slider.setValue(z)
        if self._labels is not None:
            self._labels.selected_label = z + 1
            self._show(z)

    def _on_step(self, event: Any = None) -> None:
        retouching = self._retouching
        if self._labels is None or retouching is None or not self.follow.isChecked():
            return
        if retouching.source in self._viewer.layers and self._viewer.dims.ndisplay == 2:
            self.number.setValue(
                slice_in_view(self._viewer, retouching.source, retouching.z_axis)
            )
            self._labels.selected_label = self.number.value() + 1

    def _on_label(self, event: Event) -> None:
        """Follow a label that was chosen by napari's own means; 0 erases."""
        label = event.source.selected_label
        if label in range(1, self.number.maximum() + 2):
            self.number.setValue(label - 1)

    def _show(self, z: int) -> None:
        retouching = self._retouching
        if retouching is None or retouching.source not in self._viewer.layers:
            return
        source, z_axis = retouching.source, retouching.z_axis
        if slice_in_view(self._viewer, source, z_axis) != z:
            show_slice(self._viewer, source, z_axis, z)

    def _on_colours(self, on: bool) -> None:
        # What is invisible cannot be painted in; what is transparent can.
        if self._labels is not None:
            self._labels.opacity = OPACITY if on else 0

    def _on_pick(self) -> None:
        if self._labels is not None:
            self._viewer.layers.selection.active = self._labels
            self._labels.mode = "pick"

    def _pick_under_cursor(self, labels: Labels) -> None:
        label = labels.get_value(
            self._viewer.cursor.position, world=True, dims_displayed=[0, 1]
        )
        if label:
            labels.selected_label = label

    def _hold_peek(self, labels: Labels) -> Iterator[None]:
        self.peek.setChecked(True)
        yield
        self.peek.setChecked(False)

    def _on_peek(self, on: bool) -> None:
        """Hide what lies over the stack, and show it again as it was."""
        if on and self._retouching is not None:
            source = self._retouching.source
            self._before = {
                layer: (layer.visible, layer.opacity)
                for layer in self._viewer.layers
                if layer is source or facts(layer) is not None
            }
            for layer in self._before:
                # Hidden, the labels could not be painted in.
                _set_visible(layer, layer in (source, self._labels))
            if self._labels is not None:
                self._labels.opacity = 0
        else:
            for layer, (visible, opacity) in self._before.items():
                _set_visible(layer, visible)
                layer.opacity = opacity
            self._before = {}


def _set_visible(layer: Layer, visible: bool) -> None:
    # Without a change, napari would still end the painting in the layer.
    if layer.visible != visible:
        layer.visible = visible
