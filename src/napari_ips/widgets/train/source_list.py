"""A list of layers and files with a tick each, onto which files can be dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import (
    QDragEnterEvent,
    QDragMoveEvent,
    QDropEvent,
    QKeyEvent,
    QPainter,
    QPaintEvent,
)
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem

_EMPTY = "Open images, or drop files here"


class SourceList(QListWidget):
    """Layers and paths, each once.

    Attributes
    ----------
    dropped : Signal(list of Path)
    removal_asked : Signal()
        What is selected is to be removed.
    """

    dropped = Signal(list)
    removal_asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)

    def add(self, source: Image | Path, text: str, tip: str, ticked: bool) -> None:
        """Add a row."""
        item = QListWidgetItem(text)
        item.setData(Qt.ItemDataRole.UserRole, source)
        item.setToolTip(tip)
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        state = Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked
        item.setCheckState(state)
        self.addItem(item)

    def sources(self) -> list[Any]:
        """Return what is listed."""
        return [self._source(n) for n in range(self.count())]

    def ticked(self) -> list[Any]:
        """Return what is ticked."""
        return [
            self._source(n)
            for n in range(self.count())
            if self.item(n).checkState() == Qt.CheckState.Checked
        ]

    def current(self) -> Any:
        """Return what is selected; None if nothing is."""
        chosen = self.selectedItems()
        return chosen[0].data(Qt.ItemDataRole.UserRole) if chosen else None

    def choose(self, source: Any) -> None:
        """Select a row, if it is there."""
        if source in self.sources():
            self.item(self.sources().index(source)).setSelected(True)

    def tick(self, source: Any, ticked: bool) -> None:
        """Tick a row or not."""
        state = Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked
        self.item(self.sources().index(source)).setCheckState(state)

    def drop(self, sources: list[Any]) -> None:
        """Take rows away."""
        for source in sources:
            self.takeItem(self.sources().index(source))

    def fit(self, rows: int) -> None:
        """Be as high as some rows."""
        self.setFixedHeight(rows * max(18, self.sizeHintForRow(0)) + 6)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Say what the list is for while it is empty."""
        super().paintEvent(event)
        if not self.count():
            painter = QPainter(self.viewport())
            painter.setPen(self.palette().placeholderText().color())
            area = self.viewport().rect()
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, _EMPTY)
            painter.end()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Remove what is selected by Delete."""
        if event is not None and event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.removal_asked.emit()
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Let files be dropped here instead of being opened by napari."""
        if event is not None and event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent | None) -> None:
        """Let files be dropped anywhere in the list."""
        if event is not None and event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Add the files that were dropped."""
        if event is None or not event.mimeData().hasUrls():
            return
        event.acceptProposedAction()
        urls = [url for url in event.mimeData().urls() if url.isLocalFile()]
        self.dropped.emit([Path(url.toLocalFile()) for url in urls])

    def _source(self, row: int) -> Any:
        return self.item(row).data(Qt.ItemDataRole.UserRole)
