"""``--by`` applied to a tensor: its cell axes, their names, and ranges of cells."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gncli.errors import ParameterError
from gncli.io.part import Box
from gncli.io.source import Order
from gncli.kernels.groupnorm import Grouping, GroupNorm
from gncli.kernels.layout import axes_named
from gncli.kernels.partition import Partition, by_axes
from gncli.names import nearest
from gncli.tasks.requests import Cutting


@dataclass(frozen=True)
class By:
    """The cells that a tensor is divided into.

    Attributes
    ----------
    shape : tuple of int
        The shape of the tensor.
    order : {"C", "F"}
        The storage order of the tensor.
    axes : tuple of int
        The cell axes, in ascending order; for groups N, then C.
    names : tuple of str
        The names of the entries of a cell's index; for groups N and G, even if there is no batch axis.
    grouping : Grouping or None
        The groups, with ``--by group``; else None.
    """

    shape: tuple[int, ...]
    order: Order
    axes: tuple[int, ...]
    names: tuple[str, ...]
    grouping: Grouping | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of cells along each of `names`."""
        return self.partition().cells

    @property
    def count(self) -> int:
        """The number of cells."""
        return math.prod(self.sizes)

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """The shape of one cell: that of the tensor without its cell axes."""
        if self.grouping is None:
            return tuple(size for axis, size in enumerate(self.shape) if axis not in self.axes)
        channel, group_size = self.grouping.channel, self.grouping.group_size
        inner = [group_size if axis == channel else size for axis, size in enumerate(self.shape)]
        return tuple(size for axis, size in enumerate(inner) if axis == channel or axis not in self.axes)

    def partition(self, shape: tuple[int, ...] | None = None) -> Partition:
        """Return the partition of the tensor, or of a part that has `shape`."""
        shape = self.shape if shape is None else shape
        if self.grouping is None:
            return by_axes(shape, self.order, self.axes)
        return self.grouping.part(shape)

    def note(self, index: tuple[int, ...]) -> str:
        """Return the channels of a cell's group in words; an empty text without groups."""
        if self.grouping is None:
            return ""
        first = index[-1] * self.grouping.group_size
        last = first + self.grouping.group_size - 1
        return f"channels {first}-{last}" if first < last else f"channel {first}"

    def unit(self, axis: int) -> int:
        """Return the number of entries of a cell axis per cell: the channels of a group, else one."""
        if self.grouping is None or axis != self.grouping.channel:
            return 1
        return self.grouping.group_size

    def ranges(self, most: int) -> Iterator[Box]:
        """Yield parts of the tensor that have at most `most` cells, in C order of their cells."""
        whole = [(0, size) for size in self.shape]

        def split(box: list[tuple[int, int]], rest: tuple[int, ...]) -> Iterator[Box]:
            if not rest:
                yield tuple(box)
                return
            axis, *inner = rest
            behind = math.prod(self.shape[a] // self.unit(a) for a in inner)
            unit = self.unit(axis)
            step = max(1, most // max(1, behind)) * unit
            for start in range(0, self.shape[axis], step):
                part = [*box]
                part[axis] = (start, min(start + step, self.shape[axis]))
                yield from split(part, tuple(inner) if behind > most else ())

        yield from split(whole, self.axes)


def cut(cutting: Cutting, shape: tuple[int, ...], order: Order) -> By:
    """Return the cells that a tensor of `shape`, stored in `order`, is divided into.

    Raises
    ------
    ParameterError
        If there is no such axis, an axis is named twice, or the groups do not divide the channels.

    Examples
    --------
    >>> by = cut(Cutting(by="C"), (2, 6, 4), "C")
    >>> by.sizes, by.cell_shape
    ((6,), (2, 4))
    """
    text, layout, num_groups, group_size = cutting.by or "", cutting.layout, cutting.num_groups, cutting.group_size
    if text.strip() == "group":
        grouping = GroupNorm(num_groups, group_size, layout=layout).on(shape, order)
        return By(shape, order, grouping.kept, grouping.names, grouping)
    if num_groups is not None or group_size is not None:
        raise ParameterError("--groups needs --by group", hint="add --by group, or leave out --groups")
    found = axes_named("--by", text, shape, layout, word="group", near=_near)
    return By(shape, order, tuple(found), tuple(found.values()))


def _near(name: str) -> str | None:
    return nearest(name, ["group"])
