"""``gncli stats``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from gncli.commands import (
    MOST_CELLS,
    MOST_JSON_CELLS,
    Beside,
    bins_shown,
    check_cells,
    error_line,
    look_of,
    operations,
    options,
    show,
    suggest,
    terminal,
)
from gncli.names import Distribution

if TYPE_CHECKING:
    from gncli.report.records import StatsReport
    from gncli.report.stream import CellStream


@click.command(cls=options.Command)
@click.argument("tensors", metavar="[TENSOR]...", nargs=-1, shell_complete=suggest.tensors)
@options.statistics
@click.option(
    "--ddof",
    type=click.IntRange(0, 1),
    metavar="N",
    default=0,
    help="Divide by n - N in std and var: 0, as np.std does, or 1; default: 0.",
)
@options.by
@options.groups
@options.group_size
@options.layout
@options.hist
@options.bins
@options.plot
@options.force
@options.expect
@options.match
@options.sort
@options.total
@options.drawing
@options.dtype
@options.permitting
@options.distributing
@options.common
def stats(
    tensors: tuple[str, ...],
    statistics: tuple[str, ...] | None,
    by: str | None,
    num_groups: int | None,
    group_size: int | None,
    hist: bool,
    bins: int,
    sort: str | None,
    random: tuple[int, ...] | None,
    dist: Distribution | None,
    seed: int | None,
    dtype: str | None,
    **rest: Any,
) -> int:
    """Describe tensors: shape, mean, deviation, extremes and more.

    \b
    gncli stats x.npy
    gncli stats x.npy -s mean,median,p99.9 --format value
    gncli stats x.npy --by C -s std,zeros,nan           which channel is dead
    gncli stats x.npy --by group --groups 4
    gncli stats x.npy --hist --bins 32
    gncli stats x.npy --by N,C --plot x.png
    gncli stats x.npy --expect 'nan == 0' --expect 'abs(mean) < 1e-6'
    gncli stats *.npy model.h5 --match '*norm*' --sort -std --total
    gncli stats --random 64,16,112,112 --seed 0
    """
    look = look_of(rest)
    form = look["form"]
    check_cells(by, num_groups, group_size, rest["layout"])
    if by is not None and (hist or sort is not None):
        raise click.UsageError(f"{'--hist' if hist else '--sort'} is about whole tensors; leave out --by")
    shown = bins_shown(hist, bins, form)
    draw = options.drawn(random, dist, seed, dtype)
    names = options.named_tensors(tensors, draw)
    chosen = statistics or ()
    beside = Beside(rest, look["precision"], names)
    forms = [each for each in (form, beside.form) if each is not None]
    operations()
    from gncli.tasks.requests import Cutting, Execution, Stats
    from gncli.tasks.stats import StatsRun

    streams = streamed(forms, chosen, beside) if by is not None else []
    keep, most = cells_kept(forms, len(streams))
    run = StatsRun(
        Stats(
            tensors=names,
            random=draw,
            statistics=chosen,
            ddof=rest["ddof"],
            cutting=Cutting(by=by, layout=rest["layout"], num_groups=num_groups, group_size=group_size),
            bins=shown,
            picture=bins if beside.draws else None,
            zeros=not options.OBJECT_FORMATS.isdisjoint(forms),
            expect=rest["expect"],
            match=rest["match"],
            sort=sort,
            total=rest["total"],
            keep_cells=keep,
            most_cells=most if by is not None else None,
            policy=rest["policy"],
            execution=Execution(**{name: rest[name] for name in ("workers", "tile", "executor", "scheduler")}),
        )
    )
    with contextlib.closing(run.cells()) as batches:
        for tensor, cells in batches:
            for stream, take in streams:
                take(stream.rows(tensor, cells))
    report = run.report
    if len(report.tensors) == len(report.failures) == 1:
        raise report.failures[0].error
    beside.write(report)
    beside.commit()
    show(report, **look)
    for failure in report.failures:
        terminal.say(error_line(failure.error.about(failure.name)))
    say_broken(report)
    return report.status


def streamed(
    forms: Sequence[str], chosen: tuple[str, ...], beside: Beside
) -> list[tuple[CellStream, Callable[[str], None]]]:
    """Return the forms of the report, on stdout and then in a file, that show all cells, and where each goes."""
    from gncli.report.stream import STREAMED, CellStream

    return [
        (CellStream(form, chosen), take)
        for form, take in zip(forms, (terminal.deliver, beside.append), strict=False)
        if form in STREAMED
    ]


def cells_kept(forms: Sequence[str], num_streams: int) -> tuple[int, int | None]:
    """Return how many cells a report in these forms keeps, and how many a tensor may have."""
    if num_streams == len(forms):
        return 0, None
    return (MOST_JSON_CELLS, MOST_JSON_CELLS) if "json" in forms else (MOST_CELLS, None)


def say_broken(report: StatsReport) -> None:
    """Say on stderr which expectations did not hold."""
    if report.broken.total:
        from gncli.report.lines import broken_lines

        for line in broken_lines(report.broken):
            terminal.say(f"gncli: {line}")
