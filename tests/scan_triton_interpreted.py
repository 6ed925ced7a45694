"""Parity of the Triton kernels under Triton's interpreter, on the CPU.

`test_scan_triton.py` runs this file in a process of its own, since the interpreter is
chosen when Triton is first imported.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ips.errors import IPSError
from napari_ips.scan import triton_gpu
from scan_parity import LAYOUTS, errors, make_inputs, run

# Largest error relative to the largest value. In float64 nothing but the order of sums
# differs from the reference; half precision rounds the outputs to 8 and 11 bits.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 5e-6,
    torch.float16: 2e-3,
    torch.bfloat16: 1e-2,
}


def check(inputs, softplus=True):
    worst = errors(triton_gpu.scan, inputs, softplus)
    tolerance = TOLERANCE[inputs["u"].dtype]
    assert max(worst.values()) < tolerance, worst


def test_interpreter_counts_as_available():
    assert triton_gpu.unavailable() is None


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_dtype(dtype):
    check(make_inputs(d=2, n=2, length=40, dtype=dtype))


@pytest.mark.parametrize("length", [1, 2, 16, 31, 33, 101])
def test_lengths_of_one_token_whole_chunks_and_primes(length):
    check(make_inputs(d=2, n=2, length=length, dtype=torch.float64))


@pytest.mark.parametrize(("d", "n", "length"), [(1, 1, 20), (40, 2, 18), (2, 17, 18)])
def test_channels_and_states_that_are_no_powers_of_two(d, n, length):
    check(make_inputs(d=d, n=n, length=length))


def test_256_states():
    check(make_inputs(d=1, n=256, length=2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides(layout):
    check(make_inputs(batch=2, d=2, n=2, length=18, layout=layout))


def test_streams_of_different_layout_and_dtype():
    inputs = make_inputs(batch=2, d=2, n=2, length=18)
    options = {"layout": "tokens last", "dtype": torch.float64}
    other = make_inputs(batch=2, d=2, n=2, length=18, **options)
    inputs |= {name: other[name] for name in ("delta", "z", "C")}
    check(inputs)


@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("without", ["D", "z", "delta_bias", None])
def test_without_each_optional_part(without, softplus):
    inputs = make_inputs(d=2, n=2, length=18, without=(without,) if without else ())
    check(inputs, softplus)


def test_without_all_optional_parts():
    check(make_inputs(length=20, without=("D", "z", "delta_bias")), softplus=False)


@pytest.mark.parametrize("decay", [-50.0, -1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strong_and_weak_decay(decay, dtype):
    inputs = make_inputs(
        d=2, n=2, length=50, decay=decay, dtype=dtype, without=("delta_bias",)
    )
    check(inputs, softplus=False)


@pytest.mark.parametrize("offset", [-30.0, -12.0, 30.0, 200.0])
def test_softplus_of_extreme_arguments(offset):
    inputs = make_inputs(d=2, n=2, length=10)
    with torch.no_grad():
        inputs["delta_bias"].fill_(offset)
    check(inputs)


def test_carry_of_more_chunks_than_it_takes_in_at_once(monkeypatch):
    monkeypatch.setattr(triton_gpu, "CARRIED", 4)
    check(make_inputs(d=1, n=2, length=32 * 4 + 1, dtype=torch.float64))


@settings(deadline=None, max_examples=8)
@given(
    batch=st.integers(1, 3),
    d=st.integers(1, 6),
    n=st.integers(1, 4),
    length=st.integers(1, 35),
    layout=st.sampled_from(LAYOUTS),
    softplus=st.booleans(),
    without=st.sets(st.sampled_from(["D", "z", "delta_bias"])),
    seed=st.integers(0, 100),
)
def test_any_shape(batch, d, n, length, layout, softplus, without, seed):
    inputs = make_inputs(
        batch, d, n, length, torch.float64, layout, tuple(without), seed=seed
    )
    check(inputs, softplus)


def test_gradient_of_a_sum_and_of_some_inputs_only():
    inputs = make_inputs(d=2, n=2, length=18)
    every = run(triton_gpu.scan, inputs)
    for name, tensor in inputs.items():
        tensor.requires_grad_(name == "delta")
    y = triton_gpu.scan(**inputs, delta_softplus=True)
    y.sum().backward()  # an expanded gradient, all strides zero
    ones = torch.ones_like(y)
    y = triton_gpu.scan(**inputs, delta_softplus=True)
    (expected,) = torch.autograd.grad(y, inputs["delta"], ones)
    assert torch.equal(inputs["delta"].grad, expected)
    assert inputs["u"].grad is None
    assert torch.equal(every["y"], y)


def test_output_keeps_the_layout_of_u_and_inputs_stay_untouched():
    inputs = make_inputs(batch=2, d=2, n=2, length=18)
    before = {name: t.detach().clone() for name, t in inputs.items()}
    results = run(triton_gpu.scan, inputs)
    assert results["y"].stride() == inputs["u"].stride()
    assert all(torch.equal(before[name], inputs[name]) for name in inputs)


def test_no_tokens():
    assert triton_gpu.scan(**make_inputs(length=0)).shape == (1, 5, 0)


def test_second_derivatives_are_refused():
    inputs = make_inputs(length=4)
    y = triton_gpu.scan(**inputs)
    (gradient,) = torch.autograd.grad(y.square().sum(), inputs["u"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_reason_names_a_triton_that_is_too_old(monkeypatch):
    monkeypatch.setattr(triton_gpu.metadata, "version", lambda name: "3.1.0")
    assert "3.1.0 is too old" in triton_gpu.unavailable()
    with pytest.raises(IPSError, match="too old"):
        triton_gpu.scan(**make_inputs(length=1))
