"""Choice of the scan backend, and the one public entry to them all."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from napari_ips.errors import IPSError

_MODULES = {
    "mamba_ssm": "napari_ips.scan.mamba",
    "triton": "napari_ips.scan.triton_gpu",
    "numba": "napari_ips.scan.numba_cpu",
    "chunked": "napari_ips.scan.chunked",
    "reference": "napari_ips.scan.reference",
}
# What "auto" tries, the fastest first. A CUDA device that ends at "chunked" warns.
_PREFERENCE = {"cuda": ("mamba_ssm", "triton", "chunked"), "cpu": ("numba", "chunked")}


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(_MODULES[name])


@cache
def backends() -> dict[str, str | None]:
    """Return every backend's name with None when it is usable here, else the reason."""
    return {name: _module(name).unavailable() for name in _MODULES}


@cache
def choose_backend(
    device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[str, str]:
    """Return the backend that ``"auto"`` takes for tensors of a device, and why.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"``, ``"mps"``; an index is ignored.
    dtype : torch.dtype
        float64 is computed by ``chunked`` everywhere: the others compute in float32.

    Returns
    -------
    name, why : str
    """
    if dtype == torch.float64:
        return "chunked", "the only fast backend that computes in float64"
    kind = device.split(":")[0]
    skipped: list[str] = []
    for name in _PREFERENCE.get(kind, ("chunked",)):
        reason = _module(name).unavailable()
        if reason is None:
            return name, "; ".join(["the fastest that is usable", *skipped])
        skipped.append(f"no {name}: {reason}")
    raise AssertionError("unreachable: chunked is always usable")


def takes_float32_on_cpu(tensor: Tensor) -> bool:
    """Return whether the kernels in float32 on the CPU are for this tensor."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def fuses_blocks(tokens: Tensor, backend: str = "auto") -> bool:
    """Return whether a whole Mamba block is computed at once, on the CPU and to infer only.

    That is in float32 also where autocast would have used less.
    """
    return not torch.is_grad_enabled() and _by_numba(tokens, backend)


def trains_on_cpu(tokens: Tensor, backend: str = "auto") -> bool:
    """Return whether the kernels of the CPU compute a Mamba layer and its gradients.

    That is in float32, but for the outer projections under autocast.
    """
    return torch.is_grad_enabled() and _by_numba(tokens, backend)


def _by_numba(tokens: Tensor, backend: str) -> bool:
    if tokens.device.type != "cpu":
        return False
    if tokens.dtype != torch.float32 and not torch.is_autocast_enabled("cpu"):
        return False
    return backend == "numba" or (backend == "auto" and choose_backend()[0] == "numba")


@cache
def _warn_of_slow_fallback(why: str) -> None:
    warnings.warn(
        f"The selective scan runs on the GPU without a fused kernel, slowly ({why}). "
        "Install triton, or mamba-ssm and causal-conv1d, to mend it.",
        RuntimeWarning,
        stacklevel=4,
    )


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Scan a sequence with a data-dependent state space model (Eq. 6).

    ``s_k = exp(delta_k A) s_{k-1} + delta_k B_k u_k`` and ``y_k = C_k s_k + D u_k``,
    gated by ``silu(z)``. As in Mamba, B is discretised to first order (``delta B``)
    rather than by the full zero-order hold of Eq. (5).

    Parameters
    ----------
    u, delta : Tensor, shape (batch, d, L)
        Input and step size. Fastest in memory order (batch, L, d).
    A : Tensor, shape (d, n)
        Decay rates, negative.
    B, C : Tensor, shape (batch, n, L)
        Input and output projections of every token.
    D : Tensor, shape (d,), optional
        Weight of the direct path.
    z : Tensor, shape (batch, d, L), optional
        Gate.
    delta_bias : Tensor, shape (d,), optional
        Added to ``delta`` before the softplus.
    delta_softplus : bool
        Whether ``delta`` goes through a softplus.
    backend : str
        ``"auto"`` or a key of `backends`.

    Returns
    -------
    Tensor, shape (batch, d, L)
        In the dtype of ``u``. Float64 is computed as such by ``reference`` and
        ``chunked``; all else in float32.

    Raises
    ------
    IPSError
        If the backend is unknown or cannot be used here.
    """
    if backend == "auto":
        backend, why = choose_backend(u.device.type, u.dtype)
        if backend == "chunked" and u.is_cuda and u.dtype != torch.float64:
            _warn_of_slow_fallback(why)
    elif backend not in _MODULES:
        raise IPSError(f"There is no scan backend {backend!r}; use {', '.join(_MODULES)}.")
    elif (reason := backends()[backend]) is not None:
        raise IPSError(f"The scan backend {backend} cannot be used: {reason}.")
    scanned: Tensor = _module(backend).scan(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus
    )
    return scanned
