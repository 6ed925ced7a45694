"""The dock widget that fuses z-stack layers."""

from napari_ips.widgets.fuse.widget import FuseWidget

__all__ = ["FuseWidget"]
