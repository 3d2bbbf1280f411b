"""A file of several tensors, each with a name: what HDF5, .npz and .safetensors have in common."""

from __future__ import annotations

from typing import Protocol

from gncli.errors import InputError
from gncli.io.source import Source

MAX_MEMBERS = 100_000  # named in one file
SHOWN_NAMES = 10


class Container(Protocol):
    """A file of several tensors.

    Attributes
    ----------
    skipped : list of str
        The names of what holds no numbers; known after `names`.
    """

    skipped: list[str]

    def names(self) -> list[str]:
        """Return the names of the numeric tensors."""

    def open(self, member: str, name: str) -> Source:
        """Return the tensor `member`, which errors call `name`; it keeps what it needs of the file."""

    def close(self) -> None:
        """Let go of the file."""


def list_names(names: list[str]) -> str:
    """Return the names in one phrase, the first ten and a count.

    Examples
    --------
    >>> list_names(["/a", "/b"])
    '/a, /b'
    """
    shown = ", ".join(names[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES:,} more"


def not_found(member: str, names: list[str], kind: str, name: str) -> InputError:
    """Return the error that says which names there are, the nearest ones first.

    Parameters
    ----------
    member : str
        The name that is not there.
    names : list of str
        Those that are.
    kind : str
        What they are names of: a dataset, a tensor.
    name : str
        The input that the error is about.
    """
    import difflib  # of use only once a name is wrong

    near = difflib.get_close_matches(member, names, SHOWN_NAMES) or names
    hint = f"the file has {list_names(near)}" if near else f"the file holds no numeric {kind}"
    return InputError(f"no such {kind}", subject=name, hint=hint)
