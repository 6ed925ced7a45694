"""Inter-image pixel shuffling: filters, masks, and the identities of Eq. (2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_ips.shuffling import (
    blob_mask,
    draw_kernel_size,
    low_pass,
    pixel_mask,
    shuffle,
)

shapes = st.tuples(
    st.integers(1, 2), st.integers(1, 3), st.integers(2, 20), st.integers(2, 20)
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(seed)
    return torch.rand(shape, generator=g), torch.rand(shape, generator=g)


@given(shapes, st.integers(0, 2**31), st.floats(0, 1))
def test_shuffling_keeps_the_values_of_every_position(shape, seed, ratio):
    focused, defocused = images(shape, seed)
    mask = pixel_mask(shape, ratio, generator(seed))
    first, second = shuffle(focused, defocused, mask)
    before = torch.stack([focused, defocused]).sort(dim=0).values
    after = torch.stack([first, second]).sort(dim=0).values
    assert torch.equal(before, after)


@given(shapes, st.integers(0, 2**31))
def test_shuffling_twice_with_one_mask_gives_the_images_back(shape, seed):
    focused, defocused = images(shape, seed)
    mask = pixel_mask(shape, 0.5, generator(seed))
    first, second = shuffle(*shuffle(focused, defocused, mask), mask)
    assert torch.equal(first, focused)
    assert torch.equal(second, defocused)


@given(shapes, st.integers(0, 2**31))
def test_shuffling_is_equation_2(shape, seed):
    focused, defocused = images(shape, seed)
    m = pixel_mask(shape, 0.5, generator(seed))
    first, second = shuffle(focused, defocused, m)
    torch.testing.assert_close(first, focused * m + defocused * (1 - m))
    torch.testing.assert_close(second, focused * (1 - m) + defocused * m)


def test_ratio_0_swaps_nothing_and_ratio_1_everything():
    focused, defocused = images((1, 1, 8, 8), 0)
    for ratio, swapped in ((0.0, False), (1.0, True)):
        mask = pixel_mask(focused.shape, ratio, generator())
        first, _ = shuffle(focused, defocused, mask)
        assert torch.equal(first, defocused if swapped else focused)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_pixel_masks_are_0_with_the_given_probability_in_every_channel(ratio):
    mask = pixel_mask((4, 3, 100, 100), ratio, generator())
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(
        1 - mask.mean(dim=(0, 2, 3)), torch.full((3,), ratio), atol=0.02, rtol=0
    )
    assert not torch.equal(mask[:, 0], mask[:, 1]), "channels are drawn independently"


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("scale", [2.0, 8.0, 30.0])
def test_blob_masks_cover_the_given_share_in_connected_regions(ratio, scale):
    mask = blob_mask((3, 2, 96, 80), ratio, scale, generator())
    assert mask.shape == (3, 2, 96, 80)
    torch.testing.assert_close(
        1 - mask.mean(dim=(1, 2, 3)), torch.full((3,), ratio), atol=0.02, rtol=0
    )
    assert torch.equal(mask[:, 0], mask[:, 1])
    changes = (mask[..., 1:] != mask[..., :-1]).float().mean()
    assert changes < 0.8 / scale, "borders are rare compared with pixel-wise masks"


@pytest.mark.parametrize("size", [3, 7, 31])
def test_mean_filter_equals_scipy(size):
    image = torch.rand((1, 2, 40, 37), generator=generator())
    expected = ndimage.uniform_filter(image.numpy(), (1, 1, size, size), mode="mirror")
    np.testing.assert_allclose(low_pass(image, "mean", size), expected, atol=1e-5)


@pytest.mark.parametrize("size", [3, 9])
def test_median_filter_equals_scipy(size):
    image = torch.rand((1, 2, 30, 20), generator=generator())
    expected = ndimage.median_filter(image.numpy(), (1, 1, size, size), mode="mirror")
    np.testing.assert_allclose(low_pass(image, "median", size), expected)


def test_gaussian_filter_equals_scipy():
    image = torch.rand((1, 1, 30, 20), generator=generator())
    expected = ndimage.gaussian_filter(
        image.numpy(), (0, 0, 1.5, 1.5), mode="mirror", radius=(0, 0, 4, 4)
    )
    np.testing.assert_allclose(low_pass(image, "gaussian", 9), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "median", "gaussian"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 1, 9), (2, 1, 5, 4)])
def test_a_kernel_larger_than_the_image_is_no_error(kind, shape):
    blurred = low_pass(torch.full(shape, 0.5), kind, 31)
    torch.testing.assert_close(blurred, torch.full(shape, 0.5))


def test_zero_padding_darkens_the_border_alone():
    blurred = low_pass(torch.ones((1, 1, 40, 40)), "mean", 9, padding="constant")
    assert blurred[0, 0, 0, 0] < 0.4
    torch.testing.assert_close(blurred[..., 4:-4, 4:-4], torch.ones((1, 1, 32, 32)))


@pytest.mark.parametrize("size", [0, 2, -3])
def test_even_and_negative_kernel_sizes_are_refused(size):
    with pytest.raises(ValueError, match="odd"):
        low_pass(torch.ones((1, 1, 4, 4)), "mean", size)


def test_kernel_sizes_are_odd_and_reach_both_ends():
    g = generator()
    sizes = {draw_kernel_size(3, 31, g) for _ in range(500)}
    assert sizes == set(range(3, 32, 2))
