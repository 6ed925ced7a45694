"""The kernels of the packages mamba-ssm and causal-conv1d, where they are installed.

Both are built from source against one version of PyTorch and of CUDA, and their import
fails in many ways when these do not match. Every such failure is a reason, not a crash.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_ips.errors import IPSError

MAX_STATES = 256
CONV_TAPS = (2, 3, 4)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@cache
def _load(package: str, function: str, interface: str, extension: str) -> Any:
    """Return a function of an optional package, or a string: why it cannot be had."""
    try:
        importlib.import_module(package)
        found = getattr(importlib.import_module(f"{package}.{interface}"), function)
        # Some releases import without their compiled part and fail when they are called.
        importlib.import_module(extension)
    except ModuleNotFoundError as error:
        if error.name == package:
            return f"{package} is not installed (pip install napari-ips[gpu])"
        if error.name == extension:
            return f"{package} was installed without its CUDA kernels ({extension})"
        return f"{package} cannot be imported: {error.name} is missing"
    except Exception as error:  # whatever a mismatched binary raises
        line = str(error).strip().partition("\n")[0]
        return f"{package} cannot be imported ({type(error).__name__}: {line})"
    return found


def _scan_kernel() -> Callable[..., Tensor] | str:
    if not torch.cuda.is_available():
        return "no CUDA device"
    kernel: Callable[..., Tensor] | str = _load(
        "mamba_ssm",
        "selective_scan_fn",
        interface="ops.selective_scan_interface",
        extension="selective_scan_cuda",
    )
    return kernel


def _conv_kernel() -> Callable[..., Tensor] | str:
    if not torch.cuda.is_available():
        return "no CUDA device"
    kernel: Callable[..., Tensor] | str = _load(
        "causal_conv1d",
        "causal_conv1d_fn",
        interface="causal_conv1d_interface",
        extension="causal_conv1d_cuda",
    )
    return kernel


def unavailable() -> str | None:
    """Return why the scan of mamba-ssm cannot be used here, or None when it can."""
    kernel = _scan_kernel()
    return kernel if isinstance(kernel, str) else None


def conv_unavailable() -> str | None:
    """Return why the kernel of causal-conv1d cannot be used here, or None."""
    kernel = _conv_kernel()
    return kernel if isinstance(kernel, str) else None


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan by mamba-ssm's `selective_scan_fn`; see `napari_ips.scan.selective_scan`.

    Parameters
    ----------
    u, delta, z : Tensor
        (batch, d, L), float32, float16 or bfloat16, on a CUDA device. The kernel wants
        tokens last in memory: channel-last tensors are copied.
    A : Tensor
        (d, n), real and negative, n at most 256.
    B, C : Tensor
        (batch, n, L).
    D, delta_bias : Tensor
        (d,).
    delta_softplus : bool
        Whether the step size is softplus(delta + delta_bias).

    Returns
    -------
    Tensor
        (batch, d, L) in the dtype of u, computed in float32.

    Raises
    ------
    IPSError
        If mamba-ssm cannot be used here, or not for these tensors.
    """
    kernel = _scan_kernel()
    if isinstance(kernel, str):
        raise IPSError(f"The mamba_ssm scan is not available: {kernel}.")
    if (refusal := _refusal(u, A)) is not None:
        raise IPSError(f"The mamba_ssm scan {refusal}; choose another backend.")
    if u.numel() == 0:
        return torch.zeros_like(u)
    streams = [t for t in (u, delta, B, C, z) if t is not None]
    # The kernel takes one dtype for all of these. Float32 loses nothing of a mixture.
    common = u.dtype if len({t.dtype for t in streams}) == 1 else torch.float32
    D, delta_bias = (None if t is None else t.float().contiguous() for t in (D, delta_bias))
    y = kernel(
        *(t.to(common).contiguous() for t in (u, delta)),
        A.float(),
        *(t.to(common).contiguous() for t in (B, C)),
        D=D,
        z=None if z is None else z.to(common).contiguous(),
        delta_bias=delta_bias,
        delta_softplus=delta_softplus,
    )
    return y.to(u.dtype)


def _refusal(u: Tensor, A: Tensor) -> str | None:
    """Say what the kernel would fail on, some of it without a word."""
    if not _on_cuda(u):
        return "needs tensors on a CUDA device"
    if u.dtype not in DTYPES:
        return "computes in float32 only"
    if A.shape[1] > MAX_STATES:
        return f"takes at most {MAX_STATES} states"
    if u.numel() >= 2**32:
        return "addresses fewer than 2**32 values"
    return None


def _on_cuda(tensor: Tensor) -> bool:
    return tensor.is_cuda


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel over its past tokens, then apply SiLU.

    The kernel of causal-conv1d does it where it can, plain torch elsewhere: 2 to 4
    taps, tensors on a CUDA device in a dtype that it knows.

    Parameters
    ----------
    x : Tensor
        (batch, d, L), any floating dtype and strides.
    weight : Tensor
        (d, taps); the last tap belongs to the present token.
    bias : Tensor, optional
        (d,).

    Returns
    -------
    Tensor
        (batch, d, L) in the dtype of x.
    """
    kernel = _conv_kernel()
    taps = weight.shape[-1]
    usable = _on_cuda(x) and x.dtype in DTYPES and taps in CONV_TAPS and x.numel() > 0
    if isinstance(kernel, str) and _on_cuda(x):
        _warn_of_plain_conv(kernel)
    if isinstance(kernel, str) or not usable:
        return _plain_conv(x, weight, bias)
    if bias is not None:
        bias = bias.to(weight.dtype)
    return kernel(_conv_layout(x), weight.contiguous(), bias, activation="silu")


@cache
def _warn_of_plain_conv(why: str) -> None:
    warnings.warn(
        f"The causal convolution runs without its fused kernel ({why}).",
        RuntimeWarning,
        stacklevel=4,
    )


def _conv_layout(x: Tensor) -> Tensor:
    """Copy x unless the kernel takes its layout: tokens last, or aligned channels last."""
    channels_last = x.stride(1) == 1 and x.stride(2) > 1
    if channels_last:
        aligned = all(size % 8 == 0 for size in (x.shape[1], x.stride(0), x.stride(2)))
        return x if aligned else x.contiguous()
    return x if x.stride(2) == 1 else x.contiguous()


def _plain_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    channels, taps = weight.shape
    padded = F.pad(x.to(weight.dtype), (taps - 1, 0))
    out = F.silu(F.conv1d(padded, weight[:, None], bias, groups=channels))
    return out.to(x.dtype)
