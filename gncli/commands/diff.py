"""``gncli diff``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gncli.commands import MOST_JSON_CELLS, error_line, options, say_broken, session, show, suggest, terminal
from gncli.commands.side_files import SideFiles

if TYPE_CHECKING:
    from gncli.inputs import Policy
    from gncli.tasks.requests import Choice, Criteria, Execution, Output, Pairing

_output = click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="Write a - b to FILE.npy, FILE.h5[::NAME], FILE.safetensors[::NAME] or FILE.zarr[::NAME].",
)


def most_pairs(forms: Sequence[str], statistics: Sequence[str]) -> int | None:
    """Return how many pairs the forms of a report show at most; None for all, as numbers alone are."""
    from gncli.report.document import MOST_ROWS, MOST_ROWS_OF_A_PAGE

    shown = {"table": MOST_ROWS, "svg": MOST_ROWS, "markdown": MOST_ROWS, "html": MOST_ROWS_OF_A_PAGE}
    shown |= {} if statistics else {"value": 0}
    return max(shown[form] for form in forms) if shown.keys() >= set(forms) else None


@click.command(cls=options.Command)
@click.argument("a", metavar="A", shell_complete=suggest.tensors)
@click.argument("b", metavar="B", shell_complete=suggest.tensors)
@options.rtol
@options.atol
@options.max_fraction
@options.nan_differs
@options.criteria
@options.compared
@options.numbers
@options.choosing_differences
@options.pairing
@click.option(
    "--dtype",
    type=options.DtypeName(),
    shell_complete=suggest.words(*options.FLOAT_DTYPES),
    metavar="DTYPE",
    help=f"Dtype of a - b in OUT: {', '.join(options.FLOAT_DTYPES)}; default: that of A and B.",
)
@options.writing(_output, options.overflow, options.npy_bits, options.force)
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
    criteria: Criteria,
    compared: options.Compared,
    statistics: tuple[str, ...] | None,
    choice: Choice,
    pairing: Pairing,
    dtype: str | None,
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
    gncli diff y.npy nhwc.npy --layout NCHW,NHWC           axes in another order
    gncli diff y16.npy y64.npy --baseline torch16.npy      is y as good as torch?
    gncli diff y16.npy y64.npy --baseline torch16.npy --factor 3 --atol 1e-6
    gncli diff y.npy expected.npy --max-ulp 4              in its own last digits
    gncli diff y.npy ref.npy --max-ulp 4 --near-zero 1e-3  those of 1e-3 below
    gncli diff y16.npy y64.npy --faithful                  truncation passes too
    gncli diff y.npy ref.npy --atol 1 --allow-vacuous      zeros would pass too
    gncli diff run1.npy run2.npy --exact                   bit for bit
    gncli diff y.npy expected.npy --by C                   which channel is worst
    gncli diff y.npy expected.npy --by C -s slope,offset   what it was scaled by
    gncli diff y.npy expected.npy -o delta.npy --hist      a - b, its histogram
    gncli diff y.npy expected.npy --plot d.png             where they differ
    gncli diff before/ after.safetensors --sort -rel       all, the worst first
    gncli diff a/ b/ --where 'rel>0.01' --sort -rel        which differ most
    gncli diff a.h5 b.npz --map '^/?model/=' --fail-fast   which layer is first
    gncli diff a/ b/ --match 'layers.*' --only-different   the same left out
    gncli diff a/ b/ --expect-unchanged 'backbone.*'       what training changed
    gncli diff a/ b/ --expect-changed 'head.*'             what must have changed
    gncli diff a/ b/ --report r.html                       tables that sort

    The verdict is SAME, exit status 0, if |a - b| <= atol + rtol |b| for every element, and NaN and infinities are
    where B has them. Otherwise it is DIFFERENT, exit status 1. --baseline, --max-ulp, --faithful and --exact set other
    conditions. The verdict is INCONCLUSIVE, exit status 1, if a tensor of zeros would be SAME too, if B holds no finite
    element, or if the error of the baseline is above a tenth of the root mean square of B.

    Files of several tensors, folders and checkpoints in
    shards are compared tensor by tensor, in natural order of their names; a name on one side only is a difference.
    """
    if output.path == "-":
        raise click.UsageError("stdout carries the report; write a - b to a file")
    if dtype is not None and output.path is None:
        raise click.UsageError("--dtype is about a - b in a file; give -o OUT too")
    inputs = (a, b, criteria.baseline) if isinstance(criteria.baseline, str) else (a, b)
    shown = charts.shown(look.form)
    options.named_tensors(inputs, None)
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
            criteria=criteria,
            layouts=compared.layouts,
            cutting=compared.cutting,
            pairing=pairing,
            statistics=statistics or (),
            choice=choice,
            bins=shown,
            scale=charts.scale,
            picture=charts.picture,
            page=charts.bins if look.file_form == "html" else None,
            most_cells=MOST_JSON_CELLS if "json" in look.forms else None,
            most_pairs=most_pairs(look.forms, statistics or ()),
            output=output,
            dtype=dtype,
            policy=policy,
            execution=execution,
        )
        with SideFiles(look, charts, output.force, inputs, (output.path,)) as files, DiffRun(request) as run:
            report = run.report()
            files.write(report)
            run.commit()
            files.commit()
    show(report, look)
    if isinstance(report, PairsReport):
        for failure in report.failures:
            terminal.say(error_line(failure.error.about(failure.name)))
        say_broken(report.broken)
    return report.status
