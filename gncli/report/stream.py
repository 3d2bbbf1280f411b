"""The cells of ``--by`` in text, as they come."""

from __future__ import annotations

from collections.abc import Sequence

from gncli.report.forms import STREAMED
from gncli.report.records import Cell, Failure, TensorStats
from gncli.report.style import Style
from gncli.report.tensor_document import CellBatch

__all__ = ["STREAMED", "CellStream"]


class CellStream:
    """The text of cells, batch by batch.

    Parameters
    ----------
    form : str
        One of `STREAMED`.
    selected : tuple of str
        The statistics to show, by name; empty for the default ones.
    """

    def __init__(self, form: str, selected: tuple[str, ...]) -> None:
        self._form, self._selected, self._first = form, selected, True
        self._axes: tuple[str, ...] | None = None
        self._unread: list[Failure] = []

    def rows(self, tensor: TensorStats | Failure, cells: Sequence[Cell]) -> str:
        """Return the text of the next cells of `tensor`, or in CSV and JSON Lines why it could not be read.

        In CSV that waits for the first cell, which has the names of the columns.
        """
        if self._form == "csv":
            self._unread += [tensor] if isinstance(tensor, Failure) else []
            self._axes = tuple(cells[0].place) if cells and self._axes is None else self._axes
            if self._axes is None:
                return ""
        unread, self._unread = self._unread, []
        axes = self._axes or ()
        batch = CellBatch(tensor, cells, self._selected, first=self._first, axes=axes, unread=unread)
        text = STREAMED[self._form](batch, Style())
        gap = "\n" if self._form == "plain" and text and not self._first else ""
        self._first = self._first and not text
        return gap + text
