"""OME-Zarr of both versions: axes, scales, channels, plates, series, damage."""

from __future__ import annotations

import itertools
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ips.errors import IPSError
from napari_ips.io import Channel, Metadata, open_stacks, read_image, read_pages

assert_same = partial(np.testing.assert_array_equal, strict=True)
WHOLE = slice(None)
KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def set_ome(group: zarr.Group, version: str, **described: Any) -> None:
    """Write metadata where each version of OME-Zarr has them."""
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", **described}
    else:
        group.attrs.update(described)


def write_image(
    group: zarr.Group, data: np.ndarray, axes: str, version: str = "0.5", **more: Any
) -> None:
    """Write an image of two resolutions, its axes called by their lower-case letters."""
    for level in (0, 1):
        group.create_array(
            f"s{level}", data=data[..., :: 1 + level], chunks=(2,) * data.ndim
        )
    described = [{"name": a, "type": KINDS[a]} for a in axes]
    for axis in described:
        if axis["name"] in UNITS:
            axis["unit"] = UNITS[axis["name"]]
    scale = {"t": 30.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}
    transforms = [{"type": "scale", "scale": [scale[a] for a in axes]}]
    image = {
        "axes": described,
        "datasets": [
            {"path": f"s{level}", "coordinateTransformations": transforms}
            for level in (0, 1)
        ],
        **more.pop("image", {}),
    }
    if version == "0.4":
        image["version"] = "0.4"
    set_ome(group, version, multiscales=[image], **more)


def open_group(path: Path, version: str) -> zarr.Group:
    return zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)


@settings(max_examples=20)
@given(
    axes=st.permutations("tczyx"),
    absent=st.sampled_from(["", "t", "c", "tc"]),
    dtype=st.sampled_from(["u1", "<u2", ">u2", "i4", "f4"]),
    version=st.sampled_from(["0.4", "0.5"]),
)
def test_image_of_any_order_of_axes_is_read(tmp_path_factory, axes, absent, dtype, version):
    axes = "".join(a for a in axes if a not in absent)
    lengths = {"t": 2, "c": 2, "z": 3, "y": 4, "x": 5}
    shape = tuple(lengths[a] for a in axes)
    data = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = tmp_path_factory.mktemp("any") / "image.zarr"
    write_image(open_group(path, version), data, axes, version)
    (stack,) = open_stacks(path)
    assert stack.axes == axes.upper()
    assert stack.dtype == np.dtype(dtype).newbyteorder("=")
    left = [a for a in axes if a in "zyx"]
    for t, c in itertools.product(range(stack.shape[0]), range(stack.shape[1])):
        index = tuple({"t": t, "c": c}.get(a, WHOLE) for a in axes)
        expected = data[index].transpose([left.index(a) for a in "zyx"])
        assert_same(stack.read(t, c, WHOLE, WHOLE, WHOLE), expected.astype(stack.dtype))
    assert stack.metadata.pixel_size == (0.5, 0.25)
    assert (stack.metadata.z_step, stack.metadata.unit) == (2.0, "µm")
    expected_time = (30.0, "s") if "t" in axes else (None, None)
    assert (stack.metadata.time_step, stack.metadata.time_unit) == expected_time


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channels_and_origin_are_read(tmp_path, version):
    channels = [
        {"label": "DAPI", "color": "0000ff", "window": {"start": 3, "end": 900, "min": 0}},
        {"label": "", "color": "no colour"},
    ]
    shift = {"type": "translation", "translation": [0, 10.0, 1.0, 2.0]}
    zoom = {"type": "scale", "scale": [1, 2, 2, 2]}
    transforms = [zoom, {"type": "translation", "translation": [0, 1.0, 1.0, 1.0]}]
    group = open_group(tmp_path / "image.zarr", version)
    data = np.zeros((2, 3, 4, 5), np.uint8)
    image = {"coordinateTransformations": transforms}
    write_image(group, data, "czyx", version, image=image, omero={"channels": channels})
    described = group.attrs["ome"] if version == "0.5" else group.attrs.asdict()
    described["multiscales"][0]["datasets"][0]["coordinateTransformations"] += [shift]
    group.attrs.update({"ome": described} if version == "0.5" else described)
    (stack,) = open_stacks(tmp_path / "image.zarr")
    assert stack.metadata.channels == (Channel("DAPI", "0000FF", (3.0, 900.0)), Channel())
    assert stack.metadata.pixel_size == (1.0, 0.5)
    assert stack.metadata.z_step == 4.0
    assert stack.metadata.origin == (21.0, 3.0, 5.0)


def test_types_tell_axes_whose_names_do_not(tmp_path):
    group = open_group(tmp_path / "image.zarr", "0.5")
    write_image(group, np.zeros((2, 3, 4, 5), np.uint8), "czyx")
    described = group.attrs["ome"]
    names = ("stain", "depth", "row", "column")
    for axis, name in zip(described["multiscales"][0]["axes"], names, strict=True):
        axis["name"] = name
    group.attrs["ome"] = described
    (stack,) = open_stacks(tmp_path / "image.zarr")
    assert stack.axes == "CZYX"
    assert stack.metadata.z_step == 2.0


def test_unknown_axis_is_refused_unless_of_length_one(tmp_path):
    for length in (1, 2):
        group = open_group(tmp_path / f"{length}.zarr", "0.5")
        write_image(group, np.zeros((length, 3, 4, 5), np.uint8), "czyx")
        described = group.attrs["ome"]
        described["multiscales"][0]["axes"][0] = {"name": "angle"}
        group.attrs["ome"] = described
    (stack,) = open_stacks(tmp_path / "1.zarr")
    assert stack.shape == (1, 1, 3, 4, 5)
    with pytest.raises(IPSError, match=r"axes \?ZYX.*--axes CZYX"):
        open_stacks(tmp_path / "2.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_series_of_bioformats2raw_are_positions(tmp_path, rng, version):
    data = rng.integers(0, 99, (3, 3, 4, 5)).astype(np.uint8)
    for path, listed in ((tmp_path / "a.zarr", None), (tmp_path / "b.zarr", ["2", "0"])):
        root = open_group(path, version)
        set_ome(root, version, **{"bioformats2raw.layout": 3})
        for n in range(3):
            write_image(root.create_group(str(n)), data[n], "zyx", version)
        if listed:
            set_ome(root.create_group("OME"), version, series=listed)
        stacks = open_stacks(path)
        assert [stack.name for stack in stacks] == (listed or ["0", "1", "2"])
        for stack in stacks:
            again = pickle.loads(pickle.dumps(stack))
            assert_same(again.read(0, 0, WHOLE, WHOLE, WHOLE), data[int(stack.name)])
            assert again.name == stack.name


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_fields_of_a_plate_are_positions(tmp_path, rng, version):
    data = rng.integers(0, 99, (4, 3, 4, 5)).astype(np.uint8)
    root = open_group(tmp_path / "plate.zarr", version)
    wells = ("A/1", "B/2")
    set_ome(root, version, plate={"wells": [{"path": well} for well in wells]})
    for n, well in enumerate(wells):
        group = root.create_group(well)
        set_ome(group, version, well={"images": [{"path": "0"}, {"path": "1"}]})
        for field in (0, 1):
            write_image(group.create_group(str(field)), data[2 * n + field], "zyx", version)
    stacks = open_stacks(tmp_path / "plate.zarr")
    assert [stack.name for stack in stacks] == ["A/1/0", "A/1/1", "B/2/0", "B/2/1"]
    for stack, expected in zip(stacks, data, strict=True):
        assert_same(stack.read(0, 0, WHOLE, WHOLE, WHOLE), expected)
    assert [stack.name for stack in open_stacks(tmp_path / "plate.zarr" / "B" / "2")] == [
        "0",
        "1",
    ]
    assert len(list(read_pages(tmp_path / "plate.zarr"))) == 12
    with pytest.raises(IPSError, match="more than one image"):
        read_image(tmp_path / "plate.zarr")


def test_missing_field_of_a_plate_is_named(tmp_path):
    root = open_group(tmp_path / "plate.zarr", "0.5")
    set_ome(root, "0.5", plate={"wells": [{"path": "A/1"}]})
    set_ome(root.create_group("A/1"), "0.5", well={"images": [{"path": "7"}]})
    with pytest.raises(IPSError, match=r"plate\.zarr/A/1/7 cannot be read"):
        open_stacks(tmp_path / "plate.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("compressors", ["auto", None])
def test_missing_chunk_is_the_fill_value_and_a_damaged_one_an_error(
    tmp_path, stack, zarr_format, compressors
):
    path = tmp_path / "stack.zarr"
    zarr.create_array(
        path,
        data=stack,
        chunks=(1, 12, 31),
        zarr_format=zarr_format,
        compressors=compressors,
        fill_value=7,
    )
    chunk = path / ("3.1.0" if zarr_format == 2 else "c/3/1/0")
    (opened,) = open_stacks(path)
    content = chunk.read_bytes()
    chunk.unlink()
    expected = stack.copy()
    expected[3, 12:] = 7
    assert_same(opened.read(0, 0, WHOLE, WHOLE, WHOLE), expected)
    chunk.write_bytes(content[:50])
    assert_same(opened.read(0, 0, slice(3), WHOLE, WHOLE), stack[:3])
    place = r"stack\.zarr cannot be read.*at t 0, c 0, z 3:4, y 10:13, x 0:31\."
    with pytest.raises(IPSError, match=place) as raised:
        opened.read(0, 0, slice(3, 4), slice(10, 13), WHOLE)
    assert "\n" not in str(raised.value)


def test_names_that_xarray_keeps_in_zarr_2_are_read(tmp_path):
    array = zarr.create_array(
        tmp_path / "xarray.zarr", shape=(20, 30, 2, 5), dtype="u1", zarr_format=2
    )
    array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x", "channel", "z"]
    (stack,) = open_stacks(tmp_path / "xarray.zarr")
    assert stack.shape == (1, 2, 5, 20, 30)


def test_scale_of_ones_without_units_tells_nothing(tmp_path):
    group = open_group(tmp_path / "image.zarr", "0.5")
    write_image(group, np.zeros((3, 4, 5), np.uint8), "zyx")
    described = group.attrs["ome"]
    for axis in described["multiscales"][0]["axes"]:
        axis.pop("unit")
    ones = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    described["multiscales"][0]["datasets"][0]["coordinateTransformations"] = ones
    group.attrs["ome"] = described
    (stack,) = open_stacks(tmp_path / "image.zarr")
    assert stack.metadata == Metadata()
