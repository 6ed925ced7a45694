"""The fields of the fuse widget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Widget
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QWidget,
)
from superqt import QLabeledRangeSlider

from napari_ips.config import QUALITIES, FuseConfig
from napari_ips.errors import IPSError
from napari_ips.widgets.form import Form
from napari_ips.widgets.fuse.advanced import AdvancedForm, narrow
from napari_ips.widgets.fuse.notes import FieldNote
from napari_ips.widgets.fuse.others import OtherLayers
from napari_ips.widgets.fuse.state import FuseState
from napari_ips.widgets.fuse.tooltips import TOOLTIPS
from napari_ips.widgets.fuse.weights import WeightsBox
from napari_ips.widgets.known_weights import known_weights, registry
from napari_ips.widgets.results import role_of
from napari_ips.widgets.stacks import (
    axes_of,
    axis_name,
    is_labelled,
    level_zero,
    z_axis_of,
    z_candidates,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ips.widgets.fuse.surroundings import Surroundings

_EACH = -1
_CUSTOM = "custom"


class FuseForm(Form):
    """Fields for everything that decides a fusion.

    Parameters
    ----------
    viewer : ViewerModel
    config : FuseConfig
        With which the fields begin.
    """

    def __init__(self, viewer: ViewerModel, config: FuseConfig) -> None:
        super().__init__()
        self._viewer = viewer
        self._base = config
        self._followed: Image | None = None
        self._lengths: tuple[Any, ...] = ()
        self._make_fields()
        self._lay_out()
        self._connect()
        self.set_config(config)
        self.update_layers()

    def state(self) -> FuseState:
        """Return what the fields say.

        Raises
        ------
        IPSError
            If a value is none that can be computed with.
        """
        reference = self.channels.value
        return FuseState(
            layer=self.layer.value,
            z_axis=self.z_axis.value,
            slices=self._chosen_slices(),
            others=tuple(self.others.ticked()),
            reference=None if reference in (None, _EACH) else reference,
            config=self.config(),
            output=self.advanced.output_path,
        )

    def config(self) -> FuseConfig:
        """Return the settings that the fields stand for."""
        values = self._base.model_dump() | self.advanced.values()
        values["weights"] = self.weights.value
        return FuseConfig.checked(**values)

    def set_config(self, config: FuseConfig) -> None:
        """Put settings into the fields; those that have no field are kept as well."""
        with self._at_once():
            self._base = config
            self.weights.choose(config.weights)
            self.advanced.set_values(config)
            self._update_quality()

    def set_surroundings(self, found: Surroundings) -> None:
        """Offer the weights and devices that there are."""
        with self._at_once():
            self.weights.offer(found.weights)
            self.advanced.set_devices(found)

    def _list_weights(self) -> None:
        with self._at_once():
            self.weights.offer(known_weights())

    def problems(self) -> dict[str, str]:
        """Return what cannot work, in plain words, by the name of the field."""
        try:
            found = self.state().problems()
        except IPSError as error:
            return {"quality": str(error)}
        flat = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        if self.layer.value is None and len(flat) > 1:
            found["layer"] = (
                "These are single images. If they are the slices of a stack, select them, "
                "right-click one of them and choose Merge to Stack."
            )
        found["weights"] = self.weights.problem()
        found["device"] = self.advanced.device_problem()
        return {field: told for field, told in found.items() if told}

    def show_problems(self, problems: dict[str, str]) -> None:
        """Say beside the fields what cannot work."""
        for name, note in (self._notes | self.advanced.notes).items():
            note.tell(problems.get(name, ""))

    def update_layers(self) -> None:
        """Offer the images of the viewer; the active one, if nothing was chosen yet."""
        with self._at_once():
            images = [
                layer
                for layer in self._viewer.layers
                if isinstance(layer, Image) and z_candidates(layer) and not role_of(layer)
            ]
            chosen = self.layer.value
            self.layer.choices = [(layer.name, layer) for layer in images]
            if chosen in images:
                self.layer.value = chosen
            elif (active := self._viewer.layers.selection.active) in images:
                self.layer.value = active
            elif images:
                self.layer.value = images[-1]
            if self.layer.value != chosen:
                self._take_layer()
            self._update_others()

    def _make_fields(self) -> None:
        self.layer = ComboBox(nullable=True, choices=[])
        self.z_axis = ComboBox(nullable=True, choices=[])
        self.slices = QLabeledRangeSlider(Qt.Horizontal)
        self.slices.setEdgeLabelMode(QLabeledRangeSlider.EdgeLabelMode.NoLabel)
        self.channels = ComboBox(nullable=True, choices=[])
        self.others = OtherLayers()
        self.weights = WeightsBox(self._base.weights)
        self.quality = ComboBox(
            choices=[
                ("Fast: half the time", "fast"),
                ("Balanced", "balanced"),
                ("Best: twice the time", "best"),
                ("Custom (see Advanced)", _CUSTOM),
            ],
            value="balanced",
        )
        self.advanced = AdvancedForm()
        for name in ("layer", "z_axis", "channels", "quality"):
            getattr(self, name).tooltip = TOOLTIPS[name]
        for field in (self.layer, self.z_axis, self.channels, self.weights, self.quality):
            narrow(field)
        self.slices.setToolTip(TOOLTIPS["slices"])
        self.others.setToolTip(TOOLTIPS["others"])

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)
        self._notes: dict[str, FieldNote] = {}
        self._form = form
        self._row("layer", "Stac&k", self.layer)
        self._row("z_axis", "&Z axis", self.z_axis)
        self._row("slices", "Sl&ices", self.slices)
        self._row("channels", "&Channels", self.channels)
        self._row("others", "&Also fuse", self.others)
        self._row("weights", "Wei&ghts", self.weights)
        self._row("quality", "&Quality", self.quality)

    def _row(self, name: str, label: str, field: Widget | QWidget) -> None:
        native = field.native if isinstance(field, Widget) else field
        self._form.addRow(label, native)
        told = self._form.labelForField(native)
        told.setToolTip(TOOLTIPS[name])
        told.setBuddy(native)
        self._notes[name] = FieldNote()
        self._form.addRow(self._notes[name])

    def _connect(self) -> None:
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.renamed):
            event.connect(self._layers_changed)
        registry.changed.connect(self._list_weights)
        # Viewer and layers outlive the fields.
        self.destroyed.connect(lambda _: self.forget())
        self.layer.changed.connect(self._on(self._take_layer))
        self.z_axis.changed.connect(self._on(self._update_lengths))
        self.quality.changed.connect(self._on(self._apply_quality))
        self.weights.changed.connect(self._on(self._take_weights))
        self.advanced.changed.connect(self._on(self._update_quality))
        self.channels.changed.connect(self._on(lambda: None))
        self.slices.valueChanged.connect(self._on(lambda: None))
        self.others.itemChanged.connect(self._on(lambda: None))

    def forget(self) -> None:
        """Listen to the viewer, its layers and the registry no more."""
        registry.changed.disconnect(self._list_weights, missing_ok=True)
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.renamed):
            event.disconnect(self._layers_changed)
        self._follow_axes(None)

    def _layers_changed(self) -> None:
        self.update_layers()

    def _take_layer(self) -> None:
        self._follow_axes(self.layer.value)
        self._update_z_axis()

    def _follow_axes(self, layer: Image | None) -> None:
        """Learn when the axes of a layer get other labels or lengths."""
        if self._followed is not None:
            for event in _axes_events(self._followed):
                event.disconnect(self._axes_changed)
        self._followed = layer
        if layer is not None:
            for event in _axes_events(layer):
                event.connect(self._axes_changed)

    def _axes_changed(self) -> None:
        with self._at_once():
            self._update_z_axis()

    def _update_z_axis(self) -> None:
        layer = self.layer.value
        if layer is None:
            self.z_axis.choices = []
        else:
            shape = level_zero(layer).shape
            likely, told = z_axis_of(layer), is_labelled(layer)
            self.z_axis.choices = [
                (
                    f"{axis_name(layer, n)} ({shape[n]} slices)"
                    + (", guessed" if n == likely and not told else ""),
                    n,
                )
                for n in z_candidates(layer)
            ]
            self.z_axis.value = likely
        self._update_lengths()
        self._update_others()

    def _update_lengths(self) -> None:
        """Offer the slices and channels that the layer has along and beside its z axis."""
        layer, z_axis = self.layer.value, self.z_axis.value
        known = layer is not None and z_axis is not None
        count = level_zero(layer).shape[z_axis] if known else 1
        channels = 1
        if known:
            axes = axes_of(layer, z_axis) if layer.ndim <= 5 else ""
            if "C" in axes:
                channels = level_zero(layer).shape[axes.index("C")]
        lengths = layer, z_axis, count, channels
        if lengths == self._lengths:
            return
        self._lengths = lengths
        self.slices.setRange(0, max(count - 1, 1))
        self.slices.setValue((0, max(count - 1, 1)))
        self.slices.setEnabled(count > 2)
        self.channels.choices = [
            ("Each decides for itself", _EACH),
            *((f"Channel {n} decides for all", n) for n in range(channels)),
        ]
        self.channels.value = _EACH
        self._show("channels", self.channels.native, channels > 1)

    def _update_others(self) -> None:
        self.others.offer(self.layer.value, self._viewer.layers)
        self._show("others", self.others, self.others.count() > 0)

    def _show(self, name: str, field: QWidget, shown: bool) -> None:
        self._form.setRowVisible(field, shown)
        if not shown:
            self._notes[name].tell("")

    def _chosen_slices(self) -> tuple[int, int]:
        first, last = self.slices.value()
        return int(first), int(last) + 1

    def _take_weights(self) -> None:
        self.weights.follow()
        self._update_quality()

    def _apply_quality(self) -> None:
        if self.quality.value in QUALITIES:
            chosen = self.config().changed({}, self.quality.value)
            self.weights.choose(chosen.weights)
            self.advanced.set_values(chosen)

    def _update_quality(self) -> None:
        try:
            self.quality.value = self.config().quality or _CUSTOM
        except IPSError:
            self.quality.value = _CUSTOM


def _axes_events(layer: Image) -> tuple[Any, ...]:
    return layer.events.axis_labels, layer.events.data
