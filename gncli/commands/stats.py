"""``gncli stats``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from gncli.commands import MOST_JSON_CELLS, error_line, options, say_broken, session, show, suggest, terminal
from gncli.commands.side_files import SideFiles

if TYPE_CHECKING:
    from gncli.inputs import Policy
    from gncli.report.stream import CellStream
    from gncli.tasks.expect import Condition
    from gncli.tasks.requests import Choice, Cutting, Execution, Parts, Stats
    from gncli.tasks.stats_parts import Assembly


MOST_RANKED = 1 << 20  # cells that are held until they are in order


@click.command(cls=options.Command)
@click.argument("tensors", metavar="[TENSOR]...", nargs=-1, shell_complete=suggest.tensors)
@options.describing
@click.option(
    "--ddof",
    type=options.Integer(0, 1),
    metavar="N",
    default=0,
    help="std and var divide by n - N; 0, as in np.std, or 1; default: 0.",
)
@options.cutting
@options.charts
@options.force
@options.expect
@options.expect_manifest
@options.naming
@options.match
@options.choosing
@options.total
@options.parts_of_statistics
@options.drawing
@options.dtype
@options.permitting
@options.distributable
def stats(
    tensors: tuple[str, ...],
    statistics: tuple[str, ...],
    ddof: int,
    cutting: Cutting,
    charts: options.Charts,
    force: bool,
    expect: tuple[Condition, ...],
    manifest: str | None,
    named: options.Named,
    match: str | None,
    choice: Choice,
    total: bool,
    parts: options.StatisticsParts,
    drawing: options.Drawing,
    dtype: str | None,
    policy: Policy,
    look: options.Look,
    execution: Execution,
) -> int:
    """Describe tensors: shape, mean, deviation, extremes and more.

    \b
    gncli stats x.npy
    gncli stats x.npy -s mean,median,p99.9 --format value
    gncli stats x.npy --by C -s std,zeros,nan           which channel is dead
    gncli stats x.npy --by group --groups 4
    gncli stats x.npy --hist --bins 32
    gncli stats x.npy --hist exponent
    gncli stats x.npy --by N,C --plot x.png
    gncli stats x.npy --by C --plot x.pdf --log --width 3.4 --title "Channels"
    gncli stats x.npy --expect 'nan == 0' --expect 'abs(mean) < 1e-6'
    gncli stats *.npy model.h5 --match '*norm*' --sort -std --total
    gncli stats dumps/ --by C --where 'zeros/size>0.5'  which are dead, of all
    gncli stats dumps/ --by C --sort -std --top 10
    find . -name '*.npy' -print0 | gncli stats --files-from - --null
    gncli stats model/ --as float16,float8_e4m3fn       what rounding would lose
    gncli stats model/ --format jsonl -s shape,dtype,sha256 > manifest.jsonl
    gncli stats model/ --expect-manifest manifest.jsonl
    gncli stats x.npy --by C --part 2/7 -o part2.npz
    gncli stats --assemble part*.npz --sort -std
    gncli stats --random 64,16,112,112 --seed 0
    """
    if cutting.by is not None and charts.hist:
        raise click.UsageError("--hist is about whole tensors; leave out --by")
    if cutting.by is not None and ("sha256" in (*statistics, *choice.names) or manifest is not None):
        raise click.UsageError("a fingerprint is about whole tensors; leave out --by")
    shown = charts.shown(look.form)
    draw = drawing.draw(dtype)
    names = named.tensors(tensors, draw)
    with session(look):
        from gncli.tasks.requests import Stats as Request
        from gncli.tasks.stats import StatsRun

        with SideFiles(look, charts, force, (*names, *filter(None, [manifest]))) as files:
            request = Request(
                tensors=names,
                random=draw,
                statistics=statistics,
                ddof=ddof,
                cutting=cutting,
                bins=shown,
                scale=charts.scale,
                picture=charts.picture,
                zeros=look.zeros,
                expect=expect,
                manifest=manifest,
                match=match,
                choice=choice,
                total=total,
                policy=policy,
                execution=execution,
            )
            if parts.asked is not None and parts.output is not None:
                return one_part(request, parts.asked, parts.output, look, files, force)
            assembly = assembly_of(request) if parts.asked is not None else None
            request = request if assembly is None else assembly.request
            streams = streamed(look, request.statistics, files) if request.cutting.by is not None else []
            limits = limited(request, look, len(streams))
            run = StatsRun(limits) if assembly is None else assembly.run(limits)
            with contextlib.closing(run.cells()) as batches:
                for tensor, cells in batches:
                    for stream, take in streams:
                        take(stream.rows(tensor, cells))
            report = run.report()
            if len(report.tensors) == len(report.failures) == 1:
                raise report.failures[0].error
            files.write(report)
            files.commit()
    show(report, look, answered=bool(expect or manifest or charts.plot or look.report_file))
    for failure in report.failures:
        terminal.say(error_line(failure.error.about(failure.name)))
    say_broken(report.broken)
    return report.status


def one_part(request: Stats, asked: Parts, output: str, look: options.Look, files: SideFiles, force: bool) -> int:
    """Measure one part, and say so."""
    from gncli.tasks.stats_parts import measure_part

    report = measure_part(request, asked, output, force=force)
    files.write(report)
    files.commit()
    show(report, look)
    return report.status


def assembly_of(request: Stats) -> Assembly:
    """Return the parts, whose records are the tensors of the request."""
    from gncli.tasks.stats_parts import Assembly

    return Assembly(request)


def streamed(
    look: options.Look, chosen: tuple[str, ...], files: SideFiles
) -> list[tuple[CellStream, Callable[[str], None]]]:
    """Return the forms that show every cell, each with the function that writes it: to stdout, or to the file."""
    from gncli.report.stream import STREAMED, CellStream

    return [
        (CellStream(form, chosen), take)
        for form, take in zip(look.forms, (terminal.deliver, files.append), strict=False)
        if form in STREAMED
    ]


def limited(request: Stats, look: options.Look, num_streams: int) -> Stats:
    """Return the request with limits on its cells: how many the report keeps, and how many a tensor may have."""
    if request.cutting.by is None:
        return request
    if num_streams == len(look.forms) and not request.choice.ranks:
        return request._replace(keep_cells=0)
    if "json" in look.forms:
        return request._replace(keep_cells=MOST_JSON_CELLS, most_cells=MOST_JSON_CELLS)
    if num_streams and request.choice.ranks:
        return request._replace(keep_cells=MOST_RANKED, most_cells=MOST_RANKED)
    if "html" in look.forms:
        from gncli.report.document import MOST_ROWS_OF_A_PAGE

        return request._replace(keep_cells=MOST_ROWS_OF_A_PAGE)
    return request
