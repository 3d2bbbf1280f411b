"""Whole runs of gncli on mutated HDF5 files: one line per error and a documented status, or numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from gncli.errors import InputError
from gncli.io import open_sources
from tests.io.formats.hdf5.mutations import LIBVERS, SEEDS, lookup3, mutated, run, seed
from tests.marks import slow_but

STATUSES = {0, 3, 5}


def named(number: int, path: str) -> str:
    """Return the tensor that is asked for: all of a file, one dataset, or all of a pipe."""
    return path if number % 6 < 4 else f"{path}::a" if number % 6 == 4 else "-"


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.soak)])
def test_a_mutated_file_gives_a_documented_status_and_one_line_per_error(count: int, tmp_path: Path) -> None:
    endings = run(range(count), 2, tmp_path, named)
    assert sorted(ending.number for ending in endings) == list(range(count))
    for ending in endings:
        where = (SEEDS[ending.number % len(SEEDS)], ending)
        assert ending.status in STATUSES, where
        lines = ending.err.splitlines()
        assert all(line.startswith("gncli: ") for line in lines), where
        assert (ending.status != 0) == any(line.startswith("gncli: error: ") for line in lines), where
        assert all(json.loads(line)["name"] for line in ending.out.splitlines()), where
    assert {ending.status for ending in endings} >= {0, 3}


REFUSED = {"virtual": ["/a"], "others": ["/null"]}


@pytest.mark.slow
@pytest.mark.parametrize("version", slow_but(LIBVERS, "latest"))
def test_the_files_that_are_mutated_are_sound(version: str, tmp_path: Path, unrehearsed: None) -> None:
    for number, (kind, of) in enumerate(SEEDS):
        if of == version:
            path = tmp_path / f"{kind}.h5"
            path.write_bytes(seed(number).data)
            assert seed(number).data[8] == (3 if version == "latest" else int(version))
            listing, refused = open_sources(str(path)), []
            while True:
                try:
                    source = next(listing, None)
                except InputError as error:
                    refused.append(str(error.subject).rpartition("::")[2])
                    continue
                if source is None:
                    break
                with source:
                    source.read_into(np.empty(math.prod(source.shape), source.dtype), 0)
            assert refused == REFUSED.get(kind, []), kind


def test_a_mutation_makes_the_checksum_right_again() -> None:
    number = next(number for number in range(1000) if seed(number).sealed and mutated(number) != seed(number).data)
    start, end = seed(number).sealed[0]
    for data in (seed(number).data, mutated(number)):
        assert lookup3(data[start:end], [end - start])[0] == int.from_bytes(data[end : end + 4], "little")
