"""Convolutions 3 x 3 by Winograd's method: one, or several layers row by row.

Four neighbouring pixels take 16 products for each pair of channels, where convolving
takes 36: of sums and differences of inputs, and such of weights. See Lavin and Gray,
"Fast algorithms for convolutional neural networks", CVPR 2016, for F(2 x 2, 3 x 3). The
rows of an image go through all convolutions while they are in the cache.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from napari_ips.kernels.lanes import (
    COLUMNS,
    LANES,
    ROWS,
    add,
    add_product,
    inner,
    larger,
    load,
    load_tile,
    splat,
    store,
    store_tile,
    subtract,
    zero_tile,
)

QUADS = 24  # a multiple of ROWS, of 2 x 2 pixels that are computed at a time
_RING = 6  # rows kept between two convolutions: those that three pairs of rows need

# Not as literals, for each of which numba would compile a function anew.
_ADD, _REPLACE = np.bool_(True), np.bool_(False)

Floats = NDArray[np.float32]


class Scratch(NamedTuple):
    """What a kernel keeps between its steps, for images of c and results of d channels."""

    patch: Floats  # (4 * (2 * QUADS + 2), c): 4 rows of pixels
    spread: Floats  # (16 * QUADS, c): what the matrices multiply
    products: Floats  # (16 * QUADS, d)
    result: Floats  # (2 * 2 * QUADS, d): 2 rows of pixels
    rings: Floats  # (convolutions, _RING * W, c): the last rows between convolutions


@inner
def _fetch(image, ring, row, column, size, patch):
    """Copy 4 rows of an image to ``patch``, with zeros outside.

    Row y of the image is row y % ring of the array.
    """
    height, width = size
    across = patch.shape[0] // 4
    for i in range(4):
        y = row + i
        for j in range(across):
            x = column + j
            at = (y % ring) * width + x
            inside = 0 <= y < height and 0 <= x < width
            for k in range(0, patch.shape[1], LANES):
                value = load(image, at, k) if inside else splat(np.float32(0.0))
                store(patch, i * across + j, k, value)


@inner
def _spread(x, at, step, k):
    """Apply one of the two transformations of the inputs to four vectors."""
    a, b = load(x, at, k), load(x, at + step, k)
    c, d = load(x, at + 2 * step, k), load(x, at + 3 * step, k)
    return subtract(a, c), add(b, c), subtract(c, b), subtract(b, d)


@inner
def _spread_on(vectors, x, at, step, k):
    a, b, c, d = vectors
    store(x, at, k, subtract(a, c))
    store(x, at + step, k, add(b, c))
    store(x, at + 2 * step, k, subtract(c, b))
    store(x, at + 3 * step, k, subtract(b, d))


@inner
def _transform(patch, count, out):
    across = patch.shape[0] // 4
    for t in range(count):
        for k in range(0, patch.shape[1], LANES):
            a0, a1, a2, a3 = _spread(patch, 2 * t, across, k)
            b0, b1, b2, b3 = _spread(patch, 2 * t + 1, across, k)
            c0, c1, c2, c3 = _spread(patch, 2 * t + 2, across, k)
            d0, d1, d2, d3 = _spread(patch, 2 * t + 3, across, k)
            _spread_on((a0, b0, c0, d0), out, t, QUADS, k)
            _spread_on((a1, b1, c1, d1), out, 4 * QUADS + t, QUADS, k)
            _spread_on((a2, b2, c2, d2), out, 8 * QUADS + t, QUADS, k)
            _spread_on((a3, b3, c3, d3), out, 12 * QUADS + t, QUADS, k)


@inner
def _multiply(x, count, matrices, accumulate, out):
    channels = x.shape[1]
    for p in range(16):
        for t in range(p * QUADS, p * QUADS + count, ROWS):
            for n in range(0, out.shape[1], COLUMNS * LANES):
                tile = load_tile(out, t, n) if accumulate else zero_tile()
                for k in range(channels):
                    tile = add_product(tile, x, t, k, matrices, p * channels + k, n)
                store_tile(out, t, n, tile)


@inner
def _gather(a, b, c, d):
    return add(add(a, b), c), subtract(subtract(b, c), d)


@inner
def _gather_from(x, at, k):
    step = 4 * QUADS
    return _gather(
        load(x, at, k),
        load(x, at + step, k),
        load(x, at + 2 * step, k),
        load(x, at + 3 * step, k),
    )


@inner
def _transform_back(x, count, out):
    for t in range(count):
        for k in range(0, out.shape[1], LANES):
            a0, a1 = _gather_from(x, t, k)
            b0, b1 = _gather_from(x, QUADS + t, k)
            c0, c1 = _gather_from(x, 2 * QUADS + t, k)
            d0, d1 = _gather_from(x, 3 * QUADS + t, k)
            left, right = _gather(a0, b0, c0, d0)
            store(out, 2 * t, k, left)
            store(out, 2 * t + 1, k, right)
            left, right = _gather(a1, b1, c1, d1)
            store(out, 2 * QUADS + 2 * t, k, left)
            store(out, 2 * QUADS + 2 * t + 1, k, right)


@inner
def _finish(result, first, count, bias, image, at, add_image, out, out_at):
    """Add the bias and then the image, or rectify."""
    for k in range(0, out.shape[1], LANES):
        offset = load(bias, 0, k)
        for j in range(count):
            value = add(load(result, first + j, k), offset)
            if add_image:
                value = add(value, load(image, at + j, k))
            else:
                value = larger(value, splat(np.float32(0.0)))
            store(out, out_at + j, k, value)


@inner
def _add_products(x, ring, row, column, count, size, matrices, accumulate, scratch):
    """Multiply ``count`` quads of x, transformed, from a row and column on."""
    _fetch(x, ring, row - 1, column - 1, size, scratch.patch)
    _transform(scratch.patch, count, scratch.spread)
    _multiply(scratch.spread, count, matrices, accumulate, scratch.products)


@nb.njit(nogil=True, cache=True)
def join(features, others, size, matrices, biases, scratch, out):
    """Residual blocks on the features, and the convolution that joins the others.

    Every convolution is two rows behind the one before it; an odd one ends a block.
    """
    height, width = size
    last = len(biases) - 1
    rings, products, result = scratch.rings, scratch.products, scratch.result
    for step in range(0, height + 2 * last, 2):
        for s in range(last + 1):
            row = step - 2 * s
            if row < 0 or row >= height:
                continue
            x, ring = (rings[s - 1], _RING) if s > 0 else (features, height)
            start, start_ring = (rings[s - 2], _RING) if s > 1 else (features, height)
            target, target_ring = (rings[s], _RING) if s < last else (out, height)
            ends = s % 2 == 1 and s < last
            for column in range(0, width, 2 * QUADS):
                count = min(QUADS, (width - column + 1) // 2)
                _add_products(
                    x, ring, row, column, count, size, matrices[s], _REPLACE, scratch
                )
                if s == last:
                    rest = matrices[s + 1]
                    _add_products(
                        others, height, row, column, count, size, rest, _ADD, scratch
                    )
                _transform_back(products, count, result)
                pixels = min(2 * QUADS, width - column)
                for i in range(min(2, height - row)):
                    first = 2 * QUADS * i
                    at = (row + i) % start_ring * width + column
                    to = (row + i) % target_ring * width + column
                    _finish(result, first, pixels, biases[s], start, at, ends, target, to)


@nb.njit(nogil=True, cache=True)
def convolve(image, size, matrices, bias, scratch, out):
    """Convolve one image (H * W, c) to (H * W, d)."""
    height, width = size
    result = scratch.result
    for row in range(0, height, 2):
        for column in range(0, width, 2 * QUADS):
            count = min(QUADS, (width - column + 1) // 2)
            _add_products(
                image, height, row, column, count, size, matrices, _REPLACE, scratch
            )
            _transform_back(scratch.products, count, result)
            for i in range(min(2, height - row)):
                for j in range(min(2 * QUADS, width - column)):
                    at = (row + i) * width + column + j
                    for k in range(0, out.shape[1], LANES):
                        value = load(result, 2 * QUADS * i + j, k)
                        store(out, at, k, add(value, load(bias, 0, k)))


def fits(channels: int) -> bool:
    """Return whether the kernels can compute convolutions of so many channels."""
    return channels % (COLUMNS * LANES) == 0


def make_scratch(convolutions: int, width: int, c: int, d: int) -> Scratch:
    """Make room for images of ``width`` pixels; of rows for so many convolutions."""

    def zeros(*shape: int) -> Floats:
        return np.zeros(shape, np.float32)

    return Scratch(
        patch=zeros(4 * (2 * QUADS + 2), c),
        spread=zeros(16 * QUADS, c),
        products=zeros(16 * QUADS, d),
        result=zeros(4 * QUADS, d),
        rings=zeros(max(1, convolutions), _RING * width, c),
    )


def compile_now() -> None:
    """Join images of one pixel, for which numba compiles the kernel or finds it."""
    c = COLUMNS * LANES
    image, biases = np.zeros((1, c), np.float32), np.zeros((1, 1, c), np.float32)
    matrices = np.zeros((2, 16 * c, c), np.float32)
    join(image, image, (1, 1), matrices, biases, make_scratch(0, 1, c, c), image.copy())
