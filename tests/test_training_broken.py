"""Training in which something goes wrong: numbers, disks, memory."""

from __future__ import annotations

import pytest
import torch

from napari_ips import IPSError
from napari_ips.events import CheckpointFailed, CheckpointSaved, LossPoint, RolledBack
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.training import checkpoint_path, loop, step, train
from napari_ips.weights import read_tensors, save_weights
from trainings import (
    break_loss,
    equal_weights,
    fill_disk,
    measured,
    put_images,
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


def test_a_loss_that_is_once_not_finite_sets_the_run_back_and_slows_it(folder, monkeypatch):
    config = settings(folder, decay_start=1.0)
    break_loss(monkeypatch, 5)
    events = trained(config)
    assert steps(events) == [1, 2, 3, 4, 4, 5, 6]
    (back,) = [e for e in events if isinstance(e, RolledBack)]
    assert (back.iteration, back.learning_rate) == (3, pytest.approx(3e-4))
    rates = [e.learning_rate for e in events if isinstance(e, LossPoint)]
    assert rates == pytest.approx([1e-3] * 4 + [3e-4] * 3)
    assert events[-1].reason == "length"


def test_a_run_set_back_goes_on_from_exactly_where_it_was(folder, tmp_path, monkeypatch):
    """Moments of the optimiser included: breaking one step later changes nothing."""
    first = settings(folder, output=tmp_path / "first.safetensors")
    break_loss(monkeypatch, 4)
    trained(first)
    monkeypatch.undo()
    later = settings(folder, output=tmp_path / "later.safetensors")
    break_loss(monkeypatch, 6)
    trained(later)
    assert equal_weights(first.output, later.output)


def test_a_gradient_that_is_not_finite_counts_as_well(folder, monkeypatch):
    clip = torch.nn.utils.clip_grad_norm_
    count = iter(range(1, 100))

    def broken(parameters, limit):
        norm = clip(parameters, limit)
        return norm * float("inf") if next(count) == 2 else norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", broken)
    events = trained(settings(folder))
    assert [e.iteration for e in events if isinstance(e, RolledBack)] == [0]
    assert events[-1].reason == "length"


def test_weights_that_give_no_finite_image_are_set_back_as_well(folder, monkeypatch):
    true_validate, count = loop.validate, iter(range(100))

    def broken(*arguments):
        return (float("nan"),) * 2 if next(count) == 1 else true_validate(*arguments)

    monkeypatch.setattr(loop, "validate", broken)
    events = trained(settings(folder))
    assert [e.iteration for e in events if isinstance(e, RolledBack)] == [0]
    assert list(measured(events)) == [0, 3, 6]


def test_a_loss_that_is_twice_not_finite_ends_the_run_with_the_best_weights(
    folder, monkeypatch
):
    config = settings(folder, iterations=50)
    break_loss(monkeypatch, 5, 8)
    events = trained(config)
    finished = events[-1]
    assert (finished.reason, finished.iteration) == ("diverged", 3)
    assert finished.psnr == measured(events)[3]
    assert len([e for e in events if isinstance(e, RolledBack)]) == 1
    assert not checkpoint_path(config.output).exists()
    tensors, card = read_tensors(config.output)
    assert all(torch.isfinite(t).all() for t in tensors.values())
    assert (card["reason"], card["iterations"]) == ("diverged", "3")


def test_a_loss_that_is_never_finite_is_an_error(folder, monkeypatch):
    config = settings(folder)
    break_loss(monkeypatch, 1, 2)
    with pytest.raises(IPSError, match=r"no longer finite after 0 iterations.*0\.001"):
        trained(config)
    assert not config.output.exists()


def test_weights_to_start_from_that_are_not_finite_are_refused(folder, tmp_path):
    network = CrossImageFusionNetwork(width=4, local_blocks=1, mamba_blocks=1)
    with torch.no_grad():
        network.encoder[0].weight.fill_(float("nan"))
    save_weights(tmp_path / "broken.safetensors", network, {})
    config = settings(folder, start_from=str(tmp_path / "broken.safetensors"))
    config = config.model_copy(update={"network": network.config})
    with pytest.raises(IPSError, match="not finite before any training"):
        trained(config)


def test_a_full_disk_at_a_checkpoint_is_told_and_training_goes_on(
    folder, monkeypatch, checkpoint
):
    config = settings(folder)
    kept = []
    for event in train(config):
        if isinstance(event, CheckpointSaved) and event.iteration == 2:
            fill_disk(monkeypatch)
        if isinstance(event, CheckpointFailed):
            kept.append(read_tensors(checkpoint)[1]["iteration"])
            assert "disk is full" in event.reason
            if event.iteration == 4:
                monkeypatch.undo()
    assert kept == ["2", "2"]
    assert event.reason == "length"
    assert config.output.exists()


def test_a_full_disk_when_a_run_is_closed_is_no_error(folder, monkeypatch, checkpoint):
    run = train(settings(folder))
    for event in run:
        if isinstance(event, CheckpointSaved) and event.iteration == 2:
            break
    fill_disk(monkeypatch)
    run.close()
    assert read_tensors(checkpoint)[1]["iteration"] == "2"


def test_weights_that_cannot_be_written_are_written_by_resuming(
    folder, tmp_path, monkeypatch, checkpoint
):
    whole = settings(folder, output=tmp_path / "whole.safetensors")
    trained(whole)
    config, run = settings(folder), train(settings(folder))
    for event in run:
        if isinstance(event, CheckpointSaved) and event.iteration == 6:
            break
    fill_disk(monkeypatch)
    with pytest.raises(IPSError, match=r"disk is full.*kept in .*--resume") as error:
        list(run)
    assert "\n" not in str(error.value)
    assert not config.output.exists()
    monkeypatch.undo()
    rest = trained(config, resume=True)
    assert steps(rest) == []
    assert equal_weights(config.output, whole.output)
    assert not checkpoint.exists()


def test_weights_that_others_wrote_meanwhile_are_kept(folder, checkpoint):
    config = settings(folder)
    with pytest.raises(IPSError, match=r"made by others.*kept in .*--resume"):
        for event in train(config):
            if isinstance(event, LossPoint) and event.iteration == 2:
                config.output.write_bytes(b"theirs")
    assert config.output.read_bytes() == b"theirs"
    config.output.unlink()
    assert steps(trained(config, resume=True)) == []
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_memory_that_does_not_suffice_is_told_in_plain_words(folder, monkeypatch, error):
    def short(*arguments):
        raise error

    monkeypatch.setattr(step, "fusion_loss", short)
    with pytest.raises(IPSError, match="2 crops of 32 pixels.*lower the batch size"):
        trained(settings(folder))
    monkeypatch.setattr(CrossImageFusionNetwork, "fuse", short)
    with pytest.raises(IPSError, match="2 crops of 32 pixels.*lower the crop size"):
        trained(settings(folder))


def test_other_errors_are_not_taken_for_too_little_memory(folder, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(step, "fusion_loss", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        trained(settings(folder))
