"""The kernels that are compiled ahead, in processes of their own."""

import os
import subprocess
import sys

import pytest

from napari_ips import ahead

POPEN = subprocess.Popen


class Process:
    def wait(self, timeout):
        raise subprocess.TimeoutExpired("python", timeout)


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Use an empty cache, and take down what is started instead."""
    commands = []

    def start(command, **_):
        commands.append(command)
        return Process()

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(ahead.subprocess, "Popen", start)
    yield commands
    ahead.wait_for_it()


def test_what_is_not_compiled_is_compiled_and_then_found(started):
    ahead.compile_ahead()
    modules = ["mamba_block", "winograd"]
    assert started == [[sys.executable, "-m", "napari_ips.ahead", m] for m in modules]
    assert [process.wait() for process in map(POPEN, started)] == [0, 0]
    ahead.compile_ahead()
    assert len(started) == 2


def test_those_of_the_training_are_compiled_as_well(started):
    ahead.compile_ahead("cpu", training=True)
    modules = ["mamba_block", "winograd", "recurrence", "elementwise"]
    assert [command[-1] for command in started] == modules
    assert [process.wait() for process in map(POPEN, started)] == [0] * 4
    ahead.compile_ahead("cpu", training=True)
    assert len(started) == 4


def test_what_is_compiled_ahead_is_what_a_training_calls(tmp_path):
    step = (
        "import torch; from napari_ips.mamba import Mamba;"
        "Mamba(8)(torch.rand(1, 9, 8)).sum().backward();"
        "from napari_ips.kernels import elementwise as e, recurrence as r;"
        "kernels = [e.convolve, e.convolve_backward, e.step_sizes, e.step_sizes_backward,"
        "           e.gate, e.gate_backward, r.forward, r.backward];"
        "assert all(k.stats.cache_hits for k in kernels), [k.stats for k in kernels]"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    for module in ahead.TRAINING:
        command = [sys.executable, "-m", "napari_ips.ahead", module]
        subprocess.run(command, env=environment, check=True)
    subprocess.run([sys.executable, "-c", step], env=environment, check=True)


def test_kernels_are_compiled_without_loading_pytorch():
    modules = ", ".join(f"napari_ips.kernels.{m}" for m in ahead.KERNELS | ahead.TRAINING)
    imports = f"import sys; import {modules}"
    told = [sys.executable, "-c", f"{imports}; sys.exit('torch' in sys.modules)"]
    assert POPEN(told).wait() == 0


def test_a_single_core_compiles_when_it_has_to(started, monkeypatch):
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 1)
    ahead.compile_ahead()
    assert started == []


def test_a_gpu_needs_no_kernels_for_the_cpu(started):
    ahead.compile_ahead("cuda:0")
    assert started == []


def test_a_process_that_cannot_be_started_is_no_error(started, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(ahead.subprocess, "Popen", refuse)
    ahead.compile_ahead()
