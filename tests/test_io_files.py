from __future__ import annotations

from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_ips.errors import IPSError
from napari_ips.io import (
    read_image,
    read_pages,
    read_stack,
    write_image,
    write_stack,
)

assert_same = partial(np.testing.assert_array_equal, strict=True)


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
