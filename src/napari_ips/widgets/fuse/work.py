"""The part of a fusion that is done in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker

from napari_ips.events import Begun, Progress, TileDone
from napari_ips.widgets.fuse.live import Pictures
from napari_ips.widgets.fuse.state import FuseState

if TYPE_CHECKING:
    from napari_ips.config import FuseConfig
    from napari_ips.fusion import FusedArrays
    from napari_ips.io import LazyStack

# The largest edge, in pixels, up to which tiles are no larger than these: a result that
# is seen to fill matters more than the little that larger tiles would save.
_SMALL_TILES = ((1024, 256), (4096, 512))


@dataclass(frozen=True)
class Outcome:
    """The results or the paths written, or why there are none."""

    result: FusedArrays | dict[str, Path] | None = None
    error: Exception | None = None


class Work:
    """A fusion to be called in a thread; napari shows it by its name.

    Parameters
    ----------
    state : FuseState
        Without problems.
    pictures : Pictures
        Filled while tiles get ready.
    told : callable
        Called with every event, in the thread that works.

    Raises
    ------
    IPSError
        If the layers are no z-stack.
    """

    def __init__(
        self, state: FuseState, pictures: Pictures, told: Callable[[Progress], None]
    ) -> None:
        self._state = state
        self._pictures = pictures
        self._told = told
        self._stack = state.stack()
        self.asked = threading.Event()
        self.closing = threading.Event()
        self.shown = threading.Event()
        self.__name__ = str(self)

    def __str__(self) -> str:
        return f"fusing {self._stack.name}"

    def __call__(self) -> Outcome:
        """Return what came of it; nothing is raised, for the window has to learn it."""
        try:
            return Outcome(self._fuse())
        except Exception as error:
            return Outcome(error=error)

    def worker_class(self) -> type[FunctionWorker]:
        """Return a worker that ends when napari, about to close, tells it to quit."""
        work = self

        class Worker(FunctionWorker):
            def quit(self) -> None:
                work.asked.set()
                work.closing.set()
                super().quit()

        return Worker

    def _fuse(self) -> FusedArrays | dict[str, Path]:
        from napari_ips.fusion import fuse_to_arrays, fuse_to_file

        state = self._state
        options: dict[str, Any] = {
            "slices": state.slices,
            "reference_channel": state.reference_channel,
            "config": _in_small_tiles(state.config, self._stack),
            "stop": self.asked,
            "callback": self._watch,
        }
        if state.output is None:
            return fuse_to_arrays(self._stack, **options)
        options |= state.maps
        # What is cancelled leaves nothing behind that could be in the way of the next run.
        options["keep"] = False
        (paths,) = fuse_to_file(self._stack, state.output, **options)
        return paths

    def _watch(self, event: Progress) -> None:
        if isinstance(event, TileDone):
            self._pictures.take(event)
        if not isinstance(event, Begun):
            self._told(event)
            return
        self._pictures.begin(event.arrays)
        self._told(event)
        # On cores that fuse already, adding the layers would take several times as long,
        # and block the window meanwhile.
        while not (self.shown.wait(0.05) or self.asked.is_set()):
            pass


def _in_small_tiles(config: FuseConfig, stack: LazyStack) -> FuseConfig:
    """Choose tiles of which several make up the image; the result is the same."""
    longest = max(stack.shape[3:])
    for edge, tile in _SMALL_TILES:
        if config.tile == "auto" and longest <= edge:
            return config.model_copy(update={"tile": tile})
    return config
