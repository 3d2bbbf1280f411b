"""``--help``, ``--version`` and ``-v``, which need no other option, so that they answer at once."""

from __future__ import annotations

import click

from gncli.commands.terminal import deliver


def _help(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        deliver(ctx.get_help() + "\n")
        ctx.exit()


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """Take one of ``--version`` and ``-v``, and answer with the second of them, in whatever order they come."""
    asked = ctx.meta.setdefault("gncli.version", {})
    asked[param.name] = wanted
    if len(asked) < 2 or not any(asked.values()) or ctx.resilient_parsing:
        return
    if not asked["version"]:
        raise click.UsageError("-v goes with --version", ctx)
    from gncli import __version__

    lines = [f"gncli {__version__}"]
    if asked["verbose"]:
        import platform

        from gncli.io import versions
        from gncli.kernels import native
        from gncli.kernels.loops import kernel

        lines += [f"Python {platform.python_version()}", *(f"{name} {v}" for name, v in versions().items())]
        lines += [f"platform {platform.platform()}", f"kernel: {kernel()}"]
        lines += [f"note: {why}" for why in [native.why_not()] if why]
    deliver("\n".join(lines) + "\n")
    ctx.exit()


# Not click's own callbacks: their text would go through Python's buffer, where a full disk is noticed too late.
version = click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
verbose = click.option(
    "-v",
    "verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="With --version: also show the versions of Python, NumPy, h5py and HDF5, the platform, and the "
    "kernel that computes.",
)
helpful = click.option(
    "-h", "--help", is_flag=True, is_eager=True, expose_value=False, callback=_help, help="Show this page and exit."
)
