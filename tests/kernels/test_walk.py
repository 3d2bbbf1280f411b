"""Walks: blocks, tiles and visits cover everything once, in order, and only blocks follow from the tensor alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gncli.kernels.partition import Axis, Partition, whole
from gncli.kernels.walk import BLOCK_LIMIT, COLUMN_BLOCK, ROW_BLOCK, VISIT_BLOCKS, WIDE, Region, Walk, boxes
from tests.marks import examples

# sizes of cell and reduced axes in turn: outer axes, leaf, rows of a block, columns
WALKS = [
    ((6, 70), (6,), 70, 70, ()),  # rows
    ((6, 8192), (6,), 8192, 8192, ()),
    ((6, 8193), (6,), 8193, 2731, ()),  # blocks are even where there is a divisor
    ((6, 8209), (6,), 8209, 4105, ()),  # and nearly so where there is none
    ((6,), (6,), 1, 1, ()),  # a cell an element
    ((1,), (1,), 1, 1, ()),
    ((2, 5, 3, 2), (2,), 5, 5, (3, 2)),  # few rows: the longest reduced axis
    ((2, 5, 3, 5), (2, 5, 3), 5, 5, ()),  # and the innermost of equals
    ((2, 70, 3, 64), (2, 70, 3), 64, 64, ()),  # rows that are long enough are summed along memory
    ((2, 64, 3, 63), (2,), 32, 32, (2, 3, 63)),  # others across it; a few narrow rows are one wide one
    ((8, 12544, 4, 4), (8,), 196, 196, (64, 4, 4)),
    ((1, 997, 8), (1,), 997, 250, (8,)),  # a prime cannot be folded
    ((1, 100, 2000), (1,), 100, 100, (2000,)),  # wide enough as it is
    ((1, 300, 1000000), (1,), 300, 1, (1000000,)),  # blocks of wide rows are short
]
# Leaves whose last block is shorter
RAGGED = [[3, 8209], [5, 16_411], [4, 521, 3], [2, 3, 2, 997, 2]]
SIZES = st.lists(st.sampled_from((1, 2, 3, 5, 8, 63, 64, 70, 130)), min_size=1, max_size=6).filter(
    lambda sizes: math.prod(sizes) <= 200_000
)


def partition_of(sizes: Sequence[int]) -> Partition:
    """Return the partition of axes that alternate, the first a cell axis."""
    return Partition(tuple(Axis(place % 2 == 0, size) for place, size in enumerate(sizes)))


def sizes_of(axes: Sequence[Axis]) -> tuple[int, ...]:
    return tuple(axis.size for axis in axes)


@pytest.mark.parametrize(("sizes", "outer", "length", "block", "columns"), WALKS)
def test_the_leaf_is_the_axis_that_numpy_sums_best(
    sizes: tuple[int, ...], outer: tuple[int, ...], length: int, block: int, columns: tuple[int, ...]
) -> None:
    walk = Walk.of(partition_of(sizes))
    assert (sizes_of(walk.outer), walk.length, walk.block, sizes_of(walk.columns)) == (outer, length, block, columns)
    assert math.prod(outer) * length * walk.width == math.prod(sizes)
    assert walk.block * walk.width <= BLOCK_LIMIT or walk.block == 1
    assert walk.block <= (COLUMN_BLOCK if columns else ROW_BLOCK)


def test_a_span_reaches_from_the_first_to_the_last_element_of_a_cell() -> None:
    walk = Walk.of(partition_of((2, 5, 3, 70)))
    assert (walk.span, walk.span_cells) == (1050, 3)
    walk = Walk.of(partition_of((2, 70, 3, 5)))
    assert (walk.span, walk.span_cells) == (1050, 3)
    walk = Walk.of(partition_of((6, 70)))
    assert (walk.span, walk.span_cells) == (70, 1)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=examples(150))
@given(SIZES, st.sampled_from((1, 7, 64, 1000, 10_000, 1 << 30)))
def test_visits_are_aligned_runs_in_storage_order(sizes: list[int], visit: int) -> None:
    walk = Walk.of(partition_of(sizes))
    regions = list(walk.regions(visit))
    assert [region.start for region in regions] == [0, *(region.stop for region in regions[:-1])]
    assert regions[-1].stop == math.prod(sizes)
    for region in regions:
        step = max(1 << (region.last - region.first - 1).bit_length(), 1)
        last_of_axis = region.last == walk.units[region.axis].size
        assert region.first % step == 0
        assert last_of_axis or step == region.last - region.first
        assert region.stop - region.start <= max(visit, walk.block * walk.width)
        assert math.prod(sizes_of(walk.dims(region))) <= max(VISIT_BLOCKS, walk.width * walk.blocks)
        assert math.prod(walk.view(region)) == region.stop - region.start


@settings(derandomize=True, deadline=None, max_examples=examples(100))
@given(SIZES, st.sampled_from((1, 100, 5000)))
def test_a_span_has_the_visits_that_it_has_in_a_walk_over_everything(sizes: list[int], visit: int) -> None:
    walk = Walk.of(partition_of(sizes))
    if walk.cut(visit) == 0:
        return
    apart: list[Region] = []
    for span in range(walk.units[0].size):
        apart.extend(walk.regions(visit, range(span, span + 1)))
    assert apart == list(walk.regions(visit))


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=examples(150))
@given(
    SIZES | st.sampled_from(RAGGED),
    st.sampled_from((1, 64, 1000, 1 << 30)),
    st.sampled_from((1, 7, 300, 2000, 1 << 30)),
)
def test_tiles_cover_each_block_of_a_visit_once(sizes: list[int], visit: int, tile: int) -> None:
    walk = Walk.of(partition_of(sizes))
    for region in list(walk.regions(visit))[:5]:
        num_x, length, width = walk.view(region)
        seen = np.zeros((num_x, -(-length // walk.block), width), int)
        for part in walk.tiles(region, tile):
            seen[part.x, part.blocks, part.q] += 1
            assert [min(walk.block, length - b * walk.block) for b in range(part.blocks.start, part.blocks.stop)] == [
                part.length
            ] * (part.blocks.stop - part.blocks.start)
            count = (part.x.stop - part.x.start) * (part.blocks.stop - part.blocks.start)
            assert count == 1 or count * part.length * (part.q.stop - part.q.start) <= tile
            assert part.q.stop - part.q.start <= max(width if walk.block * width <= tile else 0, WIDE, tile)
        assert (seen == 1).all()


def test_visits_of_tiny_cells_hold_a_bounded_number_of_moments() -> None:
    walk = Walk.of(partition_of((1 << 18, 2)))
    assert max(region.last - region.first for region in walk.regions(1 << 30)) == VISIT_BLOCKS


def test_a_block_is_never_cut_however_small_a_visit_is() -> None:
    walk = Walk.of(partition_of((1, 300, 5000)))
    assert [region.stop - region.start for region in walk.regions(1)] == [walk.block * walk.width] * walk.blocks


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4), (2, 1, 3, 2)])
def test_boxes_make_up_a_run(shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    elements = np.arange(size).reshape(shape)
    for start in range(size + 1):
        for stop in range(start, size + 1):
            found = [elements[box].reshape(-1) for box in boxes(shape, start, stop)]
            assert len(found) <= max(1, 2 * len(shape) - 1)
            np.testing.assert_array_equal(np.concatenate([np.empty(0, int), *found]), np.arange(start, stop))


def test_a_leaf_of_10_tb_without_a_divisor_that_fits_is_cut_at_once() -> None:
    length = 2_500_000_000_009  # a search through all numbers of blocks would be felt here
    walk = Walk.of(whole((length,)))
    assert (walk.length, walk.block, walk.blocks) == (length, ROW_BLOCK, -(-length // ROW_BLOCK))
