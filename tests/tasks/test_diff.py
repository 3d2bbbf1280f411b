"""`gncli diff`: the definition on every dtype and order; a NaN never passes and never hides another number."""

from __future__ import annotations

import decimal
import itertools
import json
import math
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli.cli import main
from gncli.errors import InputError, LimitError, ParameterError
from gncli.io import ArraySource, pairs
from gncli.io.pairs import Derived, InCOrder, Pair
from gncli.kernels.plain import ULPS, Tolerance, ulps
from gncli.kernels.tally import delta, tally
from gncli.report.diff_records import DiffReport
from gncli.report.gates import Shapes
from gncli.report.lines import place_line, verdict_line
from gncli.tasks.judging import default_tolerance
from tests.arrays import Forward, assert_same_bits, spoiled
from tests.marks import examples, slow_but
from tests.runs import diff

DTYPES = ["?", "u1", "i4", "u8", "i8", ">i8", "f2", ">f2", "f4", "f8", ">f8"]
SHAPES: list[tuple[int, ...]] = [(), (7,), (3, 50), (2, 3, 70, 5), (20_000,), (0, 4)]
BIG = 2**63


def saved(folder: Path, name: str, x: NDArray[Any]) -> str:
    np.save(folder / f"{name}.npy", x)
    return str(folder / f"{name}.npy")


def found(folder: Path, a: NDArray[Any], b: NDArray[Any], **options: Any) -> DiffReport:
    return diff(saved(folder, "a", a), saved(folder, "b", b), workers=2, **options)


def changed(x: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return `x` with small errors, and in a few places large ones and others that are not finite."""
    rng = np.random.default_rng(seed)
    if x.dtype.kind == "b":
        return x ^ np.asarray(rng.random(x.shape) < 0.1)
    if x.dtype.kind in "iu":
        native = x.astype(x.dtype.newbyteorder("="))
        return np.asarray(native + rng.integers(0, 2, x.shape).astype(native.dtype)).astype(x.dtype)
    with np.errstate(over="ignore"):
        y = np.array(x.astype(np.float64) * (1 + 1e-3 * rng.standard_normal(x.shape)), x.dtype)
    if y.size > 30:
        y.reshape(-1)[rng.choice(y.size, 4, replace=False)] = [np.nan, np.inf, -np.inf, 0]
    return y


class Longhand:
    """What the report should say, in longhand."""

    def __init__(self, a: NDArray[Any], b: NDArray[Any], rtol: float, atol: float, nan_differs: bool) -> None:
        whole = a.dtype.kind in "iub" and b.dtype.kind in "iub"
        left, right = ([int(v) if whole else float(v) for v in x.reshape(-1)] for x in (a, b))
        self.nan = self.inf = self.outside = 0
        gaps, self.excess = [], -math.inf
        for x, y in zip(left, right, strict=True):
            if math.isnan(x) or math.isnan(y):
                self.nan += nan_differs or math.isnan(x) != math.isnan(y)
            elif math.isinf(x) or math.isinf(y):
                self.inf += x != y
            else:
                gap = abs(x - y)
                gaps.append(gap)
                self.outside += gap > atol + rtol * abs(y) if rtol or not whole else gap > atol
                self.excess = max(self.excess, float(gap) - rtol * abs(float(y)))
        self.n, self.worst = len(gaps), max(gaps, default=None)
        self.mean = math.fsum(gaps) / len(gaps) if gaps else None
        self.rmse = math.sqrt(math.fsum(float(g) ** 2 for g in gaps) / len(gaps)) if gaps else None
        self.outside += self.nan + self.inf


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "u8", ">i8", "f2", ">f8"))
def test_the_report_is_the_definition(dtype: str, tmp_path: Path) -> None:
    for seed, shape in enumerate(SHAPES):
        b = spoiled(shape, dtype, "F" if seed % 2 else "C", seed)
        a = changed(b, seed)
        for rtol, atol, nan_differs in ((None, None, False), (1e-3, 0.0, True), (0.0, 1.0, False), (0.0, 0.0, False)):
            given_rtol, given_atol = default_tolerance(a.dtype.name, b.dtype.name)
            used = (given_rtol if rtol is None else rtol, given_atol if atol is None else atol)
            report = found(tmp_path, a, b, rtol=rtol, atol=atol, nan_differs=nan_differs, allow_vacuous=True)
            expected = Longhand(a, b, *used, nan_differs)
            assert (report.rtol, report.atol) == used
            numbers = (report.nan_mismatches, report.inf_mismatches, report.outside, report.size)
            assert numbers == (expected.nan, expected.inf, expected.outside, a.size), (shape, used)
            assert report.equal is (expected.outside == 0)
            assert report.status == int(not report.equal)
            if expected.worst is None:
                assert (report.worst, report.mean_abs, report.rmse) == (None, None, None)
                continue
            assert report.worst is not None
            assert report.worst.difference == expected.worst
            assert (report.worst.a, report.worst.b) == (a[report.worst.index].item(), b[report.worst.index].item())
            assert report.mean_abs == pytest.approx(expected.mean, rel=1e-12)
            assert report.rmse == pytest.approx(expected.rmse, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", slow_but(["f2", "f4", "f8", "i4"], "f4"))
def test_the_smallest_atol_passes_when_it_is_pasted_and_is_nearly_the_smallest(dtype: str, tmp_path: Path) -> None:
    for seed in range(6):
        b = np.where(np.isfinite(spoiled((400,), dtype, seed=seed)), spoiled((400,), dtype, seed=seed), 0).astype(dtype)
        a = np.where(np.isfinite(changed(b, seed)), changed(b, seed), 0).astype(dtype)
        for rtol, fraction in itertools.product((0.0, 1e-4), (0.0, 0.1)):
            report = found(tmp_path, a, b, rtol=rtol, max_fraction=fraction, allow_vacuous=True)
            assert report.smallest_atol is not None
            atol = report.smallest_atol
            again = found(tmp_path, a, b, rtol=rtol, max_fraction=fraction, atol=atol, allow_vacuous=True)
            assert again.equal, (report.smallest_atol, seed)
            if report.smallest_atol:
                assert not found(
                    tmp_path, a, b, rtol=rtol, max_fraction=fraction, atol=report.smallest_atol * 0.98
                ).equal
    assert found(tmp_path, np.array([np.nan, 1.0]), np.array([0.0, 1.0])).smallest_atol is None


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=examples(200))
@given(*[st.lists(st.floats(width=32), min_size=1, max_size=8)] * 2, st.sampled_from([0.0, 0.1, 1e30]))
def test_a_nan_never_passes_and_never_hides_another_number(a: list[float], b: list[float], tolerance: float) -> None:
    size = min(len(a), len(b))
    x, y = np.array(a[:size], np.float32), np.array(b[:size], np.float32)
    with np.errstate(all="ignore"):
        total = tally(
            x[None], y[None], np.zeros(1, np.int64), 1, Tolerance(tolerance, tolerance), lambda places: places
        )
    expected = Longhand(x, y, tolerance, tolerance, False)
    assert (total.nan[0], total.inf[0]) == (expected.nan, expected.inf)
    assert total.outside[0] + total.nan[0] + total.inf[0] == expected.outside
    assert total.worst[0] == (-1 if expected.worst is None else expected.worst)


@pytest.mark.parametrize(
    ("a", "b", "gap"),
    [
        (np.array([2**62]), np.array([2**62 + 1]), 1),
        (np.array([2**64 - 1], np.uint64), np.array([-BIG]), 2**64 - 1 + BIG),
        (np.array([BIG], np.uint64), np.array([BIG - 1]), 1),
        (np.array([-BIG]), np.array([BIG - 1]), 2**64 - 1),
        (np.array([True]), np.array([0], np.uint64), 1),
    ],
)
def test_integers_are_compared_as_integers(a: NDArray[Any], b: NDArray[Any], gap: int, tmp_path: Path) -> None:
    for left, right in ((a, b), (b, a)):
        report = found(tmp_path, left, right)
        assert (report.outside, report.equal) == (1, False)
        assert report.worst is not None
        assert report.worst.difference == gap


def test_ulps_are_counted_for_floats_of_one_dtype(tmp_path: Path) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        b = np.linspace(-1, 1, 200).astype(dtype)
        a = b.copy()
        for place, steps in ((3, 1), (190, 2), (77, 5)):
            for _ in range(steps):
                a[place] = np.nextafter(a[place], dtype(9))
        report = found(tmp_path, a, b)
        apart = np.zeros(200)
        apart[[3, 190, 77]] = [1, 2, 5]
        assert report.ulp is not None
        assert (report.ulp.median, report.ulp.p99, report.ulp.max) == (0, np.percentile(apart, 99), 5)
    signs = found(tmp_path, np.array([-0.0, 5e-324]), np.array([0.0, -5e-324]))
    assert signs.ulp is not None
    assert (signs.ulp.median, signs.ulp.max) == (1.0, 2)
    far = found(tmp_path, np.array([1.0]), np.array([-1.0])).ulp
    assert far is not None
    assert far.max == 65535
    assert found(tmp_path, np.ones(3, np.float32), np.ones(3)).ulp is None


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("most", [0, 3, 8, 1000, 70_000])
@pytest.mark.parametrize("offset", [-1.0, 0.0, 1.0])
def test_ulps_are_those_of_a_walk_through_the_values(dtype: str, most: int, offset: float) -> None:
    """The place of a value among all values in order, by Python's integers; -0.0 and 0.0 share one."""
    rng = np.random.default_rng(most)
    kind = np.dtype(dtype).newbyteorder("=")
    integer, low = np.dtype(f"i{kind.itemsize}"), -(2 ** (8 * kind.itemsize - 1))

    def place(value: NDArray[Any]) -> int:
        bits = int(value.view(integer))
        return bits if bits >= 0 else low - bits

    a = (rng.standard_normal(500) * 1e-2 + offset).astype(kind)
    steps = rng.integers(0, most + 1, 500).astype(f"i{kind.itemsize}") if most < 2**15 or kind.itemsize > 2 else most
    b = np.where(np.abs(a) > 1e-3, (a.view(integer) + np.int64(steps)).astype(integer).view(kind), -a)
    b[::50] = [np.nan, np.inf] * 5
    expected = np.zeros(ULPS, np.int64)
    for x, y in zip(a, b, strict=True):
        if np.isfinite(x) and np.isfinite(y):
            expected[min(abs(place(x) - place(y)), ULPS - 1)] += 1
    assert_same_bits(ulps(a.astype(dtype), b.astype(dtype)), expected)


@pytest.mark.parametrize("orders", ["CC", "CF", "FC", "FF"])
def test_memory_orders_make_no_difference(orders: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SLAB", 1000)
    b = spoiled((6, 9, 11), "f4", seed=3)
    a = changed(b, 3)
    plain = found(tmp_path, a, b, by="1", layout=None)
    turned = found(tmp_path, np.array(a, order=orders[0]), np.array(b, order=orders[1]), by="1", bins=8)  # type: ignore[call-overload]
    assert (turned.outside, turned.worst, turned.first_mismatch) == (plain.outside, plain.worst, plain.first_mismatch)
    assert turned.cells is not None and plain.cells is not None
    assert [cell.place for cell in turned.cells.kept] == [cell.place for cell in plain.cells.kept]
    assert [cell.outside for cell in turned.cells.kept] == [cell.outside for cell in plain.cells.kept]
    assert turned.histogram is not None
    finite = np.isfinite(a) & np.isfinite(b)
    equal = (a == b) | np.isnan(a) & np.isnan(b)
    assert sum(turned.histogram.counts) == (finite | equal).sum()
    assert bool(turned.notes) == (orders in ("CF", "FC"))


def test_a_fortran_ordered_tensor_is_read_in_c_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SLAB", 700)
    x = np.asfortranarray(np.arange(7 * 5 * 6).reshape(7, 5, 6))
    turned = InCOrder(ArraySource(x))
    assert turned.rereads
    for start, size in ((0, 210), (13, 100), (209, 1), (0, 1)):
        out = np.empty(size, x.dtype)
        turned.read_into(out, start)
        np.testing.assert_array_equal(out, x.reshape(-1)[start : start + size])


def test_cells_tell_which_differs_most_and_the_delta_is_written(tmp_path: Path) -> None:
    b = np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32)
    a = b.copy()
    a[1, 4] += 0.5
    a[0, 2, 0, 0] = np.nan
    out = tmp_path / "delta.npy"
    report = found(tmp_path, a, b, by="C", output=str(out))
    assert report.cells is not None
    assert [place_line(cell.place) for cell in report.cells.kept] == ["C 2", "C 4", "C 0", "C 1", "C 3", "C 5"]
    assert [cell.outside for cell in report.cells.kept] == [1, 25, 0, 0, 0, 0]
    assert report.most_different is not None
    assert place_line(report.most_different.place) == "C 2"  # a NaN is worse than any number
    assert report.cells.kept[1].max_abs == pytest.approx(0.5, rel=1e-6)
    np.testing.assert_array_equal(np.load(out), a - b)
    groups = found(tmp_path, a, b, by="group", num_groups=2, output=str(out), force=True)
    assert groups.cells is not None
    assert [place_line(cell.place, cell.note) for cell in groups.cells.kept] == [
        f"N {n}  G {g}  channels {3 * g}-{3 * g + 2}" for n, g in ((0, 0), (1, 1), (0, 1), (1, 0))
    ]
    with pytest.raises(LimitError, match="has 300 cells; diff shows at most 10"):
        found(tmp_path, a, b, by="N,C,H,W", most_cells=10)
    with pytest.raises(ParameterError, match="layout NCHW has no axis 'D'"):
        found(tmp_path, a, b, by="D")


def test_each_cell_and_the_whole_have_a_line_where_it_is_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    b = rng.standard_normal((3, 4, 70, 5)).astype(np.float32)
    a = (b * np.array([2, -1, 0.5, 0])[:, None, None] + np.array([0, 3, 0, 1])[:, None, None]).astype(np.float32)
    b[:, 2] = 7
    b[0, 0, 0, 0] = np.nan
    for order in ("C", "F"):
        report = found(
            tmp_path,
            np.asarray(a, order=order),
            np.asarray(b, order=order),
            by="C",
            statistics=("slope", "offset"),
            sort="name",
        )
        assert report.cells is not None
        lines = [(cell.slope, cell.offset) for cell in report.cells.kept]
        assert lines[2] == (None, None) and lines[3] == (0.0, 1.0)
        assert lines[0] == pytest.approx((2.0, 0.0), abs=1e-15) and lines[1] == pytest.approx((-1.0, 3.0), rel=1e-6)
        x, y = (values.ravel()[1:].astype(float) for values in (a, b))
        assert (report.slope, report.offset) == pytest.approx(tuple(np.polyfit(y, x, 1)), rel=1e-9)
        for cell, x, y in zip(report.cells.kept, a.swapaxes(0, 1), b.swapaxes(0, 1), strict=True):
            both = np.isfinite(y)
            x, y = x[both].astype(float), y[both].astype(float)
            assert cell.rel == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(y), rel=1e-12)
            assert cell.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)
    assert found(tmp_path, a, b, by="C").cells.kept[0].slope is None  # type: ignore[union-attr]
    nothing = found(tmp_path, a[:0], b[:0], statistics=("slope",))
    assert (nothing.slope, nothing.offset, nothing.selected) == (None, None, ("slope",))


def test_cells_are_ordered_by_any_number(tmp_path: Path) -> None:
    b = np.ones((2, 3, 4))
    a = b + np.array([0.5, 0, 0.25])[:, None]
    a[0, 1, 0], a[1, 1, 1] = 1.125, np.inf

    def order(**options: Any) -> list[int]:
        cells = found(tmp_path, a, b, by="C", layout="NCL", **options).cells
        assert cells is not None
        return [cell.place["C"] for cell in cells.kept]

    assert order() == order(sort="-max") == [1, 0, 2]
    assert order(sort="max") == [2, 0, 1]
    assert order(sort="name") == [0, 1, 2] and order(sort="-name") == [2, 1, 0]
    assert order(sort="mean") == [1, 2, 0] and order(sort="-inf") == [1, 0, 2]
    with pytest.raises(ParameterError, match="--sort is about cells, or about files or folders of tensors"):
        found(tmp_path, a, b, sort="max")


def test_a_delta_of_integers_is_floating_and_what_is_the_same_is_0(tmp_path: Path) -> None:
    out = tmp_path / "delta.npy"
    found(tmp_path, np.array([1, 5], np.uint8), np.array([3, 4], np.uint8), output=str(out))
    assert np.load(out).tolist() == [-2.0, 1.0]
    assert np.load(out).dtype == np.float64
    a, b = np.array([np.inf, np.nan, np.inf, 1.0]), np.array([np.inf, np.nan, -np.inf, np.nan])
    found(tmp_path, a, b, output=str(out), force=True)
    np.testing.assert_array_equal(np.load(out), [0.0, 0.0, np.inf, np.nan])
    found(tmp_path, np.array([2**62 + 1]), np.array([2**62]), output=str(out), force=True)
    assert np.load(out).tolist() == [1.0]


MAX = float(np.finfo(np.float64).max)
# a, b, --max-fraction, --rtol, and the smallest --atol
FAR = [
    ([MAX, 1.0], [0.0, 1.0], 0.0, 0.0, MAX),
    ([1.797e308, 1.0], [0.0, 1.0], 0.0, 0.0, 1.797e308),
    ([1.7971e308, 1.0], [0.0, 1.0], 0.0, 0.0, 1.7971e308),
    ([MAX, 1.0], [0.0, 1.0], 0.0, 1e-3, None),
    ([MAX, 1.0], [-MAX, 1.0], 0.0, 0.0, None),
    ([MAX, MAX, 1.0, 3.0], [-MAX, -MAX, 1.0, 1.0], 0.3, 0.0, None),
    ([MAX, MAX, 1.0, 3.0], [-MAX, -MAX, 1.0, 1.0], 0.5, 0.0, 2.0),
    ([MAX, 1.0], [-MAX, 1.0], 0.0, 10.0, 0.0),
    ([MAX, 1.0, np.nan], [-MAX, 1.0, np.nan], 0.4, 10.0, 0.0),
    ([MAX, MAX], [-MAX, -1e307], 0.0, 10.0, None),
    ([MAX, -MAX, np.inf], [MAX, -MAX, np.inf], 0.0, 10.0, 0.0),
]


@pytest.mark.parametrize(("a", "b", "fraction", "rtol", "atol"), FAR)
def test_elements_near_the_largest_float_have_a_smallest_atol_or_none(
    a: list[float], b: list[float], fraction: float, rtol: float, atol: float | None, tmp_path: Path
) -> None:
    left, right = np.array(a), np.array(b)
    report = found(tmp_path, left, right, rtol=rtol, atol=0.0, max_fraction=fraction, allow_vacuous=True)
    assert report.smallest_atol == atol
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["smallest_atol"] == atol
    if atol is not None:
        assert found(tmp_path, left, right, rtol=rtol, atol=atol, max_fraction=fraction, allow_vacuous=True).equal


def test_a_peak_too_far_from_the_error_for_their_ratio_has_a_psnr(tmp_path: Path) -> None:
    report = found(tmp_path, np.full(2, 1e120), np.array([0.0, 1e-300]))
    assert report.psnr == pytest.approx(20 * -420)


def test_shapes_that_differ_differ(tmp_path: Path) -> None:
    report = found(tmp_path, np.ones((2, 3)), np.ones((2, 2)))
    assert (report.equal, report.compared, report.status) == (False, False, 1)
    assert verdict_line(report) == "DIFFERENT: shapes (2, 3) and (2, 2)"
    assert "permutation" not in report.as_dict()
    with pytest.raises(InputError):
        diff(saved(tmp_path, "a", np.ones(3)), str(tmp_path / "missing.npy"))


@pytest.mark.parametrize("a", [(2, 3), (2, 3, 7, 7), (1, 5, 1), (0, 4), (3, 3, 2)])
def test_shapes_that_differ_by_the_order_of_their_axes_are_told(
    a: tuple[int, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    x = np.zeros(a)
    y = np.moveaxis(x, 1, -1) if x.ndim == 4 else x.T if a != (1, 5, 1) else x.reshape(5, 1, 1)
    report = found(tmp_path, x, y)
    (gate,) = report.gates
    assert isinstance(gate, Shapes)
    axes = gate.permutation
    assert axes is not None
    assert x.transpose(axes).shape == y.shape
    said, _, option = verdict_line(report).partition("; --layout ")
    assert said == (
        f"DIFFERENT: shapes {x.shape} and {y.shape}; by its shape, b is a with its axes permuted: a.transpose{axes}"
    )
    layouts, _, rest = option.partition(" ")
    assert rest == "takes its axes in that order"
    first, _, second = layouts.partition(",")
    assert found(tmp_path, x, y, layouts=(first, second)).equal
    assert report.as_dict()["permutation"] == list(axes)
    status = main(["diff", str(tmp_path / "a.npy"), str(tmp_path / "b.npy")])
    out, err = capfd.readouterr()
    assert (status, err, verdict_line(report) in out) == (1, "", True)


@pytest.mark.slow
@pytest.mark.parametrize("order", slow_but("CF", "F"))
def test_either_side_may_be_a_stream(order: Any, tmp_path: Path) -> None:
    b = spoiled((4, 300, 5), "f4", seed=5)
    a = changed(b, 5)
    plain = found(tmp_path, a, b)
    np.save(tmp_path / "stream.npy", np.array(b, order=order))
    for arguments in (["a.npy", "-"], ["a.npy", "-", "--hist"], ["a.npy", "-", "--max-fraction", "0.5"]):
        done = subprocess.run(
            [sys.executable, "-m", "gncli", "diff", *arguments, "--format", "json"],
            cwd=tmp_path,
            input=(tmp_path / "stream.npy").read_bytes(),
            capture_output=True,
            check=False,
        )
        assert f'"outside": {plain.outside},'.encode() in done.stdout, done.stderr
        kept = b"kept in a file in $TMPDIR" in done.stderr
        assert kept is (order == "F" or len(arguments) > 2)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["b"] = b
    assert diff(str(tmp_path / "a.npy"), str(tmp_path / "b.h5")).outside == plain.outside


def test_no_tile_and_no_number_of_workers_changes_the_report(tmp_path: Path) -> None:
    b = spoiled((3, 40, 500), "f4", seed=7)
    names = saved(tmp_path, "a", changed(b, 7)), saved(tmp_path, "b", b)
    for by in (None, "1", "2"):
        reports = [diff(*names, by=by, workers=w, tile=t) for w, t in ((1, 1 << 20), (2, 4096), (3, 65_536))]
        assert reports[0] == reports[1] == reports[2]


def test_nothing_passes_where_the_difference_leaves_float64(tmp_path: Path) -> None:
    report = found(tmp_path, np.array([1.7e308]), np.array([-1.7e308]), bins=4, rtol=0.0)
    assert (report.outside, report.smallest_atol, report.equal) == (1, None, False)
    assert report.histogram is not None
    assert report.histogram.counts == ()
    assert report.as_dict()["rmse"] is None


def test_what_is_derived_of_a_pair_can_be_held_and_read_again() -> None:
    a, b = Forward(np.arange(6.0)), Forward(np.ones(6))
    derived = Derived(Pair(a, b), delta)
    derived.hold(0, 6)
    for _ in range(2):
        out = np.empty(6)
        derived.read_into(out, 0)
        assert out.tolist() == [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    derived.verify_unchanged()
    derived.close()


def test_a_correct_float16_kernel_is_the_same_by_default(tmp_path: Path) -> None:
    import gncli

    x = np.random.default_rng(1).standard_normal((4, 8, 12, 12)).astype(np.float16)
    wide = gncli.group_norm(x.astype(np.float64), 4)
    half = wide.astype(np.float16)
    up = np.nextafter(half, np.float16(9))
    for other in (wide, half, up):
        report = found(tmp_path, gncli.group_norm(x, 4), other)
        assert report.equal, verdict_line(report)


def exactly(a: NDArray[Any], b: NDArray[Any]) -> dict[str, Decimal | None]:
    """Return the numbers of the report from exact integers, to 60 digits; None where they are not defined."""
    parts, powers = np.frexp(np.concatenate([a.reshape(-1), b.reshape(-1)]))
    least = int(powers.min())  # all are multiples of 2^(least - 53), which is the unit here
    left, right = np.split(np.ldexp(parts, 53).astype(np.int64).astype(object) << (powers - least).astype(object), 2)
    gaps = abs(left - right)
    with decimal.localcontext(prec=60, Emin=-10_000, Emax=10_000):
        unit = Decimal(2) ** (least - 53)
        square, a_square, b_square, product = (
            Decimal(x @ y) for x, y in ((gaps, gaps), (left, left), (right, right), (left, right))
        )
        spread, rmse = Decimal(max(right) - min(right)), (square / len(gaps)).sqrt()
        return {
            "mean_abs": Decimal(sum(gaps)) / len(gaps) * unit,
            "rmse": rmse * unit,
            "rel": (square / b_square).sqrt() if b_square else None,
            "psnr": 20 * (spread / rmse).log10() if spread and rmse else None,
            "cosine": product / (a_square.sqrt() * b_square.sqrt()) if a_square and b_square else None,
        }


MAGNITUDES = [5e-324, 1e-310, 1e-300, 1e-200, 1e-170, 1e-160, 1e-60, 1.0, 1e60, 1e150, 1e160, 1e200, 3e307]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(40,), (300,), (3, 8192), (100, 70)])
@pytest.mark.parametrize("size", slow_but(MAGNITUDES, 5e-324, 1.0, 1e200))
def test_the_numbers_hold_from_the_smallest_float64_to_the_largest(
    size: float, shape: tuple[int, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(len(shape))
    b = rng.integers(-5, 6, shape) * size if size < 1e307 else rng.uniform(-1, 1, shape) * 1.79e308
    mixed = b.copy()
    mixed[: shape[0] // 2] *= 1e-100 if size > 1 else 1e100  # blocks of one scale beside those of another
    few = np.zeros(shape)
    few.reshape(-1)[-1] = size
    for a, of in ((b * 0.75, b), (mixed * 0.5, mixed), (few, np.zeros(shape)), (b, b), (b, b * 0), (b[::-1], b)):
        report = found(tmp_path, a, of, by="0" if of is mixed else None, layout=None)
        for name, value in exactly(a, of).items():
            got = getattr(report, name)
            if value is None or value > Decimal(sys.float_info.max):
                assert got in (None, math.inf), name
                continue
            assert got is not None, name
            # Near 0 a product of roots cancels, and what is subnormal has fewer digits.
            most = max(1e-12 * abs(float(value)), 1e-13 if name in ("cosine", "psnr") else 5e-324)
            assert abs(Decimal(got) - value) <= Decimal(most), (name, got, value)
        assert json.loads(json.dumps(report.as_dict()))["rmse"] == (report.rmse if report.rmse != math.inf else None)


def test_values_that_are_not_finite_change_nothing_in_the_sums_of_large_and_small_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for size in (1e-300, 1e300):
        b = rng.standard_normal(500) * size
        a = b * 1.5
        kept = found(tmp_path, a, b)
        at = rng.choice(500, 6, replace=False)
        a = np.insert(a, at, [1, np.nan, np.inf, np.nan, 0, np.inf])
        b = np.insert(b, at, [np.inf, np.inf, np.inf, np.nan, np.nan, np.nan])
        spoiled_too = found(tmp_path, a, b)
        assert (spoiled_too.nan_mismatches, spoiled_too.inf_mismatches) == (3, 1)
        for name in ("mean_abs", "rmse", "rel", "psnr", "cosine"):
            assert getattr(spoiled_too, name) == pytest.approx(getattr(kept, name), rel=1e-12)
