"""Image layers of napari as z-stacks: which axis is z, and how pixels lie in the world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ips.errors import IPSError

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_ips.io import LazyStack, Metadata

_LETTERS = {
    **dict.fromkeys(("z", "depth", "plane", "planes", "slice", "slices", "focus"), "Z"),
    **dict.fromkeys(("t", "time", "frame", "frames", "timepoint"), "T"),
    **dict.fromkeys(("c", "ch", "channel", "channels"), "C"),
    "y": "Y",
    "x": "X",
}


def level_zero(layer: Image) -> Any:
    """Return the pixels of a layer, of a multiscale one those of full resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def axis_name(layer: Image, axis: int) -> str:
    """Return what users call an axis of a layer: its label, or its number from 0."""
    label = str(layer.axis_labels[axis])
    return f"axis {axis}" if _is_number(label) else label


def z_candidates(layer: Image) -> list[int]:
    """Return the axes along which the slices of a layer may lie.

    None of an image without a third axis; none of those that are labelled y and x.
    """
    labelled = _labelled_letters(layer)
    if layer.ndim < 3:
        return []
    return [n for n, letter in enumerate(labelled) if letter not in ("Y", "X")]


def is_labelled(layer: Image) -> bool:
    """Tell whether a layer says which of its axes is z."""
    return "Z" in known_letters(layer)


def z_axis_of(layer: Image) -> int | None:
    """Return the axis of the slices: by its label, else the most likely one.

    Without a label, it is the last axis before those of the image that is not labelled as
    something else. None if there is no such axis.
    """
    known = known_letters(layer)
    if "Z" in known:
        return known.index("Z")
    free = [n for n in range(layer.ndim) if not known[n]]
    return free[-1] if free else None


def stack_of(layer: Image, z_axis: int) -> LazyStack:
    """Take a layer for z-stacks, of which no more is read than is needed.

    Parameters
    ----------
    layer : Image
        Of numpy, dask, zarr or similar arrays, multiscale or not. Beside z, Y and X it
        may have time points and channels.
    z_axis : int
        Axis of the slices.

    Raises
    ------
    IPSError
        If it is no z-stack, or its values are no intensities.
    """
    from napari_ips.io import wrap_array

    data = level_zero(layer)
    if np.dtype(data.dtype).kind not in "iuf":
        raise IPSError(f"{layer.name} holds {data.dtype} values; integers or floats fuse.")
    axes = axes_of(layer, z_axis) + ("S" if layer.rgb else "")
    return wrap_array(data, axes, _metadata(layer, axes), layer.name)


def axes_of(layer: Image, z_axis: int) -> str:
    """Return one letter for each axis of a layer, colours not counted: Z, Y, X, T, C.

    Raises
    ------
    IPSError
        If the slices cannot lie along `z_axis`, or there are more axes than these.
    """
    if z_axis not in z_candidates(layer):
        raise IPSError(f"The slices of {layer.name} cannot lie along axis {z_axis}.")
    known = known_letters(layer, z_axis)
    letters = ["" if letter == "Z" else letter for letter in known]
    letters[z_axis] = "Z"
    free = [letter for letter in "TC" if letter not in letters]
    for n in range(layer.ndim):
        if not letters[n]:
            if not free:
                raise IPSError(
                    f"{layer.name} has {layer.ndim} axes; besides z, y and x only time "
                    "and channels can be fused. Split it first."
                )
            letters[n] = free.pop(0)
    return "".join(letters)


def plane_of(layer: Image, z_axis: int, step: Sequence[int]) -> tuple[int, int]:
    """Return time point and channel at a position given in pixels of the layer."""
    places = dict(zip(axes_of(layer, z_axis), step, strict=True))
    return int(places.get("T", 0)), int(places.get("C", 0))


def flat_axes(layer: Image, z_axis: int) -> str:
    """Return the letters of the axes that a result of fusing a layer has.

    napari aligns the axes of layers from the last one. So z is left out only where it is
    the first axis. Elsewhere it stays, of length 1, for the axes before it to follow
    their own sliders.

    Raises
    ------
    IPSError
        As `axes_of`.
    """
    letters = axes_of(layer, z_axis)
    return letters if z_axis else letters.replace("Z", "")


def flat_placement(
    layer: Image, z_axis: int, *, one_channel: bool = False
) -> dict[str, Any]:
    """Return where a result of fusing a layer lies, whose axes are its `flat_axes`.

    A z axis of length 1 is as long as the whole stack, so that the result is seen at
    every slice.

    Parameters
    ----------
    layer : Image
    z_axis : int
        Axis of its slices.
    one_channel : bool
        Of the result there is one for all channels, which is seen with each.

    Returns
    -------
    dict
        Arguments for a new layer: units, axis_labels, scale and translate, or affine for
        a layer that is rotated or sheared.
    """
    matrix, origin = to_world(layer)
    for n, letter in enumerate(axes_of(layer, z_axis)):
        if letter == "Z" or (letter == "C" and one_channel):
            length = level_zero(layer).shape[n]
            origin = origin + matrix[:, n] * (length - 1) / 2
            matrix[:, n] *= length
    kept = [n for n in range(layer.ndim) if z_axis or n]
    placed: dict[str, Any] = {
        "units": tuple(layer.units[n] for n in kept),
        "axis_labels": tuple(layer.axis_labels[n] for n in kept),
    }
    if not z_axis and any(_is_number(label) for label in placed["axis_labels"]):
        # Numbers counted from the end of the axes that were there before.
        del placed["axis_labels"]
    matrix, origin = matrix[np.ix_(kept, kept)], origin[kept]
    if np.allclose(matrix, np.diag(np.diag(matrix))):
        return placed | {"scale": tuple(np.diag(matrix)), "translate": tuple(origin)}
    affine = np.eye(len(kept) + 1)
    affine[:-1, :-1], affine[:-1, -1] = matrix, origin
    return placed | {"affine": affine}


def as_planes(array: Any, letters: str) -> Any:
    """Return a view (T, C, Y, X[, colours]) of a result.

    Parameters
    ----------
    array : array
        Its axes are `letters`, followed by one of colours or not.
    letters : str
        T, C, Z, Y, X in any order. T and C may be missing, and then are of length 1; a Z
        is of length 1.
    """
    flat = array[tuple(0 if letter == "Z" else slice(None) for letter in letters)]
    letters = letters.replace("Z", "")
    present = [letters.index(letter) for letter in "TCYX" if letter in letters]
    ordered = flat.transpose(*present, *range(len(letters), flat.ndim))
    return ordered[tuple(slice(None) if a in letters else None for a in "TCYX")]


def from_planes(planes: Any, letters: str) -> Any:
    """Return a view whose axes are `letters`, then colours, of (T, C, Y, X[, colours])."""
    part = planes[tuple(slice(None) if a in letters else 0 for a in "TCYX")]
    flat = letters.replace("Z", "")
    present = [letter for letter in "TCYX" if letter in flat]
    order = [present.index(letter) for letter in flat]
    ordered = part.transpose(*order, *range(len(flat), part.ndim))
    return ordered[tuple(None if letter == "Z" else slice(None) for letter in letters)]


def known_letters(layer: Image, z_axis: int | None = None) -> list[str]:
    """Return the letters that the labels of a layer tell, "" for those that do not.

    Without labels, the axes of the image are the last two, `z_axis` aside.
    """
    letters = _labelled_letters(layer)
    if "Y" not in letters:
        y, x = [n for n in range(layer.ndim) if n != z_axis][-2:]
        letters[y], letters[x] = "Y", "X"
    return letters


def _labelled_letters(layer: Image) -> list[str]:
    """Return the letters of the axes by their labels; of y and x only both or none."""
    letters = [_LETTERS.get(str(label).lower(), "") for label in layer.axis_labels]
    if {"Y", "X"} <= set(letters):
        return letters
    return ["" if letter in ("Y", "X") else letter for letter in letters]


def image_axes(layer: Image) -> tuple[int, int]:
    """Return the two axes of the images in a layer, in their order."""
    known = known_letters(layer)
    first, second = sorted(known.index(letter) for letter in "YX")
    return first, second


def to_world(layer: Image) -> tuple[Any, Any]:
    """Return the matrix and the origin by which pixels become places in the world."""
    origin = np.asarray(layer.data_to_world([0.0] * layer.ndim))
    steps = [layer.data_to_world(unit) for unit in np.eye(layer.ndim)]
    return np.stack(steps, axis=1) - origin[:, None], origin


def _is_number(label: str) -> bool:
    return label.lstrip("-").isdigit()


def _metadata(layer: Image, axes: str) -> Metadata:
    from napari_ips.io import Metadata
    from napari_ips.io.formats import clean_unit

    # A layer of scale 1 in pixels tells nothing.
    units = [clean_unit(str(unit)) for unit in layer.units]
    matrix, origin = to_world(layer)
    sizes = np.linalg.norm(matrix, axis=0)
    z, y, x = (axes.index(letter) for letter in "ZYX")
    place: dict[str, Any] = {}
    if units[y] or not np.allclose(sizes[[y, x]], 1):
        place["pixel_size"] = float(sizes[y]), float(sizes[x])
        place["unit"] = units[y]
    together = layer.units[z].is_compatible_with(layer.units[y])
    if together and (units[z] or not np.isclose(sizes[z], 1)):
        ratio = 1.0
        if units[z] and units[y]:
            ratio = float((1 * layer.units[z]).to(layer.units[y]).magnitude)
        place["z_step"] = float(sizes[z]) * ratio
        if place.get("pixel_size"):
            place["origin"] = tuple(
                float(origin[n]) * (ratio if n == z else 1.0) for n in (z, y, x)
            )
    if "T" in axes and units[t := axes.index("T")]:
        place |= {"time_step": float(sizes[t]), "time_unit": str(layer.units[t])}
    return Metadata(**place)


class _Channels:
    """Layers of the same size as channels of one array, of which nothing is copied."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._arrays = arrays
        self.shape = (len(arrays), *arrays[0].shape)
        self.dtype = arrays[0].dtype

    def __getitem__(self, index: tuple[int | slice, ...]) -> Any:
        channel, *rest = index
        if isinstance(channel, slice):
            picked = self._arrays[channel]
            return np.stack([np.asarray(array[tuple(rest)]) for array in picked])
        return np.asarray(self._arrays[channel][tuple(rest)])


def fits(layer: Image, other: Image) -> bool:
    """Tell whether another layer may be a channel of the same z-stack."""
    one, two = level_zero(layer), level_zero(other)
    same = one.shape == two.shape and one.dtype == two.dtype and layer.rgb == other.rgb
    return bool(other != layer and same)


def stack_of_layers(layers: Sequence[Image], z_axis: int) -> LazyStack:
    """Take layers of the same size for the channels of one z-stack.

    Raises
    ------
    IPSError
        If the first one is no z-stack, or another one is not of its size and dtype.
    """
    from napari_ips.io import wrap_array

    first, *others = layers
    for other in others:
        if not fits(first, other):
            raise IPSError(
                f"{other.name} does not fit {first.name}: both need the same shape and "
                "dtype to be fused together."
            )
    alone = stack_of(first, z_axis)
    axes = "C" + axes_of(first, z_axis) + ("S" if first.rgb else "")
    data = _Channels([level_zero(layer) for layer in layers])
    return wrap_array(data, axes, alone.metadata, first.name)
