"""``python -m tests.fuzz [SECONDS]``: atheris on the .npy parser, 60 s by default.

It needs the extra ``fuzz``, which atheris has wheels for on Linux. Any exception but an InputError ends the run, and
leaves the bytes that raised it in a file ``crash-...``: they belong in `found`, with a test.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gncli"]):
    from gncli.errors import InputError
    from gncli.io.npy import read_header

SEEDS = (
    b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
    b"\x93NUMPY\x02\x00v\x00\x00\x00{'descr': '|b1', 'fortran_order': True, 'shape': (), }",
    b"\x93NUMPY\x03\x00v\x00\x00\x00{'descr': [('a', '>i8')], 'fortran_order': False, 'shape': (1L,), }",
)


def test_one(data: bytes) -> None:
    """Raise unless the bytes are a header, or are refused."""
    with contextlib.suppress(InputError):
        header = read_header(io.BytesIO(data).read, "x.npy")
        assert header.nbytes >= 0
        assert all(extent >= 0 for extent in header.shape)


def main() -> None:
    """Run for as long as was asked."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            (Path(corpus) / str(number)).write_bytes(seed.ljust(128) + b"\n")
        atheris.Setup(
            [sys.argv[0], f"-max_total_time={seconds}", "-max_len=512", "-print_final_stats=1", corpus], test_one
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
