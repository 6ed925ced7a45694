"""The plot of a training run: loss above, PSNR of the held-out crops below."""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_ips.widgets.curve.plot import pyqtgraph
from napari_ips.widgets.train.history import History

_HEIGHT = 230
# More points than a dock has columns are not seen, and take time to draw.
_POINTS = 1500
_MANY_DECADES = 3


class TrainingPlot(QWidget):
    """Shows a `History`, by iteration."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        graphs = pyqtgraph()
        self._view = graphs.GraphicsLayoutWidget()
        self._view.setMinimumHeight(_HEIGHT)
        # As wide as the dock happens to be: what it would like by itself is far too much.
        self._view.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self._view.setToolTip(
            "Above: the loss of each step (faint) and smoothed. Below: how well crops are "
            "fused that were held out of the training; higher is better. The dashed line "
            "is where the run began."
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._view)
        policy = self._view.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self._view.setSizePolicy(policy)
        self._losses = self._view.addPlot(row=0, col=0)
        self._psnrs = self._view.addPlot(row=1, col=0)
        self._psnrs.setXLink(self._losses)
        for item, label in ((self._losses, "loss"), (self._psnrs, "PSNR (dB)")):
            item.setMouseEnabled(False, False)
            item.setMenuEnabled(False)
            item.hideButtons()
            item.setLabel("left", label)
            for side in ("left", "bottom"):
                item.getAxis(side).enableAutoSIPrefix(False)
            # Of equal width, so that the iterations stand above each other.
            item.getAxis("left").setWidth(58)
        self._losses.setLogMode(y=True)
        self._losses.getAxis("bottom").setStyle(showValues=False)
        self._psnrs.setLabel("bottom", "iteration")
        self._raw = self._losses.plot()
        self._smooth = self._losses.plot()
        self._psnr = self._psnrs.plot(symbol="o", symbolSize=5)
        self._begin = graphs.InfiniteLine(angle=0)
        self._psnrs.addItem(self._begin)
        self.show_history(History())

    def show_history(self, history: History) -> None:
        """Draw all lines anew."""
        raw = history.loss.thinned(_POINTS)
        self._raw.setData(*raw)
        self._smooth.setData(*history.smooth.thinned(_POINTS))
        # pyqtgraph writes the numbers of a logarithmic axis over each other.
        self._losses.getAxis("left").setTicks([_decades(raw[1])])
        psnr = history.psnr
        self._psnr.setData(*psnr.thinned(_POINTS))
        self._begin.setVisible(bool(psnr.values))
        if psnr.values:
            self._begin.setValue(psnr.values[0])
            # A run that hardly changes is shown so, not as its last decimals.
            low, high = min(psnr.values), max(psnr.values)
            margin = max(0.1 * (high - low), 0.1)
            self._psnrs.setYRange(low - margin, high + margin, padding=0)
        # Axes without points would have numbers that mean nothing.
        self._view.setVisible(bool(history.loss.values or psnr.values))
        last = max((*history.loss.iterations[-1:], *psnr.iterations[-1:], 10))
        self._losses.setXRange(0, last, padding=0.02)

    def set_colors(self, theme: Any) -> None:
        """Take the colours of a napari theme."""
        graphs = pyqtgraph()
        background, text, faint, strong = (
            QColor(getattr(theme, name).as_hex())
            for name in ("background", "text", "secondary", "current")
        )
        self._view.setBackground(background)
        for item in (self._losses, self._psnrs):
            for side in ("left", "bottom"):
                axis = item.getAxis(side)
                axis.setPen(faint)
                axis.setTextPen(text)
        self._raw.setPen(graphs.mkPen(faint, width=1))
        self._smooth.setPen(graphs.mkPen(text, width=1.5))
        self._psnr.setPen(graphs.mkPen(text, width=1.5))
        self._psnr.setSymbolBrush(text)
        self._psnr.setSymbolPen(None)
        self._begin.setPen(graphs.mkPen(strong, width=1.5, style=Qt.PenStyle.DashLine))


def _decades(values: list[float]) -> list[tuple[float, str]]:
    """Return places (log10) and numbers for an axis: 1, 2 and 5 of every decade."""
    shown = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
    steps = (1, 2, 5) if high - low < _MANY_DECADES else (1,)
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return [(math.log10(tick), f"{tick:.3g}") for tick in ticks]
