"""What the figures were measured on."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

import napari_ips
from napari_ips.device import choose_device

# More work than this share of the cores makes times longer.
BUSY = 0.25


@dataclass(frozen=True)
class Machine:
    """Facts of the machine.

    Attributes
    ----------
    date : str
        ISO 8601, UTC.
    cpu : str
    cores : int
        Logical ones.
    threads : int
        That PyTorch uses.
    vectors : int
        Numbers of float32 that the kernels compute at once (lanes of numba's kernels).
    memory : int
        Bytes.
    gpu : str or None
        The one that is computed on.
    device : str
        On which is computed.
    busy : float
        Cores that other programs used at the start, for a second.
    platform, python, torch, numba, napari_ips : str
        Versions.
    """

    date: str
    cpu: str
    cores: int
    threads: int
    vectors: int
    memory: int
    gpu: str | None
    device: str
    busy: float
    platform: str
    python: str
    torch: str
    numba: str
    napari_ips: str

    @property
    def is_busy(self) -> bool:
        """Whether other work makes the times longer than they would be."""
        return self.busy > BUSY * self.cores


def this_machine(device: str | None = None) -> Machine:
    """Look at this machine; ``device`` is as in the settings of the fusion.

    Raises
    ------
    IPSError
        If the device is not there.
    """
    from napari_ips.kernels.lanes import LANES

    chosen = choose_device(device or "auto")
    gpu = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else None
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=_cpu(),
        cores=psutil.cpu_count() or 1,
        threads=torch.get_num_threads(),
        vectors=LANES,
        memory=psutil.virtual_memory().total,
        gpu=gpu,
        device=str(chosen),
        busy=psutil.cpu_percent(interval=1) / 100 * (psutil.cpu_count() or 1),
        platform=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        numba=version("numba"),
        napari_ips=napari_ips.__version__,
    )


def _cpu() -> str:
    """Return the name of the CPU, which only Linux hides in a file."""
    facts = Path("/proc/cpuinfo")
    for line in facts.read_text().splitlines() if facts.is_file() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
