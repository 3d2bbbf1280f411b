"""Arrays of any library: what NumPy takes, and what speaks DLPack; PyTorch itself where it is installed."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.errors import InputError
from gncli.io.dtypes import FOREIGN
from gncli.io.lending import StridedSource, lend
from gncli.io.source import Source
from tests.arrays import assert_same_bits
from tests.lenders import Foreign, Holder, Reluctant, Speaker

X = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
WIDE = {
    "bfloat16": ("BF16", 4, np.uint16),
    "float8_e4m3fn": ("F8_E4M3", 10, np.uint8),
    "float8_e5m2": ("F8_E5M2", 12, np.uint8),
}


def elements(source: Source) -> NDArray[Any]:
    """Return all elements of a source, read in three runs, in the shape of the tensor."""
    flat = np.empty(int(np.prod(source.shape)), source.dtype)
    for start in range(0, flat.size, step := max(1, flat.size // 3)):
        source.read_into(flat[start : start + step], start)
    return flat.reshape(source.shape, order=source.order)


def values(raw: NDArray[Any], name: str) -> NDArray[np.float32]:
    out = np.empty(raw.size, np.float32)
    FOREIGN[WIDE[name][0]].widen(np.ascontiguousarray(raw).reshape(-1), out)
    return out.reshape(raw.shape)


@pytest.mark.parametrize("make", [lambda x: x, Holder, Speaker], ids=["numpy", "__array__", "__dlpack__"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u2", "?"])
@pytest.mark.parametrize(
    "view", [lambda x: x, lambda x: x.T, lambda x: x[::-1, 1:, ::2], lambda x: x[1, 2, 3:4], lambda x: x[:0]]
)
def test_elements_are_those_of_the_array(make: Any, dtype: str, view: Any) -> None:
    array = view(X.astype(dtype))
    source = lend(make(array), "x")
    assert (source.shape, source.dtype, source.dtype_name) == (array.shape, array.dtype, array.dtype.name)
    assert_same_bits(elements(source), array)


@pytest.mark.parametrize("x", [1, 2.5, [1, 2], [[1.0], [2.0]], True, np.float32(3), memoryview(b"ab"), range(3)])
def test_what_numpy_takes_is_taken(x: Any) -> None:
    assert_same_bits(elements(lend(x, "x")), np.asarray(x))


def test_an_array_is_read_where_it_lies() -> None:
    """Also one whose elements do not lie one after the other: then a piece at a time is copied, and not the whole."""
    array = X.copy()
    sources = [lend(of, "x") for of in (array, np.asfortranarray(array).T.T, Speaker(array), array[:, ::2], array.T)]
    array[...] = 7
    for source in (sources[0], *sources[2:]):
        assert (elements(source) == 7).all()
    assert isinstance(sources[3], StridedSource)
    assert sources[4].order == "F"


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::3], lambda x: x.reshape(-1, 16).T, lambda x: x[:0]])
def test_what_numpy_does_not_have_is_read_by_its_bits(name: str, view: Any) -> None:
    _, code, bits = WIDE[name]
    raw = view(np.arange(1 << 8 * np.dtype(bits).itemsize, dtype=bits))
    for make in (Speaker, Foreign, Reluctant):
        source = lend(make(raw, code), "x")
        assert (source.shape, source.dtype_name, source.stored_dtype) == (raw.shape, name, raw.dtype)
        np.testing.assert_array_equal(elements(source), values(raw, name))
        stored = np.empty(raw.size, raw.dtype)
        source.read_stored(stored, 0)
        np.testing.assert_array_equal(stored.reshape(raw.shape, order=source.order), raw)


@pytest.mark.parametrize("name", WIDE)
def test_ml_dtypes_are_read_by_their_bits(name: str) -> None:
    library = pytest.importorskip("ml_dtypes")
    array = np.arange(1 << 8 * np.dtype(WIDE[name][2]).itemsize, dtype=WIDE[name][2]).view(getattr(library, name))
    source = lend(array, "x")
    assert source.dtype_name == name
    np.testing.assert_array_equal(elements(source), array.astype(np.float32))
    with pytest.raises(InputError, match="dtype int4"):
        lend(np.zeros(2, library.int4), "x")


@pytest.mark.slow
def test_a_tensor_lives_as_long_as_what_was_lent() -> None:
    array = X.copy()
    alive = weakref.ref(array)
    source = lend(Speaker(array, 4) if array.itemsize == 2 else Speaker(array), "x")
    del array
    gc.collect()
    assert alive() is not None
    assert (elements(source) == X).all()
    del source
    gc.collect()
    assert alive() is None


TO_THE_CPU = "copy it to the CPU first, as .cpu() does in PyTorch"
MASKED = np.ma.masked_array([1.0, 2.0], [False, True])


class Broken:
    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        raise RuntimeError("the\nreason")


class Silent:
    def __dlpack_device__(self) -> tuple[int, int]:
        raise OverflowError

    def __dlpack__(self) -> object:
        raise AssertionError


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        ("x.npy", "is a path, not an array; gncli.stats, gncli.diff and gncli.normalize_file read files"),
        (Path("x.npy"), "is a path, not an array; gncli.stats, gncli.diff and gncli.normalize_file read files"),
        (MASKED, "is a masked array; give its .filled(value), or its .compressed() elements"),
        ([[MASKED], [MASKED]], "is a masked array; give its .filled(value), or its .compressed() elements"),
        (None, "holds Python objects, not numbers (NoneType)"),
        ([1, None], "holds Python objects, not numbers (list)"),
        (np.array(["a"]), "holds strings, not numbers (dtype <U1)"),
        (np.array([b"a"]), "holds byte strings, not numbers (dtype |S1)"),
        (Broken(), "cannot be read as an array (the)"),
        (Foreign(X), "cannot be read as an array (Got unsupported ScalarType BFloat16)"),
        (Silent(), "cannot be read as an array (OverflowError)"),
        (Speaker(X, device=2), f"lies on another device than the CPU (DLPack's device 2); {TO_THE_CPU}"),
        (Speaker(X, 11), "holds elements that gncli does not read (DLPack's code 11, 32 bits, 1 lanes)"),
        (Speaker(X, lanes=4), "holds elements that gncli does not read (DLPack's code 2, 32 bits, 4 lanes)"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_words(x: Any, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        lend(x, "x")
    assert str(caught.value) == f"x: {problem}"


def test_a_ragged_list_is_refused() -> None:
    with pytest.raises(InputError, match=r"^x: cannot be read as an array \(setting an array element"):
        lend([[1, 2], [3]], "x")


def test_a_lack_of_memory_is_none_of_the_array() -> None:
    class Large:
        def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
            raise MemoryError

    with pytest.raises(MemoryError):
        lend(Large(), "x")


def test_tensors_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    drawn: Any = torch.arange(-12.0, 12.0).reshape(2, 3, 4)
    for name in ("float16", "float32", "float64", "int64", "uint8", "bool", *WIDE):
        whole = drawn.to(getattr(torch, name))
        for tensor in (whole, whole.permute(2, 0, 1)[1:], whole[:0]):
            source = lend(tensor, "x")
            assert (source.shape, source.dtype_name) == (tuple(tensor.shape), name)
            wide = tensor.to(torch.float32) if name in WIDE else tensor
            np.testing.assert_array_equal(elements(source), wide.numpy())
    lent = drawn.clone()
    source = lend(lent, "x")
    lent += 1
    assert_same_bits(elements(source), (drawn + 1).numpy())
    assert_same_bits(elements(lend(torch.nn.Parameter(drawn), "x")), drawn.numpy())
    negative = torch.complex(drawn, drawn).conj().imag  # its sign is applied late, and DLPack passes over it
    with pytest.raises(InputError, match="negative bit set"):
        lend(negative, "x")
    with pytest.raises(InputError, match=r"torch\.strided"):
        lend(torch.eye(3).to_sparse(), "x")
