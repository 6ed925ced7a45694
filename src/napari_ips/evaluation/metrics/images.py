"""What the metrics without truth are computed on: grey images on the scale 0 to 255."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError

Image = NDArray[Any]
Grey = NDArray[np.float64]

# MATLAB's rgb2gray: the Y of NTSC's YIQ with all its digits.
_RGB_TO_GREY = np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])
LEVELS = 256


def comparable(
    fused: Image, a: Image, b: Image, smallest: int = 1
) -> tuple[Grey, Grey, Grey]:
    """Return the fused image and its two sources in grey, on the scale 0 to 255.

    The constants of most metrics belong to images of 8 bits. If both sources are uint8,
    nothing is scaled. Otherwise 0 is the smallest grey value of the two sources and 255
    the largest, for all three images alike, without rounding or clipping: 12 or 14 used
    bits of 16, or floats of any unit, have no other natural range. So the figures do not
    depend on the unit, but those of an image in uint8 and of the same one in float
    differ unless it uses the whole range.

    Colour becomes grey as in MATLAB's rgb2gray, rounded for uint8; alpha is ignored.

    Parameters
    ----------
    fused, a, b : ndarray, (Y, X) or (Y, X, C), any integer or float dtype
        The fused image, in the unit of the sources, and the two sources.
    smallest : int
        Least height and width in pixels.

    Raises
    ------
    IPSError
        If the images differ in size, are no grey or colour images, are too small, hold
        values that are not finite, or have no range of values (constant, not uint8).
    """
    if not fused.shape[:2] == a.shape[:2] == b.shape[:2]:
        raise IPSError(
            f"Fused image {fused.shape} and sources {a.shape} and {b.shape} differ in size."
        )
    grey = tuple(_grey(image) for image in (fused, a, b))
    height, width = grey[0].shape
    if min(height, width) < smallest:
        raise IPSError(
            f"An image of {height} x {width} pixels is too small for this measure; it "
            f"needs {smallest} x {smallest}."
        )
    low, scale = _scale(a, b, grey[1:])
    scaled = [(image - low) * scale for image in grey]
    return scaled[0], scaled[1], scaled[2]


def stretched(image: Grey) -> Grey:
    """Map an image's own minimum and maximum to 0 and 255, rounded to whole numbers.

    A constant image becomes 0.
    """
    low, high = image.min(), image.max()
    if high == low:
        return np.zeros_like(image)
    # Halves go up, as in MATLAB, not to the next even number.
    whole: Grey = np.floor((image - low) / (high - low) * (LEVELS - 1) + 0.5)
    return whole


def _grey(image: Image) -> Grey:
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise IPSError(
            "Images have the shape (Y, X), or (Y, X, C) with 3 channels or 4, not "
            f"{image.shape}."
        )
    values = image.astype(np.float64)
    if not np.isfinite(values).all():
        raise IPSError("An image holds NaN or infinite values; replace them to measure it.")
    if image.ndim == 2:
        return values
    grey: Grey = values[..., :3] @ _RGB_TO_GREY
    return np.floor(grey + 0.5) if image.dtype == np.uint8 else grey


def _scale(a: Image, b: Image, grey: tuple[Grey, ...]) -> tuple[float, float]:
    """Value that becomes 0, and factor, of the common scale."""
    if a.dtype == b.dtype == np.uint8:
        return 0.0, 1.0
    low = min(float(image.min()) for image in grey)
    high = max(float(image.max()) for image in grey)
    if not high > low:
        raise IPSError("The sources have no range of values to measure in (constant).")
    return low, (LEVELS - 1) / (high - low)
