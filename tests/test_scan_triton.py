"""The Triton scan: under the interpreter, compiled for CUDA, and on a real device."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from napari_ips.errors import IPSError
from napari_ips.scan import chunked, triton_gpu
from scan_parity import LAYOUTS, errors, make_inputs, run

HERE = Path(__file__).parent
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def run_in_own_process(file: str, **environment: str) -> None:
    pytest.importorskip("triton")
    inherited = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / file],
        env=inherited | {"OMP_NUM_THREADS": "1"} | environment,
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_parity_under_the_interpreter():
    run_in_own_process("scan_triton_interpreted.py", TRITON_INTERPRET="1")


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's own compiler is for Linux")
def test_kernels_compile_for_cuda_without_a_device(tmp_path):
    run_in_own_process("scan_triton_compiled.py", TRITON_CACHE_DIR=str(tmp_path))


def test_reason_without_a_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert triton_gpu.unavailable() == "no CUDA device"
    with pytest.raises(IPSError, match="no CUDA device"):
        triton_gpu.scan(**make_inputs(length=1))


def test_reason_without_triton(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(triton_gpu.metadata, "version", missing)
    assert "pip install" in triton_gpu.unavailable()


def test_reason_of_a_broken_triton(monkeypatch):
    def broken():
        raise OSError("libtriton.so: cannot open")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(triton_gpu.metadata, "version", lambda name: "3.9.0")
    monkeypatch.setattr(triton_gpu, "_kernels", broken)
    assert "libtriton.so" in triton_gpu.unavailable()


def test_reason_of_an_old_device(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    assert "Old GPU is too old" in triton_gpu.unavailable()


# On a real device. The compiler contracts and reorders, and exp2 is approximate to
# 2 units in the last place; float32 errors are relative to the largest value.


def gpu_check(tolerance, truth=chunked.scan, softplus=True, **options):
    if (reason := triton_gpu.unavailable()) is not None:
        pytest.skip(reason)
    inputs = make_inputs(device="cuda", **options)
    worst = errors(triton_gpu.scan, inputs, softplus, truth)
    assert max(worst.values()) < tolerance, worst


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("length", [1, 2, 31, 997, 4096, 2**16 + 1, 2**18 + 7])
def test_gpu_lengths(length):
    gpu_check(2e-5, d=8, n=16, length=length)


@pytest.mark.gpu
@needs_gpu
def test_gpu_float64_is_exact():
    gpu_check(1e-11, d=70, n=5, length=997, dtype=torch.float64, batch=2)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("n", [1, 3, 16, 33, 64, 100, 256])
def test_gpu_states(n):
    gpu_check(2e-5, d=40, n=n, length=300, batch=2)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gpu_strides(layout):
    gpu_check(2e-5, d=33, n=4, length=500, batch=3, layout=layout)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gpu_half_precision(dtype):
    gpu_check(1e-2, d=64, n=16, length=1000, dtype=dtype)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("decay", [-50.0, -1e-4])
def test_gpu_decay(decay):
    options = {"d": 8, "n": 4, "length": 1000, "without": ("delta_bias",)}
    gpu_check(5e-5, decay=decay, softplus=False, **options)


@pytest.mark.gpu
@needs_gpu
def test_gpu_results_repeat_bitwise():
    if (reason := triton_gpu.unavailable()) is not None:
        pytest.skip(reason)
    inputs = make_inputs(batch=2, d=64, n=16, length=5000, device="cuda")
    first, second = run(triton_gpu.scan, inputs), run(triton_gpu.scan, inputs)
    assert all(torch.equal(first[name], second[name]) for name in first)
