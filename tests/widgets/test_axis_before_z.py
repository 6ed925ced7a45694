"""Results of stacks with an axis before z: each follows its own sliders in every dock."""

from __future__ import annotations

import numpy as np
import ome_types
import pytest
import tifffile
from qtpy.QtCore import Qt

from napari_ips import fuse_stack
from napari_ips.evaluation.baselines import max_projection
from napari_ips.widgets.compare.widget import CompareWidget
from napari_ips.widgets.curve.widget import FocusCurve
from napari_ips.widgets.fuse import FuseWidget
from napari_ips.widgets.retouch.retouching import begin
from napari_ips.widgets.retouch.widget import RetouchWidget
from napari_ips.widgets.save import save_layer
from napari_ips.widgets.stacks import flat_placement
from napari_ips.widgets.surface.widget import SurfaceWidget

_WAIT = 20_000
PLACED = {"scale": (30, 2, 0.5, 0.5), "translate": (0, 7, 10, 20)}
UNITS = ("second", "micrometer", "micrometer", "micrometer")


@pytest.fixture
def movie(simulated):
    """Two time points of five slices, (T, Z, Y, X); in the second, z runs the other way."""
    return np.stack([simulated.stack[:5], simulated.stack[4::-1]])


@pytest.fixture
def source(viewer, movie):
    return viewer.add_image(
        movie, name="movie", axis_labels=("t", "z", "y", "x"), units=UNITS, **PLACED
    )


@pytest.fixture
def fuse(viewer, qtbot):
    """Return what fuses all that is in the viewer, and gives the results by role."""

    def fused(prepare=lambda form: None):
        widget = FuseWidget(viewer)
        qtbot.addWidget(widget)
        prepare(widget.form)
        widget.run_button.click()
        qtbot.waitUntil(lambda: widget.run_button.text() == "Fuse", timeout=_WAIT)
        told = ((layer.metadata.get("napari-ips"), layer) for layer in viewer.layers)
        return {known["role"]: layer for known, layer in told if known}

    return fused


def second_decides(form):
    form.channels.value = 1


def assert_shown_at_every_z(viewer, layer, expected, slices):
    """Move the sliders of the first axis and z; compare a row of what is to be seen."""
    layer.visible = True
    for first, image in enumerate(expected):
        for z in range(slices):
            viewer.dims.set_current_step((0, 1), (first, z))
            for x in (3, 40):
                point = np.array(viewer.dims.point)
                point[-2:] = layer.data_to_world((0,) * (layer.ndim - 2) + (9, x))[-2:]
                assert layer.get_value(point, world=True) == image[9, x], (first, z)


def test_fused_time_points_follow_time_and_not_z(viewer, source, movie, fuse):
    layers = fuse()
    expected = [fuse_stack(stack) for stack in movie]
    for role in ("fused", "index", "confidence"):
        assert layers[role].data.shape == (2, 1, 64, 64)
        images = [getattr(each, role) for each in expected]
        assert_shown_at_every_z(viewer, layers[role], images, slices=5)
    assert layers["fused"].axis_labels == source.axis_labels
    assert layers["fused"].units == source.units
    # Alone, it lies where it did.
    viewer.layers.remove(source)
    assert viewer.dims.nsteps[:2] == (2, 1)


def test_a_part_of_the_slices_is_seen_at_all_of_them(viewer, source, movie, fuse):
    layers = fuse(lambda form: form.slices.setValue((1, 2)))
    images = [fuse_stack(stack[1:3]).fused for stack in movie]
    assert_shown_at_every_z(viewer, layers["fused"], images, slices=5)


def test_fused_channels_follow_channels_and_their_one_map_is_seen_with_each(
    viewer, movie, fuse
):
    viewer.add_image(movie, axis_labels=("c", "z", "y", "x"), **PLACED)
    layers = fuse(second_decides)
    decides = fuse_stack(movie[1])
    index = decides.index
    assert layers["index"].data.shape == (1, 1, 64, 64)
    assert_shown_at_every_z(viewer, layers["index"], [index, index], slices=5)
    np.testing.assert_array_equal(layers["fused"].data[1, 0], decides.fused)
    labels = begin(viewer.layers, layers["fused"]).show_in(viewer)
    labels.paint((0, 0, 12, 13), 1)
    painted = (labels.data[0, 0] == 1) & (index != 0)
    for c in (0, 1):
        np.testing.assert_array_equal(
            layers["fused"].data[c, 0][painted], movie[c, 0][painted]
        )


@pytest.mark.parametrize("slices", [2, 3, 8, 1001])
@pytest.mark.parametrize("step", [1, 0.1, -0.3, 1e-6])
def test_no_slice_of_a_long_stack_is_lost_by_rounding(viewer, slices, step):
    stack = np.zeros((2, slices, 4, 4), np.uint8)
    place = {"scale": (1, step, 1, 1), "translate": (0, 1 / 3, 0, 0)}
    source = viewer.add_image(stack, **place)
    flat = viewer.add_image(np.zeros((2, 1, 4, 4)), **flat_placement(source, 1))
    viewer.layers.remove(source)
    source = viewer.add_image(stack, **place)
    for z in range(slices):
        world = source.data_to_world((1, z, 2, 2))
        assert np.round(flat.world_to_data(world)).tolist() == [1, 0, 2, 2]


def test_a_turned_stack_gives_a_turned_result_at_every_z(viewer, movie, fuse):
    source = viewer.add_image(movie, rotate=30, **PLACED)
    fused = fuse()["fused"]
    for t, z, y, x in [(0, 0, 0, 0), (1, 4, 3, 60), (1, 2, 63, 5)]:
        place = np.round(fused.world_to_data(source.data_to_world((t, z, y, x))))
        assert place.tolist() == [t, 0, y, x]


def test_slices_along_the_last_axis(viewer, simulated, fuse, qtbot, tmp_path):
    stack = simulated.stack[:5]
    data = np.moveaxis(stack, 0, -1)
    source = viewer.add_image(data, name="last", axis_labels=("y", "x", "z"))
    layers = fuse()
    expected = fuse_stack(stack)
    np.testing.assert_array_equal(layers["fused"].data[..., 0], expected.fused)
    # As a user does who wants to see slices.
    viewer.dims.order = (2, 0, 1)
    for z in range(5):
        viewer.dims.set_current_step(2, z)
        at = source.data_to_world((20, 40, z))
        assert layers["fused"].get_value(at, world=True) == expected.fused[20, 40]
    save_layer(layers["index"], tmp_path / "index.ome.tif")
    saved = tifffile.imread(tmp_path / "index.ome.tif")
    np.testing.assert_array_equal(saved, expected.index)
    dock = SurfaceWidget(viewer)
    qtbot.addWidget(dock)
    dock.fields.smoothing.setValue(0)
    dock.show_button.click()
    qtbot.waitUntil(lambda: "last surface" in viewer.layers, timeout=_WAIT)
    heights = viewer.layers["last surface"].vertices[:, 0].reshape(64, 64)
    # Those that are not sure are taken from around them.
    sure = expected.confidence >= np.percentile(expected.confidence, 75)
    assert np.isclose(heights, expected.depth, atol=1e-3)[sure].mean() > 0.9


def test_painting_changes_the_time_point_that_is_shown(viewer, source, movie, fuse, qtbot):
    layers = fuse()
    fused, before = layers["fused"], layers["fused"].data.copy()
    dock = RetouchWidget(viewer)
    qtbot.addWidget(dock)
    dock.edit.click()
    labels = viewer.layers["movie fused retouch"]
    for z in (0, 3):
        viewer.dims.set_current_step((0, 1), (1, z))
        assert labels.selected_label == z + 1
        place = np.array(viewer.dims.point)
        place[-2:] = (10 + 0.5 * 20, 20 + 0.5 * 30)
        labels.paint(labels.world_to_data(place).round(), labels.selected_label)
        assert fused.data[1, 0, 20, 30] == movie[1, z, 20, 30]
    np.testing.assert_array_equal(fused.data[0], before[0])


def test_a_map_applied_gives_an_image_that_follows_time(viewer, source, movie, fuse, qtbot):
    fuse()
    dock = RetouchWidget(viewer)
    qtbot.addWidget(dock)
    dock.maps.apply_to(source, np.full((2, 1, 64, 64), 3), "my map")
    qtbot.waitUntil(lambda: "movie by my map" in viewer.layers, timeout=_WAIT)
    applied = viewer.layers["movie by my map"]
    assert_shown_at_every_z(viewer, applied, movie[:, 3], slices=5)


def test_images_to_compare_with_lie_at_their_time_point(viewer, source, movie, fuse, qtbot):
    fused = fuse()["fused"]
    dock = CompareWidget(viewer)
    qtbot.addWidget(dock)
    assert dock.image.currentData() == fused
    viewer.dims.set_current_step((0, 1), (1, 2))
    dock.button.click()
    name = "Max projection (t 1)"
    qtbot.waitUntil(lambda: name in viewer.layers, timeout=_WAIT)
    image = viewer.layers[name]
    np.testing.assert_array_equal(image.data[0, 0], max_projection(movie[1]))
    for t, z in [(1, 0), (1, 4), (0, 2)]:
        world = source.data_to_world((t, z, 5, 6))
        assert np.round(image.world_to_data(world)).tolist() == [t - 1, 0, 5, 6]
    dock.panel.close_down()


def test_the_surface_is_that_of_the_time_point_shown(viewer, source, fuse, qtbot):
    layers = fuse()
    dock = SurfaceWidget(viewer)
    qtbot.addWidget(dock)
    dock.fields.smoothing.setValue(0)
    box = dock.fields.image
    offered = [box.itemText(n) for n in range(box.count())]
    assert offered[0] == "movie fused"
    assert "movie" not in offered
    viewer.dims.set_current_step((0, 1), (1, 3))
    dock.show_button.click()
    qtbot.waitUntil(lambda: "movie surface" in viewer.layers, timeout=_WAIT)
    surface = viewer.layers["movie surface"]
    z = np.array([surface.data_to_world(v)[0] for v in surface.vertices]).reshape(64, 64)
    depth = layers["depth"].data[:, 0]
    confidence = layers["confidence"].data[1, 0]
    sure = confidence >= np.percentile(confidence, 75)
    assert np.isclose(z, 7 + depth[1], atol=1e-3)[sure].mean() > 0.9
    assert np.isclose(z, 7 + depth[0], atol=1e-3)[sure].mean() < 0.5
    low, high = surface.extent.world
    np.testing.assert_allclose(low[1:], (10, 20), atol=1e-3)
    np.testing.assert_allclose(high[1:], (10 + 31.5, 20 + 31.5), atol=1e-3)


def test_a_click_on_the_result_asks_for_its_time_point(
    viewer, source, movie, fuse, qtbot, click_at
):
    fused = fuse()["fused"]
    viewer.layers.selection.active = fused
    dock = FocusCurve(viewer)
    qtbot.addWidget(dock)
    dock.show()
    for t in (0, 1):
        viewer.dims.set_current_step((0, 1), (t, 2))
        click_at((*viewer.dims.point[:2], 10 + 0.5 * 20, 20 + 0.5 * 40))
        qtbot.waitUntil(lambda: "y 20, x 40" in dock.text.text(), timeout=_WAIT)
        best = fuse_stack(movie[t]).index[20, 40]
        assert f"sharpest in slice {best}," in dock.text.text()


def test_the_curve_is_that_of_the_channel_that_decided(
    viewer, movie, fuse, qtbot, click_at
):
    source = viewer.add_image(movie, axis_labels=("c", "z", "y", "x"))
    fused = fuse(second_decides)["fused"]
    best = [fuse_stack(stack).index[20, 40] for stack in movie]
    assert best[0] != best[1]
    dock = FocusCurve(viewer)
    qtbot.addWidget(dock)
    dock.show()
    for active in (fused, source):
        viewer.layers.selection.active = active
        viewer.dims.set_current_step((0, 1), (0, 2))
        click_at((0, 2, 20, 40))
        qtbot.waitUntil(
            lambda: "y 20, x 40 in channel 1" in dock.text.text(), timeout=_WAIT
        )
        assert f"sharpest in slice {best[1]}," in dock.text.text()


def test_the_curve_of_layers_fused_together_is_that_of_the_one_that_decided(
    viewer, movie, fuse, qtbot
):
    first = viewer.add_image(movie[0], name="first")
    second = viewer.add_image(movie[1], name="second")

    def together(form):
        form.layer.value = first
        form.others.item(0).setCheckState(Qt.CheckState.Checked)

    fuse(together)
    fused = viewer.layers["second fused"]
    labels = begin(viewer.layers, fused).show_in(viewer)
    labels.paint((20, 40), 5)
    assert fused.data[20, 40] == second.data[4, 20, 40]
    assert viewer.layers["first fused"].data[20, 40] == first.data[4, 20, 40]
    viewer.layers.selection.active = fused
    dock = FocusCurve(viewer)
    qtbot.addWidget(dock)
    assert dock.stack_name.text() == "Stack: first"


def test_saving_leaves_the_single_z_out_and_keeps_the_time_step(
    viewer, source, fuse, tmp_path
):
    layers = fuse()
    for role in ("fused", "index", "depth", "confidence"):
        path = tmp_path / f"{role}.ome.tif"
        save_layer(layers[role], path)
        np.testing.assert_array_equal(tifffile.imread(path), layers[role].data[:, 0])
        pixels = ome_types.from_tiff(path).images[0].pixels
        assert (pixels.size_t, pixels.size_z, pixels.size_c) == (2, 1, 1)
        assert (pixels.time_increment, pixels.time_increment_unit.value) == (30, "s")
        assert (pixels.physical_size_y, pixels.physical_size_z) == (0.5, None)
