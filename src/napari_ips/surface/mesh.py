"""A height map as a mesh of triangles at true scale, with the fused image on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ips.errors import IPSError
from napari_ips.surface.heights import average_squares, smooth_heights, square_centres

# What a viewer turns fluently without a graphics card; the texture has the detail.
MAX_VERTICES = 150_000


@dataclass(frozen=True)
class SurfaceMesh:
    """Triangles over the grid of an image.

    Attributes
    ----------
    vertices : ndarray of float32, shape (N, 3)
        z, y, x, in the unit of the pixel size; pixel (0, 0) at height 0 is the origin.
    faces : ndarray of int32, shape (M, 3)
        Vertices of each triangle, anticlockwise as seen from high z in an image whose
        rows go down.
    uv : ndarray of float32, shape (N, 2)
        Place in the texture: 0..1 from left to right, and from bottom to top.
    texture : ndarray of uint8, shape (Y, X, 3), optional
        The image on the surface, its rows from top to bottom.
    colors : ndarray of uint8, shape (N, 3), optional
        The colours of the vertices, from the texture.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    uv: NDArray[np.float32]
    texture: NDArray[np.uint8] | None = None
    colors: NDArray[np.uint8] | None = None


def surface_mesh(
    heights: ArrayLike,
    confidence: ArrayLike | None = None,
    texture: NDArray[np.uint8] | None = None,
    *,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    z_step: float = 1.0,
    sigma: float = 3.0,
    max_vertices: int = MAX_VERTICES,
) -> SurfaceMesh:
    """Make a mesh of a height map.

    Parameters
    ----------
    heights : array_like, shape (Y, X)
        NaN stands for unknown heights, which are interpolated.
    confidence : array_like, shape (Y, X), optional
        0..1; sure heights fill in for those that are not.
    texture : ndarray of uint8, shape (Y, X, 3), optional
        Colours, as `as_texture` makes them.
    pixel_size : (float, float)
        Of y and x.
    z_step : float
        What a height of 1 is in the unit of the pixel size: the distance of slices for a
        height map in slices. Times an exaggeration, if that is wanted.
    sigma : float
        Smoothing of the heights in pixels, see `smooth_heights`.
    max_vertices : int
        If the image has more pixels, squares of them are averaged.

    Raises
    ------
    IPSError
        If shapes do not fit, no height is finite or a size is not above 0.
    """
    if min(*pixel_size, z_step) <= 0:
        raise IPSError("Pixel size and z step must be above 0.")
    shape = np.shape(heights)
    if texture is not None and texture.shape != (*shape, 3):
        raise IPSError(f"The texture has shape {texture.shape}, the height map {shape}.")
    stride = stride_for(shape, max_vertices)
    grid = smooth_heights(heights, confidence, sigma=sigma, stride=stride)
    y, x = (square_centres(length, stride) for length in shape)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    vertices = np.stack(
        [grid * z_step, rows * pixel_size[0], columns * pixel_size[1]], axis=-1
    )
    uv = np.stack([(columns + 0.5) / shape[1], 1 - (rows + 0.5) / shape[0]], axis=-1)
    return SurfaceMesh(
        vertices.reshape(-1, 3).astype(np.float32),
        _triangles(*grid.shape),
        uv.reshape(-1, 2).astype(np.float32),
        texture,
        None if texture is None else _vertex_colors(texture, stride),
    )


def stride_for(shape: tuple[int, ...], max_vertices: int) -> int:
    """Return the least size of squares that leaves so few of an image's pixels.

    Of each axis two are left at least, as there would be no triangles otherwise.
    """
    stride = 1
    while math.prod(-(-length // stride) for length in shape) > max_vertices:
        if stride + 1 >= min(shape):
            break
        stride += 1
    return stride


def as_texture(
    image: ArrayLike,
    limits: tuple[float, float] | None = None,
    colors: ArrayLike | None = None,
) -> NDArray[np.uint8]:
    """Turn an image into the colours that a viewer shows it in.

    Parameters
    ----------
    image : array_like, shape (Y, X) or (Y, X, 3 or 4)
        Grey values, or colours: integers over the range of their dtype, floats 0..1.
    limits : (float, float), optional
        Grey values shown by the first and the last colour; by default the least and the
        greatest finite value.
    colors : array_like, shape (K, 3 or 4), optional
        Colour map, 0..1; by default from black to white.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 3)

    Raises
    ------
    IPSError
        If it is no image.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        return _eight_bits(pixels[..., :3])
    if pixels.ndim != 2:
        raise IPSError(f"A texture is a grey or RGB image; this has shape {pixels.shape}.")
    # A table of all levels of grey is quicker than a colour for every pixel.
    shown = (np.linspace(0, 1, 256)[:, None] * np.ones(3)) if colors is None else colors
    table = _eight_bits(np.asarray(shown, np.float32)[:, :3])
    low, high = limits or _range(pixels)
    scale = (len(table) - 1) / (high - low if high > low else 1.0)
    levels = np.nan_to_num((pixels.astype(np.float32) - low) * np.float32(scale))
    return np.asarray(table[levels.round().clip(0, len(table) - 1).astype(np.intp)])


def _range(pixels: NDArray[Any]) -> tuple[float, float]:
    finite = pixels[np.isfinite(pixels)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _eight_bits(colors: NDArray[Any]) -> NDArray[np.uint8]:
    if colors.dtype == np.uint8:
        return np.ascontiguousarray(colors)
    top = np.iinfo(colors.dtype).max if colors.dtype.kind in "iu" else 1.0
    scaled = np.nan_to_num(colors.astype(np.float32)) * np.float32(255 / top)
    return scaled.round().clip(0, 255).astype(np.uint8)


def _vertex_colors(texture: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    even = np.ones(texture.shape[:2], np.float32)
    mean, _ = average_squares(texture, even, stride)
    return mean.round().astype(np.uint8).reshape(-1, 3)


def _triangles(rows: int, columns: int) -> NDArray[np.int32]:
    number = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    here, right = number[:-1, :-1].ravel(), number[:-1, 1:].ravel()
    below, across = number[1:, :-1].ravel(), number[1:, 1:].ravel()
    upper = np.stack([here, below, right], axis=1)
    lower = np.stack([right, below, across], axis=1)
    return np.concatenate([upper, lower])
