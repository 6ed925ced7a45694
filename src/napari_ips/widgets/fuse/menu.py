"""The two menus of the fuse widget: what to do with a result, and with settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QMenu, QPushButton, QWidget

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.widgets.fuse.form import FuseForm
from napari_ips.widgets.fuse.reproduce import as_command, as_python
from napari_ips.widgets.fuse.state import FuseState
from napari_ips.widgets.fuse.tooltips import TOOLTIPS
from napari_ips.widgets.save_dialog import save_with_dialog
from napari_ips.widgets.settings_files import copy_text, load_settings, save_settings

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

# The other docks of the plugin, as the manifest names them.
_DOCKS = ("Focus curve", "Retouch by slice", "3-D surface", "Compare fusions")


class ToolsButton(QPushButton):
    """Save a result, or open a dock that does something with it."""

    def __init__(self, viewer: napari.Viewer, parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._fused: Image | None = None
        self.setText("Result")
        self.setToolTip(TOOLTIPS["tools"])
        menu = QMenu(self)
        self.save = menu.addAction("Save fused image…", self._save)
        self.save.setToolTip(TOOLTIPS["save"])
        menu.addSeparator()
        for name in _DOCKS:
            menu.addAction(name, lambda name=name: self._open(name))
        self.setMenu(menu)
        menu.aboutToShow.connect(self._update)

    def offer(self, fused: Image | None) -> None:
        """Take a result as the one that is saved."""
        self._fused = fused

    def _update(self) -> None:
        self.save.setEnabled(self._fused in self._viewer.layers)

    def _open(self, name: str) -> None:
        self._viewer.window.add_plugin_dock_widget("napari-ips", name, tabify=True)

    def _save(self) -> None:
        assert self._fused is not None, "else it could not be chosen"
        save_with_dialog(self._fused, self)


class MoreButton(QPushButton):
    """Settings as a file, and a run as text."""

    def __init__(self, form: FuseForm, parent: QWidget) -> None:
        super().__init__(parent)
        self._form = form
        self.setText("More")
        self.setToolTip(TOOLTIPS["more"])
        menu = QMenu(self)
        menu.addAction("Copy as Python", lambda: copy_text(lambda: self._text(as_python)))
        menu.addAction(
            "Copy as command line", lambda: copy_text(lambda: self._text(as_command))
        )
        menu.addSeparator()
        menu.addAction("Save settings…", self._save)
        menu.addAction("Load settings…", self._load)
        menu.addAction("Reset settings", lambda: self._form.set_config(FuseConfig()))
        menu.addSeparator()
        menu.addAction("Manage weights…", self._manage)
        self.setMenu(menu)

    def _manage(self) -> None:
        from napari_ips.widgets.train.manager import manage_weights

        manage_weights(self.window())

    def _text(self, as_text: Callable[[FuseState], str]) -> str:
        problems = self._form.problems()
        # Where a run was written, that it is there is no reason not to tell of it.
        problems.pop("output", None)
        if problems:
            raise IPSError(next(iter(problems.values())))
        return as_text(self._form.state())

    def _save(self) -> None:
        save_settings(self._form.config, self, "fuse.toml")

    def _load(self) -> None:
        config = load_settings(FuseConfig, self)
        if config is not None:
            self._form.set_config(config)
