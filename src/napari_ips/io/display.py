"""The intensities that a viewer shows as black and as full colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ips.io.pyramid import Picture

_PERCENTILES = (0.1, 99.9)
# So many time points tell enough, and a long series need not fit into memory.
_TIMES = 8


def display_window(
    picture: Picture, channel: int, plane: Callable[[int, int], NDArray[np.generic]]
) -> dict[str, float]:
    """Return OMERO's window of a channel: what there can be, and what to show of it.

    Parameters
    ----------
    picture : Picture
    channel : int
        Of the file, where each sample of an RGB picture is a channel.
    plane : callable
        Gives a small version of the plane (t, channel).
    """
    values = _values(picture, channel, plane)
    lowest, highest = _range(picture.dtype, values)
    told = _told_window(picture, channel)
    if told is not None:
        start, end = told
    elif values.size:
        start, end = (float(v) for v in np.percentile(values, _PERCENTILES))
    else:
        start, end = lowest, highest
    if not start < end:
        # Viewers refuse an empty window.
        end = start + 1.0
    return {
        "min": min(lowest, start),
        "max": max(highest, end),
        "start": float(start),
        "end": float(end),
    }


def _told_window(picture: Picture, channel: int) -> tuple[float, float] | None:
    if picture.rgb:
        return (0.0, 255.0) if picture.dtype == np.uint8 else None
    known = picture.metadata.channels
    # Slice numbers and the like have nothing to do with the light of the channel.
    if picture.kind != "image" or channel >= len(known):
        return None
    return known[channel].window


def _values(
    picture: Picture, channel: int, plane: Callable[[int, int], NDArray[np.generic]]
) -> NDArray[np.float64]:
    """Return some finite values, of RGB from all colours: they share one window."""
    times = picture.shape[0]
    chosen = np.unique(np.linspace(0, times - 1, min(times, _TIMES)).astype(int))
    channels = range(min(3, picture.shape[4])) if picture.rgb else (channel,)
    planes = [np.ravel(plane(int(t), c)) for t in chosen for c in channels]
    values = np.concatenate(planes).astype(np.float64)
    return values[np.isfinite(values)]


def _range(dtype: np.dtype[Any], values: NDArray[np.float64]) -> tuple[float, float]:
    if dtype.kind in "ui":
        limits = np.iinfo(dtype.name)
        return float(limits.min), float(limits.max)
    if values.size:
        return float(values.min()), float(values.max())
    return 0.0, 1.0
