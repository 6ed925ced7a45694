"""A run whose index map is edited: which layers take part, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from napari.qt.threading import create_worker
from napari.utils.colormaps import CyclicLabelColormap
from napari.utils.notifications import show_error
from numpy.typing import NDArray
from psygnal import Signal

from napari_ips.errors import IPSError
from napari_ips.widgets.results import KEY, facts, role_of, siblings, source_of
from napari_ips.widgets.retouch.edits import Edits, Follower, Pixels
from napari_ips.widgets.stacks import as_planes, flat_axes, level_zero, stack_of

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

OPACITY = 0.3
# Pixels in memory that are taken within a few milliseconds.
_AT_ONCE = 512**2


class Retouching:
    """The edits of the index map of one run.

    It lives as long as one of its layers, so that nothing is lost with the dock, nor with
    the labels: they can be shown again.

    Attributes
    ----------
    changed : Signal
        Emitted when fused images have changed.
    edits : Edits
    z_axis : int
        The axis of slices of the layer that was fused.
    """

    changed = Signal()

    def __init__(self, layers: Iterable[Layer], fused: Image) -> None:
        layers = list(layers)
        problem = obstacle(layers, fused)
        found = source_of(layers, fused)
        if problem or found is None:
            raise IPSError(problem or "The stack is not in the viewer any more.")
        source, self.z_axis = found
        self._source = ref(source)
        index = siblings(layers, fused, "index")[0]
        letters = flat_axes(source, self.z_axis)
        if index.ndim < len(letters):
            letters = letters.replace("C", "")
        followers = {
            layer: _follower(layers, layer)
            for layer in siblings(layers, fused, "fused")
            if not obstacle(layers, layer)
        }
        _check_fit(as_planes(index.data, letters), followers[fused], index.name)
        self._layers = [ref(layer) for layer in followers]
        in_memory = type(level_zero(source)) is np.ndarray
        self.edits = Edits(
            index.data,
            letters,
            list(followers.values()),
            self._refresh,
            show_error,
            _read_elsewhere,
            _AT_ONCE if in_memory else 0,
        )
        self._placement = _placement(index)
        self._colormap = _colours_of_slices(index, self.edits.slices)
        self.told = {**(facts(fused) or {}), "role": "retouch"}
        self._name = f"{fused.name} retouch"
        self._labels: ReferenceType[Labels] | None = None
        # It brings PyTorch, for which a stroke should not have to wait.
        create_worker(import_module, "napari_ips.fusion", _start_thread=True)

    @property
    def source(self) -> Image | None:
        """The layer that was fused; None once it is gone."""
        return self._source()

    def labels_in(self, layers: Iterable[Layer]) -> Labels | None:
        """Return the layer in which the map is edited, if it is there."""
        known = self._labels() if self._labels else None
        return known if known in list(layers) else None

    def show_in(self, viewer: Any) -> Labels:
        """Return the layer in which the map is edited, added if need be, and select it."""
        labels = self.labels_in(viewer.layers)
        if labels is None:
            labels = viewer.add_labels(
                self.edits.labels,
                name=self._name,
                opacity=OPACITY,
                colormap=self._colormap,
                metadata={KEY: dict(self.told)},
                **self._placement,
            )
            labels.events.data.connect(self._keep_watched)
            self._labels = ref(labels)
        viewer.layers.selection.active = labels
        return labels

    def discard(self) -> None:
        """Put the fused images and the labels back to how they were fused."""
        self.edits.discard()
        if self._labels and (labels := self._labels()):
            labels.refresh()

    def _keep_watched(self, event: Any) -> None:
        """Take over an array that was put in place of the one that is watched."""
        labels = event.source
        if (
            labels.data is not self.edits.labels
            and labels.data.shape == self.edits.labels.shape
        ):
            self.edits.labels[...] = labels.data
            labels.data = self.edits.labels

    def _refresh(self) -> None:
        for layer in (known() for known in self._layers):
            if layer is not None:
                layer.metadata[KEY]["retouched pixels"] = self.edits.retouched
                layer.refresh(extent=False)
        self.changed.emit()


_BEGUN: WeakKeyDictionary[Image, Retouching] = WeakKeyDictionary()


def begin(layers: Iterable[Layer], fused: Image) -> Retouching:
    """Return the edits of a fused image, from earlier if there are any.

    Raises
    ------
    IPSError
        If it cannot be edited.
    """
    known = _BEGUN.get(fused)
    if known is None:
        known = Retouching(layers, fused)
        for layer in siblings(layers, fused, "fused"):
            _BEGUN[layer] = known
    return known


def begun(fused: Image | None) -> Retouching | None:
    """Return the edits of a fused image, if there are any."""
    return None if fused is None else _BEGUN.get(fused)


def obstacle(layers: Iterable[Layer], fused: Image | None) -> str:
    """Return in a line why a fused image cannot be edited; "" if it can."""
    layers = list(layers)
    if fused is None:
        return "Fuse a stack first; its result can be retouched here."
    if role_of(fused) != "fused" or source_of(layers, fused) is None:
        name = (facts(fused) or {}).get("source name", "its stack")
        return f"{name} is not in the viewer any more; retouching needs its slices."
    if not siblings(layers, fused, "index"):
        return "Its index map is not in the viewer any more; fuse the stack again."
    index = siblings(layers, fused, "index")[0]
    for layer in (fused, index):
        if not isinstance(layer.data, np.ndarray) or not layer.data.flags.writeable:
            return f"{layer.name} is kept on disk; fuse into memory to retouch."
    return ""


def _follower(layers: list[Layer], fused: Image) -> Follower:
    found = source_of(layers, fused)
    assert found is not None, "an obstacle otherwise"
    letters = flat_axes(*found)
    follower = Follower(_pixels_of(fused, letters), stack_of(*found))
    times, channels, _, *image = follower.stack.shape
    fits = fused.ndim == len(letters)
    if not fits or as_planes(fused.data, letters).shape[:4] != (times, channels, *image):
        raise IPSError(f"{fused.name} is not of the shape of its stack any more.")
    return follower


def _pixels_of(fused: Image, letters: str) -> Callable[[], NDArray[Any] | None]:
    """Return what finds the pixels of a layer, and does not keep the layer."""
    known, shape = ref(fused), fused.data.shape

    def pixels() -> NDArray[Any] | None:
        layer = known()
        if layer is None or getattr(layer.data, "shape", None) != shape:
            return None
        planes: NDArray[Any] = as_planes(layer.data, letters)
        return planes

    return pixels


def _check_fit(index: NDArray[Any], follower: Follower, name: str) -> None:
    times, channels, _, *image = follower.stack.shape
    fits = index.shape[2:] == tuple(image) and all(
        n in (1, whole) for n, whole in zip(index.shape, (times, channels), strict=False)
    )
    if not fits:
        raise IPSError(f"{name} is not of the shape of the fused image any more.")


def _read_elsewhere(read: Callable[[], Pixels], take: Callable[[Pixels], None]) -> None:
    def fail(error: Exception) -> None:
        # Whatever it is, the edits go on.
        take(f"The slices cannot be read: {error}")

    create_worker(read, _connect={"returned": take, "errored": fail})


def _colours_of_slices(index: Image, slices: int) -> CyclicLabelColormap:
    """Return a colour for each label: that of its slice in the index map."""
    low, high = index.contrast_limits
    places = (np.arange(slices) - low) / max(high - low, 1e-9)
    colours = index.colormap.map(np.clip(places, 0, 1))
    return CyclicLabelColormap(
        colors=np.vstack([np.zeros((1, 4), colours.dtype), colours]), name="slices"
    )


def _placement(layer: Image) -> dict[str, Any]:
    return {
        "axis_labels": layer.axis_labels,
        "units": layer.units,
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix,
    }
