"""Compile every Triton kernel for CUDA devices, without one.

The interpreter runs what the compiler may refuse. Here the scan is called forward and
backward with a driver that only says which device to compile for; each launch compiles
its kernel down to machine code and stops there. `test_scan_triton.py` runs this file in
a process of its own, since such a driver spoils Triton for everything after it.
"""

from __future__ import annotations

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from napari_ips.scan import triton_gpu, triton_kernels
from scan_parity import make_inputs


class PretendedDriver:
    def __init__(self, capability):
        self.capability = capability

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return self.capability

    def get_current_stream(self, device=None):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")


@pytest.fixture
def compiled(capability, monkeypatch):
    """Names and machine code of the kernels that are launched from here on."""
    kernels = []

    def compile_only(self, grid):
        def launch(*args, **kwargs):
            kernel = self.run(*args, grid=grid, warmup=True, **kwargs)
            kernels.append((self.fn.__name__, kernel.asm["cubin"]))

        return launch

    triton.runtime.driver.set_active(PretendedDriver(capability))
    monkeypatch.setattr(JITFunction, "__getitem__", compile_only)
    monkeypatch.setattr(triton_gpu, "unavailable", lambda: None)
    monkeypatch.setattr(triton_kernels, "INTERPRETED", True)  # lets CPU tensors through
    return kernels


@pytest.mark.parametrize(
    ("capability", "options"),
    [
        (90, {"d": 64, "n": 16, "length": 4096}),
        (75, {"d": 64, "n": 16, "length": 4096}),
        (80, {"d": 3, "n": 200, "dtype": torch.bfloat16, "without": ("D", "z")}),
        (80, {"dtype": torch.float64, "without": ("delta_bias",)}),
    ],
    ids=["sm_90", "sm_75", "bfloat16, 200 states", "float64"],
)
def test_every_kernel_compiles(compiled, options):
    inputs = make_inputs(**options)
    triton_gpu.scan(**inputs, delta_softplus=True).sum().backward()
    names = [name for name, _ in compiled]
    forward = ["sweep", "carry", "sweep"]
    assert names == [*forward, "sweep", "carry", "adjoint_sweep", "carry", "gradients"]
    assert all(code.startswith(b"\x7fELF") for _, code in compiled)
