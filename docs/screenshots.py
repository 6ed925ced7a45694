"""Make the pictures of the guide to the plugin: open napari, and do what they show.

    xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots.py [FOLDER]

FOLDER is docs/images by default; pictures in it are replaced.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before napari is loaded: nobody's settings are to be read, changed, or to be seen.
os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "napari.yaml")
os.environ["XDG_DATA_HOME"] = os.path.dirname(os.environ["NAPARI_CONFIG"])

import napari
import numpy as np
from napari.settings import get_settings
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton, QWidget
from skimage import data

from napari_ips.widgets.results import role_of

SCRATCH = Path(os.environ["NAPARI_CONFIG"]).parent
PLUGIN = "napari-ips"
WINDOW = 1280, 800
# Of a picture of the whole window: legible, and small enough for a repository.
WIDTH = 960
PATIENCE = 300  # seconds
SETTLED = 0.7  # seconds in which napari draws, and Qt's animations end
SLICE = 5
# Pixels of the samples, in which there is something to be seen.
PICKED, DETAIL = (260, 400), (170, 290)
# Images of scikit-image that are trained on, and for how many steps.
SHARP = ("camera", "coins", "moon", "brick", "grass", "gravel", "immunohistochemistry")
STEPS = 200


class Stage:
    """A napari window, of which pictures are taken."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.viewer = napari.Viewer()
        self.viewer.window.set_geometry(0, 0, *WINDOW)
        self.docks: list[QWidget] = []

    def take(self, name: str, height: int | None = None) -> None:
        """Save what is on the screen, menus included; with a height the dock alone."""
        wait(SETTLED)
        path = self._folder / f"{name}.png"
        QApplication.primaryScreen().grabWindow(0, 0, 0, *WINDOW).save(str(path))
        with Image.open(path) as whole:
            picture = whole.convert("RGB")
        if height is None:
            size = WIDTH, round(WIDTH * WINDOW[1] / WINDOW[0])
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        else:
            corner = self.docks[-1].mapToGlobal(QPoint(0, 0))
            right, bottom = WINDOW[0], corner.y() + height
            picture = picture.crop((corner.x(), corner.y(), right, bottom))
        # Of all methods the one that keeps rare colours as they are.
        palette = Image.Quantize.FASTOCTREE
        picture = picture.quantize(method=palette, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")

    def open_sample(self, key: str) -> Any:
        """Return the layer of a sample, the only one in the viewer."""
        self.viewer.layers.clear()
        (layer,) = self.viewer.open_sample(PLUGIN, key)
        self.viewer.dims.set_current_step(0, SLICE)
        self.viewer.fit_to_view()
        return layer

    def open_dock(self, name: str) -> Any:
        """Return the widget of a dock, the only one that is open beside napari's own."""
        self.close_docks()
        dock, widget = self.viewer.window.add_plugin_dock_widget(PLUGIN, name)
        self.docks.append(dock)
        wait(SETTLED)
        self.viewer.fit_to_view()
        return widget

    def close_docks(self) -> None:
        """Close the docks of the plugin."""
        for dock in self.docks:
            self.viewer.window.remove_dock_widget(dock)
        self.docks.clear()

    def on_screen(self, layer: Any, pixel: Sequence[float]) -> QPoint:
        """Return where on the screen a pixel of a layer is shown."""
        world = in_world(layer, pixel)
        canvas = canvas_widget()
        camera = self.viewer.scene.camera
        y, x = (world - np.array(camera.center)[-2:]) * camera.zoom
        middle = canvas.rect().center()
        return canvas.mapToGlobal(QPoint(round(middle.x() + x), round(middle.y() + y)))

    def click(self, layer: Any, pixel: Sequence[float]) -> None:
        """Click on a pixel."""
        canvas = canvas_widget()
        place = canvas.mapFromGlobal(self.on_screen(layer, pixel))
        QTest.mouseMove(canvas, place)
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place)

    def drag(self, layer: Any, pixels: Sequence[Sequence[float]]) -> None:
        """Drag the mouse over pixels."""
        canvas = canvas_widget()
        places = [canvas.mapFromGlobal(self.on_screen(layer, p)) for p in pixels]
        left = Qt.MouseButton.LeftButton
        QTest.mouseMove(canvas, places[0])
        QTest.mousePress(canvas, left, pos=places[0])
        for place in places[1:]:
            QTest.mouseMove(canvas, place)
            QApplication.processEvents()
        QTest.mouseRelease(canvas, left, pos=places[-1])


def in_world(layer: Any, pixel: Sequence[float]) -> Any:
    """Return y and x of a pixel of a layer, of whatever axes, in the world."""
    place = [*[0] * (layer.ndim - 2), *pixel]
    return np.array(layer.data_to_world(place))[-2:]


@contextmanager
def opened(button: QPushButton) -> Iterator[None]:
    """Open the menu of a button."""
    button.menu().popup(button.mapToGlobal(button.rect().bottomLeft()))
    yield
    button.menu().close()


def canvas_widget() -> QWidget:
    """Return the widget in the middle of the window, in which napari draws."""
    return QApplication.widgetAt(WINDOW[0] // 2, WINDOW[1] // 2)


def wait(until: Callable[[], Any] | float) -> None:
    """Run the event loop until something is the case, or for some seconds."""
    begin = time.monotonic()
    while True:
        QApplication.processEvents()
        passed = time.monotonic() - begin
        if callable(until):
            if until():
                return
            if passed > PATIENCE:
                raise TimeoutError("What a picture is to show does not happen.")
        elif passed > until:
            return
        time.sleep(0.005)


def fused(stage: Stage, sample: str) -> Any:
    """Open a sample, fuse it, and return the dock that did it."""
    stage.open_sample(sample)
    widget = fuse_dock(stage)
    widget.run_button.click()
    wait(lambda: widget.status.text().startswith("Fused"))
    return widget


def fuse_dock(stage: Stage) -> Any:
    """Return the dock that fuses, once it knows what there is to compute with."""
    widget = stage.open_dock("Fuse z-stack")
    wait(lambda: "scan by" in widget.form.advanced.computes_on.text())
    return widget


def layer_of(stage: Stage, role: str) -> Any:
    """Return the newest result layer of a role."""
    layers = [x for x in stage.viewer.layers if role_of(x) == role]
    return layers[-1]


def fusing(stage: Stage) -> None:
    """Show the dock in the middle of and after a fusion, and its menus."""
    stage.open_sample("fluorescence")
    widget = fuse_dock(stage)
    widget.run_button.click()
    wait(lambda: widget.status.text().startswith("Fusing 2"))
    stage.take("fuse-running")
    wait(lambda: widget.status.text().startswith("Fused"))
    stage.take("fuse-done")
    with opened(widget.tools):
        stage.take("result-menu", 400)
    with opened(widget.more):
        stage.take("more-menu", 400)


def looking_at_depth(stage: Stage) -> None:
    """Show the height map over all, with a bar of its colours."""
    depth, layers = layer_of(stage, "depth"), stage.viewer.layers
    depth.visible = depth.colorbar.visible = True
    layers.selection.active = depth
    layers.move(layers.index(depth), len(layers))
    stage.take("depth")
    depth.visible = False


def choosing(stage: Stage) -> None:
    """Show what can be chosen under Advanced, and what is said of a choice that fails."""
    get_settings().appearance.theme = "light"
    widget = fuse_dock(stage)
    widget.advanced_box.expand(animate=False)
    stage.take("advanced-light")
    get_settings().appearance.theme = "dark"
    Path("fused.ome.zarr").mkdir()
    widget.form.advanced.output.value = "file"
    widget.form.advanced.path.setText("fused.ome.zarr")
    widget.form.advanced.path.editingFinished.emit()
    stage.take("problem", 670)


def probing(stage: Stage) -> None:
    """Show the focus curve of a pixel that was clicked."""
    stage.viewer.layers.selection.active = layer_of(stage, "fused")
    widget = stage.open_dock("Focus curve")
    stage.click(layer_of(stage, "fused"), PICKED)
    wait(lambda: "peak at" in widget.text.text())
    stage.take("focus-curve")


def comparing(stage: Stage) -> None:
    """Show a fused image beside others, and one across another."""
    widget = stage.open_dock("Compare fusions")
    camera = stage.viewer.scene.camera
    camera.zoom *= 2
    camera.center = in_world(layer_of(stage, "fused"), DETAIL)
    widget.button.click()
    wait(lambda: widget.panel.isEnabled())
    stage.take("compare-side-by-side")
    widget.panel.swipe.click()
    stage.take("compare-swipe")
    widget.panel.done.click()


def retouching(stage: Stage) -> None:
    """Show the brush that paints with another slice."""
    widget = stage.open_dock("Retouch by slice")
    widget.edit.click()
    labels = layer_of(stage, "retouch")
    labels.brush_size = 30
    widget.brush.number.setValue(9)
    stage.drag(labels, [(200 + 10 * np.sin(n / 6), 140 + 8 * n) for n in range(24)])
    wait(lambda: "retouched" in widget.count.text())
    stage.take("retouch")
    widget.discard.click()
    QTest.mouseMove(canvas_widget(), QPoint(2, 2))


def seeing_relief(stage: Stage) -> None:
    """Show the height map as a surface."""
    widget = stage.open_dock("3-D surface")
    widget.fields.exaggeration.setValue(2)
    widget.show_button.click()
    wait(lambda: stage.viewer.dims.ndisplay == 3)
    stage.take("surface")


def training(stage: Stage) -> None:
    """Show the images of a training, the training, and what it brought."""
    images = SCRATCH / "micrographs" / "in focus"
    images.mkdir(parents=True)
    for name in SHARP:
        Image.fromarray(getattr(data, name)()).save(images / f"{name}.png")
    stage.open_sample("fluorescence")
    widget = stage.open_dock("Train weights")
    form = widget.form
    length = {"iterations": STEPS, "minutes": None, "validation_interval": STEPS // 5}
    config = form.state().config(Path("mine.safetensors"), (images,))
    form.set_values(config.model_copy(update=length))
    wait(lambda: "usable" in form.found.summary.text())
    stage.take("train-images")
    widget.buttons.buttons["train"].click()
    wait(lambda: widget.watch.meter.iteration > STEPS / 2)
    widget.watch.previews.look()
    stage.take("train-running")
    wait(lambda: widget.finish.isVisible())
    widget.finish.compare.click()
    wait(lambda: widget.finish.panel.isVisible())
    stage.take("train-done")


def main() -> None:
    """Take all pictures."""
    here = Path(__file__).parent
    stage = Stage(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else here / "images")
    os.chdir(SCRATCH)
    fusing(stage)
    looking_at_depth(stage)
    probing(stage)
    comparing(stage)
    choosing(stage)
    fused(stage, "brightfield")
    retouching(stage)
    seeing_relief(stage)
    stage.viewer.dims.ndisplay = 2
    training(stage)
    stage.viewer.close()
    shutil.rmtree(SCRATCH, ignore_errors=True)


if __name__ == "__main__":
    main()
