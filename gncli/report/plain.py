"""The article's lines, at full precision: ``Mean:  0.5000566322329019``."""

from __future__ import annotations

from gncli.report.lines import histogram_lines
from gncli.report.records import Failure, NormalizeReport, Report
from gncli.report.rows import key, records, selected
from gncli.report.style import Style
from gncli.text import printable


def text(report: Report, style: Style) -> str:
    """Return the lines of every tensor or stage, with an empty one between."""
    found = records(report)
    named = len(found) > 1 and not (isinstance(report, NormalizeReport) and not report.stages)
    blocks = []
    for heading, tensor in found:
        head = [f"{key(report).capitalize()}:  {printable(heading)}"] if named else []
        if isinstance(tensor, Failure):
            blocks.append([*head, f"Error:  {printable(tensor.message)}"])
        else:
            blocks.append([*head, *tensor.lines(selected(report))])
            if tensor.histogram is not None:
                blocks[-1] += histogram_lines(tensor.histogram, style)
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)
