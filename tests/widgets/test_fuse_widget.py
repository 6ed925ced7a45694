"""The fuse widget: what it offers, what it refuses, and what it asks of the core."""

import threading

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel

from napari_ips import FuseConfig, IPSError, fuse_stack
from napari_ips.config import QUALITIES
from napari_ips.widgets.fuse import FuseWidget
from napari_ips.widgets.fuse.surroundings import Surroundings


def noise(*shape):
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


@pytest.fixture
def viewer():
    """A viewer without a window, which is all that most of the widget needs."""
    return ViewerModel()


@pytest.fixture
def open_widget(viewer, qtbot):
    """Make the widget as its dock does."""

    widgets = []

    def opened():
        widgets.append(FuseWidget(viewer))
        qtbot.addWidget(widgets[-1])
        return widgets[-1]

    return opened


@pytest.fixture
def docked(make_napari_viewer_proxy):
    """Open the dock in a window, as its menu does; return viewer, widget and layer."""
    viewer = make_napari_viewer_proxy()
    layer = viewer.add_image(noise(3, 64, 600), name="wide")
    _, widget = viewer.window.add_plugin_dock_widget("napari-ips", "Fuse z-stack")
    return viewer, widget, layer


LAPTOP = Surroundings(
    weights={"default": ""},
    devices={"cpu": "x86", "cuda:0": "A100"},
    scans={"cpu": "numba", "cuda:0": "triton"},
    automatic="cuda:0",
)


@pytest.fixture
def asked(monkeypatch):
    """Keep what the core is asked for, instead of fusing."""
    calls = []

    def fuse_to_arrays(stack, **options):
        calls.append((stack, options))
        raise IPSError("Asked.")

    monkeypatch.setattr("napari_ips.fusion.fuse_to_arrays", fuse_to_arrays)
    return calls


def run(widget, qtbot, timeout=20_000):
    widget.run_button.click()
    qtbot.waitUntil(lambda: widget.run_button.text() == "Fuse", timeout=timeout)


def names(field):
    return [choice.name for choice in field.choices if choice is not None]


def messages(widget):
    return widget.form.problems()


def test_without_a_stack_it_says_what_to_open(open_widget):
    widget = open_widget()
    assert not widget.run_button.isEnabled()
    assert "Open Sample" in messages(widget)["layer"]


def test_single_images_can_be_made_a_stack(viewer, open_widget):
    widget = open_widget()
    for name in ("near", "far"):
        viewer.add_image(noise(8, 8), name=name)
    assert "Merge to Stack" in messages(widget)["layer"]


def test_stacks_are_found_as_they_come_and_go(viewer, stack_layer, open_widget):
    widget = open_widget()
    viewer.add_image(np.zeros((8, 8)), name="flat")
    viewer.add_labels(np.zeros((3, 8, 8), int))
    other = viewer.add_image(np.zeros((3, 8, 8)), name="other")
    assert names(widget.form.layer) == ["cells", "other"]
    assert widget.form.layer.value == stack_layer
    other.name = "renamed"
    assert names(widget.form.layer) == ["cells", "renamed"]
    viewer.layers.remove(stack_layer)
    assert widget.form.layer.value == other
    viewer.layers.clear()
    assert not widget.run_button.isEnabled()


def test_results_are_not_offered_as_stacks(result_layers, open_widget):
    assert names(open_widget().form.layer) == ["cells"]


@pytest.mark.parametrize(
    ("shape", "labels", "z", "guessed"),
    [
        ((5, 9, 8), None, 0, True),
        ((2, 5, 9, 8), None, 1, True),
        ((5, 2, 9, 8), ("z", "t", "y", "x"), 0, False),
        ((9, 8, 5), ("y", "x", "depth"), 2, False),
        ((4, 5, 9, 8), ("t", "plane", "y", "x"), 1, False),
    ],
)
def test_z_axis_is_that_of_the_label_or_guessed(
    viewer, open_widget, shape, labels, z, guessed
):
    viewer.add_image(np.zeros(shape), **({"axis_labels": labels} if labels else {}))
    form = open_widget().form
    assert form.z_axis.value == z
    assert ("guessed" in form.z_axis.native.currentText()) == guessed
    assert form.state().slices == (0, 5)


def test_any_axis_may_be_z_where_none_is_labelled(viewer, open_widget, asked, qtbot):
    """(Y, X, Z), as some programs save it."""
    data = np.random.default_rng(0).random((20, 16, 5))
    viewer.add_image(data)
    widget = open_widget()
    widget.form.z_axis.value = 2
    assert widget.form.state().slices == (0, 5)
    run(widget, qtbot)
    read = asked[0][0].read(0, 0, slice(None), slice(None), slice(None))
    np.testing.assert_array_equal(read, data.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("data", "labels", "field", "told"),
    [
        (np.zeros((1, 8, 8)), None, "z_axis", "only one slice"),
        (np.zeros((4, 8, 8), bool), None, "layer", "values are bool"),
        (np.zeros((2, 2, 2, 4, 8, 8)), None, "z_axis", "only time and channels"),
    ],
)
def test_what_cannot_work_is_said_beforehand(
    viewer, open_widget, data, labels, field, told
):
    viewer.add_image(data)
    widget = open_widget()
    assert told in messages(widget)[field]
    assert not widget.run_button.isEnabled()


def test_one_slice_is_not_enough(stack_layer, open_widget):
    widget = open_widget()
    widget.form.slices.setValue((3, 3))
    assert "two or more" in messages(widget)["slices"]
    assert not widget.run_button.isEnabled()
    widget.form.slices.setValue((2, 3))
    assert widget.run_button.isEnabled()


def test_the_core_gets_exactly_what_the_fields_say(stack_layer, open_widget, asked, qtbot):
    widget = open_widget()
    form, advanced = widget.form, widget.form.advanced
    form.slices.setValue((1, 4))
    form.quality.value = "best"
    advanced.mode.value = "hard"
    advanced.auto_smoothing.value = False
    advanced.smoothing.value = 3.5
    advanced.tile.value = 512
    advanced.precision.value = "bfloat16"
    run(widget, qtbot)
    ((stack, options),) = asked
    assert stack.shape == (1, 1, 6, 64, 64)
    assert stack.metadata.pixel_size == (0.5, 0.5)
    assert (stack.metadata.z_step, stack.metadata.unit) == (2.0, "µm")
    assert options["slices"] == (1, 5)
    assert options["reference_channel"] is None
    assert options["config"] == FuseConfig(
        mode="hard",
        smoothing=3.5,
        tile=512,
        precision="bfloat16",
        both_orders=True,
        skip=False,
    )


@pytest.mark.parametrize("quality", QUALITIES)
def test_quality_and_the_fields_it_stands_for_go_together(
    stack_layer, open_widget, quality
):
    form = open_widget().form
    form.quality.value = quality
    assert form.config() == FuseConfig().changed({}, quality)
    form.advanced.finest.value = 3 - form.advanced.finest.value
    assert form.quality.value in ({*QUALITIES, "custom"} - {quality})


def test_a_channel_decides_for_all(viewer, open_widget, asked, qtbot):
    data = np.zeros((2, 3, 32, 32), np.uint8)
    viewer.add_image(data, axis_labels=("c", "z", "y", "x"))
    widget = open_widget()
    assert set(widget.form.channels.choices) >= {-1, 0, 1}
    widget.form.channels.value = 1
    run(widget, qtbot)
    assert asked[0][1]["reference_channel"] == 1


def test_layers_of_the_same_size_are_fused_together(
    viewer, stack_layer, open_widget, asked, qtbot
):
    from qtpy.QtCore import Qt

    other = viewer.add_image(stack_layer.data + 1, name="other")
    viewer.add_image(stack_layer.data[:, :32], name="smaller")
    widget = open_widget()
    widget.form.layer.value = stack_layer
    assert widget.form.others.count() == 1
    widget.form.others.item(0).setCheckState(Qt.CheckState.Checked)
    run(widget, qtbot)
    ((stack, options),) = asked
    assert stack.shape == (1, 2, 6, 64, 64)
    assert options["reference_channel"] == 0
    whole = (slice(None),) * 3
    np.testing.assert_array_equal(stack.read(0, 0, *whole), stack_layer.data)
    np.testing.assert_array_equal(stack.read(0, 1, *whole), other.data)


def test_weights_that_are_none_or_gone_are_refused(
    stack_layer, open_widget, tmp_path, qtbot
):
    widget = open_widget()
    path = tmp_path / "mine.safetensors"
    path.touch()
    widget.form.set_config(FuseConfig(weights=str(path)))
    assert widget.run_button.isEnabled()
    qtbot.waitUntil(lambda: "weights" in messages(widget), timeout=30_000)
    assert "cannot be read as weights" in messages(widget)["weights"]
    path.unlink()
    widget.form.set_config(FuseConfig(weights=str(path)))
    assert "no file mine.safetensors" in messages(widget)["weights"]
    assert not widget.run_button.isEnabled()


def test_what_is_not_on_this_machine_is_refused(stack_layer, open_widget):
    widget = open_widget()
    widget.form.set_config(FuseConfig(weights="lost", device="cuda:3"))
    assert messages(widget) == {}
    widget.form.set_surroundings(LAPTOP)
    assert "no weights lost" in messages(widget)["weights"]
    assert widget.form.advanced.computes_on.text() == ""
    assert "no device cuda:3" in messages(widget)["device"]
    assert not widget.run_button.isEnabled()
    widget.form.set_config(FuseConfig())
    assert widget.run_button.isEnabled()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "Name the folder"),
        ("fused.tif", "End the name"),
        ("no/fused.ome.zarr", "no folder"),
        ("there.ome.zarr", "there.ome.zarr exists already"),
        ("other.ome.zarr", "other.depth.ome.zarr exists already"),
        ("half.ome.zarr", "stopped run"),
    ],
)
def test_output_is_checked_beforehand(stack_layer, open_widget, tmp_path, name, told):
    for taken in ("there.ome.zarr", "other.depth.ome.zarr", ".half.ome.zarr.partial"):
        (tmp_path / taken).mkdir()
    widget = open_widget()
    widget.form.advanced.output.value = "file"
    widget.form.advanced.path.setText(str(tmp_path / name) if name else "")
    widget.form.advanced.path.editingFinished.emit()
    assert told in messages(widget)["output"]
    assert not widget.run_button.isEnabled()


def test_what_there_is_to_compute_with_is_offered(stack_layer, open_widget, qtbot):
    form = open_widget().form
    qtbot.waitUntil(lambda: "cpu" in form.advanced.device.choices, timeout=30_000)
    assert "scan by" in form.advanced.computes_on.text()
    assert "default" in form.weights.choices
    assert form.config() == FuseConfig()


def test_it_is_told_what_computes(stack_layer, open_widget):
    form = open_widget().form
    form.set_surroundings(LAPTOP)
    told = form.advanced.computes_on
    assert told.text() == "cuda:0 (A100), scan by triton"
    form.advanced.device.value = "cpu"
    assert told.text() == "cpu (x86), scan by numba"
    form.set_config(FuseConfig(device="cuda", backend="mamba_ssm"))
    assert told.text() == "cuda:0 (A100), scan by mamba_ssm"
    assert form.problems() == {}


def test_slices_stay_as_chosen_while_the_stack_stays_as_long(stack_layer, open_widget):
    form = open_widget().form
    form.slices.setValue((1, 3))
    stack_layer.data = stack_layer.data + 1
    assert form.state().slices == (1, 4)
    stack_layer.data = stack_layer.data[:5]
    assert form.state().slices == (0, 5)


def test_units_that_do_not_go_together_tell_no_step(viewer, open_widget, asked, qtbot):
    viewer.add_image(np.zeros((3, 8, 8)), units=("s", "um", "um"), scale=(2, 0.5, 0.5))
    run(open_widget(), qtbot)
    metadata = asked[0][0].metadata
    assert (metadata.z_step, metadata.pixel_size) == (None, (0.5, 0.5))


def test_settings_last_from_one_session_to_the_next(stack_layer, open_widget, asked, qtbot):
    widget = open_widget()
    widget.form.quality.value = "fast"
    widget.form.advanced.tile.value = 512
    run(widget, qtbot)
    assert open_widget().form.config() == FuseConfig().changed({"tile": 512}, "fast")


def test_errors_of_the_core_are_told_in_one_line(
    stack_layer, open_widget, asked, qtbot, viewer
):
    from napari.utils.notifications import notification_manager

    widget = open_widget()
    notification_manager.records.clear()
    run(widget, qtbot)
    assert [str(record.message) for record in notification_manager.records] == ["Asked."]
    assert widget.status.text() == "Asked."
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert widget.run_button.isEnabled()


def kinds():
    return {
        "numpy": lambda data, _: data,
        "dask": lambda data, _: da.from_array(data, chunks=(1, 64, 64)),
        "zarr": lambda data, path: zarr.create_array(path, data=data, chunks=(2, 32, 32)),
        "multiscale": lambda data, _: [data, data[:, ::2, ::2]],
    }


@pytest.mark.parametrize("kind", kinds())
def test_result_is_what_the_core_fuses(
    viewer, simulated, open_widget, qtbot, tmp_path, kind
):
    data = kinds()[kind](simulated.stack, tmp_path / "a.zarr")
    source = viewer.add_image(
        data,
        name="cells",
        scale=(2, 0.5, 0.5),
        translate=(4, 10, 20),
        units=("um",) * 3,
        axis_labels=("z", "y", "x"),
        colormap="magenta",
        blending="additive",
        opacity=0.8,
        contrast_limits=(100, 3000),
    )
    widget = open_widget()
    run(widget, qtbot)
    fused = viewer.layers["cells fused"]
    expected = fuse_stack(simulated.stack)
    np.testing.assert_array_equal(fused.data, expected.fused)
    np.testing.assert_array_equal(viewer.layers["cells focus index"].data, expected.index)
    depth = viewer.layers["cells depth (µm)"].data
    np.testing.assert_allclose(depth, 2 * expected.depth, rtol=1e-6)
    np.testing.assert_array_equal(
        viewer.layers["cells confidence"].data, expected.confidence
    )
    assert tuple(fused.scale) == (0.5, 0.5)
    assert tuple(fused.translate) == (10, 20)
    assert [str(unit) for unit in fused.units] == ["micrometer"] * 2
    assert fused.axis_labels == ("y", "x")
    assert fused.colormap.name == "magenta"
    assert fused.contrast_limits == [100, 3000]
    assert not source.visible
    assert viewer.layers.selection.active == fused
    facts = fused.metadata["napari-ips"]
    assert facts["source"] == str(source.unique_id)
    assert facts["settings"]["mode"] == "soft"
    assert facts["weights"] == "default"
    assert facts["version"]
    assert (fused.blending, fused.opacity) == ("additive", 0.8)


def test_colours_stay_colours(viewer, open_widget, simulated, qtbot):
    colours = np.stack([simulated.stack // 16] * 3, axis=-1).astype(np.uint8)
    viewer.add_image(colours, name="tissue", rgb=True)
    run(open_widget(), qtbot)
    fused = viewer.layers["tissue fused"]
    assert fused.rgb
    np.testing.assert_array_equal(fused.data, fuse_stack(colours).fused)


def test_time_and_channels_stay_in_their_axes(viewer, open_widget, simulated, qtbot):
    one = simulated.stack[:3]
    movie = np.stack([np.stack([one, one + 5]), np.stack([one + 10, one + 15])])
    # (T, C, Z, Y, X) as (C, Z, T, Y, X)
    data = movie.transpose(1, 2, 0, 3, 4)
    viewer.add_image(data, name="movie", axis_labels=("c", "z", "t", "y", "x"))
    widget = open_widget()
    widget.form.channels.value = 0
    run(widget, qtbot)
    fused = viewer.layers["movie fused"]
    assert fused.data.shape == (2, 1, 2, 64, 64)
    # One for both channels.
    assert viewer.layers["movie focus index"].data.shape == (1, 1, 2, 64, 64)
    for t, c in np.ndindex(2, 2):
        alone = fuse_stack(movie[t, c]).fused
        np.testing.assert_allclose(fused.data[c, 0, t].astype(int), alone, atol=1)


def test_it_runs_again_and_again(viewer, stack_layer, open_widget, qtbot):
    widget = open_widget()
    run(widget, qtbot)
    run(widget, qtbot)
    assert [layer.name for layer in viewer.layers if "fused" in layer.name] == [
        "cells fused",
        "cells fused [1]",
    ]
    runs = {layer.metadata["napari-ips"]["run"] for layer in list(viewer.layers)[1:]}
    assert len(runs) == 2


def test_large_results_go_to_a_file(viewer, stack_layer, open_widget, qtbot, tmp_path):
    widget = open_widget()
    path = tmp_path / "fused.ome.zarr"
    widget.form.advanced.output.value = "file"
    widget.form.advanced.path.setText(str(path))
    widget.form.advanced.path.editingFinished.emit()
    run(widget, qtbot)
    expected = fuse_stack(stack_layer.data)
    np.testing.assert_array_equal(zarr.open(path)["0"][:], expected.fused)
    layer = viewer.layers["cells fused"]
    data = layer.data[0] if layer.multiscale else layer.data
    np.testing.assert_array_equal(np.asarray(data), expected.fused)
    assert tuple(layer.scale) == (0.5, 0.5)
    assert layer.metadata["napari-ips"]["file"] == str(path)
    assert viewer.layers.selection.active == layer
    names = [layer.name for layer in viewer.layers]
    maps = ["cells confidence", "cells depth (µm)", "cells focus index"]
    assert names == ["cells", *maps, "cells fused"]
    assert {p.name for p in tmp_path.iterdir()} >= {
        "fused.ome.zarr",
        "fused.index.ome.zarr",
        "fused.depth.ome.zarr",
        "fused.confidence.ome.zarr",
    }


@pytest.fixture
def held(monkeypatch):
    """Hold a fusion when its first tile is done, until it is let go."""
    import napari_ips.fusion as fusion
    from napari_ips.events import TileDone

    fuse = fusion.fuse_to_arrays
    here, go = threading.Event(), threading.Event()

    def slowly(stack, *, callback, stop, **options):
        def told(event):
            callback(event)
            if isinstance(event, TileDone) and not here.is_set():
                here.set()
                while not (go.is_set() or stop.is_set()):
                    go.wait(0.05)

        return fuse(stack, callback=told, stop=stop, **options)

    monkeypatch.setattr(fusion, "fuse_to_arrays", slowly)
    here.go = go
    yield here
    go.set()


@pytest.fixture
def wide(viewer):
    """Two tiles wide."""
    return viewer.add_image(noise(3, 64, 600), name="wide")


def start(widget, held, qtbot):
    widget.run_button.click()
    qtbot.waitUntil(held.is_set, timeout=20_000)
    qtbot.wait(50)


def test_tiles_are_seen_while_others_are_fused(viewer, wide, open_widget, held, qtbot):
    widget = open_widget()
    start(widget, held, qtbot)
    data = viewer.layers["wide fused"].data
    columns = data.any(axis=0)
    assert columns.any() and not columns.all()
    assert widget.run_button.text() == "Cancel"
    assert "1 of 2" in widget.status.text()
    held.go.set()
    qtbot.waitUntil(lambda: widget.run_button.text() == "Fuse", timeout=20_000)
    np.testing.assert_array_equal(
        viewer.layers["wide fused"].data, fuse_stack(wide.data).fused
    )


def test_cancel_leaves_nothing_behind(viewer, wide, open_widget, held, qtbot):
    widget = open_widget()
    start(widget, held, qtbot)
    run(widget, qtbot)
    assert widget.status.text() == "Stopped."
    assert list(viewer.layers) == [wide]
    assert wide.visible
    assert widget.run_button.isEnabled()


def test_what_is_cancelled_leaves_no_files(viewer, open_widget, qtbot, tmp_path):
    viewer.add_image(noise(8, 600, 600), name="large")
    widget = open_widget()
    widget.form.quality.value = "best"
    widget.form.advanced.output.value = "file"
    folder = tmp_path / "results"
    folder.mkdir()
    widget.form.advanced.path.setText(str(folder / "f.ome.zarr"))
    widget.form.advanced.path.editingFinished.emit()
    widget.run_button.click()
    qtbot.waitUntil(lambda: "Fusing" in widget.status.text(), timeout=20_000)
    run(widget, qtbot)
    assert widget.status.text() == "Stopped."
    assert list(folder.iterdir()) == []
    assert widget.run_button.isEnabled()


def test_labels_in_work_are_left_in_peace(viewer, wide, open_widget, held, qtbot):
    labels = viewer.add_labels(np.zeros((64, 600), int))
    labels.mode = "paint"
    widget = open_widget()
    start(widget, held, qtbot)
    assert viewer.layers.selection.active == labels
    assert labels.mode == "paint"
    held.go.set()
    qtbot.waitUntil(lambda: widget.run_button.text() == "Fuse", timeout=20_000)
    assert viewer.layers.selection.active == labels
    assert viewer.layers[-1] == labels


def test_layers_that_were_hidden_stay_hidden(viewer, wide, open_widget, held, qtbot):
    wide.visible = False
    widget = open_widget()
    start(widget, held, qtbot)
    run(widget, qtbot)
    assert not wide.visible


def test_a_result_that_is_removed_is_not_filled_on(viewer, wide, open_widget, held, qtbot):
    widget = open_widget()
    start(widget, held, qtbot)
    viewer.layers.remove("wide fused")
    qtbot.waitUntil(lambda: widget.run_button.text() == "Fuse", timeout=20_000)
    assert list(viewer.layers) == [wide]


def test_the_source_may_be_removed_meanwhile(viewer, wide, open_widget, held, qtbot):
    widget = open_widget()
    start(widget, held, qtbot)
    viewer.layers.remove(wide)
    held.go.set()
    qtbot.waitUntil(lambda: widget.run_button.text() == "Fuse", timeout=20_000)
    np.testing.assert_array_equal(
        viewer.layers["wide fused"].data, fuse_stack(wide.data).fused
    )


def test_it_runs_in_a_window(docked, qtbot):
    viewer, widget, layer = docked
    assert names(widget.form.layer) == ["wide"]
    run(widget, qtbot)
    np.testing.assert_array_equal(
        viewer.layers["wide fused"].data, fuse_stack(layer.data).fused
    )


def test_a_closed_dock_stops_its_run(docked, held, qtbot):
    viewer, widget, layer = docked
    start(widget, held, qtbot)
    viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(lambda: list(viewer.layers) == [layer], timeout=20_000)
    viewer.add_image(noise(3, 8, 8))


def test_napari_may_be_closed_in_mid_run(docked, held, qtbot):
    viewer, widget, _ = docked
    start(widget, held, qtbot)
    viewer.close()
