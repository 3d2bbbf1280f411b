"""How the chunks of a Zarr array are encoded: the steps are known here by name, and no other is ever called.

Notes
-----
Compressed bytes are decoded into memory of the size of a chunk, whatever they say of themselves. What zlib, bz2 and
lzma do not do is done by numcodecs, the library of zarr-python: its functions on bytes alone, never its registry of
codecs.
"""

from __future__ import annotations

import bz2
import lzma
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.errors import ParameterError
from gncli.io.chunked import Bytes, DamagedError, inflated
from gncli.io.rawfile import as_bytes
from gncli.kernels.loops import loops

if TYPE_CHECKING:
    from collections.abc import Callable

CRC_NBYTES = 4
MAX_LZMA_NBYTES = 256 << 20  # its dictionary; presets take up to 64 MiB

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP = 31  # zlib's wbits


class Step(NamedTuple):
    """A step that turns bytes into bytes.

    Parameters
    ----------
    codec : str
        Its name, one of `BYTES_TO_BYTES`.
    width : int
        The bytes of an element, for shuffle.
    """

    codec: str
    width: int = 4


class Pipeline(NamedTuple):
    """How a chunk is encoded.

    Parameters
    ----------
    steps : tuple of Step
        What its bytes go through, in this order.
    axes : tuple of int
        The order of the axes in which its elements lie.
    """

    steps: tuple[Step, ...]
    axes: tuple[int, ...]

    def decode(self, data: Bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a chunk of this shape and dtype.

        Raises
        ------
        DamagedError
            If the bytes are damaged, or decode to more or less than a chunk.
        """
        nbytes = math.prod(shape) * dtype.itemsize
        for step in reversed(self.steps):
            # Between two steps there may be a little more than a chunk: checksums, headers of compressors.
            data = BYTES_TO_BYTES[step.codec](data, nbytes + nbytes // 8 + 1024, step.width)
        if data.size != nbytes:
            raise DamagedError(f"it has {data.size:,} bytes, not {nbytes:,}")
        lain = data.view(dtype).reshape([shape[axis] for axis in self.axes])
        return lain.transpose([self.axes.index(axis) for axis in range(len(shape))])


def check_installed(codec: str, name: str) -> None:
    """Raise ParameterError if the library of a codec is missing; `name` is the tensor that needs it."""
    if codec in _OF_LIBRARIES:
        _library(codec, name)


def _library(codec: str, name: str) -> Any:
    """Return the module that does a codec; it is imported with the first array that needs it."""
    try:
        if codec == "crc32c":
            import google_crc32c

            return google_crc32c
        from numcodecs import blosc, lz4, zstd
    except ImportError as error:
        problem = f"needs a library for {codec} that is not installed"
        raise ParameterError(problem, subject=name, hint="pip install 'gncli[zarr]'") from error
    return {"blosc": blosc, "lz4": lz4, "zstd": zstd}[codec]


def crc32c(data: Bytes) -> int:
    """Return the CRC-32C of bytes (Castagnoli's polynomial; RFC 3720, appendix B.4).

    Examples
    --------
    >>> hex(crc32c(np.frombuffer(b"123456789", np.uint8)))
    '0xe3069283'
    """
    found: int = _library("crc32c", "").value(data)
    return found


def checked(data: Bytes) -> Bytes:
    """Return bytes without the CRC-32C that follows them, which matches.

    Raises
    ------
    DamagedError
        If it does not.
    """
    content, stored = data[:-CRC_NBYTES], data[-CRC_NBYTES:]
    if int.from_bytes(stored.tobytes(), "little") != crc32c(content):
        raise DamagedError("its checksum does not match")
    return content


def zstandard(data: memoryview, level: int) -> bytes:
    """Return `data` as a frame of Zstandard that says its size."""
    found: bytes = _library("zstd", "").compress(data, level)
    return found


def _into(codec: str, data: Bytes, nbytes: int, most: int) -> Bytes:
    """Return what numcodecs decompresses `data` to, whose own header says that it is `nbytes` long."""
    if nbytes > most:
        raise DamagedError("it is longer than a chunk")
    found = np.empty(nbytes, np.uint8)
    try:
        _library(codec, "").decompress(data, found)
    except (RuntimeError, ValueError) as error:
        raise DamagedError("its compressed data make no sense") from error
    return found


def _blosc(data: Bytes, most: int, _width: int) -> Bytes:
    if data.size < 16 or int.from_bytes(data[12:16].tobytes(), "little") != data.size:
        raise DamagedError("its compressed data are cut short")
    return _into("blosc", data, int.from_bytes(data[4:8].tobytes(), "little"), most)


def _lz4(data: Bytes, most: int, _width: int) -> Bytes:
    return _into("lz4", data, int.from_bytes(data[:4].tobytes(), "little"), most)


def _zstd(data: Bytes, most: int, _width: int) -> Bytes:
    return _into("zstd", data, _zstd_nbytes(data[:18].tobytes()), most)


def _zstd_nbytes(head: bytes) -> int:
    """Return the size that the header of a frame says (RFC 8878, section 3.1.1.1).

    Examples
    --------
    >>> _zstd_nbytes(bytes.fromhex("28b52ffd 60 2c01")), _zstd_nbytes(bytes.fromhex("28b52ffd 20 05"))
    (556, 5)
    """
    if head[:4] != _ZSTD_MAGIC or len(head) < 6:
        raise DamagedError("its compressed data make no sense")
    size_flag, single, dictionary = head[4] >> 6, head[4] >> 5 & 1, head[4] & 3
    width = (single, 2, 4, 8)[size_flag]
    if not width or dictionary:
        raise DamagedError("its Zstandard frame does not say its size, or needs a dictionary")
    at = 5 + (not single)
    return int.from_bytes(head[at : at + width], "little") + 256 * (size_flag == 1)


def _bounded(decompressor: Any, data: Bytes, most: int) -> Bytes:
    """Return what a decompressor of the standard library makes of `data`."""
    try:
        found = decompressor.decompress(as_bytes(data), most + 1)
    except (OSError, lzma.LZMAError) as error:
        raise DamagedError("its compressed data make no sense") from error
    if not decompressor.eof:
        raise DamagedError("its compressed data are cut short" if len(found) <= most else "it is longer than a chunk")
    return np.frombuffer(found, np.uint8)


BYTES_TO_BYTES: dict[str, Callable[[Bytes, int, int], Bytes]] = {
    "crc32c": lambda data, _most, _width: checked(data),
    "gzip": lambda data, most, _width: inflated(data, most, _GZIP),
    "zlib": lambda data, most, _width: inflated(data, most),
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
    "bz2": lambda data, most, _width: _bounded(bz2.BZ2Decompressor(), data, most),
    "lzma": lambda data, most, _width: _bounded(lzma.LZMADecompressor(memlimit=MAX_LZMA_NBYTES), data, most),
    "shuffle": lambda data, _most, width: loops().unshuffle(data, width),
}
"""What undoes each codec: from bytes, the most that they may decode to, and the width of an element."""

_OF_LIBRARIES = frozenset({"crc32c", "blosc", "zstd", "lz4"})
