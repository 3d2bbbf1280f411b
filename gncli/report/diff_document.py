"""What the report of ``diff`` says: labelled values, the cells if there are any, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gncli.names import CELL_DIFFERENCES, DIFFERENCES, Value
from gncli.report.diff_records import DiffCell, DiffReport, Ulps
from gncli.report.document import MOST_ROWS, Answer, Block, Document, Sheet
from gncli.report.lines import more_lines, output_line, place_line, rounded_lines, verdict_line
from gncli.report.poster import Panel, Poster, legend, maps_of
from gncli.report.records import Histogram
from gncli.report.style import UNDEFINED
from gncli.text import printable, without_surrogates

COLUMNS = (
    "equal", "rtol", "atol", "size", "nan_mismatches", "inf_mismatches", "outside", "max_abs",
    "mean_abs", "rmse", "psnr", "cosine", "smallest_atol",
)  # fmt: skip
"""The columns of ``csv`` after the names."""


class Labelled(NamedTuple):
    """A value with its label; a detail of the value above it is indented."""

    label: str
    value: Value
    detail: bool = False


class DiffDocument(Document):
    """What ``diff`` found."""

    def __init__(self, report: DiffReport) -> None:
        self.report = report

    @property
    def title(self) -> str:
        """The command and its operands."""
        return printable(f"gncli diff {self.report.a.name} {self.report.b.name}")

    @property
    def line(self) -> str:
        """The operands, and the verdict."""
        return printable(f"{self.report.a.name}, {self.report.b.name}: {verdict_line(self.report)}")

    def aside(self) -> list[str]:
        """Return notes."""
        return [*rounded_lines(self.report.rounded), *map(printable, self.report.notes)]

    def entries(self) -> list[Labelled]:
        """Return what there is to say of the whole tensors, in order."""
        report = self.report
        found = [
            Labelled(label, printable(f"{operand.name}, {operand.dtype} {operand.shape}"))
            for label, operand in (("a", report.a), ("b, the reference", report.b))
        ]
        if not report.compared:
            return found
        if report.selected:
            return [*found, *(Labelled(DIFFERENCES[name].label, report.number(name)) for name in report.selected)]
        found.append(Labelled("NaN Mismatches", report.nan_mismatches))
        found.append(Labelled("Infinity Mismatches", report.inf_mismatches))
        if report.first_mismatch is not None:
            found.append(Labelled("First Mismatch", report.first_mismatch))
        tolerance = report.tolerance
        if tolerance is not None:
            found.append(Labelled("Outside", tolerance.outside))
            found.append(Labelled("Fraction Outside", tolerance.outside / report.size if report.size else 0.0))
        worst = report.worst
        found.append(Labelled("Max |a - b|", None if worst is None else worst.difference))
        if worst is not None:
            found += [
                Labelled(name, value, True)
                for name, value in (("at", worst.index), ("in b at", worst.b_index), ("a", worst.a), ("b", worst.b))
                if value is not None
            ]
        found += [Labelled("Mean |a - b|", report.mean_abs), Labelled("RMSE", report.rmse)]
        found += [Labelled("PSNR (dB)", report.psnr), Labelled("Cosine", report.cosine)]
        if report.ulp is not None:
            found.append(Labelled("ULP", _ulps(report.ulp)))
        if report.rounding_floor is not None:
            found.append(Labelled("Rounding Floor", report.rounding_floor))
        found += [Labelled(*row) for gate in report.gates for row in gate.rows()]
        return [*found, *([] if tolerance is None else [Labelled("Smallest --atol", report.smallest_atol)])]

    @property
    def verdict_alone(self) -> str:
        """The verdict."""
        return verdict_line(self.report)

    def answer(self) -> Answer:
        """Return the verdict."""
        return Answer(self.report.equal, [verdict_line(self.report)])

    def histograms(self) -> list[tuple[str, Histogram]]:
        """Return that of a - b, unless a picture has it."""
        report = self.report
        drawn = report.histogram or (report.picture.histogram if report.picture and not report.picture.maps else None)
        return [] if drawn is None else [("a - b", drawn)]

    def sheets(self, *, quiet: bool, most: int = MOST_ROWS) -> list[Sheet]:
        """Return the table of values, and the one of cells."""
        report = self.report
        rows: list[list[Value]] = [["  " * detail + label, value] for label, value, detail in self.entries()]
        drawn = [] if report.histogram is None else [("", report.histogram)]
        written = report.output if report.compared else None
        beside = [*([] if written is None else [output_line(written)]), *self.aside()]
        under = [*([] if quiet else beside), verdict_line(report)]
        values = Sheet(["", ""], rows, [False, False], drawn)
        if not self._cells():
            return [values._replace(under=under)]
        worst, differs = report.most_different, []
        if worst is not None:
            how = "NaN and infinities" if worst.mismatches else DIFFERENCES["max"].label.lower()
            differs = [f"differs most, by {how}: {place_line(worst.place, worst.note)}"]
        more = more_lines(len(self._cells()) - most)
        return [values, self._cell_sheet(most)._replace(under=[*more, *differs, *under])]

    def sheet(self, most: int = MOST_ROWS) -> Sheet:
        """Return the table of cells if there are any, else that of values; under it the verdict."""
        rows: list[list[Value]] = [[label, value] for label, value, _ in self.entries()]
        sheet = self._cell_sheet(most) if self._cells() else Sheet(["", "Value"], rows, [False, False])
        return sheet._replace(under=[verdict_line(self.report)])

    def _cell_sheet(self, most: int) -> Sheet:
        rows: list[list[Value]] = [
            [place_line(cell.place, cell.note), *map(cell.number, self._columns())] for cell in self._cells()[:most]
        ]
        labels = [DIFFERENCES[name].label for name in self._columns()]
        return Sheet(["Cell", *labels], rows, [False, *([True] * len(labels))], wide=True)

    def _columns(self) -> tuple[str, ...]:
        """Return the names of the numbers of a cell."""
        return self.report.selected or CELL_DIFFERENCES

    def _cells(self) -> tuple[DiffCell, ...]:
        return () if self.report.cells is None else self.report.cells.kept

    def blocks(self) -> Iterator[Block]:
        """Return one paragraph, which ends in the verdict."""
        entries: list[tuple[str, Value]] = [(label, value) for label, value, _ in self.entries()]
        for cell in self._cells():
            known = ((DIFFERENCES[name].label, cell.number(name)) for name in self._columns())
            numbers = ((label, UNDEFINED if number is None else number) for label, number in known)
            entries.append((place_line(cell.place, cell.note), ", ".join(f"{label} {n}" for label, n in numbers)))
        yield Block(entries, self.report.histogram, verdict_line(self.report))

    def values(self) -> Iterator[Value]:
        """Return the verdict in a word, or the selected numbers, of each cell if there are cells."""
        if not self.report.selected:
            yield self.report.verdict
        for of in self._cells() or (self.report,) if self.report.selected else ():
            yield from map(of.number, self.report.selected)

    def body(self) -> dict[str, object]:
        """Return all there is."""
        return {"command": "diff"} | self._object()

    def _object(self) -> dict[str, object]:
        found = self.report.as_dict()
        for side, operand in (("a", self.report.a), ("b", self.report.b)):
            found[side] = operand.as_dict() | {"name": without_surrogates(operand.name)}
        return found

    def objects(self) -> Iterator[dict[str, object]]:
        """Return an object per cell, or one of the whole tensors."""
        if self.report.cells is None:
            yield self._object()
        else:
            yield from (cell.as_dict(self.report.selected) for cell in self._cells())

    def rows(self) -> Iterator[Sequence[object]]:
        """Return a row per cell, or one of the whole tensors."""
        report = self.report
        if report.cells is not None:
            yield [*report.cells.names, *(DIFFERENCES[name].field for name in self._columns())]
            yield from ([*cell.place.values(), *map(cell.number, self._columns())] for cell in report.cells.kept)
            return
        found = report.as_dict() | {"max_abs": report.max_abs}
        columns = [DIFFERENCES[name].field for name in report.selected] or COLUMNS
        yield ["a", "b", *columns]
        yield [report.a.name, report.b.name, *(found.get(name) for name in columns)]

    def poster(self) -> Poster:
        """Return one panel of a - b; none where the shapes differ."""
        report, word = self.report, self.report.verdict
        title = f"{word}: {report.a.name} - {report.b.name}"
        operands = [f"{side}: {operand.dtype} {operand.shape}" for side, operand in (("a", report.a), ("b", report.b))]
        said = [verdict_line(report), ", ".join(operands)]
        if report.picture is None:
            return Poster(title, [], said)
        maps = [each for kind, heatmap in report.picture.maps.items() for each in maps_of(kind, heatmap)]
        panel = Panel("", [("", report.picture.histogram)], "a - b", [[each] for each in maps])
        if report.nan_mismatches or report.inf_mismatches:
            said.append(
                f"{report.nan_mismatches:,} differ by a NaN, {report.inf_mismatches:,} by an infinity: "
                "such cells are orange with a cross"
            )
        return Poster(title, [panel], [*said, *legend([panel])])


def _ulps(found: Ulps) -> str:
    """Return the percentiles in words."""
    numbers = (found.median, found.p99, found.p999, found.max)
    words = ("65535 or more" if number >= 65535 else f"{number:.6g}" for number in numbers)
    return "median {}, p99 {}, p99.9 {}, max {}".format(*words)
