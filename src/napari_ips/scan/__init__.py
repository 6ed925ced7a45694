"""The selective scan of Mamba (Section III-B, Eqs. 4-7): one operator, several backends.

Depends on torch alone; it knows nothing of images.
"""

from napari_ips.scan.dispatch import (
    backends,
    choose_backend,
    fuses_blocks,
    selective_scan,
    takes_float32_on_cpu,
    trains_on_cpu,
)

__all__ = [
    "backends",
    "choose_backend",
    "fuses_blocks",
    "selective_scan",
    "takes_float32_on_cpu",
    "trains_on_cpu",
]
