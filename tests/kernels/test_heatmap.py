"""Planes: the numbers of cells in place, whichever order they come in and however many share a field."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gncli.kernels.heatmap import MOST, Plane, in_storage
from gncli.kernels.layout import Layout
from gncli.kernels.partition import by_axes, by_group


def test_cells_come_in_any_order_and_in_parts() -> None:
    values = np.random.default_rng(0).normal(size=(5, 7))
    index = np.stack(np.unravel_index(np.arange(35), (5, 7)), axis=1)
    order = np.random.default_rng(1).permutation(35)
    plane = Plane(("N", "C"), (5, 7))
    for part in np.array_split(order, 4):
        plane.add(index[part], values.reshape(-1)[part])
    found = plane.heatmap()
    assert (found.names, found.sizes, found.merged) == (("N", "C"), (5, 7), (1, 1))
    for rows in (found.least, found.mean, found.largest):
        np.testing.assert_array_equal(rows, values)


def test_each_cell_that_shares_a_field_counts() -> None:
    """A field had the mean of its cells: one channel that is dead, or NaN, was lost among its neighbours."""
    sizes = (3, 2 * MOST + 5)
    values = np.random.default_rng(0).normal(size=sizes)
    values[1, 4] = values[0, 3:6] = np.nan
    values[2, 7], values[2, 9:12] = np.inf, -np.inf
    values[1, 100] = values[0, 200] = 0.0
    values[2, 300] = values[2, 302] = 9.0
    values[0, 400] = values[1, 1] = -9.0
    index = np.stack(np.unravel_index(np.arange(values.size), sizes), axis=1)
    plane = Plane(("N", "C"), sizes)
    for part in np.array_split(np.random.default_rng(1).permutation(values.size), 3):
        plane.add(index[part], values.reshape(-1)[part])
    found = plane.heatmap()
    assert (found.sizes, found.merged, len(found.mean[0])) == (sizes, (1, 3), -(-sizes[1] // 3))
    assert (found.zeros, found.nans, found.infinities) == (2, 4, 4)
    assert found.extremes == ((-9.0, (0, 400)), (9.0, (2, 300)))
    for down, numbers in enumerate(values):
        for at in range(len(found.mean[0])):
            shared = numbers[3 * at : 3 * at + 3]
            known = shared[np.isfinite(shared)]
            wanted = [known.min(), known.mean(), known.max()] if known.size else [math.nan] * 3
            fields = [rows[down][at] for rows in (found.least, found.mean, found.largest)]
            assert fields == pytest.approx(wanted, rel=1e-14, nan_ok=True)
            assert found.nan[down][at] == np.isnan(shared).any()
            assert found.infinite[down][at] == np.isinf(shared).any()


def test_there_are_no_extremes_where_nothing_is_finite_and_zero_has_no_sign() -> None:
    plane = Plane(("C",), (3,))
    plane.add(np.array([[0]]), np.array([np.nan]))
    assert plane.heatmap().extremes is None
    plane.add(np.array([[2], [1]]), np.array([-0.0, 0.0]))
    found = plane.heatmap().extremes
    assert repr(found) == "(Extreme(value=0.0, place=(1,)), Extreme(value=0.0, place=(1,)))"


def test_the_mean_of_what_is_near_the_end_of_float64_is_finite() -> None:
    plane = Plane(("0",), (2 * MOST,))
    plane.add(np.arange(2 * MOST)[:, None], np.full(2 * MOST, 1.7e308))
    assert set(plane.heatmap().mean[0]) == {1.7e308}


@pytest.mark.parametrize(
    ("names", "sizes", "shown", "lengths"),
    [
        (("C",), (7,), ("", "C"), (1, 7)),
        (("N", "C", "H"), (2, 3, 4), ("N", "C x H"), (2, 12)),
        (("N", "G"), (0, 4), ("N", "G"), (0, 4)),
        (("N", "G"), (4, 0), ("N", "G"), (4, 0)),
    ],
)
def test_one_axis_lies_and_further_ones_lie_behind_each_other(
    names: tuple[str, ...], sizes: tuple[int, ...], shown: tuple[str, str], lengths: tuple[int, int]
) -> None:
    found = Plane(names, sizes).heatmap()
    assert (found.names, found.sizes, found.merged) == (shown, lengths, (1, 1))
    assert np.shape(found.mean)[0] == lengths[0]
    assert all(len(row) == lengths[1] for row in found.mean)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_cell_in_storage_order_is_found_in_the_order_of_the_report(order: str) -> None:
    for partition in (
        by_axes((2, 3, 4), order, [2, 0]),
        by_group((3, 8, 5), order, Layout.of("NCL", (3, 8, 5)), 4),
        by_group((8, 3, 5), order, Layout.of("CNL", (8, 3, 5)), 2),
    ):
        places = partition.arrange(np.arange(partition.num_cells))
        half = partition.num_cells // 2
        index = np.concatenate([in_storage(partition, first, half) for first in (0, half)])
        np.testing.assert_array_equal(places[tuple(index.T)], np.arange(partition.num_cells))
