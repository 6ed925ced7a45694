"""The dock that compares fused images with projections."""

from napari_ips.widgets.compare.widget import CompareWidget

__all__ = ["CompareWidget"]
