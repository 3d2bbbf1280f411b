"""The loops that tests compare: those of each body of native.c, and plain.py."""

from __future__ import annotations

import pytest

from gncli.kernels import native, plain
from gncli.kernels.loops import Loops


@pytest.fixture(params=native.BODIES)
def body(request: pytest.FixtureRequest) -> Loops:
    """Return the loops of a body; the test is skipped where this machine does not run it."""
    if request.param not in native.bodies():
        pytest.skip(f"{request.param} does not run here")
    return native.Native(request.param)


@pytest.fixture(params=["plain", *native.BODIES])
def each(request: pytest.FixtureRequest) -> Loops:
    """Return plain.py, or the loops of a body; the test is skipped where this machine does not run it."""
    if request.param not in ("plain", *native.bodies()):
        pytest.skip(f"{request.param} does not run here")
    return plain if request.param == "plain" else native.Native(request.param)
