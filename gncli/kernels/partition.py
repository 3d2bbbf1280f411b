"""Partitions: which elements share a statistic, in a canonical form of *cell* axes and *reduced* axes.

A statistic is taken over the reduced axes, once per cell. In storage order, with the channels split into
(G, K) and neighbours of the same kind merged, any tensor in any layout is a short alternation of the two kinds.
All other code sees only that alternation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from gncli.kernels.layout import Layout


class Axis(NamedTuple):
    """A run of neighbouring axes of one kind, merged."""

    cell: bool
    size: int


@dataclass(frozen=True)
class Partition:
    """The cells that the elements of a tensor belong to.

    Attributes
    ----------
    axes : tuple of Axis
        The axes in storage order, alternating between cell and reduced. The first is a cell axis, of size 1 if
        necessary; all other axes of size 1 are left out.
    cells : tuple of int
        The sizes of the cell axes before merging, in the order a report shows them: (N, G).
    stored : tuple of int
        For each axis of `cells`, its position among the cell axes in storage order.
    """

    axes: tuple[Axis, ...]
    cells: tuple[int, ...] = ()
    stored: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """The number of elements of the tensor."""
        return math.prod(axis.size for axis in self.axes)

    @property
    def num_cells(self) -> int:
        """The number of cells."""
        return math.prod(axis.size for axis in self.axes if axis.cell)

    @property
    def in_order(self) -> bool:
        """Whether the cells lie in storage in the order of the report."""
        return self.stored == tuple(range(len(self.stored)))

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return `values`, one per cell in storage order, in the shape of the report.

        Parameters
        ----------
        values : ndarray, shape (num_cells,)
            One value per cell.

        Returns
        -------
        ndarray, shape `cells`
            The same values.
        """
        sizes = [0] * len(self.cells)
        for size, place in zip(self.cells, self.stored, strict=True):
            sizes[place] = size
        return values.reshape(sizes).transpose(self.stored)


class Part(NamedTuple):
    """One axis, or a factor of one: its size, and its position among the reported cell axes (None if it is reduced)."""

    size: int
    cell: int | None


def canonical(parts: Sequence[Part]) -> Partition:
    """Return the partition of `parts`, given in storage order, in canonical form.

    Examples
    --------
    >>> canonical([Part(2, 0), Part(3, None), Part(4, None)]).axes
    (Axis(cell=True, size=2), Axis(cell=False, size=12))
    """
    merged = [Axis(True, 1)]
    for part in parts:
        is_cell = part.cell is not None
        if part.size == 1:
            continue
        if merged[-1].cell == is_cell:
            merged[-1] = Axis(is_cell, merged[-1].size * part.size)
        else:
            merged.append(Axis(is_cell, part.size))
    shown = [(part.cell, part.size) for part in parts if part.cell is not None]
    order = sorted(range(len(shown)), key=lambda place: shown[place][0])
    return Partition(tuple(merged), tuple(shown[place][1] for place in order), tuple(order))


def whole(shape: tuple[int, ...]) -> Partition:
    """Return the partition with one cell, which holds all elements."""
    return canonical([Part(size, None) for size in shape])


def by_axes(shape: tuple[int, ...], order: str, axes: Sequence[int]) -> Partition:
    """Return the partition with one cell per index of `axes`, reported in their order.

    Parameters
    ----------
    shape : tuple of int
        The shape of the tensor, as NumPy shows it.
    order : {"C", "F"}
        "F" where the first axis runs fastest in storage.
    axes : sequence of int
        The cell axes, without repetition.

    Examples
    --------
    >>> by_axes((2, 3, 4), "C", [1]).axes
    (Axis(cell=True, size=1), Axis(cell=False, size=2), Axis(cell=True, size=3), Axis(cell=False, size=4))
    """
    places = {axis: place for place, axis in enumerate(axes)}
    stored = range(len(shape)) if order == "C" else reversed(range(len(shape)))
    return canonical([Part(shape[axis], places.get(axis)) for axis in stored])


def by_group(
    shape: tuple[int, ...], order: str, layout: Layout, num_groups: int, *, interleaved: bool = False
) -> Partition:
    """Return the partition with one cell per (sample, group), reported as (N, G). Without a batch axis N is 1.

    Parameters
    ----------
    shape : tuple of int
        The shape of the tensor, as NumPy shows it.
    order : {"C", "F"}
        "F" where the first axis runs fastest in storage.
    layout : Layout
        The layout, with one letter per axis of `shape`.
    num_groups : int
        G, a divisor of the number of channels.
    interleaved : bool
        Whether channel c is in group c % G. Otherwise groups are contiguous blocks of C/G channels (Wu & He 2018,
        eq. 7).

    Examples
    --------
    >>> by_group((2, 6, 5), "C", Layout("NCL"), 3, interleaved=True).axes
    (Axis(cell=True, size=2), Axis(cell=False, size=2), Axis(cell=True, size=3), Axis(cell=False, size=5))
    """

    def parts_of(axis: int) -> list[Part]:
        size = shape[axis]
        if axis == layout.channel:
            split = [Part(num_groups, 1), Part(size // num_groups, None)]
            return split[::-1] if interleaved else split
        return [Part(size, 0 if axis == layout.batch else None)]

    axes = range(len(shape)) if order == "C" else reversed(range(len(shape)))
    parts = [part for axis in axes for part in parts_of(axis)]
    if layout.batch is None:
        parts.insert(0, Part(1, 0))
    return canonical(parts)
