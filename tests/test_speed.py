"""How fast everything is: the sections of ``napari-ips bench``, on tiny sizes."""

from __future__ import annotations

import itertools
import sys
import time

import numpy as np
import pytest
import zarr

from napari_ips import IPSError
from napari_ips.evaluation.external import Program
from napari_ips.evaluation.speed import goal, growth, startup
from napari_ips.evaluation.speed.fusing import measure_fusing, own_program, warm_up
from napari_ips.evaluation.speed.machine import this_machine
from napari_ips.evaluation.speed.plot import write_plot
from napari_ips.evaluation.speed.rounds import Rounds, in_turn
from napari_ips.evaluation.speed.specimen import BLOCK, Specimen
from napari_ips.evaluation.speed.training import measure_training
from napari_ips.io import read_image
from samples import put_pairs
from trainings import SMALL, put_images, settings

ONE = Rounds(1)


def program(name, code):
    """A program that knows where the slices are, and what it should write."""
    head = "import shutil, sys; source, target = sys.argv[1:]; "
    return Program(name, (sys.executable, "-c", head + code, "{input}", "{output}"))


COPY = "shutil.copy(source + '/0000.png', target)"


def test_works_are_done_in_turn_and_as_often_as_time_allows():
    order, seen = [], []
    works = {name: lambda name=name: order.append(name) or name.upper() for name in "ab"}
    assert in_turn(works, Rounds(2), "x", seen.append) == {"a": ["A"] * 2, "b": ["B"] * 2}
    assert order == ["a", "b", "a", "b"]
    assert [(event.done, event.total) for event in seen] == [(n, 4) for n in range(5)]
    assert len(list(Rounds(5, seconds=0.0).numbers())) == 1
    slow = []
    for _ in Rounds(9, seconds=0.2).numbers():
        time.sleep(0.11)
        slow.append(1)
    # The second would have ended too late.
    assert len(slow) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_specimen_is_sharp_somewhere_and_its_truth_is_known(dtype):
    specimen = Specimen(96, 4, dtype)
    stack = specimen.array()
    assert (stack.shape, stack.dtype) == ((4, 96, 96), dtype)
    assert 0.5 * np.iinfo("uint8").max < stack.max()
    sharpest = stack[np.abs(np.diff(stack.astype(float), axis=1)).mean((1, 2)).argmax()]
    assert 20 < specimen.psnr(sharpest) < 50
    assert specimen.psnr(np.zeros((96, 96))) < 15


def test_a_specimen_is_the_same_in_memory_and_as_zarr(tmp_path):
    specimen = Specimen(BLOCK + 40, 2)
    specimen.write_zarr(tmp_path / "stack.zarr")
    written = zarr.open_array(tmp_path / "stack.zarr")
    np.testing.assert_array_equal(written[:], specimen.array())


def test_programs_are_compared_with_the_first_and_failures_are_told():
    specimen = Specimen(64, 3, "uint8")
    slow = program("slow", f"import time; time.sleep(0.5); {COPY}")
    bad = program("bad", "sys.exit('no lens')")
    programs = [program("copy", COPY), slow, bad]
    warm_up(programs, specimen)
    first, second, third = measure_fusing(specimen, programs, Rounds(3))
    assert (first.stack, first.method) == ("64 x 64 x 3, 8 bits", "copy")
    assert (first.ratio, first.rounds, len(first.runs)) == (1.0, 3, 3)
    assert first.seconds == sorted(run.seconds for run in first.runs)[1]
    assert first.us_per_pixel_and_slice == pytest.approx(
        1e6 * first.seconds / (64 * 64 * 3)
    )
    assert second.ratio > 1.5
    assert first.psnr == second.psnr > 10
    assert third.failure == "bad failed with code 1: no lens"
    assert (third.rounds, third.seconds, third.psnr) == (0, None, None)


def test_this_program_is_timed_as_a_whole():
    (row,) = measure_fusing(Specimen(64, 3), [own_program("fast", "cpu")], ONE)
    assert row.failure == ""
    assert 0.3 < row.seconds < 120
    if sys.platform != "win32":
        assert row.cpu_seconds > 0.3
        assert 100e6 < row.peak_memory < 3e9
    assert row.psnr > 25


def test_sizes_double_up_to_the_largest_that_is_asked_for():
    edges, counts = (
        [specimen for name, specimen in growth.sizes(5000, 200) if name == series]
        for series in ("pixels", "slices")
    )
    assert [one.edge for one in edges] == [256, 512, 1024, 2048, 4096, 5000]
    assert {one.slices for one in edges} == {4}
    assert [one.slices for one in counts] == [2, 8, 32, 64, 128, 200]
    assert len(growth.sizes()) == 8
    with pytest.raises(IPSError, match="--largest must be from 2048 to 16384"):
        growth.sizes(largest=20000)
    with pytest.raises(IPSError, match="--most-slices must be from 64 to 200"):
        growth.sizes(most_slices=3)


def test_growth_is_measured_and_drawn(tmp_path):
    small, large = ("pixels", Specimen(64, 2)), ("slices", Specimen(64, 6))
    found = growth.measure_growth([small, large], ONE, "cpu")
    assert [(row.edge, row.slices, len(row.runs)) for row in found.rows] == [
        (64, 2, 1),
        (64, 6, 1),
    ]
    assert found.line.r_squared == pytest.approx(1)
    assert found.line.largest_deviation == pytest.approx(0, abs=1e-6)
    row = found.rows[0]
    told = found.line.start + 1e-6 * found.line.us_per_pixel_and_slice * 64 * 64 * 2
    assert told == pytest.approx(row.seconds)
    pytest.importorskip("matplotlib")
    write_plot(tmp_path / "growth.png", found)
    assert read_image(tmp_path / "growth.png").shape[1] > 1000


def test_start_up_is_measured_and_what_cannot_be_is_explained(monkeypatch):
    # Stands for a fusion that compiles for half a second where nothing is kept of it.
    compiling = (
        "import os, time; kept = os.environ['NUMBA_CACHE_DIR']; "
        "os.path.exists(kept) or (os.mkdir(kept), time.sleep(0.5))"
    )
    stand_in = program("fusion", compiling)
    monkeypatch.setattr(startup, "own_program", lambda quality, device: stand_in)
    monkeypatch.setattr(startup, "why_no_napari", lambda: "there is no screen")
    rows = startup.measure_startup(ONE, ONE, "cpu")
    assert [row.what for row in rows] == list(startup.TARGETS)
    *measured, dock = rows
    assert all(len(row.runs) == 1 for row in measured)
    assert all(0 < row.seconds < 120 for row in measured if row.what != startup.IMPORT)
    assert measured[-1].seconds == pytest.approx(0.5, abs=0.4)
    assert (dock.seconds, dock.why, dock.target) == (None, "there is no screen", 1.0)


def test_napari_needs_a_screen(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    assert "no screen" in startup.why_no_napari()
    monkeypatch.setattr(startup.importlib.util, "find_spec", lambda name: None)
    assert startup.why_no_napari() == "napari is not installed"


def test_steps_of_training_are_timed():
    small = {"network": SMALL, "crop_size": 32, "batch_size": 1}
    plain, half = measure_training(Rounds(3), "cpu", **small)
    assert (plain.precision, plain.ratio, len(plain.runs)) == ("float32", 1.0, 3)
    assert 0.1 < plain.steps_per_second < 10_000
    assert half.precision == "bfloat16"
    assert bool(half.why) == (half.steps_per_second is None)


def test_training_ends_at_the_goal_or_is_given_up(tmp_path):
    put_pairs(tmp_path / "pairs")
    pairs = goal.find_pairs(tmp_path / "pairs", 1)
    assert len(pairs) == 1
    config = settings(put_images(tmp_path / "images"), iterations=None, minutes=0.005)
    # What compiles takes longer than that.
    goal.train_to_goal(config, pairs, 0.0)
    reached = goal.train_to_goal(config, pairs, 0.0, interval=0.0)
    (once,) = reached.measurements
    assert reached.seconds == once.seconds < 5
    assert (reached.pairs, once.iteration) == (1, 1)
    assert 5 < once.psnr < 60
    never = goal.train_to_goal(config, pairs, 200.0, interval=0.1)
    assert never.seconds is None
    times = [one.seconds for one in never.measurements]
    assert all(b - a >= 0.1 for a, b in itertools.pairwise(times[:-1]))
    assert times[-1] >= 0.3


def test_pairs_need_a_truth(tmp_path):
    put_pairs(tmp_path / "pairs", truth=False)
    with pytest.raises(IPSError, match="no pairs"):
        goal.find_pairs(tmp_path / "pairs")


def test_the_machine_is_told():
    machine = this_machine("cpu")
    assert machine.cpu
    assert (machine.device, machine.gpu) == ("cpu", None)
    assert machine.vectors in (4, 8, 16)
    assert machine.cores >= 1
    with pytest.raises(IPSError, match="no device cuda:99"):
        this_machine("cuda:99")
