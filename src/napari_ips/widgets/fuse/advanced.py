"""The fields of the fuse widget that few users need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QWidget,
)

from napari_ips.config import FuseConfig
from napari_ips.widgets.fuse.notes import FieldNote, WrappedLabel
from napari_ips.widgets.fuse.surroundings import Surroundings
from napari_ips.widgets.fuse.tooltips import TOOLTIPS

_MEMORY, _FILE = "memory", "file"


class AdvancedForm(QWidget):
    """Fields of `FuseConfig`, and where the result goes.

    Attributes
    ----------
    changed : Signal()
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._device = "auto"
        self.mode = _combo(
            "mode",
            ("Blend (less noise)", "soft"),
            ("Select (as recorded)", "hard"),
        )
        self.auto_smoothing = CheckBox(text="from the noise", value=True)
        self.smoothing = FloatSpinBox(min=0.1, max=50, step=0.5, value=2)
        self.smoothing.native.setMinimumWidth(80)
        self.finest = _combo("finest", ("Full resolution", 1), ("Half resolution", 2))
        self.both_orders = CheckBox(text="Compare in both orders")
        self.skip = CheckBox(text="Skip blurred slices")
        sizes = [(f"{n} pixels", n) for n in (256, 512, 1024, 2048, 4096)]
        self.tile = _combo("tile", ("Automatic", "auto"), *sizes)
        self.precision = _combo(
            "precision",
            ("32 bits", "float32"),
            ("bfloat16 (GPU)", "bfloat16"),
            ("float16 (GPU)", "float16"),
        )
        self.device = _combo("device", ("Automatic", "auto"))
        self.computes_on = WrappedLabel()
        self.output = _combo("output", ("In memory", _MEMORY), ("OME-Zarr folder", _FILE))
        self.path = QLineEdit()
        self.browse = QPushButton("…")
        self.notes = {"device": FieldNote(), "output": FieldNote()}
        self._found: Surroundings | None = None
        self._backend = "auto"
        self._given = (0.0, 0.0)
        self._lay_out()
        self._connect()

    @property
    def output_path(self) -> Path | None:
        """The OME-Zarr to write; None: the result is kept in memory."""
        if self.output.value == _MEMORY:
            return None
        return Path(self.path.text().strip()).expanduser()

    def device_problem(self) -> str:
        """Say what is wrong with the device that is chosen; "" if nothing is."""
        device = self.device.value
        if self._found is None or device == "auto" or self._full_name(device):
            return ""
        return f"There is no device {device} here; choose another, or Automatic."

    def values(self) -> dict[str, Any]:
        """Return the settings that the fields stand for."""
        return {
            "mode": self.mode.value,
            "smoothing": None if self.auto_smoothing.value else self._exact_smoothing(),
            "finest": self.finest.value,
            "both_orders": self.both_orders.value,
            "skip": self.skip.value,
            "tile": self.tile.value,
            "precision": self.precision.value,
            "device": self.device.value,
        }

    def set_values(self, config: FuseConfig) -> None:
        """Put settings into the fields."""
        for name in ("mode", "finest", "both_orders", "skip", "tile", "precision"):
            getattr(self, name).value = getattr(config, name)
        self.auto_smoothing.value = config.smoothing is None
        if config.smoothing is not None:
            # The field rounds; what was given stays until the user changes it.
            self.smoothing.value = max(config.smoothing, self.smoothing.min)
            self._given = self.smoothing.value, config.smoothing
        if config.device not in self.device.choices:
            self.device.choices = [*self._devices(), (config.device, config.device)]
        self.device.value = config.device
        self._backend = config.backend
        self._say_what_computes()

    def _exact_smoothing(self) -> float:
        shown, given = self._given
        return given if self.smoothing.value == shown else float(self.smoothing.value)

    def set_devices(self, found: Surroundings) -> None:
        """Offer devices, and say what computes."""
        self._found, devices = found, found.devices
        chosen = self.device.value
        offered = [("Automatic", "auto"), *((f"{d}: {n}", d) for d, n in devices.items())]
        if chosen != "auto" and chosen not in devices:
            offered.append((chosen, chosen))
        self.device.choices = offered
        self.device.value = chosen
        self._say_what_computes()

    def _full_name(self, device: str) -> str | None:
        """Return the name of a device with its number; None if it is not there."""
        names = self._found.devices if self._found else {}
        return next((name for name in names if name in (device, f"{device}:0")), None)

    def _say_what_computes(self) -> None:
        if self._found is None:
            return
        chosen = self.device.value
        device = self._found.automatic if chosen == "auto" else self._full_name(chosen)
        if device is None:
            self.computes_on.setText("")
            return
        scan = self._backend if self._backend != "auto" else self._found.scans[device]
        self.computes_on.setText(
            f"{device} ({self._found.devices[device]}), scan by {scan}"
        )

    def _devices(self) -> list[tuple[str, str]]:
        texts = [self.device.native.itemText(n) for n in range(self.device.native.count())]
        return list(zip(texts, self.device.choices, strict=True))

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)
        form.addRow("&Decision", self.mode.native)
        form.addRow("S&moothing", _side_by_side(self.auto_smoothing, self.smoothing))
        form.addRow("De&tail", self.finest.native)
        form.addRow("", self.both_orders.native)
        form.addRow("", self.skip.native)
        form.addRow("Tile&s", self.tile.native)
        form.addRow("P&recision", self.precision.native)
        form.addRow("D&evice", self.device.native)
        form.addRow(self.notes["device"])
        form.addRow(self.computes_on)
        form.addRow("Res&ult", self.output.native)
        place = QHBoxLayout()
        place.addWidget(self.path)
        place.addWidget(self.browse)
        self.browse.setFixedWidth(28)
        self._place = QWidget()
        self._place.setLayout(place)
        place.setContentsMargins(0, 0, 0, 0)
        form.addRow(self._place)
        form.addRow(self.notes["output"])
        for name in ("auto_smoothing", "smoothing", "both_orders", "skip"):
            getattr(self, name).tooltip = TOOLTIPS[name]
        self.path.setPlaceholderText("fused.ome.zarr")
        self.path.setToolTip(TOOLTIPS["path"])
        self.browse.setToolTip(TOOLTIPS["path"])
        self._follow()

    def _connect(self) -> None:
        for field in (
            self.mode,
            self.auto_smoothing,
            self.smoothing,
            self.finest,
            self.both_orders,
            self.skip,
            self.tile,
            self.precision,
            self.device,
            self.output,
        ):
            field.changed.connect(self._changed)
        self.path.editingFinished.connect(self._changed)
        self.browse.clicked.connect(self._choose_path)

    def _changed(self, *_: object) -> None:
        self._follow()
        self.changed.emit()

    def _follow(self) -> None:
        self.smoothing.enabled = not self.auto_smoothing.value
        self._place.setVisible(self.output.value == _FILE)
        self._say_what_computes()

    def _choose_path(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Folder for the result", "fused.ome.zarr", "OME-Zarr (*.ome.zarr)"
        )
        if path:
            self.path.setText(path if path.endswith(".zarr") else f"{path}.ome.zarr")
            self._changed()


def _combo(name: str, *choices: tuple[str, Any]) -> ComboBox:
    field = ComboBox(choices=list(choices), tooltip=TOOLTIPS[name])
    narrow(field)
    return field


def narrow(field: ComboBox) -> None:
    """Let a dock be narrower than the longest choice of a field."""
    field.native.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
    field.native.setMinimumContentsLength(8)


def _side_by_side(first: Any, second: Any) -> QWidget:
    both = QWidget()
    row = QHBoxLayout(both)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(first.native)
    row.addWidget(second.native)
    return both
