"""The sections of ``napari-ips bench``: each is measured, kept and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from napari_ips.cli.bench_tables import (
    fusing_legend,
    fusing_tables,
    goal_line,
    growth_line,
    growth_tables,
    startup_lines,
    startup_table,
    training_lines,
    training_table,
)
from napari_ips.cli.common import json_text, note
from napari_ips.cli.progress import progress_bar
from napari_ips.cli.tables import print_table
from napari_ips.config import TrainConfig
from napari_ips.evaluation.external import Program
from napari_ips.evaluation.scenes import Scene
from napari_ips.evaluation.speed.fusing import FusingRow, measure_fusing, warm_up
from napari_ips.evaluation.speed.goal import train_to_goal
from napari_ips.evaluation.speed.growth import Series, measure_growth
from napari_ips.evaluation.speed.plot import write_plot
from napari_ips.evaluation.speed.rounds import Rounds
from napari_ips.evaluation.speed.specimen import Specimen
from napari_ips.evaluation.speed.startup import measure_startup
from napari_ips.evaluation.speed.training import measure_training
from napari_ips.evaluation.tables import Table
from napari_ips.files import written_whole

# For the rounds of fusing the small stack, and the large one.
_SECONDS = (35.0, 70.0)


@dataclass
class Report:
    """All figures so far, and the file that they are written to."""

    output: Path | None
    quiet: bool
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, section: str, values: Any) -> None:
        """Add what was measured; the file holds it from then on."""
        self.values[section] = values
        if self.output is not None:
            with written_whole(self.output) as part:
                part.write_text(f"{json_text(self.values)}\n", encoding="utf-8")

    def show(self, *tables: Table, lines: Sequence[str] = ()) -> None:
        """Print tables and lines, unless only JSON is wanted."""
        for table in () if self.quiet else tables:
            print_table(table)
        for line in lines:
            note(line)


def fuse(
    report: Report, programs: dict[Specimen, list[Program]], rounds: int, *, limited: bool
) -> list[FusingRow]:
    """Fuse stacks; return what failed. Rounds that are limited end when time is up."""
    rows = []
    with progress_bar("Fusing") as callback:
        smallest = min(programs, key=lambda specimen: specimen.pixels)
        warm_up(programs[smallest], smallest, callback)
        for (specimen, some), seconds in zip(programs.items(), _SECONDS, strict=True):
            wanted = Rounds(rounds, seconds if limited else None)
            rows += measure_fusing(specimen, some, wanted, callback)
            report.add("fusing", [asdict(row) for row in rows])
    report.show(*fusing_tables(rows), lines=[fusing_legend(rows)])
    return [row for row in rows if row.failure]


def start(report: Report, device: str | None) -> None:
    """Measure what users wait for."""
    with progress_bar("Start-up") as callback:
        rows = measure_startup(device=device, callback=callback)
    report.add("start-up", [asdict(row) for row in rows])
    report.show(startup_table(rows), lines=startup_lines(rows))


def grow(
    report: Report,
    specimens: Sequence[tuple[Series, Specimen]],
    device: str | None,
    plot: Path | None,
) -> None:
    """Measure larger and larger stacks, and draw it if wanted."""
    with progress_bar("Growth") as callback:
        growth = measure_growth(specimens, device=device, callback=callback)
    report.add("growth", asdict(growth))
    report.show(*growth_tables(growth), lines=[growth_line(growth)])
    if plot is not None:
        write_plot(plot, growth)


def train(
    report: Report,
    training: tuple[TrainConfig, list[Scene]] | None,
    goal: float,
    device: str | None,
) -> None:
    """Measure steps of training and, if wanted, a training from scratch."""
    with progress_bar("Training") as callback:
        rows = measure_training(device=device, callback=callback)
    found: dict[str, Any] = {"steps": [asdict(row) for row in rows], "from_scratch": None}
    report.add("training", found)
    report.show(training_table(rows), lines=training_lines(rows))
    if training is None:
        note("How long training from scratch takes is told with --pairs and --train.")
        return
    with progress_bar("Training from scratch") as callback:
        reached = train_to_goal(*training, goal, callback=callback)
    report.add("training", found | {"from_scratch": asdict(reached)})
    note(goal_line(reached))
