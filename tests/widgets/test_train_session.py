"""A training in a thread of its own: started, paused, ended, thrown away, and killed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from small_runs import Sources, write_images

from napari_ips import FuseConfig, IPSError, fuse_stack, training
from napari_ips.events import LossPoint, ValidationPoint
from napari_ips.training.runs import list_runs, new_run
from napari_ips.weights import load_weights
from napari_ips.widgets.train.history import History
from napari_ips.widgets.train.session import Phase, TrainingSession

ENDLESS = {"iterations": 1_000_000}


@pytest.fixture
def session(qtbot):
    session = TrainingSession()
    session.heard = []
    session.told.connect(lambda told: session.heard.extend(one.event for one in told))
    yield session
    session.leave()


@pytest.fixture
def until(session, qtbot):
    def wait(phase):
        qtbot.waitUntil(lambda: session.phase is phase, timeout=60_000)

    return wait


@pytest.fixture
def steps(session, qtbot):
    """Wait until the window has learnt of so many more steps."""

    def wait(count=1):
        before = len(losses(session))
        qtbot.waitUntil(lambda: len(losses(session)) >= before + count, timeout=60_000)

    return wait


def losses(session):
    return [e.iteration for e in session.heard if isinstance(e, LossPoint)]


def test_a_run_ends_with_weights_and_tells_all_that_happened(session, until):
    phases = []
    session.changed.connect(lambda: phases.append(session.phase))
    session.start(Sources())
    assert session.phase is Phase.PREPARING
    until(Phase.DONE)
    assert list(dict.fromkeys(phases)) == [Phase.PREPARING, Phase.TRAINING, Phase.DONE]
    assert losses(session) == [1, 2, 3, 4, 5, 6]
    assert session.finished.path == session.run.output
    network, card = load_weights(session.run.output)
    assert network.config.width == 4
    assert not session.run.is_in_use


def test_a_pause_keeps_all_on_disk_and_goes_on_where_it_was(session, until, steps):
    session.start(Sources(changed=ENDLESS))
    steps()
    assert session.phase is Phase.TRAINING
    assert session.run.is_in_use
    session.pause()
    assert session.asked
    until(Phase.PAUSED)
    assert not session.run.is_in_use
    reached = losses(session)[-1]
    assert session.run.iteration == reached
    session.heard.clear()
    session.resume()
    steps()
    assert losses(session)[0] == reached + 1
    session.keep_best()
    until(Phase.DONE)
    assert session.finished.reason == "asked"
    history = History.of_run(session.run.folder)
    assert history.loss.iterations == list(range(1, losses(session)[-1] + 1))
    assert history.psnr.iterations[0] == 0


def test_a_paused_run_can_be_ended_with_its_best(session, until):
    session.start(Sources(changed=ENDLESS))
    until(Phase.TRAINING)
    session.pause()
    until(Phase.PAUSED)
    session.keep_best()
    until(Phase.DONE)
    assert session.run.output.is_file()


@pytest.mark.parametrize("paused", [False, True])
def test_what_is_discarded_is_gone(session, until, paused):
    session.start(Sources(changed=ENDLESS))
    until(Phase.TRAINING)
    folder = session.run.folder
    if paused:
        session.pause()
        until(Phase.PAUSED)
    session.discard()
    until(Phase.IDLE)
    assert not folder.exists()
    assert list_runs() == []


def test_a_run_is_cancelled_before_it_begins_and_leaves_nothing(session, until):
    class Slow(Sources):
        def prepare(self, run, stop, callback):
            assert stop.wait(20)
            return super().prepare(run, stop, callback)

    session.start(Slow())
    session.pause()
    until(Phase.STOPPED)
    assert list_runs() == []


def test_what_cannot_be_trained_on_is_one_line(session, until, monkeypatch):
    class Empty(Sources):
        def prepare(self, run, stop, callback):
            config = super().prepare(run, stop, callback)
            for path in run.images.iterdir():
                path.unlink()
            return config

    shown = []
    monkeypatch.setattr("napari_ips.widgets.train.session.show_error", shown.append)
    session.start(Empty())
    until(Phase.FAILED)
    assert shown == [session.message]
    assert not session.can_resume
    assert list_runs() == []


def test_a_fault_of_ours_comes_with_its_traceback(session, until, monkeypatch):
    def train(config, **options):
        raise ZeroDivisionError("no idea")
        yield

    shown = []
    manager = "napari_ips.widgets.train.session.notification_manager.dispatch"
    monkeypatch.setattr(manager, shown.append)
    monkeypatch.setattr(training, "train", train)
    session.start(Sources())
    until(Phase.FAILED)
    assert isinstance(shown[0].exception, ZeroDivisionError)
    assert session.message == "no idea"


def test_a_run_that_fails_later_can_be_resumed(session, until, monkeypatch):
    real = training.train

    def train(config, **options):
        for event in real(config, **options):
            yield event
            if isinstance(event, LossPoint) and event.iteration == 3:
                raise IPSError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(training, "train", train)
        session.start(Sources())
        until(Phase.FAILED)
    assert session.message == "The disk is full."
    assert session.can_resume
    session.resume()
    until(Phase.DONE)


def test_a_run_that_another_program_works_on_is_left_alone(session, until):
    run = new_run("busy")
    write_images(run.images)
    run.write_settings(Sources().prepare(run, threading.Event(), print))
    with run.lock():
        session.resume(run)
        until(Phase.FAILED)
    assert "Another program" in session.message
    session.resume(run)
    until(Phase.DONE)


def test_closing_stops_within_a_step_with_a_checkpoint(session, until, steps):
    session.start(Sources(changed=ENDLESS))
    steps()
    session.leave()
    until(Phase.PAUSED)
    (run,) = list_runs()
    assert run.state == "unfinished"
    assert run.iteration >= losses(session)[-1]


def test_a_core_is_left_to_the_window(session, until, monkeypatch):
    real, threads = training.train, []

    def train(*args, **options):
        threads.append(torch.get_num_threads())
        yield from real(*args, **options)

    monkeypatch.setattr(training, "train", train)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        session.start(Sources())
        until(Phase.DONE)
        assert threads == [2]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_stacks_are_fused_while_the_network_learns(session, steps, qtbot, simulated):
    config = FuseConfig(device="cpu")
    alone = fuse_stack(simulated.stack, config=config)
    session.start(Sources(changed=ENDLESS))
    steps()
    found = []

    def fuse():
        found.append(fuse_stack(simulated.stack, config=config))

    thread = threading.Thread(target=fuse)
    thread.start()
    qtbot.waitUntil(lambda: not thread.is_alive(), timeout=60_000)
    assert session.phase is Phase.TRAINING
    np.testing.assert_array_equal(found[0].fused, alone.fused)
    steps()


def test_the_history_survives_a_crash_and_forgets_what_is_done_again(tmp_path):
    (tmp_path / "history.tsv").write_text(
        "psnr\t0\t30\nloss\t1\t0.5\nloss\t2\t0.4\nloss\t3\t0.3\nloss\t2\t0.35\nloss\t"
    )
    history = History.of_run(tmp_path)
    assert history.loss.iterations == [1, 2]
    assert history.loss.values == [0.5, 0.35]
    assert len(history.smooth.values) == 2
    history.add(ValidationPoint(2, 33.0, 0.9))
    assert history.psnr.values == [30, 33]
