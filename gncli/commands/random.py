"""``gncli random``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gncli.commands import options, say_aside, session, show, terminal
from gncli.commands.side_files import SideFiles
from gncli.names import Distribution

if TYPE_CHECKING:
    from gncli.inputs import Network
    from gncli.tasks.requests import Execution, Output


@click.command(cls=options.Command)
@click.argument("shape", type=options.Shape())
@options.dist
@options.seed
@options.dtype
@options.writing(options.output, options.overflow, options.npy_bits, options.compression, options.force)
@options.statistics
@options.networking
@options.common
def random(
    shape: tuple[int, ...],
    dist: Distribution | None,
    seed: int | None,
    dtype: str | None,
    output: Output,
    statistics: tuple[str, ...] | None,
    network: Network,
    look: options.Look,
    execution: Execution,
) -> None:
    """Make a random tensor, bit for bit as NumPy would.

    \b
    gncli random 64,16,112,112 --seed 0 -o x.npy
    gncli random 64x16x112x112 --dist normal | gncli normalize - -G 4
    gncli random 64,16,112,112 --dtype bfloat16 -o x.safetensors

    SHAPE is the length of each axis. Without -o the .npy goes to stdout; on a terminal the statistics are shown
    instead.
    """
    if output.path is None and not terminal.is_terminal(sys.stdout):
        output = output._replace(path="-")
    if output.path == "-":
        terminal.refuse_unfit_stdout()
    draw = options.Drawing(shape, dist, seed).draw(dtype)
    assert draw is not None  # there is a shape
    with session(look):
        from gncli.tasks.random import RandomRun
        from gncli.tasks.requests import Random

        request = Random(
            draw=draw,
            output=output,
            statistics=statistics or (),
            zeros=look.zeros,
            network=network,
            execution=execution,
        )
        with SideFiles(look, None, output.force, (), (output.path,)) as files, RandomRun(request) as run:
            report = run.report()
            files.write(report)
            run.commit()
            files.commit()
    show(report, look) if output.path != "-" else say_aside(report)
