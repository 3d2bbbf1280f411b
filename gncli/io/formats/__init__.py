"""The formats of files: how each is recognized, read and written, without importing what only another one needs.

Adding a format takes a module in this package, a class and its line in `FORMATS` or `FOLDERS` here, its suffixes in
`gncli.names`, and a row in ``tests/io/test_formats.py``. No other module names a format.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from gncli.errors import InputError, ParameterError
from gncli.inputs import STRICT, Policy
from gncli.io.atomic import AtomicFile, aborting
from gncli.io.pipe import Pipe
from gncli.io.rawfile import RawFile
from gncli.io.source import Container, FolderNames, NewFile, NewFolder, Order, Sink, StoredFile
from gncli.io.urls import is_url, split
from gncli.kernels.floats import Float

if TYPE_CHECKING:
    from types import ModuleType

    from gncli.io.formats.npz import NpzSink as NpzSink

SHOWN_NBYTES = 8  # of a file that nothing recognizes
COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip -c"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "zstd -dc"),
    b"BZh": ("bzip2", "bunzip2 -c"),
    b"\xfd7zXZ": ("xz", "xz -dc"),
}
"""What compressed files begin with, by what, and the tool that undoes it."""
LEGACY_PYTORCH = b"\x80\x02\x8a\n" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # a pickle of this number


class Beginning(Protocol):
    """A file or a pipe whose first bytes can be looked at."""

    name: str

    def head(self, nbytes: int, offset: int = 0) -> bytes:
        """Return up to `nbytes` bytes from `offset` on, which will be read again."""


class Output(NamedTuple):
    """A tensor that is to be written, and where to.

    Parameters
    ----------
    text : str
        OUT, as the user typed it.
    path : str
        The file.
    member : str or None
        What follows the ``::``, where the format takes names.
    begin : callable
        Returns the file, begun, after it was checked that it may be written.
    begin_folder : callable
        The same for a format whose tensors are in a folder.
    shape, dtype
        Of the tensor.
    order : {"C", "F"}
        The order in which the elements come.
    attributes : mapping
        What an HDF5 dataset says of itself.
    compression : int or None
        The level of compression, in the way of the format; None stores the elements as they are.
    kind : Float or None
        The dtype, where NumPy lacks it; `dtype` is then that of its bits.
    """

    text: str
    path: str
    member: str | None
    begin: Callable[[], NewFile]
    begin_folder: Callable[[], NewFolder]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    attributes: Mapping[str, object]
    compression: int | None
    kind: Float | None = None


class Format(ABC):
    """A format that is read: a base class.

    Attributes
    ----------
    name : str
        As errors call it.
    suffixes : tuple of str
        Of the files that a shell suggests.
    shared : tuple of str, default: ()
        Those of them that files of other kinds have too: in a folder, such a file counts only if it is recognized.
    """

    name: str
    suffixes: tuple[str, ...]
    shared: tuple[str, ...] = ()

    @abstractmethod
    def recognizes(self, file: Beginning) -> bool:
        """Return whether the file is of this format, judged by its first bytes."""

    @abstractmethod
    def open(self, file: StoredFile, name: str, policy: Policy) -> Container:
        """Return the tensors of the file, which the container owns from now on; errors call it `name`."""

    def stream(self, pipe: Pipe, policy: Policy) -> Container | None:
        """Return the tensors of a pipe; None where a pipe has to be copied to a file first."""
        return None

    def names(self, path: str, seconds: float) -> list[str]:
        """Return the names of the numeric tensors of a file within about so many seconds; none of a lone one.

        Raises
        ------
        InputError
            If it cannot be listed.
        LimitError
            If that takes too long.
        """
        with RawFile(path, path) as file, self.open(file, path, STRICT) as container:
            return [name for name in container.names() if name]


class FolderFormat(ABC):
    """A format whose tensors are in a folder of its own: a base class.

    Attributes
    ----------
    name : str
        As errors call it.
    suffixes : tuple of str
        Of the folders that it makes; those that are read are recognized by what is in them.
    """

    name: str
    suffixes: tuple[str, ...]

    @abstractmethod
    def stands_for(self, folder: str) -> bool:
        """Return whether the folder as a whole is of this format."""

    @abstractmethod
    def open(self, folder: str, name: str, policy: Policy) -> Container:
        """Return the tensors of the folder, or of the prefix of a store; errors call it `name`."""


class Written(ABC):
    """A format that is written: a base class.

    Attributes
    ----------
    name : str
        As errors call it.
    written : tuple of str
        The suffixes of outputs.
    takes_names : bool, default: False
        Whether an output may be ``FILE::NAME``.
    compressions : tuple of str, default: ()
        The ways in which an output may be compressed.
    names_dtypes : bool, default: False
        Whether it names the dtypes that NumPy lacks.
    to_stores : bool, default: False
        Whether an output may be an object on a store.
    in_parts : tuple of str, default: ()
        The storage orders of tensors that several processes may write in parts.
    files : FolderNames, optional
        How the files in an output are named that is a folder.
    """

    name: str
    written: tuple[str, ...]
    takes_names: bool = False
    compressions: tuple[str, ...] = ()
    names_dtypes: bool = False
    to_stores: bool = False
    in_parts: tuple[Order, ...] = ()
    files: FolderNames | None = None

    @abstractmethod
    def sink(self, output: Output) -> Sink:
        """Return the sink of an output, begun."""


class Npy(Format, Written):
    """One tensor, with a header before it."""

    name = ".npy"
    suffixes = written = (".npy",)
    in_parts = ("C", "F")
    to_stores = True

    def recognizes(self, file: Beginning) -> bool:
        """Return whether the file begins as `np.save` begins one."""
        return file.head(6) == b"\x93NUMPY"

    def open(self, file: StoredFile, name: str, policy: Policy) -> Container:
        """Return the tensor of the file, whose name is empty."""
        from gncli.io.formats.npy import NpyFile

        return NpyFile(file, name, policy.as_dtype)

    def stream(self, pipe: Pipe, policy: Policy) -> Container:
        """Return the tensors of the pipe, one after the other."""
        from gncli.io.formats.npy import NpyStream

        return NpyStream(pipe, policy.as_dtype)

    def sink(self, output: Output) -> Sink:
        """Return the sink of a .npy."""
        from gncli.io.formats.npy import npy_sink

        file = output.begin()
        with aborting(file):
            return npy_sink(file, output.shape, output.dtype, output.order, output.kind is not None)


class Npz(Format):
    """Several .npy in a zip archive."""

    name = ".npz"
    suffixes = (".npz",)

    def recognizes(self, file: Beginning) -> bool:
        """Return whether the file begins as a member of an archive but that of PyTorch, or as an empty one ends."""
        return file.head(4) in (b"PK\x03\x04", b"PK\x05\x06") and not PYTORCH.recognizes(file)

    def open(self, file: StoredFile, name: str, policy: Policy) -> Container:
        """Return the arrays of the archive."""
        from gncli.io.formats.npz import NpzFile

        return NpzFile(file, name, policy)


class PyTorch(Format):
    """Tensors, and anything else, in a pickle and the records of a zip archive."""

    name = ".pt"
    suffixes = (".pt", ".pth", ".bin")
    shared = (".bin",)
    first = re.compile(
        rb"[^/]+/(?:data\.pkl|constants\.pkl|version|byteorder|\.[^/]+|(?:data|code|extra)/.*(?<!\.npy))"
    )

    def recognizes(self, file: Beginning) -> bool:
        """Return whether the file begins as an archive whose first member is a record of PyTorch."""
        head = file.head(30)  # of a member: what is before its name
        name = file.head(int.from_bytes(head[26:28], "little"), 30) if head[:4] == b"PK\x03\x04" else b""
        return self.first.fullmatch(name) is not None

    def open(self, file: StoredFile, name: str, policy: Policy) -> Container:
        """Return the tensors of the file."""
        from gncli.io.formats.pytorch import PyTorchFile

        return PyTorchFile(file, name, policy)


class Safetensors(Format, Written):
    """Several tensors, after one header of JSON; written with one."""

    name = ".safetensors"
    suffixes = written = (".safetensors",)
    takes_names = names_dtypes = to_stores = True
    tensor = "data"  # where OUT has no ::NAME
    longest = 100_000_000  # bytes of a header, the format's own limit: no other format, and no text, begins with less

    def recognizes(self, file: Beginning) -> bool:
        """Return whether the file begins with the length of a header, and the header with a brace."""
        head = file.head(9)
        return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= self.longest

    def open(self, file: StoredFile, name: str, policy: Policy) -> Container:
        """Return the tensors of the file."""
        from gncli.io.formats.safetensors import SafetensorsFile

        return SafetensorsFile(file, name)

    def sink(self, output: Output) -> Sink:
        """Return the sink of a new file with one tensor."""
        from gncli.io.formats import safetensors

        member = self.tensor if output.member is None else output.member
        if not member or member == safetensors.METADATA:
            raise ParameterError("names no tensor after ::", subject=output.text, hint="write FILE.safetensors::NAME")
        file = output.begin()
        with aborting(file):
            if file.replaces:
                safetensors.check_replaceable(file, output.text, member)
            dtype = output.kind or output.dtype
            return safetensors.safetensors_sink(file, member, output.shape, dtype, output.order, output.attributes)


class Hdf5(Format, Written):
    """Datasets in groups, and netCDF-4, which is HDF5. Only this class imports h5py."""

    name = "HDF5"
    suffixes = (".h5", ".hdf5", ".nc")
    written = (".h5", ".hdf5")
    takes_names = True
    compressions = ("gzip",)
    dataset = "data"  # where OUT has no ::NAME

    def recognizes(self, file: Beginning) -> bool:
        """Return whether the signature is at one of the places where a user block may end."""
        offset, magic = 0, b"\x89HDF\r\n\x1a\n"
        while start := file.head(len(magic), offset):
            if start == magic:
                return True
            offset = max(512, 2 * offset)
        return False

    def module(self, policy: Policy = STRICT) -> ModuleType:
        """Return the module that reads and writes HDF5; its first import decides whether filter plugins are allowed."""
        os.environ["HDF5_PLUGIN_PRELOAD"] = "" if policy.plugins else "::"
        from gncli.io.formats import hdf5

        return hdf5

    def open(self, file: StoredFile, name: str, policy: Policy) -> Container:
        """Return the datasets of the file."""
        container: Container = self.module(policy).GuardedHdf5File(file.local(), name, policy)
        return container

    def names(self, path: str, seconds: float) -> list[str]:
        """Return the paths of the numeric datasets; libhdf5 touches the file in another process alone."""
        names: list[str] = self.module().names_in(path, seconds)
        return names

    def sink(self, output: Output) -> Sink:
        """Return the sink of a new file with one dataset; one with other datasets is not replaced."""
        dataset = "/".join(part for part in (output.member or "").split("/") if part)
        if (output.member is not None and not dataset) or {".", ".."} & set(dataset.split("/")):
            raise ParameterError(f"{output.member!r} is no name for a dataset", subject=output.text)
        dataset = dataset or self.dataset
        hdf5 = self.module()
        file = output.begin()
        assert isinstance(file, AtomicFile)  # it is not written to a store
        with aborting(file):
            if file.replaces:
                hdf5.check_replaceable(file, output.text, f"/{dataset}")
            sink: Sink = hdf5.hdf5_sink(
                file, dataset, output.shape, output.dtype, output.order, output.attributes, output.compression
            )
            return sink


class Sharded(Format):
    """Several .safetensors, and an index of JSON that says which of them has which tensor."""

    name = ".safetensors.index.json"
    suffixes = (".safetensors.index.json",)

    def recognizes(self, file: Beginning) -> bool:
        """Return whether the file begins as an object of JSON does."""
        return file.head(1) == b"{"

    def open(self, file: StoredFile, name: str, policy: Policy) -> Container:
        """Return the tensors of the shards, which lie next to the file."""
        from gncli.io.formats.sharded import ShardedFile

        return ShardedFile(file, name)


class Zarr(FolderFormat, Written):
    """Arrays in groups, a folder each, with a file per chunk or per shard of chunks."""

    name = "Zarr"
    suffixes = written = (".zarr",)
    takes_names = names_dtypes = to_stores = True
    compressions = ("zstd",)
    in_parts = ("C",)
    files = FolderNames(
        describing=re.compile(r"(?:.*/)?(?:zarr\.json|\.z(?:array|group|attrs|metadata))"),
        made=re.compile(r"(?:.*/)?(?:zarr\.json|c(?:/\d+)*)"),
    )

    def stands_for(self, folder: str) -> bool:
        """Return whether the folder has the metadata of an array or a group."""
        return any(os.path.lexists(os.path.join(folder, file)) for file in ("zarr.json", ".zarray", ".zgroup"))

    def open(self, folder: str, name: str, policy: Policy) -> Container:
        """Return the arrays of the store."""
        from gncli.io.formats.zarr import zarr_store

        return zarr_store(folder, name, policy)

    def sink(self, output: Output) -> Sink:
        """Return the sink of a new store with one array; one that holds anything else is not replaced."""
        from gncli.io.formats import zarr

        member = "/".join(part for part in (output.member or "").split("/") if part)
        if any(part.startswith(".") or part == "zarr.json" for part in member.split("/")):
            raise ParameterError(f"{output.member!r} is no name for an array", subject=output.text)
        folder = output.begin_folder()
        with aborting(folder):
            if folder.replaces:
                zarr.check_replaceable(folder, member)
            sink: Sink = zarr.zarr_sink(
                folder,
                member,
                output.shape,
                output.dtype,
                output.kind,
                output.order,
                output.attributes,
                output.compression,
            )
            return sink


NPY, PYTORCH, HDF5, SHARDED = Npy(), PyTorch(), Hdf5(), Sharded()
FORMATS: tuple[Format, ...] = (
    NPY,
    Npz(),
    PYTORCH,
    Safetensors(),
    HDF5,  # after these: a file of another format may have the signature of HDF5 inside
    SHARDED,  # last: what precedes HDF5 in its file may be text
)
FOLDERS: tuple[FolderFormat, ...] = (Zarr(),)
READ: tuple[Format | FolderFormat, ...] = (*FORMATS, *FOLDERS)
WRITTEN = [format_ for format_ in READ if isinstance(format_, Written)]


def recognized(file: Beginning) -> Format:
    """Return the format of a file or pipe.

    Raises
    ------
    InputError
        If it is of none.
    """
    found = next((format_ for format_ in FORMATS if format_.recognizes(file)), None)
    if found is not None:
        return found
    start = file.head(SHOWN_NBYTES)
    if not start:
        raise InputError("is empty (0 bytes)", subject=file.name)
    for magic, (what, tool) in COMPRESSED.items():
        if start.startswith(magic):
            raise InputError(f"is compressed with {what}", subject=file.name, hint=f"{tool} FILE | gncli stats -")
    if file.head(len(LEGACY_PYTORCH)) == LEGACY_PYTORCH:
        hint = "load it with PyTorch, and torch.save it again"
        raise InputError("is a file of PyTorch before version 1.6, a bare pickle", subject=file.name, hint=hint)
    if start.startswith(b"\x80"):
        raise InputError("is a pickle, which would run code", subject=file.name, hint="save the array with np.save")
    *names, last = (format_.name for format_ in FORMATS)
    raise InputError(f"is neither {', '.join(names)} nor {last} (it begins with {start!r})", subject=file.name)


def written(text: str) -> tuple[Written | None, str, str | None]:
    """Return the format that OUT names by its suffix, the file, and what follows the ``::``; None for no format.

    Examples
    --------
    >>> format_, *rest = written("a::b.H5::x/y")
    >>> format_.name, rest, written("x.txt")
    ('HDF5', ['a::b.H5', 'x/y'], (None, 'x.txt', None))
    """
    if is_url(text):
        path, member = split(text)
        for format_ in WRITTEN:
            place = path.rstrip("/") if isinstance(format_, FolderFormat) else path
            if place.lower().endswith(format_.written) and (member is None or format_.takes_names):
                return format_, place, member
        return None, text, None
    for format_ in WRITTEN:
        suffix, names = "|".join(map(re.escape, format_.written)), "(?:::(.*))?" if format_.takes_names else ""
        end = "/*" if isinstance(format_, FolderFormat) else ""  # a shell completes the name of a folder with it
        if match := re.fullmatch(f"(.*?(?:{suffix})){end}{names}", text, re.DOTALL | re.IGNORECASE):
            return format_, match[1], match[2] if format_.takes_names else None
    return None, text, None


def unknown_suffix(text: str, known: str | None = None) -> ParameterError:
    """Return the error about an output that no format is written as; `known` says what can be chosen instead."""
    if known is None:
        ends = [(format_, end) for format_ in WRITTEN for end in ("", "::NAME")[: 1 + format_.takes_names]]
        known = ", ".join(f"FILE{format_.written[0]}{end}" for format_, end in ends) + " or -"
    suffix = os.path.splitext(text)[1]
    problem = f"{suffix} is not a format that can be written" if suffix else "has no suffix that says a format"
    return ParameterError(problem, subject=text, hint=f"choose {known}")


def stream_sink(shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, fd: int, raw: bool) -> Sink:
    """Return the sink of a tensor on a pipe: a .npy."""
    from gncli.io.formats.npy import StreamSink

    return StreamSink(shape, dtype, order, fd, raw)


def npz_sink(file: AtomicFile) -> NpzSink:
    """Return the sink of several small arrays: a .npz."""
    from gncli.io.formats.npz import NpzSink

    return NpzSink(file)


def versions() -> dict[str, str]:
    """Return the versions of what tensors are read with."""
    return {"NumPy": np.__version__, **HDF5.module().VERSIONS}
