"""``python -m tests.share``: writes the man page and the completion scripts that the wheel installs below ``share``.

They are made from the help pages and the scripts of the program, and kept in the tree: a wheel is built where click is
not installed. `tests.test_share` compares them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from gncli import __version__
from gncli.commands.group import gncli
from gncli.commands.shells import script

SHARE = Path(__file__).parents[1] / "gncli" / "share"


def manual() -> str:
    """Return the man page: each help page in a section of its own, as it is shown."""
    return "\n".join([f'.TH GNCLI 1 "" "gncli {__version__}" "User Commands"', *_sections()]) + "\n"


def _sections() -> Iterator[str]:
    summary = (gncli.help or "").partition("\n")[0].rstrip(".")
    yield from (".SH NAME", f"gncli \\- {_escaped(summary[:1].lower() + summary[1:])}")
    root = click.Context(gncli, info_name="gncli", **gncli.context_settings)
    pages = [("gncli", gncli.get_help(root))]
    for name, command in gncli.commands.items():
        context = click.Context(command, parent=root, info_name=name, **command.context_settings)
        pages.append((f"gncli {name}", command.get_help(context)))
    for title, text in pages:
        yield f'.SH "{title.upper()}"'
        yield from (".nf", *map(_escaped, text.splitlines()), ".fi")


def _escaped(line: str) -> str:
    """Return a line of text as roff, in which nothing is a request."""
    shown = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{shown}" if shown[:1] in (".", "'") else shown


def files() -> Mapping[str, str]:
    """Return what lies below ``share``, by path."""
    return {
        "man/man1/gncli.1": manual(),
        "bash-completion/completions/gncli": script("bash"),
        "zsh/site-functions/_gncli": script("zsh"),
        "fish/vendor_completions.d/gncli.fish": script("fish"),
    }


if __name__ == "__main__":
    for path, text in files().items():
        (SHARE / path).parent.mkdir(parents=True, exist_ok=True)
        (SHARE / path).write_text(text, encoding="utf-8")
