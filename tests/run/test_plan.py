"""Plans: the passes, what is held for them, and what is refused, are known before the first byte is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gncli.errors import LimitError
from gncli.io import ArraySource, RandomSource
from gncli.io.pairs import Pair
from gncli.kernels.counts import BinCounts
from gncli.kernels.histogram import Bins
from gncli.kernels.moments import MomentsOf
from gncli.kernels.partition import by_axes, whole
from gncli.kernels.reduction import Both
from gncli.kernels.walk import Region
from gncli.run import plan as plans
from gncli.run.engine import Engine
from gncli.run.plan import Pass, Plan, Program
from tests.arrays import Forward, Inline, assert_same_bits
from tests.runs import cut

X = np.arange(2 * 3 * 40, dtype=np.float64).reshape(2, 3, 40)


def engine(visit: int = 1 << 20) -> Engine:
    return Engine(1, 64, visit, Inline())


def twice(_walk: Any, once: bool) -> tuple[str, ...]:
    return ("measure",) if once else ("measure", "map")


@pytest.mark.parametrize(
    ("visit", "passes", "spans"),
    [(1 << 20, ("measure",), [range(2)]), (160, ("measure", "map"), [range(1), range(1, 2)])],
)
def test_a_span_that_fits_a_visit_is_read_once(visit: int, passes: tuple[str, ...], spans: list[range]) -> None:
    plan = Plan.of(ArraySource(X), by_axes(X.shape, "C", (0,)), engine(visit), twice)
    assert (plan.passes, list(plan.spans()), plan.notes) == (passes, spans, ())


@pytest.mark.parametrize(("most", "visit"), [(None, 80), (10_000, 80), (320, 40), (3, 1)])
def test_fewer_bytes_than_a_visit_may_be_read_at_once(most: int | None, visit: int) -> None:
    plan = Plan.of(ArraySource(X), by_axes(X.shape, "C", (0, 1)), engine(640), most=most)
    regions = [region for region, _ in plan.visits(lambda found: found.values.size)]
    assert plan.visit == visit
    assert max(region.stop - region.start for region in regions) == max(visit, X.shape[2])
    assert (regions[0].start, regions[-1].stop) == (0, X.size)


def test_a_span_that_is_read_twice_is_held_and_a_whole_source_that_is_read_again_is_held_whole() -> None:
    source = Forward(X)
    plan = Plan.of(source, by_axes(X.shape, "C", (0,)), engine(640), twice).begin()
    for span in plan.spans():
        for _ in plan.passes:
            (moments,) = plan.reduce(MomentsOf(X.dtype), span)
            assert moments.n.tolist() == [120.0]
    assert source.most_held == 120
    source = Forward(X)
    plan = Plan.of(source, whole(X.shape), engine(), after=("histogram",)).begin()
    list(plan.reduce(MomentsOf(X.dtype)))
    counts = plan.total(BinCounts(Bins(np.array([0.0, 100.0, 239.0]), X.dtype)))
    assert (counts.number.tolist(), source.most_held) == ([100, 140], X.size)


def test_a_pipe_that_is_read_more_than_once_is_said_to_be_kept_in_a_file() -> None:
    class Piped(Forward):
        holds_in_file = True

    once = Plan.of(Piped(X, "p"), whole(X.shape), engine())
    assert (once.held, once.notes) == ((), ())
    pair = Pair(Piped(X, "p"), ArraySource(X, "q"))
    again = Plan.of(pair, whole(X.shape), engine(), after=("histogram",))
    assert again.held == ("p",)
    assert again.notes == ("p: kept in a file in $TMPDIR, to be read more than once",)


def test_what_has_no_elements_has_records_all_the_same() -> None:
    x = np.empty((2, 3, 0))
    plan = Plan.of(ArraySource(x), by_axes(x.shape, "C", (0, 1)), engine())
    law = Both(MomentsOf(x.dtype), BinCounts(Bins(np.array([0.0, 1.0]), x.dtype)))
    ((moments, counts),) = plan.reduce(law)
    assert (moments.n.tolist(), counts.number.tolist()) == ([0.0] * 6, [0])
    assert list(plan.visits(lambda visit: visit)) == []
    assert list(plan.spans()) == [range(1)]


def test_two_reductions_in_one_pass_are_each_alone() -> None:
    for visit in (1 << 20, 160):
        plan = Plan.of(ArraySource(X), by_axes(X.shape, "C", (0,)), engine(visit))
        bins = BinCounts(Bins(np.array([0.0, 50.0, 239.0]), X.dtype))
        law = Both(MomentsOf(X.dtype), bins)
        moments, counts = law.concatenate(list(plan.reduce(law)))
        alone = MomentsOf(X.dtype).concatenate(list(plan.reduce(MomentsOf(X.dtype))))
        assert_same_bits(moments.hi, alone.hi)
        assert counts.number.tolist() == plan.total(bins).number.tolist() == [50, 190]


def test_too_many_passes_are_refused() -> None:
    many = ("measure", *["percentiles"] * (plans.MAX_PASSES + 1))
    columns = by_axes(X.shape, "C", (2,))
    with pytest.raises(LimitError, match=r"percentiles of 40 open cells would take 17 passes, more than 16"):
        Plan.of(ArraySource(X, "x"), columns, engine(), lambda _walk, _once: many)
    assert Plan.of(ArraySource(X), whole(X.shape), engine(), lambda _walk, _once: many).passes == many


def test_cells_that_would_all_be_open_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MAX_OPEN_CELLS", 16)
    by = cut("2", X.shape, "C")
    found = list(Plan.over_cells(ArraySource(X), by, engine(), twice))
    assert [box for _, box in found] == [
        ((0, 2), (0, 3), (0, 16)),
        ((0, 2), (0, 3), (16, 32)),
        ((0, 2), (0, 3), (32, 40)),
    ]
    means = [moments.mean for plan, _ in found for moments in plan.reduce(MomentsOf(X.dtype))]
    np.testing.assert_allclose(np.concatenate(means), X.mean(axis=(0, 1)))
    with pytest.raises(LimitError, match=r"40 cells are open at once in this storage order, more than 16"):
        next(Plan.over_cells(RandomSource(X.shape, seed=0), by, engine(), twice))


Y = np.arange(6 * 3 * 2 * 40, dtype=np.float64).reshape(6, 3, 2, 40)


def twice_over(
    plan: Plan, passes: list[tuple[int, str]], second: list[int]
) -> Callable[[range], Program[tuple[list[float], float]]]:
    """Return a program of two passes: the means of the cells of a span, then the sum over the span, less these."""

    def program(span: range) -> Program[tuple[list[float], float]]:
        passes.append((span.start, "means"))
        means = (yield plan.reducing(MomentsOf(Y.dtype))).mean
        passes.append((span.start, "sum"))
        total = -float(means.sum())

        def take(region: Region, found: float) -> float:
            nonlocal total
            second.append(region.start)
            total += found
            return total

        return means.tolist(), (yield Pass(lambda visit: float(visit.values.sum()), take))

    return program


@pytest.mark.parametrize(("most", "sequential"), [(1 << 20, False), (4, False), (2, False), (1 << 20, True)])
def test_spans_are_in_flight_side_by_side_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch, most: int, sequential: bool
) -> None:
    monkeypatch.setattr(plans, "MAX_OPEN_CELLS", most)
    means = Y.mean(axis=(1, 3))
    sums = Y.sum(axis=(1, 2, 3)) - means.sum(axis=1)
    expected = list(zip(means.tolist(), sums.tolist(), strict=True))
    for engine in (Engine(1, 64, 320, Inline()), Engine(3, 64, 320)):
        passes: list[tuple[int, str]] = []
        second: list[int] = []
        source = Forward(Y) if sequential else ArraySource(Y)
        with engine:
            plan = Plan.of(source, by_axes(Y.shape, "C", (0, 2)), engine, twice).begin()
            assert list(plan.side_by_side(twice_over(plan, passes, second))) == expected
        assert sorted(passes) == [(span, name) for span in range(6) for name in ("means", "sum")]
        assert second == list(range(0, Y.size, 40))
        open_at_once = max(
            sum(1 if name == "means" else -1 for _, name in passes[:end]) for end in range(len(passes) + 1)
        )
        assert open_at_once <= (1 if sequential else most // 2)
        assert not isinstance(source, Forward) or source.most_held == 240
    assert (open_at_once > 1) == (most > 2 and not sequential)


def test_programs_of_different_length_yield_in_storage_order() -> None:
    plan = Plan.of(ArraySource(X), by_axes(X.shape, "C", (0, 1)), Engine(2, 64, 160), twice)

    def program(span: range) -> Program[int]:
        for _ in range(2 - span.start % 3):
            yield plan.totalling(BinCounts(Bins(np.array([0.0, 239.0]), X.dtype)))
        return span.start

    with plan.engine:
        assert list(plan.side_by_side(program)) == list(range(6))
