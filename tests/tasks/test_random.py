"""What `random` draws, writes and says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gncli.api import normalize_file
from gncli.errors import OutputError
from gncli.inputs import Draw
from tests.arrays import assert_same_bits
from tests.files import listed, write_npy
from tests.runs import random, the_one


@pytest.mark.parametrize(("dist", "dtype"), [("uniform", "float64"), ("normal", "float32"), ("uniform", "float16")])
def test_what_is_drawn_is_what_numpy_draws_and_is_written_while_it_is_measured(
    tmp_path: Path, dist: Any, dtype: str
) -> None:
    out = str(tmp_path / "x.npy")
    report = random(
        Draw((40, 50), dist=dist, seed=7, dtype=dtype), output=out, statistics=["mean", "max"], workers=2, tile=1000
    )
    generator = np.random.default_rng(7)
    draw = generator.random if dist == "uniform" else generator.standard_normal
    x = draw((40, 50), dtype=np.float64 if dtype == "float64" else np.float32).astype(dtype)
    assert_same_bits(np.load(out), x)
    assert the_one(report).value("mean") == pytest.approx(x.astype(float).mean(), rel=1e-13)
    assert the_one(report).value("max") == x.max()
    assert (report.seed, report.output, report.command, report.status) == (None, out, "random", 0)


def test_a_draw_without_an_output_writes_nothing_and_tells_its_seed(tmp_path: Path) -> None:
    report = random(Draw((10,)))
    assert isinstance(report.seed, int)
    assert the_one(report).value("max") == np.random.default_rng(report.seed).random(10).max()
    assert listed(tmp_path) == []


def test_a_drawn_hdf5_dataset_says_how_it_was_drawn(tmp_path: Path) -> None:
    out = str(tmp_path / "x.h5")
    random(Draw((4, 5), dist="normal", seed=7), output=out)
    with h5py.File(out) as file:
        assert dict(file["data"].attrs) == {"dist": "normal", "seed": 7}
        np.testing.assert_array_equal(file["data"][:], np.random.default_rng(7).standard_normal((4, 5)))


def test_an_existing_file_is_replaced_by_force_alone(tmp_path: Path) -> None:
    out = write_npy(tmp_path, np.ones(3))
    with pytest.raises(OutputError):
        random(Draw((10,), seed=1), output=out)
    assert np.load(out).tolist() == [1, 1, 1]
    random(Draw((10,), seed=1), output=out, force=True)
    assert np.load(out).shape == (10,)
    with pytest.raises(OutputError):
        normalize_file(Draw((2, 4)), num_groups=2, output=out)
    assert listed(tmp_path) == ["x.npy"]
