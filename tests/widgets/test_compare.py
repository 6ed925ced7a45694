import dask.array as da
import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_ips.evaluation.baselines import (
    best_single_slice,
    max_projection,
    mean_projection,
    window_energy,
)
from napari_ips.widgets.compare.widget import CompareWidget

METHODS = {
    "max": ("Max projection", max_projection),
    "mean": ("Mean projection", mean_projection),
    "slice": ("Best single slice", lambda stack: best_single_slice(stack).fused),
    "window": ("Window energy", lambda stack: window_energy(stack).fused),
}


@pytest.fixture
def widget(viewer, open_dock):
    return open_dock(CompareWidget(viewer))


def tick(widget, *keys):
    for box in widget.choices.boxes():
        box.setChecked(False)
    for key in keys:
        widget.choices.box(key).setChecked(True)


def compare(widget, qtbot, *keys):
    """Tick these, press the button, and wait."""
    if keys:
        tick(widget, *keys)
    widget.button.click()
    qtbot.waitUntil(lambda: "Compare" in widget.button.text(), timeout=10_000)


def visible(viewer):
    return [layer.name for layer in viewer.layers if layer.visible]


def key_of(layer):
    return str(layer.unique_id)


# What can be chosen


def test_fewer_than_two_images_cannot_be_compared(viewer, widget, simulated):
    assert "Open a z-stack" in widget.problem.text()
    assert not widget.button.isEnabled()
    viewer.add_image(simulated.stack)
    assert widget.button.isEnabled()
    tick(widget, "max")
    assert not widget.button.isEnabled()
    assert "two" in widget.problem.text()
    tick(widget, "max", "mean")
    assert widget.button.isEnabled()
    assert not widget.problem.text()


def test_a_fused_image_comes_first_and_is_flattened_while_its_stack_is_open(
    viewer, widget, result_layers, stack_layer
):
    fused = result_layers["fused"]
    assert widget.image.currentData() == fused
    assert widget.image.count() == 2  # Not the index map, nor depth and confidence.
    assert widget.choices.ticked() == [fused, "max", "window"]
    assert widget.button.isEnabled()
    viewer.layers.remove(stack_layer)
    assert "is not open" in widget.problem.text()
    assert widget.choices.ticked() == [result_layers["fused"]]
    assert not widget.button.isEnabled()


def test_ticks_outlive_new_layers_and_names(viewer, widget, stack_layer):
    tick(widget, "mean", "slice")
    viewer.add_points()
    stack_layer.name = "renamed"
    assert widget.choices.ticked() == ["mean", "slice"]
    assert widget.image.currentText() == "renamed"


# Images


def test_flattened_images_are_those_of_the_methods(viewer, widget, qtbot, stack_layer):
    compare(widget, qtbot, *METHODS)
    for name, function in METHODS.values():
        layer = viewer.layers[name]
        np.testing.assert_array_equal(layer.data, function(stack_layer.data))
        assert layer.data.dtype == stack_layer.data.dtype


def test_they_look_like_the_fused_image_and_lie_where_it_does(
    viewer, widget, qtbot, result_layers, stack_layer
):
    fused = result_layers["fused"]
    fused.colormap, fused.contrast_limits, fused.gamma = "magma", (10, 3000), 0.7
    fused.metadata["napari-ips"]["slices"] = [2, 4]
    stack_layer.translate = (5, 3, 4)
    compare(widget, qtbot)
    layer = viewer.layers["Max projection"]
    np.testing.assert_allclose(layer.scale, fused.scale)
    np.testing.assert_allclose(layer.translate, (3, 4))
    assert layer.units == fused.units
    assert layer.colormap.name == "magma"
    assert tuple(layer.contrast_limits) == (10, 3000)
    assert layer.gamma == 0.7
    # Only the slices of the run count.
    np.testing.assert_array_equal(layer.data, stack_layer.data[2:4].max(0))


def test_colours_and_several_resolutions(viewer, widget, qtbot, simulated):
    grey = (simulated.stack // 16).astype(np.uint8)
    rgb = np.stack([grey, grey[:, ::-1], 255 - grey], -1)
    viewer.add_image([rgb, rgb[:, ::2, ::2]], rgb=True, multiscale=True, name="rgb")
    compare(widget, qtbot, "max", "mean")
    layer = viewer.layers["Max projection"]
    assert layer.rgb
    np.testing.assert_array_equal(layer.data, rgb.max(0))


def series(viewer, simulated):
    """Three time points of two channels: t, z, c, y, x."""
    stack = np.stack([simulated.stack + 100 * n for n in range(6)]).reshape(3, 2, 6, 64, 64)
    data = stack.transpose(0, 2, 1, 3, 4)
    layer = viewer.add_image(
        data,
        axis_labels=("t", "z", "c", "y", "x"),
        scale=(10, 2, 1, 0.5, 0.5),
        name="series",
    )
    return layer, data


def test_time_point_and_channel_that_are_shown_or_all(viewer, widget, qtbot, simulated):
    _, data = series(viewer, simulated)
    viewer.dims.current_step = (2, 3, 1, 0, 0)
    compare(widget, qtbot, "max", "mean")
    layer = viewer.layers["Max projection (t 2, c 1)"]
    np.testing.assert_array_equal(layer.data[0, 0, 0], data[2, :, 1].max(0))
    # Along z it is as long as the stack.
    np.testing.assert_allclose(layer.translate, (20, 5, 1, 0, 0))
    np.testing.assert_allclose(layer.scale, (10, 12, 1, 0.5, 0.5))
    assert widget.all_planes.isVisibleTo(widget)
    widget.all_planes.setChecked(True)
    compare(widget, qtbot, "max", "mean")
    np.testing.assert_array_equal(
        viewer.layers["Max projection"].data, data.max(1, keepdims=True)
    )
    assert viewer.layers["Mean projection"].data.shape == (3, 1, 2, 64, 64)


def test_what_was_made_is_not_made_again(viewer, widget, qtbot, result_layers):
    compare(widget, qtbot)
    number = len(viewer.layers)
    widget.panel.done.click()
    compare(widget, qtbot)
    assert len(viewer.layers) == number
    assert len(visible(viewer)) == 3


def test_what_cannot_be_read_is_told_in_one_line(viewer, widget, qtbot):
    def broken(block):
        raise OSError("the disk is gone")

    viewer.add_image(np.zeros((3, 8, 8)), name="fine")
    lazy = da.zeros((3, 32, 32), chunks=(1, 32, 32)).map_blocks(
        broken, dtype=float, meta=np.zeros((0, 0, 0))
    )
    before = len(notification_manager.records)
    layer = viewer.layers["fine"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_ips.widgets.stacks.level_zero", lambda _: lazy)
        compare(widget, qtbot, "max", "mean")
    (told,) = notification_manager.records[before:]
    assert "the disk is gone" in told.message
    assert "\n" not in told.message
    assert list(viewer.layers) == [layer]


# Work that ends early


@pytest.fixture
def slow(viewer, widget, gate, simulated, qtbot):
    """Begin work that waits at the gate; return the layer of the stack."""
    stack = gate.before(simulated.stack)
    layer = viewer.add_image(stack, name="slow", contrast_limits=(0, 4000))
    tick(widget, "max", "mean")
    gate.close()
    widget.button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=10_000)
    assert "Cancel" in widget.button.text()
    return layer


def test_cancelled_work_adds_nothing(viewer, widget, slow, gate, qtbot):
    widget.button.click()
    assert "Compare" in widget.button.text()
    gate.open()
    qtbot.wait(200)
    assert [layer.name for layer in viewer.layers] == ["slow"]
    assert widget.progress.isHidden()
    compare(widget, qtbot)
    assert len(viewer.layers) == 3


def test_work_ends_with_its_layer(viewer, widget, slow, gate, qtbot):
    viewer.layers.remove(slow)
    gate.open()
    qtbot.wait(200)
    assert len(viewer.layers) == 0
    assert "Compare" in widget.button.text()


@pytest.mark.in_window
def test_work_ends_with_the_dock(viewer, widget, slow, gate, qtbot):
    viewer.window.remove_dock_widget(widget)
    gate.open()
    qtbot.wait(200)
    assert [layer.name for layer in viewer.layers] == ["slow"]
    viewer.add_image(np.zeros((3, 8, 8)))  # Nothing listens any more.


def test_work_may_end_after_its_window_was_closed(widget, slow, gate, qtbot):
    # As it happens to docks; what touches them then ends the test.
    widget.deleteLater()
    qtbot.wait(100)
    gate.open()
    qtbot.wait(200)


@pytest.mark.in_window
def test_napari_can_be_closed_while_it_works(viewer, slow, gate, qtbot):
    gate.open()
    viewer.close()
    qtbot.wait(200)


# Views


def test_images_lie_side_by_side_and_are_changed_together(
    viewer, widget, qtbot, result_layers
):
    compare(widget, qtbot)
    assert viewer.canvas.grid.enabled
    assert visible(viewer) == ["cells fused", "Max projection", "Window energy"]
    assert all(viewer.layers[name].name_overlay.visible for name in visible(viewer))
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (2, 2)
    fused, other = result_layers["fused"], viewer.layers["Max projection"]
    fused.contrast_limits = (50, 2000)
    assert tuple(other.contrast_limits) == (50, 2000)
    widget.panel.done.click()
    fused.contrast_limits = (60, 1000)
    assert tuple(other.contrast_limits) == (50, 2000)


@pytest.mark.parametrize(
    ("view", "end"),
    [
        ("side_by_side", "done"),
        pytest.param("swipe", "close", marks=pytest.mark.in_window),
        ("blink", "done"),
    ],
)
def test_the_viewer_is_as_before_afterwards(
    viewer, widget, qtbot, result_layers, end, view
):
    result_layers["depth"].visible = False
    viewer.canvas.grid.stride = 2
    viewer.layers.selection.active = result_layers["index"]
    zoom, before = viewer.scene.camera.zoom, visible(viewer)
    compare(widget, qtbot)
    getattr(widget.panel, view).click()
    assert visible(viewer) != before
    if end == "done":
        widget.panel.done.click()
        assert not widget.panel.isEnabled()
    else:
        viewer.window.remove_dock_widget(widget)
    assert visible(viewer) == before
    assert not any(layer.name_overlay.visible for layer in viewer.layers)
    assert not viewer.canvas.grid.enabled
    assert viewer.canvas.grid.stride == 2
    assert viewer.scene.camera.zoom == pytest.approx(zoom)
    assert viewer.layers.selection.active == result_layers["index"]
    assert len(viewer.layers) == 7  # The two new images stay, hidden.


@pytest.mark.in_window
def test_the_divider_uncovers_one_image_and_covers_the_other(
    viewer, widget, qtbot, result_layers
):
    compare(widget, qtbot)
    panel = widget.panel
    panel.swipe.click()
    assert visible(viewer) == ["Max projection", "cells fused (left)"]
    cover, fused = viewer.layers["cells fused (left)"], result_layers["fused"]
    np.testing.assert_array_equal(cover.data, fused.data[:, :32])
    panel.divider.setValue(750)
    np.testing.assert_array_equal(cover.data, fused.data[:, :48])
    assert np.shares_memory(cover.data, fused.data)
    panel.divider.setValue(0)
    assert not cover.visible
    panel.divider.setValue(1000)
    np.testing.assert_array_equal(cover.data, fused.data)
    box = panel.first
    box.setCurrentIndex(box.findText("Window energy"))
    box.activated.emit(box.currentIndex())
    assert visible(viewer) == ["Max projection", "Window energy (left)"]
    assert "cells fused (left)" not in viewer.layers


def test_blinking_shows_two_images_in_turns(viewer, widget, qtbot, result_layers):
    compare(widget, qtbot)
    widget.panel.blink.click()
    assert visible(viewer) == ["cells fused"]
    qtbot.waitUntil(lambda: visible(viewer) == ["Max projection"], timeout=3000)
    qtbot.waitUntil(lambda: visible(viewer) == ["cells fused"], timeout=3000)


def test_compared_layers_can_be_removed(viewer, widget, qtbot, result_layers):
    compare(widget, qtbot)
    widget.panel.swipe.click()
    viewer.layers.remove("Max projection")
    assert widget.panel.first.count() == 2
    viewer.layers.remove(result_layers["fused"])
    assert not widget.panel.isEnabled()
    assert "cells" in visible(viewer)
    viewer.layers.clear()
    assert not widget.button.isEnabled()


def test_a_stack_can_be_swiped_slice_by_slice(viewer, widget, qtbot, stack_layer):
    compare(widget, qtbot, "max", key_of(stack_layer))
    widget.panel.swipe.click()
    assert visible(viewer) == ["Max projection", "cells (left)"]
    assert viewer.layers["cells (left)"].data.shape == (6, 64, 32)
    viewer.layers.remove("cells (left)")
    assert not widget.panel.isEnabled()
    assert visible(viewer) == ["cells"]
