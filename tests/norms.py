"""Norms of the family for tests: random ones that fit a layout, tensors for them, and their gradients in longhand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.affine import Scaling
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import GroupNorm
from tests import exact

SHAPES = {
    "NCHW": (2, 6, 3, 5),
    "NHWC": (2, 3, 5, 6),
    "CHW": (6, 4, 3),
    "CNHW": (6, 2, 3, 2),
    "NC": (4, 6),
    "NTD": (2, 5, 6),
    "NLC": (3, 7, 6),
}
MAKERS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]] = {
    "normal": lambda rng, shape: rng.normal(size=shape).astype(np.float32),
    "offset": lambda rng, shape: (rng.normal(size=shape) + 10 ** rng.uniform(0, 6)).astype(np.float32),
    "ternary": lambda rng, shape: rng.integers(-1, 2, shape).astype(np.int8),
    "two-valued": lambda rng, shape: rng.choice([-1e6, 1e6], shape).astype(np.float32),
    "zeros": lambda rng, shape: np.repeat(rng.integers(0, 2, (*shape[:-1], 1)), shape[-1], -1).astype(np.float16),
    "constant": lambda rng, shape: np.full(shape, rng.normal(), np.float32),
    "bits": lambda rng, shape: rng.random(shape) < 0.5,
    "64-bit": lambda rng, shape: rng.integers(-(2**63), 2**63 - 1, shape),
    "large integers": lambda rng, shape: rng.integers(2**63, 2**63 + 9, shape, np.uint64),
    "half": lambda rng, shape: rng.normal(1, 1e-3, shape).astype(np.float16),
    "big-endian": lambda rng, shape: rng.normal(3, 1, shape).astype(">f4"),
    "double": lambda rng, shape: rng.normal(1, 1e-9, shape),
    "tiny": lambda rng, shape: rng.normal(size=shape) * 10 ** rng.uniform(-308, -140),
    "huge": lambda rng, shape: rng.normal(size=shape) * 10 ** rng.uniform(140, 300),
}
GRADIENTS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]] = {
    "normal": lambda rng, shape: rng.normal(size=shape).astype(np.float32),
    "ternary": lambda rng, shape: rng.integers(-1, 2, shape).astype(np.float16),
    "sparse": lambda rng, shape: (rng.normal(size=shape) * (rng.random(shape) < 0.2)).astype(np.float32),
    "constant": lambda rng, shape: np.full(shape, rng.normal(), np.float32),
    "offset": lambda rng, shape: (rng.normal(size=shape) + 1e3).astype(np.float32),
    "big-endian": lambda rng, shape: rng.normal(size=shape).astype(">f4"),
    "double": lambda rng, shape: rng.normal(size=shape) * 10 ** rng.uniform(-30, 30),
}


class Case(NamedTuple):
    """A norm on a tensor: the cell of each element, the axes of gamma and beta, and what gncli is told."""

    norm: GroupNorm
    scaling: Scaling
    cells: NDArray[np.int64]
    axes: tuple[int, ...]


def cells_along(shape: Sequence[int], kept: Sequence[int]) -> NDArray[np.int64]:
    """Return the number of the cell that each element is in, with a cell per index of the axes `kept`."""
    sizes = [size if axis in kept else 1 for axis, size in enumerate(shape)]
    return np.broadcast_to(np.arange(int(np.prod(sizes))).reshape(sizes), shape)


def cells_of_groups(layout: str, shape: tuple[int, ...], groups: int, *, interleaved: bool) -> NDArray[np.int64]:
    """Return the number of the (sample, group) that each element is in."""
    index = np.indices(shape)
    c, channels = index[layout.index("C")], shape[layout.index("C")]
    n = index[layout.index("N")] if "N" in layout else np.zeros_like(c)
    return np.asarray(n * groups + (c % groups if interleaved else c // (channels // groups)))


def cases(rng: np.random.Generator, layout: str, shape: tuple[int, ...]) -> Case:
    """Return a norm of the family that fits the layout."""
    norm = GroupNorm(
        eps=float(rng.choice([0.0, 1e-5, 0.1])),
        denominator=str(rng.choice(["std", "variance"])),
        layout=layout,
        rms=bool(rng.random() < 0.4),
    )
    kind = rng.choice(["groups", "over", "over", "given"]) if "C" in layout else "over"
    if kind == "over":
        count = int(rng.integers(1, len(shape) + 1))
        reduced = sorted(rng.choice(len(shape), count, replace=False).tolist())
        names = [
            layout[axis] if rng.random() < 0.5 else str(axis - len(shape) * int(rng.integers(2))) for axis in reduced
        ]
        own = sorted(rng.choice(len(shape), int(rng.integers(1, len(shape) + 1)), replace=False).tolist())
        chosen = rng.choice(["any", "reduced"])
        axes = tuple(own if chosen == "any" else reduced)
        kept = [axis for axis in range(len(shape)) if axis not in reduced]
        scaling = Scaling(gamma_axes=",".join(map(str, axes)))
        return Case(replace(norm, over=",".join(names)), scaling, cells_along(shape, kept), axes)
    channel = layout.index("C")
    if kind == "given":
        return Case(replace(norm, rms=False, given=True), Scaling(), cells_along(shape, [channel]), (channel,))
    groups, interleaved = int(rng.choice([1, 2, 3, 6])), bool(rng.random() < 0.5)
    cells = cells_of_groups(layout, shape, groups, interleaved=interleaved)
    return Case(replace(norm, num_groups=groups, interleaved=interleaved), Scaling(), cells, (channel,))


def gradients(
    x: NDArray[Any],
    dy: NDArray[Any],
    case: Case,
    made: tuple[str, str],
    gamma: NDArray[Any],
    owners: NDArray[np.int64],
    moments: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return dx, dgamma and dbeta, each correctly rounded, by the definition of a derivative of each cell.

    Parameters
    ----------
    x, dy : ndarray
        The tensors.
    case : Case
        The norm.
    made : tuple of two str
        The dtypes of dx, and of dgamma and dbeta.
    gamma : ndarray of float64, in the shape of `x`
        The factor of each element.
    owners : ndarray of int64, in the shape of `x`
        The parameter of each element.
    moments : tuple of two ndarray, optional
        The mean and variance of each cell, if they are given.
    """
    kinds, norm = [FLOATS[name] if name in FLOATS else FLOATS[np.dtype(name).name] for name in made], case.norm
    dx = np.empty(x.shape, kinds[0].dtype)
    terms: dict[int, list[tuple[Fraction, Fraction]]] = defaultdict(list)
    dbeta: dict[int, Fraction] = defaultdict(Fraction)
    for cell in np.unique(case.cells):
        places = list(zip(*np.nonzero(case.cells == cell), strict=True))
        values = [exact.exactly(x[p]) for p in places]
        dys = [exact.exactly(dy[p]) for p in places]
        offset = Fraction(case.scaling.gamma_offset)
        gs = [d * (Fraction(float(gamma[p])) + offset) for d, p in zip(dys, places, strict=True)]
        n = len(places)
        if moments is not None:
            mean, var = (Fraction(float(each[cell])) for each in moments)
        else:
            mean = Fraction(0) if norm.rms else sum(values, Fraction(0)) / n
            var = sum(((v - mean) ** 2 for v in values), Fraction(0)) / n
        total = var + Fraction(norm.eps) or Fraction(1)
        d = [v - mean for v in values]
        of_g = Fraction(0) if norm.rms or moments is not None else sum(gs, Fraction(0)) / n
        inner = Fraction(0) if moments is not None else sum(map(Fraction.__mul__, gs, d), Fraction(0)) / n
        std = norm.denominator == "std"
        for p, own, g, dev in zip(places, dys, gs, d, strict=True):
            over = g - of_g - dev * inner * (1 if std else 2) / total
            dx[p] = rounded_sum([(over, total)] if std else [(over / total, Fraction(1))], kinds[0])
            parameter = int(owners[p])
            terms[parameter].append((own * dev, total) if std else (own * dev / total, Fraction(1)))
            dbeta[parameter] += own
    size = int(owners.max()) + 1
    dgamma = np.array([rounded_sum(terms[k], kinds[1]) for k in range(size)], kinds[1].dtype)
    return dx, dgamma, np.array([exact.nearest(dbeta[k], kinds[1]) for k in range(size)], kinds[1].dtype)


def rounded_sum(terms: Sequence[tuple[Fraction, Fraction]], kind: Any) -> Any:
    """Return the sum of ``over / sqrt(under)``, correctly rounded, from 1,500 digits; below 1e-1400 of it is 0."""
    by_root: dict[Fraction, Fraction] = defaultdict(Fraction)
    for over, under in terms:
        by_root[under] += over
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 1500, 10**9, -(10**9)
        parts = [_decimal(over) / _decimal(under).sqrt() for under, over in by_root.items() if over]
        total = sum(parts, Decimal(0))
        largest = max(map(abs, parts), default=Decimal(0))
        if abs(total) <= largest * Decimal(10) ** -1400:
            return kind.dtype.type(0)

        def side(boundary: Fraction) -> int:
            far = total - _decimal(boundary)
            return 0 if abs(far) <= largest * Decimal(10) ** -1400 else 1 if far > 0 else -1

        return exact.nearest_by(side, float(total), kind)


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)
