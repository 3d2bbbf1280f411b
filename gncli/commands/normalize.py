"""``gncli normalize``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gncli.commands import options, say_aside, session, show, suggest, terminal
from gncli.commands.side_files import SideFiles
from gncli.errors import CheckFailed

if TYPE_CHECKING:
    from gncli.inputs import Policy
    from gncli.kernels.affine import Scaling
    from gncli.tasks.parts import PartsRun
    from gncli.tasks.requests import Execution, Normalize, Output, Parts


@click.command(cls=options.Command)
@click.argument("tensor", metavar="[TENSOR]", required=False, shell_complete=suggest.tensors)
@options.normalizing
@click.option(
    "--dtype",
    type=options.DtypeName(),
    shell_complete=suggest.words(*options.FLOAT_DTYPES),
    metavar="DTYPE",
    help=f"Dtype of the output: {', '.join(options.FLOAT_DTYPES)}; default: that of a floating-point input.",
)
@options.writing(
    options.output, options.overflow, options.npy_bits, options.compression, options.force, options.in_place
)
@click.option(
    "--save-moments",
    metavar="FILE.npz",
    help="Write mean, var and rstd = 1/sqrt(var + eps) of every group.",
    shell_complete=suggest.files(".npz"),
)
@click.option("--stages", is_flag=True, help="Show one column per step, from input to output.")
@options.charts
@click.option("--no-verify", is_flag=True, help="Skip the check of the result.")
@options.parts
@options.drawing
@options.permitting
@options.distributable
def normalize(
    tensor: str | None,
    formula: options.Formula,
    scaling: Scaling,
    dtype: str | None,
    output: Output,
    save_moments: str | None,
    stages: bool,
    charts: options.Charts,
    no_verify: bool,
    parts: Parts | None,
    drawing: options.Drawing,
    policy: Policy,
    look: options.Look,
    execution: Execution,
) -> int:
    """Apply Group Normalization; show before, after and a check.

    \b
    gncli normalize x.npy --groups 4
    gncli normalize x.npy --groups 4 -o y.npy
    gncli normalize m.h5::/x --gamma m.h5::/gamma --beta m.h5::/beta -o y.h5
    gncli normalize x.npy --groups 4 --dtype bfloat16 -o y.safetensors
    gncli normalize x.npy --groups 4 --dtype float8_e4m3fn --overflow saturate
    gncli normalize h.npy --over -1 --rms --gamma w.npy --gamma-offset 1
    gncli normalize h.npy --over -1 --rms --gamma w.npy --round-before-affine
    gncli normalize x.npy --groups 4 --gamma g.npy --beta b.npy --activation silu
    gncli normalize x.npy --groups 4 --hist
    gncli normalize x.npy --groups 4 --plot x.png --report x.html
    gncli normalize --random 64,16,112,112 --groups 4 --stages
    gncli normalize x.npy --groups 4 -o y.npy --part 2/7
    gncli normalize x.npy --groups 4 -o y.npy --assemble
    gncli normalize x.npy --groups 4 -o y.npy --resume

    Without -o nothing is written: the report is a dry run.
    """
    draw = drawing.draw(dtype if drawing.random is not None else None)
    others = formula.others
    source = options.named_tensors((tensor,) if tensor is not None else (), draw, *others)
    streams = output.path == "-"
    if output.in_place and (output.path is not None or source in ((), ("-",))):
        raise click.UsageError("--in-place writes to the FILE that is read; it goes with no other input and no -o")
    if parts is not None and (output.path is None or streams):
        raise click.UsageError("work in parts needs a file to write to; give -o FILE.npy")
    if charts.hist and (streams or look.form not in options.HIST_FORMS):
        forms = ", ".join(options.HIST_FORMS)
        raise click.UsageError(f"there is no place for a histogram; choose --format {forms}, and no -o -")
    if streams:
        terminal.refuse_unfit_stdout()
    else:
        terminal.refuse_report_in_tensor()
    inputs = (*source, *others)
    with session(look):
        from gncli.tasks.normalize import NormalizeRun
        from gncli.tasks.requests import Normalize

        request = Normalize(
            tensor=draw or source[0],
            norm=formula.norm,
            gamma=formula.gamma,
            beta=formula.beta,
            scaling=scaling,
            mean=formula.mean,
            var=formula.var,
            dtype=dtype,
            output=output,
            save_moments=save_moments,
            stages=stages,
            verify=not no_verify,
            zeros=look.zeros,
            bins=charts.bins if charts.hist else None,
            scale=charts.scale,
            picture=charts.picture,
            policy=policy,
            execution=execution,
        )
        if parts is not None and parts.part:
            return one_part(request, parts, look, inputs)
        with (
            SideFiles(look, charts, output.force, inputs, (output.path, save_moments)) as files,
            NormalizeRun(request) if parts is None else run_of(request, parts) as run,
        ):
            report = run.report()
            files.write(report)
            run.commit()
            files.commit()
    from gncli.report.lines import check_failures, check_line

    if streams:
        say_aside(report, *([] if look.quiet else [check_line(report)]))
    else:
        show(report, look, answered=bool(charts.plot or look.report_file))
    if report.status:
        left = "discard what was written to stdout" if streams else "nothing was written"
        left += f"; gncli clean {output.path} removes the parts" if parts is not None else ""
        raise CheckFailed(f"the check failed: {' and '.join(check_failures(report))}", subject=report.input, hint=left)
    return 0


def run_of(request: Normalize, parts: Parts) -> PartsRun:
    """Return the run that does, or puts together, parts."""
    from gncli.tasks.parts import PartsRun

    return PartsRun(request, parts)


def one_part(request: Normalize, parts: Parts, look: options.Look, inputs: Sequence[str | float]) -> int:
    """Do one part, and say what was done."""
    with (
        SideFiles(look, None, request.output.force, inputs, (request.output.path,)) as files,
        run_of(request, parts) as run,
    ):
        report = run.part()
        files.write(report)
        files.commit()
    show(report, look)
    return report.status
