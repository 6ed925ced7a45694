"""Metrics without truth: their figures, by hand and by plain code."""

import math

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import uniform_filter
from scipy.signal import convolve2d
from skimage import data

from napari_ips.evaluation.metrics import (
    q_cb,
    q_cv,
    q_e,
    q_g,
    q_mi,
    q_ncie,
    q_p,
    q_s,
    q_sf,
    q_w,
    q_y,
)
from napari_ips.evaluation.metrics.phase import FilterBank, phase_congruency

SHARP = data.camera()[115:156, 195:252]


def soft(image, edge):
    size = (edge, edge, 1)[: image.ndim]
    return np.rint(uniform_filter(image.astype(float), size)).astype(np.uint8)


def triplet():
    """An image with a fault, and two sources; odd sizes, nothing flat, all levels."""
    fused, a, b = soft(SHARP, 3), SHARP.copy(), soft(SHARP, 3)
    fused[:, 15:40] = SHARP[:, 15:40]
    a[:, 25:], b[:, 25:] = b[:, 25:], SHARP[:, 25:]
    return fused, a, b


TRIPLET = triplet()


def floats(*images):
    return [image.astype(float) for image in images]


def histogram_entropy(*images):
    """In bits, of images stretched to their own range."""
    levels = [
        np.floor((image - image.min()) / (image.max() - image.min()) * 255 + 0.5).ravel()
        for image in floats(*images)
    ]
    counts, _ = np.histogramdd(levels, bins=256, range=[(-0.5, 255.5)] * len(levels))
    shares = counts[counts > 0] / counts.sum()
    return -np.sum(shares * np.log2(shares))


def information(x, y):
    return histogram_entropy(x) + histogram_entropy(y) - histogram_entropy(x, y)


def test_q_mi_of_four_pixels_by_hand():
    fused = np.array([[0, 0], [255, 255]], np.uint8)
    b = np.array([[0, 255], [0, 255]], np.uint8)
    assert q_mi(fused, fused, b) == pytest.approx(1)
    assert q_mi(fused, 255 - fused, fused // 3) == pytest.approx(2)
    # H(A) = 1.5 bits and I(A, F) = 1 bit
    a = np.array([[0, 100], [255, 255]], np.uint8)
    assert q_mi(fused, a, b) == pytest.approx(2 * 1 / 2.5)


def test_q_mi_is_that_of_plain_histograms():
    fused, a, b = TRIPLET
    expected = sum(
        2 * information(x, fused) / (histogram_entropy(x) + histogram_entropy(fused))
        for x in (a, b)
    )
    assert q_mi(*TRIPLET) == pytest.approx(expected, rel=1e-9)


def test_q_ncie_by_hand():
    fused = np.array([[0, 0], [255, 255]], np.uint8)
    b = np.full((2, 2), 7, np.uint8)
    # Correlations: 1/8 (one bit of eight) of A and F, 0 with the constant B.
    eigenvalues = np.array([9 / 8, 7 / 8, 1]) / 3
    expected = 1 + np.sum(eigenvalues * np.log2(eigenvalues)) / 8
    assert q_ncie(fused, fused, b) == pytest.approx(expected)


def test_q_ncie_is_that_of_plain_histograms():
    fused, a, b = TRIPLET
    ab, af, bf = (information(*two) / 8 for two in ((a, b), (a, fused), (b, fused)))
    roots = (
        np.roots(
            [
                1,
                -3,
                3 - ab**2 - af**2 - bf**2,
                -(1 + 2 * ab * af * bf) + ab**2 + af**2 + bf**2,
            ]
        ).real
        / 3
    )
    assert q_ncie(*TRIPLET) == pytest.approx(1 + np.sum(roots * np.log2(roots)) / 8)


def test_q_g_of_half_the_contrast_by_hand(rng):
    a = 2 * rng.integers(0, 128, (20, 30)).astype(np.uint8)
    expected = 0.9994 / 2 * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert q_g(a // 2, a, a) == pytest.approx(expected, rel=1e-6)


def test_q_g_is_that_of_a_loop_over_the_pixels():
    padded = [np.pad(image, 1) for image in floats(*TRIPLET)]

    def gradient(image, y, x):
        square = image[y - 1 : y + 2, x - 1 : x + 2]
        right = square[:, 2] @ [1, 2, 1] - square[:, 0] @ [1, 2, 1]
        down = [1, 2, 1] @ square[2] - [1, 2, 1] @ square[0]
        return math.hypot(right, down), math.atan(down / (right or 1e-5))

    kept = weights = 0.0
    for y, x in np.ndindex(TRIPLET[0].shape):
        (gf, tf), *sources = (gradient(image, y + 1, x + 1) for image in padded)
        for g, t in sources:
            if g and gf:
                strength = 1 / (1 + math.exp(-15 * (min(g, gf) / max(g, gf) - 0.5)))
                turned = 1 - abs(t - tf) / (math.pi / 2)
                angle = 1 / (1 + math.exp(-22 * (turned - 0.8)))
                kept += g * 0.9994 * strength * 0.9879 * angle
            weights += g
    assert q_g(*TRIPLET) == pytest.approx(kept / weights, rel=1e-5)


def test_q_sf_of_a_chessboard_by_hand():
    board = np.indices((10, 20)).sum(axis=0) % 2 * np.uint8(255)
    expected = math.sqrt((9 * 20 + 10 * 19) / 200)
    assert q_sf(board, board, board // 2) == pytest.approx(expected)


def by_windows(fused, a, b, weights):
    """Quality indices of A and F, B and F, A and B, and variances of A and B.

    By two passes over every window that lies inside, of these weights.
    """
    edge = len(weights)
    flat = (weights / weights.sum()).ravel()
    away, means, variances = [], [], []
    for image in (fused, a, b):
        windows = sliding_window_view(image, (edge, edge))
        windows = windows.reshape(*windows.shape[:2], -1)
        means.append(windows @ flat)
        away.append(windows - means[-1][..., None])
        variances.append(away[-1] ** 2 @ flat)
    indices = [
        4 * (away[x] * away[y] @ flat) * means[x] * means[y]
        / ((means[x] ** 2 + means[y] ** 2) * (variances[x] + variances[y]))
        for x, y in ((1, 0), (2, 0), (1, 2))
    ]  # fmt: skip
    return *indices, variances[1], variances[2]


def piella(images):
    """Mean over all windows, as such and weighted by their saliency."""
    of_a, of_b, _, va, vb = by_windows(*images, np.ones((8, 8)))
    quality = (va * of_a + vb * of_b) / (va + vb)
    return quality.mean(), np.average(quality, weights=np.maximum(va, vb))


def test_piellas_indices_are_those_of_every_window_by_itself():
    images = floats(*TRIPLET)
    plain, weighted = piella(images)
    slope = np.array([[1, 0, -1]] * 3)
    edges = [
        np.hypot(convolve2d(image, slope, "same"), convolve2d(image, slope.T, "same"))
        for image in images
    ]
    assert q_s(*TRIPLET) == pytest.approx(plain, rel=1e-6)
    assert q_w(*TRIPLET) == pytest.approx(weighted, rel=1e-6)
    assert q_e(*TRIPLET) == pytest.approx(weighted * piella(edges)[1], rel=1e-6)


def test_q_y_is_that_of_every_window_by_itself():
    y, x = np.indices((7, 7)) - 3
    gauss = np.exp(-(x * x + y * y) / 4.5)
    of_a, of_b, of_both, va, vb = by_windows(*floats(*TRIPLET), gauss)
    redundant = of_both >= 0.75
    assert 0.1 < redundant.mean() < 0.9
    shared = (va * of_a + vb * of_b) / (va + vb)
    expected = np.where(redundant, shared, np.maximum(of_a, of_b)).mean()
    assert q_y(*TRIPLET) == pytest.approx(expected, rel=1e-6)


def test_q_y_takes_what_is_flat_in_both_sources_for_redundant():
    flat = np.full((20, 20), 200, np.uint8)
    assert q_y(flat, flat, flat) == 1
    assert q_y(flat // 2, flat, flat) == pytest.approx(2 * 200 * 100 / (200**2 + 100**2))


def test_q_cb_is_that_of_filters_written_out():
    height, width = TRIPLET[0].shape
    assert height % 2 and width % 2
    v, u = np.indices((height, width)) - np.array([height // 2, width // 2])[:, None, None]
    r2 = (u / 15) ** 2 + (v / 15) ** 2
    response = np.exp(-r2 / 15.387**2) - 0.7622 * np.exp(-r2 / 1.3456**2)
    y, x = np.indices((31, 31)) - 15
    gauss = [np.exp(-(x * x + y * y) / (2 * s * s)) / (2 * np.pi * s * s) for s in (2, 4)]

    def contrast(image):
        levels = np.floor((image - image.min()) / np.ptp(image) * 255 + 0.5)
        spectrum = np.fft.fftshift(np.fft.fft2(levels)) * response
        seen = np.fft.ifft2(np.fft.ifftshift(spectrum)).real
        fine, coarse = (convolve2d(seen, kernel, "same") for kernel in gauss)
        c = np.abs(fine / coarse - 1)
        return c**3 / (c**2 + 1e-4)

    f, a, b = (contrast(image) for image in floats(*TRIPLET))
    kept = [np.minimum(x, f) / np.maximum(x, f) for x in (a, b)]
    expected = np.mean((a**2 * kept[0] + b**2 * kept[1]) / (a**2 + b**2))
    assert q_cb(*TRIPLET) == pytest.approx(expected, rel=1e-9)


def test_q_cv_of_a_stripe_is_what_the_eye_lets_through(rng):
    a = rng.integers(10, 240, (48, 64)).astype(int)
    stripe = np.where(np.arange(64) % 2, -1, 1)
    a[0, :2], a[1, :2] = (0, 1), (254, 255)
    fused = (a + stripe).astype(np.uint8)
    assert (fused.min(), fused.max()) == (0, 255)
    # 32 cycles per image, and that divided by 4
    r = 8
    passed = 2.6 * (0.0192 + 0.144 * r) * math.exp(-((0.144 * r) ** 1.1))
    a = a.astype(np.uint8)
    assert q_cv(fused, a, a) == pytest.approx(passed**2)


def test_q_cv_looks_where_a_source_has_edges(rng):
    a = np.zeros((64, 64), np.uint8)
    a[16:32, 16:32] = rng.integers(0, 255, (16, 16))
    a[20, 20] = 255
    near, far = a.copy(), a.copy()
    near[24:28, 24:28] ^= 64
    far[52:56, 52:56] ^= 64
    assert q_cv(near, a, a) > 10 * q_cv(far, a, a)


def test_phase_congruency_finds_a_step_of_any_height():
    image = np.zeros((64, 64))
    image[:, 16:48] = 100
    bank = FilterBank.of(image.shape)
    features, faint = (phase_congruency(x, bank).congruency for x in (image, image / 20))
    assert features[:, [15, 16, 47, 48]].min() > 0.3
    assert features[:, 26:38].max() < 0.05
    assert np.abs(features - faint).max() < 0.01


def test_moments_of_phase_congruency_tell_edge_from_corner():
    image = np.zeros((64, 64))
    image[16:48, 16:48] = 100
    found = phase_congruency(image, FilterBank.of(image.shape))
    edge, corner = (slice(30, 34), slice(14, 18)), (slice(14, 18), slice(14, 18))
    assert found.largest[edge].max() > 4 * found.smallest[edge].max()
    assert found.smallest[corner].max() > 4 * found.smallest[edge].max()


def test_phase_congruency_of_noise_is_below_its_threshold(rng):
    noise = rng.normal(100, 10, (128, 128))
    found = phase_congruency(noise, FilterBank.of(noise.shape)).congruency
    assert (found > 0.1).mean() < 0.2


def test_q_p_falls_with_every_edge_that_is_lost():
    fused, _, _ = TRIPLET
    spoilt = fused.copy()
    spoilt[:, 30:] = 128
    assert q_p(spoilt, fused, fused) < q_p(fused, fused, fused) - 0.1
