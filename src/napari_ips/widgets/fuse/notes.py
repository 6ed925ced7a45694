"""A line below a field that says what cannot work."""

from __future__ import annotations

from html import escape

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
        # The colour of warnings is hard to read as that of a text in a light theme.
        colour = get_theme(get_settings().appearance.theme).warning.as_hex()
        self.setText(f'<span style="color: {colour}">⚠</span> {escape(words)}')
        self.setVisible(bool(words))
