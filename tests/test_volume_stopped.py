"""Fusions that were stopped: what stays, what may go on, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_ips import IPSError
from napari_ips.events import Progress, TileDone
from napari_ips.fusion.job import Job
from napari_ips.io import read_image
from volumes import fuse, noise, tiny_weights, tree

SHAPE = (3, 530, 600)
TILES = 4


class Stop(Exception):
    """Asked for by a callback."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    fuse(noise(*SHAPE), folder / "f.ome.zarr", weights, index=folder / "i.tif")
    return tree(folder)


def stop_at(task: str, done: int = 1, error: BaseException | None = None) -> Callable:
    def callback(event: Progress) -> None:
        if event.task == task and event.done == done:
            raise error or Stop

    return callback


def run(folder: Path, weights: Path, source: object = None, **options: object) -> list[int]:
    """Fuse; return the numbers of the tiles that were done."""
    events: list[Progress] = []

    def callback(event: Progress) -> None:
        events.append(event)
        if "stop" in options:
            options["stop"](event)

    given = {name: value for name, value in options.items() if name != "stop"}
    source = noise(*SHAPE) if source is None else source
    given = {"index": folder / "i.tif"} | given
    fuse(source, folder / "f.ome.zarr", weights, callback=callback, **given)
    return [event.done for event in events if isinstance(event, TileDone)]


def stopped(folder: Path, weights: Path, **options: object) -> None:
    """Leave a run that was stopped after its second tile."""
    with pytest.raises(Stop):
        run(folder, weights, stop=stop_at("fusing", 2), **options)


def work_folder(folder: Path) -> Path:
    return folder / ".f.ome.zarr.partial"


@pytest.mark.parametrize(
    ("task", "done", "error"),
    [
        ("measuring", 2, Stop()),
        ("scaling down", 1, Stop()),
        ("fusing", 1, KeyboardInterrupt()),
        ("fusing", 2, IPSError("Stop.")),
        ("fusing", 4, Stop()),
        ("writing fused", 1, Stop()),
        ("writing index", 1, KeyboardInterrupt()),
    ],
)
def test_cancelled_anywhere_it_can_be_resumed(
    tmp_path, weights, expected, task, done, error
):
    with pytest.raises(type(error)):
        run(tmp_path, weights, stop=stop_at(task, done, error))
    assert not (tmp_path / "i.tif").exists()
    assert (tmp_path / "f.ome.zarr").exists() == (task == "writing index")
    kept = len(os.listdir(work_folder(tmp_path) / "done"))
    # A tile or two were in work already.
    assert kept >= done if task == "fusing" else kept in (0, TILES)
    again = run(tmp_path, weights, resume=True)
    assert again == list(range(kept + 1, TILES + 1))
    assert tree(tmp_path) == expected
    assert sorted(os.listdir(tmp_path)) == ["f.ome.zarr", "i.tif"]


def test_cancelling_stops_within_a_tile(tmp_path, weights):
    stack = noise(2, 530, 3000)
    with pytest.raises(Stop):
        run(tmp_path, weights, stack, stop=stop_at("fusing", 1))
    # Of 24 tiles the one that was told of, and what two threads had begun.
    assert len(os.listdir(work_folder(tmp_path) / "done")) <= 5


def test_stopped_run_is_neither_lost_nor_taken_for_a_finished_one(tmp_path, weights):
    stopped(tmp_path, weights)
    assert os.listdir(tmp_path) == [".f.ome.zarr.partial"]
    before = tree(tmp_path)
    with pytest.raises(IPSError, match=r"go on with --resume, or start anew"):
        run(tmp_path, weights)
    assert tree(tmp_path) == before
    assert run(tmp_path, weights, overwrite=True) == [1, 2, 3, 4]


def test_finished_output_is_refused_kept_or_replaced(tmp_path, weights, expected, caplog):
    run(tmp_path, weights)
    with pytest.raises(IPSError, match="exists"):
        run(tmp_path, weights)
    # As a run leaves it that is killed at its very end.
    (work_folder(tmp_path) / "done").mkdir(parents=True)
    assert run(tmp_path, weights, resume=True) == []
    assert "is finished already; nothing was done" in caplog.text
    assert tree(tmp_path) == expected
    assert sorted(os.listdir(tmp_path)) == ["f.ome.zarr", "i.tif"]
    stopped(tmp_path, weights, source=noise(*SHAPE, seed=1), overwrite=True)
    finished = {
        name: data for name, data in tree(tmp_path).items() if ".partial" not in name
    }
    assert finished == expected
    # The old output is in the way, as it was when the run was stopped.
    with pytest.raises(IPSError, match="exists; choose another name"):
        run(tmp_path, weights, noise(*SHAPE, seed=1), resume=True)
    run(tmp_path, weights, noise(*SHAPE, seed=1), resume=True, overwrite=True)
    assert tree(tmp_path).keys() == expected.keys()
    assert tree(tmp_path) != expected


def test_output_of_which_only_a_part_is_there_is_not_finished(tmp_path, weights):
    run(tmp_path, weights)
    with pytest.raises(IPSError, match="exists; choose another name"):
        run(tmp_path, weights, depth=tmp_path / "d.tif", resume=True)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"source": noise(*SHAPE, seed=1)}, "pixels"),
        ({"source": noise(4, 530, 600)}, "pixels, shape, slices"),
        ({"slices": (0, 2)}, "slices"),
        ({"settings": {"mode": "hard"}}, "mode"),
        ({"settings": {"tile": 512}}, "tile"),
        ({"settings": {"skip": False, "smoothing": 2.0}}, "skip, smoothing"),
        ({"depth": Path("d.tif")}, "maps"),
        ({"reference_channel": 0}, "reference channel"),
    ],
)
def test_other_choices_do_not_resume_a_run(tmp_path, weights, expected, changed, named):
    stopped(tmp_path, weights)
    if "depth" in changed:
        changed = {"depth": tmp_path / "d.tif"}
    with pytest.raises(IPSError, match=rf"^The stopped run differs in: {named}\. "):
        run(tmp_path, weights, resume=True, **changed)
    run(tmp_path, weights, resume=True)
    assert tree(tmp_path) == expected


def test_other_weights_do_not_resume_a_run(tmp_path, weights):
    stopped(tmp_path, weights)
    (tmp_path / "three").mkdir()
    with pytest.raises(IPSError, match="differs in: weights"):
        run(tmp_path, tiny_weights(tmp_path / "three", 3), resume=True)


def test_changed_file_does_not_resume_a_run(tmp_path, weights):
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, noise(*SHAPE), photometric="minisblack")
    stopped(tmp_path, weights, source=path)
    stack = noise(*SHAPE)
    stack[1, 0, 0] += 1
    tifffile.imwrite(path, stack, photometric="minisblack")
    with pytest.raises(IPSError, match="differs in: pixels"):
        run(tmp_path, weights, path, resume=True)


def test_automatic_tiles_keep_their_size(tmp_path, weights, monkeypatch):
    settings = {"tile": "auto"}
    with pytest.raises(Stop):
        run(tmp_path, weights, stop=stop_at("fusing", 1), settings=settings)
    monkeypatch.setattr("napari_ips.fusion.memory.free_memory", lambda: 0)
    assert run(tmp_path, weights, resume=True, settings=settings) == []
    assert sorted(os.listdir(tmp_path)) == ["f.ome.zarr", "i.tif"]


def test_nothing_to_resume_is_a_start(tmp_path, weights, expected):
    assert run(tmp_path, weights, resume=True) == [1, 2, 3, 4]
    assert tree(tmp_path) == expected


def test_positions_that_are_finished_are_not_fused_again(tmp_path, weights):
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True) as file:
        for seed in range(3):
            file.write(noise(3, 60, 70, seed=seed), metadata={"axes": "ZYX"})
    fused: list[Progress] = []

    def second(event: Progress) -> None:
        fused.extend([event] if isinstance(event, TileDone) else [])
        if len(fused) == 2:
            raise Stop

    with pytest.raises(Stop):
        fuse(tmp_path / "in.ome.tif", tmp_path / "f.tif", weights, callback=second)
    first = tmp_path / "f_position000.tif"
    written = first.stat().st_mtime_ns
    tiles: list[Progress] = []
    fuse(
        tmp_path / "in.ome.tif",
        tmp_path / "f.tif",
        weights,
        callback=tiles.append,
        resume=True,
    )
    assert sum(isinstance(event, TileDone) for event in tiles) == 1
    assert first.stat().st_mtime_ns == written
    names = ["in.ome.tif", *(f"f_position{n:03d}.tif" for n in range(3))]
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_existing_output_of_a_later_position_is_told_beforehand(tmp_path, weights):
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True) as file:
        for seed in range(2):
            file.write(noise(3, 60, 70, seed=seed), metadata={"axes": "ZYX"})
    (tmp_path / "f_position001.tif").write_bytes(b"mine")
    with pytest.raises(IPSError, match=r"f_position001\.tif exists"):
        fuse(tmp_path / "in.ome.tif", tmp_path / "f.tif", weights)
    assert sorted(os.listdir(tmp_path)) == ["f_position001.tif", "in.ome.tif"]


PROGRAM = """
import signal, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from volumes import fuse, noise
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[2])
def told(event):
    print(event.task, event.done, flush=True)
try:
    fuse(noise(3, 530, 600), folder / "f.ome.zarr", Path(sys.argv[3]), callback=told,
         index=folder / "i.tif", resume=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_interrupt_leaves_a_run_that_can_be_resumed(tmp_path, weights, expected):
    command = [sys.executable, "-c", PROGRAM, Path(__file__).parent, tmp_path, weights]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line == "fusing 1\n":
                process.send_signal(signal.SIGINT)
                break
        assert process.stdout.read().splitlines()[-1] == "stopped"
    assert process.returncode == 0
    assert os.listdir(tmp_path) == [".f.ome.zarr.partial"]
    assert len(run(tmp_path, weights, resume=True)) < TILES
    assert tree(tmp_path) == expected


def test_two_programs_do_not_fuse_into_one_folder(tmp_path, weights, expected):
    def second(event: Progress) -> None:
        if isinstance(event, TileDone):
            command = [sys.executable, "-c", PROGRAM]
            command += [str(Path(__file__).parent), str(tmp_path), str(weights)]
            other = subprocess.run(command, capture_output=True, text=True)
            assert "Another program is fusing into" in other.stderr

    stack = noise(*SHAPE)
    calls = []

    def once(event: Progress) -> None:
        if isinstance(event, TileDone) and not calls:
            calls.append(event)
            second(event)

    fuse(stack, tmp_path / "f.ome.zarr", weights, index=tmp_path / "i.tif", callback=once)
    assert calls
    assert tree(tmp_path) == expected


def test_error_in_one_thread_stops_the_other_and_is_told_once(
    tmp_path, weights, expected, monkeypatch
):
    write, calls = Job.write, count()

    def fail(job: Job, plane: object, tile: object, part: object) -> None:
        if next(calls) > 0:
            raise IPSError("A plain line.")
        write(job, plane, tile, part)

    monkeypatch.setattr(Job, "write", fail)
    with pytest.raises(IPSError, match=r"^A plain line\. What is finished is kept: --res"):
        run(tmp_path, weights)
    monkeypatch.undo()
    assert run(tmp_path, weights, resume=True) == [2, 3, 4]
    assert tree(tmp_path) == expected


def test_failure_before_anything_is_done_leaves_nothing(tmp_path, weights):
    (tmp_path / "three").mkdir()
    wrong = tiny_weights(tmp_path / "three", in_channels=3)
    with pytest.raises(IPSError, match=r"are for 3 channels; stacks are .* for one\.$"):
        run(tmp_path, wrong)
    assert os.listdir(tmp_path) == ["three"]


def test_leftovers_of_killed_programs_are_cleared(tmp_path, weights, expected):
    (tmp_path / ".f.ome.part0123abcd.zarr").mkdir()
    (tmp_path / ".i.part0123abcd.tif").touch()
    (tmp_path / ".f.ome.zarr.partial").mkdir()
    (tmp_path / ".f.ome.zarr.partial.lock").touch()
    others = [".f.ome.partial.zarr", ".i.part.tif", ".i.tif"]
    for name in others:
        (tmp_path / name).touch()
    run(tmp_path, weights)
    for name in others:
        (tmp_path / name).unlink()
    assert tree(tmp_path) == expected
    assert sorted(os.listdir(tmp_path)) == ["f.ome.zarr", "i.tif"]


def test_output_that_had_stepped_aside_comes_back(tmp_path, weights, expected):
    run(tmp_path, weights)
    (tmp_path / "f.ome.zarr").rename(tmp_path / ".f.ome.old0123abcd.zarr")
    (tmp_path / "i.tif").unlink()
    with pytest.raises(IPSError, match=r"f\.ome\.zarr exists; choose"):
        run(tmp_path, weights)
    assert tree(tmp_path / "f.ome.zarr")
    assert np.asarray(read_image(tmp_path / "f.ome.zarr")).shape == SHAPE[1:]


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ("measuring", Stop()),
        ("fusing", Stop()),
        ("fusing", IPSError("A plain line.")),
        ("writing fused", Stop()),
        ("writing index", Stop()),
    ],
)
def test_nothing_is_left_where_nothing_shall_be_kept(tmp_path, weights, task, error):
    (tmp_path / "theirs.txt").write_text("mine")
    options = {"index": tmp_path / "i.ome.zarr", "keep": False}
    with pytest.raises(type(error)) as raised:
        run(tmp_path, weights, stop=stop_at(task, error=error), **options)
    assert str(raised.value) == str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.txt"]
    run(tmp_path, weights, **options)
