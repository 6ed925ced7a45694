"""The training dock: from images to weights, stopped on the way, closed and reopened."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from napari.utils.theme import available_themes
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMessageBox, QTextEdit
from small_runs import settings, write_images

from napari_ips.events import (
    CheckpointFailed,
    CheckpointSaved,
    ImagesFound,
    LossPoint,
    Preview,
    RolledBack,
    TrainingFinished,
    ValidationPoint,
)
from napari_ips.training import train
from napari_ips.training.runs import list_runs, new_run
from napari_ips.weights import list_weights
from napari_ips.widgets.train import TrainWidget
from napari_ips.widgets.train.previews import NAMES
from napari_ips.widgets.train.session import Phase
from napari_ips.widgets.train.watch import WatchPanel
from napari_ips.widgets.train.work import Told

ENDLESS = 1_000_000


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "liver"
    folder.mkdir()
    write_images(folder)
    return folder


@pytest.fixture
def opened(viewer, qtbot, open_dock):
    """Open the dock; it is closed at the end."""
    widgets = []

    def open_widget(**changed):
        widget = open_dock(TrainWidget(viewer))
        widgets.append(widget)
        if changed:
            widget.form.set_values(settings(**changed))
            widget.form.title.setText("cells")
        return widget

    yield open_widget
    for widget in widgets:
        widget.close_down()


@pytest.fixture
def until(qtbot):
    def wait(widget, phase):
        qtbot.waitUntil(lambda: widget.session.phase is phase, timeout=60_000)

    return wait


@pytest.fixture
def answers(monkeypatch):
    """Answer what the dock asks; return the questions."""
    asked = []

    def answer(yes):
        button = QMessageBox.StandardButton
        given = button.Yes if yes else button.No

        def question(parent, title, text, *_):
            asked.append(text)
            return given

        monkeypatch.setattr(QMessageBox, "question", question)
        return asked

    return answer


def press(widget, key):
    button = widget.buttons.buttons[key]
    assert button.isVisibleTo(widget)
    assert button.isEnabled()
    button.click()


def offered(widget):
    return {k for k, b in widget.buttons.buttons.items() if b.isVisibleTo(widget)}


def preview(error=0.1, channels=1):
    target = np.random.default_rng(0).random((channels, 16, 16), np.float32)
    return Preview(0, target / 2, target, target + np.float32(error), target)


def tell(panel, *events):
    panel.take([Told(event, float(when)) for when, event in enumerate(events)])


def test_what_is_missing_is_told_beside_the_button_too(opened, images):
    widget = opened()
    widget.form.sources.set_paths(())
    assert widget.status.text() == widget.form.problems()["images"]
    widget.form.set_values(settings(images=(images,)))
    widget.form.title.clear()
    widget.form.title.textEdited.emit("")
    assert widget.status.text() == "Name the new weights."


def test_a_plot_without_points_shows_no_axes(viewer, open_dock):
    panel = open_dock(WatchPanel(viewer))
    assert not panel.plot._view.isVisibleTo(panel)
    tell(panel, LossPoint(1, 0.5, 1e-3, 0.1))
    assert panel.plot._view.isVisibleTo(panel)


def test_the_dock_is_a_tab_where_others_would_leave_it_no_height(viewer, qtbot):
    window, widget = QMainWindow(), TrainWidget(viewer)
    qtbot.addWidget(window)
    window.setCentralWidget(QTextEdit())
    docks = [QDockWidget(), QDockWidget()]
    for dock, inner in zip(docks, (QTextEdit(), widget), strict=True):
        dock.setWidget(inner)
        window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.resize(900, 800)
    window.show()
    qtbot.waitUntil(lambda: window.tabifiedDockWidgets(docks[0]) == docks[1:])
    qtbot.waitUntil(lambda: widget.height() > 600)
    widget.close_down()


def test_nobody_is_told_to_save_what_became_no_better(opened):
    widget = opened()
    widget.session.run = new_run("cells")
    widget.session.finished = TrainingFinished(0, Path("w.safetensors"), 30.0, 0.9, 30.0)
    widget.session.phase = Phase.DONE
    widget.session.changed.emit()
    assert "nothing became better" in widget.status.text()


def test_without_images_nothing_can_be_trained(opened):
    widget = opened()
    assert offered(widget) == {"train"}
    assert not widget.buttons.buttons["train"].isEnabled()


def test_images_become_weights_that_can_be_fused_with(opened, until, images, qtbot):
    widget = opened(images=(images,))
    press(widget, "train")
    assert offered(widget) == {"cancel"}
    seen = {}
    widget.session.changed.connect(
        lambda: seen.setdefault(widget.session.phase, offered(widget))
    )
    until(widget, Phase.DONE)
    assert seen[Phase.TRAINING] == {"pause", "keep", "discard"}
    assert widget.finish.isVisibleTo(widget)
    assert "dB" in widget.finish.verdict.text()
    assert widget.watch.history.loss.iterations == [1, 2, 3, 4, 5, 6]
    row = widget.watch.previews
    qtbot.waitUntil(lambda: [x.name for x in row.layers] == list(NAMES))
    widget.finish.save.click()
    assert [info.name for info in list_weights() if not info.bundled] == ["cells"]
    assert list_runs() == []
    press(widget, "back")
    assert offered(widget) == {"train"}
    assert widget.watch.previews.layers == []


def test_a_pause_keeps_the_lines_and_the_time(opened, until, images, qtbot):
    widget = opened(images=(images,), iterations=ENDLESS)
    press(widget, "train")
    qtbot.waitUntil(lambda: widget.watch.meter.iteration > 1, timeout=60_000)
    press(widget, "pause")
    assert widget.status.text() == "Pausing…"
    until(widget, Phase.PAUSED)
    assert offered(widget) == {"resume", "keep", "discard", "back"}
    reached, seconds = widget.watch.meter.iteration, widget.watch.meter.seconds
    press(widget, "resume")
    qtbot.waitUntil(lambda: widget.watch.meter.iteration > reached, timeout=60_000)
    assert widget.watch.meter.seconds >= seconds
    known = widget.watch.history.loss.iterations
    assert known == list(range(1, known[-1] + 1))
    press(widget, "keep")
    until(widget, Phase.DONE)
    assert "as you asked" in widget.finish.verdict.text()


def test_discarding_asks_first(opened, until, images, answers):
    widget = opened(images=(images,), iterations=ENDLESS)
    press(widget, "train")
    until(widget, Phase.TRAINING)
    asked = answers(False)
    press(widget, "discard")
    assert "cells" in asked[0]
    assert widget.session.phase is Phase.TRAINING
    answers(True)
    press(widget, "discard")
    until(widget, Phase.IDLE)
    assert list_runs() == []


def test_a_closed_dock_stops_and_offers_the_run_when_it_is_opened_again(
    viewer, opened, until, images, qtbot
):
    widget = opened(images=(images,), iterations=ENDLESS)
    press(widget, "train")
    qtbot.waitUntil(lambda: widget.watch.meter.iteration > 1, timeout=60_000)
    widget.close_down()
    until(widget, Phase.PAUSED)
    qtbot.waitUntil(lambda: not viewer.layers)
    again = opened()
    qtbot.waitUntil(lambda: len(again.unfinished.rows) == 1, timeout=20_000)
    (row,) = again.unfinished.rows
    (run,) = list_runs()
    row.go_on.click()
    reached = run.iteration
    assert again.watch.history.loss.iterations[-1] == reached
    qtbot.waitUntil(lambda: again.watch.meter.iteration > reached, timeout=60_000)
    press(again, "keep")
    until(again, Phase.DONE)


def test_what_a_crash_left_goes_on_from_its_checkpoint(opened, until, images, qtbot):
    run = new_run("crashed")
    config = run.write_settings(settings(images=(images,), output=run.output))
    for event in train(config):
        if isinstance(event, CheckpointSaved) and event.iteration == 3:
            kept = event.path.read_bytes()
            break
    # Without the checkpoint of a generator that is closed in an orderly way.
    run.checkpoint.write_bytes(kept)
    widget = opened()
    qtbot.waitUntil(lambda: len(widget.unfinished.rows) == 1, timeout=20_000)
    widget.unfinished.rows[0].go_on.click()
    until(widget, Phase.DONE)
    assert widget.watch.history.loss.iterations == [4, 5, 6]


def test_a_finished_run_that_was_not_saved_is_offered(opened, until, images, qtbot):
    widget = opened(images=(images,))
    press(widget, "train")
    until(widget, Phase.DONE)
    widget.close_down()
    again = opened()
    qtbot.waitUntil(lambda: len(again.unfinished.rows) == 1, timeout=20_000)
    again.unfinished.rows[0].go_on.click()
    assert again.session.phase is Phase.DONE
    assert "PSNR" in again.finish.verdict.text()
    again.finish.save.click()
    assert list_runs() == []


def test_earlier_runs_are_discarded_if_the_user_is_sure(opened, images, qtbot, answers):
    run = new_run("old")
    run.write_settings(settings(images=(images,), output=run.output))
    widget = opened()
    qtbot.waitUntil(lambda: len(widget.unfinished.rows) == 1, timeout=20_000)
    answers(False)
    widget.unfinished.rows[0].discard.click()
    assert list_runs() == [run]
    answers(True)
    widget.unfinished.rows[0].discard.click()
    assert list_runs() == []
    qtbot.waitUntil(lambda: not widget.unfinished.rows, timeout=20_000)


@pytest.fixture
def shown(panel, qtbot):
    """Show a preview, and wait for its last layer."""

    def show(preview):
        tell(panel, preview)
        qtbot.waitUntil(lambda: len(panel.previews._layers) == len(NAMES))

    return show


@pytest.fixture
def panel(viewer, qtbot):
    panel = WatchPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.close_down()


def test_previews_are_updated_in_place_and_leave_the_rest_alone(
    viewer, panel, shown, qtbot
):
    cells = viewer.add_image(
        np.zeros((3, 20, 40)), scale=(2, 0.5, 0.5), units=("micrometer",) * 3
    )
    before = viewer.scene.camera.center, viewer.scene.camera.zoom
    shown(preview())
    row = panel.previews.layers
    assert [layer.name for layer in row] == list(NAMES)
    assert (viewer.scene.camera.center, viewer.scene.camera.zoom) == before
    assert viewer.layers.selection.active == cells
    assert viewer.layers.units == cells.units
    low = np.array([layer.extent.world[0][-2:] for layer in row])
    assert (low[:, 0] > cells.extent.world[1][1]).all()
    assert (np.diff(low[:, 1]) > 0).all()
    np.testing.assert_allclose(row[3].data, 0.1, rtol=1e-3)
    tell(panel, preview(0.05))
    assert panel.previews.layers == row
    np.testing.assert_allclose(row[3].data, 0.05, rtol=1e-3)
    panel.previews.look()
    assert viewer.scene.camera.center != before[0]
    panel.remove.click()
    qtbot.waitUntil(lambda: list(viewer.layers) == [cells])


def test_previews_leave_one_by_one_also_when_their_dock_is_closed(
    viewer, panel, shown, qtbot
):
    shown(preview())
    drawn = []
    between = QTimer()
    between.timeout.connect(lambda: drawn.append(len(viewer.layers)))
    between.start(0)
    panel.close_down()
    assert panel.previews.layers == []
    qtbot.waitUntil(lambda: not viewer.layers)
    between.stop()
    assert {4, 3, 2, 1} <= set(drawn)


def test_previews_are_hidden_on_request_and_stay_away_when_removed(viewer, panel, shown):
    panel.shown.setChecked(False)
    shown(preview(channels=3))
    assert not any(layer.visible for layer in panel.previews.layers)
    assert panel.previews.layers[0].rgb
    panel.shown.setChecked(True)
    assert all(layer.visible for layer in panel.previews.layers)
    viewer.layers.remove(panel.previews.layers[0])
    tell(panel, preview(channels=3))
    assert [layer.name for layer in panel.previews.layers] == list(NAMES[1:])


def test_figures_tell_speed_and_the_time_that_is_left(panel):
    points = [LossPoint(n, 0.1, 1e-3, n / 100) for n in range(1, 11)]
    tell(panel, ImagesFound(8, (("a.png", "soft"),)), ValidationPoint(0, 30, 0.9), *points)
    assert panel.images.text() == "8, 1 left out"
    assert "a.png: soft" in panel.images.toolTip()
    assert panel.steps.text() == "10 (10 %), 1 steps/s"
    assert panel.time.text() == "9 s, about 90 s left"
    tell(panel, ValidationPoint(10, 33.3, 0.9))
    assert panel.quality.text() == "30.00 dB at the start, 33.30 dB at best"


def test_troubles_stay_in_sight(panel):
    tell(panel, *(LossPoint(n, 0.1, 1e-3, 0.1) for n in range(1, 6)))
    tell(panel, RolledBack(2, 5e-4), CheckpointFailed(5, "The disk is full."))
    assert panel.history.loss.iterations == [1, 2]
    assert "back to step 2" in panel.trouble.text()
    tell(panel, LossPoint(3, 0.1, 1e-3, 0.1))
    assert "The disk is full." in panel.trouble.text()
    tell(panel, CheckpointSaved(3, None))
    assert "disk is full" not in panel.trouble.text()
    assert "back to step 2" in panel.trouble.text()


@pytest.mark.parametrize("theme", available_themes())
def test_the_plot_is_readable_in_every_theme(panel, theme):
    from napari.utils.theme import get_theme

    panel.plot.set_colors(get_theme(theme))
    background = panel.plot._view.backgroundBrush().color()
    line = panel.plot._smooth.opts["pen"].color()
    assert abs(line.lightness() - background.lightness()) > 80


@pytest.mark.in_window
def test_the_dock_trains_in_a_window(viewer, until, images, qtbot):
    """With what draws the window loaded before PyTorch's own libraries."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-ips", "Train weights")
    widget.form.set_values(settings(images=(images,), iterations=ENDLESS))
    widget.form.title.setText("cells")
    press(widget, "train")
    qtbot.waitUntil(lambda: widget.watch.meter.iteration > 1, timeout=60_000)
    qtbot.waitUntil(lambda: [x.name for x in viewer.layers] == list(NAMES))
    viewer.window.remove_dock_widget(widget)
    until(widget, Phase.PAUSED)
    (run,) = list_runs()
    assert run.checkpoint.is_file()


_LOADED_LATE = """
import numpy as np, napari
viewer = napari.Viewer()
viewer.add_image(np.zeros((9, 9)))
viewer.window.add_plugin_dock_widget("napari-ips", "Train weights")
napari.qt.get_qapp().processEvents()
import triton
import os
os._exit(0)
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
def test_triton_can_be_loaded_after_the_window(qapp, tmp_path):
    environment = {"NAPARI_CONFIG": "", "XDG_DATA_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", _LOADED_LATE], env=os.environ | environment, check=False
    )
    assert result.returncode == 0
