"""The sums of the gradients of gamma and beta: exact, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import parameters
from gncli.kernels.exact import GRAIN
from gncli.kernels.floats import FLOATS
from gncli.kernels.parameters import Grid, Totals, nearest_float, pieces, pieces_in_two
from gncli.kernels.scratch import arithmetic

pytestmark = pytest.mark.usefixtures("quiet")
GRID = Grid((3,), (4, 3, 5), np.arange(3))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Compute without warnings, as the engine does."""
    with arithmetic():
        yield


def no_matter() -> NDArray[np.bool_]:
    """Say which terms exist, where all are finite and nobody asks."""
    raise AssertionError


def test_sums_are_exact_in_any_order_and_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "HEADROOM", 2)
    rng = np.random.default_rng(0)
    values = np.ldexp(rng.normal(size=60), rng.integers(-300, 300, 60))
    terms = [list(map(Fraction, values.reshape(4, 3, 5)[:, k].ravel().tolist())) for k in range(3)]
    exact, sizes = [sum(of) for of in terms], [sum(map(abs, of)) for of in terms]
    for cuts in ([0, 60], [0, 7, 15, 31, 60], list(range(61))):
        runs = list(pairwise(cuts))
        for order in (runs, runs[::-1]):
            totals = Totals(GRID)
            for start, stop in order:
                totals.add(
                    [p._replace(bounds=p.sizes) for p in pieces(GRID, start, values[start:stop], None, no_matter)]
                )
            found = totals.result()
            assert [Fraction(total, 1 << GRAIN) for total in found.total] == exact
            assert [Fraction(size, 1 << GRAIN) for size in found.sizes] == sizes
            np.testing.assert_allclose(found.bounds, list(map(nearest_float, found.sizes)), rtol=1e-12)
    rounded, opened = found._replace(bounds=np.full(3, np.inf)).rounded(FLOATS["float32"])
    assert (np.isnan(rounded).tolist(), opened.tolist()) == ([False] * 3, [0, 1, 2])


def test_second_parts_are_summed_too_and_have_no_size() -> None:
    rng = np.random.default_rng(1)
    high, low = rng.normal(size=(2, 60)) * np.array([[1e10], [1e-10]])
    totals = Totals(GRID)
    totals.add(pieces_in_two(GRID, 0, (high, low), no_matter))
    low[[5, 11]] = np.nan  # of the second parameter, and of the third
    totals.add(pieces_in_two(GRID, 0, (high, low), lambda: np.arange(60) > 5))
    found = totals.result()
    parts = [
        [map(Fraction, part.reshape(4, 3, 5)[:, 0].ravel().tolist()) for part in of] for of in ((high, low), (high,))
    ]
    assert Fraction(found.total[0], 1 << GRAIN) == 2 * sum(map(sum, parts[0]))
    assert Fraction(found.sizes[0], 1 << GRAIN) == 2 * sum(map(abs, parts[1][0]))
    assert (found.undefined.tolist(), found.bounds.tolist()) == ([0, 1, 0], [0.0, 0.0, np.inf])


def test_huge_terms_are_summed_on_another_scale() -> None:
    values = np.array([1e308, 1e308, -1e308, 2.0, 1e308] * 12)
    totals = Totals(GRID)
    totals.add(pieces(GRID, 0, values, None, no_matter))
    found = totals.result()
    exact = sum(map(Fraction, [1e308, 1e308, -1e308, 2.0, 1e308] * 4))
    assert Fraction(found.total[0], 1 << GRAIN) == exact
    rounded, opened = found.rounded(FLOATS["float64"])
    assert (rounded.tolist(), opened.tolist()) == ([np.inf] * 3, [])
    assert nearest_float(found.total[0]) == np.inf and found.condition.tolist() == [1.0] * 3


def test_a_term_that_is_not_finite_makes_its_own_sum_undefined() -> None:
    values = np.ones(60)
    values[[5, 7]] = np.nan, np.inf
    totals = Totals(GRID)
    totals.add(pieces(GRID, 0, values, None, lambda: np.zeros(60, np.bool_)))
    found = totals.result()
    assert (found.undefined.tolist(), [size >> GRAIN for size in found.sizes]) == ([0, 2, 0], [20, 18, 20])
    rounded, _ = found.rounded(FLOATS["float32"])
    np.testing.assert_array_equal(rounded, np.array([20, np.nan, 20], np.float32))


def test_a_term_beyond_float64_leaves_its_own_sum_open() -> None:
    values = np.ones(60)
    values[[5, 7, 10]] = np.nan, np.inf, np.inf
    totals = Totals(GRID)
    totals.add(pieces(GRID, 0, values, None, lambda: np.arange(60) > 7))
    found = totals.result()
    assert (found.undefined.tolist(), found.bounds.tolist()) == ([0, 2, 0], [0.0, 0.0, np.inf])
    rounded, opened = found.rounded(FLOATS["float32"])
    np.testing.assert_array_equal(rounded, np.array([20, np.nan, 19], np.float32))
    assert opened.tolist() == [2]
