"""What the metadata of a TIFF say: OME-XML, ImageJ, or the tags alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from napari_ips.io.formats import MICROMETRE, clean_unit
from napari_ips.io.metadata import Channel, Metadata, clean_time_unit, length_metadata


def tiff_metadata(file: Any, series: int = 0) -> Metadata:
    """Read the metadata of a series of a `tifffile.TiffFile`."""
    if file.is_ome:
        return _ome(file, series)
    page = file.pages.first
    resolution = [page.tags.get(tag) for tag in ("YResolution", "XResolution")]
    ratios = [tag.value[0] / tag.value[1] for tag in resolution if tag and tag.value[1]]
    size = (1 / ratios[0], 1 / ratios[1]) if len(ratios) == 2 and all(ratios) else None
    if file.is_imagej:
        return _imagej(file.imagej_metadata, size)
    tag = page.tags.get("ResolutionUnit")
    # Dots per inch are a printer's figure, most often invented; centimetres are not.
    if size is not None and tag is not None and tag.value == 3:
        return Metadata((size[0] * 1e4, size[1] * 1e4), None, MICROMETRE)
    return Metadata()


def _imagej(described: dict[str, Any], size: tuple[float, float] | None) -> Metadata:
    unit = clean_unit(described.get("unit"))
    if unit is None and size == (1.0, 1.0):
        size = None
    step = described.get("spacing")
    interval = float(described.get("finterval") or 0)
    return Metadata(
        size,
        None if step is None else abs(float(step)),
        unit,
        time_step=interval or None,
        time_unit=clean_time_unit(described.get("tunit") or "s") if interval else None,
        channels=_imagej_channels(described),
    )


def _imagej_channels(described: dict[str, Any]) -> tuple[Channel, ...]:
    ranges = list(described.get("Ranges", ()))
    if not ranges and {"min", "max"} <= set(described):
        ranges = [described["min"], described["max"]]
    windows = [(float(a), float(b)) for a, b in zip(ranges[::2], ranges[1::2], strict=True)]
    # The last entry of a look-up table is the channel at full intensity.
    tables = described.get("LUTs", ())
    colors = ["".join(f"{int(part[-1]):02X}" for part in table) for table in tables]
    count = int(described.get("channels", 1))
    return tuple(
        Channel(
            color=colors[c] if len(colors) == count else None,
            window=windows[c] if len(windows) == count else None,
        )
        for c in range(count)
        if count in (len(colors), len(windows))
    )


def _ome(file: Any, series: int) -> Metadata:
    from xml.etree import ElementTree

    images = ElementTree.fromstring(file.ome_metadata).findall("{*}Image")
    # An image without pixels is no series.
    images = [image for image in images if image.find("{*}Pixels/{*}TiffData") is not None]
    if len(images) != len(file.series):
        images = [
            image for image in images if image.get("Name") == file.series[series].name
        ]
        series = 0
    pixels = images[series].find("{*}Pixels") if images else None
    if pixels is None:
        return Metadata()
    sizes = {a: pixels.get(f"PhysicalSize{a}") for a in "YXZ"}
    # Micrometres are what OME-XML means when it is silent.
    units = {a: pixels.get(f"PhysicalSize{a}Unit", MICROMETRE) for a in "YXZ"}
    lengths = length_metadata(
        {a: float(size) for a, size in sizes.items() if size is not None}, units
    )
    step = float(pixels.get("TimeIncrement") or 0)
    return replace(
        lengths,
        time_step=step or None,
        time_unit=clean_time_unit(pixels.get("TimeIncrementUnit", "s")) if step else None,
        origin=_ome_origin(pixels.find("{*}Plane"), lengths.unit),
        channels=tuple(
            Channel(channel.get("Name") or None, _ome_color(channel.get("Color")))
            for channel in pixels.findall("{*}Channel")
        ),
    )


def _ome_origin(plane: Any, unit: str | None) -> tuple[float, float, float] | None:
    """Return the position of the first plane, if it is in the unit of the pixels."""
    if plane is None or unit is None:
        return None
    places = {
        a: float(plane.get(f"Position{a}"))
        for a in "ZYX"
        if plane.get(f"Position{a}") and clean_unit(plane.get(f"Position{a}Unit")) == unit
    }
    if not {"Y", "X"} <= set(places):
        return None
    return (places.get("Z", 0.0), places["Y"], places["X"])


def _ome_color(color: str | None) -> str | None:
    """Turn a signed number, whose bytes are red, green, blue and alpha, into digits."""
    return None if color is None else f"{int(color) & 0xFFFFFFFF:08X}"[:6]
