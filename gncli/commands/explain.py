"""``gncli explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gncli.commands import options, session, show, suggest
from gncli.commands.side_files import SideFiles

if TYPE_CHECKING:
    from gncli.inputs import Policy
    from gncli.tasks.requests import Execution


@click.command(cls=options.Command)
@click.argument("y", metavar="Y", shell_complete=suggest.tensors)
@click.argument("reference", metavar="[REF]", required=False, shell_complete=suggest.tensors)
@click.option(
    "--input",
    "x",
    metavar="TENSOR",
    help="The input that Y was made from, such as --input x.npy; instead of REF.",
    shell_complete=suggest.tensors,
)
@options.grouping
@options.force
@options.permitting
@options.common
def explain(
    y: str,
    reference: str | None,
    x: str | None,
    formula: options.Formula,
    force: bool,
    policy: Policy,
    look: options.Look,
    execution: Execution,
) -> int:
    """Say which eps, groups, layout or other convention made Y.

    \b
    gncli explain y.npy --input x.npy -G 8       what y is, if not 8 groups of x
    gncli explain y.npy --input x.npy -G 8 --gamma g.npy --beta b.npy
    gncli explain y.npy --input x.npy -G 8 --layout NHWC --format json
    gncli explain y.npy ref.npy -G 8             how two outputs of x.npy differ
    gncli normalize x.npy -G 8 -o - -q | gncli explain y.npy - -G 8

    --groups, --eps, --layout, --denominator, --gamma and --beta are what was meant; with REF, they are what made REF.
    Tried are, alone and in pairs: other eps, groups, layouts, interleaved groups, batch and layer statistics, no square
    root, N - 1 for N, gamma or beta missing, swapped or off by 1, a rounding before them, and relu, silu or gelu.

    Exit status 0 if one of them gives every element of Y within rounding; else 1, and the nearest are listed.
    """
    if (reference is None) == (x is None):
        raise click.UsageError("either another output REF, or --input TENSOR")
    given = str(reference if x is None else x)
    options.named_tensors((y, given), None, formula.gamma, formula.beta)
    with session(look):
        from gncli.tasks.explain import ExplainRun
        from gncli.tasks.requests import Explain

        request = Explain(
            y=y,
            given=given,
            is_input=x is not None,
            norm=formula.norm,
            gamma=formula.gamma,
            beta=formula.beta,
            policy=policy,
            execution=execution,
        )
        inputs = (y, given, formula.gamma, formula.beta)
        with SideFiles(look, None, force, inputs) as files, ExplainRun(request) as run:
            report = run.report()
            files.write(report)
            files.commit()
    show(report, look)
    return report.status
