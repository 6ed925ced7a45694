"""A worker that can be told to end, also by napari that is about to close."""

from __future__ import annotations

import threading
from contextlib import suppress

from napari.qt.threading import FunctionWorker


class StoppableWorker(FunctionWorker):
    """For `create_worker`; its work is to return soon once `asked` is set.

    Attributes
    ----------
    asked : threading.Event
        Set it before the worker is started.
    """

    asked: threading.Event

    def quit(self) -> None:
        """Ask the work to end."""
        self.asked.set()
        super().quit()

    def run(self) -> None:
        """Work, and tell what came of it unless napari, and who would listen, is gone."""
        with suppress(RuntimeError):
            super().run()
