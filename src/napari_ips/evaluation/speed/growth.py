"""How time and memory grow with the size of the images and the number of slices."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from napari_ips.errors import IPSError
from napari_ips.evaluation.running import OWN, Usage, run_program
from napari_ips.evaluation.speed.rounds import Rounds, in_turn, median_or_none
from napari_ips.evaluation.speed.specimen import Specimen
from napari_ips.events import ProgressCallback

Series = Literal["pixels", "slices"]

EDGES, SLICES_OF_EDGES = (256, 512, 1024, 2048), 4
COUNTS, EDGE_OF_COUNTS = (2, 8, 32, 64), 256
LARGEST_EDGE, MOST_SLICES = 16384, 200
ROUNDS = Rounds(3, seconds=40.0)


@dataclass(frozen=True)
class GrowthRow:
    """The command line on one size.

    Attributes
    ----------
    series : {"pixels", "slices"}
        What is larger from row to row.
    edge, slices : int
    seconds, cpu_seconds : float or None
        Medians for the whole program, its start included.
    peak_memory : float or None
        Bytes, the median.
    us_per_pixel_and_slice : float
        Microseconds.
    runs : tuple of Usage
    """

    series: Series
    edge: int
    slices: int
    seconds: float
    cpu_seconds: float | None
    peak_memory: float | None
    us_per_pixel_and_slice: float
    runs: tuple[Usage, ...]


@dataclass(frozen=True)
class Line:
    """A straight line through all rows: seconds = start + slope * pixels * slices.

    Attributes
    ----------
    start : float
        Seconds.
    us_per_pixel_and_slice : float
        The slope, in microseconds.
    r_squared : float
        Share of the variance of the seconds that the line explains.
    largest_deviation : float
        Of a row from the line, as a fraction of its seconds.
    """

    start: float
    us_per_pixel_and_slice: float
    r_squared: float
    largest_deviation: float


@dataclass(frozen=True)
class Growth:
    """Both series, and the line through them."""

    rows: tuple[GrowthRow, ...]
    line: Line


def sizes(
    largest: int | None = None, most_slices: int | None = None
) -> list[tuple[Series, Specimen]]:
    """List what is measured: the usual sizes, and larger ones by doubling.

    Raises
    ------
    IPSError
        If more is asked for than `LARGEST_EDGE` or `MOST_SLICES`.
    """
    if largest is not None and not EDGES[-1] <= largest <= LARGEST_EDGE:
        raise IPSError(f"--largest must be from {EDGES[-1]} to {LARGEST_EDGE} pixels.")
    if most_slices is not None and not COUNTS[-1] <= most_slices <= MOST_SLICES:
        raise IPSError(f"--most-slices must be from {COUNTS[-1]} to {MOST_SLICES}.")
    edges = _doubled(EDGES, largest)
    counts = _doubled(COUNTS, most_slices)
    found: list[tuple[Series, Specimen]] = [
        ("pixels", Specimen(edge, SLICES_OF_EDGES)) for edge in edges
    ]
    return found + [("slices", Specimen(EDGE_OF_COUNTS, count)) for count in counts]


def measure_growth(
    specimens: Sequence[tuple[Series, Specimen]],
    rounds: Rounds = ROUNDS,
    device: str | None = None,
    callback: ProgressCallback | None = None,
) -> Growth:
    """Fuse stacks of several sizes by the command line, in turn.

    They are written as zarr, block by block, and fused into OME-Zarr.

    Parameters
    ----------
    specimens : sequence of (series, Specimen)
        At least two; see `sizes`.
    rounds : Rounds
    device : str, optional
    callback : callable, optional
        Called with `Progress`.

    Raises
    ------
    IPSError
        If a fusion fails.
    """
    with tempfile.TemporaryDirectory(prefix="napari-ips-") as folder:
        works = {}
        for number, (_, specimen) in enumerate(specimens):
            stack = Path(folder) / f"{number}.zarr"
            specimen.write_zarr(stack)
            works[str(number)] = partial(_fuse, stack, device)
        next(iter(works.values()))()  # compiles, and fills the caches of the disk
        runs = in_turn(works, rounds, "growth", callback)
    rows = tuple(
        _row(series, specimen, runs[str(number)])
        for number, (series, specimen) in enumerate(specimens)
    )
    return Growth(rows, _line(rows))


def _doubled(numbers: Sequence[int], last: int | None) -> list[int]:
    """Go on by doublings, and end with ``last`` exactly."""
    found = list(numbers)
    while last is not None and found[-1] < last:
        found.append(min(2 * found[-1], last))
    return found


def _fuse(stack: Path, device: str | None) -> Usage:
    fused = stack.with_suffix(".ome.zarr")
    command = [*OWN, "fuse", str(stack), "-o", str(fused)]
    command += ["--axes", "ZYX", *(["--device", device] if device else [])]
    usage = run_program(command, "napari-ips fuse")
    shutil.rmtree(fused)
    return usage


def _row(series: Series, specimen: Specimen, runs: Sequence[Usage]) -> GrowthRow:
    seconds = median(run.seconds for run in runs)
    return GrowthRow(
        series,
        specimen.edge,
        specimen.slices,
        seconds,
        median_or_none([run.cpu_seconds for run in runs]),
        median_or_none([run.peak_memory for run in runs]),
        1e6 * seconds / specimen.pixels,
        tuple(runs),
    )


def _line(rows: Sequence[GrowthRow]) -> Line:
    pixels = np.array([row.edge**2 * row.slices for row in rows], float)
    seconds = np.array([row.seconds for row in rows])
    slope, start = np.polyfit(pixels, seconds, 1)
    left = seconds - (start + slope * pixels)
    return Line(
        float(start),
        float(1e6 * slope),
        float(1 - left.var() / seconds.var()),
        float(np.abs(left / seconds).max()),
    )
