"""A JSON object a line: of a tensor, a stage or a cell."""

from __future__ import annotations

from gncli.report.json import dumped, object_of
from gncli.report.records import NormalizeReport, Report
from gncli.report.rows import records
from gncli.report.style import Style


def text(report: Report, _style: Style) -> str:
    """Return the objects of all tensors."""
    staged = isinstance(report, NormalizeReport)
    return "".join(
        dumped(({"stage": heading} if staged else {}) | object_of(report, tensor))
        for heading, tensor in records(report)
    )
