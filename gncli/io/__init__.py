"""Tensors by name: the only place that sees file names.

The format of an input is told by its first bytes, never by its name; that of an output by its suffix. What is for one
format alone is imported where a file of it is met: h5py takes longer than most tensors take to read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError, OutputError, ParameterError
from gncli.io.arrays import ArraySink, ArraySource
from gncli.io.atomic import AtomicFile, Page, same_file
from gncli.io.formats import npy
from gncli.io.pipe import STDIN, STDOUT, Pipe, StreamSink, StreamSource, listen
from gncli.io.random import RandomSource
from gncli.io.rawfile import RawFile
from gncli.io.source import Container, Identity, Order, Sink, Source, list_names
from gncli.names import STRICT, Policy

if TYPE_CHECKING:
    from gncli.io.formats.npz import NpzSink

__all__ = [
    "ArraySink",
    "ArraySource",
    "Identity",
    "Listing",
    "Order",
    "Page",
    "Policy",
    "RandomSource",
    "Sink",
    "Source",
    "is_npy",
    "listen",
    "member_names",
    "open_npz",
    "open_page",
    "open_sink",
    "open_source",
    "open_sources",
    "same_file",
    "versions",
    "write_npz",
]

_HEAD_NBYTES = 9  # of a file, that tell its format
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # a member, or the end of an archive that has none
_SAFETENSORS_HEADER_NBYTES = 100_000_000  # the format's own limit: no text and no other format begins with less
_HDF5_NAME = "data"
_HDF5_OUT = re.compile(r"(.*?\.(?:h5|hdf5))(?:::(.*))?", re.DOTALL | re.IGNORECASE)
_NAME_ONE = "name one, as FILE::NAME"


class Listing(Iterator[Source]):
    """The tensors that a name stands for, opened one after the other.

    An error that `next` raises is about the tensor whose turn it was: go on with the next one, if errors are to be
    collected. Of a pipe, the arrays must be used in turn: what was not read of one is skipped for the next.

    Attributes
    ----------
    skipped : int
        How many more the container holds that are no numeric tensors.
    """

    def __init__(self, openers: Iterator[Callable[[], Source]], skipped: int = 0) -> None:
        self._openers = openers
        self.skipped = skipped

    def __next__(self) -> Source:
        """Return the next tensor, which the caller closes."""
        return next(self._openers)()


def open_sources(text: str, *, policy: Policy = STRICT, stdin: int | None = None) -> Listing:
    """Return all numeric tensors that TENSOR names.

    Parameters
    ----------
    text : str
        ``FILE``, ``FILE::NAME`` or ``-``.
    policy : Policy, optional
        What it may do and ask for.
    stdin : int, optional
        The descriptor behind ``-``, 0 by default.

    Raises
    ------
    InputError
        If it cannot be read, or holds none.
    """
    if text == "-":
        pipe = Pipe(0 if stdin is None else stdin)
        if not _begins_as_container(pipe):
            return Listing(_concatenated(pipe))
        file, text, member = pipe.spool(), pipe.name, None
    else:
        path, member = _split(text)
        file = RawFile(path, text)
    try:
        if member is None and (container := _container(file, text, policy)) is not None:
            return _all_of(container, text)
        source = _open_member(file, text, member, policy)
    except BaseException:
        file.close()
        raise
    return Listing(iter([lambda: source]))


def open_source(text: str, *, policy: Policy = STRICT, stdin: int | None = None) -> Source:
    """Return the one tensor that TENSOR names.

    Parameters
    ----------
    text : str
        ``FILE``, ``FILE::NAME`` or ``-``.
    policy : Policy, optional
        What it may do and ask for.
    stdin : int, optional
        The descriptor behind ``-``, 0 by default.

    Raises
    ------
    InputError
        If it cannot be read, or holds none or several. Bytes after the array on a pipe can only be seen when it was
        read to its end: `Source.verify_unchanged` refuses them.
    """
    if text == "-":
        pipe = Pipe(0 if stdin is None else stdin)
        if not _begins_as_container(pipe):
            return StreamSource(pipe)
        file, path, member = pipe.spool(), pipe.name, None
    else:
        path, member = _split(text)
        file = RawFile(path, text)
    try:
        return _open_member(file, path if text == "-" else text, member, policy)
    except BaseException:
        file.close()
        raise


def is_npy(text: str) -> bool:
    """Return whether TENSOR names a .npy file, and so a tensor that is a file of its own."""
    if text == "-" or _split(text)[1] is not None:
        return False
    with RawFile(text, text) as file:
        return file.head(len(npy.MAGIC)) == npy.MAGIC


def member_names(path: str, seconds: float) -> list[str]:
    """Return the names of the numeric tensors in a file; none where it is not one of several.

    Raises
    ------
    InputError
        If it cannot be listed.
    LimitError
        If listing an HDF5 file takes longer than `seconds`.
    """
    with RawFile(path, path) as file:
        if _is_hdf5(file):
            names: list[str] = _hdf5().names_in(path, seconds)
            return names
        container = _container(file, path, STRICT)
        return [] if container is None else container.names()


def versions() -> dict[str, str]:
    """Return the versions of what tensors are read with."""
    return {"NumPy": np.__version__, **_hdf5().VERSIONS}


def open_sink(
    text: str,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    order: Order = "C",
    attributes: Mapping[str, object] | None = None,
    force: bool = False,
    inputs: Sequence[Source] = (),
    in_place: bool = False,
    compression: int | None = None,
    stdout: int | None = None,
) -> Sink:
    """Return the sink that OUT names, begun: what forbids to write it is met here, before anything is computed.

    Parameters
    ----------
    text : str
        ``FILE.npy``, ``FILE.h5``, ``FILE.hdf5``, either of these with ``::NAME``, or ``-``.
    shape, dtype, order
        Of the tensor. A .npy is written in that order; HDF5 takes the runs in that order and stores them in C order.
    attributes : mapping, optional
        Of the dataset, in HDF5.
    force : bool
        Whether an existing file may be replaced.
    inputs : sequence of Source
        What is being read, which OUT may not be.
    in_place : bool
        Whether OUT is meant to be the first of `inputs`.
    compression : int, optional
        Level of deflate, 0 to 9, in HDF5; by default the data are stored as they are.
    stdout : int, optional
        The descriptor behind ``-``, 1 by default.

    Raises
    ------
    ParameterError
        If no format has this suffix, or ``-`` is a terminal, or the format is not compressed.
    OutputError
        If it cannot be written, or may not be written over.
    """
    match = _HDF5_OUT.fullmatch(text)
    if compression is not None and match is None:
        hint = "leave out --compression, or write to FILE.h5"
        raise ParameterError("only HDF5 is compressed", subject=STDOUT if text == "-" else text, hint=hint)
    if text == "-":
        fd = 1 if stdout is None else stdout
        if os.isatty(fd):
            raise ParameterError("is a terminal, which takes no binary data", subject=STDOUT, hint="redirect it")
        return StreamSink(shape, dtype, order, fd)
    if text.lower().endswith(".npy"):
        file = AtomicFile(text, name=text, force=force, inputs=inputs, in_place=in_place)
        with _Undoing(file):
            return npy.npy_sink(file, shape, dtype, order)
    if match is None:
        raise _unknown_suffix(text, "FILE.npy, FILE.h5, FILE.h5::NAME or -")
    dataset = "/".join(part for part in (match[2] or "").split("/") if part)
    if (match[2] is not None and not dataset) or {".", ".."} & set(dataset.split("/")):
        raise ParameterError(f"{match[2]!r} is no name for a dataset", subject=text)
    hdf5 = _hdf5()
    file = AtomicFile(match[1], name=text, force=force, inputs=inputs, in_place=in_place)
    with _Undoing(file):
        if file.replaces:
            hdf5.check_replaceable(file.target, text, "/" + (dataset or _HDF5_NAME))
        name = dataset or _HDF5_NAME
        sink: Sink = hdf5.hdf5_sink(file, name, shape, dtype, order, attributes or {}, compression)
        return sink


def open_npz(text: str, *, force: bool = False, inputs: Sequence[Source] = ()) -> NpzSink:
    """Return the sink of a .npz file, begun, with the rules of `open_sink`.

    Raises
    ------
    ParameterError
        If the suffix is another one.
    OutputError
        If it cannot be written, or may not be written over.
    """
    if not text.lower().endswith(".npz"):
        raise _unknown_suffix(text, "FILE.npz")
    from gncli.io.formats.npz import NpzSink

    return NpzSink(AtomicFile(text, name=text, force=force, inputs=inputs))


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
        match = _HDF5_OUT.fullmatch(name)
        if name != "-" and same_file(text, match[1] if match else name):
            hint = "choose another name for one of them"
            raise OutputError(f"is the same file as the output {name}", subject=text, hint=hint)
    return Page(AtomicFile(text, name=text, force=force))


def write_npz(
    text: str, arrays: Mapping[str, NDArray[Any]], *, force: bool = False, inputs: Sequence[Source] = ()
) -> None:
    """Write arrays to a .npz file, whole or not at all, with the rules of `open_npz`."""
    sink = open_npz(text, force=force, inputs=inputs)
    with _Undoing(sink.file):
        sink.write(arrays)
        sink.commit()


class _Undoing:
    """Aborts a file if what is done with it fails."""

    def __init__(self, file: AtomicFile) -> None:
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._file.abort()


def _unknown_suffix(text: str, known: str) -> ParameterError:
    suffix = os.path.splitext(text)[1]
    problem = f"{suffix} is not a format that can be written" if suffix else "has no suffix that says a format"
    return ParameterError(problem, subject=text, hint=f"choose {known}")


def _split(text: str) -> tuple[str, str | None]:
    """Return FILE and NAME; NAME is None where there is none. Whatever exists as a file is one."""
    if os.path.lexists(text) or "::" not in text:
        return text, None
    cuts = [match.start() for match in re.finditer("(?=::)", text)]
    cut = next((at for at in cuts if os.path.lexists(text[:at])), cuts[0])
    if not text[cut + 2 :].strip("/"):
        raise InputError("has no name after the ::", subject=text)
    return text[:cut], text[cut + 2 :]


def _hdf5(policy: Policy = STRICT) -> ModuleType:
    """Return the module that reads and writes HDF5; plugins are off, or not, from its first import on."""
    os.environ["HDF5_PLUGIN_PRELOAD"] = "" if policy.plugins else "::"
    from gncli.io.formats import hdf5

    return hdf5


def _is_hdf5(file: RawFile) -> bool:
    """Return whether the signature of HDF5 is at one of the places where it may be, after a user block."""
    at = 0
    while at < file.identity.nbytes:
        if file.head(len(_HDF5_MAGIC), at) == _HDF5_MAGIC:
            return True
        at = max(512, 2 * at)
    return False


def _is_safetensors(head: bytes) -> bool:
    """Return whether a file begins with the length of a header, and the header with a brace."""
    length = int.from_bytes(head[: _HEAD_NBYTES - 1], "little")
    return length <= _SAFETENSORS_HEADER_NBYTES and head[_HEAD_NBYTES - 1 : _HEAD_NBYTES] == b"{"


def _container(file: RawFile, text: str, policy: Policy) -> Container | None:
    """Return the file as one of several tensors, which owns it; None if that is not its format."""
    head = file.head(_HEAD_NBYTES)
    if head.startswith(_ZIP_MAGICS):
        from gncli.io.formats.npz import NpzFile

        return NpzFile(file, text, policy)
    if _is_safetensors(head):
        from gncli.io.formats.safetensors import SafetensorsFile

        return SafetensorsFile(file, text)
    if _is_hdf5(file):
        container: Container = _hdf5(policy).GuardedHdf5File(file, text, policy)
        return container
    return None


def _open_member(file: RawFile, text: str, member: str | None, policy: Policy) -> Source:
    """Return the tensor of that name in the file, or the only one."""
    start = file.head(_HEAD_NBYTES)
    if start.startswith(npy.MAGIC):
        if member is not None:
            raise InputError("a .npy holds one tensor, without a name", subject=text, hint="leave out the ::NAME")
        return npy.open_npy(file, text)
    container = _container(file, text, policy)
    if container is None:
        raise _unknown_format(start, text)
    with container:
        return _only_or_named(container, text, member)


def _only_or_named(container: Container, text: str, member: str | None) -> Source:
    if member is None:
        names = _names(container, text)
        if len(names) > 1:
            problem = f"holds {len(names):,} tensors: {list_names(names)}"
            raise InputError(problem, subject=text, hint=_NAME_ONE)
        member = names[0]
    return container.open(member, text)


def _names(container: Container, text: str) -> list[str]:
    """Return the names of the numeric tensors; of a lone one that is none, which will say why itself when opened."""
    names = container.names()
    if not names and len(container.skipped) != 1:
        raise InputError(f"holds no numeric tensor ({len(container.skipped):,} others)", subject=text)
    return names or container.skipped


def _all_of(container: Container, text: str) -> Listing:
    try:
        members = _names(container, text)
    except BaseException:
        container.close()
        raise

    def openers() -> Iterator[Callable[[], Source]]:
        try:
            for member in members:
                name = text if len(members) == 1 else f"{text}::{member}"
                yield lambda member=member, name=name: container.open(member, name)  # type: ignore[misc]
        finally:
            container.close()

    return Listing(openers(), 0 if members is container.skipped else len(container.skipped))


def _concatenated(pipe: Pipe) -> Iterator[Callable[[], Source]]:
    count = 0
    while count == 0 or pipe.peek(1):
        source = StreamSource(pipe, f"{STDIN}[{count}]" if count else STDIN, alone=False)
        yield lambda source=source: source  # type: ignore[misc]
        source.finish()
        count += 1


def _begins_as_container(pipe: Pipe) -> bool:
    start = pipe.peek(_HEAD_NBYTES)
    if not start:
        raise InputError("is empty: nothing came", subject=pipe.name)
    if start.startswith((*_ZIP_MAGICS, _HDF5_MAGIC)) or _is_safetensors(start):
        return True
    if not start.startswith(npy.MAGIC[: len(start)]):
        raise _unknown_format(start, pipe.name)
    return False


def _unknown_format(start: bytes, text: str) -> InputError:
    if not start:
        return InputError("is empty (0 bytes)", subject=text)
    if start.startswith(b"\x80"):
        return InputError("is a pickle, which would run code", subject=text, hint="save the array with np.save")
    problem = f"is neither .npy, .npz, HDF5 nor .safetensors (it begins with {start[:8]!r})"
    return InputError(problem, subject=text)
