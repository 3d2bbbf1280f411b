"""What visits found, as facts and arrays of bits: it can be written to a file, and is the same when it is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import LimitError
from gncli.kernels import extras, moments, precision
from gncli.kernels.exact import Sums
from gncli.kernels.groupnorm import Check
from gncli.kernels.selection import Percentiles
from gncli.run.normalization import RESULTS

MOST_NUMBERS = 1 << 24  # of a part's record, which is in memory whole: 128 MiB
OF_OBJECT = 16  # numbers that a Python integer counts for

KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(moments.Moments, moments.Bounds, Sums, Percentiles, precision.Loss, precision.Losses),
        *(*extras.RECORDS.values(), *RESULTS),
    )
}
"""The tuples that results are made of, by name."""


class Packed:
    """Facts and arrays that stand for values: numbers, None, arrays, and tuples, dicts and checks of these.

    An array is in the facts as its shape and its place among all numbers of its dtype.
    """

    def __init__(self) -> None:
        self.count = 0
        self._pieces: defaultdict[str, list[NDArray[Any]]] = defaultdict(list)
        self._sizes: defaultdict[str, int] = defaultdict(int)

    def pack(self, value: Any) -> Any:
        """Return the facts that stand for `value`, and keep its numbers.

        Raises
        ------
        LimitError
            If there are more than `MOST_NUMBERS` numbers.
        """
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, Check):
            return ["Check", *astuple(value)]
        if isinstance(value, tuple):
            name = type(value).__name__
            return [name if name in KINDS else "tuple", *map(self.pack, value)]
        if isinstance(value, dict):
            return {key: self.pack(each) for key, each in value.items()}
        return int(value) if isinstance(value, np.integer) else value

    def _array(self, array: NDArray[Any]) -> list[Any]:
        self.count += array.size * (OF_OBJECT if array.dtype.hasobject else 1)
        if self.count > MOST_NUMBERS:
            raise LimitError(
                f"a part would keep more than {MOST_NUMBERS:,} numbers of its cells", hint="take more parts, of less"
            )
        if array.dtype.hasobject:
            return ["objects", list(array.shape), *map(self.pack, array.reshape(-1))]
        name, start = array.dtype.str[1:], self._sizes[array.dtype.str[1:]]
        self._pieces[name].append(array.astype(array.dtype.newbyteorder("="), copy=True).reshape(-1))
        self._sizes[name] += array.size
        return ["array", list(array.shape), name, start]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the numbers by dtype."""
        return {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}


def unpacked(facts: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the value that facts and arrays stand for; see `Packed`."""
    if isinstance(facts, dict):
        return {key: unpacked(each, arrays) for key, each in facts.items()}
    if not isinstance(facts, list):
        return facts
    kind, *rest = facts
    if kind == "array":
        shape, name, start = rest
        return arrays[name][start : start + int(np.prod(shape))].reshape(shape)
    if kind == "Check":
        groups, mean_error, var_error, *others = rest
        return Check(groups, mean_error, var_error, **dict(zip(_OTHERS, others, strict=True)))
    if kind == "objects":
        array = np.empty(len(rest) - 1, object)
        for place, each in enumerate(rest[1:]):
            array[place] = unpacked(each, arrays)
        return array.reshape(rest[0])
    values = [unpacked(each, arrays) for each in rest]
    return tuple(values) if kind == "tuple" else KINDS[kind](*values)


_OTHERS = tuple(Check.__dataclass_fields__)[3:]
