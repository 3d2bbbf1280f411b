"""HDF5: the one place that imports h5py, and the one function that decides what is read from such a file.

Notes
-----
libhdf5 is not made for hostile files: external storage and external links read other files, a virtual dataset that
refers to itself crashes on the first element. `Hdf5File.open` resolves every component of a path itself, looks at
what it found, and only then reads. Contiguous datasets are read as a .npy is, without libhdf5.

Before libhdf5 does anything here, it has done the same in another process (`Probe`), which a crash would have ended.

Written files never pass through libhdf5's own writing either: when a disk fills up under it, the process crashes at
exit. It writes the skeleton, a few kB, into memory; the data go by `pwrite`. Of a compressed dataset libhdf5 places the
chunks, in a file that it writes through `_Recorded`, which tells us of a failed write, and never libhdf5.
"""

from __future__ import annotations

import difflib
import io
import math
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gncli.errors import InputError, LimitError, OutputError
from gncli.io.assembly import ChunkAssembly, Cut
from gncli.io.atomic import AtomicFile, writing
from gncli.io.chunks import ChunkedSource, ChunkIndex, Filter, Stored
from gncli.io.dtypes import check_dtype
from gncli.io.probe import Probe
from gncli.io.rawfile import RawFile, RawSink, RawSource, as_bytes, read_fully
from gncli.io.source import Identity, Order, Sink, Source
from gncli.policy import STRICT, Policy
from gncli.tiles import boxes

# Before the import: no filter plugins, which would be code from outside, and no failure where locks do not work.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "BEST_EFFORT")

import h5py
from h5py import h5a, h5d, h5f, h5fd, h5g, h5l, h5o, h5p, h5s, h5t, h5z

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_LINKS = 100_000  # walked in one file
MAX_SOFT_LINKS = 40  # followed in one path, as the kernel does
MAX_CACHE_NBYTES = 64 << 20
MAX_INDEXED_CHUNKS = 16 << 20  # 16 bytes each
SPARSE_NBYTES = 4 << 30  # a dataset may declare as much, whatever it stores
SPARSE_FACTOR = 1000
SHOWN_NAMES = 10

_MIN_CACHE_NBYTES = 1 << 20  # libhdf5's own
_CACHE_SLOTS = 12_421  # a prime, far above the number of chunks that fit
_REHEARSED_WHOLE = frozenset({h5z.FILTER_SZIP, h5z.FILTER_NBIT, h5z.FILTER_SCALEOFFSET})  # decoders in libhdf5 alone
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


def _links(group: Any, most: int) -> list[tuple[bytes, int, Any]]:
    """Return name, kind and address of the links of a group, in one call: to ask for each takes five times as long."""
    found: list[tuple[bytes, int, Any]] = []

    def take(name: bytes, info: Any) -> bool | None:
        found.append((name, info.type, info.u))
        return True if len(found) == most else None  # None goes on

    group.links.iterate(take, info=True)
    return found


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
    policy : Policy, optional
        What it may do and ask for.
    rehearsed : bool
        Whether this is the process that a crash may end.

    Attributes
    ----------
    skipped : list of str
        Datasets that hold no numbers, and external links; known after `names`.

    Raises
    ------
    InputError
        If libhdf5 cannot open it.
    """

    def __init__(self, file: RawFile, name: str, policy: Policy = STRICT, *, rehearsed: bool = False) -> None:
        self.name = name
        self.skipped: list[str] = []
        self._file = file
        self._policy = policy
        self._probe = None if rehearsed else Probe(Hdf5Rehearsal(file.fd, file.path, name, policy))
        try:
            self._rehearse("open", name)
            access = h5p.create(h5p.FILE_ACCESS)
            access.set_fapl_sec2()  # whatever the environment says
            if file.path is None:  # unlinked: libhdf5 wants a real path, or an object to read from
                access.set_fileobj_driver(h5fd.fileobj_driver, _Spooled(os.dup(file.fd)))
            with _reading(name, "cannot be opened as HDF5"):
                self._id = h5f.open(os.fsencode(file.path or name), h5f.ACC_RDONLY, access)
            file.verify_unchanged()  # the path could have been given to another file since
        except BaseException:
            self._end_rehearsal()
            raise

    def _end_rehearsal(self) -> None:
        if self._probe is not None:
            self._probe.close()

    def _rehearse(self, request: str, name: str) -> None:
        """Have another process do it first, unless this is that one.

        Raises
        ------
        InputError
            If the other one did not come back.
        """
        if self._probe is None:
            return
        with _reading(name, "cannot be tried in a process of its own"):
            signum = self._probe.ask(request)
        if signum:
            what = "does not come back from it" if signum == signal.SIGPROF else "crashes on it"
            problem = f"libhdf5 {what} ({signal.Signals(signum).name} in a trial run): damaged, or made to"
            raise InputError(problem, subject=name)

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
        self._rehearse(f"read {member}", name)
        parent, last = self._resolve(member, name)
        with _reading(name, "cannot be opened"):
            dataset = h5d.open(parent, last, _access(h5d.open(parent, last), self._policy.max_chunk, name))
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
        if not self._policy.sparse:
            _check_sizes(declared, dataset.get_storage_size(), name)
        file = self._file.duplicate()
        # Never written: libhdf5 knows the fill value. (Its offset is then undefined, and wraps around a user block.)
        written = layout == h5d.CONTIGUOUS and dataset.get_storage_size() == declared > 0
        if not dataset.get_type().equal(h5t.py_create(dtype, logical=True)):
            return Hdf5Source(dataset, file, shape, dtype, name)
        if layout == h5d.CHUNKED and (source := self._chunked(dataset, plist, file, dtype, name)):
            return source
        if not written:
            return Hdf5Source(dataset, file, shape, dtype, name)
        offset = dataset.get_offset()
        if offset + declared > file.identity.nbytes:
            file.close()
            found = file.identity.nbytes
            problem = f"is truncated: its {declared:,} bytes begin at {offset:,}, and the file has {found:,}"
            raise InputError(problem, subject=name)
        return RawSource(file, offset, shape, dtype, "C", name)

    def _chunked(
        self, dataset: Any, plist: Any, file: RawFile, dtype: np.dtype[Any], name: str
    ) -> ChunkedSource | None:
        """Return the reader of a chunked dataset that does not need libhdf5, or None."""
        pipeline = map(plist.get_filter, range(plist.get_nfilters()))
        filters = tuple(Filter(code, values) for code, _, values, _ in pipeline)
        shape, chunk = tuple(map(int, dataset.shape)), tuple(map(int, plist.get_chunk()))
        if (
            not all(step.known(dtype) for step in filters)
            or math.prod(-(-extent // step) for extent, step in zip(shape, chunk, strict=True)) > MAX_INDEXED_CHUNKS
            or self._id.get_create_plist().get_userblock()  # releases of libhdf5 differ in what they count from
            or not hasattr(dataset, "chunk_iter")  # h5py was built with an old one
        ):
            return None
        index = ChunkIndex(shape, chunk)
        with _reading(name, "has an index of chunks that cannot be read"):
            dataset.chunk_iter(
                lambda info: index.add(info.chunk_offset, Stored(info.byte_offset, info.size, info.filter_mask))
            )
        if index.end > file.identity.nbytes:
            file.close()
            found = file.identity.nbytes
            raise InputError(f"is truncated: its chunks end at {index.end:,}, and the file has {found:,}", subject=name)
        fill = np.zeros((), dtype)
        if plist.fill_value_defined() != h5d.FILL_VALUE_UNDEFINED:  # pragma: no branch  # h5py makes no such file
            plist.get_fill_value(fill)
        return ChunkedSource(file, index, filters, dtype, fill, name)

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
        self._rehearse("list", self.name)
        with _reading(self.name, "cannot be listed"):
            seen: set[int] = set()
            groups = [("", h5o.open(self._id, b"/"))]
            seen.add(h5o.get_info(groups[0][1]).addr)
            count = 0
            while groups:
                prefix, group = groups.pop()
                for last, kind, address in _links(group, MAX_LINKS + 1 - count):
                    count += 1
                    if count > MAX_LINKS:
                        way_out = "name one dataset, as FILE::NAME"
                        raise LimitError(f"has more than {MAX_LINKS:,} links", subject=self.name, way_out=way_out)
                    path = f"{prefix}/{_text(last)}"
                    if kind != h5l.TYPE_HARD or address in seen:
                        yield path, kind, None
                        continue
                    seen.add(address)
                    item = h5o.open(group, last)
                    yield path, kind, item
                    if isinstance(item, h5g.GroupID):
                        groups.append((path, item))

    def close(self) -> None:
        """Let go of the file; sources that were opened keep what they need of it."""
        self._end_rehearsal()
        self._file.close()
        self._id.close()


@dataclass
class Hdf5Rehearsal:
    """What `Hdf5File` asks of libhdf5, for a process that may crash.

    Parameters
    ----------
    fd : int
        The file, open.
    path : str or None
        As that of `RawFile`.
    name : str
        As of `Hdf5File`.
    policy : Policy
        The same.
    """

    fd: int
    path: str | None
    name: str
    policy: Policy
    _container: Hdf5File | None = field(default=None, init=False, repr=False)

    def __call__(self, request: str) -> None:
        """Do ``open``, ``list``, or ``read NAME``: that means both ends, or everything where libhdf5 has to decode it.

        Raises
        ------
        GncliError
            As the methods of `Hdf5File` do.
        """
        if self._container is None:
            file = RawFile.spooled(os.dup(self.fd), self.name)
            file.path = self.path
            self._container = Hdf5File(file, self.name, self.policy, rehearsed=True)
        what, _, member = request.partition(" ")
        if what == "list":
            self._container.names()
        elif what == "read":
            with closing(self._container.open(member, self.name)) as source:
                _read_ends(source)


def _read_ends(source: Source) -> None:
    size = math.prod(source.shape)
    whole = isinstance(source, Hdf5Source) and source.filters & _REHEARSED_WHOLE
    out = np.empty(min(size, _REHEARSED_PIECE if whole else 1), source.dtype)
    for start in range(0, size, max(1, out.size if whole else size - 1)):
        source.read_into(out[: size - start], start)


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
        plist = dataset.get_create_plist()
        self.filters = frozenset(plist.get_filter(index)[0] for index in range(plist.get_nfilters()))

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
    compression: int | None = None,
) -> Sink:
    """Return the sink of a new HDF5 file with one C-ordered dataset, whose runs come in `order`.

    It is contiguous; with a level of `compression` it is in chunks of samples, shuffled and deflated, unless there is
    nothing to cut.
    """
    transposed = order == "F" and len(shape) > 1
    if compression is not None and shape and 0 not in shape:
        cut = Cut.of(shape, dtype.itemsize)
        made = _apart(lambda: _Compressed(file, dataset, cut, dtype, attributes, compression))
        return TransposingCompressedSink(made, shape, dtype) if transposed else CompressedSink(made, shape, dtype)
    image = _Image()

    def skeleton() -> int:
        with h5py.File(image, "w", libver=_LIBVER) as handle:
            creation = _creation(h5d.CONTIGUOUS)
            creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
            made = _create(handle, dataset, shape, dtype, creation, attributes)
            return made.get_offset() or 0  # an empty dataset has none

    offset = _apart(skeleton)
    sink = TransposingSink if transposed else RawSink
    return sink(file, image.pieces, offset, shape, dtype, image.nbytes)


_LIBVER = ("v110", "v110")  # whose metadata have checksums: of 6,389 flipped bytes none went unnoticed

Made = TypeVar("Made")


def _apart(work: Callable[[], Made]) -> Made:
    """Return what `work` returns, done by a thread of its own.

    libhdf5 calls back into Python, where in the main thread the exception of a signal may come up at any step. It would
    take that for a failed write, and crash at exit.
    """
    with ThreadPoolExecutor(1) as executor:
        try:
            future = executor.submit(work)
        except RuntimeError:  # no thread to be had
            executor.shutdown(cancel_futures=True)
            return work()
        return future.result()


def _creation(layout: int) -> Any:
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_layout(layout)
    creation.set_fill_time(h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    return creation


def _create(
    handle: Any,
    path: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    creation: Any,
    attributes: Mapping[str, object],
) -> Any:
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
    name = path.encode("utf-8", "surrogateescape")
    made = h5d.create(handle.id, name, h5t.py_create(dtype, logical=True), space, creation, links)
    for key, value in attributes.items():
        h5py.Dataset(made).attrs[key] = value
    return made


class _Compressed:
    """A new HDF5 file with one compressed dataset, into which chunks are put one by one."""

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
        self.assembly = ChunkAssembly(cut, dtype, level, self._store)
        self._disk = _Recorded(file)
        self._handle = h5py.File(self._disk, "w", libver=_LIBVER)
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
        """Have libhdf5 write what is left; it never comes to know whether that failed."""
        if self._handle:
            self._dataset = None
            _apart(self._handle.close)
        self._disk.check()

    def drop(self) -> None:
        """Have libhdf5 close its file, nothing of which is written any more."""
        self._disk.failed = self._disk.failed or OutputError("was given up", subject=self.file.name)
        with suppress(OutputError):
            self.finish()


class CompressedSink:
    """A compressed dataset, in C order.

    Parameters
    ----------
    made : _Compressed
        The file, begun.
    shape, dtype
        Of the tensor.
    """

    sequential = False

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
        """Remove what was begun."""
        self._made.drop()
        self._made.file.abort()


class TransposingCompressedSink(CompressedSink):
    """A compressed dataset that takes its runs in Fortran order: each touches every chunk, so that a copy is put by."""

    def __init__(self, made: _Compressed, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(made, shape, dtype)
        try:
            self._copy = TransposingSink(made.file.scratch(), [], 0, shape, dtype)  # type: ignore[arg-type]
        except BaseException:
            made.drop()
            raise

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Write `data`, the elements from `start` on, counted in Fortran order."""
        self._copy.write_from(data, start)

    def commit(self) -> None:
        """Compress the copy, and make the file visible under its name, whole."""
        size, step = math.prod(self.shape), max(1, _COPY_NBYTES // self.dtype.itemsize)
        piece = np.empty(min(size, step), self.dtype)
        for start in range(0, size, step):
            part = piece[: size - start]
            with writing(self.name):
                if read_fully(self._copy.file.fd, as_bytes(part), start * self.dtype.itemsize) < part.nbytes:
                    raise OSError("what was put by has become shorter")
            super().write_from(part, start)
        super().commit()
        self._copy.abort()

    def abort(self) -> None:
        """Remove what was begun."""
        self._copy.abort()
        super().abort()


_COPY_NBYTES = 1 << 20
_REHEARSED_PIECE = 1 << 18


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
        return self._overlaid(view, bytearray(len(view)))

    def _overlaid(self, view: memoryview, found: bytearray) -> int:
        """Fill `view` with `found`, and over it what was written in memory."""
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
    """A file on the disk for libhdf5, which never learns that one of its writes failed: it would crash at exit.

    From the first failure on what it writes is kept in memory, where it finds it again until it has closed the file.
    """

    def __init__(self, file: AtomicFile) -> None:
        super().__init__()
        self.failed: OutputError | None = None
        self._file = file

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
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
        with suppress(OSError):  # what cannot be read was not written, and `failed` says so
            read_fully(self._file.fd, memoryview(found), self._position)
        return self._overlaid(view, found)

    def truncate(self, nbytes: int) -> int:
        try:
            self.check()
            self._file.truncate(nbytes)
        except OutputError as error:
            self.failed = error
        return super().truncate(nbytes)


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
            way_out = "--allow-plugins loads it from HDF5_PLUGIN_PATH; the hdf5plugin package may have it"
            raise InputError(f"is compressed by filter {shown}, which is not here", subject=name, way_out=way_out)


def _check_sizes(declared: int, stored: int, name: str) -> None:
    if declared > SPARSE_NBYTES and declared > SPARSE_FACTOR * stored:
        problem = f"declares {declared:,} bytes and stores {stored:,}"
        raise LimitError(problem, subject=name, way_out="--allow-sparse, if that is meant")


def _access(dataset: Any, max_chunk: int, name: str) -> Any:
    """Return how to open a dataset: with room for the chunks that a run touches again.

    That is one band of chunks, across the axes after the first chunked one. It has to be known before the dataset is
    opened for good: a second opening shares the cache of the first one.
    """
    access = h5p.create(h5p.DATASET_ACCESS)
    plist = dataset.get_create_plist()
    if plist.get_layout() == h5d.CHUNKED:
        chunk, shape = plist.get_chunk(), dataset.shape
        nbytes = math.prod(chunk) * dataset.get_type().get_size()
        if nbytes > max_chunk:
            way_out = f"--max-chunk {nbytes} reads them, each whole in memory"
            problem = f"has chunks of {nbytes:,} bytes; the limit is {max_chunk:,}"
            raise LimitError(problem, subject=name, way_out=way_out)
        axis = next((k for k, extent in enumerate(chunk) if extent > 1), len(chunk) - 1)
        band = nbytes * math.prod(-(-shape[k] // chunk[k]) for k in range(axis + 1, len(shape)))
        access.set_chunk_cache(_CACHE_SLOTS, min(MAX_CACHE_NBYTES, max(_MIN_CACHE_NBYTES, 4 * band)), 0.75)
    return access
