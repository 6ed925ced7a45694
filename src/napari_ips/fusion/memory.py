"""How much memory there is, and the tiles that fit into it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from napari_ips.config import FuseConfig
from napari_ips.device import is_short_of_memory
from napari_ips.errors import IPSError
from napari_ips.fusion.compute import IN_FLIGHT
from napari_ips.fusion.tiles import CORE, Core, Shape, children

# Larger tiles spare a few pixels of halo and cost memory.
_LARGEST = 1024
# Pixels around a tile that are read with it, at most, for tiles up to the largest.
_SURROUNDINGS = 200
# Float32 copies of a window that comparing and deciding take, per slice.
_COPIES = 10
_WINDOW = 1.5 * CORE
# Other programs, and what Python itself takes, want memory too.
_SHARE = 0.5
_CGROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
TOO_LITTLE = (
    "Memory does not suffice for this stack, not even in the smallest tiles: close other "
    "programs, fuse fewer slices, or use --device cpu."
)

_log = logging.getLogger(__name__)
_Out = TypeVar("_Out")


def free_memory() -> int:
    """Return the bytes this process may still take: of the machine, or its container."""
    free = int(psutil.virtual_memory().available)
    for limit, usage in _CGROUP_LIMITS:
        try:
            left = int(Path(limit).read_text()) - int(Path(usage).read_text())
        except (OSError, ValueError):  # no such limit, or "max"
            continue
        free = min(free, max(left, 0))
    return free


def tile_edge(config: FuseConfig, slices: int, pixel_bytes: int) -> int:
    """Return the edge of the tiles, in pixels: as configured, or as memory allows.

    Parameters
    ----------
    config : FuseConfig
    slices : int
    pixel_bytes : int
        Bytes of a pixel of one slice, with its colours, and of all channels that are
        fused together.
    """
    if config.tile != "auto":
        return config.tile
    windows = torch.get_num_threads() * slices * _WINDOW**2 * 4 * _COPIES
    edge = _LARGEST
    while edge > CORE:
        raw = IN_FLIGHT * slices * (edge + 2 * _SURROUNDINGS) ** 2 * pixel_bytes
        if raw + windows < _SHARE * free_memory():
            break
        edge //= 2
    return edge


def whole_or_quarters(
    function: Callable[[Core], _Out], tile: Core, shape: Shape
) -> list[tuple[Core, _Out]]:
    """Apply a function to a tile, or where memory does not suffice, to its quarters.

    Parameters
    ----------
    function : callable
    tile : Core
    shape : (height, width)
        Of the image, pixels.

    Returns
    -------
    list of (Core, result)
        Of the parts that cover the tile.

    Raises
    ------
    IPSError
        If memory does not suffice for the smallest tile.
    """
    try:
        return [(tile, function(tile))]
    except (MemoryError, RuntimeError) as error:
        if not is_short_of_memory(error):
            raise
        if tile.scale == 1:
            raise IPSError(TOO_LITTLE) from error
    _log.warning(
        "Memory is short: going on with tiles of %d pixels", tile.scale // 2 * CORE
    )
    quarters = children(tile, shape)
    return [part for q in quarters for part in whole_or_quarters(function, q, shape)]
