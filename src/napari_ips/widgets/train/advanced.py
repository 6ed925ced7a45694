"""The fields of the training widget that few users need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ips.config import Config, NetworkConfig, TrainConfig
from napari_ips.widgets.fuse.notes import FieldNote, WrappedLabel
from napari_ips.widgets.fuse.surroundings import Surroundings
from napari_ips.widgets.train.tooltips import LABELS, TOOLTIPS
from napari_ips.widgets.train.values import ChoiceValue, Value, keep_from_wheel, value_for

GROUPS = {
    "Pairs": (
        "low_pass",
        "kernel_range",
        "mask_ratio",
        "coherent",
        "blob_scale",
        "both_defocused",
        "surroundings",
        "dark_border",
        "overexposed",
    ),
    "Noise": ("noise", "noise_grain", "jpeg", "intensity_jitter"),
    "Optimiser": (
        "batch_size",
        "crop_size",
        "learning_rate",
        "decay_start",
        "gradient_clip",
        "ema_decay",
        "decision_loss",
        "decision_floor",
    ),
    "Teacher": ("teacher", "teacher_share"),
    "Run": (
        "validation_crops",
        "validation_interval",
        "checkpoint_seconds",
        "seed",
        "precision",
        "device",
        "max_saturated",
        "backend",
    ),
}
_AUTOMATIC, _NO_TEACHER = ("Automatic", "auto"), ("None", None)
_AS_THE_WEIGHTS = "The network is that of the weights from which the training starts."


class AdvancedForm(QWidget):
    """Fields of `TrainConfig`, and of the network that is trained.

    Attributes
    ----------
    changed : Signal()
    reset : QPushButton
        For the values of the preset.
    notes : dict of FieldNote
        What cannot work, by the name of the setting.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, FieldNote] = {}
        self.fields: dict[str, Value] = {}
        self.network: dict[str, Value] = {}
        self._found: Surroundings | None = None
        self.reset = QPushButton("Back to the preset")
        self.reset.setToolTip(TOOLTIPS["reset"])
        self.computes_on = WrappedLabel()
        self.as_the_weights = WrappedLabel()
        self.as_the_weights.setText(_AS_THE_WEIGHTS)
        self._lay_out()
        self.set_network_enabled(True)
        keep_from_wheel(self)

    def values(self) -> dict[str, Any]:
        """Return the settings that the fields stand for, the network among them."""
        network = {name: field.get() for name, field in self.network.items()}
        return {
            **{name: field.get() for name, field in self.fields.items()},
            "network": NetworkConfig(**network),
        }

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Put settings into the fields; others among them are left out."""
        for name, field in self.fields.items():
            field.put(values[name])
        for name, field in self.network.items():
            field.put(getattr(values["network"], name))
        self._say_what_computes()

    def set_network_enabled(self, enabled: bool) -> None:
        """Let the network be chosen, or say why it cannot be."""
        self._network.setVisible(enabled)
        self.as_the_weights.setVisible(not enabled)

    def set_surroundings(self, found: Surroundings) -> None:
        """Offer devices and teachers, and say what computes."""
        self._found = found
        self._choice("teacher").offer([_NO_TEACHER, *((n, n) for n in found.weights)])
        named = [(f"{device}: {name}", device) for device, name in found.devices.items()]
        self._choice("device").offer([_AUTOMATIC, *named])
        self._say_what_computes()

    def device_problem(self) -> str:
        """Say what is wrong with the device that is chosen; "" if nothing is."""
        device = self.fields["device"].get()
        if self._found is None or device == "auto" or self._full_name():
            return ""
        return f"There is no device {device} here; choose another, or Automatic."

    def teacher_problem(self) -> str:
        """Say what is wrong with the teacher that is chosen; "" if nothing is."""
        name = self.fields["teacher"].get()
        if self._found is None or name is None or name in self._found.weights:
            return ""
        return (
            "" if Path(name).is_file() else f"There are no weights {name}; choose others."
        )

    def _choice(self, name: str) -> ChoiceValue:
        field = self.fields[name]
        assert isinstance(field, ChoiceValue)
        return field

    def _full_name(self) -> str | None:
        """Return the name of what computes, with its number; None if it is not there."""
        if self._found is None:
            return None
        device = self.fields["device"].get()
        device = self._found.automatic if device == "auto" else device
        return next((n for n in self._found.devices if n in (device, f"{device}:0")), None)

    def _say_what_computes(self) -> None:
        name = self._full_name()
        told = f"{name} ({self._found.devices[name]})" if self._found and name else ""
        self.computes_on.setText(told)
        self.computes_on.setVisible(bool(told))

    def _lay_out(self) -> None:
        form, self._network = QFormLayout(), QWidget()
        for title, names in GROUPS.items():
            form.addRow(_heading(title))
            self._add_rows(form, TrainConfig, names, self.fields)
        self._choice("device").offer([_AUTOMATIC])
        self._choice("teacher").offer([_NO_TEACHER])
        form.addRow(_heading("Network"))
        form.addRow(self.as_the_weights)
        network = QFormLayout(self._network)
        names = tuple(NetworkConfig.model_fields)
        self._add_rows(network, NetworkConfig, names, self.network)
        for rows in (form, network):
            rows.setContentsMargins(0, 0, 0, 0)
            rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
            rows.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.reset)
        layout.addLayout(form)
        layout.addWidget(self._network)

    def _add_rows(
        self,
        form: QFormLayout,
        settings: type[Config],
        names: tuple[str, ...],
        fields: dict[str, Value],
    ) -> None:
        for name in names:
            field = fields[name] = value_for(settings, name)
            field.changed.connect(self._changed)
            form.addRow(LABELS.get(name, _plain(name)), field)
            for part in (field, form.labelForField(field)):
                part.setToolTip(_tip(settings, name))
            if settings is TrainConfig:
                self.notes[name] = FieldNote()
                form.addRow(self.notes[name])
            if name == "device":
                form.addRow(self.computes_on)

    def _changed(self) -> None:
        self._say_what_computes()
        self.changed.emit()


def _heading(title: str) -> QLabel:
    return QLabel(f"<b>{title}</b>")


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _tip(settings: type[Config], name: str) -> str:
    """Return what a setting is for, and by which name files and commands know it."""
    told = TOOLTIPS.get(name) or settings.model_fields[name].description or _plain(name)
    told = told[0].upper() + told[1:].rstrip(".")
    known = name if settings is TrainConfig else f"network.{name}"
    return f"{told}. (Setting {known})"
