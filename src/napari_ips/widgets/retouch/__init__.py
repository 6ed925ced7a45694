"""The dock in which a fused image is retouched by slice."""

from napari_ips.widgets.retouch.widget import RetouchWidget

__all__ = ["RetouchWidget"]
