"""How long users wait before anything happens."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from napari_ips.errors import IPSError
from napari_ips.evaluation.running import OWN, run_program
from napari_ips.evaluation.speed.fusing import own_program
from napari_ips.evaluation.speed.rounds import Rounds, in_turn
from napari_ips.evaluation.speed.specimen import Specimen
from napari_ips.events import ProgressCallback

HELP, INFO = "napari-ips --help", "napari-ips info"
IMPORT = "import napari_ips"
COMPILING = "first run: compiling the kernels"
DOCK = "opening the fuse dock in napari"
# What is aimed at, seconds.
TARGETS = {HELP: 0.4, INFO: 3.0, IMPORT: 0.1, COMPILING: 2.0, DOCK: 1.0}

ROUNDS = Rounds(5, seconds=20.0)
# Each of these takes some seconds.
LONG_ROUNDS = Rounds(2, seconds=15.0)
_TINY = Specimen(64, 3)
_TIMEOUT = 120.0
# Where numba, and Triton for a GPU, keep what they compiled.
_CACHES = ("NUMBA_CACHE_DIR", "TRITON_CACHE_DIR")

Environment = dict[str, str]


@dataclass(frozen=True)
class StartRow:
    """How long something takes.

    Attributes
    ----------
    what : str
        One of `TARGETS`.
    target : float
        Seconds that are aimed at.
    seconds : float or None
        The median.
    runs : tuple of float
        Each single one.
    why : str
        Why it was not measured.
    """

    what: str
    target: float
    seconds: float | None = None
    runs: tuple[float, ...] = ()
    why: str = ""


def measure_startup(
    rounds: Rounds = ROUNDS,
    long_rounds: Rounds = LONG_ROUNDS,
    device: str | None = None,
    callback: ProgressCallback | None = None,
) -> list[StartRow]:
    """Measure what `TARGETS` lists.

    Parameters
    ----------
    rounds, long_rounds : Rounds
        For what takes a second or so, and for compilation and napari.
    device : str, optional
        What the kernels are compiled for.
    callback : callable, optional
        Called with `Progress`.

    Raises
    ------
    IPSError
        If this package cannot be run at all.
    """
    works: dict[str, Callable[[], float]] = {
        HELP: partial(_seconds, HELP, [*OWN, "--help"]),
        INFO: partial(_seconds, INFO, [*OWN, "info"]),
        IMPORT: _importing,
    }
    found = in_turn(works, rounds, "start-up", callback)
    why = {DOCK: why_no_napari()}
    long_works: dict[str, Callable[[], float]] = {
        COMPILING: partial(_compiling, device),
        DOCK: _opening,
    }
    for what, work in long_works.items():
        if not why.get(what):
            try:
                found |= in_turn({what: work}, long_rounds, what, callback)
            except IPSError as error:
                why[what] = str(error).removesuffix(".")
    return [_row(what, found.get(what, ()), why.get(what, "")) for what in TARGETS]


def why_no_napari() -> str:
    """Say why napari cannot be opened here; nothing if it can."""
    if importlib.util.find_spec("napari") is None:
        return "napari is not installed"
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, screens)):
        return "there is no screen; run it by xvfb-run -a"
    return ""


def _row(what: str, runs: Sequence[float], why: str) -> StartRow:
    if not runs:
        return StartRow(what, TARGETS[what], why=why)
    return StartRow(what, TARGETS[what], median(runs), tuple(runs))


def _seconds(
    name: str, command: Sequence[str], environment: Environment | None = None
) -> float:
    return run_program(command, name, timeout=_TIMEOUT, environment=environment).seconds


def _importing() -> float:
    """Return by how much Python takes longer with the package than with nothing."""
    nothing = _seconds("python", [sys.executable, "-c", "pass"])
    return _seconds(IMPORT, [sys.executable, "-c", IMPORT]) - nothing


def _compiling(device: str | None) -> float:
    """Return by how much a fusion takes longer where nothing is compiled yet."""
    program, slices = own_program("balanced", device), _TINY.array()
    with tempfile.TemporaryDirectory(prefix="napari-ips-") as folder:
        places = program.prepare(Path(folder), slices)
        kernels = {name: str(Path(folder) / name) for name in _CACHES}
        command = [places.filled(word) for word in program.words]
        seconds = []
        for _ in range(2):
            places.empty()
            seconds.append(_seconds("napari-ips fuse", command, os.environ | kernels))
        return seconds[0] - seconds[1]


def _opening() -> float:
    """Return how long the window of napari does nothing else while the dock opens."""
    with tempfile.TemporaryDirectory(prefix="napari-ips-") as folder:
        told = Path(folder) / "seconds.txt"
        command = [sys.executable, "-m", "napari_ips.widgets.opening", str(told)]
        # Nobody's settings are to be read, or changed.
        settings = {"NAPARI_CONFIG": str(Path(folder) / "napari.yaml")}
        _seconds("napari", command, os.environ | settings)
        return float(told.read_text(encoding="utf-8"))
