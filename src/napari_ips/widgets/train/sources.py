"""The images of a training: layers, files and folders, to be ticked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledRangeSlider

from napari_ips.widgets.results import role_of
from napari_ips.widgets.stacks import (
    axis_name,
    is_labelled,
    level_zero,
    z_axis_of,
    z_candidates,
)
from napari_ips.widgets.train.layers import LayerSource, Method
from napari_ips.widgets.train.source_list import SourceList
from napari_ips.widgets.train.tooltips import TOOLTIPS

if TYPE_CHECKING:
    from napari.components import ViewerModel

_ROWS = 5
_FILES = "Images (*.tif *.tiff *.png *.jpg *.jpeg);;All files (*)"


@dataclass
class _Use:
    """How a layer is used: its z axis, and its slices (None: all)."""

    shape: tuple[int, ...]
    z_axis: int | None
    slices: tuple[int, int] | None = None


class ImageSources(QWidget):
    """Everything that can be trained on, and how stacks among it are read.

    Parameters
    ----------
    viewer : ViewerModel

    Attributes
    ----------
    changed : Signal()
        Something else is ticked, or is read in another way.
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._uses: dict[Image, _Use] = {}
        self.list = SourceList()
        self.add_folder = QPushButton("Add folder…")
        self.add_files = QPushButton("Add files…")
        self.remove = QPushButton("Remove")
        self.z_axis = QComboBox()
        self.slices = QLabeledRangeSlider(Qt.Orientation.Horizontal)
        self._lay_out()
        self._connect()
        self.update_layers()

    def layers(self, method: Method) -> tuple[LayerSource, ...]:
        """Return the layers that are ticked; of stacks is taken what `method` says."""
        ticked = [item for item in self.list.ticked() if isinstance(item, Image)]
        uses = [(layer, self._uses[layer]) for layer in ticked]
        return tuple(
            LayerSource(layer, use.z_axis, use.slices, method) for layer, use in uses
        )

    def paths(self) -> tuple[Path, ...]:
        """Return the files and folders that are ticked."""
        return tuple(item for item in self.list.ticked() if isinstance(item, Path))

    def add_paths(self, paths: Iterable[Path]) -> None:
        """Add files and folders that are not listed yet, ticked."""
        for path in paths:
            if path not in self.list.sources():
                self.list.add(path, _path_text(path), str(path), True)
        self._settle()

    def set_paths(self, paths: Iterable[Path]) -> None:
        """List these files and folders in place of those that were."""
        self.list.drop([item for item in self.list.sources() if isinstance(item, Path)])
        self.add_paths(paths)

    def remove_selected(self) -> None:
        """Take files and folders from the list; layers stay in the viewer and here."""
        chosen = [item.data(Qt.ItemDataRole.UserRole) for item in self.list.selectedItems()]
        self.list.drop([source for source in chosen if isinstance(source, Path)])
        self._settle()

    def update_layers(self) -> None:
        """List the images of the viewer; those that are new are ticked, results not."""
        ticked, known = self.list.ticked(), self.list.sources()
        current, paths = self.list.current(), [s for s in known if isinstance(s, Path)]
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        self._follow(images)
        self.list.blockSignals(True)
        self.list.clear()
        for layer in images:
            chosen = layer in ticked if layer in known else role_of(layer) is None
            self.list.add(layer, _layer_text(layer), layer.name, chosen)
        for path in paths:
            self.list.add(path, _path_text(path), str(path), path in ticked)
        self.list.choose(current)
        self.list.blockSignals(False)
        self._settle()

    def forget(self) -> None:
        """Listen to the viewer and its layers no more."""
        for event in _list_events(self._viewer):
            event.disconnect(self._layers_changed)
        self._follow([])

    def _lay_out(self) -> None:
        self.list.setToolTip(TOOLTIPS["images"])
        buttons = QHBoxLayout()
        for button in (self.add_folder, self.add_files, self.remove):
            buttons.addWidget(button)
        self.z_axis.setToolTip(TOOLTIPS["z_axis"])
        self.z_axis.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.z_axis.setMinimumContentsLength(8)
        self.slices.setEdgeLabelMode(QLabeledRangeSlider.EdgeLabelMode.NoLabel)
        self.slices.setToolTip(TOOLTIPS["slices"])
        self._details = QWidget()
        form = QFormLayout(self._details)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("&Z axis", self.z_axis)
        form.addRow("Sl&ices", self.slices)
        self._form = form
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list)
        layout.addLayout(buttons)
        layout.addWidget(self._details)

    def _connect(self) -> None:
        for event in _list_events(self._viewer):
            event.connect(self._layers_changed)
        # Viewer and layers outlive the fields.
        self.destroyed.connect(lambda _: self.forget())
        self.list.itemChanged.connect(lambda _: self.changed.emit())
        self.list.itemSelectionChanged.connect(self._show_details)
        self.list.dropped.connect(self.add_paths)
        self.list.removal_asked.connect(self.remove_selected)
        self.add_folder.clicked.connect(self._ask_folder)
        self.add_files.clicked.connect(self._ask_files)
        self.remove.clicked.connect(self.remove_selected)
        self.z_axis.currentIndexChanged.connect(self._take_z_axis)
        self.slices.valueChanged.connect(self._take_slices)

    def _layers_changed(self) -> None:
        self.update_layers()

    def _axes_changed(self) -> None:
        self.update_layers()

    def _follow(self, images: list[Image]) -> None:
        """Keep how each image is used, unless its axes are others now."""
        for layer in self._uses:
            if layer not in images:
                for event in _axes_events(layer):
                    event.disconnect(self._axes_changed)
        for layer in images:
            if layer not in self._uses:
                for event in _axes_events(layer):
                    event.connect(self._axes_changed)
        before, self._uses = self._uses, {}
        for layer in images:
            shape = (*level_zero(layer).shape, *layer.axis_labels)
            use = before.get(layer)
            same = use is not None and use.shape == shape
            self._uses[layer] = use if use and same else _Use(shape, z_axis_of(layer))

    def _settle(self) -> None:
        self.list.fit(_ROWS)
        if self.list.current() is None:
            stacks = [s for s in self.list.ticked() if isinstance(s, Image) and s.ndim > 2]
            self.list.choose(stacks[0] if stacks else None)
        self._show_details()
        self.changed.emit()

    def _show_details(self) -> None:
        """Show how the layer that is selected is used, if there is a choice."""
        layer = self.list.current()
        self.remove.setEnabled(isinstance(layer, Path))
        stack = isinstance(layer, Image) and bool(z_candidates(layer))
        self._details.setVisible(stack)
        if not stack:
            return
        for field in (self.z_axis, self.slices):
            field.blockSignals(True)
        use, shape = self._uses[layer], level_zero(layer).shape
        self.z_axis.clear()
        for axis in z_candidates(layer):
            guessed = axis == z_axis_of(layer) and not is_labelled(layer)
            told = f"{axis_name(layer, axis)} ({shape[axis]} slices)"
            self.z_axis.addItem(told + (", guessed" if guessed else ""), axis)
        self.z_axis.addItem("None: separate images", None)
        self.z_axis.setCurrentIndex(self.z_axis.findData(use.z_axis))
        count = 1 if use.z_axis is None else shape[use.z_axis]
        self.slices.setRange(0, max(count - 1, 1))
        first, end = use.slices or (0, count)
        self.slices.setValue((first, max(end - 1, 1) if count < 2 else end - 1))
        self._form.setRowVisible(self.slices, count > 1)
        for field in (self.z_axis, self.slices):
            field.blockSignals(False)

    def _take_z_axis(self) -> None:
        use = self._uses[self.list.current()]
        use.z_axis, use.slices = self.z_axis.currentData(), None
        self._show_details()
        self.changed.emit()

    def _take_slices(self, chosen: tuple[int, int]) -> None:
        first, last = (int(n) for n in chosen)
        self._uses[self.list.current()].slices = (first, last + 1)
        self.changed.emit()

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of images in focus")
        if folder:
            self.add_paths([Path(folder)])

    def _ask_files(self) -> None:
        files, _ = QFileDialog.getOpenFileNames(self, "Images in focus", "", _FILES)
        if files:
            self.add_paths(map(Path, files))


def _layer_text(layer: Image) -> str:
    shape = level_zero(layer).shape
    axis = z_axis_of(layer)
    told = "" if axis is None else f", {shape[axis]} slices"
    return f"{layer.name} (layer{told})"


def _path_text(path: Path) -> str:
    # With the folder it is in, for names such as image.tif are common.
    name = "/".join(path.parts[-2:]) if len(path.parts) > 2 else str(path)
    return f"{name}/ (folder)" if path.is_dir() else name


def _list_events(viewer: ViewerModel) -> tuple[Any, ...]:
    events = viewer.layers.events
    return events.inserted, events.removed, events.renamed


def _axes_events(layer: Image) -> tuple[Any, ...]:
    return layer.events.axis_labels, layer.events.data
