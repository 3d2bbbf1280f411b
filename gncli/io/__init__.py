"""Tensors by name: the only place that sees file names.

The format of an input is recognized by its first bytes, never by its name; that of an output by its suffix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gncli.errors import InputError, LimitError, OutputError, ParameterError
from gncli.inputs import ON_NETWORK, STRICT, Network, Policy
from gncli.io import urls
from gncli.io.arrays import ArraySink, ArraySource
from gncli.io.atomic import AtomicFile, Page, same_file
from gncli.io.atomic_folder import AtomicFolder
from gncli.io.folder import open_file, opened
from gncli.io.foreign import Narrowed
from gncli.io.formats import (
    NPY,
    Output,
    Written,
    npz_sink,
    recognized,
    stream_sink,
    unknown_suffix,
    versions,
    written,
)
from gncli.io.lending import Lent, lend
from gncli.io.pipe import STDOUT, Pipe
from gncli.io.random import RandomSource
from gncli.io.rawfile import RawFile
from gncli.io.source import Archive, Closing, Container, Identity, NewFile, NewFolder, Order, Sink, Source, list_names
from gncli.io.urls import is_url, parsed
from gncli.kernels.floats import Float
from gncli.names import TENSOR_SUFFIXES, compression_of

if TYPE_CHECKING:  # seldom needed
    from gncli.io.shared import SharedFolder

__all__ = [
    "ArraySink",
    "ArraySource",
    "Identity",
    "Listing",
    "Order",
    "Page",
    "RandomSource",
    "Sink",
    "Source",
    "is_npy",
    "lend",
    "lent",
    "member_names",
    "name_of",
    "open_npz",
    "open_page",
    "open_sink",
    "open_source",
    "open_sources",
    "read_names",
    "read_text",
    "same_file",
    "versions",
]

MAX_TEXT_NBYTES = 64 << 20

_NAME_ONE = "name one, as FILE::NAME"


class Listing(Closing, Iterator[Source]):
    """The tensors that a name stands for, opened one after the other.

    An error that `next` raises is about the tensor whose turn it was: to collect errors, go on with the next one. The
    arrays of a pipe must be used in turn: what was not read of one is skipped before the next.

    Parameters
    ----------
    container : Container
        What holds them; it is closed after the last one.
    name : str
        What errors call it.
    member : str, optional
        The name of the only tensor that is meant.

    Attributes
    ----------
    skipped : int
        How many other members of the container are no numeric tensors.
    name : str
        What errors call what holds them.
    many : bool
        Whether several tensors are meant, or a folder or an index, which may hold only one.
    members : list of str
        The names of the tensors in the container.
    lone : bool
        Whether one tensor is meant by all of the name: a .npy, or one that is named with its file.
    """

    def __init__(self, container: Container, name: str, member: str | None = None) -> None:
        self.skipped = 0
        self._container, self.name = container, name
        try:
            self.members = self._numeric() if member is None else [member]
        except BaseException:
            container.close()
            raise
        self.lone = member is not None or self.members == [""]
        self.many = member is None and (container.many or len(self.members) > 1)
        self._openers = _each(container, self.members, name)

    def _numeric(self) -> list[str]:
        """Return the names of the numeric tensors; without any, that of a lone other, which says why when opened."""
        names, others = self._container.names(), self._container.skipped
        if not names and len(others) != 1:
            problem, hint = f"holds no numeric tensor ({len(others):,} others)", self._container.hint
            raise InputError(problem, subject=self.name, hint=hint)
        self.skipped = len(others) if names else 0
        return names or others

    def __next__(self) -> Source:
        """Return the next tensor, which the caller closes."""
        return next(self._openers)()

    def opening(self, members: Sequence[str]) -> Iterator[Callable[[], Source]]:
        """Yield what opens each of `members`, in that order, instead of all tensors; each is called ``FILE::NAME``."""
        return (partial(self._container.open, member, f"{self.name}::{member}") for member in members)

    def close(self) -> None:
        """Close the container; sources that were opened keep what they need of it."""
        self._container.close()

    def only(self) -> Source:
        """Return the one tensor that there must be, which the caller closes.

        Raises
        ------
        InputError
            If there are several.
        """
        with self._container:
            if len(self.members) > 1:
                problem = f"holds {len(self.members):,} tensors: {list_names(self.members)}"
                raise InputError(problem, subject=self.name, hint=_NAME_ONE)
            return self._container.open(self.members[0], self.name)


def _each(container: Container, members: Sequence[str], name: str) -> Iterator[Callable[[], Source]]:
    with container:
        yield from container.openers(members, name)


def lent(x: Any, name: str) -> Listing:
    """Return an array of any library as a listing of one tensor; for the parameters and errors see `lend`."""
    return Listing(Lent(lend(x, name)), name)


def name_of(tensor: str | Listing) -> str:
    """Return what errors call a tensor that is named, or open already."""
    return tensor if isinstance(tensor, str) else tensor.name


def open_sources(text: str | Listing, *, policy: Policy = STRICT, stdin: int | None = None) -> Listing:
    """Return all numeric tensors that TENSOR names.

    Parameters
    ----------
    text : str or Listing
        ``FILE``, ``FOLDER``, either of these with ``::NAME``, or ``-``; or what is open already, and is returned.
    policy : Policy, optional
        What the input may do and ask for.
    stdin : int, optional
        The descriptor behind ``-``, 0 by default.

    Raises
    ------
    InputError
        If it cannot be read, or holds none.
    """
    if isinstance(text, Listing):
        return text
    if text == "-":
        pipe = Pipe(0 if stdin is None else stdin)
        container = recognized(pipe).stream(pipe, policy) or open_file(pipe.spool(), pipe.name, policy)
        return Listing(container, pipe.name)
    path, member = _split(text)
    try:
        return Listing(opened(path, text, policy), text, member)
    except InputError as error:
        if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
            error.hint = error.hint or _meant(path)
        raise


def open_source(text: str | Listing, *, policy: Policy = STRICT, stdin: int | None = None) -> Source:
    """Return the one tensor that TENSOR names; for the parameters see `open_sources`.

    Raises
    ------
    InputError
        If it cannot be read, or holds none or several. Bytes after the array on a pipe can only be seen when it was
        read to its end: `Source.verify_unchanged` refuses them.
    """
    return open_sources(text, policy=policy, stdin=stdin).only()


def _meant(path: str) -> str | None:
    """Return what could have been meant by a path that is none; None where nothing is near."""
    import difflib  # needed only once a name is wrong

    if is_url(path):
        return None
    if re.search("[*?[]", path):
        import glob

        found = any(glob.iglob(path))
        return "a shell reads this pattern: leave out the quotes" if found else "no file matches this pattern"
    for cut in re.finditer("[:/ ]+", path):
        if os.path.isfile(path[: cut.start()]):
            return f"a tensor in a file is named {path[: cut.start()]}::{path[cut.end() :]}"
    folder, name = os.path.split(path)
    if folder == "/":
        return f"a tensor in a file is named FILE::{path}"
    if not os.path.isdir(folder or "."):
        inside = "" if name.endswith(TENSOR_SUFFIXES) else f"; a tensor in a file is named FILE::{path}"
        return f"there is no folder {folder}{inside}"
    known = os.listdir(folder or ".")
    near = [name + suffix for suffix in TENSOR_SUFFIXES if name + suffix in known]  # it was left out
    near = near or [other for other in known if other.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, known, 1, 0.8)
    return f"did you mean {os.path.join(folder, near[0])}?" if near else None


def is_npy(text: str) -> bool:
    """Return whether TENSOR names a .npy file, and so a tensor that is a file of its own."""
    if text == "-" or is_url(text) or _split(text)[1] is not None:
        return False
    with RawFile(text, text) as file:
        return NPY.recognizes(file)


def member_names(path: str, seconds: float) -> list[str]:
    """Return the names of the numeric tensors in a file or folder; none where they have no names.

    Raises
    ------
    InputError
        If it cannot be listed.
    LimitError
        If listing an HDF5 file takes longer than `seconds`.
    """
    if os.path.isdir(path):
        with opened(path, path) as folder:
            return folder.names()
    with RawFile(path, path) as file:
        format_ = recognized(file)
    return format_.names(path, seconds)


def read_text(path: str) -> str:
    """Return what a small file of text says.

    Raises
    ------
    InputError
        If it cannot be read, or is no UTF-8.
    LimitError
        If it is longer than `MAX_TEXT_NBYTES`.
    """
    try:
        return _whole(RawFile(path, path)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is no text ({error.reason} at byte {error.start:,})", subject=path) from error


def read_names(path: str, *, null: bool = False, stdin: int | None = None) -> list[str]:
    """Return the names in a small file, without empty ones.

    Parameters
    ----------
    path : str
        The file; ``-`` is standard input.
    null : bool, default: False
        Whether a NUL ends each name, and not a newline.
    stdin : int, optional
        The descriptor behind ``-``, 0 by default.

    Raises
    ------
    InputError
        If it cannot be read, holds no name, or holds a NUL that ends none.
    LimitError
        If it is longer than `MAX_TEXT_NBYTES`.
    """
    file = Pipe(0 if stdin is None else stdin).spool() if path == "-" else RawFile(path, path)
    data = _whole(file)
    if not null and b"\0" in data:
        raise InputError("holds a NUL", subject=file.name, hint="--null reads what find -print0 writes")
    names = [os.fsdecode(name) for name in data.split(b"\0" if null else b"\n") if name]
    if not names:
        raise InputError("names no tensor", subject=file.name, hint=f"it has one name per {'NUL' if null else 'line'}")
    return names


def _whole(file: RawFile) -> bytes:
    """Return all bytes of a small file, and close it."""
    with file:
        nbytes = file.identity.nbytes
        if nbytes > MAX_TEXT_NBYTES:
            raise LimitError(f"is {nbytes:,} bytes long; the limit is {MAX_TEXT_NBYTES:,}", subject=file.name)
        return file.head(nbytes)


def open_sink(
    text: str,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype[Any] | Float,
    order: Order = "C",
    attributes: Mapping[str, object] | None = None,
    force: bool = False,
    inputs: Sequence[Source] = (),
    in_place: bool = False,
    compression: int | str | None = None,
    npy_bits: bool = False,
    stdout: int | None = None,
    folder: SharedFolder | None = None,
    alone: bool = False,
    network: Network = ON_NETWORK,
) -> Sink:
    """Return the sink that OUT names, begun: whatever forbids writing it is raised here, before any computation.

    Parameters
    ----------
    text : str
        ``FILE.npy``, ``FILE.h5``, ``FILE.hdf5``, ``FILE.safetensors``, ``FILE.zarr``, one of the last four with
        ``::NAME``, or ``-``.
    shape : tuple of int
        Shape of the tensor.
    dtype : numpy.dtype or Float
        Its dtype. Numbers of one that NumPy lacks are written from float32.
    order : {"C", "F"}, default: "C"
        The order in which the runs come. A .npy is written in that order, the other formats in C order.
    attributes : mapping, optional
        The attributes of an HDF5 dataset or a Zarr array; the metadata of a .safetensors.
    force : bool, default: False
        Whether an existing file may be replaced.
    inputs : sequence of Source, optional
        What is being read: OUT may not be one of these files.
    in_place : bool, default: False
        Whether OUT is meant to be the first of `inputs`.
    compression : int or str, optional
        How the chunks of HDF5 or Zarr are compressed, as `compression_of` takes it; by default they are not.
    npy_bits : bool, default: False
        Whether a .npy may hold the bits of a dtype that it cannot name.
    stdout : int, optional
        The descriptor behind ``-``, 1 by default.
    folder : SharedFolder, optional
        Where the file is until it is whole, if it is written in parts.
    alone : bool, default: False
        Whether no other process may write a part of it meanwhile.
    network : Network, optional
        How an object on a store is written.

    Raises
    ------
    ParameterError
        If no format has this suffix, or ``-`` is a terminal, or the format is not compressed, or cannot name the
        dtype.
    OutputError
        If it cannot be written, or may not be written over.
    """
    notes: tuple[str, ...] = ()
    format_, path, member = (None, text, None) if text == "-" else written(text)
    level = None if compression is None else _level(compression, format_, STDOUT if text == "-" else text)
    kind = dtype if isinstance(dtype, Float) and dtype.foreign else None
    stored = dtype.stored.newbyteorder("=") if isinstance(dtype, Float) else dtype
    if text != "-" and format_ is None:
        raise unknown_suffix(text)
    _check_nameable(NPY if format_ is None else format_, kind, npy_bits, STDOUT if text == "-" else text)
    if text == "-":
        fd = 1 if stdout is None else stdout
        if os.isatty(fd):
            raise ParameterError("is a terminal, which takes no binary data", subject=STDOUT, hint="redirect it")
        sink = stream_sink(shape, stored, order, fd, kind is not None)
        return sink if kind is None else Narrowed(sink, kind)

    assert format_ is not None  # it has a suffix
    if is_url(text):
        if not format_.to_stores:
            hint = "write a .npy, a .safetensors or a .zarr, or write it to a file, and copy that"
            raise ParameterError(f"{format_.name} is not written to a store", subject=text, hint=hint)
        url = parsed(text, ParameterError)[0]
        if folder is None and format_.files is None:
            from gncli.io.remote import open_uploads  # only who names a store needs it

            notes = open_uploads(url, text, network)

    def begin() -> NewFile:
        if folder is not None:
            return folder.begin(alone=alone, force=force, inputs=inputs)
        if is_url(text):
            from gncli.io.remote import begin_object  # only who names a store needs it

            return begin_object(url, text, force=force, inputs=inputs, network=network)
        return AtomicFile(path, name=text, force=force, inputs=inputs, in_place=in_place)

    def begin_folder() -> NewFolder:
        nonlocal notes
        if folder is not None:
            return folder.begin_store(alone=alone, force=force, inputs=inputs)
        if is_url(text):
            from gncli.io.remote import begin_folder  # only who names a store needs it

            assert format_.files is not None  # it is a folder
            begun = begin_folder(url, format_.files, text, force=force, inputs=inputs, network=network)
            notes = begun.notes
            return begun
        return AtomicFolder(path, name=text, force=force, inputs=inputs)

    opens = begin, begin_folder
    output = Output(text, path, member, *opens, shape, stored, order, attributes or {}, level, kind)
    sink = format_.sink(output) if kind is None else Narrowed(format_.sink(output), kind)
    sink.notes = notes
    return sink


def _level(compression: int | str, format_: Written | None, subject: str) -> int:
    """Return the level of a compression, or raise ParameterError if the format has no such one."""
    way, level = compression_of(compression)
    if format_ is None or not format_.compressions:
        hint = "leave out --compression, or write to FILE.h5 or FILE.zarr"
        raise ParameterError("only HDF5 and Zarr are compressed", subject=subject, hint=hint)
    if way not in format_.compressions:
        known = " or ".join(format_.compressions)
        problem = f"{format_.name} is not compressed by {way}"
        raise ParameterError(problem, subject=subject, hint=f"write --compression {known}")
    return level


def _check_nameable(format_: Written, kind: Float | None, npy_bits: bool, subject: str) -> None:
    """Raise ParameterError if a format cannot name the dtype of an output, and `npy_bits` does not help it."""
    if npy_bits and (kind is None or format_ is not NPY):
        problem = "--npy-bits is about a .npy of bfloat16 or float8"
        raise ParameterError(problem, subject=subject, hint="leave it out")
    if kind is not None and not format_.names_dtypes and not npy_bits:
        bits = f", or say --npy-bits: its elements are then raw, V{kind.stored.itemsize}" if format_ is NPY else ""
        hint = f"write to FILE.safetensors{bits}"
        raise ParameterError(f"{format_.name} cannot name {kind.name}", subject=subject, hint=hint)


def open_npz(text: str, *, force: bool = False, inputs: Sequence[Source] = ()) -> Archive:
    """Return the sink of a .npz file, begun, with the rules of `open_sink`.

    Raises
    ------
    ParameterError
        If the suffix is another one.
    OutputError
        If it cannot be written, or may not be written over.
    """
    if not text.lower().endswith(".npz"):
        raise unknown_suffix(text, "FILE.npz")
    return npz_sink(AtomicFile(text, name=text, force=force, inputs=inputs))


def open_page(
    text: str, *, force: bool = False, inputs: Sequence[str] = (), outputs: Sequence[str | None] = ()
) -> Page:
    """Return a small file that stands beside the output, begun, before anything is opened.

    Parameters
    ----------
    text : str
        Its path.
    force : bool
        Whether an existing file may be replaced.
    inputs : sequence of str
        The tensors that will be read, as they were named.
    outputs : sequence of str
        What else will be written, as it was named; None is nothing.

    Raises
    ------
    OutputError
        If it is one of these files, or cannot be written, or may not be written over.
    """
    for name in inputs:
        if name != "-" and same_file(text, _split(name)[0]):
            raise OutputError(f"is the same file as the input {name}", subject=text, hint="choose another name")
    for name in filter(None, outputs):
        if name != "-" and same_file(text, written(name)[1]):
            hint = "choose another name for one of them"
            raise OutputError(f"is the same file as the output {name}", subject=text, hint=hint)
    return Page(AtomicFile(text, name=text, force=force))


def stored_nbytes(text: str) -> int | None:
    """Return the bytes of the file that a tensor is in, or of all files of a folder; None if there is none, as of -."""
    try:
        path = _split(text)[0]
        if not os.path.isdir(path):
            return None if text == "-" else os.stat(path).st_size
        return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(path) for name in names)
    except (InputError, OSError):
        return None


def _split(text: str) -> tuple[str, str | None]:
    """Return FILE and NAME; NAME is None where there is none. Whatever exists as a file is one."""
    if is_url(text):
        parsed(text)  # which refuses what is none
        return urls.split(text)
    if os.path.lexists(text) or "::" not in text:
        return text, None
    cuts = [match.start() for match in re.finditer("(?=::)", text)]
    cut = next((at for at in cuts if os.path.lexists(text[:at])), cuts[0])
    if not text[cut + 2 :].strip("/"):
        raise InputError("has no name after the ::", subject=text)
    return text[:cut], text[cut + 2 :]
