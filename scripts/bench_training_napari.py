"""How long napari's window was blocked while a network is trained in it.

    xvfb-run -a -s "-screen 0 1280x800x24" python scripts/bench_training_napari.py [STEPS]

Trains on the images of scikit-image, with a z-stack open, and prints the longest times for
which the event loop did nothing else: while the dock opens, while images are read, and
while the network learns, by what the window did meanwhile.
"""

import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

START = perf_counter()
SCRATCH = Path(tempfile.mkdtemp())
# Nobody's settings, runs and weights are to be read, or changed.
os.environ["NAPARI_CONFIG"] = str(SCRATCH / "napari.yaml")
os.environ["XDG_DATA_HOME"] = str(SCRATCH)

import napari  # noqa: E402
from bench_napari import Gaps, wait  # noqa: E402
from PIL import Image  # noqa: E402
from skimage import data  # noqa: E402

from napari_ips import TrainConfig  # noqa: E402

IMAGES = ("camera", "coins", "moon", "brick", "grass", "gravel")


def main() -> None:
    """Open napari, a z-stack and the dock, and train."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    folder = SCRATCH / "images"
    folder.mkdir()
    for name in IMAGES:
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.open_sample("napari-ips", "fluorescence")
    gaps = Gaps()
    _, widget = viewer.window.add_plugin_dock_widget("napari-ips", "Train weights")
    wait(lambda: bool(widget.form.advanced.computes_on.text()))
    print(f"dock is open and all is loaded; {gaps.told()}")
    config = TrainConfig(
        images=(folder,),
        output=SCRATCH / "weights.safetensors",
        start_from="default",
        iterations=steps,
        crop_size=64,
        batch_size=1,
        validation_interval=max(1, steps // 10),
        checkpoint_seconds=5,
    )
    widget.form.set_values(config)
    widget.form.title.setText("bench")
    gaps.restart()
    begin = perf_counter()
    widget.buttons.buttons["train"].click()
    wait(lambda: widget.session.phase.value != "preparing")
    print(f"the training began after {perf_counter() - begin:.1f} s; {gaps.told()}")
    gaps.restart()
    begin = perf_counter()
    wait(lambda: widget.session.phase.value != "training")
    seconds = perf_counter() - begin
    print(f"{steps} steps took {seconds:.1f} s; {gaps.told()}")
    viewer.close()


if __name__ == "__main__":
    main()
