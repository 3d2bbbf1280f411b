"""Which rows are shown, and in which order: tensors, cells and pairs, by their numbers or their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from gncli.tasks.requests import Choice

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


class Chosen(Generic[Row]):
    """The rows that are shown of many that come one after the other. It holds twice as many as it keeps at most.

    Parameters
    ----------
    choice : Choice
        What must hold of a row, the order, and the number of rows.
    value : callable
        Takes a row and the name of a value; returns the value, or None.
    keep : int, optional
        The largest number of rows to keep, of those that are shown; None for all.

    Attributes
    ----------
    seen, held : int
        How many rows came that can be read, and of how many of these the condition holds.

    Examples
    --------
    >>> chosen = Chosen(Choice(sort="-size", top=2), lambda row, _: row)
    >>> [chosen.add(row) for row in (3, 1, 2)], chosen.rows(), chosen.total
    ([True, True, True], [3, 2], 2)
    """

    def __init__(self, choice: Choice, value: Callable[[Row, str], Any], keep: int | None = None) -> None:
        self.seen = self.held = 0
        self._choice, self._value, self._keep = choice, value, keep
        self._most = min((most for most in (keep, choice.top) if most is not None), default=None)
        self._rows: list[Row] = []
        self._unread: list[Row] = []
        self._num_unread = 0

    def add(self, row: Row) -> bool:
        """Add the next row, if the condition holds of it; return whether it does."""
        self.seen += 1
        where = self._choice.where
        if where is not None and not where.holds(partial(self._value, row)):
            return False
        self.held += 1
        self._append(row)
        return True

    def absorb(self, other: Chosen[Row]) -> None:
        """Add the rows of another of the same choice, all of which come after these."""
        self.seen += other.seen
        self.held += other.held
        for row in other.rows():
            self._append(row)

    def add_unread(self, row: Row) -> None:
        """Add a row that says why something cannot be read. In an order, such rows come first."""
        self._num_unread += 1
        if self._choice.ranks:
            self._unread.append(row)
        else:
            self._append(row)

    def _append(self, row: Row) -> None:
        sort, most = self._choice.sort, self._most
        if sort is not None and most is not None and len(self._rows) >= 2 * most:
            self._rows = ordered(self._rows, sort, self._value)[:most]
        if most is None or sort is not None or len(self._rows) < most:
            self._rows.append(row)

    def rows(self) -> list[Row]:
        """Return the rows to show, as many as are kept."""
        sort = self._choice.sort
        rows = self._rows if sort is None else ordered(self._rows, sort, self._value)
        return [*self._unread, *rows[: self._most]][: self._keep]

    def left_out(self, rows: str) -> list[str]:
        """Return the note about how many of all `rows` (a word) are shown; nothing without a condition."""
        where = self._choice.where
        return [] if where is None else [f"{self.held:,} of {self.seen:,} {rows} where {where.text}"]

    @property
    def some(self) -> bool:
        """Whether rows are left out."""
        return self.total - self._num_unread < self.seen

    @property
    def total(self) -> int:
        """The number of rows to show, kept or not."""
        shown = self.held if self._choice.top is None else min(self.held, self._choice.top)
        return shown + self._num_unread
