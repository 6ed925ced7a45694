"""The plot of a focus curve: evidence over slices, its peak, and the slice in view."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import qtpy
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

_HEIGHT = 190
# Numbers along the axis of slices, at most.
_TICKS = 12


class CurvePlot(QWidget):
    """Shows one focus curve; a click or a drag of the line asks for another slice."""

    slice_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        graphs = pyqtgraph()
        self._plot = graphs.PlotWidget()
        self._plot.setMinimumHeight(_HEIGHT)
        # As wide as the dock happens to be: what it would like by itself is far too much.
        self._plot.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self._plot.setToolTip(
            "How sharp each slice is here: the highest is the sharpest. Click to show a "
            "slice, or drag the line."
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._plot)
        self._item = self._plot.getPlotItem()
        self._item.setMouseEnabled(False, False)
        self._item.setMenuEnabled(False)
        self._item.hideButtons()
        self._curve = self._item.plot(symbol="o", symbolSize=5, connect="finite")
        self._best = self._item.plot(symbol="o", symbolSize=11)
        self._peak = graphs.InfiniteLine(
            angle=90, label="peak", labelOpts={"position": 0.14}
        )
        self._current = graphs.InfiniteLine(
            angle=90, movable=True, label="in view", labelOpts={"position": 0.05}
        )
        for line in (self._peak, self._current):
            self._item.addItem(line, ignoreBounds=True)
            line.setVisible(False)
        for name in ("bottom", "left", "top"):
            self._item.getAxis(name).enableAutoSIPrefix(False)
        self._item.setLabel("bottom", "slice")
        self._item.setLabel("left", "evidence of focus (log-odds)")
        self.clear()
        self._plot.scene().sigMouseClicked.connect(self._on_click)
        self._current.sigDragged.connect(self._on_drag)

    def show_curve(
        self,
        curve: NDArray[np.float32],
        first: int,
        peak: float,
        z_step: float | None,
        unit: str,
    ) -> None:
        """Show a curve.

        Parameters
        ----------
        curve : ndarray, shape (n,)
            Evidence; only its differences are shown.
        first : int
            The slice of its first value.
        peak : float
            Where it is highest, in slices.
        z_step : float or None
            Distance of the slices in `unit`; None if it is not known.
        unit : str
        """
        self._slices = range(first, first + len(curve))
        known = np.isfinite(curve)
        raised = curve - (curve[known].min() if known.any() else 0)
        self._curve.setData(np.array(self._slices), raised)
        best = int(np.nanargmax(raised)) if known.any() else 0
        self._best.setData([first + best], [raised[best] if known.any() else 0.0])
        self._peak.setValue(peak)
        self._peak.setVisible(True)
        self._current.setBounds((self._slices[0], self._slices[-1]))
        self._show_values(True)
        # Whole numbers only, however few slices there are.
        ticks = self._slices[:: -(-len(self._slices) // _TICKS)]
        self._item.getAxis("bottom").setTicks([[(n, str(n)) for n in ticks]])
        self._item.showAxis("top", z_step is not None)
        if z_step is not None:
            self._item.getAxis("top").setScale(z_step)
            self._item.setLabel("top", f"z ({unit})" if unit else "z")
        # A flat curve is shown as flat, not as its rounding errors.
        top = max(float(raised[known].max(initial=0)), 1e-3)
        self._item.setXRange(first - 0.3, first + len(curve) - 0.7, padding=0.01)
        self._item.setYRange(0, 1.08 * top, padding=0.03)

    def clear(self) -> None:
        """Show no curve."""
        self._slices = range(0)
        self._show_values(False)
        for points in (self._curve, self._best):
            points.setData([], [])
        for line in (self._peak, self._current):
            line.setVisible(False)

    def show_current(self, slice_: int) -> None:
        """Mark the slice that is in view."""
        self._current.setVisible(slice_ in self._slices)
        self._current.setValue(slice_)

    def set_colors(self, theme: Any) -> None:
        """Take the colours of a napari theme."""
        background, text, faint, strong = (
            QColor(getattr(theme, name).as_hex())
            for name in ("background", "text", "secondary", "current")
        )
        graphs = pyqtgraph()
        self._plot.setBackground(background)
        for name in ("bottom", "left", "top"):
            axis = self._item.getAxis(name)
            axis.setPen(faint)
            axis.setTextPen(text)
        self._curve.setPen(graphs.mkPen(text, width=1.5))
        self._curve.setSymbolBrush(text)
        self._curve.setSymbolPen(None)
        self._best.setSymbolBrush(strong)
        self._best.setSymbolPen(text)
        self._peak.setPen(graphs.mkPen(strong, width=2, style=Qt.PenStyle.DashLine))
        self._current.setPen(graphs.mkPen(faint, width=3))
        self._peak.label.setColor(text)
        self._current.label.setColor(text)
        self._current.setHoverPen(graphs.mkPen(text, width=3))

    def _show_values(self, on: bool) -> None:
        for name in ("bottom", "left", "top"):
            self._item.getAxis(name).setStyle(showValues=on)

    def _on_click(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton or not self._slices:
            return
        place = self._item.vb.mapSceneToView(event.scenePos())
        self._choose(place.x())

    def _on_drag(self, line: Any) -> None:
        self._choose(line.value())

    def _choose(self, x: float) -> None:
        nearest = min(max(round(x), self._slices[0]), self._slices[-1])
        self.slice_chosen.emit(nearest)


def pyqtgraph() -> Any:
    """Import pyqtgraph with the Qt that napari uses, of which there may be several."""
    if "pyqtgraph" not in sys.modules:
        import os

        os.environ["PYQTGRAPH_QT_LIB"] = qtpy.API_NAME
    import pyqtgraph

    return pyqtgraph
