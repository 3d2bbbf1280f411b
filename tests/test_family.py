"""The family of norms: every option of `normalize` and `group_norm`, held to rational arithmetic and to frameworks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli import group_norm, normalize_file
from gncli.errors import ParameterError
from gncli.io import ArraySink, ArraySource
from gncli.kernels.activations import activate
from gncli.kernels.affine import Scaling, per_channel_moments
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import Check, GroupNorm, check, factor, standardization
from gncli.kernels.proof import about_zero, given_moments
from gncli.names import ACTIVATIONS
from gncli.run.engine import Engine
from gncli.run.normalization import Normalization
from tests import exact
from tests.activated import activated
from tests.arrays import Forward, Inline, InTurn, assert_same_bits, drawn, moments_of
from tests.marks import slow_but
from tests.norms import MAKERS, SHAPES, Case, cases, cells_along
from tests.runs import measure

ENGINES = [Engine(1, 1 << 6, 1 << 7, executor=Inline()), Engine(1, executor=Inline())]  # spans read twice, and once
ROADS = [(engine, forward) for engine in ENGINES for forward in (False, True)]  # the source is read in order, or not
LIMITS = {"relu": 0.0, "silu": -0.0, "gelu": -0.0, "gelu-tanh": -0.0}  # at minus infinity


def expected(
    x: NDArray[Any],
    case: Case,
    made: str,
    gamma: NDArray[Any],
    beta: NDArray[Any],
    moments: tuple[NDArray[Any], NDArray[Any]] | None = None,
    overflow: str | None = None,
) -> NDArray[Any]:
    """Return the results, each correctly rounded; gamma and beta have the shape of `x`."""
    kind, norm = FLOATS[made], case.norm
    y = np.empty(x.shape, kind.dtype)

    def resolved(value: Any) -> Any:
        return np.copysign(kind.beyond(overflow), value) if np.isinf(value) else value

    for cell in np.unique(case.cells):
        own = case.cells == cell
        if moments is None:
            group = exact.Group.of(x[own], norm.eps, norm.denominator, rms=norm.rms)
        else:
            mean, var = (Fraction(float(each[cell])) for each in moments)
            group = exact.Group(1, mean, var + Fraction(norm.eps), norm.denominator)
        for index in zip(*np.nonzero(own), strict=True):
            factor: Any = Fraction(float(gamma[index])) + Fraction(case.scaling.gamma_offset)
            value, of = x[index], group
            if case.scaling.round_before_affine and made != "float64":
                value, of = resolved(group.rounded(value, 1.0, 0.0, kind)), exact.Group.none()
            name = case.scaling.activation
            if not np.isfinite(value):
                whole = float(value) * float(factor) + float(beta[index])
                y[index] = resolved(whole) if name is None or np.isnan(whole) or whole > 0 else LIMITS[name]
            elif name is None:
                y[index] = resolved(of.rounded(value, factor, float(beta[index]), kind))
            else:
                y[index] = resolved(activated(name, of, value, factor, float(beta[index]), kind))
    return y


def computed(
    x: NDArray[Any],
    case: Case,
    made: str,
    gamma: NDArray[Any],
    beta: NDArray[Any],
    moments: tuple[NDArray[Any], NDArray[Any]] | None = None,
    engine: Engine = ENGINES[1],
    *,
    forward: bool = False,
    **more: Any,
) -> tuple[NDArray[Any], Check]:
    """Return the result, and the check of it."""
    source = Forward(x) if forward else ArraySource(x)
    grouping = case.norm.on(source.shape, source.order)
    sink = (InTurn if forward else ArraySink)(source.shape, FLOATS[made].dtype, source.order)
    affine = case.scaling.affine(grouping, gamma, beta)
    kept = None if moments is None else per_channel_moments(grouping, *moments)
    with np.errstate(all="ignore"):
        outcome = Normalization(source, sink, grouping, affine, FLOATS[made], engine, given=kept, **more).run()
    return sink.array, outcome.check


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("made", ["float32", "float64"])
def test_without_a_report_the_bits_are_the_same(engine: Engine, given: bool, made: str) -> None:
    x = drawn((2, 4, 60), "f8")
    norm = GroupNorm(None if given else 1, given=given, layout="NCL")
    moments = (np.array([0.5, 0.0, 1.0, -1.0]), np.array([1.0, 2.0, 3.0, 0.25])) if given else None
    case = Case(norm, Scaling(), cells_along(x.shape, [1 if given else 0]), (1,))
    one, zero = np.ones(()), np.zeros(())
    expected, _ = computed(x, case, made, one, zero, moments, engine)
    sink, grouping = ArraySink(x.shape, FLOATS[made].dtype, "C"), norm.on(x.shape, "C")
    kept = None if moments is None else per_channel_moments(grouping, *moments)
    affine = Scaling().affine(grouping, one, zero)
    made_of = (ArraySource(x), sink, grouping, affine, FLOATS[made], engine)
    Normalization(*made_of, verify=False, reports=False, given=kept).write()
    assert_same_bits(sink.array, expected)


def hold_to_the_oracle(kind: str, rng: np.random.Generator, roads: Collection[tuple[Engine, bool]] = ()) -> int:
    """Compare all elements of a random case with the oracle, on some roads or on one; return how many there are."""
    layout, shape = list(SHAPES.items())[int(rng.integers(len(SHAPES)))]
    case = cases(rng, layout, shape)
    x = np.asarray(MAKERS[kind](rng, shape), order=rng.choice(["C", "F"]))
    made = str(rng.choice(list(FLOATS)))
    overflow = str(rng.choice(["saturate", "nonfinite"])) if FLOATS[made].foreign else None
    sizes = [shape[axis] for axis in case.axes]
    gamma: NDArray[Any] = np.ones(())
    beta: NDArray[Any] = np.zeros(())
    if rng.random() < 0.7:
        gamma, beta = rng.normal(size=sizes), rng.normal(size=sizes)
    if rng.random() < 0.2:  # few digits make ties
        gamma, beta = np.rint(gamma * 4) / 4 + 0.0, np.rint(beta * 4) / 4 + 0.0  # and no -0
    moments = None
    if case.norm.given:
        scale = float(np.abs(x.astype(np.float64)).max()) or 1.0
        moments = rng.normal(size=6) * scale, rng.random(6) * min(scale, 1e150) ** 2 + 1e-300
    scaling = replace(
        case.scaling,
        gamma_offset=float(rng.choice([0.0, 0.0, 1.0, 0.1, -1.0])),  # 1 + gamma is no float64, as a rule
        round_before_affine=bool(rng.random() < 0.3),
        activation=[None, None, *ACTIVATIONS][int(rng.integers(6))],
    )
    laid = [
        np.broadcast_to(each.reshape([size if axis in case.axes else 1 for axis, size in enumerate(shape)]), shape)
        if each.shape
        else np.broadcast_to(each, shape)
        for each in (gamma, beta)
    ]
    if case.norm.num_groups is not None and gamma.shape and rng.random() < 0.3:  # one value per group
        scaling = replace(scaling, gamma_per_group=True)
        groups, channel = case.norm.num_groups, np.indices(shape)[case.axes[0]]
        of = channel % groups if case.norm.interleaved else channel // (6 // groups)
        gamma, beta = gamma[:groups], beta[:groups]
        laid = [each[of] for each in (gamma, beta)]
    case = case._replace(scaling=scaling)
    right = expected(x, case, made, laid[0], laid[1], moments, overflow)
    for engine, forward in roads or [ROADS[int(rng.integers(len(ROADS)))]]:
        y, found = computed(x, case, made, gamma, beta, moments, engine, forward=forward, overflow=overflow)
        assert_same_bits(y, right, (case, made, overflow))
        if not found.failures:
            if not found.ok:  # standardized values overflow, which a factor of 0 hides, or a wider dtype is checked
                checked, alone = FLOATS[made].checked.name, case._replace(scaling=Scaling())
                z = expected(x, alone, checked, np.ones(shape), np.zeros(shape), moments)
                assert np.isinf(z[np.isfinite(x)]).any(), (case, found)
            assert (found.proved or 0) + (found.settled or 0) == np.isfinite(y).sum()
    return x.size


@pytest.mark.slow
@pytest.mark.parametrize("kind", slow_but(MAKERS, "normal", "64-bit", "half"))
@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_every_element_of_every_norm_is_correctly_rounded(kind: str, seed: int) -> None:
    hold_to_the_oracle(kind, np.random.default_rng(seed), ROADS)


@pytest.mark.soak
@pytest.mark.parametrize("kind", MAKERS)
def test_ten_thousand_cases_are_correctly_rounded(kind: str) -> None:
    """Every dtype, norm, option and layout: 720 cases of each kind of data, 10,080 in all."""
    rng = np.random.default_rng(list(MAKERS).index(kind))
    print(kind, sum(hold_to_the_oracle(kind, rng) for _ in range(720)), "elements")


def test_gamma_and_beta_per_group_are_those_of_its_channels() -> None:
    x, gamma, beta = drawn((2, 6, 5)), np.array([2.0, 3.0]), np.array([-1.0, 1.0])
    for interleaved, of in ((False, [0, 0, 0, 1, 1, 1]), (True, [0, 1, 0, 1, 0, 1])):
        y = group_norm(x, 2, gamma=gamma, beta=beta, gamma_per_group=True, interleaved=interleaved)
        assert_same_bits(y, group_norm(x, 2, gamma=gamma[of], beta=beta[of], interleaved=interleaved))


def test_gamma_of_the_reduced_axes_or_of_the_channels_must_be_said_where_both_fit() -> None:
    x, gamma = drawn((2, 4, 4)), np.arange(1.0, 5.0)
    with pytest.raises(ParameterError) as caught:
        group_norm(x, over="L", gamma=gamma)
    assert str(caught.value) == "gamma of shape (4,) fits axes 2 and 1; say which by gamma_axes"
    plain = group_norm(x, over="L").astype(float)
    np.testing.assert_allclose(group_norm(x, over="L", gamma=gamma, gamma_axes="C"), plain * gamma[:, None], rtol=1e-6)
    np.testing.assert_allclose(group_norm(x, over="2", gamma=gamma), plain * gamma, rtol=1e-6)  # nothing says C
    with pytest.raises(ParameterError) as caught:
        group_norm(x[:, :, :3], over="L", gamma=np.ones(5))
    assert str(caught.value) == "gamma has shape (5,); the tensor needs (3,) or (4,)"
    with pytest.raises(ParameterError) as caught:
        group_norm(x[:, :, :3], over="L", gamma=np.ones(4), beta=np.ones(3))
    assert str(caught.value) == "gamma has shape (4,), beta (3,); give both the same axes"


def test_an_offset_of_gamma_is_added_exactly() -> None:
    x = np.array([[1.0, 1.0 + 2.0**-23]], np.float32)
    options: dict[str, Any] = {"mean": 0.0, "var": 1.0, "eps": 0.0, "beta": 2.0**-24, "gamma_offset": 1.0}
    for gamma, right in (
        (0.0, [1.0, 1.0 + 2.0**-22]),  # ties, which go to even
        (2.0**-80, [1.0 + 2.0**-23, 1.0 + 2.0**-22]),  # 1 + gamma is no float64
        (-(2.0**-80), [1.0, 1.0 + 2.0**-23]),
    ):
        assert group_norm(x, layout="NC", gamma=gamma, **options).tolist() == [right]
    grouping = GroupNorm(1).on((1, 2), "C")
    for gamma, identity in ((0.0, True), (2.0**-80, False)):  # where the factor is 1 but for what it lost
        assert Scaling(gamma_offset=1.0).affine(grouping, np.array(gamma), np.zeros(())).identity is identity
    assert group_norm(x, layout="NC", gamma=np.array([np.inf, 1.0]), **options).tolist() == [[np.inf, 2 + 2.0**-22]]
    with pytest.raises(ParameterError) as caught:
        group_norm(x, 1, gamma_offset=np.nan)
    assert str(caught.value) == "the offset of gamma is nan; give a finite gamma_offset"


@pytest.mark.parametrize(
    "norm", [GroupNorm(1, eps=0.0), GroupNorm(1, eps=0.0, rms=True), GroupNorm(given=True, eps=0.0, layout="NC")]
)
def test_ties_of_float64_and_what_is_next_to_them_are_settled(norm: GroupNorm) -> None:
    """With mean 0 and variance 1, y is x + beta: a tie, or as near to one as its bound, or too far away for that."""
    x = np.array([[1.0, -1.0, 1.0, -1.0] if not norm.given else [1.0, -1.0, 1.0 + 2.0**-52, -1.0 - 2.0**-52]])
    case = Case(norm, Scaling(), cells_along(x.shape, [1 if norm.given else 0]), (1,))
    moments = (np.zeros(4), np.ones(4)) if norm.given else None
    for away, settled in ((0.0, 4), (2.0**-50, 4), (-(2.0**-50), 4), (2.0**-30, 0), (-(2.0**-30), 0)):
        beta = np.sign(x) * 2.0**-53 * (1 + away)
        right = expected(x, case, "float64", np.ones(x.shape), beta, moments)
        for engine in ENGINES:
            y, found = computed(x, case, "float64", np.ones(4), beta[0], moments, engine)
            assert_same_bits(y, right, away)
            assert (found.proved, found.settled) == (4 - settled, settled)


@pytest.mark.parametrize("engine", ENGINES)
def test_moments_that_are_kept_do_not_depend_on_the_dtype_of_the_output(engine: Engine) -> None:
    x, kept = drawn((50, 4, 70), "f8"), []
    grouping = GroupNorm(2, layout="NCL").on(x.shape, "C")
    affine = Scaling().affine(grouping, np.ones(()), np.zeros(()))
    for made in ("float32", "float64"):
        outcome = Normalization(ArraySource(x), None, grouping, affine, FLOATS[made], engine, keep=True).run()
        assert outcome.kept is not None
        kept.append([part.tolist() for part in outcome.kept])
    assert kept[0] == kept[1]


def test_a_factor_that_makes_a_tie_of_float64_but_for_a_part_in_2_107_is_settled() -> None:
    x, one, zero = np.array([[1.0, -1.0]]), np.ones(()), np.zeros(())
    for place in np.random.default_rng(4).integers(0, 1 << 52, 8).tolist():
        tie = 1 + Fraction(2 * place + 1, 1 << 53)
        total = 1 / tie**2
        var = np.nextafter(float(total), 0)
        norm = GroupNorm(given=True, eps=float(total - Fraction(float(var))), layout="NC")
        case, moments = Case(norm, Scaling(), cells_along(x.shape, [1]), (1,)), (np.zeros(2), np.full(2, var))
        y, check = computed(x, case, "float64", one, zero, moments)
        assert_same_bits(y, expected(x, case, "float64", np.ones(x.shape), np.zeros(x.shape), moments))
        assert (check.proved, check.settled) == (0, 2)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("kind", ["ternary", "two-valued", "double", "64-bit", "tiny"])
def test_counts_and_bits_of_float64_are_the_same_on_every_road(kind: str, activation: str | None) -> None:
    rng = np.random.default_rng(7)
    x, gamma, beta = MAKERS[kind](rng, (3, 6, 7, 6)), rng.normal(size=6), rng.normal(size=6)
    for layout, axis in (("NCHW", 1), ("NHWC", 3)):
        case = Case(GroupNorm(2, layout=layout, eps=0.0), Scaling(activation=activation), x, (axis,))
        found = []
        for engine, forward in ROADS:
            y, check = computed(x, case, "float64", gamma, beta, None, engine, forward=forward)
            found.append((y.tobytes(), check.proved, check.settled))
        assert all(one == found[0] for one in found)
        y = group_norm(x, 2, layout=layout, eps=0.0, gamma=gamma, beta=beta, dtype="f8", activation=activation)
        assert y.tobytes() == found[0][0]


def test_values_are_rounded_before_gamma_and_beta() -> None:
    x = drawn((2, 6, 40), offset=2)
    for made, gamma, beta in (("f4", np.pi, 0.1), ("f2", 1.5, 0.0), ("f2", 0.75, -1.5)):
        z = group_norm(x, 2, dtype=made).astype(np.float64)  # of which product and sum are exact, or nearly
        y = group_norm(x, 2, gamma=gamma, beta=beta, round_before_affine=True, dtype=made)
        assert_same_bits(y, (z * gamma + beta).astype(made))
        assert (y != group_norm(x, 2, gamma=gamma, beta=beta, dtype=made)).any()
    options: dict[str, Any] = {"mean": 0.0, "var": 1.0, "eps": 0.0, "dtype": "f2"}
    for rounds in (False, True):  # -0 + 0 is 0
        y = group_norm(np.array([[-1e-9]]), round_before_affine=rounds, **options)
        assert (y.tolist(), bool(np.signbit(y[0, 0]))) == ([[0.0]], not rounds)
    y = group_norm(x, 2, gamma=3.0, round_before_affine=True, dtype="f8")  # float64 is rounded once
    assert_same_bits(y, group_norm(x, 2, gamma=3.0, dtype="f8"))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_rounded_once_and_seldom_settled(name: str) -> None:
    x = drawn((2, 6, 400), offset=2)
    case = Case(GroupNorm(2), Scaling(activation=name), x, ())
    gamma, beta = np.array(2.0), np.array(0.25)
    once, check = computed(x, case, "float16", gamma, beta)
    assert (check.ok, check.proved) == (True, x.size)
    u = group_norm(x, 2, gamma=2.0, beta=0.25, dtype="f8")
    activate(name, u, None)
    assert_same_bits(once, u.astype("f2"))
    twice = group_norm(x, 2, gamma=2.0, beta=0.25, dtype="f2").astype("f8")
    activate(name, twice, None)
    assert (twice.astype("f2") != once).any() == (name != "relu")
    y, check = computed(
        np.ones((1, 2, 3), np.float32), case._replace(norm=GroupNorm(1)), "float32", gamma, np.zeros(())
    )
    assert (y.tolist(), np.signbit(y).any(), check.settled) == (
        [[[0.0] * 3] * 2],
        False,
        0,
    )  # a constant group is proved


SMOOTH = ACTIVATIONS[1:]


@pytest.mark.parametrize("name", slow_but(SMOOTH, "silu", "gelu-tanh"))
def test_float64_after_an_activation_is_right_from_one_end_to_the_other(name: str) -> None:
    """With given moments u is x: next to 0, where results leave the normal numbers, and where they are ties."""
    rng = np.random.default_rng(3)
    ends = {"silu": 752.0, "gelu": 38.6, "gelu-tanh": 21.6}
    few = np.concatenate([-rng.uniform(0.7, 1.01, 30) * ends[name], rng.normal(size=20), rng.uniform(-8, 40, 20)])
    more = [0.0, -0.0, 5e-324, -5e-324, 1e-310, -1e-310, 2.0**-900, 1e300, -1e300, 1.7e308, -1.7e308, 2.0**53, 50.0]
    more += [np.nextafter(800, 0), 800.0, -37.0, -38.0, -38.5, -700.0, -745.0, -752.0, np.inf, -np.inf, np.nan]
    x = np.concatenate([few, more])[None]
    case = Case(GroupNorm(given=True, eps=0.0, layout="NC"), Scaling(activation=name), cells_along(x.shape, [1]), (1,))
    one, zero, moments = np.ones(()), np.zeros(()), (np.zeros(x.size), np.ones(x.size))
    right = expected(x, case, "float64", np.ones(x.shape), np.zeros(x.shape), moments)
    right[x == 0] = 0.0  # an exact zero is +0
    y, check = computed(x, case, "float64", one, zero, moments)
    assert_same_bits(y, right)
    assert (check.proved or 0) + (check.settled or 0) == np.isfinite(y).sum()


@pytest.mark.parametrize("name", SMOOTH)
def test_float64_after_an_activation_is_seldom_settled(name: str) -> None:
    x = drawn((2, 6, 4000), "f8", offset=2)
    case = Case(GroupNorm(2), Scaling(activation=name), x, ())
    _, check = computed(x, case, "float64", np.array(2.0), np.array(0.25))
    assert (check.ok, check.proved, check.settled) == (True, x.size, 0)


@pytest.mark.parametrize(("name", "u"), [("silu", 800.0), ("gelu", 40.0), ("gelu-tanh", 30.0)])
def test_a_tie_of_float64_is_decided_by_how_far_an_activation_is_from_its_argument(name: str, u: float) -> None:
    """u + beta is a tie, and the activation is less than it by what no float64 shows."""
    for beta in (np.spacing(u) / 2, -np.spacing(u) / 2):
        options: dict[str, Any] = {"mean": 0.0, "var": 1.0, "eps": 0.0, "layout": "NC", "beta": beta}
        y = group_norm(np.array([[u, np.nextafter(u, np.inf)]]), **options, activation=name)
        step = np.spacing(u)
        assert y.tolist() == [[u, u + step] if beta > 0 else [u - step, u]]


def test_ties_of_rounded_values_are_proved() -> None:
    """Half of the products of a number of 8 bits and 1.5 are ties: settling them would take a second per million."""
    x = drawn((2, 6, 400))
    case = Case(GroupNorm(2), Scaling(round_before_affine=True), x, ())
    for made in ("bfloat16", "float16", "float32"):
        _, check = computed(x, case, made, np.array(1.5), np.array(0.25))
        assert (check.ok, check.settled) == (True, 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("made", ["float32", "float64"])
def test_a_variance_that_no_float64_holds_is_not_0(engine: Engine, made: str) -> None:
    """It is 3.5 units of 1e-647: what is divided by it is finite times the least gamma alone."""
    x = np.array([[0.0, 1.0, 2.0, 5.0]]) * 5e-324
    case = Case(GroupNorm(1, eps=0.0, denominator="variance", layout="NC"), Scaling(), np.zeros(x.shape, np.int64), ())
    for gamma in (1.0, 5e-324):
        right = expected(x, case, made, np.full(x.shape, gamma), np.zeros(x.shape))
        assert np.isfinite(right).sum() == (1 if gamma == 1 else 4)
        assert_same_bits(computed(x, case, made, np.array(gamma), np.zeros(()), None, engine)[0], right)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rounding_before_gamma_may_overflow(engine: Engine) -> None:
    x = np.array([[1.0, 1e5, 3e5, -1e5, 460.0]])
    case = Case(GroupNorm(given=True, layout="NC", eps=0.0), Scaling(round_before_affine=True), x, ())
    moments, gamma = (np.zeros(5), np.ones(5)), np.array([1.0, 0.001, 0.0, 0.5, 0.5])

    def made(name: str, overflow: str | None) -> tuple[list[float], Check]:
        y, check = computed(x, case, name, gamma, np.zeros(()), moments, engine, overflow=overflow)
        return y[0].tolist(), check

    y, check = made("float16", None)
    np.testing.assert_array_equal(y, [1.0, np.inf, np.nan, -np.inf, 230.0])
    assert (check.ok, check.overflowed) == (False, 2)
    y, check = made("float8_e4m3fn", "saturate")
    np.testing.assert_array_equal(y, [1.0, 0.4375, 0.0, -224.0, 224.0])  # 448 and its products, not those of x
    assert (check.ok, check.misrounded) == (True, 0)
    y, check = made("float8_e4m3fn", "nonfinite")
    np.testing.assert_array_equal(y, [1.0, np.nan, np.nan, np.nan, 224.0])
    assert check.ok


def test_zeros_that_are_counted_beside_leave_rms_as_it_is() -> None:
    x = drawn((2, 4, 60), "f4")
    x[:, ::2] = 0
    case = Case(GroupNorm(2, rms=True, layout="NCL"), Scaling(), x, ())
    y, check = computed(x, case, "float32", np.ones(()), np.zeros(()), engine=ENGINES[0], extras=frozenset({"zeros"}))
    assert_same_bits(y, computed(x, case, "float32", np.ones(()), np.zeros(()), engine=ENGINES[0])[0])
    assert check.ok


def test_a_nan_spoils_itself_alone_where_the_moments_are_given() -> None:
    x = drawn((2, 3, 4))
    x[0, 1, 2], x[1, 1, 0] = np.nan, np.inf
    y = group_norm(x, mean=np.zeros(3), var=np.array([1.0, 4.0, 1.0]), eps=0)
    assert (np.argwhere(np.isnan(y)).tolist(), y[1, 1, 0]) == ([[0, 1, 2]], np.inf)
    case = Case(GroupNorm(given=True, layout="NCL"), Scaling(), cells_along(x.shape, [1]), (1,))
    moments = np.zeros(3), np.ones(3)
    _, found = computed(x, case, "float32", np.ones(()), np.zeros(()), moments)
    assert (found.ok, found.overflowed, found.nonfinite_groups) == (True, 0, 1)
    _, found = computed(x, case, "float16", np.full((), 1e5), np.zeros(()), moments)
    assert found.overflowed == int((np.abs(x[np.isfinite(x)]) * 1e5 > 65519).sum()) > 0
    case = Case(GroupNorm(given=True, layout="NCL", eps=0.0), Scaling(), cells_along(x.shape, [1]), (1,))
    moments = np.zeros(3), np.full(3, 1e-100)
    _, found = computed(x, case, "float32", np.full((), 1e-30), np.zeros(()), moments)
    assert (found.ok, found.overflowed) == (True, 0)  # although x / sqrt(var + eps) is beyond float32
    with pytest.raises(ParameterError) as caught:
        group_norm(x, mean=0.0)
    assert str(caught.value) == "mean and var go together; give both or none"
    with pytest.raises(ParameterError) as caught:
        group_norm(x, mean=0.0, var=np.ones(2))
    assert str(caught.value) == "var has shape (2,); the tensor needs (3,)"


@pytest.mark.parametrize("denominator", ["std", "variance"])
@pytest.mark.parametrize(("scale", "var"), [(1e300, 0.25), (1e-307, 1e-300), (1e-307, 0.25), (1e200, 1e300)])
def test_the_check_holds_where_given_moments_are_on_another_scale(scale: float, var: float, denominator: str) -> None:
    x = drawn((2, 3, 40), "f8") * scale
    norm = GroupNorm(given=True, layout="NCL", eps=0.0, denominator=denominator)
    case = Case(norm, Scaling(), cells_along(x.shape, [1]), (1,))
    moments = np.full(3, scale / 4), np.full(3, var)
    for gamma in (0.0, 1.0):
        _, found = computed(x, case, "float64", np.full((), gamma), np.zeros(()), moments)
        assert found.ok, found


BEYOND: dict[str, tuple[str, float, float | None, str, float]] = {
    "x / sqrt(var) of float64": ("float64", 1e198, 1e-224, "std", 1e-20),
    "1 / var of float64": ("float64", 1e-20, 1e-320, "variance", 1e-20),
    "1 / var of float64, and a float32": ("float32", 1e-20, 1e-320, "variance", 1e-270),
    "1 / deviation of float64": ("float64", 1e-310, None, "variance", 1e-20),
    "1 / deviation of float16": ("float16", 1e-6, None, "variance", 1e-3),
}
"""The dtype of the result, the scale of x, var if it is given, the denominator, and a gamma with which results fit."""


@pytest.mark.parametrize("name", slow_but(BEYOND, "x / sqrt(var) of float64", "1 / deviation of float16"))
@pytest.mark.parametrize("engine", ENGINES)
def test_the_check_is_the_proof_where_a_standardized_value_is_beyond_its_dtype(name: str, engine: Engine) -> None:
    made, scale, var, denominator, fits = BEYOND[name]
    x = drawn((2, 3, 40), "f8") * np.array([scale, 1.0, scale])[:, None]  # of the second channel nothing is beyond it
    norm = GroupNorm(None if var else 3, eps=0.0, layout="NCL", denominator=denominator, given=var is not None)
    case = Case(norm, Scaling(), cells_along(x.shape, [1] if var else [0, 1]), (1,))
    moments = None if var is None else (np.zeros(3), np.array([var, 1.0, var]))
    for gamma in (fits, -0.0, 1.0):
        y, found = computed(x, case, made, np.full((), gamma), np.zeros(()), moments, engine)
        assert_same_bits(y, expected(x, case, made, np.full(x.shape, gamma), np.zeros(x.shape), moments))
        assert (found.ok, found.overflowed) == (not np.isinf(y).any(), np.isinf(y).sum())
        assert found.ok or gamma == 1.0
        assert (found.proved or 0) + (found.settled or 0) == np.isfinite(y).sum()
        assert found.mean_error is not None and found.mean_error <= 1  # of the second channel


def test_the_check_fails_where_a_standardized_value_beyond_its_dtype_spoils_the_result() -> None:
    x, moments = np.array([[1e198, -2e198]]), (np.zeros(2), np.full(2, 1e-224))
    case = Case(GroupNorm(given=True, layout="NC", eps=0.0), Scaling(), x, ())
    for made, gamma, overflow in (("float32", 0.0, None), ("bfloat16", 1e-300, "saturate")):
        _, found = computed(x, case, made, np.full((), gamma), np.zeros(()), moments, overflow=overflow)
        assert (found.ok, found.failures) == (False, 0)
    below = -np.abs(x)
    for activation in ACTIVATIONS:  # of -infinity each makes a 0, and the exact values are beta - 1 and beta - 2
        scaling = Scaling(activation=activation)
        case = Case(GroupNorm(given=True, layout="NC", eps=0.0), scaling, below, ())
        _, found = computed(below, case, "float32", np.full((), 1e-310), np.full((), 5.0), moments)
        assert (found.ok, found.failures) == (False, 0)
    x, moments = np.array([[1e5]]), (np.zeros(1), np.ones(1))
    case = Case(GroupNorm(given=True, layout="NC", eps=0.0), Scaling(round_before_affine=True), x, ())
    y, found = computed(x, case, "float16", np.zeros(()), np.zeros(()), moments)
    assert (np.isnan(y).all(), found.ok) == (True, False)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"rms": True}, lambda z: z * (1 + 2**-18)),
        ({"rms": True}, lambda z: z - z.mean()),
        ({"given": True}, lambda z: z + 2**-16),
        ({"given": True}, lambda z: z * (1 + 2**-18)),
    ],
)
def test_the_check_fails_for_a_mistake(options: dict[str, bool], wrong: Callable[[Any], Any]) -> None:
    norm = GroupNorm(None if "given" in options else 1, **options)  # type: ignore[arg-type]
    x = drawn((1, 1, 400), "f8", offset=3)
    before = measure(ArraySource(x), norm.on(x.shape, "C").partition, ENGINES[1]).settled()
    by = about_zero(before) if norm.rms else given_moments(np.array([1.0]), np.array([2.0]), x.dtype)
    z = (x - by.hi) * factor(standardization(by, norm))
    for changed, ok in ((z, True), (wrong(z), False)):
        after = moments_of(changed.astype(np.float32).reshape(1, -1))
        assert check(before, by, after, norm, np.dtype(np.float32)).ok is ok


def test_every_option_is_said_and_kept(tmp_path: Path) -> None:
    x = drawn((2, 12, 3, 5))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "mean.npy", x.mean((0, 2, 3)))
    source, moments = str(tmp_path / "x.npy"), str(tmp_path / "m.npz")
    options: dict[str, Any] = {"stages": True, "save_moments": moments, "output": str(tmp_path / "y.h5"), "force": True}

    def stages(**more: Any) -> list[tuple[int, ...]]:
        report = normalize_file(source, **options, **more)
        assert report.check is not None
        assert report.check.ok
        with h5py.File(tmp_path / "y.h5") as file:
            kept = dict(next(iter(file.values())).attrs)
        assert {name: kept[name] for name in more} == more
        return [stage.stats.shape for stage in report.stages[1:3]]

    assert stages(num_groups=4, interleaved=True) == [(2, 3, 4, 3, 5), (2, 1, 4, 1, 1)]
    means = np.load(moments)["mean"]
    np.testing.assert_allclose(means, x.astype(float).reshape(2, 3, 4, 15).mean((1, 3)), rtol=1e-12)
    assert stages(over="0,-1", rms=True) == [(2, 12, 3, 5), (1, 12, 3, 1)]
    found = np.load(moments)
    np.testing.assert_allclose(found["rstd"], ((x.astype(float) ** 2).mean((0, 3)) + 1e-5) ** -0.5, rtol=1e-12)
    assert stages(num_groups=2, gamma_offset=1.0)[0] == (2, 2, 6, 3, 5)
    assert stages(mean=0.0, var=2.0)[1] == (1, 12, 1, 1)
    assert stages(mean=str(tmp_path / "mean.npy"), var=2.0) == [(2, 12, 3, 5), (1, 12, 1, 1)]
    assert np.load(moments)["rstd"].shape == (12,)
