"""``python -m tests.fuzz [PARSER] [SECONDS]``: atheris on the parser of npy (the default), npz, pt, pickle or
safetensors, for 60 s by default.

It needs the extra ``fuzz``, which atheris has wheels for on Linux. Any exception but an error of ours ends the run, and
leaves the bytes that raised it in a file ``crash-...``: they belong in `found`, with a test.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gncli"]):
    from gncli.errors import InputError, LimitError
    from gncli.io import open_sources
    from gncli.io.formats.npy import read_header
    from gncli.io.formats.pickled import contents

from tests.archives import NPY, Packed, entry, tensors, wide, zipped
from tests.files import read_all
from tests.pickles import Call, pickled, storage, torch_file, view

Test = Callable[[bytes], None]

NPY_SEEDS = [
    seed.ljust(128) + b"\n"
    for seed in (
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
        b"\x93NUMPY\x02\x00v\x00\x00\x00{'descr': '|b1', 'fortran_order': True, 'shape': (), }",
        b"\x93NUMPY\x03\x00v\x00\x00\x00{'descr': [('a', '>i8')], 'fortran_order': False, 'shape': (1L,), }",
    )
]
NPZ_SEEDS = [
    zipped(Packed()),
    zipped(Packed(method=8), Packed("b", b"text")),
    zipped(Packed(), comment=b"comment"),
    wide(Packed(method=8)),
]
PICKLE_SEEDS = [
    pickled({"state_dict": {"w": view(), "b": view(None, 1, (2,), (3,))}, "epoch": 3, "l": [(1, "a"), None, True]}),
    pickled(Call("torch._utils _rebuild_parameter", (view(), True, Call("collections OrderedDict")))),
    pickle.dumps({"a": [1, 2.5, b"b", "c", {4}], "d": (5, 2**70)}, 4),
]
PT_SEEDS = [torch_file(seed) for seed in PICKLE_SEEDS] + [torch_file(view(storage("0", 6), 0, (2, 3), (1, 2)))]
SAFETENSORS_SEEDS = [
    tensors({"x": entry()}, NPY[-24:]),
    tensors(
        {"__metadata__": {"a": '{"b": 1}'}, "x": entry("BF16", [2], 0, 4), "\\": entry("C64", [1], 4, 12)}, bytes(12)
    ),
    tensors("{}  "),
]


def test_npy(data: bytes) -> None:
    """Raise unless the bytes are a header, or are refused."""
    with contextlib.suppress(InputError):
        header = read_header(io.BytesIO(data).read, "x.npy")
        assert header.nbytes >= 0
        assert all(extent >= 0 for extent in header.shape)


def test_container(data: bytes) -> None:
    """Raise unless all tensors in the bytes can be read, or they are refused."""
    fd = os.memfd_create("x")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        with contextlib.suppress(InputError, LimitError):
            for source in open_sources(f"/proc/self/fd/{fd}"):
                with contextlib.closing(source):
                    if source.dtype.itemsize * max(1, *source.shape, 1) <= len(data):
                        read_all(source, 1 << 16)
    finally:
        os.close(fd)


def test_pickle(data: bytes) -> None:
    """Raise unless the bytes are the pickle of a PyTorch file, or are refused."""
    with contextlib.suppress(InputError, LimitError):
        contents(data, "x.pt")


PARSERS: dict[str, tuple[Test, list[bytes]]] = {
    "npy": (test_npy, NPY_SEEDS),
    "npz": (test_container, NPZ_SEEDS),
    "pt": (test_container, PT_SEEDS),
    "pickle": (test_pickle, PICKLE_SEEDS),
    "safetensors": (test_container, SAFETENSORS_SEEDS),
}


def main() -> None:
    """Run for as long as was asked."""
    given = sys.argv[1:]
    parser = given.pop(0) if given and given[0] in PARSERS else "npy"
    test, seeds = PARSERS[parser]
    seconds = given[0] if given else "60"
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds}", "-max_len=1024", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, corpus], test)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
