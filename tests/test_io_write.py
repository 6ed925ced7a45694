from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_ips.errors import IPSError
from napari_ips.io import (
    check_writable,
    read_image,
    read_stack,
    write_image,
    write_stack,
)

assert_same = partial(np.testing.assert_array_equal, strict=True)
TIFF_TYPES = [
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
]
sides = st.integers(1, 12)
sizes = st.floats(1e-3, 1e3)
units = st.sampled_from(["µm", "nm", "mm"])
values = {"elements": {"allow_nan": False}}


@given(st.data())
def test_stack_survives_the_round_trip(tmp_path, data):
    colours = data.draw(st.sampled_from([(), (3,), (4,)]))
    shape = (data.draw(st.integers(2, 4)), data.draw(sides) + 1, data.draw(sides) + 1)
    dtype = data.draw(st.sampled_from(TIFF_TYPES))
    stack = data.draw(hnp.arrays(dtype, shape + colours))
    pixel_size, z_step = data.draw(st.tuples(sizes, sizes)), data.draw(sizes)
    unit = data.draw(units)
    file = tmp_path / "stack.tif"
    write_stack(
        file, stack, pixel_size=pixel_size, z_step=z_step, unit=unit, overwrite=True
    )
    result = read_stack(file)
    assert_same(result.data, stack)
    assert result.rgb == bool(colours)
    known = {"nm": 1e-3, "µm": 1.0, "mm": 1e3}
    ratio = known[unit] / known[result.unit]
    assert np.multiply(result.pixel_size, 1 / ratio) == pytest.approx(pixel_size, rel=1e-5)
    if dtype in ("int64", "uint64", "float16"):  # neither ImageJ's nor OME's: no z step
        assert result.z_step is None
    else:
        assert result.z_step == pytest.approx(z_step)


@given(st.data())
def test_image_survives_the_round_trip(tmp_path, data):
    colours = data.draw(st.sampled_from([(), (3,)]))
    shape = (data.draw(sides) + 1, data.draw(sides) + 1)
    suffix = data.draw(st.sampled_from([".tif", ".png"]))
    dtype = data.draw(
        st.sampled_from(["uint8", "uint16"] if suffix == ".png" else TIFF_TYPES)
    )
    image = data.draw(hnp.arrays(dtype, shape + colours))
    file = tmp_path / f"image{suffix}"
    write_image(file, image, overwrite=True)
    assert_same(read_image(file), image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_common_types_are_written_as_imagej_reads_them(tmp_path, dtype):
    file = tmp_path / "image.tif"
    write_image(file, np.ones((20, 30), dtype), pixel_size=(0.5, 0.25), unit="µm")
    with tifffile.TiffFile(file) as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata["unit"] == "\\u00B5m"
        assert tiff.pages.first.tags["XResolution"].value == (4, 1)


def test_other_types_are_written_as_ome_with_resolution(tmp_path):
    file = tmp_path / "image.tif"
    write_image(file, np.ones((20, 30, 3), "uint16"), pixel_size=(0.5, 0.25), unit="µm")
    with tifffile.TiffFile(file) as tiff:
        assert 'PhysicalSizeX="0.25" PhysicalSizeXUnit="µm"' in tiff.ome_metadata
        assert tiff.pages.first.get_resolution("MICROMETER") == pytest.approx((4, 2))


def test_more_than_4_gb_is_written_as_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_ips.io.tiff.CLASSIC_LIMIT", 1000)
    stack = np.zeros((4, 20, 20), np.uint16)
    write_stack(tmp_path / "big.tif", stack)
    with tifffile.TiffFile(tmp_path / "big.tif") as tiff:
        assert tiff.is_bigtiff
    assert_same(read_stack(tmp_path / "big.tif").data, stack)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        ("image.png", (9, 9), "float32", r"save image\.tif instead"),
        ("image.jpg", (9, 9), "uint8", r"end the name in \.tif or \.png"),
        ("image", (9, 9), "uint8", "no known kind"),
        ("image.tif", (9, 9), "bool", "bool values"),
        ("image.tif", (9,), "uint8", "shape"),
        ("image.tif", (9, 9, 2), "uint8", "shape"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, name, shape, dtype, message):
    with pytest.raises(IPSError, match=message):
        write_image(tmp_path / name, np.zeros(shape, dtype))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["image.tif", "image.png"])
def test_existing_file_is_kept_unless_asked(tmp_path, name):
    file = tmp_path / name
    write_image(file, np.zeros((9, 9), np.uint8))
    with pytest.raises(IPSError, match="exists"):
        write_image(file, np.ones((9, 9), np.uint8))
    assert read_image(file).max() == 0
    write_image(file, np.ones((9, 9), np.uint8), overwrite=True)
    assert read_image(file).max() == 1


@pytest.mark.parametrize("name", ["image.tif", "image.png"])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name):
    file = tmp_path / name
    write_image(file, np.zeros((9, 9), np.uint8))

    def half(part, *args, **kwargs):
        with open(part, "wb") as opened:
            opened.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tifffile.imwrite", half)
    monkeypatch.setattr("napari_ips.io.write.write_png", half)
    with pytest.raises(IPSError, match="disk is full"):
        write_image(file, np.ones((9, 9), np.uint8), overwrite=True)
    assert read_image(file).max() == 0
    assert list(tmp_path.iterdir()) == [file]


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(part, *args, **kwargs):
        Path(part).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("tifffile.imwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "image.tif", np.zeros((9, 9), np.uint8))
    assert not list(tmp_path.iterdir())


def test_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    file = tmp_path / "image.tif"

    def overtaken(part, *args, **kwargs):
        Path(part).write_bytes(b"ours")
        file.write_bytes(b"theirs")

    monkeypatch.setattr("tifffile.imwrite", overtaken)
    with pytest.raises(IPSError, match="exists"):
        write_image(file, np.zeros((9, 9), np.uint8))
    assert file.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [file]


def test_places_that_cannot_be_written_are_told_beforehand(tmp_path, monkeypatch):
    check_writable(tmp_path / "new.tif")
    with pytest.raises(IPSError, match="does not exist"):
        check_writable(tmp_path / "nowhere" / "new.tif")
    with pytest.raises(IPSError, match="is a folder"):
        check_writable(tmp_path, overwrite=True)
    # Root may write everywhere, so permissions themselves prove nothing in a container.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(IPSError, match="read-only"):
        check_writable(tmp_path / "new.tif")
