"""Index maps that are saved, and applied to a z-stack in the viewer."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_ips.io.pyramid import Picture
from napari_ips.widgets.results import KEY
from napari_ips.widgets.save import provenance
from napari_ips.widgets.stacks import (
    flat_axes,
    flat_placement,
    from_planes,
    level_zero,
)
from napari_ips.widgets.work import told_steps

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_ips.io import LazyStack, Metadata


def picture_of_map(
    index: NDArray[np.uint16], metadata: Metadata, told: dict[str, Any]
) -> Picture:
    """Return an index map (T, C, Y, X) as it is saved, with what its run tells."""
    return Picture(
        index,
        metadata,
        rgb=False,
        name="index",
        kind="index",
        provenance=provenance(told),
    )


@told_steps
def apply_map(
    stack: LazyStack, index: NDArray[Any] | Path
) -> Generator[tuple[int, int], None, tuple[NDArray[Any], NDArray[Any]]]:
    """Fuse a stack by an index map, which may be in a file, tile by tile.

    Yields
    ------
    done, total : int
        Tiles.

    Returns
    -------
    image : ndarray, (T, C, Y, X[, colours])
    index : ndarray of uint16, (T, C, Y, X)

    Raises
    ------
    IPSError
        If the file cannot be read, or does not fit the stack.
    """
    from napari_ips.fusion.retouch import empty_image, fit_index, fused_tiles
    from napari_ips.io import read_index

    index = fit_index(stack, read_index(index) if isinstance(index, Path) else index)
    image = empty_image(stack)
    for event, pixels in fused_tiles(stack, index):
        image[event.t, event.c, event.y, event.x] = pixels
        yield event.done, event.total
    return image, index.astype(np.uint16)


def layers_of_map(
    source: Image, z_axis: int, image: NDArray[Any], index: NDArray[Any], map_name: str
) -> list[tuple[NDArray[Any], dict[str, Any]]]:
    """Return data and options of the layers of an applied map: the index, then the image.

    They can be retouched as the layers of any fusion.
    """
    from napari_ips import __version__

    letters = flat_axes(source, z_axis)
    slices = level_zero(source).shape[z_axis]
    told = {
        "run": uuid4().hex,
        "source": str(source.unique_id),
        "source name": source.name,
        "z axis": z_axis,
        "slices": [0, int(slices)],
        "map": map_name,
        "version": __version__,
    }
    place = flat_placement(source, z_axis)
    looks = {"rgb": source.rgb, "gamma": source.gamma}
    if not source.rgb:
        looks |= {"colormap": source.colormap, "contrast_limits": source.contrast_limits}
    return [
        (
            from_planes(index, letters),
            {
                "name": f"{source.name} by {map_name}, index",
                "colormap": "viridis",
                "contrast_limits": (0, max(1, int(slices) - 1)),
                "visible": False,
                "metadata": {KEY: {**told, "role": "index"}},
                **place,
            },
        ),
        (
            from_planes(image, letters),
            {
                "name": f"{source.name} by {map_name}",
                "metadata": {KEY: {**told, "role": "fused"}},
                **looks,
                **place,
            },
        ),
    ]
