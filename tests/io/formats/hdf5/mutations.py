"""Small HDF5 files of many kinds, and mutations that know their structures."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & _MASK


def lookup3(data: bytes) -> int:
    """Return the checksum of HDF5's metadata: Bob Jenkins's lookup3, hashlittle with the initial value 0.

    Examples
    --------
    >>> hex(lookup3(b"")), hex(lookup3(b"Four score and seven years ago"))
    ('0xdeadbeef', '0x17770551')
    """
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    if not data:
        return c
    last = (len(data) - 1) // 12 * 12
    for at in range(0, last + 12, 12):
        words = (int.from_bytes(data[k : k + 4].ljust(4, b"\0"), "little") for k in (at, at + 4, at + 8))
        a, b, c = ((old + word) & _MASK for old, word in zip((a, b, c), words, strict=True))
        if at < last:
            for by in (4, 6, 8, 16, 19, 4):  # the three variables change places in each step
                a = (a - c) & _MASK ^ _rotated(c, by)
                c = (c + b) & _MASK
                a, b, c = b, c, a
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotated(b, by)) & _MASK
        a, b, c = b, c, a
    return b
