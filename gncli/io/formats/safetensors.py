"""The .safetensors format: a header of JSON, then the bytes of every tensor, read and written by offset, as in a .npy.

Notes
-----
The format's own library has the same rules: every byte of the file belongs to exactly one tensor, no name appears
twice, and a tensor has as many bytes as its shape and dtype need. The header is split into its entries before JSON is
parsed, so that a header of 100 MB, which the format allows, takes no more memory than twice its bytes and its names.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gncli.errors import InputError, LimitError
from gncli.io.dtypes import FOREIGN, MAX_NBYTES, holdable, refuse_dtype, refuse_type
from gncli.io.foreign import Widened
from gncli.io.rawfile import RawSink, RawSource, check_lost
from gncli.io.source import MAX_MEMBERS, Container, NewFile, Order, Sink, Source, StoredFile, not_found
from gncli.io.transposition import in_c_order
from gncli.kernels.floats import Float

MAX_ENTRY_NBYTES = 4096  # an entry with 64 axes takes less

_LENGTH = struct.Struct("<Q")
METADATA = "__metadata__"
_DTYPES = {
    "BOOL": "|b1",
    "I8": "|i1",
    "U8": "|u1",
    "I16": "<i2",
    "U16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "I64": "<i8",
    "U64": "<u8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
_COMPLEX = {"C64": 8, "C128": 16}

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrtu])*+"'
_KEY = re.compile(rb"%b(%b)%b:%b" % (_SPACE, _STRING, _SPACE, _SPACE))
_ENTRY = re.compile(rb'\{(?:[^{}"]++|%b)*+\}|null' % _STRING)  # null: MLX writes that there is no metadata
_SEPARATOR = re.compile(rb"%b([,}])" % _SPACE)
_PADDING = re.compile(_SPACE)


class Entry(NamedTuple):
    """What the header says about a tensor; its bytes lie from `first` to `last`, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    first: int
    last: int

    @property
    def known(self) -> bool:
        """Whether a tensor of its dtype is read."""
        return self.dtype in _DTYPES or self.dtype in FOREIGN

    def check(self, name: str) -> None:
        """Raise InputError unless it has the bytes that shape and dtype need; an unknown dtype may need any number."""
        itemsize = _itemsize(self.dtype)
        needed = math.prod(self.shape) * itemsize
        if not holdable(self.shape, itemsize):
            raise _malformed(f"declares a tensor that no machine can hold ({self.shape})", name)
        if itemsize and needed != self.last - self.first:
            declared = f"{needed:,} bytes ({self.dtype} {self.shape})"
            raise _malformed(f"declares a tensor of {declared} and gives it {self.last - self.first:,}", name)


def _itemsize(dtype: str) -> int:
    if dtype in FOREIGN:
        return FOREIGN[dtype].stored.itemsize
    return np.dtype(_DTYPES[dtype]).itemsize if dtype in _DTYPES else _COMPLEX.get(dtype, 0)


def read_header(file: StoredFile, name: str) -> tuple[int, dict[str, Entry]]:
    """Return the offset where the tensors begin, and the tensors by name, in the order of their bytes.

    Raises
    ------
    InputError
        If the header is malformed, or the file is not as long as it says.
    LimitError
        If it has more tensors than gncli lists.
    """
    (length,) = _LENGTH.unpack(file.head(_LENGTH.size))
    offset = _LENGTH.size + length
    if offset > file.identity.nbytes:
        raise InputError(
            f"is truncated: the .safetensors header is {length:,} bytes long, the file {file.identity.nbytes:,}",
            subject=name,
        )
    found = _entries(file.head(length, _LENGTH.size), name)
    for called, entry in found.items():
        entry.check(f"{name}::{called}")
    ordered = dict(sorted(found.items(), key=lambda item: item[1][2:]))
    end = 0
    for called, entry in ordered.items():
        if entry.first != end:
            how = "overlaps the tensor before it" if entry.first < end else "leaves a gap before it"
            raise _malformed(f"gives it bytes from {entry.first:,} on, which {how}", f"{name}::{called}")
        end = entry.last
    there = file.identity.nbytes - offset
    if there != end:
        what = "is truncated" if there < end else "has bytes after the tensors"
        problem = f"{what}: the header declares {end:,} bytes of data, {there:,} are there"
        raise InputError(problem, subject=name)
    return offset, ordered


def _entries(header: bytes, name: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    seen: set[str] = set()
    position, ended = 1, False
    if empty := re.compile(_SPACE + rb"\}").match(header, position):
        position, ended = empty.end(), True
    while not ended:
        key = _KEY.match(header, position)
        entry = _ENTRY.match(header, key.end()) if key else None
        separator = _SEPARATOR.match(header, entry.end()) if entry else None
        if key is None or entry is None or separator is None:
            shown = header[position : position + 40]
            raise _malformed(f"is not JSON of one object a tensor (byte {position:,}: {shown!r})", name)
        called = _parsed(key[1], name)
        if called in seen:
            raise _malformed(f"has more than one tensor {called}", name)
        seen.add(called)
        if called != METADATA:
            found[called] = _entry(entry[0], f"{name}::{called}")
            if len(found) > MAX_MEMBERS:
                raise LimitError(f"has more than {MAX_MEMBERS:,} tensors", subject=name)
        position, ended = separator.end(), separator[1] == b"}"
    if not _PADDING.fullmatch(header, position):
        raise _malformed(f"has more than one object (byte {position:,})", name)
    return found


def parsed(text: bytes) -> Any:
    """Return the value of JSON in which no key comes twice; raise ValueError or RecursionError for all else."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) < len(items):
            raise ValueError("a key comes twice")
        return dict(items)

    return json.loads(text.decode("utf-8"), object_pairs_hook=pairs)  # a UnicodeDecodeError is a ValueError


def _parsed(text: bytes, name: str) -> Any:
    try:
        return parsed(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"is not JSON ({error})", name) from error


def _entry(text: bytes, name: str) -> Entry:
    if len(text) > MAX_ENTRY_NBYTES:
        raise _malformed(f"has {len(text):,} bytes about one tensor", name)
    value = _parsed(text, name)
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [first, last], **rest} if not rest:
            numbers = [*shape, first, last]
            if all(type(number) is int and 0 <= number <= MAX_NBYTES for number in numbers) and first <= last:
                return Entry(dtype, tuple(shape), first, last)
    shown = text[:80].decode("utf-8", "replace")
    raise _malformed(f"does not say dtype, shape and data_offsets alone ({shown!r})", name)


class SafetensorsFile(Container):
    """A .safetensors: its tensors by name, each of which can be opened.

    Parameters
    ----------
    file : StoredFile
        The file, which is closed with this.
    name : str
        The file as the user typed it.

    Attributes
    ----------
    skipped : list of str
        The names of tensors of a dtype that is not read.

    Raises
    ------
    InputError
        If it is damaged.
    LimitError
        If it has more tensors than gncli lists.
    """

    def __init__(self, file: StoredFile, name: str) -> None:
        self._file = file
        self._offset, self._entries = read_header(file, name)
        self.skipped = [called for called, entry in self._entries.items() if not entry.known]

    def names(self) -> list[str]:
        """Return the names of the tensors, in the order of their bytes."""
        return [called for called, entry in self._entries.items() if entry.known]

    def open(self, member: str, name: str) -> Source:
        """Return the tensor `member`, which errors call `name`.

        Raises
        ------
        InputError
            If there is none, or its dtype is not read.
        """
        entry = self._entries.get(member)
        if entry is None:
            raise not_found(member, self.names(), "tensor", name)
        return tensor(self._file.duplicate(), self._offset, entry, name)

    def close(self) -> None:
        """Close the file; sources that were opened keep what they need of it."""
        self._file.close()


def tensor(file: StoredFile, offset: int, entry: Entry, name: str) -> Source:
    """Return the tensor of an entry of the header, whose tensors begin at `offset`; it closes the file.

    Raises
    ------
    InputError
        If its dtype is not read.
    """
    try:
        kind = FOREIGN.get(entry.dtype)
        if kind is not None or entry.dtype in _DTYPES:
            dtype = np.dtype(_DTYPES[entry.dtype]) if kind is None else kind.stored
            source = RawSource(file, offset + entry.first, entry.shape, dtype, "C", name)
            return source if kind is None else Widened(source, kind)
        if entry.dtype in _COMPLEX:
            raise refuse_dtype("c", _COMPLEX[entry.dtype], entry.dtype, name)
        raise refuse_type(entry.dtype, name)
    except BaseException:
        file.close()
        raise


def check_replaceable(file: NewFile, name: str, member: str) -> None:
    """Raise OutputError if the file holds anything besides `member`, which a new file would lose."""

    def others(raw: StoredFile) -> list[str]:
        with raw:
            return [called for called in read_header(raw, name)[1] if called != member]

    check_lost(file.replaced, name, member, others)


def safetensors_sink(
    file: NewFile,
    member: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any] | Float,
    order: Order,
    attributes: Mapping[str, object],
) -> Sink:
    """Return the sink of a new file with one C-ordered tensor, whose runs come in `order`.

    For a dtype that NumPy lacks, the runs are those of its bits.
    """
    stored = dtype.stored if isinstance(dtype, Float) else dtype
    names = {np.dtype(code): name for name, code in _DTYPES.items()}
    foreign = {kind: name for name, kind in FOREIGN.items()}
    entry = {
        "dtype": foreign[dtype] if isinstance(dtype, Float) else names[dtype],
        "shape": shape,
        "data_offsets": (0, math.prod(shape) * stored.itemsize),
    }
    metadata = {key: str(value) for key, value in attributes.items()}
    text = json.dumps({METADATA: metadata, member: entry} if metadata else {member: entry}).encode()
    text += b" " * (-len(text) % _LENGTH.size)
    header = _LENGTH.pack(len(text)) + text
    sink = RawSink(file, [(0, header)], len(header), shape, stored)
    return in_c_order(sink, file.scratch, shape, stored, order)


def _malformed(problem: str, name: str) -> InputError:
    return InputError(f"the .safetensors header {problem}", subject=name)
