"""What the tests of the plugin share: a viewer of their own, small stacks and results."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Before napari is loaded: its own settings are not to be those of the developer.
os.environ["NAPARI_CONFIG"] = ""

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from napari.utils.interactions import (
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
)

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
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the weights and training runs of a test in folders of its own."""
    from napari_ips import weights
    from napari_ips.training import runs

    folder = tmp_path / "user"
    monkeypatch.setattr(weights, "user_folder", lambda: folder / "weights")
    monkeypatch.setattr(runs, "runs_folder", lambda: folder / "training")
    return folder


@pytest.fixture(autouse=True)
def no_work_left(qapp: Any, settings_folder: Path) -> Iterator[None]:
    """Let the work in other threads end before the next test; none may hang."""
    from superqt.utils import WorkerBase

    yield
    WorkerBase.await_workers(20_000)
    # What has ended tells so through the event loop.
    qapp.processEvents()


def pytest_configure(config: pytest.Config) -> None:
    told = "in_window: needs a window of napari, which takes seconds to make and to close"
    config.addinivalue_line("markers", told)


@pytest.fixture
def viewer(request: pytest.FixtureRequest) -> Any:
    """Return a viewer without layers, and without a window but for tests `in_window`.

    Only what is public of it can be used.
    """
    if request.node.get_closest_marker("in_window") is None:
        return PublicOnlyProxy(ViewerModel())
    return request.getfixturevalue("make_napari_viewer_proxy")()


@pytest.fixture
def open_dock(viewer: Any, qtbot: Any) -> Iterator[Callable[[Any], Any]]:
    """Return what opens a widget as a dock, if there is a window, and returns it."""
    # Not before pytest-qt has chosen between PyQt and PySide.
    from qtpy.compat import isalive

    alone = []

    def opened(widget: Any) -> Any:
        if hasattr(viewer, "window"):
            viewer.window.add_dock_widget(widget)
        else:
            alone.append(widget)
        return widget

    yield opened
    for widget in alone:
        # A test may have done so.
        if isalive(widget):
            widget.deleteLater()


@pytest.fixture
def click_at(viewer: Any) -> Callable[..., None]:
    """Return what presses and releases the mouse at a place in the world."""

    def click(world: Any, drag: int = 0, **changed: Any) -> None:
        model = viewer.__wrapped__
        event = SimpleNamespace(
            type="mouse_press",
            button=1,
            modifiers=[],
            handled=False,
            is_dragging=False,
            position=world,
            pos=(20, 30),
            dims_displayed=list(model.dims.displayed),
        )
        event.__dict__.update(changed)
        mouse_press_callbacks(model, event)
        event.type, event.pos, event.is_dragging = "mouse_move", (20 + drag, 30), True
        mouse_move_callbacks(model, event)
        event.type = "mouse_release"
        mouse_release_callbacks(model, event)

    return click


class Gate:
    """Work that comes here waits, once the gate is closed, until it is opened."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        if not self._open.is_set():
            self.reached.set()
            assert self._open.wait(20)

    def before(self, array: np.ndarray) -> Any:
        """Return a lazy array, slice by slice, whose pixels come through the gate."""

        def read(block: np.ndarray) -> np.ndarray:
            self.wait()
            return block

        lazy = da.from_array(array, chunks=(*(1,) * (array.ndim - 2), -1, -1))
        return lazy.map_blocks(read, dtype=array.dtype)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


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
