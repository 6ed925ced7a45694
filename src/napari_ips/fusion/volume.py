"""Fusion of files into files: of any size, resumable, on one machine or on many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import Progress, ProgressCallback, TileDone
from napari_ips.files import plainly_written
from napari_ips.fusion.compute import Runner
from napari_ips.fusion.engine import Engine
from napari_ips.fusion.job import MAPS, Job, Plane, with_position, work_folder
from napari_ips.fusion.memory import TOO_LITTLE, tile_edge
from napari_ips.fusion.output import all_written, check_outputs, write_outputs
from napari_ips.fusion.scratch import LevelOnDisk, load_settings, save_settings
from napari_ips.fusion.spool import spooled
from napari_ips.fusion.stack import MOST_SLICES
from napari_ips.fusion.start import begin, has_to_run, locked, stopped_tile
from napari_ips.fusion.survey import fill_level, measure
from napari_ips.fusion.tiles import Core
from napari_ips.io import LazyStack, open_stacks, wrap_array

if TYPE_CHECKING:
    from distributed import Client

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def fuse_to_file(
    source: Any,
    output: str | Path,
    *,
    index: str | Path | None = None,
    depth: str | Path | None = None,
    confidence: str | Path | None = None,
    axes: str | None = None,
    z_axis: int | None = None,
    slices: tuple[int | None, int | None] = (None, None),
    reference_channel: int | str | None = None,
    config: FuseConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    client: Client | None = None,
    callback: ProgressCallback | None = None,
) -> list[dict[str, Path]]:
    """Fuse z-stacks of any size from files or arrays into files.

    The image is fused tile by tile; what is finished is kept in a hidden folder beside
    the output until all of it is, so that a run that was stopped can be resumed.

    Parameters
    ----------
    source : path, list of paths, array, or one or several LazyStack
        What `napari_ips.io.open_stacks` opens or has opened, or a numpy, dask or zarr
        array. Time points, channels and positions are fused one after another.
    output : path
        For the fused image: ``.ome.zarr``, ``.ome.tif``, ``.tif`` or ``.png``. With
        several positions, their numbers come before the suffix.
    index, depth, confidence : path, optional
        For the maps: sharpest slice, counted from 0 in the whole stack; the same in
        fractions, times the z step where it is known; and how sure that is, 0 to 1.
    axes, z_axis
        See `napari_ips.io.open_stacks`.
    slices : (int or None, int or None)
        First slice to fuse, and the one after the last, as Python counts: None leaves
        that end open, negative numbers count from the end.
    reference_channel : int or str, optional
        Number or name of the channel that decides for all; by default each decides for
        itself.
    config : FuseConfig, optional
        How to fuse.
    resume : bool
        Go on with a run that was stopped, if there is one.
    overwrite : bool
        Replace existing outputs, and a run that was stopped.
    client : distributed.Client, optional
        Of a cluster whose workers fuse and write the tiles. They need to see the same
        files under the same names.
    callback : callable, optional
        Called with `Progress` and `TileDone`; what it raises stops the work within a
        tile, and leaves what is finished to be resumed.

    Returns
    -------
    list of dict
        For each position the paths written, under "fused" and the names of the maps.

    Raises
    ------
    IPSError
        If source, outputs or settings are wrong, the disk is full, or a worker failed.
    """
    wanted = {"fused": output, "index": index, "depth": depth, "confidence": confidence}
    paths = {name: Path(path) for name, path in wanted.items() if path is not None}
    stacks = _opened(source, axes, z_axis)
    jobs = []
    for stack in stacks:
        outputs = {n: with_position(p, stack, stacks) for n, p in paths.items()}
        job = _job(
            stack, outputs, slices, reference_channel, config or FuseConfig(), resume
        )
        check_outputs(job, outputs, overwrite or resume)
        jobs.append((job, outputs))
    with locked(work_folder(paths["fused"])):
        todo = [
            (job, outputs)
            for job, outputs in jobs
            if has_to_run(job, outputs, resume=resume, overwrite=overwrite)
        ]
        for job, outputs in todo:
            begin(job, resume=resume)
            _finish(job, outputs, overwrite, client, callback)
        # Not before, so that a resumed run knows the positions that are finished.
        for job, _ in todo:
            job.discard()
    return [outputs for _, outputs in jobs]


def _finish(
    job: Job,
    outputs: Mapping[str, Path],
    overwrite: bool,
    client: Client | None,
    callback: ProgressCallback | None,
) -> None:
    """Do what is left of a job, all but to delete its work folder."""
    try:
        if not all_written(job, outputs):
            _run(job, client, callback)
            write_outputs(job, outputs, overwrite, callback)
    except (IPSError, MemoryError) as error:
        told = str(error) if isinstance(error, IPSError) else TOO_LITTLE
        if job.empty:
            job.discard()
        else:
            told += " What is finished is kept: --resume goes on with it."
        raise IPSError(told) from error
    job.clear()


def _opened(source: Any, axes: str | None, z_axis: int | None) -> Sequence[LazyStack]:
    items = source if isinstance(source, list | tuple) else [source]
    if items and all(isinstance(item, LazyStack) for item in items):
        return items
    if all(isinstance(item, str | Path) for item in items):
        return open_stacks(source, axes, z_axis)
    return [wrap_array(source, axes)]


def _job(
    stack: LazyStack,
    outputs: Mapping[str, Path],
    slices: tuple[int | None, int | None],
    reference_channel: int | str | None,
    config: FuseConfig,
    resume: bool,
) -> Job:
    first, end = _chosen(slices, stack)
    reference = _reference(stack, reference_channel)
    together = 1 if reference is None else stack.shape[1]
    pixel_bytes = stack.dtype.itemsize * max(1, stack.samples) * together
    keep = tuple(name for name in MAPS if name in outputs)
    folder = work_folder(outputs["fused"])
    edge = stopped_tile(folder) if resume and config.tile == "auto" else None
    edge = edge or tile_edge(config, end - first, pixel_bytes)
    config = config.model_copy(update={"tile": edge})
    return Job(folder, stack, config, (first, end), reference, keep)


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


def _run(job: Job, client: Client | None, callback: ProgressCallback | None) -> None:
    """Fuse all tiles that are not finished yet."""
    todo = job.unfinished()
    if not todo:
        return
    total = len(job.planes) * len(job.tiles)
    done = total - sum(map(len, todo.values()))
    job = replace(job, stack=spooled(job, client is not None, callback))
    with _runner(job, client) as (runner, fuse):
        for plane, tiles in todo.items():
            _prepare(job, plane, runner, callback)
            for tile, _ in runner.tiles(partial(fuse, plane), tiles):
                done += 1
                if callback:
                    place = (plane.t, plane.c, *tile.in_image(job.image_shape))
                    callback(TileDone("fusing", done, total, *place))
            job.discard_scratch(plane)


@contextmanager
def _runner(
    job: Job, client: Client | None
) -> Iterator[tuple[Runner, Callable[[Plane, Core], None]]]:
    """Give what works on tiles, and the function that fuses one there."""
    if client is not None:
        from napari_ips.fusion.cluster import ClusterRunner

        with ClusterRunner(client, job) as runner:
            yield runner, runner.fuse
        return
    engine = Engine(job)
    with engine.workers as workers:
        yield workers, engine.fuse


def _prepare(
    job: Job, plane: Plane, runner: Runner, callback: ProgressCallback | None
) -> None:
    """Measure a plane and fill its coarse level, if that was not done before."""
    folder = job.scratch(plane)
    if load_settings(folder, job.config) is not None:
        return
    with plainly_written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    read, shape, tiles = job.readers(plane)[0], job.image_shape, job.tiles
    telling = _Telling(runner, "measuring", len(tiles), callback)
    settings = measure(read, job.slices, shape, tiles, job.config, telling)
    if 2 * job.top in settings.scales:
        telling = _Telling(runner, "scaling down", len(tiles), callback)
        level = LevelOnDisk.create(folder, job.slices, shape, 2 * job.top)
        fill_level(read, tiles, level, settings, telling)
    save_settings(folder, settings)


class _Telling:
    """A runner that tells how far it got with a task."""

    def __init__(
        self, runner: Runner, task: str, total: int, callback: ProgressCallback | None
    ) -> None:
        self._runner = runner
        self._task = task
        self._total = total
        self._callback = callback

    def tiles(
        self, function: Callable[[_In], _Out], items: Iterable[_In]
    ) -> Iterator[tuple[_In, _Out]]:
        """Apply a function to all items; see `Runner`."""
        for done, found in enumerate(self._runner.tiles(function, items), start=1):
            if self._callback:
                self._callback(Progress(self._task, done, self._total))
            yield found
