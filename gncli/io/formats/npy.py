"""The .npy format: our own strict reader of its header, which runs nothing, and a writer of the bytes `np.save` makes.

Notes
-----
NumPy's reader evaluates the header as a Python literal, and on damaged ones leaks errors of seven kinds, or loads
another array. Here a header is what NumPy's writer makes, and the file's exact size has to agree with it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gncli.errors import InputError
from gncli.io.atomic import AtomicFile
from gncli.io.dtypes import NUMERIC, refuse_dtype
from gncli.io.rawfile import RawFile, RawSink, RawSource
from gncli.io.source import Order

MAGIC = b"\x93NUMPY"
MAX_HEADER_NBYTES = 1 << 16
MAX_NBYTES = (1 << 63) - 1
MAX_NDIM = 64  # NumPy's own limit

_ALIGN = 64
_GROWTH_DIGITS = 21  # NumPy leaves room for the first dimension to grow in place
_RESAVE = "load it with NumPy, where it is trusted, and save it again"

_SPACE = r"[ \t\r\n]*"
_KEY = re.compile(rf"{_SPACE}(?:'(\w+)'|\"(\w+)\"){_SPACE}:{_SPACE}", re.ASCII)
_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|\([^()\[\]]*\)|\w+", re.ASCII)
_SEPARATOR = re.compile(rf"{_SPACE}(,{_SPACE}\}}|\}}|,){_SPACE}", re.ASCII)
_DESCR = re.compile(r"([<>|=]?)(([a-zA-Z?])([0-9]*))(\[\w+\])?", re.ASCII)
_DIMENSION = re.compile(rf"{_SPACE}([0-9]{{1,19}})L?{_SPACE}", re.ASCII)  # Python 2 wrote 3L


class Header(NamedTuple):
    """What a .npy says of its array, and where the data begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    offset: int

    @property
    def nbytes(self) -> int:
        """Size of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(read: Callable[[int], bytes], name: str) -> Header:
    """Return the header of a .npy.

    Parameters
    ----------
    read : callable
        ``read(n)`` returns the next `n` bytes, fewer only where the file ends. Nothing past the header is asked for.
    name : str
        The input that errors are about.

    Raises
    ------
    InputError
        If it is not exactly what NumPy's writer makes for a numeric array.
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
    dtype = _dtype(fields["descr"], name)
    return Header(
        _shape(fields["shape"], dtype.itemsize, name),
        dtype,
        "F" if _flag(fields["fortran_order"], name) else "C",
        len(start) + length.size + nbytes,
    )


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> bytes:
    """Return the header that `np.save` writes for such an array; no numeric one needs more than version 1.0.

    Examples
    --------
    >>> header_bytes((2, 3), np.dtype("<f4"), "C")[10:70]
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } "
    """
    # NumPy calls an array of one line Fortran-ordered in neither order.
    fortran = order == "F" and 0 not in shape and sum(extent != 1 for extent in shape) > 1
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}"
    if shape:
        text += " " * (_GROWTH_DIGITS - len(repr(shape[-1 if fortran else 0])))
    used = len(MAGIC) + 4 + len(text) + 1
    text += " " * (_ALIGN - used % _ALIGN) + "\n"
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")


def open_npy(file: RawFile, name: str, start: int = 0, stop: int | None = None) -> RawSource:
    """Return the tensor of a .npy file, which has exactly the size that its header declares.

    Parameters
    ----------
    file : RawFile
        The file, which is closed with the source.
    name : str
        What errors call it.
    start, stop : int, optional
        Where it lies in the file, if that holds more than this .npy.

    Raises
    ------
    InputError
        If the header is malformed, or the data are shorter or longer than it says.
    """
    stop = file.identity.nbytes if stop is None else stop
    header = header_at(file, start, stop, name)
    offset = start + header.offset
    if stop - offset != header.nbytes:
        raise size_error(header, stop - offset, name)
    return RawSource(file, offset, header.shape, header.dtype, header.order, name)


def header_at(file: RawFile, start: int, stop: int, name: str) -> Header:
    """Return the header of a .npy that lies from `start` to `stop` in the file, as `read_header` does."""
    position = start

    def read(nbytes: int) -> bytes:
        nonlocal position
        data = file.head(min(nbytes, stop - position), position)
        position += len(data)
        return data

    return read_header(read, name)


def npy_sink(file: AtomicFile, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> RawSink:
    """Return the sink of a .npy file, its header written."""
    header = header_bytes(shape, dtype, order)
    return RawSink(file, [(0, header)], len(header), shape, dtype)


def size_error(header: Header, found: int, name: str) -> InputError:
    """Return the error about data that are not as long as the header declares, with both sizes."""
    declared = f"the header declares {header.nbytes:,} bytes of data ({header.dtype} {header.shape})"
    if found < header.nbytes:
        return InputError(f"is truncated: {declared}, {found:,} are there", subject=name)
    return InputError(f"has bytes after the array: {declared}, {found:,} are there", subject=name)


def _malformed(problem: str, name: str) -> InputError:
    return InputError(f"the .npy header {problem}", subject=name, hint=_RESAVE)


def _exactly(read: Callable[[int], bytes], nbytes: int, name: str) -> bytes:
    data = read(nbytes)
    if len(data) < nbytes:
        raise InputError(f"ends inside the .npy header ({len(data)} of {nbytes} bytes)", subject=name)
    return data


def _fields(text: str, name: str) -> dict[str, str]:
    """Return the three values of the header, as written, by key: exactly those three, each once."""
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


def _dtype(value: str, name: str) -> np.dtype[Any]:
    descr = _DESCR.fullmatch(value[1:-1]) if value[0] in "'\"" else None
    if descr is None:
        raise _malformed(f"has a descr that is no dtype ({value[:40]})", name)
    byte_order, code, kind, digits = descr[1], descr[2], descr[3], descr[4]
    size = int(digits[:9] or 0)
    if code not in NUMERIC or descr[5]:
        if kind in "OSaUMmcV" or code in ("f12", "f16"):
            raise refuse_dtype(kind, size, descr[0], name)
        raise _malformed(f"has a descr that is no dtype ({value[:40]})", name)
    if byte_order not in ("<", ">") and not (byte_order == "|" and size == 1):
        raise _malformed(f"has a descr without a byte order ({value})", name)
    return np.dtype(descr[0])


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
    # As NumPy counts: a zero does not excuse the others.
    if len(shape) > MAX_NDIM or math.prod(filter(None, shape)) * itemsize > MAX_NBYTES:
        raise _malformed(f"declares an array that no machine can hold ({value[:80]})", name)
    return tuple(shape)
