"""The records behind a report of ``diff``: how far two tensors lie apart, as data alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass

from gncli.names import CELL_DIFFERENCES, DIFFERENCES
from gncli.report.gates import SAME, Gate, Shapes, WithinTolerance, decided
from gncli.report.records import Cells, Histogram, Items, Picture, Record, Rounded
from gncli.text import finite


@dataclass(frozen=True)
class Operand(Items):
    """One of the tensors that are compared."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    not_stored: int | None = None  # chunks, if its file has some

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def as_dict(self) -> dict[str, object]:
        """Return its JSON object."""
        found: dict[str, object] = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        return found | ({} if self.not_stored is None else {"not_stored": self.not_stored})


@dataclass(frozen=True)
class Worst(Items):
    """The pair of finite elements that lie farthest apart."""

    index: tuple[int, ...]
    a: int | float
    b: int | float
    difference: int | float
    b_index: tuple[int, ...] | None = None  # where the axes of b have another order

    def as_dict(self) -> dict[str, object]:
        """Return its JSON object."""
        found: dict[str, object] = {
            "index": list(self.index),
            "a": self.a,
            "b": self.b,
            "difference": finite(self.difference),
        }
        return found if self.b_index is None else found | {"b_index": list(self.b_index)}


@dataclass(frozen=True)
class Ulps(Items):
    """Percentiles of the number of representable values between two elements; 65535 stands for that many and more."""

    median: float
    p99: float
    p999: float
    max: int

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"median": self.median, "p99": self.p99, "p99.9": self.p999, "max": self.max}


@dataclass(frozen=True, kw_only=True)
class DiffCell(Items):
    """How one cell of the tensors differs.

    Parameters
    ----------
    place : mapping of str to int
        The index of the cell on each cell axis, by the axis' letter or number.
    note : str
        What else identifies it: the channels of a group.
    size : int
        The number of pairs.
    outside, nan_mismatches, inf_mismatches : int
        Pairs that differ, and those of them that differ by a NaN, by an infinity.
    max_abs, mean_abs, rmse : float, optional
        Over finite pairs; None where there are none.
    rel, cosine, slope, offset : float, optional
        As in `DiffReport`.
    """

    place: Mapping[str, int]
    note: str
    size: int
    outside: int
    nan_mismatches: int
    inf_mismatches: int
    max_abs: float | None
    mean_abs: float | None
    rmse: float | None
    rel: float | None = None
    cosine: float | None = None
    slope: float | None = None
    offset: float | None = None

    @property
    def key(self) -> tuple[int, ...]:
        """What orders cells by name: their index."""
        return tuple(self.place.values())

    @property
    def mismatches(self) -> int:
        """The number of pairs that differ by a NaN or an infinity."""
        return self.nan_mismatches + self.inf_mismatches

    @property
    def distance(self) -> tuple[int, float]:
        """How far the cell differs: `mismatches` first, then `max_abs`."""
        return self.mismatches, self.max_abs or 0.0

    def number(self, name: str) -> int | float | None:
        """Return a number by its name in `gncli.names.DIFFERENCES`."""
        found: int | float | None = getattr(self, DIFFERENCES[name].field)
        return found

    def as_dict(self, extra: Collection[str] = ()) -> dict[str, object]:
        """Return the cell's JSON object; `extra` are numbers that follow those which every object has."""
        names = dict.fromkeys((*CELL_DIFFERENCES, *extra))
        return {"index": dict(self.place)} | {DIFFERENCES[name].field: finite(self.number(name)) for name in names}


@dataclass(frozen=True, repr=False)
class DiffReport(Record):
    """What ``diff`` found.

    Parameters
    ----------
    a, b : Operand
        The tensors; `b` is the reference.
    rtol, atol : float
        An element is outside where |a - b| > atol + rtol |b|.
    max_fraction : float
        The fraction of the elements that may be outside.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    compared : bool
        Whether elements were compared; tensors of different shapes are not.
    size : int
        The number of pairs.
    nan_mismatches, inf_mismatches : int
        Pairs that differ by a NaN, by an infinity.
    outside : int
        The pairs that do not satisfy the gate that most do not satisfy; for the tolerance, those that differ by a NaN
        or an infinity included.
    first_mismatch : tuple of int, optional
        The index of the first pair that differs by a NaN or an infinity.
    worst : Worst, optional
        The pair that lies farthest apart; None where no pair is finite.
    mean_abs, rmse, rel, psnr, cosine : float, optional
        Over finite pairs; `rel` is the norm of a - b over that of b, and the peak of PSNR is the range of `b`.
    slope, offset : float, optional
        Of the least-squares line a = slope b + offset, if it was asked for; None where b is constant.
    ulp : Ulps, optional
        For floats of one dtype.
    smallest_atol : float, optional
        An atol that makes the tensors the same with this rtol; None if none does.
    rounding_floor : float, optional
        The largest error that b has once it is rounded to the dtype of a; where the dtypes differ.
    gates : tuple of Gate
        What the tensors must satisfy to be the same; they decide the verdict.
    selected : tuple of str
        The names of the numbers to show; empty for the default ones.
    cells : Cells of DiffCell, optional
        With ``--by``; all that are shown, in their order.
    most_different : DiffCell, optional
        Of all cells the one with the most NaNs and infinities that differ, else the largest |a - b|, if there is one.
    histogram : Histogram, optional
        Of a - b.
    picture : Picture, optional
        With ``--plot``: of a - b.
    output : str, optional
        Where a - b was written.
    rounded : Rounded, optional
        What became of it, if NumPy lacks its dtype.
    notes : tuple of str
        Facts about the run that the user should know.

    Examples
    --------
    >>> a, b = Operand("a", (2, 8), "float32"), Operand("b", (8, 2), "float32")
    >>> DiffReport(a, b, rtol=0, atol=0).equal
    False
    """

    a: Operand
    b: Operand
    _: KW_ONLY
    rtol: float
    atol: float
    max_fraction: float = 0.0
    nan_differs: bool = False
    compared: bool = False
    size: int = 0
    nan_mismatches: int = 0
    inf_mismatches: int = 0
    outside: int = 0
    first_mismatch: tuple[int, ...] | None = None
    worst: Worst | None = None
    mean_abs: float | None = None
    rmse: float | None = None
    rel: float | None = None
    psnr: float | None = None
    cosine: float | None = None
    slope: float | None = None
    offset: float | None = None
    ulp: Ulps | None = None
    smallest_atol: float | None = None
    rounding_floor: float | None = None
    gates: tuple[Gate, ...] = ()
    selected: tuple[str, ...] = ()
    cells: Cells[DiffCell] | None = None
    most_different: DiffCell | None = None
    histogram: Histogram | None = None
    picture: Picture | None = None
    output: str | None = None
    rounded: Rounded | None = None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """SAME, DIFFERENT or INCONCLUSIVE."""
        return decided(self.gates)

    @property
    def equal(self) -> bool:
        """Whether the tensors are the same: they satisfy all gates."""
        return self.verdict == SAME

    @property
    def status(self) -> int:
        """The exit status: 0 if the tensors are the same, else 1."""
        return int(not self.equal)

    @property
    def max_abs(self) -> float | None:
        """The largest distance of finite pairs; None where there are none, or it overflows."""
        return None if self.worst is None else finite(self.worst.difference)

    @property
    def tolerance(self) -> WithinTolerance | None:
        """The gate of the tolerance, if there is one."""
        return next((gate for gate in self.gates if isinstance(gate, WithinTolerance)), None)

    @property
    def fraction(self) -> float:
        """The fraction of the pairs that are outside."""
        return self.outside / self.size if self.size else 0.0

    def number(self, name: str) -> int | float | None:
        """Return a number by its name in `gncli.names.DIFFERENCES`."""
        found: int | float | None = getattr(self, DIFFERENCES[name].field)
        return found

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object, without schema and command."""
        found: dict[str, object] = {
            "equal": self.equal,
            "verdict": self.verdict,
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
            "rtol": self.rtol,
            "atol": self.atol,
            "max_fraction": self.max_fraction,
            "nan_differs": self.nan_differs,
        }
        if not self.compared:
            axes = next((gate.permutation for gate in self.gates if isinstance(gate, Shapes)), None)
            return found if axes is None else found | {"permutation": list(axes)}
        found |= {
            "size": self.size,
            "nan_mismatches": self.nan_mismatches,
            "inf_mismatches": self.inf_mismatches,
            "first_mismatch": None if self.first_mismatch is None else list(self.first_mismatch),
            "outside": self.outside,
            "fraction": self.fraction,
            "worst": None if self.worst is None else self.worst.as_dict(),
            "mean_abs": finite(self.mean_abs),
            "rmse": finite(self.rmse),
            "psnr": finite(self.psnr),
            "cosine": finite(self.cosine),
            "ulp": None if self.ulp is None else self.ulp.as_dict(),
            "smallest_atol": self.smallest_atol,
            "rounding_floor": finite(self.rounding_floor),
            "gates": {gate.name: gate.as_dict() for gate in self.gates},
        }
        if self.rounded is not None:
            found["rounded"] = self.rounded.as_dict()
        found |= {DIFFERENCES[name].field: finite(self.number(name)) for name in self.selected}
        if self.cells is not None:
            found["cells"] = [cell.as_dict(self.selected) for cell in self.cells.kept]
        if self.histogram is not None:
            found["histogram"] = self.histogram.as_dict()
        return found
