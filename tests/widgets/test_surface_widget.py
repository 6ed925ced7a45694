from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from numpy.testing import assert_allclose
from qtpy.QtWidgets import QFileDialog

from napari_ips.widgets.surface.widget import SurfaceWidget

trimesh = pytest.importorskip("trimesh")

Z_STEP, PIXEL = 2.0, 0.5


@pytest.fixture
def widget(viewer, open_dock):
    widget = open_dock(SurfaceWidget(viewer))
    widget.fields.smoothing.setValue(0)
    return widget


def surfaces(viewer):
    return [layer for layer in viewer.layers if type(layer).__name__ == "Surface"]


def show(widget, viewer, qtbot):
    widget.show_button.click()
    qtbot.waitUntil(lambda: bool(surfaces(viewer)), timeout=10_000)
    return surfaces(viewer)[0]


def choices(box):
    return [box.itemText(n) for n in range(box.count())]


def heights_of(surface, shape=(64, 64)):
    """Return world z of the vertices, as an image."""
    z = surface.vertices[:, 0] * surface.scale[0] + surface.translate[0]
    return z.reshape(shape)


def visible(viewer):
    return {layer.name for layer in viewer.layers if layer.visible}


# What can be chosen


def test_without_a_height_map_it_says_what_to_do(widget, viewer, stack_layer):
    assert not widget.show_button.isEnabled()
    assert not widget.export_button.isEnabled()
    assert "Fuse a z-stack first" in widget.fields.note.text()
    assert widget.fields.note.isVisibleTo(widget)
    fields = widget.fields
    for part in (
        fields.heights,
        fields.image,
        fields.smoothing,
        fields.step,
        fields.exaggeration,
        widget.show_button,
        widget.export_button,
    ):
        assert part.toolTip()


def test_it_offers_depth_maps_and_the_images_that_fit(widget, viewer, result_layers):
    viewer.add_image(np.zeros((64, 64), np.float32), name="topography")
    viewer.add_image(np.zeros((64, 64), np.uint8), name="photo")
    viewer.add_image(np.zeros((32, 64), np.float32), name="other size")
    fields = widget.fields
    assert choices(fields.heights) == [
        "cells depth",
        "cells index",
        "topography",
        "other size",
    ]
    fields.heights.setCurrentIndex(0)
    offered = choices(fields.image)
    assert offered[0] == "cells fused"
    assert offered[-1] == "Colours of the heights"
    assert {"photo", "topography"} < {*offered}
    assert not {"other size", "cells", "cells depth"} & {*offered}
    assert widget.show_button.isEnabled()


def test_it_follows_the_selected_layer(widget, viewer, result_layers):
    other = viewer.add_image(np.zeros((64, 64), np.float32), name="topography")
    assert widget.fields.heights.currentText() == "topography"
    for role, expected in (
        ("confidence", "cells depth"),
        ("index", "cells index"),
        ("fused", "cells depth"),
    ):
        viewer.layers.selection.active = other
        viewer.layers.selection.active = result_layers[role]
        assert widget.fields.heights.currentText() == expected
        assert widget.fields.image.currentText() == "cells fused"


def test_the_distance_of_slices_is_known_from_the_stack_or_asked_for(
    widget, viewer, result_layers
):
    fields = widget.fields
    assert (fields.step.value(), fields.step.isEnabled()) == (Z_STEP, False)
    assert "µm" in fields.step.text()
    assert not fields.note.isVisibleTo(widget)

    viewer.add_image(np.zeros((64, 64), np.float32), name="topography")
    assert (fields.step.value(), fields.step.isEnabled()) == (1, True)
    assert "enter it" in fields.note.text()
    assert fields.note.isVisibleTo(widget)


# The surface


def test_the_surface_lies_where_the_slices_of_the_stack_lie(
    widget, viewer, stack_layer, result_layers, simulated, qtbot
):
    for layer in (stack_layer, *result_layers.values()):
        layer.translate = (*(7,) * (layer.ndim - 2), 30, 40)
    stack_layer.translate = (7, 30, 40)
    surface = show(widget, viewer, qtbot)

    assert_allclose(heights_of(surface), 7 + Z_STEP * simulated.height, atol=1e-3)
    low, high = surface.extent.world
    assert_allclose(low[1:], (30, 40), atol=1e-4)
    assert_allclose(high[1:], (30 + 63 * PIXEL, 40 + 63 * PIXEL), atol=1e-4)
    assert [str(unit) for unit in surface.units] == ["micrometer"] * 3
    assert np.array_equal(surface.texture.shape[:2], (64, 64))


@pytest.mark.in_window
def test_it_is_looked_at_in_3d_in_place_of_the_flat_images_and_back(
    widget, viewer, result_layers, qtbot
):
    viewer.add_points(np.zeros((1, 3)), name="my points")
    result_layers["index"].visible = False
    viewer.layers.selection.active = result_layers["fused"]
    before = visible(viewer)
    show(widget, viewer, qtbot)

    assert viewer.dims.ndisplay == 3
    assert visible(viewer) == {"cells surface", "my points"}
    # From above: towards lower z.
    assert viewer.scene.camera.view_direction[0] < -0.3

    viewer.dims.ndisplay = 2
    assert visible(viewer) == before
    viewer.dims.ndisplay = 3
    assert visible(viewer) == {"cells surface", "my points"}
    viewer.layers.remove("cells surface")
    assert visible(viewer) == before


def test_the_surface_follows_the_fields(widget, viewer, result_layers, simulated, qtbot):
    surface = show(widget, viewer, qtbot)
    widget.fields.exaggeration.setValue(3)
    expected = 3 * Z_STEP * simulated.height
    qtbot.waitUntil(
        lambda: np.allclose(heights_of(surface), expected, atol=1e-2), timeout=5000
    )
    noise = np.random.default_rng(0).normal(0, 1, expected.shape)
    result_layers["depth"].data = (Z_STEP * simulated.height + noise).astype(np.float32)
    widget.fields.smoothing.setValue(4)
    qtbot.waitUntil(lambda: not np.allclose(heights_of(surface), expected), timeout=5000)
    assert (heights_of(surface) - expected).std() < 0.2 * 3 * noise.std()

    widget.fields.image.setCurrentIndex(widget.fields.image.count() - 1)
    qtbot.waitUntil(lambda: surface.texture is None, timeout=5000)
    assert_allclose(surface.vertex_values, surface.vertices[:, 0])
    assert_allclose(
        surface.contrast_limits,
        (surface.vertex_values.min(), surface.vertex_values.max()),
    )
    assert surfaces(viewer) == [surface]


def test_the_image_has_the_colours_in_which_the_viewer_shows_it(
    widget, viewer, result_layers, simulated, qtbot
):
    fused = result_layers["fused"]
    fused.colormap = "green"
    fused.contrast_limits = (500, 3000)
    surface = show(widget, viewer, qtbot)
    texture = surface.texture
    assert not texture[..., [0, 2]].any()
    shown = (simulated.truth.astype(float) - 500) / 2500 * 255
    assert_allclose(texture[..., 1], shown.clip(0, 255), atol=2)


def test_heights_in_slices_take_the_distance_that_is_entered(
    widget, viewer, result_layers, simulated, qtbot
):
    viewer.layers.selection.active = result_layers["index"]
    surface = show(widget, viewer, qtbot)
    index = result_layers["index"].data
    # Corners of the steps are taken for outliers.
    assert np.isclose(heights_of(surface), Z_STEP * index).mean() > 0.98

    viewer.layers.remove(surface)
    plain = viewer.add_image(np.array(simulated.height), name="plain")
    assert widget.fields.heights.currentData() == plain
    widget.fields.step.setValue(5)
    surface = show(widget, viewer, qtbot)
    assert_allclose(heights_of(surface), 5 * simulated.height, atol=1e-3)


def test_of_a_series_it_shows_the_time_point_at_the_slider(widget, viewer, qtbot):
    times = np.stack([np.full((8, 9), t, np.float32) for t in range(4)])
    told = {"napari-ips": {"role": "depth", "run": "r", "source": "gone", "z axis": 1}}
    viewer.add_image(times, name="series", metadata=told)
    viewer.dims.set_current_step(0, 2)
    surface = show(widget, viewer, qtbot)
    assert_allclose(surface.vertices[:, 0], 2)


def test_a_rotated_stack_gives_a_rotated_surface(widget, viewer, qtbot):
    layer = viewer.add_image(
        np.ones((5, 7), np.float32), name="turned", scale=(2, 3), rotate=30
    )
    surface = show(widget, viewer, qtbot)
    for row, column in ((0, 0), (4, 0), (2, 6)):
        vertex = surface.vertices[row * 7 + column]
        assert_allclose(
            surface.data_to_world(vertex)[1:], layer.data_to_world((row, column)), atol=1e-4
        )


def test_what_goes_wrong_is_told_in_a_line(widget, viewer, qtbot):
    viewer.add_image(np.full((8, 8), np.nan, np.float32), contrast_limits=(0, 1))
    told = []
    notification_manager.notification_ready.connect(told.append)
    widget.show_button.click()
    qtbot.waitUntil(lambda: bool(told), timeout=5000)
    notification_manager.notification_ready.disconnect(told.append)
    assert told[0].message == "The height map holds no finite height."
    assert not surfaces(viewer)
    assert widget.show_button.isEnabled()


@pytest.mark.parametrize(
    "end",
    [
        "layer",
        pytest.param("dock", marks=pytest.mark.in_window),
        pytest.param("viewer", marks=pytest.mark.in_window),
    ],
)
def test_it_can_be_left_in_the_middle_of_the_work(gate, widget, viewer, qtbot, end):
    heights = gate.before(np.ones((16, 16), np.float32))
    layer = viewer.add_image(heights, name="slow", contrast_limits=(0, 2))
    gate.close()
    widget.show_button.click()
    qtbot.waitUntil(gate.reached.is_set, timeout=5000)
    if end == "layer":
        viewer.layers.remove(layer)
    elif end == "dock":
        viewer.window.remove_dock_widget(widget)
    else:
        viewer.close()
    gate.open()
    qtbot.wait(200)
    if end != "viewer":
        assert not surfaces(viewer)


# Export


def export(widget, monkeypatch, qtbot, name: Path, kind: int = 0):
    def answer(parent, title, directory, filters):
        return str(name), filters.split(";;")[kind]

    told = []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    notification_manager.notification_ready.connect(told.append)
    widget.export_button.click()
    qtbot.waitUntil(lambda: bool(told), timeout=10_000)
    notification_manager.notification_ready.disconnect(told.append)
    qtbot.waitUntil(widget.export_button.isEnabled, timeout=5000)
    return told[0].message


def test_export_is_at_true_scale_whatever_is_shown(
    widget, viewer, result_layers, simulated, qtbot, monkeypatch, tmp_path
):
    viewer.layers.selection.active = result_layers["depth"]
    widget.fields.exaggeration.setValue(5)
    message = export(widget, monkeypatch, qtbot, tmp_path / "cells.obj")
    assert "cells.obj" in message
    assert {path.name for path in tmp_path.iterdir()} >= {
        "cells.obj",
        "cells.mtl",
        "cells-texture.png",
    }
    loaded = trimesh.load(tmp_path / "cells.obj", process=False)
    size = np.ptp(loaded.vertices, axis=0)
    height = Z_STEP * np.ptp(simulated.height)
    assert_allclose(size, (63 * PIXEL, 63 * PIXEL, height), rtol=1e-3)


def test_a_name_without_suffix_gets_that_of_the_chosen_kind(
    widget, result_layers, qtbot, monkeypatch, tmp_path
):
    export(widget, monkeypatch, qtbot, tmp_path / "cells", kind=1)
    loaded = trimesh.load(tmp_path / "cells.ply", process=False)
    assert len(loaded.vertices) == 64 * 64
    # The dialog asked about "cells", so "cells.ply" may not go.
    content = (tmp_path / "cells.ply").read_bytes()
    message = export(widget, monkeypatch, qtbot, tmp_path / "cells", kind=1)
    assert "choose another name" in message
    assert (tmp_path / "cells.ply").read_bytes() == content

    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    widget.export_button.click()
    assert widget.export_button.isEnabled()
