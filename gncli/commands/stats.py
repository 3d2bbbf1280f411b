"""``gncli stats``."""

from __future__ import annotations

from typing import Any

import click

from gncli import options, process
from gncli.commands import HIST_FORMS, MOST_JSON_CELLS, error_line, look_of, operations, show
from gncli.describe import CELL_STATISTICS, DEFAULT_STATISTICS, Distribution, Failure, StatsReport


@click.command()
@click.argument("tensors", metavar="[TENSOR]...", nargs=-1)
@options.statistics
@click.option(
    "--ddof",
    type=click.IntRange(0, 1),
    metavar="N",
    default=0,
    help="Divide by n - N in std and var: 0 or 1; default: 0.",
)
@options.by
@options.groups
@options.group_size
@options.layout
@options.hist
@options.bins
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
    """Describe tensors: shape, mean, standard deviation, extremes, and more.

    \b
    gncli stats x.npy
    gncli stats x.npy -s mean,median,p99.9 --format value
    gncli stats x.npy --by C -s std,zeros,nan           which channel is dead
    gncli stats x.npy --by group --groups 4
    gncli stats x.npy --hist --bins 32
    gncli stats x.npy --expect 'nan == 0' --expect 'abs(mean) < 1e-6'
    gncli stats *.npy model.h5 --match '*norm*' --sort -std --total
    gncli stats --random 64,16,112,112 --seed 0
    """
    look = look_of(rest)
    form = look["form"]
    if num_groups is not None and group_size is not None:
        raise click.UsageError("either --groups or --group-size, not both")
    if by is None and (num_groups, group_size, rest["layout"]) != (None, None, None):
        raise click.UsageError("--groups, --group-size and --layout are about cells; give --by too")
    if by is not None and (hist or sort is not None):
        raise click.UsageError(f"{'--hist' if hist else '--sort'} is about whole tensors; leave out --by")
    if hist and form not in HIST_FORMS:
        raise click.UsageError(f"{form} has no place for a histogram; choose --format {', '.join(HIST_FORMS)}")
    draw = options.drawn(random, dist, seed, dtype)
    names = options.named_tensors(tensors, draw)
    chosen = options.measured(statistics, form, DEFAULT_STATISTICS if by is None else CELL_STATISTICS)
    cells: dict[str, Any] = {}
    if by is not None:
        from gncli.report import STREAMED, CellStream

        if form in STREAMED:
            stream = CellStream(form, chosen)
            cells = {"keep_cells": 0, "on_cells": lambda tensor, some: process.deliver(stream.rows(tensor, some))}
        elif form == "json":
            cells = {"keep_cells": MOST_JSON_CELLS, "most_cells": MOST_JSON_CELLS}
    report: StatsReport = operations().stats(
        names,
        random=draw,
        statistics=chosen,
        by=by,
        num_groups=num_groups,
        group_size=group_size,
        bins=bins if hist else None,
        sort=sort,
        **cells,
        **rest,
    )
    if len(report.tensors) == 1 and isinstance(report.tensors[0], Failure):
        raise report.tensors[0].error
    show(report, **look)
    for failure in report.failures:
        process.say(error_line(failure.error.about(failure.name)))
    say_broken(report)
    return report.status


def say_broken(report: StatsReport) -> None:
    """Say on stderr which expectations did not hold."""
    if report.broken.count:
        from gncli.report import broken_lines

        for line in broken_lines(report):
            process.say(f"gncli: {line}")
