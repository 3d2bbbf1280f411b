"""Many pairs of ``gncli diff``: the tensors of two files or folders, paired by name and compared one by one."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli import io
from gncli.errors import GncliError, InputError, ParameterError
from gncli.io import Listing
from gncli.io.pairs import Pair, Stored, paired
from gncli.io.source import Source, list_names
from gncli.kernels.partition import whole
from gncli.kernels.reduction import Visit
from gncli.report.diff_records import DiffCell, DiffReport, Operand
from gncli.report.pair_records import DIFFERENT, IDENTICAL, ONLY_A, ONLY_B, UNREADABLE, PairRow, PairsReport
from gncli.report.records import MAX_BROKEN, Broken, Failure
from gncli.run.engine import Engine
from gncli.run.plan import Plan
from gncli.tasks.manifest import matches, unmatched
from gncli.tasks.order import Chosen
from gncli.tasks.requests import BY_NAME, WHOLE, Diff, Pairing
from gncli.text import natural

VISIT_NBYTES = 1 << 21  # of both tensors, that are read before they are compared, and stay in the cache
PIECE_NBYTES = 1 << 18  # that are compared at a time, and stay in the cache

Compare = Callable[..., DiffReport]


def many(sides: Sequence[Listing], request: Diff) -> bool:
    """Return whether two listings are compared tensor by tensor, and not as two tensors.

    Raises
    ------
    ParameterError
        If the request has options of the other kind.
    """
    named = not any(side.lone for side in sides[:2])
    if not (named and (request.pairing != BY_NAME or any(side.many for side in sides[:2]))):
        if request.pairing != BY_NAME:
            options = "--map, --match, --fail-fast, --only-different, --expect-unchanged and --expect-changed"
            raise ParameterError(f"{options} are about files or folders of tensors, and there are only two tensors")
        given = [name for name, value in request.choice._asdict().items() if value is not None]
        if given and request.cutting == WHOLE:
            problem = (
                f"--{given[0]} is about cells, or about files or folders of tensors, and there are only two tensors"
            )
            raise ParameterError(problem, hint="--by C compares them channel by channel")
        described = [name for name in request.choice.names if name in ("shape", "dtype")]
        if described:
            raise ParameterError(f"--where: {described[0]} is about pairs of many tensors, and not about cells")
        return False
    alone = {
        "--layout A,B": request.layouts is not None,
        "--by": request.cutting != WHOLE,
        "-o": request.output.path is not None,
        "--hist": request.bins is not None,
        "--plot": request.picture is not None,
    }
    if len(sides) > 2 and sides[2].lone:
        problem = "is one tensor, and --baseline takes one for each of many pairs"
        raise ParameterError(problem, subject=sides[2].name, hint="give a file or folder of tensors")
    if wrong := [option for option, given in alone.items() if given]:
        hint = "name one on each side, as FILE::NAME"
        raise ParameterError(f"{wrong[0]} is about two tensors, and there are many", hint=hint)
    return True


class Match(NamedTuple):
    """The tensors of one name: what they are called in each file, None where there is none; `c` is of the baseline."""

    name: str
    a: str | None
    b: str | None
    c: str | None = None


def matched(a: Sequence[str], b: Sequence[str], pairing: Pairing, c: Sequence[str] = ()) -> list[Match]:
    """Return the names of both sides in natural order, each with the members that have it.

    Raises
    ------
    ParameterError
        If ``--map`` makes two names one, a pattern matches no name, or no name is on both sides.

    Examples
    --------
    >>> [tuple(match) for match in matched(["l.10", "l.9"], ["/l.9", "/m"], Pairing())]
    [('l.9', 'l.9', '/l.9', None), ('l.10', 'l.10', None, None), ('m', None, '/m', None)]
    """
    left = _named(a, pairing.renames)
    right, accepted = _named(b, ()), _named(c, ())
    names = sorted(left.keys() | right.keys(), key=natural)
    chosen = [name for name in names if pairing.match is None or matches(name, pairing.match)]
    if not chosen:
        raise unmatched("--match", pairing.match, len(names), names[0])
    if not any(name in left and name in right for name in chosen):
        some = [list_names([name for name in chosen if name in side][:3]) or "none" for side in (left, right)]
        problem = f"no tensor has the same name on both sides: A has {some[0]}, B has {some[1]}"
        raise ParameterError(problem, hint="--map 'REGEX=TEXT' renames the tensors of A")
    for option, patterns in (("--expect-unchanged", pairing.unchanged), ("--expect-changed", pairing.changed)):
        for pattern in patterns:
            if not any(matches(name, pattern) for name in chosen):
                raise unmatched(option, pattern, len(chosen), chosen[0])
    return [Match(name, *(side.get(name) for side in (left, right, accepted))) for name in chosen]


def _named(members: Sequence[str], renames: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Return the members of a file by the names that they are paired by; that of HDF5 has no leading slash."""
    found: dict[str, str] = {}
    for member in members:
        name = member.removeprefix("/").replace("::/", "::")
        for pattern, text in renames:
            try:
                name = re.sub(pattern, text, name)
            except re.error as error:
                raise ParameterError(f"--map {f'{pattern}={text}'!r} is no replacement: {error}") from error
        if name in found:
            raise ParameterError(f"--map makes two names one: {found[name]} and {member} both become {name}")
        found[name] = member
    return found


class PairsRun:
    """A comparison of the tensors of two files or folders.

    Parameters
    ----------
    sides : sequence of Listing
        Both sides, and the baseline if there is one, which are closed by those who opened them.
    request : Diff
        The options.
    engine : Engine
        Runs the passes.
    compare : callable
        Returns the report about two tensors of one name.
    """

    def __init__(self, sides: Sequence[Listing], request: Diff, engine: Engine, compare: Compare) -> None:
        self._sides, self._request, self._engine, self._compare = sides, request, engine, compare
        a, b, *c = (side.members for side in sides)
        self._matches = matched(a, b, request.pairing, *c)
        self._broken: list[str] = []
        self._notes: dict[str, None] = {}

    def report(self) -> PairsReport:
        """Compare all pairs, or as many as are wanted; one that cannot be read is a row."""
        request, pairing = self._request, self._request.pairing
        chosen: Chosen[PairRow] = Chosen(request.choice, difference, request.most_pairs)
        failures: list[Failure] = []
        counts: Counter[str] = Counter()
        first, failed, status = None, False, 0
        with contextlib.closing(self._rows()) as every:
            for row in every:
                counts[row.verdict] += 1
                first = first or (row if row.verdict == DIFFERENT else None)
                failed |= row.fails
                status = max(status, 0 if row.error is None else row.error.status)
                if row.error is not None:
                    failures.append(Failure(row.name, row.error))
                    chosen.add_unread(row)
                elif not (pairing.only_different and row.same):
                    chosen.add(row)
                if row.fails and pairing.fail_fast:
                    break
        shown = chosen.rows()
        return PairsReport(
            a=io.name_of(request.a),
            b=io.name_of(request.b),
            rows=tuple(shown),
            more=chosen.total - len(shown),
            failures=tuple(failures),
            selected=request.statistics,
            counts=counts,
            first=first,
            left=len(self._matches) - counts.total(),
            broken=Broken(tuple(self._broken[:MAX_BROKEN]), len(self._broken)),
            gated=bool(pairing.unchanged or pairing.changed),
            failed=failed,
            error=status,
            skipped=tuple(
                (io.name_of(name), side.skipped)
                for name, side in zip((request.a, request.b), self._sides, strict=False)
                if side.skipped
            ),
            notes=(*self._notes, *self._engine.notes, *chosen.left_out("pairs")),
        )

    def _rows(self) -> Generator[PairRow, None, None]:
        columns = list(zip(*(match[1:] for match in self._matches), strict=True))
        members = [[member for member in column if member is not None] for column in columns]
        openers = [side.opening(some) for side, some in zip(self._sides, members, strict=False)]
        for match in self._matches:
            self._engine.rest()  # a file may be tried in a forked process, and only a process of one thread may fork
            with contextlib.ExitStack() as stack:
                opening = [None if name is None else next(each) for name, each in zip(match[1:], openers, strict=False)]
                try:
                    sources = [None if opened is None else stack.enter_context(opened()) for opened in opening]
                    row = self._row(match.name, *sources)
                except GncliError as error:
                    row = PairRow(name=match.name, verdict=UNREADABLE, error=error)
            yield self._judged(row)

    def _row(self, name: str, a: Source | None, b: Source | None, *baseline: Source | None) -> PairRow:
        left, right = (None if source is None else operand(source) for source in (a, b))
        if a is None or b is None:
            return PairRow(name=name, verdict=ONLY_A if b is None else ONLY_B, a=left, b=right)
        same_bits = identical(a, b, self._engine)
        if same_bits and not (self._request.nan_differs and a.dtype.kind == "f"):
            self._notes |= dict.fromkeys((*a.notes, *b.notes))
            return PairRow(name=name, verdict=IDENTICAL, a=left, b=right)
        if None in baseline:
            raise InputError(f"the baseline {self._sides[2].name} has no tensor of this name")
        report = self._compare(a, b, *baseline)
        self._notes |= dict.fromkeys(report.notes)
        verdict = IDENTICAL if report.equal and same_bits else report.verdict.lower()
        return PairRow(name=name, verdict=verdict, a=left, b=right, report=report)

    def _judged(self, row: PairRow) -> PairRow:
        """Return a row with whether it fails: where expectations are given, they decide about pairs."""
        pairing = self._request.pairing
        if row.error is not None:
            return row
        if not (pairing.unchanged or pairing.changed):
            return replace(row, fails=not row.same)
        whole = row.verdict == IDENTICAL
        option, patterns = ("--expect-changed", pairing.changed) if whole else ("--expect-unchanged", pairing.unchanged)
        broken = [pattern for pattern in patterns if matches(row.name, pattern)]
        self._broken += [f"{row.name}: is {row.verdict} ({option} {pattern!r})" for pattern in broken]
        return replace(row, fails=bool(broken) or row.verdict in (ONLY_A, ONLY_B))


def operand(source: Source) -> Operand:
    """Return what a report says of a tensor that is compared."""
    return Operand(source.name, source.shape, source.dtype_name, source.not_stored)


def identical(a: Source, b: Source, engine: Engine) -> bool:
    """Return whether two tensors have one dtype and shape, and equal bits in every element, whatever their byte order.

    Both are read no further than to the first visit that differs.
    """
    if (a.dtype_name, a.shape) != (b.dtype_name, b.shape):
        return False
    with contextlib.ExitStack() as stack:
        pair = paired(stack, Stored(a), Stored(b))
        plan = Plan.of(pair, whole(pair.shape), engine, lambda _walk, _once: ("compare",), most=VISIT_NBYTES).begin()
        return all(same for _, same in plan.visits(_SameBits(pair)))


class _SameBits:
    """Whether the elements of a visit have equal bits."""

    def __init__(self, pair: Pair) -> None:
        self._split = pair.split
        self._step = max(1, PIECE_NBYTES // pair.a.dtype.itemsize)

    def __call__(self, visit: Visit) -> bool:
        a, b = map(_bits, self._split(visit.values))
        starts = range(0, a.size, self._step)
        return all(np.array_equal(a[start : start + self._step], b[start : start + self._step]) for start in starts)


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return elements as unsigned integers of their byte order."""
    order = values.dtype.byteorder if values.dtype.itemsize > 1 else "|"
    return values.view(f"{order}u{values.dtype.itemsize}")


def difference(row: DiffCell | PairRow, name: str) -> Any:
    """Return what cells and pairs are chosen by; what differs by a NaN or an infinity lies infinitely far apart."""
    if name == "name":
        return row.key
    if isinstance(row, PairRow) and name in ("shape", "dtype"):
        return getattr(row.a or row.b, name)
    return math.inf if name == "max" and (row.number("nan") or row.number("inf")) else row.number(name)
