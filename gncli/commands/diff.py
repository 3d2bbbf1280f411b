"""``gncli diff``."""

from __future__ import annotations

from typing import Any

import click

from gncli import options
from gncli.commands import HIST_FORMS, MOST_JSON_CELLS, look_of, operations, show
from gncli.describe import DiffReport


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@options.rtol
@options.atol
@options.max_fraction
@options.nan_differs
@options.by
@options.groups
@options.group_size
@options.layout
@options.output
@options.force
@options.hist
@options.bins
@options.permitting
@options.common
def diff(
    a: str,
    b: str,
    by: str | None,
    num_groups: int | None,
    group_size: int | None,
    output: str | None,
    hist: bool,
    bins: int,
    **rest: Any,
) -> int:
    """Compare tensor A with the reference B, and give a verdict.

    \b
    gncli diff y.npy expected.npy
    gncli diff y.npy model.h5::/out --rtol 1e-3 --atol 1e-5
    gncli normalize x.npy -G 4 -o - | gncli diff expected.npy -
    gncli diff y.npy expected.npy --by C                 which channel differs most
    gncli diff y.npy expected.npy -o delta.npy --hist    a - b, and its histogram

    SAME: |a - b| <= atol + rtol |b| everywhere, and NaN and infinities where b has them: status 0; DIFFERENT: 1.
    """
    look = look_of(rest)
    form = look["form"]
    if num_groups is not None and group_size is not None:
        raise click.UsageError("either --groups or --group-size, not both")
    if by is None and (num_groups, group_size, rest["layout"]) != (None, None, None):
        raise click.UsageError("--groups, --group-size and --layout are about cells; give --by too")
    if output == "-":
        raise click.UsageError("stdout carries the report; write a - b to a file")
    if hist and form not in HIST_FORMS:
        raise click.UsageError(f"{form} has no place for a histogram; choose --format {', '.join(HIST_FORMS)}")
    options.named_tensors((a, b), None)
    report: DiffReport = operations().diff(
        a,
        b,
        by=by,
        num_groups=num_groups,
        group_size=group_size,
        output=output,
        bins=bins if hist else None,
        most_cells=MOST_JSON_CELLS if form == "json" else None,
        **rest,
    )
    show(report, **look)
    return report.status
