"""How long a training would take, if somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_ips.widgets.fuse.notes import WrappedLabel
from napari_ips.widgets.train.inquiry import Inquiry
from napari_ips.widgets.train.state import TrainState
from napari_ips.widgets.train.surveys import estimate
from napari_ips.widgets.train.tooltips import TOOLTIPS

if TYPE_CHECKING:
    from napari_ips.training.estimate import RunEstimate


class EstimateRow(QWidget):
    """A button, and beside it what a few steps told.

    Attributes
    ----------
    asked : Signal()
        The button was pressed.
    """

    asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._of: tuple[Any, ...] = ()
        self._inquiry = Inquiry(self)
        self.button, self.told = QPushButton("Estimate"), WrappedLabel()
        self.button.setToolTip(TOOLTIPS["estimate"])
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.button, alignment=Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.told, stretch=1)
        self.button.clicked.connect(lambda: self.asked.emit())
        self._inquiry.answered.connect(self._show)
        self._inquiry.failed.connect(self._tell)

    @property
    def busy(self) -> bool:
        """Whether steps are being tried."""
        return self._inquiry.busy

    def ask(self, state: TrainState) -> None:
        """Try a few steps."""
        self._of = _decisive(state)
        self._tell("Trying a few steps…")
        self.button.setEnabled(False)
        self._inquiry.ask(lambda stop, _: estimate(state, stop))

    def follow(self, state: TrainState) -> None:
        """Forget what was told of other settings."""
        if self._of != _decisive(state):
            self.drop()

    def drop(self) -> None:
        """Try no more steps, and tell nothing."""
        self._inquiry.cancel()
        self._tell("")

    def _show(self, found: RunEstimate) -> None:
        self._tell(found.summary)

    def _tell(self, words: str) -> None:
        self.button.setEnabled(True)
        self.told.setText(words)


def _decisive(state: TrainState) -> tuple[Any, ...]:
    """Return what the time and the memory of a step depend on."""
    return repr(state.values), state.layers, state.paths
