"""The group of commands, and how a command line is run.

Nothing heavy is imported here, so that ``--help`` and ``--version`` answer at once; each command is a module of this
package.
"""

from __future__ import annotations

import os
import signal

import click

from gncli import signals
from gncli.commands import error_line, options, terminal
from gncli.commands.backward import backward
from gncli.commands.clean import clean
from gncli.commands.completion import completion
from gncli.commands.diff import diff
from gncli.commands.explain import explain
from gncli.commands.help import help_
from gncli.commands.normalize import normalize
from gncli.commands.random import random
from gncli.commands.stats import stats
from gncli.errors import GncliError, ParameterError
from gncli.text import printable


@click.group(context_settings={"max_content_width": 80})
@options.version
@options.verbose
@options.helpful
def gncli() -> None:
    """Describe tensors and apply Group Normalization to them.

    \b
    gncli stats x.npy                      what is in it
    gncli normalize x.npy -G 4             before, after, and a check
    gncli normalize x.npy -G 4 -o y.npy    the same, and the result in y.npy
    gncli backward x.npy dy.npy -G 4       its gradients, exactly rounded
    gncli diff y.npy expected.npy          how two tensors differ, and a verdict
    gncli explain y.npy expected.npy       by which eps, groups, layout ...
    gncli help                             more pages: a tour, recipes, ...

    A TENSOR is a FILE (.npy, .npz, .h5, .nc, .pt, .safetensors, .zarr), FILE::NAME for a tensor in it, or - for stdin.
    A folder, or the index of a checkpoint in shards, is all its tensors. Files may be larger than memory.

    Exit status: 0 success; 1 a difference, or a failed check or expectation; 2 usage; 3 input; 4 output; 5 a limit; 6
    the input changed.

    GNCLI_FORMAT, GNCLI_COLOR, GNCLI_PRECISION, GNCLI_WORKERS and GNCLI_TILE set the default of the option of that name.
    GNCLI_KERNEL=plain|native|baseline|avx2|avx512 chooses how numbers are computed; it changes none of them.
    """


for command in (stats, normalize, backward, diff, explain, random, clean, completion, help_):
    gncli.add_command(command)
    command.epilog = gncli.epilog = "Documentation: gncli help; its pages are in the package too, in gncli/docs."


def run(arguments: list[str]) -> int:
    """Run a command line, and return its exit status; every error that is not a bug, or of memory, has been said."""
    try:
        if "_GNCLI_COMPLETE" in os.environ:  # the script of a shell asks what may come next
            from gncli.commands.shells import answer

            terminal.deliver(answer(gncli, os.environ["_GNCLI_COMPLETE"]))
            return 0
        with gncli.make_context("gncli", [*arguments], obj=tuple(arguments)) as context:
            return int(gncli.invoke(context) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        terminal.say(error.format_message())
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "gncli"
        message = printable(error.format_message().rstrip("."), limit=2000)
        terminal.say(f"gncli: error: {message[:1].lower()}{message[1:]}; try '{path} --help'")
        return ParameterError.status
    except GncliError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            signals.end(signal.SIGPIPE)
        terminal.say(error_line(error))
        return error.status
    except BrokenPipeError:
        signals.end(signal.SIGPIPE)
