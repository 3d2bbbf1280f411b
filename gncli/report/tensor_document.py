"""What the reports of ``stats`` and ``random`` say: the statistics of tensors and cells."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gncli.names import CELL_STATISTICS, DEFAULT_STATISTICS, NAMED_STATISTICS, NONFINITE, Value, statistic
from gncli.report.document import MOST_ROWS, Answer, Block, Document, Foldable, Sheet, Stream
from gncli.report.lines import (
    broken_lines,
    file_of,
    more_lines,
    output_line,
    place_line,
    rounded_lines,
    seed_lines,
    skipped_lines,
    stats_line,
)
from gncli.report.poster import Panel, Poster, described, legend, maps_of, scaled
from gncli.report.records import MOST_DRAWN, Cell, Cells, Failure, Histogram, StatsReport, Summary, TensorStats, Total
from gncli.report.style import UNDEFINED
from gncli.text import printable, without_surrogates


class Entry(NamedTuple):
    """A tensor or a stage: its heading, and its statistics or why there are none."""

    heading: str
    stats: Summary | Failure
    histogram: Histogram | None = None
    cells: Cells[Cell] | None = None

    @classmethod
    def of(cls, heading: str, stats: TensorStats) -> Entry:
        """Return the entry of one tensor."""
        return cls(heading, stats, stats.histogram, stats.cells)


class TensorDocument(Document):
    """What the documents of ``stats`` and ``normalize`` have in common: one entry per tensor or stage.

    Attributes
    ----------
    key : str
        What a heading is: ``name`` or ``stage``.
    entries : list of Entry
        What is shown.
    selected : tuple of str
        The statistics to show, by name; empty for the default ones.
    upright : bool
        Whether a table has a column per entry, and not a row.
    headed : bool
        Whether each paragraph of ``plain`` begins with its heading.
    fallible : bool
        Whether an entry may be an error, for which ``csv`` and ``markdown`` have a column, whether there is one or not.
    some : bool, default: False
        Whether the entries are only some of all.
    """

    key: str
    entries: list[Entry]
    selected: tuple[str, ...] = ()
    upright: bool
    headed: bool
    fallible: bool
    some: bool = False

    @abstractmethod
    def under(self) -> list[str]:
        """Return the lines under a table that is not quiet."""

    def sheets(self, *, quiet: bool, most: int = MOST_ROWS) -> list[Sheet]:
        """Return one table."""
        sheet = self._upright() if self.upright else self._wide()
        under = [] if quiet else [*sheet.under, *self.under()]
        return [sheet._replace(histograms=self.histograms(), under=under)]

    def _upright(self) -> Sheet:
        known = _known(self.entries)
        header = ["", *(printable(entry.heading) for entry in self.entries)]
        rows: list[list[Value]] = [
            [statistic(name).label, *(_told(stats, name) for stats in known)]
            for name in shown(self.selected, known, counts=True)
        ]
        return Sheet(header, rows, [False] * len(header))

    def _wide(self) -> Sheet:
        """Return the table for a reader with a row per entry: the file's name once, and no column that says nothing."""
        known, selected = _known(self.entries), self.selected
        file = file_of([entry.heading for entry in self.entries if not isinstance(entry.stats, Total)])
        rows: list[tuple[list[Value], Summary | Failure]] = [
            ([Foldable(printable(entry.heading.removeprefix(file)))], entry.stats) for entry in self.entries
        ]
        names = [name for name in shown(selected, known) if selected or name != "object_type"]
        sheet = _sheet([self.key.capitalize()], rows, names, error=len(known) < len(self.entries), wide=True)
        return sheet._replace(
            above=printable(file.removesuffix("::")), under=_finite_lines(selected, known, some=self.some)
        )

    def sheet(self, most: int = MOST_ROWS) -> Sheet:
        """Return the table with a row per entry; its columns do not depend on the data."""
        rows: list[tuple[list[Value], Summary | Failure]] = [
            ([Foldable(printable(entry.heading))], entry.stats) for entry in self.entries
        ]
        names = self.selected or (*DEFAULT_STATISTICS, *NONFINITE)
        return _sheet([self.key.capitalize()], rows, names, error=self.fallible)

    def blocks(self) -> Iterator[Block]:
        """Return one line per statistic for each entry."""
        for entry in self.entries:
            head: list[tuple[str, Value]] = [(self.key.capitalize(), printable(entry.heading))] if self.headed else []
            if isinstance(entry.stats, Failure):
                yield Block([*head, ("Error", printable(entry.stats.message))])
            else:
                yield Block([*head, *_labelled(entry.stats, self.selected)], entry.histogram)

    def values(self) -> Iterator[Value]:
        """Return the selected statistics of each entry."""
        for stats in _known(self.entries):
            yield from (_told(stats, name) for name in self.selected or DEFAULT_STATISTICS)

    def rows(self) -> Iterator[Sequence[object]]:
        """Return a row per entry; the columns do not depend on the data."""
        names = self.selected or (*DEFAULT_STATISTICS, *NONFINITE)
        yield [self.key, *names, *(["error"] if self.fallible else [])]
        for entry in self.entries:
            yield [entry.heading, *_values(entry.stats, names, error=self.fallible)]

    def objects(self) -> Iterator[dict[str, object]]:
        """Return an object per entry."""
        return (tensor_object(entry.stats, self.selected) for entry in self.entries)


class StatsDocument(TensorDocument):
    """What ``stats`` or ``random`` found."""

    key = "name"
    fallible = True

    def __init__(self, report: StatsReport) -> None:
        self.report, self.selected, self.some = report, report.selected, report.some
        self.entries = [
            Entry(found.name, found) if isinstance(found, Failure) else Entry.of(found.name, found)
            for found in report.tensors
        ]
        if report.total is not None:
            self.entries.append(Entry(report.total.name, report.total))
        self.headed = len(self.entries) > 1
        self.upright = len(self.entries) == 1 and not report.failures

    @property
    def title(self) -> str:
        """The command, and the first tensors."""
        report = self.report
        names = [tensor.name for tensor in report.tensors] if report.output is None else [report.output]
        more = [f"and {len(names) - 2:,} more"] if len(names) > 2 else []
        return printable(f"gncli {report.command} {' '.join([*names[:2], *more])}")

    @property
    def line(self) -> str:
        """A single tensor with its statistics; else the number of tensors."""
        found = self.report.tensors
        if len(found) == 1 and isinstance(found[0], TensorStats):
            return stats_line(found[0], self.selected)
        failed = f", {len(self.report.failures):,} of them could not be read" if self.report.failures else ""
        return f"{len(found):,} tensors{failed}"

    def aside(self) -> list[str]:
        """Return the seed, what was skipped, and notes."""
        report = self.report
        rounded = rounded_lines(report.rounded)
        return [*seed_lines(report.seed), *rounded, *skipped_lines(report.skipped), *map(printable, report.notes)]

    def under(self) -> list[str]:
        """Return where a drawn tensor went, and what goes to stderr otherwise."""
        return [*([] if self.report.output is None else [output_line(self.report.output)]), *self.aside()]

    def answer(self) -> Answer:
        """Return the tensors that cannot be read, and the expectations that did not hold."""
        report = self.report
        unread = [f"{printable(failure.name)}: {printable(failure.message)}" for failure in report.failures]
        return Answer(report.status == 0, [*unread, *broken_lines(report.broken)])

    def histograms(self) -> list[tuple[str, Histogram]]:
        """Return the histogram of each tensor."""
        return [(entry.heading, entry.histogram) for entry in self.entries if entry.histogram is not None]

    def body(self) -> dict[str, object]:
        """Return the tensors, and all of them together."""
        objects = [tensor_object(tensor, self.selected) for tensor in self.report.tensors]
        total = self.report.total
        together = {} if total is None else {"total": tensor_object(total, self.selected)}
        rounded = {} if self.report.rounded is None else {"rounded": self.report.rounded.as_dict()}
        return {"command": self.report.command, "tensors": objects, **together, **rounded}

    def poster(self) -> Poster:
        """Return a panel per tensor, for the first ones."""
        report = self.report
        tensors = [found for found in report.tensors if isinstance(found, TensorStats)]
        drawn = [found for found in tensors if found.picture is not None][:MOST_DRAWN]
        alone = len(drawn) == 1
        file = file_of([found.name for found in drawn])
        panels = [_panel(found, "" if alone else found.name.removeprefix(file)) for found in drawn]
        caption = [*(described(found) for found in drawn if alone), *legend(panels)]
        if len(drawn) < len(tensors):
            caption.append(f"{len(drawn)} of {len(tensors):,} tensors are drawn")
        if report.failures:
            caption.append(f"{len(report.failures):,} could not be read")
        if report.seed is not None:
            caption.append(f"seed {report.seed}")
        of = f" of {file.removesuffix('::')}" if file else ""
        return Poster(drawn[0].name if alone else f"{len(drawn)} tensors{of}", panels, caption)


class CellsDocument(StatsDocument):
    """What ``stats --by`` found. Tables show the first cells; a `CellBatch` has shown all rows to other forms."""

    def sheets(self, *, quiet: bool, most: int = MOST_ROWS) -> list[Sheet]:
        """Return one table."""
        sheet = self._cell_sheet(most, fixed=False)
        return [sheet._replace(under=[*sheet.under, *([] if quiet else self.under())])]

    def sheet(self, most: int = MOST_ROWS) -> Sheet:
        """Return the table with a row per cell; its columns do not depend on the data."""
        return self._cell_sheet(most, fixed=True)

    def _cell_sheet(self, most: int, *, fixed: bool) -> Sheet:
        """Return the table with a row per cell, and one per tensor that has none."""
        several, count, ranked = len(self.entries) > 1, 0, self.report.ranked
        rows: list[tuple[list[Value], Summary | Failure]] = []
        for heading, place, stats in self._cell_rows():
            if not place or count < most:
                rows.append(([*([Foldable(printable(heading))] if several else []), place], stats))
                count += bool(place)
        total = sum(entry.cells.total for entry in self.entries if entry.cells is not None)
        total = total if ranked is None else ranked.total
        known = [stats for _, stats in rows if isinstance(stats, Summary)]
        every = self.selected or (*CELL_STATISTICS, *NONFINITE)
        names = every if fixed else shown(self.selected or CELL_STATISTICS, known)
        failed = len(known) < len(rows)
        sheet = _sheet(["Name", "Cell"] if several else ["Cell"], rows, names, error=fixed or failed, wide=not fixed)
        finite = [] if fixed else _finite_lines(self.selected, known, some=self.some or total > count)
        return sheet._replace(under=[*more_lines(total - count), *finite])

    def _cell_rows(self) -> Iterator[tuple[str, str, Summary | Failure]]:
        """Yield a row per cell, with the name of its tensor and its place, and one per tensor that has none."""
        ranked, entries = self.report.ranked, self.entries
        if ranked is not None:
            entries = [entry for entry in self.entries if entry.cells is None]
            yield from ((entry.heading, "", entry.stats) for entry in entries if isinstance(entry.stats, Failure))
            yield from ((name, place_line(cell.place, cell.note), cell.stats) for name, cell in ranked.rows)
            entries = [entry for entry in entries if isinstance(entry.stats, Total)]
        for heading, stats, _, cells in entries:
            if cells is None:
                yield heading, "", stats
            for cell in cells or ():
                yield heading, place_line(cell.place, cell.note), cell.stats

    def blocks(self) -> Iterator[Block]:
        """Return nothing."""
        return iter(())

    def values(self) -> Iterator[Value]:
        """Return nothing."""
        return iter(())

    def rows(self) -> Iterator[Sequence[object]]:
        """Return nothing."""
        return iter(())

    def objects(self) -> Iterator[dict[str, object]]:
        """Return nothing."""
        return iter(())


class CellBatch(Stream):
    """Some cells of a tensor, or why it could not be read.

    Parameters
    ----------
    tensor : TensorStats or Failure
        The tensor; its statistics are not used. ``jsonl`` has a place for a failure.
    cells : sequence of Cell
        The cells.
    selected : tuple of str
        The statistics to show, by name; empty for the default ones.
    first : bool
        Whether these are the first cells of the report.
    axes : sequence of str
        The axes of a cell.
    unread : sequence of Failure
        The tensors before these cells that could not be read, for ``csv``.
    """

    def __init__(
        self,
        tensor: TensorStats | Failure,
        cells: Sequence[Cell],
        selected: tuple[str, ...],
        *,
        first: bool,
        axes: Sequence[str] = (),
        unread: Sequence[Failure] = (),
    ) -> None:
        self.tensor, self.cells, self.selected, self.first = tensor, cells, selected, first
        self.axes, self.unread = axes, unread

    def blocks(self) -> Iterator[Block]:
        """Return a paragraph per cell."""
        name = printable(self.tensor.name, limit=None)
        for cell in self.cells:
            place = place_line(cell.place, cell.note)
            yield Block([("Name", name), ("Cell", place), *_labelled(cell.stats, self.selected or CELL_STATISTICS)])

    def values(self) -> Iterator[Value]:
        """Return the selected statistics of each cell."""
        for cell in self.cells:
            yield from map(cell.stats.value, self.selected or CELL_STATISTICS)

    def objects(self) -> Iterator[dict[str, object]]:
        """Return an object per cell, or the one of a failure."""
        if isinstance(self.tensor, Failure):
            return iter([tensor_object(self.tensor)])
        head = {"name": without_surrogates(self.tensor.name)}
        return (head | cell.as_dict(self.selected) for cell in self.cells)

    def rows(self) -> Iterator[Sequence[object]]:
        """Return a row per tensor that could not be read, and per cell; the columns do not depend on the data."""
        names = self.selected or (*CELL_STATISTICS, *NONFINITE)
        if self.first:
            yield ["name", *self.axes, *names, "error"]
        for failure in self.unread:
            yield [failure.name, *[""] * len(self.axes), *_values(failure, names, error=True)]
        for cell in self.cells:
            yield [self.tensor.name, *cell.place.values(), *_values(cell.stats, names, error=True)]


def shown(selected: Sequence[str], found: Sequence[Summary], *, counts: bool = False) -> list[str]:
    """Return the statistics that a reader sees: those selected, and counts of non-finite values where there are any.

    Without a selection, `counts` shows these where there are none too.
    """
    named = not selected and any(stats.has("dimensions") for stats in found)
    chosen = list(selected or (NAMED_STATISTICS if named else DEFAULT_STATISTICS))
    always = counts and (not selected or tuple(selected) == CELL_STATISTICS)
    return chosen + [
        name for name in NONFINITE if name not in chosen and (always or any(s.values.get(name) for s in found))
    ]


def _finite_lines(selected: Sequence[str], found: Sequence[Summary], *, some: bool) -> list[str]:
    """Return the line that says that there is no NaN and no infinity, in place of three columns of zeros.

    If `found` are only `some` of all, it is about these.
    """
    none = found and not selected and not any(stats.values.get(name) for stats in found for name in NONFINITE)
    return [f"no NaN or infinity{' in what is shown' if some else ''}"] if none else []


def tensor_object(found: Summary | Failure, selected: Sequence[str] = ()) -> dict[str, object]:
    """Return the JSON object of a tensor; names of axes are escaped as in text."""
    if isinstance(found, Failure):
        return spelled(found.as_dict())
    entries = spelled(found.as_dict(selected))
    names = found.value("dimensions")
    return entries | ({"dimensions": [printable(str(name)) for name in names]} if isinstance(names, tuple) else {})


def spelled(entries: dict[str, object]) -> dict[str, object]:
    """Return entries of JSON, whose text is valid Unicode."""
    return {key: without_surrogates(value) if isinstance(value, str) else value for key, value in entries.items()}


def _known(entries: Sequence[Entry]) -> list[Summary]:
    return [entry.stats for entry in entries if isinstance(entry.stats, Summary)]


def _told(stats: Summary, name: str) -> Value:
    """Return a statistic, None where it is undefined or was not measured; names of axes are spelled as a shape is."""
    if not stats.has(name):
        return None
    value = stats.value(name)
    if name == "dimensions" and isinstance(value, tuple):
        return f"({', '.join(printable(str(axis)) or UNDEFINED for axis in value)})"
    return value


def _labelled(stats: Summary, selected: Sequence[str]) -> list[tuple[str, Value]]:
    """Return the entries of a paragraph; the object type is spelled as Python prints it."""
    values = [(name, _told(stats, name)) for name in shown(selected, [stats])]
    return [
        (statistic(name).label, f"<class '{value}'>" if name == "object_type" and value else value)
        for name, value in values
    ]


def _values(found: Summary | Failure, names: Sequence[str], *, error: bool = False) -> list[Value]:
    """Return a row of statistics; with an error in the last column if `error`."""
    if isinstance(found, Failure):
        return [*([""] * len(names)), found.message]
    return [*(_told(found, name) for name in names), *([""] if error else [])]


def _sheet(
    heads: list[str],
    rows: Sequence[tuple[list[Value], Summary | Failure]],
    names: Sequence[str],
    *,
    error: bool,
    wide: bool = False,
) -> Sheet:
    """Return a table of statistics; with a column of errors if `error`, with short headings and numbers if `wide`."""
    labels = [(statistic(name).short if wide else "") or statistic(name).label for name in names]
    header = [*heads, *labels, *(["Error"] if error else [])]
    right = [*([False] * len(heads)), *(statistic(name).numeric for name in names), *([False] if error else [])]
    cells: list[list[Value]] = []
    for head, found in rows:
        values = _values(found, names, error=error)
        if isinstance(found, Failure):
            values[-1] = Foldable(printable(found.message))
        cells.append([*head, *values])
    return Sheet(header, cells, right, wide=wide)


def _panel(found: TensorStats, name: str) -> Panel:
    assert found.picture is not None
    picture = found.picture
    maps = scaled([each for kind, heatmap in picture.maps.items() for each in maps_of(kind, heatmap)])
    title = f"{name}   {found.dtype} {found.shape}" if name else ""
    # Where fields are shared there are three maps: the mean lies above the least and the largest deviation.
    rows = [row for row in (maps[:-2], maps[-2:]) if row]
    return Panel(title, [("", picture.histogram)], "value", rows)
