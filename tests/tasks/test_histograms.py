"""Histograms of absolute values, before and after a norm and of differences, against counts in longhand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.report.records import Histogram
from tests.arrays import special
from tests.files import write_npy
from tests.runs import Run, diff, normalize

SCALES = [("exponent", 64), ("log", 5)]


def sizes(*tensors: NDArray[Any]) -> NDArray[np.float64]:
    """Return the absolute values of all finite elements but zeros."""
    every = np.abs(np.concatenate([x.astype(np.float64).reshape(-1) for x in tensors]))
    return np.asarray(every[np.isfinite(every) & (every > 0)])


def assert_histogram(found: Histogram | None, x: NDArray[Any], scale: str, *shared: NDArray[Any]) -> None:
    """Assert that `found` counts the elements of `x`, between edges around those of `x` and of `shared`."""
    assert found is not None
    around, finite = sizes(x, *shared), x[np.isfinite(x)]
    assert (found.scale, found.zeros) == (scale, int((finite == 0).sum()))
    assert found.edges[0] <= around.min() < found.edges[1]
    assert found.edges[-2] <= around.max() <= found.edges[-1]
    if scale == "exponent":
        assert all(low * 2 == high and np.frexp(low)[0] == 0.5 for low, high in pairwise(found.edges))
        assert found.edges[-1] > around.max()
    else:
        assert (found.edges[0], found.edges[-1]) == (around.min(), around.max())
    assert found.counts == tuple(np.histogram(sizes(x), found.edges)[0].tolist())
    assert sum(found.counts) == sizes(x).size


@pytest.mark.parametrize(("scale", "bins"), SCALES)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8"])
def test_before_and_after_have_the_same_edges(tmp_path: Path, dtype: str, scale: Any, bins: int) -> None:
    x = special(dtype, (6, 4, 50))
    x[0] = np.arange(50)
    x[1, :2] = 1  # a constant group becomes 0
    path = write_npy(tmp_path, x)
    given: dict[str, Any] = {"given": True, "mean": 0.0, "var": 1.0}
    for how in ({"num_groups": 2}, {"num_groups": 2, "gamma": 0.001, "beta": 3.0}, given):
        out = str(tmp_path / "y.npy")
        report = normalize(path, layout="NCL", bins=bins, scale=scale, output=out, force=True, **how)
        y = np.load(out)
        assert_histogram(report.before.histogram, x, scale, y)
        assert_histogram(report.after.histogram, y, scale, x)
        assert report.after.histogram is not None
        assert report.before.histogram is not None
        assert report.after.histogram.edges == report.before.histogram.edges


def test_a_picture_of_a_norm_or_difference_has_the_histogram_of_the_elements_too(tmp_path: Path) -> None:
    x = np.array([[0.0, 0.0], [-1.0, 3.0]])
    path = write_npy(tmp_path, x)
    report = normalize(path, num_groups=1, layout="NC", bins=4, picture=4, scale="exponent")
    assert report.before.picture is not None
    assert_histogram(report.before.histogram, x, "exponent", np.full(1, 0.99999))
    assert report.before.picture.histogram.counts == (1, 2, 0, 1)
    both = diff(path, write_npy(tmp_path, np.zeros((2, 2)), "b.npy"), bins=2, picture=2, page=2, scale="log")
    assert both.picture is not None
    assert_histogram(both.histogram, x, "log")
    assert (both.picture.histogram.counts, both.picture.histogram.scale) == ((1, 3), "linear")
    assert "max_abs" in both.picture.maps


@pytest.mark.parametrize(("scale", "bins"), SCALES)
@pytest.mark.parametrize("dtype", ["f2", "f8", "i8", "u1"])
def test_differences_are_counted_by_their_size(tmp_path: Path, dtype: str, scale: Any, bins: int) -> None:
    a, b = special(dtype, (9, 40)), special(dtype, (9, 40))[::-1].copy()
    b[0] = a[0]
    names = write_npy(tmp_path, a), write_npy(tmp_path, b, "b.npy")
    found = diff(*names, bins=bins, scale=scale).histogram
    with np.errstate(all="ignore"):
        apart = a.astype(np.float64) - b.astype(np.float64)
        apart[(a == b) | (np.isnan(a.astype(float)) & np.isnan(b.astype(float)))] = 0
    assert_histogram(found, apart, scale)


@pytest.mark.parametrize("scale", ["exponent", "log"])
def test_what_does_not_differ_is_not_drawn(tmp_path: Path, scale: Any) -> None:
    one, none = write_npy(tmp_path, np.array([2.0, np.nan])), write_npy(tmp_path, np.zeros((0, 2)), "none.npy")
    assert diff(one, one, bins=3, scale=scale).histogram == Histogram((), (), scale, 2)
    assert diff(none, none, bins=3, scale=scale).histogram == Histogram((), (), scale, 0)
    report = normalize(none, num_groups=2, layout="NC", bins=3, scale=scale)
    assert report.before.histogram == report.after.histogram == Histogram((), (), scale, 0)


def test_a_page_has_the_histogram_that_was_asked_for(tmp_path: Path, run: Run) -> None:
    a, b = write_npy(tmp_path, np.array([1.0, 2.0])), write_npy(tmp_path, np.array([1.5, 5.0]), "b.npy")
    page = tmp_path / "page.html"
    assert run("diff --hist exponent -q --report", str(page), a, b)[0] == 1
    text = page.read_text(encoding="utf-8")
    assert (text.count("<figure"), text.count("one bin per power of two; 0 zeros are in no bin")) == (1, 1)
