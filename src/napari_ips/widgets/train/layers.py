"""Layers of napari as in-focus images to train on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ips.errors import IPSError
from napari_ips.widgets.stacks import axes_of, axis_name, known_letters, level_zero

if TYPE_CHECKING:
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_ips.io import LazyStack

Method = Literal["slices", "best", "fused"]


@dataclass(frozen=True)
class LayerSource:
    """A layer to train on.

    Attributes
    ----------
    layer : Image
    z_axis : int or None
        Axis of its slices; None: each of its images is taken as it is.
    slices : (int, int) or None
        First slice, and the one after the last; None: all.
    method : {"slices", "best", "fused"}
        What is taken of a z-stack: every slice, the sharpest slice of each tile, or the
        stack fused first.
    """

    layer: Image
    z_axis: int | None = None
    slices: tuple[int, int] | None = None
    method: Method = "slices"

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes beside those of the images."""
        letters = known_letters(self.layer, self.z_axis)
        return tuple(n for n in range(self.layer.ndim) if letters[n] not in ("Y", "X"))

    def places(self) -> list[tuple[int, ...]]:
        """Return where along its `axes` the images are."""
        shape = level_zero(self.layer).shape
        ranges = [range(shape[n]) for n in self.axes]
        if self.z_axis is not None and self.slices is not None:
            ranges[self.axes.index(self.z_axis)] = range(*self.slices)
        return list(product(*ranges))

    def name(self, place: tuple[int, ...]) -> str:
        """Return what an image is called, such as "cells z=3"."""
        numbered = zip(self.axes, place, strict=True)
        told = [
            f"{'z' if n == self.z_axis else axis_name(self.layer, n)}={k}"
            for n, k in numbered
        ]
        return " ".join([self.layer.name, *told])

    def read(self, place: tuple[int, ...]) -> NDArray[Any]:
        """Read an image (Y, X[, colours]), of a multiscale layer at full resolution."""
        from napari_ips.io.formats import plainly_read

        index: list[int | slice] = [slice(None)] * self.layer.ndim
        for axis, number in zip(self.axes, place, strict=True):
            index[axis] = number
        letters = known_letters(self.layer, self.z_axis)
        with plainly_read(self.layer.name):
            found = np.asarray(level_zero(self.layer)[tuple(index)])
        if letters.index("Y") > letters.index("X"):
            found = found.swapaxes(0, 1)
        # A copy, since what is shown may change meanwhile.
        return np.array(found, found.dtype.newbyteorder("="), order="C")

    def stack(self) -> LazyStack:
        """Return the chosen slices of the layer as z-stacks; nothing is read yet.

        Raises
        ------
        IPSError
            If its axes are none of z-stacks.
        """
        from napari_ips.io import wrap_array

        assert self.z_axis is not None, "it is no z-stack"
        axes = axes_of(self.layer, self.z_axis) + ("S" if self.layer.rgb else "")
        data = level_zero(self.layer)
        if self.slices is not None:
            data = _Slices(data, self.z_axis, *self.slices)
        return wrap_array(data, axes, name=self.layer.name)

    def problem(self) -> str:
        """Say why it cannot be trained on; "" if it can."""
        kind = np.dtype(level_zero(self.layer).dtype)
        if kind.kind not in "iuf":
            return f"{self.layer.name} holds {kind} values; take integers or floats."
        if not self.places():
            return f"Choose one slice or more of {self.layer.name}."
        if self.z_axis is not None and self.method != "slices":
            try:
                axes_of(self.layer, self.z_axis)
            except IPSError as error:
                return str(error)
        return ""


class _Slices:
    """Some slices of an array, of which nothing is read before it is indexed."""

    def __init__(self, array: Any, axis: int, first: int, end: int) -> None:
        self._array, self._axis, self._first = array, axis, first
        self.shape = (*array.shape[:axis], end - first, *array.shape[axis + 1 :])
        self.dtype = array.dtype

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        moved = list(index)
        place = moved[self._axis]
        if isinstance(place, slice):
            start, stop, step = place.indices(self.shape[self._axis])
            moved[self._axis] = slice(start + self._first, stop + self._first, step)
        else:
            moved[self._axis] = place + self._first
        return np.asarray(self._array[tuple(moved)])


def file_name(name: str) -> str:
    """Return a name of which every character may be in that of a file."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "layer"
