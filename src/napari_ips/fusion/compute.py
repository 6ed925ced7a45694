"""What computes: the network on its device, and threads that keep the device busy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TypeVar

import torch

from napari_ips.config import FuseConfig
from napari_ips.device import choose_device
from napari_ips.errors import IPSError, Stopped
from napari_ips.events import Progress, ProgressCallback
from napari_ips.network import CrossImageFusionNetwork
from napari_ips.weights import load_weights

_In = TypeVar("_In")
_Out = TypeVar("_Out")

# Tiles in work at once: while one is read or written, another one computes.
IN_FLIGHT = 2


class Runner(Protocol):
    """Works on tiles: threads of this process, or the workers of a cluster."""

    def tiles(
        self, function: Callable[[_In], _Out], items: Iterable[_In]
    ) -> Iterator[tuple[_In, _Out]]:
        """Apply a function to all items; yield item and result as they get ready."""


def load_network(config: FuseConfig) -> CrossImageFusionNetwork:
    """Load the network that fuses stacks, onto the device that the config names.

    Raises
    ------
    IPSError
        If weights or device are not there, or the weights are not for one channel.
    """
    network, _ = load_weights(config.weights)
    if network.config.in_channels != 1:
        raise IPSError(
            f"The weights {config.weights} are for {network.config.in_channels} channels; "
            "stacks are fused by weights for one."
        )
    network.set_scan_backend(config.backend)
    return network.to(choose_device(config.device))


class Workers:
    """Threads that compute, each with one thread of PyTorch's own.

    A thread for each part of the work keeps every core busy; threads inside the small
    operations of a part would mostly wait for each other. A GPU gets two, so that one
    prepares while the other one's work runs.

    Parameters
    ----------
    device : torch.device
    count : int, optional
        Threads that compute at once, for a CPU; by default as many as PyTorch would use.
    asked : threading.Event, optional
        Set by somebody else, it makes work end as well.

    Attributes
    ----------
    count : int
    stop : threading.Event
        Once it is set, work ends with `Stopped`.
    """

    def __init__(
        self,
        device: torch.device,
        count: int | None = None,
        asked: threading.Event | None = None,
    ) -> None:
        self._before = torch.get_num_threads()
        self.count = (count or self._before) if device.type == "cpu" else 2
        self.stop = threading.Event()
        self._asked = asked or self.stop
        single = partial(torch.set_num_threads, 1)
        self._pool = ThreadPoolExecutor(self.count, "fusing", single)
        self._tiles = ThreadPoolExecutor(IN_FLIGHT, "tile", single)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop.set()
        self._tiles.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)
        # The number set by the threads would be that of all threads to come.
        torch.set_num_threads(self._before)

    def each(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """Apply a function to items side by side; return the results in order."""
        return list(self._pool.map(partial(self._unless_stopped, function), items))

    def tiles(
        self, function: Callable[[_In], _Out], items: Iterable[_In]
    ) -> Iterator[tuple[_In, _Out]]:
        """Apply a function, which may itself use `each`, to a few items at once.

        Yields
        ------
        (item, result)
            As they get ready.
        """
        pending: dict[Future[_Out], _In] = {}
        rest = iter(items)
        while True:
            for item in rest:
                work = self._tiles.submit(self._unless_stopped, function, item)
                pending[work] = item
                if len(pending) > IN_FLIGHT:
                    break
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()

    def _unless_stopped(self, function: Callable[[_In], _Out], item: _In) -> _Out:
        if self.stop.is_set() or self._asked.is_set():
            raise Stopped
        return function(item)


class Telling:
    """A runner that tells how far it got with a task."""

    def __init__(
        self, runner: Runner, task: str, total: int, callback: ProgressCallback
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
            self._callback(Progress(self._task, done, self._total))
            yield found


def stoppable(callback: ProgressCallback | None, stop: threading.Event) -> ProgressCallback:
    """Return a callback that raises `Stopped` if asked to, else calls the given one."""

    def told(event: Progress) -> None:
        if stop.is_set():
            raise Stopped
        if callback is not None:
            callback(event)

    return told
