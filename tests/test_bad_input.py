"""Damaged, odd and impossible inputs of `fuse_to_file`: one line, or a defined result."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_ips import IPSError, fuse_stack
from napari_ips.io import read_image, write_image
from volumes import config, fuse, noise, tiny_weights

MAPS = ("index", "depth", "confidence")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def refused(source: object, folder: Path, weights: Path, **options: object) -> str:
    """Fuse what cannot be fused; return the line that says so."""
    with pytest.raises(IPSError) as caught:
        fuse(source, folder / "f.ome.zarr", weights, **options)
    assert "\n" not in str(caught.value)
    assert not (folder / "f.ome.zarr").exists()
    return str(caught.value)


def maps(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.tif" for name in MAPS}


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (64, 64)}])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_tiff(tmp_path, weights, options, share):
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, noise(4, 200, 210), photometric="minisblack", **options)
    with path.open("r+b") as file:
        file.truncate(int(share * path.stat().st_size))
    line = refused(path, tmp_path, weights)
    assert "in.tif cannot be read" in line
    assert os.listdir(tmp_path) == ["in.tif"]


def test_missing_zarr_chunk_is_its_fill_value(tmp_path, weights):
    stack = noise(3, 300, 300)
    zarr.create_array(tmp_path / "in.zarr", data=stack, chunks=(1, 100, 100), fill_value=7)
    (tmp_path / "in.zarr/c/1/0/2").unlink()
    fuse(tmp_path / "in.zarr", tmp_path / "f.tif", weights)
    stack[1, :100, 200:] = 7
    expected = fuse_stack(stack, config=config(weights)).fused
    assert np.array_equal(read_image(tmp_path / "f.tif"), expected)


def test_unreadable_chunk_leaves_finished_tiles_and_may_be_mended(tmp_path, weights):
    stack = noise(2, 3, 90, 600)
    source = zarr.create_array(
        tmp_path / "in.zarr",
        data=stack,
        chunks=(1, 1, 90, 100),
        dimension_names=["t", "z", "y", "x"],
    )
    chunk = tmp_path / "in.zarr/c/1/2/0/0"
    chunk.write_bytes(b"damaged")
    line = refused(tmp_path / "in.zarr", tmp_path, weights)
    assert f"{tmp_path / 'in.zarr'} cannot be read" in line
    assert "at t 1, c 0, z 0:3, y 0:90, x 44:556" in line
    assert line.endswith("What is finished is kept: --resume goes on with it.")
    done = os.listdir(tmp_path / ".f.ome.zarr.partial/done")
    assert len(done) == 2
    source[1, 2] = stack[1, 2]
    fuse(tmp_path / "in.zarr", tmp_path / "f.ome.zarr", weights, resume=True)
    fused = zarr.open_group(tmp_path / "f.ome.zarr", mode="r")["0"]
    for t in (0, 1):
        expected = fuse_stack(stack[t], config=config(weights)).fused
        assert np.array_equal(fused[t], expected)


def test_input_that_vanishes_meanwhile(tmp_path, weights):
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, noise(3, 90, 600), photometric="minisblack")
    line = refused(path, tmp_path, weights, callback=lambda _: path.unlink(missing_ok=True))
    assert "in.tif cannot be read: No such file or directory, at t 0" in line


def test_mixed_sizes_in_a_folder(tmp_path, weights):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, width in enumerate((50, 50, 51)):
        write_image(folder / f"{number}.tif", noise(40, width))
    line = refused(folder, tmp_path, weights)
    assert "2.tif (51 x 40, uint16) is unlike 0.tif (50 x 40, uint16)" in line


@pytest.mark.parametrize("kind", ["file", "array", "zarr"])
def test_image_without_slices(tmp_path, weights, kind):
    image = noise(40, 50)
    source: object = image
    if kind == "file":
        source = tmp_path / "in.png"
        write_image(source, image)
    elif kind == "zarr":
        source = tmp_path / "in.zarr"
        zarr.create_array(source, data=image)
    assert "A stack needs at least two slices" in refused(source, tmp_path, weights)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_stack_of_one_slice_is_that_slice(tmp_path, weights, dtype):
    stack = noise(1, 300, 600, dtype=dtype)
    fuse(stack, tmp_path / "f.tif", weights, axes="ZYX", **maps(tmp_path))
    assert np.array_equal(read_image(tmp_path / "f.tif"), stack[0])
    for path in maps(tmp_path).values():
        assert not read_image(path).any()


@pytest.mark.parametrize("shape", [(2, 1, 1), (5, 1, 40), (3, 7, 2), (40, 6, 6)])
def test_smallest_images(tmp_path, weights, shape):
    stack = noise(*shape)
    fuse(stack, tmp_path / "f.tif", weights, axes="ZYX")
    expected = fuse_stack(stack, config=config(weights)).fused
    assert np.array_equal(read_image(tmp_path / "f.tif"), expected)


def test_tile_without_any_value(tmp_path, weights):
    stack = noise(3, 300, 900, dtype="float32")
    stack[:, :, 200:600] = np.nan
    stack[1, :, 700:] = np.inf
    fuse(stack, tmp_path / "f.tif", weights, **maps(tmp_path))
    expected = fuse_stack(stack, config=config(weights))
    for name in ("fused", *MAPS):
        path = tmp_path / ("f.tif" if name == "fused" else f"{name}.tif")
        assert np.array_equal(read_image(path), getattr(expected, name), equal_nan=True)
    fused = read_image(tmp_path / "f.tif")
    assert np.isnan(fused[:, 200:600]).all()
    assert np.isfinite(np.delete(fused, np.s_[200:600], axis=1)).all()
    assert not read_image(tmp_path / "confidence.tif")[:, 200:600].any()
    assert not read_image(tmp_path / "index.tif")[:, 200:600].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e38])
def test_stack_of_one_value(tmp_path, weights, value):
    stack = np.full((3, 60, 70), value, np.float32)
    fuse(stack, tmp_path / "f.tif", weights, **maps(tmp_path))
    fused = read_image(tmp_path / "f.tif")
    assert np.array_equal(fused, stack[0], equal_nan=True)
    assert not read_image(tmp_path / "confidence.tif").any()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 40, 50), bool), "holds bool values"),
        (np.zeros((3, 40, 50), complex), "holds complex128 values"),
        (np.zeros((3, 0, 50)), "nothing in it"),
        (np.zeros((3, 4, 40, 50)), "Which axis is which is not clear"),
        (np.zeros((200, 200, 5)), "not clear"),
        (np.zeros((65537, 1, 1), np.uint8), "at most 65536"),
    ],
)
def test_arrays_that_cannot_be_fused(tmp_path, weights, array, message):
    axes = "ZYX" if array.shape[0] > 60000 else None
    assert message in refused(array, tmp_path, weights, axes=axes)
    assert not os.listdir(tmp_path)


def test_read_only_folder(tmp_path, weights, monkeypatch):
    # Root may write everywhere, so permissions themselves prove nothing in a container.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "is read-only" in refused(noise(3, 40, 50), tmp_path, weights)
    assert not os.listdir(tmp_path)


def test_folder_that_is_not_there(tmp_path, weights):
    line = refused(noise(3, 40, 50), tmp_path / "no", weights)
    assert "does not exist" in line


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("plate.zarr/0", "plate.zarr"),
        ("plate.zarr/0", "plate.zarr/0"),
        ("plate.zarr/0", "plate.zarr/0/f.zarr"),
        ("folder", "folder/f.tif"),
        ("folder/1.tif", "folder/1.tif"),
    ],
)
@pytest.mark.parametrize("link", [False, True])
def test_input_is_never_overwritten(tmp_path, weights, source, output, link):
    (tmp_path / "real").mkdir()
    plate = zarr.create_group(tmp_path / "real/plate.zarr")
    plate.create_array("0", data=noise(3, 40, 50))
    (tmp_path / "real/folder").mkdir()
    for number in range(3):
        write_image(tmp_path / f"real/folder/{number}.tif", noise(40, 50))
    if source.endswith(".tif"):
        tifffile.imwrite(
            tmp_path / "real" / source, noise(3, 40, 50), photometric="minisblack"
        )
    place = tmp_path / "real"
    if link:
        (tmp_path / "link").symlink_to(place)
        place = tmp_path / "link"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IPSError, match="the input"):
        fuse(tmp_path / "real" / source, place / output, weights, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_of_a_list_is_never_overwritten(tmp_path, weights):
    files = [tmp_path / f"{number}" / "slice.tif" for number in range(3)]
    for file in files:
        file.parent.mkdir()
        write_image(file, noise(40, 50))
    with pytest.raises(IPSError, match="the input"):
        fuse(files, files[2], weights, overwrite=True)
    fuse(files, files[0].with_name("f.tif"), weights)


def test_folder_of_a_user_is_not_replaced(tmp_path, weights):
    (tmp_path / "f.ome.zarr").mkdir()
    (tmp_path / "f.ome.zarr/notes.txt").touch()
    with pytest.raises(IPSError, match="no zarr store, so it is kept"):
        fuse(noise(3, 40, 50), tmp_path / "f.ome.zarr", weights, overwrite=True)
    assert os.listdir(tmp_path / "f.ome.zarr") == ["notes.txt"]


@pytest.mark.slow
def test_compressed_pages_of_two_gigabytes(tmp_path, weights):
    path = tmp_path / "in.tif"
    page = np.zeros((4096, 2**18), np.uint16)
    page[1000:1600, 5000:5700] = noise(600, 700)
    tifffile.imwrite(
        path,
        (page for _ in range(2)),
        shape=(2, *page.shape),
        dtype=page.dtype,
        compression="zlib",
        rowsperstrip=len(page),
        photometric="minisblack",
    )
    seen = []

    class Enough(Exception):
        pass

    def callback(event: object) -> None:
        seen.append(event.task)
        if event.task == "fusing":
            raise Enough

    with pytest.raises(Enough):
        fuse(path, tmp_path / "f.ome.zarr", weights, callback=callback)
    assert seen.count("copying") == 2
