"""Z-stacks read window by window: what a window is, and how little is read for it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dask.array
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ips.errors import IPSError
from napari_ips.io import LazyStack, Metadata, open_stacks, wrap_array, write_image

assert_same = partial(np.testing.assert_array_equal, strict=True)
WHOLE = slice(None)

SOURCES = ["zarr2", "zarr3", "sharded", "raw", "pages", "tiles", "strip", "bigtiff", "png"]


@pytest.fixture
def planes(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 4000, (5, 40, 53)).astype(np.uint16)


def write(folder: Path, kind: str, planes: np.ndarray) -> Path:
    """Write slices as each of the kinds of SOURCES."""
    tiffs = {
        "raw": {},
        "tiles": {"tile": (16, 16), "compression": "zlib"},
        "strip": {"compression": "zlib"},
        "bigtiff": {"bigtiff": True, "byteorder": ">"},
    }
    zarrs = {
        "zarr2": {"zarr_format": 2, "chunks": (2, 16, 16)},
        "zarr3": {"chunks": (2, 16, 16)},
        "sharded": {"chunks": (1, 8, 8), "shards": (5, 40, 56)},
    }
    if kind in tiffs:
        path = folder / f"{kind}.tif"
        tifffile.imwrite(path, planes, photometric="minisblack", **tiffs[kind])
    elif kind in zarrs:
        path = folder / f"{kind}.zarr"
        zarr.create_array(path, data=planes, **zarrs[kind])
    elif kind == "pages":
        path = folder / "pages.tif"
        with tifffile.TiffWriter(path) as writer:
            for page in planes:
                writer.write(page, contiguous=False, metadata=None, rowsperstrip=7)
    else:
        path = folder / "slices"
        path.mkdir()
        for z, plane in enumerate(planes):
            write_image(path / f"{z}.png", plane)
    return path


@pytest.mark.parametrize("kind", SOURCES)
def test_any_window_is_that_of_the_whole_stack(tmp_path, planes, kind):
    (stack,) = open_stacks(write(tmp_path, kind, planes))
    assert stack.shape == (1, 1, 5, 40, 53)
    assert (stack.samples, stack.dtype, stack.axes) == (0, np.uint16, "ZYX")
    bounds = st.one_of(st.none(), st.integers(-60, 60))
    slices = st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 3]))

    @given(slices, slices, slices)
    def check(z: slice, y: slice, x: slice) -> None:
        assert_same(stack.read(0, 0, z, y, x), planes[z, y, x])

    check()


@pytest.mark.parametrize("kind", SOURCES)
def test_stack_is_read_in_another_process(tmp_path, planes, kind, monkeypatch):
    path = write(tmp_path, kind, planes)
    monkeypatch.chdir(tmp_path)
    (stack,) = open_stacks(path.name, axes=None)
    sent = pickle.dumps(stack)
    assert len(sent) < 5000, "the file is opened again, not sent"
    code = (
        "import pickle, sys; stack = pickle.load(sys.stdin.buffer);"
        "a = slice(None); print(stack.read(0, 0, a, a, a).sum(), stack.name, stack.axes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=sent, capture_output=True, cwd="/", check=True
    )
    assert done.stdout.decode().split() == [
        str(planes.sum()),
        path.name.split("/")[-1],
        "ZYX",
    ]


@pytest.mark.parametrize("kind", SOURCES)
def test_threads_read_at_once(tmp_path, planes, kind):
    (stack,) = open_stacks(write(tmp_path, kind, planes))
    corners = [
        (z, y, x) for z in range(4) for y in range(0, 30, 9) for x in range(0, 40, 9)
    ]

    def same(corner: tuple[int, ...]) -> bool:
        window = tuple(slice(n, n + 11) for n in corner)
        return np.array_equal(stack.read(0, 0, *window), planes[window])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(same, corners * 3))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("zarr3", 2 * 16 * 16 * 2),
        ("sharded", 8 * 8 * 2),
        ("raw", 2),
        ("pages", 2),
        ("tiles", 16 * 16 * 2),
        ("strip", 40 * 53 * 2),
        ("png", 40 * 53 * 2),
    ],
)
def test_chunk_bytes_tell_what_one_pixel_costs(tmp_path, planes, kind, expected):
    (stack,) = open_stacks(write(tmp_path, kind, planes))
    assert stack.chunk_bytes == expected


def test_only_the_chunks_of_a_window_are_read(tmp_path, planes):
    (stack,) = open_stacks(write(tmp_path, "zarr3", planes))
    for chunk in (tmp_path / "zarr3.zarr" / "c").rglob("*"):
        place = chunk.relative_to(tmp_path / "zarr3.zarr" / "c").parts
        if chunk.is_file() and place != ("1", "0", "2"):
            chunk.write_bytes(b"damaged")
    window = (slice(2, 4), slice(3, 16), slice(32, 48))
    assert_same(stack.read(0, 0, *window), planes[window])
    with pytest.raises(IPSError):
        stack.read(0, 0, slice(2, 4), slice(3, 17), slice(32, 48))


@pytest.mark.parametrize("kind", ["zarr", "raw", "tiles"])
def test_window_of_a_huge_stack_takes_little_memory(tmp_path, kind):
    """2 GB, of which the disk holds nearly nothing."""
    shape, edge = (4, 16384, 16384), 16384
    image = {"shape": shape, "dtype": "u2", "photometric": "minisblack"}
    path = tmp_path / ("huge.zarr" if kind == "zarr" else "huge.tif")
    if kind == "zarr":
        zarr.create_array(path, shape=shape, chunks=(1, 512, 512), dtype="u2", fill_value=3)
        array = zarr.open_array(path)
        array[2, 9000:9010, 700:710] = 8
    elif kind == "raw":
        # Shaped by its description; the pixels are a hole in the file.
        tifffile.imwrite(
            path, shape=shape, dtype="u2", bigtiff=True, photometric="minisblack"
        )
        mapped = tifffile.memmap(path)
        mapped[2, 9000:9010, 700:710] = 8
        del mapped
    else:
        tile = np.zeros((1024, 1024), np.uint16)
        tifffile.imwrite(
            path,
            (tile for _ in range(4 * (edge // 1024) ** 2)),
            **image,
            tile=(1024, 1024),
            compression="zlib",
        )
    tracemalloc.start()
    (stack,) = open_stacks(path)
    window = stack.read(0, 0, WHOLE, slice(8900, 9156), slice(600, 856))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert window.shape == (4, 256, 256)
    if kind != "tiles":
        assert (window == 8).sum() == 100
    assert peak < 30e6


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
@settings(max_examples=15)
@given(data=st.data())
def test_array_of_any_order_of_axes_is_wrapped(kind, data):
    axes = "".join(data.draw(st.permutations("TCZYX")))
    axes = axes.replace(data.draw(st.sampled_from(["", "T", "C"])), "", 1)
    lengths = dict(zip("TCZYX", (2, 3, 4, 5, 6), strict=True))
    shape = tuple(lengths[a] for a in axes)
    dtype = data.draw(st.sampled_from([">u2", "<u2", "u1", "i4", "f4", ">f8"]))
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    wrapped = array
    if kind == "dask":
        wrapped = dask.array.from_array(array, chunks=2)
    elif kind == "zarr":
        wrapped = zarr.create_array({}, data=array, chunks=(2,) * array.ndim, zarr_format=2)
    stack = wrap_array(wrapped, axes.lower())
    assert stack.axes == axes
    assert stack.shape == tuple(lengths[a] if a in axes else 1 for a in "TCZYX")
    t, c = stack.shape[0] - 1, stack.shape[1] - 1
    index = tuple({"T": t, "C": c}.get(a, slice(1, 4)) for a in axes)
    left = [a for a in axes if a in "ZYX"]
    expected = array[index].transpose([left.index(a) for a in "ZYX"])
    read = stack.read(t, c, *(slice(1, 4),) * 3)
    assert_same(read, expected.astype(np.dtype(dtype).newbyteorder("=")))
    again = pickle.loads(pickle.dumps(stack))
    assert_same(again.read(t, c, *(slice(1, 4),) * 3), read)


def test_dask_computes_no_more_than_the_window():
    computed = []

    def block(block_info: dict) -> np.ndarray:
        computed.append(block_info[None]["chunk-location"])
        return np.zeros((1, 8, 8), np.uint8)

    array = dask.array.map_blocks(block, chunks=((1,) * 6, (8,) * 6, (8,) * 6), dtype="u1")
    stack = wrap_array(array)
    assert stack.chunk_bytes == 64
    computed.clear()
    stack.read(0, 0, slice(1, 3), slice(8, 16), slice(0, 9))
    assert sorted(computed) == [(1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 1)]


def test_what_is_read_from_memory_may_be_written_to(planes):
    before = planes.copy()
    stack = wrap_array(planes)
    stack.read(0, 0, WHOLE, WHOLE, WHOLE)[:] = 0
    assert_same(planes, before)
    assert stack.chunk_bytes == 0


def test_metadata_of_an_array_stay_with_it(planes):
    metadata = Metadata((0.5, 0.25), 2.0, "µm")
    stack = wrap_array(planes, metadata=metadata)
    assert stack.metadata == metadata
    assert pickle.loads(pickle.dumps(stack)).metadata == metadata


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_colours_come_last_and_transparency_of_grey_goes(rng, samples):
    array = rng.integers(0, 255, (4, samples, 9, 8)).astype(np.uint8)
    stack = wrap_array(array, "ZSYX")
    read = stack.read(0, 0, slice(1, 3), WHOLE, slice(2, 7))
    expected = array[1:3, :, :, 2:7]
    if samples < 3:
        assert stack.samples == 0
        assert_same(read, expected[:, 0])
    else:
        assert stack.samples == samples
        assert_same(read, np.moveaxis(expected, 1, -1))


def test_time_point_or_channel_that_is_not_there_is_named(planes):
    stack = wrap_array(planes)
    with pytest.raises(IPSError, match="no time point 1: it has 1"):
        stack.read(1, 0, WHOLE, WHOLE, WHOLE)
    with pytest.raises(IPSError, match="no channel -1"):
        stack.read(0, -1, WHOLE, WHOLE, WHOLE)


def test_file_that_shrinks_meanwhile_is_an_error_that_says_where(tmp_path, planes):
    path = write(tmp_path, "raw", planes)
    (stack,) = open_stacks(path)
    os.truncate(path, 5000)
    message = r"raw\.tif cannot be read.*at t 0, c 0, z 3:4, y 0:40, x 50:53\.$"
    with pytest.raises(IPSError, match=message):
        stack.read(0, 0, slice(3, 4), WHOLE, slice(50, 99))


def test_damaged_slice_of_a_folder_is_named(tmp_path, planes):
    folder = write(tmp_path, "png", planes)
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[: len(whole) // 2])
    (stack,) = open_stacks(folder)
    assert_same(stack.read(0, 0, slice(3), WHOLE, WHOLE), planes[:3])
    with pytest.raises(IPSError, match=r"3\.png cannot be read.*z 2:5"):
        stack.read(0, 0, slice(2, None), WHOLE, WHOLE)


def test_stack_describes_itself(planes):
    assert repr(wrap_array(planes)) == "<LazyStack 'array' (1, 1, 5, 40, 53) uint16>"
    assert isinstance(wrap_array(planes.tolist()), LazyStack)
