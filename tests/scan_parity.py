"""Inputs of a selective scan, and how far a backend is from the reference in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_ips.scan import reference

STREAMS = ("u", "delta", "B", "C", "z")
LAYOUTS = ("channel last", "tokens last", "part of a projection")


def make_inputs(
    batch: int = 1,
    d: int = 5,
    n: int = 3,
    length: int = 40,
    dtype: torch.dtype = torch.float32,
    layout: str = "channel last",
    without: tuple[str, ...] = (),
    decay: float | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Tensor]:
    """Random inputs, the same for one seed on every device.

    ``decay`` fixes delta * A to about this value (without bias and softplus) instead of
    drawing both. Streams are in ``dtype``, weights in float32 or wider.
    """
    generator = torch.Generator().manual_seed(seed)
    weight_dtype = torch.promote_types(dtype, torch.float32)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def stream(values: Tensor) -> Tensor:
        values = values.to(device, dtype)
        if layout == "channel last":
            return values.transpose(1, 2)
        if layout == "tokens last":
            return values.transpose(1, 2).contiguous()
        padded = torch.full((*values.shape[:2], values.shape[2] + 3), torch.nan)
        padded = padded.to(device, dtype)
        padded[..., 2:-1] = values
        return padded[..., 2:-1].transpose(1, 2)

    rate = draw(d, n).abs() + 0.1
    delta = draw(batch, length, d) - 1
    if decay is not None:
        rate = 1 + 0.05 * draw(d, n).clamp(-2, 2)
        delta = -decay * (1 + 0.1 * draw(batch, length, d).clamp(-2, 2))
    tensors = {
        "u": stream(draw(batch, length, d)),
        "delta": stream(delta),
        "A": -rate.to(device, weight_dtype),
        "B": stream(draw(batch, length, n)),
        "C": stream(draw(batch, length, n)),
        "D": draw(d).to(device, weight_dtype),
        "z": stream(draw(batch, length, d)),
        "delta_bias": (0.3 * draw(d)).to(device, weight_dtype),
    }
    kept = {name: t.detach() for name, t in tensors.items() if name not in without}
    return {name: t.requires_grad_() for name, t in kept.items()}


def run(scan, inputs: dict[str, Tensor], softplus: bool = True) -> dict[str, Tensor]:
    """Output "y" and the gradients by name of a fixed weighting of the output."""
    y = scan(**inputs, delta_softplus=softplus)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64, device=y.device)
    weights = torch.sin(37 * weights).reshape(y.shape)
    gradients = torch.autograd.grad((y * weights).sum(), list(inputs.values()))
    return {"y": y, **dict(zip(inputs, gradients, strict=True))}


def errors(
    scan, inputs: dict[str, Tensor], softplus: bool = True, truth=reference.scan
) -> dict[str, float]:
    """Largest error of the output and of every gradient, relative to the largest value.

    The truth is ``truth`` on the same inputs in float64. With strong decay the gradient
    of A all but vanishes; it is compared on the scale that the step sizes have, whose
    logarithm acts on the decay as that of A does.
    """
    got = run(scan, inputs, softplus)
    exact = {name: t.detach().double().requires_grad_() for name, t in inputs.items()}
    expected = run(truth, exact, softplus)
    scales = {name: t.abs().max().item() for name, t in expected.items()}
    through_steps = (expected["delta"] * exact["delta"]).abs().sum((0, 2))
    scales["A"] = max(scales["A"], (through_steps / -exact["A"].mean(1)).max().item())
    result = {}
    for name, truth_value in expected.items():
        assert got[name].shape == truth_value.shape, name
        assert got[name].dtype == (inputs["u"] if name == "y" else inputs[name]).dtype, name
        difference = (got[name].double() - truth_value).abs().max().item()
        # NaN, and an error where all should be zero, are larger than any tolerance.
        error = difference / scales[name] if scales[name] else difference
        result[name] = error if error == error else float("inf")
    return result
