"""How the text of a report looks."""

from __future__ import annotations

from typing import NamedTuple

from gncli.names import Value

UNDEFINED = "-"


class Style(NamedTuple):
    """How the text looks; no form loses a fact to it.

    Parameters
    ----------
    precision : int, optional
        Significant digits of floats in tables; integers are whole. None is 8, and 5 in wide tables.
    color : bool
        Whether tables are coloured.
    width : int, optional
        Columns of the terminal; None (a pipe) is as wide as the table needs.
    encoding : str
        The characters that the reader can show; others are escaped, and boxes drawn in ASCII.
    quiet : bool
        Whether a table stands alone, without the lines under it.
    page : bool
        Whether the table is a page of its own: as wide as it needs to be, with lines broken at words.
    """

    precision: int | None = None
    color: bool = False
    width: int | None = None
    encoding: str = "utf-8"
    quiet: bool = False
    page: bool = False

    def rounded(self, value: Value, *, wide: bool = False) -> str:
        """Return a value as tables show it."""
        if isinstance(value, float):
            return f"{value:.{self.precision or (5 if wide else 8)}g}"
        return UNDEFINED if value is None else str(value)

    def fitted(self, text: str) -> str:
        """Return `text` with the characters escaped that the reader cannot show."""
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def fits(self, text: str) -> bool:
        """Return whether the reader can show `text` as it is."""
        return self.fitted(text) == text
