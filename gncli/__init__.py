"""Group Normalization and statistics of tensors, on the command line and from Python.

The names are imported when they are first asked for, so that ``gncli --help`` does not pay for NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gncli.describe import Check, NormalizeReport, Parameters, StatsReport, TensorStats
    from gncli.errors import ChangedError, GncliError, InputError, LimitError, OutputError, ParameterError
    from gncli.operations import get_stats, group_norm, normalize_file
    from gncli.policy import Policy
    from gncli.vocabulary import Draw

__all__ = [
    "ChangedError",
    "Check",
    "Draw",
    "GncliError",
    "InputError",
    "LimitError",
    "NormalizeReport",
    "OutputError",
    "ParameterError",
    "Parameters",
    "Policy",
    "StatsReport",
    "TensorStats",
    "get_stats",
    "group_norm",
    "normalize_file",
]

__version__ = "0.1.0"

_HOMES = {
    "ChangedError": "errors",
    "Check": "describe",
    "Draw": "vocabulary",
    "GncliError": "errors",
    "InputError": "errors",
    "LimitError": "errors",
    "NormalizeReport": "describe",
    "OutputError": "errors",
    "ParameterError": "errors",
    "Parameters": "describe",
    "Policy": "policy",
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
