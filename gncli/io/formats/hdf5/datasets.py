"""A dataset of an HDF5 file, opened: every rule that it must satisfy is checked here, before its elements are read.

Contiguous datasets are then read as a .npy is, and chunks with the usual filters are decoded by `chunks`, both without
libhdf5, which reads the others.
"""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5o, h5p, h5s, h5t, h5z
from numpy.typing import NDArray

from gncli.errors import InputError, LimitError
from gncli.inputs import Policy
from gncli.io.dtypes import check_dtype
from gncli.io.formats.hdf5.btree import DamagedTreeError, check_tree, header_nbytes, root_of
from gncli.io.formats.hdf5.calls import calling
from gncli.io.formats.hdf5.chunks import ChunkIndex, Filter, FilteredSource, Stored, check_stored
from gncli.io.rawfile import FileSource, RawFile, RawSource
from gncli.io.source import StoredChunks
from gncli.kernels.walk import boxes

MAX_CACHE_NBYTES = 64 << 20
MAX_INDEXED_CHUNKS = 16 << 20  # 16 bytes each
SPARSE_NBYTES = 4 << 30  # a dataset may declare as much, however little it stores
SPARSE_FACTOR = 1000
DECODERS_OF_LIBHDF5 = frozenset({h5z.FILTER_SZIP, h5z.FILTER_NBIT, h5z.FILTER_SCALEOFFSET})

_MIN_CACHE_NBYTES = 1 << 20  # libhdf5's own
_SUPERBLOCK_NBYTES = 48  # at least: that of versions 2 and 3
_CACHE_SLOTS = 12_421  # a prime, far above the number of chunks that fit

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


def open_dataset(
    group: Any, link: bytes, file: RawFile, policy: Policy, name: str, *, userblock: int
) -> RawSource | FilteredSource | Hdf5Source:
    """Return the source of a dataset, which has passed every check.

    Parameters
    ----------
    group : h5py.h5g.GroupID
        The group that the dataset is in.
    link : bytes
        Its name there.
    file : RawFile
        The file, of which the source gets a descriptor of its own.
    policy : Policy
        The limits that the user has lifted.
    name : str
        What errors call the dataset.
    userblock : int
        Bytes before the HDF5 part of the file.

    Raises
    ------
    InputError
        If it is damaged, or not numeric, or refers to other files.
    LimitError
        If a chunk is too large, or it declares far more than it stores.
    """
    dataset = h5d.open(group, link, _access(h5d.open(group, link), policy.max_chunk, name))
    dtype = dtype_of(dataset, name)
    plist = dataset.get_create_plist()
    _check_self_contained(dataset, plist, name)
    _check_filters(plist, name)
    shape = tuple(map(int, dataset.shape))
    declared, stored = math.prod(shape) * dtype.itemsize, dataset.get_storage_size()
    if not policy.sparse:
        _check_sizes(declared, stored, name)
    layout = plist.get_layout()
    plain = dataset.get_type().equal(h5t.py_create(dtype, logical=True))
    if layout == h5d.CHUNKED and hasattr(dataset, "chunk_iter"):  # h5py has it if its libhdf5 is not too old
        return _chunked(dataset, plist, file, dtype, name, plain=plain, userblock=userblock)
    # Never written: libhdf5 knows the fill value. (Its offset is then undefined, and wraps around a user block.)
    if not (plain and layout == h5d.CONTIGUOUS and stored == declared > 0):
        return Hdf5Source(dataset, file.duplicate(), shape, dtype, name)
    offset, found = dataset.get_offset(), file.identity.nbytes
    dataset.close()
    if offset + declared > found:
        problem = f"is truncated: its {declared:,} bytes begin at {offset:,}, and the file has {found:,}"
        raise InputError(problem, subject=name)
    return RawSource(file.duplicate(), offset, shape, dtype, "C", name)


def _chunked(
    dataset: Any, plist: Any, file: RawFile, dtype: np.dtype[Any], name: str, *, plain: bool, userblock: int
) -> FilteredSource | Hdf5Source:
    """Return the source of a chunked dataset; libhdf5 reads it if its filters are not known to `chunks`."""
    shape, chunk = tuple(map(int, dataset.shape)), tuple(map(int, plist.get_chunk()))
    pipeline = map(plist.get_filter, range(plist.get_nfilters()))
    filters = tuple(Filter(code, values) for code, _, values, _ in pipeline)
    count = math.prod(-(-extent // step) for extent, step in zip(shape, chunk, strict=True))
    fill = np.zeros((), dtype)
    if plist.fill_value_defined() != h5d.FILL_VALUE_UNDEFINED:  # pragma: no branch  # h5py makes no such file
        plist.get_fill_value(fill)
    with calling(name, "has an index of chunks that cannot be read"):
        if count > MAX_INDEXED_CHUNKS:
            _check_chunks(dataset, plist, name)
            stored = StoredChunks(dataset.get_num_chunks(), count, fill.item())
            return Hdf5Source(dataset, file.duplicate(), shape, dtype, name, stored)
        index = _index(dataset, shape, chunk, file, name, userblock=userblock)
    # With a user block, releases of libhdf5 differ in what they count the offsets of chunks from.
    if not plain or userblock or not all(step.known(dtype) for step in filters):
        _check_chunks(dataset, plist, name)
        stored = StoredChunks(index.stored, count, fill.item())
        return Hdf5Source(dataset, file.duplicate(), shape, dtype, name, stored)
    dataset.close()
    return FilteredSource(file.duplicate(), index, filters, dtype, fill)


def _index(
    dataset: Any, shape: tuple[int, ...], chunk: tuple[int, ...], file: RawFile, name: str, *, userblock: int
) -> ChunkIndex:
    """Return where the chunks of a dataset lie, after everything that is known of the index was compared.

    Not every index of HDF5 has a checksum, and in a damaged one libhdf5 may find other chunks than it lists.
    """
    index = ChunkIndex(shape, chunk, name)
    dataset.chunk_iter(lambda info: index.add(info.chunk_offset, Stored(info.byte_offset, info.size, info.filter_mask)))
    count, metadata = dataset.get_num_chunks(), []
    if not userblock:  # the addresses of metadata are then offsets in the file
        at = h5o.get_info(dataset).addr
        nbytes = header_nbytes(file.head(32, at))
        root = root_of(file.head(nbytes, at), chunk, dataset.get_type().get_size())
        metadata = [(0, _SUPERBLOCK_NBYTES), (at, nbytes)]
        if root is not None:
            try:
                metadata += check_tree(file, root, len(shape), count)
            except DamagedTreeError as error:
                raise index.damaged(error) from error
    index.check(count, dataset.get_storage_size(), file.identity.nbytes, metadata)
    return index


def dtype_of(dataset: Any, name: str) -> np.dtype[Any]:
    """Return the dtype of the elements, which is numeric, or raise InputError."""
    with calling(name, "has a type that NumPy does not have"):
        dtype = dataset.get_type().dtype
    if h5py.check_enum_dtype(dtype) is not None:
        raise InputError("holds an enumeration, not numbers", subject=name)
    if h5py.check_string_dtype(dtype) is not None:
        raise InputError("holds text, not numbers", subject=name)
    if h5py.check_vlen_dtype(dtype) is not None:
        raise InputError("holds sequences of varying length, not numbers", subject=name)
    return np.dtype(check_dtype(dtype, name).str)


def _check_self_contained(dataset: Any, plist: Any, name: str) -> None:
    if plist.get_layout() == h5d.VIRTUAL:
        hint = "copy it to a plain dataset first"
        raise InputError("is a virtual dataset, which reads other files", subject=name, hint=hint)
    if plist.get_external_count():
        hint = "h5repack copies it into one file"
        raise InputError("keeps its data in other files, which are not read", subject=name, hint=hint)
    if dataset.get_space().get_simple_extent_type() == h5s.NULL:
        raise InputError("has a null dataspace: no elements, and no shape", subject=name)


def _check_filters(plist: Any, name: str) -> None:
    for index in range(plist.get_nfilters()):
        code = plist.get_filter(index)[0]
        if not h5z.filter_avail(code):
            shown = f"{code} ({_FILTERS[code]})" if code in _FILTERS else str(code)
            hint = "--allow-plugins loads it from HDF5_PLUGIN_PATH; the hdf5plugin package may have it"
            raise InputError(f"is compressed by filter {shown}, which is not installed", subject=name, hint=hint)


def _check_sizes(declared: int, stored: int, name: str) -> None:
    if declared > SPARSE_NBYTES and declared > SPARSE_FACTOR * stored:
        problem = f"declares {declared:,} bytes and stores {stored:,}"
        raise LimitError(problem, subject=name, hint="--allow-sparse reads it")


def _check_chunks(dataset: Any, plist: Any, name: str) -> None:
    """Raise InputError if a chunk declares more bytes than it can need: libhdf5 would read them all at once."""
    if plist.get_nfilters():
        nbytes = math.prod(plist.get_chunk()) * dataset.get_type().get_size()
        dataset.chunk_iter(lambda info: check_stored(info.chunk_offset, info.size, nbytes, name))


def _access(dataset: Any, max_chunk: int, name: str) -> Any:
    """Return how to open a dataset: with a cache for the chunks that a run touches again.

    That is one band of chunks, across the axes after the first chunked one. It has to be known before the dataset is
    opened for good: a second opening shares the cache of the first one.
    """
    access = h5p.create(h5p.DATASET_ACCESS)
    plist = dataset.get_create_plist()
    if plist.get_layout() == h5d.CHUNKED:
        chunk, shape = plist.get_chunk(), dataset.shape
        if len(chunk) != len(shape):
            raise InputError(f"is damaged: its chunks have {len(chunk)} axes, and it has {len(shape)}", subject=name)
        nbytes = math.prod(chunk) * dataset.get_type().get_size()
        if nbytes > max_chunk:
            hint = f"--max-chunk {nbytes} reads them, each whole in memory"
            problem = f"has chunks of {nbytes:,} bytes; the limit is {max_chunk:,}"
            raise LimitError(problem, subject=name, hint=hint)
        axis = next((k for k, extent in enumerate(chunk) if extent > 1), len(chunk) - 1)
        band = nbytes * math.prod(-(-shape[k] // chunk[k]) for k in range(axis + 1, len(shape)))
        access.set_chunk_cache(_CACHE_SLOTS, min(MAX_CACHE_NBYTES, max(_MIN_CACHE_NBYTES, 4 * band)), 0.75)
    return access


class Hdf5Source(FileSource):
    """A dataset that libhdf5 has to read: chunks of other filters, compact, converted, or never written.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID
        The dataset, checked; closed with the source.
    file : RawFile
        Its file, to notice changes; closed with the source.
    shape, dtype
        As of `Source`.
    name : str
        What errors call it.
    stored_chunks : StoredChunks, optional
        As of `Source`.
    """

    def __init__(
        self,
        dataset: Any,
        file: RawFile,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        name: str,
        stored_chunks: StoredChunks | None = None,
    ) -> None:
        super().__init__(file, shape, dtype, "C", name)
        self._stored = stored_chunks
        self._dataset = dataset
        self._type = h5t.py_create(dtype, logical=True)
        plist = dataset.get_create_plist()
        self.filters = frozenset(plist.get_filter(index)[0] for index in range(plist.get_nfilters()))

    @property
    def stored_chunks(self) -> StoredChunks | None:
        """How much of it is in its file, if that stores it in chunks."""
        return self._stored

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on. h5py's own lock admits one thread at a time."""
        done = 0
        with calling(self.name, "cannot be read"):
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
        """Close the dataset and its file."""
        super().close()
        with calling(self.name, "cannot be closed"):
            self._dataset.close()


def _corner_and_extent(box: tuple[slice, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(part.start for part in box), tuple(part.stop - part.start for part in box)
