"""The version 1 B-tree, which most HDF5 files have as index of chunks, checked as a search in it needs it.

Notes
-----
These trees have no checksums. libhdf5 lists chunks by going through the leaves, and finds a chunk by a search from the
root. If a key is damaged, the search may miss a chunk that is listed, and libhdf5 then reads its elements as the fill
value, without an error. So each key must be where a search for it looks.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io.rawfile import RawFile

_HEAD_NBYTES = 24  # of a node: signature, type, level, number of entries, addresses of both neighbours
_CHUNKS = 1  # the type of a tree whose leaves are chunks

Key = tuple[int, ...]


class DamagedTreeError(Exception):
    """The tree cannot be right; the argument says why."""


def header_nbytes(head: bytes) -> int:
    """Return the size of the first part of an object header, of version 1 or 2, from its first 32 bytes or more."""
    if not head.startswith(b"OHDR"):
        return 16 + int.from_bytes(head[8:12], "little")
    flags = head[5]
    at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)  # times, and limits of attributes
    width = 1 << (flags & 3)
    return at + width + int.from_bytes(head[at : at + width], "little") + 4


def root_of(header: bytes, chunk: tuple[int, ...], itemsize: int) -> int | None:
    """Return the address of the tree's root; None if there is no tree of this version, or no chunk yet.

    Parameters
    ----------
    header : bytes
        The first part of the dataset's object header. Most hold the layout message there: version 3, class 2 (chunks),
        number of sizes, address, and the sizes, those of a chunk and that of an element.
    chunk : tuple of int
        Shape of a chunk.
    itemsize : int
        Bytes per element.
    """
    sizes = b"".join(size.to_bytes(4, "little") for size in (*chunk, itemsize))
    found = re.search(re.escape(bytes([3, 2, len(chunk) + 1])) + b"(.{8})" + re.escape(sizes), header, re.DOTALL)
    address = int.from_bytes(found[1], "little") if found else (1 << 64) - 1
    return None if address == (1 << 64) - 1 else address


def check_tree(file: RawFile, root: int, ndim: int, count: int) -> list[tuple[int, int]]:
    """Return where the nodes of a tree lie, as offsets and sizes in bytes, after all of them were checked.

    Parameters
    ----------
    file : RawFile
        The file, without a user block.
    root : int
        Where the root lies.
    ndim : int
        Axes of the dataset.
    count : int
        How many chunks the tree has.

    Raises
    ------
    DamagedTreeError
        If the tree is not one, or a search in it would miss a key.
    """
    entry = np.dtype([("key", "<u4", 2), ("corner", "<u8", ndim + 1), ("child", "<u8")])
    nodes: list[tuple[int, int]] = []
    todo: list[tuple[int, int | None, Key, Key | None]] = [(root, None, (), None)]
    left = count
    while todo:
        at, level, low, high = todo.pop()
        head = file.head(_HEAD_NBYTES, at) if at < file.identity.nbytes else b""
        used = int.from_bytes(head[6:8], "little")
        if len(nodes) > count or head[:5] != b"TREE" + bytes([_CHUNKS]) or level not in (None, head[5]):
            raise DamagedTreeError(f"there is no node of its B-tree at {at:,}")
        nbytes = used * entry.itemsize + entry.itemsize - 8  # a key more than children
        data = file.head(nbytes, at + _HEAD_NBYTES)
        if len(data) < nbytes:
            raise DamagedTreeError(f"the node of its B-tree at {at:,} is cut short")
        nodes.append((at, _HEAD_NBYTES + nbytes))
        entries = np.frombuffer(data, entry, used)
        last = np.frombuffer(data, "<u8", ndim + 1, used * entry.itemsize + 8)
        keys = np.vstack([entries["corner"], last])
        if not _rising(keys) or (used and not _within(keys[0], keys[-2], low, high)):
            raise DamagedTreeError(f"the keys of its B-tree at {at:,} are not in order")
        if head[5] == 0:
            left -= used
            if keys[:-1, -1].any():  # the offset of the chunk within an element
                raise DamagedTreeError(f"a key of its B-tree at {at:,} is off the grid")
            continue
        bounds = [tuple(map(int, key)) for key in keys]
        bounds[0], bounds[-1] = max(bounds[0], low), bounds[-1] if high is None else min(bounds[-1], high)
        children = map(int, entries["child"])
        todo += [(child, head[5] - 1, *bounds[k : k + 2]) for k, child in enumerate(children)]  # type: ignore[misc]
    if left:
        raise DamagedTreeError(f"its B-tree has {count - left:,} chunks, and {count:,} are listed")
    return nodes


def _rising(keys: NDArray[Any]) -> bool:
    """Return whether each key comes after the one before it, compared axis by axis."""
    differ = keys[1:] != keys[:-1]
    first = differ.argmax(axis=1)
    rows = np.arange(len(first))
    return bool((differ.any(axis=1) & (keys[1:][rows, first] > keys[:-1][rows, first])).all())


def _within(first: NDArray[Any], last: NDArray[Any], low: Key, high: Key | None) -> bool:
    return tuple(first) >= low and (high is None or tuple(last) < high)
