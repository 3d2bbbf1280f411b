"""The zip form of PyTorch, as `torch.save` writes it since version 1.6: a pickle, and a record for each storage.

Notes
-----
The pickle is read by `pickled`, which runs nothing of it. A tensor is a view of a storage: it has an offset and
strides, and others may share its elements. One that is dense is read like a .npy, in its own memory order; any other
through windows. Storages are stored, not deflated: `torch.save` aligns them to 64 bytes, so they are read by offset.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gncli.errors import InputError, LimitError
from gncli.inputs import STRICT, Policy
from gncli.io.dtypes import FOREIGN, NUMERIC, holdable, refuse_dtype, refuse_type
from gncli.io.foreign import Widened
from gncli.io.formats.pickled import Tensor, contents
from gncli.io.formats.zip import Inflater, Member, check_size, members
from gncli.io.rawfile import RawSource
from gncli.io.source import Container, Source, StoredFile, not_found
from gncli.io.strided import StridedSource, order_of
from gncli.kernels.floats import Float

MAX_PICKLE_NBYTES = 64 << 20

_RESAVE = "load it with PyTorch, and torch.save it again"
_TYPES: dict[str, np.dtype[Any] | Float] = {np.dtype(code).name: np.dtype(code) for code in sorted(NUMERIC)}
_TYPES |= {kind.name: kind for kind in FOREIGN.values()}
_COMPLEX = {"complex32": 4, "complex64": 8, "complex128": 16}


class PyTorchFile(Container):
    """A file of `torch.save`: its tensors by their path, such as ``state_dict.layer1.weight``.

    Parameters
    ----------
    file : StoredFile
        The file, which is closed with this.
    name : str
        The file as the user typed it.
    policy : Policy, optional
        Whether a tensor may have far more elements than its storage.

    Attributes
    ----------
    skipped : list of str
        The paths of what is no tensor, and of tensors that are not read.

    Raises
    ------
    InputError
        If it is damaged, or was not written by `torch.save`.
    LimitError
        If it holds more than gncli lists.
    """

    hint = "save the tensors alone: torch.save(model.state_dict(), FILE)"

    def __init__(self, file: StoredFile, name: str, policy: Policy = STRICT) -> None:
        self._file, self._policy = file, policy
        self._records: dict[str, Member] = {}
        for member in members(file, name):
            self._records[member.name.partition("/")[2]] = member  # all lie in one folder, of any name
        for record, what in (("constants.pkl", "TorchScript"), ("archive_format", "torch.export")):
            if record in self._records:
                raise InputError(f"is a program of {what}, not tensors alone", subject=name, hint=self.hint)
        byte_order = self._small("byteorder", name) if "byteorder" in self._records else b"little"
        if byte_order not in (b"little", b"big"):
            raise InputError(f"has a byte order that is none ({byte_order[:20]!r})", subject=name)
        self._big_endian = byte_order == b"big"
        self._tensors, self._others = contents(self._small("data.pkl", name), name)
        self.skipped = [called for called, tensor in self._tensors.items() if not _read(tensor)] + list(self._others)

    def _small(self, record: str, name: str) -> bytes:
        """Return the bytes of a record."""
        member = self._record(record, name)
        if member.nbytes > MAX_PICKLE_NBYTES:
            problem = f"has {member.nbytes:,} bytes of {record}; the limit is {MAX_PICKLE_NBYTES:,}"
            raise LimitError(problem, subject=name)
        start = member.begin(self._file, name)
        if member.deflated:
            return Inflater(self._file, member, start, name).read(member.nbytes)
        return self._file.head(member.nbytes, start)

    def _record(self, record: str, name: str) -> Member:
        if record not in self._records:
            raise InputError(f"is damaged: it has no record {record[:80]}", subject=name, hint=_RESAVE)
        return self._records[record]

    def names(self) -> list[str]:
        """Return the paths of the tensors, in the order of the pickle; that of a lone tensor is empty."""
        return [called for called, tensor in self._tensors.items() if _read(tensor)]

    def open(self, member: str, name: str) -> Source:
        """Return the tensor at the path `member`, which errors call `name`.

        Raises
        ------
        InputError
            If there is none, or it is damaged, or of a dtype that is not read.
        LimitError
            If it has far more elements than its storage.
        """
        tensor = self._tensors.get(member)
        if tensor is None:
            if member in self._others:
                raise InputError(f"is no tensor, but {self._others[member].what}", subject=name, hint=self.hint)
            raise not_found(member, self.names(), "tensor", name)
        kind = _type(tensor, name)
        stored = kind.stored if isinstance(kind, Float) else kind
        source = self._view(tensor, stored.newbyteorder(">" if self._big_endian else "<"), name)
        return Widened(source, kind) if isinstance(kind, Float) else source

    def _view(self, tensor: Tensor, stored: np.dtype[Any], name: str) -> Source:
        """Return the elements of a tensor as they are stored, after checking that its storage holds them."""
        shape, strides, itemsize = tensor.shape, tensor.strides, stored.itemsize
        if not holdable(shape, itemsize):
            raise InputError(f"is a tensor that no machine can hold ({shape})", subject=name)
        nbytes = math.prod(shape) * itemsize
        if not nbytes:
            return RawSource(self._file.duplicate(), 0, shape, stored, "C", name)
        record = self._record(f"data/{tensor.storage.key}", name)
        start = record.begin(self._file, name)
        if record.deflated:
            raise InputError("is in a deflated record, which is not read", subject=name, hint=_RESAVE)
        if record.nbytes != tensor.storage.nbytes:
            problem = f"has a storage of {record.nbytes:,} bytes, where its pickle says {tensor.storage.nbytes:,}"
            raise InputError(problem, subject=name)
        last = tensor.offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if (last + 1) * itemsize > record.nbytes:
            problem = f"needs {(last + 1) * itemsize:,} bytes of its storage, which has {record.nbytes:,}"
            raise InputError(problem, subject=name)
        if not self._policy.sparse:
            check_size(nbytes, record.nbytes, name)
        offset, order = start + tensor.offset * itemsize, order_of(shape, strides)
        if order is None or self._big_endian:
            return StridedSource(self._file.duplicate(), offset, shape, strides, stored, name)
        return RawSource(self._file.duplicate(), offset, shape, stored, order, name)

    def close(self) -> None:
        """Close the file; sources that were opened keep what they need of it."""
        self._file.close()


def _read(tensor: Tensor) -> bool:
    """Return whether the elements of a tensor are read."""
    return tensor.dtype in _TYPES and not tensor.negated


def _type(tensor: Tensor, name: str) -> np.dtype[Any] | Float:
    """Return the dtype of the elements.

    Raises
    ------
    InputError
        If it is none that is read.
    """
    if tensor.dtype in _COMPLEX:
        raise refuse_dtype("c", _COMPLEX[tensor.dtype], tensor.dtype, name)
    if tensor.dtype not in _TYPES:
        raise refuse_type(tensor.dtype[:80], name)
    if tensor.negated:
        hint = "save it after .resolve_neg()"
        raise InputError("is a view whose elements PyTorch negates on use", subject=name, hint=hint)
    return _TYPES[tensor.dtype]
