"""Training that is paused, killed, gone on with, or ended early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from napari_ips import IPSError, NetworkConfig, TrainConfig
from napari_ips.events import (
    CheckpointSaved,
    ImagesFound,
    LossPoint,
    Preview,
    TrainingFinished,
    ValidationPoint,
)
from napari_ips.training import train
from napari_ips.weights import read_tensors, write_tensors
from trainings import (
    break_loss,
    equal_weights,
    measured,
    put_images,
    run_until,
    settings,
    steps,
    trained,
)


@pytest.fixture
def folder(tmp_path):
    return put_images(tmp_path / "images")


@pytest.fixture
def checkpoint(folder):
    return folder.parent / "w.checkpoint.safetensors"


@pytest.mark.parametrize("broken", [(), (5,)], ids=["whole", "rolled back"])
def test_a_run_that_is_closed_at_any_event_and_resumed_is_bit_for_bit_the_same(
    folder, tmp_path, monkeypatch, broken
):
    whole = settings(folder, iterations=5, output=tmp_path / "whole.safetensors")
    break_loss(monkeypatch, *broken)
    events = trained(whole)
    # A checkpoint after each step would leave nothing for the closing to do.
    parts = settings(folder, iterations=5, checkpoint_seconds=1e9)
    count = len([e for e in events if not isinstance(e, CheckpointSaved)])
    for place in range(2, count):
        monkeypatch.undo()
        break_loss(monkeypatch, *broken)
        output = tmp_path / f"parts{place}.safetensors"
        parts = parts.model_copy(update={"output": output})
        run, seen = train(parts), []
        for event in run:
            seen.append(event)
            if len(seen) == place:
                break
        run.close()
        rest = trained(parts, resume=True)
        assert steps(seen) + steps(rest) == steps(events)
        assert measured(seen) | measured(rest) == measured(events)
        assert rest[-1].psnr_before == events[-1].psnr_before
        assert equal_weights(parts.output, whole.output)


def test_a_run_that_is_paused_after_every_step_is_bit_for_bit_the_same(folder, tmp_path):
    whole = settings(folder, output=tmp_path / "whole.safetensors")
    trained(whole)
    parts = settings(folder, checkpoint_seconds=1e9)
    run_until(train(parts), LossPoint)
    for _ in range(5):
        run_until(train(parts, resume=True), LossPoint)
    assert steps(trained(parts, resume=True)) == []
    assert equal_weights(parts.output, whole.output)


def test_a_killed_run_is_resumed_from_its_last_checkpoint(folder, tmp_path, checkpoint):
    config = settings(folder, iterations=100_000)
    config.to_toml(tmp_path / "run.toml")
    code = (
        "from napari_ips import TrainConfig, train\n"
        f"for _ in train(TrainConfig.from_toml({str(tmp_path / 'run.toml')!r})): pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, metadata = read_tensors(checkpoint)
    reached = int(metadata["iteration"])
    assert reached >= 1
    ended = settings(folder, iterations=reached + 2)
    assert steps(trained(ended, resume=True)) == [reached + 1, reached + 2]


def test_checkpoints_come_when_their_time_has(folder):
    def count(seconds):
        config = settings(folder, checkpoint_seconds=seconds)
        events = trained(config, overwrite=True)
        return len([e for e in events if isinstance(e, CheckpointSaved)])

    assert (count(0), count(1e9)) == (6, 0)


def test_closing_before_anything_was_computed_keeps_the_run_before(folder, checkpoint):
    config = settings(folder)
    run_until(train(config), LossPoint, 2)
    before = checkpoint.read_bytes()
    run_until(train(config, overwrite=True), ImagesFound)
    assert checkpoint.read_bytes() == before


def test_existing_outputs_and_unfinished_runs_are_not_overwritten(folder):
    config = settings(folder, iterations=2)
    run_until(train(config), LossPoint)
    with pytest.raises(IPSError, match="unfinished run"):
        next(train(config))
    other = settings(folder, iterations=2, learning_rate=1e-5)
    with pytest.raises(IPSError, match=r"other settings \(learning_rate\)"):
        trained(other, resume=True)
    trained(config, resume=True)
    with pytest.raises(IPSError, match="exists"):
        next(train(config))
    trained(config, overwrite=True)


def test_overwriting_forgets_the_unfinished_run_before(folder):
    config = settings(folder)
    run_until(train(config), LossPoint, 4)
    run_until(train(config, overwrite=True), LossPoint, 1)
    assert steps(trained(config, resume=True)) == [2, 3, 4, 5, 6]


def test_two_programs_never_train_the_same_output(folder, checkpoint):
    config = settings(folder)
    first = train(config)
    events = [event for event, _ in zip(first, range(4), strict=False)]
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(IPSError, match="Another program trains"):
            trained(config, **options)
    assert steps(events) + steps(first) == [1, 2, 3, 4, 5, 6]
    names = {path.name for path in folder.parent.iterdir()}
    assert names == {"images", "w.safetensors"}


def test_what_a_killed_program_left_half_written_is_removed(folder):
    for name in (".w.checkpoint.part01234567.safetensors", ".w.part89abcdef.safetensors"):
        (folder.parent / name).write_bytes(b"half")
    trained(settings(folder, iterations=1))
    names = {path.name for path in folder.parent.iterdir()}
    assert names == {"images", "w.safetensors"}


def test_an_output_named_like_a_checkpoint_is_refused(folder, tmp_path):
    """Else the checkpoint of another run would take its place."""
    config = settings(folder, output=tmp_path / "w.checkpoint.safetensors")
    with pytest.raises(IPSError, match="are for checkpoints"):
        next(train(config))


def test_a_run_whose_checkpoint_is_deleted_leaves_nothing(folder, checkpoint):
    config = settings(folder)
    run_until(train(config), LossPoint, 2)
    checkpoint.unlink()
    assert [path.name for path in folder.parent.iterdir()] == ["images"]
    with pytest.raises(IPSError, match="nothing to resume"):
        trained(config, resume=True)
    trained(config)


def test_a_run_goes_on_without_the_weights_that_it_started_from(folder, tmp_path):
    start = tmp_path / "start.safetensors"
    trained(settings(folder, output=start, iterations=1))
    config = settings(folder, start_from=str(start))
    # As on the command line, where the network is that of the weights to start from.
    given = config.model_dump(exclude={"network"}, exclude_unset=True)
    whole, parts = (TrainConfig(**given | {"output": tmp_path / f"{name}.safetensors"})
                    for name in ("whole", "parts"))  # fmt: skip
    trained(whole)
    run_until(train(parts), LossPoint, 4)
    start.unlink()
    with pytest.raises(IPSError, match=r"other settings \(network\)"):
        trained(parts.model_copy(update={"network": NetworkConfig()}), resume=True)
    assert steps(trained(parts, resume=True)) == [5, 6]
    assert equal_weights(parts.output, whole.output)
    assert read_tensors(parts.output)[1]["start_from"] == "start.safetensors"


def test_resuming_nothing_is_an_error(folder):
    with pytest.raises(IPSError, match="nothing to resume"):
        trained(settings(folder), resume=True)


def test_a_checkpoint_of_another_version_is_refused_plainly(folder, checkpoint):
    from napari_ips.weights import write_tensors

    write_tensors(checkpoint, {"x": torch.zeros(1)}, {"format": "napari-ips checkpoint 1"})
    with pytest.raises(IPSError, match="no checkpoint of this version.*--overwrite"):
        trained(settings(folder), resume=True)


def test_asked_to_finish_a_run_writes_the_best_weights_not_the_last(folder, tmp_path):
    """Long steps after good ones spoil the weights; the good ones are what is written."""
    steps_alone = settings(
        folder, iterations=9, validation_interval=1, learning_rate=0.3, decay_start=1.0,
        ema_decay=0.0, gradient_clip=0.0, seed=5, output=tmp_path / "alone.safetensors",
    )  # fmt: skip
    found = measured(trained(steps_alone))
    best = max((k for k in found if k > 0), key=lambda k: found[k])
    assert best < 9
    config = steps_alone.model_copy(
        update={"iterations": 10_000, "output": tmp_path / "asked.safetensors"}
    )
    finish = threading.Event()
    for event in train(config, finish=finish):
        if isinstance(event, LossPoint) and event.iteration == 9:
            finish.set()
    assert isinstance(event, TrainingFinished)
    assert (event.reason, event.iteration, event.psnr) == ("asked", best, found[best])
    assert equal_weights(config.output, steps_alone.output)
    # A run as long as the best one has no other weights to choose.
    until = steps_alone.model_copy(
        update={"iterations": best, "output": tmp_path / "until.safetensors"}
    )
    trained(until)
    assert equal_weights(config.output, until.output)


def test_a_resumed_run_remembers_the_best_weights(folder, tmp_path):
    config = settings(
        folder, iterations=9, validation_interval=1, learning_rate=0.3, decay_start=1.0,
        ema_decay=0.0, gradient_clip=0.0, seed=5, checkpoint_seconds=1e9,
    )  # fmt: skip
    whole = config.model_copy(update={"output": tmp_path / "whole.safetensors"})
    events = trained(whole)
    assert events[-1].iteration < 8
    run_until(train(config), LossPoint, 8)
    rest = trained(config, resume=True)
    assert rest[-1].iteration == events[-1].iteration
    assert equal_weights(config.output, whole.output)


def test_finishing_before_the_first_step_takes_that_step(folder):
    finish = threading.Event()
    finish.set()
    events = trained(settings(folder), finish=finish)
    assert steps(events) == [1]
    assert (events[-1].iteration, events[-1].reason) == (1, "asked")


def test_events_of_a_run_that_goes_on_begin_with_its_images(folder):
    config = settings(folder)
    run_until(train(config), LossPoint, 4)
    kinds = [type(event) for event in train(config, resume=True)]
    assert kinds[:2] == [ImagesFound, LossPoint]
    assert kinds[-3:] == [ValidationPoint, Preview, TrainingFinished]


def test_a_run_of_a_version_that_knew_fewer_settings_goes_on(folder, checkpoint):
    config = settings(folder)
    run_until(train(config), LossPoint)
    tensors, metadata = read_tensors(checkpoint)
    known = json.loads(metadata["config"])
    del known["teacher"], known["teacher_share"]
    write_tensors(checkpoint, tensors, metadata | {"config": json.dumps(known)})
    assert steps(trained(config, resume=True)) == [2, 3, 4, 5, 6]
