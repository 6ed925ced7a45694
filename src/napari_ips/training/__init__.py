"""Training of the network on any in-focus images (Sections III-A and III-C)."""

from napari_ips.training.loop import train

__all__ = ["train"]
