"""Training in a thread, beside a fusion in the same process."""

from __future__ import annotations

import threading

import numpy as np
import torch

from napari_ips import FuseConfig, fuse_stack
from napari_ips.events import LossPoint
from napari_ips.training import train
from trainings import equal_weights, put_images, settings, trained


def test_training_and_fusing_at_once_change_neither_result(tmp_path, rng):
    folder = put_images(tmp_path / "images")
    stack = rng.integers(0, 4000, (4, 96, 96)).astype(np.uint16)
    fuse = FuseConfig(device="cpu")
    threads = torch.get_num_threads()
    alone = settings(folder, iterations=12, output=tmp_path / "alone.safetensors")
    trained(alone)
    expected = fuse_stack(stack, config=fuse).fused
    beside = settings(folder, iterations=12, output=tmp_path / "beside.safetensors")
    begun = threading.Event()

    def work():
        for event in train(beside):
            if isinstance(event, LossPoint):
                begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    fused = [fuse_stack(stack, config=fuse).fused]
    while thread.is_alive():
        fused.append(fuse_stack(stack, config=fuse).fused)
    thread.join()
    assert all(np.array_equal(one, expected) for one in fused)
    assert equal_weights(alone.output, beside.output)
    assert torch.get_num_threads() == threads
