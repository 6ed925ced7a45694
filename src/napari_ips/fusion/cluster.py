"""Tiles worked on by the workers of a dask.distributed cluster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

from napari_ips.errors import IPSError
from napari_ips.files import written_whole
from napari_ips.fusion.job import Job
from napari_ips.fusion.worker import Sealed, fuse_on_worker, leave
from napari_ips.weights import find_weights, package_version

if TYPE_CHECKING:
    from distributed import Client, Future

_In = TypeVar("_In")
_Out = TypeVar("_Out")

# Seconds without any worker until a run is given up, if dask's settings do not say.
_PATIENCE = 60.0
# Seconds between looks whether there are workers, while no tile gets ready.
_LOOK = 2.0
_GONE = "The cluster's scheduler is gone, or the connection to it."


class ClusterRunner:
    """Has functions applied by the workers of a cluster; see `Runner`.

    Parameters
    ----------
    client : distributed.Client
    job : Job
        Whose files all workers see under the same names.

    Attributes
    ----------
    fuse : callable
        Fuses a tile of a plane of the job, in a worker.
    """

    def __init__(self, client: Client, job: Job) -> None:
        import dask
        from dask.utils import parse_timedelta

        self._client = client
        self._run = uuid4().hex
        self._folder = job.folder
        self.fuse = partial(fuse_on_worker, self._run, _with_own_weights(job))
        self._work: dict[Future[Any], Any] = {}
        patience = dask.config.get("distributed.scheduler.no-workers-timeout")
        self._patience = parse_timedelta(patience) or _PATIENCE
        self._workers_seen = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Call off what is left, and wait until no worker is at it any more.

        Else it might write into the folder of the next run of the same name.
        """
        if self._client.status != "running":
            return
        self._client.cancel(list(self._work), force=True)
        self._work.clear()
        while any(self._client.run(leave, self._run, on_error="ignore").values()):
            time.sleep(0.1)

    def tiles(
        self, function: Callable[[_In], _Out], items: Iterable[_In]
    ) -> Iterator[tuple[_In, _Out]]:
        """Apply a function to all items; yield item and result as they get ready.

        What a worker was at when it vanished is done again by another one.

        Raises
        ------
        IPSError
            If the scheduler or all workers are gone, several workers vanished over the
            same item, or a worker is not set up as this machine.
        """
        self._check_versions()
        todo = list(items)
        ready: SimpleQueue[Future[_Out]] = SimpleQueue()
        sealed = Sealed.of(function, self._run, self._folder)
        futures = self._client.map(sealed, todo, key="napari-ips", pure=False)
        self._work = dict(zip(futures, todo, strict=True))
        for future in futures:
            future.add_done_callback(ready.put)
        # Results that somebody still holds are computed again when a worker vanishes.
        del futures
        while self._work:
            future = self._next(ready)
            result = self._result(future)
            yield self._work.pop(future), result

    def _check_versions(self) -> None:
        """Raise IPSError unless scheduler and workers have this version of the package."""
        if self._client.status != "running":
            raise IPSError(_GONE)
        with _plainly_told():
            told: Any = self._client.get_versions(packages=["napari_ips"])
        others = {"the scheduler": told["scheduler"]} | told["workers"]
        for name, its in others.items():
            version = its["packages"]["napari_ips"] if its else None
            if version != package_version():
                raise IPSError(
                    f"This program is napari-ips {package_version()}, but {name} has "
                    f"{version or 'none'}; install the same everywhere."
                )

    def _next(self, ready: SimpleQueue[Future[_Out]]) -> Future[_Out]:
        while True:
            try:
                return ready.get(timeout=_LOOK)
            except Empty:
                self._check_workers()

    def _result(self, future: Future[_Out]) -> _Out:
        with _plainly_told():
            while True:
                try:
                    return future.result(timeout=10 * _LOOK)
                except TimeoutError:
                    # Of a function that failed, or of a worker that vanished since.
                    if future.status == "error":
                        raise
                    self._check_workers()

    def _check_workers(self) -> None:
        """Raise IPSError if there has been no worker for a while."""
        with _plainly_told():
            if self._client.nthreads():
                self._workers_seen = time.monotonic()
        if time.monotonic() - self._workers_seen > self._patience:
            raise IPSError(_no_workers(self._patience))


def _with_own_weights(job: Job) -> Job:
    """Return the job with a copy of its weights, which all workers see."""
    path = job.folder / "weights.safetensors"
    with written_whole(path) as temporary:
        shutil.copyfile(find_weights(job.config.weights), temporary)
    config = job.config.model_copy(update={"weights": str(path)})
    return replace(job, config=config)


def _no_workers(seconds: float) -> str:
    return f"The cluster has had no worker for {seconds:.0f} seconds; start some."


@contextmanager
def _plainly_told() -> Iterator[None]:
    """Turn what dask raises when a part of a cluster is gone into an IPSError."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import NoWorkerError

    try:
        yield
    except KilledWorker as error:
        raise IPSError(
            "Several workers vanished, one after another, over the same tile; their "
            "memory may be too small: see their logs, or choose a smaller --tile."
        ) from error
    except NoWorkerError as error:
        raise IPSError(_no_workers(error.timeout)) from error
    except (CancelledError, CommClosedError) as error:
        raise IPSError(_GONE) from error
