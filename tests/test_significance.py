import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ips.evaluation.benchmark import Row
from napari_ips.evaluation.significance import compare, holm
from napari_ips.evaluation.tables import significance_tables


def rows(measure="psnr", **values):
    return [
        Row("d", str(number), method, truth=True, figures={measure: value})
        for method, figures in values.items()
        for number, value in enumerate(figures)
    ]


def test_exact_p_of_six_wins():
    # All six of one sign: 2 of the 64 equally likely signs are as extreme.
    own = [30.0, 31.0, 32.0, 33.0, 34.0, 35.0]
    theirs = [a - d for a, d in zip(own, (1, 2, 3, 4, 5, 6), strict=True)]
    (found,) = compare(rows(ours=own, theirs=theirs), "ours")
    assert found.p == pytest.approx(2 / 64)
    assert (found.wins, found.samples, found.difference) == (6, 6, 3.5)
    (other,) = compare(rows(ours=own, theirs=theirs), "theirs")
    assert (other.p, other.wins, other.difference) == (found.p, 0, -3.5)


def test_lower_errors_win():
    found = rows("height_error", ours=[0.1, 0.2], theirs=[0.2, 0.1])
    (one,) = compare(found, "ours")
    assert (one.wins, one.difference) == (1, 0.0)


def test_only_shared_samples_count():
    own, theirs = [30.0, 31.0, 32.0], [29.0, 29.5]
    (one,) = compare(rows(ours=own, theirs=theirs), "ours")
    assert (one.samples, one.difference) == (2, 1.25)
    assert compare(rows(ours=own, theirs=[20.0]), "ours") == []


def test_equal_and_infinite_figures():
    same = [math.inf, 30.0, 31.0]
    (one,) = compare(rows(ours=same, theirs=same), "ours")
    assert (one.p, one.wins, one.difference) == (1.0, 0, 0.0)
    (one,) = compare(rows(ours=same, theirs=[40.0, 29.0, 28.0]), "ours")
    assert (one.p, one.difference) == (pytest.approx(0.25), math.inf)


def test_two_methods_that_are_perfect_on_different_samples_can_be_compared():
    (one,) = compare(rows(ours=[math.inf, 30.0], theirs=[40.0, math.inf]), "ours")
    assert (one.wins, one.p) == (1, 1.0)
    assert math.isnan(one.difference)
    (table,) = significance_tables([one])
    assert table.rows[0][1] == "-"


def test_holm_on_an_example_worked_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_that_of_bonferroni(values):
    corrected = np.array(holm(values))
    assert (corrected >= values).all()
    assert (corrected <= np.minimum(1, len(values) * np.array(values)) + 1e-12).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()


def test_each_measure_is_corrected_for_the_number_of_methods():
    own = [30.0 + n for n in range(6)]
    one, two = ([a - 1 - n / 10 for n, a in enumerate(own)] for _ in range(2))
    found = compare(rows(ours=own, one=one, two=two), "ours")
    assert [(c.other, c.p_holm) for c in found] == [
        ("one", pytest.approx(4 / 64)),
        ("two", pytest.approx(4 / 64)),
    ]
