from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import ome_types
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_ips.io.metadata import Channel, Metadata
from napari_ips.io.results import write_result

METADATA = Metadata(
    pixel_size=(0.5, 0.25),
    z_step=2.0,
    unit="µm",
    time_step=10.0,
    time_unit="s",
    origin=(1.0, 2.0, 3.0),
    channels=(
        Channel('DAPI <&"é>', "0000FF", (10.0, 20.0)),
        Channel("GFP", "00FF00", (0, 9)),
    ),
)
SHAPES = {
    "YX": (1, 1, 700, 1100),
    "CYX": (1, 2, 520, 90),
    "TYX": (3, 1, 90, 520),
    "TCYX": (2, 2, 20, 30),
    "YXS": (1, 1, 600, 70, 3),
    "TYXS": (2, 1, 70, 600, 4),
}


def write(path: Path, array: np.ndarray, metadata=METADATA, **options) -> None:
    write_result(path, array, metadata, rgb=array.ndim == 5, name="fused", **options)


def xml(path: Path, validate: bool = True) -> ome_types.OME:
    with tifffile.TiffFile(path) as file:
        return ome_types.from_xml(file.ome_metadata, validate=validate)


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif"])
@pytest.mark.parametrize("axes", SHAPES)
def test_image_survives(tmp_path, rng, axes, suffix):
    array = rng.integers(0, 4000, SHAPES[axes]).astype(np.uint16)
    write(tmp_path / f"a{suffix}", array)
    with tifffile.TiffFile(tmp_path / f"a{suffix}") as file:
        (series,) = file.series
        assert series.axes == axes
        np.testing.assert_array_equal(series.asarray(), array.squeeze())


@given(st.data())
def test_every_size_and_type_survives(tmp_path, data):
    suffix = data.draw(st.sampled_from([".ome.tif", ".tif"]))
    samples = data.draw(st.sampled_from([(), (3,), (4,)]))
    side = st.one_of(st.integers(1, 20), st.integers(510, 530))
    size = data.draw(st.tuples(side, side))
    leading = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 1 if samples else 2)))
    dtype = data.draw(st.sampled_from(["uint8", "int16", "uint32", "float32", "float64"]))
    values = data.draw(hnp.arrays(dtype, 3, elements={"allow_nan": False}))
    array = np.resize(values, (*leading, *size, *samples))
    file = tmp_path / f"a{suffix}"
    write(file, array, overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(file).squeeze(), array.squeeze())


@pytest.mark.parametrize("axes", SHAPES)
def test_ome_xml_is_valid_and_complete(tmp_path, rng, axes):
    array = rng.integers(0, 4000, SHAPES[axes]).astype(np.uint16)
    write(tmp_path / "a.ome.tif", array, provenance={"version": "1", "n": [1, 2]})
    (image,) = xml(tmp_path / "a.ome.tif").images
    pixels = image.pixels
    assert image.name == "fused"
    assert (pixels.physical_size_y, pixels.physical_size_x) == (0.5, 0.25)
    assert pixels.physical_size_x_unit.value == "µm"
    assert pixels.physical_size_z is None
    assert (pixels.time_increment, pixels.time_increment_unit.value) == (10, "s")
    assert {(p.position_y, p.position_x) for p in pixels.planes} == {(2, 3)}
    if not axes.endswith("S"):
        channels = [(c.name, c.color.as_hex(format="long")) for c in pixels.channels]
        known = [('DAPI <&"é>', "#0000ff"), ("GFP", "#00ff00")]
        assert channels == known[: array.shape[1]]
    (annotation,) = xml(tmp_path / "a.ome.tif").structured_annotations
    assert {m.k: m.value for m in annotation.value.ms} == {"version": "1", "n": "[1, 2]"}


def test_schema_is_really_checked(tmp_path):
    write(tmp_path / "a.ome.tif", np.ones((1, 1, 20, 30), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        broken = file.ome_metadata.replace('SizeX="30"', 'SizeX="wide"')
    with pytest.raises(Exception, match="wide"):
        ome_types.from_xml(broken, validate=True)


@pytest.mark.parametrize("metadata", [Metadata(), Metadata((2.0, 2.0), unit="ell")])
def test_unknown_units_are_no_micrometres(tmp_path, metadata):
    write(tmp_path / "a.ome.tif", np.ones((1, 1, 20, 30), np.uint8), metadata)
    (image,) = xml(tmp_path / "a.ome.tif").images
    if metadata.pixel_size is None:
        assert image.pixels.physical_size_x is None
    else:
        assert image.pixels.physical_size_x_unit.value == "pixel"


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_levels_lie_in_subifds_of_tiles(tmp_path, rng, dtype):
    array = rng.integers(0, 4000, (1, 2, 1100, 601)).astype(dtype)
    write(tmp_path / "a.ome.tif", array)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        levels = file.series[0].levels
        shapes = [level.shape for level in levels]
        assert shapes == [(2, 1100, 601), (2, 550, 301), (2, 275, 151)]
        for level in levels:
            page = level.pages[0].aspage()
            assert page.is_tiled
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            # Not the one of real numbers, which few programs know.
            assert page.predictor == (2 if dtype == np.uint16 else 1)
        assert [level.pages[0].is_reduced for level in levels] == [False, True, True]
        means = array[0, :, :, :600].reshape(2, 550, 2, 300, 2).mean(axis=(2, 4))
        if dtype == np.uint16:
            means = np.floor(means + 0.5)
        np.testing.assert_array_equal(levels[1].asarray()[..., :300], means)
        resolutions = [
            level.pages[0].aspage().get_resolution("MICROMETER") for level in levels
        ]
        assert np.ravel(resolutions) == pytest.approx([4, 2, 2, 1, 1, 0.5])


def test_index_map_holds_no_slice_that_was_not_there(tmp_path, rng):
    array = rng.choice([3, 90], (1, 1, 600, 700)).astype(np.uint16)
    write(tmp_path / "a.ome.tif", array, kind="index")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        level = file.series[0].levels[1].asarray()
    np.testing.assert_array_equal(level, array[0, 0, ::2, ::2])


def test_colours_are_samples_of_a_pixel(tmp_path, rng):
    array = rng.integers(0, 256, (1, 1, 600, 70, 3)).astype(np.uint8)
    write(tmp_path / "a.ome.tif", array)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        page = file.pages.first
        assert page.photometric == tifffile.PHOTOMETRIC.RGB
        assert page.planarconfig == tifffile.PLANARCONFIG.CONTIG
    (image,) = xml(tmp_path / "a.ome.tif").images
    assert (image.pixels.size_c, image.pixels.channels[0].samples_per_pixel) == (3, 3)


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif"])
def test_more_than_4_gb_is_written_as_bigtiff(tmp_path, monkeypatch, suffix):
    for module in ("tiff", "ome_tiff"):
        monkeypatch.setattr(f"napari_ips.io.{module}.CLASSIC_LIMIT", 1000)
    array = np.arange(600 * 20, dtype=np.uint16).reshape(1, 1, 600, 20)
    write(tmp_path / f"a{suffix}", array)
    with tifffile.TiffFile(tmp_path / f"a{suffix}") as file:
        assert file.is_bigtiff
        assert not file.is_imagej
        np.testing.assert_array_equal(file.asarray(), array[0, 0])


def test_plain_tiff_is_a_hyperstack_of_imagej(tmp_path, rng):
    array = rng.integers(0, 4000, (2, 2, 20, 30)).astype(np.uint16)
    write(tmp_path / "a.tif", array)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        told = file.imagej_metadata
        assert (told["frames"], told["channels"], told["unit"]) == (2, 2, "\\u00B5m")
        assert told["finterval"] == 10
        assert told["mode"] == "composite"
        assert [table[:, -1].tolist() for table in told["LUTs"]] == [
            [0, 0, 255],
            [0, 255, 0],
        ]
        assert told["Ranges"] == (10, 20, 0, 9)
        assert file.pages.first.tags["XResolution"].value == (4, 1)


def test_strips_of_a_wide_image_are_joined_rightly(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("napari_ips.io.tiff._STRIP_BYTES", 500)
    monkeypatch.setattr("napari_ips.io.tiff._BAND_BYTES", 1100)
    array = rng.integers(0, 4000, (2, 1, 23, 100)).astype(np.uint16)
    write(tmp_path / "a.tif", array)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), array[:, 0])


def test_provenance_of_text_stays_text(tmp_path):
    array = np.ones((1, 1, 20, 30), np.uint8)
    write(tmp_path / "a.ome.tif", array, provenance={"weights": "é", "n": {"a": None}})
    (annotation,) = xml(tmp_path / "a.ome.tif").structured_annotations
    kept = {m.k: m.value for m in annotation.value.ms}
    assert kept["weights"] == "é"
    assert json.loads(kept["n"]) == {"a": None}
