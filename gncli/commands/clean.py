"""``gncli clean``."""

from __future__ import annotations

import click

from gncli.commands import about, options, suggest, terminal
from gncli.text import printable


@click.command(cls=options.Command)
@click.argument("output", metavar="OUT", shell_complete=suggest.outputs)
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="Remove uploads too that got something within the last hour: -f s3://bucket/y.npy, y.zarr.",
)
@about.helpful
def clean(output: str, force: bool) -> None:
    """Remove what killed runs have left beside OUT.

    \b
    gncli clean y.npy
    gncli clean results/y.h5

    A run that is killed can leave a temporary file; --part and --resume leave the folder .OUT.parts until all parts are
    put together. OUT itself stays. Nothing is removed while another process writes OUT.

    \b
    gncli clean s3://bucket/y.npy

    On S3 it can leave an upload, whose parts are paid for and seen by nobody. The open uploads to OUT are removed,
    unless one of them got something within the last hour: its run may go on, and would end with an error. On gs:// it
    can leave an object OUT.gncli-..., with which the same is done. On az:// it can leave blocks, which Azure alone
    removes, after a week: then the status is 4, and the error says since when they are there. A run that writes
    y.zarr to a store can leave objects that are no array: they are named and removed, and so is its claim on OUT.
    """
    from gncli.io.shared import left_over
    from gncli.io.urls import is_url

    if is_url(output):
        from gncli.io.shared_objects import objects_left_over

        lines = objects_left_over(output, force=force)
    else:
        lines = [f"removed {printable(path)} ({nbytes:,} bytes)" for path, nbytes in left_over(output)]
    terminal.deliver("\n".join([*(lines or [f"{printable(output)}: nothing is left over"]), ""]))
