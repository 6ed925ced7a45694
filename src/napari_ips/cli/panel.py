"""The picture that the demo draws: slices, projections, fused image and maps, labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_ips.evaluation.colours import Pixels, coloured

EDGE = 360
GAP = 20
MARGIN = 36
HEADER = 84
TITLE = 34
CAPTION = 44
BAR = 10

BACKGROUND = (17, 19, 23)
INK = (236, 238, 241)
SOFT_INK = (150, 156, 166)
ACCENT = (94, 201, 98)


@dataclass(frozen=True)
class Scale:
    """Colour map of a tile, and the labels at the two ends of its bar."""

    colours: str
    low: str
    high: str


@dataclass(frozen=True)
class Tile:
    """One picture of the panel: (Y, X, 3) uint8, title, a line below, and a scale."""

    pixels: Pixels
    title: str
    caption: str = ""
    scale: Scale | None = None
    strong: bool = False


def compose(tiles: list[Tile], columns: int, title: str, subtitle: str) -> Image.Image:
    """Arrange the tiles in rows under a heading."""
    rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    heights = [TITLE + EDGE + _below(row) for row in rows]
    width = 2 * MARGIN + columns * EDGE + (columns - 1) * GAP
    height = HEADER + sum(heights) + (len(rows) - 1) * GAP + MARGIN // 2
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 24), title, INK, _font(26))
    draw.text((width - MARGIN, 32), subtitle, SOFT_INK, _font(17), anchor="ra")
    top = HEADER
    for row, row_height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _place(sheet, tile, MARGIN + column * (EDGE + GAP), top)
        top += row_height + GAP
    return sheet


def _below(row: list[Tile]) -> int:
    """Height that the captions of a row take, none if it has none."""
    return CAPTION if any(tile.caption or tile.scale for tile in row) else 0


def _place(sheet: Image.Image, tile: Tile, left: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    ink = ACCENT if tile.strong else INK
    draw.text((left, top + 2), tile.title, ink, _font(19))
    picture = _square(tile.pixels)
    sheet.paste(picture, (left, top + TITLE))
    if tile.strong:
        box = (left - 2, top + TITLE - 2, left + EDGE + 1, top + TITLE + EDGE + 1)
        draw.rectangle(box, outline=ACCENT, width=2)
    below = top + TITLE + EDGE + 9
    if tile.scale is None:
        draw.text((left, below), tile.caption, SOFT_INK, _font(16))
    else:
        _bar(sheet, tile.scale, tile.caption, left, below)


def _bar(sheet: Image.Image, scale: Scale, caption: str, left: int, top: int) -> None:
    ramp = coloured(np.tile(np.linspace(0, 1, EDGE), (BAR, 1)), scale.colours)
    sheet.paste(Image.fromarray(ramp), (left, top))
    draw = ImageDraw.Draw(sheet)
    below = top + BAR + 5
    draw.text((left, below), scale.low, SOFT_INK, _font(15))
    draw.text((left + EDGE // 2, below), caption, SOFT_INK, _font(15), anchor="ma")
    draw.text((left + EDGE, below), scale.high, SOFT_INK, _font(15), anchor="ra")


def _square(pixels: Pixels) -> Image.Image:
    """Cut the middle square out and bring it to the size of a tile."""
    height, width = pixels.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = Image.fromarray(
        np.ascontiguousarray(pixels[top : top + edge, left : left + edge])
    )
    return middle.resize((EDGE, EDGE), Image.Resampling.LANCZOS)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
