"""The sentences under a table, or on stderr beside data: what was done, the check, the seed, what was skipped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gncli.names import CELL_STATISTICS, statistic
from gncli.text import printable

if TYPE_CHECKING:
    from gncli.kernels.gradients import GradientCheck
    from gncli.kernels.groupnorm import Check
    from gncli.report.diff_records import DiffReport
    from gncli.report.normalize_records import NormalizeReport, Parameters
    from gncli.report.records import Broken, Rounded, TensorStats


def place_line(place: Mapping[str, int], note: str = "") -> str:
    """Return the place of a cell in words.

    Examples
    --------
    >>> place_line({"N": 0, "G": 3}, "channels 12-15"), place_line({"0": 3})
    ('N 0  G 3  channels 12-15', 'axis 0: 3')
    """
    places = [f"axis {name}: {at}" if name.isdecimal() else f"{name} {at}" for name, at in place.items()]
    return "  ".join([*places, *filter(None, [note])])


def stats_line(stats: TensorStats, selected: Sequence[str] = ()) -> str:
    """Return a tensor in a line: what it is, and some of its statistics.

    Examples
    --------
    >>> from gncli.report.records import TensorStats
    >>> stats_line(TensorStats((2, 3), "float32", {"mean": 1 / 3}, "x.npy"))
    'x.npy: float32 (2, 3), mean 0.333333'
    """
    names = [name for name in selected or CELL_STATISTICS if statistic(name).reads and stats.has(name)]
    values = [(name, stats.value(name)) for name in names]
    told = [f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in values]
    cells = [] if stats.cells is None else [f"{stats.cells.total:,} cells"]
    return printable(f"{stats.name}: " if stats.name else "") + ", ".join(
        [f"{stats.dtype} {stats.shape}", *told, *cells]
    )


def seed_lines(seed: int | None) -> list[str]:
    """Return the line about a seed that gncli chose; None is no line."""
    return [] if seed is None else [f"seed {seed} (chosen; --seed {seed} draws the same again)"]


def skipped_lines(skipped: Sequence[tuple[str, int]]) -> list[str]:
    """Return one line per container of which datasets were skipped."""
    return [f"{printable(container)}: {counted(count, 'dataset')} skipped, not numeric" for container, count in skipped]


def broken_lines(broken: Broken) -> list[str]:
    """Return the expectations that did not hold: the first ones, then how many more."""
    lines = [f"expectation failed: {printable(text)}" for text in broken.first]
    more = broken.total - len(lines)
    return lines + ([f"expectation failed: {more:,} more"] if more else [])


def check_line(report: NormalizeReport) -> str:
    """Return the check in one line: what failed if anything did, how near to its bound it came, and odd groups."""
    check, parameters = report.check, report.parameters
    if check is None:
        return "check: skipped (--no-verify)"
    causes = check_failures(report)
    found = [counted(check.groups, noun(parameters))]
    errors = [error for error in (check.mean_error, check.var_error) if error is not None]
    if errors and all(error <= 1 for error in errors):
        plain = (parameters.gamma, parameters.gamma_offset, parameters.beta) == (1, 0, 0)
        after = parameters.activation if plain else "gamma and beta"
        where = "" if after is None else f" before {after}"
        found.append(f"worst error {percent(max(errors))} of the rounding bound{where}")
    odd = {"constant": check.constant_groups, "with NaN or infinity": check.nonfinite_groups}
    if check.new_nan and not causes:  # "ok" alone would be misread
        spoiled, elements = counted(odd.pop("with NaN or infinity"), "group"), counted(check.new_nan, "element")
        found[0] = f"{spoiled} held NaN or infinity and became NaN ({elements})"
    found += [f"{groups} {what}" for what, groups in odd.items() if groups]
    verdict = f"FAILED: {' and '.join(causes)};" if causes else "ok,"
    if check.new_nan and not causes:
        verdict = f"{check.groups - check.nonfinite_groups:,} of {counted(check.groups, 'group')} ok;"
    return f"check: {verdict} {', '.join(found)}{proved_words(check.proved, check.settled)}{lost_words(check)}"


def damping_lines(report: NormalizeReport) -> list[str]:
    """Return the note about groups whose deviation is not near 1, because eps is no small part of var + eps."""
    check = report.check
    if check is None or check.eps_share is None or report.parameters.denominator != "std":
        return []
    share, several = check.eps_share, check.damped_groups > 1
    up, down, their = ("up to ", "as little as ", "their") if several else ("", "", "its")
    return [
        f"eps is {up}{percent(share)} of var + eps in {counted(check.damped_groups, 'group')}: "
        f"{their} deviation is {down}{math.sqrt(1 - share):.2g}, not 1"
    ]


def proved_words(proved: int | None, settled: int | None) -> str:
    """Return how many elements are correctly rounded; nothing if there are none, and for an output of float64."""
    elements = (proved or 0) + (settled or 0)
    if not elements:
        return ""
    more = f", {settled:,} of them settled in higher precision" if settled else ""
    return f"; {elements:,} element{'' if elements == 1 else 's'} proved correctly rounded{more}"


def lost_words(check: Check | GradientCheck) -> str:
    """Return how many results overflowed and were allowed to, and how many became 0; nothing if none did."""
    found = [_overflowed(check.overflow, check.overflowed)] if check.overflow and check.overflowed else []
    found += [f"{check.became_zero:,} became 0"] if check.became_zero else []
    return f"; {', '.join(found)}" if found else ""


def _overflowed(overflow: str | None, count: int) -> str:
    return f"{count:,} overflowed ({'saturated' if overflow == 'saturate' else 'not finite'})"


def rounded_lines(rounded: Rounded | None) -> list[str]:
    """Return the line about results that were rounded to a dtype that NumPy lacks; None is no line.

    Examples
    --------
    >>> from gncli.report.records import Rounded
    >>> rounded_lines(Rounded("float8_e5m2", "saturate", 0, 1200))
    ['rounded to float8_e5m2: 0 overflowed (saturated), 1,200 became 0']
    """
    if rounded is None:
        return []
    counts = f"{_overflowed(rounded.overflow, rounded.overflowed)}, {rounded.became_zero:,} became 0"
    return [f"rounded to {rounded.dtype}: {counts}"]


def check_failures(report: NormalizeReport) -> list[str]:
    """Return what failed in the check."""
    check = report.check
    assert check is not None  # it was asked for
    errors = {"mean": check.mean_error, "variance": check.var_error}
    cell = noun(report.parameters)
    causes = [
        f"the {name} of a {cell} is off by {error:.3g} times the rounding bound"
        if math.isfinite(error)
        else f"the {name} of a {cell} is undefined"
        for name, error in errors.items()
        if error is not None and not error <= 1
    ]
    dtype = report.parameters.dtype
    if check.failures:
        causes.append(f"{counted(check.failures, 'result')} beyond the largest {dtype}")
    if check.misrounded:
        causes.append(f"{counted(check.misrounded, 'element')} not rounded to the nearest {dtype}")
    return causes


def noun(p: Parameters) -> str:
    """Return what a cell is called: a group, a channel if the moments are given, or a cell of other axes."""
    return "group" if p.groups is not None else "channel" if p.over is None else "cell"


def verdict_line(report: DiffReport) -> str:
    """Return the verdict in one line, with what decides it."""
    from gncli.report.gates import sentence  # which only comparisons have

    return sentence(report.gates)


def output_line(output: str | None, *, written: bool = True) -> str:
    """Return where the result went."""
    if output is None:
        return "nothing written (no -o)"
    return f"written to {printable(output)}" if written else f"nothing written to {printable(output)}"


def done_line(p: Parameters) -> str:
    """Return what was computed, with every default resolved."""
    layout = None if p.layout is None else f"layout {p.layout}"
    if p.groups is not None and p.group_size is not None:
        kind = "interleaved group" if p.interleaved else "group"
        cells = f"{counted(p.groups, kind)} of {counted(p.group_size, 'channel')}"
    elif p.over is not None:
        cells = f"over {printable(p.over)}, {counted(math.prod(p.cells), noun(p))}"
    else:
        cells = f"{counted(math.prod(p.cells), noun(p))}, mean {_exact(p.mean)}, var {_exact(p.var)}"
    per = "" if p.gamma_axes is None else f" on {printable(p.gamma_axes)}"
    per = " per group" if p.gamma_per_group else per
    gamma, beta = (_exact(each) + per * isinstance(each, str) for each in (p.gamma, p.beta))
    gamma = f"{_exact(p.gamma_offset)} + {gamma}" if p.gamma_offset else gamma
    parts = [
        layout,
        cells,
        "rms" if p.rms else None,
        f"eps {_exact(p.eps)}",
        "rounded before gamma and beta" if p.round_before_affine else None,
        f"gamma {gamma}, beta {beta}",
        p.activation,
        f"denominator {p.denominator}, dtype {p.dtype}",
    ]
    return ", ".join(filter(None, parts))


def more_lines(more: int) -> list[str]:
    """Return the line that says how many cells a table leaves out, if it does."""
    return [f"... {more:,} more; --format csv for all"] if more > 0 else []


def _exact(given: float | str | None) -> str:
    return printable(given) if isinstance(given, str) else repr(given).removesuffix(".0")


def percent(fraction: float) -> str:
    """Return a fraction in percent.

    Examples
    --------
    >>> percent(0.0112), percent(0.999), percent(0.0), percent(1e-9)
    ('1.1 %', '100 %', '0 %', 'less than 0.01 %')
    """
    percent = 100 * fraction
    if 0 < percent < 0.01:
        return "less than 0.01 %"
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def file_of(names: Sequence[str]) -> str:
    """Return what the names of several tensors begin with, to the last ``::`` that all of them share.

    Examples
    --------
    >>> file_of(["a.pt::x", "a.pt::y.z"]), file_of(["d::a.pt::x", "d::a.pt::y"]), file_of(["d::a::x", "d::b"])
    ('a.pt::', 'd::a.pt::', 'd::')
    >>> file_of(["a.pt::x", "b.pt::x"]), file_of(["a.pt::x"])
    ('', '')
    """
    parts = [name.split("::")[:-1] for name in names] if len(names) > 1 else [[]]
    shared = itertools.takewhile(lambda same: len(set(same)) == 1, zip(*parts, strict=False))
    return "".join(f"{part}::" for part, *_ in shared)
