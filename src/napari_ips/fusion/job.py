"""A fusion into files as a folder beside its output, from which it can be resumed.

The folder ``.NAME.partial`` holds the parts that are finished and a mark for each, so
that nothing unfinished passes for finished and nothing finished is done twice:

- ``job.json``: what is fused, and how; a run with other choices does not resume it;
- ``fused``, ``index``, ``depth``, ``confidence``: zarr arrays, a chunk for each tile;
- ``done/T-C-TILE``: empty, for each tile whose pixels are written;
- ``planes/T-C``: measured settings and coarse scales of a z-stack, while it is fused;
- ``begun-NAME``, ``written-NAME``: empty, while and when an output is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.files import remove, written_whole
from napari_ips.fusion.decide import FusedPart
from napari_ips.fusion.tiles import CORE, Core, Shape, cores
from napari_ips.io import LazyStack
from napari_ips.weights import find_weights

MAPS = ("index", "depth", "confidence")
_FORMAT = 1
# Edge of the window, in pixels, by which inputs are told apart.
_LOOK = 64


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
class Job:
    """A fusion of the z-stacks of one position.

    Attributes
    ----------
    folder : Path
        The work folder.
    stack : LazyStack
    config : FuseConfig
        Its ``tile`` is a number.
    z : (int, int)
        First slice, and the one after the last.
    reference : int or None
        Channel that decides for all; None: each decides for itself.
    keep : tuple of str
        Which of the maps are wanted.
    """

    folder: Path
    stack: LazyStack
    config: FuseConfig
    z: tuple[int, int]
    reference: int | None
    keep: tuple[str, ...]

    @property
    def started(self) -> bool:
        """Whether the work folder is there."""
        return (self.folder / "job.json").exists()

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

    def scratch(self, plane: Plane) -> Path:
        """Return the folder for what is only needed while a plane is fused."""
        return self.folder / "planes" / plane.key

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """The zarr arrays that hold what is finished, by name."""
        import zarr

        return {
            name: zarr.open_array(self.folder / name, mode="r+")
            for name in ("fused", *self.keep)
        }

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the shape (T, C, Y, X[, colours]) of a result."""
        times, channels = self.stack.shape[:2]
        if name != "fused":
            return times, 1 if self.reference is not None else channels, *self.image_shape
        colours = (self.stack.samples,) if self.stack.samples else ()
        return times, channels, *self.image_shape, *colours

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Return the dtype of a result."""
        if name == "fused":
            return self.stack.dtype
        return np.dtype(np.uint16 if name == "index" else np.float32)

    def write(self, plane: Plane, tile: Core, part: FusedPart) -> None:
        """Write a finished tile, and mark it when all of it is written."""
        y, x = tile.in_image(self.image_shape)
        for c, image in zip(self.channels(plane), part.fused, strict=True):
            self.arrays["fused"][plane.t, c, y, x] = image
        step = self.stack.metadata.z_step
        depth = part.depth + np.float32(self.z[0])
        maps = {
            "index": part.index + np.uint16(self.z[0]),
            "depth": depth if step is None else depth * np.float32(step),
            "confidence": part.confidence,
        }
        c = plane.c if self.reference is None else 0
        for name in self.keep:
            self.arrays[name][plane.t, c, y, x] = maps[name]
        self._mark(plane, tile).touch()

    def unfinished(self) -> dict[Plane, list[Core]]:
        """Return the tiles that are not finished, for each plane that has any."""
        done = set(os.listdir(self.folder / "done"))
        left = {
            plane: [t for t in self.tiles if self._mark(plane, t).name not in done]
            for plane in self.planes
        }
        return {plane: tiles for plane, tiles in left.items() if tiles}

    def create(self) -> None:
        """Make the work folder, with arrays for results that are to come."""
        import zarr

        description = json.dumps(self.description(), indent=1)
        self.folder.mkdir()
        edge = int(self.config.tile)
        for name in ("fused", *self.keep):
            shape = self.shape_of(name)
            zarr.create_array(
                self.folder / name,
                shape=shape,
                dtype=self.dtype_of(name),
                chunks=(1, 1, min(edge, shape[2]), min(edge, shape[3]), *shape[4:]),
            )
        (self.folder / "done").mkdir()
        # Last: a folder without it was left before anything was in it.
        with written_whole(self.folder / "job.json") as path:
            path.write_text(description)

    def check_same(self) -> None:
        """Raise IPSError if what the work folder holds is not this very job."""
        known = json.loads((self.folder / "job.json").read_text())
        told = json.loads(json.dumps(self.description()))
        other = sorted(name for name in told | known if told.get(name) != known.get(name))
        if other:
            raise IPSError(
                f"The stopped run differs in: {', '.join(other)}. Give the same input and "
                "options as before, or start anew with --overwrite instead of --resume."
            )

    def description(self) -> dict[str, Any]:
        """Return what has to be the same for a run to be resumed, in values of JSON."""
        return self.choices() | {
            "format": _FORMAT,
            "pixels": _fingerprint(self.stack),
            "maps": sorted(self.keep),
            "tile": self.config.tile,
        }

    def choices(self) -> dict[str, Any]:
        """Return what the result depends on, beside the pixels, in values of JSON."""
        weights = find_weights(self.config.weights).read_bytes()
        chosen = self.config.model_dump(
            mode="json", exclude={"device", "backend", "weights", "tile"}
        )
        return {
            "input": self.stack.name,
            "shape": list(self.stack.shape),
            "dtype": str(self.stack.dtype),
            "slices": list(self.z),
            "reference channel": self.reference,
            "weights": hashlib.sha256(weights).hexdigest(),
            **chosen,
        }

    @property
    def empty(self) -> bool:
        """Whether nothing in the work folder would have to be done again."""
        begun = any((self.folder / name).exists() for name in ("planes", "input"))
        return not begun and not os.listdir(self.folder / "done")

    def clear(self) -> None:
        """Delete what is not needed any more when all outputs are written."""
        for path in self.folder.iterdir():
            if path.is_dir():
                remove(path)

    def discard(self) -> None:
        """Delete the work folder."""
        # First: without it, what a killed program leaves of the rest counts for nothing.
        (self.folder / "job.json").unlink(missing_ok=True)
        remove(self.folder)

    def discard_scratch(self, plane: Plane) -> None:
        """Delete what was needed while a plane was fused."""
        remove(self.scratch(plane))

    def _mark(self, plane: Plane, tile: Core) -> Path:
        return self.folder / "done" / f"{plane.key}-{tile.key}"


def work_folder(output: Path) -> Path:
    """Return the folder in which an output comes to be."""
    return output.absolute().with_name(f".{output.name}.partial")


def with_position(path: Path, stack: LazyStack, stacks: Sequence[LazyStack]) -> Path:
    """Return the path for one of several positions: its number comes before the suffix."""
    if len(stacks) == 1:
        return path
    suffix = "".join(
        path.suffixes[-2:] if ".ome" in path.suffixes[-2:-1] else [path.suffix]
    )
    stem = path.name.removesuffix(suffix)
    return path.with_name(f"{stem}_position{stacks.index(stack):03d}{suffix}")


def _fingerprint(stack: LazyStack) -> str:
    """Tell pixels from others, as far as that goes without reading all of them."""
    digest = hashlib.sha256()
    for file in stack.files or (stack.path,):
        if file is not None and file.is_file():
            state = file.stat()
            digest.update(f"{state.st_size} {state.st_mtime_ns}".encode())
    times, channels, slices, *shape = stack.shape
    y, x = (slice(n // 2, n // 2 + _LOOK) for n in shape)
    for t, c, z in ((0, 0, 0), (times - 1, channels - 1, slices - 1)):
        digest.update(stack.read(t, c, slice(z, z + 1), y, x).tobytes())
    return digest.hexdigest()
