"""The loops of each body of native.c, for the tests that compare them with plain.py."""

from __future__ import annotations

import pytest

from gncli.kernels import native
from gncli.kernels.loops import Loops


@pytest.fixture(params=native.BODIES)
def body(request: pytest.FixtureRequest) -> Loops:
    """Return the loops of a body; the test is skipped where this machine does not run it."""
    if request.param not in native.bodies():
        pytest.skip(f"{request.param} does not run here")
    return native.Native(request.param)
