"""What is in focus in z-stacks, as images to train on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_ips.config import Device, FuseConfig, TrainConfig
from napari_ips.errors import IPSError, Stopped
from napari_ips.intensity import IntensityRange, luminance
from napari_ips.io import LazyStack, open_stacks
from napari_ips.training.quality import fine_detail, sharpness

Area = tuple[slice, slice]
_ALL = slice(None)
# What half of a fused tile has to reach at least, to be surely in focus.
_LEAST_CONFIDENCE = 0.3


def in_focus_images(
    stack: LazyStack,
    method: Literal["slices", "best", "fused"],
    *,
    crop_size: int = 128,
    min_sharpness: float = 0.06,
    device: Device = "auto",
    stop: threading.Event | None = None,
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Take from a z-stack what is in focus.

    Parameters
    ----------
    stack : LazyStack
    method : {"slices", "best", "fused"}
        Every slice as it is; or tiles of the image, each from the slice in which it has
        most fine detail; or tiles of the stack as the bundled weights fuse it, without
        mixing slices, so that values and noise are as recorded. Of noisy stacks of thick
        specimens, as in confocal microscopy, that one looks grainy: take the best tiles.
    crop_size : int
        Tiles are about twice as large, in pixels; smaller images are one tile.
    min_sharpness : float
        Softer tiles are left out, and empty ones; of fused ones also those that are not
        surely in focus.
    device : str
        What fuses.
    stop : threading.Event, optional
        Set from another thread, it ends the work with `Stopped`.

    Yields
    ------
    (name, ndarray (Y, X) or (Y, X, 3 or 4))
        In the dtype of the stack, for every time point and channel.

    Raises
    ------
    IPSError
        If the stack cannot be read or fused.
    Stopped
        If `stop` was set.
    """
    stop = stop or threading.Event()
    if method == "slices":
        yield from _slices(stack, stop)
        return
    areas = _areas(stack.shape[3:], 2 * crop_size)
    found = _fused(stack, areas, device, stop)
    if method == "best":
        found = _sharpest(stack, areas, stop)
    for name, whole, tiles in found:
        for (y, x), tile in tiles:
            grey = whole.normalise(_grey(tile))
            if np.isfinite(grey).all() and _is_sharp(sharpness(grey[None]), min_sharpness):
                yield f"{name}, tile at y {y.start}, x {x.start}", tile


def in_focus_of_file(
    path: Path, config: TrainConfig, stop: threading.Event
) -> Iterator[tuple[str, NDArray[Any]]] | None:
    """Return the `in_focus_images` of the z-stacks of a file; None if it has none."""
    try:
        stacks = open_stacks(path)
    except IPSError:
        return None
    stacks = tuple(stack for stack in stacks if stack.shape[2] > 1)
    return _in_focus_of_all(path, stacks, config, stop) if stacks else None


def _in_focus_of_all(
    path: Path, stacks: tuple[LazyStack, ...], config: TrainConfig, stop: threading.Event
) -> Iterator[tuple[str, NDArray[Any]]]:
    nothing = True
    for stack in stacks:
        own = "" if len(stacks) > 1 else stack.name
        for name, image in in_focus_images(
            stack,
            config.z_stacks,
            crop_size=config.crop_size,
            min_sharpness=config.min_sharpness,
            device=config.device,
            stop=stop,
        ):
            nothing = False
            yield f"{path}, {name.removeprefix(own).removeprefix(', ')}", image
    if nothing:
        surely = " and is surely in focus" if config.z_stacks == "fused" else ""
        raise IPSError(
            "a z-stack of which nothing is in focus: no part of it has a sharpness of "
            f"{config.min_sharpness:g}{surely}"
        )


def _slices(stack: LazyStack, stop: threading.Event) -> Iterator[tuple[str, NDArray[Any]]]:
    for t, c in np.ndindex(stack.shape[:2]):
        for z in range(stack.shape[2]):
            yield f"{_name(stack, t, c)}, slice {z}", _read(stack, t, c, z, stop)


def _sharpest(
    stack: LazyStack, areas: list[Area], stop: threading.Event
) -> Iterator[tuple[str, IntensityRange, Iterable[tuple[Area, NDArray[Any]]]]]:
    """Yield range and tiles, each of the slice that has most fine detail there."""
    for t, c in np.ndindex(stack.shape[:2]):
        most = [-1.0] * len(areas)
        best: list[NDArray[Any] | None] = [None] * len(areas)
        lows, highs = [], []
        for z in range(stack.shape[2]):
            page = _read(stack, t, c, z, stop)
            grey = _grey(page)
            if not np.isfinite(grey).any():
                continue
            intensities = IntensityRange.of(grey)
            lows.append(intensities.low)
            highs.append(intensities.high)
            # A common offset, so that float32 keeps small contrasts on a high base.
            detail = fine_detail((grey - lows[0]).astype(np.float32)[None])[0]
            for n, area in enumerate(areas):
                found = float(np.square(detail[area], dtype=np.float64).mean())
                if found > most[n]:
                    most[n], best[n] = found, page[area].copy()
        if lows:
            whole = IntensityRange(min(lows), max(highs))
            known = zip(areas, best, strict=True)
            yield _name(stack, t, c), whole, [(a, b) for a, b in known if b is not None]


def _fused(
    stack: LazyStack, areas: list[Area], device: Device, stop: threading.Event
) -> Iterator[tuple[str, IntensityRange, Iterable[tuple[Area, NDArray[Any]]]]]:
    """Yield range and tiles of the fused stack that are surely in focus."""
    from napari_ips.fusion import fuse_to_arrays

    config = FuseConfig(mode="hard", device=device)
    result = fuse_to_arrays(stack, config=config, stop=stop)
    for t, c in np.ndindex(stack.shape[:2]):
        fused, sure = result.fused[t, c], result.confidence[t, c]
        tiles = [
            (area, fused[area])
            for area in areas
            if np.median(sure[area]) >= _LEAST_CONFIDENCE
        ]
        yield _name(stack, t, c), IntensityRange.of(_grey(fused)), tiles


def _areas(shape: tuple[int, ...], edge: int) -> list[Area]:
    """Cut an image into tiles of about equal size, none smaller than ``edge``."""
    starts = [np.linspace(0, n, max(1, n // edge) + 1).astype(int) for n in shape]
    rows, columns = ([slice(int(a), int(b)) for a, b in pairwise(s)] for s in starts)
    return list(product(rows, columns))


def _read(stack: LazyStack, t: int, c: int, z: int, stop: threading.Event) -> NDArray[Any]:
    if stop.is_set():
        raise Stopped
    (page,) = stack.read(t, c, slice(z, z + 1), _ALL, _ALL)
    return np.asarray(page)


def _grey(image: NDArray[Any]) -> NDArray[Any]:
    return luminance(image) if image.ndim == 3 else image


def _is_sharp(measured: float, least: float) -> bool:
    return measured > 0.0 and measured >= least


def _name(stack: LazyStack, t: int, c: int) -> str:
    parts = [stack.name]
    parts += [f"time point {t}"] if stack.shape[0] > 1 else []
    parts += [f"channel {c}"] if stack.shape[1] > 1 else []
    return ", ".join(parts)
