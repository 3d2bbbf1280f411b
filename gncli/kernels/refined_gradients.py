"""The gradient in sums of two float64, for results of float64.

Notes
-----
The formula is that of `gncli.kernels.gradients`, and so are the bounds, with `TWO` in place of a unit of float64. The
means of g and of g z are those of exact sums of their parts, so they do not depend on how a tensor was cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.exact import GRAIN
from gncli.kernels.gradients import LEAST, TWO, Measured, Refined, Weights, cell_numbers, gradient
from gncli.kernels.groupnorm import GroupNorm, factor
from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats, Union
from gncli.kernels.parameters import HEADROOM
from gncli.kernels.plain import FAR, UP, Affine, GradientInTwo, Standardization
from gncli.kernels.reduction import Visit, over_rows, spread
from gncli.kernels.surds import levels
from gncli.kernels.twofold import Pair, ratio, times, two_sum

BITS = 160  # of a quotient of integers: enough for two float64


class Sums(NamedTuple):
    """The exact sums of the parts of g and of g z in each cell, as Python integers over ``2**GRAIN``.

    `lost` says where a part is not finite, or beyond `FAR`.
    """

    of_g: NDArray[Any]
    of_products: NDArray[Any]
    lost: NDArray[np.bool_]

    def merged(self, other: Sums, _union: Union) -> Sums:
        """Return the sums of the unions."""
        return Sums(self.of_g + other.of_g, self.of_products + other.of_products, self.lost | other.lost)


class InTwo(NamedTuple):
    """A gradient on its way back in sums of two float64; see `Upstream`.

    Attributes
    ----------
    values : tuple of two ndarray of float64, 1-D
        The elements.
    errors : ndarray of float64, 1-D, or None
        Bounds of their errors; None if there are none but that of a product.
    """

    values: Pair
    errors: Floats | None = None

    def weighted(self, gamma: Sequence[Floats]) -> InTwo:
        """Return these times gamma; `gamma` is as `Weights.per_element` returns it."""
        if not gamma:
            return self
        first, *rest = gamma
        h, errors = self.values, self.errors
        lost = (np.abs(h[0] * first) < 1 / FAR) & (h[0] != 0) & (first != 0)
        g, low = np.empty((2, first.size))
        loops().multiply_in_two(*h, first, rest[0] if rest else np.zeros(first.size), g, low)
        if errors is not None:
            errors = errors * (np.abs(first) * UP)
        if lost.any():
            errors = lost / FAR + (0.0 if errors is None else errors)
        return InTwo((g, low), errors)


class Pairs(NamedTuple):
    """The elements of a visit in sums of two float64.

    Attributes
    ----------
    z : tuple of two ndarray of float64, 1-D
        The standardized elements.
    h, g : InTwo
        dy times the derivative of the activation, and that times gamma where gamma is not one number.
    """

    z: Pair
    h: InTwo
    g: InTwo

    @classmethod
    def of(
        cls,
        visit: Visit,
        mapping: Standardization,
        h: NDArray[Any],
        gamma: Sequence[Floats],
        smooth: Affine | None,
        *,
        bare: bool = False,
    ) -> Pairs:
        """Return those of a visit.

        Parameters
        ----------
        visit : Visit
            The visit, with the elements of x.
        mapping : Standardization
            That of its cells.
        h : ndarray, 1-D
            What is multiplied by gamma; before a smooth activation, the elements of dy.
        gamma : sequence of ndarray
            See `Weights.per_element`.
        smooth : Affine or None
            Gamma, beta and the activation, if that is smooth.
        bare : bool
            Whether nothing depends on z, which is taken as 0 then.
        """
        z, z_low = np.zeros((2, h.size))
        if not bare:
            cells = over_rows(visit.walk, visit.region, mapping)
            loops().standardize_in_two(visit.values, visit.walk.view(visit.region)[1], cells, z, z_low)
        values, low, errors = h.astype(np.float64), np.zeros(h.size), None
        if smooth is not None:
            errors = _through(visit, values, low, (z, z_low), mapping, smooth)
        upstream = InTwo((values, low), errors)
        return cls((z, z_low), upstream, upstream.weighted(gamma))

    def sums(self, visit: Visit) -> Sums:
        """Return the sums of the cells of the visit, in their order."""
        product, low = np.empty((2, self.z[0].size))
        loops().multiply_in_two(*self.g.values, *self.z, product, low)
        of_g, lost = _totals(visit, [part for part in self.g.values if part.any()])
        of_products, lost_too = _totals(visit, [product, low])
        return Sums(of_g, of_products, lost | lost_too)


def _through(visit: Visit, h: Floats, low: Floats, z: Pair, mapping: Standardization, affine: Affine) -> Floats:
    """Multiply h by the derivative of the activation; return bounds of the errors but that of the product."""
    num_x, length, width = visit.walk.view(visit.region)
    assert mapping.slope is not None and mapping.offset is not None
    slope, offset = (
        spread(visit.walk, visit.region, part).reshape(num_x, 1, width) for part in (mapping.slope, mapping.offset)
    )
    gamma, rest, beta = affine.of_run(visit.region.start, h.size)
    error = ((np.abs(z[0]).reshape(num_x, length, width) * slope + offset) * UP + LEAST).reshape(-1)
    u, u_low = np.empty((2, h.size))
    loops().multiply_in_two(*z, gamma, rest, u, u_low)
    error *= np.abs(gamma)
    error += TWO * (np.abs(u) + np.abs(beta)) + LEAST
    u, more = two_sum(u, beta)
    u, u_low = two_sum(u, more + u_low)
    loops().derivative_in_two(str(affine.activation), u, u_low, error)
    error *= np.abs(h) * UP
    error += LEAST
    error[h == 0] = 0.0
    loops().multiply_in_two(h, low, u, u_low, h, low)
    return error


def _totals(visit: Visit, parts: Sequence[Floats]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the exact sums over `parts` of the cells of a visit, over ``2**GRAIN``, and where one is lost."""
    num_x, length, width = visit.walk.view(visit.region)
    opened, owners = np.unique(cell_numbers(visit).reshape(-1), return_inverse=True)
    total, lost = np.zeros(opened.size, np.int64).astype(object), np.zeros(opened.size, np.bool_)
    few = owners.size <= HEADROOM * opened.size and np.bincount(owners).max() <= HEADROOM
    shape = (1, num_x, length) if width == 1 else (length, width, 1) if num_x == 1 else (1, num_x, length, width, 1)
    for part in parts:
        largest = float(max(part.max(), -part.min()))
        if not largest < FAR:
            beyond = ~(np.abs(part) < FAR)
            part = np.where(beyond, 0.0, part)
            lost[owners[beyond.reshape(num_x, length, width).any(axis=1).reshape(-1)]] = True
            largest = FAR
        for power, (sums, _) in levels(part, None, shape, largest):
            found = np.zeros(opened.size, np.int64) if few else np.zeros(opened.size, np.int64).astype(object)
            np.add.at(found, owners, sums.reshape(-1) if few else sums.reshape(-1).astype(object))
            total += found.astype(object) << GRAIN + power
    return total, lost


def _mean(total: NDArray[Any], n: Floats) -> Pair:
    """Return sums over ``2**GRAIN``, divided by `n`, within 2**-104 of themselves."""
    high, low, powers = np.zeros(n.size), np.zeros(n.size), np.zeros(n.size, np.int64)
    for place, (number, count) in enumerate(zip(total.tolist(), n.tolist(), strict=True)):
        if number and count:  # none is finite: there is no mean
            more = BITS - number.bit_length()
            quotient = (number << more if more > 0 else number >> -more) // int(count)
            high[place] = first = float(quotient)
            low[place] = quotient - int(first)
            powers[place] = -GRAIN - more
    return np.ldexp(high, powers), np.ldexp(low, powers)


def gradient_in_two(
    found: Measured, norm: GroupNorm, weights: Weights, mapping: Standardization, sums: Sums | None
) -> GradientInTwo:
    """Return the map of the cells in sums of two float64.

    Parameters
    ----------
    found : Measured
        What is known of them in float64.
    norm, weights
        The formula, and gamma.
    mapping : Standardization
        How they are standardized in sums of two float64.
    sums : Sums or None
        Those of the cells; None where moments are given.
    """
    assert mapping.rest is not None
    none = np.zeros(found.by.n.shape)
    first = second = none, none
    if sums is not None:
        first, second = (_mean(total, found.by.n) for total in sums[:2])
    upper = gradient(found, norm, weights, narrow=False, refined=Refined(mapping, first, second))
    rest = mapping.rest if mapping.power is None else np.ldexp(mapping.rest, -mapping.power)
    rate = factor(mapping), rest
    if norm.denominator == "variance" and sums is not None:
        second = ratio((2 * second[0], 2 * second[1]), rate)
    zero = (upper.on_g == 0) & (upper.base == 0)  # a gradient that is exactly 0
    scale = times(rate, (np.full(none.shape, weights.uniform), none))
    upper = upper._replace(
        factor=np.where(np.isnan(upper.factor), np.nan, scale[0]),
        first=np.where(zero | norm.rms, upper.first, first[0]),
        second=np.where(zero, 0.0, second[0]),
        base=upper.base if sums is None else np.where(sums.lost, np.inf, upper.base),
    )
    lows = (np.where(zero, 0.0, part) for part in (first[1] * (not norm.rms), second[1]))
    return GradientInTwo(upper, scale[1], *lows)


def refined_map(visit: Visit, cells: GradientInTwo, z: Pair, g: InTwo, y: Floats) -> NDArray[np.int64]:
    """Compute dx of a visit, rounded once; return the places of those that are open, in ascending order."""
    placed = over_rows(visit.walk, visit.region, cells)
    bound = np.zeros(y.size)
    num_x, length, width = visit.walk.view(visit.region)
    if g.errors is not None:
        np.multiply(
            g.errors.reshape(num_x, length, width),
            (np.abs(placed.upper.factor) * UP)[:, None],
            out=bound.reshape(num_x, length, width),
        )
    loops().gradient_in_two(*g.values, *z, length, placed, bound, y)
    return np.flatnonzero(~np.isfinite(y) | (y.view(np.int64) != bound.view(np.int64)))
