from __future__ import annotations

import errno
import os
from functools import partial

import numpy as np
import pytest
import tifffile

from napari_ips.errors import IPSError
from napari_ips.io import (
    read_stack,
    write_stack,
)

assert_same = partial(np.testing.assert_array_equal, strict=True)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("kind", ["plain", "shaped", "imagej", "ome"])
def test_tiff_of_every_kind_and_compression_is_read(tmp_path, stack, kind, compression):
    options = {
        "plain": {"metadata": None},
        "shaped": {},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
        "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    }[kind]
    file = tmp_path / "stack.tif"
    tifffile.imwrite(
        file, stack, photometric="minisblack", compression=compression, **options
    )
    result = read_stack(file)
    assert_same(result.data, stack)
    assert not result.rgb
    assert result.pixel_size is None
    assert result.names[2] == "stack.tif[2]"


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
def test_colours_end_up_last(tmp_path, rng, planar, samples):
    data = rng.integers(0, 256, (5, 24, 31, samples)).astype(np.uint8)
    file = tmp_path / "colour.tif"
    written = np.moveaxis(data, -1, 1) if planar == "separate" else data
    extra = ["unassalpha"] if samples == 4 else None
    tifffile.imwrite(
        file, written, photometric="rgb", planarconfig=planar, extrasamples=extra
    )
    result = read_stack(file)
    assert_same(result.data, data)
    assert result.rgb


def test_three_pages_are_a_stack_and_not_a_colour_image(tmp_path, stack):
    file = tmp_path / "three.tif"
    with tifffile.TiffWriter(file) as writer:
        for page in stack[:3]:
            writer.write(page, contiguous=False, metadata=None)
    result = read_stack(file)
    assert_same(result.data, stack[:3])
    assert not result.rgb


def test_imagej_scale_is_read(tmp_path, stack):
    file = tmp_path / "scaled.tif"
    metadata = {"axes": "ZYX", "unit": "\\u00B5m", "spacing": 1.5}
    tifffile.imwrite(file, stack, imagej=True, resolution=(4, 2), metadata=metadata)
    result = read_stack(file)
    assert result.pixel_size == pytest.approx((0.5, 0.25))
    assert (result.z_step, result.unit) == (1.5, "µm")


def test_ome_scale_is_read(tmp_path, stack):
    file = tmp_path / "scaled.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
    metadata |= {"PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 2}
    tifffile.imwrite(file, stack, ome=True, metadata=metadata)
    result = read_stack(file)
    assert (result.pixel_size, result.unit) == ((500, 250), "nm")
    assert result.z_step is None, "the step is in another unit than the pixels"


def test_dots_per_inch_are_not_taken_for_a_scale(tmp_path, stack):
    file = tmp_path / "photo.tif"
    tifffile.imwrite(file, stack, resolution=(72, 72), resolutionunit="INCH", metadata=None)
    assert read_stack(file).pixel_size is None


@pytest.mark.parametrize(("axes", "advice"), [("TYX", "--z-axis 0"), ("CYX", "--z-axis 0")])
def test_time_or_channels_alone_need_a_word(tmp_path, stack, axes, advice):
    file = tmp_path / "series.tif"
    tifffile.imwrite(file, stack, imagej=True, metadata={"axes": axes})
    with pytest.raises(IPSError, match=advice):
        read_stack(file)
    assert_same(read_stack(file, z_axis=0).data, stack)
    assert_same(read_stack(file, axes="zyx").data, stack)


@pytest.mark.parametrize(("axes", "word"), [("TZYX", "time points"), ("ZCYX", "channels")])
def test_time_or_channels_beside_slices_are_refused(tmp_path, rng, axes, word):
    file = tmp_path / "hyper.tif"
    data = rng.integers(0, 99, (2, 4, 20, 20)).astype(np.uint16)
    tifffile.imwrite(file, data, imagej=True, metadata={"axes": axes})
    with pytest.raises(IPSError, match=word):
        read_stack(file)


def test_axes_of_unknown_meaning_need_a_word(tmp_path, rng):
    data = rng.integers(0, 99, (2, 4, 20, 20)).astype(np.uint16)
    file = tmp_path / "unknown.tif"
    tifffile.imwrite(file, data, photometric="minisblack")
    with pytest.raises(IPSError, match="--axes CZYX"):
        read_stack(file)


def test_slices_may_lie_along_any_axis(tmp_path, stack):
    file = tmp_path / "turned.tif"
    tifffile.imwrite(file, np.moveaxis(stack, 0, 2), photometric="minisblack")
    assert_same(read_stack(file, z_axis=2).data, stack)
    assert_same(read_stack(file, z_axis=-1).data, stack)
    assert_same(read_stack(file, axes="YXZ").data, stack)


@pytest.mark.parametrize("axes", ["ZY", "ZZX", "ABC", "ZYXS"])
def test_axes_that_do_not_fit_are_refused(tmp_path, stack, axes):
    file = tmp_path / "stack.tif"
    write_stack(file, stack)
    with pytest.raises(IPSError, match="do not fit"):
        read_stack(file, axes=axes)


def test_z_axis_that_does_not_exist_is_refused(tmp_path, stack):
    write_stack(tmp_path / "stack.tif", stack)
    with pytest.raises(IPSError, match="no axis 5"):
        read_stack(tmp_path / "stack.tif", z_axis=5)


def test_pages_of_different_sizes_are_refused(tmp_path, stack):
    file = tmp_path / "mixed.tif"
    with tifffile.TiffWriter(file) as writer:
        for page in (stack[0], stack[1], stack[2, :9, :9], stack[3, :9, :9]):
            writer.write(page, contiguous=False, metadata=None)
    with pytest.raises(IPSError, match="different sizes"):
        read_stack(file)


@pytest.mark.parametrize("shape", [(20, 20), (1, 20, 20), (20, 20, 3)])
def test_a_single_image_is_no_stack(tmp_path, shape):
    file = tmp_path / "one.tif"
    tifffile.imwrite(file, np.zeros(shape, np.uint8))
    with pytest.raises(IPSError, match="at least two slices"):
        read_stack(file)


@pytest.mark.parametrize("dtype", [bool, np.complex64])
def test_values_that_are_no_intensities_are_refused(tmp_path, dtype):
    file = tmp_path / "values.tif"
    tifffile.imwrite(file, np.zeros((4, 20, 20), dtype), photometric="minisblack")
    with pytest.raises(IPSError, match="values"):
        read_stack(file)


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    "kind", ["plain", "pages", "imagej", "imagej-raw", "ome", "shaped"]
)
def test_truncated_tiff_is_refused(tmp_path, stack, kind, fraction):
    file = tmp_path / "stack.tif"
    if kind == "pages":
        with tifffile.TiffWriter(file) as writer:
            for page in stack:
                writer.write(page, contiguous=False, metadata=None)
    else:
        options = {
            "plain": {"metadata": None},
            "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
            "imagej-raw": {"imagej": True, "metadata": {"axes": "ZYX"}},
            "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
            "shaped": {"compression": "zlib"},
        }[kind]
        tifffile.imwrite(file, stack, photometric="minisblack", **options)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(IPSError, match=r"stack\.tif cannot be read; it may be damaged"):
        read_stack(file)


def test_file_without_permission_is_told_from_a_damaged_one(tmp_path, stack, monkeypatch):
    write_stack(tmp_path / "stack.tif", stack)

    def denied(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tifffile.TiffFile", denied)
    with pytest.raises(IPSError, match=r"stack\.tif cannot be read: Permission denied"):
        read_stack(tmp_path / "stack.tif")
