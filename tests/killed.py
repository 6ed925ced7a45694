"""Run as a program: kill fusions at chosen moments, and resume them.

Every call that changes the disk is a moment. The libraries are loaded once, and each
fusion runs in a process of its own, forked before any thread was started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_ips import FuseConfig
from napari_ips.events import Progress, TileDone
from napari_ips.fusion import fuse_to_file

_CHANGES = {"os.link", "os.mkdir", "os.rename", "os.symlink", "os.truncate", "os.utime"}
# Of a whole folder, these come without its path.
_REMOVALS = {"os.remove", "os.rmdir"}


def fuse(folder: Path, name: str, **options: object) -> None:
    """Fuse what lies in the parent of a folder into the folder, with a map beside it."""
    stack = np.load(folder.parent / "stack.npy")
    weights = str(folder.parent / "tiny.safetensors")
    config = FuseConfig(weights=weights, device="cpu", tile=256)
    fuse_to_file(stack, folder / name, index=folder / "i.tif", config=config, **options)


def watched(folder: Path, moment: int | None) -> Callable[[], int]:
    """Count the changes in a folder; kill this process before one of them."""
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        changed = event in _CHANGES or (event == "open" and arguments[2] & os.O_ACCMODE)
        if event in _REMOVALS or (changed and str(folder) in str(arguments)):
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: count


def in_child(work: Callable[[], object]) -> tuple[int, object]:
    """Call a function in a forked process; return its exit status and its answer."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        with os.fdopen(send, "w") as pipe:
            json.dump(work(), pipe)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return status, json.loads(told) if told else None


def undisturbed(folder: Path, name: str, overwrite: bool) -> dict[str, float]:
    """Fuse; return how many changes of the disk that took, and how many seconds."""
    changes = watched(folder, None)
    start = time.perf_counter()
    fuse(folder, name, overwrite=overwrite)
    return {"moments": changes(), "seconds": time.perf_counter() - start}


def killed(folder: Path, name: str, overwrite: bool, moment: int) -> None:
    """Fuse until the moment comes."""
    watched(folder, moment)
    fuse(folder, name, overwrite=overwrite)


def resumed(folder: Path, name: str, overwrite: bool) -> dict[str, float]:
    """Go on with a fusion; return how many tiles were done, and in how many seconds."""
    events: list[Progress] = []
    start = time.perf_counter()
    fuse(folder, name, overwrite=overwrite, resume=True, callback=events.append)
    tiles = sum(isinstance(event, TileDone) for event in events)
    return {"tiles": tiles, "seconds": time.perf_counter() - start}


def main(folder: Path, name: str, overwrite: bool, shares: list[float]) -> None:
    """Print what an undisturbed run took, then the same of each that was killed."""

    def fresh(number: int | str) -> Path:
        place = folder / str(number)
        place.mkdir()
        if overwrite:
            in_child(lambda: fuse(place, name))
        return place

    _, whole = in_child(lambda: undisturbed(fresh("whole"), name, overwrite))
    print(json.dumps(whole), flush=True)
    for number, share in enumerate(shares):
        place = fresh(number)
        moment = 1 + int(share * (whole["moments"] - 1))
        status, _ = in_child(lambda p=place, m=moment: killed(p, name, overwrite, m))
        # Threads take turns differently each time: the last moments may not come.
        assert status == signal.SIGKILL or (status == 0 and share > 0.95), (moment, status)
        left = len(list(place.glob(f".{name}.partial/done/*")))
        status, told = in_child(lambda p=place: resumed(p, name, overwrite))
        assert status == 0, moment
        print(json.dumps({"moment": moment, "left": left, **told}), flush=True)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2],
        sys.argv[3] == "overwrite",
        [float(share) for share in sys.argv[4:]],
    )
