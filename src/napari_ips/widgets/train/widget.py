"""The dock widget that trains weights on images that are in focus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QDockWidget,
    QFrame,
    QMainWindow,
    QProgressBar,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_ips.errors import IPSError
from napari_ips.events import LossPoint, Progress
from napari_ips.widgets.dock import Dock, VerticalScroll
from napari_ips.widgets.fuse.notes import WrappedLabel
from napari_ips.widgets.fuse.surroundings import look_around
from napari_ips.widgets.known_weights import known_weights, registry
from napari_ips.widgets.libraries import load_triton_apart
from napari_ips.widgets.train.buttons import RunButtons
from napari_ips.widgets.train.finish import FinishPanel
from napari_ips.widgets.train.form import TrainForm
from napari_ips.widgets.train.manager import ask
from napari_ips.widgets.train.menu import MoreButton
from napari_ips.widgets.train.preferences import remember
from napari_ips.widgets.train.session import Phase, TrainingSession
from napari_ips.widgets.train.unfinished import UnfinishedRuns
from napari_ips.widgets.train.watch import WatchPanel
from napari_ips.widgets.train.work import Told

if TYPE_CHECKING:
    import napari

    from napari_ips.training.runs import Run
    from napari_ips.widgets.fuse.surroundings import Surroundings

_PROMILLE = 1000
_NOTHING_BETTER = "Finished; nothing became better. Train for longer, or on more images."
# In which the settings are shown.
_SETTING = (Phase.IDLE, Phase.STOPPED)
_WORDS = {
    Phase.IDLE: "",
    Phase.PREPARING: "Reading images…",
    Phase.TRAINING: "Training.",
    Phase.PAUSED: "Paused: all that was learnt is in a checkpoint on disk.",
    Phase.STOPPED: "Stopped before the training began.",
    Phase.DONE: "Finished. Save the weights to fuse with them.",
}


class TrainWidget(Dock):
    """Train weights for a stain and a camera on images that are in focus.

    Parameters
    ----------
    napari_viewer : napari.Viewer

    Attributes
    ----------
    form : TrainForm
        What is trained on, and how.
    session : TrainingSession
        The run.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        load_triton_apart()
        self._viewer = napari_viewer
        self._found: Surroundings | None = None
        self._closed = self._seen = False
        self.session = TrainingSession()
        self.form = TrainForm(napari_viewer)
        self.watch = WatchPanel(napari_viewer)
        self.finish = FinishPanel(napari_viewer)
        self.unfinished = UnfinishedRuns()
        self._lay_out()
        self._connect()
        self._follow()
        self._look_around()
        self.unfinished.look()

    def close_down(self) -> None:
        """Let go of the viewer; a run stops within a step, and can be resumed."""
        if self._closed:
            return
        self._closed = True
        super().close_down()
        self.session.changed.disconnect(self._follow)
        self.session.told.disconnect(self._take)
        self.session.leave()
        registry.changed.disconnect(self._list_weights)
        self.unfinished.forget()
        self.form.forget()
        self.watch.close_down()
        self.finish.close_down()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take the whole height of the window, when the dock is seen first."""
        super().showEvent(event)
        if not self._seen:
            self._seen = True
            # Then the dock has its place.
            QTimer.singleShot(0, self._make_room)

    def _make_room(self) -> None:
        """Become a tab beside the docks below which napari leaves hardly any height."""
        dock: QObject | None = self.parent()
        while dock is not None and not isinstance(dock, QDockWidget):
            dock = dock.parent()
        if dock is None:
            return
        window = dock.parent()
        if not isinstance(window, QMainWindow):
            return
        area = window.dockWidgetArea(dock)
        others = [
            other
            for other in window.findChildren(QDockWidget)
            if other is not dock
            and other.isVisible()
            and window.dockWidgetArea(other) == area
        ]
        if others and not window.tabifiedDockWidgets(dock):
            window.tabifyDockWidget(others[-1], dock)
            dock.raise_()

    def _lay_out(self) -> None:
        self.advanced_box = QCollapsible("Advanced", expandedIcon="▾", collapsedIcon="▸")
        self.advanced_box.addWidget(self.form.advanced)
        self.settings = _page(self.unfinished, self.form, self.advanced_box)
        self.run_page = _page(self.finish, self.watch)
        self.title = WrappedLabel()
        self.buttons = RunButtons(MoreButton(self.form), self)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.status = WrappedLabel()
        layout = QVBoxLayout(self)
        layout.addWidget(self.title)
        layout.addWidget(self.settings, stretch=1)
        layout.addWidget(self.run_page, stretch=1)
        for part in (self.bar, self.status, self.buttons):
            layout.addWidget(part)

    def _connect(self) -> None:
        self.form.changed.connect(self._check)
        self.session.changed.connect(self._follow)
        self.session.told.connect(self._take)
        self.destroyed.connect(self.session.leave)
        self.buttons.pressed.connect(self._on_button)
        self.finish.saved.connect(self._on_saved)
        self.unfinished.resumed.connect(self._resume)
        self.unfinished.saved.connect(self._show_finished)
        self.unfinished.discarded.connect(self._discard_other)
        registry.changed.connect(self._list_weights)

    # Settings

    def _look_around(self) -> None:
        """See what there is to compute with, without keeping anybody waiting."""
        worker = create_worker(look_around)
        worker.returned.connect(self._take_surroundings)
        worker.start()

    def _take_surroundings(self, found: Surroundings) -> None:
        if not self._closed:
            self._found = found
            self.form.set_surroundings(found)

    def _list_weights(self) -> None:
        if self._found is not None:
            self._take_surroundings(replace(self._found, weights=known_weights()))

    def _check(self) -> None:
        """Say what cannot work, before anybody tries."""
        problems = self.form.problems()
        self.form.show_problems(problems)
        if problems.keys() & self.form.advanced.notes.keys():
            self.advanced_box.expand(animate=False)
        self.buttons.follow(self.session, ready=not problems)
        if self.session.phase in _SETTING:
            # The field that it stands below may be scrolled out of sight.
            self._say(next(iter(problems.values()), _WORDS[self.session.phase]))

    # The run

    def _on_button(self, key: str) -> None:
        {
            "train": self._train,
            "cancel": self.session.pause,
            "pause": self.session.pause,
            "resume": self._resume,
            "keep": self.session.keep_best,
            "discard": self._discard,
            "back": self._back,
        }[key]()

    def _train(self) -> None:
        try:
            state = self.form.state()
            remember(state.config(Path("weights.safetensors"), ()))
        except IPSError as error:
            show_error(str(error))
            return
        self.watch.begin()
        self.watch.previews.remove()
        self.title.setText(f"<b>{escape(state.title)}</b>")
        self.session.start(state)

    def _resume(self, run: Run | None = None) -> None:
        if run is not None:
            self._show_run(run)
        self.watch.go_on()
        self.session.resume(run)

    def _discard(self) -> None:
        name = self.session.run.title if self.session.run is not None else "this run"
        if ask(self, f"Discard {name}? What it has learnt is deleted for good."):
            self._told_plainly(self.session.discard)

    def _back(self) -> None:
        self.session.reset()

    def _show_run(self, run: Run) -> None:
        self.watch.previews.remove()
        self.watch.begin(run)
        self.title.setText(f"<b>{escape(run.title)}</b>")

    def _take(self, told: list[Told]) -> None:
        self.watch.take(told)
        for event in (one.event for one in reversed(told)):
            if isinstance(event, LossPoint):
                self.bar.setRange(0, _PROMILLE)
                self.bar.setValue(round(_PROMILLE * event.fraction))
                return
            if isinstance(event, Progress):
                self.bar.setRange(0, event.total)
                self.bar.setValue(event.done)
                if not self.session.asked:
                    self.status.setText(f"{event.task}: {event.done} of {event.total}")
                return

    def _follow(self) -> None:
        """Show what the session does now."""
        session, phase = self.session, self.session.phase
        setting = phase in _SETTING
        if setting and self.run_page.isVisibleTo(self):
            self.watch.previews.remove()
            self.unfinished.look()
        self.settings.setVisible(setting)
        self.run_page.setVisible(not setting)
        self.title.setVisible(not setting)
        self.finish.setVisible(phase is Phase.DONE)
        if phase is Phase.DONE and session.run is not None:
            self.finish.show_run(session.run, session.finished)
            self.run_page.verticalScrollBar().setValue(0)
        if not phase.under_way:
            self.watch.go_on()
        self.bar.setVisible(phase.under_way)
        if phase is Phase.PREPARING:
            self.bar.setRange(0, 0)
        failed = f"Failed: {session.message}" if phase is Phase.FAILED else ""
        self._say(session.asked or failed or self._words())
        self._check()

    def _words(self) -> str:
        finished = self.session.finished
        if finished is not None and finished.psnr <= finished.psnr_before:
            return _NOTHING_BETTER
        return _WORDS[self.session.phase]

    def _say(self, told: str) -> None:
        self.status.setText(told)
        self.status.setVisible(bool(told))

    # What becomes of runs

    def _on_saved(self, name: str) -> None:
        run, self.session.run = self.session.run, None
        if run is not None:
            self._told_plainly(run.discard)
        show_info(f"Saved as {name}; it can be chosen when you fuse.")
        self.status.setText(f"Saved as {name}.")
        self._check()

    def _show_finished(self, run: Run) -> None:
        self._show_run(run)
        self.session.show_done(run)

    def _discard_other(self, run: Run) -> None:
        if ask(self, f"Discard {run.title}? What it has learnt is deleted for good."):
            self._told_plainly(run.discard)
            self.unfinished.look()

    def _told_plainly(self, discard: Callable[[], None]) -> None:
        try:
            discard()
        except IPSError as error:
            show_error(str(error))


def _page(*parts: QWidget) -> QScrollArea:
    """Put parts below each other, and let them scroll if there is too little room."""
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        column.addWidget(part)
    column.addStretch()
    page = VerticalScroll()
    page.setWidget(inner)
    page.setWidgetResizable(True)
    page.setFrameShape(QFrame.Shape.NoFrame)
    page.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    page.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return page
