"""The kernel of a whole Mamba block, against the block's own path and in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_ips.config import NetworkConfig
from napari_ips.mamba import MambaBlock
from napari_ips.scan import fuses_blocks

PARAMETERS = st.fixed_dictionaries(
    {
        "width": st.integers(1, 24),
        "d_state": st.integers(1, 20),
        "d_conv": st.integers(1, 5),
        "expand": st.integers(1, 3),
    }
)


def block_of(**settings) -> MambaBlock:
    """A block whose every parameter differs from where it starts."""
    torch.manual_seed(0)
    block = MambaBlock(NetworkConfig.checked(**({"width": 16} | settings)))
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return block


def unfused(block: MambaBlock, tokens: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        return block(tokens).detach()


def error(got: torch.Tensor, block: MambaBlock, tokens: torch.Tensor) -> float:
    """Largest difference from the block in float64, over the largest value."""
    exact = unfused(copy.deepcopy(block).double(), tokens.double())
    return float((got - exact).abs().max() / exact.abs().max())


@given(PARAMETERS, st.integers(1, 3), st.integers(1, 130))
def test_it_equals_the_block_in_float64_for_any_shape(settings, batch, length):
    block = block_of(**settings)
    tokens = torch.randn(batch, length, 2 * settings["width"])
    with torch.inference_mode():
        assert fuses_blocks(tokens)
        got = block(tokens)
    assert got.shape == tokens.shape
    assert error(got, block, tokens) < 2e-6


def test_a_long_sequence_of_the_shipped_width():
    block, tokens = block_of(width=24), torch.randn(1, 20_011, 48)
    with torch.no_grad():
        got = block(tokens)
    assert error(got, block, tokens) < 2e-6
    assert error(got, block, tokens) < 3 * error(unfused(block, tokens), block, tokens)


@pytest.mark.parametrize("bias", [-60.0, -8.0, 60.0])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_steps_and_values_of_any_size(bias, size):
    block = block_of()
    with torch.no_grad():
        block.mamba.dt_proj.bias.fill_(bias)
        block.mamba.in_proj.weight *= size
        tokens = torch.randn(2, 100, 32)
        got = block(tokens)
    assert torch.isfinite(got).all()
    assert error(got, block, tokens) < 2e-5


def test_tokens_in_any_memory_order_stay_as_they_are():
    block, tokens = block_of(), torch.randn(2, 32, 60).transpose(1, 2)
    before = tokens.clone()
    with torch.no_grad():
        got = block(tokens)
    assert torch.equal(tokens, before)
    assert error(got, block, tokens) < 2e-6


def test_sequences_of_a_batch_do_not_mix_on_several_threads():
    block, tokens = block_of(), torch.randn(5, 300, 32)
    threads = torch.get_num_threads()
    with torch.no_grad():
        alone = torch.cat([block(sequence[None]) for sequence in tokens])
        try:
            torch.set_num_threads(3)
            together = block(tokens)
        finally:
            torch.set_num_threads(threads)
    assert torch.equal(together, alone)


def test_no_token_depends_on_later_ones():
    block, tokens = block_of(), torch.randn(1, 120, 32)
    changed = tokens.clone()
    changed[:, 70] += 1.0
    with torch.no_grad():
        before, after = block(tokens), block(changed)
    assert torch.equal(before[:, :70], after[:, :70])
    assert not torch.equal(before[:, 119], after[:, 119])


def test_changed_weights_count_at_once():
    block, tokens = block_of(), torch.randn(1, 50, 32)
    with torch.no_grad():
        before = block(tokens)
        block.mamba.x_proj.weight.data.mul_(2.0)
        assert not torch.equal(block(tokens), before)


def test_it_is_for_inference_in_float32_on_the_cpu_alone():
    tokens = torch.zeros(1, 4, 32)
    assert not fuses_blocks(tokens)
    assert block_of()(tokens).requires_grad
    with torch.no_grad():
        assert fuses_blocks(tokens)
        assert fuses_blocks(tokens, "numba")
        for backend in ("chunked", "reference", "triton", "mamba_ssm"):
            assert not fuses_blocks(tokens, backend)
        for dtype in (torch.float64, torch.bfloat16):
            assert not fuses_blocks(tokens.to(dtype))
        assert not fuses_blocks(tokens.to("meta"))


def test_autocast_leaves_it_in_float32():
    block, tokens = block_of(), torch.randn(1, 50, 32).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got = block(tokens)
    assert got.dtype == torch.float32
    assert error(got, block, tokens.float()) < 2e-6
