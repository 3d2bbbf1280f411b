"""Partitions: every layout, in either memory order, as a short alternation of cell and reduced axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli.kernels.layout import Layout
from gncli.kernels.partition import Axis, Part, Partition, by_group, canonical, whole
from tests.marks import examples

# layout, order, shape, groups: cell and reduced axes in turn, the first a cell axis
CANONICAL = [
    ("NCHW", "C", (2, 6, 5, 7), 3, (6, 70)),
    ("NHWC", "C", (2, 5, 7, 6), 3, (2, 35, 3, 2)),
    ("CHW", "C", (6, 5, 7), 3, (3, 70)),
    ("HWC", "C", (5, 7, 6), 3, (1, 35, 3, 2)),
    ("CNHW", "C", (6, 2, 5, 7), 3, (3, 2, 2, 35)),
    ("NCHW", "F", (2, 6, 5, 7), 3, (1, 35, 3, 2, 2)),
    ("WHCN", "C", (7, 5, 6, 2), 3, (1, 35, 3, 2, 2)),
    ("NHWC", "F", (2, 5, 7, 6), 3, (3, 70, 2)),
    ("NC", "C", (2, 6), 1, (2, 6)),
    ("NC", "C", (2, 6), 6, (12,)),
    ("NC", "F", (2, 6), 6, (12,)),
    ("NHCW", "C", (2, 5, 6, 7), 3, (2, 5, 3, 14)),
    ("C", "C", (6,), 3, (3, 2)),
    ("NCHW", "C", (1, 6, 1, 7), 6, (6, 7)),
    ("NCHW", "C", (1, 1, 1, 1), 1, (1,)),
]
LAYOUTS = ("NCHW", "NHWC", "CHW", "HWC", "CNHW", "NHCW", "WHCN", "NC", "CN", "C", "NLC", "HCW", "NCDHW", "DCHNW")


def spelt(partition: Partition) -> tuple[int, ...]:
    """Return the sizes of axes that alternate, the first a cell axis."""
    assert [axis.cell for axis in partition.axes] == [place % 2 == 0 for place in range(len(partition.axes))]
    return tuple(axis.size for axis in partition.axes)


def cells_of_elements(partition: Partition) -> NDArray[np.int64]:
    """Return the cell, counted in storage order, of each element in storage order."""
    kept = [axis.size if axis.cell else 1 for axis in partition.axes]
    cells = np.arange(partition.num_cells).reshape(kept)
    return np.broadcast_to(cells, [axis.size for axis in partition.axes]).reshape(-1)


@pytest.mark.parametrize(("letters", "order", "shape", "groups", "sizes"), CANONICAL)
def test_every_layout_is_a_short_alternation(
    letters: str, order: str, shape: tuple[int, ...], groups: int, sizes: tuple[int, ...]
) -> None:
    assert spelt(by_group(shape, order, Layout(letters), groups)) == sizes


@settings(derandomize=True, deadline=None, max_examples=examples(150))
@given(st.sampled_from(LAYOUTS), st.sampled_from("CF"), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.data())
def test_each_element_is_in_the_cell_of_its_sample_and_group(
    letters: str, order: Any, groups: int, group_size: int, interleaved: bool, data: st.DataObject
) -> None:
    sizes = {letter: data.draw(st.integers(1, 4)) for letter in letters} | {"C": groups * group_size}
    shape = tuple(sizes[letter] for letter in letters)
    partition = by_group(shape, order, Layout(letters), groups, interleaved=interleaved)
    samples = sizes.get("N", 1)
    index = np.indices(shape)
    n = index[letters.index("N")] if "N" in letters else np.zeros(shape, int)
    c = index[letters.index("C")]
    reported = (n * groups + (c % groups if interleaved else c // group_size)).reshape(-1, order=order)

    assert partition.size == math.prod(shape)
    assert partition.cells == (samples, groups)
    assert partition.num_cells == samples * groups
    arranged = partition.arrange(np.arange(partition.num_cells))
    assert arranged.shape == (samples, groups)
    report_of = np.empty(partition.num_cells, int)
    report_of[arranged] = np.arange(partition.num_cells).reshape(samples, groups)
    np.testing.assert_array_equal(report_of[cells_of_elements(partition)], reported)


def test_moments_are_arranged_by_sample_and_group_where_storage_has_them_the_other_way() -> None:
    partition = by_group((6, 2), "C", Layout("CN"), 3)
    assert partition.stored == (1, 0)
    np.testing.assert_array_equal(partition.arrange(np.arange(6)), [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3), (1, 1)])
def test_a_whole_tensor_is_one_cell(shape: tuple[int, ...]) -> None:
    partition = whole(shape)
    assert (partition.num_cells, partition.size, partition.cells) == (1, math.prod(shape), ())
    assert spelt(partition) == ((1,) if math.prod(shape) == 1 else (1, math.prod(shape)))


def test_neighbours_of_one_kind_are_merged_and_axes_of_size_one_are_gone() -> None:
    parts = [Part(1, None), Part(2, 0), Part(1, None), Part(3, 1), Part(4, None), Part(1, 2), Part(5, None)]
    partition = canonical(parts)
    assert partition.axes == (Axis(True, 6), Axis(False, 20))
    assert partition.cells == (2, 3, 1)


def test_an_empty_axis_is_kept() -> None:
    assert whole((2, 0, 3)).size == 0
    assert by_group((0, 4), "C", Layout("NC"), 2).num_cells == 0
