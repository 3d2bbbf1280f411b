"""The gradients of gamma and beta: exact sums of float64 over all axes that these do not have."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.affine import Scaling
from gncli.kernels.exact import GRAIN, nearest
from gncli.kernels.floats import Float
from gncli.kernels.groupnorm import Grouping
from gncli.kernels.loops import loops
from gncli.kernels.plain import UP, Affine, Floats, Reals
from gncli.kernels.surds import levels
from gncli.kernels.twofold import Pair
from gncli.kernels.walk import boxes

HALF = 32  # bits of the lower parts of sums
HEADROOM = 1 << 30  # sums of such parts that an int64 takes
LARGE = 2.0**900  # what is beyond it is summed on another scale


class Grid(NamedTuple):
    """The parameters on the elements of a tensor: which one belongs to each.

    Attributes
    ----------
    shape : tuple of int
        The shape of gamma and beta.
    runs : tuple of int
        The tensor's elements in storage order: the sizes of runs of axes that the parameters lack, and of those that
        they have, in turn. Together the latter are the places.
    owners : ndarray of int64
        The parameter of each place, in C order of their shape.
    """

    shape: tuple[int, ...]
    runs: tuple[int, ...]
    owners: NDArray[np.int64]

    @classmethod
    def of(cls, scaling: Scaling, grouping: Grouping, shape: tuple[int, ...]) -> Grid:
        """Return the grid of a gamma of `shape`; a number is taken for one per channel, or of the reduced axes.

        Raises
        ------
        ParameterError
            If the shape does not fit; see `Scaling.axes`.
        """
        axes = scaling.axes(grouping, "gamma", shape) or scaling.choices(grouping)[-1]
        shape = scaling.sizes(grouping, axes)
        if scaling.gamma_per_group:
            owners = grouping.groups_of_channels
        else:
            numbers = np.arange(math.prod(shape)).reshape(shape)
            owners = (numbers.T if grouping.order == "F" else numbers).reshape(-1)
        return cls(shape, grouping.runs(axes), owners)

    def owners_of(self, start: int, size: int) -> NDArray[np.int64]:
        """Return the parameter of each element of a run in storage."""
        numbers = Affine(self.owners.astype(np.float64), np.zeros(self.owners.size), self.runs)
        return numbers.along(start, size, [numbers.gamma])[0].astype(np.int64)

    def arranged(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return one value per place as one per parameter: those of a group are added up."""
        found = np.zeros(math.prod(self.shape), np.int64).astype(values.dtype)
        np.add.at(found, self.owners, values)
        return found


class Piece(NamedTuple):
    """The sums over a box of elements, per parameter in it.

    Attributes
    ----------
    own : tuple of slice
        The parameters, on the axes that they have in storage order.
    sums : list of (int, ndarray of int64, shape (2, ...))
        Exact sums of the terms, and of their sizes, over ``2**power``.
    bounds : ndarray of float64
        The sums of the bounds of the errors.
    undefined : ndarray of int64
        How many terms are not finite.
    """

    own: tuple[slice, ...]
    sums: list[tuple[int, NDArray[np.int64]]]
    bounds: Floats
    undefined: NDArray[np.int64]

    @property
    def sizes(self) -> Floats:
        """The sums of the sizes."""
        found = np.zeros(self.bounds.shape)
        for power, sums in self.sums:
            found += np.ldexp(sums[1].astype(np.float64), power)
        return found


def pieces(
    grid: Grid, start: int, a: Reals, b: Reals | None, exist: Callable[[], NDArray[np.bool_]], largest: float = math.nan
) -> list[Piece]:
    """Return the sums of a run of terms, whose first one belongs to the element `start` of the tensor.

    Parameters
    ----------
    grid : Grid
        The parameters.
    start : int
        The place in storage.
    a, b : ndarray of float32 or float64, 1-D
        The terms are their products as float64 has them, or without `b` the elements of `a`.
    exist : callable
        Returns which terms have an exact value. Where float64 cannot hold it, the bound is infinite.
    largest : float
        At least the size of each term; NaN if that is not known.
    """
    if not largest <= LARGE:
        largest = loops().largest(a, b)
    undefined = beyond = None
    scale = 0
    if not largest <= LARGE:
        a, b = a.astype(np.float64) if b is None else np.multiply(a, b, dtype=np.float64), None
        if not largest < math.inf:
            bad = ~np.isfinite(a)
            beyond = bad & exist()
            undefined = bad & ~beyond
            a[bad] = 0.0
            largest = loops().largest(a, None)
        if largest > LARGE:
            scale = 128
            a, largest = np.ldexp(a, -scale), math.ldexp(largest, -scale)
    found, done = [], 0
    for box in boxes(grid.runs, start, start + a.size):
        shape = tuple(part.stop - part.start for part in box)
        piece = slice(done, done + math.prod(shape))
        done = piece.stop

        def added(values: NDArray[Any], piece: slice = piece, shape: tuple[int, ...] = shape) -> NDArray[Any]:
            return np.asarray(np.add.reduce(values[piece].reshape(shape), axis=tuple(range(0, len(shape), 2))))

        sums = levels(a[piece], None if b is None else b[piece], shape, largest) if largest else ()
        unbounded, lost = (np.zeros(shape[1::2]) if part is None else added(part + 0.0) for part in (beyond, undefined))
        unbounded[unbounded > 0] = np.inf
        exact = [(power + scale, number) for power, number in sums]
        found.append(Piece(tuple(box[1::2]), exact, unbounded, lost.astype(np.int64)))
    return found


def pieces_in_two(grid: Grid, start: int, terms: Pair, exist: Callable[[], NDArray[np.bool_]]) -> list[Piece]:
    """Return the same of terms that are sums of two float64; their sizes are those of the first parts.

    A term whose second part is NaN is beyond what two float64 hold.
    """
    high, low = terms
    if not math.isfinite(np.add.reduce(low)):
        beyond = np.isnan(low)
        high, low = np.where(beyond, np.nan, high), np.where(beyond, 0.0, low)
    found = pieces(grid, start, high, None, exist)
    for upper, lower in zip(found, pieces(grid, start, low, None, exist), strict=True):
        for power, sums in lower.sums:
            sums[1] = 0
            upper.sums.append((power, sums))
    return found


class Totals:
    """Adds pieces up; the sums are exact, so that their order does not matter.

    Parameters
    ----------
    grid : Grid
        The parameters.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._shape = grid.runs[1::2]
        self._sums: dict[int, NDArray[np.int64]] = {}
        self._added: dict[int, int] = {}
        self._total = np.zeros((2, *self._shape), np.int64).astype(object)
        self._bounds = np.zeros(self._shape)
        self._undefined = np.zeros(self._shape, np.int64)

    def add(self, found: list[Piece]) -> None:
        """Add some pieces."""
        for own, sums, bounds, undefined in found:
            for power, number in sums:
                self._take(power, own, number & (1 << HALF) - 1)
                self._take(power + HALF, own, number >> HALF)
            self._bounds[own] += bounds
            self._undefined[own] += undefined

    def _take(self, power: int, own: tuple[slice, ...], part: NDArray[np.int64]) -> None:
        if self._added.get(power, 0) == HEADROOM:
            self._flush(power)
        if power not in self._sums:
            self._sums[power], self._added[power] = np.zeros((2, *self._shape), np.int64), 0
        self._sums[power][:, *own] += part
        self._added[power] += 1

    def _flush(self, power: int) -> None:
        self._total += self._sums.pop(power).astype(object) << GRAIN + power
        del self._added[power]

    def result(self) -> Sums:
        """Return the sums, one per parameter."""
        for power in list(self._sums):
            self._flush(power)
        flat = (part.reshape(-1) for part in (*self._total, self._bounds, self._undefined))
        return Sums(*map(self._grid.arranged, flat))


class Sums(NamedTuple):
    """The sums for each parameter, in C order of its shape.

    Attributes
    ----------
    total, sizes : ndarray of object
        The exact sums of the terms as float64 has them, and of their sizes, over ``2**GRAIN``.
    bounds : ndarray of float64
        A bound of the error of `total`.
    undefined : ndarray of int64
        How many terms are not finite.
    """

    total: NDArray[Any]
    sizes: NDArray[Any]
    bounds: Floats
    undefined: NDArray[np.int64]

    def rounded(self, made: Float) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the sums, rounded once to `made`, and the parameters whose rounding is open."""
        found = np.empty(self.total.size, made.dtype)
        opened = []
        for place, (total, bound) in enumerate(zip(self.total.tolist(), self.bounds.tolist(), strict=True)):
            exact = Fraction(total, 1 << GRAIN)
            if self.undefined[place]:
                found[place] = np.nan
                continue
            found[place] = nearest(exact, made)
            if bound:
                error = Fraction(bound * UP) if bound < math.inf else None
                ends = [] if error is None else [nearest(exact + side, made).tobytes() for side in (-error, error)]
                if not ends or ends[0] != ends[1]:
                    opened.append(place)
        return found, np.array(opened, np.int64)

    @property
    def condition(self) -> Floats:
        """``sum(abs(t)) / abs(sum(t))`` of each sum: 1 where nothing cancels; infinity where all does."""
        total, sizes = (np.array([abs(nearest_float(sum_)) for sum_ in of.tolist()]) for of in (self.total, self.sizes))
        with np.errstate(all="ignore"):
            found = np.where(sizes == 0, 1.0, np.fmax(sizes / total, 1.0))
        return np.where(self.undefined > 0, np.nan, found)


def nearest_float(total: int) -> float:
    """Return a sum over ``2**GRAIN`` as float64."""
    try:
        return total / (1 << GRAIN)
    except OverflowError:
        return math.inf if total > 0 else -math.inf
