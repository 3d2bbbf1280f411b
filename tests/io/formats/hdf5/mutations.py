"""Small HDF5 files of many kinds, mutations that know their structures, and a pool that runs gncli on them.

A mutation that changes a structure with a checksum gives it the right one again, most of the time: what libhdf5 does
with a wrong value, and not only with a wrong checksum, is to be seen.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z
from numpy.typing import NDArray

LIBVERS = {  # by the version of the superblock that they give, and for what else they write
    "0": ("earliest", "latest"),
    "1": ("earliest", "latest"),  # made of version 0
    "2": ("v108", "latest"),
    "3": ("v110", "latest"),
    "latest": ("latest", "latest"),
}
X = np.arange(60.0).reshape(6, 10)


def _filtered(**options: Any) -> Callable[[Any], Any]:
    return lambda file: file.create_dataset("a", data=(X * 3).astype("i4"), **options)


def _made(file: Any, kind: Any, array: NDArray[Any], *, set_up: Callable[[Any], Any]) -> None:
    creation = h5p.create(h5p.DATASET_CREATE)
    set_up(creation)
    h5d.create(file.id, b"a", kind, h5s.create_simple(array.shape), creation).write(h5s.ALL, h5s.ALL, array)


def _nbit(file: Any) -> None:
    twelve = h5t.STD_I16LE.copy()
    twelve.set_precision(12)

    def set_up(creation: Any) -> None:
        creation.set_chunk((4, 5))
        creation.set_filter(h5z.FILTER_NBIT, h5z.FLAG_OPTIONAL)

    _made(file, twelve, X.astype("i2"), set_up=set_up)


def _implicit(file: Any) -> None:
    def set_up(creation: Any) -> None:
        creation.set_chunk((2, 5))
        creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)

    _made(file, h5t.IEEE_F64LE, X, set_up=set_up)


def _partial(file: Any) -> None:
    dataset = file.create_dataset("a", (40, 10), "f4", chunks=(4, 10), maxshape=(None, 10), fillvalue=7)
    dataset[8:20] = 1.5


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((6, 10), "f8")
    layout[:3] = h5py.VirtualSource(".", "b", (6, 10))[:3]
    file["b"] = X
    file.create_virtual_dataset("a", layout)


def _references(file: Any) -> None:
    file["a"] = X
    file.create_dataset("r", data=[file["a"].ref, file.ref], dtype=h5py.ref_dtype)
    file.create_dataset("q", data=[file["a"].regionref[1:3]], dtype=h5py.regionref_dtype)


def _scales(file: Any) -> None:
    file["lat"], file["lon"], file["a"] = np.arange(6.0), np.arange(10.0), X
    for axis, name in enumerate(("lat", "lon")):
        file[name].make_scale(name)
        file["a"].dims[axis].attach_scale(file[name])
        file["a"].dims[axis].label = name.upper()


def _links(file: Any) -> None:
    for number in range(12):
        file[f"g/h{number}"] = np.float32(number)
    file["soft"] = h5py.SoftLink("/g/h1")
    file["out"] = h5py.ExternalLink("other.h5", "/a")
    file["again"] = file["g"]


def _attributes(file: Any) -> None:
    file["a"] = X
    for number in range(12):
        file["a"].attrs[f"n{number}"] = "text" * number
    file["named"] = np.dtype("f4")


def _others(file: Any) -> None:
    file["a"] = np.float16(3)
    file["text"] = ["some", "words"]
    file.create_dataset("ragged", (2,), h5py.vlen_dtype(np.int32))[0] = [1, 2, 3]
    file.create_dataset("colour", data=[0, 1], dtype=h5py.enum_dtype({"red": 0, "green": 1}))
    file["pair"] = np.zeros(2, [("x", "f4"), ("y", "i2")])
    file["null"] = h5py.Empty("f4")


KINDS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda file: file.update({"a": X, "b": X.astype(">i2")}),
    "compact": lambda file: _made(file, h5t.STD_I32LE, X.astype("i4"), set_up=lambda p: p.set_layout(h5d.COMPACT)),
    "chunks": _filtered(chunks=(2, 5)),
    "gzip": _filtered(chunks=(2, 5), compression="gzip"),
    "all three": _filtered(chunks=(2, 5), compression="gzip", shuffle=True, fletcher32=True),
    "one chunk": _filtered(chunks=(6, 10), compression="gzip"),
    "growing": _filtered(chunks=(1, 5), maxshape=(None, 10), compression="gzip"),
    "growing both ways": _filtered(chunks=(1, 5), maxshape=(None, None)),
    "many chunks": _filtered(chunks=(1, 1)),
    "implicit": _implicit,
    "partial": _partial,
    "scaleoffset": _filtered(chunks=(2, 5), scaleoffset=0),
    "lzf": _filtered(chunks=(2, 5), compression="lzf", shuffle=True),
    "nbit": _nbit,
    **({"szip": _filtered(chunks=(2, 10), compression="szip")} if h5py.h5z.filter_avail(h5z.FILTER_SZIP) else {}),
    "virtual": _virtual,
    "references": _references,
    "scales": _scales,
    "links": _links,
    "attributes": _attributes,
    "others": _others,
}
SEEDS = [(kind, version) for kind in KINDS for version in LIBVERS]


class Seed(NamedTuple):
    """A sound file, and where its structures are: each begins with a signature; some end with a checksum."""

    data: bytes
    structures: list[int]
    sealed: list[tuple[int, int]]  # where their checksums begin
    addresses: list[int]  # where 8 bytes are an offset in this file


_SIGNATURES = re.compile(
    rb"\x89HDF|TREE|HEAP|SNOD|GCOL|OHDR|OCHK|FAHD|FADB|EAHD|EAIB|EADB|EASB|BTHD|BTLF|BTIN|FRHP|FHDB|FHIB|FSHD|FSSE"
)
_MOST_NBYTES = 600  # of a structure whose checksum is made right again


def seed(number: int) -> Seed:
    """Return the sound file that `mutated` makes file `number` of."""
    return _seed(*SEEDS[number % len(SEEDS)])


@cache
def _seed(kind: str, version: str) -> Seed:
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=LIBVERS[version]) as file:
        KINDS[kind](file)
    data = _of_version_1(memory.getvalue()) if version == "1" else memory.getvalue()
    found = [match.start() for match in _SIGNATURES.finditer(data)]
    sealed = [(start, end) for start in found for end in _sealed(data, start)]
    words = ((at, int.from_bytes(data[at : at + 8], "little")) for at in range(len(data) - 8))
    return Seed(data, found, sealed, [at for at, word in words if 0 < word < len(data) and word % 8 == 0])


def _of_version_1(data: bytes) -> bytes:
    """Return a file with superblock 0 made one with superblock 1, which h5py does not write: it is 4 bytes longer.

    The root's header, which follows the superblock, moves to the end of the file.
    """
    header = data[96 : 112 + int.from_bytes(data[104:108], "little")]
    end = -(-len(data) // 8) * 8
    new = bytearray(data[:8] + b"\x01" + data[9:24] + b"\x20\0\0\0" + data[24:96] + data[100:])
    new[44:52], new[68:76] = ((end + extra).to_bytes(8, "little") for extra in (len(header), 0))
    return bytes(new.ljust(end, b"\0")) + header


def _sealed(data: bytes, start: int) -> list[int]:
    most = min(_MOST_NBYTES, len(data) - start - 4)
    lengths = np.arange(8, max(8, most))
    sums = lookup3(data[start : start + most], lengths)
    stored = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), 4)[start + lengths]
    right: NDArray[Any] = np.flatnonzero(np.ascontiguousarray(stored).view("<u4")[:, 0] == sums)
    return [start + int(lengths[at]) for at in right[:1]]


def lookup3(data: bytes, lengths: Any) -> NDArray[np.uint32]:
    """Return the checksums that HDF5's metadata have (Bob Jenkins's lookup3), of `data` cut to each of `lengths`.

    Examples
    --------
    >>> [hex(found) for found in lookup3(b"Four score and seven years ago", [0, 30])]
    ['0xdeadbeef', '0x17770551']
    """
    sizes = np.asarray(lengths)
    padded = np.frombuffer(data + bytes(12 - len(data) % 12), np.uint8)
    last = np.maximum(sizes - 1, 0) // 12 * 12
    places = last[:, None] + np.arange(12)
    ends = np.where(places < sizes[:, None], padded[np.minimum(places, padded.size - 1)], np.uint8(0)).view("<u4")
    a = b = c = (0xDEADBEEF + sizes).astype(np.uint32)

    def rotated(word: NDArray[np.uint32], by: int) -> NDArray[np.uint32]:
        return word << np.uint32(by) | word >> np.uint32(32 - by)

    for at in range(0, int(last.max(initial=0)), 12):  # the blocks that are whole, and not the last of all lengths
        more = last > at
        x, y, z = (a + word for a, word in zip((a, b, c), padded[at : at + 12].view("<u4"), strict=True))
        for by in (4, 6, 8, 16, 19, 4):  # the three change places in each step
            x, z = (x - z) ^ rotated(z, by), z + y
            x, y, z = y, z, x
        a, b, c = (np.where(more, new, old) for new, old in zip((x, y, z), (a, b, c), strict=True))
    x, y, z = a + ends[:, 0], b + ends[:, 1], c + ends[:, 2]
    for by in (14, 11, 25, 16, 4, 14, 24):
        z = (z ^ y) - rotated(y, by)
        x, y, z = y, z, x
    return np.where(sizes == 0, c, y)


def mutated(number: int) -> bytes:
    """Return a file with one to three things changed, the same for the same number."""
    draw = random.Random(number)
    source = seed(number)
    data = bytearray(source.data)
    touched = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at, piece = draw.choice(_MUTATIONS)(draw, source)
        piece = piece[: len(data) - at]
        data[at : at + len(piece)] = piece
        touched.append((at, at + len(piece)))
    if draw.random() < 0.8:
        for start, end in source.sealed:
            if any(first < end and start < last for first, last in touched):
                data[end : end + 4] = int(lookup3(bytes(data[start:end]), [end - start])[0]).to_bytes(4, "little")
    if draw.random() < 0.03:
        del data[draw.randrange(len(data)) :]
    return bytes(data)


def _place(draw: random.Random, source: Seed) -> int:
    """Return a place, most often in a structure, and seldom in the padding."""
    if draw.random() < 0.7:
        return min(draw.choice(source.structures) + draw.randrange(96), len(source.data) - 1)
    for _ in range(8):
        at = draw.randrange(len(source.data))
        if source.data[at]:
            break
    return at


def _byte(draw: random.Random, source: Seed) -> tuple[int, bytes]:
    at = _place(draw, source)
    return at, bytes([source.data[at] ^ draw.choice((1, 2, 4, 8, 16, 32, 64, 128, draw.randrange(1, 256)))])


def _field(draw: random.Random, source: Seed) -> tuple[int, bytes]:
    at, width, size = _place(draw, source), draw.choice((1, 2, 4, 8)), len(source.data)
    old = int.from_bytes(source.data[at : at + width], "little")
    edges = (0, 1, 2, 255, 1 << 15, 1 << 31, 1 << 63, -1, size, size - 8, old + 1, old - 1, 2 * old, draw.randrange(99))
    return at, (draw.choice(edges) % (1 << 8 * width)).to_bytes(width, "little")


def _address(draw: random.Random, source: Seed) -> tuple[int, bytes]:
    """Have one address point to where another one does, or beside it."""
    at, other = draw.choice(source.addresses), draw.choice(source.addresses)
    word = int.from_bytes(source.data[other : other + 8], "little") + draw.choice((0, 0, 0, 8, -8, 1))
    return at, word.to_bytes(8, "little")


def _copy(draw: random.Random, source: Seed) -> tuple[int, bytes]:
    """Put one structure over another one."""
    at, other = draw.choice(source.structures), draw.choice(source.structures)
    return at, source.data[other : other + draw.choice((8, 24, 64, 200))]


_MUTATIONS = (_byte, _byte, _field, _field, _field, _address, _address, _copy)


class Ending(NamedTuple):
    """How gncli ended on a mutated file: the exit status, or minus a signal, and what it wrote."""

    number: int
    status: int
    out: str
    err: str


def run(numbers: range, processes: int, directory: Path, argument: Callable[[int, str], str]) -> list[Ending]:
    """Return the endings of ``gncli stats`` on mutated files, from a pool of forked processes that run them in turn.

    Parameters
    ----------
    numbers : range
        Which files.
    processes : int
        How many processes; one that dies is followed by another.
    directory : Path
        Where the files are written.
    argument : callable
        ``argument(number, path)`` returns the TENSOR that is asked for; ``-`` is the file as standard input.
    """
    shares = [numbers[k::processes] for k in range(processes)]
    found: list[Ending] = []
    while any(shares):
        running = []
        for k, share in enumerate(shares):
            pid = os.fork()
            if pid == 0:
                try:
                    sys.settrace(None)  # what it covers is not saved
                    _work(share, directory / str(k), argument)
                finally:
                    os._exit(0)
            running.append((k, pid))
        for k, pid in running:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            log = directory / f"{k}.log"
            endings = [Ending(*json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
            log.unlink(missing_ok=True)
            found += endings
            done, shares[k] = len(endings), shares[k][len(endings) :]
            if shares[k] and status == 0:
                raise AssertionError(f"a process stopped after {done} files, before {shares[k][0]}")
            if shares[k]:  # it died on the next one
                found.append(Ending(shares[k][0], status, "", ""))
                shares[k] = shares[k][1:]
    return found


def _work(share: range, path: Path, argument: Callable[[int, str], str]) -> None:
    """Run gncli on files, each written to `path`, and note how it ended."""
    from gncli.cli import main

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    names = [path.with_suffix(suffix) for suffix in (".h5", ".out", ".err")]
    flags = (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2)
    for number in share:
        names[0].write_bytes(mutated(number))
        for fd, (name, flag) in enumerate(zip(names, flags, strict=True)):
            opened = os.open(name, flag)
            os.dup2(opened, fd)
            os.close(opened)
        signal.alarm(900)  # a hang ends this process; of the clock, and the machine may be busy
        status = main(["stats", argument(number, str(names[0])), "--workers", "1", "--format", "jsonl"])
        signal.alarm(0)
        with path.with_suffix(".log").open("a") as log:
            log.write(json.dumps((number, status, *(name.read_text() for name in names[1:]))) + "\n")
