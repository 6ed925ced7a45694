"""Retouching a fused image: what is painted into its index map shows in it at once."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_ips.io import read_index
from napari_ips.widgets.retouch.widget import RetouchWidget

KEY = "napari-ips"


@pytest.fixture
def widget(viewer, open_dock, result_layers):
    return open_dock(RetouchWidget(viewer))


@pytest.fixture
def labels(widget, viewer):
    widget.edit.click()
    return viewer.layers["cells fused retouch"]


@pytest.fixture
def fused(result_layers):
    return result_layers["fused"]


def run_of(viewer, stack, axes: str):
    """Add a stack and its results, as if it was fused: all zeros, from the middle slice."""
    source = viewer.add_image(stack, name="source", axis_labels=tuple(axes))
    told = {"run": "r", "source": str(source.unique_id), "z axis": 0}
    index = np.full(stack.shape[1:], len(stack) // 2, np.uint16)
    viewer.add_image(index, name="index", metadata={KEY: {"role": "index", **told}})
    return viewer.add_image(
        np.zeros(stack.shape[1:], stack.dtype),
        name="fused",
        metadata={KEY: {"role": "fused", **told}},
    )


@pytest.fixture
def type_name(monkeypatch):
    """Return what answers the next dialogues for a file to save."""

    def answer(path):
        kind = "OME-TIFF (*.ome.tif)"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), kind))

    return answer


@pytest.mark.in_window
def test_editing_begins_with_a_brush_and_ends_with_everything_put_back(
    labels, viewer, fused, result_layers, widget, simulated
):
    assert viewer.layers.selection.active.name == labels.name
    assert labels.mode == "paint"
    labels.fill((20, 30), 6)
    count = (labels.data != result_layers["index"].data + 1).sum()
    assert widget.count.text() == f"{count:,} pixels retouched"
    widget.discard.click()
    assert np.array_equal(fused.data, simulated.truth)
    assert np.array_equal(labels.data, result_layers["index"].data + 1)
    assert not widget.discard.isEnabled()
    assert labels.opacity > 0
    widget.brush.colours.click()
    assert (labels.opacity, labels.visible) == (0, True)


def test_the_brush_takes_the_slice_shown_and_shows_the_slice_taken(
    labels, viewer, widget, stack_layer
):
    viewer.dims.set_point(0, 4 * stack_layer.scale[0])
    assert labels.selected_label == 5
    assert widget.brush.number.value() == 4
    widget.brush.slider.setValue(1)
    assert viewer.dims.current_step[0] == 1
    assert labels.selected_label == 2
    labels.selected_label = 6
    assert viewer.dims.current_step[0] == 5
    widget.brush.follow.setChecked(False)
    viewer.dims.set_point(0, 0)
    assert labels.selected_label == 6
    labels.selected_label = 0
    assert viewer.dims.current_step[0] == 0


def test_peeking_shows_the_slice_and_then_everything_as_before(
    labels, viewer, widget, stack_layer, result_layers
):
    result_layers["depth"].visible = False
    stack_layer.visible = False
    before = [layer.visible for layer in viewer.layers]
    widget.brush.peek.setChecked(True)
    shown = [layer.name for layer in viewer.layers if layer.visible and layer.opacity]
    assert shown == ["cells"]
    assert labels.mode == "paint"
    widget.brush.peek.setChecked(False)
    assert [layer.visible for layer in viewer.layers] == before
    assert labels.opacity > 0


def test_keys_pick_the_slice_under_the_cursor_and_peek(labels, viewer, fused, qtbot):
    labels.brush_size = 5
    labels.paint((20, 30), 6)
    labels.selected_label = 2
    keys = {str(key): function for key, function in labels.keymap.items()}
    viewer.cursor.position = (0, *labels.data_to_world((20, 30)))
    keys["D"](labels)
    assert labels.selected_label == 6
    held = keys["S"](labels)
    next(held)
    assert not fused.visible
    assert next(held, None) is None
    assert fused.visible


@pytest.mark.in_window
def test_edits_outlive_the_dock_and_the_labels(
    labels, viewer, widget, fused, simulated, open_dock
):
    labels.paint((20, 30), 6)
    edited = labels.data.copy()
    viewer.window.remove_dock_widget(widget)
    labels.paint((50, 10), 6)
    assert fused.data[50, 10] == simulated.stack[5, 50, 10]
    labels.undo()
    viewer.layers.remove(labels.name)
    again = open_dock(RetouchWidget(viewer))
    assert "retouched" in again.count.text()
    again.edit.click()
    labels = viewer.layers["cells fused retouch"]
    assert np.array_equal(labels.data, edited)
    labels.fill((20, 30), 0)
    assert fused.data[20, 30] == simulated.truth[20, 30]
    again.discard.click()
    assert np.array_equal(fused.data, simulated.truth)


def test_layers_may_go_in_mid_edit(labels, viewer, widget, fused, simulated):
    for name in ("cells index", "cells", "cells fused"):
        widget.brush.peek.setChecked(True)
        labels.paint((20, 30), 6)
        viewer.layers.remove(name)
        labels.paint((40, 30), 6)
        labels.selected_label = 3
        labels.undo()
        widget.brush.number.setValue(1)
        widget.brush.peek.setChecked(False)
    assert fused.data[20, 30] == simulated.stack[5, 20, 30]
    viewer.layers.clear()
    assert not widget.brush.isEnabled()


@pytest.mark.in_window
def test_closing_while_a_lazy_stack_is_read_is_safe(viewer, qtbot, rng, open_dock):
    stack = rng.integers(1, 900, (5, 40, 40)).astype(np.uint16)
    slow = da.from_array(stack, chunks=(1, 16, 16)).map_blocks(_slowly, dtype=stack.dtype)
    fused = run_of(viewer, slow, "ZYX")
    dock = open_dock(RetouchWidget(viewer))
    dock.edit.click()
    labels = viewer.layers["fused retouch"]
    labels.paint((12, 13), 1)
    labels.paint((32, 13), 5)
    viewer.window.remove_dock_widget(dock)
    labels.paint((22, 23), 2)
    viewer.layers.clear()
    qtbot.waitUntil(lambda: fused.data[22, 23] == stack[1, 22, 23], timeout=10_000)
    assert fused.data[32, 13] == stack[4, 32, 13]


def _slowly(block):
    import time

    time.sleep(0.02)
    return block


@pytest.mark.parametrize(
    ("typed", "name"), [("map", "map.ome.tif"), ("map.png", "map.png"), ("a.zarr",) * 2]
)
def test_a_saved_map_applied_again_is_the_same(
    labels, viewer, widget, qtbot, tmp_path, simulated, type_name, typed, name
):
    labels.paint((20, 30), 6)
    labels.paint((50, 30), 0)
    expected = np.where(labels.data > 0, labels.data, np.rint(simulated.height) + 1) - 1
    path = tmp_path / name
    type_name(tmp_path / typed)
    widget.maps.save.click()
    qtbot.waitUntil(path.exists, timeout=10_000)
    assert np.array_equal(read_index(path)[0, 0], expected)
    widget.maps.apply_to(viewer.layers["cells"], path, path.name)
    qtbot.waitUntil(lambda: f"cells by {path.name}" in viewer.layers, timeout=10_000)
    applied = viewer.layers[f"cells by {path.name}"]
    rows, columns = np.indices(expected.shape)
    assert np.array_equal(
        applied.data, simulated.stack[expected.astype(int), rows, columns]
    )
    assert np.array_equal(applied.scale, viewer.layers["cells fused"].scale)
    assert applied.units == viewer.layers["cells fused"].units
    # It can be retouched in turn.
    widget.image.setCurrentText(applied.name)
    widget.edit.click()
    viewer.layers[f"{applied.name} retouch"].paint((5, 5), 4)
    assert applied.data[5, 5] == simulated.stack[3, 5, 5]


def test_the_edited_map_is_applied_to_another_channel(
    labels, viewer, widget, qtbot, simulated
):
    other = viewer.add_image(simulated.stack[::-1].copy(), name="other")
    labels.paint((20, 30), 6)
    widget.maps.stack.setCurrentText("other")
    qtbot.mouseClick(widget.maps.apply, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "other by edited map" in viewer.layers, timeout=10_000)
    applied = viewer.layers["other by edited map"]
    rows, columns = np.indices(labels.data.shape)
    assert np.array_equal(applied.data, other.data[labels.data - 1, rows, columns])


def test_what_goes_wrong_is_told_plainly(
    labels, viewer, widget, qtbot, rng, tmp_path, type_name
):
    kept = tmp_path / "map.ome.tif"
    kept.write_text("mine")
    viewer.add_image(rng.random((6, 20, 20)), name="small")
    widget.maps.stack.setCurrentText("small")
    tell = notification_manager.records
    with notification_manager:
        count = len(tell)
        widget.maps.apply.click()
        qtbot.waitUntil(lambda: len(tell) > count, timeout=10_000)
        assert "20 x 20 pixels" in tell[-1].message
        qtbot.waitUntil(widget.maps.apply.isEnabled, timeout=10_000)
        # The name was completed, so nobody was asked if it may be replaced.
        count = len(tell)
        type_name(tmp_path / "map")
        widget.maps.save.click()
        qtbot.waitUntil(lambda: len(tell) > count, timeout=10_000)
        assert "exists" in tell[-1].message
    assert kept.read_text() == "mine"


def test_what_cannot_be_edited_is_said_beforehand(viewer, widget, result_layers):
    assert widget.edit.isEnabled()
    viewer.layers.remove("cells index")
    assert not widget.edit.isEnabled()
    assert "index map" in widget.text.text()
    viewer.layers.remove("cells")
    assert "cells" in widget.text.text()
    viewer.layers.clear()
    assert not widget.edit.isEnabled()
    assert "Fuse a stack first" in widget.text.text()
