"""The records behind a report of ``diff`` about many pairs: how each of them compares, as data alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gncli.errors import GncliError
from gncli.names import DIFFERENCES, FITTED
from gncli.report.diff_records import DiffReport, Operand
from gncli.report.records import ALL_HOLD, Broken, Failure, Items, Record
from gncli.text import finite, natural

IDENTICAL, SAME, DIFFERENT, INCONCLUSIVE = "identical", "same", "different", "inconclusive"
UNREADABLE = "unreadable"
ONLY_A, ONLY_B = "only in A", "only in B"
VERDICTS = (IDENTICAL, SAME, DIFFERENT, INCONCLUSIVE, UNREADABLE, ONLY_A, ONLY_B)
"""The verdicts on a pair, in the order in which they are counted."""

NUMBERS = tuple(name for name in DIFFERENCES if name not in FITTED)
"""The numbers of a pair that every object of JSON has."""

_NAMES = {difference.field: name for name, difference in DIFFERENCES.items()}


@dataclass(frozen=True, kw_only=True)
class PairRow(Items):
    """How the tensors of one name compare.

    Parameters
    ----------
    name : str
        The name that they have in common.
    verdict : str
        One of `VERDICTS`.
    a, b : Operand, optional
        The tensors; None where there is none, or it cannot be read.
    report : DiffReport, optional
        The differences, if they were measured: not of identical pairs.
    error : GncliError, optional
        Why one of them cannot be read.
    fails : bool
        Whether the pair is a difference that was not expected.
    """

    name: str
    verdict: str
    a: Operand | None = None
    b: Operand | None = None
    report: DiffReport | None = None
    error: GncliError | None = None
    fails: bool = False

    def number(self, name: str) -> int | float | None:
        """Return one of `DIFFERENCES` by its name; None where it is unknown.

        Identical tensors lie 0 apart, at an angle of 0, and on the line a = b.
        """
        if self.verdict == IDENTICAL:
            return {"size": self.b.size if self.b else None, "cosine": 1.0, "slope": 1.0}.get(name, 0)
        if self.report is None or not self.report.compared:
            return None
        return finite(self.report.number(name))

    @property
    def key(self) -> tuple[object, ...]:
        """What orders pairs by name, as people count."""
        return natural(self.name)

    def __getattr__(self, name: str) -> Any:
        """Return one of `DIFFERENCES` by its name in JSON."""
        if name in _NAMES:
            return self.number(_NAMES[name])
        raise AttributeError(name)

    @property
    def same(self) -> bool:
        """Whether there is no difference."""
        return self.verdict in (IDENTICAL, SAME)

    @property
    def message(self) -> str:
        """Why the pair cannot be read, without a name; nothing if it can be."""
        return "" if self.error is None else "; ".join(filter(None, (self.error.problem, self.error.hint)))

    def as_dict(self, extra: Collection[str] = ()) -> dict[str, object]:
        """Return the JSON object; `extra` are numbers that follow those which every object has."""
        found: dict[str, object] = {"name": self.name, "verdict": self.verdict}
        found |= {side: None if of is None else of.as_dict() for side, of in (("a", self.a), ("b", self.b))}
        if self.error is not None:
            return found | {"error": self.message, "status": self.error.status}
        if self.report is not None:
            found |= {"rtol": self.report.rtol, "atol": self.report.atol}
            found |= {"gates": {gate.name: gate.as_dict() for gate in self.report.gates}}
        return found | {DIFFERENCES[name].field: self.number(name) for name in dict.fromkeys((*NUMBERS, *extra))}


@dataclass(frozen=True, kw_only=True, repr=False)
class PairsReport(Record):
    """What ``diff`` found about many pairs: a sequence of rows, which are items by name too.

    Parameters
    ----------
    a, b : str
        The files or folders, as the user typed them.
    rows : tuple of PairRow
        The pairs that were compared, in the order to show.
    more : int
        The pairs to show after these, which the report does not hold.
    failures : tuple of Failure
        The pairs that cannot be read, shown or not.
    selected : tuple of str
        The names of the numbers to show; empty for the default ones.
    counts : Counter of str
        The number of all pairs by verdict.
    first : PairRow, optional
        The first pair in natural order whose tensors differ.
    left : int
        The pairs that were not compared, after the first difference.
    broken : Broken
        The expectations that did not hold.
    gated : bool
        Whether expectations decide which differences fail.
    failed : bool
        Whether a difference was found that was not expected.
    error : int
        The highest status of what cannot be read; 0 without any.
    skipped : tuple of (str, int)
        Files and folders, and how many of their tensors are not numeric.
    notes : tuple of str
        Facts about the run that the user should know.

    Examples
    --------
    >>> report = PairsReport(a="a.npz", b="b.npz", rows=(PairRow(name="w", verdict=SAME),), counts=Counter(same=1))
    >>> report, report.equal, report["w"].verdict
    (<PairsReport a.npz, b.npz: SAME: 1 same>, True, 'same')
    """

    a: str
    b: str
    rows: tuple[PairRow, ...]
    more: int = 0
    failures: tuple[Failure, ...] = ()
    selected: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    first: PairRow | None = None
    left: int = 0
    broken: Broken = ALL_HOLD
    gated: bool = False
    failed: bool = False
    error: int = 0
    skipped: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    output: ClassVar[None] = None

    def __iter__(self) -> Iterator[PairRow]:
        """Iterate over `rows`."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Return the number of `rows`."""
        return len(self.rows)

    def __getitem__(self, name: str) -> Any:
        """Return the row of that name, or an attribute."""
        row = next((row for row in self.rows if row.name == name), None)
        return super().__getitem__(name) if row is None else row

    @property
    def equal(self) -> bool:
        """Whether every name is on both sides, and all pairs are the same."""
        return not self.left and self.counts[IDENTICAL] + self.counts[SAME] == self.counts.total()

    @property
    def verdict(self) -> str:
        """What all pairs together are: INCONCLUSIVE where no pair differs, but some are inconclusive."""
        if self.equal:
            return SAME.upper()
        undecided = self.counts[IDENTICAL] + self.counts[SAME] + self.counts[INCONCLUSIVE]
        return (INCONCLUSIVE if undecided == self.counts.total() and not self.left else DIFFERENT).upper()

    @property
    def status(self) -> int:
        """The exit status: that of what cannot be read, else 1 if a difference or an expectation failed, else 0."""
        return self.error or int(self.failed or self.broken.total > 0)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object, without schema, command and pairs."""
        return {
            "equal": self.equal,
            "verdict": self.verdict,
            "a": self.a,
            "b": self.b,
            "counts": {verdict: self.counts[verdict] for verdict in VERDICTS},
            "not_compared": self.left,
            "first_different": None if self.first is None else self.first.name,
        }
