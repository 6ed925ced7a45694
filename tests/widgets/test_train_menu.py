"""A training as a command line and as a file, from the menu of its dock."""

import shlex

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog

from napari_ips import TrainConfig
from napari_ips.cli.train import _settings
from napari_ips.config import parse_assignment
from napari_ips.widgets.train import form as form_module
from napari_ips.widgets.train.form import TrainForm
from napari_ips.widgets.train.menu import MoreButton


@pytest.fixture
def form(qtbot, tmp_path, monkeypatch):
    """The form, with a folder to train on, which nobody looks into."""
    monkeypatch.setattr(form_module, "survey", lambda *_: None)
    folder = tmp_path / "my images"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.zeros((200, 200), np.uint8))
    form = TrainForm(ViewerModel())
    qtbot.addWidget(form)
    form.sources.set_paths((folder,))
    form.title.setText("liver 20x")
    return form


@pytest.fixture
def button(form, qtbot):
    button = MoreButton(form)
    qtbot.addWidget(button)
    form.show()
    return button


@pytest.fixture
def chosen(monkeypatch, tmp_path):
    """The file that is answered to the dialogs."""
    path = tmp_path / "settings.toml"
    for name in ("getSaveFileName", "getOpenFileName"):
        monkeypatch.setattr(QFileDialog, name, lambda *_: (str(path), ""))
    return path


def choose(button, text):
    button.menu().aboutToShow.emit()
    (action,) = [action for action in button.menu().actions() if action.text() == text]
    assert action.isEnabled()
    action.trigger()


def as_settings(words, folder):
    """Read a command line of `napari-ips train` as that command does."""
    words, preset, options, assignments = list(words), None, {}, []
    assert words[:3] == ["napari-ips", "train", str(folder)]
    for option, value in zip(words[3::2], words[4::2], strict=True):
        if option == "--set":
            assignments.append(value)
        elif option == "--preset":
            preset = value
        elif option != "--name":
            # What the options of the command line convert, TOML does as well.
            options |= parse_assignment(f"{option[2:].replace('-', '_')}={value}")
    options |= {"images": (folder,), "output": "w.safetensors"}
    return _settings(preset, None, options, assignments)


@pytest.mark.parametrize(
    "changed",
    [
        {"minutes": 3.0, "start_from": "default", "learning_rate": 3e-4},
        {"minutes": 3.0, "notes": "H&E, 20x", "noise": "measured", "jpeg": 0.0},
        {"iterations": 90, "low_pass": ("median", "mean"), "kernel_range": (5, 9)},
        {"iterations": 9, "network": {"width": 8, "mamba_blocks": 2}, "seed": 4},
    ],
)
@pytest.mark.parametrize("preset", ["microscopy", "paper"])
def test_the_command_line_trains_the_same(form, button, chosen, preset, changed):
    folder = form.sources.paths()[0]
    told = {"images": (folder,), "output": "w.safetensors"}
    if preset == "paper" and "minutes" in changed:
        changed = changed | {"iterations": None}
    form.set_values(TrainConfig.from_preset(preset, **told, **changed))
    choose(button, "Copy as command line")
    words = shlex.split(QGuiApplication.clipboard().text())
    assert words[words.index("--name") + 1] == "liver 20x"
    expected = form.state().config("w.safetensors", (folder,))
    got = as_settings(words, folder)
    if preset == "paper" and "minutes" in changed:
        # The preset's million steps, which no option takes back, are far beyond.
        got = got.model_copy(update={"iterations": None})
    assert got == expected


def test_settings_are_saved_and_loaded(form, button, chosen):
    form.advanced.fields["jpeg"].put(0.125)
    choose(button, "Save settings…")
    assert TrainConfig.from_toml(chosen).jpeg == 0.125
    form.advanced.fields["jpeg"].put(0.0)
    choose(button, "Load settings…")
    assert form.values()["jpeg"] == 0.125


def test_a_file_that_holds_no_settings_changes_nothing(form, button, chosen):
    before = form.state()
    chosen.write_text("sharpness = 3", encoding="utf-8")
    choose(button, "Load settings…")
    assert form.state() == before


def test_settings_are_out_of_reach_while_they_are_not_seen(form, button):
    form.hide()
    button.menu().aboutToShow.emit()
    enabled = [a.text() for a in button.menu().actions() if a.isEnabled() and a.text()]
    assert enabled == ["Manage weights…"]
