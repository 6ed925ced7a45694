"""The fields of the dock "3-D surface"."""

from __future__ import annotations

from collections.abc import Sequence

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_ips.widgets.dock import LayerBox
from napari_ips.widgets.results import facts
from napari_ips.widgets.surface.reliefs import ZScale


class SurfaceFields(QWidget):
    """What a surface is made of and how.

    Signals
    -------
    heights_changed
        Another height map was chosen.
    changed
        Anything else was chosen or entered.
    """

    heights_changed = Signal()
    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.heights = LayerBox("Height map, as a fusion makes it (depth)")
        self.image = LayerBox("The image that is laid on the surface")
        self.smoothing = _number(3, 0, 50, " px", 0.5)
        self.smoothing.setToolTip(
            "Radius of the smoothing; heights that are sure count more"
        )
        self.step = _number(1, 0.001, 1e6, "", 0.1)
        self.exaggeration = _number(1, 0.1, 100, " ×", 0.5)
        self.exaggeration.setToolTip(
            "How much steeper than it is; 1 is true scale. Not in exported files"
        )
        self.note = QLabel()
        self.note.setWordWrap(True)
        form = QFormLayout()
        form.addRow("&Height map", self.heights)
        form.addRow("&Image", self.image)
        form.addRow("S&moothing", self.smoothing)
        form.addRow("Slice &distance", self.step)
        form.addRow("E&xaggeration", self.exaggeration)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.note)
        self.heights.currentIndexChanged.connect(self.heights_changed)
        self.image.currentIndexChanged.connect(self.changed)
        for field in (self.smoothing, self.step, self.exaggeration):
            field.valueChanged.connect(self.changed)

    def list_heights(self, layers: Sequence[Image]) -> None:
        """Offer height maps; the one that was chosen stays so if it is among them."""
        self.heights.fill(layers, self.heights.currentData())

    def list_images(self, layers: Sequence[Image], *, anew: bool) -> None:
        """Offer images; `anew` chooses the first, whatever was chosen."""
        kept = [] if anew or not self.image.count() else [self.image.currentData()]
        self.image.fill([*layers, None], *kept, nothing="Colours of the heights")

    def show_scale(self, scale: ZScale | None) -> None:
        """Show the distance of the slices, or ask for it if it is not known."""
        chosen = self.heights.currentData()
        self.step.blockSignals(True)
        self.step.setSuffix(f" {chosen.units[-1]:~P}" if chosen else "")
        self.step.setValue(scale.step if scale else 1.0)
        self.step.blockSignals(False)
        self.step.setEnabled(chosen is not None and scale is None)
        if scale is not None:
            self.step.setToolTip(f"As in {(facts(chosen) or {}).get('source name')}")
        else:
            self.step.setToolTip("What a height of 1 is in the unit of the image's pixels")
        self.note.setText(
            "The distance of the slices is not known: enter it for a true scale."
            if chosen is not None
            else "Fuse a z-stack first: its height map becomes the surface."
        )
        self.note.setVisible(scale is None)


def _number(
    value: float, least: float, most: float, suffix: str, step: float
) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setRange(least, most)
    field.setDecimals(3 if 0 < least < 0.1 else 1)
    field.setSingleStep(step)
    field.setValue(value)
    field.setSuffix(suffix)
    # While a number is typed, its first digits are not yet a choice.
    field.setKeyboardTracking(False)
    return field
