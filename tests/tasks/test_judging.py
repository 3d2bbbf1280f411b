"""The verdict of `gncli diff`: every option against longhand, on every dtype, and against NumPy and PyTorch."""

from __future__ import annotations

import json
import math
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_max_ulp
from numpy.typing import NDArray

import gncli
from gncli.errors import ParameterError
from gncli.io import ArraySource, Source
from gncli.kernels.floats import FLOATS
from gncli.report.diff_records import DiffReport
from gncli.report.gates import DIFFERENT, INCONCLUSIVE, SAME
from gncli.report.lines import verdict_line
from gncli.run.engine import Engine
from gncli.tasks.diff import Comparison
from gncli.tasks.requests import Criteria, Diff
from tests.archives import entry, tensors
from tests.marks import slow_but
from tests.runs import CRITERIA, diff, diff_many

HALF, TINY = np.float16, float(np.finfo(np.float16).smallest_subnormal)
DTYPES = [*FLOATS, "bool", "int8", "uint16", "int32", "int64", "uint64", ">f2", ">f4", ">f8", ">i4"]


def source(values: Any, dtype: str = "") -> ArraySource:
    """Return a tensor of values that `dtype` has, as it is read from a file."""
    kind = FLOATS.get(dtype)
    found = ArraySource(np.asarray(values, kind.dtype if kind else dtype or None))
    found.stored_as = kind if kind is not None and kind.foreign else None
    return found


def judged(a: Any, b: Any, c: Any = None, **given: Any) -> DiffReport:
    """Return the report about arrays, or sources."""
    criteria = {name: given.pop(name) for name in CRITERIA if name in given}
    sources = [x if isinstance(x, Source) else source(x) for x in (a, b, c) if x is not None]
    if c is not None:
        criteria["baseline"] = "c"
    request = Diff(a="a", b="b", criteria=Criteria(**criteria), **given)
    with Engine(1) as engine, Comparison(request, sources, engine) as comparison:
        return comparison.report()


def values_of(dtype: str, count: int, rng: np.random.Generator) -> NDArray[Any]:
    """Return values of a dtype, a few of them zero, subnormal, huge or not finite, in float64 or as integers."""
    kind = FLOATS.get(np.dtype(dtype).name if dtype not in FLOATS else dtype)
    if kind is None:
        native = np.dtype(dtype)
        low, high = (0, 2) if native.kind == "b" else (max(-90, np.iinfo(native).min), 90)
        return rng.integers(low, high, count).astype(native)
    found = rng.standard_normal(count) * 10.0 ** rng.integers(-6, 3, count)
    edges = [0.0, -0.0, kind.least, -kind.least / 2, kind.largest, np.nan, np.inf if kind.infinite else np.nan]
    found[: len(edges)] = edges
    out = np.empty(count, kind.dtype)
    with np.errstate(all="ignore"):
        kind.round_into(found, out)
        out[np.isinf(out) & ~np.isinf(found)] = kind.largest
    return out.astype(dtype) if dtype.startswith(">") else out


def grid(dtype: str) -> tuple[int, Fraction, Fraction] | None:
    """Return the bits of the mantissa, the smallest normal number and the largest of a dtype; None for integers."""
    kind = FLOATS.get(dtype if dtype in FLOATS else np.dtype(dtype).name)
    return None if kind is None else (kind.mantissa, Fraction(kind.least), Fraction(kind.largest))


def unit_at(y: float, dtype: str) -> tuple[Fraction, int]:
    """Return the distance of the values of a dtype at a number, and how many binades lie below it."""
    known = grid(dtype)
    if known is None:
        return Fraction(1), 0
    mantissa, least, _ = known
    lowest = math.frexp(float(least))[1]
    binade = max(math.frexp(y)[1] if y else lowest, lowest) - lowest
    return least * Fraction(2) ** (binade - mantissa), binade


def neighbours(y: float, dtype: str) -> tuple[Fraction, Fraction]:
    """Return the two values of a dtype next to a number within its range, in exact arithmetic; a value is both."""
    unit, _ = unit_at(y, dtype)
    return math.floor(Fraction(y) / unit) * unit, math.ceil(Fraction(y) / unit) * unit


def place(x: float, dtype: str) -> int:
    """Return the place of a value among all values of a dtype of floats; 0 has place 0."""
    known = grid(dtype)
    assert known is not None
    unit, binade = unit_at(x, dtype)
    return (1 if x >= 0 else -1) * int(abs(Fraction(x)) / unit + (binade << known[0]))


class Longhand(NamedTuple):
    """What the gates should count, element by element."""

    beyond: int
    unfaithful: int
    floor: float


def longhand(a: NDArray[Any], b: NDArray[Any], dtype: str, limit: int) -> Longhand:
    """Return it; b is within the range of a, or not finite."""
    beyond, unfaithful, floor = 0, 0, Fraction(0)
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        if math.isnan(x) or math.isnan(y):
            beyond += math.isnan(x) != math.isnan(y)
            unfaithful += math.isnan(x) != math.isnan(y)
        elif math.isinf(x) or math.isinf(y):
            beyond += x != y
            unfaithful += x != y
            if not math.isinf(y):
                low, high = neighbours(y, dtype)
                floor = max(floor, min(y - low, high - y))
        else:
            low, high = neighbours(y, dtype)
            floor = max(floor, min(Fraction(y) - low, high - Fraction(y)))
            unfaithful += Fraction(x) not in (low, high)
            if grid(dtype) is None:
                beyond += x != y
                continue
            near = low if Fraction(y) - low < high - Fraction(y) else high
            if Fraction(y) - low == high - Fraction(y):
                near = low if place(float(low), dtype) % 2 == 0 else high
            beyond += abs(place(x, dtype) - place(float(near), dtype)) > limit
    return Longhand(beyond, unfaithful, float(floor))


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "int64", ">f2", ">f4"))
def test_every_option_counts_what_longhand_counts(dtype: str) -> None:
    rng = np.random.default_rng(len(dtype))
    a = values_of(dtype, 60, rng)
    wide = a.astype(np.float64)
    nudge = 1 + rng.integers(-3, 4, 60) * 2.0 ** -rng.integers(3, 30, 60)
    with np.errstate(all="ignore"):
        b = np.where(np.abs(wide) < 1e300, wide * nudge, wide)
    known = grid(dtype)
    edge = known[2] if known else Fraction(0 if a.dtype.kind == "b" else int(np.iinfo(a.dtype).max))
    keep = ~np.isfinite(b) | (np.abs(b) <= float(edge)) & ((b >= 0) | (a.dtype.kind not in "ub"))
    b = np.where(keep, b, wide)
    b[::7] = wide[::-1][::7]
    left = source(a, dtype) if dtype in FLOATS else source(a)
    for reference in (b, b.astype(">f8")):
        for limit in (0, 2, 1000):
            expected = longhand(a, b, dtype, limit)
            report = judged(left, reference, max_ulp=limit, faithful=True)
            gates = {gate.name: gate for gate in report.gates}
            assert gates["max_ulp"].outside == expected.beyond
            assert gates["faithful"].outside == expected.unfaithful
            if left.dtype_name != "float64":
                assert report.rounding_floor == expected.floor
            assert report.verdict == (DIFFERENT if expected.beyond or expected.unfaithful else report.verdict)
            assert report.outside == max(expected.beyond, expected.unfaithful)
    itself = judged(left, left, max_ulp=0)
    assert (itself.equal, judged(left, left, faithful=True).equal, judged(left, left, exact=True).equal) == (True,) * 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_sees_each_bit(dtype: str) -> None:
    rng = np.random.default_rng(7)
    kind = FLOATS.get(dtype)
    if kind is not None and kind.foreign:
        codes = np.arange(256 if kind.stored.itemsize == 1 else 1 << 16).astype(kind.stored)
        values = np.empty(codes.size, np.float32)
        kind.widen(codes, values)
        assert np.unique(values.view(np.uint32)).size == codes.size, "each code is another value, NaN too"
        a, b = source(values, dtype), source(np.roll(values, 1), dtype)
        assert judged(a, b, exact=True).gates[0].outside == codes.size
        assert judged(a, a, exact=True).equal
        return
    x = values_of(dtype, 50, rng)
    bits = x.astype(x.dtype.newbyteorder("=")).view(f"u{x.dtype.itemsize}").copy()
    for at in (9, 30, 49):
        bits[at] ^= 1
    y = bits.view(x.dtype.newbyteorder("=")).astype(x.dtype)
    report = judged(x, y, exact=True)
    assert (report.verdict, report.gates[0].outside) == (DIFFERENT, 3)
    assert report.gates[0].as_dict()["first"] == [9]
    other = judged(x, y.astype(y.dtype.newbyteorder()), exact=True)
    assert (other.verdict, other.gates[0].outside) == (DIFFERENT, 3)
    assert judged(x, x.astype(x.dtype.newbyteorder()), exact=True).equal


def test_exact_tells_zeros_nans_dtypes_and_shapes_apart() -> None:
    nan = np.array([np.nan])
    other = nan.copy()
    other.view(np.uint64)[0] ^= 1
    for a, b in (([0.0], [-0.0]), (nan, other), (np.ones(2, "f4"), np.ones(2)), (np.ones(2), np.ones(3))):
        assert judged(np.asarray(a), np.asarray(b), exact=True).verdict == DIFFERENT
    assert judged(nan, nan, exact=True).equal
    assert judged(np.full(3, np.inf), np.full(3, np.inf), exact=True).equal


def expected_of_baseline(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], factor: float, atol: float) -> str:
    """Return the verdict that the protocol gives."""
    x, y, z = (values.astype(np.float64) for values in (a, b, c))
    finite = np.isfinite(x) & np.isfinite(y)
    if (np.isnan(x) != np.isnan(y)).any() or (x != y)[~finite & ~np.isnan(x)].any():
        return DIFFERENT
    some = np.isfinite(y)
    if not some.any():
        return INCONCLUSIVE
    scale = math.sqrt(float(np.mean(y[some] ** 2)))
    own = float(np.max(np.abs(z - y)[finite])) if np.isfinite(z[finite]).all() else math.inf
    if own > 0.1 * scale:
        return INCONCLUSIVE
    floor = float(np.max(np.abs(y[some].astype(a.dtype).astype(np.float64) - y[some])))
    error, bound = float(np.max(np.abs(x - y)[finite])), factor * own + max(atol, floor)
    if error > bound:
        return DIFFERENT
    return INCONCLUSIVE if error > 0 and bound >= np.max(np.abs(y[some])) else SAME


@pytest.mark.parametrize("dtype", slow_but(["f2", "f4", "f8", ">f2"], "f2"))
def test_a_baseline_judges_as_the_protocol_says(dtype: str) -> None:
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        b = rng.standard_normal(40)
        eps = float(np.finfo(np.dtype(dtype).newbyteorder("=")).eps)
        a, c = ((b * (1 + eps * s * rng.standard_normal(40))).astype(dtype) for s in (10.0 ** rng.uniform(-1, 2), 1.0))
        if seed % 5 == 0:
            c = (b * (1 + 0.2 * rng.standard_normal(40))).astype(dtype)
        if seed % 4 == 1:
            a[3] = b[3] = np.nan
            c[3] = 1
        if seed % 7 == 2:
            b[5] = np.inf
            a[5] = np.inf if seed % 2 else 3
        if seed % 11 == 3:
            c[8] = np.nan
        factor, atol = (2.0, 0.0) if seed % 2 else (1.0, 10 * eps)
        report = judged(a, b, c, factor=None if factor == 2 else factor, atol=None if atol == 0 else atol)
        with np.errstate(invalid="ignore"):
            assert report.verdict == expected_of_baseline(a, b, c, factor, atol), (seed, verdict_line(report))
        seen.add(report.verdict)
        (gate,) = (gate for gate in report.gates if gate.name == "baseline")
        found = json.loads(json.dumps(gate.as_dict(), allow_nan=False))
        if (again := found["smallest_factor"]) is not None and report.verdict != INCONCLUSIVE and not gate.outside:
            assert judged(a, b, c, factor=again, atol=atol).equal
            if again > 0.01:
                assert not judged(a, b, c, factor=again * 0.98, atol=atol).equal
    assert seen == {SAME, DIFFERENT, INCONCLUSIVE}


def test_a_baseline_that_cannot_judge_is_inconclusive() -> None:
    b = np.ones(4)
    for c in (b + 0.11, np.array([1, 1, 1, np.nan])):
        assert judged(b + 0.01, b, c).verdict == INCONCLUSIVE
        assert judged(np.array([1, 1, 1, np.nan]), b, c).verdict == DIFFERENT, "what is not finite comes first"
    holed = judged(np.array([1, 1, 1, np.nan]), b, b)
    unknown = verdict_line(judged(b, b, np.array([1, 1, 1, np.nan])))
    assert unknown == "INCONCLUSIVE: the baseline has 1 NaN or infinities where a and b are finite"
    assert verdict_line(holed) == "DIFFERENT: 1 of the elements differ by a NaN or an infinity"
    assert judged(b, b, b + 0.09).verdict == SAME
    assert judged(b + 1e-9, b, b).verdict == DIFFERENT
    assert judged(b + 1e-9, b, b, atol=1e-8).equal
    assert verdict_line(judged(b + 1e-9, b, b)).endswith("no --factor passes")
    nothing = judged(*(np.full(2, np.nan) for _ in range(3)))
    assert verdict_line(nothing) == "INCONCLUSIVE: b holds no finite element"
    assert judged(np.zeros(2), np.zeros(2), np.zeros(2)).equal
    assert judged(np.zeros(0), np.zeros(0), np.zeros(0)).equal


VACUOUS: list[tuple[Any, Any, dict[str, Any], str]] = [
    ([0.0, 1e-3], [1e-3, 2e-3], {"atol": 0.01, "rtol": 0.0}, "--atol 0.01 is larger than every |b|"),
    ([0.0, 1e-3], [1e-3, 2e-3], {"atol": 2e-3, "rtol": 0.0}, "--atol 0.002 and --rtol 0 admit 0 for every b"),
    ([5.0, 1.0], [7.0, 2.0], {"atol": 0.0, "rtol": 1.0}, "--atol 0 and --rtol 1 admit 0 for every b"),
    ([0.0, 1e-6], [1e-6, 2e-6], {}, "--atol 1e-07 and --rtol 1e-07 admit 0 for every b"),
    ([0.0, 1e-8], [1e-8, 2e-8], {}, "--atol 1e-07 is larger than every |b|"),
    ([0.0, 0.001], [0.001, 0.002], {"max_ulp": 9, "near_zero": 1e30}, "--max-ulp 9 admits 0 for every b"),
]


@pytest.mark.parametrize(("a", "b", "options", "why"), VACUOUS)
def test_a_tensor_of_zeros_never_passes_unnoticed(a: Any, b: Any, options: dict[str, Any], why: str) -> None:
    x, y = np.array(a), np.array(b)
    report = judged(x, y, **options)
    if "1e-07 and" in why:  # not every |b| is that small
        assert report.verdict == DIFFERENT
        return
    assert verdict_line(report) == f"INCONCLUSIVE: {why}: a tensor of zeros would be SAME; --allow-vacuous lifts this"
    assert (report.status, report.equal) == (1, False)
    assert judged(x, y, allow_vacuous=True, **options).equal
    assert judged(y, y, **options).equal, "equal tensors are the same under any tolerance"
    assert judged(np.zeros(2), np.zeros(2), **options).equal
    assert judged(np.array([x[0], np.nan]), y, **options).verdict == DIFFERENT


def test_zeros_pass_no_baseline_unnoticed_and_no_neighbour() -> None:
    b = np.array([0.3, -0.6]) * TINY
    zeros = np.zeros(2, HALF)
    line = verdict_line(judged(zeros, b, faithful=True))
    assert line.startswith("INCONCLUSIVE: 0 is a neighbour of every b")
    line = verdict_line(judged(zeros, b, b.astype(HALF), factor=9.0))
    assert line.startswith("INCONCLUSIVE: the baseline's own error")
    line = verdict_line(judged(np.array([0.5, 1]), np.array([1.0, 1]), np.ones(2), atol=1.0))
    assert line.startswith("INCONCLUSIVE: the bound 1 is as large as every |b|")
    both = judged(np.array([0.5, 1.0]), np.ones(2), max_ulp=2, atol=9.0, rtol=0.0)
    assert both.verdict == DIFFERENT, "zeros pass one gate, and not the other"
    assert verdict_line(judged(np.ones(2), np.full(2, 2.0), rtol=0.0)).endswith("--atol 1.0 passes")
    assert verdict_line(judged(-np.ones(2), np.ones(2), rtol=0.0)).endswith("--atol 2.0 --allow-vacuous passes")
    far = judged(-np.ones(2), np.ones(2), np.full(2, 1.05))
    assert verdict_line(far).endswith("--allow-vacuous passes")


def test_an_explicit_tolerance_is_a_gate_besides_others() -> None:
    a, b = np.array([1.0, 1 + 2**-40]), np.ones(2)
    assert [gate.name for gate in judged(a, b, max_ulp=9).gates] == ["max_ulp"]
    report = judged(a, b, max_ulp=2**12, rtol=1e-14, atol=0.0)
    assert [(gate.name, gate.verdict) for gate in report.gates] == [("tolerance", DIFFERENT), ("max_ulp", SAME)]
    assert verdict_line(report).count(";") == 1, "only what decides is said"
    assert judged(a, b, max_ulp=2**12, rtol=1e-9).equal
    assert judged(a, b, max_ulp=2**70).gates[0].verdict == SAME
    assert judged(a, b, max_ulp=1, max_fraction=0.5).equal
    assert judged(a.astype("f4"), b, faithful=True, max_fraction=0.5).equal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"exact": True, "rtol": 0.1}, "--exact compares bits, which leaves nothing to --rtol"),
        ({"exact": True, "max_ulp": 1}, "leaves nothing to --max-ulp"),
        ({"exact": True, "nan_differs": True}, "leaves nothing to --nan-differs"),
        ({"baseline": "c", "rtol": 0.1}, "--baseline limits the largest error, and --rtol does not"),
        ({"baseline": "c", "max_fraction": 0.1}, "and --max-fraction does not"),
        ({"factor": 2.0}, "--factor belongs to --baseline"),
        ({"near_zero": 2.0}, "--near-zero belongs to --max-ulp"),
    ],
)
def test_options_that_contradict_each_other_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        diff("a.npy", "b.npy", **given)


# --- agreement with NumPy and PyTorch --------------------------------------------------------------------------------

RECORDED = Path(__file__).parents[1] / "data" / "assert_close.json"


def random_pair(seed: int, dtype: str) -> tuple[NDArray[Any], NDArray[Any], float, float]:
    """Return a, b, rtol and atol: now and then near the edge, with NaN, infinities, zeros and other magnitudes."""
    if dtype == "i4":
        a, b, rtol, atol = random_pair(seed, "f8")
        a, b = (np.clip(np.nan_to_num(x * 1e3), -1e9, 1e9).astype(dtype) for x in (a, b))
        return a, b, rtol, atol
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 40))
    rtol, atol = (float(10.0 ** rng.uniform(-7, -1)) if rng.random() < 0.8 else 0.0 for _ in range(2))
    b = (rng.standard_normal(size) * 10.0 ** rng.integers(-4, 3)).astype(dtype)
    share = rng.uniform(0.5, 1.1) if rng.random() < 0.5 else rng.uniform(0, 0.999)
    gap = rng.uniform(-1, 1, size) * (atol + rtol * np.abs(b.astype(np.float64))) * share
    a = (b.astype(np.float64) + gap).astype(dtype)
    x, y = a.astype(np.float64), b.astype(np.float64)  # where the rounding of a tolerance to the dtype decides, a is b
    edge = np.abs(np.abs(x - y) - atol - rtol * np.abs(y)) <= 8 * np.finfo(dtype).eps * (atol + np.abs(y))
    a[edge] = b[edge]
    for value in (np.nan, np.inf, -np.inf, 0.0):
        if rng.random() < 0.15:
            at = rng.integers(0, size)
            a[at] = value
            b[at] = value if rng.random() < 0.7 else b[at]
    return a, b, rtol, atol


def verdicts(dtype: str) -> tuple[str, int]:
    """Return the verdicts about 250 pairs, as digits, and a checksum of the pairs."""
    found, checksum = "", 0
    for seed in range(250):
        a, b, rtol, atol = random_pair(seed, dtype)
        checksum = zlib.crc32(a.tobytes() + b.tobytes(), checksum)
        found += str(int(_tolerated(a, b, rtol, atol)))
    return found, checksum


def _tolerated(a: NDArray[Any], b: NDArray[Any], rtol: float, atol: float) -> bool:
    report = judged(a, b, rtol=rtol, atol=atol, allow_vacuous=True)
    if report.verdict == INCONCLUSIVE:
        assert not np.isfinite(b).any()
        return True
    return report.equal


@pytest.mark.parametrize("dtype", slow_but(["f2", "f4", "f8", "i4"], "f2"))
def test_the_verdicts_are_those_of_numpy_allclose(dtype: str) -> None:
    kinds = set()
    for seed in range(250):
        a, b, rtol, atol = random_pair(seed, dtype)
        if dtype != "i4":  # NumPy computes in the dtype of the arrays, and rounds the tolerance
            a, b = a.astype(np.float64), b.astype(np.float64)
        try:
            assert_allclose(a, b, rtol=rtol, atol=atol)
            same = True
        except AssertionError:
            same = False
        assert _tolerated(a, b, rtol, atol) is same, seed
        kinds.add(same)
    assert kinds == {True, False}


@pytest.mark.parametrize("dtype", slow_but(["f2", "f4", "f8", ">f4"], ">f4"))
def test_the_verdicts_are_those_of_numpy_max_ulp(dtype: str) -> None:
    kinds = set()
    for seed in range(250):
        rng = np.random.default_rng(seed)
        native = np.dtype(dtype).newbyteorder("=")
        b = (rng.standard_normal(30) * 10.0 ** rng.integers(-5, 3)).astype(native)
        limit = int(rng.integers(0, 6))
        steps = rng.integers(-1, 2, 30) * int(rng.integers(0, limit + 2))
        a = (b.view(f"i{native.itemsize}") + steps.astype(f"i{native.itemsize}")).view(native)
        b[:2], a[:2] = [0.0, -0.0], [-0.0, 0.0]
        try:
            assert_array_max_ulp(a, b, limit)
            same = True
        except AssertionError:
            same = False
        report = judged(a.astype(dtype), b.astype(dtype), max_ulp=limit, allow_vacuous=True)
        assert report.equal is same, seed
        kinds.add(same)
    assert kinds == {True, False}


@pytest.mark.parametrize("dtype", slow_but(["f2", "f4", "f8", "i4"], "f2"))
def test_the_verdicts_are_those_that_pytorch_gave(dtype: str) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    found, checksum = verdicts(dtype)
    assert checksum == recorded[dtype]["checksum"], "the pairs are those that PyTorch judged"
    assert found == recorded[dtype]["verdicts"]
    assert {"0", "1"} == set(found)


def test_the_record_is_what_pytorch_says_here() -> None:
    torch = pytest.importorskip("torch")
    for dtype, recorded in json.loads(RECORDED.read_text(encoding="utf-8")).items():
        found = ""
        for seed in range(0, 250, 5):
            a, b, rtol, atol = random_pair(seed, dtype)
            try:
                torch.testing.assert_close(
                    torch.from_numpy(a), torch.from_numpy(b), rtol=rtol, atol=atol, equal_nan=True
                )
                found += "1"
            except AssertionError:
                found += "0"
        assert found == recorded["verdicts"][::5]


# --- kernels, by the recipe's line -----------------------------------------------------------------------------------

SHAPE, GROUPS = (2, 64, 16, 16), 32
KEYS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}


def sums(x: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Return the sums along the last axis, one element after the other, each rounded to a dtype."""
    kind = FLOATS[dtype]
    total, out = np.zeros(x.shape[:-1]), np.empty(x.shape[:-1], kind.dtype)
    for at in range(x.shape[-1]):
        kind.round_into(total + x[..., at], out)
        total = out.astype(np.float64)
    return total[..., None]


def formula(x: NDArray[Any], eps: float = 1e-5, interleaved: bool = False, accumulate: str = "") -> NDArray[Any]:
    """Return group norm in longhand, in the dtype of x; sums may be in another one."""
    size = SHAPE[1] // GROUPS
    split = (size, GROUPS) if interleaved else (GROUPS, size)
    cells = x.reshape(SHAPE[0], *split, *SHAPE[2:])
    cells = np.moveaxis(cells, 2, 1) if interleaved else cells
    rows = cells.reshape(SHAPE[0], GROUPS, -1)
    if accumulate:
        mean = sums(rows.astype(np.float64), accumulate) / rows.shape[-1]
        var = sums((rows - mean) ** 2, accumulate) / rows.shape[-1]
    else:
        mean, var = rows.mean(-1, keepdims=True), rows.var(-1, keepdims=True)
    y = ((rows - mean) / np.sqrt(var + x.dtype.type(eps))).reshape(cells.shape)
    return np.asarray((np.moveaxis(y, 1, 2) if interleaved else y).reshape(SHAPE))


def rounded(y: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return values rounded to a dtype."""
    out = np.empty(y.shape, FLOATS[dtype].dtype)
    FLOATS[dtype].round_into(y.astype(np.float64), out)
    return out


def stored(folder: Path, name: str, y: NDArray[Any], dtype: str) -> str:
    """Write values of a dtype to a .safetensors, and return its name."""
    kind = FLOATS[dtype]
    raw = np.empty(y.size, kind.stored)
    if kind.foreign:
        kind.narrow(y.reshape(-1), raw)
    else:
        raw[...] = y.reshape(-1)
    (folder / name).write_bytes(tensors({"y": entry(KEYS[dtype], SHAPE, 0, raw.nbytes)}, raw.tobytes()))
    return str(folder / name)


@pytest.mark.parametrize("dtype", KEYS)
def test_wrong_kernels_are_different_by_the_line_of_the_recipe_and_correct_ones_are_the_same(
    dtype: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    scale = 0.01 * (1 + np.arange(SHAPE[1]) % 3)[:, None, None]
    x = rounded(rng.standard_normal(SHAPE) * scale + 0.02, dtype)
    wide, single = x.astype(np.float64), x.astype(np.float32)
    np.save(tmp_path / "golden.npy", gncli.group_norm(wide, GROUPS))
    baseline = stored(tmp_path, "baseline.safetensors", rounded(formula(single), dtype), dtype)
    transposed = np.ascontiguousarray(single[..., ::-1, ::-1])  # sums in another order
    kernels = {
        "rounded once": (rounded(formula(wide), dtype), SAME),
        "another order": (rounded(formula(transposed)[..., ::-1, ::-1], dtype), SAME),
        "the baseline": (rounded(formula(single), dtype), SAME),
        "zeros": (np.zeros(SHAPE, np.float32), DIFFERENT),
        "another eps": (rounded(formula(wide, eps=1e-3), dtype), DIFFERENT),
        "interleaved groups": (rounded(formula(wide, interleaved=True), dtype), DIFFERENT),
        "sums in float16": (rounded(formula(wide, accumulate="float16"), dtype), DIFFERENT),
        "sums in bfloat16": (rounded(formula(wide, accumulate="bfloat16"), dtype), DIFFERENT),
    }
    for name, (y, verdict) in kernels.items():
        mine = stored(tmp_path, "mine.safetensors", y, dtype)
        report = diff(mine, str(tmp_path / "golden.npy"), baseline=baseline)
        assert report.verdict == verdict, (name, verdict_line(report))


# --- many pairs ------------------------------------------------------------------------------------------------------


def test_each_of_many_pairs_has_its_own_baseline_and_verdict(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    b = {name: rng.standard_normal(50) for name in ("dx", "dgamma", "dbeta", "same")}
    c: dict[str, NDArray[Any]] = {name: (value * (1 + 3e-4)).astype(HALF) for name, value in b.items()}
    a: dict[str, NDArray[Any]] = {name: (value * (1 - 3e-4)).astype(HALF) for name, value in b.items()}
    a["dgamma"] = np.zeros(50, HALF)
    c["dbeta"] = np.zeros(50, HALF)
    a["same"] = b["same"]
    for name, arrays in (("a", a), ("b", b), ("c", c)):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    names = [str(tmp_path / f"{name}.npz") for name in "abc"]
    report = diff_many(names[0], names[1], baseline=names[2])
    assert {row.name: row.verdict for row in report.rows} == {
        "dx": "same",
        "dgamma": "different",
        "dbeta": "inconclusive",
        "same": "identical",
    }
    assert (report.verdict, report.status, report.counts["inconclusive"]) == (DIFFERENT, 1, 1)
    assert report.first is not None and report.first.name == "dgamma"
    gates = next(row for row in report.rows if row.name == "dx").as_dict()["gates"]
    assert isinstance(gates, dict) and gates["baseline"]["verdict"] == SAME
    undecided = diff_many(names[0], names[1], baseline=names[2], match="d[xb]*")
    assert (undecided.verdict, undecided.status, undecided.equal) == (INCONCLUSIVE, 1, False)
    exact = diff_many(names[0], names[1], exact=True)
    assert [row.verdict for row in exact.rows].count("different") == 3
    ulps = diff_many(names[0], names[1], max_ulp=3, match="dx")
    assert ulps.equal
    np.savez(tmp_path / "c.npz", dx=np.zeros(3))
    shapes = diff_many(names[0], names[1], baseline=names[2])
    problems = {row.name: row.message for row in shapes.rows}
    assert "has the shape (3,)" in problems["dx"]
    assert problems["dbeta"] == f"the baseline {names[2]} has no tensor of this name"
    assert shapes.status == 3
