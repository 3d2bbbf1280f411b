"""What a task is asked for is a record that nobody changes, and that no misspelt keyword gets into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gncli.inputs import Draw
from gncli.kernels.affine import Scaling
from gncli.kernels.groupnorm import GroupNorm
from gncli.tasks.requests import Cutting, Diff, Execution, Normalize, Output, Random, Stats

DRAW = Draw((2, 4))

# mypy --strict takes each of these as an error too: were one not, it would call the comment unused.
MISSPELT: list[Callable[[], object]] = [
    lambda: Stats(tensor=("x.npy",)),  # type: ignore[call-arg]
    lambda: Diff(a="x.npy", b="y.npy", rtoll=0.0),  # type: ignore[call-arg]
    lambda: Normalize(tensor=DRAW, norm=GroupNorm(2), scaling=Scaling(), verfy=False),  # type: ignore[call-arg]
    lambda: Normalize(tensor=DRAW, norm=GroupNorm(num_gruops=2), scaling=Scaling()),  # type: ignore[call-arg]
    lambda: Random(draw=DRAW, statistic=()),  # type: ignore[call-arg]
    lambda: Output(inplace=True),  # type: ignore[call-arg]
    lambda: Cutting(group=2),  # type: ignore[call-arg]
    lambda: Execution(threads=2),  # type: ignore[call-arg]
]


@pytest.mark.parametrize("request_of", MISSPELT)
def test_a_misspelt_keyword_is_an_error(request_of: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        request_of()


@pytest.mark.parametrize("request_", [Stats(), Diff(a="a", b="b"), Random(draw=DRAW), Output(), Cutting(), Execution()])
def test_a_request_stays_as_it_is(request_: Any) -> None:
    name = request_._fields[0]
    with pytest.raises(AttributeError):
        setattr(request_, name, None)
