"""A training run as napari sees it: what it does, and what can be asked of it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils import cancelable_progress
from napari.utils.notifications import (
    ErrorNotification,
    notification_manager,
    show_error,
)
from qtpy.QtCore import QObject, QTimer, Signal

from napari_ips.errors import IPSError
from napari_ips.events import LossPoint, Progress, TrainingFinished, ValidationPoint
from napari_ips.widgets.train.work import Outcome, Prepares, Told, Work
from napari_ips.widgets.train.worker import StoppableWorker

if TYPE_CHECKING:
    from napari_ips.training.runs import Run

# How often the window learns what happened, milliseconds.
_TELL_EVERY = 200
_FRACTIONS = 1000

# Trainings live until they end, whatever becomes of the widget that began them.
_under_way: set[TrainingSession] = set()


class Phase(Enum):
    """What a session does."""

    IDLE = "idle"
    PREPARING = "preparing"
    TRAINING = "training"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"

    @property
    def under_way(self) -> bool:
        """Whether a thread works."""
        return self in (Phase.PREPARING, Phase.TRAINING)


class TrainingSession(QObject):
    """Trains in a thread of its own, one run after another.

    Attributes
    ----------
    phase : Phase
    run : Run or None
        The run that is trained, or that was last; None before the first one has its
        folder, and when it was discarded.
    finished : TrainingFinished or None
        Of a run that is done.
    can_resume : bool
        Whether the run has a checkpoint; for a session that is paused or failed.
    asked : str
        What was asked of the thread and is not yet so, such as "Pausing…".
    message : str
        Why it failed.
    changed : Signal()
        One of these changed.
    told : Signal(list of Told)
        What happened since the last time.
    """

    changed = Signal()
    told = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.phase = Phase.IDLE
        self.run: Run | None = None
        self.finished: TrainingFinished | None = None
        self.can_resume = False
        self.asked = ""
        self.message = ""
        self._discard = False
        self._work: Work | None = None
        self._bar: Any = None
        self._timer = QTimer(self)
        self._timer.setInterval(_TELL_EVERY)
        self._timer.timeout.connect(self._tell)

    def start(self, state: Prepares) -> None:
        """Begin a new run with what the form says."""
        self._begin(Work(state=state))

    def resume(self, run: Run | None = None) -> None:
        """Go on with a run, by default the one that is paused."""
        run = run or self.run
        assert run is not None, "there is a run, else nothing could be resumed"
        self._begin(Work(run=run))

    def pause(self) -> None:
        """Write a checkpoint after this step, and end the thread."""
        if self._work is not None and not self.asked:
            self._work.stop.set()
            preparing = self.phase is Phase.PREPARING
            self._ask("Stopping…" if preparing else "Pausing…")

    def keep_best(self) -> None:
        """End the run after this step, with the best weights so far."""
        if self._work is None:
            self.resume()
        if self._work is not None and not self.asked:
            self._work.finish.set()
            self._ask("Ending…")

    def discard(self) -> None:
        """Delete the run and all that came of it."""
        if self._work is not None:
            self._discard = True
            self._work.stop.set()
            self._ask("Discarding…")
            return
        if self.run is not None:
            self.run.discard()
        self.reset()

    def reset(self) -> None:
        """Be ready for the next run; this one stays as it is."""
        assert self._work is None, "a run under way is paused first"
        self.run = self.finished = None
        self._move(Phase.IDLE)

    def show_done(self, run: Run) -> None:
        """Take a run that finished in an earlier session."""
        assert self._work is None, "one run at a time"
        self.run, self.finished = run, None
        self._move(Phase.DONE)

    def leave(self) -> None:
        """Stop within a step, for nobody could do so any more; the run can be resumed."""
        if self._work is not None:
            self._work.stop.set()

    def _begin(self, work: Work) -> None:
        assert self._work is None, "one run at a time"
        self._work, self.run, self.finished = work, work.run, None
        self._discard = self.can_resume = False
        _under_way.add(self)
        self._bar = cancelable_progress(
            total=0, desc="Training weights", cancel_callback=self.pause
        )
        worker: Any = create_worker(work, _worker_class=StoppableWorker)
        worker.asked = work.stop
        worker.returned.connect(self._end)
        self._move(Phase.PREPARING)
        self._timer.start()
        worker.start()

    def _ask(self, what: str) -> None:
        self.asked = what
        self.changed.emit()

    def _move(self, phase: Phase, message: str = "") -> None:
        self.phase, self.message = phase, message
        if not phase.under_way:
            self.asked = ""
        self.changed.emit()

    def _tell(self) -> None:
        if self._work is None:
            return
        told = self._work.take()
        if not told:
            return
        self.run = self._work.run
        training = any(isinstance(t.event, LossPoint | ValidationPoint) for t in told)
        if training and self.phase is Phase.PREPARING:
            self._move(Phase.TRAINING)
        self.told.emit(told)
        # Last, for napari lets other events come in between.
        self._show_progress(told)

    def _show_progress(self, told: list[Told]) -> None:
        for event in (t.event for t in reversed(told)):
            if isinstance(event, LossPoint):
                done, total = round(_FRACTIONS * event.fraction), _FRACTIONS
            elif isinstance(event, Progress):
                done, total = event.done, event.total
            else:
                continue
            if self._bar.total != total:
                self._bar.reset(total=total)
            self._bar.update(done - self._bar.n)
            return

    def _end(self, outcome: Outcome) -> None:
        assert self._work is not None
        self._timer.stop()
        self._tell()
        self._bar.close()
        work, self._work = self._work, None
        _under_way.discard(self)
        self.run, self.can_resume = work.run, outcome.kept
        if self._discard:
            self.discard()
        elif outcome.finished is not None:
            self.finished = outcome.finished
            self._move(Phase.DONE)
        elif outcome.error is not None and not _asked_for(outcome.error, work):
            self._fail(outcome.error)
        else:
            self._move(Phase.PAUSED if outcome.kept else Phase.STOPPED)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, IPSError):
            show_error(str(error))
        else:
            # A fault of ours: with all that is needed to report it.
            notification_manager.dispatch(ErrorNotification(error))
        self._move(Phase.FAILED, str(error) or type(error).__name__)


def _asked_for(error: Exception, work: Work) -> bool:
    """Tell whether work ended so because it was asked to end."""
    from napari_ips.errors import Stopped

    return work.stop.is_set() and isinstance(error, Stopped)
