"""The dock widget that trains weights."""

from napari_ips.widgets.train.widget import TrainWidget

__all__ = ["TrainWidget"]
