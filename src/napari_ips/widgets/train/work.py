"""The part of a training that is done in a thread of its own."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from napari_ips.events import (
    CheckpointSaved,
    Preview,
    Progress,
    TrainingEvent,
    TrainingFinished,
)
from napari_ips.widgets.train.history import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_ips.config import TrainConfig
    from napari_ips.training.runs import Run


class Prepares(Protocol):
    """What a new run is begun from, such as the state of the form."""

    @property
    def title(self) -> str:
        """What the user calls the weights."""

    def prepare(
        self, run: Run, stop: threading.Event, callback: Callable[[Progress], None]
    ) -> TrainConfig:
        """Put the images of layers into the run, and return all settings."""


@dataclass(frozen=True)
class Told:
    """An event, and when it came (monotonic, seconds)."""

    event: TrainingEvent | Progress
    when: float


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes
    ----------
    finished : TrainingFinished or None
        There are weights.
    kept : bool
        There are none, but the run can be resumed.
    error : Exception or None
        Why it ended by itself.
    """

    finished: TrainingFinished | None = None
    kept: bool = False
    error: Exception | None = None


class Work:
    """A training to be called in a thread; napari shows it by its name.

    Parameters
    ----------
    state : Prepares, optional
        Of a new run.
    run : Run, optional
        To resume; needed if there is no state.

    Attributes
    ----------
    run : Run or None
    stop : threading.Event
        Once set, the training ends within a step, with a checkpoint.
    finish : threading.Event
        Once set, it ends within a step, with weights.
    """

    def __init__(self, state: Prepares | None = None, run: Run | None = None) -> None:
        assert (state is None) != (run is None), "either a new run or one to resume"
        self._state = state
        self.run = run
        self.stop = threading.Event()
        self.finish = threading.Event()
        self._mail: list[Told] = []
        self._mailing = threading.Lock()
        self.__name__ = "training weights"

    def __call__(self) -> Outcome:
        """Return what came of it; nothing is raised, for the window has to learn it."""
        try:
            with _a_core_left():
                finished, error = self._train(), None
        except Exception as raised:
            finished, error = None, raised
        kept = finished is None and self.run is not None and self.run.checkpoint.exists()
        if self._state is not None and self.run is not None and not (finished or kept):
            # Nothing was learnt yet: there is nothing that could be resumed.
            self.run.discard()
        return Outcome(finished, kept, error)

    def take(self) -> list[Told]:
        """Return what happened since the last call; of previews only the last one."""
        with self._mailing:
            mail, self._mail = self._mail, []
        previews = [told for told in mail if isinstance(told.event, Preview)]
        outdated = {id(told) for told in previews[:-1]}
        return [told for told in mail if id(told) not in outdated]

    def _train(self) -> TrainingFinished | None:
        from napari_ips.training.runs import new_run

        if self.run is None:
            assert self._state is not None
            self.run = new_run(self._state.title)
        with self.run.lock():
            if self._state is None:
                # Of a run that was killed early there may be settings alone.
                resume = self.run.checkpoint.exists()
                return self._follow(self.run, self.run.config(), resume=resume)
            config = self._state.prepare(self.run, self.stop, self._put)
            if self.stop.is_set():
                return None
            config = self.run.write_settings(config)
            return self._follow(self.run, config, resume=False)

    def _follow(
        self, run: Run, config: TrainConfig, *, resume: bool
    ) -> TrainingFinished | None:
        from napari_ips.training import train

        recorder = Recorder(run.folder)
        try:
            with closing(train(config, resume=resume, finish=self.finish)) as events:
                for event in events:
                    self._put(event)
                    recorder.take(event)
                    if isinstance(event, CheckpointSaved):
                        recorder.write()
                    if isinstance(event, TrainingFinished):
                        return event
                    if self.stop.is_set():
                        break
        finally:
            recorder.write()
        return None

    def _put(self, event: TrainingEvent | Progress) -> None:
        with self._mailing:
            self._mail.append(Told(event, time.monotonic()))


@contextmanager
def _a_core_left() -> Iterator[None]:
    """Compute with one thread less than there are cores, and leave that to the window.

    Threads that compute wait for each other after every small operation. With as many as
    cores, each time that napari draws makes all of them wait: ten times as slow was seen.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - 1))
    try:
        yield
    finally:
        # The number of this thread is that of all threads to come.
        torch.set_num_threads(before)
