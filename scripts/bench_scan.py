"""Time the backends of the selective scan, and compare each with the reference.

    python scripts/bench_scan.py
    python scripts/bench_scan.py --device cuda --lengths 65536 1048576 --dtype bfloat16

Parity is the largest error of the output and of any gradient, relative to the largest
value, against the reference loop in float64 on a short sequence. Times are medians of
forward, and of forward with backward, in milliseconds, after one warming run; "GB/s" is
the least traffic of a forward pass (each input read once, the output written once)
over its time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from napari_ips import scan

Inputs = dict[str, Tensor]


def make_inputs(
    batch: int, d: int, n: int, length: int, device: str, dtype: torch.dtype
) -> Inputs:
    """Channel-last streams as a Mamba block makes them: parts of wider projections."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    def stream(width: int, start: int, stop: int) -> Tensor:
        return draw(batch, length, width).to(dtype)[..., start:stop].transpose(1, 2)

    rates = torch.arange(1, n + 1, device=device, dtype=torch.float32)
    inputs = {
        "u": stream(d, 0, d),
        "delta": stream(d, 0, d),
        "A": -rates.repeat(d, 1),
        "B": stream(2 * n + 2, 2, n + 2),
        "C": stream(2 * n + 2, n + 2, 2 * n + 2),
        "D": draw(d),
        "z": stream(2 * d, d, 2 * d),
        "delta_bias": draw(d) - 4,
    }
    return {name: t.detach().requires_grad_() for name, t in inputs.items()}


def forward(inputs: Inputs, backend: str) -> Tensor:
    """Scan without recording gradients."""
    with torch.no_grad():
        return scan.selective_scan(**inputs, delta_softplus=True, backend=backend)


def forward_backward(inputs: Inputs, backend: str) -> list[Tensor]:
    """Scan, and return the output and all gradients of a fixed weighting of it."""
    y = scan.selective_scan(**inputs, delta_softplus=True, backend=backend)
    weights = torch.cos(torch.arange(y.numel(), device=y.device)).reshape(y.shape)
    gradients = torch.autograd.grad(y, list(inputs.values()), weights.to(y.dtype))
    return [y, *gradients]


def parity(inputs: Inputs, backend: str) -> float:
    """Return the largest relative error against the reference in float64."""
    exact = {name: t.detach().double().requires_grad_() for name, t in inputs.items()}
    pairs = zip(
        forward_backward(inputs, backend), forward_backward(exact, "reference"), strict=True
    )
    return max(
        ((got.double() - truth).abs().max() / truth.abs().max()).item()
        for got, truth in pairs
    )


def milliseconds(work: Callable[[], object], device: str, seconds: float) -> float:
    """Return the median time of a run, after one that warms up, for about ``seconds``."""

    def timed() -> float:
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - start)

    timed()
    times = [timed()]
    while sum(times) < 1000 * seconds:
        times.append(timed())
    return statistics.median(times)


def usable(device: str, names: list[str] | None) -> list[str]:
    """Return the backends to time, and print why the others are left out."""
    timed = []
    for name, reason in scan.backends().items():
        if names is not None and name not in names:
            continue
        if reason is None and device != "cpu" and name == "numba":
            reason = "runs on the CPU"
        if reason is None:
            timed.append(name)
        else:
            print(f"{name}: left out, {reason}")
    return timed


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 65536])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--backends", nargs="+", help="all that are usable unless given")
    parser.add_argument("--seconds", type=float, default=1.0, help="per measurement")
    parser.add_argument(
        "--reference-up-to", type=int, default=4096, help="longest sequence it is timed on"
    )
    return parser.parse_args()


def main() -> None:
    """Print one table of parity and times."""
    options = parse()
    dtype = getattr(torch, options.dtype)
    shape = (options.batch, options.channels, options.states)
    where = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {where}, {torch.get_num_threads()} threads")
    names = usable(options.device, options.backends)
    short = make_inputs(*shape, 523, options.device, dtype)
    errors = {name: parity(short, name) for name in names}
    titles = ("parity", "fwd ms", "f+b ms")
    print(f"\n{'backend':<10} {'L':>8}", *(f"{title:>9}" for title in titles), "   GB/s")
    for length in options.lengths:
        inputs = make_inputs(*shape, length, options.device, dtype)
        traffic = sum(t.numel() * t.element_size() for t in (*inputs.values(), inputs["u"]))
        for name in names:
            if name == "reference" and length > options.reference_up_to:
                continue
            once, both = (
                milliseconds(partial(work, inputs, name), options.device, options.seconds)
                for work in (forward, forward_backward)
            )
            print(
                f"{name:<10} {length:>8} {errors[name]:>9.1e} {once:>9.2f} {both:>9.2f} "
                f"{traffic / once / 1e6:>7.1f}"
            )


if __name__ == "__main__":
    main()
