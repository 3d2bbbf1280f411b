"""``gncli diff``."""

from __future__ import annotations

from typing import Any

import click

from gncli.commands import MOST_JSON_CELLS, Beside, bins_shown, check_cells, look_of, operations, options, show, suggest


@click.command(cls=options.Command)
@click.argument("a", metavar="A", shell_complete=suggest.tensors)
@click.argument("b", metavar="B", shell_complete=suggest.tensors)
@options.rtol
@options.atol
@options.max_fraction
@options.nan_differs
@options.by
@options.groups
@options.group_size
@options.layout
@click.option("-o", "--output", metavar="OUT", help="Write a - b to FILE.npy or FILE.h5[::NAME].")
@options.force
@options.hist
@options.bins
@options.plot
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
    gncli normalize x.npy -G 4 -o - | gncli diff y.npy -   is y the group norm?
    gncli diff y.npy expected.npy --by C                   which channel is worst
    gncli diff y.npy expected.npy -o delta.npy --hist      a - b, its histogram
    gncli diff y.npy expected.npy --plot d.png             where they differ

    The verdict is SAME, exit status 0, where |a - b| <= atol + rtol |b| for every element and NaN and infinities stand
    where B has them; else DIFFERENT, exit status 1.
    """
    look = look_of(rest)
    form = look["form"]
    check_cells(by, num_groups, group_size, rest["layout"])
    if output == "-":
        raise click.UsageError("stdout carries the report; write a - b to a file")
    shown = bins_shown(hist, bins, form)
    options.named_tensors((a, b), None)
    operations()
    from gncli.tasks.diff import Comparison
    from gncli.tasks.requests import Cutting, Diff, Execution

    beside = Beside(rest, look["precision"], (a, b), (output,))
    request = Diff(
        a=a,
        b=b,
        rtol=rest["rtol"],
        atol=rest["atol"],
        max_fraction=rest["max_fraction"],
        nan_differs=rest["nan_differs"],
        cutting=Cutting(by=by, layout=rest["layout"], num_groups=num_groups, group_size=group_size),
        bins=shown,
        picture=bins if beside.draws else None,
        most_cells=MOST_JSON_CELLS if "json" in (form, beside.form) else None,
        output=output,
        force=rest["force"],
        policy=rest["policy"],
        execution=Execution(workers=rest["workers"], tile=rest["tile"]),
    )
    with Comparison(request) as comparison:
        report = comparison.report()
        beside.write(report)
        comparison.commit()
    beside.commit()
    show(report, **look)
    return report.status
