"""How a scene of known heights looks through a microscope focused at one slice.

All light travels in layers: the blur of a layer depends on its distance from focus
alone, and is done by one product of spectra.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Blur = Literal["disc", "gaussian"]
Floats = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

# A layer hides what is at least this many slices below it. Closer layers belong to one
# gentle slope, which hides nothing of itself.
OCCLUSION_GAP = 2.0
# Layers at most half a slice apart: finer ones cost time and memory and change nothing.
MOST_LAYERS_PER_SLICE = 2


class Optics:
    """Spectra of the layers of a scene, and how they are seen from a slice.

    The scene is reflected at its borders, far enough for the widest blur. A pixel
    between two layers belongs to both in proportion, so that focus moves smoothly.
    """

    def __init__(
        self,
        colour: Floats,
        height: Floats,
        n_slices: int,
        blur: Blur,
        blur_per_slice: float,
    ) -> None:
        per_slice = min(int(np.ceil(blur_per_slice)), MOST_LAYERS_PER_SLICE)
        self.levels = np.arange((n_slices - 1) * per_slice + 1) / per_slice
        self.gap = round(OCCLUSION_GAP * per_slice)
        self.shape = height.shape

        pad = int(np.ceil(blur_per_slice * (n_slices - 1))) + 1
        self.pad = pad
        padded = [fft.next_fast_len(size + 2 * pad, real=True) for size in height.shape]
        sides = [
            (pad, whole - size - pad)
            for whole, size in zip(padded, height.shape, strict=True)
        ]
        height = np.pad(height, sides, mode="symmetric")
        colour = np.pad(colour, [*sides, (0, 0)], mode="symmetric")
        self.padded = height.shape

        kernel = _disc if blur == "disc" else _gaussian
        self.transfer: list[Spectrum] = [
            self._spectrum(_centred(kernel(level * blur_per_slice), self.padded))
            for level in self.levels
        ]
        membership = partial(_membership, height, step=1 / per_slice)
        # Last axis: the light of every channel, then the share of the layer itself.
        self.layers: list[Spectrum] = []
        for level in self.levels:
            mask = membership(level)[..., None]
            self.layers.append(self._spectrum(np.concatenate([colour * mask, mask], -1)))

    def _spectrum(self, image: Floats) -> Spectrum:
        return np.asarray(fft.rfft2(image, axes=(0, 1)), np.complex64)

    def _image(self, spectrum: Spectrum) -> Floats:
        image = fft.irfft2(spectrum, s=self.padded, axes=(0, 1))
        rows, columns = (slice(self.pad, self.pad + size) for size in self.shape)
        return np.asarray(image[rows, columns], np.float32)

    def _seen(self, z: int, layer: int) -> Spectrum:
        """Return the spectrum of a layer, blurred as it is seen from slice `z`."""
        distance = abs(layer - int(np.argmin(np.abs(self.levels - z))))
        return self.layers[layer] * self.transfer[distance][..., None]

    def additive(self, z: int) -> Floats:
        """Return slice `z`, (Y, X, channels), as the sum of the light of all layers."""
        total = sum(self._seen(z, layer)[..., :-1] for layer in range(len(self.levels)))
        return self._image(np.asarray(total))

    def opaque(self, z: int) -> Floats:
        """Return slice `z`, (Y, X, channels), in which higher layers hide lower ones."""
        light = np.zeros((*self.shape, 1), np.float32)
        total = np.zeros((*self.shape, 1), np.float32)
        hidden = np.zeros((*self.shape, 1), np.float32)
        recent: list[Floats] = []
        for layer in reversed(range(len(self.levels))):
            blurred = self._image(self._seen(z, layer))
            share = np.maximum(blurred[..., -1:], 0)
            if len(recent) == self.gap:
                hidden += recent.pop(0)
            recent.append(share)
            visible = np.clip(1 - hidden, 0, 1)
            light = light + visible * blurred[..., :-1]
            total += visible * share
        # What a blurred rim uncovers was never photographed: the light that is there
        # stands in for it.
        return np.asarray(light / np.maximum(total, 1e-3), np.float32)


def _membership(height: Floats, level: float, step: float) -> Floats:
    """Return the share, 0 to 1, of every pixel in the layer at `level`."""
    nearness = 1 - np.abs(height - np.float32(level)) / np.float32(step)
    return np.asarray(np.maximum(nearness, 0), np.float32)


def _disc(radius: float) -> Floats:
    """Return an odd, normalised disc of any radius >= 0; a point for radius 0."""
    fine = max(16, int(4 * radius))
    offsets = (np.arange(-fine, fine + 1) / fine) * radius
    y, x = (grid.ravel() for grid in np.meshgrid(offsets, offsets, indexing="ij"))
    inside = y**2 + x**2 <= radius**2 + 1e-9
    y, x = y[inside], x[inside]
    half = int(np.ceil(radius)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    # Every point of the disc is shared among the four pixels around it.
    for down in (0, 1):
        for right in (0, 1):
            weight = (1 - np.abs(y - row - down)) * (1 - np.abs(x - column - right))
            np.add.at(kernel, (row + down + half, column + right + half), weight)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _gaussian(radius: float) -> Floats:
    """Return an odd, normalised Gaussian with the variance of a disc of `radius`."""
    half = int(np.ceil(2 * radius)) + 1
    point = np.zeros((2 * half + 1, 2 * half + 1))
    point[half, half] = 1
    return np.asarray(ndimage.gaussian_filter(point, radius / 2), np.float32)


def _centred(kernel: Floats, shape: tuple[int, ...]) -> Floats:
    """Put a kernel into an image of `shape` with its centre at the origin, wrapped."""
    image = np.zeros(shape, np.float32)
    half = kernel.shape[0] // 2
    rows = np.arange(-half, half + 1)
    np.add.at(image, (rows[:, None] % shape[0], rows[None, :] % shape[1]), kernel)
    return image
