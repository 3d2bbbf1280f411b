"""The public Python names, on arrays."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gncli
from gncli.api import get_stats, group_norm, normalize_file
from gncli.errors import InputError, LimitError, OutputError, ParameterError
from tests import oracle
from tests.arrays import assert_same_bits, images


def test_the_package_offers_its_names() -> None:
    assert gncli.group_norm is group_norm
    assert gncli.get_stats is get_stats
    assert gncli.normalize_file is normalize_file
    assert dir(gncli) == gncli.__all__ == sorted(gncli.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gncli.nothing  # noqa: B018


def test_arrays_of_any_memory_order_are_normalized() -> None:
    x = images()
    y = group_norm(x, 3)
    assert_same_bits(y, oracle.rounded(oracle.group_norm(x, 3, "NCHW"), "f4"))
    fortran = group_norm(np.asfortranarray(x), 3)
    assert fortran.flags.f_contiguous
    assert_same_bits(fortran, y)
    strided = np.repeat(x, 2, axis=3)[..., ::2]
    assert not (strided.flags.c_contiguous or strided.flags.f_contiguous)
    assert_same_bits(group_norm(strided, 3), y)
    assert_same_bits(group_norm(x[::-1], 3), y[::-1])
    assert_same_bits(group_norm(x.transpose(0, 2, 3, 1), 3, layout="nhwc").transpose(0, 3, 1, 2), y)
    assert_same_bits(group_norm(x.tolist(), 3).astype("f4"), y)


def test_an_input_is_left_as_it_is() -> None:
    x = images()
    copy = x.copy()
    x.flags.writeable = False
    group_norm(x, 3, gamma=2.0)
    get_stats(x)
    assert_same_bits(x, copy)


def test_gamma_and_beta_are_numbers_or_one_a_channel() -> None:
    x = images()
    gamma, beta = np.random.default_rng(2).standard_normal((2, 6))
    expected = oracle.rounded(oracle.group_norm(x, 2, "NCHW", 1e-3, gamma, beta, "variance"), "f4")
    assert_same_bits(group_norm(x, 2, 1e-3, None, gamma, beta, "variance"), expected)
    assert_same_bits(group_norm(x, 2, gamma=2.0), group_norm(x, 2, gamma=np.full(6, 2.0)))
    with pytest.raises(ParameterError, match=r"gamma has shape \(3,\), and x needs \(6,\)"):
        group_norm(x, 2, gamma=np.ones(3))
    with pytest.raises(ParameterError, match=r"beta has shape \(1, 6\), and x needs \(6,\)"):
        group_norm(x, 2, beta=np.ones((1, 6)))


@pytest.mark.parametrize("values", [["a"], [1j], [None], np.array(["2020-01-01"], "M8[D]"), np.zeros(1, "i4,i4")])
def test_what_is_not_numeric_is_refused(values: Any) -> None:
    array = np.asarray(values)
    with pytest.raises(InputError):
        get_stats(array)
    with pytest.raises(InputError):
        group_norm(array, 1, layout="C")


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ParameterError, match="6 channels cannot be split into 4 groups; choose one of 1, 2, 3, 6"):
        group_norm(images(), 4)
    with pytest.raises(ParameterError, match="eps is nan"):
        group_norm(images(), 3, eps=math.nan)
    with pytest.raises(ParameterError, match="layout CHW has 3 letters, the tensor 4 axes"):
        group_norm(images(), 3, layout="CHW")


def test_errors_are_what_python_calls_them(tmp_path: Path) -> None:
    """So that a caller who knows nothing of gncli catches them; `errno` and its like are unset."""
    with pytest.raises(ValueError, match="6 channels cannot be split into 4 groups"):
        group_norm(images(), 4)
    with pytest.raises(OSError, match="cannot be read") as reading:
        normalize_file(str(tmp_path / "none.npy"))
    again = pickle.loads(pickle.dumps(reading.value))  # as a cluster sends it
    assert (type(again), str(again), again.subject) == (InputError, str(reading.value), str(tmp_path / "none.npy"))
    (tmp_path / "y.npy").write_bytes(b"")
    np.save(tmp_path / "x.npy", images())
    with pytest.raises(OSError, match=r"y.npy: already exists") as writing:
        normalize_file(str(tmp_path / "x.npy"), num_groups=3, output=str(tmp_path / "y.npy"))
    assert type(writing.value) is OutputError
    assert writing.value.errno is None
    assert not issubclass(LimitError, OSError | ValueError)


def test_statistics_read_as_the_lines_of_the_article() -> None:
    assert str(get_stats(np.array([[1.0, 2.0, 6.0]], np.float32))) == "\n".join(
        [
            "Object Type:  <class 'numpy.ndarray'>",
            "Shape:  (1, 3)",
            "Data Type:  float32",
            "Mean:  3.0",
            f"Standard Deviation:  {math.sqrt(14 / 3)}",
            "Min:  1.0",
            "Max:  6.0",
        ]
    )
    assert get_stats(np.array([True, False])).value("max") == 1
    assert get_stats(np.array(2**63, np.uint64)).value("max") == 2**63
    assert get_stats([1, 2, 3]).value("mean") == 2.0  # type: ignore[arg-type]
    assert get_stats(np.asfortranarray(images())).value("mean") == get_stats(images().T.copy()).value("mean")
