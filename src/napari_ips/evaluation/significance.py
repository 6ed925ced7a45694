"""Whether a method is better than another one, or was lucky with the samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from napari_ips.evaluation.benchmark import Row
from napari_ips.evaluation.measures import MEASURES


@dataclass(frozen=True)
class Comparison:
    """A method (the reference) against another one, by one measure on one data set.

    Over the ``samples`` on which both have the figure, ``difference`` is the mean of the
    reference's minus the other's (NaN if it would be infinite with both signs), and
    ``wins`` counts where the reference is better.
    ``p`` is that of the two-sided signed-rank test of Wilcoxon, ``p_holm`` the same
    corrected by Holm for the number of other methods. With less than six samples no
    difference reaches 0.05.
    """

    dataset: str
    truth: bool
    measure: str
    reference: str
    other: str
    samples: int
    difference: float
    wins: int
    p: float
    p_holm: float


def compare(rows: Sequence[Row], reference: str) -> list[Comparison]:
    """Compare a method with each of the others.

    Returns
    -------
    list of Comparison
        One for each data set, measure and other method that share at least two samples.
    """
    groups: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.truth), []).append(row)
    return [
        comparison
        for group in groups.values()
        for measure in MEASURES
        for comparison in _corrected(list(_compared(group, reference, measure)))
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm, Scand. J. Statist. 6, 1979).

    ``p_i' = max over j <= i of min(1, (m - j + 1) p_j)``, with the m values in ascending
    order; returned in the order given.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _compared(rows: Sequence[Row], reference: str, measure: str) -> Iterator[Comparison]:
    figures: dict[str, dict[str, float]] = {}
    for row in rows:
        if measure in row.figures:
            figures.setdefault(row.method, {})[row.sample] = row.figures[measure]
    own = figures.pop(reference, {})
    for other, theirs in figures.items():
        # Equal infinite figures differ by nothing.
        differences = [
            0.0 if own[name] == theirs[name] else own[name] - theirs[name]
            for name in own
            if name in theirs
        ]
        if len(differences) < 2:
            continue
        sign = 1 if MEASURES[measure].higher else -1
        yield Comparison(
            dataset=rows[0].dataset,
            truth=rows[0].truth,
            measure=measure,
            reference=reference,
            other=other,
            samples=len(differences),
            difference=_mean(differences),
            wins=sum(sign * difference > 0 for difference in differences),
            p=_signed_rank(differences),
            p_holm=1.0,
        )


def _mean(differences: Sequence[float]) -> float:
    # Either is perfect where the other is not: there is no telling by how much.
    both = {math.inf, -math.inf} <= set(differences)
    return math.nan if both else fmean(differences)


def _signed_rank(differences: Sequence[float]) -> float:
    from scipy.stats import wilcoxon

    if not any(differences):
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    values = holm([comparison.p for comparison in comparisons])
    return [
        replace(comparison, p_holm=value)
        for comparison, value in zip(comparisons, values, strict=True)
    ]
