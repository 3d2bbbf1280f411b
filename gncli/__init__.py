"""Group Normalization and statistics of tensors, on the command line and from Python.

The names are imported when they are first asked for, so that ``gncli --help`` does not pay for NumPy.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` is slow to import, and signals are taken before that
if TYPE_CHECKING:
    from gncli import testing
    from gncli.api import diff, get_stats, group_norm, group_norm_backward, normalize_file, stats
    from gncli.errors import ChangedError, GncliError, InputError, LimitError, OutputError, ParameterError
    from gncli.inputs import Draw, Policy
    from gncli.kernels.groupnorm import Check
    from gncli.kernels.loops import kernel
    from gncli.report.diff_records import DiffReport
    from gncli.report.normalize_records import NormalizeReport, Parameters
    from gncli.report.pair_records import PairsReport
    from gncli.report.records import StatsReport, TensorStats

__all__ = [
    "ChangedError",
    "Check",
    "DiffReport",
    "Draw",
    "GncliError",
    "InputError",
    "LimitError",
    "NormalizeReport",
    "OutputError",
    "PairsReport",
    "ParameterError",
    "Parameters",
    "Policy",
    "StatsReport",
    "TensorStats",
    "diff",
    "get_stats",
    "group_norm",
    "group_norm_backward",
    "kernel",
    "normalize_file",
    "stats",
    "testing",
]

__version__ = "0.1.0"

_HOMES = {
    "ChangedError": "errors",
    "Check": "kernels.groupnorm",
    "DiffReport": "report.diff_records",
    "Draw": "inputs",
    "GncliError": "errors",
    "InputError": "errors",
    "LimitError": "errors",
    "NormalizeReport": "report.normalize_records",
    "OutputError": "errors",
    "PairsReport": "report.pair_records",
    "ParameterError": "errors",
    "Parameters": "report.normalize_records",
    "Policy": "inputs",
    "StatsReport": "report.records",
    "TensorStats": "report.records",
    "diff": "api",
    "get_stats": "api",
    "group_norm": "api",
    "group_norm_backward": "api",
    "kernel": "kernels.loops",
    "normalize_file": "api",
    "stats": "api",
    "testing": "testing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = import_module(f"gncli.{_HOMES[name]}")
    found = globals()[name] = home if name == _HOMES[name] else getattr(home, name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
