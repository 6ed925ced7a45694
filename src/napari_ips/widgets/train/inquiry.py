"""Questions that take seconds to answer, asked anew whenever something changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

from napari_ips.events import Progress, ProgressCallback
from napari_ips.widgets.train.worker import StoppableWorker
from napari_ips.widgets.work import told

_TICK = 200  # milliseconds

Work = Callable[[threading.Event, ProgressCallback], Any]


class Inquiry(QObject):
    """The last question counts; those before are stopped, and nothing comes of them.

    Parameters
    ----------
    parent : QObject
        When it is gone, no answer is awaited any more.
    patience : float
        Seconds in which no other question comes, before one is looked into.

    Attributes
    ----------
    answered : Signal(object)
    failed : Signal(str)
        Why there is no answer, in one line.
    progressed : Signal(Progress)
    """

    answered = Signal(object)
    failed = Signal(str)
    progressed = Signal(object)

    def __init__(self, parent: QObject, patience: float = 0.0) -> None:
        super().__init__(parent)
        self._work: Work | None = None
        self._stop = threading.Event()
        self._stop.set()
        self._progress: Progress | None = None
        self._patience = QTimer(self, singleShot=True, interval=int(patience * 1000))
        self._patience.timeout.connect(self._start)
        self._tick = QTimer(self, interval=_TICK)
        self._tick.timeout.connect(self._look)
        stop = self._stop_of = {"now": self._stop}
        parent.destroyed.connect(lambda: stop["now"].set())

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._patience.isActive()) or not self._stop.is_set()

    def ask(self, work: Work) -> None:
        """Ask for what `work` returns in another thread; it is passed stop and callback."""
        self.cancel()
        self._work = work
        self._patience.start()

    def cancel(self) -> None:
        """Await no answer any more."""
        self._patience.stop()
        self._tick.stop()
        self._stop.set()

    def _start(self) -> None:
        assert self._work is not None
        work, stop = self._work, threading.Event()
        self._stop = self._stop_of["now"] = stop
        self._progress = None

        def tell(progress: Progress) -> None:
            self._progress = progress

        def answer() -> Any:
            try:
                return told(work)(stop, tell)
            except Exception:
                # By whatever it ends once it was asked to stop.
                if stop.is_set():
                    return None
                raise

        def returned(found: Any) -> None:
            if stop.is_set():
                return
            self.cancel()
            if isinstance(found, str):
                self.failed.emit(found)
            else:
                self.answered.emit(found)

        worker = create_worker(answer, _worker_class=StoppableWorker)
        worker.asked = stop
        worker.returned.connect(returned)
        worker.start()
        self._tick.start()

    def _look(self) -> None:
        if self._progress is not None:
            self.progressed.emit(self._progress)
