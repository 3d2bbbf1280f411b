"""What the report of a part says: a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gncli.names import Value
from gncli.report.document import MOST_ROWS, Answer, Block, Document, Sheet
from gncli.report.part_records import PartReport
from gncli.report.poster import Poster
from gncli.report.records import Histogram
from gncli.text import printable, without_surrogates


class PartDocument(Document):
    """What a part did."""

    def __init__(self, report: PartReport) -> None:
        self.report = report

    @property
    def title(self) -> str:
        """The command and its input."""
        return printable(f"gncli {self.report.command} {self.report.input}")

    @property
    def line(self) -> str:
        """What was done."""
        return self.report.line

    def aside(self) -> list[str]:
        """Return notes."""
        return [printable(note) for note in self.report.notes]

    def answer(self) -> Answer:
        """Return what was done."""
        return Answer(True, [self.line])

    def sheets(self, *, quiet: bool, most: int = MOST_ROWS) -> list[Sheet]:
        """Return one table."""
        return [self.sheet(most)._replace(under=[self.line, *([] if quiet else self.aside())])]

    def sheet(self, most: int = MOST_ROWS) -> Sheet:
        """Return a table of one row."""
        report = self.report
        header = ["Part", "Of", f"{report.cell.capitalize()}s", "Elements", "Output"]
        row: list[Value] = [report.part, report.parts, report.cells, report.elements, printable(report.output)]
        return Sheet(header, [row], [True, True, True, True, False], under=[self.line])

    def histograms(self) -> Sequence[tuple[str, Histogram]]:
        """Return none."""
        return []

    def blocks(self) -> Iterator[Block]:
        """Return the line."""
        yield Block([], None, self.line)

    def values(self) -> Iterator[Value]:
        """Return the number of elements."""
        yield self.report.elements

    def body(self) -> dict[str, object]:
        """Return all there is."""
        return next(self.objects())

    def objects(self) -> Iterator[dict[str, object]]:
        """Return one object."""
        found = self.report.as_dict() | {"steps": list(self.report.steps)}
        yield {key: without_surrogates(value) if isinstance(value, str) else value for key, value in found.items()}

    def rows(self) -> Iterator[Sequence[object]]:
        """Return one row."""
        (found,) = self.objects()
        yield list(found)
        yield [" ".join(self.report.steps) if key == "steps" else value for key, value in found.items()]

    def poster(self) -> Poster:
        """Return a page without panels: there are no pictures of parts."""
        return Poster(self.title, [], [self.line])
