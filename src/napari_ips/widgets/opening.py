"""Time the opening of the fuse dock: ``python -m napari_ips.widgets.opening FILE``.

Opens napari, adds the dock when its window has come to rest, and writes the longest time
in seconds for which the window was blocked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import napari
from qtpy.QtCore import QEventLoop, QThreadPool, QTimer
from qtpy.QtWidgets import QApplication

_TICK = 2  # milliseconds
# After so many seconds without a block the window is at rest.
_REST, _BLOCK = 1.0, 0.05
_LONGEST = 30.0


class _Gaps:
    """The time between two ticks of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.last_block = self._last = perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(_TICK)

    def _tick(self) -> None:
        now = perf_counter()
        gap, self._last = now - self._last, now
        self.longest = max(self.longest, gap)
        if gap > _BLOCK:
            self.last_block = now


def _come_to_rest(gaps: _Gaps) -> None:
    """Run the event loop until nothing is loaded any more, nor anything blocks it."""
    start = busy = perf_counter()
    while perf_counter() < min(start + _LONGEST, max(busy, gaps.last_block) + _REST):
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        if QThreadPool.globalInstance().activeThreadCount():
            busy = perf_counter()


def main(file: Path) -> None:
    """Open napari and the dock, and write how long the window was blocked."""
    viewer = napari.Viewer()
    gaps = _Gaps()
    _come_to_rest(gaps)
    gaps.longest = 0.0
    viewer.window.add_plugin_dock_widget("napari-ips", "Fuse z-stack")
    _come_to_rest(gaps)
    file.write_text(f"{gaps.longest}", encoding="utf-8")
    viewer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
