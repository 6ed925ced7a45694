"""What a training would take, found out without doing it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from napari_ips import IPSError
from napari_ips.errors import Stopped
from napari_ips.training import estimate, estimate_run
from trainings import put_images, settings


@pytest.fixture
def folder(tmp_path):
    return put_images(tmp_path / "images")


def test_a_length_in_steps_becomes_a_time(folder):
    found = estimate_run(settings(folder, iterations=1000, validation_interval=10))
    assert (found.images, found.iterations) == (3, 1000)
    assert 0 < found.step_seconds < 5
    # The measurements between take time as well.
    assert found.total_seconds > 1000 * found.step_seconds
    assert found.total_seconds < 1000 * found.step_seconds + 102 * 5


def test_a_length_in_minutes_becomes_steps_and_the_shorter_length_counts(folder):
    minutes = {"iterations": None, "minutes": 1.0}
    found = estimate_run(settings(folder, **minutes))
    assert found.iterations == pytest.approx(60 / found.step_seconds, rel=0.1, abs=1)
    assert found.total_seconds >= 59
    both = estimate_run(settings(folder, iterations=3, minutes=1000.0))
    assert both.iterations == 3


def test_memory_grows_with_the_batch(folder):
    estimate_run(settings(folder))  # what is compiled takes memory as well, once
    small = estimate_run(settings(folder))
    large = estimate_run(settings(folder, batch_size=32, crop_size=96))
    assert large.peak_memory > small.peak_memory + 10e6


def test_an_estimate_writes_nothing_and_leaves_random_numbers_alone(folder):
    config = settings(folder)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    estimate_run(config)
    assert torch.equal(torch.rand(3), expected)
    assert [path.name for path in folder.parent.iterdir()] == ["images"]
    assert "memory" not in [thread.name for thread in threading.enumerate()]


def test_an_estimate_is_told_in_one_line(folder):
    found = estimate_run(settings(folder, iterations=12_000))
    assert "12,000 steps of" in found.summary
    assert "3 images" in found.summary
    assert "GB of memory" in found.summary
    hours = estimate.RunEstimate(1, 50_000, 0.5, 25_000.0, 2_000_000_000)
    assert hours.summary == (
        "About 6.9 h: 50,000 steps of 0.5 s on 1 image, with 2 GB of memory."
    )


def test_an_estimate_can_be_stopped(folder, monkeypatch):
    stop = threading.Event()
    true_step, count = estimate.take_step, []

    def stopping(*arguments):
        count.append(1)
        if len(count) == 3:
            stop.set()
        return true_step(*arguments)

    monkeypatch.setattr(estimate, "take_step", stopping)
    with pytest.raises(Stopped):
        estimate_run(settings(folder), stop=stop)
    assert len(count) == 3


def test_an_estimate_of_what_cannot_be_trained_says_why(tmp_path):
    empty = tmp_path / "images"
    empty.mkdir()
    Image.fromarray(np.zeros((99, 99), np.uint8)).save(empty / "black.png")
    with pytest.raises(IPSError, match="None of 1 images"):
        estimate_run(settings(empty))
    with pytest.raises(IPSError, match="no weights 'nowhere'"):
        estimate_run(settings(put_images(tmp_path / "good"), start_from="nowhere"))
