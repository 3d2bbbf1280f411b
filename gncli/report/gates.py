"""The gates of a verdict: what two tensors must satisfy to be the same, each with what it found, as data and in words.

A report of ``diff`` holds a list of gates. Its verdict, its text and its JSON come from that list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from gncli.kernels.layout import permuted_layouts
from gncli.names import Value
from gncli.text import finite, printable, without_surrogates

SAME, DIFFERENT, INCONCLUSIVE = "SAME", "DIFFERENT", "INCONCLUSIVE"

ILL = 0.1  # of the scale of b: a baseline with a larger error of its own judges nobody

Index = tuple[int, ...]


class Gate(ABC):
    """A condition that two tensors must satisfy to be the same.

    Attributes
    ----------
    name : str
        Its name in JSON.
    outside : int
        The number of elements that do not satisfy it, where they are counted.
    """

    name: ClassVar[str]
    outside: int = 0

    @property
    @abstractmethod
    def verdict(self) -> str:
        """SAME, DIFFERENT or INCONCLUSIVE."""

    @property
    @abstractmethod
    def says(self) -> str:
        """What was found, in a sentence without a full stop."""

    def rows(self) -> list[tuple[str, Value, bool]]:
        """Return the rows of the table: label, value, and whether it is a detail of the row above."""
        return []

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"verdict": self.verdict}


def decided(gates: Iterable[Gate]) -> str:
    """Return the verdict: DIFFERENT if a gate says so, else INCONCLUSIVE if a gate does or there is none, else SAME."""
    found = {gate.verdict for gate in gates} or {INCONCLUSIVE}
    return next((verdict for verdict in (DIFFERENT, INCONCLUSIVE) if verdict in found), SAME)


def sentence(gates: Iterable[Gate]) -> str:
    """Return the verdict, and what the gates that decide it say."""
    gates = list(gates)
    verdict = decided(gates)
    return f"{verdict}: {'; '.join(gate.says for gate in gates if gate.verdict == verdict)}"


@dataclass(frozen=True)
class Shapes(Gate):
    """The tensors have different shapes, so that nothing else was compared."""

    name = "shape"
    a: Index
    b: Index

    @property
    def verdict(self) -> str:
        """Always DIFFERENT."""
        return DIFFERENT

    @property
    def permutation(self) -> Index | None:
        """The first order of the axes of `a` that gives the shape of `b`; None where none does.

        Examples
        --------
        >>> Shapes((2, 3, 7, 7), (2, 7, 7, 3)).permutation
        (0, 2, 3, 1)
        """
        if sorted(self.a) != sorted(self.b):
            return None
        left = list(range(len(self.a)))
        axes = []
        for size in self.b:
            axes.append(next(axis for axis in left if self.a[axis] == size))
            left.remove(axes[-1])
        return tuple(axes)

    @property
    def says(self) -> str:
        """The shapes, and the option that compares them if one is a permutation of the other."""
        shapes, axes = f"shapes {self.a} and {self.b}", self.permutation
        if axes is None:
            return shapes
        layouts = permuted_layouts(axes)
        option = "" if layouts is None else f"; --layout {','.join(layouts)} takes its axes in that order"
        return f"{shapes}; by its shape, b is a with its axes permuted: a.transpose{axes}{option}"

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return super().as_dict() | {"a": list(self.a), "b": list(self.b)}


@dataclass(frozen=True, kw_only=True)
class WithinTolerance(Gate):
    """No more elements than allowed have |a - b| > atol + rtol |b|, or differ by a NaN or an infinity."""

    name = "tolerance"
    rtol: float
    atol: float
    outside: int
    size: int
    max_fraction: float = 0.0
    smallest_atol: float | None = None
    vacuous: bool = False  # whether `smallest_atol` lets a tensor of zeros pass

    @property
    def verdict(self) -> str:
        """Whether few enough elements are outside."""
        return SAME if self.outside <= self.max_fraction * self.size else DIFFERENT

    @property
    def says(self) -> str:
        """How many elements are outside, and the tolerance that would pass."""
        rule = "a == b" if self.rtol == self.atol == 0 else f"|a - b| <= {self.atol:g} + {self.rtol:g} |b|"
        amount = _amount(self.outside, self.size, f"outside {rule}", self.max_fraction)
        return f"{amount}; {_passing('--atol', self.smallest_atol, self.vacuous)}"

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return super().as_dict() | {"outside": self.outside}


@dataclass(frozen=True, kw_only=True)
class WithinUlp(Gate):
    """No more elements than allowed lie more than `limit` units of the dtype of a from b, rounded to that dtype.

    Parameters
    ----------
    limit : int
        The largest distance.
    near_zero : float
        Below it, in a and in b, |a - b| may be `limit` times the spacing at `near_zero`.
    whole : bool
        Whether a holds integers, which are compared exactly.
    outside, size : int
        The elements beyond, and all.
    max_fraction : float
        The fraction of the elements that may be beyond.
    largest : int, optional
        The largest distance of finite values; None where there are none, and for integers.
    index : tuple of int, optional
        The first element so far away.
    """

    name = "max_ulp"
    limit: int
    near_zero: float
    whole: bool
    outside: int
    size: int
    max_fraction: float = 0.0
    largest: int | None = None
    index: Index | None = None

    @property
    def verdict(self) -> str:
        """Whether few enough elements are beyond."""
        return SAME if self.outside <= self.max_fraction * self.size else DIFFERENT

    @property
    def _beyond(self) -> str:
        return "unequal (integers are compared exactly)" if self.whole else f"beyond {self.limit:,} ULP"

    @property
    def says(self) -> str:
        """How many elements are beyond, and the largest distance."""
        amount = _amount(self.outside, self.size, self._beyond, self.max_fraction)
        return amount if self.largest is None else f"{amount}; the largest distance is {self.largest:,} ULP"

    def rows(self) -> list[tuple[str, Value, bool]]:
        """Return the rows of the table."""
        found: list[tuple[str, Value, bool]] = [("Beyond --max-ulp", self.outside, False)]
        if self.index is not None:
            found += [("largest", self.largest, True), ("at", self.index, True)]
        return found

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        found: dict[str, object] = {"limit": self.limit, "near_zero": self.near_zero, "outside": self.outside}
        return super().as_dict() | found | {"largest": self.largest, "index": _listed(self.index)}


@dataclass(frozen=True, kw_only=True)
class AreFaithful(Gate):
    """No more elements than allowed are neither of the two neighbours of b in the dtype of a."""

    name = "faithful"
    outside: int
    size: int
    max_fraction: float = 0.0
    first: Index | None = None

    @property
    def verdict(self) -> str:
        """Whether few enough elements are no neighbours."""
        return SAME if self.outside <= self.max_fraction * self.size else DIFFERENT

    @property
    def says(self) -> str:
        """How many elements are no neighbours."""
        return _amount(self.outside, self.size, "not faithful (neither neighbour of b)", self.max_fraction)

    def rows(self) -> list[tuple[str, Value, bool]]:
        """Return the rows of the table."""
        return [("Not Faithful", self.outside, False), *_first(self.first)]

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return super().as_dict() | {"outside": self.outside, "first": _listed(self.first)}


@dataclass(frozen=True, kw_only=True)
class AreIdentical(Gate):
    """The tensors have one dtype, and equal bits in every element."""

    name = "exact"
    a: str
    b: str
    outside: int
    size: int
    first: Index | None = None

    @property
    def verdict(self) -> str:
        """Whether dtypes and bits are equal."""
        return SAME if self.a == self.b and not self.outside else DIFFERENT

    @property
    def says(self) -> str:
        """How many elements have other bits."""
        if self.a != self.b:
            return f"dtypes {self.a} and {self.b}"
        return _amount(self.outside, self.size, "with other bits")

    def rows(self) -> list[tuple[str, Value, bool]]:
        """Return the rows of the table."""
        return [("Other Bits", self.outside, False), *_first(self.first)] if self.a == self.b else []

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        same = self.a == self.b
        return super().as_dict() | {"outside": self.outside if same else None, "first": _listed(self.first)}


@dataclass(frozen=True, kw_only=True)
class WithinBaseline(Gate):
    """The largest error of a is within a factor of that of the baseline c, and rounding.

    Parameters
    ----------
    baseline : str
        The name of c.
    factor : float
        The largest error may be `factor` times that of c, and `slack` more.
    atol : float
        The absolute tolerance.
    floor : float
        The largest error that b has once it is rounded to the dtype of a.
    outside : int
        The number of elements where a and b differ by a NaN or an infinity.
    missing : int
        The number of elements where c is not finite, but a and b are.
    error, own : float
        The largest |a - b| and |c - b| where all are finite; 0 where they never are.
    scale : float
        The root of the mean square of b, over finite elements.
    smallest_factor : float, optional
        A factor that passes; None if none does.
    """

    name = "baseline"
    baseline: str
    factor: float
    atol: float
    floor: float
    outside: int
    missing: int
    error: float
    own: float
    scale: float
    smallest_factor: float | None = None
    vacuous: bool = False  # whether `smallest_factor` lets a tensor of zeros pass

    @property
    def slack(self) -> float:
        """What is allowed besides the error of the baseline."""
        return max(self.atol, self.floor)

    @property
    def bound(self) -> float:
        """The largest error that is allowed."""
        return self.factor * self.own + self.slack

    @property
    def verdict(self) -> str:
        """Whether the baseline may judge, and a is as good as it."""
        if self.outside:
            return DIFFERENT
        if self.missing or self.own > ILL * self.scale:
            return INCONCLUSIVE
        return SAME if self.error <= self.bound else DIFFERENT

    @property
    def says(self) -> str:
        """The errors of both, and the factor that would pass."""
        if self.outside:
            return f"{self.outside:,} of the elements differ by a NaN or an infinity"
        if self.missing:
            return f"the baseline has {self.missing:,} NaN or infinities where a and b are finite"
        if self.own > ILL * self.scale:
            return f"the baseline's own error, {self.own:.6g}, is above a tenth of the scale of b, {self.scale:.6g}"
        more = "atol" if self.atol > self.floor else "rounding"
        sign = "<=" if self.error <= self.bound else ">"
        bound = f"{self.factor:g} * {self.own:.6g} (the baseline's) + {self.slack:.6g} ({more})"
        passing = _passing("--factor", self.smallest_factor, self.vacuous)
        return f"max |a - b| is {self.error:.6g} {sign} {bound}; {passing}"

    def rows(self) -> list[tuple[str, Value, bool]]:
        """Return the rows of the table."""
        return [
            ("Baseline c", printable(self.baseline), False),
            ("max |c - b|", self.own, True),
            ("bound", self.bound, True),
            ("rms of b", self.scale, True),
        ]

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        numbers: Mapping[str, float | None] = {
            "factor": self.factor,
            "error": self.error,
            "baseline_error": self.own,
            "slack": self.slack,
            "bound": self.bound,
            "scale": self.scale,
            "smallest_factor": self.smallest_factor,
        }
        found = super().as_dict() | {"name": without_surrogates(self.baseline), "missing": self.missing}
        return found | {name: finite(number) for name, number in numbers.items()}


@dataclass(frozen=True)
class HasReference(Gate):
    """The reference has a finite element; this gate stands in the list only where it has none."""

    name = "reference"

    @property
    def verdict(self) -> str:
        """Always INCONCLUSIVE."""
        return INCONCLUSIVE

    @property
    def says(self) -> str:
        """What is missing."""
        return "b holds no finite element"


@dataclass(frozen=True)
class Discerns(Gate):
    """A tensor of zeros would not be the same; this gate stands in the list only where it would be.

    Parameters
    ----------
    bound : str
        What is larger than every |b|.
    """

    name = "vacuous"
    bound: str

    @property
    def verdict(self) -> str:
        """Always INCONCLUSIVE."""
        return INCONCLUSIVE

    @property
    def says(self) -> str:
        """Why zeros would pass, and how to allow that."""
        return f"{self.bound}: a tensor of zeros would be SAME; --allow-vacuous lifts this"


def _amount(outside: int, size: int, how: str, max_fraction: float = 0.0) -> str:
    found = f"{outside:,} of {size:,} elements {how}"
    return f"{found}, {max_fraction:g} of them may be" if max_fraction else found


def _passing(option: str, value: float | None, vacuous: bool) -> str:
    """Return the option that makes the tensors the same."""
    if value is None:
        return f"no {option} passes"
    return f"{option} {value!r}{' --allow-vacuous' if vacuous else ''} passes"


def _first(index: Index | None) -> list[tuple[str, Value, bool]]:
    return [] if index is None else [("first at", index, True)]


def _listed(index: Index | None) -> list[int] | None:
    return None if index is None else list(index)
