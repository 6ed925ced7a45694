"""Reading and writing images and z-stacks."""

from napari_ips.io.read import Stack, read_image, read_pages, read_stack
from napari_ips.io.write import check_writable, write_image, write_stack

__all__ = [
    "Stack",
    "check_writable",
    "read_image",
    "read_pages",
    "read_stack",
    "write_image",
    "write_stack",
]
