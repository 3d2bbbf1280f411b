"""Conventions: their tables are complete, statistics are pooled as they are defined, errors are counted in ULP."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gncli.kernels.conventions import (
    FAULTS,
    WORDS,
    Convention,
    Elements,
    Errors,
    Statistics,
    combined,
    errors,
    faults,
    inside,
    labels,
    merge,
    noise,
    said,
    ulp,
)
from gncli.kernels.floats import FLOATS, Float

ASKED = Convention(4, 1e-5, "NCHW")
NAMES = {"gamma": "g.npy", "beta": "b.npy", "batch": "N,H,W"}
SHAPE = (3, 12, 1, 1)
ONE = np.ones((1, 1))


def test_every_fault_has_words() -> None:
    for change in FAULTS:
        asked = ASKED._replace(denominator="variance", interleaved=True, activation="relu")
        for before in (ASKED, asked):
            words, options = said(before._replace(**change), before, NAMES)
            changed = any(value != getattr(before, field) for field, value in change.items())
            assert bool(words) is changed
            assert options is None or "{" not in options
    assert {words for words, _ in WORDS.values()} >= {"gamma and beta swapped", "N - 1 for N in the variance"}


@pytest.mark.parametrize(
    ("changes", "words", "options"),
    [
        ({}, "", ""),
        ({"groups": 1}, "1 group", "--groups 1"),
        ({"eps": 0.0, "layout": "NHWC"}, "eps 0, layout NHWC", "--eps 0 --layout NHWC"),
        ({"gamma": "beta", "beta": "gamma"}, "gamma and beta swapped", "--gamma b.npy --beta g.npy"),
        ({"over": "batch", "gamma": "1"}, "the statistics of the batch, no gamma", "--over N,H,W --gamma 1"),
        ({"ddof": 1, "eps": 1e-3}, "eps 0.001, N - 1 for N in the variance", None),
    ],
)
def test_a_convention_is_said_in_words_and_options(changes: dict[str, Any], words: str, options: str | None) -> None:
    assert said(ASKED._replace(**changes), ASKED, NAMES) == (words, options)


def test_faults_that_change_nothing_are_left_out() -> None:
    ones, zeros = np.ones(12), np.zeros(12)
    plain = faults(ASKED, (3, 12, 5, 5), ones, zeros)
    assert {"gamma": "1"} not in plain and {"beta": "0"} not in plain and {"rounded": True} not in plain
    assert {"over": "batch"} in plain and {"over": "position"} in plain and {"interleaved": True} in plain
    assert {"eps": 1e-5} not in plain and {"groups": 4} not in plain and {"groups": 6} in plain
    assert {"layout": "NHWC"} in plain and {"layout": "NCHW"} not in plain
    affine = faults(ASKED, (3, 12, 5, 5), 2 * ones, ones)
    assert {"gamma": "1"} in affine and {"beta": "0"} in affine and {"rounded": True} in affine
    one = faults(ASKED._replace(groups=1, layout="CHW"), (12, 5, 5), ones, zeros)
    assert {"over": "batch"} not in one and {"interleaved": True} not in one
    assert {"over": "position"} not in faults(ASKED._replace(layout="NC"), (3, 12), ones, zeros)


def test_pairs_do_not_contradict_each_other() -> None:
    changes = faults(ASKED, (3, 12, 5, 5), np.full(12, 2.0), np.ones(12))
    two = combined(ASKED, changes, 2)
    assert len(two) == len(set(two)) > 200
    assert {one.faults(ASKED) for one in two} == {2}
    assert not [one for one in two if one.over != "group" and (one.groups, one.interleaved) != (4, False)]


@pytest.mark.parametrize("changes", [{}, {"groups": 1}, {"groups": 12}, {"interleaved": True}, {"over": "batch"}])
def test_statistics_are_pooled_as_they_are_defined(changes: dict[str, Any]) -> None:
    x = np.random.default_rng(0).normal(size=(3, 12, 5, 6)) * 2 + 100
    convention = ASKED._replace(**changes)
    finest = Statistics(x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True) * 30, np.full(SHAPE, 30.0))
    found = finest.pooled(labels(convention, SHAPE))
    groups = convention.groups
    for n, c in itertools.product(range(3), range(12)):
        cell = x[n, [k for k in range(12) if k // (12 // groups) == c // (12 // groups)]]
        if convention.interleaved:
            cell = x[n, c % groups :: groups]
        if convention.over == "batch":
            cell = x[:, c]
        assert found.size[n, c] == cell.size
        assert found.mean[n, c] == pytest.approx(cell.mean(), rel=1e-14)
        assert found.var[n, c] == pytest.approx(cell.var(), rel=1e-12)


def test_cells_lie_inside_of_others() -> None:
    two, one, all_ = (ASKED._replace(groups=groups) for groups in (6, 2, 12))
    assert inside(two, one, SHAPE) and not inside(one, two, SHAPE)
    assert inside(all_, ASKED._replace(interleaved=True), SHAPE)
    assert not inside(ASKED, ASKED._replace(interleaved=True), SHAPE)
    assert inside(all_, ASKED._replace(over="batch"), SHAPE) and not inside(ASKED._replace(over="batch"), all_, SHAPE)


@pytest.mark.parametrize("kind", FLOATS.values(), ids=FLOATS)
def test_an_ulp_is_the_distance_to_the_next_number(kind: Float) -> None:
    if not kind.foreign:
        numbers = np.array([1.0, 1.5, 0.0, kind.least, kind.least / 2], kind.dtype)
        assert ulp(kind, numbers.astype(np.float64)).tolist() == np.spacing(numbers).astype(np.float64).tolist()
    assert ulp(kind, np.ones(1)) == 2.0**-kind.mantissa
    assert noise(kind) == 16 * (2.0**-53 if kind.name == "float64" else 2.0**-24)


def found(y: float, mean: float = 0.0, kind: str = "float16", **convention: Any) -> Errors:
    """Return the errors of one element whose input is 1.5, in a cell of variance 1."""
    one = np.ones(1)
    elements = Elements(1.5 * one, y * one, one, 0 * one, 0 * one, 0 * one, mean * one, 4 * one, 4 * one, one, 0 * one)
    return errors(elements, ASKED._replace(eps=0.0, **convention), FLOATS[kind], None)


def test_errors_are_counted_in_the_last_place() -> None:
    unit = 2.0**-10
    assert [float(found(1.5 + places * unit).beyond[0]) for places in (-2, -1, 0, 1, 2)] == [1, 0, 0, 0, 1]
    far = found(1.5 + 2 * unit)
    assert far.worst == 2 * unit and far.ulp == 2 and far.square == 4 * unit * unit and far.unmatched == 0
    assert far.excess == pytest.approx(2, abs=0.01) and far.excess < 2


def test_nan_and_infinities_must_be_where_they_belong() -> None:
    assert found(np.nan).unmatched == found(np.inf).unmatched == found(1.5, np.nan).unmatched == 1
    assert found(np.nan, np.nan).beyond == 0
    assert found(np.inf, -1e6).beyond == 0 and found(-np.inf, -1e6).beyond == 1
    assert found(65504, -1e6).beyond == 0
    assert found(np.nan, -1e6, "float8_e4m3fn").beyond == 0 and found(np.nan, -1e6).beyond == 1


def test_errors_of_two_sets_are_those_of_their_union() -> None:
    both = merge(found(1.5), merge(Errors.nothing(1), found(1.75)))
    assert both.n == 2 and both.beyond == 1 and both.worst == 0.25 and both.square == 0.0625
