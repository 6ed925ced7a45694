"""Libraries that have to be loaded with care in a program that draws."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path


def load_triton_apart() -> None:
    """Load Triton so that it keeps to the LLVM that it brings along.

    PyTorch imports it as soon as it trains, also on the CPU. The drivers of a screen may
    have loaded another LLVM by then (Mesa does); bound to that one, Triton would end the
    program without a word.
    """
    if "triton" in sys.modules or not hasattr(os, "RTLD_DEEPBIND"):
        return
    found = find_spec("triton")
    for folder in (found and found.submodule_search_locations) or ():
        with suppress(OSError):
            library = Path(folder) / "_C" / "libtriton.so"
            ctypes.CDLL(str(library), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
