"""The end of a training: what it brought, and what becomes of the weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_ips.errors import IPSError
from napari_ips.events import Progress, TrainingFinished
from napari_ips.files import written_whole
from napari_ips.widgets.compare.panel import ViewPanel
from napari_ips.widgets.dock import Dock, LayerBox
from napari_ips.widgets.fuse.notes import FieldNote, WrappedLabel
from napari_ips.widgets.known_weights import known_weights, registry
from napari_ips.widgets.train.comparison import add_fused, compare_worker, stack_layers
from napari_ips.widgets.work import Workers

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

    from napari_ips.training.runs import Run

SUFFIX = ".safetensors"
KINDS = f"Weights (*{SUFFIX})"
_REASONS = {
    "length": "The run had its full length.",
    "asked": "The run was ended early, as you asked.",
    "diverged": "The run ended early, because the loss was no longer finite; the best "
    "weights until then are kept.",
}


class FinishPanel(Dock):
    """Shows what a finished run brought, compares, saves and exports its weights.

    Attributes
    ----------
    saved : Signal(str)
        The weights are registered under this name, and the run is no longer needed.
    """

    saved = Signal(str)
    _progressed = Signal(object)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._run: Run | None = None
        self._path = Path()
        self._start = "default"
        self._workers = Workers(self, self._show_work)
        self._layers: list[Image] = []
        self._build()
        self._progressed.connect(self._show_progress)
        events = viewer.layers.events
        self.listen(
            (events.inserted, self._list_stacks),
            (events.removed, self._list_stacks),
            (events.renamed, self._list_stacks),
        )
        self._list_stacks()

    def show_run(self, run: Run, finished: TrainingFinished | None = None) -> None:
        """Take a finished run; without its last event, its card tells the figures."""
        self._run, self._path = run, run.output
        self._start = _start_of(run)
        self.verdict.setText(_verdict(finished) if finished else _verdict_of(run.output))
        self.name.setText(_free_name(run.title))
        self.notes.setPlainText(_notes_of(run))
        self._show_saved(False)
        self._check()

    def close_down(self) -> None:
        """Let go of the viewer, and end the comparison."""
        super().close_down()
        self._workers.stop("compare")
        self.panel.close_down()

    def _build(self) -> None:
        self.verdict = WrappedLabel()
        self.name = QLineEdit()
        self.name.setToolTip("By this name the weights are chosen when you fuse")
        self.name.textChanged.connect(self._check)
        self.problem = FieldNote()
        self.notes = NotesField()
        self.save = QPushButton("&Save")
        self.save.setToolTip("Add the weights to those that can be chosen when you fuse")
        self.save.clicked.connect(self._save)
        self.export = QPushButton("&Export…")
        self.export.setToolTip("Copy the weights to a file, for others or for a backup")
        self.export.clicked.connect(self._export)
        self.stack = LayerBox("A z-stack, best one that is like those you will fuse")
        self.compare = QPushButton("&Compare")
        self.compare.setToolTip(
            "Fuse the stack with the weights that the run started from and with the new "
            "ones, and show both"
        )
        self.compare.clicked.connect(self._compare)
        self.panel = ViewPanel(self._viewer)
        self.panel.setVisible(False)
        self.panel.done.clicked.connect(lambda: self.panel.setVisible(False))
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)
        form.addRow("&Name", self.name)
        form.addRow(self.problem)
        form.addRow("N&otes", self.notes)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.verdict)
        layout.addLayout(form)
        layout.addLayout(_row(self.save, self.export))
        self.comparing = QLabel("Compare on a z-stack")
        layout.addWidget(self.comparing)
        layout.addLayout(_row(self.stack, self.compare, first=1))
        layout.addWidget(self.panel)

    # Saving

    def _check(self) -> None:
        """Say what is wrong with the name, before anybody saves."""
        if self._run is None or not self.name.isEnabled():
            return
        from napari_ips.registry import check_name

        try:
            check_name(self.name.text().strip())
            problem = ""
        except IPSError as error:
            problem = str(error)
        self.problem.tell(problem)
        self.save.setEnabled(not problem)

    def _save(self) -> None:
        from napari_ips.registry import register_weights

        assert self._run is not None
        notes = self.notes.toPlainText()
        try:
            info = register_weights(self._path, self.name.text().strip(), notes)
        except IPSError as error:
            show_error(str(error))
            return
        self._path = info.path
        self._show_saved(True)
        registry.changed.emit()
        self.saved.emit(info.name)

    def _show_saved(self, saved: bool) -> None:
        for part in (self.name, self.notes, self.save):
            part.setEnabled(not saved)
        if saved:
            self.problem.tell("")

    def _export(self) -> None:
        name = f"{self.name.text().strip() or 'weights'}{SUFFIX}"
        typed, _ = QFileDialog.getSaveFileName(self, "Export weights", name, KINDS)
        if not typed:
            return
        path = Path(typed)
        if path.suffix.lower() != SUFFIX:
            path = path.with_name(path.name + SUFFIX)
            if path.exists():
                show_error(f"{path} exists; choose another name.")
                return
        try:
            with written_whole(path) as part:
                shutil.copyfile(self._path, part)
        except IPSError as error:
            show_error(str(error))
            return
        show_info(f"Exported to {path}.")

    # Comparing

    def _list_stacks(self) -> None:
        self.stack.fill(stack_layers(self._viewer), self.stack.currentData())
        self._show_work()

    def _show_work(self) -> None:
        busy = "compare" in self._workers
        self.compare.setText("&Cancel" if busy else "&Compare")
        self.compare.setEnabled(busy or self.stack.count() > 0)
        self.stack.setEnabled(not busy)
        if self.stack.count() == 0:
            self.comparing.setText("Open a z-stack to compare the weights on it.")
        elif not busy:
            self.comparing.setText("Compare on a z-stack")

    def _show_progress(self, event: Progress) -> None:
        if "compare" in self._workers:
            part = f" {event.done} of {event.total}" if event.total > 1 else ""
            self.comparing.setText(f"{event.task.capitalize()}{part}…")

    def _compare(self) -> None:
        if "compare" in self._workers:
            self._workers.stop("compare")
            return
        layer = self.stack.currentData()
        weights = (self._start, self._path)
        try:
            worker = compare_worker(layer, weights, self._progressed.emit)
        except IPSError as error:
            show_error(str(error))
            return
        self._workers.start("compare", worker, lambda fused: self._show_both(layer, fused))

    def _show_both(self, source: Image, fused: list[Any] | None) -> None:
        if fused is None or source not in self._viewer.layers:
            return
        self.panel.end()
        for layer in self._layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        names = (f"{Path(self._start).stem} weights", "new weights")
        kept = str(self._start), str(self._path)
        self._layers = [
            add_fused(self._viewer, source, arrays, weights, name)
            for arrays, weights, name in zip(fused, kept, names, strict=True)
        ]
        self.panel.setVisible(True)
        self.panel.compare(self._layers)


class NotesField(QTextEdit):
    """Some lines on what weights are for, without any format."""

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptRichText(False)
        self.setTabChangesFocus(True)
        self.setPlaceholderText("stain, objective, camera…")
        self.setToolTip("Kept in the file of the weights")
        self.setFixedHeight(3 * self.fontMetrics().lineSpacing() + 12)


def _row(*parts: QWidget, first: int = 0) -> QHBoxLayout:
    row = QHBoxLayout()
    for number, part in enumerate(parts):
        row.addWidget(part, stretch=first if number == 0 else 0)
    return row


def _verdict(finished: TrainingFinished) -> str:
    before, after = finished.psnr_before, finished.psnr
    words = f"<b>{before:.2f} dB → {after:.2f} dB</b> (PSNR of held-out crops)<br>"
    if after > before:
        words += (
            f"{after - before:.2f} dB better than at the start. The weights are those of "
            f"step {finished.iteration:,}. "
        )
    else:
        words += "Nothing was better than the weights at the start; these are kept. "
    return words + _REASONS[finished.reason]


def _verdict_of(path: Path) -> str:
    from html import escape

    from napari_ips.cards import describe_card
    from napari_ips.weights import read_card

    try:
        return escape(describe_card(read_card(path))).replace("\n", "<br>")
    except IPSError as error:
        return escape(str(error))


def _start_of(run: Run) -> str:
    try:
        return run.config().start_from or "default"
    except IPSError:
        return "default"


def _notes_of(run: Run) -> str:
    try:
        return run.config().notes
    except IPSError:
        return ""


def _free_name(title: str) -> str:
    """Make a name of a title that is not taken yet."""
    name = re.sub(r"[^\w .-]+", " ", title).strip(" .-_") or "my weights"
    taken = {known.casefold() for known in known_weights()}
    number, free = 2, name
    while free.casefold() in taken:
        free, number = f"{name} {number}", number + 1
    return free
