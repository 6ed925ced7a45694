"""Stacks of any size with known truth: a specimen on a wavy, tilted surface.

The specimen repeats after two tiles of 1024 pixels in each direction; one tile in four is
empty glass. It is defocused by the distance from the surface, and there is noise. Nothing
is downloaded, and nothing but a period is ever in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data, transform

BLOCK = 1024
_TILE = 1024
# Sigma of the defocus of a slice's distance from the focus, pixels.
_BLUR_PER_SLICE = 1.2
# In steps of half a slice; beyond, there is nothing left to blur.
_MOST_LEVELS = 24
_BACKGROUND, _CONTRAST, _NOISE = 400.0, 12000.0, 90.0
# What makes 8 bits of it.
_DIVISORS = {"uint8": 50.0, "uint16": 1.0}
_SHIFTS = 512

Image = NDArray[np.float32]


class Block(NamedTuple):
    """Pixels of one slice: ``image`` is slice ``z``, from row ``y`` and column ``x`` on."""

    z: int
    y: int
    x: int
    image: NDArray[Any]


@dataclass(frozen=True)
class Specimen:
    """A stack of square images, and its truth.

    Attributes
    ----------
    edge : int
        Of the images, in pixels.
    slices : int
    dtype : {"uint16", "uint8"}
    """

    edge: int
    slices: int
    dtype: str = "uint16"

    @property
    def name(self) -> str:
        """The size in words."""
        bits = 8 * np.dtype(self.dtype).itemsize
        return f"{self.edge} x {self.edge} x {self.slices}, {bits} bits"

    @property
    def pixels(self) -> int:
        """Pixels of all slices."""
        return self.edge**2 * self.slices

    def blocks(self) -> Iterator[Block]:
        """Compute the stack, block by block."""
        rng = np.random.default_rng(0)
        side = min(self.edge, BLOCK) + _SHIFTS
        noise = rng.normal(0, _NOISE, (side, side)).astype(np.float32)
        blurred = self._blurred
        for y in range(0, self.edge, BLOCK):
            for x in range(0, self.edge, BLOCK):
                rows = np.arange(y, min(self.edge, y + BLOCK))[:, None]
                columns = np.arange(x, min(self.edge, x + BLOCK))
                height = self._surface(rows, columns)
                for z in range(self.slices):
                    level = np.rint(2 * np.abs(z - height)).astype(int)
                    level = level.clip(max=len(blurred) - 1)
                    period = blurred.shape[1]
                    image = blurred[level, rows % period, columns % period]
                    first = rng.integers(0, _SHIFTS, 2)
                    image += noise[first[0] :, first[1] :][: len(rows), : len(columns)]
                    yield Block(z, y, x, self._digital(image))

    def array(self) -> NDArray[Any]:
        """Return the stack, (Z, Y, X)."""
        stack = np.empty((self.slices, self.edge, self.edge), self.dtype)
        for z, y, x, image in self.blocks():
            stack[z, y : y + BLOCK, x : x + BLOCK] = image
        return stack

    def write_zarr(self, path: Path) -> None:
        """Write the stack as a zarr array, in memory that does not grow with it."""
        import zarr

        array = zarr.create_array(
            path,
            shape=(self.slices, self.edge, self.edge),
            chunks=(1, min(self.edge, BLOCK), min(self.edge, BLOCK)),
            dtype=self.dtype,
            dimension_names=("z", "y", "x"),
        )
        for z, y, x, image in self.blocks():
            array[z, y : y + BLOCK, x : x + BLOCK] = image

    def psnr(self, fused: Any) -> float:
        """Compare a fused image with the truth, strip by strip.

        Parameters
        ----------
        fused : array or zarr array, shape (Y, X)

        Returns
        -------
        float
            In dB; the peak is 255 for 8 bits, else the range of the specimen.
        """
        sharp, total = self._sharp / _DIVISORS[self.dtype], 0.0
        columns = np.arange(self.edge) % len(sharp)
        for y in range(0, self.edge, BLOCK):
            strip = np.asarray(fused[y : y + BLOCK], np.float64)
            rows = np.arange(y, y + len(strip))[:, None] % len(sharp)
            total += float(((strip - sharp[rows, columns]) ** 2).sum())
        peak = 255.0 if self.dtype == "uint8" else float(np.ptp(sharp))
        return float(10 * np.log10(peak**2 / (total / self.edge**2)))

    @cached_property
    def _sharp(self) -> Image:
        """A period, or as much of it as the images show."""
        return _period()[: self.edge, : self.edge]

    @property
    def _blurred(self) -> Image:
        """The period at every defocus, (level, Y, X)."""
        sharp, levels = self._sharp, min(_MOST_LEVELS, 2 * self.slices)
        repeats = len(sharp) == 2 * _TILE
        blurred = np.empty((levels, *sharp.shape), np.float32)
        for level, image in enumerate(blurred):
            sigma = _BLUR_PER_SLICE * level / 2
            ndimage.gaussian_filter(
                sharp, sigma, output=image, mode="wrap" if repeats else "reflect"
            )
        return blurred

    def _surface(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
        """Return in which slice every pixel is in focus."""
        waves = np.sin(rows / 700) * np.cos(columns / 900)
        slope = 0.15 + 0.7 * (rows + columns) / (2 * self.edge)
        height: NDArray[Any] = (self.slices - 1) * slope + 1.2 * waves
        return height

    def _digital(self, image: Image) -> NDArray[Any]:
        image = np.rint(image / _DIVISORS[self.dtype])
        return image.clip(0, np.iinfo(self.dtype).max).astype(self.dtype)


def _period() -> Image:
    """Return two by two tiles, one of them empty glass."""
    tissue = transform.resize(data.immunohistochemistry()[..., 2], (_TILE, _TILE)) ** 2
    period = _BACKGROUND + _CONTRAST * np.tile(1 - tissue, (2, 2))
    fade = ndimage.gaussian_filter(np.pad(np.ones((_TILE - 64, _TILE - 64)), 32), 12)
    mask = np.block([[fade, 0 * fade], [fade, fade]])
    sharp: Image = (_BACKGROUND + (period - _BACKGROUND) * mask).astype(np.float32)
    return sharp
