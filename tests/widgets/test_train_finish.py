"""The end of a training: figures, comparison on a stack, saving and exporting."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QFileDialog
from small_runs import SMALL, settings

from napari_ips import CrossImageFusionNetwork
from napari_ips.events import TrainingFinished
from napari_ips.training.runs import new_run
from napari_ips.weights import list_weights, load_weights, save_weights
from napari_ips.widgets.fuse import FuseWidget
from napari_ips.widgets.known_weights import known_weights
from napari_ips.widgets.train.finish import FinishPanel


@pytest.fixture
def run():
    """A finished run, begun from the weights of the package."""
    run = new_run("liver 20x")
    config = settings(images=(run.images,), start_from=None, notes="H&E")
    run.write_settings(config)
    save_weights(run.output, CrossImageFusionNetwork.from_config(SMALL), {"preset": "p"})
    return run


@pytest.fixture
def panel(viewer, qtbot):
    panel = FinishPanel(viewer)
    qtbot.addWidget(panel)
    yield panel
    panel.close_down()


@pytest.fixture
def chooses(monkeypatch):
    def answer(path):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))

    return answer


@pytest.fixture
def errors(monkeypatch):
    shown = []
    monkeypatch.setattr("napari_ips.widgets.train.finish.show_error", shown.append)
    return shown


def finished(run, before, after, reason="length"):
    return TrainingFinished(40, run.output, after, 0.9, before, reason)


@pytest.mark.parametrize(
    ("before", "after", "reason", "words"),
    [
        (30.0, 33.5, "length", "3.50 dB better"),
        (30.0, 33.5, "asked", "as you asked"),
        (30.0, 33.5, "diverged", "no longer finite"),
        (33.0, 33.0, "length", "Nothing was better"),
    ],
)
def test_it_says_what_the_training_brought(panel, run, before, after, reason, words):
    panel.show_run(run, finished(run, before, after, reason))
    assert f"{before:.2f} dB → {after:.2f} dB" in panel.verdict.text()
    assert words in panel.verdict.text()


def test_saved_weights_have_name_and_notes_and_can_be_fused_with(panel, run, viewer, qtbot):
    fuse = FuseWidget(viewer)
    qtbot.addWidget(fuse)
    qtbot.waitUntil(lambda: fuse.form.weights._registered is not None, timeout=60_000)
    panel.show_run(run, finished(run, 30, 31))
    assert panel.name.text() == "liver 20x"
    assert panel.notes.toPlainText() == "H&E"
    panel.notes.setPlainText("H&E, camera 2")
    with qtbot.waitSignal(panel.saved) as told:
        panel.save.click()
    assert told.args == ["liver 20x"]
    (info,) = (info for info in list_weights() if not info.bundled)
    assert info.card["notes"] == "H&E, camera 2"
    assert load_weights("liver 20x")[0].config == SMALL
    assert "liver 20x" in fuse.form.weights.choices
    assert not panel.save.isEnabled()
    fuse.form.forget()


def test_a_name_that_is_taken_is_refused_beforehand(panel, run):
    panel.show_run(run)
    panel.name.setText("default")
    assert not panel.save.isEnabled()
    assert "taken" in panel.problem.text()
    panel.name.setText("a/b")
    assert not panel.save.isEnabled()
    panel.name.setText("mine")
    assert panel.save.isEnabled()
    assert panel.problem.isHidden()


def test_a_free_name_is_proposed(panel, run, viewer, qtbot):
    panel.show_run(run)
    panel.save.click()
    panel.show_run(run)
    assert panel.name.text() == "liver 20x 2"


def test_weights_are_exported_also_when_they_are_saved(
    panel, run, chooses, tmp_path, errors
):
    panel.show_run(run)
    chooses(tmp_path / "first")
    panel.export.click()
    assert (tmp_path / "first.safetensors").read_bytes() == run.output.read_bytes()
    panel.save.click()
    run.discard()
    chooses(tmp_path / "second.safetensors")
    panel.export.click()
    assert load_weights(tmp_path / "second.safetensors")[0].config == SMALL
    chooses(tmp_path / "first")
    panel.export.click()
    assert "exists" in errors[0]


def test_nothing_can_be_compared_without_a_stack(panel, run, viewer):
    panel.show_run(run)
    assert not panel.compare.isEnabled()
    assert "Open a z-stack" in panel.comparing.text()


def test_a_stack_is_fused_by_both_and_shown_until_it_is_done(
    panel, run, stack_layer, viewer, qtbot
):
    panel.show_run(run)
    assert panel.compare.isEnabled()
    panel.compare.click()
    assert panel.compare.text() == "&Cancel"
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=60_000)
    old, new = viewer.layers[1:]
    assert (old.name, new.name) == ("default weights", "new weights")
    assert old.scale.tolist() == stack_layer.scale[1:].tolist()
    assert (old.data != new.data).any()
    assert viewer.canvas.grid.enabled
    assert not stack_layer.visible
    panel.panel.done.click()
    assert stack_layer.visible
    assert not panel.panel.isVisibleTo(panel)


def test_a_comparison_is_cancelled(panel, run, viewer, gate, simulated, qtbot):
    viewer.add_image(gate.before(simulated.stack), name="slow")
    panel.show_run(run)
    gate.close()
    panel.compare.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=60_000)
    panel.compare.click()
    gate.open()
    assert panel.compare.text() == "&Compare"
    assert len(viewer.layers) == 1


def test_known_weights_tell_where_they_are_from(panel, run):
    panel.show_run(run)
    panel.save.click()
    assert known_weights()["liver 20x"] == "your own, preset p"
    assert "comes with" in known_weights()["default"]
