"""Focus stacking of z-stacks by the IPS method.

The public names below are loaded when they are first used, so that importing the
package stays quick: no PyTorch, numba, scikit-image or napari until they are needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_ips.config import FuseConfig, NetworkConfig, TrainConfig
    from napari_ips.errors import IPSError
    from napari_ips.fusion import FusionResult, fuse_pair, fuse_stack, fuse_to_file
    from napari_ips.network import CrossImageFusionNetwork
    from napari_ips.scan import selective_scan
    from napari_ips.simulation import simulate_stack
    from napari_ips.training import train

    __version__: str

__all__ = [
    "CrossImageFusionNetwork",
    "FuseConfig",
    "FusionResult",
    "IPSError",
    "NetworkConfig",
    "TrainConfig",
    "__version__",
    "fuse_pair",
    "fuse_stack",
    "fuse_to_file",
    "selective_scan",
    "simulate_stack",
    "train",
]

_HOME = {
    "CrossImageFusionNetwork": "network",
    "FuseConfig": "config",
    "FusionResult": "fusion",
    "IPSError": "errors",
    "NetworkConfig": "config",
    "TrainConfig": "config",
    "fuse_pair": "fusion",
    "fuse_stack": "fusion",
    "fuse_to_file": "fusion",
    "selective_scan": "scan",
    "simulate_stack": "simulation",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("napari-ips")
        except PackageNotFoundError:
            return "0+unknown"
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
