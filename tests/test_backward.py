"""The backward pass: dx, dgamma and dbeta of every norm, held to rational arithmetic and to PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli import group_norm_backward
from gncli.errors import InputError, ParameterError
from gncli.io import ArraySink, ArraySource
from gncli.kernels import native
from gncli.kernels.affine import Scaling, per_channel_moments
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.gradients import GradientCheck, gradient, proved_closer
from gncli.kernels.groupnorm import GroupNorm
from gncli.kernels.loops import loops
from gncli.kernels.parameters import Grid, Piece, pieces
from gncli.kernels.plain import Gradient
from gncli.names import ACTIVATIONS
from gncli.run.engine import Engine
from gncli.run.gradients import Backward, Gradients
from gncli.tasks.backward import gradient_pair
from gncli.testing import assert_group_norm_backward
from tests import exact
from tests.activated import decimal_of, slope
from tests.arrays import Inline, InTurn, assert_same_bits
from tests.marks import slow_but
from tests.norms import GRADIENTS, MAKERS, SHAPES, Case, cases, cells_along, gradients

ENGINES = [Engine(1, 1 << 6, 1 << 8, executor=Inline()), Engine(1, executor=Inline())]  # spans read thrice, and once
FAR = {"silu": 1400, "gelu": 53, "gelu-tanh": 27}  # where a' of -u is below 1e-600
ROADS = [(engine, in_turn) for engine in ENGINES for in_turn in (False, True)]  # dx is written in any order, or not


def kind_of(name: str) -> Float:
    """Return the dtype of a name."""
    return FLOATS.get(name) or FLOATS[np.dtype(name).name]


def computed(
    x: NDArray[Any],
    dy: NDArray[Any],
    case: Case,
    made: tuple[str, str],
    gamma: NDArray[Any],
    moments: tuple[NDArray[Any], NDArray[Any]] | None = None,
    engine: Engine = ENGINES[1],
    *,
    in_turn: bool = False,
    beta: NDArray[Any] | None = None,
    overflow: str | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], GradientCheck]:
    """Return dx, dgamma, dbeta, and the check of dx."""
    with ExitStack() as stack, np.errstate(all="ignore"):
        pair = gradient_pair(stack, ArraySource(x, "x"), ArraySource(dy, "dy"))
        grouping = case.norm.on(pair.shape, pair.order)
        kinds = [kind_of(name) for name in made]
        sink = (InTurn if in_turn else ArraySink)(pair.shape, kinds[0].dtype, pair.order)
        affine = case.scaling.affine(grouping, gamma, np.zeros(()) if beta is None else beta)
        grid = Grid.of(case.scaling, grouping, gamma.shape)
        kept = None if moments is None else per_channel_moments(grouping, *moments)
        passed = Backward(pair, sink, grouping, affine, grid, kinds[0], kinds[1], engine, given=kept, overflow=overflow)
        found = passed.run()
    return sink.array, *found.parameters, found.check


def broadcast(values: NDArray[Any], axes: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the value of each element, of an array that has the axes `axes` of the tensor."""
    sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    return np.broadcast_to(values.reshape(sizes) if values.shape else values, shape)


def through(
    x: Any, dy: Any, case: Case, gamma: Any, beta: Any, moments: tuple[NDArray[Any], NDArray[Any]] | None
) -> NDArray[Any]:
    """Return dy times the derivative of the activation, as fractions: exact for relu, else of 420 digits."""
    norm, name = case.norm, str(case.scaling.activation)
    found, u = np.empty(x.shape, object), np.empty(x.shape, object)
    for cell in np.unique(case.cells):
        places = list(zip(*np.nonzero(case.cells == cell), strict=True))
        if moments is None:
            values = np.array([x[p] for p in places])
            group = exact.Group.of(values, norm.eps, norm.denominator, rms=norm.rms)
        else:
            mean, var = (Fraction(float(each[cell])) for each in moments)
            group = exact.Group(1, mean, var + Fraction(norm.eps), norm.denominator)
        for p in places:
            if name == "relu":
                found[p] = exact.exactly(dy[p]) * (group.side(x[p], gamma[p], beta[p], Fraction(0)) > 0)
                continue
            with localcontext(prec=700):
                total = decimal_of(group.total or Fraction(1))
                z = decimal_of(exact.exactly(x[p]) - group.sum / group.n)
                z /= total.sqrt() if norm.denominator == "std" else total
                u[p] = z * decimal_of(gamma[p]) + decimal_of(Fraction(beta[p]))
    if name != "relu":
        ranks = {size: rank for rank, size in enumerate(sorted(set(map(abs, u.reshape(-1)))))}
        for p in np.ndindex(x.shape):
            found[p] = slope_of(name, u[p], ranks[abs(u[p])]) * exact.exactly(dy[p])
    return found


def slope_of(name: str, u: Decimal, rank: int) -> Fraction:
    """Return a' of 420 digits, so that also differences of some as small as the least float64 have their own.

    Those of u and of -u add up to 1. Where tiny u have the sum 0, that of a' differs from n / 2 by the sum of their
    cubes: there are 1,500 digits for these.

    What differs from 0 or 1 by less than 1e-600 differs by a little more here, the less, the higher the rank is: that
    matters for ties.
    """
    least, digits = Decimal(10) ** -(600 + rank), 1500 if 0 < abs(u) < Decimal("1e-100") else 420
    with localcontext(prec=digits):
        below = +slope(name, -abs(u)) if abs(u) < FAR[name] else Decimal(0)
    with localcontext(prec=digits + 600):
        if abs(below) < Decimal("1e-600"):
            below = -least
        return Fraction(below if u <= 0 else 1 - below)


def hold_to_the_oracle(kind: str, rng: np.random.Generator, roads: Collection[tuple[Engine, bool]] = ()) -> int:
    """Compare the gradients of a random case with the oracle, on some roads or on one; return how many there are."""
    layout, shape = list(SHAPES.items())[int(rng.integers(len(SHAPES)))]
    case = cases(rng, layout, shape)
    activation = [None, None, *ACTIVATIONS][int(rng.integers(6))]
    scaling = replace(case.scaling, gamma_offset=float(rng.choice([0.0, 0.0, 1.0, 0.1, -1.0])), activation=activation)
    if kind == "tiny" and activation not in (None, "relu"):  # 1 / var would be beyond what the oracle says of a' near 0
        case = case._replace(norm=replace(case.norm, eps=case.norm.eps or 1e-5))
    x = np.asarray(MAKERS[kind](rng, shape), order=rng.choice(["C", "F"]))
    dy = np.asarray(GRADIENTS[str(rng.choice(list(GRADIENTS)))](rng, shape), order=rng.choice(["C", "F"]))
    made = str(rng.choice(list(FLOATS))), str(rng.choice(["f2", "f4", "f8", "bfloat16"]))
    overflow = str(rng.choice(["saturate", "nonfinite"])) if FLOATS[kind_of(made[0]).name].foreign else None
    sizes = [shape[axis] for axis in case.axes]
    gamma = [np.ones(()), np.array(0.1), rng.normal(size=sizes), rng.integers(-2, 3, sizes) + 0.0][int(rng.integers(4))]
    beta = np.asarray([0 * gamma, rng.normal(size=gamma.shape), 0 * gamma + 3][int(rng.integers(3))])
    moments = None
    if case.norm.given:
        scale = float(np.abs(x.astype(np.float64)).max()) or 1.0
        moments = rng.normal(size=6) * scale, rng.random(6) * min(scale, 1e150) ** 2 + 1e-100
    owners = broadcast(np.arange(int(np.prod(sizes))).reshape(sizes), case.axes, shape)
    wide = [broadcast(each, case.axes, shape) for each in (gamma, beta)]
    if case.norm.num_groups is not None and np.ndim(gamma) and rng.random() < 0.3:  # one value per group
        scaling = replace(scaling, gamma_per_group=True)
        groups, channel = case.norm.num_groups, np.indices(shape)[case.axes[0]]
        owners = channel % groups if case.norm.interleaved else channel // (6 // groups)
        gamma, beta = gamma[:groups], beta[:groups]
        wide = [each[owners] for each in (gamma, beta)]
    case = case._replace(scaling=scaling)
    h = dy
    if activation is not None:
        factors = np.vectorize(Fraction, otypes=[object])(wide[0]) + Fraction(scaling.gamma_offset)
        h = through(x, dy, case, factors, wide[1], moments)
    right = gradients(x, h, case, made, wide[0], owners, moments)
    smooth = activation not in (None, "relu")  # digits do not say the sign of a result that is rounded to 0
    beyond = np.isinf(right[0])
    if overflow is not None:
        right[0][beyond] = np.copysign(FLOATS[made[0]].beyond(overflow), right[0][beyond])
    for engine, in_turn in roads or [ROADS[int(rng.integers(len(ROADS)))]]:
        *found, check = computed(
            x, dy, case, made, gamma, moments, engine, in_turn=in_turn, beta=beta, overflow=overflow
        )
        for what, values, expected in zip(("dx", "dgamma", "dbeta"), found, right, strict=True):
            sign = np.zeros((), expected.dtype) if smooth else np.copysign(np.zeros((), expected.dtype), -1)
            assert_same_bits(values.reshape(expected.shape) + sign, expected + sign, (what, case, made, engine.visit))
        if not check.failures:
            assert check.ok, (case, check)
            assert (check.proved or 0) + (check.settled or 0) == np.isfinite(found[0]).sum()
    return sum(each.size for each in right)


@pytest.mark.parametrize("kind", slow_but(MAKERS, "normal"))
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_every_gradient_of_every_norm_is_correctly_rounded(kind: str, seed: int) -> None:
    hold_to_the_oracle(kind, np.random.default_rng(seed), ROADS)


@pytest.mark.parametrize("activation", slow_but(["silu", "gelu", "gelu-tanh"], "silu"))
def test_a_tie_is_decided_by_the_cubes_of_arguments_whose_sum_is_zero(activation: str) -> None:
    """a'(u) is 1/2 + c u - d u**3, and so on: dbeta is a tie, and next to it by some 1e-645 of itself."""
    x = np.array([[4.0, -1, -1, -1, -1, 0], [-4, 1, 1, 1, 1, 0]]) * 1e-215
    below, above = 3 + 2.0**-22, 3 + 2.0**-21  # float32; between them lies 3 dy
    options: dict[str, Any] = {"eps": 0.1, "layout": "NCL", "gamma": np.ones(2), "beta": np.zeros(2)}
    options |= {"param_dtype": np.float32}
    for sign in (1, -1):
        dy = np.full((1, 2, 6), sign * (1 + 2.0**-23), np.float32)
        found = group_norm_backward(x[None], dy, 2, **options, activation=activation)[2]
        assert_same_bits(found, np.array([below, above], np.float32) * np.float32(sign))


@pytest.mark.soak
@pytest.mark.parametrize("kind", MAKERS)
def test_ten_thousand_gradients_are_correctly_rounded(kind: str) -> None:
    """Every dtype, norm, option and layout: 720 cases of each kind of data, 10,080 in all."""
    rng = np.random.default_rng(100 + list(MAKERS).index(kind))
    print(kind, sum(hold_to_the_oracle(kind, rng) for _ in range(720)), "elements")


def pass_over(x: NDArray[Any], dy: NDArray[Any], norm: GroupNorm, **more: Any) -> Gradients:
    """Return what a pass finds where gamma is 1, and beta 0 if it is not given."""
    with ExitStack() as stack, np.errstate(all="ignore"):
        pair = gradient_pair(stack, ArraySource(x, "x"), ArraySource(dy, "dy"))
        grouping = norm.on(pair.shape, pair.order)
        scaling, one = more.pop("scaling", Scaling()), np.ones(())
        affine, grid = scaling.affine(grouping, one, more.pop("beta", one * 0)), Grid.of(scaling, grouping, ())
        made, param = (more.pop(name, FLOATS["float32"]) for name in ("made", "param"))
        engine = more.pop("engine", ENGINES[1])
        return Backward(pair, more.pop("sink", None), grouping, affine, grid, made, param, engine, **more).run()


@pytest.mark.parametrize("made", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_gradients_of_dtypes_that_numpy_lacks_are_rounded_once_and_counted(made: str) -> None:
    rng = np.random.default_rng(3)
    x, dy = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3)) * np.array([1e-9, 1e-3, 1, 1e7])[:, None]
    sink = ArraySink(x.shape, np.dtype(np.float32))
    kind = FLOATS[made]
    found = pass_over(x, dy, GroupNorm(4), made=kind, sink=sink, overflow="saturate")
    case = Case(GroupNorm(4), Scaling(), np.arange(8).reshape(2, 4, 1).repeat(3, 2), (1,))
    owners = np.broadcast_to(np.arange(4)[:, None], x.shape)
    right, _, _ = gradients(x, dy, case, (made, "f4"), np.ones(x.shape), owners)
    beyond, zeros = np.isinf(right), right == 0
    right[beyond] = np.copysign(kind.largest, right[beyond])
    assert_same_bits(sink.array, right, made)
    check = found.check
    assert (check.ok, check.overflowed, check.became_zero) == (True, int(beyond.sum()), int(zeros.sum()))
    assert (made == "bfloat16") != (check.overflowed > 0 and zeros.any())
    assert not pass_over(x, dy, GroupNorm(4), made=kind).check.ok or made == "bfloat16"


def test_float64_gradients_are_proved() -> None:
    rng = np.random.default_rng(4)
    x, dy = rng.normal(5, 1, size=(2, 4, 5)), rng.normal(size=(2, 4, 5))
    dx, dgamma, dbeta = group_norm_backward(x, dy, 2)
    case = Case(GroupNorm(2), Scaling(), np.arange(4).reshape(2, 2, 1).repeat(2, 1).repeat(5, 2), (1,))
    owners = np.broadcast_to(np.arange(4)[:, None], x.shape)
    right = gradients(x, dy, case, ("f8", "f8"), np.ones(x.shape), owners)
    for values, expected in zip((dx, dgamma, dbeta), right, strict=True):
        assert_same_bits(values, expected)
    double = FLOATS["float64"]
    for engine in ENGINES:
        found = pass_over(x, dy, GroupNorm(2), made=double, param=double, engine=engine)
        assert (found.check.proved, found.check.settled, found.settled) == (40, 0, 0)


@pytest.mark.parametrize("activation", slow_but([None, "relu", "silu", "gelu", "gelu-tanh"], None, "silu"))
def test_float64_sums_that_nearly_cancel_are_proved(activation: str | None) -> None:
    """Sums of two float64 leave some 40 bits to cancel, and 30 after a smooth activation; float64 left none."""
    rng = np.random.default_rng(26)
    x, dy = rng.normal(size=(2, 2, 3, 40))
    x[:, :, 20:], dy[:, :, 20:] = x[:, :, :20], -dy[:, :, :20]
    dy[:, :, 20:] *= 1 + 2.0 ** (-30 if activation in (None, "relu") else -20) * rng.random((2, 3, 20))
    case = Case(GroupNorm(1), Scaling(activation=activation), cells_along(x.shape, [0]), (1,))
    owners = broadcast(np.arange(3), (1,), x.shape)
    one = np.ones(x.shape)
    h = dy if activation is None else through(x, dy, case, np.vectorize(Fraction)(one), one * 0, None)
    right = gradients(x, h, case, ("f4", "f8"), one, owners)
    for engine in ENGINES:
        found = pass_over(x, dy, GroupNorm(1), param=FLOATS["float64"], engine=engine, scaling=case.scaling)
        assert found.settled == 0 and (found.dgamma.condition > 1e6).all()
        for values, expected in zip(found.parameters, right[1:], strict=True):
            assert_same_bits(values, expected)


@pytest.mark.parametrize("size", slow_but([5e-324, 1e-310, 1e-285, 1e280, 1e306], 5e-324))
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("given", [False, True])
def test_float64_sums_of_any_size_are_correctly_rounded(size: float, activation: str | None, given: bool) -> None:
    """What is so small or large that sums of two float64 do not hold it is settled; sums of zeros are not."""
    rng = np.random.default_rng(27)
    x, dy = rng.normal(size=(2, 2, 4, 5))
    dy = np.rint(dy * 9) * size
    dy[:, 0] = 0
    x[:, 1] = x[:, 1, :1] * np.array([1, 1, -1, -1, 0.0])
    dy[:, 1] = size
    norm = GroupNorm(None if given else 4, given=given, layout="NCL")
    cells, owners = cells_along(x.shape, [1] if given else [0, 1]), broadcast(np.arange(4), (1,), x.shape)
    case, one = Case(norm, Scaling(activation=activation), cells, (1,)), np.ones(x.shape)
    moments = (np.zeros(4), np.ones(4)) if given else None
    h = dy if activation is None else through(x, dy, case, np.vectorize(Fraction)(one), one * 0, moments)
    right = gradients(x, h, case, ("f4", "f8"), one, owners, moments)
    for engine in ENGINES:
        found = pass_over(x, dy, norm, param=FLOATS["float64"], engine=engine, given=moments, scaling=case.scaling)
        for values, expected in zip(found.parameters, right[1:], strict=True):
            assert_same_bits(values, expected)
        nothing = pass_over(
            x, 0 * dy, norm, param=FLOATS["float64"], engine=engine, given=moments, scaling=case.scaling
        )
        assert nothing.settled == 0 and not np.any(nothing.parameters)


@pytest.mark.parametrize("scale", [1e-310, 1e-280, 1e290])
@pytest.mark.parametrize("given", [False, True])
def test_float64_gradients_of_any_size_are_correctly_rounded(scale: float, given: bool) -> None:
    """What is so small or large that sums of two float64 do not hold it is settled; an exact 0 that is clear is not."""
    rng = np.random.default_rng(22)
    x, dy, gamma = rng.normal(size=(2, 4, 5)), rng.normal(size=(2, 4, 5)) * scale, rng.normal(size=4)
    dy[0, :, 0] = 0
    norm = GroupNorm(None if given else 2, given=given, layout="NCL")
    kept = cells_along(x.shape, [1]) if given else np.arange(4).reshape(2, 2, 1).repeat(2, 1).repeat(5, 2)
    case, owners = Case(norm, Scaling(), kept, (1,)), broadcast(np.arange(4), (1,), x.shape)
    moments = (np.zeros(4), np.ones(4)) if given else None
    right = gradients(x, dy, case, ("f8", "f4"), broadcast(gamma, (1,), x.shape), owners, moments)
    for engine in ENGINES:
        dx, _, _, check = computed(x, dy, case, ("f8", "f4"), gamma, moments, engine)
        assert_same_bits(dx, right[0])
        assert (check.proved, check.settled) == ((4, 36) if given else (0, 40))


@pytest.mark.parametrize(("activation", "beta"), [("gelu", -100.0), ("silu", -5000.0), ("gelu-tanh", -50.0)])
def test_float64_gradients_of_a_unit_that_is_dead_are_zeros(activation: str, beta: float) -> None:
    x, dy = (np.random.default_rng(seed).normal(size=(1, 1, 4)) for seed in (0, 1))
    found = group_norm_backward(x, dy, 1, activation=activation, gamma=np.ones(1), beta=np.array([beta]))
    assert not np.any(found[0])


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu-tanh"])
@pytest.mark.parametrize("var", [1e-200, 1e-10])
def test_arguments_beyond_every_float_are_alive_or_dead(activation: str, var: float) -> None:
    x, dy = np.array([[1e300, -1e300, 3e299, -2e300]]), np.array([[1.0, 2.0, -3.0, 4.0]])
    options: dict[str, Any] = {"mean": np.zeros(4), "var": np.full(4, var), "eps": 0.0, "layout": "NC"}
    options |= {"gamma": np.full(4, 0.75), "beta": np.zeros(4)}
    alive = group_norm_backward(x, dy, **options)[0]
    dx = group_norm_backward(x, dy, **options, activation=activation)[0]
    assert_same_bits(dx, np.where(x > 0, alive, -0.0))


@pytest.mark.parametrize(
    ("activation", "beta"), slow_but([("gelu", -40.0), ("silu", -800.0), ("gelu-tanh", -23.0)], ("silu", -800.0))
)
@pytest.mark.parametrize("given", slow_but([False, True], True))
def test_gradients_of_a_unit_that_is_dead_have_the_signs_of_exact_ones(
    activation: str, beta: float, given: bool
) -> None:
    rng = np.random.default_rng(25)
    x, dy = rng.normal(size=(2, 2, 3, 8)).round(3)
    norm = GroupNorm(None if given else 3, given=given, layout="NCL")
    scaling, cells = Scaling(activation=activation), cells_along(x.shape, [1] if given else [0, 1])
    case, owners = Case(norm, scaling, cells, (1,)), broadcast(np.arange(3), (1,), x.shape)
    gamma, shift = np.array([1.0, -0.5, 0.25]), np.full(3, beta)
    moments = (np.zeros(3), np.ones(3)) if given else None
    wide = [broadcast(each, (1,), x.shape) for each in (gamma, shift)]
    h = through(x, dy, case, np.vectorize(Fraction)(wide[0]), wide[1], moments)
    right = gradients(x, h, case, ("f4", "f4"), wide[0], owners, moments)
    *found, check = computed(x, dy, case, ("f4", "f4"), gamma, moments, beta=shift)
    for values, expected in zip(found, right, strict=True):
        assert not values.any() and np.signbit(values).any()
        assert_same_bits(values.reshape(expected.shape), expected)
    assert (check.ok, check.settled) == (True, 48)


@pytest.mark.parametrize("activation", slow_but([None, "relu"], "relu"))
def test_open_float64_gradients_of_groups_that_are_read_thrice_are_settled(activation: str | None) -> None:
    """With mean 0 and variance 1, and dy and x orthogonal, dx is dy gamma, of which some are ties."""
    x = np.tile([1.0, -1.0], 320).reshape(2, 2, 2, 80)
    dy = np.array([2.0, -1.0])[:, None, None] * np.ones(x.shape) * (1 + 2.0**-52)
    gamma = np.array([0.75, 1.5])
    scaling = Scaling(activation=activation)
    cells, owners = cells_along(x.shape, [0, 2]), broadcast(np.arange(2), (1,), x.shape)
    case = Case(GroupNorm(over="1,3", eps=0.0), replace(scaling, gamma_axes="1"), cells, (1,))
    h = dy if activation is None else dy * (x > 0)
    right = gradients(x, h, case, ("f8", "f8"), broadcast(gamma, (1,), x.shape), owners)
    for engine in ENGINES:
        dx, _, _, check = computed(x, dy, case, ("f8", "f8"), gamma, None, engine)
        assert_same_bits(dx, right[0])
        assert (check.settled or 0) > 0


@pytest.mark.parametrize("given", [False, True])
def test_float64_gradients_of_a_tiny_gamma_are_settled(given: bool) -> None:
    x, dy = np.random.default_rng(24).normal(size=(2, 2, 3, 5))
    dy *= 1e280  # the lower part of the factor is lost, and dx is large
    cells = cells_along(x.shape, [1] if given else [0, 1])
    case = Case(GroupNorm(None if given else 3, given=given, layout="NCL"), Scaling(), cells, (1,))
    gamma, moments = np.array(3e-305), (np.zeros(3), np.ones(3)) if given else None
    owners = broadcast(np.arange(3), (1,), x.shape)
    right = gradients(x, dy, case, ("f8", "f4"), np.full(x.shape, gamma), owners, moments)
    dx, _, _, check = computed(x, dy, case, ("f8", "f4"), gamma, moments)
    assert_same_bits(dx, right[0])
    assert (check.proved, check.settled) == (0, 30)


def test_zeros_of_a_sparse_gradient_are_proved_where_moments_are_given() -> None:
    x, dy = np.random.default_rng(23).normal(size=(2, 2, 3, 50))
    dy[:, 1] = 0
    for gamma in (np.ones(()), np.array([0.3, 0.7, -1.0])):
        case = Case(GroupNorm(given=True, layout="NCL"), Scaling(), cells_along(x.shape, [1]), (1,))
        found = computed(x, dy, case, ("f8", "f8"), gamma, (np.zeros(3), np.ones(3)))
        assert (found[3].proved, found[3].settled) == (300, 0)


def test_a_constant_upstream_gradient_gives_exactly_zero_and_settles_nothing() -> None:
    x = np.random.default_rng(5).normal(1e4, 1, size=(2, 4, 50)).astype(np.float32)
    sink = ArraySink(x.shape, np.dtype(np.float32))
    found = pass_over(x, np.full(x.shape, 0.3, np.float32), GroupNorm(2), sink=sink)
    assert_same_bits(sink.array, np.zeros(x.shape, np.float32))
    assert (found.check.proved, found.check.settled, found.check.ok) == (x.size, 0, True)


@pytest.mark.parametrize("options", [{}, {"denominator": "variance"}, {"rms": True}, {"given": True}], ids=str)
@pytest.mark.parametrize("param", ["float32", "float64"])
def test_a_sum_that_is_exactly_zero_comes_out_as_zero(options: dict[str, bool], param: str) -> None:
    half = np.random.default_rng(13).normal(size=(2, 3, 50)).astype(np.float32)
    x, dy = np.concatenate([half, -half], 2), np.full((2, 3, 100), 0.3, np.float32)
    given = options == {"given": True}
    norm = GroupNorm(None if given else 3, **options)  # type: ignore[arg-type]
    for engine in ENGINES:
        moments = (np.zeros(3), np.ones(3)) if given else None
        found = pass_over(x, dy, norm, engine=engine, given=moments, param=FLOATS[param])
        assert_same_bits(found.parameters[0], np.zeros(3, param))
        assert found.settled == 3 and np.isinf(found.dgamma.condition).all()


def test_a_nan_in_every_cell_leaves_nothing_to_check() -> None:
    x = np.random.default_rng(14).normal(size=(2, 3, 5)).astype(np.float32)
    found = pass_over(x, np.full(x.shape, np.nan, np.float32), GroupNorm(3))
    assert (found.check.mean_error, found.check.projection_error, found.check.ok) == (None, None, True)
    assert np.isnan(found.parameters).all() and found.settled == 0


def test_a_nan_spoils_its_cell_and_its_sums_and_nothing_else() -> None:
    rng = np.random.default_rng(6)
    x, dy = rng.normal(size=(2, 2, 4, 5)).astype(np.float32)
    whole = group_norm_backward(x, dy, 2)
    dy[1, 2, 3] = np.nan
    for engine in ENGINES:
        sink = ArraySink(x.shape, np.dtype(np.float32))
        found = pass_over(x, dy, GroupNorm(2), sink=sink, engine=engine)
        assert np.isnan(sink.array[1, 2:]).all() and found.check.nonfinite_groups == 1 and found.check.ok
        assert_same_bits(sink.array[0], whole[0][0])
        assert_same_bits(sink.array[1, :2], whole[0][1, :2])
        for values, right, sums in zip(found.parameters, whole[1:], (found.dgamma, found.dbeta), strict=True):
            assert np.isnan(values).tolist() == [False, False, True, False] == (sums.undefined > 0).tolist()
            assert_same_bits(values[[0, 1, 3]], right[[0, 1, 3]])
            assert np.isnan(sums.condition).tolist() == [False, False, True, False]
    dy[1, 2, 3], x[0, 0, 0] = np.inf, np.inf
    dx, dgamma, dbeta = group_norm_backward(x, dy, 2)
    assert np.isnan(dx).tolist() == np.isin(np.arange(8).reshape(2, 4, 1), [0, 1, 6, 7]).repeat(5, 2).tolist()
    assert (np.isnan(dgamma).tolist(), np.isnan(dbeta).tolist()) == (
        [True, True, True, False],
        [False] * 2 + [True, False],
    )


def test_a_nan_spoils_itself_alone_where_the_moments_are_given() -> None:
    x, dy = np.random.default_rng(7).normal(size=(2, 2, 3, 4)).astype(np.float32)
    dy[0, 1, 2] = -np.inf
    x[1, 1, 0], x[1, 1, 1] = np.inf, np.nan  # no gradient depends on x but dgamma
    for made in (np.float32, np.float64):
        dx, dgamma, dbeta = group_norm_backward(x, dy, mean=np.zeros(3), var=np.ones(3), dtype=made)
        assert np.argwhere(~np.isfinite(dx)).tolist() == [[0, 1, 2]]
        assert np.isnan(dx[0, 1, 2]) and np.isnan(dgamma).tolist() == np.isnan(dbeta).tolist() == [False, True, False]
        norm, cells = GroupNorm(given=True, layout="NCL"), cells_along(x.shape, [1])
        for engine in ENGINES:
            moments = np.zeros(3), np.ones(3)
            case = Case(norm, Scaling(), cells, (1,))
            check = computed(x, dy, case, (np.dtype(made).name, "f4"), np.ones(()), moments, engine)[3]
            assert (check.proved, check.settled) == (23, 0)


def test_a_group_without_a_finite_element_has_a_gradient_of_nan() -> None:
    dy = np.ones((2, 2))
    for made in (np.float32, np.float64):
        dx, dgamma, dbeta = group_norm_backward(np.array([[1.0, np.nan], [np.inf, 2.0]]), dy, 2, dtype=made)
        assert np.isnan(dx).tolist() == [[False, True], [True, False]]
        assert np.isnan(dgamma).all() and dbeta.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("given", [False, True])
def test_products_that_float64_cannot_hold_are_settled(activation: str | None, given: bool) -> None:
    rng = np.random.default_rng(15)
    x = rng.normal(size=(2, 6, 5)) * (1.0 if given else 1e-300)
    dy = rng.normal(size=x.shape)
    dy[0, :2] *= 1e300  # times gamma it is beyond float64, and finite
    x[:, 5, 4], dy[1, 3, 0] = 0.0, 0.0
    gamma, beta = np.array([1e100, 1e300, 0.0, 1.0, -2.0, 1.0]), np.array([0.0, 1.0, 2.0, -1.0, 0.0, 0.0])
    norm = GroupNorm(None if given else 3, eps=0.0, denominator="variance", rms=not given, given=given)
    cells = cells_along(x.shape, [1]) if given else np.arange(12).reshape(2, 6, 1).repeat(5, 2) // 2
    case = Case(norm, Scaling(activation=activation), cells, (1,))
    moments = (np.full(6, 0.5), np.full(6, 1e-320)) if given else None
    wide = [broadcast(each, (1,), x.shape) for each in (gamma, beta)]
    h = dy if activation is None else through(x, dy, case, np.vectorize(Fraction)(wide[0]), wide[1], moments)
    owners = broadcast(np.arange(6), (1,), x.shape)
    right = gradients(x, h, case, ("f4", "f4"), wide[0], owners, moments)
    for engine, in_turn in ROADS:
        *found, check = computed(x, dy, case, ("f4", "f4"), gamma, moments, engine, in_turn=in_turn, beta=beta)
        for values, expected in zip(found, right, strict=True):
            assert_same_bits(values.reshape(expected.shape) + np.float32(-0.0), expected + np.float32(-0.0), norm)
        assert check.nonfinite_groups == 0


@pytest.mark.parametrize("options", [{}, {"denominator": "variance"}, {"rms": True}], ids=str)
@pytest.mark.parametrize("uniform", slow_but([False, True], False))
def test_what_products_lose_to_underflow_is_within_the_bounds(options: dict[str, Any], uniform: bool) -> None:
    """dy is of some hundred units of 5e-324, and x so small and gamma so large that dx is a float32 that is normal."""
    rng = np.random.default_rng(25)
    x, dy = rng.normal(size=(2, 2, 4, 30))
    scale = 1e-100 if "denominator" in options else 1e-200
    x, dy, gamma = x * scale, dy * 1e-321, np.full(4, 1e105) if uniform else rng.uniform(1, 2, 4) * 1e105
    case = Case(GroupNorm(2, eps=0.0, layout="NCL", **options), Scaling(), np.arange(4).reshape(2, 2, 1), (1,))
    cells = case.cells.repeat(2, 1).repeat(30, 2)
    owners = broadcast(np.arange(4), (1,), x.shape)
    right = gradients(x, dy, case._replace(cells=cells), ("f4", "f4"), broadcast(gamma, (1,), x.shape), owners)
    for engine in ENGINES:
        dx, _, _, check = computed(x, dy, case, ("f4", "f4"), gamma, None, engine)
        assert_same_bits(dx, right[0])
        assert check.ok


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("dy", [0.0, 1e299])
def test_the_check_allows_all_where_what_it_compares_is_beyond_float64(dy: float, rms: bool) -> None:
    rng = np.random.default_rng(16)
    x, upstream = rng.normal(size=(2, 6, 5)), rng.normal(size=(2, 6, 5))
    x[1] *= 1e-4 if dy else 1e-175  # dx z is 1e311, or without dy 1 / var 1e350
    upstream[1] *= dy
    case = Case(
        GroupNorm(3, eps=0.0, denominator="variance", rms=rms), Scaling(), np.arange(12).reshape(2, 6, 1) // 2, (1,)
    )
    for made in ("float64",) if dy else ("float32", "float64"):
        dx, _, _, check = computed(x, upstream, case, (made, "f8"), np.ones(()), None, ENGINES[0])
        assert (check.ok, check.groups, check.nonfinite_groups) == (True, 6, 0)
        assert np.isfinite(dx).all() and (dx[1] != 0).all() == bool(dy)
        assert 0 < (check.projection_error or 0) < 1  # of the first sample, which is checked all the same


MISTAKES: dict[str, Callable[[Gradient], Gradient]] = {
    "eps": lambda cells: cells._replace(factor=cells.factor * (1 + 1e-9), second=cells.second * (1 + 1e-9)),
    "factor": lambda cells: cells._replace(factor=cells.factor * (1 + 1e-11)),
    "first mean": lambda cells: cells._replace(first=cells.first + 1e-12),
    "second mean": lambda cells: cells._replace(second=cells.second * (1 + 1e-9)),
    "denominator": lambda cells: cells._replace(second=2 * cells.second),
    "no mean": lambda cells: cells._replace(first=cells.first * 0),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("options", [{}, {"rms": True}, {"denominator": "variance"}], ids=str)
def test_the_check_fails_for_a_mistake(mistake: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x, dy = np.random.default_rng(8).normal(1, 1, size=(2, 2, 4, 60)).astype(np.float32)
    norm = GroupNorm(2, eps=0.5, **options)
    assert pass_over(x, dy, norm).check.ok
    monkeypatch.setattr(
        "gncli.run.gradients.gradient", lambda *given, **more: MISTAKES[mistake](gradient(*given, **more))
    )
    found = pass_over(x, dy, norm).check
    assert found.ok is (norm.rms and mistake == "no mean")  # there it has none


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["plain", "native"])
def test_bits_do_not_depend_on_workers_tiles_or_the_kernel(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "native" and not native.bodies():
        pytest.skip("no compiler made it")
    rng = np.random.default_rng(9)
    x, dy = rng.normal(3, 1, size=(2, 2, 8, 60, 60)).astype(np.float32)  # a cell has two blocks
    dy[:, 3] *= 1e-20
    x[:, 2], dy[:, 2] = x[:, 1], -dy[:, 1]  # many exact zeros and ties of dgamma and dx
    monkeypatch.setenv("GNCLI_KERNEL", kernel)
    for layout, made, activation in (
        ("NCHW", "float32", None),
        ("NHWC", "float32", None),
        ("NCHW", "float32", "relu"),
        ("NHWC", "float32", "silu"),
        ("NHWC", "float64", "gelu"),
        ("NCHW", "float64", None),
    ):
        norm, scaling = GroupNorm(2, layout=layout), Scaling(activation=activation)
        tensors = [np.ascontiguousarray(np.moveaxis(of, 1, 3)) if layout == "NHWC" else of for of in (x, dy)]
        results = []
        loops.cache_clear()
        for workers, tile in ((2, None), (1, 1 << 12), (3, 1 << 14)):
            sink = ArraySink(tensors[0].shape, np.dtype(made))
            with Engine(workers, tile) as engine:
                kinds = {"made": FLOATS[made], "param": FLOATS[made]}
                found = pass_over(tensors[0], tensors[1], norm, engine=engine, sink=sink, scaling=scaling, **kinds)
            results.append((sink.array, *found.parameters, found.check))
        for result in results[1:]:
            for values, same in zip(result[:3], results[0][:3], strict=True):
                assert_same_bits(values, same, (layout, made, activation))
            assert result[3] == results[0][3] and result[3].ok
    monkeypatch.delenv("GNCLI_KERNEL")
    loops.cache_clear()
    assert_same_bits(results[0][0], group_norm_backward(x, dy, 2, dtype=np.float64)[0])


def test_records_of_spans_give_the_same_bits_however_many_are_added_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x, dy = rng.normal(3, 1, size=(2, 13, 8, 5, 5))  # two spans fit a visit, and the last one has one
    x[4, 1, 2, 2] = np.nan
    results = []
    for together in (0, 4, 1 << 12):
        monkeypatch.setattr("gncli.run.gradients.TOGETHER", together)
        with Engine(1, 1 << 10, 1 << 13) as engine:
            found = pass_over(x, dy, GroupNorm(1), engine=engine)
        results.append((found.check, [list(of[:6]) for of in (found.x, found.dy, found.dx)]))
    assert results[0][0].groups == 13 and results[0][0].nonfinite_groups == 1
    for check, moments in results[1:]:
        assert check == results[0][0]
        for of, same in zip(moments, results[0][1], strict=True):
            assert_same_bits(np.concatenate(of), np.concatenate(same))


def test_gamma_per_group_and_fortran_order_are_summed_where_they_belong() -> None:
    rng = np.random.default_rng(10)
    x, dy = rng.normal(size=(2, 2, 6, 5)).astype(np.float32)
    gamma = np.array([2.0, 3.0], np.float32)
    for interleaved, of in ((False, [0, 0, 0, 1, 1, 1]), (True, [0, 1, 0, 1, 0, 1])):
        dx, dgamma, dbeta = group_norm_backward(x, dy, 2, gamma=gamma, gamma_per_group=True, interleaved=interleaved)
        each = group_norm_backward(x, dy, 2, gamma=gamma[of], interleaved=interleaved, param_dtype=np.float64)
        assert_same_bits(dx, each[0])
        for values, sums in ((dgamma, each[1]), (dbeta, each[2])):
            groups = [math.fsum(sums[np.array(of) == group]) for group in (0, 1)]
            np.testing.assert_allclose(values, groups, rtol=2**-24)
    gamma = rng.normal(size=(6, 5)).astype(np.float32)
    plain = group_norm_backward(x, dy, over="C,L", gamma=gamma)
    assert plain[1].shape == (6, 5)
    turned = group_norm_backward(np.asfortranarray(x), np.asfortranarray(dy), over="C,L", gamma=gamma)
    assert turned[0].flags.f_contiguous
    for values, same in zip(turned, plain, strict=True):
        assert_same_bits(np.ascontiguousarray(values), same)


def test_a_tensor_without_elements_has_gradients_of_zero() -> None:
    dx, dgamma, dbeta = group_norm_backward(np.zeros((0, 4, 2)), np.zeros((0, 4, 2)), 2)
    assert (dx.shape, dgamma.tolist(), dbeta.tolist()) == ((0, 4, 2), [0.0] * 4, [0.0] * 4)


def test_what_float64_leaves_open_of_a_smooth_activation_is_settled() -> None:
    x, dy = np.random.default_rng(15).normal(size=(2, 1, 4, 6)).astype(np.float32)
    dy[0, 0] = 0  # of a cell without a gradient dx is exactly 0
    dy[0, 2], x[0, 2] = 1, 0.0  # and of one in which all elements are the same
    norm, options = GroupNorm(4, eps=1.0), {"scaling": Scaling(activation="silu")}
    for engine in ENGINES:
        sink = ArraySink(x.shape, np.dtype(np.float32))
        check = pass_over(x, dy, norm, engine=engine, sink=sink, **options).check
        assert check.ok and (check.proved, check.settled) == (18, 6)
        assert_same_bits(sink.array[0, [0, 2]], np.zeros((2, 6), np.float32))


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu", "gelu-tanh"])
@pytest.mark.parametrize("param", [np.float32, np.float64])
def test_sums_with_infinite_arguments_are_settled(activation: str, param: type) -> None:
    """There the derivative is 0 or 1. The others cancel: a'(1) - a'(1) and a'(-1) + a'(1) - 1."""
    x = np.array([[np.inf, -np.inf, np.inf, 1, 1, 0], [np.inf, -np.inf, -np.inf, -1, 1, -np.inf]]).T[None, None]
    dy = np.array([[1.0, 5, -1, 3, -3, 0], [-1, 3, 4, 1, 1, 2]]).T[None, None]
    options: dict[str, Any] = {"mean": np.zeros(2), "var": np.ones(2), "layout": "NLSC", "param_dtype": param}
    for sign in (1, -1):
        _, dgamma, dbeta = group_norm_backward(
            x * sign, dy, activation=activation, gamma=np.full(2, 1.0 * sign), beta=np.zeros(2), **options
        )
        assert np.isnan(dgamma).all()
        assert_same_bits(dbeta, np.zeros(2, param))


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_nan_and_infinities_pass_through_an_activation(activation: str) -> None:
    x, dy = np.random.default_rng(16).normal(size=(2, 1, 3, 4)).astype(np.float32)
    x[0, 0, 0], x[0, 1, 0], x[0, 2, 0], dy[0, 1, 1] = np.nan, np.inf, -np.inf, np.nan
    dx, _, dbeta = group_norm_backward(x, dy, mean=np.zeros(3), var=np.ones(3), activation=activation)
    assert np.argwhere(np.isnan(dx)).tolist() == [[0, 0, 0], [0, 1, 1]]
    assert dx[0, 1, 0] == dy[0, 1, 0] * np.float32(1 / np.sqrt(1 + 1e-5)) and dx[0, 2, 0] == 0
    assert np.isnan(dbeta).tolist() == [True, True, False]


def test_sums_that_relu_leaves_open_are_settled() -> None:
    half = np.random.default_rng(17).normal(size=(2, 3, 50)).astype(np.float32)
    x, dy = np.concatenate([half, -half], 2), np.full((2, 3, 100), 0.3, np.float32)
    for moments in (None, (np.zeros(3), np.ones(3))):
        norm = GroupNorm(None if moments else 3, given=moments is not None)
        for engine in ENGINES:
            found = pass_over(
                x, dy, norm, engine=engine, given=moments, scaling=Scaling(activation="relu"), beta=np.full(3, 1e3)
            )
            assert_same_bits(found.parameters[0], np.zeros(3, np.float32))
            assert found.settled == 3


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu-tanh"])
@pytest.mark.parametrize("given", slow_but([False, True], False))
def test_sums_that_a_smooth_activation_leaves_open_are_settled(activation: str, given: bool) -> None:
    half = np.random.default_rng(18).normal(size=(2, 3, 50)).astype(np.float32)
    x, dy = np.concatenate([half, half], 2), np.full((2, 3, 100), 0.3, np.float32)
    dy[..., 50:] *= -1
    dy[1, 1, 7] += np.float32(1e-6)  # the others cancel
    moments = (np.zeros(3), np.ones(3)) if given else None
    norm, beta = GroupNorm(None if given else 3, given=given, layout="NCL"), np.full(3, -0.5)
    cells = np.arange(3 if given else 6).reshape(-1, 3, 1) + np.zeros(x.shape, np.int64)
    case = Case(norm, Scaling(activation=activation), cells, (1,))
    owners = broadcast(np.arange(3), (1,), x.shape)
    h = through(x, dy, case, np.full(x.shape, Fraction(1)), np.full(x.shape, -0.5), moments)
    right = gradients(x, h, case, ("f4", "f4"), np.ones(x.shape), owners, moments)
    for engine in ENGINES:
        found = pass_over(x, dy, norm, engine=engine, given=moments, scaling=case.scaling, beta=beta)
        assert found.settled == 6
        for values, expected in zip(found.parameters, right[1:], strict=True):
            assert_same_bits(values, expected)
            assert (values == 0).tolist() == [True, False, True]


def test_parameters_without_a_float64_are_settled() -> None:
    x = np.random.default_rng(19).integers(-(2**62), 2**62, (2, 2, 40))
    dy = np.full(x.shape, 0.3)
    dy[0] = -0.3
    x[1] = x[0]
    for engine in ENGINES:
        found = pass_over(x, dy, GroupNorm(2, layout="NCL"), engine=engine, scaling=Scaling(activation="silu"))
        assert found.settled == 4 and not np.any(found.parameters)


def test_cells_that_are_read_again_may_be_in_some_visits_only() -> None:
    """Interleaved groups: a visit of a span has one channel, and that has one of the cells."""
    x, dy = np.random.default_rng(21).normal(size=(2, 2, 4, 300)).astype(np.float32)
    dy[0, 1], x[0, 1], dy[0, 3], x[0, 3] = 1, 0, 1, 0  # a constant cell, whose gradient is 0
    norm, scaling = GroupNorm(2, interleaved=True, layout="NCL"), Scaling(activation="gelu")
    for engine in ENGINES:
        sink = ArraySink(x.shape, np.dtype(np.float32))
        found = pass_over(x, dy, norm, engine=engine, sink=sink, scaling=scaling)
        assert (found.check.ok, found.check.settled) == (True, 600)
        assert_same_bits(sink.array[0, 1::2], np.zeros((2, 300), np.float32))


def test_open_gradients_of_given_moments_are_settled() -> None:
    x, dy = np.zeros((1, 2, 3), np.float32), np.full((1, 2, 3), 1 + 2**-11, np.float32)  # a tie of float16
    for engine in ENGINES:
        sink = ArraySink(x.shape, np.dtype(np.float16))
        options: dict[str, Any] = {"made": FLOATS["float16"], "given": (np.zeros(2), np.ones(2)), "sink": sink}
        found = pass_over(x, dy, GroupNorm(given=True, eps=0.0), engine=engine, **options)
        assert found.check.settled == 6 and (sink.array == 1).all()


def test_a_factor_beyond_every_bound_leaves_all_open() -> None:
    """Without eps the gradient of two elements is 0, and float64 has 1e-16 of a factor of 1e248 left."""
    x, dy = np.array([[1.0, 2.5, 3.0], [-0.3, 0.1, 7.0]]) * 1e-248, np.array([[0.1, 0.2, 0.3], [0.7, -0.3, 0.9]])
    dx = group_norm_backward(x, dy, over="0", eps=0, dtype=np.float16)[0]
    assert_same_bits(dx, np.zeros((2, 3), np.float16))


@pytest.mark.parametrize("rms", slow_but([False, True], False))
@pytest.mark.parametrize(
    ("made", "size", "noise"),
    slow_but([("float32", 1.0, 1e-4), ("bfloat16", 7.5e-29, 8e-12)], ("float32", 1.0, 1e-4)),
)
def test_most_of_what_bounds_leave_open_is_proved_with_errors(
    made: str, size: float, noise: float, rms: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where dy is nearly proportional to x, dx is nearly 0; these are near the least bfloat16."""
    rng = np.random.default_rng(28)
    x = rng.normal(size=(1, 2, 8192)).astype(np.float32)
    dy = (3 * x.astype(np.float64) + noise * rng.normal(size=x.shape)) * size
    results, settled = [], []
    for closer in (proved_closer, lambda _visit, known, *others: (others[4], known.by, 0)):
        monkeypatch.setattr("gncli.run.gradients.proved_closer", closer)
        for engine in ENGINES:
            sink = ArraySink(x.shape, FLOATS[made].dtype)
            norm = GroupNorm(2, eps=1e-30, layout="NCL", rms=rms)
            found = pass_over(x, dy, norm, engine=engine, sink=sink, made=FLOATS[made])
            results.append((sink.array, found.check.became_zero))
            settled.append(found.check.settled or 0)
    for values, zeros in results[1:]:
        assert_same_bits(values, results[0][0])
        assert zeros == results[0][1] and bool(zeros) == (made == "bfloat16")
    assert 0 < settled[0] == settled[1] < settled[2] / 3 and settled[2] == settled[3]


@pytest.mark.parametrize("activation", [None, "relu", "silu", "gelu"])
@pytest.mark.parametrize("norm", [{"num_groups": 2}, {"over": "0,2"}, {"num_groups": 2, "rms": True}])
def test_no_term_of_a_sum_is_larger_than_the_extremes_of_its_cells_say(
    norm: dict[str, Any], activation: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A size that is too small would take wrong digits from the terms."""
    said: list[float] = []

    def checked(grid: Grid, start: int, a: Any, b: Any, exist: Any, largest: float = math.nan) -> list[Piece]:
        said.append(largest / loops().largest(a, b))
        return pieces(grid, start, a, b, exist, largest)

    monkeypatch.setattr("gncli.run.gradients.pieces", checked)
    rng = np.random.default_rng(29)
    for offset in (0.0, 1e6):
        x, dy = (rng.normal(offset, size=(3, 4, 50)).astype(np.float32) for offset in (offset, 0.0))
        group_norm_backward(x, dy, activation=activation, **norm)
    sums, errors = (said, []) if activation in (None, "relu") else (said[::4] + said[1::4], said[2::4] + said[3::4])
    assert sums and min(sums) >= 1 and max(sums) < 200 and np.isnan(errors).all()
    said.clear()
    x[0, 0, 0] = np.nan
    group_norm_backward(x, dy, activation=activation, **norm)
    assert np.isnan(said).any()


TORCH: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "group norm": (lambda f, x, g: f.group_norm(x, 4, g), {"num_groups": 4}),
    "layer norm": (lambda f, x, g: f.layer_norm(x, (5,), g[:5]), {"over": "-1"}),
    "RMS norm": (lambda f, x, g: f.rms_norm(x, (5,), g[:5], 1e-5), {"over": "-1", "rms": True}),
    "instance norm": (lambda f, x, g: f.instance_norm(x, weight=g), {"over": "H,W"}),
    "batch norm": (lambda f, x, g: f.batch_norm(x, None, None, g, training=True), {"over": "N,H,W"}),
}


@pytest.mark.parametrize("name", TORCH)
def test_gradients_are_those_of_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    function, options = TORCH[name]
    rng = np.random.default_rng(11)
    x, dy = rng.normal(3, 2, size=(2, 3, 8, 4, 5))
    gamma = rng.normal(size=8)
    tensors = [torch.tensor(values, requires_grad=True) for values in (x, gamma)]
    function(torch.nn.functional, *tensors).backward(torch.tensor(dy))
    own = gamma[:5] if options.get("over") == "-1" else gamma
    dx, dgamma, _ = group_norm_backward(x, dy, gamma=own, **options)
    np.testing.assert_allclose(dx, tensors[0].grad.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dgamma, tensors[1].grad.numpy()[: own.size], rtol=0, atol=1e-11)


def test_the_assertion_says_which_gradient_is_wrong() -> None:
    x, dy = np.random.default_rng(12).normal(size=(2, 2, 8, 6)).astype(np.float32)
    right = group_norm_backward(x, dy, 4)
    assert_group_norm_backward(right, x, dy, 4)
    assert_group_norm_backward((None, None, right[2]), x, dy, 4)
    wrong = right[1] * np.float32(1.001)
    with pytest.raises(AssertionError, match=r"^dgamma: DIFFERENT") as caught:
        assert_group_norm_backward((right[0], wrong, right[2]), x, dy, 4)
    assert "exact dgamma" in str(caught.value)


def test_wrong_arrays_are_refused() -> None:
    x = np.ones((2, 4, 3))
    for dy, problem in (
        (np.ones((2, 4)), "dy: has shape (2, 4), and x (2, 4, 3); both need one shape"),
        (np.ones((2, 4, 3), np.int32), "dy: is int32; a gradient is a floating-point tensor"),
    ):
        with pytest.raises(InputError) as caught:
            group_norm_backward(x, dy, 2)
        assert str(caught.value) == problem
    with pytest.raises(ParameterError) as wrong:
        group_norm_backward(x, x, 2, param_dtype="bfloat16")
    assert str(wrong.value) == "bfloat16 cannot hold the result; choose float16, float32 or float64"
