"""The command ``fuse`` from end to end, with tiny weights."""

import json
import os

import numpy as np
import pytest
import tifffile
import zarr

from napari_ips import FuseConfig, fuse_stack
from napari_ips.io import read_image, read_stack, write_image, write_stack


@pytest.fixture
def expected(stack, tiny_weights):
    """Fuse the stack of the fixtures by the Python function."""

    def fused(chosen=slice(None), **values):
        return fuse_stack(
            stack[chosen], config=FuseConfig(weights=str(tiny_weights), **values)
        )

    return fused


def test_writes_what_was_asked_for(fuse, tmp_path, stack_file, expected):
    names = ("fused.tif", "index.png", "depth.tif", "confidence.ome.zarr")
    fused, index, depth, confidence = (tmp_path / name for name in names)
    maps = ["--index-map", index, "--confidence", confidence, "--depth", depth]
    text = fuse(stack_file, "-o", fused, *maps)
    result = expected()
    np.testing.assert_array_equal(read_image(fused), result.fused)
    np.testing.assert_array_equal(read_image(index), result.index)
    np.testing.assert_allclose(read_image(depth), 2 * result.depth, rtol=1e-6)  # µm
    np.testing.assert_array_equal(zarr.open(confidence)["0"][:], result.confidence)
    assert "stack.tif: 60 x 48 pixels, 3 slices." in text
    assert str(confidence) in text


@pytest.mark.parametrize(
    ("output", "beside"),
    [
        ("f.ome.zarr", "f.{}.ome.zarr"),
        ("f.ome.tif", "f.{}.ome.tif"),
        ("my.f.tif", "my.f.{}.tif"),
        ("f.png", "f.{}.tif"),
    ],
)
def test_maps_lie_beside_the_output(fuse, tmp_path, stack_file, output, beside):
    fuse(stack_file, "-o", tmp_path / output, "--maps")
    maps = {beside.format(name) for name in ("index", "depth", "confidence")}
    assert {path.name for path in tmp_path.iterdir()} == {"stack.tif", output} | maps


def test_a_map_that_is_named_goes_there(fuse, tmp_path, stack_file):
    out = tmp_path / "out"
    out.mkdir()
    options = ["--maps", "--depth", out / "deep.ome.tif"]
    fuse(stack_file, "-o", out / "f.png", *options)
    names = {path.name for path in out.iterdir()}
    assert names == {"f.png", "f.index.tif", "f.confidence.tif", "deep.ome.tif"}


def test_pixel_size_and_unit_are_kept(fuse, tmp_path, stack_file):
    outputs = [tmp_path / "fused.tif", tmp_path / "index.tif"]
    fuse(stack_file, "-o", outputs[0], "--index-map", outputs[1])
    for path in outputs:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            ratios = [page.tags[f"{axis}Resolution"].value for axis in "YX"]
            assert [n / d for n, d in ratios] == pytest.approx([2.0, 4.0])
            assert file.imagej_metadata["unit"] in ("µm", "um", "micron", "\\u00B5m")


def test_folders_and_lists_are_stacks(fuse, tmp_path, stack, expected):
    folder = tmp_path / "in"
    folder.mkdir()
    files = [folder / f"z{number}.png" for number in (2, 10, 1)]
    for path, image in zip(files, stack, strict=True):
        write_image(path, image)
    fuse(folder, "-o", tmp_path / "folder.tif")
    fuse(*files[:2], "-o", folder / "list.tif")
    by_name = expected([2, 0, 1]).fused
    np.testing.assert_array_equal(read_image(tmp_path / "folder.tif"), by_name)
    np.testing.assert_array_equal(read_image(folder / "list.tif"), expected([0, 1]).fused)


@pytest.mark.parametrize("option", [["--z-axis", "2"], ["--axes", "YXZ"]])
def test_axes_can_be_told(fuse, tmp_path, stack, expected, option):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.moveaxis(stack, 0, -1), photometric="minisblack")
    fuse(path, "-o", tmp_path / "o.tif", *option)
    np.testing.assert_array_equal(read_image(tmp_path / "o.tif"), expected().fused)


@pytest.mark.parametrize(
    ("text", "chosen"), [("1:3", slice(1, 3)), ("1:", slice(1, 3)), (":-1", slice(0, 2))]
)
def test_slices_are_chosen_and_keep_their_numbers(
    fuse, tmp_path, stack_file, expected, text, chosen
):
    output, index = tmp_path / "o.tif", tmp_path / "i.tif"
    options = ["--slices", text, "--index-map", index, "--json"]
    told = json.loads(fuse(stack_file, "-o", output, *options))
    result = expected(chosen)
    np.testing.assert_array_equal(read_image(output), result.fused)
    np.testing.assert_array_equal(read_image(index), result.index + chosen.start)
    assert told["positions"][0]["slices"] == list(range(3))[chosen]


@pytest.fixture
def channels_file(tmp_path, stack):
    """Channels DAPI and GFP, the sharpest slice of which is the first and the last."""
    path = tmp_path / "channels.ome.tif"
    data = np.stack([stack, stack[::-1]], axis=1)
    metadata = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, data, ome=True, metadata=metadata, photometric="minisblack")
    return path


@pytest.mark.parametrize("channel", ["GFP", "1"])
def test_one_channel_decides_for_all(fuse, tmp_path, channels_file, stack, channel):
    output, index = tmp_path / "o.tif", tmp_path / "i.tif"
    options = ["--reference-channel", channel, "--mode", "hard", "--index-map", index]
    text = fuse(channels_file, "-o", output, *options)
    assert "3 slices, 2 channels" in text
    chosen = read_image(index)[None].astype(int)
    taken = [np.take_along_axis(c, chosen, 0)[0] for c in (stack, stack[::-1])]
    np.testing.assert_array_equal(tifffile.imread(output), taken)


def test_positions_are_written_one_by_one(fuse, tmp_path, stack, expected):
    path = tmp_path / "two.tif"
    tifffile.imwrite(path, np.stack([stack, stack[:, ::-1]]), photometric="minisblack")
    told = json.loads(fuse(path, "-o", tmp_path / "o.tif", "--axes", "PZYX", "--json"))
    first, second = (position["outputs"]["fused"] for position in told["positions"])
    assert first != second
    np.testing.assert_array_equal(read_image(first), expected().fused)
    assert not (tmp_path / "o.tif").exists()


def test_options_override_the_file(fuse, tmp_path, stack_file, expected):
    config = tmp_path / "settings.toml"
    config.write_text('mode = "hard"\ntile = 512\nskip = true\n')
    output = tmp_path / "o.tif"
    options = ["--config", config, "--tile", "256", "--smoothing", "2.5", "--no-skip"]
    options += ["--strategy", "fold", "--backend", "reference", "--precision", "float32"]
    told = json.loads(fuse(stack_file, "-o", output, *options, "--json"))
    used = told["settings"]
    assert (used["mode"], used["tile"], used["smoothing"]) == ("hard", 256, 2.5)
    assert (used["strategy"], used["skip"], used["backend"]) == ("fold", False, "reference")
    (position,) = told["positions"]
    assert position["outputs"] == {"fused": str(output)}
    assert position["shape"] == [1, 1, 3, 48, 60]
    assert (position["dtype"], position["rgb"]) == ("uint8", False)
    assert told["seconds"] > 0
    by_python = expected(mode="hard", smoothing=2.5, skip=False, strategy="fold")
    np.testing.assert_array_equal(read_image(output), by_python.fused)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "{0}/o.jpg"], "no known kind"),
        (["-o", "{0}/o"], "no known kind"),
        (["-o", "{0}/none/o.tif"], "does not exist"),
        (["-o", "{0}/old.tif"], "--overwrite"),
        (["-o", "{0}/stack.tif", "--overwrite"], "the input"),
        (["-o", "{0}/o.tif", "--index-map", "{0}/./o.tif"], "asked for twice"),
        (["-o", "{0}/o.tif", "--depth", "{0}/depth.png"], "PNG holds"),
        (["-o", "{0}/folder.tif"], "is a folder"),
        (["-o", "{0}/folder.tif/o.ome.zarr", "--maps", "--config", "x.toml"], "x.toml"),
        (["-o", "{0}/o.tif", "--mode", "middling"], "mode must be soft or hard"),
        (["-o", "{0}/o.tif", "--tile", "1"], "tile must be auto, 256"),
        (["-o", "{0}/o.tif", "--tile", "big"], "not 'big'"),
        (["-o", "{0}/o.tif", "--precision", "int8"], "precision must be"),
        (["-o", "{0}/o.tif", "--slices", "3"], "FIRST:END"),
        (["-o", "{0}/o.tif", "--slices", "a:b"], "FIRST:END"),
        (["-o", "{0}/o.tif", "--slices", "1:9"], "3 slices"),
        (["-o", "{0}/o.tif", "--axes", "ZY"], "'ZY' do not fit"),
        (["-o", "{0}/o.tif", "--reference-channel", "Cy5"], "no channel Cy5"),
    ],
)
def test_refuses_before_computing(refused, tmp_path, stack_file, arguments, words, stack):
    (tmp_path / "old.tif").write_bytes(b"old")
    (tmp_path / "folder.tif").mkdir()
    before = sorted(tmp_path.iterdir())
    arguments = [argument.format(tmp_path) for argument in arguments]
    assert words in refused(stack_file, *arguments)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "old.tif").read_bytes() == b"old"
    np.testing.assert_array_equal(read_stack(stack_file).data, stack)


def test_refuses_an_output_among_its_slices(refused, tmp_path, stack):
    files = [tmp_path / f"{number}.png" for number in range(len(stack))]
    for path, image in zip(files, stack, strict=True):
        write_image(path, image)
    assert "in, the input" in refused(tmp_path, "-o", tmp_path / "o.png")
    assert "in, the input" in refused(*files, "-o", files[1], "--overwrite")


def test_refuses_an_unwritable_folder(refused, tmp_path, stack_file, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert "read-only" in refused(stack_file, "-o", tmp_path / "o.tif")


def test_refuses_floats_in_png_before_computing(refused, tmp_path, stack):
    path = tmp_path / "float.tif"
    write_stack(path, stack.astype(np.float32))
    assert "save o.tif" in refused(path, "-o", tmp_path / "o.png")


def test_overwrites_when_told(fuse, tmp_path, stack_file, expected):
    output = tmp_path / "o.tif"
    output.write_bytes(b"old")
    fuse(stack_file, "-o", output, "--overwrite")
    np.testing.assert_array_equal(read_image(output), expected().fused)


def test_quality_stands_for_settings_that_options_override(fuse, tmp_path, stack_file):
    told = fuse(stack_file, "-o", tmp_path / "f.tif", "--quality", "best", "--json")
    settings = json.loads(told)["settings"]
    assert (settings["both_orders"], settings["skip"]) == (True, False)
    options = ["--quality", "fast", "--no-skip", "--json"]
    settings = json.loads(fuse(stack_file, "-o", tmp_path / "g.tif", *options))["settings"]
    assert (settings["finest"], settings["skip"]) == (2, False)


def test_unknown_quality_is_refused(failure, tmp_path, stack_file):
    told = failure("fuse", stack_file, "-o", tmp_path / "f.tif", "--quality", "good")
    assert told == "Error: The quality must be fast, balanced, best, not good."
