"""The interface between reports and forms: what a report says, before it takes a form.

A document knows what a report says and nothing of how it looks. A form (in `forms`, `table` or `plot`) knows how things
look and nothing of reports. So each form is written once, and a new report fits all forms once it has a document.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gncli.names import Value

if TYPE_CHECKING:
    from gncli.report.poster import Poster
    from gncli.report.records import Histogram

MOST_ROWS = 1000  # cells or pairs in a table; the others are counted
MOST_ROWS_OF_A_PAGE = 10_000  # the same in a page, which sorts them


class Foldable(str):
    """Text in a table that a narrow terminal may fold; every other value keeps its digits on one line."""

    __slots__ = ()


class Sheet(NamedTuple):
    """A table for a reader, and what stands under it. Text in it is printable.

    Parameters
    ----------
    header : list of str
        The title of each column.
    rows : list of list
        One value per column.
    right : list of bool
        Whether each column is aligned to the right.
    histograms : sequence of (str, Histogram)
        Drawn under the table, each with the name of its tensor.
    under : sequence of str
        The lines under the table.
    above : str, default: ""
        The file that all its rows are of; nothing where they are of several.
    wide : bool, default: False
        Whether it has a row per tensor, cell or pair, and so many numbers that each is shown in few digits.
    """

    header: list[str]
    rows: list[list[Value]]
    right: list[bool]
    histograms: Sequence[tuple[str, Histogram]] = ()
    under: Sequence[str] = ()
    above: str = ""
    wide: bool = False


class Block(NamedTuple):
    """A paragraph of labelled values at full precision; then a histogram and a last line, if it has them."""

    entries: list[tuple[str, Value]]
    histogram: Histogram | None = None
    last: str | None = None


class Answer(NamedTuple):
    """What a page begins with.

    Parameters
    ----------
    good : bool
        Whether the exit status is 0.
    lines : list of str
        The verdict, or what failed; printable, and nothing where there is neither.
    """

    good: bool
    lines: list[str]


class Stream(ABC):
    """The part of a document that can be written piece by piece: cells, as they come."""

    @abstractmethod
    def blocks(self) -> Iterable[Block]:
        """Return the paragraphs of ``plain``; text in them is printable."""

    @abstractmethod
    def values(self) -> Iterable[Value]:
        """Return what ``value`` prints, one per line."""

    @abstractmethod
    def objects(self) -> Iterable[dict[str, object]]:
        """Return the objects of ``jsonl``, one per line."""

    @abstractmethod
    def rows(self) -> Iterable[Sequence[object]]:
        """Return the rows of ``csv``, the header first; names in them are as the user or a file spelled them."""


class Document(Stream):
    """All that the forms need of a report."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The title of a page: the command, and the tensors."""

    @property
    @abstractmethod
    def line(self) -> str:
        """The answer in a line."""

    @property
    def verdict_alone(self) -> str | None:
        """The verdict of a comparison; None for other reports."""
        return None

    @abstractmethod
    def aside(self) -> list[str]:
        """Return the lines that go to stderr where stdout carries data: a chosen seed, what was skipped, notes."""

    @abstractmethod
    def answer(self) -> Answer:
        """Return the verdict, or what failed."""

    @abstractmethod
    def sheets(self, *, quiet: bool, most: int = MOST_ROWS) -> list[Sheet]:
        """Return the tables of ``table``, ``svg`` and ``html``, of at most `most` cells or pairs.

        If `quiet`, the answer alone is under them.
        """

    @abstractmethod
    def sheet(self, most: int = MOST_ROWS) -> Sheet:
        """Return the one table of ``markdown``."""

    @abstractmethod
    def histograms(self) -> Sequence[tuple[str, Histogram]]:
        """Return the histograms of ``html``, each with the name of its tensor or pair."""

    @abstractmethod
    def body(self) -> dict[str, object]:
        """Return the object of ``json``, without the schema."""

    @abstractmethod
    def poster(self) -> Poster:
        """Return what a picture shows."""
