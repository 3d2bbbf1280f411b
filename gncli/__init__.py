"""Group Normalization and statistics of tensors, on the command line and from Python.

The names are imported when they are first asked for, so that ``gncli --help`` does not pay for NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gncli.describe import NormalizeReport, StatsReport, TensorStats
    from gncli.errors import GncliError
    from gncli.operations import get_stats, group_norm, normalize_file

__all__ = ["GncliError", "NormalizeReport", "StatsReport", "TensorStats", "get_stats", "group_norm", "normalize_file"]

__version__ = "0.1.0"

_HOMES = {
    "GncliError": "errors",
    "NormalizeReport": "describe",
    "StatsReport": "describe",
    "TensorStats": "describe",
    "get_stats": "operations",
    "group_norm": "operations",
    "normalize_file": "operations",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"gncli.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
