"""The dialog that manages weights."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox
from small_runs import SMALL

from napari_ips import CrossImageFusionNetwork
from napari_ips.registry import register_weights
from napari_ips.weights import list_weights, save_weights
from napari_ips.widgets.fuse import FuseWidget
from napari_ips.widgets.known_weights import registry
from napari_ips.widgets.train.manager import WeightsManager


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "kidney.safetensors"
    card = {"preset": "microscopy", "iterations": "1200"}
    save_weights(path, CrossImageFusionNetwork.from_config(SMALL), card)
    return path


@pytest.fixture
def manager(file, qtbot):
    register_weights(file, "liver", "H&E")
    manager = WeightsManager()
    qtbot.addWidget(manager)
    manager.choose("liver")
    return manager


@pytest.fixture
def told():
    """Count what the docks are told."""
    calls = []

    def count():
        calls.append(1)

    registry.changed.connect(count)
    yield calls
    registry.changed.disconnect(count)


@pytest.fixture
def errors(monkeypatch):
    shown = []
    monkeypatch.setattr("napari_ips.widgets.train.manager.show_error", shown.append)
    return shown


def own():
    return [info.name for info in list_weights() if not info.bundled]


def listed(manager):
    return [manager.names.item(n).text() for n in range(manager.names.count())]


def test_all_weights_are_listed_with_their_cards(manager):
    assert listed(manager)[0] == "default"
    assert "liver" in listed(manager)
    assert "1200 steps" in manager.card.toPlainText()
    assert manager.notes.toPlainText() == "H&E"


def test_bundled_weights_can_be_exported_and_nothing_else(manager):
    manager.choose("default")
    enabled = (manager.rename, manager.delete, manager.save_notes)
    assert not any(button.isEnabled() for button in enabled)
    assert manager.export.isEnabled()
    assert manager.notes.isHidden()


def test_weights_are_imported_under_the_name_of_their_file(
    manager, file, told, monkeypatch, errors
):
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(file), ""))
    manager.import_.click()
    assert own() == ["kidney", "liver"]
    assert manager.chosen.name == "kidney"
    assert told
    manager.import_.click()
    assert "taken" in errors[0]
    assert own() == ["kidney", "liver"]


def test_what_is_no_weights_is_not_imported(manager, tmp_path, monkeypatch, errors):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nothing")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    manager.import_.click()
    assert "damaged" in errors[0]
    assert own() == ["liver"]


def test_weights_are_exported_and_nothing_is_overwritten_unasked(
    manager, tmp_path, monkeypatch, errors
):
    target = tmp_path / "out"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), ""))
    manager.export.click()
    written = target.with_suffix(".safetensors")
    assert written.is_file()
    written.write_bytes(b"precious")
    manager.export.click()
    assert "exists" in errors[0]
    assert written.read_bytes() == b"precious"


def test_weights_are_renamed(manager, told, monkeypatch):
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("spleen", True))
    manager.rename.click()
    assert own() == ["spleen"]
    assert manager.chosen.name == "spleen"
    assert told


def test_a_name_that_is_taken_is_refused(manager, monkeypatch, errors):
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("Default", True))
    manager.rename.click()
    assert "taken" in errors[0]
    assert own() == ["liver"]


def test_weights_are_deleted_if_the_user_is_sure(manager, told, monkeypatch):
    buttons = QMessageBox.StandardButton
    for answer, left in ((buttons.No, ["liver"]), (buttons.Yes, [])):
        monkeypatch.setattr(QMessageBox, "question", lambda *_, given=answer: given)
        manager.delete.click()
        assert own() == left
    assert told == [1]
    assert manager.chosen.name == "default"


def test_notes_are_kept_when_other_weights_are_chosen(manager):
    manager.notes.setPlainText("H&E, camera 2")
    assert manager.save_notes.isEnabled()
    manager.choose("default")
    assert manager.chosen.name == "default"
    (card,) = (info.card for info in list_weights() if info.name == "liver")
    assert card["notes"] == "H&E, camera 2"


def test_notes_that_are_being_written_survive_a_change_elsewhere(manager, file):
    manager.notes.setPlainText("camera 4")
    register_weights(file, "spleen")
    registry.changed.emit()
    assert "spleen" in listed(manager)
    assert manager.chosen.name == "liver"
    assert manager.notes.toPlainText() == "camera 4"


def test_notes_are_kept_when_the_dialog_is_closed(manager):
    manager.notes.setPlainText("camera 3")
    manager.close()
    (card,) = (info.card for info in list_weights() if info.name == "liver")
    assert card["notes"] == "camera 3"


def test_the_fuse_widget_opens_it(viewer, qtbot):
    fuse = FuseWidget(viewer)
    qtbot.addWidget(fuse)
    (action,) = (a for a in fuse.more.menu().actions() if "Manage" in a.text())
    action.trigger()
    (manager,) = fuse.findChildren(WeightsManager)
    assert "default" in listed(manager)
    manager.close()
