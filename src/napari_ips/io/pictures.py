"""PNG and JPEG: the size from the header, the pixels decoded when they are read."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.io.formats import PNG, plainly_read
from napari_ips.io.metadata import Metadata
from napari_ips.io.pixels import Pixels

# Samples of a pixel by the colour type of a PNG; its palettes hold colours.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


def open_picture(path: Path) -> Pixels:
    """Open a PNG or JPEG, which has to be decoded whole to read any of it."""
    with plainly_read(path):
        data = _Picture(path)
    axes = "YXS"[: len(data.shape)]
    size = math.prod(data.shape) * data.dtype.itemsize
    return Pixels(
        path.name, data, axes, Metadata(), size, (open_picture, (path.absolute(),)), path
    )


class _Picture:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_png = path.suffix.lower() in PNG
        self.shape, self.dtype = (_png_header if self._is_png else _jpeg_header)(path)

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        image = (_decode_png if self._is_png else _decode_jpeg)(self._path)
        if image.shape != self.shape:
            raise ValueError(f"its shape is {image.shape} and should be {self.shape}")
        return image[index]


def _png_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with path.open("rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            raise ValueError("it is no PNG")
        _, _, width, height, depth, kind = struct.unpack(">I4sIIBB", file.read(18))
        samples = _PNG_SAMPLES[kind]
        file.seek(33)
        # A chunk of transparency, before the pixels, becomes another sample.
        while (name := _next_png_chunk(file)) != b"IDAT":
            samples += name == b"tRNS"
    shape = (height, width) if samples == 1 else (height, width, samples)
    return shape, np.dtype(np.uint16 if depth == 16 else np.uint8)


def _next_png_chunk(file: Any) -> bytes:
    """Step over a chunk and return its name."""
    size, name = struct.unpack(">I4s", file.read(8))
    file.seek(size + 4, 1)
    return bytes(name)


def _jpeg_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    from PIL import Image

    with Image.open(path) as opened:
        width, height = opened.size
        shape = (height, width) if opened.mode == "L" else (height, width, 3)
    return shape, np.dtype(np.uint8)


def _decode_png(path: Path) -> NDArray[Any]:
    # Not with Pillow, which reduces 16-bit colour to 8 bits.
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


def _decode_jpeg(path: Path) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as opened:
        return np.asarray(opened if opened.mode == "L" else opened.convert("RGB"))
