"""What a fused image can be compared with: other results, and classical methods."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ips.errors import IPSError
from napari_ips.widgets.results import KEY, facts, role_of, source_of
from napari_ips.widgets.stacks import (
    axes_of,
    flat_axes,
    flat_placement,
    level_zero,
    stack_of,
    z_axis_of,
)
from napari_ips.widgets.work import told_steps

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_ips.evaluation.projections import Method
    from napari_ips.io import LazyStack

TITLES: dict[Method, str] = {
    "max": "Max projection",
    "mean": "Mean projection",
    "slice": "Best single slice",
    "window": "Window energy",
}
_ROLE = "comparison"

Plane = tuple[int, int, tuple[int | slice, ...]]


@dataclass(frozen=True)
class Subject:
    """A z-stack to flatten, and the layer (it or its fused image) to look like."""

    shown: Image
    source: Image
    z_axis: int
    slices: tuple[int, int]

    @property
    def axes(self) -> str:
        """One letter for each axis of a flattened image."""
        return flat_axes(self.source, self.z_axis)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of these axes."""
        letters = axes_of(self.source, self.z_axis)
        lengths = dict(zip(letters, level_zero(self.source).shape, strict=False))
        return tuple((lengths | {"Z": 1})[letter] for letter in self.axes)

    def place(self, world: Sequence[float]) -> tuple[int, int]:
        """Return time point and channel that `shown` shows at a place in the world."""
        data = [round(value) for value in self.shown.world_to_data(world)]
        if self.shown == self.source and "Z" not in self.axes:
            del data[self.z_axis]
        inside = np.clip(data, 0, np.subtract(self.shape, 1)).tolist()
        places = dict(zip(self.axes, inside, strict=True))
        return places.get("T", 0), places.get("C", 0)

    def planes(self) -> int:
        """Return the number of time points and channels."""
        lengths = zip(self.axes, self.shape, strict=True)
        return int(np.prod([n for letter, n in lengths if letter in "TC"]))


@dataclass(frozen=True)
class Task:
    """Which pixels to flatten, known before work in another thread begins."""

    stack: LazyStack
    slices: slice
    axes: str
    shape: tuple[int, ...]
    planes: tuple[Plane, ...]
    start: tuple[int, ...]


def subject_of(layers: Iterable[Layer], layer: Image) -> Subject:
    """Find the z-stack behind a layer.

    Raises
    ------
    IPSError
        If there is none, or it is not open any more.
    """
    if role_of(layer) == "fused":
        found = source_of(layers, layer)
        if found is None:
            raise IPSError(f"The stack that {layer.name} was fused from is not open.")
        source, z_axis = found
        first, end = (facts(layer) or {})["slices"]
    else:
        guessed = z_axis_of(layer)
        if guessed is None:
            raise IPSError(f"{layer.name} has no z axis.")
        source, z_axis = layer, guessed
        first, end = 0, level_zero(layer).shape[z_axis]
    axes_of(source, z_axis)
    return Subject(layer, source, z_axis, (int(first), int(end)))


def task_for(subject: Subject, place: tuple[int, int] | None) -> Task:
    """Plan the flattening of one time point and channel, or of all.

    Raises
    ------
    IPSError
        If the layer cannot be read as a z-stack.
    """
    stack = stack_of(subject.source, subject.z_axis)
    axes, shape = subject.axes, subject.shape
    single = dict(zip("TC", place or (), strict=False))
    lengths = [1 if a in single else n for a, n in zip(axes, shape, strict=True)]
    start = tuple(single.get(letter, 0) for letter in axes)
    leading = [1 if letter in "YX" else n for letter, n in zip(axes, lengths, strict=True)]
    planes = []
    for index in np.ndindex(*leading):
        at = dict(zip(axes, np.add(index, start).tolist(), strict=True))
        where = [slice(None) if a in "YX" else n for a, n in zip(axes, index, strict=True)]
        planes.append((at.get("T", 0), at.get("C", 0), tuple(where)))
    return Task(stack, slice(*subject.slices), axes, tuple(lengths), tuple(planes), start)


@told_steps
def flattened(
    task: Task, methods: Sequence[Method]
) -> Generator[float, None, dict[Method, Any]]:
    """Flatten with each method: yields the fraction done, returns the images by method."""
    from napari_ips.evaluation.projections import Flattening

    images: dict[Method, Any] = {}
    total = len(methods) * len(task.planes)
    for method in methods:
        image = np.empty((*task.shape, *task.stack.colours), task.stack.dtype)
        for number, (t, c, where) in enumerate(task.planes):
            done = len(images) * len(task.planes) + number
            steps = Flattening(task.stack, t, c, task.slices, method)
            for step in steps:
                yield (done + step.done / step.total) / total
            across = task.axes.index("X") < task.axes.index("Y")
            image[where] = steps.image.swapaxes(0, 1) if across else steps.image
        images[method] = image
    return images


def layer_options(subject: Subject, task: Task, method: Method) -> dict[str, Any]:
    """Return name, place and looks of the layer of a flattened image."""
    shown = subject.shown
    options = flat_placement(subject.source, subject.z_axis) | {
        "name": _name(task, subject, method),
        "rgb": shown.rgb,
        "gamma": shown.gamma,
        "interpolation2d": shown.interpolation2d,
        "metadata": {KEY: _told(subject, task, method)},
    }
    if not shown.rgb:
        options |= {"colormap": shown.colormap, "contrast_limits": shown.contrast_limits}
    if any(task.start):
        _shift(options, task.start)
    return options


def made_before(
    layers: Iterable[Layer], subject: Subject, task: Task, method: Method
) -> Image | None:
    """Return the layer in which the same was shown before; None if there is none."""
    told = _told(subject, task, method)
    return next((layer for layer in layers if facts(layer) == told), None)


def _told(subject: Subject, task: Task, method: Method) -> dict[str, Any]:
    from napari_ips import __version__

    return {
        "role": _ROLE,
        "method": method,
        "source": str(subject.source.unique_id),
        "source name": subject.source.name,
        "z axis": subject.z_axis,
        "slices": list(subject.slices),
        "planes": [[t, c] for t, c, _ in task.planes],
        "version": __version__,
    }


def _name(task: Task, subject: Subject, method: Method) -> str:
    if len(task.planes) == subject.planes():
        return TITLES[method]
    at = (f"{a.lower()} {n}" for a, n in zip(task.axes, task.start, strict=True))
    return f"{TITLES[method]} ({', '.join(p for p in at if p[0] in 'tc')})"


def _shift(options: dict[str, Any], start: Sequence[int]) -> None:
    """Move a layer to where its first pixel lies in the whole."""
    if "affine" in options:
        affine = options["affine"]
        affine[:-1, -1] += affine[:-1, :-1] @ np.asarray(start, float)
    else:
        moved = np.multiply(options["scale"], start)
        options["translate"] = tuple(np.add(options["translate"], moved))
