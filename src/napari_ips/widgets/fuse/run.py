"""One fusion, from its start to its end, as napari sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils import cancelable_progress
from napari.utils.notifications import (
    ErrorNotification,
    notification_manager,
    show_error,
    show_info,
)
from qtpy.QtCore import QObject, QTimer, Signal

from napari_ips.errors import IPSError
from napari_ips.events import Begun, Progress
from napari_ips.widgets.fuse.live import Pictures, ResultLayers
from napari_ips.widgets.fuse.state import FuseState
from napari_ips.widgets.fuse.work import Outcome, Work

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_ips.fusion import FusedArrays

# How often layers show what has come, milliseconds.
_SHOW_EVERY = 200
# Time for the window between two layers that are added, milliseconds.
_BETWEEN = 30

# Runs live until they end, whatever becomes of the widget that began them.
_under_way: set[FusionRun] = set()


class FusionRun(QObject):
    """A fusion in a thread of its own, whose layers fill tile by tile.

    Parameters
    ----------
    viewer : ViewerModel
    state : FuseState
        Without problems.

    Attributes
    ----------
    told : Signal(Progress)
        A step is done.
    finished : Signal(Image)
        The fused image is there, in full.
    stopped : Signal(str)
        There is no result, for the reason given.
    """

    told = Signal(object)
    finished = Signal(object)
    stopped = Signal(str)
    _event = Signal(object)

    def __init__(self, viewer: ViewerModel, state: FuseState) -> None:
        super().__init__()
        self._viewer = viewer
        self._state = state
        self._pictures = Pictures()
        self._layers: ResultLayers | None = None
        # Sent by the thread that works, received in that of the window.
        self._event.connect(self._follow)
        self._work = Work(state, self._pictures, self._event.emit)
        self._timer = QTimer(self)
        self._timer.setInterval(_SHOW_EVERY)
        self._timer.timeout.connect(self._show_tiles)

    @property
    def fused(self) -> Image | None:
        """The fused image, if its layer is in the viewer."""
        return self._layers.fused if self._layers is not None else None

    def start(self) -> None:
        """Begin; napari knows of the work, and ends it when it is closed."""
        _under_way.add(self)
        self._bar = cancelable_progress(
            total=0, desc=str(self._work).capitalize(), cancel_callback=self.stop
        )
        worker: Any = create_worker(self._work, _worker_class=self._work.worker_class())
        worker.returned.connect(self._end)
        worker.start()

    def stop(self) -> None:
        """Ask the work to end; it does so within a tile, and tells by `stopped`."""
        self._work.asked.set()

    def _follow(self, event: Progress) -> None:
        if isinstance(event, Begun):
            self._layers = ResultLayers(self._viewer, self._state)
            self._layers.begin(self._pictures)
            self._viewer.layers.events.removed.connect(self._stop_without_layer)
            QTimer.singleShot(_BETWEEN, self._add_layers)
        self.told.emit(event)
        # Last, for napari lets other events come in between.
        if self._bar.total != event.total:
            self._bar.reset(total=event.total)
        self._bar.update(event.done - self._bar.n)

    def _show_tiles(self) -> None:
        if self._layers is not None:
            self._layers.refresh()

    def _add_layers(self) -> None:
        """Add a layer for each turn of the loop, and let the work begin."""
        # Whoever stops a run may be about to close the window.
        if self not in _under_way or self._work.asked.is_set():
            return
        if self._layers is not None and self._layers.add_next():
            QTimer.singleShot(_BETWEEN, self._add_layers)
            return
        self._work.shown.set()
        self._timer.start()

    def _stop_without_layer(self) -> None:
        """End a run whose result nobody wants to see any more."""
        if self.fused is None and not self._work.asked.is_set():
            show_info("The fusion is stopped, since the layer that it fills was removed.")
            self.stop()

    def _end(self, outcome: Outcome) -> None:
        from napari_ips.fusion import Stopped

        self._timer.stop()
        self._bar.close()
        if self._layers is not None:
            self._viewer.layers.events.removed.disconnect(self._stop_without_layer)
        if outcome.result is not None and not self._work.closing.is_set():
            self._finish(outcome.result)
            return
        if self._layers is not None:
            self._layers.discard()
        _under_way.discard(self)
        error = outcome.error
        if error is None or isinstance(error, Stopped):
            self.stopped.emit("Stopped.")
            return
        if isinstance(error, IPSError):
            show_error(str(error))
        else:
            # A fault of ours: with all that is needed to report it.
            notification_manager.dispatch(ErrorNotification(error))
        self.stopped.emit(str(error))

    def _finish(self, result: FusedArrays | dict[str, Path]) -> None:
        """Show the result, a layer for each turn of the loop, so that none takes long."""
        assert self._layers is not None, "it was begun, else there were no result"
        if self._layers.finish_next(result):
            QTimer.singleShot(_BETWEEN, lambda: self._finish(result))
            return
        self.finished.emit(self.fused)
        _under_way.discard(self)
