"""Index maps in files, to be edited elsewhere and applied again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.io.formats import plainly_read
from napari_ips.io.load import load
from napari_ips.io.pixels import read_part


def read_index(path: str | Path) -> NDArray[np.integer]:
    """Read an index map, as written with the fused image or saved from the viewer.

    Returns
    -------
    ndarray of integers, shape (T, C, Y, X)
        Slices, counted from 0.

    Raises
    ------
    IPSError
        If the file cannot be read or holds no index map.
    """
    path = Path(path)
    found = load(path)
    if len(found) > 1:
        raise IPSError(f"{path} holds {len(found)} images; an index map is one.")
    (pixels,) = found
    lengths = dict(zip(pixels.axes, pixels.data.shape, strict=True))
    if any(lengths[letter] > 1 for letter in lengths if letter not in "TCYX"):
        raise IPSError(
            f"{path} has the axes {pixels.axes.replace('Q', '?')}; an index map has Y and "
            "X, and time points and channels at most."
        )
    if pixels.data.dtype.kind not in "iu":
        raise IPSError(
            f"{path} holds {pixels.data.dtype} values; an index map holds whole numbers."
        )
    everything = slice(None)
    with plainly_read(path):
        index = read_part(
            pixels.data, pixels.axes, dict.fromkeys("TCYX", everything), "TCYX"
        )
    missing = [n for n, letter in enumerate("TCYX") if letter not in pixels.axes]
    return np.expand_dims(index, missing)
