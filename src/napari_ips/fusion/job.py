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

from napari_ips.errors import IPSError
from napari_ips.files import remove, written_whole
from napari_ips.fusion.decide import FusedPart
from napari_ips.fusion.plan import Plan, Plane
from napari_ips.fusion.tiles import Core
from napari_ips.io import LazyStack
from napari_ips.weights import find_weights

_FORMAT = 1
# Edge of the window, in pixels, by which inputs are told apart.
_LOOK = 64


@dataclass(frozen=True)
class Job(Plan):
    """A plan whose results come to be in a work folder.

    Attributes
    ----------
    folder : Path
        The work folder.
    keep : tuple of str
        Which of the maps are wanted.
    """

    folder: Path
    keep: tuple[str, ...]

    @property
    def started(self) -> bool:
        """Whether the work folder is there."""
        return (self.folder / "job.json").exists()

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

    def write(self, plane: Plane, tile: Core, part: FusedPart) -> None:
        """Write a finished tile, and mark it when all of it is written."""
        self.put(self.arrays, plane, tile, part)
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
