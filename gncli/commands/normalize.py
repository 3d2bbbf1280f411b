"""``gncli normalize``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gncli.commands import (
    HIST_FORMS,
    Beside,
    check_grouping,
    look_of,
    operations,
    options,
    say_aside,
    show,
    suggest,
    terminal,
)
from gncli.errors import CheckFailed
from gncli.names import Distribution

if TYPE_CHECKING:
    from gncli.report.records import NormalizeReport


@click.command(cls=options.Command)
@click.argument("tensor", metavar="[TENSOR]", required=False, shell_complete=suggest.tensors)
@options.normalizing
@click.option(
    "--dtype",
    type=options.DtypeName(),
    shell_complete=suggest.words(*options.DRAWN_DTYPES),
    metavar="DTYPE",
    help="Dtype of the output: float16, float32, float64; default: as the input, if that is floating.",
)
@options.output
@options.compression
@options.force
@click.option("--in-place", is_flag=True, help="Write over the input, a .npy, once all is done; instead of -o.")
@click.option(
    "--save-moments",
    metavar="FILE.npz",
    help="Write mean, var and rstd of every group.",
    shell_complete=suggest.files(".npz"),
)
@click.option("--stages", is_flag=True, help="Show a column a stage, from input to output.")
@options.hist
@options.bins
@options.plot
@click.option("--no-verify", is_flag=True, help="Skip the check of the result.")
@options.drawing
@options.permitting
@options.distributing
@options.common
def normalize(
    tensor: str | None,
    num_groups: int | None,
    group_size: int | None,
    dtype: str | None,
    output: str | None,
    in_place: bool,
    no_verify: bool,
    hist: bool,
    bins: int,
    random: tuple[int, ...] | None,
    dist: Distribution | None,
    seed: int | None,
    **rest: Any,
) -> int:
    """Apply Group Normalization; show before, after and a check.

    \b
    gncli normalize x.npy --groups 4
    gncli normalize x.npy --groups 4 -o y.npy
    gncli normalize m.h5::/x --gamma m.h5::/gamma --beta m.h5::/beta -o y.h5
    gncli normalize x.npy --groups 4 --hist
    gncli normalize x.npy --groups 4 --plot x.png --report x.html
    gncli normalize --random 64,16,112,112 --groups 4 --stages

    Without -o nothing is written: the report is a dry run.
    """
    look = look_of(rest)
    check_grouping(num_groups, group_size)
    draw = options.drawn(random, dist, seed, dtype if random is not None else None)
    source = options.named_tensors((tensor,) if tensor is not None else (), draw, rest["gamma"], rest["beta"])
    if in_place and (output is not None or source in ((), ("-",))):
        raise click.UsageError("--in-place writes to the FILE that is read; it goes with no other input and no -o")
    if hist and (output == "-" or look["form"] not in HIST_FORMS):
        raise click.UsageError(
            f"there is no place for a histogram; choose --format {', '.join(HIST_FORMS)}, and no -o -"
        )
    if output == "-":
        terminal.refuse_unfit_stdout()
    operations()
    from gncli.tasks.normalize import normalize_file

    beside = Beside(rest, look["precision"], (*source, rest["gamma"], rest["beta"]), (output, rest["save_moments"]))
    report: NormalizeReport = normalize_file(
        draw or source[0],
        output=output,
        in_place=in_place,
        num_groups=num_groups,
        group_size=group_size,
        dtype=dtype,
        verify=not no_verify,
        bins=bins if hist else None,
        zeros=not options.OBJECT_FORMATS.isdisjoint((look["form"], beside.form)),
        **beside.asks(bins),
        **rest,
    )
    beside.commit()
    if output != "-":
        show(report, **look)
    else:
        from gncli.report.lines import check_line

        say_aside(report, *([] if look["quiet"] else [check_line(report)]))
    if report.status:
        left = "discard what was written to stdout" if output == "-" else "nothing was written"
        from gncli.report.lines import check_failures

        raise CheckFailed(f"the check failed: {' and '.join(check_failures(report))}", subject=report.input, hint=left)
    return 0
