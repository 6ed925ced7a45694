"""A list of layers to tick: channels that are fused along with a z-stack."""

from __future__ import annotations

from collections.abc import Iterable

from napari.layers import Image, Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_ips.widgets.results import role_of
from napari_ips.widgets.stacks import fits

_ROWS = 3


class OtherLayers(QListWidget):
    """The layers that fit a z-stack; those that are ticked follow its decision."""

    def offer(self, stack: Image | None, layers: Iterable[Layer]) -> None:
        """Offer what fits the stack; what was ticked stays so."""
        ticked = self.ticked()
        self.clear()
        for layer in layers:
            if stack is None or not isinstance(layer, Image) or role_of(layer):
                continue
            if fits(stack, layer):
                self._add(layer, layer in ticked)
        rows = min(_ROWS, self.count())
        self.setFixedHeight(rows * max(18, self.sizeHintForRow(0)) + 6)

    def ticked(self) -> list[Image]:
        """Return the layers that are ticked."""
        items = [self.item(n) for n in range(self.count())]
        return [i.data(Qt.UserRole) for i in items if i.checkState() == Qt.Checked]

    def _add(self, layer: Image, ticked: bool) -> None:
        item = QListWidgetItem(layer.name)
        item.setData(Qt.UserRole, layer)
        item.setFlags(item.flags() | Qt.ItemIsUserCheckable)
        item.setCheckState(Qt.Checked if ticked else Qt.Unchecked)
        self.addItem(item)
