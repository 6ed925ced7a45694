"""Intensities: luminance of colour images, and the scale that the network sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError

FloatImage = NDArray[np.float32]

_REC601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Most pixels that the percentiles are taken from; more change them by less than noise.
_MOST_SAMPLES = 2_000_000


def luminance(image: NDArray[Any]) -> NDArray[Any]:
    """Return the Rec. 601 luminance of (..., 3 or 4) colours; alpha is ignored.

    In float32, or in float64 for dtypes that float32 cannot hold.
    """
    wide = np.float64 if image.dtype.itemsize == 8 else np.float32
    grey: NDArray[Any] = image[..., :3].astype(wide) @ _REC601.astype(wide)
    return grey


@dataclass(frozen=True)
class IntensityRange:
    """Intensities ``low`` and ``high`` that become 0 and 1 for the network."""

    low: float
    high: float

    @classmethod
    def of(cls, image: NDArray[Any], percentile: float = 0.1) -> IntensityRange:
        """Measure the range between two percentiles of the finite values.

        An affine change of the image changes the range with it, so that what the
        network sees stays the same. Outliers beyond the percentiles stay outside 0..1.
        """
        step = max(1, image.size // _MOST_SAMPLES)
        # A step that shares a factor with the width would see but a few columns.
        while step > 1 and math.gcd(step, image.shape[-1]) > 1:
            step += 1
        values = image.reshape(-1)[::step]
        values = values[np.isfinite(values)].astype(np.float64)
        if values.size == 0:
            return cls(0.0, 1.0)
        low, high = np.percentile(values, [percentile, 100.0 - percentile])
        if high <= low:
            low, high = values.min(), values.max()
        if not math.isfinite(float(high) - float(low)):
            raise IPSError(
                f"Intensities from {low:.3g} to {high:.3g} are too far apart for float64."
            )
        return cls(float(low), float(high))

    @property
    def width(self) -> float:
        """Width of the range, 1 where it is empty (a constant image)."""
        return self.high - self.low if self.high > self.low else 1.0

    def normalise(self, image: NDArray[Any]) -> FloatImage:
        """Map low..high to 0..1 in float32."""
        shifted = image.astype(np.float64) - self.low
        normalised: FloatImage = (shifted / self.width).astype(np.float32)
        return normalised
