"""What the tests of the command line share."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from napari_ips.cli import run
from napari_ips.events import Progress
from napari_ips.io import write_stack


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Same width and no colours wherever the tests run."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def success(capsys):
    """Run a command that must succeed; return its stdout."""

    def check(*arguments):
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return check


@pytest.fixture
def failure(capsys):
    """Run a command that must fail; return its one line on stderr."""

    def check(*arguments, code=1):
        assert run([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.strip().splitlines()) == 1, err
        return err.strip()

    return check


@pytest.fixture
def stack():
    sharp = np.random.default_rng(0).integers(0, 250, (48, 60)).astype(np.uint8)
    return np.stack([sharp, sharp // 2, sharp // 4])


@pytest.fixture
def stack_file(tmp_path, stack):
    path = tmp_path / "stack.tif"
    write_stack(path, stack, pixel_size=(0.5, 0.25), z_step=2.0, unit="µm")
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """Weights of a network that is fast and, untrained, decides at random."""
    import torch

    from napari_ips.network import CrossImageFusionNetwork
    from napari_ips.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    network = CrossImageFusionNetwork(width=4, local_blocks=1, mamba_blocks=1)
    save_weights(path, network, {})
    return path


@pytest.fixture
def fuse(success, tiny_weights):
    """Fuse with tiny weights; return what is printed."""
    return partial(success, "fuse", "--weights", tiny_weights)


@pytest.fixture
def refused(failure, tiny_weights):
    """Try to fuse with tiny weights; return the line on stderr."""
    return partial(failure, "fuse", "--weights", tiny_weights)


@pytest.fixture
def put_fusion(monkeypatch):
    """Put functions in the place of those of ``napari_ips.fusion``."""

    def put(**functions):
        module = ModuleType("napari_ips.fusion")
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, "napari_ips.fusion", module)

    return put


@pytest.fixture
def fusion(put_fusion):
    """Stand in for the network: fused is the first slice; calls are recorded."""
    calls = []

    def fuse_stack(stack, axis=0, *, rgb=None, config=None, callback=None):
        calls.append(SimpleNamespace(stack=stack, rgb=rgb, config=config))
        if callback is not None:
            callback(Progress("compare", 1, 1))
        shape = stack.shape[1:3]
        return SimpleNamespace(
            fused=stack[0],
            index=np.ones(shape, np.uint16),
            depth=np.full(shape, 0.5, np.float32),
            confidence=np.full(shape, 0.25, np.float32),
        )

    put_fusion(fuse_stack=fuse_stack)
    return calls
