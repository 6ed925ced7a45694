"""The tables of a benchmark, as text that the terminal, Markdown and HTML show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from napari_ips.evaluation.benchmark import Mean
from napari_ips.evaluation.measures import INNER_BORDER, MEASURES
from napari_ips.evaluation.significance import Comparison

LEGEND = (
    f"PSNR in dB; inner: {INNER_BORDER} pixels off each edge; mean error of the height in "
    "slices, on textured pixels; Q: against the two sources; time: median seconds of a "
    "fusion, of another program with its start."
)


@dataclass(frozen=True)
class Table:
    """Cells of a table; ``best`` holds the (row, column) of the best figures.

    The first column is text, the others are figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()


def mean_tables(means: Sequence[Mean]) -> list[Table]:
    """Make a table of the means for each data set."""
    return [_mean_table(list(group)) for _, group in groupby(means, _data)]


def significance_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """Make a table for each data set: a line for each measure and other method."""
    return [_significance(list(group)) for _, group in groupby(comparisons, _data)]


def markdown(table: Table) -> str:
    """Write a table as Markdown, the best figures in bold."""
    rule = ["---", *["---:"] * (len(table.columns) - 1)]
    lines = [_line(map(_escaped, table.columns)), _line(rule)]
    for number, row in enumerate(table.rows):
        cells = (
            f"**{cell}**" if (number, column) in table.best else cell
            for column, cell in enumerate(map(_escaped, row))
        )
        lines.append(_line(cells))
    return f"## {_escaped(table.title)}\n\n" + "\n".join(lines) + "\n"


def data_title(dataset: str, truth: bool) -> str:
    """Name a data set, and say if its truth is not known."""
    return dataset if truth else f"{dataset} (no truth)"


def figure(value: float | None, digits: int) -> str:
    """Write a figure, or "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _data(item: Mean | Comparison) -> tuple[str, bool]:
    return item.dataset, item.truth


def _mean_table(means: Sequence[Mean]) -> Table:
    names = [name for name in MEASURES if any(name in mean.figures for mean in means)]
    rows = []
    for mean in means:
        done = mean.samples - mean.failed
        count = f"{done} of {mean.samples}" if mean.failed else str(done)
        figures = (figure(mean.figures.get(name), MEASURES[name].digits) for name in names)
        rows.append((mean.method, count, *figures, figure(mean.seconds, 2)))
    best = frozenset(
        (row, column)
        for column, name in enumerate(names, start=2)
        for row in _best_rows([mean.figures.get(name) for mean in means], name)
    )
    labels = (MEASURES[name].label for name in names)
    title = data_title(means[0].dataset, means[0].truth)
    return Table(title, ("method", "n", *labels, "time"), tuple(rows), best)


def _best_rows(values: Sequence[float | None], name: str) -> list[int]:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return []
    choose: Callable[[Iterable[float]], float] = max if MEASURES[name].higher else min
    return [row for row, value in enumerate(values) if value == choose(known)]


def _significance(comparisons: Sequence[Comparison]) -> Table:
    first = comparisons[0]
    rows = tuple(
        (
            f"{MEASURES[one.measure].label}, {one.other}",
            _difference(one),
            f"{one.wins} of {one.samples}",
            f"{one.p:.2g}",
            f"{one.p_holm:.2g}",
        )
        for one in comparisons
    )
    title = f"{first.reference} against the others: {data_title(*_data(first))}"
    columns = ("measure, other method", "mean difference", "better on", "p", "p (Holm)")
    return Table(title, columns, rows)


def _difference(one: Comparison) -> str:
    digits = MEASURES[one.measure].digits
    return "-" if math.isnan(one.difference) else f"{one.difference:+.{digits}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
