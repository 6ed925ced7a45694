"""Fusion of one z-stack, tile by tile, from the coarsest scale to the finest."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_ips.fusion.compute import Workers
from napari_ips.fusion.decide import FusedPart, decide, untouched
from napari_ips.fusion.memory import whole_or_quarters
from napari_ips.fusion.scales import Evidence
from napari_ips.fusion.settings import FusionSettings
from napari_ips.fusion.survey import CoarseLevel, Kept, Reader, read_scaled, scaled_down
from napari_ips.fusion.tiles import (
    Area,
    Core,
    children,
    clipped,
    parent,
    scaled,
    times,
    within,
)
from napari_ips.fusion.window import core_evidence, window
from napari_ips.network import CrossImageFusionNetwork

_Out = TypeVar("_Out")


class EvidenceStore(Protocol):
    """Keeps the evidence of coarse cores, which several tiles need."""

    def get(self, core: Core) -> Evidence | None:
        """Return what was kept for a core."""

    def put(self, core: Core, evidence: Evidence) -> None:
        """Keep the evidence of a core."""


class EvidenceInMemory:
    """Evidence in a dictionary."""

    def __init__(self) -> None:
        self._known: dict[str, Evidence] = {}

    def get(self, core: Core) -> Evidence | None:
        """Return what was kept for a core."""
        return self._known.get(core.key)

    def put(self, core: Core, evidence: Evidence) -> None:
        """Keep the evidence of a core."""
        self._known[core.key] = evidence


class StackFuser:
    """Fuses the tiles of one z-stack, in any order and from several threads.

    Parameters
    ----------
    network : CrossImageFusionNetwork
        With one input channel.
    settings : FusionSettings
    readers : sequence of Reader
        Of the stack that decides, and of other channels that follow its decision.
    level : CoarseLevel or None
        The stack at the scale above that of the tiles; None if no such scale is used.
    store : EvidenceStore
        For the scales of `level` and above.
    workers : Workers
        That compute the cores of a tile, side by side.
    """

    def __init__(
        self,
        network: CrossImageFusionNetwork,
        settings: FusionSettings,
        readers: Sequence[Reader],
        level: CoarseLevel | None,
        store: EvidenceStore,
        workers: Workers,
    ) -> None:
        self.network = network
        self.settings = settings
        self.readers = readers
        self.level = level
        self.store = store
        self.workers = workers
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def fuse(self, tile: Core) -> FusedPart:
        """Fuse a tile, or where memory does not suffice, its quarters in turn.

        Raises
        ------
        IPSError
            If memory does not suffice for the smallest tile.
        Stopped
            If the workers were stopped.
        """
        shape = self.settings.shape
        return self._joined(tile, whole_or_quarters(self._fuse_at_once, tile, shape))

    def evidence(self, core: Core) -> Evidence | None:
        """Return the evidence of a core above the tiles, computed when first needed."""
        if core.scale not in self.settings.scales:
            return None
        with self._locks[core.key]:
            known = self.store.get(core)
            if known is None:
                known = self._compare(
                    self.readers[0], core, self._coarser(core), self.workers
                )
                assert known is not None, "its scale is one of the settings"
                self.store.put(core, known)
        return known

    def _coarser(self, core: Core) -> Evidence | None:
        if 2 * core.scale not in self.settings.scales:
            return None
        return self.evidence(parent(core, self.settings.shape))

    def _fuse_at_once(self, tile: Core) -> FusedPart:
        """Read all that a tile needs, and go down its cores scale by scale."""
        readers = [Kept(read, self._surroundings(tile)) for read in self.readers]
        if len(readers[0].data) == 1:
            area = tile.in_image(self.settings.shape)
            return untouched(*_parts(readers, area))
        level = [(tile, self._coarser(tile))]
        while level[0][0].scale > 1:
            found = self._each(partial(self._compare, readers[0]), level)
            level = [
                (child, evidence)
                for (core, _), evidence in zip(level, found, strict=True)
                for child in children(core, self.settings.shape)
            ]
        parts = self._each(partial(self._decide, readers), level)
        cores = [core for core, _ in level]
        return self._joined(tile, list(zip(cores, parts, strict=True)))

    def _each(
        self,
        function: Callable[[Core, Evidence | None, Workers | None], _Out],
        level: list[tuple[Core, Evidence | None]],
    ) -> list[_Out]:
        """Work on cores side by side; on few cores, on their slices side by side."""
        if len(level) < self.workers.count:
            return [function(core, coarser, self.workers) for core, coarser in level]
        return self.workers.each(lambda work: function(*work, None), level)

    def _compare(
        self, read: Reader, core: Core, coarser: Evidence | None, workers: Workers | None
    ) -> Evidence | None:
        if core.scale not in self.settings.scales:
            return None
        values = self._values(core, read)
        return core_evidence(self.network, values, core, coarser, self.settings, workers)

    def _decide(
        self,
        readers: Sequence[Reader],
        core: Core,
        coarser: Evidence | None,
        workers: Workers | None,
    ) -> FusedPart:
        found = self._compare(readers[0], core, coarser, workers)
        assert found is not None, "the finest scale is always compared"
        inside = within(core.area, found.area)
        return decide(found.mean(), inside, *_parts(readers, core.area), self.settings)

    def _values(self, core: Core, read: Reader) -> Tensor:
        """Return what the network sees of a core, at its scale."""
        area = window(core, self.settings)
        if self.level is not None and core.scale >= self.level.scale:
            factor = core.scale // self.level.scale
            whole = scaled(self.settings.shape, self.level.scale)
            return scaled_down(self.level.read(clipped(times(area, factor), whole)), factor)
        pixels = clipped(times(area, core.scale), self.settings.shape)
        return read_scaled(read, pixels, core.scale, self.settings)

    def _surroundings(self, tile: Core) -> Area:
        """Return the area of the image that the windows of a tile's cores take up."""
        if tile.scale == 1:
            return window(tile, self.settings)
        inner = [self._surroundings(child) for child in children(tile, self.settings.shape)]
        own = clipped(times(window(tile, self.settings), tile.scale), self.settings.shape)
        y, x = (
            slice(min(p.start for p in parts), max(p.stop for p in parts))
            for parts in zip(own, *inner, strict=True)
        )
        return y, x

    def _joined(self, tile: Core, parts: list[tuple[Core, FusedPart]]) -> FusedPart:
        """Put the parts of a tile together."""
        if len(parts) == 1:
            return parts[0][1]
        shape = self.settings.shape
        area = tile.in_image(shape)
        height, width = (part.stop - part.start for part in area)
        first = parts[0][1].arrays
        whole = FusedPart.of(
            [np.empty((height, width, *piece.shape[2:]), piece.dtype) for piece in first]
        )
        for core, part in parts:
            y, x = within(core.in_image(shape), area)
            for into, piece in zip(whole.arrays, part.arrays, strict=True):
                into[y, x] = piece
        return whole


def _parts(
    readers: Sequence[Reader], area: Area
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    first, *others = (read(*area) for read in readers)
    return first, others
