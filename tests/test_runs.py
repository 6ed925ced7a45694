"""Training runs on disk: their states, and what crashes and other programs do to them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from napari_ips import CrossImageFusionNetwork, IPSError, NetworkConfig, TrainConfig
from napari_ips import weights as registry
from napari_ips.training import runs
from napari_ips.training.checkpoint import TrainingState, with_start
from napari_ips.training.runs import Run, list_runs, new_run

SMALL = NetworkConfig(width=4, local_blocks=1, mamba_blocks=1, d_state=4, global_stride=1)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(runs, "runs_folder", lambda: tmp_path / "user" / "training")
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "user" / "weights")
    return tmp_path / "user" / "training"


def settings(run: Run, **changes: object) -> TrainConfig:
    values = {"images": (run.images,), "output": Path("any.safetensors"), "iterations": 40}
    return TrainConfig(**(values | {"network": SMALL} | changes))


def begun(title: str = "begun") -> Run:
    run = new_run(title)
    run.write_settings(settings(run))
    return run


def checkpoint(run: Run, iteration: int, seconds: float = 0.0) -> None:
    state = TrainingState.begin(run.config(), torch.device("cpu"))
    state.iteration, state.seconds = iteration, seconds
    state.save()


def finish(run: Run) -> None:
    network = CrossImageFusionNetwork.from_config(SMALL)
    registry.save_weights(run.output, network, {})


def test_a_run_goes_through_its_states():
    run = new_run("Liver, 20x")
    assert (run.title, run.state, run.iteration) == ("Liver, 20x", "empty", None)
    assert run.images.is_dir()
    run.write_settings(settings(run))
    assert (run.state, run.iteration, run.fraction) == ("unfinished", None, None)
    checkpoint(run, 10)
    assert (run.state, run.iteration, run.fraction) == ("unfinished", 10, 0.25)
    assert run.size > run.checkpoint.stat().st_size
    finish(run)
    assert run.state == "finished"
    run.discard()
    assert list_runs() == []
    assert not run.folder.exists()


def test_a_run_comes_back_as_it_was_made():
    before = datetime.now(UTC)
    run = begun("Über 'alles'\n\"x\"")
    assert list_runs() == [run]
    assert before <= run.started <= datetime.now(UTC)


def test_runs_are_listed_newest_first():
    made = [begun(str(number)) for number in range(4)]
    assert list_runs() == made[::-1]


def test_settings_come_back_and_name_the_files_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = new_run("x")
    written = run.write_settings(settings(run, images=(Path("a.tif"),), noise=0.02))
    assert run.config() == written
    assert written.images == (tmp_path / "a.tif",)
    assert written.output == run.output
    assert written.noise == 0.02


def test_settings_mean_the_same_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = CrossImageFusionNetwork.from_config(SMALL)
    registry.save_weights(Path("start.safetensors"), network, {})
    run = new_run("x")
    values = {"images": (run.images,), "output": run.output, "minutes": 1.0}
    run.write_settings(TrainConfig(**values, start_from="start.safetensors"))
    monkeypatch.chdir(tmp_path / "user")
    # The network of the weights is not taken for another one that is asked for.
    assert with_start(run.config()) == run.config()
    assert run.config().network == SMALL
    run.write_settings(TrainConfig(**values, start_from="default"))
    assert run.config().start_from == "default"


def test_settings_that_contradict_the_weights_are_not_written():
    run = new_run("x")
    with pytest.raises(IPSError, match="have another network"):
        run.write_settings(settings(run, start_from="default"))
    assert run.state == "empty"


def test_the_fraction_goes_by_steps_or_minutes_whichever_is_further():
    run = new_run("x")
    run.write_settings(settings(run, iterations=100, minutes=2.0))
    for iteration, seconds, fraction in ((50, 6.0, 0.5), (10, 90.0, 0.75), (200, 0.0, 1.0)):
        checkpoint(run, iteration, seconds)
        assert run.fraction == fraction


def test_a_damaged_checkpoint_leaves_the_run_unfinished():
    run = begun()
    run.checkpoint.write_bytes(b"half")
    assert (run.state, run.iteration, run.fraction) == ("unfinished", None, None)
    assert list_runs() == [run]


@pytest.mark.parametrize(
    "about",
    ["", '{"title": "x", "star', "[]", "{}", "null", '{"title": "x", "started": 3}']
    + ['{"title": "x", "started": "soon"}', "\udcff"],
)
def test_damaged_folders_are_skipped_and_kept(folder, about):
    good, damaged = begun("good"), begun("damaged")
    path = damaged.folder / "about.json"
    path.write_bytes(about.encode("utf-8", "surrogateescape"))
    (folder / "stray file").touch()
    (folder / "stray folder").mkdir()
    assert list_runs() == [good]
    assert path.exists()
    assert (folder / "stray folder").exists()


def test_runs_without_settings_are_offered_only_while_they_are_prepared():
    run = new_run("x")
    assert list_runs() == []
    with run.lock():
        assert list_runs() == [run]
    assert list_runs() == []
    assert run.images.is_dir()


def test_a_lock_keeps_others_out_and_leaves_nothing_behind(folder):
    run, other = begun(), begun("other")
    assert not run.is_in_use
    with run.lock():
        assert run.is_in_use
        assert not other.is_in_use
        for attempt in (run.lock().__enter__, run.discard):
            with pytest.raises(IPSError, match="works on the training run 'begun'"):
                attempt()
        assert run.is_in_use
    assert not run.is_in_use
    with run.lock():
        pass
    assert sorted(folder.iterdir()) == sorted([run.folder, other.folder])


def test_a_lock_can_be_let_go_in_another_thread():
    run = begun()
    lock = run.lock()
    lock.__enter__()
    thread = Thread(target=lock.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert not run.is_in_use


PROGRAM = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from napari_ips.training.runs import Run

with Run(Path(sys.argv[1]), "theirs", datetime.now(UTC)).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_killed_program_leaves_no_lock():
    run = begun()
    command = [sys.executable, "-c", PROGRAM, str(run.folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout.readline() == "locked\n"
            assert run.is_in_use
            assert [found.is_in_use for found in list_runs()] == [True]
            with pytest.raises(IPSError, match="Another program works on"):
                run.discard()
        finally:
            program.kill()
        program.wait()
    if os.name != "nt":
        assert program.returncode == -signal.SIGKILL
    assert not run.is_in_use
    with run.lock():
        assert run.state == "unfinished"
    run.discard()
    assert not run.folder.exists()


def test_a_run_deleted_meanwhile_is_told_plainly_and_stays_deleted(folder):
    run = begun()
    shutil.rmtree(run.folder)
    assert (run.state, run.iteration, run.size) == ("empty", None, 0)
    assert not run.is_in_use
    for attempt in (run.lock().__enter__, lambda: run.write_settings(settings(run))):
        with pytest.raises(IPSError, match="was deleted"):
            attempt()
    with pytest.raises(IPSError, match="cannot be read"):
        run.config()
    run.discard()
    assert list_runs() == []
    assert list(folder.iterdir()) == []


def test_a_run_killed_while_it_is_discarded_is_not_offered(monkeypatch):
    run = begun()
    finish(run)
    np.save(run.images / "a.npy", np.zeros(3))

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        run.discard()
    monkeypatch.undo()
    assert run.state == "empty"
    assert not run.is_in_use


def test_a_folder_that_cannot_be_made_is_told_plainly(folder):
    folder.parent.mkdir()
    folder.write_text("in the way")
    with pytest.raises(IPSError, match=r"cannot be written: .*\.$"):
        new_run("x")
    with pytest.raises(IPSError, match=r"cannot be read: .*\.$"):
        list_runs()


def test_a_read_only_folder_is_told_plainly(monkeypatch):
    run = begun()

    def denied(path: Path, *_: object, missing_ok: bool = False, **__: object) -> None:
        if path.exists() or not missing_ok:
            raise PermissionError(13, "Permission denied", str(path))

    # Not by the rights of the folder: root may write anywhere.
    for name in ("mkdir", "unlink", "write_text"):
        monkeypatch.setattr(Path, name, denied)
    for attempt in (
        lambda: new_run("x"),
        lambda: run.write_settings(settings(run)),
        run.discard,
    ):
        with pytest.raises(IPSError, match=r"cannot be written: Permission denied\.$"):
            attempt()
    monkeypatch.undo()
    assert run.state == "unfinished"
