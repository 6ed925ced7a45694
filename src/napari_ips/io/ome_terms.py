"""What OME metadata calls units and channels, in OME-Zarr as in OME-TIFF."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_ips.io.pyramid import Picture

# OME-XML takes the symbols, OME-Zarr the words.
_LENGTHS = {
    "pm": "picometer",
    "Å": "angstrom",
    "nm": "nanometer",
    "µm": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "km": "kilometer",
    "in": "inch",
    "ft": "foot",
}
_TIMES = {
    "ns": "nanosecond",
    "µs": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}
_SECONDS = {
    "ns": 1e-9,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_WHITE = "FFFFFF"
_PAIR = ("FF00FF", "00FF00")
_SEVERAL = ("00FFFF", "FFFF00", "FF00FF", "FF0000", "00FF00", "0000FF")
_SAMPLES = (("Red", "FF0000"), ("Green", "00FF00"), ("Blue", "0000FF"), ("Alpha", _WHITE))


def length_symbol(unit: str | None) -> str | None:
    """Return the OME-XML symbol of a unit of length, None for one unknown to it."""
    return _symbol(unit, _LENGTHS)


def length_word(unit: str | None) -> str | None:
    """Return the OME-Zarr word for a unit of length, None for one unknown to it."""
    return _LENGTHS.get(_symbol(unit, _LENGTHS) or "")


def time_symbol(unit: str | None) -> str | None:
    """Return the OME-XML symbol of a unit of time, None for one unknown to it."""
    return _symbol(unit, _TIMES)


def time_word(unit: str | None) -> str | None:
    """Return the OME-Zarr word for a unit of time, None for one unknown to it."""
    return _TIMES.get(_symbol(unit, _TIMES) or "")


def seconds(value: float | None, unit: str | None) -> float | None:
    """Return a duration in seconds, None if it or its unit is unknown."""
    symbol = time_symbol(unit)
    return None if value is None or symbol is None else value * _SECONDS[symbol]


def _symbol(unit: str | None, known: dict[str, str]) -> str | None:
    # The micro sign has a twin among the Greek letters.
    unit = (unit or "").strip().replace("μ", "µ")
    if unit in known:
        return unit
    word = unit.lower().removesuffix("s").replace("metre", "meter")
    return next((symbol for symbol, name in known.items() if name == word), None)


def channel_names_and_colours(picture: Picture) -> list[tuple[str, str]]:
    """Return a name and a colour, such as "FF00FF", for every channel of a picture.

    The samples of an RGB picture count as channels.
    """
    if picture.rgb:
        return list(_SAMPLES[: picture.shape[4]])
    count = picture.shape[1]
    colours = {1: (_WHITE,), 2: _PAIR}.get(count, _SEVERAL)
    known = picture.metadata.channels
    result = []
    for c in range(count):
        name = f"Channel {c + 1}"
        colour = colours[c % len(colours)]
        if c < len(known):
            name = known[c].name or name
            colour = known[c].color or colour
        # Slice numbers and the like have nothing to do with the light of the channel.
        result.append((name, colour if picture.kind == "image" else _WHITE))
    return result


def ome_metadata(picture: Picture, axes: str) -> dict[str, Any]:
    """Return what tifffile is to put into the OME-XML of a picture with such axes."""
    known = picture.metadata
    result: dict[str, Any] = {"axes": axes, "Name": picture.name}
    # Silent about the unit, OME-XML would mean micrometres.
    unit = length_symbol(known.unit) or "pixel"
    sizes = dict(zip("YX", known.pixel_size or (), strict=False))
    if picture.second == "Z" and known.z_step is not None:
        sizes["Z"] = known.z_step
    for axis, size in sizes.items():
        result |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": unit}
    if known.time_step is not None and time_symbol(known.time_unit):
        result["TimeIncrement"] = float(known.time_step)
        result["TimeIncrementUnit"] = time_symbol(known.time_unit)
    if known.origin is not None:
        result["Plane"] = _ome_positions(picture, unit)
    if not picture.rgb and picture.second == "C":
        described = channel_names_and_colours(picture)
        colours = [_ome_colour(colour) for _, colour in described]
        result["Channel"] = {"Name": [name for name, _ in described], "Color": colours}
    if picture.provenance:
        texts = {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in picture.provenance.items()
        }
        result["MapAnnotation"] = {"Namespace": "napari-ips", "Value": texts}
    # The same for the same picture; tifffile would make one from clock and machine.
    told = repr((picture.shape, picture.dtype.name, sorted(result.items())))
    return result | {"UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, told))}


def _ome_positions(picture: Picture, unit: str) -> dict[str, Any]:
    _, y, x = picture.metadata.origin or (0.0, 0.0, 0.0)
    count = len(picture.planes)
    positions: dict[str, Any] = {}
    for axis, value in (("Y", y), ("X", x)):
        positions[f"Position{axis}"] = [float(value)] * count
        # What has no unit lies in a frame of its own.
        place = unit if unit != "pixel" else "reference frame"
        positions[f"Position{axis}Unit"] = [place] * count
    return positions


def _ome_colour(colour: str) -> int:
    """Return a colour as OME-XML has it: RGBA in a signed number of 32 bits."""
    number = int(f"{colour}FF", 16)
    return number - 2**32 if number >= 2**31 else number
