"""What the report of ``diff`` about many pairs says: a row per pair, and under it the counts and the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gncli.names import DIFFERENCES, PAIR_DIFFERENCES, Value
from gncli.report.document import MOST_ROWS, Answer, Block, Document, Foldable, Sheet
from gncli.report.lines import broken_lines, file_of, more_lines, skipped_lines, verdict_line
from gncli.report.pair_records import NUMBERS, VERDICTS, PairRow, PairsReport
from gncli.report.poster import Poster
from gncli.report.records import Histogram
from gncli.text import printable, strict, without_surrogates


class PairsDocument(Document):
    """What ``diff`` found about many pairs."""

    def __init__(self, report: PairsReport) -> None:
        self.report = report
        self._columns = report.selected or PAIR_DIFFERENCES
        self._labels = [DIFFERENCES[name].label for name in self._columns]

    @property
    def title(self) -> str:
        """The command and its operands."""
        return printable(f"gncli diff {self.report.a} {self.report.b}")

    @property
    def line(self) -> str:
        """The operands, and the counts of all verdicts."""
        return printable(f"{self.report.a}, {self.report.b}: {self.verdict()[0]}")

    @property
    def verdict_alone(self) -> str:
        """The counts of all verdicts."""
        return self.verdict()[0]

    def aside(self) -> list[str]:
        """Return what was skipped, and notes."""
        return [*skipped_lines(self.report.skipped), *map(printable, self.report.notes)]

    def verdict(self) -> list[str]:
        """Return the counts of all verdicts, and the first pair that differs."""
        report = self.report
        counts = [f"{report.counts[verdict]:,} {verdict}" for verdict in VERDICTS if report.counts[verdict]]
        counts += [f"{report.left:,} not compared (--fail-fast)"] if report.left else []
        expected = "; as expected" if report.gated and not report.status else ""
        lines = [f"{report.verdict}: {', '.join(counts)}{expected}"]
        first = report.first
        if first is not None and first.report is not None:
            _, _, how = verdict_line(first.report).partition(": ")
            lines.append(f"first different: {printable(first.name)}: {how}")
        return lines

    def answer(self) -> Answer:
        """Return the verdict, what cannot be read, and the expectations that did not hold."""
        unread = [f"{printable(failure.name)}: {printable(failure.message)}" for failure in self.report.failures]
        return Answer(self.report.status == 0, [*self.verdict(), *unread, *broken_lines(self.report.broken)])

    def histograms(self) -> list[tuple[str, Histogram]]:
        """Return that of a - b of each pair that differs."""
        reports = [(row.name, row.report) for row in self.report.rows if row.report is not None]
        return [(name, report.picture.histogram) for name, report in reports if report.picture is not None]

    def sheets(self, *, quiet: bool, most: int = MOST_ROWS) -> list[Sheet]:
        """Return one table."""
        shown = self.report.rows[:most]
        file = file_of([row.name for row in shown])
        sheet = self._sheet(most, error=any(row.error is not None for row in shown), file=file)
        sheet = sheet._replace(above=printable(file.removesuffix("::")))
        return [sheet._replace(under=[*self._more(most), *([] if quiet else self.aside()), *self.verdict()], wide=True)]

    def sheet(self, most: int = MOST_ROWS) -> Sheet:
        """Return the table with a row per pair; its columns do not depend on the data, and the verdict is under it."""
        return self._sheet(most, error=True)

    def _sheet(self, most: int, *, error: bool, file: str = "") -> Sheet:
        shown, failed = self.report.rows[:most], error
        header = ["Name", "Verdict", *self._labels, *(["Error"] if failed else [])]
        rows: list[list[Value]] = []
        for row in shown:
            name = Foldable(printable(row.name.removeprefix(file)))
            cells: list[Value] = [name, _verdict(row), *map(row.number, self._columns)]
            rows.append(cells + ([Foldable(printable(row.message))] if failed else []))
        right = [False, False, *([True] * len(self._labels)), *([False] if failed else [])]
        return Sheet(header, rows, right, under=[*self._more(most), *self.verdict()])

    def _more(self, most: int) -> list[str]:
        return more_lines(max(0, len(self.report.rows) - most) + self.report.more)

    def blocks(self) -> Iterator[Block]:
        """Return a paragraph per pair, and the verdict."""
        for row in self.report.rows:
            entries: list[tuple[str, Value]] = [("Name", printable(row.name)), ("Verdict", _verdict(row))]
            if row.error is not None:
                entries.append(("Error", printable(row.message)))
            else:
                entries += zip(self._labels, map(row.number, self._columns), strict=True)
            yield Block(entries)
        yield Block([], None, "\n".join(self.verdict()))

    def values(self) -> Iterator[Value]:
        """Return the verdict in a word, or the selected numbers of each pair."""
        if not self.report.selected:
            yield self.report.verdict
        for row in self.report.rows if self.report.selected else ():
            yield from map(row.number, self.report.selected)

    def body(self) -> dict[str, object]:
        """Return all there is."""
        report = self.report
        names = {side: without_surrogates(name) for side, name in (("a", report.a), ("b", report.b))}
        return {"command": "diff"} | report.as_dict() | names | {"pairs": list(self.objects())}

    def objects(self) -> Iterator[dict[str, object]]:
        """Return an object per pair."""
        return (strict(row.as_dict(self.report.selected)) for row in self.report.rows)

    def rows(self) -> Iterator[Sequence[object]]:
        """Return a row per pair; the columns do not depend on the data."""
        names = self.report.selected or NUMBERS
        yield ["name", "verdict", "a", "b", *(DIFFERENCES[name].field for name in names), "error"]
        for row in self.report.rows:
            yield [*self._head(row), *map(row.number, names), row.message]

    def _head(self, row: PairRow) -> list[object]:
        return [row.name, row.verdict, *(None if side is None else side.name for side in (row.a, row.b))]

    def poster(self) -> Poster:
        """Return a page without panels: pictures are of one pair."""
        return Poster(f"{self.report.a} - {self.report.b}", [], self.verdict())


def _verdict(row: PairRow) -> str:
    """Return the verdict, and where nothing could be compared, why."""
    return row.verdict if row.report is None or row.report.compared else f"{row.verdict} shapes"
