"""The wrapper of mamba-ssm and causal-conv1d, against stand-ins that check like them."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ips.errors import IPSError
from napari_ips.scan import mamba, reference

MODULES = {
    "mamba_ssm": ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"),
    "causal_conv1d": ("causal_conv1d", "causal_conv1d.causal_conv1d_interface"),
}
EXTENSIONS = {"mamba_ssm": "selective_scan_cuda", "causal_conv1d": "causal_conv1d_cuda"}


def standin_scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """Refuse what selective_scan_cuda refuses; else compute with the reference."""
    for stream in (u, delta, B, C, *([] if z is None else [z])):
        assert stream.dtype == u.dtype
        assert stream.dtype in (torch.float32, torch.float16, torch.bfloat16)
        assert stream.stride(-1) == 1 or stream.shape[-1] == 1
    for weight in (A, *(w for w in (D, delta_bias) if w is not None)):
        assert weight.dtype == torch.float32
    assert A.shape[1] <= 256
    assert B.shape == C.shape == (u.shape[0], A.shape[1], u.shape[2])
    return reference.scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def standin_conv(x, weight, bias=None, activation=None):
    """Refuse what causal_conv1d_cuda refuses; else compute in torch."""
    assert activation == "silu"
    assert weight.ndim == 2 and 2 <= weight.shape[1] <= 4
    assert bias is None or bias.dtype == weight.dtype
    assert x.stride(2) == 1 or x.stride(1) == 1
    if x.stride(1) == 1 and x.stride(2) > 1:
        assert x.shape[1] % 8 == x.stride(0) % 8 == x.stride(2) % 8 == 0
    standin_conv.calls += 1
    padded = F.pad(x.to(weight.dtype), (weight.shape[1] - 1, 0))
    return F.silu(F.conv1d(padded, weight[:, None], bias, groups=len(weight))).to(x.dtype)


@pytest.fixture
def absent(monkeypatch):
    """A machine with a CUDA device, and neither package."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in [*sum(MODULES.values(), ()), *EXTENSIONS.values()]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    # None in sys.modules makes an import fail as that of a missing module does.
    for name in [*MODULES, *EXTENSIONS.values()]:
        monkeypatch.setitem(sys.modules, name, None)
    mamba._load.cache_clear()
    yield monkeypatch
    mamba._load.cache_clear()


@pytest.fixture
def installed(absent):
    """The same machine with both packages, and tensors that pass for CUDA tensors."""
    functions = {"mamba_ssm": standin_scan, "causal_conv1d": standin_conv}
    for package, names in MODULES.items():
        for name in names:
            absent.setitem(sys.modules, name, ModuleType(name))
        absent.setitem(sys.modules, EXTENSIONS[package], ModuleType(EXTENSIONS[package]))
    sys.modules[names[-1]].causal_conv1d_fn = functions["causal_conv1d"]
    sys.modules[MODULES["mamba_ssm"][-1]].selective_scan_fn = functions["mamba_ssm"]
    absent.setattr(mamba, "_on_cuda", lambda tensor: True)
    standin_conv.calls = 0
    return absent


def make(batch=2, d=5, n=3, length=17, dtype=torch.float32, channel_last=True, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    def stream(rows):
        if channel_last:
            return draw(batch, length, rows).to(dtype).transpose(1, 2)
        return draw(batch, rows, length).to(dtype)

    tensors = {
        "u": stream(d),
        "delta": stream(d),
        "A": -draw(d, n).abs(),
        "B": stream(n),
        "C": stream(n),
        "D": draw(d),
        "z": stream(d),
        "delta_bias": draw(d),
    }
    return {name: t.detach().requires_grad_() for name, t in tensors.items()}


def gradients(scan, tensors):
    y = scan(**tensors, delta_softplus=True)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
    return y, torch.autograd.grad((y * weights).sum(), list(tensors.values()))


@pytest.mark.parametrize("channel_last", [True, False])
@pytest.mark.parametrize("length", [1, 17])
def test_scan_passes_what_the_kernel_accepts_and_agrees_with_the_reference(
    installed, channel_last, length
):
    tensors = make(length=length, channel_last=channel_last)
    y, got = gradients(mamba.scan, tensors)
    expected_y, expected = gradients(reference.scan, tensors)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, expected_y)
    torch.testing.assert_close(got, expected)


def test_optional_tensors_may_be_left_out(installed):
    tensors = {
        name: t for name, t in make().items() if name in ("u", "delta", "A", "B", "C")
    }
    torch.testing.assert_close(mamba.scan(**tensors), reference.scan(**tensors))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_streams_stay_half_and_keep_float32_weights(installed, dtype):
    tensors = make(dtype=dtype)
    y = mamba.scan(**tensors, delta_softplus=True)
    assert y.dtype == dtype
    torch.testing.assert_close(y, reference.scan(**tensors, delta_softplus=True))


def test_half_weights_and_mixed_streams_are_raised_to_float32(installed):
    tensors = make(dtype=torch.bfloat16)
    tensors["delta"] = tensors["delta"].float() + 1e-3
    for name in ("A", "D", "delta_bias"):
        tensors[name] = tensors[name].bfloat16()
    y = mamba.scan(**tensors)
    assert y.dtype == torch.bfloat16
    expected = reference.scan(**{name: t.float() for name, t in tensors.items()})
    torch.testing.assert_close(y, expected.bfloat16())


def test_what_the_kernel_would_fail_on_is_refused_in_a_plain_line(installed):
    with pytest.raises(IPSError, match="float32 only"):
        mamba.scan(**make(dtype=torch.float64))
    with pytest.raises(IPSError, match="at most 256 states"):
        mamba.scan(**make(n=257, length=1))
    installed.setattr(mamba, "_on_cuda", lambda tensor: False)
    with pytest.raises(IPSError, match="CUDA device"):
        mamba.scan(**make())


def test_reason_without_a_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert mamba.unavailable() == "no CUDA device"
    assert mamba.conv_unavailable() == "no CUDA device"
    with pytest.raises(IPSError, match="no CUDA device"):
        mamba.scan(**make())


def test_reason_without_the_packages_names_the_extra(absent):
    assert "napari-ips[gpu]" in mamba.unavailable()
    assert "napari-ips[gpu]" in mamba.conv_unavailable()


def test_installed_packages_have_no_reason(installed):
    assert mamba.unavailable() is None
    assert mamba.conv_unavailable() is None


def test_reason_of_a_package_built_without_its_kernels(installed):
    installed.setitem(sys.modules, "selective_scan_cuda", None)
    mamba._load.cache_clear()
    assert "without its CUDA kernels" in mamba.unavailable()
    assert mamba.conv_unavailable() is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise OSError('libcudart.so.12: cannot open')", "libcudart.so.12"),
        ("raise ImportError('undefined symbol: _ZN3c10')", "undefined symbol"),
        ("raise RuntimeError('no driver\\nand a long story')", "RuntimeError: no driver)"),
        ("import no_such_module_of_theirs", "no_such_module_of_theirs is missing"),
        ("import selective_scan_cuda", "without its CUDA kernels"),
    ],
)
def test_any_failing_import_becomes_one_line(absent, tmp_path, body, expected):
    package = tmp_path / "mamba_ssm"
    package.mkdir()
    (package / "__init__.py").write_text(body)
    absent.delitem(sys.modules, "mamba_ssm")
    absent.syspath_prepend(str(tmp_path))
    reason = mamba.unavailable()
    assert expected in reason
    assert "\n" not in reason


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 5, 8, 16]),
    length=st.integers(1, 12),
    taps=st.integers(1, 6),
    with_bias=st.booleans(),
    channel_last=st.booleans(),
)
def test_plain_convolution_is_causal_silu_of_every_channel(
    batch, channels, length, taps, with_bias, channel_last
):
    x = torch.randn(batch, channels, length, dtype=torch.float64)
    if channel_last:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    weight = torch.randn(channels, taps, dtype=torch.float64)
    bias = torch.randn(channels, dtype=torch.float64) if with_bias else None
    expected = torch.zeros_like(x) if bias is None else bias[:, None].expand_as(x).clone()
    for k in range(min(taps, length)):
        expected[..., k:] += weight[:, -1 - k, None] * x[..., : length - k]
    torch.testing.assert_close(mamba.causal_conv1d(x, weight, bias), F.silu(expected))


@pytest.mark.parametrize("channels", [5, 8])
@pytest.mark.parametrize("layout", ["contiguous", "channel last", "part of a projection"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernel_of_the_convolution_gets_what_it_accepts(installed, channels, layout, dtype):
    x = torch.randn(2, 9, 2 * channels).to(dtype)
    if layout == "contiguous":
        x = x[..., :channels].transpose(1, 2).contiguous()
    elif layout == "channel last":
        x = x[..., :channels].contiguous().transpose(1, 2)
    else:
        x = x[..., channels:].transpose(1, 2)
    weight, bias = torch.randn(channels, 1, 4)[:, 0], torch.randn(channels)
    got = mamba.causal_conv1d(x, weight, bias)
    assert standin_conv.calls == 1
    assert got.dtype == dtype
    torch.testing.assert_close(got, mamba._plain_conv(x, weight, bias))


def test_convolution_falls_back_where_the_kernel_cannot(installed):
    mamba.causal_conv1d(torch.randn(1, 8, 5), torch.randn(8, 5))
    mamba.causal_conv1d(torch.randn(1, 8, 5).double(), torch.randn(8, 4).double())
    assert standin_conv.calls == 0


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("length", [1, 997, 2**16 + 3])
def test_real_kernel_agrees_with_the_chunked_scan(length):
    from napari_ips.scan import chunked

    if (reason := mamba.unavailable()) is not None:
        pytest.skip(reason)
    tensors = make(batch=1, d=8, n=16, length=length)
    exact = {k: t.detach().double().cuda().requires_grad_() for k, t in tensors.items()}
    single = {k: t.detach().cuda().requires_grad_() for k, t in tensors.items()}

    def results(scan, inputs):
        y = scan(**inputs, delta_softplus=True)
        grads = torch.autograd.grad(y.double().square().sum(), list(inputs.values()))
        return [y, *grads]

    for got, expected in zip(
        results(mamba.scan, single), results(chunked.scan, exact), strict=True
    ):
        error = (got.double() - expected).norm() / expected.norm()
        assert error < 1e-4


@pytest.mark.gpu
@needs_gpu
def test_real_kernel_of_the_convolution_agrees_with_torch():
    if (reason := mamba.conv_unavailable()) is not None:
        pytest.skip(reason)
    x = torch.randn(2, 1001, 64, device="cuda").transpose(1, 2)
    weight, bias = torch.randn(64, 4, device="cuda"), torch.randn(64, device="cuda")
    got, expected = mamba.causal_conv1d(x, weight, bias), mamba._plain_conv(x, weight, bias)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
