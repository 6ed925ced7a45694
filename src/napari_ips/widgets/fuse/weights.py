"""The field in which weights are chosen: registered ones, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from magicgui.widgets import ComboBox
from qtpy.QtWidgets import QFileDialog

from napari_ips.errors import IPSError
from napari_ips.widgets.fuse.tooltips import TOOLTIPS

_BROWSE = "\n"
_SUFFIX = ".safetensors"


class WeightsBox(ComboBox):
    """Names of registered weights, files that were chosen, and "Browse…".

    Parameters
    ----------
    chosen : str
        With which it begins.
    others : mapping of str, optional
        What else can be chosen, each with the words for it.

    Attributes
    ----------
    tip : str
        What the weights are for.
    """

    def __init__(self, chosen: str, others: Mapping[str, str] | None = None) -> None:
        super().__init__(choices=[chosen])
        self.tip = TOOLTIPS["weights"]
        self._others = dict(others or {})
        self._known: dict[str, str] = {chosen: ""}
        self._chosen = chosen
        self._registered: Mapping[str, str] | None = None

    def choose(self, name: str) -> None:
        """Choose registered weights, or a file."""
        self._chosen = name
        if name not in self._others:
            self._known.setdefault(name, "a file of yours")
        self._show()

    def offer(self, registered: Mapping[str, str]) -> None:
        """Offer the weights that are registered, with what is known of them."""
        self._registered = registered
        files = {name: "a file of yours" for name in self._known if _is_file(name)}
        self._known = {**registered, **files}
        self.choose(self._chosen)

    def follow(self) -> None:
        """Ask for a file if that was chosen."""
        chosen = self.value
        if chosen == _BROWSE:
            file, _ = QFileDialog.getOpenFileName(
                self.native, "Weights of napari-ips", "", f"Weights (*{_SUFFIX})"
            )
            chosen = file or self._chosen
        self.choose(chosen)

    def problem(self) -> str:
        """Say what is wrong with the weights that are chosen; "" if nothing is."""
        name = self._chosen
        if name in self._others:
            return ""
        if _is_file(name):
            return self._file_problem(name)
        if self._registered is not None and name not in self._registered:
            return f"There are no weights {name} any more; choose others."
        return ""

    def _file_problem(self, name: str) -> str:
        if not Path(name).is_file():
            return f"There is no file {Path(name).name}."
        if self._registered is None:
            # What reads weights takes seconds to load, and is not there yet.
            return ""
        from napari_ips.weights import read_card

        try:
            read_card(Path(name))
        except IPSError as error:
            return str(error)
        return ""

    def _show(self) -> None:
        shown = [(Path(n).name if _is_file(n) else n, n) for n in self._known]
        others = [(words, name) for name, words in self._others.items()]
        self.choices = [*shown, *others, ("Browse…", _BROWSE)]
        self.value = self._chosen
        told = self._known.get(self._chosen, "")
        self.tooltip = self.tip + (f"\n{self._chosen}: {told}" if told else "")


def _is_file(name: str) -> bool:
    return name.endswith(_SUFFIX)
