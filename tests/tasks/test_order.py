"""Which rows are shown, and in which order: of any number of rows, as if all of them were held."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gncli.tasks.expect import parse
from gncli.tasks.order import Chosen, ordered
from gncli.tasks.requests import Choice


class Row(NamedTuple):
    """A row with two values; one that cannot be read has none."""

    at: int
    size: int | None
    nan: int = 0


def value(row: Row, name: str) -> Any:
    """Return a value of a row that can be read."""
    assert row.size != -1
    return getattr(row, name)


sizes = st.lists(st.one_of(st.none(), st.integers(-1, 5)), max_size=40)


@given(
    sizes, st.sampled_from([None, "size", "-size"]), st.sampled_from([None, 0, 1, 3, 50]), st.sampled_from([None, 2])
)
def test_rows_are_chosen_as_if_all_were_held(
    of: list[int | None], sort: str | None, keep: int | None, top: int | None
) -> None:
    rows = [Row(at, size) for at, size in enumerate(of)]
    chosen = Chosen(Choice(where=parse("size > 1"), sort=sort, top=top), value, keep)
    for row in rows:
        if row.size == -1:
            chosen.add_unread(row)
        else:
            assert chosen.add(row) is (row.size is not None and row.size > 1)
    held = [row for row in rows if row.size is not None and row.size > 1]
    unread = [row for row in rows if row.size == -1]
    if sort is not None or top is not None:
        expected = [*unread, *(held if sort is None else ordered(held, sort, value))[:top]]
    else:
        expected = [row for row in rows if row in held or row in unread]
    assert chosen.rows() == expected[:keep]
    assert chosen.total == len(expected)
    assert (chosen.seen, chosen.held) == (len(rows) - len(unread), len(held))
    assert chosen.left_out("rows") == [f"{len(held)} of {len(rows) - len(unread)} rows where size > 1"]


def test_no_more_rows_are_held_than_twice_what_is_kept() -> None:
    chosen = Chosen(Choice(sort="-size"), value, 10)
    for at in range(1000):
        chosen.add(Row(at, at * 37 % 1000))
        assert len(chosen._rows) <= 20
    assert [row.size for row in chosen.rows()] == list(range(999, 989, -1))
    assert chosen.left_out("rows") == []


@pytest.mark.parametrize(("sort", "expected"), [("size", [1, 2, 3, None, None]), ("-size", [3, 2, 1, None, None])])
def test_what_has_no_value_comes_last(sort: str, expected: list[int | None]) -> None:
    rows = [Row(at, size) for at, size in enumerate([None, 3, 1, None, 2])]
    assert [row.size for row in ordered(rows, sort, value)] == expected
