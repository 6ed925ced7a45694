"""Fusion of z-stacks, from wherever they are read, into arrays in memory."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import Begun, ProgressCallback, TileDone
from napari_ips.fusion.compute import Workers, load_network, stoppable
from napari_ips.fusion.fuser import EvidenceInMemory, StackFuser
from napari_ips.fusion.memory import TOO_LITTLE, free_memory
from napari_ips.fusion.plan import MAPS, Plan
from napari_ips.fusion.spool import spooled
from napari_ips.fusion.survey import LevelInMemory, prepare
from napari_ips.io import LazyStack


@dataclass(frozen=True)
class FusedArrays:
    """What became of the z-stacks of one position.

    Attributes
    ----------
    fused : ndarray, shape (T, C, Y, X[, colours])
        In the dtype of the stack.
    index : ndarray of uint16, shape (T, C, Y, X)
        Slice in which the pixel is sharpest, counted from 0 in the whole stack. C is 1
        where one channel decides for all; so it is for the other maps.
    depth : ndarray of float32
        The same in fractions, times the z step where it is known.
    confidence : ndarray of float32
        See `FusionResult`.
    """

    fused: NDArray[Any]
    index: NDArray[np.uint16]
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]


def fuse_to_arrays(
    stack: LazyStack,
    *,
    slices: tuple[int | None, int | None] = (None, None),
    reference_channel: int | str | None = None,
    config: FuseConfig | None = None,
    stop: threading.Event | None = None,
    callback: ProgressCallback | None = None,
) -> FusedArrays:
    """Fuse the z-stacks of one position, time by time and channel by channel.

    The stack is read window by window; what has to fit into memory is the result.

    Parameters
    ----------
    stack : LazyStack
        From `napari_ips.io.open_stacks` or `wrap_array`.
    slices, reference_channel, config
        See `fuse_to_file`.
    stop : threading.Event, optional
        Set from another thread, it ends the work within a tile.
    callback : callable, optional
        Called with `Progress`, `TileDone` and first of all `Begun`, whose arrays are the
        ones that are returned in the end; what it raises ends the work too.

    Raises
    ------
    IPSError
        If there are no such slices or no such channel, the weights or the device are not
        there, the stack cannot be read, or memory does not suffice.
    Stopped
        If it was asked to stop.
    """
    stop = stop or threading.Event()
    callback = stoppable(callback, stop)
    plan = Plan.of(stack, slices, reference_channel, config or FuseConfig())
    try:
        with TemporaryDirectory(prefix="napari-ips-") as folder:
            copied = spooled(plan.stack, plan.z, Path(folder), False, callback)
            return _fuse(replace(plan, stack=copied), stop, callback)
    except MemoryError as error:
        raise IPSError(TOO_LITTLE) from error


def _fuse(plan: Plan, stop: threading.Event, callback: ProgressCallback) -> FusedArrays:
    arrays = _arrays(plan)
    done, total = 0, len(plan.planes) * len(plan.tiles)
    callback(Begun("fusing", done, total, arrays))
    network = load_network(plan.config)
    device = next(network.parameters()).device
    with Workers(device, asked=stop) as workers:
        for plane in plan.planes:
            settings, level = prepare(plan, plane, workers, callback, LevelInMemory)
            kept = EvidenceInMemory()
            fuser = StackFuser(network, settings, plan.readers(plane), level, kept, workers)
            for tile, part in workers.tiles(fuser.fuse, plan.tiles):
                plan.put(arrays, plane, tile, part)
                done += 1
                place = (plane.t, plane.c, *tile.in_image(plan.image_shape))
                callback(TileDone("fusing", done, total, *place))
    return FusedArrays(**arrays)


def _arrays(plan: Plan) -> dict[str, NDArray[Any]]:
    names = ("fused", *MAPS)
    needed = sum(
        math.prod(plan.shape_of(name)) * plan.dtype_of(name).itemsize for name in names
    )
    if needed > free_memory():
        raise IPSError(
            f"The result takes {needed / 1e9:.3g} GB, more than there is memory; fuse "
            "into a file instead, such as an OME-Zarr."
        )
    return {name: np.zeros(plan.shape_of(name), plan.dtype_of(name)) for name in names}
