"""What the fuse widget remembers from one session to the next: napari's preferences."""

from __future__ import annotations

from typing import Any

from napari.settings import get_plugin_settings

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError

_PLUGIN = "napari-ips"
# Of the settings of a fusion, those that stay from one stack to the next.
_KEPT = ("weights", "mode", "finest", "both_orders", "skip", "tile", "device", "precision")


def remembered() -> FuseConfig:
    """Return the settings of the last run; the defaults where they fit no more."""
    kept = _preferences()
    values = {name: getattr(kept, name) for name in _KEPT}
    if values["tile"] != "auto":
        values["tile"] = int(values["tile"])
    try:
        return FuseConfig.checked(**values)
    except IPSError:
        return FuseConfig()


def remember(config: FuseConfig) -> None:
    """Keep the settings; napari writes them down at once."""
    kept, values = _preferences(), config.model_dump()
    for name in _KEPT:
        value = str(values[name]) if name == "tile" else values[name]
        if getattr(kept, name) != value:
            setattr(kept, name, value)


def _preferences() -> Any:
    return get_plugin_settings(_PLUGIN).fusing
