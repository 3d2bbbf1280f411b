"""A run of elements in storage order, cut into boxes: what a hyperslab of HDF5 can name. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield corner and extent of the boxes that hold the elements ``[start, stop)`` of a C-ordered `shape`, in order.

    Notes
    -----
    At most ``2 * ndim - 1``: the box grows by an axis at a time up to the longest slab that fits, then shrinks again.

    Examples
    --------
    >>> list(boxes((3, 4), 2, 9))
    [((0, 2), (1, 2)), ((1, 0), (1, 4)), ((2, 0), (1, 1))]
    """
    if not shape:
        if start < stop:
            yield (), ()
        return
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    while start < stop:
        axis = next(k for k, stride in enumerate(strides) if start % stride == 0 and start + stride <= stop)
        corner = tuple(start // stride % extent for stride, extent in zip(strides, shape, strict=True))
        count = min(shape[axis] - corner[axis], (stop - start) // strides[axis])
        yield corner, (1,) * axis + (count,) + shape[axis + 1 :]
        start += count * strides[axis]
