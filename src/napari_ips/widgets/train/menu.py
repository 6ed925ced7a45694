"""The menu of the training dock: settings as a file and as text, and all weights."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QMenu, QPushButton

from napari_ips.config import TrainConfig
from napari_ips.errors import IPSError
from napari_ips.widgets.settings_files import copy_text, load_settings, save_settings
from napari_ips.widgets.train.form import TrainForm
from napari_ips.widgets.train.manager import manage_weights
from napari_ips.widgets.train.reproduce import as_command
from napari_ips.widgets.train.state import TrainState


class MoreButton(QPushButton):
    """Settings as a file, a run as a command line, and the weights there are."""

    def __init__(self, form: TrainForm) -> None:
        super().__init__("More")
        self._form = form
        menu = QMenu(self)
        self._of_settings = [
            menu.addAction("Copy as command line", lambda: copy_text(self._command)),
            menu.addAction("Save settings…", self._save),
            menu.addAction("Load settings…", self._load),
        ]
        menu.addSeparator()
        menu.addAction("Manage weights…", lambda: manage_weights(self.window()))
        menu.aboutToShow.connect(self._update)
        self.setMenu(menu)

    def _update(self) -> None:
        """Offer what is done with settings only while these can be seen."""
        for action in self._of_settings:
            action.setEnabled(self._form.isVisible())

    def _command(self) -> str:
        problems = self._form.problems()
        if problems:
            raise IPSError(next(iter(problems.values())))
        return as_command(self._form.state())

    def _save(self) -> None:
        save_settings(lambda: _config(self._form.state()), self, "train.toml")

    def _load(self) -> None:
        config = load_settings(TrainConfig, self)
        if config is not None:
            self._form.set_values(config)


def _config(state: TrainState) -> TrainConfig:
    return state.config(Path(f"{state.title or 'weights'}.safetensors"), state.paths)
