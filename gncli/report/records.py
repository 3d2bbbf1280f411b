"""What gncli says of tensors, as data: the records that a report of ``stats``, ``random`` or ``normalize`` holds.

Nothing here reads, computes or prints: `operations` makes these records and `report` renders them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from gncli.errors import GncliError
from gncli.names import CELL_STATISTICS, DEFAULT_STATISTICS, NAMED_STATISTICS, NONFINITE, Value, statistic
from gncli.text import printable

if TYPE_CHECKING:
    from gncli.kernels.groupnorm import Check
    from gncli.kernels.heatmap import Heatmap

CELL_KEYS = ("size", *CELL_STATISTICS, *NONFINITE, "zeros")
OBJECT_KEYS = ("object_type", "shape", "dtype", "size", "nbytes", "mean", "std", "min", "max", *NONFINITE, "zeros")

MOST_DRAWN = 12  # tensors in one picture


class Histogram(NamedTuple):
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

    def merged(self, most: int) -> Histogram:
        """Return it with at most `most` bins, neighbours put together.

        Examples
        --------
        >>> Histogram((0.0, 1.0, 2.0, 3.0), (4, 5, 6)).merged(2)
        Histogram(edges=(0.0, 2.0, 3.0), counts=(9, 6))
        """
        step = max(1, -(-len(self.counts) // most))
        starts = range(0, len(self.counts), step)
        counts = tuple(sum(self.counts[start : start + step]) for start in starts)
        return Histogram((*self.edges[:-1:step], *self.edges[-1:]), counts)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``histogram``."""
        return {"counts": list(self.counts), "edges": list(self.edges)}


class Picture(NamedTuple):
    """What a picture of a tensor shows beside its statistics.

    Parameters
    ----------
    histogram : Histogram
        Of all elements.
    maps : mapping of str to Heatmap
        Of cells, by the contract name of what is shown: mean, std; max_abs of a difference.
    """

    histogram: Histogram
    maps: Mapping[str, Heatmap]


def place_label(index: Mapping[str, int], note: str = "") -> str:
    """Return the place of a cell in words.

    Examples
    --------
    >>> place_label({"N": 0, "G": 3}, "channels 12-15"), place_label({"0": 3})
    ('N 0  G 3  channels 12-15', 'axis 0: 3')
    """
    places = [f"axis {name}: {at}" if name.isdecimal() else f"{name} {at}" for name, at in index.items()]
    return "  ".join([*places, *filter(None, [note])])


class Cell(NamedTuple):
    """One cell of ``--by``: its place, and what is known of it.

    Parameters
    ----------
    place : mapping of str to int
        Where it is on each cell axis, by its letter or number.
    stats : TensorStats
        Of its elements.
    note : str, default: ""
        What else tells it from others: the channels of a group.
    """

    place: Mapping[str, int]
    stats: TensorStats
    note: str = ""

    @property
    def label(self) -> str:
        """The place in words, as ``N 0  G 3  channels 12-15``."""
        return place_label(self.place, self.note)

    def as_dict(self, extra: Collection[str] = ()) -> dict[str, object]:
        """Return the cell's JSON object; `extra` are statistics beside those which every object has."""
        return {"index": dict(self.place)} | self.stats.entries((*CELL_KEYS, *extra))


class Cells(NamedTuple):
    """The cells of a tensor, as many as are kept, in C order of their index.

    Parameters
    ----------
    names : tuple of str
        What the index is of: letters, or numbers of axes.
    kept : tuple of Cell
        The first ones.
    total : int
        How many there are.
    """

    names: tuple[str, ...]
    kept: tuple[Cell, ...]
    total: int

    @property
    def more(self) -> int:
        """How many are not kept."""
        return self.total - len(self.kept)


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
    picture : Picture, optional
        With ``--plot``.
    axis_names : tuple of str
        What its file calls its axes, if it does.

    Examples
    --------
    >>> stats = TensorStats((2, 3), "float32", {"mean": 0.5, "std": float("nan")})
    >>> stats.size, stats.nbytes, stats.value("mean"), stats.value("std")
    (6, 24, 0.5, None)
    """

    shape: tuple[int, ...]
    dtype: str
    values: Mapping[str, Value]
    name: str = ""
    cells: Cells | None = None
    histogram: Histogram | None = None
    picture: Picture | None = None
    axis_names: tuple[str, ...] = ()

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

    @property
    def dimensions(self) -> str | None:
        """The names of its axes, as its shape is shown."""
        return f"({', '.join(printable(name) or '-' for name in self.axis_names)})" if self.axis_names else None

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

        Raises
        ------
        KeyError
            If there is no such statistic, or it was not measured.
        """
        if not statistic(name).reads:
            described: Value = getattr(self, name)
            return described
        number = self.values[name]
        if isinstance(number, float):
            return float(number) if math.isfinite(number) else None
        return number

    def has(self, name: str) -> bool:
        """Return whether the statistic called `name` is known: whether `value` can be asked for it."""
        if name == "dimensions":
            return bool(self.axis_names)
        return not statistic(name).reads or name in self.values

    def shown(self, selected: Collection[str]) -> list[str]:
        """Return the statistics to show: those selected, and NaN and infinities where there are any."""
        chosen = list(selected or (NAMED_STATISTICS if self.axis_names else DEFAULT_STATISTICS))
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
        found = {"name": self.name} | self.entries((*OBJECT_KEYS, *extra, "dimensions"))
        if self.histogram is not None:
            found["histogram"] = self.histogram.as_dict()
        if self.cells is not None:
            found["cells"] = [cell.as_dict(extra) for cell in self.cells.kept]
        return found

    def entries(self, names: Collection[str]) -> dict[str, object]:
        """Return the entries of a JSON object: those of `names` that are known, each once."""
        values = {name: self.value(name) for name in dict.fromkeys(names) if self.has(name)}
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return found | ({"dimensions": list(map(printable, self.axis_names))} if "dimensions" in found else {})

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


class Failure(NamedTuple):
    """A tensor that ``stats`` of several could not read."""

    name: str
    error: GncliError

    @property
    def message(self) -> str:
        """What is wrong and the way out, without the name."""
        return "; ".join(filter(None, (self.error.problem, self.error.hint)))

    def as_dict(self) -> dict[str, object]:
        """Return the failure's JSON object."""
        return {"name": self.name, "error": self.message, "status": self.error.status}


class Broken(NamedTuple):
    """Expectations that did not hold: the first ones in words, and how many there are."""

    first: tuple[str, ...] = ()
    total: int = 0


ALL_HOLD = Broken()


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

    Examples
    --------
    >>> StatsReport((TensorStats((2,), "int8", {}),), broken=Broken(("nan == 0",), 1)).status
    1
    """

    tensors: tuple[TensorStats | Failure, ...]
    selected: tuple[str, ...] = ()
    skipped: tuple[tuple[str, int], ...] = ()
    seed: int | None = None
    command: str = "stats"
    output: str | None = None
    total: TensorStats | None = None
    broken: Broken = ALL_HOLD
    notes: tuple[str, ...] = ()
    by: bool = False

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The tensors that could not be read."""
        return tuple(tensor for tensor in self.tensors if isinstance(tensor, Failure))

    @property
    def status(self) -> int:
        """The exit status: the highest of the failures', else 1 if an expectation did not hold, else 0."""
        return max((failure.error.status for failure in self.failures), default=int(self.broken.total > 0))


class Stage(NamedTuple):
    """A step of the walkthrough: input, reshaped, mean, var, normalized or output."""

    name: str
    stats: TensorStats


class Parameters(NamedTuple):
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

    Examples
    --------
    >>> Parameters(4, 8, 1e-5, "NCHW", "std", 1.0, 0.0, "float32").as_dict()["group_size"]
    8
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

    Examples
    --------
    >>> from gncli.kernels.groupnorm import Check
    >>> x = TensorStats((2, 8), "float32", {"mean": 0.0})
    >>> done = Parameters(4, 2, 1e-5, "NC", "std", 1.0, 0.0, "float32")
    >>> NormalizeReport("x.npy", None, done, x, x, Check(8, 0.02, float("nan"))).status
    1
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


Report = StatsReport | NormalizeReport
