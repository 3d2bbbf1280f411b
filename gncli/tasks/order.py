"""The order of rows: tensors, cells and pairs, by a number or by their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from gncli.report.diff_records import DiffCell
from gncli.report.pair_records import PairRow

Row = TypeVar("Row")


def ordered(rows: Iterable[Row], sort: str, value: Callable[[Row, str], Any]) -> list[Row]:
    """Return `rows` in the order of a value; those without it come last, and equals stay as they were.

    Parameters
    ----------
    rows : iterable
        The rows.
    sort : str
        The name of the value; with ``-`` before it, the largest first.
    value : callable
        Takes a row and the name; returns what can be compared, or None.

    Examples
    --------
    >>> ordered([3, None, 1, 2], "-number", lambda row, _: row)
    [3, 2, 1, None]
    """
    name = sort.removeprefix("-")
    known: list[tuple[Any, Row]] = []
    others: list[tuple[Any, Row]] = []
    for row in rows:
        found = value(row, name)
        (others if found is None else known).append((found, row))
    known.sort(key=lambda each: each[0], reverse=sort.startswith("-"))
    return [row for _, row in (*known, *others)]


def difference(row: DiffCell | PairRow, name: str) -> Any:
    """Return what cells and pairs are ordered by; what differs by a NaN or an infinity lies infinitely far apart."""
    if name == "name":
        return row.key
    return math.inf if name == "max" and (row.number("nan") or row.number("inf")) else row.number(name)
