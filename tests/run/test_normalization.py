"""Normalizations: the same bits for any tile, visit, worker, executor and source, and the moments that are kept."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gncli.errors import LimitError
from gncli.io import ArraySink, ArraySource, RandomSource
from gncli.kernels.affine import no_affine
from gncli.kernels.extras import Zeros
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import Check, GroupNorm
from gncli.kernels.layout import Layout
from gncli.kernels.moments import Moments
from gncli.kernels.partition import by_group, whole
from gncli.kernels.plain import Affine
from gncli.run import plan
from gncli.run.engine import Engine
from gncli.run.normalization import Normalization, Outcome, at_once
from tests.arrays import Forward, Inline, assert_same_bits, assert_same_moments, drawn, normalized, plain
from tests.marks import examples, slow_but
from tests.runs import measure

TILES = [1 << power for power in range(16, 24)]  # 64 KiB to 8 MiB
# bytes: smaller than a block, than a cell, than a span; and larger than all
SIZES = [(100, 1000), (1000, 1000), (4096, 16384), (1 << 16, 1 << 20), (1 << 20, 1 << 16)]
LAYOUTS = ("NCHW", "NHWC", "CHW", "CNHW", "NHCW", "WHCN", "NC", "CN", "NLC", "C")
LARGE = [("NCHW", (2, 4, 400, 401)), ("NHWC", (2, 400, 401, 4)), ("CNHW", (4, 3, 330, 331)), ("CHW", (64, 140, 141))]
EMPTY = [(0, 4, 5), (3, 4, 0), (0, 4, 0)]


def assert_same_outcome(a: Outcome, b: Outcome, what: object) -> None:
    """Raise unless everything that was found is the same to the bit."""
    for field in fields(Outcome):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, Moments):
            assert_same_moments(left, right, (what, field.name))
        elif field.name == "kept" and left is not None:
            for one, other in zip(left, right, strict=True):
                assert_same_bits(one, other, what)
        else:
            assert left == right, (what, field.name)


@pytest.mark.slow
@pytest.mark.parametrize("order", slow_but("CF", "C"))
@pytest.mark.parametrize(("layout", "shape"), LARGE)
@pytest.mark.parametrize("dtype", slow_but(["f4", "f2"], "f4"))
def test_tiles_of_64_kib_to_8_mib_and_1_to_5_workers_give_the_same_bits(
    layout: str, shape: tuple[int, ...], order: str, dtype: str
) -> None:
    x = drawn(shape, dtype, order, 1, offset=60, std=30)
    with Engine(2) as engine:
        y, outcome = normalized(x, 2, layout, engine, keep=True)
        total = measure(ArraySource(x), whole(x.shape), engine)
    assert outcome.check.ok
    for tile, workers in zip(TILES, itertools.cycle((1, 2, 3, 4, 5)), strict=False):
        with Engine(workers, tile) as engine:
            forward = tile < 1 << 19  # where visits are smaller than a span
            again, same = normalized(x, 2, layout, engine, keep=True, forward=forward)
            assert_same_bits(again, y, (tile, workers))
            assert_same_outcome(same, outcome, (tile, workers))
            assert_same_moments(measure(ArraySource(x), whole(x.shape), engine), total, (tile, workers))


@settings(derandomize=True, deadline=None, max_examples=examples(120))
@given(
    st.sampled_from(LAYOUTS),
    st.sampled_from("CF"),
    st.sampled_from(("f4", "f8", "f2", ">i8", "u1", "?")),
    st.sampled_from(("f4", "f8")),
    st.sampled_from(SIZES),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_any_tile_visit_worker_and_source_gives_the_same_bits(
    layout: str,
    order: str,
    dtype: str,
    made: str,
    sizes: tuple[int, int],
    workers: int,
    forward: bool,
    affine: bool,
    data: st.DataObject,
) -> None:
    groups, group_size = data.draw(st.sampled_from(((1, 1), (2, 3), (3, 1), (1, 12))))
    extents = {letter: data.draw(st.sampled_from((1, 2, 7, 40))) for letter in layout} | {"C": groups * group_size}
    x = drawn(tuple(extents[letter] for letter in layout), dtype, order, workers, offset=60, std=30)
    options: dict[str, Any] = {"dtype": made, "keep": True, "stages": True, "extras": frozenset({"zeros"})}
    if affine:
        options |= {"gamma": np.linspace(-2, 2, groups * group_size), "beta": 0.5}
    y, outcome = normalized(x, groups, layout, Engine(1, executor=Inline()), **options)
    partition = by_group(x.shape, ArraySource(x).order, Layout(layout), groups)
    cells = measure(ArraySource(x), partition, Engine(1, executor=Inline()), "zeros")
    with Engine(workers, *sizes) as engine:
        again, same = normalized(x, groups, layout, engine, forward=forward, **options)
        assert_same_bits(again, y, sizes)
        assert_same_outcome(same, outcome, sizes)
        source = Forward(x) if forward else ArraySource(x)
        assert_same_moments(measure(source, partition, engine, "zeros"), cells, sizes)


def test_any_executor_gives_the_same_bits() -> None:
    x = drawn((3, 4, 50, 51), "f4", "C", 2, offset=60, std=30)
    y, outcome = normalized(x, 2, "NCHW", Engine(1, 5000, 9000, Inline()), keep=True)
    with ThreadPoolExecutor(3) as executor:
        again, same = normalized(x, 2, "NCHW", Engine(2, 5000, 9000, executor), keep=True)
    assert_same_bits(again, y)
    assert_same_outcome(same, outcome, "threads")


@pytest.mark.parametrize("dist", ["uniform", "normal"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_drawn_tensor_is_normalized_as_the_array_it_stands_for(dist: Any, dtype: str) -> None:
    shape = (2, 4, 90, 91)
    array = np.empty(shape, dtype)
    RandomSource(shape, dist, 5, dtype).read_into(array.reshape(-1), 0)
    y, outcome = normalized(array, 2, "NCHW", Engine(1, executor=Inline()))
    for visit in (4000, 1 << 22):
        source = RandomSource(shape, dist, 5, dtype)
        grouping = GroupNorm(2).on(shape, "C")
        with Engine(2, 2000, visit) as engine:
            sink = ArraySink(shape, array.dtype)
            affine = Affine(np.ones(4), np.zeros(4), grouping.channel_shape)
            same = Normalization(source, sink, grouping, affine, FLOATS[array.dtype.name], engine).run()
        assert_same_bits(sink.array, y, visit)
        assert_same_outcome(same, outcome, visit)


def test_a_group_larger_than_a_visit_holds_one_span_at_a_time() -> None:
    x = drawn((6, 4, 1000), "f4", "C", 3, offset=60, std=30)
    source = Forward(x)
    grouping = GroupNorm(2).on(x.shape, "C")
    affine = Affine(np.ones(4), np.zeros(4), grouping.channel_shape)
    Normalization(source, None, grouping, affine, FLOATS["float32"], Engine(1, 500, 1000, Inline())).run()
    assert source.most_held == 2000
    assert source.position == x.size
    source = Forward(x)  # and what fits a visit is never read again
    Normalization(source, None, grouping, affine, FLOATS["float32"], Engine(1, executor=Inline())).run()
    assert source.most_held == 0


def test_without_a_sink_the_same_is_found() -> None:
    x = drawn((3, 4, 500), "f4", "C", 4, offset=60, std=30)
    grouping = GroupNorm(2).on(x.shape, "C")
    affine = Affine(np.full(4, 2.0), np.zeros(4), grouping.channel_shape)
    for sizes in ((None, None), (500, 1000)):
        with Engine(2, *sizes) as engine:
            _, outcome = normalized(x, 2, "NCL", engine, gamma=2.0)
            dry = Normalization(ArraySource(x), None, grouping, affine, FLOATS["float32"], engine).run()
            assert_same_outcome(dry, outcome, sizes)


@pytest.mark.parametrize("layout", ["NCHW", "CNHW", "NHWC", "CHW"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("sizes", [(None, None), (400, 800)])
def test_the_moments_that_are_kept_are_those_of_each_sample_and_group(layout: str, order: str, sizes: Any) -> None:
    extents = {"N": 3, "C": 6, "H": 7, "W": 8}
    x = drawn(tuple(extents[letter] for letter in layout), "f8", order, 5, offset=60, std=30)
    with Engine(2, *sizes) as engine:
        for denominator in ("std", "variance"):
            _, outcome = normalized(x, 2, layout, engine, keep=True, stages=True, denominator=denominator)
            assert outcome.kept is not None
            mean, var, rstd = outcome.kept
            axes = [layout.index(letter) for letter in "NC" if letter in layout]
            grouped = np.moveaxis(x, axes, range(len(axes))).reshape(3 if "N" in layout else 1, 2, -1)
            assert mean.shape == var.shape == rstd.shape == grouped.shape[:2]
            np.testing.assert_allclose(mean, grouped.mean(axis=2), rtol=1e-13)
            np.testing.assert_allclose(var, grouped.var(axis=2), rtol=1e-13)
            total = grouped.var(axis=2) + 1e-5
            np.testing.assert_allclose(rstd, 1 / (np.sqrt(total) if denominator == "std" else total), rtol=1e-13)
            assert outcome.means.mean == pytest.approx(mean.mean(), rel=1e-14)
            assert outcome.variances.std() == pytest.approx(var.std(), rel=1e-12)
            assert plain(outcome.means.n, outcome.variances.max) == (mean.size, var.max())


def test_moments_that_nobody_asked_for_are_not_kept() -> None:
    _, outcome = normalized(drawn((2, 4, 9), "f4", "C", 6, offset=60, std=30), 2, "NCL", Engine(1, executor=Inline()))
    assert outcome.kept is None
    assert outcome.means.n == outcome.variances.n == 0
    assert outcome.before.asked(Zeros) is None


def test_before_and_after_are_over_everything() -> None:
    x = drawn((3, 4, 500), "f4", "C", 7, offset=60, std=30)
    engine, zero = Engine(1, executor=Inline()), frozenset({"zeros"})
    y, outcome = normalized(x, 2, "NCL", engine, gamma=np.arange(4.0), beta=1.0, extras=zero)
    for found, array in ((outcome.before, x), (outcome.after, y)):
        wide = array.astype(np.float64)
        assert found.mean == pytest.approx(wide.mean(), rel=1e-12)
        assert found.std() == pytest.approx(wide.std(), rel=1e-12)
        assert plain(found.min, found.max, found.n) == (wide.min(), wide.max(), wide.size)
        zeros = found.asked(Zeros)
        assert zeros is not None
        assert zeros.zeros == (wide == 0).sum()
    assert outcome.normalized.mean == pytest.approx(0, abs=1e-6)
    assert outcome.normalized.std() == pytest.approx(1, rel=1e-4)


def test_a_large_beta_does_not_drown_the_deviation_after() -> None:
    x = drawn((3, 4, 500), "f8", "C", 7, offset=60, std=30)
    y, outcome = normalized(x, 2, "NCL", Engine(1, executor=Inline()), beta=1e9)
    assert outcome.after.std() == pytest.approx(y.std(), rel=1e-13)


def test_what_stats_finds_agrees_with_what_normalize_pools_from_its_cells() -> None:
    x = drawn((3, 6, 40, 41), "f4", "C", 8, offset=60, std=30)
    engine = Engine(1, executor=Inline())
    _, outcome = normalized(x, 3, "NCHW", engine)
    total = measure(ArraySource(x), whole(x.shape), engine)
    assert outcome.before.mean == pytest.approx(total.mean.item(), rel=1e-15)
    assert outcome.before.var() == pytest.approx(total.var().item(), rel=1e-14)


def test_without_verifying_standardized_values_are_not_measured_apart() -> None:
    x = drawn((3, 4, 50), "f4", "C", 9, offset=60, std=30)
    _, outcome = normalized(x, 2, "NCL", Engine(1, executor=Inline()), gamma=3.0, verify=False)
    assert_same_moments(outcome.normalized, outcome.after)


@pytest.mark.parametrize("shape", EMPTY)
def test_nothing_is_normalized_to_nothing(shape: tuple[int, ...]) -> None:
    x = np.empty(shape, np.float32)
    for forward in (False, True):
        y, outcome = normalized(x, 2, "NCL", Engine(1, executor=Inline()), keep=True, stages=True, forward=forward)
        assert y.shape == shape
        assert outcome.check == Check(0, None, None, proved=0, settled=0)
        assert outcome.before.n == outcome.after.n == 0
        assert math.isnan(outcome.before.mean.item())
        assert outcome.kept is not None
        for kept in outcome.kept:
            assert kept.shape == (shape[0], 2)
            assert np.isnan(kept).all()


@pytest.mark.parametrize("shape", EMPTY)
@pytest.mark.parametrize("dtype", ["f4", "i8"])
def test_the_cells_of_nothing_have_no_values(shape: tuple[int, ...], dtype: str) -> None:
    x = np.empty(shape, dtype)
    engine = Engine(1, executor=Inline())
    assert measure(ArraySource(x), whole(shape), engine, "zeros").n.tolist() == [0.0]
    found = measure(ArraySource(x), by_group(shape, "C", Layout("NCL"), 2), engine)
    assert found.n.tolist() == [0.0] * (shape[0] * 2)
    assert found.min.dtype == (np.int64 if dtype == "i8" else np.float64)


@pytest.mark.parametrize(("value", "mean"), [(3.5, 3.5), (True, 1.0), (2**62, 2.0**62)])
def test_a_tensor_without_axes_is_one_value(value: Any, mean: float) -> None:
    found = measure(ArraySource(np.array(value)), whole(()), Engine(1, executor=Inline())).settled()
    assert plain(found.n, found.mean, found.std(), found.min, found.max) == (1, mean, 0.0, value, value)


def test_too_many_open_cells_are_refused() -> None:
    # Samples run fastest, so that the cell of each is open until the last channel.
    x = np.zeros((plan.MAX_OPEN_CELLS + 1, 2), bool, order="F")
    sentence = (
        "x: 1048577 cells are open at once in this storage order, more than 1048576; "
        "store the tensor in another order, or in parts"
    )
    engine = Engine(1, executor=Inline())
    with pytest.raises(LimitError) as caught:
        measure(ArraySource(x, "x"), by_group(x.shape, "F", Layout("NC"), 1), engine)
    assert str(caught.value) == sentence
    with pytest.raises(LimitError):
        normalized(x, 1, "NC", engine, dtype="f4")
    assert measure(ArraySource(x, "x"), whole(x.shape), engine).n == x.size


def test_as_many_cells_as_may_be_open_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_OPEN_CELLS", 10)
    engine = Engine(1, executor=Inline())
    normalized(np.zeros((10, 2), order="F"), 1, "NC", engine)
    with pytest.raises(LimitError):
        normalized(np.zeros((11, 2), order="F"), 1, "NC", engine)
    normalized(np.zeros((11, 2)), 1, "NC", engine)


ALONE = [
    ("NCHW", (1, 16, 8, 8)),
    ("NHWC", (2, 5, 7, 6)),
    ("NC", (300, 4)),
    ("CNHW", (4, 3, 90, 31)),
    ("CHW", (4, 140, 141)),
]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1"])
@pytest.mark.parametrize(("layout", "shape"), ALONE)
def test_an_array_of_one_visit_gets_the_bits_of_a_plan(layout: str, shape: tuple[int, ...], dtype: str) -> None:
    for order, rms, affine in (("C", False, False), ("F", True, True), ("C", True, False)):
        x = drawn(shape, dtype, order, 3, offset=60, std=30)
        source = ArraySource(x)
        grouping = GroupNorm(2, layout=layout, rms=rms).on(source.shape, source.order)
        gamma = Affine(np.array([2.5]), np.array([0.3]), (1, 1, x.size)) if affine else no_affine(x.size)
        made = FLOATS["float64" if dtype == "f8" else "float32"]
        sink = ArraySink(source.shape, made.dtype, source.order)
        with Engine(1) as engine:
            Normalization(source, sink, grouping, gamma, made, engine, verify=False, reports=False).write()
        values = source.lent(0, x.size)
        assert values is not None
        found = at_once(values, grouping, gamma, made)
        assert found is not None
        assert_same_bits(found.reshape(shape, order=source.order), sink.array, (layout, order, rms, affine))


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 4, (2 << 20) + 1), (3 << 20, 4, 1)])
def test_an_array_of_no_or_several_visits_is_left_to_a_plan(shape: tuple[int, ...]) -> None:
    values = np.broadcast_to(np.float16(1), math.prod(shape))
    grouping = GroupNorm(2).on(shape, "C")
    assert at_once(values, grouping, no_affine(values.size), FLOATS["float16"]) is None
