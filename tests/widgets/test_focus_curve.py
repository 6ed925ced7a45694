"""The dock "Focus curve": clicks into the image become curves, curves move the slider."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt

from napari_ips import FuseConfig, fuse_stack
from napari_ips.fusion import probe as core
from napari_ips.widgets.curve.widget import FocusCurve

_WAIT = 20_000


@pytest.fixture
def opened(viewer: Any, qtbot: Any) -> Callable[[], FocusCurve]:
    """Return what opens the dock; on its own, for windows of the tests are hidden."""

    def show() -> FocusCurve:
        widget = FocusCurve(viewer)
        qtbot.addWidget(widget)
        widget.show()
        return widget

    return show


@pytest.fixture
def dock(stack_layer: Any, opened: Callable[[], FocusCurve]) -> FocusCurve:
    return opened()


@pytest.fixture
def click(viewer: Any, click_at: Callable[..., None]) -> Callable[..., None]:
    """Return what clicks on a pixel of `stack_layer`."""

    def click(y: int, x: int, **changed: Any) -> None:
        click_at((*viewer.dims.point[:-2], y * 0.5, x * 0.5), **changed)

    return click


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, gate: Any) -> Any:
    """Hold all work at a gate, before a stack is measured."""
    known = core.prepare

    def slow(*args: Any) -> Any:
        gate.wait()
        return known(*args)

    monkeypatch.setattr(core, "prepare", slow)
    gate.close()
    return gate


def plotted(dock: FocusCurve) -> tuple[np.ndarray, np.ndarray]:
    return dock.plot._curve.getData()


def has_answer(dock: FocusCurve, words: str) -> Callable[[], bool]:
    return lambda: words in dock.text.text() and not dock._finder.busy


@pytest.mark.in_window
def test_a_click_plots_the_curve_that_decides_there(viewer, dock, qtbot, simulated, click):
    expected = fuse_stack(simulated.stack, config=FuseConfig())
    for y, x in [(20, 40), (50, 3)]:
        click(y, x)
        qtbot.waitUntil(has_answer(dock, f"Pixel y {y}, x {x}"), timeout=_WAIT)
        slices, evidence = plotted(dock)
        assert slices.tolist() == [0, 1, 2, 3, 4, 5]
        assert evidence.argmax() == expected.index[y, x]
        assert f"sharpest in slice {expected.index[y, x]}," in dock.text.text()
        assert f"peak at {expected.depth[y, x]:.2f}" in dock.text.text()
        assert f"z {expected.depth[y, x] * 2:.4g} µm" in dock.text.text()


def test_the_picked_place_is_marked_while_the_dock_is_open(viewer, dock, qtbot, click):
    click(20, 40)
    marker = viewer.layers["picked place"]
    assert np.allclose(marker.data, [[10, 20]])
    assert viewer.layers.selection.active.name == "cells"
    dock.radius.setValue(3)
    assert marker.size == pytest.approx(7 * 0.5)
    qtbot.waitUntil(has_answer(dock, "± 3"), timeout=_WAIT)
    dock.hide()
    assert [layer.name for layer in viewer.layers] == ["cells"]
    click(5, 5)
    assert not dock._finder.busy
    dock.show()
    assert "picked place" in viewer.layers


def test_dragging_painting_and_other_buttons_pick_nothing(viewer, dock, click):
    click(20, 40, drag=30)
    click(20, 40, button=2)
    click(200, 400)
    dock.pick.setChecked(False)
    click(20, 40)
    dock.pick.setChecked(True)
    shapes = viewer.add_shapes(ndim=2)
    shapes.mode = "add_rectangle"
    click(20, 40)
    assert not dock._finder.busy
    assert "picked place" not in viewer.layers


def test_the_plot_and_the_slider_follow_each_other(viewer, dock, qtbot, click):
    click(20, 40)
    qtbot.waitUntil(has_answer(dock, "sharpest"), timeout=_WAIT)
    viewer.dims.set_current_step(0, 1)
    assert dock.plot._current.value() == 1
    view = dock.plot._item.vb
    scene = view.mapViewToScene(QPointF(4.2, view.viewRange()[1][1] / 2))
    event = SimpleNamespace(
        button=lambda: Qt.MouseButton.LeftButton, scenePos=lambda: scene
    )
    dock.plot._plot.scene().sigMouseClicked.emit(event)
    assert viewer.dims.current_step[0] == 4
    dock.plot._current.setValue(2.6)
    dock.plot._current.sigDragged.emit(dock.plot._current)
    assert viewer.dims.current_step[0] == 3
    assert dock.plot._current.value() == 3


@pytest.mark.in_window
def test_the_best_slice_of_view_and_shape_is_shown(viewer, dock, qtbot, simulated):
    viewer.scene.camera.zoom = 1000
    for y, x in [(2, 2), (60, 60)]:
        viewer.scene.camera.center = (0, y * 0.5, x * 0.5)
        dock.of_view.click()
        qtbot.waitUntil(has_answer(dock, "The view"), timeout=_WAIT)
        assert abs(viewer.dims.current_step[0] - simulated.height[y, x]) < 1.5
        dock.plot.clear()
        dock.text.setText("")
    dock.of_shape.click()
    assert "Draw a rectangle" in dock.text.text()
    corner = [[0, 0], [0, 5], [5, 5], [5, 0]]
    shapes = viewer.add_shapes([corner], units=("micrometer",) * 2)
    shapes.selected_data = {0}
    viewer.dims.set_current_step(0, 5)
    dock.of_shape.click()
    qtbot.waitUntil(has_answer(dock, "The shape"), timeout=_WAIT)
    mean = simulated.height[:10, :10].mean()
    assert abs(viewer.dims.current_step[0] - mean) < 1.5


def test_a_result_is_explained_with_the_settings_of_its_run(
    viewer, result_layers, opened, qtbot, simulated, click
):
    dock = opened()
    for layer in result_layers.values():
        layer.metadata["napari-ips"] |= {
            "settings": {"strategy": "fold"},
            "slices": [1, 5],
        }
    viewer.layers.selection.active = result_layers["depth"]
    assert dock.stack_name.text() == "Stack: cells"
    click(30, 30)
    qtbot.waitUntil(has_answer(dock, "Pixel y 30"), timeout=_WAIT)
    expected = fuse_stack(simulated.stack[1:5], config=FuseConfig(strategy="fold"))
    assert plotted(dock)[0].tolist() == [1, 2, 3, 4]
    assert f"sharpest in slice {expected.index[30, 30] + 1}," in dock.text.text()


def test_the_last_click_wins(dock, qtbot, held, click):
    answers: list[str] = []
    dock._finder.answered.connect(lambda answer: answers.append(answer.question.name))
    click(10, 10)
    qtbot.waitUntil(held.reached.is_set, timeout=_WAIT)
    assert dock.progress.isVisible()
    click(20, 20)
    click(30, 30)
    held.open()
    qtbot.waitUntil(has_answer(dock, "Pixel y 30, x 30"), timeout=_WAIT)
    assert answers == ["Pixel y 30, x 30"]
    assert not dock.progress.isVisible()


@pytest.mark.parametrize("how", ["cancel", "hide", "remove layer", "close"])
def test_work_ends_when_it_is_no_longer_wanted(viewer, dock, qtbot, held, how, click):
    answers: list[Any] = []
    dock._finder.answered.connect(answers.append)
    finder = dock._finder
    click(10, 10)
    qtbot.waitUntil(held.reached.is_set, timeout=_WAIT)
    if how == "cancel":
        dock.cancel.click()
    elif how == "hide":
        dock.hide()
    elif how == "remove layer":
        viewer.layers.remove(viewer.layers["cells"])
        assert "Select the layer" in dock.text.text()
        assert not dock.of_view.isEnabled()
    else:
        dock.close()
    held.open()
    qtbot.waitUntil(lambda: not finder.busy, timeout=_WAIT)
    assert answers == []
    told = "Select the layer" if how == "remove layer" else "Click into the image"
    assert told in dock.text.text()
    assert plotted(dock)[0] is None or len(plotted(dock)[0]) == 0


def test_layers_that_are_no_stacks_are_told_beforehand(viewer, opened):
    dock = opened()
    assert not dock.of_view.isEnabled()
    assert "Select the layer of a z-stack" in dock.text.text()
    viewer.add_image(np.zeros((20, 30)))
    assert not dock.of_view.isEnabled()
    viewer.add_image(np.zeros((4, 20, 30), np.uint8), name="stack")
    assert dock.of_view.isEnabled()
    viewer.dims.ndisplay = 3
    assert not dock.of_view.isEnabled()
    assert "2D" in dock.text.text()


def test_another_time_point_is_another_curve(viewer, opened, qtbot, simulated, click):
    both = np.stack([simulated.stack, simulated.stack[::-1]])
    viewer.add_image(both, scale=(1, 2, 0.5, 0.5), axis_labels=("t", "z", "y", "x"))
    dock = opened()
    viewer.dims.set_current_step(0, 0)
    click(20, 40)
    qtbot.waitUntil(has_answer(dock, "sharpest"), timeout=_WAIT)
    first = plotted(dock)[1].copy()
    viewer.dims.set_current_step(0, 1)
    assert "Click" in dock.text.text()
    click(20, 40)
    qtbot.waitUntil(has_answer(dock, "sharpest"), timeout=_WAIT)
    assert plotted(dock)[1].argmax() == 5 - first.argmax()


def test_new_pixels_in_a_layer_are_measured_anew(viewer, dock, qtbot, stack_layer, click):
    click(20, 40)
    qtbot.waitUntil(has_answer(dock, "sharpest"), timeout=_WAIT)
    first = plotted(dock)[1].copy()
    stack_layer.data = stack_layer.data[::-1].copy()
    click(20, 40)
    qtbot.waitUntil(
        lambda: not dock._finder.busy and plotted(dock)[1].argmax() == 5 - first.argmax(),
        timeout=_WAIT,
    )


@pytest.mark.parametrize(
    ("replace", "words"),
    [
        (lambda stack: stack[:1], "cells has no channel 1"),
        (lambda stack: stack[:, :4], "cells has 4 slices"),
        (lambda stack: stack[0], "has other axes now; fuse it again"),
        (lambda stack: stack[0, 0], "has other axes now; fuse it again"),
    ],
)
def test_a_stack_that_is_no_longer_the_fused_one_is_told(
    viewer, opened, qtbot, simulated, replace, words, click
):
    data = np.stack([simulated.stack, simulated.stack[::-1]])
    stack = viewer.add_image(data, name="cells", axis_labels=("c", "z", "y", "x"))
    told = {
        "role": "fused",
        "run": "1",
        "source": str(stack.unique_id),
        "z axis": 1,
        "slices": [0, 6],
        "reference channel": 1,
        "settings": {},
    }
    viewer.add_image(data[:, :1], metadata={"napari-ips": told}, scale=(1, 6, 1, 1))
    dock = opened()
    click(20, 40)
    qtbot.waitUntil(has_answer(dock, "in channel 1: sharpest"), timeout=_WAIT)
    stack.data = replace(data)
    viewer.dims.set_current_step(1, 3)
    click(20, 40)
    qtbot.waitUntil(has_answer(dock, words), timeout=_WAIT)
    assert plotted(dock)[0] is None
    dock.of_view.click()
    dock.of_shape.click()


def test_what_cannot_be_computed_is_told(viewer, result_layers, opened, qtbot, click):
    dock = opened()
    for layer in result_layers.values():
        layer.metadata["napari-ips"]["settings"] = {"weights": "no such weights"}
    viewer.layers.selection.active = viewer.layers["cells"]
    click(20, 40)
    qtbot.waitUntil(has_answer(dock, "There are no weights"), timeout=_WAIT)
    assert not dock.progress.isVisible()
    assert plotted(dock)[0] is None


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_plot_takes_the_colours_of_the_theme(viewer, dock, theme):
    from napari.utils.theme import get_theme

    viewer.theme = theme
    background = dock.plot._plot.backgroundBrush().color().name()
    assert background == get_theme(theme).background.as_hex("long")
