"""What there is to compute with: weights, devices, and what does the scan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Surroundings:
    """Attributes are as users read them.

    Attributes
    ----------
    weights : dict of str
        Names of registered weights, and what is known of them.
    devices : dict of str
        Devices of a setting, and their names.
    scans : dict of str
        What does the scan on each of them.
    automatic : str
        The device that ``auto`` takes.
    """

    weights: dict[str, str]
    devices: dict[str, str]
    scans: dict[str, str]
    automatic: str


def look_around() -> Surroundings:
    """See what there is, and load all that a fusion needs: seconds, at the first time."""
    import numpy as np

    from napari_ips import fuse_stack
    from napari_ips.device import choose_device, list_devices
    from napari_ips.scan import choose_backend
    from napari_ips.widgets.known_weights import known_weights
    from napari_ips.widgets.libraries import load_triton_apart

    load_triton_apart()
    devices = list_devices()
    automatic = str(choose_device())
    found = Surroundings(
        known_weights(),
        devices,
        {device: choose_backend(device)[0] for device in devices},
        automatic if automatic in devices else f"{automatic}:0",
    )
    # Kernels are compiled and weights loaded by the smallest fusion there is.
    fuse_stack(np.zeros((2, 64, 64), np.uint8))
    return found
