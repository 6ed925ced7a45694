"""What a worker of a dask cluster does, and what it keeps while a run lasts."""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from napari_ips.errors import IPSError, Stopped
from napari_ips.fusion.compute import IN_FLIGHT
from napari_ips.fusion.engine import Engine
from napari_ips.fusion.job import Job
from napari_ips.fusion.plan import Plane
from napari_ips.fusion.tiles import Core

# Runs that a worker remembers; those of killed programs are never told to be over.
_REMEMBERED = 4


@dataclass(frozen=True)
class Sealed:
    """A function as bytes, which each worker unseals once.

    Whoever unpickles a job opens the files that it names: the scheduler shall not, and a
    worker not for every tile.

    Attributes
    ----------
    run : str
        Name of the run that the function is part of.
    folder : Path
        Its work folder.
    content : bytes
    """

    run: str
    folder: Path
    content: bytes

    @classmethod
    def of(cls, function: Callable[[Any], Any], run: str, folder: Path) -> Sealed:
        """Seal a function, closures included."""
        import cloudpickle

        return cls(run, folder, cloudpickle.dumps(function))

    def __call__(self, item: Any) -> Any:
        """Apply the function, in a worker."""
        return _share(self.run).apply(self, item)

    def opened(self) -> Callable[[Any], Any]:
        """Return the function.

        Raises
        ------
        IPSError
            If this machine is not set up as the one that sealed it.
        """
        here = f"The worker on {socket.gethostname()}"
        if not self.folder.is_dir():
            raise IPSError(
                f"{here} does not see {self.folder}; all workers need the same files "
                "under the same names."
            )
        try:
            function: Callable[[Any], Any] = pickle.loads(self.content)
        except IPSError as error:
            raise IPSError(f"{here} cannot open the input: {error}") from error
        return function


def fuse_on_worker(run: str, job: Job, plane: Plane, tile: Core) -> None:
    """Fuse and write one tile of a job, with the network that a run loads once."""
    _share(run).fuse(job, plane, tile)


def leave(run: str) -> bool:
    """End a run in this worker; tell whether one of its threads is still at it."""
    return _share(run).end()


class _Share:
    """The part of a run that is done by this process, in several threads."""

    def __init__(self) -> None:
        self._state = threading.Lock()
        self._over = False
        self._at_work = 0
        self._loading = threading.Lock()
        self._unsealed: tuple[Sealed, Callable[[Any], Any]] | None = None
        self._engine: Engine | None = None
        # A tile keeps all threads busy; more tiles at once would only take memory.
        self._places = threading.Semaphore(IN_FLIGHT)
        self._torch_threads = torch.get_num_threads()

    def apply(self, sealed: Sealed, item: Any) -> Any:
        with self._counted():
            # The cluster gives work to all cores; PyTorch shall not do so again.
            torch.set_num_threads(1)
            with self._loading:
                if self._unsealed is None or self._unsealed[0] != sealed:
                    self._unsealed = sealed, sealed.opened()
                function = self._unsealed[1]
            return function(item)

    def fuse(self, job: Job, plane: Plane, tile: Core) -> None:
        from distributed import get_worker

        with self._places:
            with self._loading:
                if self._engine is None:
                    self._engine = Engine(job, get_worker().state.nthreads)
                engine = self._engine
            engine.fuse(plane, tile)

    def end(self) -> bool:
        with self._state:
            self._over = True
            if self._engine is not None:
                self._engine.workers.stop.set()
            self._engine = self._unsealed = None
            if not self._at_work:
                torch.set_num_threads(self._torch_threads)
            return self._at_work > 0

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._state:
            if self._over:
                raise Stopped
            self._at_work += 1
        try:
            yield
        finally:
            with self._state:
                self._at_work -= 1


_shares: dict[str, _Share] = {}
_lock = threading.Lock()


def _share(run: str) -> _Share:
    with _lock:
        if run not in _shares:
            _shares[run] = _Share()
            for oldest in list(_shares)[:-_REMEMBERED]:
                del _shares[oldest]
        return _shares[run]
