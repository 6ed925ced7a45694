"""Training of the network on any in-focus images (Sections III-A and III-C)."""

from napari_ips.training.checkpoint import checkpoint_path
from napari_ips.training.estimate import RunEstimate, estimate_run
from napari_ips.training.loop import train

__all__ = ["RunEstimate", "checkpoint_path", "estimate_run", "train"]
