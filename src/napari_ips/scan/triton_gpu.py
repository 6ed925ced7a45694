"""The selective scan by our own Triton kernels: any CUDA device, no compiler needed.

Algorithm
---------
A sequence is cut into chunks, which are worked on side by side:

1. each chunk runs the recurrence from a zero state, token by token with the state in
   registers, and keeps only the state at its end and the sum of its step sizes (which
   is all that its total decay depends on);
2. a scan over the chunks turns these into the states that enter every chunk;
3. each chunk runs the recurrence again, from the state that enters it, and writes the
   outputs, with the step's bias and softplus, the skip by D and the gate z fused in.

Only the inputs are kept for the backward pass. It repeats 1 and 2 on short tiles, does
the same backwards for the adjoint state, and then computes all gradients of a tile at
once: both recurrences run again inside the tile, from either end, and meet. Sums over
tiles are added up in a fixed order, so equal inputs give bitwise equal gradients.

Memory traffic
--------------
For d channels and n states in float32, per token: forward reads u, delta and B twice, C
and z once, and writes y, that is 4 * (6 d + 3 n) bytes, plus 4 * 4 n d / chunk for the
states at the chunk ends. Backward reads u and B twice, delta and C three times, z and
the output's gradient twice, writes three gradients, 4 * (12 d + 7 n), and moves
4 * 9 n d / 16 for the states and adjoints between tiles, which also are its scratch
memory: 2 * 4 * n d / 16 bytes per token, as much as two inputs when n = 16. No product
of inverse decays occurs anywhere, so nothing overflows.

Channel-last tensors, (batch, L, d).transpose(1, 2), are read coalesced. Any strides are
correct, and none cause a copy.
"""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from types import ModuleType

LANES = 32  # channels side by side in a program: one warp
TILE = 16  # tokens of a tile in the backward pass: what fits in registers
CARRIED = 256  # chunks that the carry takes in at once
PROGRAMS = 4096  # that fill a large GPU; chunks grow once there are more than these
OLDEST_TRITON = (3, 4)  # that takes tuples of strides
OLDEST_CAPABILITY = (7, 0)


def unavailable() -> str | None:
    """Return why this backend cannot be used here, or None when it can.

    Under Triton's interpreter (``TRITON_INTERPRET=1`` set before Triton is imported) it
    runs on the CPU, for tests.
    """
    if not torch.cuda.is_available() and "TRITON_INTERPRET" not in os.environ:
        return "no CUDA device"
    try:
        version = metadata.version("triton")
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TRITON:
            return f"Triton {version} is too old (pip install 'triton>=3.4')"
        kernels = _kernels()
    except metadata.PackageNotFoundError:
        return "Triton is not installed (pip install 'triton>=3.4')"
    except Exception as error:  # a broken installation must not take the others down
        return f"Triton cannot be imported ({type(error).__name__}: {error})"
    if kernels.INTERPRETED:
        return None
    if not torch.cuda.is_available():
        return "no CUDA device, and TRITON_INTERPRET was set after Triton was imported"
    capability = torch.cuda.get_device_capability()
    if torch.version.hip is None and capability < OLDEST_CAPABILITY:
        name = torch.cuda.get_device_name()
        return f"{name} is too old for Triton (compute capability 7.0 is needed)"
    return None


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
    """Scan on a CUDA device; see `napari_ips.scan.selective_scan`.

    Parameters
    ----------
    u, delta, z : Tensor
        (batch, d, L), any floating dtype and strides; channel-last is fastest.
    A : Tensor
        (d, n), real and negative.
    B, C : Tensor
        (batch, n, L), any strides.
    D, delta_bias : Tensor
        (d,).
    delta_softplus : bool
        Whether the step size is softplus(delta + delta_bias).

    Returns
    -------
    Tensor
        (batch, d, L) in the dtype of u, computed in float32 (float64 if u is).

    Raises
    ------
    IPSError
        If Triton cannot be used here, or the tensors are not on a CUDA device.
    """
    reason = unavailable()
    if reason is not None:
        raise IPSError(f"The triton scan is not available: {reason}.")
    if not (u.is_cuda or _kernels().INTERPRETED):
        raise IPSError("The triton scan needs a CUDA device; choose another backend.")
    if u.numel() == 0:
        return torch.zeros_like(u)
    y: Tensor = _Scan.apply(u, delta, A, B, C, D, z, delta_bias, delta_softplus)  # type: ignore[no-untyped-call]
    return y


def _kernels() -> ModuleType:
    from napari_ips.scan import triton_kernels

    return triton_kernels


class _Inputs(NamedTuple):
    """The tensors of one scan; small ones in the computing dtype, A as (n, d)."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None
    softplus: bool

    @classmethod
    def prepare(cls, *arguments: Any) -> _Inputs:
        raw = cls(*arguments)
        real = torch.promote_types(raw.u.dtype, torch.float32)
        D, bias = (
            None if t is None else t.to(real).contiguous() for t in (raw.D, raw.bias)
        )
        return raw._replace(A=raw.A.to(real).T.contiguous(), D=D, bias=bias)

    @property
    def z_strides(self) -> tuple[int, ...]:
        return (0, 0, 0) if self.z is None else self.z.stride()


class _Layout:
    """How a scan is cut into programs: chunks of tokens by blocks of channels."""

    def __init__(self, inputs: _Inputs, chunk: int) -> None:
        self.batch, self.channels, self.length = inputs.u.shape
        self.n_states = inputs.A.shape[0]
        self.chunk = chunk
        self.chunks = math.ceil(self.length / chunk)
        self.width = min(LANES, _power_of_two(self.channels))
        self.blocks = math.ceil(self.channels / self.width)
        self.grid = (self.batch * self.chunks, self.blocks)
        self.sizes = (self.channels, self.n_states, self.length, self.chunks)
        padded = _power_of_two(self.n_states)
        # 32 values of the state per thread leave room for the rest of the registers.
        warps = min(8, max(1, padded * self.width // (32 * 32)))
        self.state_options = {"N": padded, "CHUNK": chunk, "num_warps": warps}

    def common_options(self, inputs: _Inputs) -> dict[str, Any]:
        import triton.language as tl

        real = tl.float64 if inputs.A.dtype == torch.float64 else tl.float32
        options = {"BD": self.width, "SOFTPLUS": inputs.softplus, "REAL": real}
        # What Triton did up to 3.9 unasked; it warns until it is told.
        return options | {"enable_fp_fusion": True}

    def empty_states(self, inputs: _Inputs) -> Tensor:
        return inputs.A.new_empty(self.batch, self.chunks + 1, *inputs.A.shape)


def _device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    # Triton launches on the current device, which need not be the tensor's.
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _forward_chunk(inputs: _Inputs) -> int:
    """Short chunks while they are needed to fill the device, longer ones after that."""
    batch, channels, length = inputs.u.shape
    tokens = length * batch * math.ceil(channels / LANES) // PROGRAMS
    return min(256, max(32, _power_of_two(tokens)))


def _entering_states(inputs: _Inputs, layout: _Layout) -> tuple[Tensor, Tensor]:
    """Do steps 1 and 2: the state entering every chunk, and the chunks' summed steps."""
    states = layout.empty_states(inputs)
    states[:, 0] = 0
    sums = states.new_empty(layout.batch, layout.chunks, layout.channels)
    _sweep(inputs, layout, states, sums, None)
    _carry(inputs, layout, states, sums, reverse=False)
    return states, sums


def _sweep(
    inputs: _Inputs, layout: _Layout, states: Tensor, sums: Tensor, out: Tensor | None
) -> None:
    u, delta, A, B, C, D, z, bias, _ = inputs
    _kernels().sweep[layout.grid](
        *(u, delta, A, B, C, D, z, bias, states, sums, out),
        *(u.stride(), delta.stride(), B.stride(), C.stride(), inputs.z_strides),
        (0, 0, 0) if out is None else out.stride(),
        *layout.sizes,
        **layout.state_options,
        **layout.common_options(inputs),
    )


def _carry(
    inputs: _Inputs, layout: _Layout, states: Tensor, sums: Tensor, *, reverse: bool
) -> None:
    options = layout.common_options(inputs)
    # Narrow blocks: at batch 1 there are few channels to spread over the device.
    width = min(8, layout.width)
    grid = (layout.batch * layout.n_states, math.ceil(layout.channels / width))
    _kernels().carry[grid](
        *(states, sums, inputs.A),
        *(layout.channels, layout.n_states, layout.chunks),
        K=min(CARRIED, _power_of_two(layout.chunks)),
        BD=width,
        REVERSE=reverse,
        REAL=options["REAL"],
        enable_fp_fusion=options["enable_fp_fusion"],
        num_warps=4,
    )


def _entering_adjoints(
    inputs: _Inputs, layout: _Layout, grad: Tensor, sums: Tensor
) -> Tensor:
    """Gradient with respect to the state that enters every chunk."""
    adjoints = layout.empty_states(inputs)
    adjoints[:, -1] = 0
    _, delta, A, _, C, _, z, bias, _ = inputs
    _kernels().adjoint_sweep[layout.grid](
        *(delta, A, C, z, bias, grad, adjoints),
        *(delta.stride(), C.stride(), inputs.z_strides, grad.stride()),
        *layout.sizes,
        **layout.state_options,
        **layout.common_options(inputs),
    )
    _carry(inputs, layout, adjoints, sums, reverse=True)
    return adjoints


def _gradients(inputs: _Inputs, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of u, delta, A, B, C, D, z, bias; those of sums in the real dtype."""
    u, delta, A, B, C, D, z, bias, _ = inputs
    layout = _Layout(inputs, TILE)
    states, sums = _entering_states(inputs, layout)
    adjoints = _entering_adjoints(inputs, layout, grad, sums)

    du, ddelta = torch.empty_like(u), torch.empty_like(delta)
    dz = None if z is None else torch.empty_like(z)
    per_block = (layout.blocks, layout.batch, layout.n_states, layout.length)
    dB, dC = A.new_empty(per_block), A.new_empty(per_block)
    dD = None if D is None else torch.empty_like(sums)
    dbias = None if bias is None else torch.empty_like(sums)
    _kernels().gradients[layout.grid](
        *(u, delta, A, B, C, D, z, bias, grad, states, adjoints),
        *(du, ddelta, dB, dC, dD, dz, dbias),
        *(u.stride(), delta.stride(), B.stride(), C.stride(), inputs.z_strides),
        *(grad.stride(), du.stride(), ddelta.stride()),
        (0, 0, 0) if dz is None else dz.stride(),
        *layout.sizes,
        T=TILE,
        num_warps=1,
        **layout.common_options(inputs),
    )
    dA = states[:, :-1].sum((0, 1)).T
    dD, dbias = (None if part is None else part.sum((0, 1)) for part in (dD, dbias))
    return du, ddelta, dA, dB.sum(0), dC.sum(0), dD, dz, dbias


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        ctx.save_for_backward(*arguments[:-1])
        ctx.softplus = arguments[-1]
        inputs = _Inputs.prepare(*arguments)
        layout = _Layout(inputs, _forward_chunk(inputs))
        with _device_of(inputs.u):
            states, sums = _entering_states(inputs, layout)
            out = torch.empty_like(inputs.u)
            _sweep(inputs, layout, states, sums, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        inputs = _Inputs.prepare(*saved, ctx.softplus)
        with _device_of(inputs.u):
            gradients = _gradients(inputs, grad)
        cast = (
            None if gradient is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip(gradients, saved, strict=True)
        )
        return (*cast, None)
