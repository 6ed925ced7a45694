"""What the docks have in common: they follow the viewer, and list its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import QEvent, QSize
from qtpy.QtWidgets import QComboBox, QScrollArea, QWidget

# Letters of the name of a layer that are always to be seen.
_LEAST_LETTERS = 16


class Dock(QWidget):
    """A dock, or a part of one, that listens to the viewer until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: tuple[tuple[Any, Callable[..., None]], ...] = ()

    def listen(self, *connections: tuple[Any, Callable[..., None]]) -> None:
        """Connect events with functions, in place of those that were connected."""
        self.leave()
        self._connections = connections
        for emitter, function in connections:
            emitter.connect(function)

    def leave(self) -> None:
        """Listen no more."""
        for emitter, function in self._connections:
            emitter.disconnect(function)
        self._connections = ()

    def close_down(self) -> None:
        """Let go of the viewer, for the dock is closed."""
        self.leave()

    def event(self, event: QEvent | None) -> bool:
        """Notice that napari takes the widget out of its dock, which closes it."""
        moved = event is not None and event.type() == QEvent.Type.ParentChange
        if moved and self.parent() is None:
            self.close_down()
        return bool(super().event(event))


class LayerBox(QComboBox):
    """A list of layers to choose one from, as narrow as its dock."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(_LEAST_LETTERS)

    def fill(
        self, layers: Sequence[Layer | None], *wanted: Layer | None, nothing: str = ""
    ) -> None:
        """List these layers and choose the first wanted one, else the first; quietly.

        None is listed as `nothing`.
        """
        self.blockSignals(True)
        self.clear()
        for layer in layers:
            self.addItem(nothing if layer is None else layer.name, layer)
        places = [layers.index(layer) for layer in wanted if layer in layers]
        self.setCurrentIndex(places[0] if places else 0)
        self.blockSignals(False)


class VerticalScroll(QScrollArea):
    """A scroll area that is as wide as what is in it, so that nothing is cut off."""

    def minimumSizeHint(self) -> QSize:
        """Ask for the width of what is inside, and of the bar."""
        content = self.widget().minimumSizeHint().width()
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(content + bar, super().minimumSizeHint().height())
