"""The dock that shows a height map as a surface."""

from napari_ips.widgets.surface.widget import SurfaceWidget

__all__ = ["SurfaceWidget"]
