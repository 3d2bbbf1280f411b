"""Means in sums of two float64: those of exact sums, however the cells of a visit lie."""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest

from gncli.kernels import gradients, refined_gradients
from gncli.kernels.exact import GRAIN
from gncli.kernels.gradients import cell_numbers, exact_cells
from gncli.kernels.partition import Axis, Partition
from gncli.kernels.plain import Standardization
from gncli.kernels.reduction import Visit
from gncli.kernels.refined_gradients import Pairs, Sums, _mean
from gncli.kernels.surds import exactly
from gncli.kernels.walk import Walk

RNG = np.random.default_rng(9)
CELLS = {
    "rows": (Axis(True, 5), Axis(False, 7)),
    "columns": (Axis(False, 7), Axis(True, 5)),
    "both": (Axis(True, 3), Axis(False, 70), Axis(True, 5)),
    "blocks": (Axis(False, 3), Axis(True, 4), Axis(False, 70)),
}


def visit_of(axes: tuple[Axis, ...]) -> Visit:
    """Return a visit of all elements."""
    walk = Walk.of(Partition(axes))
    size = int(np.prod([axis.size for axis in axes]))
    (region,) = walk.regions(1 << 20)
    return Visit(walk, region, RNG.normal(size=size), size)


@pytest.mark.parametrize("headroom", [1, 1024])
@pytest.mark.parametrize("name", CELLS)
def test_sums_are_exact_and_lost_where_they_cannot_be(
    name: str, headroom: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refined_gradients, "HEADROOM", headroom)
    visit = visit_of(CELLS[name])
    size = visit.values.size
    num_x, length, width = visit.walk.view(visit.region)
    owners = np.broadcast_to(cell_numbers(visit)[:, None], (num_x, length, width)).reshape(-1)
    count = int(owners.max()) + 1
    none = np.zeros(count)
    mapping = Standardization(none, none, np.ones(count), tail=none, rest=none)
    dy, gamma = RNG.normal(size=(2, size))
    bad = [3, size - 1]
    dy[bad] = np.nan, 1e300
    with np.errstate(all="ignore"):
        pairs = Pairs.of(visit, mapping, dy, [gamma, gamma * 1e-17], None)
        sums = pairs.sums(visit)
    assert np.flatnonzero(sums.lost).tolist() == sorted(set(owners[bad].tolist()))
    right: defaultdict[int, list[Fraction]] = defaultdict(lambda: [Fraction(0), Fraction(0)])
    for place, owner in enumerate(owners.tolist()):
        if place not in bad:
            g = Fraction(dy[place]) * (Fraction(gamma[place]) + Fraction(gamma[place] * 1e-17))
            right[owner][0] += g
            right[owner][1] += g * Fraction(visit.values[place])
    for cell in set(range(count)) - set(owners[bad].tolist()):
        for total, exact in zip(sums[:2], right[cell], strict=True):
            assert abs(Fraction(int(total[cell]), 1 << GRAIN) - exact) < Fraction(1, 2**95)
    both = sums.merged(sums, None)  # type: ignore[arg-type]
    assert both.lost is not sums.lost and (both.of_g == sums.of_g * 2).all()


@pytest.mark.parametrize("run", [1, 256])
@pytest.mark.parametrize("odd", [1.0, np.inf])
@pytest.mark.parametrize("name", CELLS)
def test_exact_sums_are_the_same_where_elements_with_one_gamma_come_first(
    name: str, odd: float, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "RUN", run)
    visit = visit_of(CELLS[name])
    shape = visit.walk.view(visit.region)
    numbers = cell_numbers(visit)
    dy, lone = RNG.normal(size=(2, visit.values.size))
    by_row = np.broadcast_to(RNG.normal(size=(shape[0], 1, shape[2])), shape).reshape(-1)  # one run
    halves = np.repeat(RNG.normal(size=visit.values.size), 35)[: visit.values.size]
    for gamma in (lone, by_row, halves):
        parts = [gamma * 1.0, gamma * 1e-17]
        parts[0][3] *= odd
        opened = np.unique(numbers)[1:]
        found = exact_cells(visit, dy, parts, opened)
        weights = [Fraction(a) + Fraction(b) if math.isfinite(a) else Fraction(b) for a, b in zip(*parts, strict=True)]
        owners = np.broadcast_to(numbers[:, None], shape).reshape(-1)
        for cell, of_g, of_products in zip(opened, *found, strict=True):
            places = np.flatnonzero(owners == cell)
            g = [Fraction(dy[k]) * weights[k] for k in places]
            assert exactly(of_g) == sum(g)
            assert exactly(of_products) == sum(a * Fraction(visit.values[k]) for a, k in zip(g, places, strict=True))


def test_means_are_near_at_any_size() -> None:
    numbers = [0, 1, -1, 3 << 900, -(7**300), 12345678901234567890]
    n = np.array([1.0, 3.0, 7.0, 9.0, 11.0, 13.0])
    high, low = _mean(np.array(numbers, object), n)
    for number, count, a, b in zip(numbers, n.tolist(), high.tolist(), low.tolist(), strict=True):
        exact = Fraction(number, 1 << GRAIN) / int(count)
        tiny = Fraction(1, 2**1074)
        assert abs(Fraction(a) + Fraction(b) - exact) <= abs(exact) / 2**104 + tiny


def test_what_a_product_with_gamma_loses_to_underflow_is_bounded() -> None:
    visit = visit_of(CELLS["rows"])
    dy = np.full(visit.values.size, 1e-200)
    gamma = np.where(np.arange(dy.size) == 2, 1e-100, 1.0)
    mapping = Standardization(np.zeros(5), np.zeros(5), np.ones(5))
    found = Pairs.of(visit, mapping, dy, [gamma], None, bare=True)
    assert found.g.errors is not None
    assert np.flatnonzero(found.g.errors).tolist() == [2]
    assert not found.z[0].any() and isinstance(found.sums(visit), Sums)
