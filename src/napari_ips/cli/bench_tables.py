"""The tables of ``napari-ips bench``, and what is told beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from napari_ips.evaluation.tables import Table, figure

if TYPE_CHECKING:
    from napari_ips.evaluation.speed.fusing import FusingRow
    from napari_ips.evaluation.speed.goal import GoalRow
    from napari_ips.evaluation.speed.growth import Growth
    from napari_ips.evaluation.speed.machine import Machine
    from napari_ips.evaluation.speed.startup import StartRow
    from napari_ips.evaluation.speed.training import TrainingRow

_SERIES = {"pixels": "Larger images", "slices": "More slices"}


def machine_lines(machine: Machine) -> list[str]:
    """Tell what is measured on, and what speaks against it."""
    where = machine.gpu or machine.cpu
    facts = (
        f"{where}; {machine.cores} cores, {machine.threads} threads, vectors of "
        f"{machine.vectors} float32, {machine.memory / 1e9:.0f} GB; napari-ips "
        f"{machine.napari_ips}, Python {machine.python}, PyTorch {machine.torch}, numba "
        f"{machine.numba}."
    )
    busy = (
        f"Other programs use {machine.busy:.1f} cores: times are longer than they "
        "would be, ratios less so."
    )
    return [facts, busy] if machine.is_busy else [facts]


def fusing_tables(rows: Sequence[FusingRow]) -> list[Table]:
    """Make a table for each stack."""
    columns = ("program", "s", "times", "µs", "CPU s", "GB", "PSNR", "rounds")
    return [
        Table(
            f"Fusing a stack, {stack}", columns, tuple(_fusing_cells(row) for row in group)
        )
        for stack, group in groupby(rows, lambda row: row.stack)
    ]


def fusing_legend(rows: Sequence[FusingRow]) -> str:
    """Explain the columns."""
    return (
        f"s: median seconds of the whole program, start included; times: those of "
        f"{rows[0].method}, median over the rounds; µs: per pixel and slice; GB: peak "
        "memory; PSNR: in dB against the truth."
    )


def startup_table(rows: Sequence[StartRow]) -> Table:
    """Make the table of what users wait for."""
    cells = tuple(
        (row.what, figure(row.seconds, 2), f"{row.target:g}", str(len(row.runs) or "-"))
        for row in rows
    )
    return Table("Start-up", ("what", "s", "target, s", "runs"), cells)


def startup_lines(rows: Sequence[StartRow]) -> list[str]:
    """Say what was not measured."""
    return [f"Not measured, {row.what}: {row.why}." for row in rows if row.why]


def growth_tables(growth: Growth) -> list[Table]:
    """Make a table for each series."""
    columns = ("pixels x slices", "s", "µs", "GB", "rounds")
    tables = []
    for series, group in groupby(growth.rows, lambda row: row.series):
        cells = tuple(
            (
                f"{row.edge} x {row.edge} x {row.slices}",
                figure(row.seconds, 2),
                figure(row.us_per_pixel_and_slice, 3),
                _gigabytes(row.peak_memory),
                str(len(row.runs)),
            )
            for row in group
        )
        tables.append(Table(_SERIES[series], columns, cells))
    return tables


def growth_line(growth: Growth) -> str:
    """Tell the straight line through all sizes."""
    line = growth.line
    return (
        f"In a straight line: {line.start:.2f} s and {line.us_per_pixel_and_slice:.3f} µs "
        f"per pixel and slice (R² {line.r_squared:.4f}; no size is more than "
        f"{100 * line.largest_deviation:.0f} % off)."
    )


def training_table(rows: Sequence[TrainingRow]) -> Table:
    """Make the table of steps per second."""
    cells = tuple(
        (
            row.precision,
            figure(row.steps_per_second, 2),
            figure(row.ratio, 2),
            str(len(row.runs) or "-"),
        )
        for row in rows
    )
    columns = ("precision", "steps per second", "faster than float32", "steps")
    return Table("Training", columns, cells)


def training_lines(rows: Sequence[TrainingRow]) -> list[str]:
    """Say what was not measured."""
    return [f"Not measured, {row.precision}: {row.why}." for row in rows if row.why]


def goal_line(row: GoalRow) -> str:
    """Tell how long a training from scratch took."""
    pairs = f"the mean PSNR of {row.pairs} pair{'s' * (row.pairs != 1)}"
    if row.seconds is not None:
        reached = row.measurements[-1]
        return (
            f"Trained from scratch for {row.seconds:.0f} s ({reached.iteration} steps) "
            f"until {pairs} reached {row.goal:g} dB ({reached.psnr:.2f})."
        )
    best = max((one.psnr for one in row.measurements), default=0.0)
    return (
        f"Trained from scratch for {row.longest:g} minutes; {pairs} did not reach "
        f"{row.goal:g} dB ({best:.2f} at best)."
    )


def _fusing_cells(row: FusingRow) -> tuple[str, ...]:
    if row.failure:
        return (row.method, "failed", *["-"] * 6)
    return (
        row.method,
        figure(row.seconds, 2),
        figure(row.ratio, 2),
        figure(row.us_per_pixel_and_slice, 3),
        figure(row.cpu_seconds, 1),
        _gigabytes(row.peak_memory),
        figure(row.psnr, 2),
        str(row.rounds),
    )


def _gigabytes(memory: float | None) -> str:
    return figure(None if memory is None else memory / 1e9, 2)
