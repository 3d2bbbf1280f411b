"""Files of PyTorch, operation by operation: what `torch.save` would never write can be made too."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.archives import ARRAY, Packed, zipped

DATA = ARRAY.tobytes()
REBUILD = "torch._utils _rebuild_tensor_v2"


@dataclass(frozen=True)
class Raw:
    """Operations that leave one value on the stack."""

    operations: bytes


@dataclass(frozen=True)
class Name:
    """A global name, its module before a space."""

    name: str


@dataclass(frozen=True)
class Call:
    """A call of a global name."""

    function: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A persistent id."""

    reference: Any


def operations(value: Any) -> bytes:
    """Return the operations of protocol 2 that leave a value on the stack."""
    match value:
        case Raw(raw):
            return raw
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8b" + struct.pack("<i", len(raw)) + raw
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            raw = value.encode("utf-8", "surrogatepass")
            return b"X" + struct.pack("<I", len(raw)) + raw
        case list():
            return b"](" + b"".join(map(operations, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(operations, value)) + b"t"
        case dict():
            return b"}(" + b"".join(operations(item) for pair in value.items() for item in pair) + b"u"
        case Name(name):
            return b"c" + name.replace(" ", "\n").encode() + b"\n"
        case Call(function, arguments):
            return operations(Name(function)) + operations(arguments) + b"R"
        case Stored(reference):
            return operations(reference) + b"Q"
    raise TypeError(value)


def pickled(value: Any) -> bytes:
    """Return the pickle of a value."""
    return b"\x80\x02" + operations(value) + b"."


def storage(key: str = "0", size: Any = 6, kind: str = "torch FloatStorage") -> Stored:
    """Return the reference to a storage."""
    return Stored(("storage", Name(kind), key, "cpu", size))


def view(
    stored: Any = None, offset: Any = 0, shape: Any = (2, 3), strides: Any = (3, 1), *metadata: Any, of: str = REBUILD
) -> Call:
    """Return the rebuilding of a tensor."""
    hooks = Call("collections OrderedDict")
    return Call(of, (storage() if stored is None else stored, offset, shape, strides, False, hooks, *metadata))


def torch_file(value: Any, records: Mapping[str, bytes] | None = None, **options: Any) -> bytes:
    """Return a file of `torch.save`: a value, or the pickle of one, and its records.

    `records` are added to ``data/0``, which has the elements of `tests.archives.ARRAY`; `options` are those of the
    member of each.
    """
    pickle = value if isinstance(value, bytes) else pickled(value)
    found = {"data.pkl": pickle, "data/0": DATA} | dict(records or {})
    return zipped(*(Packed(f"archive/{called}", data, **options) for called, data in found.items()))
