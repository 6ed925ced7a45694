"""What the tests of the plugin share: a viewer of their own, small stacks and results."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before napari is loaded: its own settings are not to be those of the developer.
os.environ["NAPARI_CONFIG"] = ""

import numpy as np
import pytest

from napari_ips.simulation import SimulatedStack, demo_image, simulate_stack

Z_STEP, PIXEL = 2.0, 0.5
CALIBRATION: dict[str, Any] = {
    "scale": (Z_STEP, PIXEL, PIXEL),
    "units": ("micrometer",) * 3,
    "axis_labels": ("z", "y", "x"),
}


@pytest.fixture(scope="session")
def qapp_args(qapp_args: list[str]) -> list[str]:
    """Skip where Qt, once started, would end the process for want of a screen."""
    found = {"DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"} & set(os.environ)
    if sys.platform == "linux" and not found:
        pytest.skip("there is no screen; run pytest by `xvfb-run -a`")
    return qapp_args


@pytest.fixture(autouse=True)
def settings_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep the plugin's preferences of a test in a folder of its own."""
    from napari import settings

    folder = tmp_path / "napari settings"
    folder.mkdir()
    settings._clear_plugin_settings_cache()
    monkeypatch.setattr(settings, "_CFG_PATH", str(folder / "settings.yaml"))
    yield folder
    settings._clear_plugin_settings_cache()


@pytest.fixture(autouse=True)
def no_work_left(qapp: Any, settings_folder: Path) -> Iterator[None]:
    """Let the work in other threads end before the next test; none may hang."""
    from superqt.utils import WorkerBase

    yield
    WorkerBase.await_workers(20_000)
    # What has ended tells so through the event loop.
    qapp.processEvents()


@pytest.fixture
def viewer(make_napari_viewer_proxy: Callable[..., Any]) -> Any:
    """Return a viewer without layers, in which only what is public can be used."""
    return make_napari_viewer_proxy()


@pytest.fixture(scope="session")
def simulated() -> SimulatedStack:
    """Six slices (6, 64, 64) uint16 of a tilted surface, and its truth."""
    image = demo_image("gravel")[200:264, 200:264].astype(np.uint16) * 16
    return simulate_stack(image, 6, relief="tilt", blur_per_slice=1.5)


@pytest.fixture
def stack_layer(viewer: Any, simulated: SimulatedStack) -> Any:
    """Return the layer of a z-stack in the viewer: z, y, x in micrometres."""
    return viewer.add_image(simulated.stack.copy(), name="cells", **CALIBRATION)


@pytest.fixture
def result_layers(
    viewer: Any, stack_layer: Any, simulated: SimulatedStack
) -> dict[str, Any]:
    """Return the layers of a run in the viewer, by role, as if `stack_layer` was fused."""
    index = np.rint(simulated.height).astype(np.uint16)
    arrays = {
        "fused": simulated.truth,
        "index": index,
        "depth": simulated.height * np.float32(Z_STEP),
        "confidence": np.full(index.shape, 0.5, np.float32),
    }
    told = {
        "run": "run-1",
        "source": str(stack_layer.unique_id),
        "source name": stack_layer.name,
        "z axis": 0,
        "slices": [0, len(simulated.stack)],
        "weights": "default",
        "settings": {},
        "version": "0",
    }
    flat = {key: value[1:] for key, value in CALIBRATION.items()}
    return {
        role: viewer.add_image(
            array,
            name=f"cells {role}",
            metadata={"napari-ips": {"role": role, **told}},
            **flat,
        )
        for role, array in arrays.items()
    }
