"""Low precision: every statistic against longhand NumPy, and every rounding against exact fractions."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gncli
from gncli.cli import main
from gncli.commands.stats import stats as command
from gncli.errors import LimitError
from gncli.io.random import RandomSource
from gncli.kernels import precision
from gncli.kernels.floats import FLOATS, Float
from gncli.names import LOSSES, OF_PRECISION, TARGETS, Value, cast_of, casts, losses, statistic
from gncli.report.bars import bars, ends_of
from gncli.report.records import Histogram, TensorStats
from gncli.report.style import Style
from gncli.run.engine import Engine
from gncli.tasks.survey import Wanted, survey
from tests.arrays import special
from tests.marks import slow_but
from tests.runs import cut, stats

DTYPES = ["f2", "f4", "f8", ">f4", ">f8", "u1", ">i2", "i4", "i8", ">u8", "?"]
FOREIGN = ["bfloat16", "float8_e4m3fn", "float8_e5m2"]


def nearest(x: Fraction, kind: Float) -> Fraction | None:
    """Return the number of a dtype that is nearest to `x`, ties to even; None where it overflows."""
    if not x:
        return x
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > abs(x)
    exponent += Fraction(2) ** (exponent + 1) <= abs(x)
    quantum = Fraction(2) ** (max(exponent, 2 - (1 << kind.exponent - 1)) - kind.mantissa)
    found = round(x / quantum) * quantum
    return None if abs(found) > Fraction(kind.largest) else found


def lost(x: NDArray[Any], target: str) -> dict[str, Any]:
    """Return the four statistics of a rounding in exact arithmetic, the ratio as a decimal of 60 digits."""
    cast = cast_of(target)
    kind, scale = FLOATS[cast.dtype], Fraction(cast.scale)
    finite = [Fraction(v.item()) * scale for v in x.reshape(-1) if np.isfinite(v)]
    rounded = [nearest(y, kind) for y in finite]
    kept = [(y, q) for y, q in zip(finite, rounded, strict=True) if q is not None]
    signal, noise = sum(y * y for y, _ in kept), sum((y - q) ** 2 for y, q in kept)
    ratio: Decimal | None = None
    if kept and noise:
        with localcontext() as context:
            context.prec = 60
            share = Fraction(signal) / Fraction(noise)
            ratio = 10 * (Decimal(share.numerator) / Decimal(share.denominator)).log10()
    return {
        "overflow": rounded.count(None),
        "zero": sum(not q and bool(y) for y, q in kept),
        "subnormal": sum(0 < abs(q) < Fraction(kind.least) for _, q in kept),
        "snr": ratio,
    }


def agrees(found: Any, x: NDArray[Any], target: str) -> None:
    """Raise unless a record says of a rounding what exact arithmetic does."""
    for what, expected in lost(x, target).items():
        value = found[f"{target}.{what}"]
        if what != "snr" or expected is None:
            assert value == expected, (target, what)
        else:
            assert value == pytest.approx(float(expected), rel=1e-13, abs=1e-12), target


def longhand(x: NDArray[Any], least: float) -> dict[str, Value]:
    """Return the other statistics of `x` in exact or longhand arithmetic; `least` is its smallest normal number."""
    values = [v.item() for v in x.reshape(-1)]
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return dict.fromkeys(("absmax", "rms", "smallest_nonzero")) | {"at_max": 0, "at_min": 0, "distinct": 0}
    sizes = [abs(int(v) if isinstance(v, bool) else v) for v in finite]
    squares = sum((Fraction(v) ** 2 for v in finite), Fraction()) / len(finite)
    with localcontext() as context:
        context.prec = 60
        rms = float((Decimal(squares.numerator) / Decimal(squares.denominator)).sqrt())
    return {
        "absmax": max(sizes),
        "rms": pytest.approx(rms, rel=1e-14),
        "zero_fraction": values.count(0) / len(values),
        "subnormal": sum(0 < size < least for size in sizes),
        "smallest_nonzero": min((size for size in sizes if size), default=None),
        "at_max": finite.count(max(finite)),
        "at_min": finite.count(min(finite)),
        "distinct": len(set(finite)),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_each_statistic_of_a_tensor_and_of_its_cells(dtype: str, order: Any) -> None:
    x = special(dtype, (3, 8, 5)).astype(dtype, order=order)
    least = float(np.finfo(x.dtype).tiny) if x.dtype.kind == "f" else 0.0
    if least:
        x[0, 0, 0], x[2, 7, 4], x[1] = least / 2, -least, np.nan_to_num(x[1], posinf=1, neginf=1)
    for found, part in each(x, OF_PRECISION):
        assert {name: found[name] for name in longhand(part, least)} == longhand(part, least)
        assert all(type(found[name]) in (int, float, type(None)) for name in OF_PRECISION)


@pytest.mark.parametrize("name", FOREIGN)
def test_dtypes_that_numpy_lacks_have_their_own_subnormals(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = FLOATS[name]
    x = np.array([kind.least, kind.least / 2, -kind.least / 2, 0, 1, kind.largest, kind.largest]).astype(
        getattr(ml_dtypes, name)
    )
    found = gncli.stats(x, [*OF_PRECISION, *losses(name)])
    wide = x.astype(np.float64)
    assert {key: found[key] for key in longhand(wide, kind.least)} == longhand(wide, kind.least)
    assert found["subnormal"] == 2
    assert (found[f"{name}.overflow"], found[f"{name}.zero"], found[f"{name}.snr"]) == (0, 0, None)
    assert found[f"{name}.subnormal"] == 2


def each(x: NDArray[Any], names: Any) -> Any:
    """Yield the record of `x` and that of each cell along its second axis, with their elements."""
    found = gncli.stats(x, names, by=1, tile=64)
    yield found, x
    for at, cell in enumerate(found.cells):
        yield cell, x[:, at]
    for at, cell in enumerate(gncli.stats(x, names, by=(0, 1)).cells):
        yield cell, x[divmod(at, x.shape[1])]


@pytest.mark.parametrize("dtype", slow_but(DTYPES, *DTYPES[::4]))
def test_each_rounding_is_that_of_exact_arithmetic(dtype: str) -> None:
    targets = ["float16", "float8_e4m3fn:0.3", "bfloat16", "float32:3", "float8_e5m2", "float16:1e-6"]
    x = special(dtype, (3, 4, 7))
    for found, part in each(x, [name for target in targets for name in losses(target)]):
        for target in targets:
            agrees(found, part, target)


@pytest.mark.parametrize("target", TARGETS)
def test_ties_and_the_edges_of_a_dtype(target: str) -> None:
    kind = FLOATS[target]
    tiny, unit = Fraction(kind.least) / 2**kind.mantissa, Fraction(1, 2**kind.mantissa)
    edges = [kind.limit, kind.largest, kind.least, tiny, tiny / 2, tiny * 3 / 2, 1 + unit / 2, 1 + unit * 3 / 2]
    beside = [float(edge) for edge in edges]
    beside += [-one for one in beside] + [float(np.nextafter(one, to)) for one in beside for to in (0, np.inf)]
    agrees(gncli.stats(np.array(beside), losses(target)), np.array(beside), target)


def test_large_integers_are_rounded_once_from_all_their_digits() -> None:
    tie = (1 << 62) + (1 << 38)  # between two float32; the last digit decides
    for dtype in (np.int64, np.uint64):
        x = np.array([tie, tie + 1, tie - 1, (1 << 63) - 1, 3], dtype)
        agrees(gncli.stats(x, losses("float32")), x, "float32")
        agrees(gncli.stats(x, losses("float32:0.1")), x, "float32:0.1")


@pytest.mark.parametrize(
    "values",
    [[1e-170, 3e-170, -2e-160], [1.0, 1e-170], [1e-170, 2.0**-130], [1e300, 1e-5], [1e300], [np.nan], [], [0.0, 5.0]],
)
def test_magnitudes_whose_squares_leave_float64(values: list[float]) -> None:
    x = np.array(values)
    for target in ("float16", "bfloat16:1e30"):
        agrees(gncli.stats(x, losses(target)), x, target)
    found = gncli.stats(x, "rms,zero_fraction,subnormal,distinct,smallest_nonzero")
    expected = longhand(x, float(np.finfo(np.float64).tiny))
    assert {name: found[name] for name in expected if name in found.values} == {
        name: value for name, value in expected.items() if name in found.values
    }


def test_nothing_lost_is_infinite_in_a_condition_and_undefined_in_a_report() -> None:
    x = np.array([1.0, 2.0, 0.0])
    assert gncli.stats(x, "float16.snr")["float16.snr"] is None
    assert [s.name for s in stats_of(x, where="float16.snr > 1e9")] == ["x"]
    assert stats_of(np.array([1e9]), where="float16.snr > 0 or float16.snr <= 0") == []


def stats_of(x: NDArray[Any], where: str) -> list[Any]:
    """Return the cells of `x` as one cell, of which a condition holds."""
    cells = gncli.stats(x[None], by=0, where=where).cells
    return [cell.stats for cell in cells]


def test_distinct_values_are_counted_up_to_a_limit(tmp_path: Any) -> None:
    x = np.arange(20_000, dtype=np.float32) % 6000
    assert gncli.stats(x, "distinct")["distinct"] == precision.MOST_DISTINCT
    paths = [str(tmp_path / name) for name in ("few.npy", "many.npy", "again.npy")]
    for path, values in zip(paths, (x % 4000, x, x), strict=True):
        np.save(path, values)
    assert stats(paths[:1], statistics=["distinct"]).notes == ()
    said = "distinct values are counted up to 4,096, which stands for that many and more"
    assert stats(paths, statistics=["distinct"]).notes == (said,)
    assert gncli.stats(x % 4000, "distinct", tile=4096)["distinct"] == 4000
    assert gncli.stats(np.array([[1, 2, 3, 4], [1, 1, 2, 2]]), "distinct", by=0)["cells"][1]["distinct"] == 2


def test_distinct_values_of_too_many_cells_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gncli.tasks.survey.MOST_DISTINCT_CELLS", 5)
    x = np.zeros((4, 6), np.float32)
    with pytest.raises(LimitError) as caught:
        gncli.stats(x, "distinct", by=1)
    assert str(caught.value) == (
        "x: the distinct values of 6 open cells, more than 5, are too many to hold; "
        "ask for fewer cells, or leave out distinct"
    )
    assert gncli.stats(x, "distinct", by=0).cells[3]["distinct"] == 1  # whose cells lie one after the other


def test_the_bits_depend_on_the_tensor_alone() -> None:
    names = (*OF_PRECISION, *losses("float16,float8_e5m2:3"))
    source = RandomSource((20, 7, 90), "normal", 3, "float64")
    with Engine(1) as one, Engine(2, 1 << 12) as two:
        for by in (None, cut("1", source.shape, "C"), cut("0,2", source.shape, "C")):
            first, second = (survey(source, engine, Wanted(names), by, 5000).stats for engine in (one, two))
            assert (first.cells or first) == (second.cells or second)


def test_a_total_over_tensors_pools_what_it_can(tmp_path: Any) -> None:
    x, y = special("f4", (50,)), special("f4", (60,))
    paths = []
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
        paths.append(str(tmp_path / f"{name}.npy"))
    names = [*OF_PRECISION, *losses("float8_e4m3fn")]
    total = stats(paths, statistics=names, total=True).total
    both = np.concatenate([x, y])
    expected = longhand(both, float(np.finfo(np.float32).tiny))
    assert total is not None
    assert {name: total[name] for name in expected} == expected
    agrees(total, both, "float8_e4m3fn")
    np.save(tmp_path / "y.npy", special("i8", (60,)))
    mixed = stats(paths, statistics=["distinct", "smallest_nonzero", "at_max"], total=True).total
    assert mixed is not None
    assert [mixed[name] for name in ("distinct", "smallest_nonzero", "at_max")] == [None, None, 2]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("flaot16.snr", "'flaot16' is no dtype to round to; did you mean float16? "),
        ("float64.snr", "'float64' is no dtype to round to; did you mean float16? "),
        ("x.snr", "'x' is no dtype to round to; choose (float16, "),
        ("float16:.snr", "'' is no scale; write a number from 1e-30 to 1e30, such as float16:16"),
        ("float16:0.snr", "'0' is no scale; "),
        ("float16:1e31.snr", "'1e31' is no scale; "),
        ("float16.noise", "'float16.noise' is not a statistic"),
    ],
)
def test_what_is_no_rounding_says_why(name: str, problem: str) -> None:
    with pytest.raises(KeyError) as caught:
        statistic(name)
    assert caught.value.args[0].startswith(problem)


def test_roundings_have_one_order() -> None:
    assert casts(["float16:2.snr", "mean", "bfloat16.zero", "float16:2.0.zero"]) == (
        cast_of("bfloat16"),
        cast_of("float16:2"),
    )
    assert losses("bfloat16") == tuple(f"bfloat16.{what}" for what in LOSSES)
    assert statistic("float8_e4m3fn:1e-2.zero").label == "float8_e4m3fn:1e-2 Become 0"


# --- histograms of |x| -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("scale", "bins"), [("exponent", 64), ("log", 1), ("log", 7)])
def test_each_magnitude_is_in_its_bin(tmp_path: Any, dtype: str, scale: Any, bins: int) -> None:
    x = special(dtype, (200,))
    np.save(tmp_path / "x.npy", x)
    (tensor,) = stats([str(tmp_path / "x.npy")], bins=bins, scale=scale).tensors
    assert isinstance(tensor, TensorStats)
    found = tensor.histogram
    size = np.abs(x.astype(np.float64))
    size = size[np.isfinite(size)]
    assert found is not None
    assert (found.scale, found.zeros) == (scale, int((size == 0).sum()))
    size = size[size > 0]
    if scale == "exponent":
        exponents = np.frexp(size)[1] - 1
        every = range(exponents.min(), exponents.max() + 1)
        assert found.counts == tuple(int((exponents == e).sum()) for e in every)
        assert found.edges == tuple(2.0**e for e in (*every, every[-1] + 1))
    elif dtype != "?":
        assert found.counts == tuple(np.histogram(size, found.edges)[0].tolist())
        assert (found.edges[0], found.edges[-1], len(found.edges)) == (size.min(), size.max(), bins + 1)
        assert np.ptp(np.diff(np.log(found.edges))) < 1e-12
    assert sum(found.counts) == size.size


@pytest.mark.parametrize("scale", ["exponent", "log"])
def test_histograms_of_the_ends_of_float64(tmp_path: Any, scale: Any) -> None:
    most, least = float(np.finfo(np.float64).max), 5e-324
    for values, counts in (
        ([most, -most, 1.0, least, -least, 0.0], (2, 1, 2)),
        ([most], (1,)),
        ([-least, least], (2,)),
        ([0.0, -0.0, np.inf], ()),
        ([np.nan], ()),
    ):
        np.save(tmp_path / "x.npy", np.array(values))
        (tensor,) = stats([str(tmp_path / "x.npy")], bins=3, scale=scale).tensors
        assert isinstance(tensor, TensorStats)
        found = tensor.histogram
        assert found is not None
        assert tuple(filter(None, found.counts)) == counts
        assert found.zeros == values.count(0)
        said = bars(found, Style(width=40))
        zeros = "no finite elements but zeros, no histogram" if found.zeros else "no finite elements, no histogram"
        assert counts or said == [zeros]
        assert not counts or said[-1].startswith("of absolute values, ")
    ends = ends_of(Histogram((2.0**-1074, most), (3,), scale), Style())
    assert ends == (("2^-1074", "2^1024") if scale == "exponent" else ("4.9406565e-324", "1.7976931e+308"))


def test_a_picture_has_the_histogram_of_x_beside_that_of_magnitudes(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", np.array([-1.0, 2.0, 3.0]))
    (tensor,) = stats([str(tmp_path / "x.npy")], bins=4, picture=4, scale="exponent").tensors
    assert isinstance(tensor, TensorStats)
    assert tensor.histogram is not None
    assert tensor.picture is not None
    assert (tensor.histogram.counts, tensor.picture.histogram.counts) == ((1, 2), (1, 0, 0, 2))
    assert tensor.histogram.as_dict() == {"scale": "exponent", "counts": [1, 2], "edges": [1.0, 2.0, 4.0], "zeros": 0}


WORDS: dict[str, str | None] = {
    "--hist x.npy": "linear",
    "x.npy --hist": "linear",
    "--hist exponent x.npy": "exponent",
    "--hist=log x.npy": "log",
    "x.npy --hist log": "log",
    "--hist -- log": "linear",
    "--hist ./log": "linear",
    "--hist --hist log": "log",
    "x.npy": None,
}


@pytest.mark.parametrize("typed", WORDS)
def test_a_word_belongs_to_an_option_only_if_it_is_one_of_its_words(typed: str) -> None:
    context = command.make_context("stats", typed.split())
    assert context.params["hist"] == WORDS[typed]
    assert context.params["tensors"] == tuple(
        word for word in typed.split() if word == "x.npy" or ((word.endswith("log") and "-- " in typed) or "./" in word)
    )


def test_a_page_says_what_a_histogram_of_magnitudes_is(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.array([0.0, 3.0]))
    np.save(tmp_path / "zeros.npy", np.zeros(2))
    page = tmp_path / "r.html"
    names = [str(tmp_path / "x.npy"), str(tmp_path / "zeros.npy")]
    assert main(["stats", *names, "--hist", "exponent", "--report", str(page), "-q"]) == 0
    assert capfd.readouterr().err == ""
    text = page.read_text(encoding="utf-8")
    assert "in one; of absolute values, one bin per power of two; 1 zeros are in no bin" in text
    assert "<span>2^1</span>" in text
    assert "no finite elements but zeros, no histogram" in text
