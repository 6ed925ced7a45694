"""What training would learn from: a sample of crops, and which of them are sharp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QLabel, QListWidget, QListWidgetItem, QVBoxLayout, QWidget
from superqt import QCollapsible, QLabeledDoubleSlider

from napari_ips.widgets.fuse.notes import FieldNote, WrappedLabel
from napari_ips.widgets.train.tooltips import TOOLTIPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ips.training.quality import Verdict
    from napari_ips.training.survey import CropSample, ImageSurvey

_EDGE, _FRAME = 62, 4
_ROWS = 3
_HIGHEST, _STEP = 0.5, 0.005
_REASONS_SHOWN = 50
_FRAMES = {
    "sharp": "#3fb950",
    "soft": "#f0883e",
    "empty": "#8b949e",
    "saturated": "#d2438f",
}


class ContactSheet(QWidget):
    """What was found in the images, and which crops a threshold leaves.

    Attributes
    ----------
    threshold_changed : Signal(float)
        The user wants crops to be of another least sharpness.
    note : FieldNote
        For what cannot work.
    slider : QLabeledDoubleSlider
        The least sharpness.
    crops : QListWidget
        Crops with frames; used ones first.
    """

    threshold_changed = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self._survey: ImageSurvey | None = None
        self._given = (0.0, 0.0)
        self._most_saturated = 1.0
        self._problem = ""
        self.summary, self.note = WrappedLabel(), FieldNote()
        self.left_out = QCollapsible("", expandedIcon="▾", collapsedIcon="▸")
        self.reasons = WrappedLabel()
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.counted = QLabel()
        self.crops = _CropGrid()
        self._lay_out()
        self.slider.valueChanged.connect(self._move)
        self.clear()

    @property
    def min_sharpness(self) -> float:
        """The least sharpness of crops, exactly as it was given until it is changed."""
        shown, given = self._given
        return given if self.slider.value() == shown else float(self.slider.value())

    def set_min_sharpness(self, value: float) -> None:
        """Show a threshold; nothing is told of it."""
        self.slider.blockSignals(True)
        self.slider.setMaximum(max(_HIGHEST, value))
        self.slider.setValue(value)
        self.slider.blockSignals(False)
        self._given = self.slider.value(), value
        self._classify()

    @property
    def problem(self) -> str:
        """What of that found stands in the way of training; "" if nothing is known to."""
        return self._problem

    def set_max_saturated(self, value: float) -> None:
        """Take another limit for the share of saturated pixels."""
        if value != self._most_saturated:
            self._most_saturated = value
            self._classify()

    def clear(self, told: str = "", problem: str = "") -> None:
        """Show no crops, only a line or none on why."""
        self._survey, self._problem = None, problem
        self.tell(told)
        for part in (self.left_out, self.counted, self.slider, self.crops):
            part.setVisible(False)

    def look_again(self, told: str) -> None:
        """Say that other images are looked at; what is shown stays until then."""
        self._problem = ""
        self.tell(told)

    def tell(self, told: str) -> None:
        """Say in place of the summary what is going on."""
        self.summary.setText(told)
        self.summary.setVisible(bool(told))

    def show_survey(self, survey: ImageSurvey) -> None:
        """Show what was found."""
        self._survey = survey
        self.crops.take(survey.crops)
        for part in (self.counted, self.slider, self.crops):
            part.setVisible(bool(survey.crops))
        self._classify()

    def _lay_out(self) -> None:
        self.slider.setRange(0, _HIGHEST)
        self.slider.setSingleStep(_STEP)
        self.slider.setDecimals(3)
        self.slider.setToolTip(TOOLTIPS["min_sharpness"])
        self.crops.setToolTip(TOOLTIPS["crops"])
        self.reasons.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.left_out.addWidget(self.reasons)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (
            self.summary,
            self.note,
            self.left_out,
            self.counted,
            self.slider,
            self.crops,
        ):
            layout.addWidget(part)

    def _move(self) -> None:
        self._classify()
        self.threshold_changed.emit(self.min_sharpness)

    def _classify(self) -> None:
        """Judge what was found by the thresholds, and frame the crops by that."""
        if self._survey is None:
            return
        thresholds = self.min_sharpness, self._most_saturated
        names = ("min_sharpness", "max_saturated")
        config = self._survey.config.model_copy(
            update=dict(zip(names, thresholds, strict=True))
        )
        survey = replace(self._survey, config=config)
        self._problem = survey.problem
        self.tell(survey.summary)
        self._list_left_out(survey.rejected)
        verdicts = [crop.verdict(*thresholds) for crop in survey.crops]
        self.crops.frame(verdicts)
        used = verdicts.count("sharp")
        self.counted.setText(f"{used} of {len(verdicts)} crops used; least sharpness:")

    def _list_left_out(self, rejected: Sequence[tuple[str, str]]) -> None:
        self.left_out.setText(f"{len(rejected)} left out")
        shown = rejected[:_REASONS_SHOWN]
        lines = [
            _told_of(Path(name).name, why.replace(name, Path(name).name))
            for name, why in shown
        ]
        if len(rejected) > len(shown):
            lines.append(f"and {len(rejected) - len(shown)} more")
        self.reasons.setText("\n".join(lines))
        self.left_out.setVisible(bool(rejected))


def _told_of(name: str, why: str) -> str:
    """Return a line that names a file once."""
    return why if name in why else f"{name}: {why}"


class _CropGrid(QListWidget):
    """Small pictures with a frame and a word each."""

    def __init__(self) -> None:
        super().__init__()
        self._samples: Sequence[CropSample] = ()
        self._pictures: list[QPixmap] = []
        self.setViewMode(QListWidget.ViewMode.IconMode)
        self.setMovement(QListWidget.Movement.Static)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setSelectionMode(QListWidget.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setIconSize(QSize(_EDGE, _EDGE))
        line = self.fontMetrics().height()
        self.setGridSize(QSize(_EDGE + 8, _EDGE + line + 8))
        self.setFixedHeight(_ROWS * self.gridSize().height() + 2)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def take(self, crops: Sequence[CropSample]) -> None:
        """Take other crops."""
        self._samples = crops
        self._pictures = [_pixmap(crop.pixels) for crop in crops]

    def frame(self, verdicts: Sequence[Verdict]) -> None:
        """Show the crops, used and sharp ones first, each with what is said of it."""
        sharpness = [crop.sharpness for crop in self._samples]
        order = sorted(
            range(len(verdicts)), key=lambda n: (verdicts[n] != "sharp", -sharpness[n])
        )
        self.clear()
        for n in order:
            used = verdicts[n] == "sharp"
            picture = _framed(self._pictures[n], _FRAMES[verdicts[n]])
            told = f"{sharpness[n]:.2f}" if used else verdicts[n]
            item = QListWidgetItem(QIcon(picture), told)
            name = Path(self._samples[n].image).name
            item.setToolTip(f"{name}\nSharpness {sharpness[n]:.3f}, {verdicts[n]}")
            item.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.addItem(item)


def _pixmap(crop: NDArray[np.float32]) -> QPixmap:
    grey = np.ascontiguousarray(np.clip(crop * 255, 0, 255).astype(np.uint8))
    height, width = grey.shape
    image = QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8)
    inner = _EDGE - 2 * _FRAME
    return QPixmap.fromImage(image).scaled(
        inner,
        inner,
        Qt.AspectRatioMode.KeepAspectRatioByExpanding,
        Qt.TransformationMode.SmoothTransformation,
    )


def _framed(picture: QPixmap, colour: str) -> QPixmap:
    framed = QPixmap(_EDGE, _EDGE)
    framed.fill(QColor(colour))
    painter = QPainter(framed)
    painter.setPen(QPen(Qt.PenStyle.NoPen))
    painter.drawPixmap(_FRAME, _FRAME, picture)
    painter.end()
    return framed
