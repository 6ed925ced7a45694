from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_ips.io.metadata import Channel, Metadata
from napari_ips.io.pyramid import halved
from napari_ips.io.results import write_result

METADATA = Metadata(
    pixel_size=(0.5, 0.25),
    z_step=2.0,
    unit="µm",
    time_step=10.0,
    time_unit="s",
    origin=(1.0, 2.0, 3.0),
    channels=(Channel("DAPI", "0000FF", (10.0, 2000.0)), Channel("GFP", "00FF00", None)),
)
SHAPES = {
    "yx": (1, 1, 700, 1100),
    "cyx": (1, 2, 520, 90),
    "tyx": (3, 1, 90, 520),
    "tcyx": (2, 3, 20, 30),
}


def written(path: Path, array: np.ndarray, metadata=METADATA, **options) -> zarr.Group:
    write_result(path, array, metadata, rgb=array.ndim == 5, name="fused", **options)
    yaozarrs.validate_zarr_store(str(path))
    return zarr.open_group(path, mode="r")


def described(path: Path) -> yaozarrs.v05.Image:
    text = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    return yaozarrs.v05.Image.model_validate(text)


@pytest.mark.parametrize("axes", SHAPES)
def test_store_is_valid_and_holds_the_image(tmp_path, rng, axes):
    array = rng.integers(0, 4000, SHAPES[axes]).astype(np.uint16)
    group = written(tmp_path / "a.ome.zarr", array)
    (scales,) = described(tmp_path / "a.ome.zarr").multiscales
    assert "".join(axis.name for axis in scales.axes) == axes
    units = {"t": "second", "c": None, "y": "micrometer", "x": "micrometer"}
    assert [getattr(a, "unit", None) for a in scales.axes] == [units[a] for a in axes]
    full = group["0"]
    assert full.metadata.dimension_names == tuple(axes)
    assert full.dtype == np.uint16
    np.testing.assert_array_equal(full[:], array.squeeze())


def test_levels_shrink_to_a_screen_and_keep_their_place(tmp_path, rng):
    array = rng.integers(0, 4000, (1, 1, 1100, 601)).astype(np.uint16)
    group = written(tmp_path / "a.zarr", array)
    (scales,) = described(tmp_path / "a.zarr").multiscales
    shapes = [group[dataset.path].shape for dataset in scales.datasets]
    assert shapes == [(1100, 601), (550, 301), (275, 151)]
    for n, dataset in enumerate(scales.datasets):
        scale, translation = dataset.coordinateTransformations
        assert scale.scale == [0.5 * 2**n, 0.25 * 2**n]
        # The corner of the image, half a pixel before the first centre, stays.
        corner = np.subtract(translation.translation, np.multiply(scale.scale, 0.5))
        assert corner == pytest.approx([2.0 - 0.25, 3.0 - 0.125])


def test_image_is_shrunk_by_means_across_blocks(tmp_path, rng):
    array = rng.integers(0, 4000, (1, 1, 1030, 2200)).astype(np.uint16)
    group = written(tmp_path / "a.zarr", array)
    means = array[0, 0].reshape(515, 2, 1100, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(group["1"][:], np.floor(means + 0.5))
    assert described(tmp_path / "a.zarr").multiscales[0].type == "mean"


def test_index_map_holds_no_slice_that_was_not_there(tmp_path, rng):
    array = rng.choice([3, 90], (1, 1, 600, 700)).astype(np.uint16)
    group = written(tmp_path / "a.zarr", array, kind="index")
    np.testing.assert_array_equal(group["1"][:], array[0, 0, ::2, ::2])
    assert described(tmp_path / "a.zarr").multiscales[0].type == "nearest"


def test_map_is_shrunk_without_its_gaps(tmp_path):
    array = np.ones((1, 1, 600, 600), np.float32)
    array[..., ::2, :] = np.nan
    array[..., :4, :] = np.nan
    group = written(tmp_path / "a.zarr", array, kind="map")
    assert np.isnan(group["1"][:2]).all()
    assert (group["1"][2:] == 1).all()


@pytest.mark.parametrize("samples", [3, 4])
def test_colours_become_channels(tmp_path, rng, samples):
    array = rng.integers(0, 256, (1, 1, 600, 70, samples)).astype(np.uint8)
    group = written(tmp_path / "a.zarr", array)
    np.testing.assert_array_equal(group["0"][:], np.moveaxis(array[0, 0], -1, 0))
    assert group["1"].shape == (samples, 300, 35)
    channels = described(tmp_path / "a.zarr").omero.channels
    assert [c.color for c in channels[:3]] == ["FF0000", "00FF00", "0000FF"]
    assert [c.active for c in channels] == [True, True, True, False][:samples]
    assert {(c.window.start, c.window.end) for c in channels} == {(0, 255)}


def test_channels_keep_name_colour_and_window(tmp_path, rng):
    array = rng.integers(100, 200, (1, 3, 20, 30)).astype(np.uint16)
    written(tmp_path / "a.zarr", array)
    first, second, third = described(tmp_path / "a.zarr").omero.channels
    assert (first.label, first.color) == ("DAPI", "0000FF")
    assert (first.window.start, first.window.end) == (10, 2000)
    assert (second.label, second.color) == ("GFP", "00FF00")
    for channel in (second, third):
        assert 100 <= channel.window.start < channel.window.end < 200
        assert (channel.window.min, channel.window.max) == (0, 65535)


def test_maps_are_shown_by_their_own_values(tmp_path):
    array = np.linspace(5, 6, 600, dtype=np.float32).reshape(1, 1, 20, 30)
    array[..., 0] = np.nan
    written(tmp_path / "a.zarr", array, kind="map")
    (channel,) = described(tmp_path / "a.zarr").omero.channels
    assert channel.color == "FFFFFF"
    assert 5 <= channel.window.start < channel.window.end <= 6


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_flat_image_has_a_window_too(tmp_path, value):
    array = np.full((1, 1, 20, 30), value, np.float32)
    written(tmp_path / "a.zarr", array)
    (channel,) = described(tmp_path / "a.zarr").omero.channels
    assert channel.window.start < channel.window.end


def test_nothing_is_claimed_of_an_unknown_scale(tmp_path):
    written(tmp_path / "a.zarr", np.ones((1, 1, 20, 30), np.uint8), Metadata(unit="µm"))
    (scales,) = described(tmp_path / "a.zarr").multiscales
    assert [axis.unit for axis in scales.axes] == [None, None]
    assert scales.datasets[0].scale_transform.scale == [1, 1]


def test_provenance_is_kept(tmp_path):
    array = np.ones((1, 1, 20, 30), np.uint8)
    group = written(tmp_path / "a.zarr", array, provenance={"version": "1", "n": [1, 2]})
    assert group.attrs["napari-ips"] == {"version": "1", "n": [1, 2]}


def test_wide_source_chunks_and_foreign_byte_order(tmp_path, rng):
    source = zarr.create_array(
        tmp_path / "source.zarr",
        shape=(1, 1, 900, 1500),
        chunks=(1, 1, 700, 333),
        dtype=">u2",
    )
    source[:] = rng.integers(0, 4000, source.shape).astype(np.uint16)
    group = written(tmp_path / "a.zarr", source)
    np.testing.assert_array_equal(group["0"][:], source[0, 0])


@given(st.data())
def test_pixel_of_a_level_is_the_nearest_to_the_mean(data):
    shape = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    dtype = data.draw(
        st.sampled_from([f"{s}int{b}" for s in "u " for b in (8, 16, 32, 64)])
    )
    block = data.draw(hnp.arrays(np.dtype(dtype.strip()), shape))
    result = halved(block, "image")
    assert result.dtype == block.dtype
    for y, x in np.ndindex(result.shape):
        pixels = [int(v) for v in block[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flat]
        n = len(pixels)
        assert int(result[y, x]) == (2 * sum(pixels) + n) // (2 * n)
