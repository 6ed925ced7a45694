"""The dock that plots evidence of focus over the slices."""

from napari_ips.widgets.curve.widget import FocusCurve

__all__ = ["FocusCurve"]
