"""What the network says of slices, however the work is shared out, and its smoothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_ips.fusion.evidence import log_odds
from napari_ips.fusion.scales import TRUNCATE, smooth
from napari_ips.network import CrossImageFusionNetwork


@pytest.mark.parametrize("share", [1, 2, 3])
def test_same_bits_in_whatever_shares_pairs_are_compared(share: int) -> None:
    torch.manual_seed(0)
    network = CrossImageFusionNetwork(width=4, local_blocks=1, mamba_blocks=1).eval()
    slices = torch.rand(6, 100, 110)
    shares = torch.arange(5).split(share)
    parts = [log_odds(network, slices, group.tolist()) for group in shares]
    assert torch.equal(torch.cat(parts), log_odds(network, slices, range(5)))


def test_in_both_orders_the_order_of_the_slices_is_of_no_importance() -> None:
    torch.manual_seed(0)
    network = CrossImageFusionNetwork(width=4, local_blocks=1, mamba_blocks=1).eval()
    slices = torch.rand(4, 64, 70)
    odds = log_odds(network, slices, range(3), both_orders=True)
    reverse = log_odds(network, slices.flip(0), range(3), both_orders=True)
    torch.testing.assert_close(odds, -reverse.flip(0))
    once = log_odds(network, slices, range(3))
    assert not torch.allclose(odds, once)


@given(st.integers(1, 120), st.integers(1, 120), st.floats(0.3, 12.0))
def test_smoothing_equals_the_gaussian_of_scipy(height, width, sigma):
    images = torch.rand(2, height, width)
    settings = {"sigma": (0, sigma, sigma), "mode": "mirror", "truncate": TRUNCATE}
    expected = gaussian_filter(images.numpy(), **settings)
    np.testing.assert_allclose(smooth(images, sigma).numpy(), expected, atol=2e-6)
