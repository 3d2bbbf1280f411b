"""Conventions of a norm: what may differ between two implementations, and how far an output lies from each.

A `Convention` is one choice in every question on which implementations differ. A fault changes an answer, and a
hypothesis is the convention that was asked for with no fault, one, or two. All of them are the same formula with other
numbers, `predicted`, so a further fault is a row in the tables of this module.

Notes
-----
The statistics of a hypothesis are pooled from moments of small cells, which are measured once. Arrays of statistics
have the axes of the tensor, and length 1 along those they do not depend on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.activations import activate
from gncli.kernels.floats import Float
from gncli.kernels.layout import DEFAULT_LAYOUTS, Layout, channels_last
from gncli.kernels.moments import Floats
from gncli.names import ACTIVATIONS

EPS = (1e-5, 1e-6, 1e-3, 1e-12, 1e-8, 1e-4, 1e-2, 1e-1, 0.0)
"""What is added to the variance in practice."""

NOISE = 16
"""Roundings of the arithmetic that an implementation may have spent on an element, before the last one."""


def noise(output: Float) -> float:
    """Return the relative error of the arithmetic that leads to an output: that of float32, or of float64."""
    return NOISE * 2.0 ** -(24 if output.mantissa < 24 else 53)


def ulp(output: Float, values: Floats) -> Floats:
    """Return the distance from each value to the next larger number of a dtype.

    Examples
    --------
    >>> ulp(Float("float16", 5, 10), np.array([1.0, 0.0])) == [2.0**-10, 2.0**-24]
    array([ True,  True])
    """
    exponents = np.frexp(np.maximum(np.abs(values), output.least))[1]
    return np.asarray(np.ldexp(1.0, exponents - output.mantissa - 1))


class Convention(NamedTuple):
    """One answer to each question on which implementations of a norm differ.

    Attributes
    ----------
    groups : int
        The number of groups.
    eps : float
        Added to the variance.
    layout : str
        One letter per axis.
    denominator : str
        ``std`` is the root of var + eps, ``variance`` is var + eps.
    interleaved : bool
        Whether channel c is in group c % G.
    over : str
        Whose statistics: of each ``group``, of the ``batch`` (a channel of all samples), or of all channels at a
        ``position``.
    ddof : int
        Subtracted from the number of elements in the variance.
    gamma, beta : str
        What scales, and what is added: ``gamma``, ``beta``, ``1 + gamma``, ``1`` or ``0``.
    rounded : bool
        Whether standardized values are rounded to the dtype of the output before gamma and beta.
    activation : str
        What follows: one of `FUSED`.
    """

    groups: int
    eps: float
    layout: str
    denominator: str = "std"
    interleaved: bool = False
    over: str = "group"
    ddof: int = 0
    gamma: str = "gamma"
    beta: str = "beta"
    rounded: bool = False
    activation: str = "none"

    def faults(self, asked: Convention) -> int:
        """Return in how many ways it differs from what was asked for; gamma and beta swapped is one."""
        changed = sum(mine != theirs for mine, theirs in zip(self, asked, strict=True))
        return changed - ((self.gamma, self.beta) == ("beta", "gamma"))


FUSED = ("none", *ACTIVATIONS)
"""What a kernel may fuse with a norm."""


# --- the table -------------------------------------------------------------------------------------------------------

Change = Mapping[str, Any]

FAULTS: Sequence[Change] = (
    *({"eps": eps} for eps in EPS),
    {"denominator": "variance"},
    {"denominator": "std"},
    {"interleaved": True},
    {"interleaved": False},
    {"over": "batch"},
    {"ddof": 1},
    {"gamma": "1"},
    {"beta": "0"},
    {"gamma": "beta", "beta": "gamma"},
    {"gamma": "1 + gamma"},
    {"rounded": True},
    *({"activation": name} for name in FUSED),
    {"over": "position"},
)
"""The faults that any tensor may have, as changes of a `Convention`; groups and layouts depend on the shape."""

WORDS: Mapping[tuple[str, object], tuple[str, str | None]] = {
    ("denominator", "variance"): ("division by var + eps without the root", "--denominator variance"),
    ("denominator", "std"): ("division by the root of var + eps", "--denominator std"),
    ("interleaved", True): ("interleaved groups", "--interleaved"),
    ("interleaved", False): ("contiguous groups", ""),
    ("over", "batch"): ("the statistics of the batch", "--over {batch}"),
    ("over", "position"): ("the statistics over C at each position", "--over C"),
    ("ddof", 1): ("N - 1 for N in the variance", None),
    ("gamma", "1"): ("no gamma", "--gamma 1"),
    ("gamma", "1 + gamma"): ("1 + gamma for gamma", "--gamma-offset 1"),
    ("gamma", "beta"): ("gamma and beta swapped", "--gamma {beta} --beta {gamma}"),
    ("beta", "0"): ("no beta", "--beta 0"),
    ("beta", "gamma"): ("", ""),
    ("rounded", True): ("a rounding before gamma and beta", "--round-before-affine"),
    ("activation", "none"): ("no activation", None),
    **{("activation", name): (f"{name} at the end", f"--activation {name}") for name in ACTIVATIONS},
}
"""A fault in words, and the options of ``gncli normalize`` that do the same; None for what it does not do."""


def said(convention: Convention, asked: Convention, names: Mapping[str, str]) -> tuple[str, str | None]:
    """Return how a convention differs from what was asked for, in words, and the options that reproduce it.

    Parameters
    ----------
    convention, asked : Convention
        The hypothesis, and what was asked for.
    names : mapping
        What ``--gamma``, ``--beta`` and ``--over`` take: the keys ``gamma``, ``beta`` and ``batch``.

    Returns
    -------
    words : str
        The changes, separated by commas; an empty text where there are none.
    options : str or None
        The options; None if ``normalize`` has none for one of the changes.

    Examples
    --------
    >>> asked = Convention(8, 1e-5, "NCHW")
    >>> said(asked._replace(eps=1e-3, interleaved=True), asked, {})
    ('eps 0.001, interleaved groups', '--eps 0.001 --interleaved')
    """
    words: list[str] = []
    options: list[str | None] = []
    for field, value in convention._asdict().items():
        if value != getattr(asked, field):
            spelled: dict[str, tuple[str, str | None]] = {
                "eps": (f"eps {plain(value)}", f"--eps {plain(value)}"),
                "groups": (_groups(convention), f"--groups {value}"),
                "layout": (f"layout {value}", f"--layout {value}"),
            }
            word, option = spelled[field] if field in spelled else WORDS[field, value]
            words.append(word)
            options.append(option)
    if None in options:
        return ", ".join(filter(None, words)), None
    return ", ".join(filter(None, words)), " ".join(filter(None, options)).format_map(names)


def plain(eps: float) -> str:
    """Return an eps as a user types it, exactly.

    Examples
    --------
    >>> plain(0.0), plain(1e-05)
    ('0', '1e-05')
    """
    return repr(eps).removesuffix(".0")


def _groups(convention: Convention) -> str:
    return "1 group" if convention.groups == 1 else f"{convention.groups} groups"


def faults(asked: Convention, shape: tuple[int, ...], gamma: Floats, beta: Floats) -> list[Change]:
    """Return the faults that make a difference on a tensor of `shape`, with these values per channel."""
    layout = Layout(asked.layout)
    channels = shape[layout.channel]
    samples = 1 if layout.batch is None else shape[layout.batch]
    trivial = {"gamma": {"1": (gamma == 1).all()}, "beta": {"0": (beta == 0).all(), "gamma": (gamma == beta).all()}}
    useless = {
        "interleaved": asked.groups in (1, channels),
        "over": math.prod(shape) == samples * channels,  # without space, a position is a group
        "rounded": trivial["gamma"]["1"] and trivial["beta"]["0"],
    }

    def matters(change: Change) -> bool:
        return (
            any(value != getattr(asked, field) for field, value in change.items())
            and not any(trivial.get(field, {}).get(value, False) for field, value in change.items())
            and not any(useless.get(field, False) for field in change if change.get("over") != "batch")
            and (samples > 1 or change.get("over") != "batch")
        )

    divisors = [number for number in range(1, channels + 1) if channels % number == 0]
    others = [letters for letters in layouts(shape) if letters != asked.layout]
    shaped: list[Change] = [*({"groups": number} for number in divisors), *({"layout": letters} for letters in others)]
    return [change for change in (*FAULTS, *shaped) if matters(change)]


def layouts(shape: tuple[int, ...]) -> Iterator[str]:
    """Yield the layouts that a tensor of `shape` may have."""
    yield DEFAULT_LAYOUTS.get(len(shape), "")
    yield str(channels_last(shape) or "")
    if len(shape) == 3:
        yield from ("CHW", "HWC")


def combined(asked: Convention, changes: Iterable[Change], number: int) -> list[Convention]:
    """Return the conventions with `number` of `changes` at once that do not contradict each other, each once."""
    found = dict.fromkeys(
        asked._replace(**{field: value for change in chosen for field, value in change.items()})
        for chosen in combinations(changes, number)
        if len({field for change in chosen for field in change}) == sum(map(len, chosen))
    )
    return [
        one
        for one in found
        if one.over == "group" or (one.groups, one.interleaved) == (asked.groups, asked.interleaved)
    ]


# --- statistics ------------------------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    """Mean and sum of squared deviations of cells, and the number of elements of each."""

    mean: Floats
    m2: Floats
    size: Floats

    @property
    def var(self) -> Floats:
        """The variance."""
        return self.m2 / self.size

    def moved(self, slope: Floats, offset: Floats) -> Statistics:
        """Return the statistics of ``slope * x + offset``, slopes and offsets being constant in each cell."""
        mean = slope * self.mean + offset
        return Statistics(mean, slope * slope * self.m2, np.broadcast_to(self.size, mean.shape))

    def pooled(self, labels: Sequence[NDArray[np.intp] | None]) -> Statistics:
        """Return the statistics of unions of cells, in the same shape.

        Parameters
        ----------
        labels : sequence of ndarray of int, or None
            For each axis, a number per index: cells of equal numbers are joined. None joins no cells along an axis.
        """
        mean, m2, size = self.mean, self.m2, np.broadcast_to(self.size, self.mean.shape)
        for axis, label in enumerate(labels):
            if label is None:
                continue
            order = np.argsort(label, kind="stable")
            _, starts, back = np.unique(label[order], return_index=True, return_inverse=True)
            where = np.empty_like(back)
            where[order] = back

            def total(
                values: Floats, axis: int = axis, order: Any = order, starts: Any = starts, where: Any = where
            ) -> Floats:
                return np.asarray(np.add.reduceat(values.take(order, axis), starts, axis).take(where, axis))

            joined = total(size)
            center = total(size * mean) / joined
            m2 = total(m2 + size * (mean - center) ** 2)
            mean, size = center, joined
        return Statistics(mean, m2, size)


def labels(convention: Convention, shape: Sequence[int]) -> list[NDArray[np.intp] | None]:
    """Return which cells of an array of `shape` a convention joins along each axis, as `Statistics.pooled` takes it."""
    layout = Layout(convention.layout)

    def along(axis: int, size: int) -> NDArray[np.intp] | None:
        index = np.arange(size)
        if size == 1 or convention.over == "position":
            return None
        if axis == layout.channel:
            groups = convention.groups if convention.over == "group" else size
            return index % groups if convention.interleaved else index // (size // groups)
        return None if axis == layout.batch and convention.over == "group" else 0 * index

    return [along(axis, size) for axis, size in enumerate(shape)]


def both(
    first: Sequence[NDArray[np.intp] | None], second: Sequence[NDArray[np.intp] | None]
) -> list[NDArray[np.intp] | None]:
    """Return the labels of the cells that are joined by both."""
    return [None if a is None or b is None else a * (int(b.max()) + 1) + b for a, b in zip(first, second, strict=True)]


def inside(small: Convention, large: Convention, shape: Sequence[int]) -> bool:
    """Return whether the cells of one convention lie in those of another, on a tensor of `shape`."""
    mine, theirs = labels(small, shape), labels(large, shape)
    joint = both(mine, theirs)
    return all(
        a is None or (c is not None and np.unique(c).size == np.unique(a).size)
        for a, c in zip(mine, joint, strict=True)
    )


def from_outputs(
    reference: Statistics,
    y: Statistics,
    conventions: tuple[Convention, Convention],
    output: Float,
    weight: Floats,
    spacings: Sequence[Floats],
    *,
    affine_y: bool,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the line that makes the input, up to what no output depends on, from a standardized reference.

    Parameters
    ----------
    reference, y : Statistics
        Of the smallest cells of both outputs, before gamma and beta.
    conventions : tuple of Convention
        Those that made the reference, and `y`.
    output : Float
        The dtype of the reference.
    weight : ndarray of float64
        The inverse variance of the rounding of `y` before gamma and beta, up to a factor.
    spacings : sequence of two ndarray of float64
        The ULP of the largest usual values of both outputs in each of these cells, also before gamma and beta.
    affine_y : bool
        Whether `y` is an affine function of the reference in each cell of both; otherwise, with an activation, the
        cells of `y` must lie in those of the reference.

    Returns
    -------
    slope, offset, doubt, drift : ndarray of float64
        Arrays that broadcast to the tensor; `doubt` is how far, relatively, the deviation of an output from the mean
        may be off, and `drift` how far the mean of the input may be, since both are known to the rounding of the
        outputs only.

    Notes
    -----
    In a cell of both conventions y = a ref + b, where a and b follow from means and deviations. The divisor of the
    reference, say s, follows from its variance V: V = v / s^2 with s^2 = v + eps, or V = v / s^2 with s = v + eps.
    The divisor of y is then s / a, and the input, up to its mean, is y times that.
    """
    asked, made = conventions
    shape = reference.mean.shape
    of_reference, of_y = labels(asked, shape), labels(made, shape)
    whole = reference.pooled(of_reference)
    var = whole.var
    error = (noise(output) / 2 + 2.0 ** (1 - output.mantissa) / np.sqrt(whole.size)) / (asked.eps or 1.0)
    if asked.denominator == "variance":
        inverse = _divisor(var, asked.eps) ** -2.0
    else:
        inverse = (1 - var) / asked.eps if asked.eps else 0 * var
    if not affine_y:
        scale = np.maximum(inverse, LEAST) ** -0.5
        drift = scale * _error_of_mean(spacings[0], reference.size, of_y, output)
        return scale, 0 * scale, np.minimum(made.eps / 2 * error, MOST_DOUBT), drift
    joint = both(of_reference, of_y)
    one, two = (
        Statistics(found.mean, found.m2 * weight, found.size * weight).pooled(joint) for found in (reference, y)
    )
    a = np.sqrt(np.where(one.m2 > 0, two.m2 / np.where(one.m2 > 0, one.m2, 1.0), 1.0))
    b = two.mean - a * one.mean
    inverse = Statistics(a * a * inverse, 0 * a, reference.size).pooled(of_y).mean
    scale = np.maximum(inverse, LEAST) ** -0.5
    error = Statistics(a * a * error, 0 * a, reference.size).pooled(of_y).mean
    if made.denominator == "variance" and asked.denominator == "std":
        low, high = (np.maximum(inverse + sign * error, LEAST) ** -0.5 for sign in (1, -1))
        scale = np.clip(_divisor(y.pooled(of_y).var, made.eps), low, high)
    of_ref, of_made = (_error_of_mean(spacing, reference.size, joint, output) for spacing in spacings)
    drift = scale * (a * of_ref + 2 * of_made)  # the mean of y counts twice: in b, and in that of its own cell
    return scale * a, scale * b, np.minimum(made.eps / 2 * error, MOST_DOUBT), drift


def _error_of_mean(spacing: Floats, size: Floats, labels: Sequence[NDArray[np.intp] | None], output: Float) -> Floats:
    """Return how far the mean of a standardized output may be off in unions of cells: seven standard deviations."""
    pooled = Statistics(0 * spacing, size * spacing**2, size).pooled(labels)
    return np.asarray(noise(output) / 2 + 2 * np.sqrt(pooled.var / pooled.size))


MOST_DOUBT = 2.0**-10
"""Of a deviation, relatively: a hypothesis of which less is known is not tried for good."""

LEAST = 2.0**-60
"""Of a variance that nothing is known of but that eps does not count in it, the inverse."""


def _divisor(var: Floats, eps: float) -> Floats:
    """Return v + eps where ``var = v / (v + eps)**2``, the larger of both solutions."""
    return np.asarray((1 + np.sqrt(1 - 4 * var * eps)) / (2 * var))


def affine(convention: Convention, gamma: Floats, beta: Floats) -> tuple[Floats, Floats]:
    """Return what scales and what is added, per channel."""
    given = {"gamma": gamma, "beta": beta, "1 + gamma": 1 + gamma, "1": np.ones(1), "0": np.zeros(1)}
    return given[convention.gamma], given[convention.beta]


# --- errors ----------------------------------------------------------------------------------------------------------


class Elements(NamedTuple):
    """Elements of both tensors, with the statistics of their cells and their factors; all of these broadcast.

    Attributes
    ----------
    x, y : ndarray of float64
        The input, and the output that is to be explained.
    slope, offset : ndarray of float64
        What makes the input of `x`, where that is another output: ``slope * x + offset``.
    doubt : ndarray of float64
        How far the deviation of an output from the mean may be off, relatively.
    drift : ndarray of float64
        How far the mean of the input may be off.
    mean, m2, size : ndarray of float64
        The statistics of the cell.
    scale, shift : ndarray of float64
        What the standardized value is multiplied by, and what is added.
    """

    x: Floats
    y: Floats
    slope: Floats
    offset: Floats
    doubt: Floats
    drift: Floats
    mean: Floats
    m2: Floats
    size: Floats
    scale: Floats
    shift: Floats


class Errors(NamedTuple):
    """How far an output lies from hypotheses: each field is an array with one entry per hypothesis.

    Attributes
    ----------
    n : ndarray of float64
        The number of elements.
    beyond : ndarray of float64
        The elements that rounding does not explain.
    unmatched : ndarray of float64
        Those of them that are NaN or infinite on one side only.
    excess : ndarray of float64
        The largest error, less that of the arithmetic, in units of the last rounding: 0.5 where it is correct.
    worst, ulp : ndarray of float64
        The largest finite error, absolute and in ULP of the output.
    square : ndarray of float64
        The sum of squared finite errors.
    """

    n: Floats
    beyond: Floats
    unmatched: Floats
    excess: Floats
    worst: Floats
    ulp: Floats
    square: Floats

    @classmethod
    def nothing(cls, count: int) -> Errors:
        """Return the errors of no elements, for `count` hypotheses."""
        return cls._make([np.zeros(count)] * len(cls._fields))


_LARGEST = ("excess", "worst", "ulp")


def merge(a: Errors, b: Errors) -> Errors:
    """Return the errors over the elements of `a` and `b`."""
    both = zip(Errors._fields, a, b, strict=True)
    return Errors._make([np.maximum(one, two) if name in _LARGEST else one + two for name, one, two in both])


def predicted(elements: Elements, convention: Convention, output: Float) -> tuple[Floats, Floats, Floats]:
    """Return the exact output of a convention, the error of arithmetic that it allows, and its slope in the input."""
    var = elements.m2 / (elements.size - convention.ddof)
    total = var + convention.eps
    divisor = total if convention.denominator == "variance" else np.sqrt(total)
    rstd = 1.0 / np.where(divisor == 0, 1.0, divisor)
    x = elements.slope * elements.x + elements.offset
    z = (x - elements.mean) * rstd
    if convention.rounded:
        output.round_into(z, rounded := np.empty(z.shape, output.dtype))
        z = rounded.astype(np.float64)
    slope = np.abs(rstd * elements.scale)
    allowed = noise(output) * ((np.abs(x) + np.abs(elements.mean)) * slope + np.abs(elements.shift))
    allowed += (elements.doubt * np.abs(x - elements.mean) + elements.drift) * slope
    y = z * elements.scale + elements.shift
    if convention.activation != "none":
        activate(convention.activation, y, None)
    return y, allowed, slope


def errors(elements: Elements, convention: Convention, output: Float, reference: Float | None) -> Errors:
    """Return the errors of elements under one hypothesis, in shape (1,).

    An element is explained if |y - exact| <= ULP(y) + allowed, where `allowed` is the error of the arithmetic: `NOISE`
    roundings of |x|, |mean| and beta, as they enter the result. Where x is made of another output, an ULP of that is
    added, as it enters the result.
    """
    exact, allowed, slope = predicted(elements, convention, output)
    y = elements.y
    gap = np.abs(y - exact)
    largest = (np.abs(y) >= output.largest) & (y * exact > 0) | np.isnan(y) & (not output.infinite)
    overflowed = largest & (np.abs(exact) >= output.largest)
    same = (y == exact) | np.isnan(y) & np.isnan(exact) | overflowed
    unmatched = ~same & ~np.isfinite(gap)
    gap = np.where(same | unmatched, 0.0, gap)
    spacing = ulp(output, np.where(np.isfinite(y), y, 0.0))
    unit = spacing
    if reference is not None:
        unit = spacing + slope * np.abs(elements.slope) * ulp(reference, elements.x)
    excess = np.where(gap > 0, (gap - allowed) / unit, 0.0)
    numbers = (
        y.size,
        np.count_nonzero((excess > 1) | unmatched),
        np.count_nonzero(unmatched),
        np.max(excess, initial=0.0),
        np.max(gap, initial=0.0),
        np.max(gap / spacing, initial=0.0),
        np.sum(gap * gap),
    )
    return Errors._make([np.array([number], np.float64) for number in numbers])
