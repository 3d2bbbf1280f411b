"""The inputs, drawn from fixed seeds a piece at a time: ``python -m tests.benchmarks.inputs NAME SCALE FILE``.

They are made by a process of their own: the memory of the one that starts the competitors would count as theirs.
"""

from __future__ import annotations

import json
import math
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, NamedTuple

PIECE = 1 << 22  # elements drawn at a time


class Input(NamedTuple):
    """A tensor in a file, or many.

    Attributes
    ----------
    shape : tuple of int
        At scale 1; smaller ones have fewer samples, or rows where there is but one sample.
    dtype : str
        As NumPy spells it.
    order : {"C", "F"}
        Of a .npy.
    chunks : tuple of int or True, optional
        Makes it HDF5, gzip at h5py's level and shuffle; True is h5py's own choice. The values are those of half
        precision, as activations often are, and take about half the room.
    sparse : bool
        Whether it is zeros that take no room on the disk.
    codec : str, optional
        Makes it Zarr, in `chunks`: "bytes" as they are, "zstd" compressed at level 1, the values as of HDF5.
    tensors : bool
        Whether each sample is a tensor of its own, in a .safetensors of float32.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    order: str = "C"
    chunks: tuple[int, ...] | bool = False
    codec: str | None = None
    sparse: bool = False
    tensors: bool = False

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        if self.tensors:
            return ".safetensors"
        if self.codec:
            return ".zarr"
        return ".h5" if self.chunks else ".npy"

    def scaled(self, scale: float) -> tuple[int, ...]:
        """Return the shape at a scale."""
        axis = 0 if self.shape[0] > 1 else len(self.shape) - 1
        return tuple(max(1, round(n * scale)) if k == axis else n for k, n in enumerate(self.shape))


FIRST = (256, 64, 112, 112)

INPUTS = {
    "float32": Input(FIRST),
    "float64": Input(FIRST, "float64"),
    "float16": Input(FIRST, "float16"),
    "uint8": Input(FIRST, "uint8"),
    "reference": Input(FIRST),
    "nhwc": Input((256, 112, 112, 64)),
    "fortran": Input(FIRST, order="F"),
    "large groups": Input((1, 3, 8192, 8192)),
    "tiny groups": Input((1 << 20, 64, 1, 1)),
    "small groups": Input((4096, 512, 7, 7)),
    "3 GB": Input((934, 64, 112, 112)),
    "0.8 GB sparse": Input(FIRST, sparse=True),
    "8 GB sparse": Input((2560, 64, 112, 112), sparse=True),
    "tiny": Input((2, 8, 4, 4)),
    "chunks of samples": Input(FIRST, chunks=(4, 64, 112, 112)),
    "chunks across groups": Input(FIRST, chunks=(1, 24, 112, 112)),
    "chunks of h5py's choice": Input(FIRST, chunks=True),
    "16,384 chunks": Input(FIRST, chunks=(1, 4, 56, 56)),
    "256 chunks": Input(FIRST, chunks=(1, 64, 112, 112)),
    "Zarr": Input(FIRST, chunks=(5, 64, 112, 112), codec="bytes"),
    "Zarr, zstd": Input(FIRST, chunks=(5, 64, 112, 112), codec="zstd"),
    "200 tensors": Input((200, 2500, 1000), tensors=True),
    "200 other tensors": Input((200, 2500, 1000), tensors=True),
    "50,000 tensors": Input((50_000, 16), tensors=True),
    "50,000 other tensors": Input((50_000, 16), tensors=True),
}


def make(name: str, scale: float, path: str) -> None:
    """Write one of `INPUTS` to a file."""
    import numpy as np

    source = INPUTS[name]
    shape = source.scaled(scale)
    seed = zlib.crc32(name.encode())
    if source.codec:
        _make_store(path, shape, source.chunks, source.codec, seed)
        return
    if source.chunks:
        _make_chunked(path, shape, source.chunks, seed)
        return
    if source.tensors:
        _make_tensors(path, shape, seed)
        return
    array = np.lib.format.open_memmap(path, "w+", source.dtype, shape, fortran_order=source.order == "F")
    offset, size = os.path.getsize(path) - array.nbytes, array.size
    del array
    if source.sparse:
        return
    drawn = np.random.default_rng(seed)
    with open(path, "r+b") as out:
        out.seek(offset)
        for start in range(0, size, PIECE):
            values = drawn.standard_normal(min(PIECE, size - start), np.float32)
            if source.dtype == "uint8":  # as a photograph has them
                values = np.clip(values * 40 + 128, 0, 255)
            values.astype(source.dtype).tofile(out)


def _make_tensors(path: str, shape: tuple[int, ...], seed: int) -> None:
    import numpy as np

    nbytes = 4 * math.prod(shape[1:])
    header = {
        f"layers.{k}.weight": {"dtype": "F32", "shape": shape[1:], "data_offsets": [k * nbytes, (k + 1) * nbytes]}
        for k in range(shape[0])
    }
    text = json.dumps(header).encode()
    drawn = np.random.default_rng(seed)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _ in range(shape[0]):
            drawn.standard_normal(shape[1:], np.float32).tofile(out)


def _make_store(path: str, shape: tuple[int, ...], chunks: Any, codec: str, seed: int) -> None:
    import numpy as np
    import zarr

    compressors: Any = None if codec == "bytes" else {"name": codec, "configuration": {"level": 1, "checksum": False}}
    array = zarr.create_array(path, shape=shape, dtype="f4", chunks=chunks, compressors=compressors)
    for start in range(0, shape[0], chunks[0]):
        part = (min(chunks[0], shape[0] - start), *shape[1:])
        drawn = np.random.default_rng((seed, start)).standard_normal(part, np.float32)
        array[start : start + part[0]] = drawn.astype(np.float16)


def _make_chunked(path: str, shape: tuple[int, ...], chunks: Any, seed: int) -> None:
    import h5py
    import numpy as np

    with h5py.File(path, "w") as file:
        if chunks is not True:
            chunks = tuple(map(min, chunks, shape))
        dataset = file.create_dataset("x", shape, "f4", chunks=chunks, compression="gzip", shuffle=True)
        level, chunk = dataset.compression_opts, dataset.chunks
        corners = list(product(*(range(0, n, step) for n, step in zip(shape, chunk, strict=True))))

        def packed(number: int) -> bytes:
            drawn = np.random.default_rng((seed, number)).standard_normal(chunk, np.float32)
            halves = drawn.astype(np.float16).astype(np.float32)
            planes = np.ascontiguousarray(halves.reshape(-1).view(np.uint8).reshape(-1, 4).T)
            return zlib.compress(planes.data, level)

        for corner, data in zip(corners, _ahead(packed, len(corners)), strict=True):
            dataset.id.write_direct_chunk(corner, data)


def _ahead(make_one: Callable[[int], bytes], count: int) -> Iterator[bytes]:
    """Yield what `make_one` makes of 0, 1, ..., made by threads a few ahead."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, count, 64):
            yield from pool.map(make_one, range(start, min(start + 64, count)))


if __name__ == "__main__":
    make(sys.argv[1], float(sys.argv[2]), sys.argv[3])
