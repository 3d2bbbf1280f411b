"""The cells of ``--by``, as they come: the forms that show all of them."""

from __future__ import annotations

from gncli.names import CELL_STATISTICS, NONFINITE
from gncli.report.csv import named, written
from gncli.report.json import dumped, object_of
from gncli.report.records import Cell, Failure, Report, TensorStats
from gncli.report.rows import exact, records
from gncli.report.style import UNDEFINED
from gncli.text import printable, without_surrogates

STREAMED = ("csv", "jsonl", "plain", "value")
"""The forms that show all cells, however many there are."""


class CellStream:
    """The text of cells, batch by batch.

    Parameters
    ----------
    form : str
        One of `STREAMED`.
    selected : tuple of str
        Statistics by contract name; empty for those of cells.
    """

    def __init__(self, form: str, selected: tuple[str, ...]) -> None:
        self._form, self._selected = form, selected
        self._names: tuple[str, ...] | None = None

    def rows(self, tensor: TensorStats, cells: list[Cell]) -> str:
        """Return the text of the next cells of `tensor`."""
        if self._form == "jsonl":
            head = {"name": without_surrogates(tensor.name)}
            return "".join(dumped(head | cell.as_dict(self._selected)) for cell in cells)
        if self._form == "value":
            shown = self._selected or CELL_STATISTICS
            return "".join(f"{exact(cell.stats.value(each), UNDEFINED)}\n" for cell in cells for each in shown)
        if self._form == "plain":
            name = printable(tensor.name, limit=None)
            return "".join(self._plain(name, cell) for cell in cells)
        rows: list[list[object]] = []
        chosen = self._selected or (*CELL_STATISTICS, *NONFINITE)
        for cell in cells:
            if self._names is None:
                self._names = tuple(cell.place)
                rows.append(["name", *self._names, *chosen])
            values = (exact(cell.stats.value(each), "") for each in chosen)
            rows.append([named(tensor.name), *cell.place.values(), *values])
        return written(rows)

    def _plain(self, name: str, cell: Cell) -> str:
        gap, self._names = ("" if self._names is None else "\n"), ()
        lines = [f"Name:  {name}", f"Cell:  {cell.label}", *cell.stats.lines(self._selected or CELL_STATISTICS)]
        return gap + "".join(f"{line}\n" for line in lines)


def after_cells(report: Report, form: str) -> str:
    """Return what is left to show when the cells have been: tensors that could not be read, as objects."""
    failures = [tensor for _, tensor in records(report) if isinstance(tensor, Failure)]
    return "".join(dumped(object_of(report, failure)) for failure in failures) if form == "jsonl" else ""
