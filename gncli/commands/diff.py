"""``gncli diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gncli.commands import MOST_JSON_CELLS, error_line, options, say_broken, session, show, suggest, terminal
from gncli.commands.side_files import SideFiles

if TYPE_CHECKING:
    from gncli.inputs import Policy
    from gncli.tasks.requests import Cutting, Execution, Output, Pairing

_output = click.option("-o", "--output", metavar="OUT", help="Write a - b to FILE.npy or FILE.h5[::NAME].")


@click.command(cls=options.Command)
@click.argument("a", metavar="A", shell_complete=suggest.tensors)
@click.argument("b", metavar="B", shell_complete=suggest.tensors)
@options.rtol
@options.atol
@options.max_fraction
@options.nan_differs
@options.cutting
@options.pairing
@options.writing(_output, options.force)
@options.charts
@options.permitting
@options.common
def diff(
    a: str,
    b: str,
    rtol: float | None,
    atol: float | None,
    max_fraction: float,
    nan_differs: bool,
    cutting: Cutting,
    pairing: Pairing,
    output: Output,
    charts: options.Charts,
    policy: Policy,
    look: options.Look,
    execution: Execution,
) -> int:
    """Compare A with the reference B, tensors or files of tensors.

    \b
    gncli diff y.npy expected.npy
    gncli diff y.npy model.h5::/out --rtol 1e-3 --atol 1e-5
    gncli normalize x.npy -G 4 -o - | gncli diff y.npy -   is y the group norm?
    gncli diff y.npy expected.npy --by C                   which channel is worst
    gncli diff y.npy expected.npy -o delta.npy --hist      a - b, its histogram
    gncli diff y.npy expected.npy --plot d.png             where they differ
    gncli diff before/ after.safetensors --sort -rel       all tensors, by name
    gncli diff a.h5 b.npz --map '^/?model/=' --fail-fast   which layer is first
    gncli diff a/ b/ --expect-unchanged 'backbone.*'       what training changed
    gncli diff a/ b/ --report r.html                       tables that sort

    The verdict is SAME, exit status 0, if |a - b| <= atol + rtol |b| for every element, and NaN and infinities are
    where B has them. Otherwise it is DIFFERENT, exit status 1. Files of several tensors, folders and checkpoints in
    shards are compared tensor by tensor, in natural order of their names; a name on one side only is a difference.
    """
    if output.path == "-":
        raise click.UsageError("stdout carries the report; write a - b to a file")
    shown = charts.shown(look.form)
    options.named_tensors((a, b), None)
    with session(look):
        from gncli.report.pair_records import PairsReport
        from gncli.tasks.diff import DiffRun
        from gncli.tasks.requests import Diff

        request = Diff(
            a=a,
            b=b,
            rtol=rtol,
            atol=atol,
            max_fraction=max_fraction,
            nan_differs=nan_differs,
            cutting=cutting,
            pairing=pairing,
            bins=shown,
            picture=charts.picture,
            page=charts.bins if look.file_form == "html" else None,
            most_cells=MOST_JSON_CELLS if "json" in look.forms else None,
            output=output,
            policy=policy,
            execution=execution,
        )
        with SideFiles(look, charts, output.force, (a, b), (output.path,)) as files, DiffRun(request) as run:
            report = run.report()
            files.write(report)
            run.commit()
            files.commit()
    show(report, look)
    if isinstance(report, PairsReport):
        for row in report.rows:
            if row.error is not None:
                terminal.say(error_line(row.error.about(row.name)))
        say_broken(report.broken)
    return report.status
