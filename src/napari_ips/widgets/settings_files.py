"""Settings as the docks save, load and copy them; what is wrong is told in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from napari.utils.notifications import show_error, show_info
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_ips.config import Config
from napari_ips.errors import IPSError
from napari_ips.files import written_whole

_TOML = "Settings (*.toml)"
_Config = TypeVar("_Config", bound=Config)


def copy_text(text: Callable[[], str]) -> None:
    """Put a text on the clipboard."""
    try:
        made = text()
    except IPSError as error:
        show_error(str(error))
        return
    QGuiApplication.clipboard().setText(made)
    show_info("Copied.")


def save_settings(config: Callable[[], Config], parent: QWidget, suggested: str) -> None:
    """Ask for a file, and write settings to it."""
    try:
        settings = config()
    except IPSError as error:
        show_error(str(error))
        return
    path, _ = QFileDialog.getSaveFileName(parent, "Save settings", suggested, _TOML)
    if not path:
        return
    path = path if path.endswith(".toml") else f"{path}.toml"
    try:
        with written_whole(Path(path)) as part:
            settings.to_toml(part)
    except (IPSError, OSError) as error:
        show_error(str(error))


def load_settings(kind: type[_Config], parent: QWidget) -> _Config | None:
    """Ask for a file, and read settings from it; None if there are none."""
    path, _ = QFileDialog.getOpenFileName(parent, "Load settings", "", _TOML)
    if not path:
        return None
    try:
        return kind.from_toml(path)
    except IPSError as error:
        show_error(str(error))
        return None
