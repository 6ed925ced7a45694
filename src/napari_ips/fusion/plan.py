"""What is to be fused, and how: the z-stacks of one position, and their tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.fusion.decide import FusedPart
from napari_ips.fusion.memory import tile_edge
from napari_ips.fusion.tiles import CORE, Core, Shape, cores
from napari_ips.io import LazyStack

MAPS = ("index", "depth", "confidence")
MOST_SLICES = 65536


@dataclass(frozen=True)
class Plane:
    """One z-stack: a time point, and the channel that decides where it is sharp."""

    t: int
    c: int

    @property
    def key(self) -> str:
        """Name of the plane."""
        return f"{self.t}-{self.c}"


@dataclass(frozen=True)
class PlaneReader:
    """Reads all slices of a window of one z-stack."""

    stack: LazyStack
    plane: Plane
    z: tuple[int, int]

    def __call__(self, y: slice, x: slice) -> NDArray[Any]:
        """Return (n, h, w) or (n, h, w, colours)."""
        return self.stack.read(self.plane.t, self.plane.c, slice(*self.z), y, x)


@dataclass(frozen=True)
class Plan:
    """The z-stacks of one position, and how they are fused.

    Attributes
    ----------
    stack : LazyStack
    config : FuseConfig
        Its ``tile`` is a number.
    z : (int, int)
        First slice, and the one after the last.
    reference : int or None
        Channel that decides for all; None: each decides for itself.
    """

    stack: LazyStack
    config: FuseConfig
    z: tuple[int, int]
    reference: int | None

    @classmethod
    def of(
        cls,
        stack: LazyStack,
        slices: tuple[int | None, int | None],
        reference_channel: int | str | None,
        config: FuseConfig,
        edge: int | None = None,
    ) -> Plan:
        """Plan a fusion; the parameters are those of `fuse_to_file`.

        Parameters
        ----------
        edge : int, optional
            Of the tiles; by default as configured, or as memory allows.

        Raises
        ------
        IPSError
            If there are no such slices, or no such channel.
        """
        first, end = _chosen(slices, stack)
        reference = _reference(stack, reference_channel)
        together = 1 if reference is None else stack.shape[1]
        pixel_bytes = stack.dtype.itemsize * max(1, stack.samples) * together
        edge = edge or tile_edge(config, end - first, pixel_bytes)
        config = config.model_copy(update={"tile": edge})
        return cls(stack, config, (first, end), reference)

    @property
    def image_shape(self) -> Shape:
        """Height and width, pixels."""
        return self.stack.shape[3], self.stack.shape[4]

    @property
    def slices(self) -> int:
        """Slices that are fused."""
        return self.z[1] - self.z[0]

    @property
    def top(self) -> int:
        """Scale at which a tile is one core."""
        return int(self.config.tile) // CORE

    @property
    def tiles(self) -> list[Core]:
        """All tiles of a plane."""
        return cores(self.image_shape, self.top)

    @property
    def planes(self) -> list[Plane]:
        """All z-stacks, in order."""
        times, channels = self.stack.shape[:2]
        deciding = range(channels) if self.reference is None else [self.reference]
        return [Plane(t, c) for t in range(times) for c in deciding]

    def channels(self, plane: Plane) -> list[int]:
        """Return the channels that are fused by a plane's decision, its own first."""
        if self.reference is None:
            return [plane.c]
        return [plane.c, *(c for c in range(self.stack.shape[1]) if c != plane.c)]

    def readers(self, plane: Plane) -> list[PlaneReader]:
        """Return the readers of these channels."""
        return [
            PlaneReader(self.stack, Plane(plane.t, c), self.z) for c in self.channels(plane)
        ]

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the shape (T, C, Y, X[, colours]) of a result."""
        times, channels = self.stack.shape[:2]
        if name != "fused":
            return times, 1 if self.reference is not None else channels, *self.image_shape
        return times, channels, *self.image_shape, *self.stack.colours

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Return the dtype of a result."""
        if name == "fused":
            return self.stack.dtype
        return np.dtype(np.uint16 if name == "index" else np.float32)

    def put(
        self, arrays: Mapping[str, Any], plane: Plane, tile: Core, part: FusedPart
    ) -> None:
        """Put a finished tile into the arrays of the results that are wanted."""
        y, x = tile.in_image(self.image_shape)
        for c, image in zip(self.channels(plane), part.fused, strict=True):
            arrays["fused"][plane.t, c, y, x] = image
        step = self.stack.metadata.z_step
        depth = part.depth + np.float32(self.z[0])
        maps = {
            "index": part.index + np.uint16(self.z[0]),
            "depth": depth if step is None else depth * np.float32(step),
            "confidence": part.confidence,
        }
        c = plane.c if self.reference is None else 0
        for name in MAPS:
            if name in arrays:
                arrays[name][plane.t, c, y, x] = maps[name]


def _chosen(slices: tuple[int | None, int | None], stack: LazyStack) -> tuple[int, int]:
    """Return the first slice that is fused, and the one after the last."""
    count = stack.shape[2]
    ends = zip(slices, (0, count), strict=True)
    first, end = (open_end if end is None else end for end, open_end in ends)
    first, end = (n + count if n < 0 else n for n in (first, end))
    if end > MOST_SLICES:
        raise IPSError(
            f"{stack.name} has {count} slices; at most {MOST_SLICES} can be numbered."
        )
    if not 0 <= first < end <= count:
        told = ":".join("" if n is None else str(n) for n in slices)
        raise IPSError(
            f"{stack.name} has {count} slices, counted from 0; {told} are not among them."
        )
    return first, end


def _reference(stack: LazyStack, channel: int | str | None) -> int | None:
    """Return the number of the channel that was asked for."""
    if channel is None:
        return None
    names = [known.name for known in stack.metadata.channels]
    if channel in names:
        return names.index(str(channel))
    if str(channel).isdigit() and int(channel) < stack.shape[1]:
        return int(channel)
    known = ", ".join(name for name in names if name)
    named = f" ({known})" if known else ""
    raise IPSError(
        f"{stack.name} has no channel {channel}; it has 0 to {stack.shape[1] - 1}{named}."
    )
