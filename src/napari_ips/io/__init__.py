"""Reading and writing images and z-stacks."""

from napari_ips.io.index_map import read_index
from napari_ips.io.lazy import Channel, LazyStack, Metadata, open_stacks, wrap_array
from napari_ips.io.read import Stack, read_image, read_pages, read_stack
from napari_ips.io.write import check_writable, write_image, write_stack

__all__ = [
    "Channel",
    "LazyStack",
    "Metadata",
    "Stack",
    "check_writable",
    "open_stacks",
    "read_image",
    "read_index",
    "read_pages",
    "read_stack",
    "wrap_array",
    "write_image",
    "write_stack",
]
