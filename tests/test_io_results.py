"""What holds for results of every format: whole or not at all, and the same each time."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_ips.errors import IPSError
from napari_ips.io import read_image
from napari_ips.io.metadata import Channel, Metadata
from napari_ips.io.results import check_result_path, write_result

FORMATS = ["a.ome.zarr", "a.ome.tif", "a.tif", "a.png"]
SHAPE = (1, 1, 600, 700)
Usage = namedtuple("Usage", "total used free")


def write(path: Path, array: np.ndarray, **options) -> None:
    metadata = Metadata((0.5, 0.25), 2.0, "µm", channels=(Channel("DAPI", "0000FF"),))
    write_result(path, array, metadata, rgb=array.ndim == 5, name="fused", **options)


def image(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**16, shape).astype(np.uint16)


def tree(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", FORMATS)
def test_two_writes_are_the_same_bytes(tmp_path, name):
    array = image()
    once, again = tmp_path / "1", tmp_path / "2"
    for folder in (once, again):
        folder.mkdir()
        write(folder / name, array, provenance={"version": "1"})
    assert tree(once / name) == tree(again / name)
    # Source chunks of another size change nothing either.
    source = zarr.create_array(
        tmp_path / "source.zarr", shape=SHAPE, chunks=(1, 1, 256, 300), dtype="uint16"
    )
    source[:] = array
    write(again / name, source, provenance={"version": "1"}, overwrite=True)
    assert tree(once / name) == tree(again / name)


@pytest.mark.parametrize("name", FORMATS)
def test_progress_ends_with_all_steps(tmp_path, name):
    steps: list[tuple[int, int]] = []
    write(
        tmp_path / name, image(), progress=lambda done, total: steps.append((done, total))
    )
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
    assert {total for _, total in steps} == {steps[-1][0]}


@pytest.mark.parametrize("name", FORMATS)
def test_existing_result_is_replaced_only_if_asked(tmp_path, name):
    write(tmp_path / name, image(0))
    before = tree(tmp_path / name)
    with pytest.raises(IPSError, match="exists"):
        write(tmp_path / name, image(1))
    assert tree(tmp_path / name) == before
    write(tmp_path / name, image(1), overwrite=True)
    assert tree(tmp_path / name) != before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_folder_of_a_user_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    with pytest.raises(IPSError, match=r"no zarr store|is a folder"):
        write(tmp_path / name, image(), overwrite=True)
    assert (tmp_path / name / "notes.txt").read_text() == "mine"


def test_link_to_a_store_is_replaced_but_not_the_store(tmp_path):
    write(tmp_path / "real.zarr", image(0))
    before = tree(tmp_path / "real.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real.zarr")
    write(tmp_path / "link.zarr", image(1), overwrite=True)
    assert not (tmp_path / "link.zarr").is_symlink()
    assert tree(tmp_path / "real.zarr") == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("error", [IPSError("one line"), KeyboardInterrupt()])
def test_failure_midway_leaves_the_old_result_and_nothing_else(tmp_path, name, error):
    write(tmp_path / name, image(0))
    before = tree(tmp_path / name)

    def fail(done: int, total: int) -> None:
        if done >= total / 2:
            raise error

    with pytest.raises(type(error)):
        write(tmp_path / name, image(1), overwrite=True, progress=fail)
    assert tree(tmp_path / name) == before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif"])
@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_full_disk_while_chunks_are_written(tmp_path, monkeypatch, name, chunk):
    write(tmp_path / name, image(0))
    before = tree(tmp_path / name)
    replace, calls = os.replace, []

    def full(source, target):
        calls.append(target)
        # Chunks arrive by a rename of their own.
        if len(calls) >= chunk and ".partial" in str(source):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(IPSError, match=r"^The disk is full: .* was not written\.$"):
        write(tmp_path / name, image(1, (1, 1, 1100, 1200)), overwrite=True)
    assert tree(tmp_path / name) == before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB, where this process may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", FORMATS)
def test_disk_that_is_really_full(small_disk, name):
    with pytest.raises(IPSError, match="The disk is full"):
        write(small_disk / name, image(0, (1, 1, 1100, 1200)))
    assert not list(small_disk.iterdir())


def test_old_store_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    write(path, image(0))
    before = tree(path)
    replace = os.replace

    def refused(source, target):
        if Path(target) == path and ".part" in Path(source).name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr("os.replace", refused)
    with pytest.raises(IPSError, match=r"cannot be written: Input/output error\.$"):
        write(path, image(1), overwrite=True)
    assert tree(path) == before
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from napari_ips.io.metadata import Metadata
from napari_ips.io.results import write_result

def halfway(done, total):
    if done >= total / 2:
        print("halfway", flush=True)
        time.sleep(60)

array = np.ones((2, 1, 600, 700), np.uint16)
write_result(Path(sys.argv[1]), array, Metadata(), rgb=False, name="x", overwrite=True,
             progress=halfway)
"""


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif", "a.tif"])
def test_killed_writer_leaves_nothing_under_the_name(tmp_path, name):
    old = tmp_path / "old"
    old.mkdir()
    write(old / name, image(0))
    before = tree(old / name)
    for folder in (tmp_path, old):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder / name)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout.readline() == b"halfway\n"
            process.send_signal(signal.SIGKILL)
    assert not (tmp_path / name).exists()
    assert tree(old / name) == before


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        ("a.jpg", SHAPE, "uint8", r"end the name in \.ome\.zarr"),
        ("a", SHAPE, "uint8", "no known kind"),
        ("a.zarr", (1, 600, 700), "uint8", "shape"),
        ("a.zarr", (1, 1, 0, 700), "uint8", "no pixels"),
        ("a.zarr", (1, 1, 60, 70, 2), "uint8", "shape"),
        ("a.zarr", (1, 2, 60, 70, 3), "uint8", "one by one"),
        ("a.zarr", SHAPE, "bool", "bool values"),
        ("a.tif", SHAPE, "complex64", "complex64 values"),
        ("a.ome.tif", SHAPE, "float16", r"no float16 values; save a\.ome\.zarr"),
        ("a.ome.tiff", SHAPE, "int64", r"no int64 values; save a\.ome\.zarr"),
        ("a.png", SHAPE, "float32", r"not float32; save a\.tif"),
        ("a.png", (3, 2, 60, 70), "uint8", r"3 times and 2 channels; save a\.ome\.tif"),
        ("nowhere/a.zarr", SHAPE, "uint8", "does not exist"),
    ],
)
def test_what_cannot_be_saved_is_told_beforehand(tmp_path, name, shape, dtype, message):
    with pytest.raises(IPSError, match=message) as caught:
        check_result_path(
            tmp_path / name, shape=shape, dtype=dtype, rgb=len(shape) == 5, overwrite=False
        )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_read_only_folder_is_told_beforehand(tmp_path, monkeypatch, name):
    # Root may write everywhere, so permissions themselves prove nothing in a container.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(IPSError, match="read-only"):
        check_result_path(
            tmp_path / name, shape=SHAPE, dtype=np.uint16, rgb=False, overwrite=False
        )


def test_disk_that_is_far_too_small_is_told_beforehand(tmp_path, monkeypatch):
    def check(free: float) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, free))
        shape = (1, 1, 10**5, 10**5)
        check_result_path(
            tmp_path / "a.zarr", shape=shape, dtype="uint16", rgb=False, overwrite=False
        )

    # 20 GB, with the levels 28, may come down to the half, but not to a tenth.
    check(14e9)
    with pytest.raises(IPSError, match="at least 7 GB, but the disk has only 2.8 GB"):
        check(2.8e9)


@pytest.mark.parametrize("name", FORMATS)
def test_result_can_be_read_again(tmp_path, name):
    write(tmp_path / name, image())
    np.testing.assert_array_equal(read_image(tmp_path / name), image()[0, 0])


MEASURED = """
import json, resource, sys
import zarr
from napari_ips.io.metadata import Metadata
from napari_ips.io.results import write_result

source = zarr.open_array(sys.argv[1], mode="r")
source[0, 0, :2, :2]
small = zarr.create_array({}, shape=(1, 1, 600, 600), dtype="uint16")
metadata = Metadata((0.5, 0.5), 1.0, "µm")
# The libraries themselves do not count.
write_result(sys.argv[2].replace("big", "small"), small, metadata, rgb=False, name="x")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_result(sys.argv[2], source, metadata, rgb=False, name="x")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps((after - before) / 1024))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="memory is measured by Unix means")
@pytest.mark.parametrize("name", ["big.ome.zarr", "big.ome.tif", "big.tif"])
def test_image_larger_than_the_memory_it_takes(tmp_path, rng, name):
    side = 8192
    source = zarr.create_array(
        tmp_path / "source.zarr",
        shape=(1, 1, side, 2 * side),
        chunks=(1, 1, 1024, 1024),
        dtype="uint16",
    )
    tile = rng.integers(0, 4000, (1024, 1024)).astype(np.uint16)
    for y in range(0, side, 1024):
        for x in range(0, 2 * side, 1024):
            source[0, 0, y : y + 1024, x : x + 1024] = tile
    command = [sys.executable, "-c", MEASURED, tmp_path / "source.zarr", tmp_path / name]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    # A whole image is 256 MB.
    assert json.loads(result.stdout) < 150
