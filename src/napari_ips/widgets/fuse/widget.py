"""The dock widget that fuses z-stack layers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_ips.errors import IPSError
from napari_ips.events import Progress
from napari_ips.widgets.dock import VerticalScroll
from napari_ips.widgets.fuse.form import FuseForm
from napari_ips.widgets.fuse.menu import MoreButton, ToolsButton
from napari_ips.widgets.fuse.pace import Pace
from napari_ips.widgets.fuse.preferences import remember, remembered
from napari_ips.widgets.fuse.run import FusionRun
from napari_ips.widgets.fuse.surroundings import look_around
from napari_ips.widgets.fuse.tooltips import TOOLTIPS

if TYPE_CHECKING:
    import napari
    from napari.layers import Image


class FuseWidget(QWidget):
    """Fuse z-stack layers into images that are sharp everywhere.

    Parameters
    ----------
    napari_viewer : napari.Viewer

    Attributes
    ----------
    form : FuseForm
        What is fused, and how.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._run: FusionRun | None = None
        self.form = FuseForm(napari_viewer, remembered())
        self._lay_out()
        self.form.changed.connect(self._check)
        self._check()
        self._look_around()

    def event(self, event: QEvent | None) -> bool:
        """Let go of the viewer when the dock that holds the widget is closed."""
        left = event is not None and event.type() == QEvent.Type.ParentChange
        if left and self.parent() is None:
            # Nobody would see how far a run is, nor could stop it any more.
            if self._run is not None:
                self._run.stop()
            self.form.forget()
        return bool(super().event(event))

    def _lay_out(self) -> None:
        self.run_button = QPushButton("Fuse")
        self.run_button.setShortcut("Ctrl+Return")
        self.run_button.setToolTip(TOOLTIPS["run"])
        self.run_button.clicked.connect(self._run_or_stop)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setVisible(False)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.tools = ToolsButton(self._viewer, self)
        self.more = MoreButton(self.form, self)
        self.advanced_box = QCollapsible("Advanced", expandedIcon="▾", collapsedIcon="▸")
        self.advanced_box.addWidget(self.form.advanced)
        self.advanced_box.setToolTip(TOOLTIPS["advanced"])
        # The button to run stays in sight, whatever is opened below it.
        below = VerticalScroll()
        below.setWidget(self.advanced_box)
        below.setWidgetResizable(True)
        below.setFrameShape(QScrollArea.NoFrame)
        below.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        below.setFocusPolicy(Qt.NoFocus)
        self.advanced_box.toggled.connect(lambda _: below.updateGeometry())
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, stretch=1)
        buttons.addWidget(self.tools)
        buttons.addWidget(self.more)
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addWidget(below, stretch=1)
        for before, after in pairwise([self.form, self.run_button, self.tools, self.more]):
            self.setTabOrder(before, after)
        self.setTabOrder(self.more, below)

    def _look_around(self) -> None:
        """See what there is to compute with, without keeping anybody waiting."""
        worker = create_worker(look_around)
        worker.returned.connect(self.form.set_surroundings)
        worker.start()

    def _check(self) -> None:
        """Say what cannot work, before anybody tries."""
        problems = self.form.problems()
        self.form.show_problems(problems)
        if problems.keys() & self.form.advanced.notes.keys():
            self.advanced_box.expand(animate=False)
        if self._run is None:
            self.run_button.setEnabled(not problems)

    def _run_or_stop(self) -> None:
        if self._run is None:
            self._start()
        else:
            self._run.stop()
            self.run_button.setEnabled(False)
            self.status.setText("Stopping…")

    def _start(self) -> None:
        state = self.form.state()
        try:
            run = FusionRun(self._viewer, state)
        except IPSError as error:
            show_error(str(error))
            return
        run.told.connect(self._tell)
        run.finished.connect(self._finish)
        run.stopped.connect(self._end)
        self.destroyed.connect(run.stop)
        self._run, self._pace = run, Pace()
        self.run_button.setText("Cancel")
        self.run_button.setShortcut("Ctrl+Return")
        self.run_button.setToolTip(TOOLTIPS["stop"])
        self.bar.setRange(0, 0)
        self.bar.setVisible(True)
        self.status.setText("Starting…")
        self._enable_fields(False)
        remember(state.config)
        run.start()

    def _enable_fields(self, enabled: bool) -> None:
        self.form.setEnabled(enabled)
        self.form.advanced.setEnabled(enabled)

    def _tell(self, event: Progress) -> None:
        self.bar.setRange(0, event.total if event.total > 1 else 0)
        self.bar.setValue(event.done)
        if self.run_button.isEnabled():
            self.status.setText(self._pace.left(event))

    def _finish(self, fused: Image | None) -> None:
        self.tools.offer(fused)
        self._end(f"Fused in {self._pace.seconds:.1f} s.")

    def _end(self, told: str) -> None:
        self._run = None
        self.run_button.setText("Fuse")
        self.run_button.setShortcut("Ctrl+Return")
        self.run_button.setToolTip(TOOLTIPS["run"])
        self.bar.setVisible(False)
        self._enable_fields(True)
        self.status.setText(told)
        self._check()
