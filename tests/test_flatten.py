import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ips.errors import IPSError
from napari_ips.evaluation.baselines import (
    best_single_slice,
    max_projection,
    mean_projection,
    window_energy,
)
from napari_ips.evaluation.projections import METHODS, Flattening
from napari_ips.io import wrap_array

WHOLE = {
    "max": max_projection,
    "mean": mean_projection,
    "slice": lambda stack: best_single_slice(stack).fused,
    "window": lambda stack: window_energy(stack).fused,
}


def noise(*shape, dtype="uint16", seed=0):
    return (np.random.default_rng(seed).random(shape) * 250).astype(dtype)


def flatten(*args, **kwargs):
    steps = Flattening(*args, **kwargs)
    assert len(list(steps)) > 0
    return steps.image


class Recorder:
    """An array that notes how much of it is read at once."""

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read = []

    def __getitem__(self, index):
        part = self._array[index]
        self.read.append(part.size)
        return part


@pytest.mark.parametrize("method", METHODS)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 70), st.integers(1, 70)),
    colours=st.sampled_from([(), (3,)]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    tile=st.integers(1, 40),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_tiles_give_the_pixels_of_the_whole(method, size, colours, dtype, tile, seed):
    array = noise(*size, *colours, dtype=dtype, seed=seed)
    stack = wrap_array(array, "ZYXS" if colours else "ZYX")
    # A tile of one pixel has to read some 700 around it.
    tile = max(tile, size[1] // 4, size[2] // 4)
    result = flatten(stack, method=method, tile=tile)
    np.testing.assert_array_equal(result, WHOLE[method](array))
    assert result.dtype == array.dtype


@pytest.mark.parametrize("method", METHODS)
def test_time_channel_and_slices_are_those_asked_for(method):
    array = noise(2, 3, 5, 20, 30)
    result = flatten(wrap_array(array, "TCZYX"), 1, 2, slice(1, 4), method)
    np.testing.assert_array_equal(result, WHOLE[method](array[1, 2, 1:4]))


@pytest.mark.parametrize("method", METHODS)
def test_memory_holds_one_slice_of_a_tile_at_a_time(method):
    array = Recorder(noise(9, 200, 200))
    flatten(wrap_array(array, "ZYX"), method=method, tile=50)
    assert max(array.read) <= 76**2


@pytest.mark.parametrize("method", METHODS)
def test_lazy_arrays_in_chunks_of_several_slices(method):
    array = noise(7, 90, 100)
    chunks = (3, 32, 48)
    expected = WHOLE[method](array)
    lazy = da.from_array(array, chunks=chunks)
    np.testing.assert_array_equal(flatten(wrap_array(lazy, "ZYX"), method=method), expected)
    stored = zarr.create_array({}, data=array, chunks=chunks)
    result = flatten(wrap_array(stored, "ZYX"), method=method, tile=40)
    np.testing.assert_array_equal(result, expected)


def test_chunks_of_several_slices_are_decoded_once():
    array = noise(8, 64, 64)
    decoded = []

    def decode(block, block_info=None):
        decoded.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(array, chunks=(4, 32, 32)).map_blocks(decode, dtype=array.dtype)
    decoded.clear()
    flatten(wrap_array(lazy, "ZYX"))
    assert len(decoded) == len(set(decoded)) == 8


@pytest.mark.parametrize("method", ["slice", "window"])
def test_a_slice_of_missing_values_is_never_the_sharpest(method):
    array = noise(4, 30, 40, dtype="float32")
    array[0] = np.nan
    array[2] = np.inf
    result = flatten(wrap_array(array, "ZYX"), method=method)
    np.testing.assert_array_equal(result, WHOLE[method](array))
    assert np.isfinite(result).all()


@pytest.mark.parametrize("method", METHODS)
def test_progress_ends_with_all_steps(method):
    seen = list(Flattening(wrap_array(noise(4, 50, 70), "ZYX"), method=method, tile=32))
    assert [event.done for event in seen] == list(range(1, seen[-1].total + 1))
    assert len({event.task for event in seen}) == 1


def test_nothing_is_read_after_the_work_is_left():
    array = Recorder(noise(50, 60, 60))
    for progress in Flattening(wrap_array(array, "ZYX"), tile=30):
        if progress.done == 3:
            break
    assert len(array.read) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "median"}, "no method 'median'"),
        ({"z": slice(4, 4)}, "no slice"),
        ({"t": 1}, "no time point 1"),
        ({"c": 2}, "no channel 2"),
    ],
)
def test_what_cannot_be_flattened_is_refused_in_one_line(options, words):
    with pytest.raises(IPSError, match=words) as caught:
        flatten(wrap_array(noise(4, 8, 8), "ZYX"), **options)
    assert "\n" not in str(caught.value)
