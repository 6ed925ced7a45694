"""Tiles worked on by the workers of a dask.distributed cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_ips.errors import IPSError
from napari_ips.fusion.engine import Engine
from napari_ips.fusion.job import Job, Plane
from napari_ips.fusion.tiles import Core

if TYPE_CHECKING:
    from distributed import Client

_In = TypeVar("_In")
_Out = TypeVar("_Out")

# Of this process, when it is a worker: the network is loaded once for all its tiles.
_engines: dict[Path, Engine] = {}
_lock = threading.Lock()


class ClusterRunner:
    """Has functions applied by the workers of a cluster; see `Runner`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def tiles(
        self, function: Callable[[_In], _Out], items: Iterable[_In]
    ) -> Iterator[tuple[_In, _Out]]:
        """Apply a function to all items; yield item and result as they get ready.

        What a worker was at when it vanished is done again by another one.

        Raises
        ------
        IPSError
            If the cluster is gone, or several workers vanished over the same item.
        """
        from distributed import as_completed

        work = {self._client.submit(function, item, pure=False): item for item in items}
        try:
            for future in as_completed(work):
                yield work[future], _result(future)
        finally:
            self._client.cancel(list(work), force=True)


def fuse_on_worker(job: Job, plane: Plane, tile: Core) -> None:
    """Fuse and write one tile of a job; runs in a worker."""
    from distributed import get_worker

    with _lock:
        engine = _engines.get(job.folder)
        if engine is None:
            # What an earlier job needed is not needed any more.
            _engines.clear()
            engine = _engines[job.folder] = Engine(job, get_worker().state.nthreads)
    engine.fuse(plane, tile)


def _result(future: Any) -> Any:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        return future.result()
    except KilledWorker as error:
        raise IPSError(
            "Several workers vanished, one after another, over the same tile; their "
            "memory may be too small: see their logs."
        ) from error
    except (CancelledError, CommClosedError, TimeoutError) as error:
        raise IPSError("The cluster is gone, or lost its connection.") from error
