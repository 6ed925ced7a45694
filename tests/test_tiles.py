"""Geometry of cores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_ips.fusion.tiles import CORE, children, cores, grown, parent, scaled, within

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
scales = st.sampled_from([1, 2, 4, 8, 16])


@given(sizes, scales)
def test_cores_cover_every_pixel_once(shape, scale):
    covered = np.zeros(scaled(shape, scale), np.uint8)
    for core in cores(shape, scale):
        covered[core.area] += 1
    assert (covered == 1).all()


@given(sizes, scales)
def test_cores_are_neither_tiny_nor_large(shape, scale):
    for core in cores(shape, scale):
        for part, length in zip(core.area, scaled(shape, scale), strict=True):
            edge = part.stop - part.start
            assert edge < 1.5 * CORE
            assert edge >= min(length, CORE // 2)


@given(sizes, st.sampled_from([2, 4, 8, 16]))
def test_children_cover_their_parent_and_know_it(shape, scale):
    seen = []
    for core in cores(shape, scale):
        y, x = core.in_image(shape)
        area = 0
        for child in children(core, shape):
            assert parent(child, shape) == core
            cy, cx = child.in_image(shape)
            assert y.start <= cy.start < cy.stop <= y.stop
            assert x.start <= cx.start < cx.stop <= x.stop
            area += (cy.stop - cy.start) * (cx.stop - cx.start)
            seen.append(child)
        assert area == (y.stop - y.start) * (x.stop - x.start)
    assert sorted(c.key for c in seen) == sorted(c.key for c in cores(shape, scale // 2))


@given(sizes, st.integers(0, 60))
def test_grown_areas_stay_inside_and_hold_what_they_grew_from(shape, margin):
    image = np.arange(shape[0])[:, None] * 10_000 + np.arange(shape[1])
    for core in cores(shape, 1):
        wide = grown(core.area, margin, shape)
        for part, length in zip(wide, shape, strict=True):
            assert 0 <= part.start < part.stop <= length
        inner = within(core.area, wide)
        assert np.array_equal(image[wide][inner], image[core.area])
