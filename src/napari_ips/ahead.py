"""Compile kernels ahead of their first use, each in a process of its own.

The first fusion on a machine would wait for numba to compile one after the other; so they
are compiled while the program loads: ``python -m napari_ips.ahead winograd``. And those of
the training while it reads its images.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import platformdirs

# Modules of `napari_ips.kernels`, and the functions in them that are compiled last.
KERNELS = {"mamba_block": "mamba_block", "winograd": "join"}
TRAINING = {"recurrence": "backward", "elementwise": "gate_backward"}
# A process that takes longer than this has no core for itself, seconds.
_PATIENCE = 10.0

_processes: list[subprocess.Popen[bytes]] = []


def compile_ahead(device: str = "auto", training: bool = False) -> None:
    """Start compiling what numba has not compiled before.

    Nothing is lost where that fails.

    Parameters
    ----------
    device : str
        Of the settings; the kernels are for the CPU.
    training : bool
        Whether the kernels of the training are needed as well.
    """
    if device not in ("auto", "cpu") or (os.cpu_count() or 1) < 2:
        return
    for module, function in (KERNELS | TRAINING if training else KERNELS).items():
        if not any(_compiled(module, function)):
            with suppress(OSError):
                _processes.append(_start(module))


def wait_for_it() -> None:
    """Let what was started come to its end, to which it is nearer than a new start."""
    for process in list(_processes):
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    _processes.clear()


def _start(module: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "napari_ips.ahead", module],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _compiled(module: str, function: str) -> Iterator[Path]:
    """Find what numba keeps of a kernel; numba itself would take too long to load."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    kept = f"{module}.{function}-*.{python}.nbi"
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        yield from Path(given).glob(f"*/{kept}")
        return
    yield from (Path(__file__).parent / "kernels" / "__pycache__").glob(kept)
    yield from platformdirs.user_cache_path("numba", appauthor=False).glob(f"*/{kept}")


if __name__ == "__main__":
    import_module(f"napari_ips.kernels.{sys.argv[1]}").compile_now()
