"""Geometry of tiles."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_ips.fusion.tiles import tiles


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(0, 12),
    st.integers(1, 90),
    st.sampled_from([1, 4, 8]),
)
def test_cores_cover_every_pixel_once_and_halos_stay_inside(shape, halo, core, align):
    edge = 2 * halo + max(core, align)
    covered = np.zeros(shape, int)
    for tile in tiles(shape, edge, halo, align):
        covered[tile.core] += 1
        for core_part, padded, inner, length in zip(
            tile.core, tile.padded, tile.inner, shape, strict=True
        ):
            assert padded.stop - padded.start <= edge
            assert core_part.start % align == 0
            assert padded.start == 0 or core_part.start - padded.start == halo
            assert padded.stop == length or padded.stop - core_part.stop == halo
            assert core_part.start == padded.start + inner.start
            assert core_part.stop == padded.start + inner.stop
    assert (covered == 1).all()
