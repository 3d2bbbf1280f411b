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

    def rows(self, tensor: TensorStats | Failure, cells: Sequence[Cell]) -> str:
        """Return the text of the next cells of `tensor`, or in JSON Lines why it could not be read."""
        text = STREAMED[self._form](CellBatch(tensor, cells, self._selected, first=self._first), Style())
        gap = "\n" if self._form == "plain" and text and not self._first else ""
        self._first = self._first and not text
        return gap + text
