"""``gncli random``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from gncli.commands import Beside, look_of, operations, options, say_aside, show, terminal
from gncli.names import Distribution

if TYPE_CHECKING:
    from gncli.report.records import StatsReport


@click.command(cls=options.Command)
@click.argument("shape", type=options.Shape())
@options.dist
@options.seed
@options.dtype
@options.output
@options.compression
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
    """Draw a tensor of SHAPE, bit for bit as NumPy would.

    \b
    gncli random 64,16,112,112 --seed 0 -o x.npy
    gncli random 64x16x112x112 --dist normal | gncli normalize - -G 4

    SHAPE is the lengths of the axes. Without -o a pipe gets the .npy, and a terminal the statistics.
    """
    look = look_of(rest)
    if output is None and not terminal.is_terminal(sys.stdout):
        output = "-"
    if output == "-":
        terminal.refuse_unfit_stdout()
    operations()
    from gncli.tasks.random import random as draw_to

    drawn = options.drawn(shape, dist, seed, dtype)
    assert drawn is not None  # a shape was given
    beside = Beside(rest, look["precision"], (), (output,))
    report: StatsReport = draw_to(
        drawn,
        output=output,
        statistics=statistics or (),
        zeros=not options.OBJECT_FORMATS.isdisjoint((look["form"], beside.form)),
        **beside.asks(),
        **rest,
    )
    beside.commit()
    show(report, **look) if output != "-" else say_aside(report)
