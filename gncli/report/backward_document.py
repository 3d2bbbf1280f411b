"""What the report of ``backward`` says: a column per tensor, the check, and how far the sums cancel."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gncli.report.backward_records import BackwardReport, ParameterGradient
from gncli.report.document import Answer
from gncli.report.lines import counted, done_line, lost_words, noun, percent, proved_words
from gncli.report.poster import Poster
from gncli.report.records import Histogram
from gncli.report.tensor_document import Entry, TensorDocument, spelled, tensor_object
from gncli.text import printable, without_surrogates


def gradient_check_line(report: BackwardReport) -> str:
    """Return the check in one line: what failed if anything did, and how near to its bound it came."""
    check = report.check
    if check is None:
        return "check: skipped (--no-verify)"
    causes = gradient_failures(report)
    found = [counted(check.groups, noun(report.parameters))]
    errors = [error for error in (check.mean_error, check.projection_error) if error is not None]
    if errors and all(error <= 1 for error in errors):
        found.append(f"worst error {percent(max(errors))} of the bound of float64")
    if check.nonfinite_groups:
        found.append(f"{check.nonfinite_groups:,} with NaN or infinity")
    proved = proved_words(check.proved, check.settled)
    verdict = f"FAILED: {' and '.join(causes)};" if causes else "ok,"
    return f"check: {verdict} {', '.join(found)}{proved}{lost_words(check)}"


def gradient_failures(report: BackwardReport) -> list[str]:
    """Return what failed in the check."""
    check = report.check
    assert check is not None  # it was asked for
    cell = noun(report.parameters)
    causes = [
        f"{what} of a {cell} is off by {error:.3g} times its bound"
        if math.isfinite(error)
        else f"{what} of a {cell} is undefined"
        for what, error in (("mean(dx)", check.mean_error), ("mean(dx z)", check.projection_error))
        if error is not None and not error <= 1
    ]
    if check.failures:
        causes.append(f"{counted(check.failures, 'result')} beyond the largest {report.parameters.dtype}")
    return causes


def condition_line(report: BackwardReport) -> str:
    """Return how far the sums cancel."""

    def told(name: str, found: ParameterGradient) -> str:
        if not found.place:
            return f"- in {name}"
        size = "infinite" if found.condition is None else f"{found.condition:.3g}"
        return f"{size} in {name} (at {', '.join(map(str, found.place))})"

    return f"largest sum|t| / |sum t|: {told('dgamma', report.dgamma)}, {told('dbeta', report.dbeta)}"


class BackwardDocument(TensorDocument):
    """What ``backward`` did."""

    key = "tensor"
    upright = True
    headed = True
    fallible = False

    def __init__(self, report: BackwardReport) -> None:
        self.report = report
        tensors = {"dy": report.dy, "dx": report.dx, "dgamma": report.dgamma.stats, "dbeta": report.dbeta.stats}
        self.entries = [Entry.of(name, stats) for name, stats in tensors.items()]

    @property
    def title(self) -> str:
        """The command and its inputs."""
        return printable(f"gncli backward {self.report.input} {self.report.upstream}")

    @property
    def line(self) -> str:
        """The inputs and the check."""
        return printable(f"{self.report.input}, {self.report.upstream}: {gradient_check_line(self.report)}")

    def aside(self) -> list[str]:
        """Return notes."""
        return list(map(printable, self.report.notes))

    def under(self) -> list[str]:
        """Return what was computed, where it went, how far the sums cancel, and the check."""
        report = self.report
        done = f"{done_line(report.parameters)}, dgamma and dbeta {report.param_dtype}"
        return [done, outputs_line(report), condition_line(report), gradient_check_line(report), *self.aside()]

    def answer(self) -> Answer:
        """Return the check."""
        return Answer(self.report.status == 0, [gradient_check_line(self.report)])

    def histograms(self) -> list[tuple[str, Histogram]]:
        """Return nothing: there are none."""
        return []

    def body(self) -> dict[str, object]:
        """Return parameters, statistics, conditions and the check."""
        report = self.report
        check = None if report.check is None else report.check.as_dict()
        found: dict[str, object] = {
            "command": "backward",
            "input": without_surrogates(report.input),
            "upstream": without_surrogates(report.upstream),
            "outputs": {
                name: without_surrogates(report.outputs[name]) if name in report.outputs else None
                for name in ("dx", "dgamma", "dbeta")
            },
            "parameters": spelled(report.parameters.as_dict()) | {"param_dtype": report.param_dtype},
            "dy": tensor_object(report.dy, ("first_nan", "first_inf")),
            "dx": tensor_object(report.dx),
        }
        for name, sums in (("dgamma", report.dgamma), ("dbeta", report.dbeta)):
            found[name] = tensor_object(sums.stats) | sums.as_dict()
        return found | {"settled_parameters": report.settled, "verified": check}

    def objects(self) -> Iterator[dict[str, object]]:
        """Return an object per tensor."""
        return ({"tensor": entry.heading} | tensor_object(entry.stats) for entry in self.entries)

    def poster(self) -> Poster:
        """Return nothing to draw: the command has no pictures."""
        return Poster(self.title, [], [gradient_check_line(self.report)])


def outputs_line(report: BackwardReport) -> str:
    """Return where the gradients went."""
    if not report.outputs:
        return "nothing written (no --dx, --dgamma or --dbeta)"
    where = ", ".join(f"{name} to {printable(path)}" for name, path in report.outputs.items())
    return f"written: {where}" if report.status == 0 else f"nothing written: not {where}"
