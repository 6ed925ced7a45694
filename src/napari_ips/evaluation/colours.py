"""Colours for images and maps that are to be looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pixels = NDArray[np.uint8]

# Nine colours each, evenly spaced, of matplotlib's perceptually uniform maps.
VIRIDIS = "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725"
MAGMA = "000004 1c1044 4f127b 812581 b5367a e55064 fb8761 fec287 fcfdbf"


def coloured(values: Array, colours: str) -> Pixels:
    """Map values (Y, X) from 0 to 1 to the colours of a map; values beyond are clipped."""
    anchors = np.array([list(bytes.fromhex(code)) for code in colours.split()], float)
    at = np.linspace(0, 1, len(anchors))
    clipped = np.clip(values, 0, 1)
    bands = [np.interp(clipped, at, anchors[:, band]) for band in range(3)]
    return np.asarray(np.rint(np.stack(bands, axis=-1)), np.uint8)


def displayed(image: Array, low: float, high: float) -> Pixels:
    """Stretch an image (Y, X[, 3]) from low..high to 8 bits, as three channels."""
    scaled = np.clip((image.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
    pixels = np.rint(255 * scaled).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]
