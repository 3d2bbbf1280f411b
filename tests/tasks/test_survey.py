"""Surveys: cells, percentiles and histograms are NumPy's to the bit, whatever fits a visit."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.errors import LimitError
from gncli.io import ArraySource
from gncli.kernels.moments import merge
from gncli.kernels.reduction import fold_cells
from gncli.report.records import Cell, TensorStats
from gncli.run.engine import Engine
from gncli.tasks.by import By
from gncli.tasks.histograms import Bars
from gncli.tasks.survey import Survey, Wanted, survey
from tests.arrays import DTYPES, Forward, assert_same_moments, drawn, spoiled
from tests.marks import slow_but
from tests.runs import cut, measure

PERCENTILES = {"p0": 0, "p0.1": 0.1, "p25": 25, "median": 50, "p73.3": 73.3, "p99.9": 99.9, "p100": 100}
# shape, --by, groups
CUTS: list[tuple[tuple[int, ...], str, int | None]] = [
    ((2, 4, 5, 7), "N", None),
    ((2, 4, 5, 7), "C", None),
    ((2, 4, 5, 7), "N,C", None),
    ((2, 4, 5, 7), "1,-1", None),
    ((2, 4, 5, 7), "group", 2),
    ((4, 40), "0", None),
    ((4, 40), "1", None),
    ((3, 1), "0", None),
    ((0, 3), "1", None),
    ((0, 3), "0", None),
]


def percentile(values: NDArray[Any], which: float) -> float | None:
    """Return what NumPy gives; None where there are no values."""
    return float(np.percentile(values, which)) if values.size else None


def of_cells(x: NDArray[Any], by: By) -> list[NDArray[Any]]:
    """Return the elements of each cell, in C order of their index."""
    if by.grouping is not None:
        n, c, *_ = x.shape
        x = x.reshape(n, c // by.grouping.group_size, by.grouping.group_size, -1)
        return [x[i, j].reshape(-1) for i in range(x.shape[0]) for j in range(x.shape[1])]
    moved = np.moveaxis(x, by.axes, range(len(by.axes)))
    return [moved[at].reshape(-1) for at in np.ndindex(*moved.shape[: len(by.axes)])]


def surveyed(x: NDArray[Any], by: By | None, wanted: Wanted, visit: int, forward: bool = False, **more: Any) -> Survey:
    source = Forward(x) if forward else ArraySource(x)
    with Engine(1 if forward else 2, tile=64 * x.itemsize, visit=visit * x.itemsize) as engine:
        if by is None:
            return survey(source, engine, wanted)
        found = Survey(source, engine, wanted, by, more.get("keep", 10**9))
        for cells in found:
            if "on_cells" in more:
                more["on_cells"](found.header, cells)
        return found


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "u1", "i8", "f2", ">f4", "f8"))
def test_percentiles_and_histograms_are_those_of_numpy(dtype: str) -> None:
    for seed, (shape, order) in enumerate([((), "C"), ((1000,), "C"), ((30, 40), "F"), ((0, 3), "C"), ((3,), "C")]):
        x = spoiled(shape, dtype, order, seed)
        wide = x.astype(np.float64)
        finite = wide[np.isfinite(wide)]
        for visit, forward in ((1 << 16, False), (100, False), (100, True)):
            found = surveyed(x, None, Wanted((*PERCENTILES, "argmin"), bars=Bars.of(13)), visit, forward)
            for name, which in PERCENTILES.items():
                assert found.stats.value(name) == percentile(finite, which), (shape, name, visit)
            drawn = found.histograms[Bars(13)]
            if finite.size:
                low, high = float(finite.min()), float(finite.max())
                if low == high:
                    low, high = min(low - 0.5, np.nextafter(low, -np.inf)), max(high + 0.5, np.nextafter(high, np.inf))
                edges = np.linspace(low, high, 14)
                with np.errstate(invalid="ignore"):
                    counts, _ = np.histogram(wide, bins=edges)
                assert drawn.edges == tuple(edges.tolist())
                assert drawn.counts == tuple(counts.tolist())
            else:
                assert drawn.counts == ()


@pytest.mark.parametrize("dtype", slow_but(["f4", "f8", "i8", "u1", ">f2", "?"], ">f2"))
def test_each_cell_has_the_statistics_of_its_elements(dtype: str) -> None:
    names = ("median", "p99.9", "p25")
    for seed, (shape, axes, groups) in enumerate(CUTS):
        for order in "CF":
            x = spoiled(shape, dtype, order, seed)
            source_order = ArraySource(x).order
            by = cut(axes, shape, source_order, num_groups=groups)
            rows = of_cells(x, by)
            for visit, forward in ((1 << 16, False), (40, False), (40, True)):
                found = surveyed(x, by, Wanted((*names, "argmax")), visit, forward).stats.cells
                assert found is not None
                assert [tuple(cell.place.values()) for cell in found.kept] == list(np.ndindex(*by.sizes))
                assert found.total == len(rows) == len(found.kept)
                for cell, row in zip(found.kept, rows, strict=True):
                    values = row[np.isfinite(row)].astype(np.float64)
                    assert cell.stats.size == row.size
                    for name in names:
                        assert cell.stats.value(name) == percentile(values, PERCENTILES.get(name, 0)), (
                            shape,
                            axes,
                            name,
                        )
                    if values.size:
                        assert cell.stats.value("max") == values.max()
                        assert x[cell.stats.value("argmax")] == values.max()  # type: ignore[index]
                        assert cell.stats.value("mean") == pytest.approx(values.mean(), rel=1e-13, abs=1e-9)


def test_cells_come_as_they_are_complete_and_only_the_first_are_kept() -> None:
    x = np.arange(4000.0).reshape(40, 100)
    batches: list[list[Cell]] = []
    headers: list[TensorStats] = []

    def take(header: TensorStats, cells: list[Cell]) -> None:
        headers.append(header)
        batches.append(cells)

    found = surveyed(x, cut("0", x.shape, "C"), Wanted(), 400, keep=3, on_cells=take).stats
    assert len(batches) == 10
    assert [cell.place["0"] for batch in batches for cell in batch] == list(range(40))
    assert found.cells is not None
    assert (len(found.cells.kept), found.cells.total) == (3, 40)
    assert found.value("mean") == 1999.5
    assert headers[0].name == ""


@pytest.mark.parametrize(
    ("shape", "axes", "order"), [((5, 6, 7), "2", "C"), ((5, 6, 7), "0,2", "F"), ((4, 6, 5), "group", "F")]
)
def test_more_open_cells_than_are_held_are_walked_in_ranges(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axes: str, order: Any
) -> None:
    x = spoiled(shape, "f4", order)
    by = cut(axes, shape, ArraySource(x).order, "NCL", num_groups=3 if axes == "group" else None)
    wanted = Wanted(("mean", "median", "argmin", "first_nan"))
    whole = surveyed(x, by, wanted, 1 << 16).stats.cells
    monkeypatch.setattr("gncli.run.plan.MAX_OPEN_CELLS", 4)
    parts = surveyed(x, by, wanted, 1 << 16).stats.cells
    assert whole is not None
    assert parts is not None
    assert [cell.place for cell in parts.kept] == [cell.place for cell in whole.kept]
    for a, b in zip(parts.kept, whole.kept, strict=True):
        for name, value in b.stats.values.items():
            near = value if isinstance(value, tuple) or value is None else pytest.approx(value)
            assert a.stats.values[name] == near, (a.place, name)
    with pytest.raises(
        LimitError, match=r"open at once in this storage order, more than 4; a file can be read in parts"
    ):
        surveyed(x, by, wanted, 1 << 16, forward=True)


def test_percentiles_that_would_take_too_many_passes_say_how_many() -> None:
    x = np.zeros((64, 600), np.float32)
    by = cut("1", x.shape, "C")
    with pytest.raises(LimitError, match=r"of 600 open cells would take 38 passes, more than 16"):
        surveyed(x, by, Wanted(("median",)), 64)


def test_headers_alone_are_not_read() -> None:
    class Unread(ArraySource):
        def read_into(self, out: NDArray[Any], start: int) -> None:
            raise AssertionError

    source = Unread(np.zeros((3, 4)))
    with Engine(1) as engine:
        assert survey(source, engine, Wanted(("shape", "size"))).moments is None
        found = survey(source, engine, Wanted(("size",)), cut("0", (3, 4), "C"), 10)
    assert found.stats.cells is not None
    assert [cell.stats.size for cell in found.stats.cells.kept] == [4, 4, 4]


def test_edges_that_float64_can_hardly_tell_apart_are_searched_for() -> None:
    for values in ([1e17, 1e17 + 16, 1e17 + 32], [-1.7e308, 0.0, 1.7e308], [5e-324, 0.0, 1e-323], [1e17]):
        x = np.array(values)
        found = surveyed(x, None, Wanted(bars=Bars.of(64)), 1 << 16).histograms[Bars(64)]
        assert sum(found.counts) == x.size
        if x.max() < 1e300 and x.max() > x.min():
            counts, _ = np.histogram(x, bins=np.linspace(x.min(), x.max(), 65))
            assert found.counts == tuple(counts.tolist())


@pytest.mark.parametrize("by", [None, "0"])
@pytest.mark.parametrize("visit", [1 << 16, 2])
def test_percentiles_of_finite_values_are_finite(by: str | None, visit: int) -> None:
    x = np.array([[-1.7e308, 1.7e308, 1.6e308, np.nan]])
    cells = None if by is None else cut(by, x.shape, "C")
    stats = surveyed(x, cells, Wanted(("p0", "p25", "median", "p100")), visit).stats
    if cells is not None:
        assert stats.cells is not None
        stats = stats.cells.kept[0].stats
    shown = [stats.value(name) for name in ("p0", "p25", "median", "p100")]
    assert shown == [-1.7e308, pytest.approx(-5e306), 1.6e308, 1.7e308]


def test_a_tensor_that_is_drawn_into_a_stream_is_written_once_though_it_is_drawn_again(tmp_path: Path) -> None:
    arguments = ["random", "300,100", "--seed", "1", "-s", "median", "--tile", "1K"]
    out = subprocess.run([sys.executable, "-m", "gncli", *arguments, "-o", "-"], capture_output=True, check=True).stdout
    np.testing.assert_array_equal(np.load(io.BytesIO(out)), np.random.default_rng(1).random((300, 100)))


def test_the_whole_is_pooled_from_its_cells_in_the_order_of_storage() -> None:
    x = np.asfortranarray(np.random.default_rng(0).standard_normal((3, 8, 20, 21)))
    by = cut("0,1", x.shape, "F")
    with Engine(1) as engine:
        found = survey(ArraySource(x), engine, Wanted(("kurtosis",)), by).moments
        cells = measure(ArraySource(x), by.partition(), engine, "kurtosis")
    assert found is not None
    assert_same_moments(found, fold_cells(cells, merge).settled())


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("by", ["0", "1", "0,1", "0,2", "0,3", "1,3", "0,2,3", "0,1,2,3"])
def test_the_whole_does_not_depend_on_the_pieces_that_are_read(
    by: str, boxed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on the spans of a visit, nor on those of a box, where cells are measured box by box."""
    monkeypatch.setattr("gncli.run.plan.MAX_OPEN_CELLS", 20 if boxed else 1 << 20)
    x = drawn((6, 7, 5, 3), "f4", offset=3)
    found = [
        surveyed(x, cut(by, x.shape, "C"), Wanted(("skewness",)), visit).moments for visit in (8, 64, 300, 1 << 16)
    ]
    assert found[0] is not None
    for other in found[1:]:
        assert other is not None
        assert_same_moments(other, found[0])
