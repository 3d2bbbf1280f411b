"""The verdict of ``diff``: which gates a request sets up, what they need to be measured, and what was found."""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gncli.errors import ParameterError
from gncli.io.pairs import Pair
from gncli.io.source import Source
from gncli.kernels.agreement import Agreement, AgreementOf, Asked, agreement
from gncli.kernels.moments import NOWHERE
from gncli.kernels.plain import Grid, Tolerance
from gncli.kernels.reduction import in_c_order
from gncli.kernels.tally import Tally
from gncli.report.gates import (
    SAME,
    AreFaithful,
    AreIdentical,
    Discerns,
    Gate,
    HasReference,
    WithinBaseline,
    WithinTolerance,
    WithinUlp,
    decided,
)
from gncli.tasks.requests import Diff

TOLERANCES = {
    "float8_e5m2": (0.25, 1e-5),
    "float8_e4m3fn": (0.125, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float16": (1e-3, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}
"""rtol and atol by the name of a float dtype, as in torch.testing.assert_close; for float8, not in it, an epsilon."""

DIGITS = 3  # of a tolerance or a factor that would pass
MOST_STEPS = 2**64 - 1
FACTOR = 2.0  # the largest error of a tensor over that of the baseline


def default_tolerance(a: str, b: str) -> tuple[float, float]:
    """Return rtol and atol for two dtypes by name: those of the coarser float; integers are compared exactly.

    Examples
    --------
    >>> default_tolerance("float16", "float64"), default_tolerance("int32", "int64")
    ((0.001, 1e-05), (0.0, 0.0))
    """
    return max((TOLERANCES[name] for name in (a, b) if name in TOLERANCES), default=(0.0, 0.0))


def check(request: Diff) -> None:
    """Refuse options that contradict each other.

    Raises
    ------
    ParameterError
        If they do.
    """
    criteria = request.criteria
    given = {
        "--rtol": request.rtol is not None,
        "--atol": request.atol is not None,
        "--max-fraction": request.max_fraction > 0,
        "--nan-differs": request.nan_differs,
        "--baseline": criteria.baseline is not None,
        "--factor": criteria.factor is not None,
        "--max-ulp": criteria.max_ulp is not None,
        "--near-zero": criteria.near_zero is not None,
        "--faithful": criteria.faithful,
        "--allow-vacuous": criteria.allow_vacuous,
    }
    if criteria.exact and (others := [option for option, is_given in given.items() if is_given]):
        raise ParameterError(f"--exact compares bits, which leaves nothing to {others[0]}; choose one of them")
    for option, needs in (("--factor", "--baseline"), ("--near-zero", "--max-ulp")):
        if given[option] and not given[needs]:
            raise ParameterError(f"{option} belongs to {needs}; give that too")
    for option in ("--rtol", "--max-fraction"):
        if given[option] and given["--baseline"]:
            hint = "leave one of them out; --atol goes with --baseline"
            raise ParameterError(f"--baseline limits the largest error, and {option} does not", hint=hint)


class Judge:
    """The gates that a request sets up for two tensors.

    Parameters
    ----------
    request : Diff
        The options.
    a, b : Source
        The tensors.
    baseline : Source, optional
        What an accepted implementation gives.

    Attributes
    ----------
    tolerance : Tolerance
        The tolerance of the comparison.
    """

    def __init__(self, request: Diff, a: Source, b: Source, baseline: Source | None) -> None:
        self._criteria, self._max_fraction = request.criteria, request.max_fraction
        self._a, self._b, self._baseline = a, b, baseline
        criteria, given = self._criteria, (request.rtol, request.atol)
        usual = default_tolerance(a.dtype_name, b.dtype_name) if baseline is None else (0.0, 0.0)
        rtol, atol = (u if g is None else g for u, g in zip(usual, given, strict=True))
        self.tolerance = Tolerance(rtol, atol, request.nan_differs)
        others = baseline is not None or criteria.max_ulp is not None or criteria.exact or criteria.faithful
        self._tolerates = baseline is None and not (others and given == (None, None))
        self._grid = Grid.of(a.dtype, a.stored_as)
        normal = 0.0 if self._grid.kind is None else self._grid.kind.least
        same_dtype = a.dtype_name == b.dtype_name
        self._asked = Asked(
            self._grid,
            request.nan_differs,
            None if criteria.max_ulp is None else min(criteria.max_ulp, MOST_STEPS),
            normal if criteria.near_zero is None else criteria.near_zero,
            criteria.faithful,
            criteria.exact and same_dtype,
        )
        self._measures = others or not same_dtype

    def reduction(self, pair: Pair) -> AgreementOf | None:
        """Return what measures the gates, and the rounding floor; None where a tally of differences is enough."""
        return AgreementOf(pair.dtypes, pair.shape, pair.order, self._asked) if self._measures else None

    def floor(self, found: Agreement | None) -> float | None:
        """Return the rounding floor; None where the dtypes are the same."""
        if found is None or self._a.dtype_name == self._b.dtype_name:
            return None
        return max(0.0, float(found.floor[0]))

    def gates(self, total: Tally, found: Agreement | None, smallest_atol: float | None, pair: Pair) -> tuple[Gate, ...]:
        """Return the gates, each with what was found."""
        differ = int(total.nan[0] + total.inf[0])
        size, fraction, gates = math.prod(pair.shape), self._max_fraction, list[Gate]()
        if self._tolerates:
            (rtol, atol, _), zeros = self.tolerance, self._vacuous_from(total)
            gates.append(
                WithinTolerance(
                    rtol=rtol,
                    atol=atol,
                    outside=differ + int(total.outside[0]),
                    size=size,
                    max_fraction=fraction,
                    smallest_atol=smallest_atol,
                    vacuous=smallest_atol is not None and zeros < math.inf and smallest_atol + rtol * zeros >= zeros,
                )
            )
        if found is not None:
            gates += self._measured(total, found, pair)
        if size and not differ and not total.n[0] and not self._criteria.exact:
            gates.append(HasReference())
        elif decided(gates) == SAME and not self._criteria.exact:
            gates += self._vacuous(total, gates)
        return tuple(gates)

    def _measured(self, total: Tally, found: Agreement, pair: Pair) -> Iterator[Gate]:
        criteria, size, fraction = self._criteria, math.prod(pair.shape), self._max_fraction
        if criteria.max_ulp is not None:
            known = found.farthest_at[0] != NOWHERE
            place = in_c_order(found.farthest_at, pair.shape, pair.order) if known else found.farthest_at
            yield WithinUlp(
                limit=criteria.max_ulp,
                near_zero=self._asked.near_zero,
                whole=self._grid.kind is None,
                outside=int(found.beyond[0]),
                size=size,
                max_fraction=fraction,
                largest=int(found.farthest[0]) if known else None,
                index=index_of(place, pair),
            )
        if criteria.faithful:
            first = index_of(found.unfaithful_at, pair)
            yield AreFaithful(outside=int(found.unfaithful[0]), size=size, max_fraction=fraction, first=first)
        if criteria.exact:
            yield AreIdentical(
                a=self._a.dtype_name,
                b=self._b.dtype_name,
                outside=int(found.unlike[0]),
                size=size,
                first=index_of(found.unlike_at, pair),
            )
        if self._baseline is not None:
            yield self._as_good(total, found)

    def _as_good(self, total: Tally, found: Agreement) -> WithinBaseline:
        assert self._baseline is not None
        n, power = float(total.n[0]), 0 if total.b_power is None else int(total.b_power[0])
        gate = WithinBaseline(
            baseline=self._baseline.name,
            factor=FACTOR if self._criteria.factor is None else self._criteria.factor,
            atol=self.tolerance.atol,
            floor=max(0.0, float(found.floor[0])),
            outside=int(total.nan[0] + total.inf[0]),
            missing=int(found.missing[0]),
            error=max(0.0, float(found.error[0])),
            own=max(0.0, float(found.own[0])),
            scale=float(np.ldexp(math.sqrt(float(total.b_square[0]) / n), power)) if n else 0.0,
        )
        excess = gate.error - gate.slack
        if excess > 0 and not gate.own:
            return gate
        smallest = rounded_up(excess / gate.own, exactly=False) if excess > 0 else 0.0
        vacuous = smallest is not None and smallest * gate.own + gate.slack >= self._vacuous_from(total)
        return replace(gate, smallest_factor=smallest, vacuous=vacuous)

    def _vacuous_from(self, total: Tally) -> float:
        """Return the largest |b|: an error that large lets zeros pass; infinity where they may, or nothing differs."""
        largest = max(abs(float(total.low[0])), abs(float(total.high[0])))
        return math.inf if self._criteria.allow_vacuous or not total.worst[0] > 0 < largest else largest

    def _vacuous(self, total: Tally, gates: Sequence[Gate]) -> list[Gate]:
        """Return a gate if a tensor of zeros would be the same, and `a` is not the same anyway."""
        largest, (rtol, atol, _) = self._vacuous_from(total), self.tolerance
        if math.isinf(largest):
            return []
        bounds = []
        for gate in gates:
            if isinstance(gate, WithinTolerance) and largest <= atol + rtol * largest:
                admits = f"--atol {atol:g} and --rtol {rtol:g} admit 0 for every b"
                bounds.append(f"--atol {atol:g} is larger than every |b|" if atol > largest else admits)
            if isinstance(gate, WithinBaseline) and largest <= gate.bound:
                bounds.append(f"the bound {gate.bound:.6g} is as large as every |b|")
        if self._asked.steps is not None or self._asked.faithful:
            zero, b = np.zeros(1, self._a.dtype), np.full(1, largest)
            found = agreement(zero, b, asked=self._asked, at=np.zeros(1, np.int64), shape=(1,), order="C")
            if self._asked.steps is not None and not found.beyond[0]:
                bounds.append(f"--max-ulp {self._asked.steps} admits 0 for every b")
            if self._asked.faithful and not found.unfaithful[0]:
                bounds.append("0 is a neighbour of every b")
        return [Discerns(bounds[0])] if len(bounds) == len(gates) else []


def index_of(place: NDArray[np.int64], pair: Pair) -> tuple[int, ...] | None:
    """Return the index of a place in C order; None for `NOWHERE`."""
    if place[0] == NOWHERE:
        return None
    return tuple(int(at) for at in np.unravel_index(int(place[0]), pair.shape))


def rounded_up(value: float, *, exactly: bool) -> float | None:
    """Return `value` rounded up to three digits, at least two floats above it unless `exactly`.

    The result has more digits if three digits would exceed the largest float. It is None if `value` itself leaves no
    room.

    Examples
    --------
    >>> rounded_up(0.012301, exactly=True), rounded_up(0.5, exactly=False), rounded_up(-1.0, exactly=True)
    (0.0124, 0.501, 0.0)
    """
    if value <= 0:
        return 0.0
    needed = value if exactly else math.nextafter(math.nextafter(value, math.inf), math.inf)
    if math.isinf(needed):
        return None
    context = decimal.Context(prec=DIGITS, rounding=decimal.ROUND_CEILING)
    found = context.create_decimal(decimal.Decimal(value))
    while float(found) < needed:
        found = found.next_plus(context)
    return needed if math.isinf(float(found)) else float(found)
