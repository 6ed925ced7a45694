"""What result layers say of themselves, and which layers belong together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from napari.layers import Image, Layer

KEY = "napari-ips"
Role = Literal[
    "fused", "index", "depth", "confidence", "retouch", "comparison", "swipe", "preview"
]


def facts(layer: Layer) -> dict[str, Any] | None:
    """Return what a result layer says of the run it is from; None for other layers.

    Plain values, so that they can be saved: "role", "run" (the same for all layers of a
    run), "source" (unique id of the layer that was fused), "source name", "decided by"
    (unique id of the layer that decided, if several were fused together), "z axis" (of
    the source), "slices" (the first, and the one after the last), "reference channel"
    (of the stack, that decided for all; None: each for itself), "weights", "settings",
    "version".
    """
    known = layer.metadata.get(KEY)
    return known if isinstance(known, dict) else None


def role_of(layer: Layer) -> Role | None:
    """Return which of the results a layer is; None for other layers."""
    known = facts(layer)
    return known.get("role") if known else None


def siblings(layers: Iterable[Layer], layer: Layer, role: Role) -> list[Layer]:
    """Return the layers of a role that are from the same run as a result layer."""
    known = facts(layer)
    if known is None:
        return []
    return [
        other
        for other in layers
        if role_of(other) == role and (facts(other) or {}).get("run") == known.get("run")
    ]


def source_of(layers: Iterable[Layer], layer: Layer) -> tuple[Image, int] | None:
    """Return the layer that a result was fused from, and its z axis; None if it is gone."""
    return _found(layers, facts(layer), "source")


def decider_of(layers: Iterable[Layer], layer: Layer) -> tuple[Image, int] | None:
    """Return the layer that decided in the run of a result, as `source_of`."""
    known = facts(layer)
    told = "decided by" if known and "decided by" in known else "source"
    return _found(layers, known, told)


def _found(
    layers: Iterable[Layer], known: dict[str, Any] | None, told: str
) -> tuple[Image, int] | None:
    for other in layers:
        if known is not None and str(other.unique_id) == known.get(told):
            return other, int(known["z axis"])
    return None
