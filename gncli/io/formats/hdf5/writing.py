"""HDF5 files, written: always a new file with one dataset.

Notes
-----
libhdf5 never writes to the disk itself: if the disk fills up then, the process crashes at exit. For a contiguous
dataset libhdf5 writes the skeleton, a few kB, into memory, and `pwrite` writes the data. For a compressed dataset
libhdf5 places the chunks and writes them through `_Recorded`, which reports a failed write to gncli, but not to
libhdf5.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import h5py
import numpy as np
from h5py import h5d, h5f, h5fd, h5g, h5p, h5s, h5t
from numpy.typing import NDArray

from gncli.errors import OutputError
from gncli.io.assembly import ChunkAssembly
from gncli.io.atomic import AtomicFile
from gncli.io.formats.hdf5.guard import GuardedHdf5File
from gncli.io.rawfile import RawFile, RawSink, check_lost, read_fully
from gncli.io.source import Order, Sink
from gncli.io.transposition import Cut, in_c_order


def check_replaceable(file: AtomicFile, name: str, dataset: str) -> None:
    """Raise OutputError if the file holds anything besides `dataset`, which a new file would lose."""

    def others(raw: RawFile) -> list[str]:
        with GuardedHdf5File(raw, name) as file:
            return file.others_than(dataset)

    check_lost(file.replaced, name, dataset, others)


def hdf5_sink(
    file: AtomicFile,
    dataset: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    order: Order,
    attributes: Mapping[str, object],
    compression: int | None = None,
) -> Sink:
    """Return the sink of a new HDF5 file with one C-ordered dataset, whose runs come in `order`.

    The dataset is contiguous. With a level of `compression` it is in chunks of samples, shuffled and deflated, unless
    it is a scalar or empty.
    """
    sink = _c_ordered_sink(file, dataset, shape, dtype, attributes, compression)
    return in_c_order(sink, file.scratch, shape, dtype, order)


def _c_ordered_sink(
    file: AtomicFile,
    dataset: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    attributes: Mapping[str, object],
    compression: int | None,
) -> Sink:
    if compression is not None and shape and 0 not in shape:
        cut = Cut.of(shape, dtype.itemsize)
        made = _apart(lambda: _Compressed(file, dataset, cut, dtype, attributes, compression))
        return CompressedSink(made, shape, dtype)
    image = _Image()

    def skeleton() -> int:
        with _new_file(image) as handle:
            creation = _creation(h5d.CONTIGUOUS)
            creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
            made = _create(handle, dataset, shape, dtype, creation, attributes)
            return made.get_offset() or 0  # an empty dataset has none

    offset = _apart(skeleton)
    return RawSink(file, image.pieces, offset, shape, dtype, image.nbytes)


_LIBVER = h5f.LIBVER_V110  # its metadata have checksums: none of 6,389 flipped bytes went unnoticed

Made = TypeVar("Made")


def _apart(work: Callable[[], Made]) -> Made:
    """Return what `work` returns in a thread of its own.

    libhdf5 calls back into Python, and in the main thread a signal may raise its exception at any step there. libhdf5
    would take that for a failed write, and crash at exit.
    """
    with ThreadPoolExecutor(1) as executor:
        try:
            future = executor.submit(work)
        except RuntimeError:  # no thread can be started
            executor.shutdown(cancel_futures=True)
            return work()
        return future.result()


def _new_file(disk: object) -> Any:
    """Return a new file on `disk` whose root group keeps no times, as h5py itself can make it only since 3.15."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(_LIBVER, _LIBVER)
    access.set_fileobj_driver(h5fd.fileobj_driver, disk)
    return h5py.File(h5f.create(b"new", h5f.ACC_TRUNC, fcpl=_timeless(h5p.FILE_CREATE), fapl=access))


def _timeless(kind: Any) -> Any:
    """Return a property list for an object that keeps no times, so that the same data give the same bytes."""
    made = h5p.create(kind)
    made.set_obj_track_times(False)
    return made


def _creation(layout: int) -> Any:
    creation = _timeless(h5p.DATASET_CREATE)
    creation.set_layout(layout)
    creation.set_fill_time(h5d.FILL_TIME_NEVER)
    return creation


def _create(
    handle: Any,
    path: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    creation: Any,
    attributes: Mapping[str, object],
) -> Any:
    *groups, name = path.encode("utf-8", "surrogateescape").split(b"/")
    place = handle.id
    for group in groups:
        place = h5g.create(place, group, gcpl=_timeless(h5p.GROUP_CREATE))
    space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
    made = h5d.create(place, name, h5t.py_create(dtype, logical=True), space, creation)
    for key, value in attributes.items():
        h5py.Dataset(made).attrs[key] = value
    return made


def compressed(chunk: NDArray[Any], level: int) -> bytes:
    r"""Return a chunk after HDF5's filters shuffle (all first bytes, then all second bytes, ...) and deflate.

    Examples
    --------
    >>> zlib.decompress(compressed(np.array([1, 2], "<u2"), 4))
    b'\x01\x02\x00\x00'
    """
    planes = np.ascontiguousarray(chunk.view(np.uint8).reshape(-1, chunk.dtype.itemsize).T)
    return zlib.compress(planes.data, level)


class _Compressed:
    """A new HDF5 file with one compressed dataset, which takes its chunks one by one."""

    def __init__(
        self,
        file: AtomicFile,
        dataset: str,
        cut: Cut,
        dtype: np.dtype[Any],
        attributes: Mapping[str, object],
        level: int,
    ) -> None:
        self.file = file
        self.assembly = ChunkAssembly(cut, np.zeros((), dtype), partial(compressed, level=level), self._store)
        self._disk = _Recorded(file)
        self._handle = _new_file(self._disk)
        creation = _creation(h5d.CHUNKED)
        creation.set_chunk(cut.chunk)
        creation.set_shuffle()
        creation.set_deflate(level)
        self._dataset = _create(self._handle, dataset, cut.shape, dtype, creation, attributes)
        self._disk.check()

    def _store(self, corner: tuple[int, ...], data: bytes) -> None:
        self._disk.check()
        self._dataset.write_direct_chunk(corner, data)
        self._disk.check()

    def finish(self) -> None:
        """Have libhdf5 write the remainder; it never learns whether that failed."""
        if self._handle:
            self._dataset = None
            _apart(self._handle.close)
        self._disk.check()

    def drop(self) -> None:
        """Have libhdf5 close its file, of which nothing more is written to the disk."""
        self._disk.failed = self._disk.failed or OutputError("was given up", subject=self.file.name)
        with suppress(OutputError):
            self.finish()


class CompressedSink(Sink):
    """A compressed dataset, in C order.

    Parameters
    ----------
    made : _Compressed
        The file, begun.
    shape, dtype
        Shape and dtype of the tensor.
    """

    def __init__(self, made: _Compressed, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.name = made.file.name
        self.shape, self.dtype = shape, dtype
        self._made = made

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Compress and write `data`, the elements from `start` on."""
        self._made.assembly.write_from(data, start)

    def commit(self) -> None:
        """Make the file visible under its name, whole."""
        self._made.finish()
        self._made.file.commit()

    def abort(self) -> None:
        """Remove the file that was begun."""
        self._made.drop()
        self._made.file.abort()


class _Image:
    """A file in memory for a skeleton that libhdf5 writes: it keeps the written pieces, not the hole for the data."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.nbytes = 0
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset if whence == os.SEEK_SET else self.nbytes + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: memoryview) -> int:
        piece = bytes(data)
        self.pieces.append((self._position, piece))
        self._position += len(piece)
        self.nbytes = max(self.nbytes, self._position)
        return len(piece)

    def read(self, nbytes: int) -> bytes:  # h5py recognizes a file object by this method
        found = bytearray(nbytes)
        self.readinto(memoryview(found))
        return bytes(found)

    def readinto(self, view: memoryview) -> int:
        return self._overlaid(view, bytearray(len(view)))

    def _overlaid(self, view: memoryview, found: bytearray) -> int:
        """Fill `view` with `found`, overlaid with the pieces that were written in memory."""
        for at, piece in self.pieces:
            first, last = max(at, self._position), min(at + len(piece), self._position + len(view))
            if first < last:
                found[first - self._position : last - self._position] = piece[first - at : last - at]
        view[:] = found
        self._position += len(found)
        return len(found)

    def truncate(self, nbytes: int) -> int:
        self.nbytes = nbytes
        return nbytes

    def flush(self) -> None:
        pass


class _Recorded(_Image):
    """A file on the disk for libhdf5, which must not learn that one of its writes failed: it would crash at exit.

    From the first failure on, the pieces that it writes are kept in memory, so that it can read them until it closes
    the file.
    """

    def __init__(self, file: AtomicFile) -> None:
        super().__init__()
        self.failed: OutputError | None = None
        self._file = file

    def check(self) -> None:
        """Raise the error of a write, if one failed."""
        if self.failed is not None:
            raise self.failed

    def write(self, data: memoryview) -> int:
        try:
            self.check()
            self._file.write(memoryview(data), self._position)
        except OutputError as error:
            self.failed = error
            return super().write(data)
        self._position += len(data)
        self.nbytes = max(self.nbytes, self._position)
        return len(data)

    def readinto(self, view: memoryview) -> int:
        found = bytearray(len(view))
        with suppress(OSError):  # bytes that cannot be read were not written, and `failed` says so
            read_fully(self._file.fd, memoryview(found), self._position)
        return self._overlaid(view, found)

    def truncate(self, nbytes: int) -> int:
        try:
            self.check()
            self._file.truncate(nbytes)
        except OutputError as error:
            self.failed = error
        return super().truncate(nbytes)
