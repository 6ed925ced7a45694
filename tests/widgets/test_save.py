from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import ome_types
import pytest
import tifffile
import yaozarrs
import zarr
from napari.components import LayerList, ViewerModel
from qtpy.QtWidgets import QFileDialog

from napari_ips.errors import IPSError
from napari_ips.io import read_image
from napari_ips.widgets.save import save_layer
from napari_ips.widgets.save_dialog import save_with_dialog

ROLES = ("fused", "index", "depth", "confidence")
SUFFIXES = (".ome.tif", ".ome.zarr")
PLACED: dict[str, Any] = {"scale": (0.5, 0.25), "units": ("micrometer",) * 2}
TOLD = {"role": "fused", "run": "1", "source": "2", "weights": "default", "slices": [0, 6]}
FUSED: dict[str, Any] = {"metadata": {"napari-ips": TOLD}}


@pytest.fixture
def viewer() -> Any:
    """Return a viewer without a window, which takes less time."""
    npe2.PluginManager.instance().discover()
    return ViewerModel()


def save(layer: Any, path: Path) -> None:
    assert layer.save(str(path), plugin="napari-ips") == [str(path)]


def random(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def ome_pixels(path: Path) -> Any:
    return ome_types.from_tiff(path).images[0].pixels


def ome_attributes(path: Path) -> dict[str, Any]:
    yaozarrs.validate_zarr_store(str(path))
    attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
    return attributes


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("role", ROLES)
def test_results_come_back_as_they_were(result_layers, tmp_path, role, suffix):
    layer = result_layers[role]
    path = tmp_path / f"a{suffix}"
    save(layer, path)
    again = read_image(path)
    assert again.dtype == layer.data.dtype
    np.testing.assert_array_equal(again, layer.data)


@pytest.mark.parametrize("role", ROLES)
def test_other_readers_find_scale_and_provenance(result_layers, tmp_path, role):
    layer = result_layers[role]
    for suffix in SUFFIXES:
        save(layer, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), layer.data)
    ome = ome_types.from_tiff(tmp_path / "a.ome.tif")
    pixels = ome.images[0].pixels
    assert (pixels.physical_size_y, pixels.physical_size_x) == (0.5, 0.5)
    assert pixels.physical_size_y_unit.value == "µm"
    assert ome.images[0].name == f"cells {role}"
    told = ome.structured_annotations.map_annotations[0].value
    assert {entry.k: entry.value for entry in told.ms}["weights"] == "default"
    attributes = ome_attributes(tmp_path / "a.ome.zarr")
    image = attributes["ome"]["multiscales"][0]
    assert [axis.get("unit") for axis in image["axes"]] == ["micrometer"] * 2
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [0.5, 0.5]
    assert attributes["napari-ips"]["role"] == role
    assert not {"run", "source"} & set(attributes["napari-ips"])


def test_time_and_channels_without_labels_are_known_of_results(viewer, tmp_path):
    data = random(3, 2, 16, 20)
    layer = viewer.add_image(
        data,
        name="fused",
        scale=(5, 1, 0.5, 0.25),
        units=("second", "pixel", "micrometer", "micrometer"),
        **FUSED,
    )
    save(layer, tmp_path / "a.ome.tif")
    pixels = ome_pixels(tmp_path / "a.ome.tif")
    assert (pixels.size_t, pixels.size_c, pixels.size_z) == (3, 2, 1)
    assert (pixels.time_increment, pixels.time_increment_unit.value) == (5, "s")
    assert (pixels.physical_size_y, pixels.physical_size_x) == (0.5, 0.25)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), data)
    save(layer, tmp_path / "a.ome.zarr")
    image = ome_attributes(tmp_path / "a.ome.zarr")["ome"]["multiscales"][0]
    assert [axis["name"] for axis in image["axes"]] == ["t", "c", "y", "x"]
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "a.ome.zarr")["0"], data)


def test_labels_of_axes_decide_their_order(viewer, tmp_path):
    data = random(2, 3, 16, 20)
    layer = viewer.add_image(data, axis_labels=("c", "t", "y", "x"))
    save(layer, tmp_path / "a.ome.zarr")
    written = np.asarray(zarr.open_group(tmp_path / "a.ome.zarr")["0"])
    np.testing.assert_array_equal(written, data.swapaxes(0, 1))


@pytest.mark.parametrize("typed", ["cells", "cells.tif", "cells.ome.tif"])
def test_menu_gives_the_suffix_of_the_chosen_format(result_layers, tmp_path, typed):
    manager = npe2.PluginManager.instance()
    (writer,) = (
        writer
        for writer in manager.iter_compatible_writers(["image"])
        if writer.command == "napari-ips.write_ome_tiff"
    )
    # What napari's dialogue does with the format that was chosen in it.
    layers = LayerList([result_layers["index"]])
    written = layers.save(str(tmp_path / typed), _writer=writer)
    assert written == [str(tmp_path / "cells.ome.tif")]
    assert [path.name for path in tmp_path.glob("cells*")] == ["cells.ome.tif"]
    with pytest.raises(IPSError, match="exists"):
        layers.save(str(tmp_path / typed), _writer=writer)


@pytest.mark.parametrize(
    ("typed", "kind", "name"),
    [
        ("cells", "OME-Zarr (*.ome.zarr)", "cells.ome.zarr"),
        ("cells", "", "cells.ome.tif"),
        ("cells at 1.5 mm", "PNG (*.png)", "cells at 1.5 mm.png"),
        ("cells.TIFF", "PNG (*.png)", "cells.TIFF"),
        ("cells.zarr", "OME-TIFF (*.ome.tif)", "cells.zarr"),
    ],
)
def test_dialogue_gives_a_suffix_to_names_that_have_none(
    result_layers, qtbot, monkeypatch, tmp_path, typed, kind, name
):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_: (str(folder / typed), kind)
    )
    save_with_dialog(result_layers["index"], None)
    qtbot.waitUntil((folder / name).exists, timeout=10_000)
    assert [path.name for path in folder.iterdir()] == [name]


@pytest.mark.parametrize("samples", [3, 4])
def test_colours_come_back(viewer, tmp_path, samples):
    data = random(24, 31, samples, dtype="uint8")
    layer = viewer.add_image(data, rgb=True, **PLACED)
    for suffix in SUFFIXES:
        save(layer, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), data)
    written = np.asarray(zarr.open_group(tmp_path / "a.ome.zarr")["0"])
    np.testing.assert_array_equal(np.moveaxis(written, 0, -1), data)
    ome_attributes(tmp_path / "a.ome.zarr")


def test_layers_of_one_size_become_channels_as_they_look(viewer, tmp_path):
    data = random(2, 24, 31)
    for n, (name, colour) in enumerate((("DAPI", "blue"), ("GFP", "green"))):
        viewer.add_image(
            data[n], name=name, colormap=colour, contrast_limits=(10, 200 + n), **PLACED
        )
    viewer.layers.select_all()
    for suffix in SUFFIXES:
        path = str(tmp_path / f"a{suffix}")
        assert viewer.layers.save(path, selected=True, plugin="napari-ips") == [path]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), data)
    channels = ome_pixels(tmp_path / "a.ome.tif").channels
    assert [channel.name for channel in channels] == ["DAPI", "GFP"]
    assert [channel.color.as_hex(format="long") for channel in channels] == [
        "#0000ff",
        "#00ff00",
    ]
    attributes = ome_attributes(tmp_path / "a.ome.zarr")
    shown = attributes["ome"]["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in shown] == [
        ("DAPI", "0000FF"),
        ("GFP", "00FF00"),
    ]
    assert [c["window"]["end"] for c in shown] == [200, 201]


@pytest.mark.parametrize("colormap", ["gray_r", "viridis"])
def test_colormap_that_is_no_colour_of_light_is_saved_as_white(viewer, tmp_path, colormap):
    layer = viewer.add_image(random(24, 31), colormap=colormap)
    save(layer, tmp_path / "a.ome.zarr")
    (channel,) = ome_attributes(tmp_path / "a.ome.zarr")["ome"]["omero"]["channels"]
    assert channel["color"] == "FFFFFF"


def test_layer_on_disk_is_saved_in_full_resolution(viewer, tmp_path):
    import dask.array as da

    data = random(600, 700)
    levels = [da.from_array(data, chunks=256), da.from_array(data[::2, ::2], chunks=256)]
    layer = viewer.add_image(levels, multiscale=True, **PLACED)
    for suffix in SUFFIXES:
        save(layer, tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), data)
    datasets = ome_attributes(tmp_path / "a.ome.zarr")["ome"]["multiscales"][0]["datasets"]
    assert len(datasets) == 2


def test_edited_index_keeps_its_slices_in_every_resolution(viewer, tmp_path):
    data = np.tile(np.array([[0, 9], [9, 0]], np.uint16), (300, 300))
    layer = viewer.add_labels(data, name="index", **PLACED)
    for suffix in SUFFIXES:
        save(layer, tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), data)
    smaller = np.asarray(zarr.open_group(tmp_path / "a.ome.zarr")["1"])
    assert set(np.unique(smaller)) <= {0, 9}


def test_place_is_kept_and_a_turned_layer_keeps_its_pixel_size(viewer, tmp_path):
    data = random(24, 31)
    placed = viewer.add_image(data, translate=(7, -3), **PLACED)
    save(placed, tmp_path / "a.ome.zarr")
    turned = viewer.add_image(data, rotate=30, translate=(7, -3), **PLACED)
    save(turned, tmp_path / "b.ome.zarr")
    (a, b) = (
        ome_attributes(tmp_path / f"{name}.ome.zarr")["ome"]["multiscales"][0]["datasets"][
            0
        ]["coordinateTransformations"]
        for name in "ab"
    )
    assert a[1]["translation"] == [7, -3]
    assert b[1]["translation"] == [0, 0]
    np.testing.assert_allclose(b[0]["scale"], [0.5, 0.25])


def test_same_pixels_make_the_same_file_in_every_session(result_layers, tmp_path):
    layer = result_layers["fused"]
    save(layer, tmp_path / "a.ome.tif")
    layer.metadata["napari-ips"]["run"] = "run-2"
    save(layer, tmp_path / "b.ome.tif")
    assert (tmp_path / "a.ome.tif").read_bytes() == (tmp_path / "b.ome.tif").read_bytes()


def test_provenance_is_plain_whatever_it_held(viewer, tmp_path):
    told = {"role": "fused", "weights": Path("a.safetensors"), "slices": (0, 6)}
    layer = viewer.add_image(random(24, 31), metadata={"napari-ips": told})
    save(layer, tmp_path / "a.ome.zarr")
    known = ome_attributes(tmp_path / "a.ome.zarr")["napari-ips"]
    assert known == {"role": "fused", "weights": "a.safetensors", "slices": [0, 6]}
    json.dumps(known)


def test_nothing_is_overwritten_unasked(result_layers, tmp_path):
    path = tmp_path / "a.ome.tif"
    save(result_layers["fused"], path)
    before = path.read_bytes()
    with pytest.raises(IPSError, match="exists; choose another name, or delete it first"):
        result_layers["depth"].save(str(path), plugin="napari-ips")
    assert path.read_bytes() == before
    save_layer(result_layers["depth"], path, overwrite=True)
    assert read_image(path).dtype == np.float32


def test_stacks_are_refused_in_plain_words_and_left_to_napari(stack_layer, tmp_path):
    with pytest.raises(IPSError, match=r"cells has a z axis.* save it as \.tif"):
        stack_layer.save(str(tmp_path / "a.ome.tif"), plugin="napari-ips")
    # Without a name that asks for it, nobody gets the writer of this plugin.
    (written,) = stack_layer.save(str(tmp_path / "stack"))
    np.testing.assert_array_equal(tifffile.imread(written), stack_layer.data)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["stack.tif"]


def test_axes_of_other_images_have_to_be_labelled(viewer, tmp_path):
    layer = viewer.add_image(random(3, 24, 31), name="series")
    with pytest.raises(IPSError, match="series has a z axis, or one that is not labelled"):
        save_layer(layer, tmp_path / "a.ome.tif")
    layer.axis_labels = ("time", "y", "x")
    save_layer(layer, tmp_path / "a.ome.tif")
    assert ome_pixels(tmp_path / "a.ome.tif").size_t == 3


@pytest.mark.parametrize("kind", ["size", "type", "labels"])
def test_layers_that_do_not_fit_are_refused(viewer, tmp_path, kind):
    viewer.add_image(random(24, 31), name="one")
    other = {"size": random(24, 30), "type": random(24, 31, dtype="uint8")}
    add = viewer.add_labels if kind == "labels" else viewer.add_image
    add(other.get(kind, random(24, 31)), name="two")
    with pytest.raises(IPSError, match="one and two cannot be channels of one image"):
        viewer.layers.save(str(tmp_path / "a.ome.tif"), plugin="napari-ips")
    assert not (tmp_path / "a.ome.tif").exists()


def test_type_that_the_format_lacks_is_refused(viewer, tmp_path):
    layer = viewer.add_labels(np.ones((24, 31), np.int64), name="cells")
    with pytest.raises(IPSError, match=r"OME-TIFF holds no int64 values"):
        save_layer(layer, tmp_path / "a.ome.tif")
    save_layer(layer, tmp_path / "a.ome.zarr")
