"""Settings in TOML files, as the docks save and load them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_ips.config import Config
from napari_ips.errors import IPSError
from napari_ips.files import written_whole

_TOML = "Settings (*.toml)"
_Config = TypeVar("_Config", bound=Config)


def save_settings(config: Config, parent: QWidget, suggested: str) -> None:
    """Ask for a file, and write settings to it."""
    path, _ = QFileDialog.getSaveFileName(parent, "Save settings", suggested, _TOML)
    if not path:
        return
    path = path if path.endswith(".toml") else f"{path}.toml"
    try:
        with written_whole(Path(path)) as part:
            config.to_toml(part)
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
