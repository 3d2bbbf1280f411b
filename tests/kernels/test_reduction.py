"""Records and their folding: one law, whatever is reduced."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels.partition import Axis
from gncli.kernels.reduction import (
    concatenate,
    each,
    fold,
    fold_axes,
    fold_cells,
    in_c_order,
    join,
    repeat,
    reshape,
    shape_of,
)
from gncli.kernels.selection import RowPercentiles


class Inner(NamedTuple):
    words: NDArray[Any]


class Record(NamedTuple):
    """A record of text, which shows in what order it was merged."""

    words: NDArray[Any]
    number: NDArray[np.int64] | None = None
    inner: tuple[Inner, ...] = ()


def merge(a: Record, b: Record) -> Record:
    return Record("(" + a.words + b.words + ")")


def record(*words: str) -> Record:
    return Record(np.array(words, object))


def test_a_fold_is_the_balanced_tree_of_the_index() -> None:
    assert fold(record(*"abcde"), 0, merge).words == "(((ab)(cd))e)"
    square = reshape(record(*"abcdef"), 2, 3)
    assert fold(square, 1, merge).words.tolist() == ["((ab)c)", "((de)f)"]
    assert fold(square, 0, merge).words.tolist() == ["(ad)", "(be)", "(cf)"]
    assert fold_cells(record(*"abc"), merge).words.tolist() == ["((ab)c)"]


def test_folding_axes_keeps_the_cells_and_if_asked_the_first_axis() -> None:
    axes = (Axis(False, 2), Axis(True, 2), Axis(False, 2))
    eight = record(*"abcdefgh")
    assert fold_axes(eight, axes, merge).words.tolist() == ["(ab)", "(cd)", "(ef)", "(gh)"]
    assert fold_axes(eight, axes, merge, keep_first=False).words.tolist() == ["((ab)(ef))", "((cd)(gh))"]


def test_what_is_none_joins_others_as_zeros_and_records_within_are_joined_too() -> None:
    plain = Record(np.array(["a"], object), None, (Inner(np.array([1])),))
    counted = Record(np.array(["b"], object), np.array([7]), (Inner(np.array([2])),))
    both = concatenate([plain, counted])
    assert both.number is not None
    assert (both.words.tolist(), both.number.tolist(), both.inner[0].words.tolist()) == (["a", "b"], [0, 7], [1, 2])
    assert concatenate([plain, plain]).number is None
    assert concatenate([plain]) is plain
    assert join([plain, counted], lambda arrays: arrays[1]).words.tolist() == ["b"]
    assert each(counted, lambda array: array[:0]).inner[0].words.size == 0
    assert repeat(plain, 3).words.tolist() == ["a"] * 3


def test_the_shape_of_a_record_is_that_of_its_first_array() -> None:
    assert shape_of(record("a", "b")) == (2,)
    assert shape_of((None, Inner(np.zeros((2, 3))))) == (2, 3)
    assert shape_of(()) == ()


def test_places_of_fortran_order_are_told_in_c_order() -> None:
    places = np.arange(6)
    assert in_c_order(places, (2, 3), "F").tolist() == [0, 3, 1, 4, 2, 5]
    assert in_c_order(places, (6,), "F") is places
    assert in_c_order(places, (2, 3), "C") is places


def test_percentiles_of_whole_cells_are_not_merged() -> None:
    law = RowPercentiles([50.0])
    with pytest.raises(TypeError, match=r"RowPercentiles measures whole cells and cannot merge"):
        law.merge(law.nothing(), law.nothing())
