"""The zip archive, as far as gncli reads it: its members, where their bytes lie, and how they are inflated.

Notes
-----
Python's zipfile trusts the file: on damaged archives it raises errors of seven kinds, of two members of one name it
reads the second, and it reads a directory of any size into memory. Here an archive is what zipfile and Info-ZIP write:
nothing before or after it, a directory that is exactly as long as its end says, no two members of one name or in the
same place, and before each member a header that says what the directory says.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from copy import copy
from typing import Any, NamedTuple

from gncli.errors import InputError, LimitError
from gncli.io.source import MAX_MEMBERS, StoredFile

MAX_DIRECTORY_NBYTES = 64 << 20
SPARSE_NBYTES = 4 << 30  # a member may declare this much, however little it stores
SPARSE_FACTOR = 100

_BEGIN_MEMBER, _BEGIN_ENTRY, _BEGIN_END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_BEGIN_END64, _BEGIN_LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
_STORED, _DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz"}
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_SIZES_FOLLOW = 1 << 3
_UTF8 = 1 << 11

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_BASE = 12  # its first bytes, which its own length does not count
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_EXTRA64 = 1  # the id of the field for what does not fit 32 bits
_FULL, _FULL16 = 0xFFFFFFFF, 0xFFFF
_LONGEST_COMMENT = 0xFFFF
_PIECE = 1 << 16


class Member(NamedTuple):
    """A member of an archive, as the directory describes it.

    Parameters
    ----------
    raw_name, name : bytes, str
        Its name, as it is stored, and decoded.
    flags, method, crc : int
        As the format numbers them.
    stored, nbytes : int
        Its size in bytes, in the archive and inflated.
    at : int
        The offset of its own header.
    limit : int
        The offset of the next member, or of the directory.
    """

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    stored: int
    nbytes: int
    at: int
    limit: int = 0

    @property
    def deflated(self) -> bool:
        """Whether its bytes must be inflated."""
        return self.method == _DEFLATED

    def begin(self, file: StoredFile, name: str) -> int:
        """Return the offset where its bytes begin, after checking that they can be read.

        Raises
        ------
        InputError
            If it is damaged, encrypted, or compressed by another method than deflate.
        """
        if self.flags & _ENCRYPTED:
            raise InputError("is encrypted", subject=name, hint="extract it with its password first")
        if self.method not in (_STORED, _DEFLATED):
            shown = f"{self.method} ({_METHODS[self.method]})" if self.method in _METHODS else str(self.method)
            hint = "np.savez, np.savez_compressed and torch.save write what is"
            raise InputError(f"is compressed by zip method {shown}, which is not read", subject=name, hint=hint)
        head = bytearray(_LOCAL.size + len(self.raw_name))
        file.read(memoryview(head), self.at)  # the file is long enough: the directory follows
        magic, _, flags, method, _, _, crc, stored, nbytes, length, extra = _LOCAL.unpack_from(head)
        told = (crc, stored, nbytes)
        sizes = ((stored, self.stored), (nbytes, self.nbytes))
        here = (self.crc, *(_FULL if said == _FULL else size for said, size in sizes))
        if (magic, flags & _ENCRYPTED, method, length, bytes(head[_LOCAL.size :])) != (
            _BEGIN_MEMBER,
            0,
            self.method,
            len(self.raw_name),
            self.raw_name,
        ) or (not flags & _SIZES_FOLLOW and told != here):
            raise _damaged("does not have the member where its directory says", name)
        start: int = self.at + len(head) + extra
        if start + self.stored > self.limit:
            raise _damaged("has a member that reaches into the next one", name)
        if not self.deflated and self.stored != self.nbytes:
            raise _damaged(f"stores {self.stored:,} bytes of a member of {self.nbytes:,}", name)
        return start


def members(file: StoredFile, name: str) -> list[Member]:
    """Return the members of an archive, in the order of its directory.

    Raises
    ------
    InputError
        If the archive is damaged.
    LimitError
        If its directory is larger than gncli reads.
    """
    at, size, count = _directory(file, name)
    if size > MAX_DIRECTORY_NBYTES or count > MAX_MEMBERS:
        problem = f"has a directory of {count:,} members and {size:,} bytes"
        raise LimitError(f"{problem}; the limits are {MAX_MEMBERS:,} and {MAX_DIRECTORY_NBYTES:,}", subject=name)
    found = list(_entries(file.head(size, at), name))
    if len(found) != count:
        raise _damaged(f"has {len(found):,} members, and its end says {count:,}", name)
    found = _bounded(found, at, name)
    seen: set[str] = set()
    for member in found:
        if member.name in seen:
            hint = "write it again, each name once"
            raise InputError(f"has more than one member {member.name}", subject=name, hint=hint)
        seen.add(member.name)
    return found


def _directory(file: StoredFile, name: str) -> tuple[int, int, int]:
    """Return the offset of the directory, its size in bytes, and its number of entries."""
    nbytes = file.identity.nbytes
    start = max(0, nbytes - _END.size - _LONGEST_COMMENT)
    tail = file.head(nbytes - start, start)
    place = len(tail)
    while (place := tail.rfind(_BEGIN_END, 0, place)) >= 0:
        if place + _END.size <= len(tail):
            _, disk, first_disk, here, count, size, at, comment = _END.unpack_from(tail, place)
            if place + _END.size + comment == len(tail):
                break
    else:
        raise _damaged("has no end: it is truncated, or bytes follow it", name)
    end = start + place
    told = (disk, first_disk, here, count, size, at)
    locator = file.head(_LOCATOR64.size, end - _LOCATOR64.size) if end >= _LOCATOR64.size else b""
    if locator.startswith(_BEGIN_LOCATOR64):
        _, _, end64, _ = _LOCATOR64.unpack(locator)
        record = file.head(_END64.size, end64) if end64 < end else b""
        magic, length, _, _, *wide = _END64.unpack(record.ljust(_END64.size))
        if magic != _BEGIN_END64 or end64 + _END64_BASE + length + _LOCATOR64.size != end:
            raise _damaged("has no end of 64 bits where it says", name)
        disk, first_disk, here, count, size, at = wide
        full = (_FULL16,) * 4 + (_FULL,) * 2
        if any(said not in (most, there) for said, most, there in zip(told, full, wide, strict=True)):
            raise _damaged("has two ends that disagree", name)
        end = end64
    if (disk, first_disk) != (0, 0) or here != count:
        raise InputError("is one part of a zip archive in several files", subject=name)
    if at + size != end:
        raise _damaged(f"has a directory of {size:,} bytes at {at:,}, and its end at {end:,}", name)
    return at, size, count


def _entries(data: bytes, name: str) -> Iterator[Member]:
    place = 0
    while place < len(data):
        if len(data) - place < _ENTRY.size:
            raise _damaged("has a directory that is cut", name)
        magic, _, _, flags, method, _, _, crc, *sizes, length, extra, comment, disk, _, _, at = _ENTRY.unpack_from(
            data, place
        )
        first, (stored, nbytes) = place + _ENTRY.size, sizes
        place = first + length + extra + comment
        if magic != _BEGIN_ENTRY or place > len(data) or disk not in (0, _FULL16):
            raise _damaged("has a directory that makes no sense", name)
        raw_name = data[first : first + length]
        stored, nbytes, at = _in_full(data[first + length : first + length + extra], (nbytes, stored, at), name)
        decoded = raw_name.decode("utf-8", "surrogateescape") if flags & _UTF8 else raw_name.decode("cp437")
        yield Member(raw_name, decoded, flags, method, crc, stored, nbytes, at)


def _in_full(extra: bytes, sizes: tuple[int, int, int], name: str) -> tuple[int, int, int]:
    """Return the stored size, the size and the offset of a member; the extra field has what does not fit 32 bits."""
    full = sizes.count(_FULL)
    while full and len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _EXTRA64 and len(extra) >= 4 + length >= 4 + 8 * full:
            wide = iter(struct.unpack_from(f"<{full}Q", extra, 4))
            nbytes, stored, at = (next(wide) if size == _FULL else size for size in sizes)
            return stored, nbytes, at
        extra = extra[4 + length :]
    if full:
        raise _damaged("has a member whose size of 64 bits is missing", name)
    return sizes[1], sizes[0], sizes[2]


def _bounded(found: list[Member], end: int, name: str) -> list[Member]:
    """Return the members, each with its limit, after checking that they lie one after the other."""
    limits = {}
    limit = end
    for member in sorted(found, key=lambda member: member.at, reverse=True):
        if member.at + _LOCAL.size + len(member.raw_name) + member.stored > limit:
            raise _damaged("has members that overlap, or lie outside it", name)
        limits[member.at] = limit
        limit = member.at
    return [member._replace(limit=limits[member.at]) for member in found]


def check_size(nbytes: int, stored: int, name: str) -> None:
    """Raise LimitError if what is declared is far more than what is stored, both in bytes."""
    if nbytes > SPARSE_NBYTES and nbytes > SPARSE_FACTOR * stored:
        problem = f"declares {nbytes:,} bytes and stores {stored:,}"
        raise LimitError(problem, subject=name, hint="--allow-sparse reads it")


class Inflater:
    """A deflated member, read forwards; a copy continues from the same place.

    Parameters
    ----------
    file : StoredFile
        The archive.
    member : Member
        The member.
    start : int
        The offset where its bytes begin, from `Member.begin`.
    name : str
        What errors call it.

    Attributes
    ----------
    position : int
        The number of bytes inflated so far.
    """

    def __init__(self, file: StoredFile, member: Member, start: int, name: str) -> None:
        self.position = 0
        self._file, self._member, self._name = file, member, name
        self._at, self._stop = start, start + member.stored
        self._crc = 0
        self._state = zlib.decompressobj(-zlib.MAX_WBITS)

    def copy(self) -> Inflater:
        """Return a copy that continues from here; it takes about 40 kB of zlib's state."""
        other = copy(self)
        other._state = self._state.copy()
        return other

    def read(self, nbytes: int) -> bytes:
        """Return the next `nbytes` bytes: fewer only at the end of the member."""
        buffer = bytearray(min(nbytes, self._member.nbytes - self.position))
        self.read_into(memoryview(buffer))
        return bytes(buffer)

    def read_into(self, view: memoryview) -> None:
        """Fill `view`, which must not reach past the end of the member; at the end, check all of the member.

        Raises
        ------
        InputError
            If the bytes are damaged.
        """
        done = 0
        while done < len(view):
            piece = self._inflated(len(view) - done)
            if not piece:
                problem = f"is truncated: {self._member.nbytes:,} bytes are declared, {self.position:,} come out"
                raise InputError(problem, subject=self._name)
            view[done : done + len(piece)] = piece
            done += len(piece)
            self.position += len(piece)
            self._crc = zlib.crc32(piece, self._crc)
        if self.position == self._member.nbytes:
            if self._inflated(1):
                raise _damaged(f"inflates to more than the {self._member.nbytes:,} bytes declared", self._name)
            if not self._state.eof or self._state.unused_data or self._at < self._stop:
                raise _damaged("does not end where it should", self._name)
            if self._crc != self._member.crc:
                problem = f"does not have the checksum declared ({self._crc:08x}, not {self._member.crc:08x})"
                raise _damaged(problem, self._name)

    def skip(self, nbytes: int) -> None:
        """Read `nbytes` bytes and drop them."""
        buffer = memoryview(bytearray(min(nbytes, 16 * _PIECE)))
        while nbytes:
            part = buffer[:nbytes]
            self.read_into(part)
            nbytes -= len(part)

    def _inflated(self, most: int) -> bytes:
        """Return the next bytes, at most `most`; none only at the end."""
        while not self._state.eof:
            data: Any = self._state.unconsumed_tail
            if not data:
                data = memoryview(bytearray(min(_PIECE, self._stop - self._at)))
                self._file.read(data, self._at)
                self._at += len(data)
            try:
                piece = self._state.decompress(data, most)
            except zlib.error as error:
                raise _damaged(f"cannot be inflated ({error})", self._name) from error
            if piece or not len(data):
                return piece
        return b""


def _damaged(problem: str, name: str) -> InputError:
    return InputError(f"is damaged: the zip archive {problem}", subject=name)
