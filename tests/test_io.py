from __future__ import annotations

import errno
import os
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_ips.errors import IPSError
from napari_ips.io import (
    check_writable,
    read_image,
    read_pages,
    read_stack,
    write_image,
    write_stack,
)

TIFF_TYPES = [
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
]


@pytest.fixture
def stack(rng) -> np.ndarray:
    return rng.integers(0, 4000, (5, 24, 31)).astype(np.uint16)


@pytest.fixture
def colour(rng) -> np.ndarray:
    return rng.integers(0, 256, (5, 24, 31, 3)).astype(np.uint8)


def assert_same(read: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == expected.dtype


# --- TIFF ---------------------------------------------------------------------------


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
    with pytest.raises(IPSError, match="--z-axis"):
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


# --- folders, lists, PNG, JPEG --------------------------------------------------------


def write_slices(folder: Path, stack: np.ndarray, suffix: str = ".png") -> list[Path]:
    files = [folder / f"slice_{z}{suffix}" for z in range(len(stack))]
    for file, image in zip(files, stack, strict=True):
        write_image(file, image)
    return files


def test_folder_is_read_in_natural_order(tmp_path, rng):
    stack = rng.integers(0, 2**16, (12, 20, 21)).astype(np.uint16)
    write_slices(tmp_path, stack)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._slice_0.png").write_bytes(b"what macOS leaves behind")
    result = read_stack(tmp_path)
    assert_same(result.data, stack)
    assert result.names[9:11] == ("slice_9.png", "slice_10.png")


def test_folder_of_colour_tiffs_keeps_the_scale(tmp_path, colour):
    for z, image in enumerate(colour):
        file = tmp_path / f"{z}.TIF"
        write_image(file, image, pixel_size=(0.5, 0.25), unit="um")
    result = read_stack(tmp_path)
    assert_same(result.data, colour)
    assert result.rgb
    assert result.pixel_size == pytest.approx((0.5, 0.25))
    assert result.unit == "µm"


def test_list_keeps_its_order_and_two_files_are_a_stack(tmp_path, stack):
    files = write_slices(tmp_path, stack)
    result = read_stack([files[3], str(files[1])])
    assert_same(result.data, stack[[3, 1]])


def test_list_of_one_file_is_that_file(tmp_path, stack):
    write_stack(tmp_path / "stack.tif", stack)
    assert_same(read_stack([tmp_path / "stack.tif"]).data, stack)


@pytest.mark.parametrize(
    "odd", [np.zeros((24, 30), np.uint16), np.zeros((24, 31), np.uint8)]
)
def test_unlike_slice_is_named(tmp_path, stack, odd):
    write_slices(tmp_path, stack)
    write_image(tmp_path / "slice_3.png", odd, overwrite=True)
    with pytest.raises(IPSError, match=r"slice_3\.png .* unlike slice_0\.png"):
        read_stack(tmp_path)


def test_stack_among_slices_is_named(tmp_path, stack):
    write_slices(tmp_path, stack)
    write_stack(tmp_path / "whole.tif", stack)
    with pytest.raises(IPSError, match=r"whole\.tif holds several images"):
        read_stack(tmp_path)


def test_axes_of_a_folder_cannot_be_chosen(tmp_path, stack):
    write_slices(tmp_path, stack)
    with pytest.raises(IPSError, match="each file is a slice"):
        read_stack(tmp_path, z_axis=0)


def test_empty_folder_single_image_and_missing_file_are_told_apart(tmp_path, stack):
    with pytest.raises(IPSError, match="holds no images"):
        read_stack(tmp_path)
    write_slices(tmp_path, stack[:1])
    with pytest.raises(IPSError, match=r"1 image \(slice_0\.png\)"):
        read_stack(tmp_path)
    with pytest.raises(IPSError, match="does not exist"):
        read_stack(tmp_path / "nowhere.tif")
    with pytest.raises(IPSError, match="does not exist"):
        read_stack([tmp_path / "slice_0.png", tmp_path / "nowhere.png"])
    with pytest.raises(IPSError, match="at least two slices"):
        read_stack([])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_slice_is_named(tmp_path, rng, suffix):
    image = Image.fromarray(rng.integers(0, 256, (90, 90)).astype(np.uint8))
    for name in ("a", "b"):
        image.save(tmp_path / f"{name}{suffix}")
    whole = (tmp_path / f"b{suffix}").read_bytes()
    (tmp_path / f"b{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IPSError, match=rf"b\{suffix} cannot be read"):
        read_stack(tmp_path)


def test_unknown_kind_of_file_is_refused(tmp_path):
    file = tmp_path / "stack.czi"
    file.write_bytes(b"something")
    with pytest.raises(IPSError, match=r"no known kind; known: \.tif"):
        read_stack(file)


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("L", (20, 30)), ("RGB", (20, 30, 3)), ("CMYK", (20, 30, 3))],
)
def test_jpeg_is_read_as_grey_or_rgb(tmp_path, mode, shape):
    Image.new("RGB", (30, 20), (200, 200, 200)).convert(mode).save(tmp_path / "image.jpeg")
    image = read_image(tmp_path / "image.jpeg")
    assert image.shape == shape
    assert abs(int(image[10, 10].flat[0]) - 200) < 4


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "1"])
def test_png_of_other_modes_is_read_without_transparency(tmp_path, mode):
    grey = Image.fromarray(np.arange(240, dtype=np.uint8).reshape(12, 20))
    grey.convert("RGB").convert(mode).save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png")
    assert image.shape in ((12, 20), (12, 20, 3))
    assert image.max() > 200 > 50 > image.min()


def test_colour_png_of_16_bits_keeps_them(tmp_path, rng):
    image = rng.integers(0, 2**16, (9, 11, 3)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(image))
    assert_same(read_image(tmp_path / "deep.png"), image)


# --- zarr ---------------------------------------------------------------------------


def write_ome_zarr(folder: Path, data: np.ndarray, axes: str, version: str) -> None:
    group = zarr.open_group(folder, mode="w", zarr_format=3 if version == "0.5" else 2)
    for level, step in enumerate((1, 2)):
        part = data[..., ::step, ::step]
        group.create_array(str(level), data=part, chunks=(1,) * (part.ndim - 2) + (16, 16))
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": name, "type": kinds.get(name, "space")} for name in axes]
    for axis in described:
        if axis["type"] == "space":
            axis["unit"] = "micrometer"
    size = {"z": 2.0, "y": 0.5, "x": 0.25}
    steps = [
        [{"type": "scale", "scale": [size.get(name, 1) * level for name in axes]}]
        for level in (1, 2)
    ]
    datasets = [
        {"path": str(level), "coordinateTransformations": steps[level]} for level in (0, 1)
    ]
    image = {"version": version, "axes": described, "datasets": datasets}
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [image]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_is_read_at_its_highest_resolution(tmp_path, stack, version):
    write_ome_zarr(tmp_path / "stack.zarr", stack[None, None], "tczyx", version)
    result = read_stack(tmp_path / "stack.zarr")
    assert_same(result.data, stack)
    assert (result.pixel_size, result.z_step, result.unit) == ((0.5, 0.25), 2.0, "µm")


def test_ome_zarr_with_channels_is_refused(tmp_path, stack):
    write_ome_zarr(tmp_path / "stack.zarr", np.stack([stack, stack]), "czyx", "0.5")
    with pytest.raises(IPSError, match="2 channels"):
        read_stack(tmp_path / "stack.zarr")
    assert len(list(read_pages(tmp_path / "stack.zarr"))) == 10


def test_bare_zarr_array_is_read(tmp_path, stack, colour):
    zarr.create_array(tmp_path / "grey.zarr", data=stack)
    zarr.create_array(tmp_path / "colour.zarr", data=colour)
    names = ("y", "x", "z")
    turned = np.moveaxis(stack, 0, 2)
    zarr.create_array(tmp_path / "named.zarr", data=turned, dimension_names=names)
    assert_same(read_stack(tmp_path / "grey.zarr").data, stack)
    assert_same(read_stack(tmp_path / "colour.zarr").data, colour)
    assert_same(read_stack(tmp_path / "named.zarr").data, stack)


@pytest.mark.parametrize("kind", ["zarr", "tif", "png"])
def test_foreign_byte_order_becomes_our_own(tmp_path, stack, kind):
    foreign = stack.astype(stack.dtype.newbyteorder("S"))
    file = tmp_path / f"stack.{kind}"
    if kind == "zarr":
        zarr.create_array(file, data=foreign, zarr_format=2)
    elif kind == "tif":
        tifffile.imwrite(file, foreign, byteorder=">", photometric="minisblack")
    else:
        write_image(file, foreign[0])
        assert_same(read_image(file), stack[0])
        return
    assert_same(read_stack(file).data, stack)
    assert_same(np.stack(list(read_pages(file))), stack)


def test_zarr_group_of_something_else_says_what_to_pass(tmp_path, stack):
    group = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    group.create_array("0", data=stack)
    with pytest.raises(IPSError, match=r"plate\.zarr/0"):
        read_stack(tmp_path / "plate.zarr")


def test_damaged_chunk_of_a_zarr_array_is_refused(tmp_path, stack):
    zarr.create_array(tmp_path / "stack.zarr", data=stack, chunks=(1, 24, 31))
    chunk = tmp_path / "stack.zarr" / "c" / "3" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(IPSError, match=r"stack\.zarr cannot be read"):
        read_stack(tmp_path / "stack.zarr")
    pages = read_pages(tmp_path / "stack.zarr")
    assert_same(next(pages), stack[0])
    with pytest.raises(IPSError, match=r"stack\.zarr cannot be read"):
        list(pages)


def test_file_without_permission_is_told_from_a_damaged_one(tmp_path, stack, monkeypatch):
    write_stack(tmp_path / "stack.tif", stack)

    def denied(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tifffile.TiffFile", denied)
    with pytest.raises(IPSError, match=r"stack\.tif cannot be read: Permission denied"):
        read_stack(tmp_path / "stack.tif")


# --- images for training --------------------------------------------------------------


def test_all_pages_are_iterated(tmp_path, stack, colour):
    write_stack(tmp_path / "grey.tif", stack)
    write_stack(tmp_path / "colour.tif", colour)
    hyper = stack[:4].reshape(2, 2, 24, 31)
    tifffile.imwrite(tmp_path / "hyper.tif", hyper, imagej=True, metadata={"axes": "TCYX"})
    for name, pages in (("grey", stack), ("colour", colour), ("hyper", stack[:4])):
        read = list(read_pages(tmp_path / f"{name}.tif"))
        assert_same(np.stack(read), pages)


def test_one_image_is_asked_of_a_stack_in_vain(tmp_path, stack):
    write_stack(tmp_path / "stack.tif", stack)
    with pytest.raises(IPSError, match="more than one image"):
        read_image(tmp_path / "stack.tif")
    with pytest.raises(IPSError, match="is a folder"):
        read_image(tmp_path)


# --- writing ------------------------------------------------------------------------

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
    monkeypatch.setattr("napari_ips.io.write._CLASSIC_LIMIT", 1000)
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
    monkeypatch.setattr("napari_ips.io.write._write_png", half)
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
