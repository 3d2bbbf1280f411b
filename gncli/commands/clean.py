"""``gncli clean``."""

from __future__ import annotations

import click

from gncli.commands import options, suggest, terminal
from gncli.text import printable


@click.command(cls=options.Command)
@click.argument("output", metavar="OUT", shell_complete=suggest.outputs)
@options.helpful
def clean(output: str) -> None:
    """Remove what killed runs have left beside OUT.

    \b
    gncli clean y.npy
    gncli clean results/y.h5

    A run that is killed can leave a temporary file; --part and --resume leave the folder .OUT.parts until all parts are
    put together. OUT itself stays. Nothing is removed while another process writes OUT.
    """
    from gncli.io.shared import left_over

    lines = [f"removed {printable(path)} ({nbytes:,} bytes)" for path, nbytes in left_over(output)]
    terminal.deliver("\n".join([*(lines or [f"{printable(output)}: nothing is left over"]), ""]))
