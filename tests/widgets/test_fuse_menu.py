"""A fusion as text and as a file, and results saved, from the menus of the fuse widget."""

import shlex
import shutil

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog

from napari_ips import FuseConfig, fuse_stack
from napari_ips.cli import run as run_command
from napari_ips.io import write_stack
from napari_ips.widgets.fuse import FuseWidget


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def widget(viewer, qtbot):
    widget = FuseWidget(viewer)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def opened(viewer, widget, simulated, tmp_path):
    """A z-stack in a file, opened by napari."""
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, simulated.stack, imagej=True, metadata={"axes": "ZYX"})
    (layer,) = viewer.open(path, plugin="napari")
    return layer


@pytest.fixture
def chooses(monkeypatch):
    """Answer the dialogs for files."""

    def answer(path):
        for name in ("getSaveFileName", "getOpenFileName"):
            monkeypatch.setattr(QFileDialog, name, lambda *_: (str(path), ""))

    return answer


def choose(button, text):
    (action,) = [action for action in button.menu().actions() if action.text() == text]
    button.menu().aboutToShow.emit()
    assert action.isEnabled()
    action.trigger()


def copied(widget, text):
    QGuiApplication.clipboard().setText("nothing")
    choose(widget.more, text)
    return QGuiApplication.clipboard().text()


def fuse(widget, qtbot):
    widget.run_button.click()
    qtbot.waitUntil(lambda: widget.run_button.text() == "Fuse", timeout=20_000)


def set_fields(form):
    form.slices.setValue((1, 4))
    form.advanced.mode.value = "hard"
    form.advanced.auto_smoothing.value = False
    form.advanced.smoothing.value = 1.5
    form.advanced.both_orders.value = True


def test_python_of_a_file_fuses_the_same(viewer, opened, widget, qtbot):
    set_fields(widget.form)
    text = copied(widget, "Copy as Python")
    assert "viewer" not in text
    found = {}
    exec(text, found)
    fuse(widget, qtbot)
    np.testing.assert_array_equal(
        found["result"].fused[0, 0], viewer.layers["cells fused"].data
    )


def test_python_of_layers_in_memory_fuses_the_same(viewer, stack_layer, widget, qtbot):
    from qtpy.QtCore import Qt

    viewer.add_image(stack_layer.data[:, ::-1], name="other")
    widget.form.layer.value = stack_layer
    widget.form.others.item(0).setCheckState(Qt.CheckState.Checked)
    text = copied(widget, "Copy as Python")
    found = {"viewer": viewer}
    exec(text, found)
    fuse(widget, qtbot)
    for channel, name in enumerate(("cells fused", "other fused")):
        np.testing.assert_array_equal(
            found["result"].fused[0, channel], viewer.layers[name].data
        )


def test_command_line_fuses_the_same(viewer, opened, widget, qtbot, tmp_path):
    set_fields(widget.form)
    program, *arguments = shlex.split(copied(widget, "Copy as command line"))
    assert program == "napari-ips"
    assert run_command(arguments) == 0
    fuse(widget, qtbot)
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "cells_fused.ome.tif"),
        viewer.layers["cells fused"].data,
    )


def test_axes_that_the_file_does_not_tell_are_told(viewer, widget, tmp_path):
    """(20, 16, 5): z last, which no file of this kind can tell."""
    path = tmp_path / "last.tif"
    tifffile.imwrite(path, np.random.default_rng(0).random((20, 16, 5), np.float32))
    (layer,) = viewer.open(path, plugin="napari")
    layer.axis_labels = ("y", "x", "z")
    assert widget.form.z_axis.value == 2
    assert "--axes YXZ" in copied(widget, "Copy as command line")


def test_what_is_only_in_memory_has_no_command_line(stack_layer, widget):
    from napari.utils.notifications import notification_manager

    widget.form.update_layers()
    notification_manager.records.clear()
    assert copied(widget, "Copy as command line") == "nothing"
    assert "only in memory" in str(notification_manager.records[-1].message)


def test_settings_are_those_of_the_command_line(opened, widget, chooses, tmp_path):
    path = tmp_path / "fuse.toml"
    chooses(path)
    set_fields(widget.form)
    choose(widget.more, "Save settings…")
    saved = FuseConfig.from_toml(path)
    assert saved == widget.form.config()
    assert (saved.mode, saved.smoothing, saved.both_orders) == ("hard", 1.5, True)
    choose(widget.more, "Reset settings")
    assert widget.form.config() == FuseConfig()
    choose(widget.more, "Load settings…")
    assert widget.form.config() == saved
    out = tmp_path / "by_command.tif"
    run = ["fuse", tmp_path / "cells.tif", "-o", out, "--config", path]
    assert run_command([str(part) for part in run]) == 0
    np.testing.assert_array_equal(
        tifffile.imread(out), fuse_stack(opened.data, config=saved).fused
    )


def test_python_and_command_write_the_same_files(viewer, opened, widget, qtbot, tmp_path):
    widget.form.advanced.output.value = "file"
    widget.form.advanced.path.setText(str(tmp_path / "out" / "f.ome.zarr"))
    names = {f"f{name}.ome.zarr" for name in ("", ".index", ".depth", ".confidence")}
    for text in ("Copy as Python", "Copy as command line"):
        (tmp_path / "out").mkdir()
        widget.form.advanced.path.editingFinished.emit()
        copy = copied(widget, text)
        if text == "Copy as Python":
            exec(copy, {})
        else:
            assert run_command(shlex.split(copy)[1:]) == 0
        assert {path.name for path in (tmp_path / "out").iterdir()} == names
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("smoothing", [0.123456, 0.001, 1.234, 49.999])
def test_no_setting_is_rounded(widget, smoothing):
    widget.form.set_config(FuseConfig(smoothing=smoothing))
    assert widget.form.config() == FuseConfig(smoothing=smoothing)
    widget.form.advanced.smoothing.value = 2.5
    assert widget.form.config() == FuseConfig(smoothing=2.5)


def test_settings_without_a_field_are_kept(widget, chooses, tmp_path):
    given = FuseConfig(strategy="fold", temperature=1.5, backend="numba")
    given.to_toml(tmp_path / "fuse.toml")
    chooses(tmp_path / "fuse.toml")
    choose(widget.more, "Load settings…")
    assert widget.form.config() == given


def test_a_file_that_is_no_settings_changes_nothing(widget, chooses, tmp_path):
    from napari.utils.notifications import notification_manager

    path = tmp_path / "fuse.toml"
    path.write_text("colour = 3\n")
    chooses(path)
    notification_manager.records.clear()
    choose(widget.more, "Load settings…")
    (record,) = notification_manager.records
    assert "There is no setting colour" in str(record.message)
    assert widget.form.config() == FuseConfig()


def test_a_dialog_that_is_cancelled_changes_nothing(stack_layer, widget, chooses, tmp_path):
    chooses("")
    choose(widget.more, "Save settings…")
    choose(widget.more, "Load settings…")
    assert widget.form.config() == FuseConfig()


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif"])
def test_result_is_saved(viewer, stack_layer, widget, chooses, qtbot, tmp_path, suffix):
    widget.form.update_layers()
    fuse(widget, qtbot)
    path = tmp_path / f"saved{suffix}"
    chooses(path)
    choose(widget.tools, "Save fused image…")
    qtbot.waitUntil(path.exists, timeout=20_000)
    fused = viewer.layers["cells fused"]
    np.testing.assert_array_equal(tifffile.imread(path), fused.data)
    with tifffile.TiffFile(path) as file:
        resolution = file.pages[0].tags["XResolution"].value
    assert resolution[0] / resolution[1] > 0


def test_nothing_can_be_saved_before_there_is_a_result(widget):
    widget.tools.menu().aboutToShow.emit()
    assert not widget.tools.save.isEnabled()


def test_stack_of_files_of_ours_has_a_command_line_too(viewer, simulated, widget, tmp_path):
    path = tmp_path / "ours.ome.tif"
    write_stack(path, simulated.stack)
    viewer.open(path, plugin="napari")
    assert copied(widget, "Copy as command line").startswith("napari-ips fuse ")


def test_the_selected_result_is_saved_from_the_file_menu(
    make_napari_viewer_proxy, simulated, chooses, qtbot, tmp_path
):
    from napari._app_model import get_app_model

    viewer = make_napari_viewer_proxy()
    viewer.add_image(
        simulated.truth, name="f", metadata={"napari-ips": {"role": "fused", "run": "1"}}
    )
    chooses(tmp_path / "f")
    get_app_model().commands.execute_command("napari-ips.save_result")
    saved = tmp_path / "f.ome.tif"
    qtbot.waitUntil(saved.exists, timeout=20_000)
    np.testing.assert_array_equal(tifffile.imread(saved), simulated.truth)


def test_what_is_no_result_is_not_saved_as_one(make_napari_viewer_proxy, simulated):
    from napari._app_model import get_app_model
    from napari.utils.notifications import notification_manager

    make_napari_viewer_proxy().add_image(simulated.stack)
    notification_manager.records.clear()
    get_app_model().commands.execute_command("napari-ips.save_result")
    assert "Select a fused image" in str(notification_manager.records[-1].message)
