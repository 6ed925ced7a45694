"""Images taken apart into detail from fine to coarse, and put together again.

Any size is allowed; both transforms give back what they took apart, to float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ips.errors import IPSError

Array = NDArray[Any]

# Generating kernel of Burt and Adelson, IEEE Trans. Commun. 31, 1983, with a = 0.375.
_KERNEL = np.array([1, 4, 6, 4, 1]) / 16
_FILTERS = ("near_sym_b", "qshift_b")  # Of wavelets: first level, all others.
_SMALLEST = 4  # Pixels along the shorter side of the coarsest level.


@dataclass(frozen=True)
class Pyramid:
    """Detail of an image from fine to coarse, (Y, X, ...) each, and what is left."""

    detail: list[Array]
    lowpass: Array


class Transform(Protocol):
    """Takes images (Y, X[, C]) apart, and puts together images of the same shape."""

    def analyse(self, image: Array) -> Pyramid:
        """Return the detail and the rest of an image."""
        ...

    def synthesise(self, pyramid: Pyramid) -> Array:
        """Return the image that a pyramid stands for."""
        ...


class Laplacian:
    """Laplacian pyramid of Burt and Adelson (IEEE Trans. Commun. 31, 1983)."""

    def __init__(self, shape: Sequence[int], levels: int) -> None:
        self._levels = _possible(shape, levels)

    def analyse(self, image: Array) -> Pyramid:
        """Return bands (Y, X[, C]), each of half the size of the one before."""
        rest: Array = image.astype(np.float32)
        detail = []
        for _ in range(self._levels):
            coarse = _smoothed(rest)[::2, ::2]
            detail.append(rest - _expanded(coarse, rest.shape))
            rest = coarse
        return Pyramid(detail, rest)

    def synthesise(self, pyramid: Pyramid) -> Array:
        """Return the image that a pyramid stands for."""
        image = pyramid.lowpass
        for band in reversed(pyramid.detail):
            image = band + _expanded(image, band.shape)
        return image


class Wavelets:
    """Dual-tree complex wavelet transform of Kingsbury, by torchwavelets.

    Near-symmetric filters of 13 and 19 taps at the first level, quarter-shift ones of
    14 taps below it. The coefficients are those of the package ``dtcwt`` (to 3e-15 in
    float64), which works with NumPy 1 only.

    Raises
    ------
    IPSError
        If torchwavelets is not installed.
    """

    def __init__(self, shape: Sequence[int], levels: int) -> None:
        try:
            import torchwavelets
        except ImportError as error:
            raise IPSError(
                "The method dtcwt needs torchwavelets: pip install napari-ips[benchmark]."
            ) from error
        self._library = torchwavelets
        self._shape = tuple(shape)
        self._levels = _possible(shape, levels)

    def analyse(self, image: Array) -> Pyramid:
        """Return complex bands (Y, X, C, 6), the last axis being orientations."""
        import torch

        values = image.astype(np.float32).reshape(*self._shape[:2], -1)
        planes = torch.from_numpy(values).permute(2, 0, 1)[None]
        lowpass, bands = self._library.dtcwt2d(planes, *_FILTERS, J=self._levels)
        detail = [band[0].permute(2, 3, 0, 1).numpy() for band in bands]
        return Pyramid(detail, lowpass[0].numpy())

    def synthesise(self, pyramid: Pyramid) -> Array:
        """Return the image that a pyramid stands for."""
        import torch

        lowpass = torch.from_numpy(pyramid.lowpass)[None]
        bands = [torch.from_numpy(b).permute(2, 3, 0, 1)[None] for b in pyramid.detail]
        planes = self._library.idtcwt2d((lowpass, bands), *_FILTERS)[0]
        image: Array = planes.permute(1, 2, 0).numpy()
        # The transform repeats the last row and column of odd sizes.
        return image[: self._shape[0], : self._shape[1]].reshape(self._shape)


def _possible(shape: Sequence[int], levels: int) -> int:
    """Return the number of levels that an image is large enough for, at least 1."""
    if levels < 1:
        raise IPSError(f"A pyramid needs at least 1 level (got {levels}).")
    halvings = math.log2(max(1, min(shape[:2]) / _SMALLEST))
    return max(1, min(levels, int(halvings)))


def _smoothed(image: Array, gain: float = 1) -> Array:
    # Mirrored without its edge, an image spread out by zeros keeps its every other zero.
    rows = ndimage.correlate1d(image, _KERNEL * gain, axis=0, mode="mirror")
    return ndimage.correlate1d(rows, _KERNEL * gain, axis=1, mode="mirror")


def _expanded(coarse: Array, shape: Sequence[int]) -> Array:
    spread = np.zeros(shape, coarse.dtype)
    spread[::2, ::2] = coarse
    return _smoothed(spread, gain=2)
