"""The selective scan: every CPU backend against a float64 loop, gradients included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ips import IPSError
from napari_ips.scan import backends, choose_backend, selective_scan
from napari_ips.scan.conv import causal_conv1d

FAST = ["numba", "chunked"]


def inputs(batch, d, length, n, dtype=torch.float32, seed=0, channel_last=True):
    g = torch.Generator().manual_seed(seed)

    def tokens(width):
        if channel_last:
            drawn = torch.randn((batch, length, width), generator=g, dtype=torch.float64)
            return drawn.to(dtype).transpose(1, 2)
        return torch.randn((batch, width, length), generator=g, dtype=torch.float64).to(
            dtype
        )

    A = -torch.exp(torch.rand((d, n), generator=g, dtype=torch.float64) * 3)
    return {
        "u": tokens(d),
        "delta": tokens(d),
        "A": A.to(dtype),
        "B": tokens(n),
        "C": tokens(n),
        "D": torch.randn(d, generator=g, dtype=torch.float64).to(dtype),
        "z": tokens(d),
        "delta_bias": torch.randn(d, generator=g, dtype=torch.float64).to(dtype),
    }


def gradients(values, backend):
    leaves = {k: v.clone().requires_grad_() for k, v in values.items()}
    y = selective_scan(**leaves, delta_softplus=True, backend=backend)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(y, list(leaves.values()), weight.to(y.dtype))
    return y.detach(), dict(zip(leaves, grads, strict=True))


def relative_error(value, truth):
    scale = truth.abs().max().clamp(min=1e-12)
    return float((value.double() - truth).abs().max() / scale)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    ("batch", "d", "length", "n", "channel_last"),
    [
        (1, 1, 1, 1, True),
        (2, 5, 31, 3, True),
        (1, 64, 1009, 16, True),
        (2, 33, 257, 16, False),
        (1, 40, 512, 5, True),
    ],
)
def test_values_and_gradients_equal_the_float64_loop(
    backend, batch, d, length, n, channel_last
):
    values = inputs(batch, d, length, n, channel_last=channel_last)
    truth, true_grads = gradients({k: v.double() for k, v in values.items()}, "reference")
    y, grads = gradients(values, backend)
    assert y.dtype == torch.float32
    assert relative_error(y, truth) < 2e-6
    for name, grad in grads.items():
        assert relative_error(grad, true_grads[name]) < 1e-5, name


def test_channels_shared_out_to_threads_give_the_same():
    values = inputs(1, 70, 100, 5)
    truth, true_grads = gradients({k: v.double() for k, v in values.items()}, "reference")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        y, grads = gradients(values, "numba")
        again = gradients(values, "numba")[1]
    finally:
        torch.set_num_threads(threads)
    assert relative_error(y, truth) < 2e-6
    for name, grad in grads.items():
        assert relative_error(grad, true_grads[name]) < 1e-5, name
        assert torch.equal(grad, again[name]), name


@pytest.mark.parametrize(("batch", "d"), [(0, 3), (2, 0)])
def test_nothing_to_scan_gives_nothing(batch, d):
    values = {k: v.requires_grad_() for k, v in inputs(batch, d, 7, 2).items()}
    y = selective_scan(**values, backend="numba")
    assert y.shape == (batch, d, 7)
    y.sum().backward()
    assert values["B"].grad.shape == values["B"].shape


@pytest.mark.parametrize("power", [100.0, 1000.0, float("nan")])
def test_what_is_beyond_float32_is_no_finite_number(power):
    values = inputs(1, 1, 4, 1)
    values |= {"A": torch.tensor([[power]]), "delta": torch.ones(1, 1, 4)}
    plain = {k: values[k] for k in ("u", "delta", "A", "B", "C")}
    y, truth = (selective_scan(**plain, backend=b) for b in ("numba", "reference"))
    assert torch.equal(y[..., 1:].isfinite(), truth[..., 1:].isfinite())


@pytest.mark.parametrize("backend", FAST)
def test_a_sequence_of_more_than_65536_tokens(backend):
    values = inputs(1, 2, 2**16 + 3, 2)
    whole = selective_scan(**values, delta_softplus=True, backend=backend)
    # What the first tokens left behind has faded: the tail alone gives the same end.
    tail = {
        k: v[..., -2000:] if k in ("u", "delta", "B", "C", "z") else v
        for k, v in values.items()
    }
    expected = selective_scan(
        **{k: v.double() for k, v in tail.items()}, delta_softplus=True, backend="reference"
    )
    assert relative_error(whole[..., -100:], expected[..., -100:]) < 2e-6


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("step", [1e-6, 60.0])
def test_weak_and_strong_decay_stay_exact_and_finite(backend, step):
    values = inputs(1, 8, 300, 4)
    values["delta"] = torch.full_like(values["delta"], step)
    plain = {k: v for k, v in values.items() if k not in ("z", "delta_bias", "D")}
    y = selective_scan(**plain, backend=backend)
    truth = selective_scan(**{k: v.double() for k, v in plain.items()}, backend="reference")
    assert torch.isfinite(y).all()
    assert relative_error(y, truth) < 5e-6  # a sum of 300 terms in float32


@pytest.mark.parametrize("backend", [*FAST, "reference"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(backend, dtype):
    values = inputs(1, 8, 100, 4, dtype=dtype)
    y = selective_scan(**values, delta_softplus=True, backend=backend)
    truth = selective_scan(
        **{k: v.double() for k, v in values.items()},
        delta_softplus=True,
        backend="reference",
    )
    assert y.dtype == dtype
    assert relative_error(y, truth) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_gradcheck_in_float64(backend):
    values = inputs(1, 2, 5, 2, dtype=torch.float64)
    leaves = tuple(v.clone().requires_grad_() for v in values.values())

    def scan(*tensors):
        return selective_scan(
            **dict(zip(values, tensors, strict=True)), delta_softplus=True, backend=backend
        )

    assert torch.autograd.gradcheck(scan, leaves)


def test_the_reference_equals_a_scalar_recurrence():
    u, delta, b, c = 2.0, 0.3, 0.7, -1.1
    state = expected = 0.0
    tensors = [torch.full((1, 1, 4), v, dtype=torch.float64) for v in (u, delta, b, c)]
    y = selective_scan(
        tensors[0],
        tensors[1],
        torch.tensor([[-0.5]], dtype=torch.float64),
        *tensors[2:],
        D=torch.tensor([0.25], dtype=torch.float64),
        backend="reference",
    )
    for k in range(4):
        state = np.exp(-0.5 * delta) * state + delta * b * u
        expected = c * state + 0.25 * u
        assert y[0, 0, k].item() == pytest.approx(expected, rel=1e-12)


@given(
    st.integers(1, 2),
    st.integers(1, 40),
    st.integers(1, 80),
    st.integers(1, 9),
    st.integers(0, 2**31),
)
def test_backends_agree_for_any_shape(batch, d, length, n, seed):
    values = inputs(batch, d, length, n, seed=seed)
    truth = selective_scan(
        **{k: v.double() for k, v in values.items()},
        delta_softplus=True,
        backend="reference",
    )
    for backend in FAST:
        y = selective_scan(**values, delta_softplus=True, backend=backend)
        assert relative_error(y, truth) < 5e-6


def test_no_token_depends_on_later_ones():
    values = inputs(1, 8, 50, 4)
    before = selective_scan(**values, delta_softplus=True)
    values["u"] = values["u"].clone()
    values["u"][..., 30] += 1.0
    after = selective_scan(**values, delta_softplus=True)
    assert torch.equal(before[..., :30], after[..., :30])
    assert not torch.equal(before[..., 30:], after[..., 30:])


def test_auto_takes_numba_on_the_cpu_and_chunked_for_float64():
    assert choose_backend("cpu")[0] == "numba"
    assert choose_backend("cpu", torch.float64)[0] == "chunked"
    assert choose_backend("mps")[0] == "chunked"


def test_an_unusable_backend_is_refused_with_its_reason():
    unusable = [name for name, reason in backends().items() if reason]
    if not unusable:
        pytest.skip("every backend is usable here")
    with pytest.raises(IPSError, match=unusable[0]):
        selective_scan(**inputs(1, 1, 2, 1), backend=unusable[0])
    with pytest.raises(IPSError, match="no scan backend"):
        selective_scan(**inputs(1, 1, 2, 1), backend="nonsense")


@pytest.mark.parametrize("taps", [1, 4])
def test_causal_convolution_equals_torch(taps):
    g = torch.Generator().manual_seed(0)
    x = torch.randn((2, 30, 6), generator=g)
    weight, bias = torch.randn((6, 1, taps), generator=g), torch.randn(6, generator=g)
    padded = torch.nn.functional.conv1d(
        x.transpose(1, 2), weight, bias, groups=6, padding=taps - 1
    )
    expected = torch.nn.functional.silu(padded[..., :30]).transpose(1, 2)
    torch.testing.assert_close(causal_conv1d(x, weight, bias), expected)
