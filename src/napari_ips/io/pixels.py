"""Pixels that are not loaded yet, whatever file they lie in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.io.metadata import Metadata

LETTERS = "PTCZYXSQ"


@dataclass(frozen=True)
class Pixels:
    """An image of any number of axes, read piece by piece.

    Attributes
    ----------
    name : str
        Of the position, series or file.
    data : array
        Has ``shape`` and ``dtype``, and is read by indexing with integers and slices.
    axes : str
        One letter per axis: P (position), T (time), C (channel), Z, Y, X, S (colour
        samples), Q (unknown).
    metadata : Metadata
    chunk_bytes : int
        What has to be decoded at least to read one pixel.
    reopen : (callable, tuple)
        A module's function and the arguments with which it makes the same again.
    path : Path, optional
        Where the pixels lie; None in memory.
    files : tuple of Path
        The file of each slice, where every slice has its own.
    """

    name: str
    data: Any
    axes: str
    metadata: Metadata
    chunk_bytes: int
    reopen: tuple[Callable[..., Pixels], tuple[Any, ...]]
    path: Path | None = None
    files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        kind = self.data.dtype
        if kind.kind not in "uif":
            raise IPSError(
                f"{self.name} holds {kind} values; integers or real numbers are needed."
            )


def known_letters(axes: str) -> str:
    """Replace letters that have no meaning here by Q; R is how tifffile says P."""
    axes = axes.replace("R", "P")
    return "".join(letter if letter in LETTERS else "Q" for letter in axes)


def read_part(
    data: Any, letters: Sequence[str], places: dict[str, int | slice], order: str
) -> NDArray[Any]:
    """Read a part of an array, its axes in a given order, in this machine's byte order.

    Parameters
    ----------
    data : array
    letters : sequence of str
        One per axis of `data`.
    places : dict
        What to read along each axis: a number, which drops the axis, or a slice. The
        first of those that are not named.
    order : str
        Of the letters with slices.
    """
    index = tuple(places.get(letter, 0) for letter in letters)
    found = np.asarray(data[index])
    left = [a for a, place in zip(letters, index, strict=True) if isinstance(place, slice)]
    found = found.transpose([left.index(letter) for letter in order if letter in left])
    # PyTorch knows no other byte order; what is in memory stays out of reach.
    copy = isinstance(data, np.ndarray)
    return np.array(found, found.dtype.newbyteorder("="), order="C", copy=copy or None)
