"""Group Normalization (Wu & He 2018, arXiv:1803.08494): parameters, the map, and the check of its result.

For sample n and group g, a contiguous block of C/G channels (or, interleaved, every G-th one), with m elements::

    mean = sum(x) / m        var = sum((x - mean)^2) / m
    y = (x - mean) / sqrt(var + eps) * gamma[c] + beta[c]

``denominator="variance"`` divides by ``var + eps`` instead.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import ParameterError
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.layout import Layout, channels_last
from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats, Moments
from gncli.kernels.partition import Partition, by_group
from gncli.kernels.plain import LARGE, Affine, Standardization
from gncli.kernels.proof import enclosure
from gncli.kernels.reduction import each, spread
from gncli.kernels.walk import Region, Walk
from gncli.text import finite

DEFAULT_GROUPS = 32
DEFAULT_EPS = 1e-5
LARGEST = sys.float_info.max
DENOMINATORS = ("std", "variance")


@dataclass(frozen=True)
class GroupNorm:
    """The parameters of Group Normalization, before the tensor is known.

    Attributes
    ----------
    num_groups : int or None
        G, which must divide the number of channels; 32 if neither this nor `group_size` is set.
    group_size : int or None
        The number of channels per group, in place of `num_groups`.
    eps : float
        Added to the variance inside the root, finite and not negative (1e-5 in the paper).
    layout : str or None
        One letter per axis; None is the usual layout for 2 to 5 axes.
    denominator : {"std", "variance"}
        ``std`` divides by ``sqrt(var + eps)``, as the paper does; ``variance`` by ``var + eps``.
    interleaved : bool
        Whether channel c is in group c % G; otherwise groups are contiguous blocks of channels.
    """

    num_groups: int | None = None
    group_size: int | None = None
    eps: float = DEFAULT_EPS
    layout: str | None = None
    denominator: str = "std"
    interleaved: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters that are wrong for any tensor."""
        for number in (self.num_groups, self.group_size):
            if number is not None:
                operator.index(number)  # a float is no number of groups, not even 4.0
        if self.num_groups is not None and self.group_size is not None:
            raise ParameterError("both the number of groups and their size are given", hint="give one of them")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ParameterError(f"eps is {self.eps}", hint="give a finite number, at least 0")
        if self.denominator not in DENOMINATORS:
            raise ParameterError(f"denominator is {self.denominator!r}", hint=f"choose {' or '.join(DENOMINATORS)}")

    @functools.lru_cache(maxsize=256)  # noqa: B019  # small: many arrays have one shape
    def on(self, shape: tuple[int, ...], order: str) -> Grouping:
        """Return the groups of a tensor of `shape`, stored in `order`.

        Raises
        ------
        ParameterError
            If the layout does not fit, or the groups do not divide the channels.
        """
        layout = Layout.of(self.layout, shape)
        channels = shape[layout.channel]
        other = channels_last(shape) if self.layout is None else None
        groups = self._groups(channels, "" if other is None else f", or --layout {other}", shape[-1])
        partition = by_group(shape, order, layout, groups, interleaved=self.interleaved)
        return Grouping(self, shape, order, layout, groups, partition)

    def _groups(self, channels: int, otherwise: str, last: int) -> int:
        """Return the number of groups; an error offers `otherwise` if the `last` axis can be split instead."""
        if channels == 0:
            raise ParameterError("there are no channels to be grouped", hint="check --layout")
        sized = self.group_size is not None
        asked = operator.index(next(g for g in (self.group_size, self.num_groups, DEFAULT_GROUPS) if g is not None))
        if asked < 1 or channels % asked:
            small = [d for d in range(1, math.isqrt(channels) + 1) if channels % d == 0]
            choices = ", ".join(map(str, sorted({*small, *(channels // d for d in small)})))
            hint = f"choose one of {choices}"
            if not sized and self.num_groups is None:
                hint = f"{DEFAULT_GROUPS} is the default; say -G with one of {choices}"
            raise ParameterError(
                f"{channels} channels cannot be split into {f'groups of {asked}' if sized else f'{asked} groups'}",
                hint=hint + (otherwise if asked > 0 and last and last % asked == 0 else ""),
            )
        return channels // asked if sized else asked


@dataclass(frozen=True)
class Grouping:
    """A GroupNorm on a tensor; its layout and its groups fit the shape."""

    norm: GroupNorm
    shape: tuple[int, ...]
    order: str
    layout: Layout
    num_groups: int
    partition: Partition

    @property
    def channels(self) -> int:
        """The number of channels, C."""
        return self.shape[self.layout.channel]

    @property
    def group_size(self) -> int:
        """The number of channels of a group, C/G."""
        return self.channels // self.num_groups

    @property
    def split_shape(self) -> tuple[int, ...]:
        """The shape with the channels split, as (N, G, C//G, H, W), or (N, C//G, G, H, W) if groups are interleaved."""
        channel = self.layout.channel
        split = (self.num_groups, self.group_size)
        return (*self.shape[:channel], *(split[::-1] if self.norm.interleaved else split), *self.shape[channel + 1 :])

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """The shape of the moments with the reduced axes kept, as (N, G, 1, 1, 1), or (N, 1, G, 1, 1)."""
        kept = {self.layout.channel + self.norm.interleaved}
        if self.layout.batch is not None:
            kept.add(self.layout.batch + (self.layout.batch > self.layout.channel))
        return tuple(size if axis in kept else 1 for axis, size in enumerate(self.split_shape))

    @property
    def channel_shape(self) -> tuple[int, int, int]:
        """The tensor's elements in storage order, as (before the channels, C, after them)."""
        axis = self.layout.channel
        before, after = self.shape[:axis], self.shape[axis + 1 :]
        outer, inner = (before, after) if self.order == "C" else (after, before)
        return math.prod(outer), self.channels, math.prod(inner)


def standardization(cells: Moments, norm: GroupNorm) -> Standardization:
    """Return the standardization of cells that have these moments.

    Parameters
    ----------
    cells : Moments
        The moments of each cell, settled.
    norm : GroupNorm
        Only eps and denominator are used.
    """
    # With x scaled by 2**-power, var is scaled by its square; so is eps, and then the root.
    measured = cells
    cells = _scaled_for_eps(cells, norm.eps)
    total = cells.scaled_var() + _scaled_eps(norm, cells)
    divisor = np.sqrt(total)
    if norm.denominator == "variance":
        divisor = total if cells.power is None else np.ldexp(total, cells.power)
    rstd = np.minimum(1.0 / np.where(divisor == 0, 1.0, divisor), LARGEST)  # 0 times it is 0
    if cells.nan is not None:
        rstd[~cells.finite] = np.nan
    wide = cells.min.dtype.kind in "iu"
    slope, offset = enclosure(measured, cells, total, rstd, root=norm.denominator == "std")
    return Standardization(cells.hi, cells.lo, rstd, cells.min if wide else None, cells.power, slope, offset)


def _scaled_for_eps(cells: Moments, eps: float) -> Moments:
    """Return `cells` on scales on which eps does not overflow: cells of tiny values are scaled up less."""
    if cells.power is None or not eps:
        return cells
    least = math.frexp(eps)[1] // 2 - 64  # eps is then about 2**128: their variance, at most 1, is lost in the sum
    return cells.rescaled(np.maximum(cells.power, np.int32(min(0, least))))


def _scaled_eps(norm: GroupNorm, cells: Moments) -> Any:
    return norm.eps if cells.power is None else np.ldexp(norm.eps, -2 * cells.power)


def factor(mapping: Standardization) -> Floats:
    """Return the factor of deviations from the mean: 1/sqrt(var + eps), or 1/(var + eps)."""
    return mapping.rstd if mapping.power is None else np.ldexp(mapping.rstd, -mapping.power)


def normalize_region(
    walk: Walk,
    region: Region,
    values: NDArray[Any],
    mapping: Standardization,
    affine: Affine,
    made: Float,
    *,
    z: NDArray[Any] | None,
    y: NDArray[Any],
) -> NDArray[np.int64]:
    """Standardize the elements of a visit, apply `affine`, and round once.

    Parameters
    ----------
    walk, region
        The visit.
    values : ndarray, 1-D
        The elements of the visit, in storage order.
    mapping : Standardization
        The standardization of its cells, 1-D arrays that `spread` takes.
    affine : Affine
        The map after the standardization.
    made : Float
        The dtype of the result.
    z : ndarray of ``made.checked``, 1-D, or None
        Takes the standardized values before `affine`, rounded.
    y : ndarray of ``made.dtype``, 1-D
        Takes the result, rounded once from float64.

    Returns
    -------
    ndarray of int64, 1-D
        The elements of the visit that are open, in ascending order: `y` holds one of the two numbers that the exact
        result may be rounded to. The others are proved; none is open if `mapping` has no slope.
    """
    num_x, length, width = walk.view(region)

    def placed(cells: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if cells is None else spread(walk, region, cells).reshape(num_x, width)

    cells = Standardization._make(map(placed, mapping))
    return loops().normalize(values, length, cells, None if affine.identity else affine, region.start, made, z, y)


@dataclass(frozen=True)
class Check:
    """The errors of the standardized values, as fractions of what rounding allows.

    Parameters
    ----------
    groups : int
        The number of (sample, group) pairs.
    mean_error, var_error : float, optional
        The largest abs(mean) and abs(variance - expected), as fractions of what rounding allows; None if there is no
        group to check.
    constant_groups, nonfinite_groups : int
        The number of finite groups of equal values, and of groups that hold a NaN or an infinity.
    overflowed : int
        The number of finite inputs whose result does not fit the output dtype.
    overflow : {"saturate", "nonfinite"}, optional
        What became of these; None if they fail the check.
    became_zero : int, optional
        The number of results that are not 0, and were rounded to it; known for dtypes that NumPy lacks.
    misrounded : int, optional
        The number of stored elements that are not the rounding of their float64 value, the settled ones apart; known
        for the same dtypes.
    proved, settled : int, optional
        The numbers of finite elements of the output that float64 and a bound of its error proved to be correctly
        rounded, and that were settled by exact arithmetic: together all of them. None for an output of float64.

    Examples
    --------
    >>> Check(groups=256, mean_error=0.02, var_error=0.03).ok
    True
    """

    groups: int
    mean_error: float | None
    var_error: float | None
    _: KW_ONLY
    constant_groups: int = 0
    nonfinite_groups: int = 0
    overflowed: int = 0
    overflow: str | None = None
    became_zero: int | None = None
    misrounded: int | None = None
    proved: int | None = None
    settled: int | None = None

    @property
    def ok(self) -> bool:
        """Whether all errors are within what rounding allows, and no overflow is an error; a NaN fails."""
        errors = (error for error in (self.mean_error, self.var_error) if error is not None)
        return not self.failures and not self.misrounded and all(error <= 1 for error in errors)

    @property
    def failures(self) -> int:
        """The number of overflows that fail the check."""
        return self.overflowed if self.overflow is None else 0

    def as_dict(self) -> dict[str, object]:
        """Return the JSON object ``verified``."""
        return {"ok": self.ok} | {name: finite(number) for name, number in vars(self).items()}


def check(before: Moments, z: Moments, norm: GroupNorm, dtype: np.dtype[Any]) -> Check:
    """Return the check: the errors of standardized values, as fractions of what rounding allows.

    With u half the machine epsilon of `dtype`, s half its smallest subnormal, V = v/(v + eps) the expected variance and
    D its root: |mean| <= 16 (u D + s), and |var - V| <= 16 (2 u V + 2 s D + s^2), for every finite group.

    Parameters
    ----------
    before, z : Moments
        The moments per cell of the input, settled; of the standardized values, rounded to `dtype`.
    norm : GroupNorm
        Only eps and denominator are used.
    dtype : numpy.dtype
        The dtype of the standardized values.
    """
    groups, nonfinite, constant = before.n.size, ~before.finite, before.constant
    held = ~nonfinite & (before.n > 0)
    if not held.all():
        before, z = (each(moments, operator.itemgetter(held)) for moments in (before, z))
    lost = (before.m2 == 0) & ~before.constant  # values that differ have a variance
    before = _scaled_for_eps(before, norm.eps)
    expected = np.where(lost, np.nan, _expected(before, z, norm))
    info = np.finfo(dtype)
    # The check ignores results below 2**-500, in any dtype.
    mean, u = z.mean, float(info.eps) / 2
    s: Any = max(float(info.smallest_subnormal) / 2, 2.0**-500)
    if z.power is not None:
        mean, s = np.ldexp(mean, -z.power), np.ldexp(s, -z.power)
    root = np.sqrt(expected)
    return Check(
        groups=groups,
        mean_error=_worst(np.abs(mean), 16 * (u * root + s)),
        var_error=_worst(np.abs(z.scaled_var() - expected), 16 * (2 * u * expected + 2 * s * root + s * s)),
        constant_groups=int(np.count_nonzero(constant & ~nonfinite)),
        nonfinite_groups=int(np.count_nonzero(nonfinite)),
    )


def _expected(before: Moments, z: Moments, norm: GroupNorm) -> Floats:
    """Return the variance that standardized values should have, on the scale of `z`."""
    var = before.scaled_var()
    total = var + _scaled_eps(norm, before)
    total = np.where(total == 0, 1.0, total)
    twice = norm.denominator == "variance"
    if before.power is None and z.power is None and norm.eps <= LARGE:  # far from over- and underflow
        once = var / total
        return np.asarray(once / total if twice else once)
    power, scale = (0 if moments.power is None else moments.power for moments in (before, z))
    # Mantissas and exponents are kept apart, so that nothing overflows.
    (v, of_v), (t, of_t) = np.frexp(var), np.frexp(total)
    if twice:
        return np.asarray(np.ldexp(v / t / t, of_v - 2 * (of_t + power + scale)))
    return np.asarray(np.ldexp(v / t, of_v - of_t - 2 * scale))


def _worst(errors: Floats, allowed: Floats) -> float | None:
    if not errors.size:
        return None
    worst = float((errors / allowed).max())
    return math.inf if math.isnan(worst) else worst


def all_checks(checks: Sequence[Check]) -> Check:
    """Return one check over the groups of all `checks`."""
    total = Check(0, None, None)
    for part in checks:
        total = Check(
            groups=total.groups + part.groups,
            mean_error=_larger(total.mean_error, part.mean_error),
            var_error=_larger(total.var_error, part.var_error),
            constant_groups=total.constant_groups + part.constant_groups,
            nonfinite_groups=total.nonfinite_groups + part.nonfinite_groups,
            overflowed=total.overflowed + part.overflowed,
            overflow=total.overflow or part.overflow,
            became_zero=_added(total.became_zero, part.became_zero),
            misrounded=_added(total.misrounded, part.misrounded),
            proved=_added(total.proved, part.proved),
            settled=_added(total.settled, part.settled),
        )
    return total


def _added(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


def _larger(a: float | None, b: float | None) -> float | None:
    return max((value for value in (a, b) if value is not None), default=None)


def output_float(dtype: np.dtype[Any]) -> Float:
    """Return the default dtype of a result made from `dtype`.

    Examples
    --------
    >>> [output_float(np.dtype(name)).name for name in (">f2", "u1", "i8")]
    ['float16', 'float32', 'float64']
    """
    size = (dtype if dtype.kind == "f" else np.result_type(dtype, np.float32)).itemsize
    return FLOATS[f"float{8 * size}"]  # the name of a dtype takes long to make
