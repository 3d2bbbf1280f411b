"""What holds for every test: hypothesis draws the same examples each time, and takes the time it needs."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("gncli", derandomize=True, deadline=None)
settings.load_profile("gncli")
