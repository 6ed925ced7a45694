"""What the dock "Focus curve" consists of."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_ips.widgets.curve.plot import CurvePlot
from napari_ips.widgets.dock import Dock

HOW = "Click into the image to see how sharp each slice is there."
_LARGEST_RADIUS = 128
_WIDTH = 320


class CurvePanel(Dock):
    """The fields, the plot and the buttons, in their places."""

    def __init__(self) -> None:
        super().__init__()
        self.stack_name = QLabel()
        self.stack_name.setToolTip("The z-stack that the curve is about: the active layer.")
        self.stack_name.setSizePolicy(
            QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred
        )
        self.pick = QCheckBox("&Pick by click")
        self.pick.setChecked(True)
        self.pick.setToolTip(
            "A click into the image picks a pixel; dragging moves the view as ever."
        )
        self.radius = QSpinBox()
        self.radius.setRange(0, _LARGEST_RADIUS)
        self.radius.setPrefix("± ")
        self.radius.setSuffix(" px")
        self.radius.setToolTip(
            "How far the area reaches around the picked pixel; 0: the pixel alone."
        )
        # A number that is being typed is not one to compute for.
        self.radius.setKeyboardTracking(False)
        self.plot = CurvePlot()
        self.plot.setMinimumWidth(_WIDTH)
        self.text = QLabel(HOW)
        self.text.setWordWrap(True)
        self.text.setMinimumHeight(2 * self.text.fontMetrics().lineSpacing())
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.of_view = QPushButton("of the &view")
        self.of_view.setToolTip(
            "Find the slice that is sharpest over what the canvas shows, and show it."
        )
        self.of_shape = QPushButton("of the &shape")
        self.of_shape.setToolTip(
            "Find the slice that is sharpest within the selected shapes of a shapes layer, "
            "and show it."
        )
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(8)
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop computing the curve.")

        layout = QVBoxLayout(self)
        layout.addWidget(self.stack_name)
        layout.addLayout(_row(self.pick, None, self.radius))
        layout.addWidget(self.plot, stretch=1)
        layout.addWidget(self.text)
        layout.addLayout(_row(QLabel("Best slice"), self.of_view, self.of_shape))
        layout.addLayout(_row(self.progress, self.cancel))
        for part in (self.progress, self.cancel):
            kept = part.sizePolicy()
            kept.setRetainSizeWhenHidden(True)
            part.setSizePolicy(kept)
            part.hide()


def _row(*parts: QWidget | None) -> QHBoxLayout:
    """Put widgets side by side; None is empty room."""
    row = QHBoxLayout()
    for part in parts:
        if part is None:
            row.addStretch()
        else:
            row.addWidget(part)
    return row
