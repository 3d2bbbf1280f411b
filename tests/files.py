"""Files for tests: .npy files as NumPy or anyone else writes them, and what gncli reads from any file."""

from __future__ import annotations

import io
import random
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io import ArraySink, Source
from gncli.io.formats.npy import Header, header_bytes, read_header
from gncli.io.source import Sink

MIB = 1 << 20
KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
DTYPES = [mark + kind for kind in KINDS for mark in (("|",) if kind[1] == "1" else ("<", ">"))]
SHAPES: tuple[tuple[int, ...], ...] = ((), (7,), (2, 3), (3, 1, 4), (0,), (2, 0, 3), (1, 1))
GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"


def make(shape: tuple[int, ...], dtype: str, order: Any = "C") -> NDArray[Any]:
    flat = np.random.default_rng(1).integers(0, 100, int(np.prod(shape)))
    return np.asarray(flat.reshape(shape), order=order).astype(dtype, order="K")


def saved(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version, allow_pickle=False)
    return out.getvalue()


def read_all(source: Source, piece: int = 5) -> NDArray[Any]:
    sink = ArraySink(source.shape, source.dtype, source.order)
    for start in range(0, sink.array.size, piece):
        out = np.empty(min(piece, sink.array.size - start), source.dtype)
        source.read_into(out, start)
        sink.write_from(out, start)
    return sink.array


def parse(data: bytes, name: str = "x.npy") -> Header:
    return read_header(io.BytesIO(data).read, name)


def with_header(text: str, version: bytes = b"\x01\x00", data: bytes = b"") -> bytes:
    raw = text.encode("latin-1")
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(raw)) + raw + data


def in_threads(work: Callable[[int], None], threads: int) -> None:
    """Do `work` of each number in a thread of its own."""
    begun = [threading.Thread(target=work, args=(part,)) for part in range(threads)]
    for thread in begun:
        thread.start()
    for thread in begun:
        thread.join()


def write_in_threads(sink: Sink, array: NDArray[Any], step: int, seed: int) -> None:
    """Write an array in pieces of `step` elements, from three threads, in an order that the seed draws; commit it."""
    starts = list(range(0, array.size, step))
    random.Random(seed).shuffle(starts)

    def work(part: int) -> None:
        for start in starts[part::3]:
            sink.write_from(array.reshape(-1)[start : start + step], start)

    in_threads(work, 3)
    sink.commit()


def sparse_npy(path: Path, shape: tuple[int, ...], nbytes: int) -> None:
    """Make a float32 .npy of about `nbytes` that takes no room on the disk; -1 is the axis that makes it so large."""
    rest = 4 * abs(int(np.prod(shape)))
    full = tuple(nbytes // rest if size < 0 else size for size in shape)
    header = header_bytes(full, np.dtype(np.float32), "C")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + rest * (nbytes // rest))


def write_npy(folder: Path, array: NDArray[Any], name: str = "x.npy") -> str:
    """Write the array to a file of `folder`, and return the name of the file."""
    np.save(folder / name, array)
    return str(folder / name)


def listed(folder: Path) -> list[str]:
    """Return the names of what is in `folder`, sorted."""
    return sorted(entry.name for entry in folder.iterdir())
