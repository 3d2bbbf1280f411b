"""The .npy format: a strict reader of its header, which runs no code, and a writer of the bytes that `np.save` writes.

Notes
-----
NumPy's reader evaluates the header as a Python literal; on damaged headers it raises errors of seven kinds, or loads
another array. Here a header must be what NumPy's writer writes, and the size of the file must agree with it exactly.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli import signals
from gncli.descriptors import write_fully
from gncli.errors import InputError
from gncli.io.atomic import writing
from gncli.io.dtypes import NUMERIC, NotNumericError, holdable, refuse_dtype
from gncli.io.foreign import Widened
from gncli.io.pipe import PIECE, STDIN, STDOUT, Pipe, Spool, widen
from gncli.io.rawfile import RawSink, RawSource, as_bytes, read_fully, reading
from gncli.io.source import Container, NewFile, Order, Sink, Source, StoredFile
from gncli.kernels.floats import FLOATS, Float

MAGIC = b"\x93NUMPY"
MAX_HEADER_NBYTES = 1 << 16

_ALIGN = 64
_GROWTH_DIGITS = 21  # NumPy leaves room for the first dimension to grow in place
RAW = frozenset({"V1", "V2", "f1"})
"""How `np.save` writes the elements of dtypes that other libraries define: float8 and bfloat16."""
_RESAVE = "load it with NumPy, where it is trusted, and save it again"

_SPACE = r"[ \t\r\n]*"
_KEY = re.compile(rf"{_SPACE}(?:'(\w+)'|\"(\w+)\"){_SPACE}:{_SPACE}", re.ASCII)
_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|\([^()\[\]]*\)|\w+", re.ASCII)
_SEPARATOR = re.compile(rf"{_SPACE}(,{_SPACE}\}}|\}}|,){_SPACE}", re.ASCII)
_DESCR = re.compile(r"([<>|=]?)(([a-zA-Z?])([0-9]*))(\[\w+\])?", re.ASCII)
_DIMENSION = re.compile(rf"{_SPACE}([0-9]{{1,19}})L?{_SPACE}", re.ASCII)  # Python 2 wrote 3L


class Header(NamedTuple):
    """What a .npy says about its array, and the offset where the data begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    offset: int
    stored_as: Float | None = None

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def meant(self, source: Source) -> Source:
        """Return the tensor whose elements, or the bits of these, are in `source`."""
        return source if self.stored_as is None else Widened(source, self.stored_as)


def read_header(read: Callable[[int], bytes], name: str, as_dtype: str | None = None) -> Header:
    """Return the header of a .npy.

    Parameters
    ----------
    read : callable
        ``read(n)`` returns the next `n` bytes, fewer only at the end of the file. Nothing after the header is read.
    name : str
        The input that errors are about.
    as_dtype : str, optional
        What raw elements are.

    Raises
    ------
    InputError
        If it is not exactly what NumPy's writer writes for a numeric array.
    """
    start = _exactly(read, len(MAGIC) + 2, name)
    if not start.startswith(MAGIC):
        raise InputError(f"is not a .npy file (it begins with {start[:6]!r})", subject=name)
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        shown = ".".join(map(str, version))
        raise InputError(f"has .npy format version {shown}, which is not 1.0, 2.0 or 3.0", subject=name)
    length = struct.Struct("<H" if version == (1, 0) else "<I")
    (nbytes,) = length.unpack(_exactly(read, length.size, name))
    if nbytes > MAX_HEADER_NBYTES:
        raise _malformed(f"is {nbytes:,} bytes long; the limit is {MAX_HEADER_NBYTES:,}", name)
    raw = _exactly(read, nbytes, name)
    try:
        text = raw.decode("utf-8" if version == (3, 0) else "latin-1")
    except UnicodeDecodeError as error:
        raise _malformed("is not UTF-8", name) from error
    fields = _fields(text, name)
    dtype, stored_as = _dtype(fields["descr"], name, as_dtype)
    return Header(
        _shape(fields["shape"], dtype.itemsize, name),
        dtype,
        "F" if _flag(fields["fortran_order"], name) else "C",
        len(start) + length.size + nbytes,
        stored_as,
    )


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, raw: bool = False) -> bytes:
    """Return the header that `np.save` writes; version 1.0 is enough for every numeric array.

    Elements that are `raw` are void for it, as it writes those of a dtype that NumPy lacks.

    Examples
    --------
    >>> header_bytes((2, 3), np.dtype("<f4"), "C")[10:70]
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } "
    """
    # To NumPy an array that is contiguous in both orders is C-ordered.
    fortran = order == "F" and 0 not in shape and sum(extent != 1 for extent in shape) > 1
    descr = f"{dtype.str[0]}V{dtype.itemsize}" if raw else dtype.str
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}"
    if shape:
        text += " " * (_GROWTH_DIGITS - len(repr(shape[-1 if fortran else 0])))
    used = len(MAGIC) + 4 + len(text) + 1
    text += " " * (_ALIGN - used % _ALIGN) + "\n"
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")


def open_npy(
    file: StoredFile, name: str, start: int = 0, stop: int | None = None, as_dtype: str | None = None
) -> Source:
    """Return the tensor of a .npy, whose size must be exactly the one that its header declares.

    Parameters
    ----------
    file : StoredFile
        The file, which is closed with the source.
    name : str
        What errors call it.
    start, stop : int, optional
        The offsets in bytes between which it lies, where the file holds more than this .npy.
    as_dtype : str, optional
        What raw elements are.

    Raises
    ------
    InputError
        If the header is malformed, or the data are shorter or longer than it says.
    """
    stop = file.identity.nbytes if stop is None else stop
    header = header_at(file, start, stop, name, as_dtype)
    offset = start + header.offset
    if stop - offset != header.nbytes:
        raise size_error(header, stop - offset, name)
    return header.meant(RawSource(file, offset, header.shape, header.dtype, header.order, name))


def header_at(file: StoredFile, start: int, stop: int, name: str, as_dtype: str | None = None) -> Header:
    """Return the header of a .npy that lies from `start` to `stop` in the file; see `read_header`."""
    position = start

    def read(nbytes: int) -> bytes:
        nonlocal position
        data = file.head(min(nbytes, stop - position), position)
        position += len(data)
        return data

    return read_header(read, name, as_dtype)


def npy_sink(file: NewFile, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, raw: bool = False) -> RawSink:
    """Return the sink of a .npy file, its header written."""
    header = header_bytes(shape, dtype, order, raw)
    return RawSink(file, [(0, header)], len(header), shape, dtype)


def size_error(header: Header, found: int, name: str) -> InputError:
    """Return the error about data that are shorter or longer than the header declares, with both sizes."""
    declared = f"the header declares {header.nbytes:,} bytes of data ({header.dtype} {header.shape})"
    if found < header.nbytes:
        return InputError(f"is truncated: {declared}, {found:,} are there", subject=name)
    return InputError(f"has bytes after the array: {declared}, {found:,} are there", subject=name)


class NpyFile(Container):
    """A .npy file, which holds one tensor, without a name.

    Parameters
    ----------
    file : StoredFile
        The file, which is closed with this.
    name : str
        The file as the user typed it.
    as_dtype : str, optional
        What raw elements are.
    """

    def __init__(self, file: StoredFile, name: str, as_dtype: str | None = None) -> None:
        self.skipped = []
        self._file, self._name, self._as_dtype = file, name, as_dtype

    def names(self) -> list[str]:
        """Return the one name, which is empty."""
        return [""]

    def open(self, member: str, name: str) -> Source:
        """Return the tensor."""
        if member:
            raise InputError("a .npy holds one tensor, without a name", subject=name, hint="leave out the ::NAME")
        return open_npy(self._file.duplicate(), name, as_dtype=self._as_dtype)

    def close(self) -> None:
        """Close the file; a source that was opened keeps what it needs of it."""
        self._file.close()


class NpyStream(Container):
    """The .npy of a pipe: one, or several of them concatenated.

    Parameters
    ----------
    pipe : Pipe
        At the first byte.
    as_dtype : str, optional
        What raw elements are.
    """

    def __init__(self, pipe: Pipe, as_dtype: str | None = None) -> None:
        self.skipped = []
        self._pipe, self._as_dtype = pipe, as_dtype

    def names(self) -> list[str]:
        """Return the name of the first one, which is empty: nobody knows how many more will come."""
        return [""]

    def open(self, member: str, name: str) -> Source:
        """Return the tensor, which must be the only one."""
        source = StreamSource(self._pipe, name, as_dtype=self._as_dtype)
        return source.header.meant(source)

    def openers(self, members: Sequence[str], name: str) -> Iterator[Callable[[], Source]]:
        """Yield what opens each tensor; what was not read of one is skipped before the next."""
        count = 0
        while count == 0 or self._pipe.peek(1):
            called = f"{name}[{count}]" if count else name
            source = StreamSource(self._pipe, called, alone=False, as_dtype=self._as_dtype)
            yield partial(source.header.meant, source)
            source.finish()
            count += 1


class StreamSource(Source):
    """A .npy from a pipe.

    Parameters
    ----------
    pipe : Pipe
        A pipe at the first byte of the header, which is read at once; nothing after the array is read.
    name : str
        What errors call it.
    alone : bool
        Whether nothing may follow the array; `verify_unchanged` then checks that the stream ends.
    as_dtype : str, optional
        What raw elements are.

    Attributes
    ----------
    header : Header
        The header. Of raw elements, `dtype` is an integer dtype of their size.

    Raises
    ------
    InputError
        If the header is malformed.
    """

    sequential = True
    holds_in_file = True

    def __init__(self, pipe: Pipe, name: str = STDIN, *, alone: bool = True, as_dtype: str | None = None) -> None:
        self.name = name
        self._pipe = pipe
        self._alone = alone
        self.header = read_header(pipe.read, name, as_dtype)
        self.shape, self.dtype, self.order = self.header.shape, self.header.dtype, self.header.order
        self._position = 0  # in bytes, of the data
        self._held = (0, 0)
        self._spool: Spool | None = None

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on: the next ones, or held ones, which any thread may read."""
        view = as_bytes(out)
        offset = start * self.dtype.itemsize
        behind = min(len(view), max(0, self._position - offset))
        if behind:
            self._reread(view[:behind], offset)
        if behind < len(view):
            self._skip_to(offset + behind)
            self._advance(view[behind:])

    def hold(self, start: int, stop: int) -> None:
        """Keep a copy of ``[start, stop)`` when it is read; the span that was held before is dropped."""
        first, last = start * self.dtype.itemsize, stop * self.dtype.itemsize
        if first < self._position:
            raise ValueError(f"element {start} of a pipe was read before it was held")
        if self._spool is None:
            self._spool = Spool()
        self._spool.clear()
        self._held = (first, last)

    def verify_unchanged(self) -> None:
        """Raise InputError if the array was read to its end, must be alone, and bytes follow it."""
        if self._alone and self._position == self.header.nbytes and self._pipe.peek(1):
            raise InputError(
                f"has bytes after the array, whose header declares {self.header.nbytes:,} bytes of data",
                subject=self.name,
                hint="several concatenated arrays are for stats",
            )

    def finish(self) -> None:
        """Read the rest of the array, so that the next one can be read."""
        self._skip_to(self.header.nbytes)

    def close(self) -> None:
        """Remove the copy."""
        if self._spool is not None:
            self._spool.close()

    def _advance(self, view: memoryview) -> None:
        count = self._pipe.read_into(view)
        here = self._position
        if count < len(view):
            self._position = self.header.nbytes  # the stream has ended: nothing is left to skip
            raise size_error(self.header, here + count, self.name)
        first, last = max(self._held[0], here), min(self._held[1], here + count)
        if self._spool is not None and first < last:
            self._spool.write(view[first - here : last - here], first - self._held[0])
        self._position = here + count

    def _skip_to(self, offset: int) -> None:
        if self._position < offset:
            buffer = memoryview(bytearray(min(PIECE, offset - self._position)))
            while self._position < offset:
                self._advance(buffer[: offset - self._position])

    def _reread(self, view: memoryview, offset: int) -> None:
        first, last = self._held
        if self._spool is None or not first <= offset <= offset + len(view) <= last:
            raise ValueError(f"bytes {offset} to {offset + len(view)} of a pipe were not held")
        with reading(self.name):
            count = read_fully(self._spool.fd, view, offset - first)
        if count < len(view):
            raise ValueError(f"the held span was let go before byte {offset + count} was read again")


class StreamSink(Sink):
    """A .npy on a pipe, written in order, from the first element to the last.

    A write raises BrokenPipeError where the reader went away.

    Parameters
    ----------
    shape, dtype, order
        Shape, dtype and storage order of the tensor.
    fd : int
        The stream; it is not closed.
    raw : bool
        Whether the elements are those of a dtype that NumPy lacks.
    """

    sequential = True
    name = STDOUT

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, fd: int = 1, raw: bool = False
    ) -> None:
        self._fd = fd
        widen(fd)
        self._dtype = dtype
        self._header = header_bytes(shape, dtype, order, raw)
        self._nbytes = math.prod(shape) * dtype.itemsize
        self._position = 0

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data`, the next elements."""
        if start != self._position:
            raise ValueError(f"element {start} of a stream cannot follow element {self._position}")
        self._begin()
        self._write(as_bytes(data))
        self._position += data.size

    def commit(self) -> None:
        """Write the header, if no element was: the tensor is empty."""
        self._begin()
        self.abort()

    def abort(self) -> None:
        """Leave what was written."""
        signals.cleanups.pop(self, None)

    def _begin(self) -> None:
        # Not before the first elements: a refused parameter must leave nothing on stdout.
        header, self._header = self._header, b""
        if header:
            self._enter_file(len(header) + self._nbytes)
        self._write(memoryview(header))

    def _enter_file(self, nbytes: int) -> None:
        """Raise if the stream is a file, and the disk has no room for `nbytes`; what is there stays after a signal."""
        with writing(self.name):
            if stat.S_ISREG(os.fstat(self._fd).st_mode):
                disk = os.fstatvfs(self._fd)
                if nbytes > disk.f_bavail * disk.f_frsize:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                signals.cleanups[self] = lambda: f"the rest of {self.name}"

    def _write(self, view: memoryview) -> None:
        with writing(self.name):
            write_fully(self._fd, view)


def _malformed(problem: str, name: str) -> InputError:
    return InputError(f"the .npy header {problem}", subject=name, hint=_RESAVE)


def _exactly(read: Callable[[int], bytes], nbytes: int, name: str) -> bytes:
    data = read(nbytes)
    if len(data) < nbytes:
        raise InputError(f"ends inside the .npy header ({len(data)} of {nbytes} bytes)", subject=name)
    return data


def _fields(text: str, name: str) -> dict[str, str]:
    """Return the text of the three values of the header, by key; other keys, and a key twice, are refused."""
    fields: dict[str, str] = {}
    position = 1
    ended = not text.startswith("{")
    while not ended:
        key = _KEY.match(text, position)
        if key is None:
            break
        if key.end() < len(text) and text[key.end()] == "[":
            raise refuse_dtype("V", 0, "structured", name)
        value = _VALUE.match(text, key.end())
        separator = _SEPARATOR.match(text, value.end()) if value else None
        word = key[1] or key[2]
        if value is None or separator is None or word in fields:
            break
        fields[word] = value[0]
        position = separator.end()
        ended = separator[1] != ","
    if not ended or position != len(text) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise _malformed(f"is not as NumPy writes it ({text[:80].strip()!r})", name)
    return fields


def _dtype(value: str, name: str, as_dtype: str | None) -> tuple[np.dtype[Any], Float | None]:
    """Return the dtype of what is read, and the one that its bits are of, if the former are raw."""
    descr = _DESCR.fullmatch(value[1:-1]) if value[0] in "'\"" else None
    if descr is None:
        raise _malformed(f"has a descr that is no dtype ({value[:40]})", name)
    byte_order, code, kind, digits = descr[1], descr[2], descr[3], descr[4]
    size = int(digits[:9] or 0)
    if code in RAW and byte_order != ">" and not descr[5]:
        return _raw(descr[0], 1 if code == "f1" else size, name, as_dtype)
    if code not in NUMERIC or descr[5]:
        if kind in "OSaUMmcV" or code in ("f12", "f16"):
            raise refuse_dtype(kind, size, descr[0], name)
        raise _malformed(f"has a descr that is no dtype ({value[:40]})", name)
    if byte_order not in ("<", ">") and not (byte_order == "|" and size == 1):
        raise _malformed(f"has a descr without a byte order ({value})", name)
    return np.dtype(descr[0]), None


def _raw(descr: str, size: int, name: str, as_dtype: str | None) -> tuple[np.dtype[Any], Float]:
    """Return the integers that raw elements are read as, and what they are: nobody guesses that."""
    known = [kind for kind in FLOATS.values() if kind.foreign and kind.stored.itemsize == size]
    if as_dtype is None:
        names = " or ".join(kind.name for kind in known)
        problem = f"holds raw elements of {size} byte{'s' if size > 1 else ''} (dtype {descr})"
        raise NotNumericError(problem, subject=name, hint=f"if they are {names}, say --as-dtype {known[0].name}")
    kind = FLOATS[as_dtype]
    if kind not in known:
        problem = f"holds raw elements of {size} byte{'s' if size > 1 else ''} (dtype {descr}), which are no {as_dtype}"
        raise NotNumericError(problem, subject=name, hint=f"say --as-dtype {known[0].name}")
    return kind.stored, kind


def _flag(value: str, name: str) -> bool:
    if value not in ("True", "False"):
        raise _malformed(f"has a fortran_order that is neither True nor False ({value[:40]})", name)
    return value == "True"


def _shape(value: str, itemsize: int, name: str) -> tuple[int, ...]:
    shape = []
    inside = value[1:-1] if value[0] == "(" else "?"
    parts = inside.split(",") if inside.strip() else []
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    elif len(parts) == 1:
        parts = ["?"]  # (3) is a number, not a tuple
    for part in parts:
        dimension = _DIMENSION.fullmatch(part)
        if dimension is None:
            raise _malformed(f"has a shape that is no tuple of sizes ({value[:80]})", name)
        shape.append(int(dimension[1]))
    if not holdable(shape, itemsize):
        raise _malformed(f"declares an array that no machine can hold ({value[:80]})", name)
    return tuple(shape)
