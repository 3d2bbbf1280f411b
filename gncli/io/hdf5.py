"""HDF5: the one place that imports h5py, and the one function that decides what is read from such a file.

Notes
-----
libhdf5 is not made for hostile files: external storage and external links read other files, a virtual dataset that
refers to itself crashes on the first element. `Hdf5File.open` resolves every component of a path itself, looks at
what it found, and only then reads. Contiguous datasets are read as a .npy is, without libhdf5.

Written files never pass through libhdf5's own writing either: when a disk fills up under it, the process crashes at
exit. It writes the skeleton, a few kB, into memory; the data go by `pwrite`.
"""

from __future__ import annotations

import difflib
import io
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError, LimitError, OutputError
from gncli.io.atomic import AtomicFile
from gncli.io.dtypes import check_dtype
from gncli.io.rawfile import RawFile, RawSink, RawSource
from gncli.io.source import Identity, Order, Source
from gncli.tiles import boxes

# Before the import: no filter plugins, which would be code from outside, and no failure where locks do not work.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "BEST_EFFORT")

import h5py
from h5py import h5a, h5d, h5f, h5fd, h5g, h5l, h5o, h5p, h5s, h5t, h5z

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_LINKS = 100_000  # walked in one file
MAX_SOFT_LINKS = 40  # followed in one path, as the kernel does
MAX_CHUNK_NBYTES = 64 << 20
MAX_CACHE_NBYTES = 64 << 20
SPARSE_NBYTES = 4 << 30  # a dataset may declare as much, whatever it stores
SPARSE_FACTOR = 1000
SHOWN_NAMES = 10

_MIN_CACHE_NBYTES = 1 << 20  # libhdf5's own
_CACHE_SLOTS = 12_421  # a prime, far above the number of chunks that fit
_FAILURES = (OSError, RuntimeError, KeyError, TypeError, ValueError)  # UnicodeDecodeError is a ValueError

_FILTERS = {
    1: "deflate",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32026: "Blosc2",
}


@contextmanager
def _reading(name: str, doing: str) -> Iterator[None]:
    """Turn what h5py raises on damaged files into an InputError."""
    try:
        yield
    except _FAILURES as error:
        # Not str(error): that of a KeyError is in quotes.
        text = str(error.args[-1] if error.args else "").partition("\n")[0] or type(error).__name__
        raise InputError(f"{doing} ({text})", subject=name) from error


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def list_names(names: list[str]) -> str:
    """Return the names in one phrase, the first ten and a count.

    Examples
    --------
    >>> list_names(["/a", "/b"])
    '/a, /b'
    """
    shown = ", ".join(names[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES:,} more"


class Hdf5File:
    """An HDF5 file: its numeric datasets by name, each of which can be opened.

    Parameters
    ----------
    file : RawFile
        The file, which is closed with this.
    name : str
        The file as the user typed it.

    Attributes
    ----------
    skipped : list of str
        Datasets that hold no numbers, and external links; known after `names`.

    Raises
    ------
    InputError
        If libhdf5 cannot open it.
    """

    def __init__(self, file: RawFile, name: str) -> None:
        self.name = name
        self.skipped: list[str] = []
        self._file = file
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_fapl_sec2()  # whatever the environment says
        if file.path is None:  # unlinked: libhdf5 wants a real path, or an object to read from
            access.set_fileobj_driver(h5fd.fileobj_driver, _Spooled(os.dup(file.fd)))
        with _reading(name, "cannot be opened as HDF5"):
            self._id = h5f.open(os.fsencode(file.path or name), h5f.ACC_RDONLY, access)
        file.verify_unchanged()  # the path could have been given to another file since

    def names(self) -> list[str]:
        """Return the paths of the numeric datasets, sorted, each dataset once; soft links are not followed.

        Raises
        ------
        InputError
            If the file is damaged.
        LimitError
            If it has more links than anyone would name.
        """
        found = []
        self.skipped = []
        for path, kind, item in self._walk():
            if kind == h5l.TYPE_EXTERNAL:
                self.skipped.append(path)
            elif isinstance(item, h5d.DatasetID):
                try:
                    _dtype(item, path)
                except InputError:
                    self.skipped.append(path)
                else:
                    found.append(path)
        return sorted(found)

    def others_than(self, dataset: str) -> list[str]:
        """Return what the file holds besides the dataset of that path and the groups that lead to it."""
        parts = dataset.strip("/").split("/")
        leading = {"/" + "/".join(parts[:depth]) for depth in range(1, len(parts))}
        others = []
        with _reading(self.name, "cannot be listed"):
            if h5a.get_num_attrs(h5o.open(self._id, b"/")):
                others.append("the attributes of /")
        for path, _, item in self._walk():
            if path in leading and isinstance(item, h5g.GroupID):
                if h5a.get_num_attrs(item):
                    others.append(f"the attributes of {path}")
            elif path != "/" + "/".join(parts) or not isinstance(item, h5d.DatasetID):
                others.append(path)
        return others

    def open(self, member: str, name: str) -> Source:
        """Return the dataset at that path, all of it checked before anything is read.

        Parameters
        ----------
        member : str
            With or without the leading ``/``.
        name : str
            What errors call it.

        Raises
        ------
        InputError
            If there is none, or it is damaged, or not numeric, or refers to other files.
        LimitError
            If a chunk is too large, or the dataset declares far more than it stores.
        """
        parent, last = self._resolve(member, name)
        with _reading(name, "cannot be opened"):
            dataset = h5d.open(parent, last, _access(h5d.open(parent, last), name))
            return self._checked(dataset, _dtype(dataset, name), name)

    def _checked(self, dataset: Any, dtype: np.dtype[Any], name: str) -> Source:
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        if layout == h5d.VIRTUAL:
            way_out = "copy it to a plain dataset first"
            raise InputError("is a virtual dataset, which reads other files", subject=name, way_out=way_out)
        if plist.get_external_count():
            way_out = "h5repack copies it into one file"
            raise InputError("keeps its data in other files, which are not read", subject=name, way_out=way_out)
        if dataset.get_space().get_simple_extent_type() == h5s.NULL:
            raise InputError("has a null dataspace: no elements, and no shape", subject=name)
        shape = tuple(int(extent) for extent in dataset.shape)
        declared = math.prod(shape) * dtype.itemsize
        _check_filters(plist, name)
        _check_sizes(declared, dataset.get_storage_size(), name)
        file = self._file.duplicate()
        # Never written: libhdf5 knows the fill value. (Its offset is then undefined, and wraps around a user block.)
        written = layout == h5d.CONTIGUOUS and dataset.get_storage_size() == declared > 0
        if not written or not dataset.get_type().equal(h5t.py_create(dtype, logical=True)):
            return Hdf5Source(dataset, file, shape, dtype, name)
        offset = dataset.get_offset()
        if offset + declared > file.identity.nbytes:
            file.close()
            found = file.identity.nbytes
            problem = f"is truncated: its {declared:,} bytes begin at {offset:,}, and the file has {found:,}"
            raise InputError(problem, subject=name)
        return RawSource(file, offset, shape, dtype, "C", name)

    def _resolve(self, member: str, name: str) -> tuple[Any, bytes]:
        """Return the group that a dataset is in, and its name there: every link on the way is looked at."""
        todo = deque(part for part in member.encode("utf-8", "surrogateescape").split(b"/") if part not in (b"", b"."))
        soft = 0
        with _reading(name, "cannot be found"):
            root = here = h5o.open(self._id, b"/")
            while todo:
                part = todo.popleft()
                if not isinstance(here, h5g.GroupID) or part not in here:
                    raise self._not_found(member, name)
                kind = here.links.get_info(part).type
                if kind == h5l.TYPE_SOFT:
                    soft += 1
                    if soft > MAX_SOFT_LINKS:
                        raise InputError(f"goes through more than {MAX_SOFT_LINKS} soft links", subject=name)
                    target = here.links.get_val(part)
                    here = root if target.startswith(b"/") else here
                    todo.extendleft(step for step in reversed(target.split(b"/")) if step not in (b"", b"."))
                elif kind != h5l.TYPE_HARD:
                    way_out = "name the dataset in its own file"
                    raise InputError("is an external link, which is not followed", subject=name, way_out=way_out)
                else:
                    parent, last, here = here, part, h5o.open(here, part)
        if isinstance(here, h5d.DatasetID):
            return parent, last
        inside = [path for path in self.names() if path.startswith("/" + member.strip("/") + "/")] or self.names()
        choice = f"name one of {list_names(inside)}" if inside else None
        raise InputError("is a group, not a dataset", subject=name, way_out=choice)

    def _not_found(self, member: str, name: str) -> InputError:
        names = self.names()
        near = difflib.get_close_matches("/" + member.strip("/"), names, SHOWN_NAMES) or names
        way_out = f"the file has {list_names(near)}" if near else "the file holds no numeric dataset"
        return InputError("no such dataset", subject=name, way_out=way_out)

    def _walk(self) -> Iterator[tuple[str, int, Any]]:
        """Yield path, kind of link, and object of every link; an object only the first time, and for hard links."""
        with _reading(self.name, "cannot be listed"):
            seen: set[int] = set()
            groups = [("", h5o.open(self._id, b"/"))]
            seen.add(h5o.get_info(groups[0][1]).addr)
            count = 0
            while groups:
                prefix, group = groups.pop()
                for last in group:
                    count += 1
                    if count > MAX_LINKS:
                        way_out = "name one dataset, as FILE::NAME"
                        raise LimitError(f"has more than {MAX_LINKS:,} links", subject=self.name, way_out=way_out)
                    path = f"{prefix}/{_text(last)}"
                    link = group.links.get_info(last)
                    if link.type != h5l.TYPE_HARD or link.u in seen:
                        yield path, link.type, None
                        continue
                    seen.add(link.u)
                    item = h5o.open(group, last)
                    yield path, link.type, item
                    if isinstance(item, h5g.GroupID):
                        groups.append((path, item))

    def close(self) -> None:
        """Let go of the file; sources that were opened keep what they need of it."""
        self._file.close()
        self._id.close()


class Hdf5Source:
    """A dataset that libhdf5 has to read: chunked, compact, converted, or never written.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID
        The dataset, checked.
    file : RawFile
        Its file, to see whether it changes; closed with the source.
    shape, dtype
        As of `Source`.
    name : str
        What errors call it.
    """

    sequential = False
    order: Order = "C"

    def __init__(self, dataset: Any, file: RawFile, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.identity: Identity | None = file.identity
        self._dataset = dataset
        self._file = file
        self._type = h5t.py_create(dtype, logical=True)

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on. One thread at a time passes h5py's own lock."""
        done = 0
        with _reading(self.name, "cannot be read"):
            space = self._dataset.get_space()
            for box in boxes(self.shape, start, start + out.size):
                corner, extent = _corner_and_extent(box)
                count = math.prod(extent)
                # In memory the same box: between different shapes libhdf5 goes element by element, 20 times slower.
                memory = h5s.create_simple(extent) if extent else h5s.create(h5s.SCALAR)
                if extent:
                    space.select_hyperslab(corner, extent)
                self._dataset.read(memory, space, out[done : done + count], self._type)
                done += count

    def hold(self, start: int, stop: int) -> None:
        """Do nothing: a file can be read again."""

    def verify_unchanged(self) -> None:
        """Raise ChangedError if the file is not what it was when it was opened."""
        self._file.verify_unchanged()

    def close(self) -> None:
        """Let go of the dataset."""
        self._dataset = None
        self._file.close()


def _corner_and_extent(box: tuple[slice, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(part.start for part in box), tuple(part.stop - part.start for part in box)


class TransposingSink(RawSink):
    """A C-ordered dataset that takes its runs in Fortran order, and writes each a contiguous piece at a time."""

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data` as the elements from `start` on, counted in Fortran order."""
        done = 0
        for box in boxes(self.shape[::-1], start, start + data.size):
            corner, extent = _corner_and_extent(box)
            count = math.prod(extent)
            block = data[done : done + count].reshape(extent).T
            self._write_block(np.ascontiguousarray(block), corner[::-1])
            done += count

    def _write_block(self, block: NDArray[Any], corner: tuple[int, ...]) -> None:
        # Trailing axes that the block fills belong to the same contiguous piece as the first one that it does not.
        axis = block.ndim - 1
        while axis > 0 and block.shape[axis] == self.shape[axis]:
            axis -= 1
        strides = [math.prod(self.shape[k + 1 :]) for k in range(block.ndim)]
        first = sum(at * stride for at, stride in zip(corner, strides, strict=True))
        pieces = block.reshape(math.prod(block.shape[:axis]), -1)
        starts = np.full((), first)
        for extent, stride in zip(block.shape[:axis], strides, strict=False):
            starts = starts[..., np.newaxis] + np.arange(extent) * stride
        for start, piece in zip(starts.flat, pieces, strict=True):
            super().write_from(piece, int(start))


def check_replaceable(target: str, name: str, dataset: str) -> None:
    """Raise OutputError if the file holds anything that replacing it by a new one with `dataset` would lose."""
    try:
        raw = RawFile(target, name)
        if raw.identity.nbytes == 0:
            raw.close()
            return
        file = Hdf5File(raw, name)
        others = file.others_than(dataset)
        file.close()
    except (InputError, LimitError) as error:
        problem = f"holds what cannot be listed, and would be lost: {error.problem}"
        raise OutputError(problem, subject=name, way_out="choose another name") from error
    if others:
        problem = f"holds more than {dataset}, and would lose {list_names(others)}"
        raise OutputError(problem, subject=name, way_out="choose another name")


def hdf5_sink(
    file: AtomicFile,
    dataset: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    order: Order,
    attributes: Mapping[str, object],
) -> RawSink:
    """Return the sink of a new HDF5 file with one contiguous, C-ordered dataset, whose runs come in `order`."""
    image = _Image()
    with h5py.File(image, "w", libver=("v110", "v110")) as handle:
        creation = h5p.create(h5p.DATASET_CREATE)
        creation.set_layout(h5d.CONTIGUOUS)
        creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5d.FILL_TIME_NEVER)
        creation.set_obj_track_times(False)
        links = h5p.create(h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
        path = dataset.encode("utf-8", "surrogateescape")
        made = h5d.create(handle.id, path, h5t.py_create(dtype, logical=True), space, creation, links)
        for key, value in attributes.items():
            h5py.Dataset(made).attrs[key] = value
        offset = made.get_offset() or 0  # an empty dataset has none
    sink = TransposingSink if order == "F" and len(shape) > 1 else RawSink
    return sink(file, image.pieces, offset, shape, dtype, image.nbytes)


class _Spooled(io.FileIO):
    """A file without a name, closed with the last dataset that needs it, which only libhdf5 knows."""

    def __del__(self) -> None:
        self.close()


class _Image:
    """A file in memory for libhdf5 to write a skeleton into: what was written is kept, the hole for the data is not."""

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

    def read(self, nbytes: int) -> bytes:  # h5py knows a file by this
        found = bytearray(nbytes)
        self.readinto(memoryview(found))
        return bytes(found)

    def readinto(self, view: memoryview) -> int:
        found = bytearray(len(view))
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


def _dtype(dataset: Any, name: str) -> np.dtype[Any]:
    """Return the dtype of the elements, which is numeric, or raise InputError."""
    with _reading(name, "has a type that NumPy does not have"):
        dtype = dataset.get_type().dtype
    if h5py.check_enum_dtype(dtype) is not None:
        raise InputError("holds an enumeration, not numbers", subject=name)
    if h5py.check_string_dtype(dtype) is not None:
        raise InputError("holds text, not numbers", subject=name)
    if h5py.check_vlen_dtype(dtype) is not None:
        raise InputError("holds sequences of varying length, not numbers", subject=name)
    return np.dtype(check_dtype(dtype, name).str)


def _check_filters(plist: Any, name: str) -> None:
    for index in range(plist.get_nfilters()):
        code = plist.get_filter(index)[0]
        if not h5z.filter_avail(code):
            shown = f"{code} ({_FILTERS[code]})" if code in _FILTERS else str(code)
            way_out = "where the hdf5plugin package is, h5repack -f NONE makes a copy without it"
            raise InputError(f"is compressed by filter {shown}, which is not here", subject=name, way_out=way_out)


def _check_sizes(declared: int, stored: int, name: str) -> None:
    if declared > SPARSE_NBYTES and declared > SPARSE_FACTOR * stored:
        raise LimitError(f"declares {declared:,} bytes and stores {stored:,}", subject=name)


def _access(dataset: Any, name: str) -> Any:
    """Return how to open a dataset: with room for the chunks that a run touches again.

    That is one band of chunks, across the axes after the first chunked one. It has to be known before the dataset is
    opened for good: a second opening shares the cache of the first one.
    """
    access = h5p.create(h5p.DATASET_ACCESS)
    plist = dataset.get_create_plist()
    if plist.get_layout() == h5d.CHUNKED:
        chunk, shape = plist.get_chunk(), dataset.shape
        nbytes = math.prod(chunk) * dataset.get_type().get_size()
        if nbytes > MAX_CHUNK_NBYTES:
            way_out = "h5repack -l makes a copy with smaller ones"
            problem = f"has chunks of {nbytes:,} bytes; the limit is {MAX_CHUNK_NBYTES:,}"
            raise LimitError(problem, subject=name, way_out=way_out)
        axis = next((k for k, extent in enumerate(chunk) if extent > 1), len(chunk) - 1)
        band = nbytes * math.prod(-(-shape[k] // chunk[k]) for k in range(axis + 1, len(shape)))
        access.set_chunk_cache(_CACHE_SLOTS, min(MAX_CACHE_NBYTES, max(_MIN_CACHE_NBYTES, 4 * band)), 0.75)
    return access
