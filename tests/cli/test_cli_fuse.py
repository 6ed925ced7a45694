import json
import os

import numpy as np
import pytest
import tifffile

from napari_ips.io import read_image, read_stack, write_image, write_stack


def test_fuse_writes_what_was_asked_for(success, tmp_path, stack_file, fusion, stack):
    names = ("fused.tif", "index.png", "confidence.tif", "depth.tif")
    fused, index, confidence, depth = (tmp_path / name for name in names)
    maps = ["--index-map", index, "--confidence", confidence, "--depth", depth]
    text = success("fuse", stack_file, "-o", fused, *maps)
    np.testing.assert_array_equal(read_image(fused), stack[0])
    assert read_image(fused).dtype == np.uint8
    assert read_image(index).dtype == np.uint16
    assert (read_image(confidence) == 0.25).all()
    assert read_image(depth).dtype == np.float32
    assert "3 slices of 60 x 48 pixels" in text
    assert (fusion[0].stack == stack).all()


def test_fuse_keeps_pixel_size_and_unit(success, tmp_path, stack_file, fusion):
    outputs = [tmp_path / "fused.tif", tmp_path / "index.tif"]
    success("fuse", stack_file, "-o", outputs[0], "--index-map", outputs[1])
    for path in outputs:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            ratios = [page.tags[f"{axis}Resolution"].value for axis in "YX"]
            assert [n / d for n, d in ratios] == pytest.approx([2.0, 4.0])
            assert file.imagej_metadata["unit"] in ("µm", "um", "micron", "\\u00B5m")


def test_fuse_takes_folders_and_lists(success, tmp_path, fusion, stack):
    (tmp_path / "in").mkdir()
    files = [tmp_path / "in" / f"z{number}.png" for number in (2, 10, 1)]
    for path, image in zip(files, stack, strict=True):
        write_image(path, image)
    success("fuse", tmp_path / "in", "-o", tmp_path / "folder.tif")
    success("fuse", *files[:2], "-o", tmp_path / "list.tif")
    np.testing.assert_array_equal(fusion[0].stack, stack[[2, 0, 1]])
    np.testing.assert_array_equal(fusion[1].stack, stack[:2])


def test_fuse_z_axis(success, tmp_path, fusion, stack):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.moveaxis(stack, 0, -1), photometric="minisblack")
    success("fuse", path, "-o", tmp_path / "o.tif", "--z-axis", "2")
    np.testing.assert_array_equal(fusion[0].stack, stack)


def test_fuse_options_override_the_file(success, tmp_path, stack_file, fusion):
    config = tmp_path / "settings.toml"
    config.write_text('mode = "hard"\ntile = 128\n')
    output = tmp_path / "o.tif"
    options = ["--config", config, "--tile", "64", "--smoothing", "2.5", "--json"]
    out = success("fuse", stack_file, "-o", output, "--strategy", "fold", *options)
    used = fusion[0].config
    assert (used.mode, used.tile, used.smoothing) == ("hard", 64, 2.5)
    told = json.loads(out)
    assert told["output"] == str(output)
    assert told["settings"]["strategy"] == "fold"
    assert (told["slices"], told["height"], told["width"]) == (3, 48, 60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "{0}/o.jpg"], "suffix"),
        (["-o", "{0}/o"], "suffix"),
        (["-o", "{0}/none/o.tif"], "does not exist"),
        (["-o", "{0}/old.tif"], "--overwrite"),
        (["-o", "{0}/stack.tif", "--overwrite"], "also an input"),
        (["-o", "{0}/o.tif", "--index-map", "{0}/./o.tif"], "give two files"),
        (["-o", "{0}/o.tif", "--depth", "{0}/depth.png"], "--depth"),
        (["-o", "{0}/folder.tif"], "is a folder"),
        (["-o", "{0}/o.tif", "--mode", "middling"], "mode"),
        (["-o", "{0}/o.tif", "--tile", "1"], "tile"),
        (["-o", "{0}/o.tif", "--config", "{0}/none.toml"], "none.toml"),
    ],
)
def test_fuse_refuses_before_computing(
    failure, tmp_path, stack_file, fusion, arguments, words, stack
):
    (tmp_path / "old.tif").write_bytes(b"old")
    (tmp_path / "folder.tif").mkdir()
    before = sorted(tmp_path.iterdir())
    arguments = [argument.format(tmp_path) for argument in arguments]
    assert words in failure("fuse", stack_file, *arguments)
    assert fusion == []
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old.tif").read_bytes() == b"old"
    np.testing.assert_array_equal(read_stack(stack_file).data, stack)


def test_fuse_refuses_an_output_among_its_slices(failure, tmp_path, fusion, stack):
    for number, image in enumerate(stack):
        write_image(tmp_path / f"{number}.png", image)
    assert "input folder" in failure("fuse", tmp_path, "-o", tmp_path / "o.png")


def test_fuse_refuses_an_unwritable_folder(
    failure, tmp_path, stack_file, fusion, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert "cannot be written" in failure("fuse", stack_file, "-o", tmp_path / "o.tif")


def test_fuse_refuses_floats_in_png_before_computing(failure, tmp_path, fusion, stack):
    path = tmp_path / "float.tif"
    write_stack(path, stack.astype(np.float32))
    assert "use .tif" in failure("fuse", path, "-o", tmp_path / "o.png")
    assert fusion == []


def test_fuse_overwrites_when_told(success, tmp_path, stack_file, fusion, stack):
    output = tmp_path / "o.tif"
    output.write_bytes(b"old")
    success("fuse", stack_file, "-o", output, "--overwrite")
    np.testing.assert_array_equal(read_image(output), stack[0])
