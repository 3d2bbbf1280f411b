"""The map: each element standardized, scaled, shifted and rounded once; and which elements are open."""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels import native, plain
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.loops import Loops
from gncli.kernels.plain import Affine, Blocks, Standardization
from gncli.names import ACTIVATIONS
from tests.arrays import DTYPES, assert_same_bits, hostile
from tests.marks import slow_but

MEASURED = ("n", "hi", "lo", "m2", "square", "min", "max", "nan", "posinf", "neginf", "power")
KERNELS = [plain, *(native.Native(body) for body in native.bodies())]
IDENTITY = Standardization(np.zeros((1, 1)), np.zeros((1, 1)), np.ones((1, 1)))
VIEWS = [  # X, L, Q, and the shape of the channels
    (3, 700, 1, (1, 3, 700)),
    (2, 70, 1, (2, 70, 1)),
    (3, 5125, 1, (3, 1, 5125)),  # a short rest of a long row
    (30, 65, 1, (1, 65, 30)),
    (40, 3, 1, (4, 30, 1)),
    (300, 2, 1, (1, 30, 20)),
    (1, 5, 600, (1, 5, 600)),
    (2, 4, 70, (8, 70, 1)),
    (3, 50, 3, (50, 9, 1)),
    (2, 3, 130, (1, 78, 10)),
    (1, 1, 90_000, (3, 3, 10_000)),
    (1, 70_000, 1, (1, 7, 10_000)),
]


def mapped(
    kernel: Loops,
    values: NDArray[Any],
    length: int,
    cells: Standardization,
    affine: Affine | None,
    made: str,
    apart: bool,
    start: int = 0,
) -> tuple[NDArray[Any], ...]:
    kind = FLOATS[made]
    y = np.zeros(values.size, kind.dtype)
    with np.errstate(all="ignore"):
        if not apart:
            return kernel.normalize(values, length, cells, affine, start, kind, y), y
        columns = cells.hi.shape[1] > 1
        blocks = Blocks(length, min(length, 60 if columns else 2000), columns)
        checked = kind.checked if length % 3 else np.dtype(np.float64)
        found = kernel.verify(values, blocks, cells, affine, start, kind, y, checked, about_zero=bool(length % 2))
    none, counts = np.zeros_like(found.moments["n"]), np.array([found.wrong, found.zeros])
    return found.open, y, counts, *(found.moments.get(name, none).astype(np.float64) for name in MEASURED)


def cells_of(rng: np.random.Generator, values: NDArray[Any], num_x: int, width: int, bounds: bool) -> Standardization:
    """Return standardizations of any kind that moments may give, also of cells that hold a NaN."""
    shape = (num_x, width)
    with np.errstate(all="ignore"):
        some = np.nan_to_num(rng.choice(values, shape).astype(np.float64), nan=0.5, posinf=1.0, neginf=2.0)
    rstd = np.asarray(10.0 ** rng.integers(-3, 4, shape), np.float64)
    rstd[rng.random(shape) < 0.2] = np.nan
    base = None
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and rng.random() < 0.5:
        base = np.full(shape, values.min(), values.dtype.newbyteorder("="))
    slope, offset = np.full(shape, 2.0**-40), np.full(shape, 2.0**-45)
    slope[rng.random(shape) < 0.1] = offset[0, 0] = 2.0**900  # nothing is known
    return Standardization(some, some * 2.0**-54, rstd, base, None, *((slope, offset) if bounds else ()))


def affine_of(rng: np.random.Generator, shape: tuple[int, int, int]) -> Affine:
    gamma, beta = rng.standard_normal((2, shape[1]))
    gamma[rng.random(shape[1]) < 0.2] = rng.choice([0.0, -0.0, 1e300, np.inf, np.nan])
    rest = gamma * 2.0**-54 if rng.random() < 0.5 else None
    activation = [None, *ACTIVATIONS][int(rng.integers(5))]
    return Affine(
        gamma, beta, shape, rest, bool(rng.random() < 0.5), str(rng.choice(["saturate", "nonfinite"])), activation
    )


@pytest.mark.parametrize("dtype", slow_but(DTYPES, ">f4"))
@pytest.mark.parametrize("body", native.BODIES)
def test_every_body_maps_to_the_bits_of_plain(body: str, dtype: str) -> None:
    if body not in native.bodies():
        pytest.skip(f"{body} does not run here")
    kernel, rng = native.Native(body), np.random.default_rng(1)
    for turn, (num_x, length, width, shape) in enumerate(VIEWS):
        values = hostile(rng, dtype, (num_x * length * width,))
        cells = cells_of(rng, values, num_x, width, bounds=turn % 3 > 0)
        for affine in (None, affine_of(rng, shape)):
            for made in FLOATS:
                given = (values, length, cells, affine, made, bool(turn % 2))
                for found, expected in zip(mapped(kernel, *given), mapped(plain, *given), strict=True):
                    assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes()), (turn, made)


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "f8"))
def test_every_body_maps_to_the_bits_of_plain_in_sums_of_two_float64(body: Loops, dtype: str) -> None:
    rng = np.random.default_rng(2)
    for turn, (num_x, length, width, shape) in enumerate(VIEWS):
        values = hostile(rng, dtype, (num_x * length * width,))
        cells = cells_of(rng, values, num_x, width, bounds=True)
        cells = cells._replace(
            tail=cells.lo * 2.0**-55, rest=cells.rstd * 2.0**-54, slope=np.full(cells.hi.shape, 2.0**-60)
        )
        cells.rstd.flat[0] = 10.0 ** rng.integers(-250, 250)  # products beyond what may be taken apart
        own = affine_of(rng, shape)
        for activation in (None, ACTIVATIONS[turn % 4]):
            for affine in (None, own._replace(activation=activation)):
                given = (values, length, cells, affine, "float64", bool(turn % 2))
                for found, expected in zip(mapped(body, *given), mapped(plain, *given), strict=True):
                    assert found.tobytes() == expected.tobytes(), turn


@pytest.mark.parametrize("name", ACTIVATIONS[1:])
def test_float64_next_to_a_tie_after_an_activation_is_as_plain_has_it(body: Loops, name: str) -> None:
    """Of so many elements some are nearer to a tie than a gate that is computed quickly is to the exact one."""
    x, none = np.random.default_rng(3).standard_normal(1 << 19), np.zeros((1, 1))
    cells = IDENTITY._replace(tail=none, rest=none, slope=none + 2.0**-97, offset=none)
    affine = Affine(np.array([1.75]), np.array([0.1]), (1, 1, x.size), activation=name)
    given = (x, x.size, cells, affine, "float64", False)
    (opened, found), (expected_opened, expected) = mapped(body, *given), mapped(plain, *given)
    assert (opened.size, expected_opened.size) == (0, 0)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_a_run_finds_its_channels_from_any_element_on(kernel: Loops) -> None:
    rng = np.random.default_rng(0)
    gamma, beta = rng.standard_normal((2, 6))
    for shape in ((2, 6, 5), (1, 6, 1), (70, 6, 1), (1, 6, 30), (1, 6, 600)):
        x = rng.standard_normal(shape)
        expected = (x * gamma[:, None] + beta[:, None]).reshape(-1)
        for start in range(min(x.size, 100)):
            for stop in (start + 1, start + 7, x.size):
                run = x.reshape(-1)[start:stop]
                _, y = mapped(kernel, run, run.size, IDENTITY, Affine(gamma, beta, shape), "float64", False, start)
                assert y.tobytes() == expected[start:stop].tobytes()


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_every_half_is_read_and_every_double_rounded_once(kernel: Loops) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    _, y = mapped(kernel, halves, halves.size, IDENTITY, None, "float64", False)
    assert y.tolist() == halves.astype(np.float64).tolist()
    middle = (halves[:-1].astype(np.float64) + halves[1:].astype(np.float64)) / 2
    near = np.concatenate(
        [np.nextafter(middle, to) for to in (-np.inf, np.inf)] + [middle, [65519.99, 65520, 1e300, -7e4]]
    )
    _, y = mapped(kernel, near, near.size, IDENTITY, None, "float16", False)
    with np.errstate(over="ignore"):
        assert (y.view("u2") == near.astype(np.float16).view("u2")).all()


@pytest.mark.parametrize("made", ["float16", "float32"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_what_is_not_open_is_rounded_right_whatever_is_within_the_bound(kernel: Loops, made: str) -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.standard_normal(3000), [0.0, -0.0, 1e-30, -1e-30]])
    slope, offset = (2.0**-20, 2.0**-26) if made == "float16" else (2.0**-30, 2.0**-36)
    cells = IDENTITY._replace(slope=np.full((1, 1), slope), offset=np.full((1, 1), offset))
    found, y = mapped(kernel, x, x.size, cells, None, made, False)
    bound = np.abs(x) * slope + offset
    low, high = (x - bound).astype(made), (x + bound).astype(made)
    differ = low.view(f"u{low.itemsize}") != high.view(f"u{low.itemsize}")
    assert found.tolist() == np.flatnonzero(differ).tolist()
    assert 0 < found.size < x.size
    assert {x.size - 1, x.size - 3, x.size - 4} <= set(found.tolist())  # the sign of a zero is open
    for place in np.flatnonzero(~differ)[:200]:
        nearest = min(
            (y[place], np.nextafter(y[place], y.dtype.type(9)), np.nextafter(y[place], y.dtype.type(-9))),
            key=lambda near: abs(Fraction(float(near)) - Fraction(float(x[place]))),
        )
        assert nearest == y[place]


def around_ties(kind: Float) -> NDArray[np.float64]:
    """Return float64 numbers next to ties of a dtype, to powers of two, and to `NEAR`."""
    rng = np.random.default_rng(6)
    exponents = rng.integers(math.frexp(kind.least)[1] - 3, math.frexp(kind.largest)[1] + 1, 200).clip(-40, 40)
    places = np.concatenate([np.zeros(100), rng.integers(0, 1 << kind.mantissa, 100)]) + rng.choice([-0.5, 0.5], 200)
    ties = np.ldexp(1 + places * 2.0**-kind.mantissa, exponents)
    ties = np.concatenate([ties, [kind.limit, kind.least * (1 - 2.0 ** -(kind.mantissa + 1)), plain.NEAR]])
    steps = np.arange(-40, 41)
    values = (ties[:, None].view(np.int64) + steps).view(np.float64).reshape(-1)
    return np.concatenate([values, -values, [np.nan, 0.0, -0.0]])


@pytest.mark.parametrize("factors", [None, (0.75, 0.3), (-1e-4, 0.0), (30.0, -5.0)])
@pytest.mark.parametrize("made", [name for name in FLOATS if name != "float64"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_of_elements_next_to_ties_those_are_open_that_the_bound_leaves_open(
    kernel: Loops, made: str, factors: tuple[float, float] | None
) -> None:
    kind, x = FLOATS[made], around_ties(FLOATS[made])
    slope, offset = 9 * plain.U, 2 * plain.U
    cells = IDENTITY._replace(slope=np.full((1, 1), slope), offset=np.full((1, 1), offset))
    affine = None
    if factors is not None:
        gamma, beta = factors
        x = (x - beta) / gamma
        affine = Affine(np.array([gamma]), np.array([beta]), (1, 1, x.size))
    found, y = mapped(kernel, x, x.size, cells, affine, made, False)
    value, bound = x, np.abs(x) * slope + offset
    if factors is not None:
        value = x * gamma + beta
        bound = bound * abs(gamma) + (np.abs(x * gamma) + np.abs(value)) * 2.0**-52
    low, high = np.empty_like(y), np.empty_like(y)
    with np.errstate(all="ignore"):
        kind.round_into(value - bound, low)
        kind.round_into(value + bound, high)
    assert found.tolist() == np.flatnonzero(low.view(f"u{low.itemsize}") != high.view(f"u{low.itemsize}")).tolist()
    assert_same_bits(y, low)
    assert x.size / 20 < found.size < x.size * 0.6


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_an_element_whose_bound_overflows_is_open(kernel: Loops) -> None:
    x = np.array([1.7e308, 1.0 + 2.0**-30, 1e300])
    cells = IDENTITY._replace(slope=np.full((1, 1), plain.U), offset=np.full((1, 1), plain.U))
    found, _ = mapped(kernel, x, x.size, cells, Affine(np.array([0.9]), np.array([0.0]), (1, 1, 3)), "float32", False)
    assert found.tolist() == [0]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_more_open_elements_than_expected_are_all_named(kernel: Loops) -> None:
    x = np.random.default_rng(0).standard_normal(20_000)
    cells = IDENTITY._replace(slope=np.full((1, 1), 2.0**900), offset=np.full((1, 1), 2.0**900))
    found, _ = mapped(kernel, x, x.size, cells, None, "float32", False)
    assert found.tolist() == list(range(x.size))


@pytest.mark.parametrize("made", ["float16", "float32"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_a_bound_that_is_no_number_leaves_an_element_open(kernel: Loops, made: str) -> None:
    x = np.array([1e300, 1.0, np.nan])
    cells = IDENTITY._replace(slope=np.full((1, 1), 2.0**900), offset=np.full((1, 1), 0.0))
    zero = Affine(np.zeros(1), np.ones(1), (1, 1, 3))  # infinity times 0
    found, _ = mapped(kernel, x, x.size, cells, zero, made, False)
    assert found.tolist() == [0]


# --- dtypes that NumPy lacks ------------------------------------------------------------------------------------------


def numbers_of(kind: Float) -> list[float]:
    """Return the numbers of a dtype that are not negative, from its definition, and the one that would follow."""
    bias = (1 << kind.exponent - 1) - 1
    last = ((1 << kind.exponent) - 1) << kind.mantissa if kind.infinite else (1 << kind.exponent + kind.mantissa) - 1
    numbers = []
    for code in range(last + 1):
        exponent, mantissa = divmod(code, 1 << kind.mantissa)
        significand = mantissa + (exponent > 0) * (1 << kind.mantissa)
        numbers.append(math.ldexp(significand, max(exponent, 1) - bias - kind.mantissa))
    return numbers


@functools.cache
def roundings(kind: Float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return every number, the float64 next to it, every middle of two and those next to it; and what they become.

    The element 6 k + 3 is the k-th middle; each comes with both signs. What is beyond the largest number is infinite.
    """
    numbers = numbers_of(kind)
    values, right = [], []
    for code, (below, above) in enumerate(itertools.pairwise(numbers)):
        middle = (below + above) / 2  # exact
        values += [below, math.nextafter(below, 9e99), math.nextafter(middle, 0), middle]
        values += [math.nextafter(middle, 9e99), math.nextafter(above, 0)]
        above = above if above < numbers[-1] else math.inf
        right += [below, below, below, above if code % 2 else below, above, above]
    values, right = [[*some, *(-number for number in some)] for some in (values, right)]
    beyond = [numbers[-1], 1e300, -1e300, math.inf, -math.inf]
    return np.array(values + beyond), np.array(right + [math.copysign(math.inf, v) for v in beyond], np.float32)


FOREIGN = [name for name, kind in FLOATS.items() if kind.foreign]


@pytest.mark.parametrize("made", slow_but(FOREIGN, "float8_e4m3fn"))
def test_every_rounding_agrees_with_the_exact_table(each: Loops, made: str) -> None:
    kind = FLOATS[made]
    values, right = roundings(kind)
    *_, largest, following = numbers_of(kind)
    assert (kind.largest, kind.limit) == (largest, (largest + following) / 2)
    _, y = mapped(each, values, values.size, IDENTITY, None, made, False)
    assert_same_bits(y, right)
    # With bounds: what is not open is right, and each middle is open.
    cells = IDENTITY._replace(slope=np.full((1, 1), 2.0**-51), offset=np.full((1, 1), 2.0**-600))
    found, y = mapped(each, values, values.size, cells, None, made, False)
    sure = np.setdiff1d(np.arange(values.size), found)
    assert_same_bits(y[sure], right[sure])
    assert set(range(3, values.size - 5, 6)) <= set(found.tolist())
    assert found.size < values.size * 2 / 3


@pytest.mark.parametrize("made", slow_but(FOREIGN, "float8_e4m3fn"))
def test_the_audit_finds_each_number_that_is_not_the_nearest(each: Loops, made: str) -> None:
    kind = FLOATS[made]
    values, right = roundings(kind)
    values, y = np.append(values, np.nan), np.append(right, np.float32(np.nan))

    def audited(y: NDArray[np.float32]) -> list[int]:
        with np.errstate(all="ignore"):
            changed = np.flatnonzero(y.view(np.uint32) != right_bits)
            assert each.audit(np.delete(values, changed), kind, np.delete(y, changed))[0] == 0
            assert each.audit(values[changed], kind, y[changed])[0] in (0, changed.size)
            return changed.tolist() if each.audit(values, kind, y)[0] else []

    right_bits = y.view(np.uint32)
    assert audited(y) == []
    with np.errstate(all="ignore"):
        assert each.audit(values, kind, y) == (0, int(np.count_nonzero((y == 0) & (values != 0))))
    middles = np.arange(3, values.size - 6, 6)
    middles = middles[np.isfinite(right[middles + 1])]
    other = y.copy()
    other[middles] = np.where(y[middles] == y[middles - 1], y[middles + 1], y[middles - 1])
    assert audited(other) == []  # either neighbour of a tie is one that exact arithmetic may have chosen
    for step in (-1, 1):
        wrong = y.copy()
        numbers = np.unique(y[np.isfinite(y)])
        places = np.flatnonzero(np.isfinite(values) & (np.abs(values) <= kind.largest))
        places = places[places % 6 != 3]
        index = np.searchsorted(numbers, y[places]) + step
        places, index = (array[(index >= 0) & (index < numbers.size)] for array in (places, index))
        wrong[places] = numbers[index]
        assert audited(wrong) == places.tolist()
    between = np.flatnonzero(np.isfinite(y) & (y != 0))
    wrong = y.copy()
    wrong[between] = np.nextafter(y[between], np.float32(0))  # near, and no number of the dtype
    assert audited(wrong) == between.tolist()
    exact = y[between].astype(np.float64)  # among values that are all nearer than ties are
    assert each.audit(exact, kind, wrong[between]) == (between.size, 0)
    assert each.audit(exact, kind, y[between]) == (0, 0)
    for place, bad in ((values.size - 1, 1.0), (values.size - 3, 1.0), (0, np.nan), (0, np.inf)):
        wrong = y.copy()
        wrong[place] = bad
        assert audited(wrong) == [place]


@pytest.mark.parametrize("made", FOREIGN)
def test_every_body_verifies_as_plain_does_where_the_axes_of_gamma_are_no_neighbours(body: Loops, made: str) -> None:
    rng = np.random.default_rng(4)
    values = hostile(rng, "f4", (1200,))
    affine = affine_of(rng, (1, 4, 1))._replace(shape=(1, 2, 9, 2))  # gamma has the first and the last axis
    given = (values, 600, cells_of(rng, values, 2, 1, bounds=True), affine, made, True)
    for found, expected in zip(mapped(body, *given), mapped(plain, *given), strict=True):
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("made", FOREIGN)
def test_every_body_audits_as_plain_does(body: Loops, made: str) -> None:
    rng, kind = np.random.default_rng(4), FLOATS[made]
    for size in (0, 1, 700, 5000):
        w, y = rng.standard_normal(size), rng.standard_normal(size).astype(np.float32)
        y[::3] = w[::3] * 2.0**-200
        assert body.audit(w, kind, y) == plain.audit(w, kind, y)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: getattr(kernel, "name", "plain"))
def test_an_activation_follows_gamma_and_beta_on_each_element(kernel: Loops) -> None:
    x = np.random.default_rng(8).standard_normal(3000)
    cells = IDENTITY._replace(slope=np.full((1, 1), 9 * plain.U), offset=np.full((1, 1), 2 * plain.U))
    affine = Affine(np.array([0.75]), np.array([0.25]), (1, 1, x.size), activation="relu")
    _, y = mapped(kernel, x, x.size, cells, affine, "float32", False)
    assert y.tolist() == np.maximum(x * 0.75 + 0.25, 0).astype("f4").tolist()
