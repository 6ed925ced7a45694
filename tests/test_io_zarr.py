from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_ips.errors import IPSError
from napari_ips.io import (
    read_image,
    read_pages,
    read_stack,
    write_image,
)

assert_same = partial(np.testing.assert_array_equal, strict=True)


def write_ome_zarr(folder: Path, data: np.ndarray, axes: str, version: str) -> None:
    group = zarr.open_group(folder, mode="w", zarr_format=3 if version == "0.5" else 2)
    for level, step in enumerate((1, 2)):
        part = data[..., ::step, ::step]
        group.create_array(str(level), data=part, chunks=(1,) * (part.ndim - 2) + (16, 16))
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": name, "type": kinds.get(name, "space")} for name in axes]
    for axis in described:
        if axis["type"] == "space":
            axis["unit"] = "micrometer"
    size = {"z": 2.0, "y": 0.5, "x": 0.25}
    steps = [
        [{"type": "scale", "scale": [size.get(name, 1) * level for name in axes]}]
        for level in (1, 2)
    ]
    datasets = [
        {"path": str(level), "coordinateTransformations": steps[level]} for level in (0, 1)
    ]
    image = {"version": version, "axes": described, "datasets": datasets}
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [image]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_is_read_at_its_highest_resolution(tmp_path, stack, version):
    write_ome_zarr(tmp_path / "stack.zarr", stack[None, None], "tczyx", version)
    result = read_stack(tmp_path / "stack.zarr")
    assert_same(result.data, stack)
    assert (result.pixel_size, result.z_step, result.unit) == ((0.5, 0.25), 2.0, "µm")


def test_ome_zarr_with_channels_is_refused(tmp_path, stack):
    write_ome_zarr(tmp_path / "stack.zarr", np.stack([stack, stack]), "czyx", "0.5")
    with pytest.raises(IPSError, match="2 channels"):
        read_stack(tmp_path / "stack.zarr")
    assert len(list(read_pages(tmp_path / "stack.zarr"))) == 10


def test_bare_zarr_array_is_read(tmp_path, stack, colour):
    zarr.create_array(tmp_path / "grey.zarr", data=stack)
    zarr.create_array(tmp_path / "colour.zarr", data=colour)
    names = ("y", "x", "z")
    turned = np.moveaxis(stack, 0, 2)
    zarr.create_array(tmp_path / "named.zarr", data=turned, dimension_names=names)
    assert_same(read_stack(tmp_path / "grey.zarr").data, stack)
    assert_same(read_stack(tmp_path / "colour.zarr").data, colour)
    assert_same(read_stack(tmp_path / "named.zarr").data, stack)


@pytest.mark.parametrize("kind", ["zarr", "tif", "png"])
def test_foreign_byte_order_becomes_our_own(tmp_path, stack, kind):
    foreign = stack.astype(stack.dtype.newbyteorder("S"))
    file = tmp_path / f"stack.{kind}"
    if kind == "zarr":
        zarr.create_array(file, data=foreign, zarr_format=2)
    elif kind == "tif":
        tifffile.imwrite(file, foreign, byteorder=">", photometric="minisblack")
    else:
        write_image(file, foreign[0])
        assert_same(read_image(file), stack[0])
        return
    assert_same(read_stack(file).data, stack)
    assert_same(np.stack(list(read_pages(file))), stack)


def test_zarr_group_of_something_else_says_what_to_pass(tmp_path, stack):
    group = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    group.create_array("0", data=stack)
    with pytest.raises(IPSError, match=r"plate\.zarr/0"):
        read_stack(tmp_path / "plate.zarr")


def test_damaged_chunk_of_a_zarr_array_is_refused(tmp_path, stack):
    zarr.create_array(tmp_path / "stack.zarr", data=stack, chunks=(1, 24, 31))
    chunk = tmp_path / "stack.zarr" / "c" / "3" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(IPSError, match=r"stack\.zarr cannot be read"):
        read_stack(tmp_path / "stack.zarr")
    pages = read_pages(tmp_path / "stack.zarr")
    assert_same(next(pages), stack[0])
    with pytest.raises(IPSError, match=r"stack\.zarr cannot be read"):
        list(pages)
