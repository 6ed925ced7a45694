"""From layers of the viewer to a surface: what is read, and where it lies in the world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.surface.mesh import MAX_VERTICES, SurfaceMesh, as_texture, surface_mesh
from napari_ips.widgets.results import facts, role_of, siblings, source_of
from napari_ips.widgets.stacks import image_axes, level_zero, stack_of, to_world

# More vertices make no finer file that anybody could tell from it.
EXPORTED_VERTICES = 1_000_000
# What graphics cards of any age take.
_LONGEST_TEXTURE = 4096


@dataclass(frozen=True)
class Plane:
    """One image of a layer, read when it is needed."""

    array: Any
    index: tuple[int | slice, ...]

    def read(self) -> NDArray[Any]:
        """Return its pixels, shape (Y, X) or (Y, X, colours)."""
        return np.asarray(self.array[self.index])


@dataclass(frozen=True)
class Coloring:
    """The image on a surface, and how the viewer shows it."""

    plane: Plane
    limits: tuple[float, float]
    table: NDArray[np.float32]


@dataclass(frozen=True)
class Relief:
    """All that a surface is made of; nothing in it belongs to the viewer.

    `z_step` is what a height of 1 is in the world.
    """

    heights: Plane
    confidence: Plane | None
    coloring: Coloring | None
    pixel_size: tuple[float, float]
    z_step: float
    sigma: float
    max_vertices: int = MAX_VERTICES

    def in_full(self) -> Relief:
        """Return it as it is exported, with as much detail as files should have."""
        return replace(self, max_vertices=EXPORTED_VERTICES)

    def mesh(self) -> SurfaceMesh:
        """Read the layers and make the mesh."""
        texture = None
        if self.coloring is not None:
            image, limits = self.coloring.plane.read(), self.coloring.limits
            texture = as_texture(image, limits, self.coloring.table)
        return surface_mesh(
            self.heights.read(),
            None if self.confidence is None else self.confidence.read(),
            texture,
            pixel_size=self.pixel_size,
            z_step=self.z_step,
            sigma=self.sigma,
            max_vertices=self.max_vertices,
        )


@dataclass(frozen=True)
class ZScale:
    """The slices of a height map in the world: their distance, and where the first is.

    `in_slices` tells that heights are numbers of slices, else they are distances.
    """

    step: float
    origin: float
    in_slices: bool


def height_layers(layers: Iterable[Layer]) -> list[Image]:
    """Return the layers that can be height maps, those made by a fusion first."""
    possible = [layer for layer in layers if _may_be_heights(layer)]
    return sorted(possible, key=lambda layer: role_of(layer) != "depth")


def image_layers(layers: Sequence[Layer], heights: Image) -> list[Image]:
    """Return the images that fit on a height map, the fused one of its run first."""
    own = siblings(layers, heights, "fused")
    fitting = [
        layer
        for layer in layers
        if isinstance(layer, Image)
        and layer != heights
        and (layer in own or _fits(layer, heights))
        and _image_shape(layer) == _image_shape(heights)
    ]
    return sorted(fitting, key=lambda layer: layer not in own)


def z_scale(layers: Iterable[Layer], heights: Image) -> ZScale | None:
    """Return how the heights of a layer lie in the world; None if nothing tells."""
    found = source_of(layers, heights)
    if found is None:
        return None
    try:
        known = stack_of(*found).metadata
    except IPSError:
        return None
    if known.z_step is None:
        return None
    origin = known.origin[0] if known.origin else 0.0
    return ZScale(known.z_step, origin, role_of(heights) == "index")


def plane_shown(layer: Image, point: Sequence[float]) -> Plane:
    """Return the image of a layer that is shown where the sliders are."""
    place = layer.world_to_data(point[-layer.ndim :])
    shape = level_zero(layer).shape
    index: list[int | slice] = [
        int(np.clip(round(float(place[n])), 0, shape[n] - 1)) for n in range(layer.ndim)
    ]
    for n in image_axes(layer):
        index[n] = slice(None)
    return Plane(level_zero(layer), tuple(index))


def coloring_of(layer: Image, point: Sequence[float]) -> Coloring:
    """Return an image with the colours in which the viewer shows it."""
    low, high = (float(limit) for limit in layer.contrast_limits)
    levels = np.linspace(0, 1, 256) ** float(layer.gamma)
    table = np.asarray(layer.colormap.map(levels), np.float32)
    return Coloring(plane_shown(layer, point), (low, high), table)


def confidence_of(
    layers: Iterable[Layer], heights: Image, point: Sequence[float]
) -> Plane | None:
    """Return how sure the heights of a layer are, if its run tells."""
    found = siblings(layers, heights, "confidence")
    return plane_shown(found[0], point) if found else None


def pixel_size(layer: Image) -> tuple[float, float]:
    """Return the size of pixels in y and x, in the unit of the layer."""
    y, x = np.linalg.norm(_plane_to_world(layer)[0], axis=0)
    return float(y), float(x)


def placement(layer: Image, origin: float) -> dict[str, Any]:
    """Return where a surface lies that was made of a layer.

    Parameters
    ----------
    layer : Image
        The height map.
    origin : float
        z of a height of 0.

    Returns
    -------
    dict
        Arguments for a Surface layer of z, y and x.
    """
    matrix, corner = _plane_to_world(layer)
    affine = np.eye(4)
    affine[1:3, 1:3] = matrix / np.linalg.norm(matrix, axis=0)
    affine[:3, 3] = origin, *corner
    y, x = (layer.units[n] for n in image_axes(layer))
    place: dict[str, Any] = {"units": (y, y, x)}
    labels = [str(layer.axis_labels[n]) for n in image_axes(layer)]
    if not any(label.lstrip("-").isdigit() for label in labels):
        place["axis_labels"] = ("z", *labels)
    if np.allclose(affine[:3, :3], np.eye(3)):
        return place | {"translate": tuple(affine[:3, 3])}
    return place | {"affine": affine}


def look_of(mesh: SurfaceMesh, heights: Image) -> dict[str, Any]:
    """Return the "values" of vertices, and arguments for the looks of a Surface layer."""
    if mesh.texture is not None:
        stride = -(-max(mesh.texture.shape[:2]) // _LONGEST_TEXTURE)
        # A texture is multiplied by the colours under it: white leaves it as it is.
        return {
            "values": np.ones(len(mesh.vertices), np.float32),
            "texcoords": mesh.uv,
            "texture": np.ascontiguousarray(mesh.texture[::stride, ::stride]),
            "colormap": "gray",
            "contrast_limits": (0.0, 1.0),
        }
    z = mesh.vertices[:, 0]
    low, high = float(z.min()), float(z.max())
    return {
        "values": z,
        # Heights in grey would look like the shadows of the relief.
        "colormap": "viridis" if heights.colormap.name == "gray" else heights.colormap,
        "contrast_limits": (low, high if high > low else low + 1),
    }


def of_one_run(layers: Sequence[Layer], heights: Image) -> list[Layer]:
    """Return the layers that show the same as a height map: its run and its stack."""
    known = facts(heights)
    if known is None:
        return [heights]
    found = source_of(layers, heights)
    same = [layer for layer in layers if _run(layer) == known.get("run")]
    return same + ([found[0]] if found else [])


def _run(layer: Layer) -> str | None:
    known = facts(layer)
    return known.get("run") if known else None


def _may_be_heights(layer: Layer) -> bool:
    if not isinstance(layer, Image) or layer.rgb or layer.ndim < 2:
        return False
    if min(_image_shape(layer)) < 2:
        return False
    role = role_of(layer)
    if role is not None:
        return role in ("depth", "index")
    return layer.ndim == 2 and np.issubdtype(level_zero(layer).dtype, np.floating)


def _fits(layer: Image, heights: Image) -> bool:
    """Tell whether a layer has an image for each of a height map; a z-stack has more."""
    lengths, wanted = (
        list(reversed(level_zero(one).shape[: one.ndim])) for one in (layer, heights)
    )
    return layer.ndim <= heights.ndim and all(
        own in (1, other) for own, other in zip(lengths, wanted, strict=False)
    )


def _image_shape(layer: Image) -> tuple[int, int]:
    y, x = (level_zero(layer).shape[n] for n in image_axes(layer))
    return int(y), int(x)


def _plane_to_world(layer: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return matrix (2, 2) and origin (2,) by which y and x of a layer lie in the world."""
    axes = list(image_axes(layer))
    matrix, corner = to_world(layer)
    return matrix[np.ix_(axes, axes)], corner[axes]
