"""The cross-image fusion network: shapes, gradients, and Mamba-1's parameters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ips import CrossImageFusionNetwork, IPSError, NetworkConfig
from napari_ips.mamba import Mamba
from napari_ips.weights import load_weights

SMALL = {"width": 4, "local_blocks": 1, "mamba_blocks": 2, "d_state": 4}


def network(**settings) -> CrossImageFusionNetwork:
    torch.manual_seed(0)
    return CrossImageFusionNetwork(**(SMALL | settings))


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 5), (32, 32)])
@pytest.mark.parametrize("output", ["selection", "image"])
def test_any_height_and_width(stride, size, output):
    net = network(global_stride=stride, output=output, in_channels=2)
    a, b = torch.rand((3, 2, *size)), torch.rand((3, 2, *size))
    assert net.fuse(a, b).shape == (3, 2, *size)
    assert net(a, b).shape == (3, 1 if output == "selection" else 2, *size)


@given(
    st.integers(1, 40),
    st.integers(1, 60),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([3, 16]),
    st.integers(1, 2),
)
def test_inference_equals_what_training_computes(height, width, stride, channels, batch):
    """On the CPU they are different kernels; the tolerance is float32 rounding."""
    net = network(width=channels, global_stride=stride)
    sources = torch.rand((2, batch, 1, height, width))
    trained = net(*sources)
    assert trained.requires_grad
    for no_gradients in (torch.no_grad, torch.inference_mode):
        with no_gradients():
            inferred = net(*sources)
        torch.testing.assert_close(inferred, trained.detach(), atol=2e-6, rtol=2e-5)


def test_shipped_weights_infer_what_they_were_trained_to():
    net, _ = load_weights("default")
    sources = torch.rand((2, 1, 1, 75, 131), generator=torch.Generator().manual_seed(0))
    trained = net(*sources).detach()
    with torch.inference_mode():
        inferred = net(*sources)
    assert (inferred - trained).abs().max() < 5e-6 * trained.abs().max()


def test_autocast_infers_nearly_the_same():
    net, _ = load_weights("default")
    sources = torch.rand((2, 1, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = net(*sources)
        encoded = [net.encode(source) for source in sources]
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(*sources)
            encoded_before = net.decide(*encoded)
    assert (encoded_before - exact).square().mean() < 1e-3 * exact.square().mean()
    assert (rough - exact).square().mean() < 1e-3 * exact.square().mean()


def test_selection_invents_no_intensities():
    a, b = torch.rand((2, 1, 20, 20)), torch.rand((2, 1, 20, 20))
    fused = network().fuse(a, b)
    assert (fused >= torch.minimum(a, b) - 1e-6).all()
    assert (fused <= torch.maximum(a, b) + 1e-6).all()


def test_every_parameter_gets_a_gradient():
    net = network()
    net.fuse(torch.rand((1, 1, 16, 16)), torch.rand((1, 1, 16, 16))).sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None]
    assert without == []


def test_both_sources_share_the_encoder_and_features_can_be_reused():
    net = network()
    a, b = torch.rand((1, 1, 16, 16)), torch.rand((1, 1, 16, 16))
    torch.testing.assert_close(net(a, b), net.decide(net.encode(a), net.encode(b)))


def test_the_global_branch_sees_far_and_the_local_one_near():
    a = torch.rand((1, 1, 40, 40))
    changed = a.clone()
    changed[..., 0, 0] += 1.0
    far = (..., slice(30, None), slice(30, None))
    both = network()
    assert not torch.equal(both(a, a)[far], both(changed, a)[far])
    local_only = network(mamba_blocks=0)
    assert torch.equal(local_only(a, a)[far], local_only(changed, a)[far])


@pytest.mark.parametrize(
    ("absent", "present"),
    [({"mamba_blocks": 0}, "local_branch"), ({"local_blocks": 0}, "global_branch")],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_without_a_branch_all_goes_through_the_other(absent, present, stride):
    """So the images no longer matter once the other one is silenced."""
    net = network(global_stride=stride, **absent)
    sources, others = torch.rand((2, 2, 1, 1, 20, 20))
    assert not torch.equal(net(*sources), net(*others))
    net(*sources).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    branch = getattr(net, present)
    branch.register_forward_hook(lambda *args: torch.zeros_like(args[-1]))
    torch.testing.assert_close(net(*sources), net(*others), atol=0, rtol=0)


def test_a_network_without_any_branch_is_refused():
    with pytest.raises(IPSError, match="both 0"):
        network(local_blocks=0, mamba_blocks=0)


def test_the_default_has_12_mamba_blocks_beside_3_resblocks():
    net = CrossImageFusionNetwork()
    assert len(net.global_branch.blocks) == 12
    assert len(net.local_branch) == 3
    assert net.config == NetworkConfig()


def test_a_mamba_layer_of_32_channels_has_as_many_parameters_as_mamba_1():
    assert sum(p.numel() for p in Mamba(32).parameters()) == 9_920


def test_parameters_have_the_names_and_shapes_of_mamba_1():
    shapes = {name: tuple(p.shape) for name, p in Mamba(32).named_parameters()}
    assert shapes == {
        "A_log": (64, 16),
        "D": (64,),
        "in_proj.weight": (128, 32),
        "conv1d.weight": (64, 1, 4),
        "conv1d.bias": (64,),
        "x_proj.weight": (34, 64),
        "dt_proj.weight": (64, 2),
        "dt_proj.bias": (64,),
        "out_proj.weight": (32, 64),
    }


def test_step_sizes_start_between_a_thousandth_and_a_tenth():
    steps = torch.nn.functional.softplus(Mamba(64).dt_proj.bias)
    assert steps.min() >= 0.99e-3
    assert steps.max() <= 0.101


def test_a_mamba_layer_equals_the_published_sequence_of_steps():
    """Written out from the Mamba paper's Algorithm 2, with the plain reference loop."""
    torch.manual_seed(1)
    layer = Mamba(16, d_state=4).double()
    x = torch.randn((2, 11, 16), dtype=torch.float64)
    u, z = (x @ layer.in_proj.weight.T).split(32, dim=-1)
    u = torch.nn.functional.conv1d(
        u.transpose(1, 2), layer.conv1d.weight, layer.conv1d.bias, groups=32, padding=3
    )[..., :11]
    u = torch.nn.functional.silu(u).transpose(1, 2)
    dt, b, c = (u @ layer.x_proj.weight.T).split([1, 4, 4], dim=-1)
    dt = torch.nn.functional.softplus(layer.dt_proj(dt))
    state = torch.zeros((2, 32, 4), dtype=torch.float64)
    rows = []
    for t in range(11):
        decay = torch.exp(-dt[:, t, :, None] * layer.A_log.exp())
        state = decay * state + (dt[:, t] * u[:, t])[..., None] * b[:, t, None]
        rows.append((state * c[:, t, None]).sum(-1) + layer.D * u[:, t])
    y = torch.stack(rows, dim=1) * torch.nn.functional.silu(z)
    torch.testing.assert_close(layer(x), y @ layer.out_proj.weight.T, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", ["chunked", "reference"])
def test_the_scan_backend_can_be_chosen(backend):
    net = network()
    a, b = torch.rand((1, 1, 12, 12)), torch.rand((1, 1, 12, 12))
    expected = net(a, b)
    net.set_scan_backend(backend)
    torch.testing.assert_close(net(a, b), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"global_stride": 3}, {"output": "map"}, {"width": 0}])
def test_shapes_that_make_no_network_are_refused(wrong):
    with pytest.raises(IPSError, match=next(iter(wrong))):
        CrossImageFusionNetwork(**wrong)


@pytest.mark.parametrize("size", [(7, 9), (8, 6), (1, 1), (13, 32)])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_any_size_comes_back_as_it_was(size, unshuffle):
    net = CrossImageFusionNetwork(
        width=4, local_blocks=1, mamba_blocks=1, unshuffle=unshuffle
    )
    a, b = torch.rand(2, 2, 1, *size).unbind()
    assert net(a, b).shape == (2, 1, *size)
    assert net.fuse(a, b).shape == (2, 1, *size)


def test_squares_of_pixels_are_decided_pixel_by_pixel():
    net = CrossImageFusionNetwork(width=4, local_blocks=1, mamba_blocks=1)
    odds = net(*torch.rand(2, 1, 1, 8, 8).unbind())[0, 0]
    assert len(torch.unique(odds)) > 32


@pytest.mark.parametrize("width", [8, 24])
def test_features_keep_their_size_at_the_start(width):
    torch.manual_seed(0)
    net = CrossImageFusionNetwork(width=width)
    seen = []
    for layer in (net.encoder[0], net.encoder, net.local_branch):
        layer.register_forward_hook(lambda layer, given, out: seen.append(out.detach()))
    net(*torch.randn(2, 1, 1, 64, 64))
    sizes = [float(values.std()) for values in seen]
    assert len(sizes) == 3
    assert all(0.5 < size < 2.0 for size in sizes), sizes
