"""Time the network on the CPU, as a fusion runs it: one window and one thread at a time.

    python scripts/bench_network.py
    python scripts/bench_network.py --size 512 --weights my_weights --autocast bfloat16

Prints microseconds per pixel for both slices of a pair encoded and the pair decided: on
one thread; on several side by side, per pixel of all; and, of one thread, the share of
each part. "Unfused" is the same network with its Mamba blocks computed step by step, as
for training. All are measured in turn, and medians are shown, for other work on the
machine slows them all alike. Run it with OMP_WAIT_POLICY=PASSIVE, as the command line is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from napari_ips import CrossImageFusionNetwork
from napari_ips.weights import load_weights


def decide(network: CrossImageFusionNetwork, slices: Tensor) -> Tensor:
    """Encode both slices of a pair, and decide it."""
    features = [network.encode(image[None]) for image in slices]
    return network.decide(*features)


def decide_unfused(network: CrossImageFusionNetwork, slices: Tensor) -> Tensor:
    """Do the same along the path that training takes."""
    with torch.inference_mode(False), torch.enable_grad():
        return decide(network, slices)


def parts(
    network: CrossImageFusionNetwork, slices: Tensor
) -> dict[str, Callable[[], object]]:
    """Return what makes up a decision, ready to be timed."""
    encoded = [network.encode(image[None]) for image in slices]
    features = torch.cat(encoded, dim=1)
    return {
        "encode twice": lambda: [network.encode(image[None]) for image in slices],
        "decide": lambda: network.decide(*encoded),
        "of which global": lambda: network.global_branch(features),
    }


def medians(
    works: dict[str, Callable[[], object]], repeats: int, autocast: torch.dtype | None
) -> dict[str, float]:
    """Time works in turn, after one warming run of each; the median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            with (
                torch.inference_mode(),
                torch.autocast("cpu", autocast, enabled=autocast is not None),
            ):
                start = time.perf_counter()
                work()
                if repeat:
                    times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def side_by_side(work: Callable[[], object], threads: int, windows: int) -> None:
    """Run a work ``windows`` times on every thread."""

    def several() -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            for _ in range(windows):
                work()

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(several) for _ in range(threads)]:
            future.result()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="default")
    parser.add_argument("--size", type=int, default=292, help="side of the window")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="side by side")
    parser.add_argument("--autocast", choices=["bfloat16", "float16"])
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = parse()
    torch.set_num_threads(1)
    network, _ = load_weights(options.weights)
    generator = torch.Generator().manual_seed(0)
    slices = torch.rand((2, 1, options.size, options.size), generator=generator)
    autocast = getattr(torch, options.autocast) if options.autocast else None
    once = partial(decide, network, slices)
    start = time.perf_counter()
    with torch.inference_mode():
        once()
        first = time.perf_counter() - start
        works = {"one thread": once} | parts(network, slices)
    windows = 4
    if autocast is None:
        works["unfused"] = partial(decide_unfused, network, slices)
        works["side by side"] = partial(side_by_side, once, options.threads, windows)
    seconds = medians(works, options.repeats, autocast)
    if "side by side" in seconds:
        seconds["side by side"] /= windows * options.threads
    print(
        f"torch {torch.__version__}, {options.size} x {options.size} pixels, us per pixel"
    )
    print(f"the first window took {first:.2f} s, compilation or its cache included")
    for name, value in seconds.items():
        share = value / seconds["one thread"]
        print(f"{name:<16} {1e6 * value / options.size**2:>7.3f} {share:>7.0%}")


if __name__ == "__main__":
    main()
