"""Copies of stacks that cannot be read in small windows, in chunks that can."""

from __future__ import annotations

from itertools import pairwise, product, starmap
from pathlib import Path
from typing import Any

from napari_ips.events import Progress, ProgressCallback
from napari_ips.files import plainly_written
from napari_ips.io import LazyStack, wrap_array

# What may be decoded for each window; above, a copy is cheaper.
_LARGEST_CHUNK = 32 * 2**20
_CHUNK = 1024


def spooled(
    stack: LazyStack,
    z: tuple[int, int],
    place: Path,
    for_cluster: bool,
    callback: ProgressCallback | None,
) -> LazyStack:
    """Return a stack, or a copy in a folder that is read faster.

    A copy is made of stacks whose chunks are so large that reading them for every tile
    would take long (a compressed page in one strip); and of arrays that the workers of a
    cluster shall read. Only the slices of ``z``, the first and the one after the last,
    are in it.
    """
    # Another process may find nothing where an array was, and zarr takes that for zeros.
    if stack.chunk_bytes <= _LARGEST_CHUNK and not (for_cluster and stack.path is None):
        return stack
    import zarr

    folder, done = place / "input", place / "input-done"
    times, channels, _, height, width = stack.shape
    if done.exists():
        copy: Any = zarr.open_array(folder, mode="r")
    else:
        with plainly_written(folder):
            copy = zarr.create_array(
                folder,
                # Slices that are not fused stay empty, and take no room.
                shape=(*stack.shape, *stack.colours),
                dtype=stack.dtype,
                chunks=(1, 1, 1, min(height, _CHUNK), min(width, _CHUNK), *stack.colours),
                overwrite=True,
            )
            # In whole chunks, so that each is decoded once, and not more than need be.
            deep, *edges = stack.chunk_shape
            high, wide = (edge * max(1, _CHUNK // edge) for edge in edges)
            cuts = _cut(z, deep), _cut((0, height), high), _cut((0, width), wide)
            places = list(product(range(times), range(channels), *cuts))
            for n, part in enumerate(places, start=1):
                copy[part] = stack.read(*part)
                if callback:
                    callback(Progress("copying", n, len(places)))
            done.touch()
    axes = "TCZYXS"[: copy.ndim]
    return wrap_array(copy, axes, stack.metadata, stack.name)


def _cut(ends: tuple[int, int], step: int) -> list[slice]:
    """Cut at multiples of ``step``."""
    start, stop = ends
    bounds = [start, *range((start // step + 1) * step, stop, step), stop]
    return list(starmap(slice, pairwise(bounds)))
