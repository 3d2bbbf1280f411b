"""What ``gncli diff`` says of two tensors, as data: how far they lie apart, cell by cell, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gncli.names import Value
from gncli.report.records import Histogram, Picture, place_label
from gncli.text import finite


@dataclass(frozen=True)
class Operand:
    """One of the tensors that are compared."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def as_dict(self) -> dict[str, object]:
        """Return its JSON object."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}


@dataclass(frozen=True)
class Worst:
    """The pair of finite elements that lie farthest apart."""

    index: tuple[int, ...]
    a: int | float
    b: int | float
    difference: int | float

    def as_dict(self) -> dict[str, object]:
        """Return its JSON object."""
        return {"index": list(self.index), "a": self.a, "b": self.b, "difference": finite(self.difference)}


@dataclass(frozen=True)
class Ulps:
    """Percentiles of how many representable values lie between two elements; 65535 stands for that and more."""

    median: float
    p99: float
    p999: float
    max: int

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"median": self.median, "p99": self.p99, "p99.9": self.p999, "max": self.max}

    def __str__(self) -> str:
        """Return it in words."""
        shown = (
            "65535 or more" if each >= 65535 else f"{each:.6g}" for each in (self.median, self.p99, self.p999, self.max)
        )
        return "median {}, p99 {}, p99.9 {}, max {}".format(*shown)


@dataclass(frozen=True)
class DiffCell:
    """How one cell of the tensors differs."""

    place: Mapping[str, int]
    note: str
    size: int
    outside: int
    nan_mismatches: int
    inf_mismatches: int
    max_abs: float | None
    mean_abs: float | None
    rmse: float | None

    @property
    def label(self) -> str:
        """The place in words."""
        return place_label(self.place, self.note)

    @property
    def rank(self) -> tuple[float, ...]:
        """What is larger the more the cell differs."""
        largest = -1.0 if self.max_abs is None else self.max_abs
        return (self.nan_mismatches + self.inf_mismatches, self.outside, largest)

    def as_dict(self) -> dict[str, object]:
        """Return the cell's JSON object."""
        return {"index": dict(self.place)} | {name: finite(getattr(self, name)) for name in DIFF_CELL_ROWS}


DIFF_CELL_ROWS = {
    "size": "Size",
    "outside": "Outside",
    "nan_mismatches": "NaN Mismatches",
    "inf_mismatches": "Infinity Mismatches",
    "max_abs": "Max |a - b|",
    "mean_abs": "Mean |a - b|",
    "rmse": "RMSE",
}
"""What is shown of a cell, with its label."""


@dataclass(frozen=True)
class DiffReport:
    """What ``diff`` found.

    Parameters
    ----------
    a, b : Operand
        The tensors; `b` is the reference.
    rtol, atol : float
        An element is outside where |a - b| > atol + rtol |b|.
    max_fraction : float
        The part of the elements that may be outside.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    compared : bool
        Whether elements were compared; tensors of different shapes are not.
    size : int
        The number of pairs.
    nan_mismatches, inf_mismatches : int
        Pairs that differ by a NaN, by an infinity.
    outside : int
        All pairs that differ, those included.
    equal : bool
        Whether the tensors are the same.
    first_mismatch : tuple of int, optional
        Where the first pair is that differs by a NaN or an infinity.
    worst : Worst, optional
        The pair that lies farthest apart; None where no pair is finite.
    mean_abs, rmse, psnr, cosine : float, optional
        Over finite pairs; the peak of PSNR is the range of `b`.
    ulp : Ulps, optional
        For floats of one dtype.
    smallest_atol : float, optional
        An atol that makes the tensors the same with this rtol; None if none does.
    cells, names : tuple
        With ``--by``.
    histogram : Histogram, optional
        Of a - b.
    picture : Picture, optional
        With ``--plot``: of a - b.
    output : str, optional
        Where a - b was written.
    notes : tuple of str
        What is to be said beside the report.
    """

    a: Operand
    b: Operand
    rtol: float
    atol: float
    max_fraction: float = 0.0
    nan_differs: bool = False
    compared: bool = False
    size: int = 0
    nan_mismatches: int = 0
    inf_mismatches: int = 0
    outside: int = 0
    equal: bool = False
    first_mismatch: tuple[int, ...] | None = None
    worst: Worst | None = None
    mean_abs: float | None = None
    rmse: float | None = None
    psnr: float | None = None
    cosine: float | None = None
    ulp: Ulps | None = None
    smallest_atol: float | None = None
    cells: tuple[DiffCell, ...] = ()
    names: tuple[str, ...] = ()
    histogram: Histogram | None = None
    picture: Picture | None = None
    output: str | None = None
    notes: tuple[str, ...] = ()
    seed: ClassVar[None] = None

    @property
    def status(self) -> int:
        """The exit status: 1 if the tensors differ, else 0."""
        return int(not self.equal)

    @property
    def fraction(self) -> float:
        """The part of the pairs that are outside."""
        return self.outside / self.size if self.size else 0.0

    @property
    def most_different(self) -> DiffCell | None:
        """The cell that differs most, if there are any."""
        return max(self.cells, key=lambda cell: cell.rank, default=None)

    @property
    def permutation(self) -> tuple[int, ...] | None:
        """The first order of the axes of `a` that gives the shape of `b`; None where the shapes are equal or none does.

        Examples
        --------
        >>> a, b = Operand("a", (2, 3, 7, 7), "float32"), Operand("b", (2, 7, 7, 3), "float32")
        >>> DiffReport(a, b, 0, 0).permutation
        (0, 2, 3, 1)
        """
        if self.a.shape == self.b.shape or sorted(self.a.shape) != sorted(self.b.shape):
            return None
        left = list(range(len(self.a.shape)))
        axes = []
        for size in self.b.shape:
            axes.append(next(axis for axis in left if self.a.shape[axis] == size))
            left.remove(axes[-1])
        return tuple(axes)

    @property
    def verdict(self) -> str:
        """The verdict in one line, with the tolerance that would pass."""
        if not self.compared:
            found = f"DIFFERENT: shapes {self.a.shape} and {self.b.shape}"
            if self.permutation is not None:
                found += f"; by its shape, b is a with its axes permuted: a.transpose{self.permutation}"
            return found
        rule = f"|a - b| <= {self.atol:g} + {self.rtol:g} |b|"
        if self.rtol == self.atol == 0:
            rule = "a == b"
        amount = f"{self.outside:,} of {self.size:,} elements outside {rule}"
        if self.max_fraction:
            amount += f", {self.max_fraction:g} of them may be"
        passing = "no --atol passes" if self.smallest_atol is None else f"--atol {self.smallest_atol!r} passes"
        return f"{'SAME' if self.equal else 'DIFFERENT'}: {amount}; {passing}"

    def rows(self) -> list[tuple[str, Value]]:
        """Return what is shown, label by label, in order."""
        both = (("a", self.a), ("b, the reference", self.b))
        found: list[tuple[str, Value]] = [
            (f"{label}", f"{operand.name}, {operand.dtype} {operand.shape}") for label, operand in both
        ]
        if not self.compared:
            return found
        found += [("NaN Mismatches", self.nan_mismatches), ("Infinity Mismatches", self.inf_mismatches)]
        if self.first_mismatch is not None:
            found.append(("First Mismatch", self.first_mismatch))
        found += [("Outside", self.outside), ("Fraction Outside", self.fraction)]
        worst = self.worst
        found.append(("Max |a - b|", None if worst is None else worst.difference))
        if worst is not None:
            found += [("  at", worst.index), ("  a", worst.a), ("  b", worst.b)]
        found += [("Mean |a - b|", self.mean_abs), ("RMSE", self.rmse), ("PSNR (dB)", self.psnr)]
        found.append(("Cosine", self.cosine))
        if self.ulp is not None:
            found.append(("ULP", str(self.ulp)))
        found.append(("Smallest --atol", self.smallest_atol))
        return found

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object, without schema and command."""
        found: dict[str, object] = {
            "equal": self.equal,
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
            "rtol": self.rtol,
            "atol": self.atol,
            "max_fraction": self.max_fraction,
            "nan_differs": self.nan_differs,
        }
        if not self.compared:
            return found if self.permutation is None else found | {"permutation": list(self.permutation)}
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
        }
        if self.names:
            found["cells"] = [cell.as_dict() for cell in self.cells]
        if self.histogram is not None:
            found["histogram"] = self.histogram.as_dict()
        return found
