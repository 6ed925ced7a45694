"""A line below a field that says what cannot work."""

from __future__ import annotations

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QLabel


class FieldNote(QLabel):
    """Hidden while there is nothing to tell."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.tell("")

    def tell(self, words: str) -> None:
        """Show a line, or nothing."""
        theme = get_theme(get_settings().appearance.theme)
        self.setStyleSheet(f"color: {theme.warning.as_hex()}")
        self.setText(f"⚠ {words}" if words else "")
        self.setVisible(bool(words))
