"""How well a tensor agrees with a reference: in steps of its own dtype, bit by bit, and compared with a baseline.

Notes
-----
``a`` is judged, ``b`` is the reference, ``c`` is the baseline: what an accepted implementation in the dtype of ``a``
gives. Values are widened to float64 first. ``b`` is rounded to the dtype of ``a`` once, from float64. Everything here
is a count, an extreme or a place, so it is the same in whatever order it is merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.moments import NOWHERE, Floats
from gncli.kernels.plain import PIECE, Grid, Tolerance, apart, distance, faithful, mismatches, native_order, nearest
from gncli.kernels.reduction import Reduction, Visit, in_c_order
from gncli.kernels.tally import split

Whole = NDArray[np.int64]


class Asked(NamedTuple):
    """What is measured, besides the rounding floor.

    Attributes
    ----------
    grid : Grid
        The values of the dtype of a.
    nan_differs : bool
        Whether a NaN differs from a NaN.
    steps : int, optional
        The largest distance in steps of that dtype from b, rounded to it. Integers must be equal.
    near_zero : float
        Where a and b, rounded, are both below it, |a - b| may be `steps` times the spacing at `near_zero`.
    faithful : bool
        Whether elements are counted that are no neighbour of b.
    bits : bool
        Whether elements are counted whose bits differ; then the dtypes are the same.
    """

    grid: Grid
    nan_differs: bool = False
    steps: int | None = None
    near_zero: float = 0.0
    faithful: bool = False
    bits: bool = False


class Agreement(NamedTuple):
    """How well elements agree: each field is an array of shape (1,).

    Attributes
    ----------
    floor : ndarray of float64
        The largest error that b has once it is rounded, where it is finite and does not overflow; -1 if it never is.
    beyond, unfaithful, unlike : ndarray of int64
        The number of elements too many steps away, of those that are no neighbour of b, and of those of other bits.
    farthest : ndarray of uint64
        The largest number of steps, of finite values.
    farthest_at : ndarray of int64
        The storage index of the first element so far away, or `NOWHERE`.
    unfaithful_at, unlike_at : ndarray of int64
        The index in C order of the first such element, or `NOWHERE`.
    error, own : ndarray of float64
        The largest |a - b| and |c - b| where all three are finite; -1 if they never are.
    missing : ndarray of int64
        The number of elements where c is not finite, but a and b are.
    """

    floor: Floats
    beyond: Whole
    unfaithful: Whole
    unlike: Whole
    farthest: NDArray[np.uint64]
    farthest_at: Whole
    unfaithful_at: Whole
    unlike_at: Whole
    error: Floats
    own: Floats
    missing: Whole

    @classmethod
    def nothing(cls) -> Agreement:
        """Return the agreement of no elements."""
        below, none, nowhere = np.full(1, -1.0), np.zeros(1, np.int64), np.full(1, NOWHERE)
        return cls(below, none, none, none, np.zeros(1, np.uint64), nowhere, nowhere, nowhere, below, below, none)


def merge(a: Agreement, b: Agreement) -> Agreement:
    """Return the agreement of both sets of elements."""
    sums = {name: getattr(a, name) + getattr(b, name) for name in ("beyond", "unfaithful", "unlike", "missing")}
    most = {name: np.maximum(getattr(a, name), getattr(b, name)) for name in ("floor", "farthest", "error", "own")}
    first = {name: np.minimum(getattr(a, name), getattr(b, name)) for name in ("unfaithful_at", "unlike_at")}
    places = [np.where(of.farthest == most["farthest"], of.farthest_at, NOWHERE) for of in (a, b)]
    return Agreement(farthest_at=np.minimum(*places), **sums, **most, **first)


class AgreementOf(Reduction[Agreement]):
    """The agreement of tensors that are read together, over all cells.

    Parameters
    ----------
    dtypes : sequence of numpy.dtype
        Those of a, b and, if there is one, of c.
    shape : tuple of int
        Their common shape.
    order : {"C", "F"}
        Their common storage order.
    asked : Asked
        What is measured.
    """

    def __init__(self, dtypes: Sequence[np.dtype[Any]], shape: tuple[int, ...], order: str, asked: Asked) -> None:
        self._dtypes, self._shape, self._order, self._asked = tuple(dtypes), shape, order, asked

    def measure(self, visit: Visit) -> Agreement:
        """Return the agreement of a visit."""
        tensors, start = split(visit.values, *self._dtypes), visit.region.start
        parts = []
        for at in range(0, visit.values.size, PIECE):
            places = np.arange(start + at, start + min(at + PIECE, visit.values.size))
            pieces = [values[at : at + PIECE] for values in tensors]
            parts.append(agreement(*pieces, asked=self._asked, at=places, shape=self._shape, order=self._order))
        return self.concatenate(parts)

    def nothing(self, num_cells: int = 1) -> Agreement:
        """Return the agreement of no elements, however many cells there are."""
        return Agreement.nothing()

    def merge(self, a: Agreement, b: Agreement) -> Agreement:
        """Return the agreement of both."""
        return merge(a, b)

    def concatenate(self, parts: Sequence[Agreement]) -> Agreement:
        """Return the agreement of all parts."""
        return reduce(merge, parts, Agreement.nothing())


def agreement(
    a: NDArray[Any],
    b: NDArray[Any],
    c: NDArray[Any] | None = None,
    *,
    asked: Asked,
    at: Whole,
    shape: tuple[int, ...],
    order: str,
) -> Agreement:
    """Return the agreement of elements; each is judged here.

    Parameters
    ----------
    a, b, c : ndarray, 1-D
        The elements, of any numeric dtypes and in any byte order.
    asked : Asked
        What is measured.
    at : ndarray of int64
        Their storage indices.
    shape : tuple of int
        The shape of the tensors.
    order : {"C", "F"}
        Their storage order.
    """
    a, b = (native_order(values) for values in (a, b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    rounded = nearest(y, asked.grid)
    found: dict[str, Any] = {"floor": _largest(np.abs(rounded - y), np.isfinite(y) & np.isfinite(rounded))}
    if asked.bits:
        bits = np.dtype(f"u{a.dtype.itemsize}")
        found |= _counted("unlike", a.view(bits) != b.view(bits), at, shape, order)
    if asked.faithful:
        whole = asked.grid.kind is None and b.dtype.kind in "iub"
        fits = a == b if whole else faithful(x, y, asked.grid)
        fits = np.where(np.isnan(y), np.isnan(x) & (not asked.nan_differs), fits)
        found |= _counted("unfaithful", ~fits, at, shape, order)
    if asked.steps is not None:
        found |= _far(a, b, x, rounded, asked, at)
    if c is not None:
        z = c.astype(np.float64)
        both = np.isfinite(x) & np.isfinite(y)
        every = both & np.isfinite(z)
        found["error"] = _largest(distance(a, b, x, y)[0], every)
        found["own"] = _largest(distance(native_order(c), b, z, y)[0], every)
        found["missing"] = np.full(1, np.count_nonzero(both & ~np.isfinite(z)))
    return Agreement.nothing()._replace(**found)


def _far(
    a: NDArray[Any], b: NDArray[Any], x: Floats, rounded: Floats, asked: Asked, at: Whole
) -> dict[str, NDArray[Any]]:
    """Return how many elements are too many steps away, and the farthest."""
    assert asked.steps is not None
    if asked.grid.kind is None:
        y = b.astype(np.float64)
        gap, exact = distance(a, b, x, y)
        return {"beyond": np.full(1, np.count_nonzero(gap if exact is None else exact))}
    by_nan, by_inf = mismatches(x, rounded, Tolerance(0.0, 0.0, asked.nan_differs))
    finite = np.isfinite(x) & np.isfinite(rounded)
    steps = apart(np.where(finite, x, 0.0), np.where(finite, rounded, 0.0), asked.grid)
    small = (np.abs(x) < asked.near_zero) & (np.abs(rounded) < asked.near_zero)
    near = small & (np.abs(x - rounded) <= asked.steps * asked.grid.spacing(asked.near_zero))
    beyond = by_nan | by_inf | finite & ~np.where(small, near, steps <= np.uint64(asked.steps))
    found: dict[str, NDArray[Any]] = {"beyond": np.full(1, np.count_nonzero(beyond))}
    if finite.any():
        farthest = int(np.argmax(steps))
        found |= {"farthest": steps[farthest : farthest + 1], "farthest_at": at[farthest : farthest + 1]}
    return found


def _largest(values: Floats, which: NDArray[np.bool_]) -> Floats:
    return np.asarray(np.max(values, where=which, initial=-1.0)).reshape(1)


def _counted(
    name: str, which: NDArray[np.bool_], at: Whole, shape: tuple[int, ...], order: str
) -> dict[str, NDArray[Any]]:
    """Return how many elements there are of a kind, and which is the first in C order."""
    places = in_c_order(at[which], shape, order)
    return {name: np.full(1, places.size), f"{name}_at": np.full(1, places.min(initial=NOWHERE))}
