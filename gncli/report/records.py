"""The records behind a report of ``stats``, ``random`` or ``normalize``: data alone, without labels or layout.

Tasks make these records, and the other modules of `gncli.report` turn them into text. Nothing here reads, computes or
prints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar, overload

from gncli.errors import GncliError
from gncli.names import CELL_STATISTICS, NONFINITE, Scale, Value, in_python, nearest, statistic

if TYPE_CHECKING:
    from gncli.kernels.heatmap import Heatmap

CELL_KEYS = ("size", *CELL_STATISTICS, *NONFINITE, "zeros")
OBJECT_KEYS = ("object_type", "shape", "dtype", "size", "nbytes", "mean", "std", "min", "max", *NONFINITE, "zeros")

MOST_DRAWN = 24  # tensors in one picture

AnyCell = TypeVar("AnyCell")


class Histogram(NamedTuple):
    """The number of elements between edges. Each bin includes its lower edge, and the last one its upper edge too.

    Parameters
    ----------
    edges : tuple of float
        One more than there are bins; empty where no element is finite.
    counts : tuple of int
        One count per bin.
    scale : {"linear", "exponent", "log"}, default: "linear"
        With the others, the edges are those of |x|: powers of two, or of bins of one width in log |x|.
    zeros : int, default: 0
        The number of zeros, which then are in no bin.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    scale: Scale = "linear"
    zeros: int = 0

    def merged(self, most: int) -> Histogram:
        """Return the histogram with at most `most` bins; neighbours are added up.

        Examples
        --------
        >>> Histogram((0.0, 1.0, 2.0, 3.0), (4, 5, 6)).merged(2)
        Histogram(edges=(0.0, 2.0, 3.0), counts=(9, 6), scale='linear', zeros=0)
        """
        step = max(1, -(-len(self.counts) // most))
        starts = range(0, len(self.counts), step)
        counts = tuple(sum(self.counts[start : start + step]) for start in starts)
        return self._replace(edges=(*self.edges[:-1:step], *self.edges[-1:]), counts=counts)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``histogram``."""
        found: dict[str, object] = {"counts": list(self.counts), "edges": list(self.edges)}
        return found if self.scale == "linear" else {"scale": self.scale} | found | {"zeros": self.zeros}


class Picture(NamedTuple):
    """What a picture of a tensor shows besides its statistics.

    Parameters
    ----------
    histogram : Histogram
        Of all finite elements.
    maps : mapping of str to Heatmap
        Maps of the cells, by the name of what they show: mean, std; max_abs for a difference.
    """

    histogram: Histogram
    maps: Mapping[str, Heatmap]


class Items:
    """A base class of records: their attributes are items too."""

    def __getitem__(self, name: str) -> Any:
        """Return the attribute of that name.

        Raises
        ------
        KeyError
            If there is none.
        """
        if not name.startswith("_") and hasattr(self, name):
            return getattr(self, name)
        known = [each for each in dir(self) if not each.startswith("_")]
        raise KeyError(f"{name!r} is not known; {nearest(name, known) or 'choose from ' + ' '.join(known)}")


class Record(Items):
    """A base class of what tasks return. In Python it is a line, printed it is lines, and in a notebook tables."""

    def __str__(self) -> str:
        from gncli.report import render

        return in_python(render(self._shown(), "plain").removesuffix("\n"))

    def __repr__(self) -> str:
        from gncli.report import document_of

        return f"<{type(self).__name__} {in_python(document_of(self._shown()).line)}>"

    def _repr_html_(self) -> str:
        from gncli.report import document_of
        from gncli.report.notebook import html

        return html(document_of(self._shown()))

    def _shown(self) -> Any:
        """Return the report that shows this."""
        return self


class Summary(Record):
    """Statistics under a name. What they are statistics of is said by the attributes of a subclass.

    Each statistic is an attribute too, and an item: ``s.mean``, ``s["p99.9"]``.
    """

    name: str
    values: Mapping[str, Value]

    def __getattr__(self, name: str) -> Any:
        """Return a statistic; None where it is undefined or overflowed."""
        if name.startswith("_") or name == "values":  # this looks a statistic up in `values`
            raise AttributeError(name)
        try:
            return self.value(name)
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __getitem__(self, name: str) -> Any:
        """Return the statistic, or the attribute, of that name."""
        return super().__getitem__(name) if self._has_attribute(name) else self.value(name)

    def _has_attribute(self, name: str) -> bool:
        return not name.startswith("_") and (name in vars(self) or hasattr(type(self), name))

    def __dir__(self) -> list[str]:
        """Return the attributes, and the statistics that were measured."""
        return [*super().__dir__(), *filter(str.isidentifier, self.values)]

    def value(self, name: str) -> Value:
        """Return a statistic by its name; None where it is undefined or overflowed.

        Parameters
        ----------
        name : str
            A name that ``-s`` takes.

        Returns
        -------
        str, tuple, int, float or None
            Plain Python, never a NumPy scalar, and always finite.

        Raises
        ------
        KeyError
            If there is no such statistic, or it was not measured.
        """
        if name not in self.values and not statistic(name).reads:
            described: Value = getattr(self, name) if self._has_attribute(name) else None
            return described
        if name not in self.values:
            raise KeyError(f"{name!r} was not measured; ask for statistics={name!r}, of all elements without by=")
        number = self.values[name]
        if isinstance(number, float):
            return float(number) if math.isfinite(number) else None
        return number

    def compared(self, name: str) -> Value:
        """Return a statistic as conditions and orders take it: what overflowed is infinite, not undefined."""
        number = self.values.get(name)
        return number if isinstance(number, float) and math.isinf(number) else self.value(name)

    def has(self, name: str) -> bool:
        """Return whether the statistic called `name` is known: whether `value` can be asked for it."""
        if name in self.values:
            return True
        return not statistic(name).reads and (name != "dimensions" or self.value(name) is not None)

    def as_dict(self, extra: Collection[str] = ()) -> dict[str, object]:
        """Return the JSON object.

        Parameters
        ----------
        extra : collection of str
            Statistics that follow those which every object has.

        Returns
        -------
        dict
            Keys in the documented order. A statistic that was not measured is absent; one that is undefined is None.
        """
        return {"name": self.name} | self.entries((*OBJECT_KEYS, *extra, "dimensions"))

    def entries(self, names: Collection[str]) -> dict[str, object]:
        """Return the entries of a JSON object: those of `names` that are known, each once."""
        values = {name: self.value(name) for name in dict.fromkeys(names) if self.has(name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True, repr=False)
class TensorStats(Summary):
    """The description and the statistics of one tensor.

    Parameters
    ----------
    shape : tuple of int
        The lengths of the axes.
    dtype : str
        NumPy's name of the dtype, whatever the byte order.
    values : mapping of str to int, float or None
        The measured statistics by name; empty where the data were not read.
    name : str, default: ""
        The tensor as the user typed it; empty for an array in memory.
    cells : Cells of Cell, optional
        The statistics of its cells, with ``--by``.
    histogram : Histogram, optional
        With ``--hist``.
    picture : Picture, optional
        With ``--plot``.
    axis_names : tuple of str
        The names that the file gives to the axes; empty if there are none.
    not_stored : int, optional
        The chunks that the file does not store: their elements are the fill value. None if it is not in chunks.
    selected : tuple of str
        The statistics to show where it is shown alone; empty for the default ones.
    notes : tuple of str
        Facts about its measurement that the user should know, where it was measured alone.

    Examples
    --------
    >>> stats = TensorStats((2, 3), "float32", {"mean": 0.5, "std": float("nan")})
    >>> stats.size, stats.nbytes, stats.mean, stats["std"]
    (6, 24, 0.5, None)
    """

    shape: tuple[int, ...]
    dtype: str
    values: Mapping[str, Value]
    name: str = ""
    _: KW_ONLY
    cells: Cells[Cell] | None = None
    histogram: Histogram | None = None
    picture: Picture | None = None
    axis_names: tuple[str, ...] = ()
    not_stored: int | None = None
    selected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    object_type: ClassVar[str] = "numpy.ndarray"

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the elements."""
        bits = re.search(r"\d+", self.dtype)  # float32, bfloat16, float8_e4m3fn; bool has none
        return self.size * (int(bits.group()) // 8 if bits else 1)

    @property
    def dimensions(self) -> tuple[str, ...] | None:
        """The names of the axes; None if they have none."""
        return self.axis_names or None

    def compared(self, name: str) -> Value:
        """Return a statistic as conditions and orders take it: of a tensor that is not in chunks, none is missing."""
        found = super().compared(name)
        return 0 if name == "not_stored" and found is None else found

    def as_dict(self, extra: Collection[str] = ()) -> dict[str, object]:
        """Return the tensor's JSON object, with its histogram and its cells if they are there."""
        found = super().as_dict(extra)
        if self.not_stored is not None:
            found["not_stored"] = self.not_stored
        if self.histogram is not None:
            found["histogram"] = self.histogram.as_dict()
        if self.cells is not None:
            found["cells"] = [cell.as_dict(extra) for cell in self.cells.kept]
        return found

    def __str__(self) -> str:
        from gncli.report import render

        return render(StatsReport((self,), self.selected), "plain").removesuffix("\n")

    def _shown(self) -> StatsReport:
        return StatsReport((self,), self.selected, notes=self.notes, by=self.cells is not None)


@dataclass(frozen=True, repr=False)
class Total(Summary):
    """The statistics of several tensors together. They have no shape and no dtype in common.

    Parameters
    ----------
    values : mapping of str to int, float or None
        The statistics by name.
    size, nbytes : int
        The elements of all tensors, and their bytes.
    """

    values: Mapping[str, Value]
    size: int
    nbytes: int
    name: str = "(total)"

    def _shown(self) -> StatsReport:
        return StatsReport((), total=self)


@dataclass(frozen=True, repr=False)
class Cell(Items):
    """One cell of ``--by``.

    Parameters
    ----------
    place : mapping of str to int
        The index of the cell on each cell axis, by the axis' letter or number.
    stats : TensorStats
        The statistics of its elements.
    note : str, default: ""
        What else identifies it: the channels of a group.
    """

    place: Mapping[str, int]
    stats: TensorStats
    note: str = ""

    def __getattr__(self, name: str) -> Any:
        """Return a statistic."""
        if name.startswith("_") or name == "stats":
            raise AttributeError(name)
        return getattr(self.stats, name)

    def __getitem__(self, name: str) -> Any:
        """Return a statistic, or an attribute."""
        return vars(self)[name] if name in vars(self) else self.stats[name]

    def __repr__(self) -> str:
        from gncli.report.lines import place_line, stats_line

        return f"<Cell {place_line(self.place, self.note)}: {stats_line(replace(self.stats, name=''))}>"

    def as_dict(self, extra: Collection[str] = ()) -> dict[str, object]:
        """Return the cell's JSON object; `extra` are statistics that follow those which every object has."""
        return {"index": dict(self.place)} | self.stats.entries((*CELL_KEYS, *extra))


@dataclass(frozen=True, repr=False)
class Cells(Sequence[AnyCell], Generic[AnyCell]):
    """The cells of a tensor or of a pair, as many as are kept, in C order of their index: a sequence of them.

    Parameters
    ----------
    names : tuple of str
        The cell axes: their letters or numbers.
    kept : tuple of Cell or DiffCell
        The first cells.
    total : int
        The number of all cells to show.
    """

    names: tuple[str, ...]
    kept: tuple[AnyCell, ...]
    total: int

    @overload
    def __getitem__(self, at: int) -> AnyCell: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[AnyCell, ...]: ...

    def __getitem__(self, at: int | slice) -> AnyCell | tuple[AnyCell, ...]:
        """Return a cell, or some, of those that are kept."""
        return self.kept[at]

    def __len__(self) -> int:
        """Return the number of cells that are kept."""
        return len(self.kept)

    def __repr__(self) -> str:
        return f"<Cells of {', '.join(self.names)}: {self.total:,}>"


class Ranked(NamedTuple):
    """The cells of all tensors in one order.

    Parameters
    ----------
    rows : tuple of (str, Cell)
        The first cells, each with the name of its tensor.
    total : int
        The number of all cells to show.
    """

    rows: tuple[tuple[str, Cell], ...]
    total: int


@dataclass(frozen=True)
class Failure:
    """A tensor or a pair, of several, that could not be read."""

    name: str
    error: GncliError

    @property
    def message(self) -> str:
        """The problem and the hint, without the name."""
        return "; ".join(filter(None, (self.error.problem, self.error.hint)))

    def as_dict(self) -> dict[str, object]:
        """Return the failure's JSON object."""
        return {"name": self.name, "error": self.message, "status": self.error.status}


MAX_BROKEN = 20  # expectations that did not hold and are shown


class Broken(NamedTuple):
    """Expectations that did not hold: the first ones in words, and the number of all."""

    first: tuple[str, ...] = ()
    total: int = 0


ALL_HOLD = Broken()


class Rounded(NamedTuple):
    """What became of results that were rounded to a dtype that NumPy lacks.

    Parameters
    ----------
    dtype : str
        The dtype.
    overflow : {"saturate", "nonfinite"}, optional
        What results that overflow become; without it they are not finite.
    overflowed, became_zero : int
        The number of results that overflowed; of those that are not 0, and became it.
    """

    dtype: str
    overflow: str | None
    overflowed: int
    became_zero: int

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``rounded``."""
        return self._asdict()


@dataclass(frozen=True, repr=False)
class StatsReport(Record):
    """What ``stats`` or ``random`` found: a sequence of records, which are items by name too.

    Parameters
    ----------
    tensors : tuple of TensorStats or Failure
        One record per tensor, or why there is none, in the order asked for.
    selected : tuple of str
        The names of the statistics to show; empty for the default ones.
    skipped : tuple of (str, int)
        Containers, and how many of their datasets were passed over because they are not numeric.
    seed : int, optional
        The seed, if gncli chose it.
    command : str
        The command that reports.
    output : str, optional
        Where a drawn tensor was written.
    total : Total, optional
        All tensors together, with ``--total``.
    broken : Broken
        The expectations that did not hold.
    notes : tuple of str
        Facts about the run that the user should know.
    by : bool
        Whether cells were asked for.
    ranked : Ranked, optional
        The cells in one order, if one was asked for.
    some : bool
        Whether tensors or cells were left out by a choice.
    rounded : Rounded, optional
        What became of the draws, if NumPy lacks their dtype.

    Examples
    --------
    >>> StatsReport((TensorStats((2,), "int8", {}),), broken=Broken(("nan == 0",), 1)).status
    1
    """

    tensors: tuple[TensorStats | Failure, ...]
    selected: tuple[str, ...] = ()
    _: KW_ONLY
    skipped: tuple[tuple[str, int], ...] = ()
    seed: int | None = None
    command: str = "stats"
    output: str | None = None
    total: Total | None = None
    broken: Broken = ALL_HOLD
    notes: tuple[str, ...] = ()
    by: bool = False
    ranked: Ranked | None = None
    some: bool = False
    rounded: Rounded | None = None

    def __iter__(self) -> Iterator[TensorStats | Failure]:
        """Iterate over `tensors`."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """Return the number of `tensors`."""
        return len(self.tensors)

    def __getitem__(self, name: str) -> Any:
        """Return the record of a tensor, by its whole name or the one in its file; or an attribute."""
        for tensor in self.tensors:
            if name in (tensor.name, tensor.name.partition("::")[2]):
                return tensor
        return super().__getitem__(name)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The tensors that could not be read."""
        return tuple(tensor for tensor in self.tensors if isinstance(tensor, Failure))

    @property
    def status(self) -> int:
        """The exit status: the highest of the failures', else 1 if an expectation did not hold, else 0."""
        return max((failure.error.status for failure in self.failures), default=int(self.broken.total > 0))
