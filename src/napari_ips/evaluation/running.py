"""Run another program, and measure what it takes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from napari_ips.errors import IPSError
from napari_ips.evaluation import launcher

# The command line of this package.
OWN = (sys.executable, "-m", "napari_ips")
_TAIL = 300


@dataclass(frozen=True)
class Usage:
    """What a program took, from its start to its end.

    Attributes
    ----------
    seconds : float
        By the clock.
    cpu_seconds : float or None
        Of all cores, with those of the programs that it started and waited for. None
        where the system does not tell (Windows), as for the memory.
    peak_memory : int or None
        Bytes in memory at most, of the largest of these programs.
    """

    seconds: float
    cpu_seconds: float | None = None
    peak_memory: int | None = None


def run_program(
    command: Sequence[str],
    name: str,
    *,
    timeout: float | None = None,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Usage:
    """Run a program to its end; it gets no input.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    name : str
        What it is called in errors.
    timeout : float, optional
        Seconds after which it is stopped, with all that it has started; so it is when
        the caller is interrupted.
    log : Path, optional
        The file for what it prints, which is thrown away otherwise.
    environment : mapping, optional
        In the place of this program's own.

    Raises
    ------
    IPSError
        If it cannot be started, fails, or takes too long; the line ends with the end of
        what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="napari-ips-") as folder:
        told, log = Path(folder) / "usage.json", log or Path(folder) / "log.txt"
        launched = [sys.executable, "-I", "-S", launcher.__file__, str(told), *command]
        _run(launched, name, timeout, log, environment)
        if not told.is_file():
            raise IPSError(f"{name} was stopped{tail(log)}")
        usage: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
        if "error" in usage:
            raise IPSError(f"{name} cannot be started: {usage['error']}.")
        code = usage.pop("code")
        if code != 0:
            raise IPSError(f"{name} failed with code {code}{tail(log)}")
        return Usage(**usage)


def tail(log: Path) -> str:
    """Quote the end of what a program printed, to follow a line about it."""
    words = " ".join(log.read_text(encoding="utf-8", errors="replace").split())
    if len(words) > _TAIL:
        words = f"...{words[-_TAIL:]}"
    return f": {words}" if words else " and printed nothing."


def _run(
    command: Sequence[str],
    name: str,
    timeout: float | None,
    log: Path,
    environment: Mapping[str, str] | None,
) -> None:
    # Into a file: a pipe would be held open by what the program itself has started.
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise IPSError(f"{name} took more than {timeout:g} s{tail(log)}") from None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, with all that it has started."""
    if process.poll() is not None:
        return
    parent = psutil.Process(process.pid)
    for child in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait()
