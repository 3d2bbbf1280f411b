"""`gncli.report.records`: values, sizes and statuses."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from gncli.inputs import Draw
from gncli.names import STATISTICS
from gncli.report import render
from gncli.report.records import TensorStats
from tests.report.samples import (
    BAD,
    CHECK,
    DIFFERING,
    DIFFERS,
    KEPT,
    NORMALIZED,
    ONE,
    SEVERAL,
    SHAPES,
    TOTAL,
    VALUES,
    X,
)


@pytest.mark.parametrize(
    ("dtype", "nbytes"),
    [
        ("bool", 6),
        ("int8", 6),
        ("float16", 12),
        ("uint32", 24),
        ("float64", 48),
        ("bfloat16", 12),
        ("float8_e4m3fn", 6),
    ],
)
def test_the_bytes_of_a_tensor(dtype: str, nbytes: int) -> None:
    assert TensorStats((2, 3), dtype, {}).nbytes == nbytes


def test_an_array_prints_the_lines_of_the_article() -> None:
    assert f"{X}\n" == render(ONE, "plain")


def test_a_value_is_plain_python() -> None:
    class Scalar(float):
        """A stand-in for a NumPy scalar, whose repr is not that of a float."""

        def __repr__(self) -> str:
            return "np.float64(0.5)"

    assert repr(replace(X, values={"mean": Scalar(0.5)}).value("mean")) == "0.5"


def test_every_statistic_has_a_value() -> None:
    stats = replace(X, values={**dict.fromkeys(STATISTICS, 0), **VALUES}, axis_names=("a", "b"))
    assert [stats.value(name) is not None for name in STATISTICS] == [True] * len(STATISTICS)


def test_the_status_is_the_highest_of_the_failures() -> None:
    assert (ONE.status, SEVERAL.status) == (0, 3)


def test_a_draw_names_itself_as_it_was_asked_for() -> None:
    assert str(Draw((64, 16))) == "--random 64,16"


def test_a_total_has_a_size_and_no_shape() -> None:
    total = TOTAL.total
    assert total is not None
    assert [total.value(name) for name in ("shape", "dtype", "object_type", "dimensions")] == [None] * 4
    assert (total.value("size"), total.value("nbytes"), total.has("dimensions"), total.has("l1")) == (
        128,
        384,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("changed", "equal"),
    [
        ({}, False),
        ({"outside": 0}, True),
        ({"max_fraction": 3 / 64}, True),
        ({"max_fraction": 2.9 / 64}, False),
        ({"outside": 0, "size": 0}, True),
    ],
)
def test_a_verdict_follows_from_the_numbers(changed: dict[str, Any], equal: bool) -> None:
    assert DIFFERS.tolerance is not None
    report = replace(DIFFERS, gates=(replace(DIFFERS.tolerance, **changed),))
    assert (report.equal, report.status) == (equal, int(not equal))
    assert not SHAPES.equal


@pytest.mark.parametrize(
    "record", [X, ONE, NORMALIZED, NORMALIZED.parameters, CHECK, KEPT[0], DIFFERS, DIFFERING[0], BAD]
)
def test_a_record_is_no_tuple_and_cannot_be_changed(record: Any) -> None:
    assert not isinstance(record, tuple)
    with pytest.raises(FrozenInstanceError):
        setattr(record, next(iter(vars(record))), None)
