"""Time from opening napari to the fused sample, and how long the window was blocked.

    xvfb-run -a -s "-screen 0 1280x800x24" python scripts/bench_napari.py

Prints one line for each step, and the longest time for which the event loop did nothing
else: while the dock opens, and while the stack is fused.
"""

import os
import sys
import tempfile
from time import perf_counter

START = perf_counter()
# Nobody's settings are to be read, or changed.
os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "napari.yaml")

import napari  # noqa: E402
from qtpy.QtCore import QTimer  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

SAMPLE = "fluorescence"
TICK = 2  # milliseconds


class Gaps:
    """The longest time between two ticks of the event loop."""

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK)
        self.restart()

    def restart(self) -> None:
        """Forget what was so far."""
        self._last = perf_counter()
        self.all: list[float] = []

    def _tick(self) -> None:
        now = perf_counter()
        self.all.append(now - self._last)
        self._last = now

    def told(self) -> str:
        """Tell the longest ones, in milliseconds."""
        longest = sorted(self.all, reverse=True)[:3]
        return "longest blocks " + ", ".join(f"{1000 * gap:.0f}" for gap in longest) + " ms"


def wait(done) -> None:
    """Run the event loop until something is the case."""
    while not done():
        QApplication.processEvents()


def main() -> None:
    """Open napari, a sample and the dock, and fuse."""
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    print(f"napari is open after {perf_counter() - START:.1f} s")
    viewer.open_sample("napari-ips", SAMPLE)
    print(f"sample is open after {perf_counter() - START:.1f} s (3 clicks)")
    gaps = Gaps()
    _, widget = viewer.window.add_plugin_dock_widget("napari-ips", "Fuse z-stack")
    print(f"dock is open after {perf_counter() - START:.1f} s (3 clicks)")
    wait(lambda: "scan by" in widget.form.advanced.computes_on.text())
    print(f"all is loaded after {perf_counter() - START:.1f} s; {gaps.told()}")
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    for _ in range(runs):
        gaps.restart()
        begin = perf_counter()
        widget.run_button.click()
        wait(lambda: widget.run_button.text() == "Fuse")
        print(
            f"fused in {perf_counter() - begin:.1f} s (1 click), "
            f"{perf_counter() - START:.1f} s after the start; {gaps.told()}"
        )
    viewer.close()


if __name__ == "__main__":
    main()
