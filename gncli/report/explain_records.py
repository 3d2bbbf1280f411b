"""The records behind a report of ``explain``: which conventions give an output, as data alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from gncli.report.diff_records import Operand
from gncli.report.records import Items, Record
from gncli.text import finite

if TYPE_CHECKING:
    from gncli.kernels.conventions import Convention


@dataclass(frozen=True, kw_only=True)
class Hypothesis(Items):
    """A convention, and how far the output lies from it.

    Parameters
    ----------
    convention : Convention
        What is computed.
    words : str
        How it differs from what was asked for; empty if it does not.
    options : str, optional
        The options of ``gncli normalize`` that reproduce it; None if there are none for a part of it.
    size, outside : int
        The number of elements, and of those that rounding does not explain.
    max_abs, max_ulp, rmse : float
        The largest finite error, the same in ULP of the output, and the root of the mean squared error.
    rounding : float
        The largest error in units of the last rounding, less that of the arithmetic: 0.5 where it is correct.
    """

    convention: Convention
    words: str
    options: str | None
    size: int
    outside: int
    max_abs: float
    max_ulp: float
    rmse: float
    rounding: float

    @property
    def explains(self) -> bool:
        """Whether rounding explains every element."""
        return not self.outside

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        numbers = ("max_abs", "max_ulp", "rmse", "rounding")
        return {
            "changes": self.words,
            "options": self.options,
            "convention": self.convention._asdict(),
            "size": self.size,
            "outside": self.outside,
        } | {name: finite(getattr(self, name)) for name in numbers}


@dataclass(frozen=True, repr=False)
class ExplainReport(Record):
    """What ``explain`` found.

    Parameters
    ----------
    y, given : Operand
        The output, and the input or the reference that it was compared with.
    asked : Convention
        What was asked for.
    is_input : bool
        Whether `given` is the input.
    names : mapping of str to str
        What ``--gamma`` and ``--beta`` were.
    hypotheses : tuple of Hypothesis
        Those that were compared with every element: the explanation first, then those that the data cannot tell from
        it; if nothing explains the output, the nearest first.
    tried : int
        The number of hypotheses.
    notes : tuple of str
        Facts about the run that the user should know.
    """

    y: Operand
    given: Operand
    asked: Convention
    _: KW_ONLY
    is_input: bool
    names: Mapping[str, str]
    hypotheses: tuple[Hypothesis, ...]
    tried: int
    notes: tuple[str, ...] = ()
    output: None = None

    @property
    def found(self) -> Hypothesis | None:
        """The explanation; None if there is none."""
        return self.hypotheses[0] if self.hypotheses[0].explains else None

    @property
    def status(self) -> int:
        """The exit status: 0 if one hypothesis explains every element, else 1."""
        return int(self.found is None)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object, without schema and command."""
        others = [one.as_dict() for one in self.hypotheses[self.found is not None :]]
        return {
            "explained": self.found is not None,
            "y": self.y.as_dict(),
            "input" if self.is_input else "reference": self.given.as_dict(),
            "asked": self.asked._asdict(),
            "explanation": None if self.found is None else self.found.as_dict(),
            "indistinguishable" if self.found else "nearest": others,
            "tried": self.tried,
        }
