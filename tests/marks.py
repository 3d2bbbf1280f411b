"""Marks for tests: what of a table is run each time, and what belongs to the whole gate alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings


def slow_but(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Return the cases of a table, all of them slow except `quick`; a case that is a tuple is several arguments."""
    given = list(cases)
    assert all(case in given for case in quick), quick
    return [
        pytest.param(*case if isinstance(case, tuple) else (case,), marks=() if case in quick else pytest.mark.slow)
        for case in given
    ]


def examples(whole: int) -> int:
    """Return how many examples hypothesis draws of a test for which the whole gate draws so many."""
    return max(whole * settings().max_examples // 100, 1)
