"""Run a program, and write what it took to a file: FILE PROGRAM ARGUMENT...

It is run as a script of its own (see `napari_ips.evaluation.running`), and needs nothing
but the standard library. On Linux a new process begins with the peak memory of the one
that started it; a small one in between keeps the figure true.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the program of the command line."""
    file, *command = sys.argv[1:]
    # Ctrl-C is for who waits for the figures, to whom the program then has still a parent.
    signal.signal(signal.SIGINT, lambda *_: None)
    start = time.perf_counter()
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        told: dict[str, Any] = {"error": error.strerror}
    else:
        told = _waited_for(process)
        told["seconds"] = time.perf_counter() - start
    Path(file).write_text(json.dumps(told), encoding="utf-8")


def _waited_for(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait for the end of a program; return its code and, but on Windows, its usage."""
    if sys.platform == "win32":
        return {"code": process.wait(), "cpu_seconds": None, "peak_memory": None}
    _, status, usage = os.wait4(process.pid, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "code": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory": usage.ru_maxrss * unit,
    }


if __name__ == "__main__":
    main()
