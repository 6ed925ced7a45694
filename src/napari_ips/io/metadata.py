"""What files say about the scale, the time step and the channels of an image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from napari_ips.io.formats import clean_unit

_TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("min", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
}


@dataclass(frozen=True)
class Channel:
    """How a channel is called and shown; None where the file does not say.

    Attributes
    ----------
    name : str, optional
    color : str, optional
        Six hexadecimal digits, such as "FF00FF".
    window : (float, float), optional
        The intensities shown as black and as full colour.
    """

    name: str | None = None
    color: str | None = None
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Metadata:
    """What is known of an image beside its pixels; None where it is not known.

    Attributes
    ----------
    pixel_size : (float, float), optional
        Height and width of a pixel, in `unit`.
    z_step : float, optional
        Distance of two slices, in `unit`.
    unit : str, optional
        Such as "µm"; None if lengths are in no known unit.
    time_step : float, optional
        Time between two time points, in `time_unit`.
    time_unit : str, optional
        Such as "s".
    origin : (float, float, float), optional
        Where the centre of the first pixel of the first slice lies: z, y, x, in `unit`.
    channels : tuple of Channel
        Empty, or one for each channel.
    """

    pixel_size: tuple[float, float] | None = None
    z_step: float | None = None
    unit: str | None = None
    time_step: float | None = None
    time_unit: str | None = None
    origin: tuple[float, float, float] | None = None
    channels: tuple[Channel, ...] = ()

    def for_axes(self, told: str, chosen: str) -> Metadata:
        """Keep what still holds when the axes are other ones than the file told."""
        kept = self
        if any(told.find(letter) != chosen.find(letter) for letter in "YX"):
            kept = replace(kept, pixel_size=None, z_step=None, unit=None, origin=None)
        if told.find("Z") != chosen.find("Z"):
            kept = replace(kept, z_step=None, origin=None)
        if told.find("T") != chosen.find("T"):
            kept = replace(kept, time_step=None, time_unit=None)
        if told.find("C") != chosen.find("C"):
            kept = replace(kept, channels=())
        return kept


def length_metadata(
    sizes: Mapping[str, float],
    units: Mapping[str, str | None],
    shifts: Mapping[str, float] | None = None,
) -> Metadata:
    """Build the spatial part from figures for the letters Z, Y and X.

    Figures in different units cannot be told as one: without equal units of Y and X
    nothing is known, and the step only if Z shares their unit. Nor is anything known
    where all lengths are 1 and without a unit.
    """
    unit = clean_unit(units.get("Y"))
    if "Y" not in sizes or "X" not in sizes or clean_unit(units.get("X")) != unit:
        return Metadata()
    same_unit = clean_unit(units.get("Z")) == unit
    lengths = {sizes[a] for a in "ZYX" if a in sizes}
    # What writers put down who were told nothing.
    if unit is None and lengths == {1.0} and not (shifts and any(shifts.values())):
        return Metadata()
    origin = None
    if shifts and {"Y", "X"} <= set(shifts):
        origin = (shifts.get("Z", 0.0) if same_unit else 0.0, shifts["Y"], shifts["X"])
    z_step = sizes.get("Z") if same_unit else None
    return Metadata((sizes["Y"], sizes["X"]), z_step, unit, origin=origin)


def clean_time_unit(unit: str | None) -> str | None:
    """Return the usual spelling of a unit of time, None for nothing."""
    if unit is None or not unit.strip():
        return None
    return _TIME_UNITS.get(unit.strip().lower(), unit.strip())


def clean_color(color: object) -> str | None:
    """Return six hexadecimal digits, None for what is no colour."""
    digits = str(color).lstrip("#").upper()
    return digits[:6] if re.fullmatch("[0-9A-F]{6}([0-9A-F]{2})?", digits) else None
