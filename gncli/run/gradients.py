"""The gradients of Group Normalization of two sources read together, x and dy: one pass, or three over each span.

A span of cells that fits a visit is read once. A larger one is read for the moments of x and of g, for those of g z,
and for the map; the same kernels do both. With an activation g depends on the moments of x, so those of g come with
those of g z. Sums that are still open after that are settled in a pass of their own.
"""

from __future__ import annotations

import functools
import math
import operator
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gncli.io.pairs import Pair
from gncli.io.source import Sink
from gncli.kernels.exact import Sums as ExactSums
from gncli.kernels.exact import cell_sums
from gncli.kernels.extras import Extras
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.gradients import (
    FLUSHED,
    LEAST,
    TWO,
    Cell,
    Elements,
    Exact,
    GradientCheck,
    Measured,
    Upstream,
    Weights,
    cell_numbers,
    cells_of,
    check_gradient,
    defined,
    exact_cells,
    exact_rounders,
    float_parts,
    gradient,
    mapped,
    proved_closer,
    settle_gradient,
    through,
    weighted,
)
from gncli.kernels.groupnorm import Grouping, normalize_region, standardization
from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats, Moments, MomentsOf, merge
from gncli.kernels.parameters import Grid, Piece, Sums, Totals, pieces, pieces_in_two
from gncli.kernels.partition import Axis
from gncli.kernels.plain import UP, Affine, Gradient, GradientInTwo, Standardization, U, native_order
from gncli.kernels.proof import Proof, about_zero, given_moments, without_bounds
from gncli.kernels.reduction import Both, R, Reduction, Tree, Visit, concatenate, fold_axes, folded
from gncli.kernels.refined import standardized
from gncli.kernels.refined_gradients import Pairs, gradient_in_two, refined_map
from gncli.kernels.refined_gradients import Sums as PairSums
from gncli.kernels.scratch import Scratch
from gncli.kernels.slopes import (
    NO_SUMS,
    Argument,
    Kinds,
    Near,
    added,
    kinds_of,
    near_sums,
    settled,
    shares,
    smooth_rounders,
)
from gncli.kernels.slopes import Sums as SmoothSums
from gncli.kernels.surds import Term, agreed_sum, exactly, product_sums, rounded_sum
from gncli.kernels.tally import split
from gncli.kernels.walk import Region, Walk
from gncli.run.engine import Engine
from gncli.run.normalization import given_to, infinite
from gncli.run.plan import Plan

T = TypeVar("T")

TOGETHER = 1 << 12  # cells whose records are added up at once: those of a visit may be two
SMALL = 8 << 20  # bytes of both tensors that are read at once: larger visits take more memory, and hardly less time
DOUBLE = FLOATS["float64"]
STEEPEST = 1.13  # the derivative of an activation is smaller
IDENTITY = Affine(np.ones(1), np.zeros(1), (1, 1, 1))


class _Inputs(NamedTuple):
    """The moments of x, of g, and of dy, of the cells of a visit; those of dy stand for g where it comes later."""

    x: Moments
    g: Moments
    dy: Moments


Products = tuple[Moments, ...]
"""The moments of g z, with the exact sums where they are needed, and with an activation of g and of its errors."""


class _Elements(NamedTuple):
    """What the elements of a visit are on their way back: in float64, but for those that have another dtype.

    Attributes
    ----------
    of_x : Visit
        The visit, with the elements of x.
    dy : ndarray, 1-D
        The elements of dy.
    z : ndarray of float64, 1-D
        The standardized elements.
    h, g : Upstream
        dy times the derivative of the activation, and that times gamma where gamma is not one number.
    """

    of_x: Visit
    dy: NDArray[Any]
    z: Floats
    h: Upstream
    g: Upstream


class _Results(NamedTuple):
    """The moments of dx before it is rounded, of that times z, and of dx."""

    before: Moments
    projections: Moments
    dx: Moments


class _Counts(NamedTuple):
    """How many elements of dx were settled, overflowed, and became 0."""

    settled: int = 0
    overflowed: int = 0
    became_zero: int = 0

    def plus(self, other: _Counts) -> _Counts:
        return _Counts._make(map(operator.add, self, other))


class _Mapped(NamedTuple):
    """The gradient of a visit.

    Attributes
    ----------
    moments : _Results
        The moments of the result.
    counts : _Counts
        What became of its elements.
    dgamma, dbeta : list of Piece
        Their sums.
    result : ndarray or None
        The elements of dx, if the caller must write them.
    inputs : _Inputs or None
        The moments of x, g and dy, if no pass before has measured them.
    """

    moments: _Results
    counts: _Counts
    dgamma: list[Piece]
    dbeta: list[Piece]
    result: NDArray[Any] | None
    inputs: _Inputs | None = None


class _Done(NamedTuple):
    """A record of whole spans: what is known of them, their map, and the moments of its result."""

    found: Measured
    cells: Gradient
    moments: _Results


class _Closer(NamedTuple):
    """What is computed in sums of two float64: how x is standardized, and the map of dx, if that is float64."""

    mapping: Standardization
    cells: GradientInTwo | None


class _Whole(NamedTuple):
    """The gradient of whole spans: what is known of them, their map, and the map's result."""

    found: Measured
    cells: Gradient
    mapped: _Mapped


class _Opened(NamedTuple):
    """The exact sums of a visit for parameters that are open.

    Attributes
    ----------
    cells : list of int
        The cells, as numbers among those of the tensor in storage order.
    x : Sums
        Their sums of x and of its squares.
    pairs : dict
        By cell and parameter, the sums of dy and of dy x.
    size : int
        The number of elements of each cell in the visit.
    """

    cells: list[int]
    x: ExactSums
    pairs: dict[tuple[int, int], tuple[int, int]]
    size: int


@dataclass(frozen=True)
class Gradients:
    """The result of a backward pass. Moments are settled, of shape (1,).

    Attributes
    ----------
    x, dy, dx : Moments
        The moments of the tensors.
    check : GradientCheck
        The check of dx.
    dgamma, dbeta : Sums
        What they were rounded from.
    parameters : tuple of two ndarray
        dgamma and dbeta, rounded once, in C order of their shape.
    settled : int
        How many of these were settled.
    """

    x: Moments
    dy: Moments
    dx: Moments
    check: GradientCheck
    dgamma: Sums
    dbeta: Sums
    parameters: tuple[NDArray[Any], NDArray[Any]]
    settled: int


class _Together(Reduction[R]):
    """Several moments of each cell of a pair, as one record.

    Parameters
    ----------
    make : callable
        Makes a record of moments.
    laws : sequence of MomentsOf
        What merges them, one by one.
    measure : callable
        Returns the record of a visit of the pair.
    """

    def __init__(self, make: Callable[..., R], laws: Sequence[MomentsOf], measure: Callable[[Visit], R]) -> None:
        self._make, self._laws, self._measure = make, laws, measure

    def measure(self, visit: Visit) -> R:
        """Return the moments of a visit."""
        return self._measure(visit)

    def nothing(self, num_cells: int = 1) -> R:
        """Return the moments of no values."""
        return self._make(*(law.nothing(num_cells) for law in self._laws))

    def merge(self, a: R, b: R) -> R:
        """Return the moments of the unions."""
        return self._make(*(law.merge(*pair) for law, pair in zip(self._laws, zip(a, b, strict=True), strict=True)))


class _Room(threading.local, Scratch):
    """Scratch memory that each thread has for itself."""


class _Worker:
    """The work on a visit of x and dy."""

    def __init__(self, run: Backward, plan: Plan) -> None:
        pair, norm, made = run.pair, run.grouping.norm, run.made
        self.scratch = _Room()
        self.lock = threading.Lock()
        self.gathered: dict[tuple[str, int], Any] = {}
        self.pair, self.size = pair, plan.visit
        self.dtypes = pair.a.dtype, pair.b.dtype
        self.norm, self.made, self.overflow, self.sink, self.engine = norm, made, run.overflow, run.sink, run.engine
        self.affine, self.activation = run.affine, run.affine.activation
        self.smooth = None if self.activation == "relu" else self.activation
        self.weights = Weights.of(run.affine, pair.b.dtype)
        if self.smooth:
            self.weights = self.weights._replace(exact=False)
        self.grid = run.grid
        self.refines, self.refines_sums = made.mantissa == 52, run.param.mantissa == 52
        self.narrow = all(dtype.itemsize <= 4 for dtype in self.dtypes)
        self.given = None if run.given is None else given_moments(*run.given, pair.a.dtype)
        measures = self.given is None
        self.before = MomentsOf(pair.a.dtype, Proof(None, exact=not plan.once) if measures else None)
        self.double = MomentsOf(np.dtype(np.float64), Proof(None, exact=False))
        zeros = {"zeros"} if run.zeros else set()
        of_dy = Extras(frozenset({"first_nan", "first_inf", *zeros}), pair.shape, pair.order)
        of_dx = Extras(frozenset(zeros), pair.shape, pair.order) if zeros else None
        # Where gamma is one number, and there is no activation, g is dy. Then the moments of dy are those of g.
        self.same = self.weights.values is None and self.activation is None
        self.of_dy = MomentsOf(pair.b.dtype, Proof(of_dy, exact=False) if self.same else of_dy)
        # Otherwise those of g are measured with those of x and dy, or, if g depends on those of x, after them.
        self.early = self.double if measures and not (self.same or self.activation) else None
        self.after = MomentsOf(made.dtype, of_dx)

    def split(self, visit: Visit) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the elements of x and of dy, in native byte order."""
        x, dy = split(visit.values, *self.dtypes)
        return native_order(x), native_order(dy)

    def elements(self, visit: Visit, by: Moments, mapping: Standardization) -> _Elements:
        """Return what the elements of a visit of the pair are, standardized by the moments `by`."""
        x, dy = self.split(visit)
        of_x = visit._replace(values=x)
        z, h = self.upstream(of_x, dy, by, mapping, self.scratch)
        alike = self.same and dy.dtype.char in "fd"  # then g need not be a copy
        return _Elements(of_x, dy, z, h, h if alike else self.weighted(of_x, h))

    def upstream(
        self, visit: Visit, dy: NDArray[Any], by: Moments, mapping: Standardization, scratch: Scratch
    ) -> tuple[Floats, Upstream]:
        """Return z as float64, and h, from a visit with the elements of x."""
        z = self.standardized(visit, mapping, scratch)
        return z, through(visit, dy, z, mapping, by, self.norm, self.affine, scratch)

    def weighted(self, visit: Visit, h: Upstream) -> Upstream:
        """Return g: h times gamma, where that is not one number."""
        return weighted(h, self.weights.per_element(visit.region.start, h.values.size), self.scratch)

    @property
    def laws(self) -> tuple[MomentsOf, MomentsOf, MomentsOf]:
        """The laws of the moments of x, g and dy, as `inputs` returns them."""
        return self.before, self.early or self.of_dy, self.of_dy

    @property
    def later(self) -> tuple[MomentsOf, ...]:
        """The laws of what `products_of` returns."""
        return (self.double,) * (1 if self.activation is None else 3 + self.refines if self.smooth else 2)

    def inputs(self, visit: Visit) -> _Inputs:
        """Return the moments of a visit of the pair; those of dy stand for those of a g that is not measured yet."""
        x, dy = self.split(visit)
        of_g = of_dy = self.of_dy.measure(visit._replace(values=dy))
        if self.early is not None:
            of_g = self.early.measure(visit._replace(values=self.weighted(visit, Upstream(dy)).values))
        return _Inputs(self.before.measure(visit._replace(values=x)), of_g, of_dy)

    def moments_of(self, visit: Visit) -> tuple[Moments]:
        """Return the moments of x of a visit of the pair."""
        return (self.before.measure(visit._replace(values=self.split(visit)[0])),)

    def products_of(
        self, by: Moments, mapping: Standardization, refined: Standardization | None, visit: Visit
    ) -> Products:
        """Return the moments of g z of a visit of the pair, with the exact sums of its cells, and what comes later."""
        of_x, dy, z, h, g = self.elements(visit, by, mapping)
        found = self.products(visit, g.values, z)
        if not (self.refines or self.smooth):  # of float64 they are hardly ever needed
            exact = exact_cells(of_x, h.values, self.weights.per_element(visit.region.start, z.size))
            found = found._replace(extras=(*found.extras, exact))
        after = [] if self.activation is None else [g.values] if g.errors is None else [g.values, g.errors]
        if refined is not None:
            pairs = self.pairs(of_x, dy, h, refined)
            found = found._replace(extras=(*found.extras, pairs.sums(of_x)))
            after += [pairs.g.errors] if self.smooth and pairs.g.errors is not None else []
        return found, *(self.double.measure(visit._replace(values=values)) for values in after)

    def standardized(self, visit: Visit, mapping: Standardization, scratch: Scratch) -> Floats:
        """Return z as float64."""
        z = scratch.take("z", visit.values.size)
        bare = mapping._replace(slope=None, offset=None)
        normalize_region(visit.walk, visit.region, visit.values, bare, IDENTITY, DOUBLE, z)
        return z

    def products(self, visit: Visit, g: Floats, z: Floats) -> Moments:
        """Return the moments of g z."""
        return self.double.measure_products(visit._replace(values=z), g)

    def reference(self, before: Moments) -> Moments:
        """Return the moments that x is standardized by."""
        return about_zero(before) if self.norm.rms else before

    def of_spans(self, visit: Visit, before: Moments | None = None) -> Moments:
        """Return the moments that a visit of whole spans is standardized by, from those of x if they are known."""
        if self.given is not None:
            return given_to(self.given, visit.walk, range(visit.region.first, visit.region.last))
        return self.reference(self.before.measure(visit).settled() if before is None else before)

    def whole(self, visit: Visit) -> _Whole:
        """Return the gradient of whole spans."""
        x, dy = self.split(visit)
        before = self.before.measure(visit._replace(values=x)).settled()
        by = self.of_spans(visit, before)
        mapping = standardization(by, self.norm)
        made = self.elements(visit, by, mapping)
        of_g = of_dy = products = self.of_dy.measure(visit._replace(values=dy))
        errors = None
        if self.given is None:
            if not self.same:
                of_g = self.double.measure(visit._replace(values=made.g.values))
            products = self.products(visit, made.g.values, made.z)
            if made.g.errors is not None:
                errors = self.double.measure(visit._replace(values=made.g.errors)).settled()
        known = Measured(before, by, mapping, of_g.settled(), products, of_dy, errors)
        cells = gradient(known, self.norm, self.weights, narrow=self.narrow)
        closer = pairs = None
        if self.refines or self.refines_sums:
            refined = self.refined(before, by, made.of_x)
            pairs, sums = self.pairs(made.of_x, dy, made.h, refined), None
            if self.refines and self.given is None:
                sums = pairs.sums(made.of_x)
                if self.smooth and pairs.g.errors is not None:
                    errors = self.double.measure(visit._replace(values=pairs.g.errors)).settled()
                    known = known._replace(errors_in_two=errors)
            closer = self.closer(known, refined, sums)
        return _Whole(known, cells, self.map(known, cells, made, closer, pairs))

    def refined(self, before: Moments, by: Moments, visit: Visit | None) -> Standardization:
        """Return how x is standardized in sums of two float64; without a visit `by` has exact sums."""
        return standardized(None if self.norm.given else before, by, self.norm, DOUBLE, visit)

    def pairs(self, visit: Visit, dy: NDArray[Any], h: Upstream, mapping: Standardization) -> Pairs:
        """Return the elements of a visit in sums of two float64."""
        gamma = self.weights.per_element(visit.region.start, dy.size) if self.refines else []
        if self.smooth:
            return Pairs.of(visit, mapping, dy, gamma, self.affine)
        return Pairs.of(visit, mapping, h.values, gamma, None, bare=self.norm.given and not self.refines_sums)

    def closer(self, known: Measured, mapping: Standardization, sums: PairSums | None) -> _Closer:
        """Return what computes results in sums of two float64."""
        cells = gradient_in_two(known, self.norm, self.weights, mapping, sums) if self.refines else None
        return _Closer(mapping, cells)

    def map_again(self, known: Measured, cells: Gradient, closer: _Closer | None, visit: Visit) -> _Mapped:
        """Return the gradient of a part of a span."""
        found = self.map(known, cells, self.elements(visit, known.by, known.mapping), closer, None)
        return found if self.given is None else found._replace(inputs=self.inputs(visit))

    def map(
        self, known: Measured, cells: Gradient, elements: _Elements, closer: _Closer | None, pairs: Pairs | None
    ) -> _Mapped:
        """Return the gradient of a visit; write dx unless the caller must write in order."""
        visit, dy, z, h, g = elements
        made, sink, start = self.made, self.sink, visit.region.start
        size, of_z = z.size, z
        if self.norm.given and not np.isfinite(np.add.reduce(z)):  # dx does not depend on it
            of_z = np.where(np.isfinite(z), z, 0.0)
        dx = self.engine.buffers.take(size, made.dtype)
        rounded_to = None if self.refines else dx
        places, of_dx, projections, zeros = mapped(visit, cells, g.values, of_z, g.errors, made, rounded_to)
        exist, by = None, known.by
        if not of_dx.finite.all():
            of_dy = np.isfinite(h.values.astype(np.float64))
            exist = of_dy if self.norm.given else defined(visit, known.x.finite & known.dy.finite, self.norm)
        if closer is not None:
            pairs = self.pairs(visit, dy, h, closer.mapping) if pairs is None else pairs
            if closer.cells is not None:
                high, low = pairs.z if self.given is None else np.zeros((2, size))
                places = refined_map(visit, closer.cells, (high, low), pairs.g, dx)
        if exist is not None:
            dx[~exist] = np.nan
            places = places[exist[places]]
        if self.smooth:
            rounders = smooth_rounders(self.smooth, made, partial(self.near, visit, dy), partial(self.kinds, visit, dy))
        else:
            dy, exact = h.values, partial(self.exact_sums, visit, h.values, known)
            rounders = exact_rounders(self.weights, self.norm, made, exact)
            if not self.refines:
                places, by, more = proved_closer(visit, known, self.norm, self.weights, g.values, z, places, made, dx)
                zeros += more
        became_zero = zeros + settle_gradient(visit, places, dx, by, self.norm, dy, self.affine, rounders)
        overflowed = 0
        if made.foreign:
            overflowed = made.resolve(dx, self.overflow)
        rounded = self.after.measure(visit._replace(values=dx))
        if not made.foreign:
            overflowed = infinite(rounded)
        dgamma, dbeta = self._sums(elements, known, closer, pairs)
        counts = _Counts(int(np.count_nonzero(np.isfinite(dx[places]))), overflowed, became_zero)
        found = _Mapped(_Results(of_dx, projections, rounded), counts, dgamma, dbeta, None)
        if sink is not None and sink.sequential:
            return found._replace(result=dx)
        if sink is not None:
            sink.write_from(dx, start)
        self.engine.buffers.give(dx)
        return found

    def _sums(
        self, elements: _Elements, known: Measured, closer: _Closer | None, pairs: Pairs | None
    ) -> tuple[list[Piece], list[Piece]]:
        """Return the sums of h z and of h."""
        visit, dy, z, h, _ = elements
        start = visit.region.start

        def exist() -> NDArray[np.bool_]:
            return defined(visit, known.x.finite, self.norm) & np.isfinite(dy.astype(np.float64))

        if self.refines_sums:
            assert closer is not None and pairs is not None  # they were made for this
            mapping, unit, lost, z = closer.mapping, 3 * TWO, LEAST, pairs.z[0]
            (values, low), errors = pairs.h
            if errors is not None and h.errors is not None and not np.isfinite(np.add.reduce(z)):
                far = ~np.isfinite(z)  # the derivative exists there, and float64 has it
                values[far], low[far], errors[far] = h.values[far], 0.0, h.errors[far]
            product, rest = (self.scratch.take(name, z.size) for name in ("dx", "rest"))
            loops().multiply_in_two(values, low, *pairs.z, product, rest)
            dgamma, dbeta = (pieces_in_two(self.grid, start, of, exist) for of in ((product, rest), (values, low)))
        else:
            mapping, unit, lost, errors = known.mapping, 2 * U, FLUSHED, h.errors
            values = h.values if h.values.dtype.char in "fd" else h.values.astype(np.float64)
            of_h, of_z = self._extremes(known)
            dgamma = pieces(self.grid, start, values, z, exist, of_h * of_z)
            dbeta = pieces(self.grid, start, values, None, exist, of_h)
        assert mapping.slope is not None and mapping.offset is not None  # moments have bounds
        held = np.isfinite(mapping.rstd) & (mapping.offset > 0)  # z of the others is exactly 0, or NaN
        # A term is within |h z| (slope + unit) + |h| offset of the exact one, and a bit more where h has an error.
        slope, offset = (float(part[held].max(initial=0.0)) for part in (mapping.slope, mapping.offset))
        offset, lost = (offset + lost, z.size * lost) if held.any() else (0.0, 0.0)
        bounds = [
            t.bounds + t.sizes * (slope + unit) + of_h.sizes * offset + (of_h.sizes > 0) * lost
            for t, of_h in zip(dgamma, dbeta, strict=True)
        ]
        if errors is not None:
            terms = self.scratch.take("dx", z.size)
            np.multiply(np.abs(z, out=terms), errors, out=terms)
            terms += offset * errors
            bounds = [b + more for b, more in zip(bounds, self._sizes(start, terms, 1 + slope), strict=True)]
            dbeta = [
                t._replace(bounds=t.bounds + t.sizes * unit + more)
                for t, more in zip(dbeta, self._sizes(start, errors, 1.0), strict=True)
            ]
        return [t._replace(bounds=bound) for t, bound in zip(dgamma, bounds, strict=True)], dbeta

    def _extremes(self, of: Measured) -> tuple[float, float]:
        """Return what no element of h, or of z, is larger than; NaN if the moments of its cells do not say it."""
        x, dy, mapping = of.x, of.dy, of.mapping
        known = self.given is None and mapping.power is None and mapping.base is None
        if not (known and x.finite.all() and dy.finite.all()):
            return math.nan, math.nan
        # Subtraction, product and rounding keep the order, so z of an extreme of x is one of z.
        of_z = [np.abs(((end - mapping.hi) - mapping.lo) * mapping.rstd) for end in (x.min, x.max)]
        of_dy = max(-float(dy.min.min()), float(dy.max.max()))
        return of_dy * (STEEPEST if self.smooth else 1.0), float(np.maximum(*of_z).max())

    def _sizes(self, start: int, errors: Floats, factor: float) -> list[Floats]:
        """Return the sums of `errors` times `factor`, for the pieces that `pieces` makes."""
        found = pieces(self.grid, start, errors, None, lambda: np.ones(errors.size, np.bool_))
        return [piece.bounds + piece.sizes * factor * UP for piece in found]

    def exact_sums(
        self, visit: Visit, h: NDArray[Any], known: Measured, opened: NDArray[np.int64], cells: Sequence[Cell]
    ) -> Exact:
        """Return the exact sums of all elements of some cells of a visit, without a smooth activation."""
        sums = known.products.asked(Exact)
        if sums is not None:
            return Exact(sums.of_g[opened], sums.of_products[opened])
        if visit.region.axis == 0:
            return exact_cells(visit, h, self.weights.per_element(visit.region.start, h.size), opened)
        scratch = Scratch()  # the other is in use

        def more(sums: Exact, piece: Visit, dy: NDArray[Any], number: int, _cell: Cell) -> Exact:
            _, h = self.upstream(piece, dy, known.by, known.mapping, scratch)
            gamma = self.weights.per_element(piece.region.start, dy.size)
            found = exact_cells(piece, h.values, gamma, np.array([number]))
            return Exact(sums.of_g + found.of_g, sums.of_products + found.of_products)

        nothing = Exact(*np.zeros((2, 1), np.int64).astype(object))
        found = self._gathered("exact", visit, h, opened, cells, lambda: nothing, more)
        return Exact(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def near(
        self, visit: Visit, dy: NDArray[Any], opened: NDArray[np.int64], cells: Sequence[Cell]
    ) -> list[SmoothSums | None]:
        """Return the sums of all elements of some cells of a visit, for a smooth activation; see `smooth_rounders`."""

        def more(sums: SmoothSums | None, piece: Visit, dy: NDArray[Any], number: int, cell: Cell) -> SmoothSums | None:
            some = Elements.of_cell(piece, dy, self.affine, number)
            return None if sums is None else added(sums, near_sums(cell, some, str(self.smooth), weighted=True))

        return self._gathered("near", visit, dy, opened, cells, lambda: NO_SUMS, more)

    def kinds(self, visit: Visit, dy: NDArray[Any], number: int, cell: Cell) -> Kinds:
        """Return the same of one cell, in rational arithmetic."""

        def more(kinds: Kinds, piece: Visit, dy: NDArray[Any], number: int, cell: Cell) -> Kinds:
            kinds.add(cell, Elements.of_cell(piece, dy, self.affine, number), weighted=True)
            return kinds

        return self._gathered("kinds", visit, dy, np.array([number]), [cell], Kinds, more)[0]

    def _gathered(
        self,
        what: str,
        visit: Visit,
        dy: NDArray[Any],
        opened: NDArray[np.int64],
        cells: Sequence[Cell],
        nothing: Callable[[], T],
        added: Callable[[T, Visit, NDArray[Any], int, Cell], T],
    ) -> list[T]:
        """Return what all elements of some cells add up to; spans that do not fit a visit are read for it, but once.

        `added` takes what was found so far, a visit with the elements of x, those of dy, and a cell's number, and it.
        """
        if self.norm.given:
            return [nothing() for _ in cells]
        if visit.region.axis == 0:
            return [
                added(nothing(), visit, dy, number, cell) for number, cell in zip(opened.tolist(), cells, strict=True)
            ]
        with self.lock:
            missing = [
                each for each in zip(opened.tolist(), cells, strict=True) if (what, each[0]) not in self.gathered
            ]
            found = {number: nothing() for number, _ in missing}
            for piece in self._span_of(visit) if missing else ():
                x, dy = self.split(piece)
                of_x = piece._replace(values=x)
                for number, cell in missing:
                    if (cell_numbers(of_x) == number).any():
                        found[number] = added(found[number], of_x, dy, number, cell)
            self.gathered |= {(what, number): each for number, each in found.items()}
            return [self.gathered[what, number] for number in opened.tolist()]

    def _span_of(self, visit: Visit) -> Iterator[Visit]:
        """Yield the visits of the pair that make up the span that `visit` is a part of; they are read here."""
        span = visit.region.prefix[0]
        for region in visit.walk.regions(self.size, range(span, span + 1)):
            values = self.engine.buffers.take(region.stop - region.start, self.pair.dtype)
            self.pair.read_into(values, region.start)
            yield visit._replace(region=region, values=values)
            self.engine.buffers.give(values)

    def picked(self, visit: Visit, opened: NDArray[np.int64]) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """Yield the places in a visit of the elements of each cell and each parameter in `opened`, and these two."""
        num_x, length, width = visit.walk.view(visit.region)
        runs = np.broadcast_to(cell_numbers(visit)[:, None], (num_x, length, width)).reshape(-1)
        owners = self.grid.owners_of(visit.region.start, runs.size)
        places = np.flatnonzero(np.isin(owners, opened))
        keys = runs[places] * self.grid.owners.size + owners[places]
        order = np.argsort(keys, kind="stable")
        for some in np.split(places[order], np.flatnonzero(np.diff(keys[order])) + 1) if places.size else ():
            yield int(runs[some[0]]), int(owners[some[0]]), some

    def exact(self, opened: NDArray[np.int64], by: Moments | None, visit: Visit) -> _Opened:
        """Return the exact sums that the parameters in `opened` need; without a smooth activation.

        With relu, `by` has the moments of the cells of the span; None where the visit has whole spans.
        """
        x, dy = self.split(visit)
        of_x = visit._replace(values=x)
        if self.activation is not None:
            if by is None:
                by = self.of_spans(of_x)
            dy = self.elements(visit, by, standardization(by, self.norm)).h.values
        first = visit.walk.span_cells * (visit.region.prefix[0] if visit.region.axis else visit.region.first)
        pairs = {}
        for number, parameter, some in self.picked(of_x, opened):
            of_dy, of_values = float_parts(dy[some][None]), float_parts(x[some][None])
            pairs[first + number, parameter] = product_sums([of_dy])[0], product_sums([of_dy, of_values])[0]
        touched = np.unique(cell_numbers(of_x))
        sums = cell_sums(of_x, MomentsOf(x.dtype).measure(of_x))
        return _Opened((first + touched).tolist(), sums, pairs, x.size // touched.size)

    def smooth_sums(
        self,
        opened: NDArray[np.int64],
        measure: Callable[[Cell, Elements], T],
        by: Moments | None,
        visit: Visit,
    ) -> list[tuple[int, Cell, T]]:
        """Return what `measure` finds of the elements of each parameter in `opened` and cell; with a smooth activation.

        For `by` see `exact`.
        """
        x, dy = self.split(visit)
        of_x = visit._replace(values=x)
        if by is None:
            by = self.of_spans(of_x)
        picked = list(self.picked(of_x, opened))
        cells = cells_of(of_x, by, self.norm, np.array([number for number, _, _ in picked], np.int64))
        return [
            (parameter, cell, measure(cell, Elements.of(of_x, dy, self.affine, places)))
            for cell, (_, parameter, places) in zip(cells, picked, strict=True)
        ]


class Backward:
    """The gradients of a norm, from its input x and the gradient dy of its output.

    Parameters
    ----------
    pair : Pair
        x and dy, which can be read more than once.
    sink : Sink or None
        Receives dx; with None it is measured and not kept.
    grouping : Grouping
        The formula, and the cells of the tensor.
    affine : Affine
        Gamma.
    grid : Grid
        The parameters that dgamma and dbeta belong to.
    made, param : Float
        The dtypes of dx, and of dgamma and dbeta.
    engine : Engine
        Runs the passes.
    overflow : {"saturate", "nonfinite"}, optional
        What becomes of elements of dx that overflow; see `Normalization`.
    given : tuple of two ndarray of float64, shape (C,), optional
        The mean and the variance of each channel, if they are given.
    zeros : bool
        Whether zeros are counted in dy and dx.
    """

    def __init__(
        self,
        pair: Pair,
        sink: Sink | None,
        grouping: Grouping,
        affine: Affine,
        grid: Grid,
        made: Float,
        param: Float,
        engine: Engine,
        *,
        overflow: str | None = None,
        given: tuple[Floats, Floats] | None = None,
        zeros: bool = False,
    ) -> None:
        self.zeros = zeros
        self.pair, self.sink, self.grouping, self.affine, self.grid = pair, sink, grouping, affine, grid
        self.made, self.param, self.engine, self.overflow, self.given = made, param, engine, overflow, given
        span = grouping.partition.size // max(1, grouping.partition.axes[0].size) * pair.dtype.itemsize
        names = ("backward",) if grouping.norm.given else ("moments", "products", "backward")
        most = span if SMALL < span <= engine.visit else SMALL  # a span that fits a visit is read once
        self._plan = Plan.of(pair, grouping.partition, engine, lambda _, once: names[-1:] if once else names, most=most)
        self._worker = _Worker(self, self._plan)
        self._check, self._counts, self._finite = GradientCheck(0, None, None), _Counts(), 0
        self._done: list[_Done] = []
        self._trees: defaultdict[str, Tree[Moments]] = defaultdict(lambda: Tree(merge))
        self._sums = Totals(grid), Totals(grid)

    def run(self) -> Gradients:
        """Run all passes and return the result.

        Raises
        ------
        GncliError
            If a source cannot be read, or the sink written.
        """
        if self.grouping.partition.size:
            plan = self._plan.begin()
            for spans in plan.spans():
                if plan.once:
                    for region, whole in plan.visits(self._worker.whole):
                        self._take(region, done := whole.mapped)
                        self._finish(_Done(whole.found, whole.cells, done.moments), done.counts)
                else:
                    self._span(plan, spans)
            self._add_up()
        sums = [totals.result() for totals in self._sums]
        parameters, opened = zip(*(total.rounded(self.param) for total in sums), strict=True)
        if self._worker.smooth:
            self._settle_smooth(parameters, opened)
        elif opened[0].size:  # a sum of dy has no error
            self._settle(parameters[0], opened[0])
        none = self._worker.of_dy.nothing(), self._worker.before.nothing(), self._worker.after.nothing()
        dy, x, dx = (
            empty if (found := self._trees[name].total()) is None else found.settled()
            for name, empty in zip(("dy", "x", "dx"), none, strict=True)
        )
        settled = sum(places.size for places in opened)
        return Gradients(x, dy, dx, self._checked(), sums[0], sums[1], parameters, settled)

    def _span(self, plan: Plan, span: range) -> None:
        """Run the passes over a span that does not fit a visit."""
        worker, counts = self._worker, _Counts()
        worker.gathered.clear()
        known = self._measured(plan, span)
        cells = gradient(known, worker.norm, worker.weights, narrow=worker.narrow)
        closer = None
        if worker.refines or worker.refines_sums:
            refined = worker.refined(known.x, known.by, None)
            closer = worker.closer(known, refined, known.products.asked(PairSums))
        again = partial(worker.map_again, known, cells, closer)
        inputs = _Together(_Inputs, worker.laws, worker.inputs)
        results = _Together(_Results, (worker.double, worker.double, worker.after), lambda visit: again(visit).moments)

        def mapped_again() -> Iterator[tuple[Region, tuple[_Inputs, _Results]]]:
            nonlocal counts
            for region, done in plan.visits(again, span):
                self._take(region, done)
                counts = counts.plus(done.counts)
                yield region, (done.inputs or inputs.nothing(visited(plan.walk, region)), done.moments)

        ((found, moments),) = folded(plan.walk, Both(inputs, results), mapped_again())
        if worker.given is not None:
            known = known._replace(x=found.x.settled(), dy=found.dy)
        self._finish(_Done(known, cells, moments), counts)

    def _measured(self, plan: Plan, span: range) -> Measured:
        worker = self._worker
        if worker.given is not None:
            by = given_to(worker.given, plan.walk, span)
            x, _, dy = (law.nothing(by.n.size) for law in worker.laws)
            return Measured(x, by, standardization(by, worker.norm), dy, dy, dy)
        ((x, g, dy),) = plan.reduce(_Together(_Inputs, worker.laws, worker.inputs), span)
        x = x.settled()
        by = worker.reference(x)
        mapping = standardization(by, worker.norm)
        refined = worker.refined(x, by, None) if worker.refines else None
        measure = partial(worker.products_of, by, mapping, refined)
        ((products, *later),) = plan.reduce(_Together(_record, worker.later, measure), span)
        g, *of_errors = [moments.settled() for moments in (*later, g)[: max(1, len(later))]]
        return Measured(x, by, mapping, g, products, dy, *of_errors)

    def _take(self, region: Region, done: _Mapped) -> None:
        """Write a result that a worker could not write, and add up its sums."""
        if done.result is not None and self.sink is not None:
            self.sink.write_from(done.result, region.start)
            self.engine.buffers.give(done.result)
        for totals, found in zip(self._sums, (done.dgamma, done.dbeta), strict=True):
            totals.add(found)

    def _finish(self, done: _Done, counts: _Counts) -> None:
        """Take the record of the next whole spans; as many as there are in every visit but perhaps the last."""
        self._counts = self._counts.plus(counts)
        self._done.append(done)
        # Of a power of two of records the union is a node of the tree.
        if len(self._done) == 1 << (TOGETHER // self._done[0].moments.dx.n.size).bit_length():
            self._add_up()

    def _add_up(self) -> None:
        """Add up the records that came since the last time."""
        if not self._done:
            return
        worker = self._worker
        known, cells, moments = concatenate(self._done)
        self._done = []
        check = check_gradient(known, cells, moments.before, moments.projections, worker.norm, worker.weights)
        self._check = self._check.plus(check)
        self._finite += int(moments.dx.n.sum())
        inner = self._plan.walk.span_cells
        for name, found in (("x", without_bounds(known.x)), ("dy", without_bounds(known.dy)), ("dx", moments.dx)):
            axes = Axis(False, found.n.size // inner), Axis(False, inner)
            self._trees[name].push(fold_axes(found, axes, merge, keep_first=False))

    def _checked(self) -> GradientCheck:
        """Return the check of all spans."""
        settled, overflowed, became_zero = self._counts
        return replace(
            self._check,
            overflowed=overflowed,
            overflow=self.overflow,
            became_zero=became_zero if self.made.foreign else None,
            proved=self._finite - settled,
            settled=settled,
        )

    def _settle(self, dgamma: NDArray[Any], opened: NDArray[np.int64]) -> None:
        """Round the elements of dgamma in `opened` by exact arithmetic."""
        cells: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
        pairs: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        for part in self._again(partial(self._worker.exact, opened)):
            for cell, first, second in zip(part.cells, part.x.first, part.x.second, strict=True):
                cells[cell] = list(map(operator.add, cells[cell], (part.size, first, second)))
            for key, sums in part.pairs.items():
                pairs[key] = list(map(operator.add, pairs[key], sums))
        terms: dict[int, list[Term]] = defaultdict(list)
        for (number, parameter), (of_dy, of_products) in sorted(pairs.items()):
            exact = self._cell(number, cells[number])
            terms[parameter].append(exact.term(exactly(of_dy), exactly(of_products)))
        for parameter in opened.tolist():
            dgamma[parameter] = rounded_sum(terms[parameter], self.param)

    def _settle_smooth(self, parameters: Sequence[NDArray[Any]], opened: Sequence[NDArray[np.int64]]) -> None:
        """Round the elements of dgamma and of dbeta that are open, where the activation is smooth."""
        worker, name = self._worker, str(self._worker.smooth)
        which = [(k, place) for k, places in enumerate(opened) for place in places.tolist()]
        if not which:
            return
        some = np.union1d(*opened)
        near: dict[tuple[int, int], tuple[list[Term], list[Term]]] = {key: ([], []) for key in which}
        measure = partial(near_sums, name=name, weighted=False)
        for found in self._again(partial(worker.smooth_sums, some, measure)):
            for place, cell, sums in found:
                for k in (0, 1):
                    if sums is None:
                        near.pop((k, place), None)
                    elif (k, place) in near:
                        for terms, term in zip(near[k, place], shares(cell, sums)[k], strict=True):
                            terms.append(term)
        left = []
        for k, place in which:
            result = agreed_sum(*near[k, place], self.param) if (k, place) in near else None
            if result is None:
                left.append((k, place))
            else:
                parameters[k][place] = result
        if not left:
            return
        kinds: defaultdict[tuple[int, int], dict[Argument | None, list[Term]]] = defaultdict(lambda: defaultdict(list))
        some = np.unique([place for _, place in left])
        for of_visit in self._again(partial(worker.smooth_sums, some, partial(kinds_of, weighted=False))):
            for place, cell, own in of_visit:
                for argument, (of_dy, of_products) in own.parts.items():
                    both = shares(cell, (Near(of_dy), Near(of_products)))
                    for k, (term, _) in enumerate(both):
                        kinds[k, place][argument].append(term)
        slope = functools.cache(partial(Argument.slope, name=name))
        for k, place in left:
            parameters[k][place] = settled(kinds[k, place], name, slope, self.param)

    def _again(self, measure: Callable[[Moments | None, Visit], T]) -> Iterator[T]:
        """Yield the result of each visit of one more pass; an activation asks for the moments of x before."""
        plan, worker = self._plan, self._worker
        if worker.activation is None or plan.once:
            yield from map(itemgetter(1), plan.visits(partial(measure, None)))
            return
        for spans in plan.spans():
            if worker.given is None:
                ((x,),) = plan.reduce(_Together(_record, (worker.before,), worker.moments_of), spans)
                by = worker.reference(x.settled())
            else:
                by = given_to(worker.given, plan.walk, spans)
            yield from map(itemgetter(1), plan.visits(partial(measure, by), spans))

    def _cell(self, number: int, measured: list[int]) -> Cell:
        norm, given = self.grouping.norm, self._worker.given
        n, first, second = measured
        if given is not None:
            sums = given.asked(ExactSums)
            assert sums is not None  # they are exact
            n, first, second = 1, sums.first[number], sums.second[number]
        first, second = int(first), int(second)  # NumPy's, where all are small
        return Cell(n, 0 if norm.rms else first, second, norm)


def _record(*moments: Moments) -> Products:
    return moments


def visited(walk: Walk, region: Region) -> int:
    """Return how many cells a region touches."""
    return math.prod(axis.size for axis in walk.dims(region) if axis.cell)
