"""What the forms of the docks have in common: one signal for whatever changes at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget


class Form(QWidget):
    """Fields that depend on each other.

    Attributes
    ----------
    changed : Signal()
        Some field has another value.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._quiet = False

    def _on(self, update: Any) -> Any:
        """Return what follows a change by the user: an update, and one signal."""

        def follow(*_: object) -> None:
            if not self._quiet:
                with self._at_once():
                    update()

        return follow

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Change several fields, and tell of it once."""
        if self._quiet:
            yield
            return
        self._quiet = True
        try:
            yield
            self._follow()
        finally:
            self._quiet = False
        self.changed.emit()

    def _follow(self) -> None:
        """Adapt fields to what others say, before anybody is told."""
