"""Lines below a field, as high as their words need."""

from __future__ import annotations

from html import escape

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QLabel


class WrappedLabel(QLabel):
    """Words that are wrapped, and never cut off, however narrow the dock is."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Take the height that the words need in this width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        self.setMinimumHeight(max(0, self.heightForWidth(self.width())))


class FieldNote(WrappedLabel):
    """What cannot work; hidden while there is nothing to tell."""

    def __init__(self) -> None:
        super().__init__()
        self.tell("")

    def tell(self, words: str) -> None:
        """Show a line, or nothing."""
        # The colour of warnings is hard to read as that of a text in a light theme.
        colour = get_theme(get_settings().appearance.theme).warning.as_hex()
        self.setText(f'<span style="color: {colour}">⚠</span> {escape(words)}')
        self.setVisible(bool(words))
        self._fit()
