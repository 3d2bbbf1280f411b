"""The command line: a command parses, calls one operation, prints one report.

``main`` is the one place where errors and signals become messages and exit statuses. NumPy, h5py and rich are imported
by the commands that need them, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gncli import options, process
from gncli.describe import Distribution, Failure, NormalizeReport, Report, StatsReport
from gncli.errors import CheckFailed, GncliError, LimitError, ParameterError
from gncli.text import printable

if TYPE_CHECKING:
    from types import ModuleType


def _error_line(error: GncliError) -> str:
    subject = f"{printable(error.subject)}: " if error.subject else ""
    facts = "; ".join(filter(None, (error.problem, error.way_out)))
    return f"gncli: error: {subject}{printable(facts, limit=2000)}"


def _look(rest: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `options.reporting` out of `rest`; what stays is for the operation."""
    return {name: rest.pop(name) for name in ("form", "precision", "color", "quiet")}


def _show(report: Report, form: str, precision: int, color: str, quiet: bool) -> None:
    """Print one report; what is not data goes to stderr where stdout carries data alone."""
    from gncli.report import Style, render

    style = Style(
        precision=precision,
        color=options.colored(color, process.is_terminal(sys.stdout)),
        width=options.terminal_width(),
        encoding=getattr(sys.stdout, "encoding", "utf-8"),
        quiet=quiet,
    )
    if not (quiet and form == "table" and report.output is not None):  # the data are in the file
        process.deliver(render(report, form, style))
    if form != "table" or quiet:
        _say_aside(report)


def _say_aside(report: Report, *more: str) -> None:
    """Say on stderr what belongs beside the data."""
    from gncli.report import seed_and_skipped

    for line in (*seed_and_skipped(report), *more):
        process.say(f"gncli: {line}")


def _operations() -> ModuleType:
    """Return the operations, whose import is what a command pays for NumPy and h5py."""
    import gncli.operations as operations
    from gncli.io.stream import listen

    root = click.get_current_context().find_root()
    listen(root.obj)  # a signal then ends a read of stdin at once
    root.call_on_close(lambda: listen(None))
    return operations


@click.group(context_settings={"max_content_width": 80})
@options.version
@options.helpful
def gncli() -> None:
    r"""Describe tensors and apply Group Normalization to them.

    \b
    gncli stats x.npy                      what is in it
    gncli normalize x.npy -G 4             before, after, and a check
    gncli normalize x.npy -G 4 -o y.npy    the same, and the result in y.npy

    A TENSOR is a FILE (.npy, .h5), FILE::NAME for a dataset in it, or - for standard input. Files may be larger than
    memory.

    GNCLI_FORMAT, GNCLI_COLOR, GNCLI_PRECISION, GNCLI_WORKERS and GNCLI_TILE set the default of the option of that name.
    """


@gncli.command()
@click.argument("tensors", metavar="[TENSOR]...", nargs=-1)
@options.statistics
@click.option(
    "--ddof",
    type=click.IntRange(0, 1),
    metavar="N",
    default=0,
    help="Divide by n - N in std and var: 0 or 1; default: 0.",
)
@options.drawing
@options.dtype
@options.common
def stats(
    tensors: tuple[str, ...],
    statistics: tuple[str, ...] | None,
    random: tuple[int, ...] | None,
    dist: Distribution | None,
    seed: int | None,
    dtype: str | None,
    **rest: Any,
) -> int:
    r"""Describe tensors: shape, mean, standard deviation, extremes.

    \b
    gncli stats x.npy
    gncli stats model.h5::/norm1/input digits.h5
    gncli stats x.npy -s mean --format value
    gncli stats --random 64,16,112,112 --seed 0
    """
    look = _look(rest)
    draw = options.drawn(random, dist, seed, dtype)
    report: StatsReport = _operations().stats(
        options.named_tensors(tensors, draw),
        random=draw,
        statistics=options.measured(statistics, look["form"]),
        **rest,
    )
    if len(report.tensors) == 1 and isinstance(report.tensors[0], Failure):
        raise report.tensors[0].error
    _show(report, **look)
    for failure in report.failures:
        process.say(_error_line(failure.error.about(failure.name)))
    return report.status


@gncli.command()
@click.argument("tensor", metavar="[TENSOR]", required=False)
@options.normalizing
@click.option(
    "--dtype",
    type=click.Choice(options.DRAWN_DTYPES),
    metavar="DTYPE",
    help="Of the output: float16, float32, float64; default: as the input.",
)
@options.output
@options.force
@click.option("--in-place", is_flag=True, help="OUT is the input: a .npy of the same dtype.")
@click.option("--save-moments", metavar="FILE.npz", help="Write mean, var and rstd of every group.")
@click.option("--stages", is_flag=True, help="Show a column a stage, from input to output.")
@click.option("--no-verify", is_flag=True, help="Skip the check.")
@options.drawing
@options.common
def normalize(
    tensor: str | None,
    num_groups: int | None,
    group_size: int | None,
    dtype: str | None,
    output: str | None,
    in_place: bool,
    no_verify: bool,
    random: tuple[int, ...] | None,
    dist: Distribution | None,
    seed: int | None,
    **rest: Any,
) -> int:
    r"""Apply Group Normalization; show before, after and a check.

    \b
    gncli normalize x.npy --groups 4
    gncli normalize x.npy --groups 4 -o y.npy
    gncli normalize m.h5::/x --gamma m.h5::/gamma --beta m.h5::/beta -o y.h5
    gncli normalize --random 64,16,112,112 --groups 4 --stages

    Without -o nothing is written: the report is a dry run.
    """
    look = _look(rest)
    if num_groups is not None and group_size is not None:
        raise click.UsageError("either --groups or --group-size, not both")
    draw = options.drawn(random, dist, seed, dtype if random is not None else None)
    source = options.named_tensors((tensor,) if tensor is not None else (), draw, rest["gamma"], rest["beta"])
    if in_place and (output is not None or source in ((), ("-",))):
        raise click.UsageError("--in-place writes to the FILE that is read; it goes with no other input and no -o")
    if output == "-":
        process.refuse_unfit_stdout()
    report: NormalizeReport = _operations().normalize_file(
        draw or source[0],
        output=output,
        in_place=in_place,
        num_groups=num_groups,
        group_size=group_size,
        dtype=dtype,
        verify=not no_verify,
        zeros=look["form"] in options.OBJECT_FORMATS,
        **rest,
    )
    if output != "-":
        _show(report, **look)
    else:
        from gncli.report import check_line

        _say_aside(report, *([] if look["quiet"] else [check_line(report)]))
    if report.status:
        left = "discard what was written to stdout" if output == "-" else "nothing was written"
        raise CheckFailed("the check failed", subject=report.input, way_out=left)
    return 0


@gncli.command()
@click.argument("shape", type=options.Shape())
@options.dist
@options.seed
@options.dtype
@options.output
@options.force
@options.statistics
@options.common
def random(
    shape: tuple[int, ...],
    dist: Distribution | None,
    seed: int | None,
    dtype: str | None,
    output: str | None,
    statistics: tuple[str, ...] | None,
    **rest: Any,
) -> None:
    r"""Draw a tensor of SHAPE, bit for bit as NumPy does for the seed.

    \b
    gncli random 64,16,112,112 --seed 0 -o x.npy
    gncli random 64x16x112x112 --dist normal | gncli normalize - -G 4

    Without -o a pipe gets the .npy, and a terminal the statistics.
    """
    look = _look(rest)
    if output is None and not process.is_terminal(sys.stdout):
        output = "-"
    if output == "-":
        process.refuse_unfit_stdout()
    report: StatsReport = _operations().random(
        options.drawn(shape, dist, seed, dtype),
        output=output,
        statistics=options.measured(statistics, look["form"]),
        **rest,
    )
    _show(report, **look) if output != "-" else _say_aside(report)


def _run(arguments: list[str], wake: int) -> int:
    """Run a command line; return its exit status, with every error said."""
    try:
        with gncli.make_context("gncli", arguments, obj=wake) as context:
            return int(gncli.invoke(context) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        process.say(error.format_message())
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "gncli"
        message = printable(error.format_message().rstrip("."), limit=2000)
        process.say(f"gncli: error: {message[:1].lower()}{message[1:]}; try '{path} --help'")
        return ParameterError.status
    except GncliError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            return process.die(signal.SIGPIPE)
        process.say(_error_line(error))
        return error.status
    except BrokenPipeError:
        return process.die(signal.SIGPIPE)
    except MemoryError:
        process.say("gncli: error: memory ran out; take fewer --workers or a smaller --tile")
        return LimitError.status
    except Exception:  # noqa: BLE001, the one place for it: whatever else comes up is ours to mend
        for line in traceback.format_exc().splitlines():
            process.say(printable(line, limit=2000))
        process.say("gncli: this is a bug in gncli; please report it, with the lines above")
        return 70


def main(argv: Sequence[str] | None = None) -> int:
    """Run gncli.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit status. A signal does not return: it ends the process, once everything temporary has been removed.
    """
    process.hold_standard_descriptors()
    with process.signals_as_interruptions() as wake:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv), wake)
        except process.Interrupted as interrupted:
            return process.die(interrupted.signum)
