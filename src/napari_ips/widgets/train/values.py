"""Fields for settings, made from the types and the bounds that these declare."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from qtpy.QtCore import QEvent, QLocale, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QScrollBar,
    QSpinBox,
    QWidget,
)

from napari_ips.config import Config
from napari_ips.widgets.train.tooltips import MEASURED, UNITS

# Of numbers without a bound, and the decimals that can be typed.
_LARGEST, _DECIMALS = 1e9, 9
_NARROWEST = 56


class Value(QWidget):
    """A field for one setting, of one or several parts beside each other.

    Attributes
    ----------
    changed : Signal()
    """

    changed = Signal()

    def __init__(self, *parts: QWidget) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for part in parts:
            row.addWidget(part)
        self.setFocusProxy(parts[0])

    def get(self) -> Any:
        """Return the value."""
        raise NotImplementedError

    def put(self, value: Any) -> None:
        """Show a value."""
        raise NotImplementedError


class NumberBox(QDoubleSpinBox):
    """A number, written without zeros at its end, with a point in every language."""

    def __init__(self) -> None:
        super().__init__()
        self.setLocale(QLocale.c())
        self.setDecimals(_DECIMALS)
        self.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.setKeyboardTracking(False)
        self.setMinimumWidth(_NARROWEST)

    def textFromValue(self, value: float) -> str:
        """Write a number."""
        return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")


class NumberValue(Value):
    """A whole or a real number within bounds."""

    def __init__(self, whole: bool, lowest: float, highest: float, unit: str = "") -> None:
        self._box = QSpinBox() if whole else NumberBox()
        super().__init__(self._box)
        if whole:
            self._box.setRange(int(lowest), int(highest))
            self._box.setKeyboardTracking(False)
            self._box.setMinimumWidth(_NARROWEST)
        else:
            self._box.setRange(lowest, highest)
        self._box.setSuffix(unit)
        self._given = (self._box.value(), self._box.value())
        self._box.valueChanged.connect(lambda _: self.changed.emit())

    def get(self) -> Any:
        """Return the number; one that was given exactly as it was, until it is changed."""
        shown, given = self._given
        return given if self._box.value() == shown else self._box.value()

    def put(self, value: Any) -> None:
        """Show a number, as far as it can be written here."""
        self._box.setValue(value)
        self._given = self._box.value(), value


class FlagValue(Value):
    """Yes or no."""

    def __init__(self) -> None:
        self._box = QCheckBox()
        super().__init__(self._box)
        self._box.toggled.connect(lambda _: self.changed.emit())

    def get(self) -> bool:
        """Tell whether it is ticked."""
        return bool(self._box.isChecked())

    def put(self, value: bool) -> None:
        """Tick it or not."""
        self._box.setChecked(value)


class ChoiceValue(Value):
    """One of several words or numbers."""

    def __init__(self, choices: tuple[Any, ...]) -> None:
        self._box = QComboBox()
        super().__init__(self._box)
        self._box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._box.setMinimumContentsLength(6)
        self.offer([(str(choice), choice) for choice in choices])
        self._box.currentIndexChanged.connect(lambda _: self.changed.emit())

    def offer(self, choices: list[tuple[str, Any]]) -> None:
        """Offer other choices, each with a name; what was chosen stays so."""
        chosen = self.get()
        self._box.blockSignals(True)
        self._box.clear()
        for name, choice in choices:
            self._box.addItem(name, choice)
        self._box.blockSignals(False)
        if chosen is not None:
            self.put(chosen)

    def get(self) -> Any:
        """Return what is chosen."""
        return self._box.currentData()

    def put(self, value: Any) -> None:
        """Choose something; what is not offered is from now on."""
        # Qt finds no None.
        offered = [self._box.itemData(k) for k in range(self._box.count())]
        if value not in offered:
            self._box.addItem(str(value), value)
            offered.append(value)
        self._box.setCurrentIndex(offered.index(value))


class SeveralValue(Value):
    """Several of some words."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._boxes = {choice: QCheckBox(choice) for choice in choices}
        super().__init__(*self._boxes.values())
        for box in self._boxes.values():
            box.toggled.connect(lambda _: self.changed.emit())

    def get(self) -> tuple[str, ...]:
        """Return the words that are ticked."""
        return tuple(word for word, box in self._boxes.items() if box.isChecked())

    def put(self, value: tuple[str, ...]) -> None:
        """Tick these words."""
        for word, box in self._boxes.items():
            box.setChecked(word in value)


class RangeValue(Value):
    """Two numbers, the smaller first."""

    def __init__(self, first: NumberValue, second: NumberValue) -> None:
        super().__init__(first, second)
        self._numbers = first, second
        for number in self._numbers:
            number.changed.connect(self.changed)

    def get(self) -> tuple[Any, Any]:
        """Return both numbers."""
        first, second = self._numbers
        return first.get(), second.get()

    def put(self, value: tuple[Any, Any]) -> None:
        """Show two numbers."""
        for number, shown in zip(self._numbers, value, strict=True):
            number.put(shown)


class OrElseValue(Value):
    """A number, or something else in its place where a box is ticked.

    Parameters
    ----------
    words : str
        Beside the box.
    number : NumberValue
    instead : object
        The value where the box is ticked.
    """

    def __init__(self, words: str, number: NumberValue, instead: Any) -> None:
        self._box, self._number, self._instead = QCheckBox(words), number, instead
        super().__init__(self._box, number)
        self._box.toggled.connect(self._follow)
        number.changed.connect(self.changed)

    def get(self) -> Any:
        """Return the number, or what is there instead."""
        return self._instead if self._box.isChecked() else self._number.get()

    def put(self, value: Any) -> None:
        """Show a number, or what is there instead."""
        if value != self._instead:
            self._number.put(value)
        self._box.setChecked(value == self._instead)

    def _follow(self) -> None:
        self._number.setEnabled(not self._box.isChecked())
        self.changed.emit()


class _WheelGuard(QObject):
    """Lets the wheel scroll past fields, and change only the one in use."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is None or event.type() != QEvent.Type.Wheel:
            return False
        if isinstance(watched, QWidget) and watched.hasFocus():
            return False
        event.ignore()
        return True


def keep_from_wheel(form: QWidget) -> None:
    """Let nobody who scrolls a form change what is in it."""
    guard = _WheelGuard(form)
    for kind in (QAbstractSpinBox, QComboBox, QAbstractSlider):
        for part in form.findChildren(kind):
            if not isinstance(part, QScrollBar):
                part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                part.installEventFilter(guard)


def value_for(settings: type[Config], name: str) -> Value:
    """Return a field for a setting."""
    info = settings.model_fields[name]
    return _value(info.annotation, info.metadata, UNITS.get(name, ""))


def _value(kind: Any, metadata: list[Any], unit: str) -> Value:
    arguments = get_args(kind)
    if kind is bool:
        return FlagValue()
    if kind is str or kind == str | None:
        return ChoiceValue(())
    if get_origin(kind) is Literal:
        return ChoiceValue(arguments)
    if get_origin(kind) is tuple and arguments[-1] is Ellipsis:
        return SeveralValue(get_args(arguments[0]))
    if get_origin(kind) is tuple:
        first, second = (_number(part, metadata, unit) for part in arguments)
        return RangeValue(first, second)
    if get_origin(kind) in (Union, UnionType):
        number, other = arguments
        (instead,) = get_args(other)
        return OrElseValue(MEASURED, _number(number, metadata, unit), instead)
    return _number(kind, metadata, unit)


def _number(kind: Any, metadata: list[Any], unit: str) -> NumberValue:
    """Return a field for a number, whose bounds may be within its type."""
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        metadata = [*metadata, *more]
    rules = [
        rule
        for found in metadata
        for rule in (found.metadata if isinstance(found, FieldInfo) else [found])
    ]
    # A bound that is excluded is missed by the least that can be typed.
    least = 1 if kind is int else 10.0**-_DECIMALS
    lowest, highest = 0.0, _LARGEST
    for rule in rules:
        if hasattr(rule, "gt"):
            lowest = rule.gt + least
        if hasattr(rule, "lt"):
            highest = rule.lt - least
        lowest = getattr(rule, "ge", lowest)
        highest = getattr(rule, "le", highest)
    return NumberValue(kind is int, lowest, highest, unit)
