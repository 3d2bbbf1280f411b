"""The .npy reader and writer: what NumPy writes is read, whatever else is refused."""

from __future__ import annotations

import io
import itertools
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gncli import signals
from gncli.errors import ChangedError, InputError
from gncli.io import ArraySource, Source, open_sink, open_source, open_sources
from gncli.io.formats.npy import StreamSink, header_bytes, read_header
from tests.files import DTYPES, GOOD, SHAPES, in_threads, make, parse, read_all, saved, with_header
from tests.marks import examples, slow_but


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_order_version_and_shape_is_read_as_numpy_wrote_it(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "x.npy"
    for shape, order, version in itertools.product(SHAPES, "CF", ((1, 0), (2, 0), (3, 0))):
        array = make(shape, dtype, order)
        path.write_bytes(saved(array, version))
        source = open_source(str(path))
        got = read_all(source)
        source.verify_unchanged()
        source.close()
        assert got.dtype.str == np.dtype(dtype).str
        assert got.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_what_numpy_would_write_to_the_byte(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "x.npy"
    for number, (shape, order) in enumerate(itertools.product(SHAPES, ("C", "F"))):
        array = make(shape, dtype, order)
        source = ArraySource(array)
        path = tmp_path / f"{number}.npy"
        sink = open_sink(str(path), shape=shape, dtype=array.dtype, order="F" if order == "F" else "C")
        flat = array.ravel(order="K")
        sink.write_from(flat[flat.size // 2 :], flat.size // 2)
        sink.write_from(flat[: flat.size // 2], 0)
        sink.commit()
        assert path.read_bytes() == saved(array)
        assert source.shape == shape


@given(
    st.lists(st.integers(0, 1 << 40), max_size=8).map(tuple),
    st.sampled_from(DTYPES),
    st.sampled_from(("C", "F")),
)
def test_a_header_comes_back_as_it_was_written(shape: tuple[int, ...], dtype: str, order: Any) -> None:
    try:
        header = parse(header_bytes(shape, np.dtype(dtype), order))
    except InputError as error:
        assert "no machine can hold" in error.problem
        return
    assert (header.shape, header.dtype.str) == (shape, dtype)
    assert header.offset % 64 == 0


BAD_HEADERS = [
    ("(2, 3)", "(-2, 3)", "no tuple of sizes"),
    ("(2, 3)", "(True, 3)", "no tuple of sizes"),
    ("(2, 3)", "(2.0, 3)", "no tuple of sizes"),
    ("(2, 3)", "[2, 3]", "structured"),
    ("(2, 3)", "(6)", "no tuple of sizes"),
    ("(2, 3)", "(2,, 3)", "no tuple of sizes"),
    ("(2, 3)", "(,)", "no tuple of sizes"),
    ("(2, 3)", "(9999999999999999999999, 3)", "no tuple of sizes"),
    ("(2, 3)", "(4294967296, 4294967296)", "no machine can hold"),
    ("(2, 3)", "(0, 9223372036854775808)", "no machine can hold"),
    ("(2, 3)", "(" + "1, " * 65 + ")", "no machine can hold"),
    ("(2, 3)", "None", "no tuple of sizes"),
    ("False", "0", "neither True nor False"),
    ("False", "None", "neither True nor False"),
    ("'<f4'", "'f4'", "without a byte order"),
    ("'<f4'", "'|f4'", "without a byte order"),
    ("'<f4'", "'=f4'", "without a byte order"),
    ("'<f4'", "'<f3'", "no dtype"),
    ("'<f4'", "'<i0'", "no dtype"),
    ("'<f4'", "'?'", "no dtype"),
    ("'<f4'", "'float32'", "no dtype"),
    ("'<f4'", "None", "no dtype"),
    ("'<f4'", "''", "no dtype"),
    ("'<f4'", "'|O'", "Python objects"),
    ("'<f4'", "'|S5'", "byte strings"),
    ("'<f4'", "'|S0'", "byte strings"),
    ("'<f4'", "'<U7'", "strings"),
    ("'<f4'", "'<M8[ns]'", "dates"),
    ("'<f4'", "'<m8[25s]'", "time differences"),
    ("'<f4'", "'<c8'", "complex numbers"),
    ("'<f4'", "'|V2'", "if they are bfloat16, say --as-dtype bfloat16"),
    ("'<f4'", "'|V7'", "raw or structured"),
    ("'<f4'", "'<f16'", "differs between machines"),
    ("'<f4'", "[('a', '<f4'), ('b', '<i2')]", "structured"),
    ("'descr'", "'desc'", "not as NumPy writes it"),
    ("(2, 3), }", "(2, 3), 'shape': (3, 2), }", "not as NumPy writes it"),
    ("(2, 3), }", "(2, 3), 'x': True, }", "not as NumPy writes it"),
    (", 'shape': (2, 3), }", "}", "not as NumPy writes it"),
    ("(2, 3), }", "(2, 3), ", "not as NumPy writes it"),
    ("(2, 3), }", "(2, 3), } # more", "not as NumPy writes it"),
    ("{'descr'", "['descr'", "not as NumPy writes it"),
    ("False", "__import__('os')", "not as NumPy writes it"),
]


@pytest.mark.parametrize(("old", "new", "problem"), BAD_HEADERS)
def test_a_header_that_numpy_would_not_write_is_refused(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=r"^x.npy: ") as caught:
        parse(with_header(GOOD.replace(old, new)))
    assert problem in str(caught.value)


@pytest.mark.parametrize("text", [GOOD, GOOD.replace("'", '"'), GOOD.replace(", }", "}"), GOOD.replace("3)", "3L)")])
def test_headers_of_other_writers_are_read(text: str) -> None:
    assert parse(with_header(text))[:3] == ((2, 3), np.dtype("<f4"), "C")


def test_a_header_that_says_it_is_huge_is_refused_before_it_is_read() -> None:
    asked: list[int] = []
    stream = io.BytesIO(b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31))

    def read(nbytes: int) -> bytes:
        asked.append(nbytes)
        return stream.read(nbytes)

    with pytest.raises(InputError, match=r"2,147,483,648 bytes long"):
        read_header(read, "x.npy")
    assert max(asked) < 100


@pytest.mark.parametrize("version", [b"\x00\x00", b"\x01\x01", b"\x04\x00"])
def test_other_versions_are_refused(version: bytes) -> None:
    with pytest.raises(InputError, match=r"format version \d\.\d"):
        parse(with_header(GOOD, b"\x01\x00").replace(b"\x01\x00", version, 1))


def test_a_version_3_header_is_utf_8() -> None:
    with pytest.raises(InputError, match=r"not UTF-8"):
        parse(with_header(GOOD.replace("descr", "d\xe9scr"), b"\x03\x00"))


@settings(max_examples=examples(500))
@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x76\x00", b"\x93NUMPY\x03\x00"])
)
def test_any_bytes_give_a_header_or_an_input_error(data: bytes, start: bytes) -> None:
    with suppress(InputError):
        parse(start + data)


@settings(max_examples=examples(500))
@given(st.text("{}()[]'\",: 0123456789<>|=fiubFalseTruedescrshapefortran_order", max_size=90))
def test_any_text_gives_a_header_or_an_input_error(text: str) -> None:
    with suppress(InputError):
        parse(with_header(text))


@pytest.mark.slow
@pytest.mark.parametrize("order", slow_but("CF", "F"))
def test_a_changed_byte_in_the_header_is_refused_or_harmless_but_for_the_type(tmp_path: Path, order: str) -> None:
    array = make((2, 3), "<f4", order)
    whole = saved(array)
    path = tmp_path / "x.npy"
    silent = []
    # The padding is sampled: it is all the same.
    places = [*range(78), *range(78, len(whole) - array.nbytes, 9), len(whole) - array.nbytes - 1]
    for place in places:
        for byte in {*range(32, 127), 0, 1, 2, 3, 9, 10, 0x80, 0xFF, whole[place] ^ 0x80} - {whole[place]}:
            path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            try:
                source = open_source(str(path))
            except InputError:
                continue
            got = read_all(source)
            source.close()
            if (got.dtype.str, got.shape, got.tobytes()) != (array.dtype.str, array.shape, array.tobytes()):
                silent.append((place, byte))
    # '<f4' to '>f4', '<i4' and '<u4': every one of them a valid header of that size.
    assert [byte for _, byte in silent] == [ord(">"), ord("i"), ord("u")] or sorted(b for _, b in silent) == sorted(
        b">iu"
    )


def test_a_file_cut_anywhere_or_grown_is_refused_with_both_sizes(tmp_path: Path) -> None:
    whole = saved(make((2, 3), "<f4"))
    path = tmp_path / "x.npy"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            open_source(str(path))
    with pytest.raises(InputError, match=r"is truncated: .* 24 bytes .*, 23 are there"):
        open_source(str(path))
    path.write_bytes(whole + b"\0")
    with pytest.raises(InputError, match=r"after the array: .* 24 bytes .*, 25 are there"):
        open_source(str(path))


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}, []], dtype=object))
    with pytest.raises(InputError, match=r"Python objects"):
        open_source(str(tmp_path / "x.npy"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is empty"), (b"PK\x03\x04", "zip"), (b"\x80\x04", "pickle"), (b"hello world", "neither .npy, .npz")],
)
def test_other_files_are_refused_by_their_first_bytes(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem):
        open_source(str(path))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    for name, problem in ((tmp_path / "pipe.npy", "a FIFO"), (tmp_path, "a FIFO"), ("/dev/zero", "a device")):
        with pytest.raises(InputError, match=f"is {problem}"):
            open_source(str(name))
    with pytest.raises(InputError, match=r"No such file"):
        open_source(str(tmp_path / "none.npy"))


def test_a_name_with_colons_is_a_file_if_there_is_one(tmp_path: Path) -> None:
    array = make((3,), "<f4")
    np.save(tmp_path / "a::b.npy", array)
    assert read_all(open_source(str(tmp_path / "a::b.npy"))).tolist() == array.tolist()
    with pytest.raises(InputError, match=r"leave out the ::NAME"):
        open_source(str(tmp_path / "a::b.npy::c"))
    with pytest.raises(InputError, match=r"no name after the ::"):
        open_source(str(tmp_path / "a::b.npy::"))
    with pytest.raises(InputError, match=r"No such file"):
        open_source(str(tmp_path / "none.h5::c"))


def test_a_file_that_changes_shrinks_goes_or_is_replaced_is_noticed(tmp_path: Path) -> None:
    array = make((300,), "<f4")
    path = tmp_path / "x.npy"

    def fresh() -> Source:
        np.save(path, array)
        return open_source(str(path))

    source = fresh()
    os.truncate(path, 200)
    with pytest.raises(ChangedError, match=r"became shorter"):
        read_all(source)
    source = fresh()
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ChangedError, match=r"was changed"):
        source.verify_unchanged()
    source = fresh()
    source.verify_unchanged()
    path.unlink()
    with pytest.raises(ChangedError):
        source.verify_unchanged()


def test_a_file_whose_directory_moved_is_noticed_and_so_is_another_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "here" / "x.npy"
    path.parent.mkdir()
    np.save(path, make((3,), "<f4"))
    source = open_source(str(path))
    path.parent.rename(tmp_path / "there")
    with pytest.raises(ChangedError, match=r"was removed"):
        source.verify_unchanged()
    path.parent.mkdir()
    np.save(path, make((3,), "<f4"))
    with pytest.raises(ChangedError, match=r"was replaced"):
        source.verify_unchanged()
    source.close()
    source.close()


def test_many_threads_read_one_file(tmp_path: Path) -> None:
    array = np.arange(100_000, dtype="<i4")
    np.save(tmp_path / "x.npy", array)
    source = open_source(str(tmp_path / "x.npy"))
    wrong = []

    def work(seed: int) -> None:
        for start in np.random.default_rng(seed).integers(0, 90_000, 50):
            out = np.empty(10_000, "<i4")
            source.read_into(out, int(start))
            if not np.array_equal(out, array[start : start + 10_000]):
                wrong.append(start)

    in_threads(work, 4)
    assert not wrong


def test_a_listing_of_a_npy_is_that_tensor(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", make((3,), "<f4"))
    listing = open_sources(str(tmp_path / "x.npy"))
    assert [source.shape for source in listing] == [(3,)]
    assert listing.skipped == 0


def test_arrays_in_memory_are_sources_too() -> None:
    array = make((4, 5), "<f4")
    for view, order in ((array, "C"), (array.T, "F"), (array[:, ::2], "C"), (array[1], "C")):
        source = ArraySource(view)
        assert source.order == order
        assert np.array_equal(read_all(source), view)
        source.verify_unchanged()
        source.close()
    with pytest.raises(InputError, match=r"complex numbers"):
        ArraySource(array.astype(complex))
    with pytest.raises(InputError, match=r"bfloat16"):
        ArraySource(array.astype("<f2").view("V2"))
    with pytest.raises(InputError, match=r"structured"):
        ArraySource(np.zeros(2, [("a", "i1"), ("b", "i1")]))


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
    st.sampled_from(DTYPES),
    st.sampled_from("CF"),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_a_stream_that_numpy_wrote_comes_back_whole(
    shape: tuple[int, ...], dtype: str, order: str, version: tuple[int, int]
) -> None:
    array = make(shape, dtype, order)
    data = saved(array, version)
    header = parse(data)
    assert (header.shape, header.dtype, data[header.offset :]) == (shape, array.dtype, array.tobytes(order="A"))


HEADER_PIECES = ["'descr': '<f4'", "'descr': '>i2'", "'descr': '|O'", "'fortran_order': False", "'fortran_order': True"]
HEADER_PIECES += ["'shape': (2, 3)", "'shape': (6,)", "'shape': ()", "'shape': (3, 2)", "'shape': 6", "'more': 1"]


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(
    st.lists(st.sampled_from(HEADER_PIECES), max_size=5), st.sampled_from(["{%s}", "{%s, }", "%s", "{%s}\n", " {%s} "])
)
def test_what_is_read_is_read_as_numpy_does(pieces: list[str], around: str) -> None:
    text = around % ", ".join(pieces)
    try:
        header = parse(with_header(text))
    except InputError:
        return
    data = with_header(text, data=bytes(range(header.nbytes)))
    theirs = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    assert (theirs.shape, theirs.dtype, theirs.tobytes(order="A")) == (
        header.shape,
        header.dtype,
        data[header.offset :],
    )


def test_a_stream_that_stays_is_said_to_be_incomplete_after_a_signal(tmp_path: Path) -> None:
    before, part = dict(signals.cleanups), np.zeros(2)

    def left(fd: int) -> list[object]:
        sink = StreamSink((4,), part.dtype, "C", fd)
        sink.write_from(part, 0)
        found = [cleanup() for key, cleanup in signals.cleanups.items() if key not in before]
        sink.write_from(part, 2)
        sink.commit()
        assert signals.cleanups == before
        return found

    with (tmp_path / "y.npy").open("wb") as file:
        assert left(file.fileno()) == ["the rest of <stdout>"]
    reader, writer = os.pipe()  # what is in it goes with its reader
    try:
        assert left(writer) == []
    finally:
        os.close(reader)
        os.close(writer)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.zeros(4))
