"""The version 1 B-tree: what libhdf5 writes passes, in whatever order; a key that no search finds does not."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5o

from gncli.errors import InputError
from gncli.io import open_source
from gncli.io.formats.hdf5.btree import DamagedTreeError, check_tree, header_nbytes, root_of
from gncli.io.rawfile import RawFile
from tests.files import read_all

pytestmark = pytest.mark.usefixtures("unrehearsed")

CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any]] = {
    "one axis": ((900,), (3,), {}),
    "two axes": ((40, 33), (1, 2), {"maxshape": (None, None)}),
    "three axes, compressed": ((9, 10, 11), (2, 1, 1), {"compression": "gzip"}),
    "through libhdf5": ((9, 10, 11), (2, 1, 1), {"compression": "lzf"}),
}


@pytest.mark.parametrize("libver", ["earliest", "v108"])
@pytest.mark.parametrize("what", CASES)
def test_a_tree_of_libhdf5_is_right_in_whatever_order_it_was_filled(what: str, libver: str, tmp_path: Path) -> None:
    shape, chunk, options = CASES[what]
    grid = [range(0, extent, step) for extent, step in zip(shape, chunk, strict=True)]
    corners = list(itertools.product(*grid))
    random.Random(0).shuffle(corners)
    expected = np.full(shape, 5, "i4")
    with h5py.File(tmp_path / "x.h5", "w", libver=(libver, "latest")) as file:
        dataset = file.create_dataset("a", shape, "i4", chunks=chunk, fillvalue=5, **options)
        dataset.attrs["note"] = "text" * 99  # the object header is then in several parts
        for number, corner in enumerate(corners[: len(corners) * 2 // 3]):
            place = tuple(slice(at, at + step) for at, step in zip(corner, chunk, strict=True))
            dataset[place] = expected[place] = number
        stored = dataset.id.get_num_chunks()
    source = open_source(str(tmp_path / "x.h5"))
    assert np.array_equal(read_all(source, 997), expected)
    assert source.stored_chunks == (stored, len(corners), 5.0)
    source.close()


def tree(path: Path) -> tuple[bytearray, int, int]:
    """Write a dataset of 100 by 2 chunks, and return the file, where the root of its tree lies, and its level."""
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=1 + np.arange(200, dtype="i4").reshape(100, 2), chunks=(1, 1))
        at = h5o.get_info(file["a"].id).addr
    data = path.read_bytes()
    root = root_of(data[at : at + header_nbytes(data[at : at + 32])], (1, 1), 4)
    assert root is not None
    return bytearray(data), root, data[root + 5]


KEY = 24 + 8  # bytes in a node before the offsets of its first key
ENTRY = 8 + 3 * 8 + 8  # stored bytes and skipped filters, three offsets, an address

# The level of the node that is damaged, where in it, the bytes there, and the problem.
DAMAGES: dict[str, tuple[int, int, bytes, str]] = {
    "no node": (1, 0, b"TREF", "there is no node of its B-tree at 1,400"),
    "another type": (1, 4, b"\0", "there is no node of its B-tree at 1,400"),
    "a child": (1, KEY + 24, bytes(8), "there is no node of its B-tree at 0"),
    "a child beyond the end": (
        1,
        KEY + 24,
        b"\0" * 6 + b"\1\0",
        "there is no node of its B-tree at 281,474,976,710,656",
    ),
    "a child of another level": (0, 5, b"\1", "there is no node of its B-tree at"),
    "too many keys": (0, 6, b"\xff\xff", "the node of its B-tree at .* is cut short"),
    "fewer keys": (0, 6, b"\1", "its B-tree has .* chunks, and 200 are listed"),
    "the first key of the root": (1, KEY + 8, b"\1", "the keys of its B-tree at .* are not in order"),
    "a key of the root": (1, KEY + ENTRY, b"\x63", "the keys of its B-tree at 1,400 are not in order"),
    "a key of a leaf": (0, KEY, b"\x63", "the keys of its B-tree at .* are not in order"),
    "an offset in an element": (0, KEY + 16, b"\4", "a key of its B-tree at .* is off the grid"),
}
SILENT = {"the first key of the root", "a key of the root", "an offset in an element"}  # libhdf5 reads the fill value


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_tree_is_refused(what: str, tmp_path: Path) -> None:
    wanted, place, piece, problem = DAMAGES[what]
    path = tmp_path / "x.h5"
    data, root, level = tree(path)
    assert level == 1
    child = int.from_bytes(data[root + KEY + 24 : root + KEY + 32], "little")
    at = (root if wanted else child) + place
    data[at : at + len(piece)] = piece
    path.write_bytes(data)
    with RawFile(str(path), "x.h5") as file, pytest.raises(DamagedTreeError, match=problem):
        check_tree(file, root, 2, 200)
    if what == "fewer keys":  # then all agree that there are fewer chunks
        with open_source(str(path)) as source:
            assert source.not_stored
    else:
        with pytest.raises(InputError, match=problem if what in SILENT else "x.h5: "):
            open_source(str(path))


@pytest.mark.parametrize("what", sorted(SILENT))
def test_in_such_a_tree_libhdf5_misses_chunks_in_silence(what: str, tmp_path: Path) -> None:
    wanted, place, piece, _ = DAMAGES[what]
    data, root, _ = tree(tmp_path / "x.h5")
    at = (root if wanted else int.from_bytes(data[root + KEY + 24 : root + KEY + 32], "little")) + place
    data[at : at + len(piece)] = piece
    (tmp_path / "x.h5").write_bytes(data)
    with h5py.File(tmp_path / "x.h5") as file:
        found = file["a"][()].reshape(-1)
    assert 0 in found
    assert set(found - 1 - np.arange(200)) <= {0} | set(-1 - np.arange(200))


def test_a_tree_that_is_not_there_has_no_root() -> None:
    none = b"\x03\x02\x02" + b"\xff" * 8 + b"\3\0\0\0\4\0\0\0"
    assert root_of(none, (3,), 4) is None
    assert root_of(none[:-1], (3,), 4) is None
    assert root_of(none.replace(b"\xff" * 8, b"\n".ljust(8, b"\0")), (3,), 4) == 10


def test_the_size_of_a_header_is_read_from_it() -> None:
    with_all = b"OHDR\x02\x31" + bytes(16) + bytes(4) + b"\x10\x01"
    assert header_nbytes(with_all.ljust(32, b"\0")) == 6 + 16 + 4 + 2 + 0x110 + 4
