"""The group of commands, and how a command line is run.

Nothing heavy is imported here, so that ``--help`` and ``--version`` answer at once. Each command is a module of this
package, which is imported when the command is asked for.
"""

from __future__ import annotations

import os
import signal
from collections import UserDict
from collections.abc import Iterator, Mapping
from importlib import import_module

import click

from gncli import signals
from gncli.commands import about, error_line, terminal
from gncli.errors import GncliError, ParameterError
from gncli.text import printable

PURPOSES: Mapping[str, str] = {
    "stats": "Describe tensors: shape, mean, deviation, extremes and more.",
    "normalize": "Apply Group Normalization; show before, after and a check.",
    "backward": "Compute the gradients of Group Normalization.",
    "diff": "Compare A with the reference B, tensors or files of tensors.",
    "explain": "Say which eps, groups, layout or other convention made Y.",
    "random": "Make a random tensor, bit for bit as NumPy would.",
    "clean": "Remove what killed runs have left beside OUT.",
    "completion": "Print the script that makes TAB complete gncli commands.",
    "help": "Show the help of a command, or a page of the documentation.",
}
"""The commands, each with what it is for; ``gncli.commands.stats.stats`` is the first of them."""

DOCUMENTATION = "Documentation: gncli help; its pages are in the package too, in gncli/docs."


class _Commands(UserDict[str, click.Command]):
    """The commands by name."""

    def __missing__(self, name: str) -> click.Command:
        if name not in PURPOSES:
            raise KeyError(name)
        command: click.Command = getattr(import_module(f"gncli.commands.{name}"), name)
        command.epilog = DOCUMENTATION
        return self.data.setdefault(name, command)

    def __contains__(self, name: object) -> bool:
        return name in PURPOSES

    def __iter__(self) -> Iterator[str]:
        return iter(PURPOSES)

    def __len__(self) -> int:
        return len(PURPOSES)


class _Group(click.Group):
    """A group that lists its commands without importing them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command is for."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, PURPOSES[name]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named, and what follows it."""
        name = args[0]
        if name in self.commands or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from gncli.names import nearest

        hint = nearest(name, self.commands)
        if hint is None and os.path.lexists(name.partition("::")[0]):
            hint = f"gncli stats {name} describes it"
        raise click.UsageError(f"no such command {name!r}{f'; {hint}' if hint else ''}", ctx)


@click.group(cls=_Group, commands=_Commands(), epilog=DOCUMENTATION, context_settings={"max_content_width": 80})
@about.version
@about.verbose
@about.helpful
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
        message = printable(_said(error).rstrip("."), limit=2000)
        terminal.say(f"gncli: error: {message[:1].lower()}{message[1:]}; try '{path} --help'")
        return ParameterError.status
    except GncliError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            signals.end(signal.SIGPIPE)
        terminal.say(error_line(error))
        return error.status
    except BrokenPipeError:
        signals.end(signal.SIGPIPE)


def _said(error: click.UsageError) -> str:
    """Return what is wrong, with the option that is near; click suggests what is not."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return error.format_message()
    from gncli.names import nearest

    known = [opt for param in error.ctx.command.params for opt in param.opts if opt.startswith("--")]
    hint = nearest(error.option_name, known) if error.option_name.startswith("--") else None
    return f"no such option {error.option_name!r}{f'; {hint}' if hint else ''}"
