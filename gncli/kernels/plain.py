"""The loops over elements, in NumPy: the specification of every number, and what runs where no compiler was.

`gncli.kernels.native` has the same functions in C, which give the same bits. `gncli.kernels.loops` chooses.

Notes
-----
*The law of summation.* Along memory, a block of 64 elements or more (and at most 8192) is laid out as rows of 64 lanes.
Each lane starts at +0 and is summed from the first row to the last. Then the lanes are added by halves: lane j and lane
j + 32, then 16, 8, 4, 2, 1. The end of the last row is filled up with +0 in the terms of the sum, not in the elements.
Across memory, and in blocks of fewer than 64 elements, a sum starts at +0 and runs from first to last. A product is
rounded before it is added. An extreme that is zero is +0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


# --- bytes -----------------------------------------------------------------------------------------------------------


def unshuffle(data: Bytes, width: int) -> Bytes:
    """Return the bytes of elements of `width` bytes, of which `data` holds first all first bytes, then all second ones.

    What is left at the end, fewer bytes than an element has, stays where it is (HDF5's filter ``shuffle``).
    """
    count = data.size // width
    found = np.empty_like(data)
    elements, planes = found[: count * width].reshape(count, width), data[: count * width].reshape(width, count)
    for place in range(width):  # a plane at a time: three times faster than a transposed copy
        elements[:, place] = planes[place]
    found[count * width :] = data[count * width :]
    return found
