"""TIFF of every kind, opened without reading its pixels."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ips.errors import IPSError
from napari_ips.io import Channel, LazyStack, Metadata, open_stacks

assert_same = partial(np.testing.assert_array_equal, strict=True)
WHOLE = slice(None)
LENGTHS = {"T": 2, "C": 3, "Z": 4, "Y": 20, "X": 25}

OME = """<?xml version="1.0"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="25"
 SizeY="20" SizeZ="4" SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>
<TiffData IFD="0" FirstZ="0" PlaneCount="2"><UUID FileName="a.ome.tif">urn:uuid:a</UUID>
</TiffData>
<TiffData IFD="0" FirstZ="2" PlaneCount="2"><UUID FileName="b.ome.tif">urn:uuid:b</UUID>
</TiffData></Pixels></Image></OME>"""


def read_all(stack: LazyStack, t: int = 0, c: int = 0) -> np.ndarray:
    return stack.read(t, c, WHOLE, WHOLE, WHOLE)


def block(axes: str, dtype: str = "u2") -> np.ndarray:
    shape = [LENGTHS[a] for a in axes]
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def assert_holds(stack: LazyStack, data: np.ndarray, axes: str) -> None:
    """Compare every z-stack with data of these axes."""
    assert stack.shape == tuple(LENGTHS[a] if a in axes else 1 for a in "TCZYX")
    left = [a for a in axes if a in "ZYX"]
    for t, c in np.ndindex(stack.shape[:2]):
        part = data[tuple({"T": t, "C": c}.get(a, WHOLE) for a in axes)]
        part = part.transpose([left.index(a) for a in "ZYX"])
        assert_same(read_all(stack, t, c), part.astype(stack.dtype))


@settings(max_examples=20)
@given(
    leading=st.permutations("TCZ"),
    absent=st.sampled_from(["", "T", "C", "TC"]),
    dtype=st.sampled_from(["u1", "u2", "i2", "f4", "f8"]),
    options=st.sampled_from(
        [
            {},
            {"tile": (16, 16)},
            {"compression": "zlib"},
            {"compression": "lzw", "tile": (16, 16)},
        ]
    ),
    byteorder=st.sampled_from("<>"),
)
def test_ome_tiff_of_any_order_is_read(
    tmp_path_factory, leading, absent, dtype, options, byteorder
):
    axes = "".join(a for a in (*leading, "Y", "X") if a not in absent)
    data = block(axes, dtype)
    file = tmp_path_factory.mktemp("any") / "image.ome.tif"
    tifffile.imwrite(
        file,
        data,
        metadata={"axes": axes},
        byteorder=byteorder,
        photometric="minisblack",
        **options,
    )
    (stack,) = open_stacks(file)
    assert stack.axes == axes
    assert_holds(stack, data, axes)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_hyperstack_and_what_it_tells(tmp_path, compression):
    data = block("TZCYX")
    file = tmp_path / "hyper.tif"
    ramp = np.arange(256, dtype=np.uint8)
    tables = [np.stack([ramp * (n == c) for n in range(3)]) for c in range(3)]
    tifffile.imwrite(
        file,
        data,
        imagej=True,
        resolution=(4, 2),
        compression=compression,
        metadata={
            "axes": "TZCYX",
            "unit": "um",
            "spacing": 1.5,
            "finterval": 20.0,
            "LUTs": tables,
            "Ranges": (0, 10, 5, 500, 0, 65535),
        },
    )
    (stack,) = open_stacks(file)
    assert_holds(stack, data, "TZCYX")
    assert stack.metadata == Metadata(
        (0.5, 0.25),
        1.5,
        "µm",
        20.0,
        "s",
        channels=(
            Channel(None, "FF0000", (0, 10)),
            Channel(None, "00FF00", (5, 500)),
            Channel(None, "0000FF", (0, 65535)),
        ),
    )


def test_imagej_stack_described_by_its_first_page_only(tmp_path):
    """As ImageJ saves more than 4 GB."""
    data = block("ZYX")
    file = tmp_path / "large.tif"
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(file, data, imagej=True, truncate=True, metadata=metadata)
    with tifffile.TiffFile(file) as opened:
        assert len(opened.pages) == 1
    (stack,) = open_stacks(file)
    assert_holds(stack, data, "ZYX")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(IPSError, match=r"large\.tif cannot be read"):
        open_stacks(file)


def test_what_ome_xml_tells(tmp_path):
    file = tmp_path / "told.ome.tif"
    metadata = {
        "axes": "TCZYX",
        "Channel": {"Name": ["DAPI", "GFP", "Cy5"], "Color": [65535, 16711935, -16776961]},
        "TimeIncrement": 2.0,
        "TimeIncrementUnit": "min",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeY": 0.5,
        "PhysicalSizeZ": 2.0,
        "Plane": {
            "PositionX": [1.0] * 24,
            "PositionY": [2.0] * 24,
            "PositionXUnit": ["µm"] * 24,
            "PositionYUnit": ["µm"] * 24,
        },
    }
    tifffile.imwrite(file, block("TCZYX"), photometric="minisblack", metadata=metadata)
    (stack,) = open_stacks(file)
    assert stack.metadata == Metadata(
        (0.5, 0.25),
        2.0,
        "µm",
        2.0,
        "min",
        (0.0, 2.0, 1.0),
        (Channel("DAPI", "0000FF"), Channel("GFP", "00FF00"), Channel("Cy5", "FF0000")),
    )


def test_images_of_an_ome_tiff_are_positions_with_their_own_scales(tmp_path):
    file = tmp_path / "positions.ome.tif"
    stacks = [block("ZYX"), block("ZYX")[:3, ::2] + 1]
    with tifffile.TiffWriter(file, ome=True) as writer:
        for n, data in enumerate(stacks):
            size = {"PhysicalSizeX": 1.0 + n, "PhysicalSizeY": 1.0}
            options = {"axes": "ZYX", "Name": f"well {n}", **size}
            writer.write(data, metadata=options, photometric="minisblack")
            if n == 0:
                overview = np.zeros((9, 9, 3), np.uint8)
                options = {"axes": "YXS", "Name": "overview"}
                writer.write(overview, metadata=options, photometric="rgb")
    opened = open_stacks(file)
    assert [stack.name for stack in opened] == ["well 0", "well 1"]
    for n, (stack, data) in enumerate(zip(opened, stacks, strict=True)):
        assert_same(read_all(stack), data)
        assert stack.metadata.pixel_size == (1.0, 1.0 + n)
        again = pickle.loads(pickle.dumps(stack))
        assert_same(read_all(again), data)


def write_parts(folder: Path, data: np.ndarray, **options: object) -> None:
    for name, part in (("a", data[:2]), ("b", data[2:])):
        file = folder / f"{name}.ome.tif"
        described = OME.format(own=name)
        tifffile.imwrite(
            file,
            part,
            description=described,
            metadata=None,
            photometric="minisblack",
            **options,
        )


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_ome_tiff_of_several_files_needs_all_of_them(tmp_path, options):
    data = block("ZYX")
    write_parts(tmp_path, data, **options)
    for name in "ab":
        (stack,) = open_stacks(tmp_path / f"{name}.ome.tif")
        assert_holds(stack, data, "ZYX")
        assert_same(read_all(pickle.loads(pickle.dumps(stack))), data)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(IPSError, match=r"a\.ome\.tif.*b\.ome\.tif"):
        open_stacks(tmp_path / "a.ome.tif")


def test_part_that_another_file_describes_is_refused(tmp_path):
    described = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly '
        'MetadataFile="main.companion.ome" UUID="urn:uuid:a"/></OME>'
    )
    file = tmp_path / "part.ome.tif"
    options = {"description": described, "metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(file, block("ZYX"), **options)
    with pytest.raises(IPSError, match=r"main\.companion\.ome describes"):
        open_stacks(file)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_of_a_pyramid_the_full_resolution_is_read(tmp_path, options):
    data = block("ZYX")
    file = tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(file) as writer:
        options |= {"tile": (16, 16), "photometric": "minisblack"}
        writer.write(data, subifds=1, metadata={"axes": "ZYX"}, **options)
        writer.write(data[:, ::2, ::2], subfiletype=1, **options)
    (stack,) = open_stacks(file)
    assert_holds(stack, data, "ZYX")


@pytest.mark.parametrize("kind", ["ome", "imagej", "shaped"])
def test_colours_are_samples_and_channels_are_not(tmp_path, colour, kind):
    file = tmp_path / "colour.tif"
    options = {"ome": {"ome": True}, "imagej": {"imagej": True}, "shaped": {}}[kind]
    metadata = {"axes": "ZYXS"}
    tifffile.imwrite(file, colour, photometric="rgb", metadata=metadata, **options)
    (stack,) = open_stacks(file)
    assert (stack.samples, stack.shape) == (3, (1, 1, 5, 24, 31))
    window = (slice(1, 4), slice(3, 9), slice(5, 30))
    assert_same(stack.read(0, 0, *window), colour[window])


def test_jpeg_in_tiff_is_colour_as_it_was(tmp_path):
    image = np.full((4, 64, 64, 3), (200, 90, 30), np.uint8)
    file = tmp_path / "jpeg.tif"
    tifffile.imwrite(file, image, photometric="rgb", compression="jpeg", tile=(32, 32))
    (stack,) = open_stacks(file)
    assert np.abs(read_all(stack).astype(int) - image).max() < 6


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "lzw", "tile": (16, 16)},
        {"compression": "zstd", "rowsperstrip": 5},
    ],
)
def test_damaged_part_is_an_error_and_the_rest_is_read(tmp_path, options):
    data = block("ZYX")
    file = tmp_path / "damaged.tif"
    tifffile.imwrite(file, data, photometric="minisblack", **options)
    with tifffile.TiffFile(file) as opened:
        page = opened.pages[2]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    content = bytearray(file.read_bytes())
    content[offset : offset + count] = b"\x55" * count
    file.write_bytes(content)
    (stack,) = open_stacks(file)
    assert_same(stack.read(0, 0, slice(2), WHOLE, WHOLE), data[:2])
    message = r"damaged\.tif cannot be read.*at t 0, c 0, z 2:3, y 0:2, x 0:9\."
    with pytest.raises(IPSError, match=message):
        stack.read(0, 0, slice(2, 3), slice(2), slice(9))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}])
def test_files_are_closed_when_they_are_no_longer_needed(tmp_path, options):
    file = tmp_path / "closed.tif"
    tifffile.imwrite(file, block("ZYX"), photometric="minisblack", **options)

    def handles() -> int:
        return sum(link.resolve() == file for link in Path("/proc/self/fd").iterdir())

    (stack,) = open_stacks(file)
    read_all(stack)
    del stack
    assert handles() == 0
