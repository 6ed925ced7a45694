"""The kernels that are compiled ahead, in processes of their own."""

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


def test_kernels_are_compiled_without_loading_pytorch():
    imports = (
        "import sys; import napari_ips.kernels.winograd, napari_ips.kernels.mamba_block"
    )
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
