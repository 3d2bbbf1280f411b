"""Zarr stores for tests, written by hand: what they should be, with what is wrong put in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

MISSING = (1 << 64) - 1
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}


def v3(shape: tuple[int, ...], chunk: tuple[int, ...], /, **changed: Any) -> dict[str, Any]:
    """Return the metadata of a float32 array of version 3; a value of None leaves a field out."""
    found: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [BYTES],
        **changed,
    }
    return {key: value for key, value in found.items() if value is not None}


def v2(shape: tuple[int, ...], chunk: tuple[int, ...], /, **changed: Any) -> dict[str, Any]:
    """Return the metadata of a float32 array of version 2."""
    return {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": list(chunk),
        "dtype": "<f4",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        **changed,
    }


def sharded(chunk: tuple[int, ...], *codecs: Any, index: Any = (BYTES, CRC), place: str = "end") -> list[Any]:
    """Return the codecs of an array in shards."""
    configuration = {
        "chunk_shape": list(chunk),
        "codecs": list(codecs or (BYTES,)),
        "index_codecs": list(index),
        "index_location": place,
    }
    return [{"name": "sharding_indexed", "configuration": configuration}]


def store(path: Path, meta: dict[str, Any] | bytes, **files: bytes | NDArray[Any]) -> str:
    """Write an array: its metadata, and files by their key, with _ for a slash; return its path."""
    path.mkdir(parents=True, exist_ok=True)
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    name = ".zarray" if isinstance(meta, dict) and meta.get("zarr_format") == 2 else "zarr.json"
    (path / name).write_bytes(text)
    for key, content in files.items():
        file = path / key.replace("_", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.tobytes())
    return str(path)


def group(path: Path) -> None:
    """Write the metadata of a group of version 3."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))


def crc(data: bytes) -> bytes:
    """Return bytes, and their checksum."""
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def shard(*chunks: bytes | None, entries: Any = None) -> bytes:
    """Return a shard, None for chunks that are not stored; `entries` are put in its index instead of the truth."""
    body, found = b"", []
    for chunk in chunks:
        found.append((MISSING, MISSING) if chunk is None else (len(body), len(chunk)))
        body += chunk or b""
    return body + crc(np.array(found if entries is None else entries, "<u8").tobytes())
