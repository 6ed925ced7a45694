"""Fusion of files into files: of any size, resumable, on one machine or on many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import Begun, ProgressCallback, TileDone
from napari_ips.files import locked, plainly_written, work_folder
from napari_ips.fusion.compute import Runner, stoppable
from napari_ips.fusion.engine import Engine
from napari_ips.fusion.job import Job, with_position
from napari_ips.fusion.memory import TOO_LITTLE
from napari_ips.fusion.output import all_written, check_outputs, take_back, write_outputs
from napari_ips.fusion.plan import MAPS, Plan, Plane
from napari_ips.fusion.scratch import LevelOnDisk, load_settings, save_settings
from napari_ips.fusion.spool import spooled
from napari_ips.fusion.start import begin, has_to_run, stopped_tile
from napari_ips.fusion.survey import prepare
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
    keep: bool = True,
    client: Client | None = None,
    stop: threading.Event | None = None,
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
    keep : bool
        Keep what is finished if the work is stopped or fails, so that it can be resumed;
        otherwise nothing is left of it.
    client : distributed.Client, optional
        Of a cluster whose workers fuse and write the tiles. They need to see the same
        files under the same names.
    stop : threading.Event, optional
        Set from another thread, it ends the work within a tile with `Stopped`.
    callback : callable, optional
        Called with `Progress`, `Begun` and `TileDone`; what it raises ends the work too.

    Returns
    -------
    list of dict
        For each position the paths written, under "fused" and the names of the maps.

    Raises
    ------
    IPSError
        If source, outputs or settings are wrong, the disk is full, or a worker failed.
    Stopped
        If it was asked to stop.
    """
    stop = stop or threading.Event()
    callback = stoppable(callback, stop)
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
    folder = work_folder(paths["fused"])
    busy = f"Another program is fusing into {folder}; wait for it, or stop it."
    with locked(folder, busy):
        todo = [
            (job, outputs)
            for job, outputs in jobs
            if has_to_run(job, outputs, resume=resume, overwrite=overwrite)
        ]
        try:
            for job, outputs in todo:
                begin(job, resume=resume)
                _finish(job, outputs, overwrite, keep, client, stop, callback)
        except BaseException:
            for job, outputs in () if keep else todo:
                take_back(job, outputs)
                job.discard()
            raise
        # Not before, so that a resumed run knows the positions that are finished.
        for job, _ in todo:
            job.discard()
    return [outputs for _, outputs in jobs]


def _finish(
    job: Job,
    outputs: Mapping[str, Path],
    overwrite: bool,
    keep: bool,
    client: Client | None,
    stop: threading.Event,
    callback: ProgressCallback,
) -> None:
    """Do what is left of a job, all but to delete its work folder."""
    try:
        if not all_written(job, outputs):
            _run(job, client, stop, callback)
            write_outputs(job, outputs, overwrite, callback)
    except (IPSError, MemoryError) as error:
        told = str(error) if isinstance(error, IPSError) else TOO_LITTLE
        if job.empty:
            job.discard()
        elif keep:
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
    folder = work_folder(outputs["fused"])
    edge = stopped_tile(folder) if resume and config.tile == "auto" else None
    plan = Plan.of(stack, slices, reference_channel, config, edge)
    keep = tuple(name for name in MAPS if name in outputs)
    return Job(plan.stack, plan.config, plan.z, plan.reference, folder, keep)


def _run(
    job: Job, client: Client | None, stop: threading.Event, callback: ProgressCallback
) -> None:
    """Fuse all tiles that are not finished yet."""
    todo = job.unfinished()
    if not todo:
        return
    total = len(job.planes) * len(job.tiles)
    done = total - sum(map(len, todo.values()))
    copied = spooled(job.stack, job.z, job.folder, client is not None, callback)
    job = replace(job, stack=copied)
    callback(Begun("fusing", done, total, job.arrays))
    with _runner(job, client, stop) as (runner, fuse):
        for plane, tiles in todo.items():
            _prepare(job, plane, runner, callback)
            for tile, _ in runner.tiles(partial(fuse, plane), tiles):
                done += 1
                place = (plane.t, plane.c, *tile.in_image(job.image_shape))
                callback(TileDone("fusing", done, total, *place))
            job.discard_scratch(plane)


@contextmanager
def _runner(
    job: Job, client: Client | None, stop: threading.Event
) -> Iterator[tuple[Runner, Callable[[Plane, Core], None]]]:
    """Give what works on tiles, and the function that fuses one there."""
    if client is not None:
        from napari_ips.fusion.cluster import ClusterRunner

        with ClusterRunner(client, job) as runner:
            yield runner, runner.fuse
        return
    engine = Engine(job, asked=stop)
    with engine.workers as workers:
        yield workers, engine.fuse


def _prepare(job: Job, plane: Plane, runner: Runner, callback: ProgressCallback) -> None:
    """Measure a plane and fill its coarse level, if that was not done before."""
    folder = job.scratch(plane)
    if load_settings(folder, job.config) is not None:
        return
    with plainly_written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    on_disk = partial(LevelOnDisk.create, folder)
    settings, _ = prepare(job, plane, runner, callback, on_disk)
    save_settings(folder, settings)
