"""Fusion of files into files: the same result as in memory, from and to everything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import tifffile
import zarr

from napari_ips import FusionResult, IPSError, fuse_stack
from napari_ips.events import Progress, TileDone
from napari_ips.io import open_stacks, read_image, write_image
from volumes import config, fuse, noise, tiny_weights

MAPS = ("index", "depth", "confidence")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def in_memory(stack: np.ndarray, weights: Path, **values: Any) -> FusionResult:
    return fuse_stack(stack, config=config(weights, **values))


def all_outputs(folder: Path, suffix: str = ".ome.zarr") -> dict[str, Path]:
    return {name: folder / f"{name}{suffix}" for name in MAPS}


@pytest.mark.parametrize("shape", [(4, 611, 533), (2, 301, 900), (3, 130, 70)])
def test_tiles_of_every_size_give_what_the_whole_gives(tmp_path, weights, shape):
    stack = noise(*shape)
    expected = in_memory(stack, weights, tile=4096)
    assert len(np.unique(expected.index)) == shape[0]
    for tile in (256, 512, 1024):
        folder = tmp_path / str(tile)
        folder.mkdir()
        fuse(
            stack,
            folder / "fused.ome.zarr",
            weights,
            settings={"tile": tile},
            **all_outputs(folder),
        )
        assert sorted(os.listdir(folder)) == sorted(
            f"{name}.ome.zarr" for name in ("fused", *MAPS)
        )
        for name in ("fused", *MAPS):
            written = read_image(folder / f"{name}.ome.zarr")
            assert written.dtype == getattr(expected, name).dtype
            assert np.array_equal(written, getattr(expected, name)), (tile, name)


@pytest.mark.parametrize("values", [{"mode": "hard"}, {"strategy": "fold"}])
def test_other_ways_to_fuse_are_the_same_too(tmp_path, weights, values):
    stack = noise(3, 300, 520)
    fuse(stack, tmp_path / "a.tif", weights, settings=values)
    expected = in_memory(stack, weights, **values)
    assert np.array_equal(read_image(tmp_path / "a.tif"), expected.fused)


def test_every_tile_is_told_once(tmp_path, weights):
    events: list[Progress] = []
    fuse(noise(2, 530, 600), tmp_path / "a.tif", weights, callback=events.append)
    tiles = [event for event in events if isinstance(event, TileDone)]
    assert [tile.done for tile in tiles] == [1, 2, 3, 4]
    covered = np.zeros((530, 600), int)
    for tile in tiles:
        covered[tile.y, tile.x] += 1
    assert (covered == 1).all()
    others = {event.task for event in events} - {"fusing"}
    assert others == {"measuring", "scaling down", "writing fused"}


def ome_zarr(path: Path, stack: np.ndarray, version: str) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=stack, chunks=(1, 64, 64))
    scale = [{"type": "scale", "scale": [2.0, 0.5, 0.5]}]
    image = {
        "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [image | {"version": version}]
    return path


def plain_zarr(path: Path, stack: np.ndarray) -> zarr.Array:
    return zarr.create_array(path, data=stack, chunks=(2, 64, 64))


def folder_of_slices(path: Path, stack: np.ndarray) -> Path:
    path.mkdir()
    for number, image in enumerate(stack):
        write_image(path / f"slice_{number}.png", image)
    return path


def tiff(path: Path, stack: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, stack, **{"photometric": "minisblack"} | options)
    return path


SOURCES = {
    "OME-Zarr 0.4": lambda folder, stack: ome_zarr(folder / "in.zarr", stack, "0.4"),
    "OME-Zarr 0.5": lambda folder, stack: ome_zarr(folder / "in.zarr", stack, "0.5"),
    "zarr": lambda folder, stack: Path(plain_zarr(folder / "in.zarr", stack).store.root),
    "OME-TIFF": lambda folder, stack: tiff(
        folder / "in.ome.tif", stack, metadata={"axes": "ZYX"}, compression="zlib"
    ),
    "ImageJ": lambda folder, stack: tiff(
        folder / "in.tif", stack, imagej=True, metadata={"axes": "ZYX"}
    ),
    "BigTIFF": lambda folder, stack: tiff(folder / "in.tif", stack, bigtiff=True),
    "folder": lambda folder, stack: folder_of_slices(folder / "in", stack),
    "list": lambda folder, stack: sorted(folder_of_slices(folder / "in", stack).iterdir()),
    "numpy": lambda folder, stack: stack,
    "dask": lambda folder, stack: dask.array.from_array(stack, chunks=(1, 64, 64)),
    "zarr array": lambda folder, stack: plain_zarr(folder / "in.zarr", stack),
    "open": lambda folder, stack: open_stacks(tiff(folder / "in.tif", stack))[0],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_stacks_from_everywhere(tmp_path, weights, kind):
    stack = noise(3, 120, 140)
    source = SOURCES[kind](tmp_path, stack)
    fuse(source, tmp_path / "out.tif", weights)
    expected = in_memory(stack, weights).fused
    assert np.array_equal(read_image(tmp_path / "out.tif"), expected)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif", ".tif", ".png"])
def test_results_in_every_format(tmp_path, weights, suffix):
    stack = noise(3, 120, 140)
    outputs = {name: tmp_path / f"{name}.tif" for name in MAPS}
    (written,) = fuse(stack, tmp_path / f"fused{suffix}", weights, **outputs)
    expected = in_memory(stack, weights)
    assert written == {"fused": tmp_path / f"fused{suffix}", **outputs}
    for name, path in written.items():
        assert np.array_equal(read_image(path), getattr(expected, name))


def test_times_and_channels_are_fused_one_by_one(tmp_path, weights):
    stack = noise(2, 2, 3, 90, 110)
    fuse(
        stack, tmp_path / "f.ome.zarr", weights, axes="TCZYX", index=tmp_path / "i.ome.zarr"
    )
    fused = zarr.open_group(tmp_path / "f.ome.zarr", mode="r")["0"][:]
    index = zarr.open_group(tmp_path / "i.ome.zarr", mode="r")["0"][:]
    for t, c in np.ndindex(2, 2):
        expected = in_memory(stack[t, c], weights)
        assert np.array_equal(fused[t, c], expected.fused)
        assert np.array_equal(index[t, c], expected.index)


@pytest.mark.parametrize("reference", [1, "B", "1"])
def test_one_channel_decides_for_all(tmp_path, weights, reference):
    stack = noise(3, 3, 90, 310)
    path = tiff(
        tmp_path / "in.ome.tif",
        stack,
        metadata={"axes": "ZCYX", "Channel": {"Name": ["A", "B", "C"]}},
    )
    fuse(
        path,
        tmp_path / "f.ome.zarr",
        weights,
        reference_channel=reference,
        index=tmp_path / "i.tif",
        settings={"mode": "hard"},
    )
    index = in_memory(stack[:, 1], weights, mode="hard").index
    assert np.array_equal(read_image(tmp_path / "i.tif"), index)
    fused = zarr.open_group(tmp_path / "f.ome.zarr", mode="r")["0"][:]
    rows, columns = np.indices(index.shape)
    for c in range(3):
        assert np.array_equal(fused[c], stack[index, c, rows, columns])


def test_colours_are_fused_as_one(tmp_path, weights):
    stack = noise(3, 90, 110, 3, dtype="uint8")
    fuse(stack, tmp_path / "f.png", weights)
    expected = in_memory(stack, weights).fused
    assert np.array_equal(read_image(tmp_path / "f.png"), expected)


def test_positions_become_files_of_their_own(tmp_path, weights):
    stacks = [noise(3, 60, 70, seed=seed) for seed in (1, 2)]
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True) as file:
        for stack in stacks:
            file.write(stack, metadata={"axes": "ZYX"})
    written = fuse(tmp_path / "in.ome.tif", tmp_path / "of.two.ome.tif", weights)
    names = [f"of.two_position{number:03d}.ome.tif" for number in (0, 1)]
    assert [paths["fused"].name for paths in written] == names
    for stack, name in zip(stacks, names, strict=True):
        assert np.array_equal(read_image(tmp_path / name), in_memory(stack, weights).fused)
    assert sorted(os.listdir(tmp_path)) == ["in.ome.tif", *names]


def test_depth_is_in_units_of_the_z_step(tmp_path, weights):
    stack = noise(3, 60, 70)
    source = ome_zarr(tmp_path / "in.zarr", stack, "0.5")
    fuse(source, tmp_path / "f.tif", weights, depth=tmp_path / "d.tif")
    expected = in_memory(stack, weights).depth * np.float32(2)
    assert np.array_equal(read_image(tmp_path / "d.tif"), expected)


def test_some_slices_keep_their_numbers(tmp_path, weights):
    stack = noise(6, 60, 70)
    outputs = {name: tmp_path / f"{name}.tif" for name in ("index", "depth")}
    fuse(stack, tmp_path / "f.tif", weights, slices=(2, 5), **outputs)
    expected = in_memory(stack[2:5], weights)
    assert np.array_equal(read_image(outputs["index"]), expected.index + 2)
    assert np.array_equal(read_image(outputs["depth"]), expected.depth + np.float32(2))


def test_pages_in_one_compressed_strip_are_copied_first(tmp_path, weights, monkeypatch):
    monkeypatch.setattr("napari_ips.fusion.spool._LARGEST_CHUNK", 10_000)
    stack = noise(3, 300, 520)
    source = tiff(tmp_path / "in.tif", stack, compression="zlib", rowsperstrip=300)
    events: list[Progress] = []
    fuse(source, tmp_path / "f.tif", weights, callback=events.append)
    assert [event.done for event in events if event.task == "copying"] == [1, 2, 3]
    assert np.array_equal(read_image(tmp_path / "f.tif"), in_memory(stack, weights).fused)
    assert sorted(os.listdir(tmp_path)) == ["f.tif", "in.tif"]


def test_large_chunks_are_copied_one_by_one(tmp_path, weights, monkeypatch):
    monkeypatch.setattr("napari_ips.fusion.spool._LARGEST_CHUNK", 10_000)
    monkeypatch.setattr("napari_ips.fusion.spool._CHUNK", 256)
    stack = noise(5, 300, 520)
    source = zarr.create_array(tmp_path / "in.zarr", data=stack, chunks=(3, 200, 150))
    events: list[Progress] = []
    fuse(source, tmp_path / "f.tif", weights, slices=(2, 5), callback=events.append)
    # Slice 2 is of other chunks than 3 and 4.
    assert sum(event.task == "copying" for event in events) == 2 * 2 * 4
    expected = in_memory(stack[2:], weights).fused
    assert np.array_equal(read_image(tmp_path / "f.tif"), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": (1, 9)}, "has 3 slices"),
        ({"slices": (2, 2)}, "has 3 slices"),
        ({"reference_channel": 1}, "has no channel 1"),
        ({"reference_channel": "GFP"}, "has no channel GFP"),
        ({"index": "a.tif"}, "asked for twice"),
        ({"axes": "YXZC"}, "do not fit"),
    ],
)
def test_options_that_do_not_fit_leave_nothing_behind(tmp_path, weights, options, message):
    if "index" in options:
        options = {"index": tmp_path / "a.tif"}
    with pytest.raises(IPSError, match=message) as caught:
        fuse(noise(3, 60, 70), tmp_path / "a.tif", weights, **options)
    assert "\n" not in str(caught.value)
    assert not os.listdir(tmp_path)
