"""One JSON document, as strict as RFC 8259."""

from __future__ import annotations

import json

from gncli.report.records import Failure, NormalizeReport, Report, TensorStats
from gncli.report.rows import selected
from gncli.report.style import Style
from gncli.text import without_surrogates

SCHEMA = 1


def text(report: Report, _style: Style) -> str:
    """Return the document."""
    document: dict[str, object] = {"schema": SCHEMA}
    if isinstance(report, NormalizeReport):
        document |= {
            "command": "normalize",
            "input": without_surrogates(report.input),
            "output": None if report.output is None else without_surrogates(report.output),
            "parameters": _unsurrogated(report.parameters.as_dict()),
            "before": object_of(report, report.before),
            "after": object_of(report, report.after),
            "verified": None if report.check is None else report.check.as_dict(),
        }
        if report.stages:
            document["stages"] = [{"stage": stage.name, **object_of(report, stage.stats)} for stage in report.stages]
    else:
        document |= {"command": report.command, "tensors": [object_of(report, tensor) for tensor in report.tensors]}
        if report.total is not None:
            document["total"] = object_of(report, report.total)
    return dumped(document, indent=2)


def object_of(report: Report, tensor: TensorStats | Failure) -> dict[str, object]:
    """Return the object of a tensor."""
    return _unsurrogated(tensor.as_dict() if isinstance(tensor, Failure) else tensor.as_dict(selected(report)))


def _unsurrogated(found: dict[str, object]) -> dict[str, object]:
    return {key: without_surrogates(value) if isinstance(value, str) else value for key, value in found.items()}


def dumped(value: object, indent: int | None = None) -> str:
    """Return `value` as JSON: ASCII alone, because DEL, C1 and bidirectional marks pass its own rules for strings."""
    return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=True) + "\n"
