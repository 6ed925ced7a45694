"""A list in which images and methods are ticked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

# Pixels; longer names of layers would widen the dock.
_LONGEST_TEXT = 250


@dataclass(frozen=True)
class Choice:
    """``value`` that can be ticked; ``key`` tells it from the others."""

    key: str
    value: Any
    text: str
    tip: str
    ticked: bool


class Choices(QWidget):
    """Remembers what was ticked when it is filled anew.

    Parameters
    ----------
    changed : callable
        Called when the user ticks something, or takes a tick away.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        self._boxes: list[tuple[Choice, QCheckBox]] = []
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(2)

    def fill(self, choices: list[Choice]) -> None:
        """List these choices; those that were listed before keep their ticks."""
        before = {choice.key: box.isChecked() for choice, box in self._boxes}
        for _, box in self._boxes:
            # At once, where the event loop deletes it only later.
            box.setParent(None)
            box.deleteLater()
        self._boxes = []
        for choice in choices:
            box = QCheckBox(self._elided(choice.text))
            box.setToolTip(f"{choice.text}\n{choice.tip}")
            box.setChecked(before.get(choice.key, choice.ticked))
            box.toggled.connect(self._changed)
            self._rows.addWidget(box)
            self._boxes.append((choice, box))

    def ticked(self) -> list[Any]:
        """Return the values that are ticked, in order."""
        return [choice.value for choice, box in self._boxes if box.isChecked()]

    def boxes(self) -> list[QCheckBox]:
        """Return all boxes, from top to bottom."""
        return [box for _, box in self._boxes]

    def box(self, key: str) -> QCheckBox:
        """Return the box of a choice."""
        return next(box for choice, box in self._boxes if choice.key == key)

    def _elided(self, text: str) -> str:
        middle = Qt.TextElideMode.ElideMiddle
        short = self.fontMetrics().elidedText(text, middle, _LONGEST_TEXT)
        # A single ampersand would underline what follows.
        return str(short).replace("&", "&&")
