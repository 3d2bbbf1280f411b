"""``gncli backward``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gncli.commands import options, say_aside, session, show, suggest, terminal
from gncli.commands.side_files import SideFiles
from gncli.errors import CheckFailed

if TYPE_CHECKING:
    from gncli.inputs import Policy
    from gncli.kernels.affine import Scaling
    from gncli.tasks.requests import Execution, Output

PARAM_DTYPES = ("float16", "float32", "float64", "bfloat16")


def _file(name: str, what: str) -> options.Decorator[options.F]:
    kinds = "FILE.npy, FILE.h5[::NAME], FILE.safetensors[::NAME] or FILE.zarr[::NAME]"
    text = f"Write {what} to {kinds}."
    return click.option(f"--{name}", metavar="OUT", help=text, shell_complete=suggest.outputs)


_dx = click.option(
    "--dx",
    "output",
    metavar="OUT",
    help="Write the gradient of X to FILE.npy, FILE.h5[::NAME], FILE.safetensors[::NAME], FILE.zarr[::NAME], or - "
    "(.npy on stdout).",
    shell_complete=suggest.outputs,
)


@click.command(cls=options.Command)
@click.argument("x", metavar="X", shell_complete=suggest.tensors)
@click.argument("dy", metavar="DY", shell_complete=suggest.tensors)
@options.normalizing
@options.writing(_dx, options.overflow, options.npy_bits, options.compression, options.force)
@_file("dgamma", "the gradient of gamma")
@_file("dbeta", "the gradient of beta")
@click.option(
    "--dtype",
    type=options.DtypeName(),
    shell_complete=suggest.words(*options.FLOAT_DTYPES),
    metavar="DTYPE",
    help=f"Dtype of dx: {', '.join(options.FLOAT_DTYPES)}; default: that of a floating-point X.",
)
@click.option(
    "--param-dtype",
    type=options.Word(PARAM_DTYPES),
    shell_complete=suggest.words(*PARAM_DTYPES),
    metavar="DTYPE",
    help=f"Dtype of dgamma and dbeta: {', '.join(PARAM_DTYPES)}; default: float32 for X of fewer bits, else as dx.",
)
@click.option("--no-verify", is_flag=True, help="Skip the check of dx.")
@options.permitting
@options.common
def backward(
    x: str,
    dy: str,
    formula: options.Formula,
    scaling: Scaling,
    output: Output,
    dgamma: str | None,
    dbeta: str | None,
    dtype: str | None,
    param_dtype: str | None,
    no_verify: bool,
    policy: Policy,
    look: options.Look,
    execution: Execution,
) -> int:
    """Compute the gradients of Group Normalization, each rounded once.

    \b
    gncli backward x.npy dy.npy -G 4
    gncli backward x.npy dy.npy -G 4 --gamma g.npy --dx dx.npy
    gncli backward x.npy dy.npy -G 4 --dgamma dg.npy --dbeta db.npy
    gncli backward x.npy dy.npy --over -1 --gamma g.npy --dx dx.npy    layer norm
    gncli backward x.npy dy.npy -G 4 --activation silu --dx dx.npy
    gncli backward x.npy dy.npy -G 4 --dx - -q | gncli diff mine.npy - --max-ulp 1

    X is the input of the forward pass, and DY the gradient of its output, of the same shape. The options of the norm
    are those of gncli normalize. The report shows DY, the gradient dx of X, and those of gamma and beta, which are
    sums over all axes that gamma does not have; of a number --gamma they are one per channel, or with --over one per
    index of the reduced axes. With --activation DY is the gradient of what that returns; without it beta changes no
    gradient. Without --dx, --dgamma and --dbeta nothing is written.
    """
    if "-" in (dgamma, dbeta):
        raise click.UsageError("stdout takes one tensor, dx; write dgamma and dbeta to files")
    streams = output.path == "-"
    others = formula.others
    options.named_tensors((x, dy), None, *others)
    if streams:
        terminal.refuse_unfit_stdout()
    else:
        terminal.refuse_report_in_tensor()
    with session(look):
        from gncli.tasks.backward import BackwardRun
        from gncli.tasks.requests import Backward

        request = Backward(
            x=x,
            dy=dy,
            norm=formula.norm,
            gamma=formula.gamma,
            beta=formula.beta,
            scaling=scaling,
            mean=formula.mean,
            var=formula.var,
            dtype=dtype,
            param_dtype=param_dtype,
            output=output,
            dgamma=dgamma,
            dbeta=dbeta,
            verify=not no_verify,
            zeros=look.zeros,
            policy=policy,
            execution=execution,
        )
        outputs = (output.path, dgamma, dbeta)
        with (
            SideFiles(look, None, output.force, (x, dy, *others), outputs) as files,
            BackwardRun(request) as run,
        ):
            report = run.report()
            files.write(report)
            run.commit()
            files.commit()
    from gncli.report.backward_document import gradient_check_line, gradient_failures

    if streams:
        say_aside(report, *([] if look.quiet else [gradient_check_line(report)]))
    else:
        show(report, look, answered=bool(look.report_file))
    if report.status:
        left = "discard what was written to stdout" if streams else "nothing was written"
        raise CheckFailed(f"the check failed: {' and '.join(gradient_failures(report))}", subject=x, hint=left)
    return 0
