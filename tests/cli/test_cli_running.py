"""What is told while ``fuse`` runs, and what becomes of a run that is stopped."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_ips.cli import progress, run
from napari_ips.events import Progress, TileDone
from napari_ips.io import read_image, write_stack

EVERYWHERE = slice(0, 256)
COMMAND = [sys.executable, "-c", "from napari_ips.cli import main; main()", "fuse"]

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def fused(done, total=20):
    return TileDone("fusing", done, total, 0, 0, EVERYWHERE, EVERYWHERE)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told the time."""
    times = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: times[-1])
    return times


@pytest.fixture
def lines(capsys, clock):
    """Call back at some times with events; return the lines that a log gets."""

    def told(*timed_events):
        with progress.progress_bar("Fusing a stack") as callback:
            for time, event in timed_events:
                clock.append(100.0 + time)
                callback(event)
        return capsys.readouterr().err.splitlines()

    return told


def test_a_log_gets_a_line_every_tenth(lines):
    events = [(10 * n, fused(n)) for n in range(1, 21)]
    got = lines((0, Progress("measuring", 0, 1)), *events)
    assert got[0] == "Fusing a stack."
    assert got[1:3] == [
        "Fusing tiles: 2 of 20 (10 %), 3 min left.",
        "Fusing tiles: 4 of 20 (20 %), 3 min left.",
    ]
    assert got[-1] == "Fusing tiles: 20 of 20 (100 %)."
    assert len(got) == 11


def test_a_log_gets_a_line_every_half_minute(lines):
    events = [(10 * n, fused(n, 7200)) for n in range(1, 13)]
    assert lines(*events)[1:] == [
        "Fusing tiles: 4 of 7200 (0 %), 20 h left.",
        "Fusing tiles: 7 of 7200 (0 %), 20 h left.",
        "Fusing tiles: 10 of 7200 (0 %), 20 h left.",
    ]


def test_a_log_is_not_flooded_by_a_quick_run(lines):
    assert lines(*[(0.01 * n, fused(n)) for n in range(1, 21)]) == ["Fusing a stack."]


def test_a_log_knows_the_pace_of_a_resumed_run_and_of_each_position(lines):
    got = lines((0, fused(10)), (10, fused(11)), (20, fused(12)), (60, fused(1)))
    assert got[-2] == "Fusing tiles: 12 of 20 (60 %), 80 s left."
    assert got[-1] == "Fusing tiles: 1 of 20 (5 %)."


def test_nothing_begun_is_nothing_told(capsys):
    with progress.progress_bar("Fusing a stack"):
        pass
    assert capsys.readouterr().err == ""


def test_warnings_are_plain_lines(capsys, put_fusion, stack_file):
    def fuse_to_file(*_, **__):
        log = logging.getLogger("napari_ips.fusion.fuser")
        log.warning("Memory is short: going on with tiles of %d pixels", 512)
        log.info("not to be told")
        return [{}]

    put_fusion(fuse_to_file=fuse_to_file)
    assert run(["fuse", str(stack_file), "-o", "o.tif"]) == 0
    err = capsys.readouterr().err
    assert err == "Memory is short: going on with tiles of 512 pixels.\n"
    assert logging.getLogger("napari_ips").handlers == []


def test_a_scheduler_needs_the_extra(failure, monkeypatch, stack_file):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = failure("fuse", stack_file, "-o", "o.tif", "--scheduler", "tcp://node:8786")
    assert "pip install napari-ips[distributed]" in line


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense"])
def test_a_scheduler_that_does_not_answer(failure, monkeypatch, stack_file, address):
    pytest.importorskip("distributed")
    monkeypatch.setattr("napari_ips.cli.cluster._SECONDS", 0.5)
    line = failure("fuse", stack_file, "-o", "o.tif", "--scheduler", address)
    assert line.startswith(f"Error: No scheduler answers at {address}")


def test_a_cluster_gives_the_same_result(fuse, tmp_path, stack_file):
    distributed = pytest.importorskip("distributed")
    fuse(stack_file, "-o", tmp_path / "here.tif")
    options = {"n_workers": 1, "processes": False, "protocol": "tcp"}
    with distributed.LocalCluster(**options, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        fuse(stack_file, "-o", tmp_path / "there.tif", "--scheduler", address)
    here, there = (read_image(tmp_path / f"{name}.tif") for name in ("here", "there"))
    np.testing.assert_array_equal(here, there)


@pytest.fixture
def large(tmp_path):
    """A stack of 12 tiles."""
    path = tmp_path / "large.tif"
    values = np.random.default_rng(0).integers(0, 4000, (3, 700, 1000))
    write_stack(path, values.astype(np.uint16))
    return path


def start(*arguments, **options):
    command = [*COMMAND, *map(str, arguments), "--tile", "256"]
    # Shells have what they run in the background ignore Ctrl-C, and it would inherit that.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def tree(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@posix
def test_ctrl_c_says_how_to_go_on_and_resume_does(large, tiny_weights, fuse):
    output = large.with_name("fused.ome.zarr")
    options = [large, "--weights", tiny_weights, "--maps", "-o"]
    process = start(*options, output, stderr=subprocess.PIPE, text=True)
    work = large.with_name(".fused.ome.zarr.partial")
    while not any(work.glob("done/*")):
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        "Stopped. What is finished is kept: the same command with --resume goes on."
    )
    assert not output.exists()
    finished = {path.name: path.stat().st_mtime_ns for path in work.glob("done/*")}
    assert 0 < len(finished) < 12

    assert run(["fuse", *map(str, options), str(output), "--tile", "256"]) == 1
    # The tiles that were finished are not done again.
    for name in finished:
        assert (work / "done" / name).stat().st_mtime_ns == finished[name]
    text = fuse(*options[:1], "--maps", "-o", output, "--tile", "256", "--resume")
    assert "1000 x 700 pixels" in text
    whole = large.with_name("whole")
    whole.mkdir()
    fuse(large, "--maps", "-o", whole / "fused.ome.zarr", "--tile", "1024")
    for name in ("fused.ome.zarr", "fused.depth.ome.zarr"):
        assert tree(large.with_name(name)) == tree(whole / name)
    assert not work.exists()


@posix
def test_a_terminal_gets_a_bar(large, tiny_weights):
    import pty

    ours, theirs = pty.openpty()
    output = large.with_name("fused.png")
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
    options = [large, "--weights", tiny_weights, "-o", output, "--json"]
    process = start(*options, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while piece := _read(ours):
        shown += piece
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["positions"][0]["shape"] == [1, 1, 3, 700, 1000]
    words = shown.decode()
    assert "Fusing 1000 x 700 pixels, 3 slices" in words
    assert "Fusing tiles" in words
    assert "/12" in words
    assert "left" in words


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # on Linux, that is how the other side's end is told
        return b""
