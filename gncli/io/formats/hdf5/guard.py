"""The guard around the reader of HDF5: a child process does everything first that this process will do.

A crash or a hang of libhdf5 ends the child, and is then an error about the file. So is an exception of any class.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gncli.errors import GncliError, InputError
from gncli.inputs import STRICT, Policy
from gncli.io.formats.hdf5.datasets import DECODERS_OF_LIBHDF5, Hdf5Source
from gncli.io.formats.hdf5.reading import Hdf5File
from gncli.io.formats.hdf5.rehearsal import Child, Died
from gncli.io.rawfile import RawFile, reason
from gncli.io.source import Container, Source

_PIECE = 1 << 18  # elements that the child reads at a time


@dataclass
class Hdf5Rehearsal:
    """The work of the child: each task begins with the file closed and ends with the file closed.

    Parameters
    ----------
    fd : int
        The file, open.
    path : str or None
        The path of the `RawFile`.
    name : str
        The file as the user typed it.
    policy : Policy
        The policy of the reader.
    """

    fd: int
    path: str | None
    name: str
    policy: Policy
    _links: dict[Any, bytes] = field(default_factory=dict, init=False, repr=False)

    @property
    def nbytes(self) -> int:
        """Memory for a chunk as it is stored, on its way through the filters, decoded, and in libhdf5's cache."""
        return 4 * self.policy.max_chunk

    def __call__(self, task: str, member: str) -> object:
        """Do a task: open the file, list it, list all but one dataset, or read a dataset's ends, and name its axes.

        Raises
        ------
        GncliError
            As `Hdf5File` does.
        """
        file = RawFile.spooled(os.dup(self.fd), self.name)
        file.path = self.path
        with Hdf5File(file, self.name, self.policy) as reader:
            return _TASKS[task](self, reader, member)

    def _open(self, _reader: Hdf5File, _member: str) -> None:
        pass

    def _list(self, reader: Hdf5File, _member: str) -> tuple[list[str], list[str]]:
        return reader.names(), reader.skipped

    def _others(self, reader: Hdf5File, member: str) -> list[str]:
        return reader.others_than(member)

    def _read(self, reader: Hdf5File, member: str) -> list[str]:
        self._read_alone(reader, member)
        return reader.axes(member, self._links)

    def _read_alone(self, reader: Hdf5File, member: str) -> None:
        with reader.open(member, self.name) as source:
            if isinstance(source, Hdf5Source):
                _read_ends(source)


_TASKS: dict[str, Callable[[Hdf5Rehearsal, Hdf5File, str], object]] = {
    "open": Hdf5Rehearsal._open,
    "list": Hdf5Rehearsal._list,
    "others": Hdf5Rehearsal._others,
    "read": Hdf5Rehearsal._read,
    "read alone": Hdf5Rehearsal._read_alone,
}


def _read_ends(source: Hdf5Source) -> None:
    """Read the first and the last element, or all of them if a filter of the dataset is decoded by libhdf5 itself."""
    size = math.prod(source.shape)
    whole = bool(source.filters & DECODERS_OF_LIBHDF5)
    out = np.empty(min(size, _PIECE if whole else 1), source.dtype)
    for start in range(0, size, max(1, out.size if whole else size - 1)):
        source.read_into(out[: size - start], start)


class GuardedHdf5File(Container):
    """An HDF5 file of which this process asks nothing that a child process has not done before.

    Parameters
    ----------
    file : RawFile
        The file, closed together with this.
    name : str
        The file as the user typed it.
    policy : Policy, optional
        The limits that the user has lifted.

    Attributes
    ----------
    skipped : list of str
        Datasets that hold no numbers, and external links; known after `names`.

    Raises
    ------
    InputError
        If libhdf5 cannot open it, or the child does not survive that.
    """

    def __init__(self, file: RawFile, name: str, policy: Policy = STRICT) -> None:
        self.name = name
        self.skipped: list[str] = []
        self._child = Child(Hdf5Rehearsal(file.fd, file.path, name, policy))
        try:
            _asked(self._child, name, "open")
            self._reader = Hdf5File(file, name, policy)
        except BaseException:
            self._child.close()
            raise

    def names(self) -> list[str]:
        """Return the paths of the numeric datasets, sorted; only the child walks through the file.

        Raises
        ------
        InputError
            If the file is damaged.
        LimitError
            If it has too many links.
        """
        names, self.skipped = _listed(self._child, self.name)
        return names

    def others_than(self, dataset: str) -> list[str]:
        """Return what the file holds besides the dataset of that path and the groups that lead to it."""
        return _strings(_asked(self._child, self.name, "others", dataset), self.name)

    def open(self, member: str, name: str) -> Source:
        """Return the dataset at a path, as `Hdf5File.open` does, with the names of its axes."""
        try:
            axes = _asked(self._child, name, "read", member)
        except InputError as error:
            if not isinstance(error.__cause__, Died):
                raise
            _asked(self._child, name, "read alone", member)  # if only the names crash libhdf5, the data can be read
            axes = []
        source = self._reader.open(member, name)
        with suppress(InputError):  # names are not worth an error
            names = _strings(axes, name)
            source.dimensions = tuple(names) if len(names) == len(source.shape) else ()
        return source

    def close(self) -> None:
        """Close the file; open sources keep what they need of it."""
        self._child.close()
        self._reader.close()


def names_in(path: str, seconds: float) -> list[str]:
    """Return the paths of the numeric datasets of an HDF5 file, sorted; only the child touches it.

    Raises
    ------
    InputError
        If it cannot be listed.
    LimitError
        If that takes longer than `seconds`.
    """
    with RawFile(path, path) as file, closing(Child(Hdf5Rehearsal(file.fd, path, path, STRICT))) as child:
        return _listed(child, path, seconds)[0]


def _asked(child: Child, name: str, task: str, member: str = "", seconds: float | None = None) -> Any:
    """Return what the child answers; its errors, and its death, are errors about `name`."""
    try:
        return child.ask(task, member, seconds)
    except GncliError as error:
        raise error.about(name)  # noqa: B904  # the same error
    except OSError as error:
        raise InputError(f"cannot be tried in a child process ({reason(error)})", subject=name) from error
    except Died as death:
        what = "does not come back from it" if death.signum == signal.SIGPROF else "crashes on it"
        problem = f"libhdf5 {what} ({signal.Signals(death.signum).name} in a trial run): damaged, or made to"
        raise InputError(problem, subject=name) from death


def _listed(child: Child, name: str, seconds: float | None = None) -> tuple[list[str], list[str]]:
    match _asked(child, name, "list", seconds=seconds):
        case [names, skipped]:
            return _strings(names, name), _strings(skipped, name)
    raise _nonsense(name)


def _strings(answer: Any, name: str) -> list[str]:
    """Return an answer that is a list of strings, or raise InputError."""
    if isinstance(answer, list) and all(isinstance(each, str) for each in answer):
        return answer
    raise _nonsense(name)


def _nonsense(name: str) -> InputError:
    return InputError("cannot be read (the answer of a trial run makes no sense)", subject=name)
