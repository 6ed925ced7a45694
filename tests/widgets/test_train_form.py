"""The form of the training widget: what it offers, refuses, and asks of the core."""

import threading
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from napari.components import ViewerModel
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent

from napari_ips import IPSError, TrainConfig
from napari_ips.config import PRESETS
from napari_ips.simulation import demo_image
from napari_ips.widgets.fuse.surroundings import Surroundings
from napari_ips.widgets.train import estimate as estimate_module
from napari_ips.widgets.train import form as form_module
from napari_ips.widgets.train.form import TrainForm
from napari_ips.widgets.train.preferences import remember
from napari_ips.widgets.train.surveys import survey

LAPTOP = Surroundings(
    weights={"default": "", "mine": ""},
    devices={"cpu": "x86", "cuda:0": "A100"},
    scans={"cpu": "numba", "cuda:0": "triton"},
    automatic="cuda:0",
)


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


@pytest.fixture
def viewer():
    """A viewer without a window, which is all that the form needs."""
    return ViewerModel()


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Keep what was to be looked into; nothing is found."""
    asked = []

    def survey(state, stop, callback):
        asked.append((state, stop))
        raise IPSError("Nobody looked.")

    monkeypatch.setattr(form_module, "survey", survey)
    return asked


@pytest.fixture
def open_form(viewer, qtbot):
    def opened(config=None):
        form = TrainForm(viewer, config)
        qtbot.addWidget(form)
        qtbot.addWidget(form.advanced)
        form.show()
        return form

    return opened


@pytest.fixture
def run(tmp_path):
    """A run in a folder of its own."""
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    return SimpleNamespace(images=folder / "images", output=folder / "weights.safetensors")


def texts(sources):
    return [sources.list.item(n).text() for n in range(sources.list.count())]


def prepared(form, run):
    return form.state().prepare(run, threading.Event(), lambda progress: None)


def written(run):
    return [tifffile.imread(path) for path in sorted(run.images.glob("*.tif"))]


def test_without_images_it_says_what_to_do(open_form):
    form = open_form()
    problems = form.problems()
    assert "add files or folders" in problems["images"]
    form.show_problems(problems)
    assert not form._notes["images"].isHidden()


def test_images_are_listed_as_they_come_and_go(viewer, open_form):
    form = open_form()
    cells = viewer.add_image(noise(6, 32, 32), name="cells")
    viewer.add_labels(np.zeros((8, 8), int))
    photo = viewer.add_image(noise(32, 32), name="photo")
    assert texts(form.sources) == ["cells (layer, 6 slices)", "photo (layer)"]
    assert [source.layer for source in form.state().layers] == [cells, photo]
    assert form.problems() == {}
    photo.name = "renamed"
    viewer.layers.remove(cells)
    assert texts(form.sources) == ["renamed (layer)"]


def test_results_are_listed_but_not_ticked(viewer, open_form):
    result = {"napari-ips": {"role": "fused"}}
    fused = viewer.add_image(noise(32, 32), name="fused", metadata=result)
    form = open_form()
    assert form.state().layers == ()
    form.sources.list.tick(fused, True)
    assert [source.layer for source in form.state().layers] == [fused]


def test_a_tick_that_was_taken_stays_away(viewer, open_form):
    layer = viewer.add_image(noise(32, 32))
    form = open_form()
    form.sources.list.tick(layer, False)
    viewer.add_image(noise(16, 16), name="other")
    assert [source.layer.name for source in form.state().layers] == ["other"]


@pytest.mark.parametrize(
    ("shape", "labels", "z"),
    [((5, 9, 8), None, 0), ((2, 5, 9, 8), None, 1), ((9, 8, 5), ("y", "x", "depth"), 2)],
)
def test_z_axis_is_that_of_the_label_or_guessed(viewer, open_form, shape, labels, z):
    viewer.add_image(np.zeros(shape), **({"axis_labels": labels} if labels else {}))
    form = open_form()
    (source,) = form.state().layers
    assert (source.z_axis, source.slices) == (z, None)
    assert ("guessed" in form.sources.z_axis.currentText()) == (labels is None)
    form.sources.slices.setValue((1, 3))
    assert form.state().layers[0].slices == (1, 4)


def test_images_of_a_layer_may_be_no_stack(viewer, open_form, run):
    viewer.add_image(noise(3, 16, 16), name="photos")
    form = open_form()
    form.sources.slices.setValue((0, 1))
    form.sources.z_axis.setCurrentIndex(form.sources.z_axis.findData(None))
    (source,) = form.state().layers
    assert (source.z_axis, source.slices) == (None, None)
    assert form.z_stacks.isHidden()
    prepared(form, run)
    assert len(written(run)) == 3


def test_slices_are_kept_for_each_stack(viewer, open_form):
    first = viewer.add_image(np.zeros((5, 9, 8)), name="first")
    second = viewer.add_image(np.zeros((7, 9, 8)), name="second")
    form = open_form()
    form.sources.list.choose(first)
    form.sources.slices.setValue((1, 3))
    form.sources.list.choose(second)
    assert form.sources.slices.value() == (0, 6)
    form.sources.slices.setValue((2, 2))
    form.sources.list.choose(first)
    assert form.sources.slices.value() == (1, 3)
    assert [source.slices for source in form.state().layers] == [(1, 4), (2, 3)]
    first.data = np.zeros((4, 9, 8))
    assert form.state().layers[0].slices is None


def test_files_and_folders_are_added_and_removed(open_form, tmp_path):
    form, within = open_form(), tmp_path.name
    folder, file = tmp_path / "images", tmp_path / "a.tif"
    folder.mkdir()
    file.touch()
    form.sources.add_paths([folder, file, file])
    assert texts(form.sources) == [
        f"{tmp_path.name}/images/ (folder)",
        f"{tmp_path.name}/a.tif",
    ]
    assert form.state().paths == (folder, file)
    form.sources.list.tick(folder, False)
    assert form.state().paths == (file,)
    form.sources.list.clearSelection()
    form.sources.list.choose(file)
    form.sources.remove.click()
    assert texts(form.sources) == [f"{within}/images/ (folder)"]


def test_files_can_be_dropped(open_form, tmp_path):
    form, data = open_form(), QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path)), QUrl("https://example.org/a.tif")])
    event = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    form.sources.list.dropEvent(event)
    assert form.state().paths == (tmp_path,)


def test_what_cannot_be_trained_on_is_said_beforehand(viewer, open_form, tmp_path):
    form = open_form()
    form.sources.add_paths([tmp_path / "gone.tif"])
    assert "gone.tif is not there" in form.problems()["images"]
    form.sources.set_paths([])
    viewer.add_image(np.zeros((9, 9), bool), name="mask")
    assert "mask holds bool" in form.problems()["images"]


def test_weights_are_adapted_with_care_and_trained_from_scratch_as_the_preset_says(
    open_form,
):
    form = open_form()
    values = form.values()
    assert values["start_from"] == "default"
    assert (values["learning_rate"], values["decay_start"]) == (3e-4, 0.2)
    assert "network" not in values
    form.start_from.value = ""
    config = form.state().config(Path("w.safetensors"), ())
    expected = {"images": (), "output": "w.safetensors", "minutes": 10}
    assert config == TrainConfig.from_preset("microscopy", **expected)
    form.preset.put("paper")
    expected["iterations"] = None
    config = form.state().config(Path("w.safetensors"), ())
    assert config == TrainConfig.from_preset("paper", **expected)


def test_a_field_that_was_changed_outlasts_another_preset(open_form):
    form = open_form()
    form.advanced.fields["jpeg"].put(0.7)
    form.preset.put("paper")
    values = form.values()
    assert (values["jpeg"], values["both_defocused"]) == (0.7, 0.0)
    form.advanced.reset.click()
    assert form.values()["jpeg"] == PRESETS["paper"]["jpeg"]


@pytest.mark.parametrize("start", [None, "mine"])
def test_settings_of_a_file_are_taken_over_exactly(open_form, tmp_path, start):
    config = TrainConfig.from_preset(
        "paper",
        images=(tmp_path,),
        output=tmp_path / "w.safetensors",
        start_from=start,
        iterations=123,
        notes="H&E, 40x",
        learning_rate=1 / 3000,
        noise="measured",
        min_sharpness=0.0123456789,
        device="cuda:3",
        z_stacks="best",
    )
    form = open_form()
    form.set_values(config)
    state = form.state()
    again = state.config(config.output, state.paths)
    assert again.model_dump(exclude={"network"}) == config.model_dump(exclude={"network"})
    assert ("network" in again.model_fields_set) == (start is None)
    assert start or again.network == config.network


def test_length_is_in_minutes_or_steps(open_form):
    form = open_form()
    assert (form.values()["minutes"], form.values()["iterations"]) == (10.0, None)
    form.unit.put("iterations")
    assert (form.values()["minutes"], form.values()["iterations"]) == (None, 2000)


def test_the_name_is_free_until_it_is_chosen_otherwise(
    viewer, open_form, tmp_path, monkeypatch
):
    taken = tmp_path / "user" / "my-weights.safetensors"
    taken.parent.mkdir()
    taken.touch()
    monkeypatch.setattr("napari_ips.weights.user_folder", lambda: taken.parent)
    form = open_form()
    viewer.add_image(noise(32, 32))
    weights = {"default": "", "my-weights": ""}
    form.set_surroundings(Surroundings(weights, LAPTOP.devices, LAPTOP.scans, "cpu"))
    assert form.state().title == "my-weights-2"
    assert form.problems() == {}
    form.title.setText("my-weights")
    form.title.setModified(True)
    assert "taken" in form.problems()["title"]
    form.set_surroundings(LAPTOP)
    assert form.state().title == "my-weights"
    form.title.clear()
    assert "Name the new weights" in form.problems()["title"]


def test_what_is_not_on_this_machine_is_refused(viewer, open_form):
    viewer.add_image(noise(32, 32))
    settings = {"start_from": "lost", "device": "cuda:3", "minutes": 1}
    form = open_form(TrainConfig(images=(), output="w.safetensors", **settings))
    assert form.problems() == {}
    form.set_surroundings(LAPTOP)
    problems = form.problems()
    assert "no weights lost" in problems["start_from"]
    assert "no device cuda:3" in problems["device"]
    form.show_problems(problems)
    assert not form.advanced.notes["device"].isHidden()


def kinds():
    return {
        "numpy": lambda data, _: data,
        "dask": lambda data, _: da.from_array(data, chunks=(1, 16, 16)),
        "zarr": lambda data, path: zarr.create_array(path, data=data, chunks=(2, 8, 8)),
        "multiscale": lambda data, _: [data, data[:, ::2, ::2]],
    }


@pytest.mark.parametrize("kind", kinds())
def test_slices_of_stacks_are_written_as_they_are(viewer, open_form, run, tmp_path, kind):
    data = noise(5, 32, 24, dtype=np.uint16)
    viewer.add_image(kinds()[kind](data, tmp_path / "a.zarr"), name="cells / A1")
    form = open_form()
    form.sources.slices.setValue((1, 3))
    config = prepared(form, run)
    np.testing.assert_array_equal(written(run), data[1:4])
    assert written(run)[0].dtype == np.uint16
    names = sorted(path.name for path in run.images.iterdir())
    assert names[0] == "0000_cells_A1_z_1.tif"
    assert (config.images, config.output) == ((run.images,), run.output)


def test_images_are_written_in_their_colours_and_type(viewer, open_form, run, tmp_path):
    grey, colours = noise(32, 24, dtype=np.float32), noise(32, 24, 3)
    viewer.add_image(grey)
    viewer.add_image(colours, rgb=True)
    form = open_form()
    form.sources.add_paths([tmp_path])
    assert prepared(form, run).images == (run.images, tmp_path)
    first, second = written(run)
    np.testing.assert_array_equal(first, grey)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(second, colours)


def test_planes_of_any_axes_are_written(viewer, open_form, run):
    """(Y, X, T, Z), transposed and with the time points of a movie."""
    data = noise(16, 12, 2, 3)
    viewer.add_image(data, axis_labels=("y", "x", "t", "z"))
    form = open_form()
    assert form.state().layers[0].z_axis == 3
    prepared(form, run)
    expected = data.transpose(2, 3, 0, 1).reshape(6, 16, 12)
    np.testing.assert_array_equal(written(run), expected)


def test_writing_ends_when_it_is_asked_to(viewer, open_form, run):
    viewer.add_image(noise(9, 16, 16))
    stop, seen = threading.Event(), []

    def callback(progress):
        seen.append((progress.done, progress.total))
        stop.set()

    open_form().state().prepare(run, stop, callback)
    assert seen == [(1, 9)]
    assert len(written(run)) == 1


@pytest.mark.parametrize("method", ["best", "fused"])
def test_of_stacks_what_is_in_focus_is_written(
    viewer, open_form, run, simulated, monkeypatch, method
):
    asked = {}

    def in_focus_images(stack, method, **options):
        asked.update(options, method=method, whole=stack.read(0, 0, *[slice(None)] * 3))
        yield "tile", asked["whole"][0]

    monkeypatch.setattr("napari_ips.training.stacks.in_focus_images", in_focus_images)
    viewer.add_image(simulated.stack)
    form = open_form()
    form.sources.slices.setValue((2, 4))
    form.z_stacks.put(method)
    config = prepared(form, run)
    assert (asked["method"], config.z_stacks) == (method, method)
    np.testing.assert_array_equal(asked["whole"], simulated.stack[2:5])
    np.testing.assert_array_equal(written(run), simulated.stack[2:3])


def test_settings_last_from_one_session_to_the_next(open_form):
    form = open_form()
    form.start_from.value = ""
    form.preset.put("paper")
    form.unit.put("iterations")
    form.advanced.fields["batch_size"].put(8)
    remember(form.state().config(Path("w.safetensors"), ()))
    values = open_form().values()
    assert (values["start_from"], values["preset"]) == (None, "paper")
    assert (values["iterations"], values["minutes"]) == (2000, None)
    assert values["batch_size"] == 8
    assert values["network"] == PRESETS["paper"]["network"]


def test_only_what_was_changed_last_is_looked_into(viewer, open_form, asked, qtbot):
    form = open_form()
    for n in range(3):
        viewer.add_image(noise(32, 32), name=str(n))
    qtbot.waitUntil(lambda: "found" in form.problems(), timeout=10_000)
    assert len(asked) == 1
    assert len(asked[0][0].layers) == 3
    assert form.problems()["found"] == "Nobody looked."


def test_looking_stops_when_images_change(viewer, open_form, qtbot, monkeypatch):
    stops, here = [], threading.Event()

    def survey(state, stop, callback):
        stops.append(stop)
        here.set()
        assert stop.wait(20)
        raise RuntimeError("Stopped in some way.")

    monkeypatch.setattr(form_module, "survey", survey)
    form = open_form()
    layer = viewer.add_image(noise(32, 32))
    qtbot.waitUntil(here.is_set, timeout=10_000)
    layer.data = noise(16, 16)
    assert stops[0].is_set()
    assert form.problems() == {}
    here.clear()
    qtbot.waitUntil(here.is_set, timeout=10_000)
    form.forget()
    assert stops[1].is_set()


def test_nobody_looks_at_images_of_a_form_that_is_hidden(viewer, open_form, asked, qtbot):
    form = open_form()
    form.hide()
    viewer.add_image(noise(32, 32))
    qtbot.wait(700)
    assert asked == []
    form.show()
    qtbot.waitUntil(lambda: len(asked) == 1, timeout=10_000)


@pytest.mark.in_window
def test_napari_may_be_closed_while_images_are_looked_at(
    make_napari_viewer_proxy, qtbot, monkeypatch
):
    here, ended = threading.Event(), threading.Event()

    def survey(state, stop, callback):
        here.set()
        if stop.wait(20):
            ended.set()

    monkeypatch.setattr(form_module, "survey", survey)
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.add_dock_widget(TrainForm(viewer))
    viewer.add_image(noise(32, 32))
    qtbot.waitUntil(here.is_set, timeout=10_000)
    viewer.close()
    assert ended.wait(10)


def test_what_was_found_is_told(viewer, open_form, qtbot, monkeypatch):
    from napari_ips.widgets.train.surveys import survey

    monkeypatch.setattr(form_module, "survey", survey)
    form = open_form()
    viewer.add_image(demo_image("gravel")[:256, :256], name="sharp")
    viewer.add_image(np.zeros((256, 256), np.uint8), name="empty")
    viewer.add_image(noise(3, 64, 64), name="small")
    qtbot.waitUntil(lambda: form.found.crops.count() > 0, timeout=20_000)
    assert "5 images: 1 usable, 4 left out" in form.found.summary.text()
    assert form.problems() == {}
    form.found.slider.setValue(0.5)
    assert form.values()["min_sharpness"] == 0.5


def test_a_stack_of_which_nothing_is_taken_is_listed(viewer, open_form):
    viewer.add_image(np.full((3, 128, 128), 7.0), name="thick")
    form = open_form()
    form.z_stacks.put("best")
    found = survey(form.state(), threading.Event(), lambda _: None)
    assert found.problem.startswith("The image is not usable. thick: nothing")


def test_time_and_memory_are_estimated(viewer, open_form, qtbot, monkeypatch):
    found = SimpleNamespace(summary="0.35 s a step")
    monkeypatch.setattr(estimate_module, "estimate", lambda state, stop: found)
    viewer.add_image(noise(32, 32))
    form = open_form()
    form.estimate.button.click()
    qtbot.waitUntil(lambda: form.estimate.told.text() == "0.35 s a step", timeout=10_000)
    form.advanced.fields["batch_size"].put(2)
    assert form.estimate.told.text() == ""
