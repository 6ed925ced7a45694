import threading

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_ips import FuseConfig, IPSError, fuse_stack, fuse_to_file
from napari_ips.events import Begun, TileDone
from napari_ips.fusion import Stopped, fuse_to_arrays, window
from napari_ips.io import Metadata, wrap_array

TILED = FuseConfig(tile=256)


@pytest.fixture(scope="module")
def movie():
    """(T, C, Z, Y, X), of which every z-stack differs."""
    values = np.random.default_rng(5).integers(0, 4000, (2, 2, 3, 64, 300))
    return values.astype(np.uint16)


def test_each_z_stack_is_fused_as_if_alone(movie):
    fused = fuse_to_arrays(wrap_array(movie, "TCZYX"))
    assert fused.fused.shape == fused.depth.shape == (2, 2, 64, 300)
    for t, c in np.ndindex(2, 2):
        alone = fuse_stack(movie[t, c])
        for name in ("fused", "index", "depth", "confidence"):
            np.testing.assert_array_equal(getattr(fused, name)[t, c], getattr(alone, name))


@pytest.mark.parametrize("kind", ["dask", "zarr", "axes in another order"])
def test_where_the_pixels_come_from_makes_no_difference(kind, movie, tmp_path):
    expected = fuse_to_arrays(wrap_array(movie, "TCZYX"))
    array, axes = movie, "TCZYX"
    if kind == "dask":
        array = da.from_array(movie, chunks=(1, 1, 1, 64, 300))
    elif kind == "zarr":
        array = zarr.create_array(tmp_path / "a", data=movie, chunks=(1, 1, 3, 32, 100))
    else:
        array, axes = movie.transpose(2, 1, 3, 4, 0), "ZCYXT"
    fused = fuse_to_arrays(wrap_array(array, axes))
    np.testing.assert_array_equal(fused.fused, expected.fused)


def test_memory_and_file_hold_the_same(movie, tmp_path):
    stack = wrap_array(movie, "TCZYX", Metadata((0.5, 0.5), 2.0, "µm"))
    options = {"slices": (1, None), "reference_channel": 1, "config": TILED}
    arrays = fuse_to_arrays(stack, **options)
    fuse_to_file(stack, tmp_path / "f.ome.tif", depth=tmp_path / "d.ome.tif", **options)
    assert arrays.index.shape == (2, 1, 64, 300)
    assert arrays.index.min() == 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "f.ome.tif"), arrays.fused)
    assert arrays.depth.min() >= 2.0


def test_arrays_are_seen_filling_tile_by_tile(movie):
    stack = wrap_array(np.tile(movie[0, 0], (1, 1, 2)), "ZYX")
    events = []
    filled = []

    def watch(event):
        events.append(event)
        if isinstance(event, TileDone):
            confidence = events_of(Begun)[0].arrays["confidence"]
            filled.append(int((confidence[0, 0] > 0).any(axis=0).sum()))
            assert confidence[event.t, event.c, event.y, event.x].any()

    def events_of(kind):
        return [event for event in events if isinstance(event, kind)]

    result = fuse_to_arrays(stack, config=TILED, callback=watch)
    (begun,) = events_of(Begun)
    assert begun.arrays["fused"] is result.fused
    assert filled == sorted(filled)
    assert filled[0] < filled[-1] == 600


def test_a_file_that_comes_to_be_can_be_watched(movie, tmp_path):
    seen = []

    def watch(event):
        if isinstance(event, Begun):
            seen.append(event.arrays["fused"])
        elif isinstance(event, TileDone):
            assert np.asarray(seen[0][event.t, event.c, event.y, event.x]).any()

    stack = wrap_array(movie, "TCZYX")
    fuse_to_file(stack, tmp_path / "f.ome.zarr", config=TILED, callback=watch)
    assert seen[0].shape == (2, 2, 64, 300)


@pytest.mark.parametrize("kind", ["arrays", "file"])
def test_it_stops_within_a_tile(kind, tmp_path, monkeypatch):
    """One tile of 1024 pixels, which the network sees in more than twenty parts."""
    stop = threading.Event()
    compared = []
    known = window.log_odds

    def stopped(*args, **options):
        compared.append(args)
        stop.set()
        return known(*args, **options)

    monkeypatch.setattr(window, "log_odds", stopped)
    stack = wrap_array(np.random.default_rng(0).random((2, 1024, 1024), np.float32), "ZYX")
    options = {"config": FuseConfig(tile=1024, skip=False), "stop": stop}
    with pytest.raises(Stopped):
        if kind == "arrays":
            fuse_to_arrays(stack, **options)
        else:
            fuse_to_file(stack, tmp_path / "f.tif", **options)
    # Of two slices there is one pair, so that no two threads are at a part.
    assert len(compared) == 1
    assert not (tmp_path / "f.tif").exists()


def test_a_result_larger_than_memory_is_refused():
    endless = da.zeros((2, 10**6, 10**7), np.uint8, chunks=(1, 1024, 1024))
    with pytest.raises(IPSError, match="more than there is memory; fuse into a file"):
        fuse_to_arrays(wrap_array(endless, "ZYX"), config=TILED)
