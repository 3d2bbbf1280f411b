from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.errors import InputError
from gncli.io import ArraySink, ArraySource, RandomSource, Sink, Source, open_sink, open_source
from gncli.io.dtypes import FOREIGN
from gncli.io.pairs import Derived, InCOrder, Pair
from gncli.io.rawfile import reading
from gncli.io.source import Wrapping

X = np.arange(6, dtype="<f4").reshape(2, 3)


class Doubled(Wrapping):
    def read_into(self, out: NDArray[Any], start: int) -> None:
        self.inner.read_into(out, start)
        out *= 2


def all_of(source: Source) -> list[Any]:
    out = np.empty(source.shape, source.dtype)
    source.read_into(out.reshape(-1), 0)
    return [float(value) for value in out.flat]


def test_a_source_has_working_defaults() -> None:
    with ArraySource(X, "x") as source:
        source.hold(0, 6)
        source.verify_unchanged()
    assert (source.order, source.sequential, source.holds_in_file, source.identity) == ("C", False, False, None)
    assert (source.stored_as, source.dimensions, source.seed, source.dtype_name) == (None, (), None, "float32")
    assert source.again() is source


def test_the_end_of_a_with_block_closes_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with open_source(str(tmp_path / "x.npy")) as source:
        assert all_of(source) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="Bad file descriptor"):
        all_of(source)


def test_the_end_of_a_with_block_removes_an_output_that_was_not_committed(tmp_path: Path) -> None:
    def begin(name: str) -> Sink:
        return open_sink(str(tmp_path / name), shape=(6,), dtype=np.dtype("<f4"))

    with begin("a.npy"):
        assert len(list(tmp_path.iterdir())) == 1
    with begin("b.npy") as sink:
        sink.write_from(X.reshape(-1), 0)
        sink.commit()
    with ArraySink((6,), np.dtype("<f4")) as array:
        array.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["b.npy"]
    assert np.load(tmp_path / "b.npy").tolist() == [0, 1, 2, 3, 4, 5]


def test_a_random_tensor_is_drawn_again_from_its_seed() -> None:
    source = RandomSource((2, 3), "normal", dtype="float16")
    assert all_of(source) == all_of(source.again())
    assert source.again() is not source


def test_a_wrapping_source_says_what_the_inner_one_says() -> None:
    inner = RandomSource((2, 3), seed=7)
    inner.stored_as, inner.dimensions = FOREIGN["BF16"], ("lat", "lon")
    source = Doubled(inner)
    source.hold(0, 6)
    source.verify_unchanged()
    first = all_of(source)
    assert first == all_of(source) == [2 * value for value in all_of(inner.again())]
    assert (source.name, source.shape, source.dtype, source.order) == ("random 2x3", (2, 3), np.dtype(np.float64), "C")
    assert (source.sequential, source.holds_in_file, source.identity, source.seed) == (True, False, None, 7)
    assert (source.dtype_name, source.dimensions) == ("bfloat16", ("lat", "lon"))


def test_a_pair_is_held_where_one_of_its_tensors_is() -> None:
    class Spooled(ArraySource):
        sequential = holds_in_file = True

    pair = Pair(ArraySource(X), Spooled(X))
    assert (pair.sequential, pair.holds_in_file) == (True, True)
    derived = Derived(pair, lambda a, b: (a - b).astype(np.float64))
    assert (derived.sequential, derived.holds_in_file, derived.dtype) == (True, True, np.dtype(np.float64))
    turned = InCOrder(ArraySource(np.asfortranarray(X)))
    assert (turned.sequential, turned.holds_in_file, turned.order) == (True, False, "C")
    turned.hold(0, 6)
    assert all_of(turned) == all_of(turned) == [0, 1, 2, 3, 4, 5]


def test_an_error_that_says_more_is_not_said_again() -> None:
    """An InputError is an OSError too, and passes what turns one into the other."""
    with pytest.raises(InputError) as caught, reading("x.npy"):
        raise InputError("ends early", subject="y.npy")
    assert str(caught.value) == "y.npy: ends early"
