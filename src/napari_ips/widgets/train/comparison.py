"""A z-stack fused with two sets of weights, to see what the training brought."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from napari.qt.threading import create_worker

from napari_ips.config import FuseConfig
from napari_ips.events import Progress
from napari_ips.widgets.results import KEY, role_of
from napari_ips.widgets.stacks import (
    flat_axes,
    flat_placement,
    from_planes,
    stack_of,
    z_axis_of,
)
from napari_ips.widgets.train.worker import StoppableWorker
from napari_ips.widgets.work import told

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ips.fusion import FusedArrays
    from napari_ips.io import LazyStack


def stack_layers(viewer: ViewerModel) -> list[Image]:
    """Return the layers that can be fused."""
    return [
        layer
        for layer in viewer.layers
        if isinstance(layer, Image)
        and layer.ndim > 2
        and role_of(layer) is None
        and z_axis_of(layer) is not None
    ]


def compare_worker(
    layer: Image, weights: tuple[str | Path, ...], callback: Callable[[Progress], None]
) -> Any:
    """Return a worker that fuses a layer with each of the weights.

    It returns a list of `FusedArrays`, or a line that says why there are none; None when
    it was told to quit.

    Raises
    ------
    IPSError
        If the layer is no z-stack.
    """
    z_axis = z_axis_of(layer)
    assert z_axis is not None, "see stack_layers"
    stop = threading.Event()
    stack = stack_of(layer, z_axis)
    worker: Any = create_worker(
        _fuse, stack, weights, stop, callback, _worker_class=StoppableWorker
    )
    worker.asked = stop
    return worker


@told
def _fuse(
    stack: LazyStack,
    weights: tuple[str | Path, ...],
    stop: threading.Event,
    callback: Callable[[Progress], None],
) -> list[FusedArrays] | None:
    from napari_ips.fusion import Stopped, fuse_to_arrays

    fused = []
    try:
        for name in weights:
            config = FuseConfig(weights=str(name))
            fused.append(fuse_to_arrays(stack, config=config, stop=stop, callback=callback))
    except Stopped:
        return None
    return fused


def add_fused(
    viewer: ViewerModel, source: Image, fused: FusedArrays, weights: str, told_as: str
) -> Image:
    """Add a fused image that looks like the z-stack it is from."""
    z_axis = z_axis_of(source)
    assert z_axis is not None
    axes = flat_axes(source, z_axis)
    options: dict[str, Any] = {
        "name": told_as,
        "rgb": source.rgb,
        "metadata": {
            KEY: {"role": "comparison", "weights": weights, "source name": source.name}
        },
    }
    if not source.rgb:
        options |= {
            "colormap": source.colormap,
            "contrast_limits": source.contrast_limits,
            "gamma": source.gamma,
        }
    layer = Image(
        from_planes(fused.fused, axes), **options, **flat_placement(source, z_axis)
    )
    viewer.layers.append(layer)
    return layer
