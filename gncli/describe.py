"""What gncli says of tensors, as data: the statistics, and the reports that hold them.

Nothing here reads, computes or prints. `operations` makes these records and `report` renders them; the standard
library is all that they need, so that the command line can name statistics without paying for NumPy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
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
    """

    label: str
    reads: bool = True
    numeric: bool = True


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
    "nan": Statistic("NaN"),
    "posinf": Statistic("+Infinity"),
    "neginf": Statistic("-Infinity"),
    "zeros": Statistic("Zeros"),
}
"""Every statistic by its contract name, in the order of ``-s all``."""

DEFAULT_STATISTICS = ("object_type", "shape", "dtype", "mean", "std", "min", "max")
NONFINITE = ("nan", "posinf", "neginf")
OBJECT_KEYS = ("object_type", "shape", "dtype", "size", "nbytes", "mean", "std", "min", "max", *NONFINITE, "zeros")


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
    """

    shape: tuple[int, ...]
    dtype: str
    values: Mapping[str, Number]
    name: str = ""

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

    def value(self, statistic: str) -> Value:
        """Return a statistic by its contract name; None where it is undefined or overflowed.

        Parameters
        ----------
        statistic : str
            One of `STATISTICS`.

        Returns
        -------
        str, tuple of int, int, float or None
            Plain Python, never a NumPy scalar, and always finite.
        """
        if not STATISTICS[statistic].reads:
            described: Value = getattr(self, statistic)
            return described
        number = self.values[statistic]
        if isinstance(number, float):
            return float(number) if math.isfinite(number) else None
        return number

    def has(self, statistic: str) -> bool:
        """Return whether `statistic` is known."""
        return not STATISTICS[statistic].reads or statistic in self.values

    def shown(self, selected: Collection[str]) -> list[str]:
        """Return the statistics to show: those selected, and NaN and infinities where there are any."""
        chosen = list(selected or DEFAULT_STATISTICS)
        return chosen + [name for name in NONFINITE if name not in chosen and self.values.get(name)]

    def lines(self, selected: Collection[str] = ()) -> list[str]:
        """Return the lines of the walkthrough article's ``get_stats``, at full precision."""
        return [f"{STATISTICS[name].label}:  {self._plainly(name)}" for name in self.shown(selected)]

    def _plainly(self, statistic: str) -> str:
        if statistic == "object_type":
            return f"<class '{self.object_type}'>"
        value = self.value(statistic)
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
        found: dict[str, object] = {"name": self.name}
        for name in dict.fromkeys((*OBJECT_KEYS, *extra)):
            if self.has(name):
                value = self.value(name)
                found[name] = list(value) if isinstance(value, tuple) else value
        return found

    def __str__(self) -> str:
        return "\n".join(self.lines())


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
    """

    tensors: tuple[TensorStats | Failure, ...]
    selected: tuple[str, ...] = ()
    skipped: tuple[tuple[str, int], ...] = ()
    seed: int | None = None
    command: str = "stats"
    output: str | None = None

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The tensors that could not be read."""
        return tuple(tensor for tensor in self.tensors if isinstance(tensor, Failure))

    @property
    def status(self) -> int:
        """The exit status: the highest of the failures', else 0."""
        return max((failure.error.status for failure in self.failures), default=0)


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
            "mean_error": _finite(self.mean_error),
            "var_error": _finite(self.var_error),
            "constant_groups": self.constant_groups,
            "nonfinite_groups": self.nonfinite_groups,
            "overflowed": self.overflowed,
        }


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


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
    """

    input: str
    output: str | None
    parameters: Parameters
    before: TensorStats
    after: TensorStats
    check: Check | None
    stages: tuple[Stage, ...] = ()
    seed: int | None = None

    @property
    def status(self) -> int:
        """The exit status: 1 if the check failed, else 0."""
        return int(self.check is not None and not self.check.ok)


Report = StatsReport | NormalizeReport
