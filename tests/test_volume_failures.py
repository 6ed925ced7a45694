"""Full disks, little memory, and images larger than it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from napari_ips import IPSError
from napari_ips.io import LazyStack
from volumes import fuse, noise, tiny_weights, tree

SHAPE = (3, 530, 600)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def run(folder: Path, weights: Path, **options: object) -> None:
    settings = {"tile": options.pop("tile", 256)}
    stack = noise(*SHAPE)
    index = folder / "i.tif"
    fuse(stack, folder / "f.ome.zarr", weights, settings=settings, index=index, **options)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, weights)
    return tree(folder)


def refuse_large_windows(
    monkeypatch: pytest.MonkeyPatch, pixels: int, error: Exception
) -> None:
    """Let memory be short for windows of more pixels."""
    read = LazyStack.read

    def limited(stack: LazyStack, t: int, c: int, *window: slice) -> np.ndarray:
        data = read(stack, t, c, *window)
        if data[0].size > pixels:
            raise error
        return data

    monkeypatch.setattr(LazyStack, "read", limited)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_tiles_are_halved_until_memory_suffices(
    tmp_path, weights, expected, monkeypatch, caplog, error
):
    # The whole image has 318 000 pixels, of which the fourth part is read with a halo.
    refuse_large_windows(monkeypatch, 300_000, error)
    run(tmp_path, weights, tile=1024)
    assert tree(tmp_path) == expected
    assert "Memory is short: going on with tiles of 512 pixels" in caplog.messages
    assert "Memory is short: going on with tiles of 256 pixels" in caplog.messages


def test_too_little_memory_for_the_smallest_tile_is_one_line(
    tmp_path, weights, expected, monkeypatch
):
    with monkeypatch.context() as patch:
        refuse_large_windows(patch, 70_000, MemoryError())
        with pytest.raises(IPSError, match="Memory does not suffice for this stack"):
            run(tmp_path, weights)
    run(tmp_path, weights, resume=True)
    assert tree(tmp_path) == expected


def test_other_errors_of_pytorch_are_not_taken_for_little_memory(
    tmp_path, weights, monkeypatch
):
    refuse_large_windows(monkeypatch, 70_000, RuntimeError("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        run(tmp_path, weights)


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[str], Path]:
    """Make a disk of a given size, or give it that size, where this is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: str) -> Path:
        again = "remount," if os.path.ismount(folder) else ""
        options = f"{again}size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small disk is not allowed here")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", ["16k", "64k", "600k", "1500k", "2300k"])
def test_run_goes_on_when_a_full_disk_has_room_again(small_disk, weights, expected, size):
    folder = small_disk(size)
    with pytest.raises(IPSError, match=r"disk (is full|has only)") as caught:
        run(folder, weights)
    assert "\n" not in str(caught.value)
    assert not [name for name in os.listdir(folder) if not name.startswith(".")]
    small_disk("50m")
    run(folder, weights, resume=True)
    assert tree(folder) == expected
    assert sorted(os.listdir(folder)) == ["f.ome.zarr", "i.tif"]


@pytest.mark.parametrize("moment", range(1, 44, 6))
def test_full_disk_at_any_moment_is_one_line(
    tmp_path, weights, expected, monkeypatch, moment
):
    replace, calls = os.replace, []

    def full(source: object, target: object) -> None:
        calls.append(target)
        # Files of the work folder and of the output arrive by a rename.
        if len(calls) >= moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(IPSError, match="The disk is full") as caught:
            run(tmp_path, weights)
    assert "\n" not in str(caught.value)
    run(tmp_path, weights, resume=True)
    assert tree(tmp_path) == expected


MEASURED = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from volumes import fuse, noise
folder, weights = Path(sys.argv[2]), Path(sys.argv[3])
# The libraries themselves do not count.
fuse(noise(4, 900, 900, dtype="float64"), folder / "small.ome.zarr", weights)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fuse(folder / "large.zarr", folder / "large.ome.zarr", weights, index=folder / "i.ome.zarr")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps((after - before) / 1024))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="memory is measured by Unix means")
def test_memory_does_not_grow_with_the_image(tmp_path, weights):
    stack = zarr.create_array(
        tmp_path / "large.zarr",
        shape=(4, 4096, 7168),
        chunks=(1, 512, 512),
        dtype="float64",
    )
    # A few chunks are not empty.
    stack[:, 1000:2000, 3000:4000] = noise(4, 1000, 1000)
    arguments = [str(Path(__file__).parent), str(tmp_path), str(weights)]
    command = [sys.executable, "-c", MEASURED, *arguments]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    # The stack is 940 MB, the result 230.
    assert json.loads(result.stdout) < 150
