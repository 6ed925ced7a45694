"""The fields of the training widget."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit, QWidget

from napari_ips.config import PRESETS, TrainConfig
from napari_ips.events import Progress
from napari_ips.widgets.form import Form
from napari_ips.widgets.fuse.advanced import narrow
from napari_ips.widgets.fuse.notes import FieldNote
from napari_ips.widgets.fuse.weights import WeightsBox
from napari_ips.widgets.train.advanced import AdvancedForm
from napari_ips.widgets.train.contact_sheet import ContactSheet
from napari_ips.widgets.train.estimate import EstimateRow
from napari_ips.widgets.train.inquiry import Inquiry
from napari_ips.widgets.train.preferences import remembered
from napari_ips.widgets.train.sources import ImageSources
from napari_ips.widgets.train.state import TrainState, preset_values
from napari_ips.widgets.train.surveys import decisive, survey
from napari_ips.widgets.train.tooltips import TOOLTIPS
from napari_ips.widgets.train.values import ChoiceValue, NumberValue, keep_from_wheel

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ips.training.survey import ImageSurvey
    from napari_ips.widgets.fuse.surroundings import Surroundings

_SCRATCH = ""
_TITLE = "my-weights"
_PATIENCE = 0.5  # seconds
_STACKS = [
    ("All sharp slices", "slices"),
    ("Sharpest slice of each tile", "best"),
    ("Fuse first", "fused"),
]
_PRESETS = {"microscopy": "Microscopy", "paper": "As in the paper"}


class TrainForm(Form):
    """Fields for everything that decides a training.

    Parameters
    ----------
    viewer : ViewerModel
    config : TrainConfig, optional
        With which the fields begin; by default as the last run.

    Attributes
    ----------
    changed : Signal()
        Some field has another value.
    advanced : AdvancedForm
        Fields that few need, to be shown elsewhere.
    found : ContactSheet
        What is in the images.
    estimate : EstimateRow
        How long it would take.
    """

    def __init__(self, viewer: ViewerModel, config: TrainConfig | None = None) -> None:
        super().__init__()
        self._known: Surroundings | None = None
        self._surveyed: tuple[Any, ...] = ()
        self._make_fields(viewer)
        self._lay_out()
        self._connect()
        keep_from_wheel(self)
        self.set_values(config or remembered())

    def state(self) -> TrainState:
        """Return what the fields say."""
        method = self.z_stacks.get()
        return TrainState(
            layers=self.sources.layers(method),
            paths=self.sources.paths(),
            title=self.title.text().strip(),
            values=self.values(),
        )

    def values(self) -> dict[str, Any]:
        """Return the settings that the fields stand for, but images and output."""
        start = self.start_from.value
        values = {
            **self.advanced.values(),
            "preset": self.preset.get(),
            "notes": self.notes.text().strip(),
            "start_from": start or None,
            "z_stacks": self.z_stacks.get(),
            "min_sharpness": self.found.min_sharpness,
            "minutes": None,
            "iterations": None,
        }
        values[self.unit.get()] = self._length.get()
        if start != _SCRATCH:
            # They bring their own.
            del values["network"]
        return values

    def set_values(self, config: TrainConfig) -> None:
        """Put settings into the fields, and the images if there are any."""
        with self._at_once():
            self.preset.put(config.preset)
            self.start_from.choose(config.start_from or _SCRATCH)
            self._base = self._preset_values()
            self._put(config.model_dump() | {"network": config.network})
            self.z_stacks.put(config.z_stacks)
            self.notes.setText(config.notes)
            unit = "minutes" if config.minutes is not None else "iterations"
            self.unit.put(unit)
            self._take_unit()
            self._length.put(getattr(config, unit))
            if config.images:
                self.sources.set_paths(config.images)

    def set_surroundings(self, found: Surroundings) -> None:
        """Offer the weights and devices that there are."""
        with self._at_once():
            self._known = found
            self.start_from.offer(found.weights)
            self.advanced.set_surroundings(found)
            if not self.title.isModified():
                self.title.setText(_free(_TITLE, found.weights))

    def problems(self) -> dict[str, str]:
        """Return what cannot work, in plain words, by the name of the field."""
        found = self.state().problems(names=self._known is not None)
        found["start_from"] = self.start_from.problem()
        found["found"] = "" if "images" in found else self.found.problem
        found["teacher"] = self.advanced.teacher_problem()
        found["device"] = self.advanced.device_problem()
        return {field: told for field, told in found.items() if told}

    def show_problems(self, problems: dict[str, str]) -> None:
        """Say beside the fields what cannot work."""
        notes = self._notes | self.advanced.notes
        for name, note in notes.items():
            note.tell(problems.get(name, ""))
        for name in problems.keys() - notes.keys():
            self._notes["preset"].tell(problems[name])

    def forget(self) -> None:
        """Listen to the viewer no more, and look into nothing."""
        self.sources.forget()
        self._survey.cancel()
        self.estimate.drop()

    def _make_fields(self, viewer: ViewerModel) -> None:
        self.sources = ImageSources(viewer)
        self.z_stacks = ChoiceValue(())
        self.z_stacks.offer(_STACKS)
        self.found = ContactSheet()
        self.start_from = WeightsBox("default", {_SCRATCH: "From scratch"})
        self.preset = ChoiceValue(())
        self.preset.offer([(_PRESETS.get(name, name), name) for name in PRESETS])
        self._minutes = NumberValue(False, 0.1, 1e5)
        self._steps = NumberValue(True, 1, 1e9)
        self.unit = ChoiceValue(())
        self.unit.offer([("minutes", "minutes"), ("steps", "iterations")])
        self.title, self.notes = QLineEdit(_TITLE), QLineEdit()
        self.notes.setPlaceholderText("stain, objective, camera")
        self.estimate = EstimateRow()
        self.advanced = AdvancedForm()
        self._survey = Inquiry(self, _PATIENCE)
        self._minutes.put(10.0)
        self._steps.put(2000)
        narrow(self.start_from)
        self.start_from.tip = TOOLTIPS["start_from"]

    @property
    def _length(self) -> NumberValue:
        return self._minutes if self.unit.get() == "minutes" else self._steps

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form = form
        self._notes: dict[str, FieldNote] = {}
        form.addRow(self.sources)
        self._note("images")
        self._row("z_stacks", "Of stac&ks", self.z_stacks)
        form.addRow(self.found)
        self._notes["found"] = self.found.note
        self._row("start_from", "Start &from", self.start_from.native)
        self._row("preset", "&Preset", self.preset)
        self._row("length", "&Length", _beside(self._minutes, self._steps, self.unit))
        self._row("title", "Na&me", self.title)
        self._row("notes", "N&otes", self.notes)
        form.addRow(self.estimate)

    def _row(self, name: str, label: str, field: QWidget) -> None:
        self._form.addRow(label, field)
        told = self._form.labelForField(field)
        for part in (field, told):
            part.setToolTip(TOOLTIPS[name])
        told.setBuddy(field)
        self._note(name)

    def _note(self, name: str) -> None:
        self._notes[name] = FieldNote()
        self._form.addRow(self._notes[name])

    def _connect(self) -> None:
        nothing = self._on(lambda: None)
        for field in (self._minutes, self._steps, self.z_stacks, self.advanced):
            field.changed.connect(nothing)
        self.sources.changed.connect(nothing)
        self.title.textEdited.connect(nothing)
        self.notes.editingFinished.connect(nothing)
        self.found.threshold_changed.connect(nothing)
        self.unit.changed.connect(self._on(self._take_unit))
        self.preset.changed.connect(self._on(self._take_preset))
        self.start_from.changed.connect(self._on(self._take_start))
        self.advanced.reset.clicked.connect(self._on(self._reset))
        self.estimate.asked.connect(lambda: self.estimate.ask(self.state()))
        self._survey.answered.connect(self._show_survey)
        self._survey.failed.connect(self._fail_survey)
        self._survey.progressed.connect(lambda p: self.found.tell(_looking(p)))

    def _take_unit(self) -> None:
        for field in (self._minutes, self._steps):
            field.setVisible(field is self._length)

    def _take_start(self) -> None:
        self.start_from.follow()
        self._take_preset()

    def _take_preset(self) -> None:
        """Take the values of the preset, but for those that the user changed."""
        values = self.values()
        own = {
            name: values[name]
            for name in self._base.keys() & values.keys()
            if values[name] != self._base[name]
        }
        self._base = self._preset_values()
        self._put(self._base | own)

    def _reset(self) -> None:
        self._put(self._base)

    def _preset_values(self) -> dict[str, Any]:
        preset = self.preset.get()
        known = preset if preset in PRESETS else "microscopy"
        return preset_values(known, self.start_from.value != _SCRATCH)

    def _put(self, values: Mapping[str, Any]) -> None:
        self.advanced.set_values(values)
        self.found.set_min_sharpness(values["min_sharpness"])

    def _follow(self) -> None:
        """Let other fields follow a change, and look into what is found then."""
        self.advanced.set_network_enabled(self.start_from.value == _SCRATCH)
        state = self.state()
        stacks = any(s.z_axis is not None for s in state.layers) or bool(state.paths)
        self._form.setRowVisible(self.z_stacks, stacks)
        self.found.set_max_saturated(state.values["max_saturated"])
        self._ask_survey(state)
        self.estimate.follow(state)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look at what has changed meanwhile."""
        super().showEvent(event)
        self._ask_survey(self.state())

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Leave the processor to others, such as a training."""
        super().hideEvent(event)
        # Of a window that is minimised everything goes on.
        if event is not None and not event.spontaneous():
            if self._survey.busy:
                self._survey.cancel()
                self._surveyed = ()
            if self.estimate.busy:
                self.estimate.drop()

    def _ask_survey(self, state: TrainState) -> None:
        """Look at the images anew, if they, or what is made of them, have changed."""
        if not self.isVisible():
            return
        asked = decisive(state)
        if asked == self._surveyed:
            return
        self._surveyed = asked
        if not state.layers and not state.paths:
            self._survey.cancel()
            self.found.clear()
            return
        self.found.look_again("Looking at the images…")
        self._survey.ask(lambda stop, callback: survey(state, stop, callback))

    def _show_survey(self, found: ImageSurvey) -> None:
        self.found.show_survey(found)
        self.changed.emit()

    def _fail_survey(self, told: str) -> None:
        self.found.clear(problem=told)
        self.changed.emit()


def _looking(progress: Progress) -> str:
    return f"Looking at the images… {progress.done} of {progress.total}"


def _free(title: str, taken: Mapping[str, str]) -> str:
    """Return a name that nothing has yet."""
    numbered = (f"{title}-{n}" for n in count(2))
    return next(name for name in chain([title], numbered) if name not in taken)


def _beside(*fields: QWidget) -> QWidget:
    both = QWidget()
    row = QHBoxLayout(both)
    row.setContentsMargins(0, 0, 0, 0)
    for field in fields:
        row.addWidget(field)
    return both
