"""What gncli says of tensors, as data: the statistics, and the reports that hold them.

Nothing here reads, computes or prints. `operations` makes these records and `report` renders them; the standard
library is all that they need, so that the command line can name statistics without paying for NumPy.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from gncli.errors import GncliError

Number = int | float | None
"""A statistic: None where it is undefined, such as the mean of an empty tensor."""

Value = str | tuple[int, ...] | Number
Distribution = Literal["uniform", "normal"]


@dataclass(frozen=True)
class Statistic:
    """One row of the registry.

    Parameters
    ----------
    label : str
        What a reader sees.
    reads : bool, default: True
        Whether the data must be read, or the header is enough.
    numeric : bool, default: True
        Whether it is one number.
    percentile : float, optional
        Which percentile it is.
    """

    label: str
    reads: bool = True
    numeric: bool = True
    percentile: float | None = None


STATISTICS: Mapping[str, Statistic] = {
    "object_type": Statistic("Object Type", reads=False, numeric=False),
    "shape": Statistic("Shape", reads=False, numeric=False),
    "dtype": Statistic("Data Type", reads=False, numeric=False),
    "size": Statistic("Size", reads=False),
    "nbytes": Statistic("Bytes", reads=False),
    "mean": Statistic("Mean"),
    "std": Statistic("Standard Deviation"),
    "var": Statistic("Variance"),
    "min": Statistic("Min"),
    "max": Statistic("Max"),
    "argmin": Statistic("Index of Min", numeric=False),
    "argmax": Statistic("Index of Max", numeric=False),
    "sum": Statistic("Sum"),
    "median": Statistic("Median", percentile=50.0),
    "nan": Statistic("NaN"),
    "posinf": Statistic("+Infinity"),
    "neginf": Statistic("-Infinity"),
    "first_nan": Statistic("First NaN", numeric=False),
    "first_inf": Statistic("First Infinity", numeric=False),
    "zeros": Statistic("Zeros"),
    "l1": Statistic("L1 Norm"),
    "l2": Statistic("L2 Norm"),
    "skewness": Statistic("Skewness"),
    "kurtosis": Statistic("Kurtosis"),
}
"""Every statistic by its contract name, in the order of the contract; percentiles are known to `statistic` alone."""

ALL_STATISTICS = tuple(name for name, row in STATISTICS.items() if row.percentile is None)
"""What ``-s all`` stands for."""

DEFAULT_STATISTICS = ("object_type", "shape", "dtype", "mean", "std", "min", "max")
CELL_STATISTICS = ("mean", "std", "min", "max")
NONFINITE = ("nan", "posinf", "neginf")
CELL_KEYS = ("size", *CELL_STATISTICS, *NONFINITE, "zeros")
OBJECT_KEYS = ("object_type", "shape", "dtype", "size", "nbytes", "mean", "std", "min", "max", *NONFINITE, "zeros")


def statistic(name: str) -> Statistic:
    """Return the statistic of that contract name, percentiles (``p99.9``) among them.

    Raises
    ------
    KeyError
        If there is none, with a sentence that names the nearest one.

    Examples
    --------
    >>> statistic("p99.9").label, statistic("std").label
    ('Percentile 99.9', 'Standard Deviation')
    """
    if name in STATISTICS:
        return STATISTICS[name]
    if re.fullmatch(r"p[0-9]{1,3}(\.[0-9]{1,15})?", name) and float(name[1:]) <= 100:
        return Statistic(f"Percentile {name[1:]}", percentile=float(name[1:]))
    if re.fullmatch(r"p-?[0-9.]+", name):
        raise KeyError(f"{name!r} is not a percentile; write p0 to p100, such as p99.9")
    hint = nearest(name, [*STATISTICS, "all"]) or f"choose from {' '.join(STATISTICS)} pNN all"
    raise KeyError(f"{name!r} is not a statistic; {hint}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the question that names what `name` may have been meant for, None where nothing is near.

    Examples
    --------
    >>> nearest("flaot32", ["float32", "float64"])
    'did you mean float32?'
    """
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"did you mean {near[0]}?" if near else None


def shape_text(shape: tuple[int, ...]) -> str:
    """Return `shape` as it is typed on the command line.

    Examples
    --------
    >>> shape_text((64, 16, 112, 112)), shape_text(())
    ('64,16,112,112', '()')
    """
    return ",".join(map(str, shape)) or "()"


@dataclass(frozen=True)
class Draw:
    """A tensor to draw: ``--random SHAPE``.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dist : str, default: "uniform"
        ``uniform`` on [0, 1) or standard ``normal``.
    seed : int, optional
        The seed of NumPy's default generator; None has one chosen, and reported.
    dtype : str, default: "float64"
        ``float16``, ``float32`` or ``float64``.
    """

    shape: tuple[int, ...]
    dist: Distribution = "uniform"
    seed: int | None = None
    dtype: str = "float64"

    def __str__(self) -> str:
        return f"--random {shape_text(self.shape)}"


@dataclass(frozen=True)
class Histogram:
    """How many elements fall between edges; each bin has its lower edge, and the last one its upper edge too.

    Parameters
    ----------
    edges : tuple of float
        One more than bins; empty where there is no finite element.
    counts : tuple of int
        A count a bin.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``histogram``."""
        return {"counts": list(self.counts), "edges": list(self.edges)}


def place_label(index: Mapping[str, int], note: str = "") -> str:
    """Return the place of a cell in words.

    Examples
    --------
    >>> place_label({"N": 0, "G": 3}, "channels 12-15"), place_label({"0": 3})
    ('N 0  G 3  channels 12-15', 'axis 0: 3')
    """
    places = [f"axis {name}: {at}" if name.isdecimal() else f"{name} {at}" for name, at in index.items()]
    return "  ".join([*places, *filter(None, [note])])


@dataclass(frozen=True)
class Cell:
    """One cell of ``--by``: its place, and what is known of it.

    Parameters
    ----------
    index : mapping of str to int
        The place on each cell axis, by its letter or number.
    stats : TensorStats
        Of its elements.
    note : str, default: ""
        What else tells it from others: the channels of a group.
    """

    index: Mapping[str, int]
    stats: TensorStats
    note: str = ""

    @property
    def label(self) -> str:
        """The place in words, as ``N 0  G 3  channels 12-15``."""
        return place_label(self.index, self.note)

    def as_dict(self, extra: Collection[str] = ()) -> dict[str, object]:
        """Return the cell's JSON object; `extra` are statistics beside those which every object has."""
        return {"index": dict(self.index)} | self.stats.entries((*CELL_KEYS, *extra))


@dataclass(frozen=True)
class Cells:
    """The cells of a tensor, as many as are kept, in C order of their index.

    Parameters
    ----------
    names : tuple of str
        What the index is of: letters, or numbers of axes.
    kept : tuple of Cell
        The first ones.
    count : int
        How many there are.
    """

    names: tuple[str, ...]
    kept: tuple[Cell, ...]
    count: int

    @property
    def more(self) -> int:
        """How many are not kept."""
        return self.count - len(self.kept)


@dataclass(frozen=True)
class TensorStats:
    """What is known of one tensor: its description and its statistics.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : str
        NumPy's name of its dtype, whatever the byte order.
    values : mapping of str to int, float or None
        The statistics that were measured, by contract name; empty where the data were not read.
    name : str, default: ""
        The tensor as the user typed it; empty for an array in memory.
    cells : Cells, optional
        What is known of its cells, with ``--by``.
    histogram : Histogram, optional
        With ``--hist``.
    """

    shape: tuple[int, ...]
    dtype: str
    values: Mapping[str, Value]
    name: str = ""
    cells: Cells | None = None
    histogram: Histogram | None = None

    object_type: ClassVar[str] = "numpy.ndarray"

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of its elements."""
        bits = re.search(r"\d+", self.dtype)  # float32, bfloat16, float8_e4m3fn; bool has none
        return self.size * (int(bits.group()) // 8 if bits else 1)

    def value(self, name: str) -> Value:
        """Return a statistic by its contract name; None where it is undefined or overflowed.

        Parameters
        ----------
        name : str
            A contract name.

        Returns
        -------
        str, tuple of int, int, float or None
            Plain Python, never a NumPy scalar, and always finite.
        """
        if not statistic(name).reads:
            described: Value = getattr(self, name)
            return described
        number = self.values[name]
        if isinstance(number, float):
            return float(number) if math.isfinite(number) else None
        return number

    def has(self, name: str) -> bool:
        """Return whether the statistic called `name` is known."""
        return not statistic(name).reads or name in self.values

    def shown(self, selected: Collection[str]) -> list[str]:
        """Return the statistics to show: those selected, and NaN and infinities where there are any."""
        chosen = list(selected or DEFAULT_STATISTICS)
        return chosen + [name for name in NONFINITE if name not in chosen and self.values.get(name)]

    def lines(self, selected: Collection[str] = ()) -> list[str]:
        """Return the lines of the walkthrough article's ``get_stats``, at full precision."""
        return [f"{statistic(name).label}:  {self._plainly(name)}" for name in self.shown(selected)]

    def _plainly(self, name: str) -> str:
        if name == "object_type":
            return f"<class '{self.object_type}'>"
        value = self.value(name)
        return "-" if value is None else str(value)

    def as_dict(self, extra: Collection[str] = ()) -> dict[str, object]:
        """Return the tensor's JSON object.

        Parameters
        ----------
        extra : collection of str
            Statistics that follow those which every object has.

        Returns
        -------
        dict
            Keys in the order of the contract. What was not measured is absent, what is undefined is None.
        """
        found = {"name": self.name} | self.entries((*OBJECT_KEYS, *extra))
        if self.histogram is not None:
            found["histogram"] = self.histogram.as_dict()
        if self.cells is not None:
            found["cells"] = [cell.as_dict(extra) for cell in self.cells.kept]
        return found

    def entries(self, names: Collection[str]) -> dict[str, object]:
        """Return the entries of a JSON object: those of `names` that are known, each once."""
        values = {name: self.value(name) for name in dict.fromkeys(names) if self.has(name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(frozen=True)
class Total(TensorStats):
    """Several tensors together: they have no shape and no dtype in common.

    Parameters
    ----------
    total_nbytes : int
        Of all of them.
    """

    total_nbytes: int = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self.total_nbytes

    def value(self, name: str) -> Value:
        """Return a statistic by its contract name; what is of one tensor only is None."""
        return None if name in ("object_type", "shape", "dtype") else super().value(name)


@dataclass(frozen=True)
class Failure:
    """A tensor that ``stats`` of several could not read."""

    name: str
    error: GncliError

    @property
    def message(self) -> str:
        """What is wrong and the way out, without the name."""
        return "; ".join(filter(None, (self.error.problem, self.error.way_out)))

    def as_dict(self) -> dict[str, object]:
        """Return the failure's JSON object."""
        return {"name": self.name, "error": self.message, "status": self.error.status}


@dataclass(frozen=True)
class Broken:
    """Expectations that did not hold: the first ones in words, and how many there are."""

    first: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True)
class StatsReport:
    """What ``stats`` and ``random`` found.

    Parameters
    ----------
    tensors : tuple of TensorStats or Failure
        A tensor, or why there is none, in the order asked for.
    selected : tuple of str
        Statistics by contract name; empty for the default ones.
    skipped : tuple of (str, int)
        Containers, and how many of their datasets were passed over because they are not numeric.
    seed : int, optional
        The seed, if gncli chose it.
    command : str
        Which command reports.
    output : str, optional
        Where a drawn tensor was written.
    total : TensorStats, optional
        All tensors together, with ``--total``.
    broken : Broken
        The expectations that did not hold.
    notes : tuple of str
        What is to be said beside the report.
    by : bool
        Whether cells were asked for.
    """

    tensors: tuple[TensorStats | Failure, ...]
    selected: tuple[str, ...] = ()
    skipped: tuple[tuple[str, int], ...] = ()
    seed: int | None = None
    command: str = "stats"
    output: str | None = None
    total: TensorStats | None = None
    broken: Broken = Broken()
    notes: tuple[str, ...] = ()
    by: bool = False

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The tensors that could not be read."""
        return tuple(tensor for tensor in self.tensors if isinstance(tensor, Failure))

    @property
    def status(self) -> int:
        """The exit status: the highest of the failures', else 1 if an expectation did not hold, else 0."""
        return max((failure.error.status for failure in self.failures), default=int(self.broken.count > 0))


@dataclass(frozen=True)
class Check:
    """How far the standardized values are from what they should be.

    Parameters
    ----------
    groups : int
        How many (sample, group) there are.
    mean_error, var_error : float, optional
        The largest abs(mean) and abs(variance - expected), as fractions of what rounding allows; None without a group
        to check.
    constant_groups, nonfinite_groups : int
        Groups of one value only; groups that hold a NaN or an infinity.
    overflowed : int
        Finite inputs whose result does not fit the output dtype.
    """

    groups: int
    mean_error: float | None
    var_error: float | None
    constant_groups: int = 0
    nonfinite_groups: int = 0
    overflowed: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything is within what rounding allows; a NaN is not."""
        errors = (error for error in (self.mean_error, self.var_error) if error is not None)
        return self.overflowed == 0 and all(error <= 1 for error in errors)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``verified``."""
        return {
            "ok": self.ok,
            "groups": self.groups,
            "mean_error": finite(self.mean_error),
            "var_error": finite(self.var_error),
            "constant_groups": self.constant_groups,
            "nonfinite_groups": self.nonfinite_groups,
            "overflowed": self.overflowed,
        }


def finite(number: float | None) -> float | None:
    """Return a number as strict JSON can carry it: None where it is not finite; integers stay integers."""
    if number is None or isinstance(number, int):
        return number
    return float(number) if math.isfinite(number) else None


@dataclass(frozen=True)
class Stage:
    """A step of the walkthrough: input, reshaped, mean, var, normalized or output."""

    name: str
    stats: TensorStats


@dataclass(frozen=True)
class Parameters:
    """What was done, with every default resolved.

    Parameters
    ----------
    groups, group_size : int
        How many groups, and channels in each.
    eps : float
        Added to the variance.
    layout : str
        A letter an axis.
    denominator : str
        ``std`` or ``variance``.
    gamma, beta : float or str
        A number, or the tensor as the user typed it.
    dtype : str
        The dtype of the output.
    """

    groups: int
    group_size: int
    eps: float
    layout: str
    denominator: str
    gamma: float | str
    beta: float | str
    dtype: str

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``parameters``."""
        return {
            "groups": self.groups,
            "group_size": self.group_size,
            "eps": self.eps,
            "layout": self.layout,
            "denominator": self.denominator,
            "gamma": self.gamma,
            "beta": self.beta,
            "dtype": self.dtype,
        }


@dataclass(frozen=True)
class NormalizeReport:
    """What ``normalize`` did.

    Parameters
    ----------
    input : str
        The tensor, as the user typed it.
    output : str, optional
        Where the result went, as the user typed it; None where nothing is written.
    parameters : Parameters
        What was done.
    before, after : TensorStats
        The input and the output.
    check : Check, optional
        None with ``--no-verify``.
    stages : tuple of Stage
        The walkthrough, with ``--stages``.
    seed : int, optional
        The seed of a drawn input, if gncli chose it.
    notes : tuple of str
        What is to be said beside the report.
    """

    input: str
    output: str | None
    parameters: Parameters
    before: TensorStats
    after: TensorStats
    check: Check | None
    stages: tuple[Stage, ...] = ()
    seed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The exit status: 1 if the check failed, else 0."""
        return int(self.check is not None and not self.check.ok)


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

    index: Mapping[str, int]
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
        return place_label(self.index, self.note)

    @property
    def rank(self) -> tuple[float, ...]:
        """What is larger the more the cell differs."""
        largest = -1.0 if self.max_abs is None else self.max_abs
        return (self.nan_mismatches + self.inf_mismatches, self.outside, largest)

    def as_dict(self) -> dict[str, object]:
        """Return the cell's JSON object."""
        return {"index": dict(self.index)} | {name: finite(getattr(self, name)) for name in DIFF_CELL_ROWS}


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
    def verdict(self) -> str:
        """The verdict in one line, with the tolerance that would pass."""
        if not self.compared:
            return f"DIFFERENT: shapes {self.a.shape} and {self.b.shape}"
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
            return found
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


Report = StatsReport | NormalizeReport
