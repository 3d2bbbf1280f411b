"""Zip archives and .safetensors, byte by byte: what no library would write can be made too."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.files import saved

ARRAY = np.arange(6, dtype="<f4").reshape(2, 3)
NPY = saved(ARRAY)


@dataclass
class Packed:
    """A member; what is in `local` and `central` is written to its two headers instead of the truth."""

    name: str = "a.npy"
    data: bytes = NPY
    method: int = 0
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None  # instead of what `data` are stored as

    def stored(self) -> bytes:
        """Return the bytes in the archive."""
        if self.body is not None:
            return self.body
        if self.method != 8:
            return self.data
        deflate = zlib.compressobj(wbits=-15)
        return deflate.compress(self.data) + deflate.flush()

    def fields(self, changed: dict[str, Any]) -> Any:
        """Return the fields of a header."""
        true: dict[str, Any] = {
            "magic": b"",
            "flags": 0,
            "method": self.method,
            "crc": zlib.crc32(self.data),
            "stored": len(self.stored()),
            "size": len(self.data),
            "name": self.name.encode(),
            "extra": b"",
            "comment": b"",
            "disk": 0,
            "at": 0,
        }
        return true | changed


def zipped(*members: Packed, gap: bytes = b"", **end: Any) -> bytes:
    """Return an archive; what `end` has is written to its end instead of the truth, `tail` after it."""
    out, central = b"", b""
    for member in members:
        body, at = member.stored(), len(out)
        f = member.fields({"magic": b"PK\x03\x04"} | member.local)
        out += struct.pack("<4s5H", f["magic"], 20, f["flags"], f["method"], 0, 33)
        out += struct.pack("<3L2H", f["crc"], f["stored"], f["size"], len(f["name"]), len(f["extra"]))
        out += f["name"] + f["extra"] + body + gap
        f = member.fields({"magic": b"PK\x01\x02", "at": at} | member.central)
        central += struct.pack("<4s6H", f["magic"], 20, 20, f["flags"], f["method"], 0, 33)
        central += struct.pack("<3L2H", f["crc"], f["stored"], f["size"], len(f["name"]), len(f["extra"]))
        central += struct.pack("<3H2L", len(f["comment"]), f["disk"], 0, 0, f["at"])
        central += f["name"] + f["extra"] + f["comment"]
    n, at = len(members), len(out)
    told: dict[str, Any] = {
        "disk": 0,
        "first": 0,
        "here": n,
        "count": n,
        "size": len(central),
        "at": at,
        "comment": b"",
        "tail": b"",
    }
    told |= {"central": central, "before": b""} | end
    out += bytes(told["central"] + told["before"])
    out += struct.pack("<4s4H2L", b"PK\x05\x06", *(told[k] for k in ("disk", "first", "here", "count", "size", "at")))
    return out + struct.pack("<H", len(told["comment"])) + bytes(told["comment"] + told["tail"])


def wide(*members: Packed, **changed: int) -> bytes:
    """Return an archive whose end is of 64 bits, as it has to be from 65,536 members or 4 GiB on."""
    plain = zipped(*members)
    end = plain.rindex(b"PK\x05\x06")
    _, _, here, count, size, at = struct.unpack_from("<4H2L", plain, end + 4)
    told = {"length": 44, "disk": 0, "here": here, "count": count, "size": size, "at": at, "end": end} | changed
    record = struct.pack("<4sQ2H2L", b"PK\x06\x06", told["length"], 45, 45, told["disk"], 0)
    record += struct.pack("<4Q", told["here"], told["count"], told["size"], told["at"])
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, told["end"], 1)
    full: dict[str, Any] = {"here": 0xFFFF, "count": 0xFFFF, "size": 0xFFFFFFFF, "at": 0xFFFFFFFF}
    return zipped(*members, before=record + locator, **full)


def tensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a .safetensors of this header, which may be text."""
    raw = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str = "F32", shape: Any = (2, 3), first: Any = 0, last: Any = 24) -> dict[str, Any]:
    """Return what a header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


Make = Callable[[], bytes]
