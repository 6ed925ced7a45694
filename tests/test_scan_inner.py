"""The kernels that train a Mamba layer on the CPU, against PyTorch in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ips.mamba import Mamba
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.scan import inner_cpu, trains_on_cpu

LAYERS = st.fixed_dictionaries(
    {
        "d_model": st.integers(1, 24),
        "d_state": st.integers(1, 17),
        "d_conv": st.integers(1, 5),
        "expand": st.integers(1, 3),
    }
)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def layer_of(**settings) -> Mamba:
    """A layer whose every parameter differs from where it starts."""
    torch.manual_seed(0)
    layer = Mamba(**settings)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


def gradients(layer: Mamba, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Output, and the gradients of a sum of its squares."""
    tokens = tokens.clone().requires_grad_()
    out = layer(tokens)
    return [out, *torch.autograd.grad((out**2).sum(), [tokens, *layer.parameters()])]


def check(layer: Mamba, tokens: torch.Tensor) -> None:
    """Compare with float64; where terms cancel, relative to the largest values of all."""
    exact = [g.detach() for g in gradients(copy.deepcopy(layer).double(), tokens.double())]
    largest = max(float(g.abs().max()) for g in exact)
    for got, expected in zip(gradients(layer, tokens), exact, strict=True):
        assert got.shape == expected.shape
        error = float((got.detach() - expected).abs().max())
        assert error <= 2e-5 * float(expected.abs().max()) + 1e-6 * largest


@given(LAYERS, st.integers(1, 3), st.integers(1, 100))
def test_values_and_gradients_of_any_shape(settings, batch, length):
    layer = layer_of(**settings)
    tokens = torch.randn(batch, length, settings["d_model"])
    assert trains_on_cpu(tokens)
    check(layer, tokens)


def test_threads_share_samples_and_columns(threads):
    layer = layer_of(d_model=48)
    for batch in (1, 3):
        check(layer, torch.randn(batch, 200, 48))


@pytest.mark.parametrize("bias", [-60.0, -8.0, 30.0])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_steps_and_values_of_any_size(bias, size):
    layer = layer_of(d_model=16)
    with torch.no_grad():
        layer.dt_proj.bias.fill_(bias)
        layer.in_proj.weight *= size
    for values in gradients(layer, torch.randn(2, 100, 16)):
        assert torch.isfinite(values).all()


def test_only_what_is_asked_for_gets_a_gradient():
    layer = layer_of(d_model=8).requires_grad_(False)
    layer.D.requires_grad_(True)
    layer(torch.randn(1, 10, 8)).sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is not None] == ["D"]


def test_nothing_that_is_given_changes(monkeypatch):
    layer, tokens = layer_of(d_model=16), torch.randn(2, 50, 16)
    before = [values.clone() for values in (tokens, *layer.parameters())]
    seen = []
    inner = inner_cpu.mamba_inner
    monkeypatch.setattr(
        inner_cpu, "mamba_inner", lambda xz, *w: seen.append(xz) or inner(xz, *w)
    )
    out = layer(tokens)
    kept = seen[0].clone()
    gradient = torch.randn_like(out)
    given_gradient = gradient.clone()
    out.backward(gradient)
    after = [values.detach() for values in (tokens, *layer.parameters())]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(seen[0], kept)
    assert torch.equal(gradient, given_gradient)


def test_autocast_leaves_it_in_float32_and_gives_nearly_the_same():
    layer, tokens = layer_of(d_model=48), torch.randn(2, 300, 48)
    plain = gradients(layer, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        half = gradients(layer, tokens)
    assert half[0].dtype == torch.bfloat16
    for got, expected in zip(half, plain, strict=True):
        difference = (got - expected).detach().norm()
        assert float(difference / expected.detach().norm()) < 0.03


def test_training_takes_it_and_float64_does_not(monkeypatch):
    taken = []
    inner = inner_cpu.mamba_inner
    monkeypatch.setattr(
        inner_cpu, "mamba_inner", lambda xz, *w: taken.append(xz.dtype) or inner(xz, *w)
    )
    network = CrossImageFusionNetwork(width=8, mamba_blocks=2)
    network(*torch.rand(2, 1, 1, 16, 16))
    assert taken == [torch.float32] * 2
    network.double()(*torch.rand(2, 1, 1, 16, 16, dtype=torch.float64))
    with torch.no_grad():
        network.float()(*torch.rand(2, 1, 1, 16, 16))
    assert len(taken) == 2


def test_no_token_depends_on_later_ones():
    layer, tokens = layer_of(d_model=16), torch.randn(1, 80, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(tokens)[0, 40].sum(), tokens)
    assert np.flatnonzero(gradient[0].abs().sum(-1)).tolist() == list(range(41))
