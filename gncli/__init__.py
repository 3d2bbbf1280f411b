"""Group Normalization and statistics of tensors, on the command line and from Python.

The names are imported when they are first asked for, so that ``gncli --help`` does not pay for NumPy.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` is slow to import, and signals are taken before that
if TYPE_CHECKING:
    from gncli.api import get_stats, group_norm, normalize_file
    from gncli.errors import ChangedError, GncliError, InputError, LimitError, OutputError, ParameterError
    from gncli.inputs import Draw, Policy
    from gncli.kernels.groupnorm import Check
    from gncli.kernels.loops import kernel
    from gncli.report.records import NormalizeReport, Parameters, StatsReport, TensorStats

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
    "kernel",
    "normalize_file",
]

__version__ = "0.1.0"

_HOMES = {
    "ChangedError": "errors",
    "Check": "kernels.groupnorm",
    "Draw": "inputs",
    "GncliError": "errors",
    "InputError": "errors",
    "LimitError": "errors",
    "NormalizeReport": "report.records",
    "OutputError": "errors",
    "ParameterError": "errors",
    "Parameters": "report.records",
    "Policy": "inputs",
    "StatsReport": "report.records",
    "TensorStats": "report.records",
    "get_stats": "api",
    "group_norm": "api",
    "kernel": "kernels.loops",
    "normalize_file": "api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"gncli.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
