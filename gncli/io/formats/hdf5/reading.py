"""What is read of an HDF5 file: one function resolves a dataset, checks all of it, and only then reads.

Notes
-----
libhdf5 is not made for hostile files: external storage and external links read other files, a virtual dataset that
refers to itself crashes on the first element. `Hdf5File.open` resolves every component of a path itself, looks at
what it found, and only then reads. Contiguous datasets are read as a .npy is, without libhdf5.

Before libhdf5 does anything here, it has done the same in another process (`Probe`), which a crash would have ended.
"""

from __future__ import annotations

import io
import math
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5ds, h5f, h5fd, h5g, h5l, h5o, h5p, h5s, h5t, h5z
from numpy.typing import NDArray

from gncli.errors import GncliError, InputError, LimitError
from gncli.io.dtypes import check_dtype
from gncli.io.formats.hdf5.chunks import ChunkedSource, ChunkIndex, Filter, Stored, check_stored
from gncli.io.formats.hdf5.rehearsal import Died, Probe
from gncli.io.rawfile import FileSource, RawFile, RawSource
from gncli.io.source import Container, Source, list_names, not_found
from gncli.kernels.walk import boxes
from gncli.names import STRICT, Policy

VERSIONS = {"h5py": h5py.__version__, "HDF5": h5py.version.hdf5_version}

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_LINKS = 100_000  # walked in one file
MAX_PATHS_NBYTES = 64 << 20  # of all of their paths: in deep groups these are long
MAX_SOFT_LINKS = 40  # followed in one path, as the kernel does
MAX_CACHE_NBYTES = 64 << 20
MAX_INDEXED_CHUNKS = 16 << 20  # 16 bytes each
SPARSE_NBYTES = 4 << 30  # a dataset may declare as much, whatever it stores
SPARSE_FACTOR = 1000

_KEPT_TYPE_NBYTES = 64  # a number's takes 20; an enumeration's may take any number
_REHEARSED_PIECE = 1 << 18  # elements
_MIN_CACHE_NBYTES = 1 << 20  # libhdf5's own
_CACHE_SLOTS = 12_421  # a prime, far above the number of chunks that fit
_REHEARSED_WHOLE = frozenset({h5z.FILTER_SZIP, h5z.FILTER_NBIT, h5z.FILTER_SCALEOFFSET})  # decoders in libhdf5 alone
_FAILURES = (OSError, RuntimeError, KeyError, TypeError, ValueError)  # UnicodeDecodeError is a ValueError

_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable."

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


def _links(parent: Any, name: bytes, most: int) -> list[tuple[bytes, int, Any]]:
    """Return name, kind and address of the links of a group, in one call, and without opening it: five times faster."""
    found: list[tuple[bytes, int, Any]] = []

    def take(name: bytes, info: Any) -> bool | None:
        found.append((name, info.type, info.u))
        return True if len(found) == most else None  # None goes on

    parent.links.iterate(take, obj_name=name, info=True)
    return found


class _Link(NamedTuple):
    """A link that the walk meets: its path, the group it is in, its name there, what is behind it, and where."""

    path: str
    parent: Any
    name: bytes
    kind: int  # as h5g says: GROUP, DATASET, TYPE; LINK if it is not followed; UNKNOWN if that was met before
    external: bool
    address: Any


class Hdf5File(Container):
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
        self._names: list[str] | None = None
        self._datasets: dict[Any, bytes] | None = None
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

    def _rehearse(self, request: str, name: str) -> Any:
        """Have another process do it first, unless this is that one, and return what it answers.

        Raises
        ------
        GncliError
            As it came up there, or if the other one did not come back.
        """
        return None if self._probe is None else _asked(self._probe, request, name)

    def names(self) -> list[str]:
        """Return the paths of the numeric datasets, sorted, each dataset once; soft links are not followed.

        Raises
        ------
        InputError
            If the file is damaged.
        LimitError
            If it has more links than anyone would name.
        """
        if self._names is None:
            answer = self._rehearse("list", self.name)
            self._names, self.skipped = self._list() if answer is None else _checked_listing(answer, self.name)
        return self._names

    def _list(self) -> Listing:
        found: list[str] = []
        skipped: list[str] = []
        known: dict[bytes, bool] = {}
        for link in self._walk():
            if link.external:
                skipped.append(link.path)
            elif link.kind == h5g.DATASET and (numeric := _numeric(link, known)) is not None:
                (found if numeric else skipped).append(link.path)
        return sorted(found), skipped

    def others_than(self, dataset: str) -> list[str]:
        """Return what the file holds besides the dataset of that path and the groups that lead to it."""
        self._rehearse("list", self.name)
        parts = dataset.strip("/").split("/")
        leading = {"/" + "/".join(parts[:depth]) for depth in range(1, len(parts))}
        others = []
        with _reading(self.name, "cannot be listed"):
            if h5a.get_num_attrs(h5o.open(self._id, b"/")):
                others.append("the attributes of /")
            for link in self._walk():
                if link.path in leading and link.kind == h5g.GROUP:
                    if h5a.get_num_attrs(h5g.open(link.parent, link.name)):
                        others.append(f"the attributes of {link.path}")
                elif link.path != "/" + "/".join(parts) or link.kind != h5g.DATASET:
                    others.append(link.path)
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
            source = self._checked(dataset, _dtype(dataset, name), name)
        with suppress(InputError, LimitError):
            source.dimensions = _checked_dimensions(self._rehearse(f"axes {member}", name), len(source.shape))
        return source

    def dimensions(self, member: str) -> list[str]:
        """Return the names of the axes of a dataset, where they have some: what netCDF says, or h5py's labels.

        This asks libhdf5 to follow references, which no file need be trusted with: it is for the process that a crash
        may end. Whatever is wrong with them keeps nobody from the data.
        """
        with suppress(*_FAILURES, InputError, LimitError):
            parent, last = self._resolve(member, self.name)
            dataset = h5d.open(parent, last)
            listed = _sound(dataset, b"DIMENSION_LIST", lambda kind: h5py.check_vlen_dtype(kind) == h5py.ref_dtype)
            labelled = _sound(dataset, b"DIMENSION_LABELS", lambda kind: h5py.check_string_dtype(kind) is not None)
            if listed or labelled:
                axes = range(dataset.rank)
                found = [
                    (listed and self._scale(dataset, k)) or (labelled and h5ds.get_label(dataset, k)) for k in axes
                ]
                return [_text(name or b"") for name in found] if any(found) else []
            if dataset.rank == 1 and h5ds.is_scale(dataset):  # such as the coordinates along a dimension
                return [_text(last)]
        return []

    def _scale(self, dataset: Any, axis: int) -> bytes:
        """Return the name of the scale along an axis, which is that of the link to it; nothing if there is none."""
        if not h5ds.get_num_scales(dataset, axis):
            return b""
        if self._datasets is None:
            self._datasets = {link.address: link.name for link in self._walk() if link.kind == h5g.DATASET}
        scales: list[Any] = []
        h5ds.iterate(dataset, axis, scales.append, 0)
        return self._datasets.get(h5o.get_info(scales[0]).addr, b"")

    def _checked(self, dataset: Any, dtype: np.dtype[Any], name: str) -> RawSource | ChunkedSource | Hdf5Source:
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        if layout == h5d.VIRTUAL:
            hint = "copy it to a plain dataset first"
            raise InputError("is a virtual dataset, which reads other files", subject=name, hint=hint)
        if plist.get_external_count():
            hint = "h5repack copies it into one file"
            raise InputError("keeps its data in other files, which are not read", subject=name, hint=hint)
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
        plain = dataset.get_type().equal(h5t.py_create(dtype, logical=True))
        if plain and layout == h5d.CHUNKED and (source := self._chunked(dataset, plist, file, dtype, name)):
            return source
        if not (plain and written):
            _check_chunks(dataset, plist, name)
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
                    hint = "name the dataset in its own file"
                    raise InputError("is an external link, which is not followed", subject=name, hint=hint)
                else:
                    parent, last, here = here, part, h5o.open(here, part)
        if isinstance(here, h5d.DatasetID):
            return parent, last
        inside = [path for path in self.names() if path.startswith("/" + member.strip("/") + "/")] or self.names()
        choice = f"name one of {list_names(inside)}" if inside else None
        raise InputError("is a group, not a dataset", subject=name, hint=choice)

    def _not_found(self, member: str, name: str) -> InputError:
        return not_found("/" + member.strip("/"), self.names(), "dataset", name)

    def _walk(self) -> Iterator[_Link]:
        """Yield every link; what is behind it is said the first time that it is met, and for hard links."""
        with _reading(self.name, "cannot be listed"):
            root = h5o.open(self._id, b"/")
            seen = {h5o.get_info(root).addr}
            todo = [("", root, b".", _links(root, b".", MAX_LINKS + 1))]
            count = length = 0
            while todo:
                prefix, parent, name, links = todo.pop()
                group = h5g.open(parent, name)
                for last, kind, address in links:
                    path = f"{prefix}/{_text(last)}"
                    count, length = count + 1, length + len(path)
                    if count > MAX_LINKS or length > MAX_PATHS_NBYTES:
                        many = f"more than {MAX_LINKS:,} links" if count > MAX_LINKS else "names that are too long"
                        hint = "name one dataset, as FILE::NAME"
                        raise LimitError(f"has {many}", subject=self.name, hint=hint)
                    if kind != h5l.TYPE_HARD or address in seen:
                        what = h5g.LINK if kind != h5l.TYPE_HARD else h5g.UNKNOWN
                        yield _Link(path, group, last, what, kind == h5l.TYPE_EXTERNAL, address)
                        continue
                    seen.add(address)
                    what = h5g.get_objinfo(group, last).type
                    yield _Link(path, group, last, what, external=False, address=address)
                    if what == h5g.GROUP and (inside := _links(group, last, MAX_LINKS + 1 - count)):
                        todo.append((path, group, last, inside))

    def close(self) -> None:
        """Let go of the file; sources that were opened keep what they need of it."""
        self._end_rehearsal()
        self._file.close()
        self._id.close()


Listing = tuple[list[str], list[str]]  # the paths of numeric datasets, and of what else was met


def names_in(path: str, seconds: float) -> list[str]:
    """Return the paths of the numeric datasets of an HDF5 file, sorted; libhdf5 touches it in another process alone.

    Raises
    ------
    InputError
        If it cannot be listed.
    LimitError
        If that takes longer than `seconds`.
    """
    with closing(RawFile(path, path)) as file, closing(Probe(Hdf5Rehearsal(file.fd, path, path, STRICT))) as probe:
        return _checked_listing(_asked(probe, "list", path, seconds), path)[0]


def _sound(dataset: Any, name: bytes, fits: Callable[[np.dtype[Any]], bool]) -> bool:
    """Return whether a dataset has this attribute, one value an axis, of the type that libhdf5 takes for granted."""
    if not h5a.exists(dataset, name):
        return False
    attribute = h5a.open(dataset, name)
    return attribute.shape == (dataset.rank,) and attribute.dtype.kind == "O" and fits(attribute.dtype)


def _checked_dimensions(answer: Any, ndim: int) -> tuple[str, ...]:
    """Return the names of axes that a trial run has found, one each; none if it found none."""
    match answer:
        case [*names] if len(names) == ndim and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


def _asked(probe: Probe, request: str, name: str, seconds: float | None = None) -> Any:
    try:
        with _reading(name, "cannot be tried in a process of its own"):
            return probe.ask(request, seconds)
    except Died as death:
        what = "does not come back from it" if death.signum == signal.SIGPROF else "crashes on it"
        problem = f"libhdf5 {what} ({signal.Signals(death.signum).name} in a trial run): damaged, or made to"
        raise InputError(problem, subject=name) from death
    except GncliError as error:
        raise error.about(name)  # noqa: B904  # the same error


def _checked_listing(answer: Any, name: str) -> Listing:
    match answer:
        case [[*names], [*skipped]] if all(isinstance(path, str) for path in (*names, *skipped)):
            return names, skipped
    raise InputError("cannot be listed (what a trial run says makes no sense)", subject=name)


class _Spooled(io.FileIO):
    """A file without a name, closed with the last dataset that needs it, which only libhdf5 knows."""

    def __del__(self) -> None:
        self.close()


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

    @property
    def room(self) -> int:
        """Memory for a chunk as it is stored, on its way through the filters, decoded, and in libhdf5's cache."""
        return 4 * self.policy.max_chunk

    def __call__(self, request: str) -> Listing | list[str] | None:
        """Do ``open``, ``list``, ``read NAME`` (both ends, or all that libhdf5 has to decode itself), or ``axes NAME``.

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
            return self._container.names(), self._container.skipped
        if what == "read":
            source = self._container.open(member, self.name)
            # What is read without libhdf5 has but to come back: its errors come up again where it is read for good.
            with closing(source), nullcontext() if isinstance(source, Hdf5Source) else suppress(InputError):
                _read_ends(source)
        if what == "axes":
            return self._container.dimensions(member)
        return None


def _read_ends(source: Source) -> None:
    """Read the first and the last element, or everything where libhdf5 has a decoder of its own for it."""
    size = math.prod(source.shape)
    whole = isinstance(source, Hdf5Source) and source.filters & _REHEARSED_WHOLE
    out = np.empty(min(size, _REHEARSED_PIECE if whole else 1), source.dtype)
    for start in range(0, size, max(1, out.size if whole else size - 1)):
        source.read_into(out[: size - start], start)


class Hdf5Source(FileSource):
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

    def __init__(self, dataset: Any, file: RawFile, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
        super().__init__(file, shape, dtype, "C", name)
        self._dataset = dataset
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

    def close(self) -> None:
        """Let go of the dataset."""
        self._dataset = None
        super().close()


def _corner_and_extent(box: tuple[slice, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(part.start for part in box), tuple(part.stop - part.start for part in box)


def _numeric(link: _Link, known: dict[bytes, bool]) -> bool | None:
    """Return whether a dataset holds numbers, None if it holds nothing; if it cannot be opened, it will say so itself.

    What holds nothing is there for the length of a netCDF dimension that has no variable.
    """
    try:
        dataset = h5d.open(link.parent, link.name)
        code = dataset.get_type().encode()
    except _FAILURES:
        return True
    if not _numeric_type(dataset, code, link.path, known):
        return False
    with suppress(*_FAILURES):
        if h5a.exists(dataset, b"NAME") and (attribute := h5a.open(dataset, b"NAME")).dtype.kind == "S":
            name: NDArray[Any] = np.empty(attribute.shape, attribute.dtype)
            attribute.read(name)
            return None if name.tobytes().startswith(_NO_VARIABLE) else True
    return True


def _numeric_type(dataset: Any, code: bytes, path: str, known: dict[bytes, bool]) -> bool:
    """Return whether the elements are numbers; many datasets share a few types, so the answers are kept in `known`."""
    if code in known:
        return known[code]
    try:
        _dtype(dataset, path)
        numeric = True
    except InputError:
        numeric = False
    if len(code) <= _KEPT_TYPE_NBYTES:
        known[code] = numeric
    return numeric


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
            hint = "--allow-plugins loads it from HDF5_PLUGIN_PATH; the hdf5plugin package may have it"
            raise InputError(f"is compressed by filter {shown}, which is not here", subject=name, hint=hint)


def _check_sizes(declared: int, stored: int, name: str) -> None:
    if declared > SPARSE_NBYTES and declared > SPARSE_FACTOR * stored:
        problem = f"declares {declared:,} bytes and stores {stored:,}"
        raise LimitError(problem, subject=name, hint="--allow-sparse, if that is meant")


def _check_chunks(dataset: Any, plist: Any, name: str) -> None:
    """Raise InputError if a chunk declares more bytes than it can need: libhdf5 would read them all at once."""
    if plist.get_layout() == h5d.CHUNKED and plist.get_nfilters() and hasattr(dataset, "chunk_iter"):
        nbytes = math.prod(plist.get_chunk()) * dataset.get_type().get_size()
        with _reading(name, "has an index of chunks that cannot be read"):
            dataset.chunk_iter(lambda info: check_stored(info.chunk_offset, info.size, nbytes, name))


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
            hint = f"--max-chunk {nbytes} reads them, each whole in memory"
            problem = f"has chunks of {nbytes:,} bytes; the limit is {max_chunk:,}"
            raise LimitError(problem, subject=name, hint=hint)
        axis = next((k for k, extent in enumerate(chunk) if extent > 1), len(chunk) - 1)
        band = nbytes * math.prod(-(-shape[k] // chunk[k]) for k in range(axis + 1, len(shape)))
        access.set_chunk_cache(_CACHE_SLOTS, min(MAX_CACHE_NBYTES, max(_MIN_CACHE_NBYTES, 4 * band)), 0.75)
    return access
