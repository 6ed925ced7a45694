"""The dialog that manages weights: what they are, and to hand them on, or delete them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QSplitter,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_ips.errors import IPSError
from napari_ips.widgets.known_weights import registry
from napari_ips.widgets.train.finish import KINDS, SUFFIX, NotesField

if TYPE_CHECKING:
    from napari_ips.weights import WeightsInfo

_SIZE = 720, 440
_BUNDLED = "These came with napari-ips and stay as they are."


def manage_weights(parent: QWidget | None) -> WeightsManager:
    """Open the dialog beside the window, which stays usable."""
    dialog = WeightsManager(parent)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.show()
    return dialog


class WeightsManager(QDialog):
    """Lists all registered weights with their cards."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Weights of napari-ips")
        self.resize(*_SIZE)
        self._infos: dict[str, WeightsInfo] = {}
        self._build()
        registry.changed.connect(self.fill)
        self.destroyed.connect(
            lambda: registry.changed.disconnect(self.fill, missing_ok=True)
        )
        self.fill()

    @property
    def chosen(self) -> WeightsInfo | None:
        """The weights that are selected."""
        item = self.names.currentItem()
        return self._infos.get(item.text()) if item is not None else None

    def choose(self, name: str) -> None:
        """Select weights by their name."""
        for item in self.names.findItems(name, Qt.MatchFlag.MatchExactly):
            self.names.setCurrentItem(item)

    def fill(self) -> None:
        """List the weights anew; what was selected, and is being written, stays so."""
        from napari_ips.weights import list_weights

        before, written = self.chosen, self.notes.toPlainText()
        unsaved = self._notes_changed(before)
        self._infos = {info.name: info for info in list_weights()}
        self.names.blockSignals(True)
        self.names.clear()
        for info in self._infos.values():
            item = QListWidgetItem(info.name)
            item.setToolTip(str(info.path))
            self.names.addItem(item)
        self.names.setCurrentRow(0)
        if before is not None:
            self.choose(before.name)
        self.names.blockSignals(False)
        self._show()
        same = before is not None and before.name in self._infos
        if unsaved and same:
            self.notes.setPlainText(written)

    def closeEvent(self, event: object) -> None:
        """Keep notes that were written but not saved."""
        self._keep_notes()
        super().closeEvent(event)

    def _build(self) -> None:
        self.names = QListWidget()
        self.names.currentItemChanged.connect(self._on_chosen)
        self.card = QTextBrowser()
        self.notes = NotesField()
        self.save_notes = QPushButton("Save &notes")
        self.save_notes.clicked.connect(self._keep_notes)
        self.notes.textChanged.connect(self._check_notes)
        self.about = QLabel()
        self.about.setWordWrap(True)
        right = QWidget()
        column = QVBoxLayout(right)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.card, stretch=1)
        column.addWidget(self.about)
        column.addWidget(self.notes)
        column.addWidget(self.save_notes, alignment=Qt.AlignmentFlag.AlignRight)
        both = QSplitter()
        both.addWidget(self.names)
        both.addWidget(right)
        both.setStretchFactor(1, 1)
        both.setSizes([_SIZE[0] // 3, 2 * _SIZE[0] // 3])
        buttons = QHBoxLayout()
        self.import_ = self._button(buttons, "&Import…", self._import)
        self.export = self._button(buttons, "&Export…", self._export)
        self.rename = self._button(buttons, "&Rename…", self._rename)
        self.delete = self._button(buttons, "&Delete…", self._delete)
        buttons.addStretch()
        self.done = self._button(buttons, "&Close", self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(both, stretch=1)
        layout.addLayout(buttons)

    def _button(self, row: QHBoxLayout, text: str, do: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setAutoDefault(False)
        button.clicked.connect(lambda: do())
        row.addWidget(button)
        return button

    def _on_chosen(self, _: object, before: QListWidgetItem | None) -> None:
        if before is not None:
            self._keep_notes(self._infos.get(before.text()))
        self._show()

    def _show(self) -> None:
        from napari_ips.cards import describe_card

        info = self.chosen
        own = info is not None and not info.bundled
        self.export.setEnabled(info is not None)
        for part in (self.rename, self.delete, self.notes, self.save_notes):
            part.setEnabled(own)
        if info is None:
            return
        told = {k: v for k, v in info.card.items() if k != "notes"}
        lines = [line.partition(": ") for line in describe_card(told).splitlines()]
        rows = "".join(
            f"<tr><td style='padding-right: 12px'><b>{escape(subject)}</b></td>"
            f"<td>{escape(words)}</td></tr>"
            for subject, _, words in lines
        )
        self.card.setHtml(f"<h3>{escape(info.name)}</h3><table>{rows}</table>")
        self.about.setText(_BUNDLED if info.bundled else "Notes")
        self.notes.setVisible(own)
        self.save_notes.setVisible(own)
        self.notes.setPlainText(info.card.get("notes", ""))
        self._check_notes()

    def _check_notes(self) -> None:
        self.save_notes.setEnabled(self._notes_changed(self.chosen))

    def _notes_changed(self, info: WeightsInfo | None) -> bool:
        written = self.notes.toPlainText().strip()
        return (
            info is not None and not info.bundled and written != info.card.get("notes", "")
        )

    def _keep_notes(self, info: WeightsInfo | None = None) -> None:
        from napari_ips.registry import set_notes

        info = info or self.chosen
        if info is not None and self._notes_changed(info):
            notes = self.notes.toPlainText()
            self._change(lambda: set_notes(info.name, notes), select=False)

    def _import(self) -> None:
        from napari_ips.registry import import_weights

        path, _ = QFileDialog.getOpenFileName(self, "Import weights", "", KINDS)
        if path:
            self._change(lambda: import_weights(Path(path)))

    def _export(self) -> None:
        from napari_ips.registry import export_weights

        info = self.chosen
        assert info is not None, "else the button is disabled"
        path, _ = QFileDialog.getSaveFileName(
            self, "Export weights", f"{info.name}{SUFFIX}", KINDS
        )
        if not path:
            return
        typed = path.lower().endswith(SUFFIX)
        try:
            # The dialog asked before it let another file be chosen.
            target = Path(path if typed else path + SUFFIX)
            export_weights(info.name, target, overwrite=typed)
        except IPSError as error:
            show_error(str(error))
            return
        show_info(f"Exported to {target}.")

    def _rename(self) -> None:
        from napari_ips.registry import rename_weights

        info = self.chosen
        assert info is not None, "else the button is disabled"
        name, accepted = QInputDialog.getText(
            self, "Rename weights", "New name", text=info.name
        )
        if accepted and name.strip() != info.name:
            self._change(lambda: rename_weights(info.name, name.strip()))

    def _delete(self) -> None:
        from napari_ips.registry import delete_weights

        info = self.chosen
        assert info is not None, "else the button is disabled"
        if ask(self, f"Delete the weights {info.name} for good?"):
            self._change(lambda: delete_weights(info.name))

    def _change(
        self, change: Callable[[], WeightsInfo | None], select: bool = True
    ) -> None:
        """Change the registry, tell all docks, and select what was changed."""
        try:
            info = change()
        except IPSError as error:
            show_error(str(error))
            return
        registry.changed.emit()
        if info is not None and select:
            self.choose(info.name)


def ask(parent: QWidget, question: str) -> bool:
    """Ask before something is deleted."""
    yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
    return bool(QMessageBox.question(parent, "napari-ips", question, yes | no, no) == yes)
