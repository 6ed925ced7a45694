"""The weights that are registered, as the docks list them, and word of their changes."""

from __future__ import annotations

from psygnal import Signal


class _Registry:
    """Tells all docks that weights were registered, renamed or deleted."""

    changed = Signal()


registry = _Registry()


def known_weights() -> dict[str, str]:
    """Return the names of registered weights, and what is known of them."""
    from napari_ips.weights import list_weights

    return {info.name: _told(info.card, info.bundled) for info in list_weights()}


def _told(card: dict[str, str], bundled: bool) -> str:
    words = ["comes with napari-ips" if bundled else "your own"]
    words += [f"{name} {card[name]}" for name in ("preset", "iterations") if name in card]
    return ", ".join(words)
