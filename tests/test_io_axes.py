"""Which axis is which, and what is said when that is not clear."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile
import zarr

from napari_ips.errors import IPSError
from napari_ips.io import open_stacks, wrap_array


@pytest.mark.parametrize(
    ("shape", "axes", "samples"),
    [
        ((5, 20, 30), "ZYX", 0),
        ((20, 20, 20), "ZYX", 0),
        ((300, 20, 20), "ZYX", 0),
        ((5, 20, 30, 3), "ZYXS", 3),
        ((5, 20, 30, 4), "ZYXS", 4),
    ],
)
def test_array_without_names_is_a_stack_where_that_is_clear(tmp_path, shape, axes, samples):
    array = np.zeros(shape, np.uint8)
    zarr.create_array(tmp_path / "stack.zarr", data=array)
    for stack in (wrap_array(array), *open_stacks(tmp_path / "stack.zarr")):
        assert (stack.axes, stack.samples) == (axes, samples)


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((200, 200, 5), "--axes ZYX or --axes YXZ"),
        ((30, 40, 20), "--axes ZYX or --axes YXZ"),
        ((2, 5, 20, 30), "--axes CZYX"),
        ((2, 3, 5, 20, 30), "--axes TCZYX"),
        ((2, 5, 20, 30, 3), "--axes CZYXS"),
        ((4, 2, 3, 5, 20, 30), "--axes PTCZYX"),
        ((200, 200, 3), "--axes YXZ"),
    ],
)
def test_array_that_may_be_several_things_is_refused_with_advice(tmp_path, shape, advice):
    array = np.zeros(shape, np.uint8)
    zarr.create_array(tmp_path / "stack.zarr", data=array)
    message = f"{re.escape(str(shape))}.*{advice}"
    with pytest.raises(IPSError, match=message):
        wrap_array(array)
    with pytest.raises(IPSError, match=message) as raised:
        open_stacks(tmp_path / "stack.zarr")
    assert "\n" not in str(raised.value)
    assert open_stacks(tmp_path / "stack.zarr", axes=advice.split()[-1])


@pytest.mark.parametrize("options", [{}, {"planarconfig": "contig"}, {"metadata": None}])
def test_tiff_whose_slices_may_be_last_is_refused(tmp_path, rng, options):
    array = rng.integers(0, 99, (200, 190, 5)).astype(np.uint8)
    file = tmp_path / "last.tif"
    tifffile.imwrite(file, array, photometric="minisblack", **options)
    with pytest.raises(IPSError, match=r"\(200, 190, 5\).*--axes YXZ"):
        open_stacks(file)
    (stack,) = open_stacks(file, axes="YXZ")
    read = stack.read(0, 0, slice(1, 3), slice(7, 60), slice(50, 99))
    np.testing.assert_array_equal(read, np.moveaxis(array, 2, 0)[1:3, 7:60, 50:99])


@pytest.mark.parametrize("axes", ["YX", "TCYX", "CYX", "YXS"])
def test_image_without_z_axis_is_refused(axes):
    with pytest.raises(IPSError, match="no z axis|is one image"):
        wrap_array(np.zeros((4, 4, 4, 4)[: len(axes)]), axes)


def test_z_axis_of_one_slice_is_a_stack_of_one(tmp_path):
    array = np.arange(600, dtype=np.uint16).reshape(1, 20, 30)
    zarr.create_array(tmp_path / "one.zarr", data=array, dimension_names=["z", "y", "x"])
    for stack in (wrap_array(array, "ZYX"), *open_stacks(tmp_path / "one.zarr")):
        assert stack.shape == (1, 1, 1, 20, 30)
        whole = slice(None)
        np.testing.assert_array_equal(stack.read(0, 0, whole, whole, whole), array)


@pytest.mark.parametrize("axes", ["ZY", "ZZX", "ABC", "ZYXS", "ZQX", ""])
def test_axes_that_do_not_fit_are_refused(axes):
    with pytest.raises(IPSError, match=r"shape \(5, 20, 30\).*do not fit"):
        wrap_array(np.zeros((5, 20, 30)), axes)


def test_empty_array_and_foreign_values_are_refused():
    with pytest.raises(IPSError, match="nothing in it"):
        wrap_array(np.zeros((5, 0, 30)))
    with pytest.raises(IPSError, match="complex64 values"):
        wrap_array(np.zeros((5, 20, 30), np.complex64))


def test_positions_along_an_axis_are_looped_over(tmp_path, rng):
    array = rng.integers(0, 99, (3, 4, 20, 30)).astype(np.uint8)
    zarr.create_array(tmp_path / "many.zarr", data=array)
    stacks = open_stacks(tmp_path / "many.zarr", axes="PZYX")
    assert [stack.name for stack in stacks] == [f"many.zarr[{n}]" for n in range(3)]
    whole = slice(None)
    for stack, expected in zip(stacks, array, strict=True):
        assert stack.shape == (1, 1, 4, 20, 30)
        np.testing.assert_array_equal(stack.read(0, 0, whole, whole, whole), expected)


def test_chosen_axes_keep_of_the_scale_what_they_leave_in_place(tmp_path, rng):
    array = rng.integers(0, 99, (4, 20, 30)).astype(np.uint8)
    file = tmp_path / "named.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(file, array, ome=True, metadata={"axes": "ZYX", **sizes})
    (told,) = open_stacks(file)
    assert told.metadata.pixel_size == (0.25, 0.5)
    assert told.metadata.z_step == 2.0
    (turned,) = open_stacks(file, axes="YXZ")
    assert (turned.metadata.pixel_size, turned.metadata.z_step) == (None, None)
    tifffile.imwrite(file, array, ome=True, metadata={"axes": "TYX", **sizes})
    (renamed,) = open_stacks(file, axes="ZYX")
    assert (renamed.metadata.pixel_size, renamed.metadata.z_step) == ((0.25, 0.5), None)
