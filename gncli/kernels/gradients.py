"""The backward pass of Group Normalization and its family: the map, the bounds of its errors, exact results, the check.

For a cell with n elements, z the standardized values, g = dy gamma, and r the factor of deviations::

    dx = r ((g - mean(g)) - z mean(g z))          dgamma = sum(dy z)          dbeta = sum(dy)

``denominator="variance"`` takes ``2 mean(g z) / r`` in place of ``mean(g z)``; moments about 0 (`GroupNorm.rms`) have
no first mean, and given ones have neither. docs/numbers.md derives the formulas and the bounds.

Notes
-----
With the sums S of x, Q of x^2, A of g and P of g x, and W = n Q - S^2 + n^2 eps, all of which are exact, and
T = n P - S A, N = n x - S::

    dx = ((n g - A) W - N T) / W^1.5              or, divided by the variance,  n ((n g - A) W - 2 N T) / W^2
    dgamma = sum over cells of (n P - S D) / sqrt(W)        with D and P the sums of dy and dy x in the cell
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.exact import GRAIN, Sums, fractions, is_narrow, over_grain, positive, rows_at, sums_of
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.groupnorm import GroupNorm, factor, scaled_eps, scaled_for_eps, standardization
from gncli.kernels.loops import loops
from gncli.kernels.moments import Bounds, Floats, Moments, Union, is_wide_integer
from gncli.kernels.plain import FAR, UP, Affine, Blocks, Factors, Gradient, Reals, Standardization, U, apply
from gncli.kernels.proof import TINY, of_blocks, tightened
from gncli.kernels.reduction import Visit, each, over_rows, spread
from gncli.kernels.scratch import Scratch
from gncli.kernels.surds import Term, exactly, product_sums, rounded_sum
from gncli.kernels.twofold import Pair
from gncli.text import finite

TWO = 2.0**-100  # the unit of what is computed in sums of two float64
LEAST = 2.0**-890  # covers what these lose to underflow
FLUSHED = 2.0**-1072  # covers what a product, a mean, a quotient and their bounds lose to underflow in float64
RUN = 256  # elements with one gamma that are worth being summed apart
NEAR = 2.0**-300  # a product of numbers of up to 32 bits and of a gamma beyond it does not underflow


class Weights(NamedTuple):
    """Gamma, as the gradient needs it.

    Attributes
    ----------
    uniform : float
        Multiplies the result; 1 where `values` are used.
    values : Affine or None
        The gamma of each element; None where it is one number.
    exact : bool
        Whether dy times gamma is a float64; otherwise the product has an error of up to 2 u.
    """

    uniform: float
    values: Affine | None
    exact: bool

    @classmethod
    def of(cls, affine: Affine, dtype: np.dtype[Any]) -> Weights:
        """Return the weights for a dy of `dtype`."""
        first = float(affine.gamma[0]) if affine.gamma.size else 1.0
        if affine.rest is not None:
            return cls(1.0, affine, False)
        if (affine.gamma == first).all():
            return cls(first, None, True)
        size = np.abs(affine.gamma)
        with np.errstate(over="ignore"):
            short = (affine.gamma.astype(np.float32) == affine.gamma) & ((size == 0) | (size > NEAR))
        return cls(1.0, affine, bool(dtype.itemsize <= 4 and short.all()))

    def per_element(self, start: int, size: int) -> list[Floats]:
        """Return the gamma of a run of elements in storage, as arrays whose sum it is; none where it is one number."""
        if self.values is None:
            return []
        rest = self.values.rest
        parts = [self.values.gamma] if rest is None else [self.values.gamma, rest]
        return self.values.along(start, size, parts)


class Upstream(NamedTuple):
    """A gradient on its way back.

    Attributes
    ----------
    values : ndarray, 1-D
        The elements; those of a dy that has not changed in its own dtype, else float64.
    errors : ndarray of float64, 1-D, or None
        Bounds of their errors; None if there are none but that of a product with gamma.
    """

    values: NDArray[Any]
    errors: Floats | None = None


def defined(visit: Visit, cells: NDArray[np.bool_], norm: GroupNorm) -> NDArray[np.bool_]:
    """Return which elements of x have an exact z: those in finite `cells`; where moments are given, those finite."""
    if norm.given:
        return np.isfinite(visit.values.astype(np.float64))
    num_x, length, width = visit.walk.view(visit.region)
    shape = (num_x, length, width) if visit.walk.columns else (num_x, length)
    return np.broadcast_to(spread(visit.walk, visit.region, cells), shape).reshape(-1)


def through(
    visit: Visit,
    dy: NDArray[Any],
    z: Floats,
    mapping: Standardization,
    by: Moments,
    norm: GroupNorm,
    affine: Affine,
    scratch: Scratch,
) -> Upstream:
    """Return h, dy times the derivative of the activation; without an activation, dy as it is.

    Parameters
    ----------
    visit : Visit
        The visit, with the elements of x.
    dy, z : ndarray, 1-D
        The elements of dy, and the standardized ones.
    mapping : Standardization
        How these were standardized.
    by : Moments
        The moments that they were standardized by; see `positive`.
    norm, affine
        The formula.
    scratch : Scratch
        Memory for the result and on the way to it: ``u``, ``limit`` and ``h``.
    """
    name, affine = affine.activation, affine._replace(activation=None)
    if name is None:
        return Upstream(dy)
    u, bound = scratch.take("u", z.size), scratch.take("limit", z.size)
    num_x, length, width = visit.walk.view(visit.region)
    assert mapping.slope is not None and mapping.offset is not None  # moments have bounds
    slope, offset = (
        spread(visit.walk, visit.region, part).reshape(num_x, 1, width) for part in (mapping.slope, mapping.offset)
    )
    u[...] = z
    np.abs(z, out=bound)
    shaped = bound.reshape(num_x, length, width)
    shaped *= slope
    shaped += offset
    apply(affine, visit.region.start, FLOATS["float64"], u, bound)
    if name == "relu":
        above, exist = u > 0, defined(visit, by.finite, norm)
        places = np.flatnonzero(~(np.abs(u) > bound) & (bound != 0) & (dy != 0) & exist)
        above[places] = positive(visit, places, by, norm, affine)
        h = np.multiply(dy, above, dtype=dy.dtype)
        h[np.isnan(u) & ~exist] = np.nan
        return Upstream(h)
    loops().derivative(name, u, bound)
    values = scratch.take("h", z.size)
    values[...] = dy
    nothing = values == 0
    bound *= np.abs(values)
    values *= u
    bound += 2 * U * np.abs(values) + TINY
    bound[nothing] = 0.0
    return Upstream(values, bound)


def weighted(h: Upstream, gamma: Sequence[Floats], scratch: Scratch) -> Upstream:
    """Return g in float64, h times gamma; `gamma` is as `Weights.per_element` returns it, so without parts it is h.

    `scratch` has memory for the result: ``g`` and ``errors``.
    """
    g = scratch.take("g", h.values.size)
    g[...] = h.values
    if not gamma:
        return Upstream(g, h.errors)
    errors = None
    if h.errors is not None:
        errors = np.multiply(h.errors, np.abs(gamma[0]) * UP, out=scratch.take("errors", g.size))
    return Upstream(np.multiply(g, gamma[0], out=g), errors)


class Measured(NamedTuple):
    """What is known of the cells before the map.

    Attributes
    ----------
    x, by : Moments
        The moments of the input, settled, and those that it is standardized by.
    mapping : Standardization
        How it is standardized.
    g, products : Moments
        The moments of g, settled, and of g z as float64 has them; with bounds.
    dy : Moments
        The moments of dy.
    errors : Moments, optional
        The moments of the bounds of the errors of g, where it has any: those of an activation.
    errors_in_two : Moments, optional
        The same of g in sums of two float64.
    """

    x: Moments
    by: Moments
    mapping: Standardization
    g: Moments
    products: Moments
    dy: Moments
    errors: Moments | None = None
    errors_in_two: Moments | None = None

    def roots(self, norm: GroupNorm) -> tuple[Floats, Floats]:
        """Return a bound of the root mean square of z in each cell, and the share of eps in var + eps."""
        by = scaled_for_eps(self.by, norm.eps)
        var, eps = by.scaled_var(), scaled_eps(norm, by)
        share = np.where(var + eps > 0, eps / np.where(var + eps > 0, var + eps, 1.0), 1.0)
        return self.mapping.rstd * np.sqrt(var) * UP, share


def _mean(moments: Moments, rounded: float) -> tuple[Floats, Floats]:
    """Return the mean of each cell, and the bound of its error, where the values have an error of `rounded`."""
    limits = moments.asked(Bounds)
    assert limits is not None  # they were asked for
    mean = np.where(moments.n > 0, moments.mean, 0.0)
    error = limits.mean if moments.power is None else np.ldexp(limits.mean, moments.power)
    return mean, (error + U * np.abs(mean)) * UP + rounded * _root_mean_square(moments) + FLUSHED


def _mean_in_two(mean: Pair) -> tuple[Floats, Floats]:
    """Return the upper part of the mean of each cell, and the bound of the error of both parts."""
    return mean[0], TWO * np.abs(mean[0]) + LEAST


def _root_mean_square(moments: Moments) -> Floats:
    return np.asarray(np.hypot(np.nan_to_num(moments.mean), np.nan_to_num(moments.std())) * UP)


class Refined(NamedTuple):
    """What is known of the cells in sums of two float64.

    Attributes
    ----------
    mapping : Standardization
        How x is standardized.
    g, products : tuple of two ndarray of float64
        The means of g and of g z.
    """

    mapping: Standardization
    g: Pair
    products: Pair


def gradient(
    found: Measured, norm: GroupNorm, weights: Weights, *, narrow: bool, refined: Refined | None = None
) -> Gradient:
    """Return the map of the cells.

    Parameters
    ----------
    found : Measured
        What is known of them.
    norm : GroupNorm
        The formula.
    weights : Weights
        Gamma.
    narrow : bool
        Whether x and dy have at most 32 bits, so that no product underflows.
    refined : Refined, optional
        What is known of them in sums of two float64, if dx is computed so: then the upper parts are returned.
    """
    mapping, errors, unit = found.mapping, found.errors, U
    if refined is not None:
        mapping, errors, unit = refined.mapping, found.errors_in_two, TWO
    of_z, offset = mapping.slope, mapping.offset
    assert of_z is not None and offset is not None  # moments have bounds
    rate = factor(mapping)
    none = np.zeros_like(rate)
    first = first_error = second = second_error = none
    lost_g = 0.0 if weights.exact else 2 * unit
    flushed_g = 0.0 if weights.exact or refined is not None else FLUSHED
    if not norm.given:
        if refined is not None:
            offset = offset + LEAST
        root_g, (root_z, _) = _root_mean_square(found.g), found.roots(norm)
        second, second_error = _mean(found.products, 2 * U) if refined is None else _mean_in_two(refined.products)
        if refined is not None:
            second_error = second_error + LEAST * root_z
        second_error = second_error + ((of_z + lost_g + unit) * root_g + flushed_g) * root_z * UP + offset * root_g * UP
        if errors is not None:
            second_error = second_error + _root_mean_square(errors) * (root_z * (1 + of_z) + offset)
        if norm.denominator == "variance":
            second = 2 * second / rate
            second_error = (2 * second_error / rate + np.abs(second) * (of_z + 4 * unit)) * UP + FLUSHED
        if not norm.rms:
            first, first_error = _mean(found.g, lost_g) if refined is None else _mean_in_two(refined.g)
            if refined is not None:
                first_error = first_error + lost_g * root_g
            if errors is not None:
                first_error = first_error + errors.mean * UP
    scale = rate * weights.uniform
    size = np.abs(scale)
    on_g = size * (lost_g + 5 * unit + of_z)
    on_z = size * (second_error * (1 + of_z) + np.abs(second) * (2 * of_z + 6 * unit))
    base = first_error + flushed_g + np.abs(first) * (5 * unit + of_z) + offset * (np.abs(second) + second_error)
    base = size * base
    if refined is not None:
        base = base + (0.0 if norm.given or not weights.uniform else (1 + size) * LEAST)
    elif not (narrow and weights.exact and (weights.uniform == 0 or NEAR < abs(weights.uniform) < 1 / NEAR)):
        base = base + TINY
    # dy times gamma may be beyond float64 where dy is not. With moments that are given no element has a part in that of
    # another, and times a rate above TINY it is beyond every narrower dtype too.
    finite = found.g.finite | norm.given
    lost = ~(finite & (rate < 1 / TINY) & (rate > TINY) & np.isfinite(on_g + on_z + base))
    if refined is not None and weights.uniform:
        lost |= ~((size > 1 / FAR) & (size < FAR))
    on_g, on_z, base = (np.where(lost, none, part * UP) for part, none in ((on_g, 0.0), (on_z, 0.0), (base, np.inf)))
    same = finite & found.g.constant & (norm.centered | (found.g.min == 0))
    same &= np.full(same.shape, weights.exact) if errors is None else errors.max == 0
    if not norm.given:  # then dx is exactly 0
        first, second = np.where(same, found.g.min * norm.centered, first), np.where(same, 0.0, second)
        on_g, on_z, base = (np.where(same, 0.0, part) for part in (on_g, on_z, base))
    if not norm.given:
        scale = np.where(found.x.finite & finite, scale, np.nan)
    return Gradient(scale, first, second, on_g, on_z, base)


def mapped(
    visit: Visit,
    cells: Gradient,
    g: Reals,
    z: Floats,
    errors: Floats | None,
    made: Float,
    out: NDArray[Any] | None,
) -> tuple[NDArray[np.int64], Moments, Moments, int]:
    """Round dx to `out`; return which elements are open, the moments of dx before that and of its products with z.

    The last result is the number of elements that became 0, without the open ones, for dtypes that NumPy lacks. For the
    parameters see `plain.gradient`.
    """
    walk, region = visit.walk, visit.region
    blocks = Blocks(walk.view(region)[1], walk.block, bool(walk.columns))
    found = loops().gradient(g, z, errors, blocks, over_rows(walk, region, cells), made, out)
    return found.open, of_blocks(visit, found.moments), of_blocks(visit, found.projections), found.zeros


def proved_closer(
    visit: Visit,
    known: Measured,
    norm: GroupNorm,
    weights: Weights,
    g: Reals,
    z: Floats,
    places: NDArray[np.int64],
    made: Float,
    out: NDArray[Any],
) -> tuple[NDArray[np.int64], Moments, int]:
    """Round again what `mapped` left open, with the errors that the moments of x have in place of their bounds.

    Parameters
    ----------
    visit : Visit
        The visit, with the elements of x.
    known : Measured
        What is known of its cells.
    norm, weights
        The formula, and gamma.
    g, z : ndarray, 1-D
        The elements; those of g have no error but that of a product.
    places : ndarray of int64, 1-D
        Those that are open, in cells that are finite.
    made, out
        See `mapped`.

    Returns
    -------
    open : ndarray of int64, 1-D
        Those that still are.
    by : Moments
        The moments that the cells are standardized by, with the exact sums of those that had open elements.
    zeros : int
        See `mapped`.
    """
    by = known.by
    if norm.given or by.power is not None or is_wide_integer(visit.values.dtype) or not places.size:
        return places, by, 0
    _, length, width = visit.walk.view(visit.region)
    numbers = cell_numbers(visit)
    opened, part = np.unique(numbers[places // (length * width), places % width], return_inverse=True)
    if by.asked(Sums) is None:
        sums = Sums(*np.zeros((2, by.n.size), np.int64).astype(object))
        sums.first[opened], sums.second[opened] = sums_of(visit, numbers, opened)
        if norm.rms:
            sums = sums._replace(first=sums.first * 0)
        by = by._replace(extras=(*by.extras, sums))
    some: Measured = each(known._replace(by=by), itemgetter(opened))
    tight = tightened(some.by)
    cells = gradient(some._replace(by=tight, mapping=standardization(tight, norm)), norm, weights, narrow=False)
    rounded = np.empty(places.size, made.dtype)
    own = each(cells, lambda field: field[part][:, None])
    found = loops().gradient(g[places], z[places], None, Blocks(1, 1, columns=False), own, made, rounded)
    out[places] = rounded
    return places[found.open], by, found.zeros


# --- exact results ---------------------------------------------------------------------------------------------------


class Exact(NamedTuple):
    """The exact sums of cells, one Python integer each: of g and of g x, over ``2**(FACTORS * GRAIN)``."""

    of_g: NDArray[Any]
    of_products: NDArray[Any]

    def merged(self, other: Exact, _union: Union) -> Exact:
        """Return the sums of the unions."""
        return Exact(self.of_g + other.of_g, self.of_products + other.of_products)


class Cell(NamedTuple):
    """The exact sums of a cell.

    Attributes
    ----------
    n : int
        The number of its elements.
    first, second : int
        The sum of x over ``2**GRAIN``, and that of its squares over ``4**GRAIN``; `first` is 0 for moments about 0.
    norm : GroupNorm
        The formula.
    """

    n: int
    first: int
    second: int
    norm: GroupNorm

    @property
    def total(self) -> Fraction:
        """S, the sum of x."""
        return Fraction(self.first, 1 << GRAIN)

    @property
    def spread(self) -> Fraction:
        """W, ``n**2 (var + eps)``; where that is 0, the factor of deviations is 1."""
        found = self.n * Fraction(self.second, 1 << 2 * GRAIN) - self.total**2 + self.n**2 * Fraction(self.norm.eps)
        return found or Fraction(self.n**2)

    def rates(self, of_g: Fraction, of_products: Fraction) -> tuple[Fraction, Fraction, Fraction, Fraction]:
        """Return a, b, c and w of the elements: ``dx = (a g + b x + c) / sqrt(w)``, from the sums of g and of g x."""
        n, whole, spread = self.n, self.total, self.spread
        twice = self.norm.denominator == "variance"
        if self.norm.given:
            of_g = of_products = Fraction(0)
        if self.norm.rms:
            of_g = Fraction(0)
        slope = (n * of_products - whole * of_g) * (2 if twice else 1) / spread
        if self.norm.given:
            slope = Fraction(0)
        scale = n / spread if twice else Fraction(1)
        return scale * n, -scale * n * slope, scale * (whole * slope - of_g), Fraction(1) if twice else spread

    def term(self, of_dy: Fraction, of_products: Fraction) -> Term:
        """Return what the cell adds to dgamma, from the sums of dy and of dy x."""
        over = self.n * of_products - self.total * of_dy
        if self.norm.denominator == "variance":
            return Term(over * self.n / self.spread, Fraction(1))
        return Term(over, self.spread)


def float_parts(values: NDArray[Any]) -> list[Reals]:
    """Return arrays of float32 or float64 whose sum is exactly `values`: two for 64-bit integers, else one."""
    if not is_wide_integer(values.dtype):
        return [values.astype(np.float32 if is_narrow(values.dtype) else np.float64, copy=False)]
    upper = values >> 32 << 32
    return [upper.astype(np.float64), (values - upper).astype(np.float64)]


def exact_value(value: Any) -> Fraction:
    """Return an element as a fraction."""
    return Fraction(int(value)) if isinstance(value, np.integer | np.bool_) else Fraction(float(value))


def cell_numbers(visit: Visit) -> NDArray[np.int64]:
    """Return the number of the cell of each column of a visit, of shape (X, Q).

    Cells are counted from the first one of the visit's first span, in storage order.
    """
    walk, region = visit.walk, visit.region
    spans = region.last - region.first if region.axis == 0 else 1
    num_x, _, width = walk.view(region)
    return spread(walk, region, np.arange(spans * walk.span_cells)).reshape(num_x, width)


def exact_cells(
    visit: Visit, dy: NDArray[Any], gamma: Sequence[Floats], opened: NDArray[np.int64] | None = None
) -> Exact:
    """Return the exact sums of the cells of a visit, in their order: of all, or of those whose numbers are `opened`."""
    runs = cell_numbers(visit)
    opened = np.unique(runs) if opened is None else opened
    places = np.flatnonzero(np.isin(runs, opened))
    owners = runs.reshape(-1)[places]

    def rows(values: NDArray[Any]) -> list[Reals]:
        return float_parts(rows_at(visit, values, places))

    factors, weights = [rows(dy), rows(visit.values)], [row for part in gamma for row in rows(part)]
    length = _run_of(weights)
    if length < RUN:
        of_rows = [product_sums([*some, *[weights] * bool(weights)]) for some in (factors[:1], factors)]
    else:  # what has one gamma is multiplied by it once
        factors, (weights,) = (
            [[of.reshape(-1, length) for of in part] for part in parts] for parts in (factors, [weights])
        )
        by = sum(np.array([over_grain(first) for first in part[:, 0].tolist()], object) for part in weights)
        found = [(product_sums(some) >> GRAIN) * by for some in (factors[:1], factors)]
        of_rows = [sums.reshape(owners.size, -1).sum(axis=1) for sums in found]
    index = np.searchsorted(opened, owners)
    of_cells = np.zeros((2, opened.size), np.int64).astype(object)
    for to, sums in zip(of_cells, of_rows, strict=True):
        np.add.at(to, index, sums)
    return Exact(*of_cells)


def _run_of(weights: Sequence[Reals]) -> int:
    """Return how many elements of rows of shape (A, L) have one weight: a divisor of L; 0 if a weight is not finite."""
    if not weights or not all(np.isfinite(part).all() for part in weights):
        return 0
    changed = np.any([(part[:, 1:] != part[:, :-1]).any(axis=0) for part in weights], axis=0)
    return int(np.gcd.reduce(np.append(np.flatnonzero(changed) + 1, weights[0].shape[1])))


class Elements(NamedTuple):
    """Some elements of a cell.

    Attributes
    ----------
    x, dy : ndarray, 1-D
        Their values, in the dtypes of the tensors.
    factors : Factors
        The affine map of each.
    """

    x: NDArray[Any]
    dy: NDArray[Any]
    factors: Factors

    @classmethod
    def of(cls, visit: Visit, dy: NDArray[Any], affine: Affine, places: NDArray[np.int64]) -> Elements:
        """Return those at `places` of a visit, which has the elements of x."""
        return cls(visit.values[places], dy[places], affine.of(visit.region.start + places))

    @classmethod
    def of_cell(cls, visit: Visit, dy: NDArray[Any], affine: Affine, number: int) -> Elements:
        """Return those of the cell of a visit that has a number; see `cell_numbers`."""
        shape = visit.walk.view(visit.region)
        places = np.flatnonzero(np.broadcast_to((cell_numbers(visit) == number)[:, None], shape))
        if not places.size or places[-1] - places[0] >= places.size:
            return cls.of(visit, dy, affine, places)
        run = slice(places[0], places[-1] + 1)
        return cls(visit.values[run], dy[run], affine.of_run(visit.region.start + int(places[0]), places.size))

    def at(self, which: Any) -> Elements:
        """Return some of them."""
        return Elements(self.x[which], self.dy[which], self.factors.at(which))

    @property
    def key(self) -> tuple[bytes, ...]:
        """What tells apart one element from others of its cell."""
        return tuple(np.asarray(part).tobytes() for part in (self.x, self.dy, *self.factors))


Rounded = tuple[Any, bool]
"""An element of dx, rounded, and whether it became 0, and is not."""
Rounders = Callable[[NDArray[np.int64], Sequence[Cell]], Iterator[Callable[[Elements], Rounded]]]
"""Takes the numbers of some cells, and these; yields, for each, what rounds the gradient of one of its elements."""


def cells_of(visit: Visit, by: Moments, norm: GroupNorm, numbers: NDArray[np.int64]) -> list[Cell]:
    """Return the exact sums of cells of a visit, whose numbers are those of `cell_numbers`.

    Parameters
    ----------
    visit : Visit
        The visit, with the elements of x.
    by : Moments
        The moments that the cells are standardized by, as `spread` takes them. Without their `Sums` the visit has all
        elements of its cells.
    norm : GroupNorm
        The formula.
    numbers : ndarray of int64, 1-D
        The cells.
    """
    wanted, index = np.unique(numbers, return_inverse=True)
    known = by.asked(Sums)
    sums = Sums(*sums_of(visit, cell_numbers(visit), wanted)) if known is None else each(known, itemgetter(wanted))
    found = zip(by.n[numbers].tolist(), sums.first[index].tolist(), sums.second[index].tolist(), strict=True)
    return [Cell(int(n), 0 if norm.rms else int(first), int(second), norm) for n, first, second in found]


def settle_gradient(
    visit: Visit,
    places: NDArray[np.int64],
    out: NDArray[Any],
    by: Moments,
    norm: GroupNorm,
    dy: NDArray[Any],
    affine: Affine,
    rounders: Rounders,
) -> int:
    """Round the elements of a visit at `places` to `out`; return how many became 0, and are not.

    Parameters
    ----------
    visit : Visit
        The visit, with the elements of x.
    places : ndarray of int64, 1-D
        The elements that are open.
    out : ndarray, 1-D
        The results; those at `places` are replaced.
    by, norm
        See `cells_of`.
    dy : ndarray, 1-D
        The elements of dy.
    affine : Affine
        Gamma and beta.
    rounders : Rounders
        Rounds them.
    """
    if not places.size:
        return 0
    became_zero = 0
    _, length, width = visit.walk.view(visit.region)
    opened, part = np.unique(cell_numbers(visit)[places // (length * width), places % width], return_inverse=True)
    elements = Elements.of(visit, dy, affine, places)
    order = np.argsort(part, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(part[order])) + 1)
    for some, rounded in zip(groups, rounders(opened, cells_of(visit, by, norm, opened)), strict=True):
        known: dict[tuple[bytes, ...], Rounded] = {}
        for place in some.tolist():
            element = elements.at(place)
            if element.key not in known:
                known[element.key] = rounded(element)
            out[places[place]], lost = known[element.key]
            became_zero += lost
    return became_zero


def exact_rounders(
    weights: Weights, norm: GroupNorm, made: Float, exact: Callable[[NDArray[np.int64], Sequence[Cell]], Exact]
) -> Rounders:
    """Return what rounds gradients of which every sum is known exactly: those without a smooth activation.

    Parameters
    ----------
    weights : Weights
        Gamma.
    norm, made
        The formula, and the dtype of the result.
    exact : callable
        Takes the numbers of cells, and these; returns the exact sums of all of their elements.
    """

    def rounders(opened: NDArray[np.int64], cells: Sequence[Cell]) -> Iterator[Callable[[Elements], Rounded]]:
        of_cells = Exact(*np.zeros((2, opened.size), np.int64).astype(object)) if norm.given else exact(opened, cells)
        for cell, of_g, of_products in zip(cells, *of_cells, strict=True):
            a, b, c, w = cell.rates(exactly(of_g), exactly(of_products))

            def rounded(
                element: Elements, a: Fraction = a, b: Fraction = b, c: Fraction = c, w: Fraction = w
            ) -> Rounded:
                g = exact_value(element.dy) * (1 if weights.values is None else fractions(element.factors)[0])
                linear = b * exact_value(element.x) if b else 0  # without b, x may be infinite
                over = (a * g + linear + c) * Fraction(weights.uniform)
                result = rounded_sum([Term(over, w)], made)
                return result, bool(over) and bool(result == 0)

            yield rounded

    return rounders


# --- the check -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientCheck:
    """The errors of dx before it is rounded, as fractions of what float64 allows.

    Parameters
    ----------
    groups : int
        The number of cells.
    mean_error : float, optional
        The largest abs(mean(dx)) of a cell, as a fraction of its bound; None where dx need not have a mean of 0, or
        there is no cell to check.
    projection_error : float, optional
        The same of ``mean(dx z) - r mean(g z) eps / (var + eps)``; None where the moments are given.
    nonfinite_groups : int
        The number of cells that hold a NaN or an infinity, in x or in dy.
    overflowed : int
        The number of results that do not fit the dtype of dx.
    overflow : {"saturate", "nonfinite"}, optional
        What became of these; None if they fail the check.
    became_zero : int, optional
        The number of results that are not 0, and were rounded to it; known for dtypes that NumPy lacks.
    proved, settled : int, optional
        The numbers of finite elements of dx that float64 and a bound of its error proved to be correctly rounded, and
        that were settled by exact arithmetic.
    """

    groups: int
    mean_error: float | None
    projection_error: float | None
    _: KW_ONLY
    nonfinite_groups: int = 0
    overflowed: int = 0
    overflow: str | None = None
    became_zero: int | None = None
    proved: int | None = None
    settled: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the errors are within their bounds, and no overflow is an error; a NaN fails."""
        errors = (error for error in (self.mean_error, self.projection_error) if error is not None)
        return not self.failures and all(error <= 1 for error in errors)

    @property
    def failures(self) -> int:
        """The number of overflows that fail the check."""
        return self.overflowed if self.overflow is None else 0

    def plus(self, other: GradientCheck) -> GradientCheck:
        """Return one check over the cells of both."""
        return GradientCheck(
            self.groups + other.groups,
            _larger(self.mean_error, other.mean_error),
            _larger(self.projection_error, other.projection_error),
            nonfinite_groups=self.nonfinite_groups + other.nonfinite_groups,
            overflowed=self.overflowed + other.overflowed,
            overflow=self.overflow or other.overflow,
            **{name: _added(vars(self)[name], vars(other)[name]) for name in ("became_zero", "proved", "settled")},
        )

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``verified``."""
        return {"ok": self.ok} | {name: finite(number) for name, number in vars(self).items() if name != "overflow"}


def _added(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _larger(a: float | None, b: float | None) -> float | None:
    return max((error for error in (a, b) if error is not None), default=None)


def check_gradient(
    found: Measured,
    cells: Gradient,
    dx: Moments,
    projections: Moments,
    norm: GroupNorm,
    weights: Weights,
) -> GradientCheck:
    """Return the check of some cells.

    Parameters
    ----------
    found : Measured
        The moments of x, g and g z.
    cells : Gradient
        The map that was made of them: of it only the bounds are used.
    dx, projections : Moments
        The moments of dx and of dx z, before rounding; with bounds.
    norm : GroupNorm
        The formula.
    weights : Weights
        Gamma.
    """
    if norm.given:
        return GradientCheck(found.x.n.size, None, None, nonfinite_groups=int((~found.x.finite).sum()))
    of_z, offset = found.mapping.slope, found.mapping.offset
    assert of_z is not None and offset is not None
    rate = factor(found.mapping) * weights.uniform
    (root_z, share), root_dx, root_g = found.roots(norm), _root_mean_square(dx), _root_mean_square(found.g)
    largest = np.abs(rate) * (2 * root_g + root_z * np.abs(cells.second)) * np.maximum(root_z, 1) * found.x.n
    held = found.x.finite & found.dy.finite & (found.x.n > 0)
    held &= np.isfinite(cells.base + largest)  # where the sum of dx z may be beyond, this allows all
    left = share if norm.denominator == "std" else 2 * share - 1  # 1 - 2 var / (var + eps)
    inner, inner_error = _mean(found.products, 3 * U)
    inner_error = inner_error + (of_z * root_z + offset) * root_g
    slip = 0.0 if found.errors is None else _root_mean_square(found.errors)
    inner_error = inner_error + slip * (root_z * (1 + of_z) + offset)
    expected = rate * inner * left
    error = (cells.base + cells.on_g * root_g + cells.on_z * root_z + np.abs(rate) * slip) * UP
    mean, mean_bound = _mean(dx, 0.0)
    projection, projection_bound = _mean(projections, U)
    bound = projection_bound + error * root_z + root_dx * (of_z * root_z + offset)
    bound = bound + np.abs(rate) * (inner_error * np.abs(left) + np.abs(inner) * (4 * of_z + 8 * U)) + TINY
    held &= np.isfinite(bound)
    return GradientCheck(
        found.x.n.size,
        None if norm.rms else _worst(mean, (mean_bound + error + TINY) * UP, held),
        _worst(projection - expected, bound * UP, held),
        nonfinite_groups=int((~(found.x.finite & found.dy.finite)).sum()),
    )


def _worst(errors: Floats, allowed: Floats, held: NDArray[np.bool_]) -> float | None:
    if not held.any():
        return None
    worst = float((np.abs(errors[held]) / allowed[held]).max())
    return float("inf") if np.isnan(worst) else worst
