"""The values alone, one a line, for a shell's ``$(...)``."""

from __future__ import annotations

from gncli.names import DEFAULT_STATISTICS
from gncli.report.records import Report, TensorStats
from gncli.report.rows import exact, records, selected
from gncli.report.style import UNDEFINED, Style


def text(report: Report, _style: Style) -> str:
    """Return the selected statistics of every tensor."""
    return "".join(
        f"{exact(tensor.value(name), UNDEFINED)}\n"
        for _, tensor in records(report)
        if isinstance(tensor, TensorStats)
        for name in selected(report) or DEFAULT_STATISTICS
    )
