"""Group Normalization (Wu & He 2018, arXiv:1803.08494) and its family: parameters, the map, the check of its result.

For a cell, which is sample n and group g, a contiguous block of C/G channels, with m elements::

    mean = sum(x) / m        var = sum((x - mean)^2) / m
    y = (x - mean) / sqrt(var + eps) * gamma[c] + beta[c]

The other norms are the same map of other cells (`GroupNorm.over`, `GroupNorm.interleaved`), or of other moments: those
about 0 (`GroupNorm.rms`), or given ones (`GroupNorm.given`). ``denominator="variance"`` divides by ``var + eps``.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import ParameterError
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.layout import Layout, axes_named, channels_last, is_number
from gncli.kernels.loops import loops
from gncli.kernels.moments import Floats, Moments, MomentsOf
from gncli.kernels.partition import Partition, by_axes, by_group
from gncli.kernels.plain import LARGE, Affine, Blocks, Standardization, U
from gncli.kernels.proof import enclosure
from gncli.kernels.reduction import Visit, each, over_rows
from gncli.kernels.walk import COLUMN_BLOCK, Region, Walk
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
    over : str or None
        The axes that are reduced, in place of groups: letters of the layout, or numbers, comma-separated. There is a
        cell for each index of the others.
    rms : bool
        Whether the mean is not subtracted: ``x / sqrt(mean(x^2) + eps)``.
    given : bool
        Whether the mean and the variance are given, one of each per channel; the cells are then the channels.
    """

    num_groups: int | None = None
    group_size: int | None = None
    eps: float = DEFAULT_EPS
    layout: str | None = None
    denominator: str = "std"
    interleaved: bool = False
    over: str | None = None
    rms: bool = False
    given: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters that are wrong for any tensor."""
        for number in (self.num_groups, self.group_size):
            if number is not None:
                operator.index(number)  # a float is no number of groups, not even 4.0
        grouped = self.num_groups is not None or self.group_size is not None or self.interleaved
        if self.rms and self.given:
            raise ParameterError("--rms measures, and --mean and --var are given", hint="leave out one of both")
        if grouped + (self.over is not None) + self.given > 1:
            raise ParameterError("the cells are said in two ways", hint="give groups, --over, or --mean and --var")
        if self.num_groups is not None and self.group_size is not None:
            raise ParameterError("both the number of groups and their size are given", hint="give one of them")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ParameterError(f"eps is {self.eps}", hint="give a finite number, at least 0")
        if self.denominator not in DENOMINATORS:
            raise ParameterError(f"denominator is {self.denominator!r}", hint=f"choose {' or '.join(DENOMINATORS)}")

    @property
    def centered(self) -> bool:
        """Whether standardized values have a mean of nearly 0."""
        return not (self.rms or self.given)

    @functools.lru_cache(maxsize=256)  # noqa: B019  # small: many arrays have one shape
    def on(self, shape: tuple[int, ...], order: str) -> Grouping:
        """Return the groups of a tensor of `shape`, stored in `order`.

        Raises
        ------
        ParameterError
            If the layout does not fit, the groups do not divide the channels, or the axes do not exist or are empty.
        """
        if self.over is not None:
            return self._over(self.over, shape, order)
        layout = Layout.of(self.layout, shape)
        if self.given:
            partition = by_axes(shape, order, [layout.channel])
            return Grouping(self, shape, order, layout, None, partition, (layout.channel,), ("C",))
        channels = shape[layout.channel]
        other = channels_last(shape) if self.layout is None else None
        groups = self._groups(channels, "" if other is None else f", or --layout {other}", shape[-1])
        partition = by_group(shape, order, layout, groups, interleaved=self.interleaved)
        kept = tuple(axis for axis in (layout.batch, layout.channel) if axis is not None)
        return Grouping(self, shape, order, layout, groups, partition, kept, ("N", "G"))

    def _over(self, over: str, shape: tuple[int, ...], order: str) -> Grouping:
        reduced = axes_named("--over", over, shape, self.layout)
        if empty := [axis for axis in reduced if not shape[axis]]:
            raise ParameterError(f"axis {empty[0]} is reduced, and its length is 0", hint="check --over")
        lettered = self.layout is not None or not all(map(is_number, reduced.values()))
        layout = Layout.of(self.layout, shape, grouped=False) if lettered else None
        kept = tuple(axis for axis in range(len(shape)) if axis not in reduced)
        names = tuple(str(axis) if layout is None else layout.letters[axis] for axis in kept)
        return Grouping(self, shape, order, layout, None, by_axes(shape, order, kept), kept, names)

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
    """A GroupNorm on a tensor; its layout, and its groups or axes, fit the shape.

    Attributes
    ----------
    norm : GroupNorm
        The parameters.
    shape : tuple of int
        The shape of the tensor.
    order : {"C", "F"}
        "F" where the first axis runs fastest in storage.
    layout : Layout or None
        The layout; None where axes are named by number, and no layout is said.
    num_groups : int or None
        G; None where the cells are not groups.
    partition : Partition
        The cells.
    kept : tuple of int
        The axes of the tensor that are not reduced; of groups, the channels are among them.
    names : tuple of str
        The names of the cells' axes: letters or numbers; N and G for groups.
    """

    norm: GroupNorm
    shape: tuple[int, ...]
    order: str
    layout: Layout | None
    num_groups: int | None
    partition: Partition
    kept: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def channel(self) -> int:
        """The channel axis, of a layout that has one."""
        return self._lettered.channel

    @property
    def _lettered(self) -> Layout:
        assert self.layout is not None  # nobody asks where axes are named by number
        return self.layout

    @property
    def channels(self) -> int:
        """The number of channels, C."""
        return self.shape[self.channel]

    @property
    def group_size(self) -> int:
        """The number of channels of a group, C/G."""
        assert self.num_groups is not None  # nobody asks where the cells are not groups
        return self.channels // self.num_groups

    def part(self, shape: tuple[int, ...]) -> Partition:
        """Return the partition of a part of the tensor, of `shape`, that has whole groups."""
        num_groups = shape[self.channel] // self.group_size
        return by_group(shape, self.order, self._lettered, num_groups, interleaved=self.norm.interleaved)

    @property
    def groups_of_channels(self) -> NDArray[np.int64]:
        """The group of each channel, shape (C,)."""
        groups, group_size = self.channels // self.group_size, self.group_size
        channels = np.arange(self.channels)
        return channels % groups if self.norm.interleaved else channels // group_size

    @property
    def split_shape(self) -> tuple[int, ...]:
        """The shape with the channels split, as (N, G, C//G, H, W), or (N, C//G, G, H, W) if groups are interleaved."""
        if self.num_groups is None:
            return self.shape
        split = (self.num_groups, self.group_size)
        inner = split[::-1] if self.norm.interleaved else split
        return (*self.shape[: self.channel], *inner, *self.shape[self.channel + 1 :])

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """The shape of the moments with the reduced axes kept, as (N, G, 1, 1, 1), or (N, 1, G, 1, 1)."""
        kept = set(self.kept)
        if self.num_groups is not None:  # where there is one axis more
            kept = {axis + (axis > self.channel) for axis in kept - {self.channel}}
            kept.add(self.channel + self.norm.interleaved)
        return tuple(size if axis in kept else 1 for axis, size in enumerate(self.split_shape))

    @property
    def channel_shape(self) -> tuple[int, ...]:
        """The tensor's elements in storage order, as (before the channels, C, after them)."""
        return self.runs((self.channel,))

    def runs(self, axes: Collection[int]) -> tuple[int, ...]:
        """Return the tensor's elements in storage order: the sizes of runs of other axes, and of `axes`, in turn.

        The first and the last run are of other axes.
        """
        sizes, own = [1], False
        for axis in range(len(self.shape)) if self.order == "C" else reversed(range(len(self.shape))):
            if (axis in axes) == own:
                sizes[-1] *= self.shape[axis]
            else:
                sizes.append(self.shape[axis])
                own = not own
        if not axes:
            return (1, 1, *sizes)
        return (*sizes, 1) if own else tuple(sizes)


def standardization(cells: Moments, norm: GroupNorm) -> Standardization:
    """Return the standardization by these moments.

    Parameters
    ----------
    cells : Moments
        The moments that each cell is standardized by: its own, settled; these about 0; or given ones.
    norm : GroupNorm
        Only eps and denominator are used.
    """
    # With x scaled by 2**-power, var is scaled by its square; so is eps, and then the root.
    measured = cells
    cells = scaled_for_eps(cells, norm.eps)
    total = cells.scaled_var() + scaled_eps(norm, cells)
    divisor = np.sqrt(total)
    if norm.denominator == "variance":
        divisor = total if cells.power is None else np.ldexp(total, cells.power)
    if np.count_nonzero(divisor) < divisor.size:
        divisor = np.where(total == 0, 1.0, divisor)  # 0 times it is 0
    rstd = np.minimum(1.0 / divisor, LARGEST)
    if cells.nan is not None:
        rstd[~cells.finite] = np.nan
    wide = cells.min.dtype.kind in "iu"
    slope, offset = enclosure(measured, cells, total, rstd, root=norm.denominator == "std")
    return Standardization(cells.hi, cells.lo, rstd, cells.min if wide else None, cells.power, slope, offset)


def scaled_for_eps(cells: Moments, eps: float) -> Moments:
    """Return `cells` on scales on which eps does not overflow: cells of tiny values are scaled up less."""
    if cells.power is None or not eps:
        return cells
    least = math.frexp(eps)[1] // 2 - 64  # eps is then about 2**128: their variance, at most 1, is lost in the sum
    return cells.rescaled(np.maximum(cells.power, np.int32(min(0, least))))


def scaled_eps(norm: GroupNorm, cells: Moments) -> Any:
    """Return eps on the scale of the variance of `cells`."""
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
    y : ndarray of ``made.dtype``, 1-D
        Takes the result, rounded once from float64.

    Returns
    -------
    ndarray of int64, 1-D
        The elements of the visit that are open, in ascending order: `y` holds one of the two numbers that the exact
        result may be rounded to. The others are proved; none is open if `mapping` has no slope.
    """
    _, length, _ = walk.view(region)
    cells = over_rows(walk, region, mapping)
    return loops().normalize(values, length, cells, None if affine.identity else affine, region.start, made, y)


def verify_region(
    visit: Visit, mapping: Standardization, affine: Affine, made: Float, law: MomentsOf, y: NDArray[Any]
) -> tuple[NDArray[np.int64], Moments, int, int]:
    """Return what `normalize_region` does, the moments of z by `law`, and what became of the elements.

    z are the standardized values before `affine`, rounded to the dtype of `law`. The last two results are those of
    `plain.audit` for dtypes that NumPy lacks, without the open elements.
    """
    walk, region, values, _ = visit
    blocks = Blocks(walk.view(region)[1], walk.block, bool(walk.columns))
    cells, changes = over_rows(walk, region, mapping), None if affine.identity else affine
    found = loops().verify(values, blocks, cells, changes, region.start, made, y, law.dtype, about_zero=law.about_zero)
    return found.open, law.of_blocks(visit, found.moments), found.wrong, found.zeros


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
    new_nan : int
        How many more NaN the output has than the input: every element of a group that holds a NaN or an infinity.
    damped_groups : int
        The number of groups, not constant, in which eps is more than a tenth of var + eps: their deviation is not
        near 1.
    eps_share : float, optional
        The largest eps / (var + eps) of these; None if there is none.
    proved, settled : int, optional
        The numbers of finite elements of the output that float64 and a bound of its error proved to be correctly
        rounded, and that were settled by exact arithmetic: together all of them. None for float64 after an activation
        other than relu.

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
    new_nan: int = 0
    damped_groups: int = 0
    eps_share: float | None = None
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
        """Return the JSON object ``verified``; ``mean_error`` and ``var_error`` are older names of the ratios."""
        found = {name: finite(number) for name, number in vars(self).items() if name != "overflow"}
        ratios = {f"{name}_ratio": found[name] for name in ("mean_error", "var_error")}
        return {"ok": self.ok, "groups": self.groups, **ratios, **found}


def beyond(mapping: Standardization, z: Moments, y: Moments) -> NDArray[np.bool_]:
    """Return the cells that have a result, though their factor or a standardized value is beyond the dtype of these."""
    large = (mapping.rstd == LARGEST) | (z.number("posinf") + z.number("neginf") > 0)
    return np.asarray(large & (y.number("nan") == 0))


def check(before: Moments, by: Moments, z: Moments, norm: GroupNorm, dtype: np.dtype[Any], apart: Any = False) -> Check:
    """Return the check: the errors of standardized values, as fractions of what rounding allows.

    With u half the machine epsilon of `dtype`, s half its smallest subnormal, E and V the mean and variance to expect,
    and D the root of V, for every finite cell: |mean - E| <= 16 (u (D + |E|) + s) + k U (D + |E|), and
    |var - V| <= 16 (2 u (V + |E| D) + 2 s D + s^2 + u^2 E^2) + 2 k U V. E is 0 where the cell's own mean is subtracted.
    U is u of float64, and k how many roundings a sum over the cell has at most.

    Parameters
    ----------
    before, by, z : Moments
        The moments per cell of the input, settled; those that it was standardized by; those of the standardized values,
        rounded to `dtype`.
    norm : GroupNorm
        Only eps and denominator are used.
    dtype : numpy.dtype
        The dtype of the standardized values.
    apart : ndarray of bool, or False
        The cells whose standardized values do not say whether the result is right: those of `beyond`.
    """
    groups, nonfinite, constant = before.n.size, ~before.finite, before.constant
    nan_before, nan_after = (0 if each.nan is None else int(each.nan.sum()) for each in (before, z))
    held = ~nonfinite & (before.n > 0) & np.logical_not(apart)
    own = by is before
    if not held.all():
        before, by, z = (each(moments, operator.itemgetter(held)) for moments in (before, by, z))
    lost = (before.m2 == 0) & ~before.constant  # values that differ have a variance
    expected, shift = _expected(before, before if own else by, z, norm)
    expected = np.where(lost, np.nan, expected)
    damped_groups, eps_share = _damped(scaled_for_eps(by, norm.eps), norm)
    info = np.finfo(dtype)
    # The check ignores results below 2**-500, in any dtype.
    mean, u = z.mean, float(info.eps) / 2
    s: Any = max(float(info.smallest_subnormal) / 2, 2.0**-500)
    if z.power is not None:
        mean, s = np.ldexp(mean, -z.power), np.ldexp(s, -z.power)
    # Up to 256 rows are summed one after the other, the blocks of them by pairs.
    summed = U * (np.minimum(before.n, COLUMN_BLOCK) + 8 * np.log2(np.maximum(before.n / COLUMN_BLOCK, 1)))
    mean_error: float | None = None
    var_error: float | None = None
    if expected.size:
        found = loops().ratios(expected, shift, mean, z.scaled_var(), summed, u, np.atleast_1d(s))
        mean_error, var_error = (math.inf if math.isnan(error) else error for error in found)
    return Check(
        groups=groups,
        mean_error=mean_error,
        var_error=var_error,
        constant_groups=int(np.count_nonzero(constant & ~nonfinite)),
        nonfinite_groups=int(np.count_nonzero(nonfinite)),
        new_nan=nan_after - nan_before,
        damped_groups=damped_groups,
        eps_share=eps_share,
    )


def _damped(before: Moments, norm: GroupNorm) -> tuple[int, float | None]:
    """Return in how many groups eps is more than a tenth of var + eps, and its largest share of that."""
    var, eps = before.scaled_var(), scaled_eps(norm, before)
    damped = (var < 9 * eps) & (var > 0)
    if not damped.any():
        return 0, None
    share = np.broadcast_to(eps, var.shape)[damped] / (var + eps)[damped]
    return share.size, float(share.max())


def _expected(before: Moments, by: Moments, z: Moments, norm: GroupNorm) -> tuple[Floats, Floats]:
    """Return the variance and the mean that standardized values should have, on the scale of `z`."""
    own = by is before
    before = scaled_for_eps(before, norm.eps)
    by = before if own else scaled_for_eps(by, norm.eps)
    var, total = before.scaled_var(), by.scaled_var() + scaled_eps(norm, by)
    total = np.where(total == 0, 1.0, total)
    twice = norm.denominator == "variance"
    if before.power is None and by.power is None and z.power is None and norm.eps <= LARGE:  # all are far from the ends
        once, deviation = var / total, np.zeros_like(total) if own else before.less(by.hi)
        return np.asarray(once / total if twice else once), deviation / (total if twice else np.sqrt(total))
    power, given, scale = (0 if moments.power is None else moments.power for moments in (before, by, z))
    common = np.maximum(power, given)
    if own:
        deviation = np.zeros_like(total)
    else:
        deviation = (before if before.power is None else before.rescaled(common)).less(np.ldexp(by.hi, given - common))
    # Mantissas and exponents are kept apart, so that nothing overflows.
    (v, of_v), (t, of_t) = np.frexp(var), np.frexp(total)
    of_v, of_t = of_v + 2 * (power - scale), of_t + 2 * given
    if twice:
        return np.asarray(np.ldexp(v / t / t, of_v - 2 * of_t)), np.ldexp(deviation / t, common - of_t - scale)
    shift = np.ldexp(deviation / np.sqrt(total), common - given - scale)
    return np.asarray(np.ldexp(v / t, of_v - of_t)), shift


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
            new_nan=total.new_nan + part.new_nan,
            damped_groups=total.damped_groups + part.damped_groups,
            eps_share=_larger(total.eps_share, part.eps_share),
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
