"""The part of the training dock that shows a run: figures, lines and previews."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ips.events import (
    CheckpointFailed,
    CheckpointSaved,
    ImagesFound,
    Preview,
    RolledBack,
    TrainingEvent,
)
from napari_ips.widgets.fuse.notes import FieldNote
from napari_ips.widgets.train.history import History
from napari_ips.widgets.train.meter import Meter, memory
from napari_ips.widgets.train.plot import TrainingPlot
from napari_ips.widgets.train.previews import PreviewLayers
from napari_ips.widgets.train.work import Told

if TYPE_CHECKING:
    import napari

    from napari_ips.training.runs import Run


class WatchPanel(QWidget):
    """Follows one run after another.

    Attributes
    ----------
    meter : Meter
    history : History
    previews : PreviewLayers
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.previews = PreviewLayers(viewer)
        self._build()
        self.set_colors()
        get_settings().appearance.events.theme.connect(self.set_colors)
        self.begin()

    def begin(self, run: Run | None = None) -> None:
        """Show a new run, or one that goes on, with what was told of it before."""
        self.meter = Meter()
        self.history = History() if run is None else History.of_run(run.folder)
        self._take_past()
        self.meter.fraction = (run.fraction if run is not None else None) or 0.0
        self._troubles: dict[str, str] = {}
        self.images.setText("")
        self._show_troubles()
        self._show()

    def go_on(self) -> None:
        """Measure the speed anew, after a pause."""
        self.meter.end_leg()
        self._show()

    def take(self, told: list[Told]) -> None:
        """Show what happened."""
        for one in told:
            self.meter.take(one)
            event = one.event
            if isinstance(event, Preview):
                self.previews.show(event)
            else:
                # Progress of the preparations changes no line.
                self._follow(event)  # type: ignore[arg-type]
        self._show()

    def set_colors(self) -> None:
        """Take the colours of napari's theme."""
        self.plot.set_colors(get_theme(get_settings().appearance.theme))
        self._show_troubles()

    def close_down(self) -> None:
        """Let go of the viewer."""
        get_settings().appearance.events.theme.disconnect(self.set_colors)
        self.previews.remove()

    def _build(self) -> None:
        self.images = QLabel()
        self.steps, self.time, self.quality, self.memory = (QLabel() for _ in range(4))
        self.plot = TrainingPlot()
        self.trouble = FieldNote()
        self.shown = QCheckBox("&Previews in the viewer")
        self.shown.setChecked(True)
        self.shown.setToolTip(
            "A held-out crop as two sources, the fused result and its error, as layers "
            "below the others"
        )
        self.shown.toggled.connect(self.previews.set_visible)
        self.look = QPushButton("Loo&k")
        self.look.setToolTip("Move the view to the previews")
        self.look.clicked.connect(self.previews.look)
        self.remove = QPushButton("Remo&ve")
        self.remove.setToolTip("Remove the layers of the previews; new ones may come")
        self.remove.clicked.connect(self.previews.remove)
        figures = self._figures = QFormLayout()
        figures.setContentsMargins(0, 0, 0, 0)
        figures.setVerticalSpacing(2)
        for name, label in (
            ("Images", self.images),
            ("Steps", self.steps),
            ("Time", self.time),
            ("PSNR", self.quality),
            ("Memory", self.memory),
        ):
            figures.addRow(name, label)
        row = QHBoxLayout()
        row.addWidget(self.shown, stretch=1)
        row.addWidget(self.look)
        row.addWidget(self.remove)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(figures)
        # Above the plot, below which it could be out of view.
        layout.addWidget(self.trouble)
        layout.addWidget(self.plot, stretch=1)
        layout.addLayout(row)

    def _take_past(self) -> None:
        """Let the figures begin where the lines do."""
        psnr, loss = self.history.psnr.values, self.history.loss.iterations
        if psnr:
            self.meter.first, self.meter.best = psnr[0], max(psnr)
        if loss:
            self.meter.iteration = loss[-1]

    def _follow(self, event: TrainingEvent) -> None:
        self.history.add(event)
        if isinstance(event, ImagesFound):
            left_out = f", {len(event.rejected)} left out" if event.rejected else ""
            self.images.setText(f"{event.accepted}{left_out}")
            self.images.setToolTip(
                "\n".join(f"{path}: {why}" for path, why in event.rejected[:20])
            )
        elif isinstance(event, RolledBack):
            self._troubles["rolled back"] = (
                f"The loss was no longer finite: back to step {event.iteration:,}, on at a "
                f"learning rate of {event.learning_rate:.2g}."
            )
            self._show_troubles()
        elif isinstance(event, CheckpointFailed):
            self._troubles["checkpoint"] = (
                f"No checkpoint could be written at step {event.iteration:,}: "
                f"{event.reason}"
            )
            self._show_troubles()
        elif isinstance(event, CheckpointSaved) and self._troubles.pop("checkpoint", ""):
            self._show_troubles()

    def _show_troubles(self) -> None:
        self.trouble.tell(" ".join(getattr(self, "_troubles", {}).values()))

    def _show(self) -> None:
        meter = self.meter
        speed = meter.speed()
        self.steps.setText(meter.steps() + (f", {speed}" if speed else ""))
        self.time.setText(meter.time() if meter.seconds else "")
        self.quality.setText(meter.quality())
        self.memory.setText(memory() if meter.running else "")
        for told in (self.images, self.steps, self.time, self.quality, self.memory):
            self._figures.setRowVisible(told, bool(told.text()))
        self.plot.show_history(self.history)
