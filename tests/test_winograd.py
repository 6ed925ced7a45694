"""Winograd's convolutions against PyTorch's in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_ips import winograd
from napari_ips.network import CrossImageFusionNetwork


def layers(channels: int, blocks: int) -> tuple[list[nn.Conv2d], nn.Conv2d]:
    torch.manual_seed(0)
    residual = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2 * blocks)]
    return residual, nn.Conv2d(2 * channels, channels, 3, padding=1)


def by_torch(x, others, residual, joining):
    def conv(layer, image):
        weight, bias = layer.weight.double(), layer.bias.double()
        return nn.functional.conv2d(image, weight, bias, padding=1)

    x, others = x.double(), others.double()
    for first, second in zip(residual[::2], residual[1::2], strict=True):
        x = x + conv(second, conv(first, x).relu())
    return conv(joining, torch.cat([x, others], dim=1)).relu()


def check(x, others, residual, joining):
    with torch.inference_mode():
        got = winograd.join(x, others, residual, joining)
        expected = by_torch(x, others, residual, joining)
    assert got.shape == x.shape
    assert (got - expected).abs().max() < 3e-6 * expected.abs().max().clamp(min=1.0)


@given(
    st.integers(1, 2),
    st.integers(1, 12),
    st.integers(1, 130),
    st.integers(0, 3),
    st.sampled_from([16, 32, 48]),
)
def test_it_equals_pytorch_in_float64_for_any_size(batch, height, width, blocks, channels):
    x, others = torch.randn(2, batch, channels, height, width)
    check(x, others, *layers(channels, blocks))


@pytest.mark.parametrize("size", [(97, 3), (64, 96), (1, 1)])
def test_tall_and_tiny_images_in_either_memory_order(size):
    x, others = torch.randn(2, 1, 32, *size)
    check(x, others, *layers(32, 3))
    last = {"memory_format": torch.channels_last}
    check(x.to(**last), others.to(**last), *layers(32, 3))


def test_inputs_stay_as_they_are_and_changed_weights_count_at_once():
    x, others = torch.randn(2, 1, 32, 9, 9)
    before = x.clone(), others.clone()
    residual, joining = layers(32, 1)
    with torch.inference_mode():
        old = winograd.join(x, others, residual, joining)
        residual[0].weight.data.mul_(2.0)
        assert not torch.equal(winograd.join(x, others, residual, joining), old)
    assert torch.equal(x, before[0])
    assert torch.equal(others, before[1])


def test_samples_of_a_batch_do_not_mix_on_several_threads():
    x, others = torch.randn(2, 4, 32, 20, 20)
    convs = layers(32, 2)
    threads = torch.get_num_threads()
    with torch.inference_mode():
        alone = [
            winograd.join(x[k : k + 1], others[k : k + 1], *convs) for k in range(len(x))
        ]
        try:
            torch.set_num_threads(3)
            together = winograd.join(x, others, *convs)
        finally:
            torch.set_num_threads(threads)
    assert torch.equal(together, torch.cat(alone))


def test_channels_that_fill_no_vectors_do_not_fit():
    assert winograd.fits(32)
    assert not winograd.fits(6)


def gradients_by(convolve, image, conv):
    """What a convolution makes of an image, and the gradients of a sum of its squares."""
    out = convolve(image, conv)
    return [out, *torch.autograd.grad((out**2).sum(), [image, *conv.parameters()])]


@given(
    st.integers(1, 2),
    st.integers(1, 12),
    st.integers(1, 110),
    st.sampled_from([(16, 16), (48, 48), (96, 48), (16, 64)]),
)
def test_one_convolution_and_its_gradients_of_any_size(batch, height, width, channels):
    torch.manual_seed(0)
    conv = nn.Conv2d(*channels, 3, padding=1)
    image = torch.randn(batch, channels[0], height, width, requires_grad=True)
    got = gradients_by(winograd.convolve, image, conv)
    double = image.detach().double().requires_grad_()
    expected = gradients_by(lambda x, c: c(x), double, copy.deepcopy(conv).double())
    for values, exact in zip(got, expected, strict=True):
        assert values.shape == exact.shape
        limit = 5e-6 * exact.detach().abs().max().clamp(min=1.0)
        assert (values - exact).detach().abs().max() < limit


def test_only_training_in_float32_convolves_so(monkeypatch):
    taken = []
    convolve = winograd.convolve
    monkeypatch.setattr(
        winograd, "convolve", lambda x, conv: taken.append(x.dtype) or convolve(x, conv)
    )
    network = CrossImageFusionNetwork(width=16, mamba_blocks=1)
    sources = torch.rand(2, 1, 1, 16, 16)
    network(*sources)
    # Two in each of four residual blocks, and the one that joins the branches.
    assert taken == [torch.float32] * 9
    with torch.autocast("cpu", torch.bfloat16):
        network(*sources)
    with torch.no_grad():
        network(*sources)
    network.double()(*sources.double())
    assert len(taken) == 9
