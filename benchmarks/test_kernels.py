"""Times of the kernels, by pytest-benchmark: ``pytest benchmarks``.

They are no tests of speed: nothing fails by being slow. Compare two states of the code by
``pytest benchmarks --benchmark-autosave`` in one and ``--benchmark-compare`` in the other.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from napari_ips import TrainConfig, selective_scan
from napari_ips.fusion.scales import smooth
from napari_ips.simulation import demo_image
from napari_ips.training.checkpoint import TrainingState
from napari_ips.training.images import load_images
from napari_ips.training.loop import settled
from napari_ips.training.step import take_step
from napari_ips.weights import load_weights
from napari_ips.winograd import fits, join

# Side of a window of the fusion, in pixels.
SIDE = 292


@pytest.fixture(autouse=True)
def one_thread():
    """Fusion runs a window on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network():
    return load_weights("default")[0]


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_mamba_block(benchmark, network):
    config = network.config
    side = SIDE // config.unshuffle // config.global_stride
    tokens = noise(1, side**2, 2 * config.width)
    out = benchmark(network.global_branch.blocks[0], tokens)
    assert out.shape == tokens.shape


@torch.inference_mode()
def test_winograd_join(benchmark, network):
    channels, side = 2 * network.config.width, SIDE // network.config.unshuffle
    if not fits(channels):
        pytest.skip(f"PyTorch convolves {channels} channels on this CPU")
    maps = noise(2, channels, side, side).contiguous(memory_format=torch.channels_last)
    blocks = [m for m in network.local_branch.modules() if isinstance(m, nn.Conv2d)]
    out = benchmark(join, maps[:1], maps[1:], blocks, network.reconstruction[0])
    assert out.shape == maps[:1].shape


@torch.inference_mode()
def test_encode_and_decide(benchmark, network):
    lower, upper = noise(2, 1, 1, SIDE, SIDE)
    odds = benchmark(lambda: network.decide(network.encode(upper), network.encode(lower)))
    assert odds.shape == (1, 1, SIDE, SIDE)


@pytest.fixture
def streams():
    """What a Mamba layer of 96 channels scans: a batch of training."""
    d, n, length = 96, 16, 1024
    inputs = {
        "u": noise(4, d, length),
        "delta": noise(4, d, length),
        "A": -torch.arange(1.0, n + 1).repeat(d, 1),
        "B": noise(4, n, length),
        "C": noise(4, n, length),
        "D": noise(d),
        "delta_bias": noise(d) - 4,
    }
    return {name: values.requires_grad_() for name, values in inputs.items()}


def scanned(inputs):
    return selective_scan(**inputs, delta_softplus=True, backend="numba")


def test_scan_forward(benchmark, streams):
    with torch.no_grad():
        out = benchmark(scanned, streams)
    assert out.shape == streams["u"].shape


def test_scan_forward_and_backward(benchmark, streams):
    inputs = list(streams.values())
    gradients = benchmark(lambda: torch.autograd.grad(scanned(streams).sum(), inputs))
    assert len(gradients) == len(inputs)


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_smoothing_of_evidence(benchmark, sigma):
    evidence = noise(9, SIDE, SIDE)
    assert benchmark(smooth, evidence, sigma).shape == evidence.shape


def test_training_step(benchmark):
    cpu = torch.device("cpu")
    config = TrainConfig.from_preset(
        "microscopy", images=(), output=Path("none.safetensors"), iterations=10**9
    )
    pool = load_images(config, [("tissue", demo_image())])
    state = TrainingState.begin(config, cpu)
    config = settled(config, state, pool, cpu)
    # Each takes about half a second.
    point = benchmark.pedantic(
        take_step, (state, pool, config, cpu), rounds=5, warmup_rounds=1
    )
    assert point is not None
