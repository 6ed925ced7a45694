"""How long it takes to fuse a stack, program against program."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from numpy.typing import NDArray

from napari_ips.errors import IPSError
from napari_ips.evaluation.external import Places, Program
from napari_ips.evaluation.running import OWN, Usage
from napari_ips.evaluation.speed.rounds import Rounds, in_turn, median_or_none
from napari_ips.evaluation.speed.specimen import Specimen
from napari_ips.events import ProgressCallback

QUALITIES = ("balanced", "fast", "best")
SMALL, LARGE = Specimen(640, 12, "uint8"), Specimen(2048, 20, "uint16")
# What is measured on each; the best quality takes too long for the large one.
STACKS: Mapping[Specimen, Sequence[str]] = {SMALL: QUALITIES, LARGE: QUALITIES[:2]}


@dataclass(frozen=True)
class FusingRow:
    """A program on a stack.

    Attributes
    ----------
    stack, method : str
    edge, slices : int
    dtype : str
    seconds, cpu_seconds : float or None
        Medians for the whole program, its start included.
    us_per_pixel_and_slice : float or None
        Microseconds.
    peak_memory : float or None
        Bytes, the median.
    psnr : float or None
        Against the truth, dB.
    ratio : float or None
        Of the seconds to those of the first method; the median of the rounds' ratios.
    rounds : int
    runs : tuple of Usage
        One for each round.
    failure : str
        Why there are no figures.
    """

    stack: str
    method: str
    edge: int
    slices: int
    dtype: str
    seconds: float | None = None
    cpu_seconds: float | None = None
    us_per_pixel_and_slice: float | None = None
    peak_memory: float | None = None
    psnr: float | None = None
    ratio: float | None = None
    rounds: int = 0
    runs: tuple[Usage, ...] = ()
    failure: str = ""


def own_program(quality: str, device: str | None = None) -> Program:
    """Return the command line of this package, at one quality."""
    words = [*OWN, "fuse", "{stack}"]
    words += ["-o", "{output_dir}/fused.tif", "--quality", quality]
    if device is not None:
        words += ["--device", device]
    return Program(f"napari-ips {quality}", tuple(words), timeout=None)


def warm_up(
    programs: Sequence[Program],
    specimen: Specimen = SMALL,
    callback: ProgressCallback | None = None,
) -> None:
    """Run every program once: the first run compiles, and fills the caches of the disk.

    What fails is left to the measurement to tell.
    """
    slices = specimen.array()

    def run(program: Program) -> None:
        with tempfile.TemporaryDirectory(prefix="napari-ips-") as folder:
            places = program.prepare(Path(folder), slices)
            with suppress(IPSError):
                program.run(places)

    works = {program.name: partial(run, program) for program in programs}
    in_turn(works, Rounds(1), "warming up", callback)


def measure_fusing(
    specimen: Specimen,
    programs: Sequence[Program],
    rounds: Rounds,
    callback: ProgressCallback | None = None,
) -> list[FusingRow]:
    """Fuse a stack by several programs in turn.

    A program that fails once is left out from then on.

    Parameters
    ----------
    specimen : Specimen
    programs : sequence of Program
        The times of all are compared with the first.
    rounds : Rounds
    callback : callable, optional
        Called with `Progress`.

    Returns
    -------
    list of FusingRow
        In the order of the programs.
    """
    slices = specimen.array()
    with tempfile.TemporaryDirectory(prefix="napari-ips-") as folder:
        trials = []
        for number, program in enumerate(programs):
            place = Path(folder) / str(number)
            place.mkdir()
            trials.append(_Trial(program, program.prepare(place, slices), slices, specimen))
        works = {str(number): trial.run for number, trial in enumerate(trials)}
        task = f"fusing {specimen.edge} x {specimen.edge} x {specimen.slices}"
        in_turn(works, rounds, task, callback)
    return [trial.row(trials[0]) for trial in trials]


class _Trial:
    """A program, and what its runs on a stack took."""

    def __init__(
        self, program: Program, places: Places, slices: NDArray[Any], specimen: Specimen
    ) -> None:
        self._program = program
        self._places = places
        self._slices = slices
        self._specimen = specimen
        self._psnr: float | None = None
        self._failure = ""
        self.runs: list[Usage] = []

    def run(self) -> None:
        """Fuse once; the first result is compared with the truth."""
        if self._failure:
            return
        self._places.empty()
        try:
            self.runs.append(self._program.run(self._places))
            if self._psnr is None:
                image = self._program.image(self._places, self._slices)
                self._psnr = self._specimen.psnr(image)
        except IPSError as error:
            self._failure = str(error)

    def row(self, reference: _Trial) -> FusingRow:
        """Sum up."""
        specimen = self._specimen
        row = FusingRow(
            specimen.name,
            self._program.name,
            specimen.edge,
            specimen.slices,
            specimen.dtype,
            failure=self._failure,
        )
        if self._failure:
            return row
        seconds = [run.seconds for run in self.runs]
        first = [run.seconds for run in reference.runs]
        return replace(
            row,
            seconds=median(seconds),
            cpu_seconds=median_or_none([run.cpu_seconds for run in self.runs]),
            us_per_pixel_and_slice=1e6 * median(seconds) / specimen.pixels,
            peak_memory=median_or_none([run.peak_memory for run in self.runs]),
            psnr=self._psnr,
            ratio=median_or_none([a / b for a, b in zip(seconds, first, strict=False)]),
            rounds=len(seconds),
            runs=tuple(self.runs),
        )
