"""What is in focus in z-stacks is taken for training, and nothing else."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter
from skimage import data

from napari_ips import IPSError, TrainConfig
from napari_ips.errors import Stopped
from napari_ips.io import wrap_array
from napari_ips.training.images import load_images
from napari_ips.training.stacks import in_focus_images

SHARP = data.camera()[100:356, 100:356]


@pytest.fixture(scope="module")
def halves() -> np.ndarray:
    """Two slices, each sharp in one half, and a third that is sharp nowhere."""
    soft = gaussian_filter(SHARP.astype(float), 5).astype(np.uint8)
    left, right = SHARP.copy(), SHARP.copy()
    left[:, 128:], right[:, :128] = soft[:, 128:], soft[:, :128]
    return np.stack([soft, left, right])


def settings(path, **values) -> TrainConfig:
    run = {"images": (path,), "output": "w.safetensors", "iterations": 1, "crop_size": 32}
    return TrainConfig(**(run | {"device": "cpu"} | values))


def place(name: str) -> tuple[slice, slice]:
    y, x = (int(part.split()[-1]) for part in name.rsplit("tile at ")[1].split(","))
    return slice(y, y + 64), slice(x, x + 64)


def test_the_best_tiles_are_those_of_the_sharp_image(halves):
    tiles = dict(in_focus_images(wrap_array(halves, "ZYX"), "best", crop_size=32))
    assert len(tiles) >= 12
    for name, tile in tiles.items():
        np.testing.assert_array_equal(tile, SHARP[place(name)])


def test_noise_in_a_tile_is_not_taken_for_detail(rng):
    stack = rng.normal(100, 30, (4, 64, 128)).clip(0)
    stack[2, :, :64] += 10.0 * SHARP[:64, 64:128]
    names = [name for name, _ in in_focus_images(wrap_array(stack), "best", crop_size=32)]
    assert names == ["array, tile at y 0, x 0"]


def test_every_time_point_and_channel_is_taken_in_its_dtype(halves):
    many = np.stack([halves, halves])[:, None].astype(np.uint16) * 11
    stack = wrap_array(many, "TCZYX", name="cells")
    images = dict(in_focus_images(stack, "best", crop_size=64))
    assert {name.partition(", tile")[0] for name in images} == {
        "cells, time point 0", "cells, time point 1",
    }  # fmt: skip
    assert {image.dtype for image in images.values()} == {np.dtype(np.uint16)}
    slices = dict(in_focus_images(stack, "slices"))
    assert len(slices) == 6
    np.testing.assert_array_equal(slices["cells, time point 1, slice 2"], many[1, 0, 2])


def test_colours_stay_together(halves):
    coloured = np.stack([halves, halves // 2, halves // 3], axis=-1)
    tiles = dict(in_focus_images(wrap_array(coloured, "ZYXS"), "best", crop_size=64))
    assert {tile.shape for tile in tiles.values()} == {(128, 128, 3)}


def test_a_fused_stack_has_the_values_that_were_recorded(halves):
    stack = wrap_array(halves, "ZYX")
    tiles = dict(in_focus_images(stack, "fused", crop_size=32, device="cpu"))
    assert tiles
    for name, tile in tiles.items():
        y, x = place(name)
        assert (tile == halves[:, y, x]).any(axis=0).all()
        # Close to the seam of the halves a few pixels may be of the other slice.
        assert (tile == SHARP[y, x]).mean() > 0.9


def test_work_on_a_stack_stops_when_asked(halves):
    stop = threading.Event()
    stop.set()
    for method in ("slices", "best", "fused"):
        with pytest.raises(Stopped):
            list(in_focus_images(wrap_array(halves, "ZYX"), method, stop=stop))


def test_files_are_stacks_only_where_they_have_slices(halves, tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", halves, photometric="minisblack")
    tifffile.imwrite(tmp_path / "flat.tif", SHARP)
    by_slice = load_images(settings(tmp_path))
    assert [image.pixels for image in by_slice.images] == [256 * 256] * 3
    assert [name.rpartition("/")[2] for name, _ in by_slice.rejected] == ["stack.tif"]
    best = load_images(settings(tmp_path, z_stacks="best"))
    assert best.images[0].pixels == 256 * 256
    assert {image.pixels for image in best.images[1:]} == {64 * 64}
    assert len(best.images) > 12
    assert best.images[1].name.startswith(f"{tmp_path / 'stack.tif'}, tile at ")


def test_a_stack_that_is_nowhere_in_focus_is_left_out_with_the_reason(halves, tmp_path):
    soft = np.stack([halves[0], halves[0]])
    tifffile.imwrite(tmp_path / "soft.tif", soft, photometric="minisblack")
    with pytest.raises(IPSError, match="of which nothing is in focus"):
        load_images(settings(tmp_path, z_stacks="best", crop_size=64))
