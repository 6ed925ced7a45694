"""Images fused by an index map that was edited by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_ips.errors import IPSError
from napari_ips.fusion import apply_index, fused_tiles, take_slices
from napari_ips.io import Metadata, read_index, wrap_array
from napari_ips.io.results import write_result


def by_hand(stack: np.ndarray, index: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(index.shape)
    return stack[index, rows, columns]


class Counted:
    """An array that tells what was read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.read: list[tuple[int, ...]] = []

    def __getitem__(self, key):
        part = self._array[key]
        self.read.append(part.shape)
        return part


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.booleans(), st.integers(1, 4))
def test_each_pixel_comes_from_the_slice_the_map_names(seed, slices, rgb, depth):
    rng = np.random.default_rng(seed)
    shape = (slices, 12, 17, 3) if rgb else (slices, 12, 17)
    stack = rng.integers(0, 4000, shape).astype(np.uint16)
    index = rng.integers(0, slices, (12, 17))
    chunked = zarr.create_array(
        {}, shape=shape, chunks=(depth, 5, 6, *shape[3:]), dtype="u2"
    )
    chunked[:] = stack
    axes = "ZYXS" if rgb else "ZYX"
    for source in (stack, chunked):
        fused = apply_index(wrap_array(source, axes), index)
        assert fused.dtype == np.uint16
        assert np.array_equal(fused[0, 0], by_hand(stack, index))


def test_only_the_wanted_pixels_are_taken_and_little_else_is_read(stack):
    source = Counted(stack)
    index = np.full((10, 10), 99)
    where = np.zeros((10, 10), bool)
    where[2:4, 3:6], where[8, 8] = True, True
    index[2:4, 3:6], index[8, 8] = 4, 1
    area = (slice(5, 15), slice(6, 16))
    pixels = take_slices(wrap_array(source, "ZYX"), index, area, where=where)
    expected = np.zeros((10, 10), np.uint16)
    expected[2:4, 3:6] = stack[4, 7:9, 9:12]
    expected[8, 8] = stack[1, 13, 14]
    assert np.array_equal(pixels, expected)
    assert sum(int(np.prod(shape)) for shape in source.read) == 7


def test_time_points_and_channels_each_have_their_slices(rng):
    stack = rng.random((2, 3, 4, 8, 9)).astype(np.float32)
    index = rng.integers(0, 4, (2, 3, 8, 9))
    fused = apply_index(wrap_array(stack, "TCZYX"), index)
    for t, c in np.ndindex(2, 3):
        assert np.array_equal(fused[t, c], by_hand(stack[t, c], index[t, c]))
    shared = apply_index(wrap_array(stack, "TCZYX"), index[:, :1])
    assert np.array_equal(shared[1, 2], by_hand(stack[1, 2], index[1, 0]))
    assert np.array_equal(apply_index(wrap_array(stack, "TCZYX"), index[:, 0]), shared)


def test_tiles_cover_the_image_once_and_are_counted(rng):
    stack = wrap_array(rng.integers(0, 9, (2, 1100, 2100)).astype(np.uint8), "ZYX")
    index = rng.integers(0, 2, (1100, 2100))
    events = []
    fused = apply_index(stack, index, events.append)
    seen = np.zeros((1100, 2100), int)
    for event in events:
        seen[event.y, event.x] += 1
    assert (seen == 1).all()
    assert [event.done for event in events] == list(range(1, events[0].total + 1))
    assert len(events) > 1
    _, first = next(fused_tiles(stack, index))
    assert np.array_equal(first, fused[0, 0, events[0].y, events[0].x])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (np.zeros((24, 30), int), "24 x 31"),
        (np.zeros((2, 1, 24, 31), int), "1 time"),
        (np.full((24, 31), 5), "has 5, counted from 0"),
        (np.full((24, 31), -1), "names slices -1"),
        (np.zeros((24, 31)), "whole numbers"),
    ],
)
def test_a_map_that_does_not_fit_is_refused_in_one_line(stack, index, message):
    with pytest.raises(IPSError, match=message) as refused:
        apply_index(wrap_array(stack, "ZYX"), index)
    assert "\n" not in str(refused.value)


def test_a_window_that_does_not_fit_its_map_is_refused(stack):
    with pytest.raises(IPSError, match="does not fit"):
        take_slices(wrap_array(stack, "ZYX"), np.zeros((3, 3), int), np.s_[0:3, 0:4])


@pytest.mark.parametrize("name", ["map.ome.tif", "map.tif", "map.ome.zarr"])
@pytest.mark.parametrize("shape", [(1, 1, 24, 31), (3, 1, 24, 31), (2, 3, 24, 31)])
def test_a_saved_map_reads_back_the_same(tmp_path, rng, name, shape):
    index = rng.integers(0, 900, shape).astype(np.uint16)
    write_result(tmp_path / name, index, Metadata(), rgb=False, name="index", kind="index")
    assert np.array_equal(read_index(tmp_path / name), index)


def test_a_map_of_another_program_is_read(tmp_path, rng):
    index = rng.integers(0, 9, (24, 31)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "map.tif", index)
    assert np.array_equal(read_index(tmp_path / "map.tif")[0, 0], index)


def test_what_is_no_map_is_refused(tmp_path, rng):
    tifffile.imwrite(tmp_path / "depth.tif", rng.random((24, 31)).astype(np.float32))
    tifffile.imwrite(tmp_path / "stack.tif", rng.integers(0, 9, (5, 24, 31)).astype("u1"))
    with pytest.raises(IPSError, match="whole numbers"):
        read_index(tmp_path / "depth.tif")
    with pytest.raises(IPSError, match="Y and X"):
        read_index(tmp_path / "stack.tif")
