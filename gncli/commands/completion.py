"""``gncli completion``."""

from __future__ import annotations

import click

from gncli.commands import about, options, terminal

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=options.Word(SHELLS), metavar="{bash|zsh|fish}", required=False)
@about.helpful
def completion(shell: str | None) -> None:
    """Print the script that makes TAB complete gncli commands.

    \b
    source <(gncli completion bash)
    gncli completion zsh > ~/.zfunc/_gncli
    gncli completion fish > ~/.config/fish/completions/gncli.fish

    TAB then completes commands, options and their values, files, and the names inside a file: gncli stats x.h5::/no.
    The script says how to install it.
    """
    if shell is None:  # click would say so on several lines
        raise click.UsageError(f"no shell is named; choose one of {', '.join(SHELLS)}")
    from gncli.commands.shells import script

    terminal.deliver(script(shell))
