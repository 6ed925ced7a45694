"""Fusion of pairs and stacks with a trained network."""

from napari_ips.errors import Stopped
from napari_ips.fusion.arrays import FusedArrays, fuse_to_arrays
from napari_ips.fusion.decide import FusionResult
from napari_ips.fusion.pair import fuse_pair
from napari_ips.fusion.retouch import apply_index, fused_tiles, take_slices
from napari_ips.fusion.stack import fuse_stack
from napari_ips.fusion.volume import fuse_to_file

__all__ = [
    "FusedArrays",
    "FusionResult",
    "Stopped",
    "apply_index",
    "fuse_pair",
    "fuse_stack",
    "fuse_to_arrays",
    "fuse_to_file",
    "fused_tiles",
    "take_slices",
]
