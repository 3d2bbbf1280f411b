"""What `stats` says of files: the numbers of NumPy, and what cannot be read does not stop the rest."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.errors import ChangedError
from gncli.inputs import Draw
from gncli.io import ArraySource
from gncli.names import STATISTICS
from gncli.report.records import TensorStats
from gncli.run.engine import Engine
from gncli.run.plan import Plan
from gncli.tasks.survey import describe
from tests.arrays import images, plain
from tests.files import write_npy
from tests.runs import stats, the_one


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "u1", ">i2", "i8", "?"])
def test_statistics_are_those_of_numpy_in_float64(tmp_path: Path, dtype: str) -> None:
    x = images(dtype=dtype) if dtype != "?" else images() > 50
    found = the_one(stats([write_npy(tmp_path, x)], statistics=[name for name in STATISTICS if name != "sum"]))
    wide = x.astype(np.float64)
    assert (found.shape, found.dtype, found.size, found.nbytes) == (x.shape, x.dtype.name, x.size, x.nbytes)
    assert found.name == str(tmp_path / "x.npy")
    assert found.value("mean") == pytest.approx(wide.mean(), rel=1e-14)
    assert found.value("std") == pytest.approx(wide.std(), rel=1e-13)
    assert found.value("var") == pytest.approx(wide.var(), rel=1e-13)
    assert (found.value("min"), found.value("max")) == (x.min().item(), x.max().item())
    assert isinstance(found.value("min"), float if x.dtype.kind == "f" else int)
    assert found.value("zeros") == (x == 0).sum()
    json.dumps(found.as_dict())


def test_degrees_of_freedom_change_deviation_and_variance(tmp_path: Path) -> None:
    found = the_one(stats([write_npy(tmp_path, np.array([1.0, 2.0, 6.0]))], ddof=1))
    assert (found.value("std"), found.value("var")) == (math.sqrt(7), 7.0)
    single = the_one(stats([write_npy(tmp_path, np.array([5.0]))], ddof=1))
    assert (single.value("mean"), single.value("std"), single.value("var")) == (5.0, None, None)


def test_what_is_not_finite_is_counted_and_skipped(tmp_path: Path) -> None:
    x = np.array([math.nan, 1.0, math.inf, 3.0, -math.inf, math.inf])
    found = the_one(stats([write_npy(tmp_path, x)]))
    assert [found.value(name) for name in ("nan", "posinf", "neginf")] == [1, 2, 1]
    assert [found.value(name) for name in ("mean", "std", "min", "max")] == [2.0, 1.0, 1.0, 3.0]


@pytest.mark.parametrize("x", [np.empty((0, 3)), np.empty(0, np.int64), np.full(4, math.nan), np.full(2, math.inf)])
def test_statistics_of_nothing_are_undefined(tmp_path: Path, x: NDArray[Any]) -> None:
    found = the_one(stats([write_npy(tmp_path, x)]))
    assert [found.value(name) for name in ("mean", "std", "var", "min", "max")] == [None] * 5


def test_a_variance_that_leaves_float64_is_undefined_and_its_root_is_not(tmp_path: Path) -> None:
    found = the_one(stats([write_npy(tmp_path, np.array([1e300, 3e300]))]))
    assert plain(found.value("mean"), found.value("std"), found.value("var")) == (2e300, pytest.approx(1e300), None)


def test_zeros_are_counted_only_where_they_are_asked_for(tmp_path: Path) -> None:
    path = write_npy(tmp_path, np.array([0.0, -0.0, 1.0]))
    assert not the_one(stats([path])).has("zeros")
    assert the_one(stats([path], statistics=["zeros"])).value("zeros") == 2


def test_a_description_reads_no_data(tmp_path: Path) -> None:
    class Unreadable(ArraySource):
        def lent(self, start: int, stop: int) -> NDArray[Any]:
            raise AssertionError

    with Engine(1) as engine:
        found = describe(Unreadable(np.ones((2, 3), np.float16)), engine, ("shape", "dtype", "size", "nbytes"))
        assert [found.value(name) for name in ("shape", "dtype", "size", "nbytes")] == [(2, 3), "float16", 6, 12]
        with pytest.raises(AssertionError):
            describe(Unreadable(np.ones((2, 3))), engine, ("shape", "mean"))


def test_a_tensor_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    first, last = write_npy(tmp_path, np.ones(3), "a.npy"), write_npy(tmp_path, np.ones(4), "d.npy")
    cut = tmp_path / "b.npy"
    cut.write_bytes(Path(first).read_bytes()[:-1])
    report = stats([first, str(cut), str(tmp_path / "gone.npy"), last])
    assert [isinstance(found, TensorStats) for found in report.tensors] == [True, False, False, True]
    assert [failure.name for failure in report.failures] == [str(cut), str(tmp_path / "gone.npy")]
    assert report.status == 3


def test_all_numeric_tensors_of_a_container_are_described_and_others_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        file["a"], file["b/c"] = np.arange(3.0), np.arange(4)
        file["text"] = "words"
    report = stats([path])
    assert [found.name for found in report.tensors] == [f"{path}::/a", f"{path}::/b/c"]
    assert report.skipped == ((path, 1),)
    assert report.status == 0


def test_a_drawn_tensor_is_described_and_its_seed_told_where_it_was_chosen() -> None:
    report = stats([], random=Draw((50, 7), dist="normal", seed=3))
    x = np.random.default_rng(3).standard_normal((50, 7))
    assert the_one(report).value("min") == x.min()
    assert report.seed is None
    chosen = stats([], random=Draw((50,), dist="uniform"))
    assert chosen.seed is not None
    assert the_one(chosen).value("max") == np.random.default_rng(chosen.seed).random(50).max()


def test_an_input_that_changed_while_it_was_read_gives_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npy(tmp_path, images())
    reduce = Plan.reduce

    def touched(*args: Any, **kwargs: Any) -> Any:
        found = list(reduce(*args, **kwargs))
        os.utime(path, ns=(1, 1))
        return iter(found)

    monkeypatch.setattr(Plan, "reduce", touched)
    report = stats([path])
    assert isinstance(report.failures[0].error, ChangedError)
    assert report.status == 6
