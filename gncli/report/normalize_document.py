"""What the report of ``normalize`` says: the statistics before and after, or of each stage, and the check."""

from __future__ import annotations

from collections.abc import Iterator

from gncli.report.document import Answer
from gncli.report.lines import check_line, damping_lines, done_line, output_line, seed_lines
from gncli.report.normalize_records import NormalizeReport
from gncli.report.poster import Panel, Poster, described, legend, maps_of, scaled
from gncli.report.records import Histogram
from gncli.report.tensor_document import Entry, TensorDocument, spelled, tensor_object
from gncli.text import printable, without_surrogates


class NormalizeDocument(TensorDocument):
    """What ``normalize`` did."""

    key = "stage"
    upright = True
    fallible = False

    def __init__(self, report: NormalizeReport) -> None:
        self.report = report
        stages = [Entry.of(stage.name, stage.stats) for stage in report.stages]
        self.entries = stages or [Entry.of("before", report.before), Entry.of("after", report.after)]
        self.headed = bool(stages)

    @property
    def title(self) -> str:
        """The command and its input."""
        return printable(f"gncli normalize {self.report.input}")

    @property
    def line(self) -> str:
        """The input and the check."""
        return printable(f"{self.report.input}: {check_line(self.report)}")

    def aside(self) -> list[str]:
        """Return the seed and notes."""
        return [*damping_lines(self.report), *seed_lines(self.report.seed), *map(printable, self.report.notes)]

    def under(self) -> list[str]:
        """Return what was computed, where it went, and the check."""
        report = self.report
        where = output_line(report.output, written=report.status == 0)
        return [done_line(report.parameters), where, check_line(report), *self.aside()]

    def answer(self) -> Answer:
        """Return the check."""
        return Answer(self.report.status == 0, [check_line(self.report)])

    def histograms(self) -> list[tuple[str, Histogram]]:
        """Return the histograms before and after."""
        both = (("before", self.report.before.histogram), ("after", self.report.after.histogram))
        return [(name, histogram) for name, histogram in both if histogram is not None]

    def body(self) -> dict[str, object]:
        """Return parameters, statistics before and after, and the check."""
        report = self.report
        found: dict[str, object] = {
            "command": "normalize",
            "input": without_surrogates(report.input),
            "output": None if report.output is None else without_surrogates(report.output),
            "parameters": spelled(report.parameters.as_dict()),
            "before": tensor_object(report.before),
            "after": tensor_object(report.after),
            "verified": None if report.check is None else report.check.as_dict(),
        }
        return found | ({"stages": list(self.objects())} if report.stages else {})

    def objects(self) -> Iterator[dict[str, object]]:
        """Return an object per stage."""
        return ({"stage": entry.heading} | tensor_object(entry.stats) for entry in self.entries)

    def poster(self) -> Poster:
        """Return one panel: histograms before and after, and maps of both below."""
        report = self.report
        pictures = [
            (name, of.picture) for name, of in (("before", report.before), ("after", report.after)) if of.picture
        ]
        unit = report.parameters.unit_deviation
        columns = [
            scaled(
                [
                    each
                    for kind in ("mean", "std")
                    for each in maps_of(
                        kind, picture.maps[kind], stage, float(unit and (stage, kind) == ("after", "std"))
                    )
                ]
            )
            for stage, picture in pictures
        ]
        series = [(stage, picture.histogram) for stage, picture in pictures]
        panel = Panel("", series, "value", list(zip(*columns, strict=True)))
        caption = [described(report.before), done_line(report.parameters), check_line(report), *legend([panel])]
        return Poster(f"Group Normalization of {report.input}", [panel], caption)
