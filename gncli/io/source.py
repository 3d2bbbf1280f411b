"""What the engine knows of the outside: tensors are read, and written, by runs of elements in storage order.

A run is ``[start, start + n)`` of the tensor's elements, counted as they lie in the file. A .npy, a dataset, a pipe
and a random tensor are all read by runs, in C and in Fortran order alike: the reader of a run never needs to know
which axis moves.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError
from gncli.kernels.floats import Float

if TYPE_CHECKING:
    from gncli.io.atomic import OutputFile
    from gncli.io.rawfile import RawFile

MAX_MEMBERS = 100_000  # named in one file
SHOWN_NAMES = 10

Order = Literal["C", "F"]


class Identity(NamedTuple):
    """What distinguishes one state of a file from another: device, inode, size in bytes, and times in ns."""

    device: int
    inode: int
    nbytes: int
    mtime_ns: int
    ctime_ns: int


class StoredChunks(NamedTuple):
    """How many of a tensor's chunks its file stores; the elements of the others are the fill value.

    Attributes
    ----------
    stored, total : int
        The stored chunks, and all chunks.
    fill : int, float or bool
        The fill value.
    """

    stored: int
    total: int
    fill: float


class Closing:
    """A base class of what holds a file: at the end of a ``with`` block it is closed."""

    def close(self) -> None:
        """Close the file behind it; a second time, do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Committing:
    """A base class of what is written: at the end of a ``with`` block, it is aborted if it was not committed."""

    def commit(self) -> None:
        """Make it visible under its name, whole, or raise OutputError and leave what was there."""

    def abort(self) -> None:
        """Remove whatever was begun; after `commit` or a second `abort`, do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


class StoredFile(Closing, ABC):
    """A file, or an object on a store, whose bytes are read by offset, from any thread: a base class.

    Attributes
    ----------
    name : str
        As the user typed it, for errors.
    path : str or None
        Where it lies in the file system; None where it has no path.
    identity : Identity
        What it was when it was opened.
    copied : bool, default: False
        Whether this is a copy in $TMPDIR of an object on a store.
    """

    name: str
    path: str | None
    identity: Identity
    copied: bool = False

    @abstractmethod
    def read(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on.

        Raises
        ------
        ChangedError
            If it ends before that: its size was checked when it was opened.
        InputError
            If it cannot be read.
        """

    @abstractmethod
    def head(self, nbytes: int, offset: int = 0) -> bytes:
        """Return up to `nbytes` bytes from `offset` on: fewer only at the end."""

    def will_need(self, offset: int, nbytes: int, stop: int) -> None:
        """Declare that these bytes are read next, and other bytes before `stop` soon; a store then begins to send them.

        A file does nothing: the system reads ahead of itself.
        """

    @abstractmethod
    def duplicate(self) -> StoredFile:
        """Return another reader of the same bytes, to be closed on its own."""

    @abstractmethod
    def local(self) -> RawFile:
        """Return it as a file of the file system, for what reads in no other way; this is then closed, or the same."""

    @abstractmethod
    def beside(self, name: str, subject: str | None = None) -> StoredFile:
        """Return the file of that name in the same folder, which errors call `subject`, by default by its path.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """

    @abstractmethod
    def neighbours(self) -> list[str]:
        """Return the names of the files in the same folder, as far as they can be listed."""

    @abstractmethod
    def verify_unchanged(self) -> None:
        """Raise ChangedError if it is not what it was when it was opened."""


class Writable(Committing, ABC):
    """What takes bytes at offsets: a base class."""

    @abstractmethod
    def write(self, view: memoryview, offset: int) -> None:
        """Write `view` at `offset`, from any thread."""


class NewFile(Writable):
    """A file, or an object on a store, that is written at any offset, and appears whole, on `commit`: a base class.

    Attributes
    ----------
    name : str
        The output as the user typed it.
    replaces : bool
        Whether something has that name already.
    """

    name: str
    replaces: bool

    @abstractmethod
    def allocate(self, nbytes: int) -> None:
        """Declare its size in bytes, before anything is written.

        Raises
        ------
        OutputError
            If there is no room for it.
        LimitError
            If it is larger than the store allows.
        """

    @abstractmethod
    def scratch(self) -> OutputFile:
        """Return a file without a name for intermediate data; it disappears with the process."""

    @abstractmethod
    def replaced(self) -> StoredFile:
        """Return the reader of what has that name already."""


class FolderNames(NamedTuple):
    """How a format that is a folder names the files in it, by their paths there.

    Attributes
    ----------
    describing : re.Pattern
        The files that say what the folder is: one of them at its root makes it one of the format.
    made : re.Pattern
        All files that gncli writes.
    """

    describing: re.Pattern[str]
    made: re.Pattern[str]


class Files(Committing, ABC):
    """Files of a folder that is written, or objects below a prefix: a base class.

    Attributes
    ----------
    name : str
        The output as the user typed it.
    """

    name: str

    @abstractmethod
    def file(self, key: str) -> Writable:
        """Return a new file, by its path in the folder: written from its beginning on, and whole once committed."""


class NewFolder(Files):
    """A folder, or objects below a prefix, that is written file by file, and stands for a folder from `commit` on.

    Attributes
    ----------
    replaces : bool
        Whether something has that name already.
    notes : tuple of str, default: ()
        What a report must say of what was there before: each a sentence that begins with the name.
    """

    replaces: bool
    notes: tuple[str, ...] = ()

    @abstractmethod
    def elsewhere(self) -> Callable[[], Files]:
        """Return what opens the folder in another process, which writes whole files of it, until this commits."""

    def describe(self, key: str, data: bytes) -> None:
        """Add a small file that nobody sees before all others: the last one of these makes the folder whole."""
        with self.file(key) as file:
            file.write(memoryview(data), 0)
            file.commit()

    @abstractmethod
    def scratch(self) -> OutputFile:
        """Return a file without a name for intermediate data; it disappears with the process."""

    @abstractmethod
    def files(self) -> Iterator[str]:
        """Yield the paths of the files in what has that name already."""

    @abstractmethod
    def replaced(self, key: str) -> StoredFile:
        """Return the reader of a file in what has that name already."""


class Source(Closing, ABC):
    """A tensor that can be read: a base class, whose defaults are those of an array in memory.

    Attributes
    ----------
    name : str
        As the user typed it.
    shape : tuple of int
        As NumPy shows it.
    dtype : numpy.dtype
        As read, byte order included; boolean, integer or float16/32/64.
    order : {"C", "F"}, default: "C"
        "C" where the last axis runs fastest in storage, "F" where the first one does.
    sequential : bool, default: False
        Whether it is read forwards only, by one thread at a time (a pipe, a random stream). Other sources may be
        read anywhere, by many threads at once.
    in_chunks : bool, default: False
        Whether runs are made of chunks that are decoded whole, and kept until all of their elements were read.
    holds_in_file : bool, default: False
        Whether `hold` keeps a copy in a file in $TMPDIR.
    identity : Identity, optional
        Of the file behind it, when it was opened.
    stored_as : Float, optional
        Its dtype in the file where NumPy has none like it, and a wider one is read: bfloat16.
    dimensions : tuple of str, default: ()
        The names of its axes, one per axis, as netCDF gives them; empty where they have none.
    seed : int, optional
        The seed that a random tensor is drawn from.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order = "C"
    sequential: bool = False
    in_chunks: bool = False
    holds_in_file: bool = False
    identity: Identity | None = None
    stored_as: Float | None = None
    dimensions: tuple[str, ...] = ()
    seed: int | None = None

    @property
    def dtype_name(self) -> str:
        """The name of the dtype in which the tensor is stored, whatever the byte order."""
        return str((self.stored_as or self.dtype).name)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The dtype of what `read_stored` reads: for one that NumPy does not have, integers of its size."""
        return self.dtype if self.stored_as is None else self.stored_as.stored

    @property
    def stored_chunks(self) -> StoredChunks | None:
        """How much of it is in its file, if that stores it in chunks; some formats count that when they are asked."""
        return None

    @property
    def not_stored(self) -> int | None:
        """How many chunks the file does not store; None if the tensor is not in chunks."""
        chunks = self.stored_chunks
        return None if chunks is None else chunks.total - chunks.stored

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report of the tensor must say of its file: each a sentence that begins with its name."""
        chunks, missing = self.stored_chunks, self.not_stored
        if chunks is None or not missing:
            return ()
        _, total, fill = chunks
        few = "is not stored; its" if missing == 1 else "are not stored; their"
        value = repr(fill).removesuffix(".0")
        return (f"{self.name}: {missing:,} of {total:,} chunks {few} elements are the fill value {value}",)

    @property
    def held_names(self) -> tuple[str, ...]:
        """The names of the tensors that `hold` keeps in a file."""
        return (self.name,) if self.holds_in_file else ()

    def lent(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return these elements where they lie in memory, not to be written to; None where they must be read."""
        return None

    @abstractmethod
    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` (1-D, contiguous, of `dtype`) with the elements from `start` on, in storage order.

        Raises
        ------
        ChangedError
            If the file behind it has become shorter.
        InputError
            If it cannot be read, or ends early.
        """

    def read_stored(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` (1-D, contiguous, of `stored_dtype`) with the bits of the elements from `start` on."""
        if self.stored_as is None:
            self.read_into(out, start)
            return
        values = np.empty(out.size, self.dtype)
        self.read_into(values, start)
        self.stored_as.narrow(values, out)

    def will_need(self, start: int, stop: int) -> None:
        """Declare that ``[start, stop)`` is read next, as one of several runs in storage order.

        It is for what takes long to arrive: a store on a network then begins to send it.
        """

    def hold(self, start: int, stop: int) -> None:  # most sources can be read again
        """Declare that ``[start, stop)`` will be read again, from `start`, after it was read once.

        Only sequential sources do something about it: a pipe keeps a copy in a file, a random stream its state.
        """

    def again(self) -> Source:
        """Return a source of the same tensor, to read from its beginning once more.

        This is the source itself, but for a random tensor: that is drawn anew from its seed. A pipe can only be read
        again where it was held.
        """
        return self

    def verify_unchanged(self) -> None:  # without a file behind it, nothing changes
        """Raise ChangedError if the file behind it is not what it was when it was opened."""


class Wrapping(Source):
    """A source that is made of another one. It forwards what it does not override, but not `close`.

    Parameters
    ----------
    inner : Source
        What it is made of; whoever opened it closes it.
    """

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self.name, self.shape, self.dtype, self.order = inner.name, inner.shape, inner.dtype, inner.order
        self.sequential, self.holds_in_file, self.identity = inner.sequential, inner.holds_in_file, inner.identity
        self.stored_as, self.dimensions, self.seed = inner.stored_as, inner.dimensions, inner.seed
        self.in_chunks = inner.in_chunks

    def hold(self, start: int, stop: int) -> None:
        """Declare that the run will be read again."""
        self.inner.hold(start, stop)

    def verify_unchanged(self) -> None:
        """Raise ChangedError if the file behind it is not what it was when it was opened."""
        self.inner.verify_unchanged()


class Sink(Committing, ABC):
    """A place for one tensor: a base class, whose defaults are those of an array in memory.

    Nothing of the tensor is visible before `commit`; only a stream cannot be taken back.

    Attributes
    ----------
    name : str, default: ""
        As the user typed it.
    sequential : bool, default: False
        Whether runs must be written in order, by one thread at a time (standard output).
    notes : tuple of str, default: ()
        What a report must say of what was there before: each a sentence that begins with its name.
    """

    name: str = ""
    sequential: bool = False
    notes: tuple[str, ...] = ()

    def lent(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return where these elements belong in memory, to be written there; None where `write_from` must take them."""
        return None

    @abstractmethod
    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data` (1-D, contiguous, in the sink's dtype) as the elements from `start` on, in storage order.

        Raises
        ------
        OutputError
            If it cannot be written.
        """


class Archive(Committing, ABC):
    """A file of named arrays, which is written whole."""

    @abstractmethod
    def write(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the arrays under their names, once."""


class Container(Closing, ABC):
    """A file of several tensors, each with a name: a base class of HDF5, .npz and .safetensors.

    Sources that were opened keep what they need of the file when it is closed.

    Attributes
    ----------
    skipped : list of str
        The names of what holds no numbers; known after `names`.
    many : bool, default: False
        Whether it stands for many tensors, even where it holds only one: a folder, an index of shards.
    hint : str, optional
        What to do where it holds no tensor.
    """

    skipped: list[str]
    many: bool = False
    hint: str | None = None

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the numeric tensors."""

    @abstractmethod
    def open(self, member: str, name: str) -> Source:
        """Return the tensor `member`, which errors call `name`.

        Raises
        ------
        InputError
            If there is none of that name, or it is damaged or refused.
        LimitError
            If it declares far more than it stores, or needs too much memory.
        """

    def openers(self, members: Sequence[str], name: str) -> Iterator[Callable[[], Source]]:
        """Yield what opens each of `members`; errors call it ``name::member``, or `name` where it is the only one."""
        for member in members:
            yield partial(self.open, member, name if len(members) == 1 else f"{name}::{member}")


def list_names(names: list[str]) -> str:
    """Return the names in one phrase, the first ten and a count.

    Examples
    --------
    >>> list_names(["/a", "/b"])
    '/a, /b'
    """
    shown = ", ".join(names[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES:,} more"


NEAR = 0.75  # the similarity of names from which on one is meant that is more similar than all others


def not_found(member: str, names: list[str], kind: str, name: str) -> InputError:
    """Return the error about a name that is not in a container: it says the nearest name, or those that are there.

    Parameters
    ----------
    member : str
        The name that is not there.
    names : list of str
        The names that are.
    kind : str
        What the container holds: "dataset", "tensor", "array".
    name : str
        The input that the error is about.
    """
    import difflib  # needed only once a name is wrong

    near = difflib.get_close_matches(member, names, SHOWN_NAMES)
    ratio = {name: difflib.SequenceMatcher(None, name, member).ratio() for name in near}
    others = [name for name in names if name not in near]
    hint = f"the file has {list_names([*near, *others])}" if names else f"the file holds no numeric {kind}"
    if near and ratio[near[0]] >= NEAR and list(ratio.values()).count(ratio[near[0]]) == 1:
        hint = f"did you mean {near[0]}?"
    if re.search("[*?[]", member):
        hint = f"--match {member.removeprefix('/')!r} chooses tensors by a pattern"
    if names == [""]:
        hint = f"the file has one {kind}, without a name: leave out the ::NAME"
    return InputError(f"no such {kind}", subject=name, hint=hint)
