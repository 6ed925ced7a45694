"""Runs of earlier sessions: to be gone on with, or saved, or discarded."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_ips.widgets.fuse.notes import WrappedLabel
from napari_ips.widgets.fuse.pace import duration
from napari_ips.widgets.work import Workers, told

if TYPE_CHECKING:
    from napari_ips.training.runs import Run


class UnfinishedRuns(QWidget):
    """A line and buttons for each run that nobody works on; nothing if there are none.

    Attributes
    ----------
    resumed, saved, discarded : Signal(Run)
        The user asked for it.
    """

    resumed = Signal(object)
    saved = Signal(object)
    discarded = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[RunRow] = []
        self._workers = Workers(self, lambda: None)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._title = QLabel("<b>Earlier runs</b>")
        self._layout.addWidget(self._title)
        self.setVisible(False)

    def look(self) -> None:
        """List the runs anew, without keeping the window waiting."""
        worker = create_worker(_offered)
        self._workers.start("look", worker, self._show)

    def forget(self) -> None:
        """Look no more."""
        self._workers.stop("look")

    def _show(self, found: list[tuple[Run, str]]) -> None:
        for row in self.rows:
            row.setParent(None)
            row.deleteLater()
        self.rows = [RunRow(run, words) for run, words in found]
        for row in self.rows:
            row.go_on.clicked.connect(lambda _=False, r=row: self._go_on(r.run))
            row.discard.clicked.connect(lambda _=False, r=row: self.discarded.emit(r.run))
            self._layout.addWidget(row)
        self.setVisible(bool(self.rows))

    def _go_on(self, run: Run) -> None:
        (self.saved if run.state == "finished" else self.resumed).emit(run)


class RunRow(QFrame):
    """One run: what it is, and what can be done with it."""

    def __init__(self, run: Run, words: str) -> None:
        super().__init__()
        self.run = run
        text = WrappedLabel()
        text.setText(f"{escape(run.title)}<br><small>{escape(words)}</small>")
        finished = run.state == "finished"
        self.go_on = QPushButton("Save…" if finished else "Resume")
        self.go_on.setToolTip(
            "See what it brought, and save the weights"
            if finished
            else "Go on from the last checkpoint, with the settings of the run"
        )
        self.discard = QPushButton("Discard")
        self.discard.setToolTip("Delete the run and what it has learnt so far")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(text, stretch=1)
        layout.addWidget(self.go_on)
        layout.addWidget(self.discard)


@told
def _offered() -> list[tuple[Run, str]]:
    from napari_ips.training.runs import list_runs

    return [(run, _words(run)) for run in list_runs() if not run.is_in_use]


def _words(run: Run) -> str:
    """Tell how far a run is, and when it was."""
    if run.state == "finished":
        return f"finished {_ago(run.output.stat().st_mtime)}, not saved"
    iteration, fraction = run.iteration, run.fraction
    if iteration is None:
        return f"{_ago(run.started.timestamp())}, without a checkpoint"
    share = f" ({100 * fraction:.0f} %)" if fraction is not None else ""
    return f"{iteration:,} steps{share}, {_ago(run.checkpoint.stat().st_mtime)}"


def _ago(when: float) -> str:
    seconds = datetime.now(UTC).timestamp() - when
    if seconds < 60:
        return "just now"
    if seconds < 86400:
        return f"{duration(seconds)} ago"
    return f"on {datetime.fromtimestamp(when):%d %B %Y}"
