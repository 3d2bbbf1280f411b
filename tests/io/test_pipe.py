"""Pipes and drawn tensors: read forwards, and what was held is read again."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from gncli import signals
from gncli.descriptors import write_fully
from gncli.errors import InputError, LimitError, OutputError, ParameterError
from gncli.io import RandomSource, atomic, open_sink, open_source, open_sources
from gncli.io.formats.npy import StreamSource
from gncli.io.pipe import interruptible_read
from tests.files import make, read_all, saved


@contextmanager
def pipe_of(data: bytes) -> Iterator[int]:
    """Give the readable end of a pipe through which `data` come."""
    readable, writable = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError):
            for start in range(0, len(data), 1000):
                write_fully(writable, memoryview(data[start : start + 1000]))
        os.close(writable)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield readable
    finally:
        os.close(readable)
        thread.join()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_pipe_gives_what_a_file_gives(order: str) -> None:
    array = make((40, 50), ">i2", order)
    with pipe_of(saved(array)) as fd:
        source = open_source("-", stdin=fd)
        assert (source.name, source.sequential, source.identity) == ("<stdin>", True, None)
        got = read_all(source, 777)
        source.verify_unchanged()
        source.close()
    assert np.array_equal(got, array)


def test_a_pipe_cut_anywhere_is_refused() -> None:
    whole = saved(make((2, 3), "<f4"))
    for length in range(len(whole)):
        with pipe_of(whole[:length]) as fd, pytest.raises(InputError, match=r"^<stdin>: ") as caught:
            read_all(open_source("-", stdin=fd))
    assert "24 bytes" in str(caught.value)
    assert "20 are there" in str(caught.value) or "23 are there" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "problem"), [(b"", r"is empty \(0 bytes\)"), (b"hello", "neither"), (b"\x80\x04.", "pickle")]
)
def test_a_pipe_of_something_else_is_refused(data: bytes, problem: str) -> None:
    with pipe_of(data) as fd, pytest.raises(InputError, match=problem):
        open_sources("-", stdin=fd)


def test_a_closed_stdin_cannot_be_read() -> None:
    readable, writable = os.pipe()
    os.close(readable)
    os.close(writable)
    with pytest.raises(InputError, match=r"cannot be read"):
        open_source("-", stdin=readable)


def test_concatenated_arrays_come_one_after_the_other_read_or_not() -> None:
    arrays = [make((500,), "<f4"), make((3, 4), "|u1", "F"), make((0,), "<f8"), make((), "<i8")]
    with pipe_of(b"".join(map(saved, arrays))) as fd:
        listing = open_sources("-", stdin=fd)
        names = []
        for number, source in enumerate(listing):
            names.append(source.name)
            if number != 1:
                assert np.array_equal(read_all(source), arrays[number])
            else:
                source.read_into(np.empty(2, "u1"), 0)
            source.verify_unchanged()
            source.close()
    assert names == ["<stdin>", "<stdin>[1]", "<stdin>[2]", "<stdin>[3]"]
    assert listing.skipped == 0


def test_what_follows_the_one_array_is_refused_once_it_was_read() -> None:
    with pipe_of(saved(make((6,), "<f4")) + b"x") as fd:
        source = open_source("-", stdin=fd)
        source.verify_unchanged()
        read_all(source)
        with pytest.raises(InputError, match=r"bytes after the array, .* 24 bytes"):
            source.verify_unchanged()


def test_garbage_after_the_first_array_ends_the_listing_with_an_error() -> None:
    with pipe_of(saved(make((6,), "<f4")) + b"garbage garbage") as fd:
        listing = open_sources("-", stdin=fd)
        read_all(next(listing))
        with pytest.raises(InputError, match=r"<stdin>\[1\]: is not a .npy"):
            next(listing)
        assert list(listing) == []


def test_a_held_span_of_a_pipe_is_read_again_one_span_at_a_time() -> None:
    array = np.arange(10_000, dtype="<i4")
    out = np.empty(300, "<i4")
    with pipe_of(saved(array)) as fd:
        source = open_source("-", stdin=fd)
        for first in range(0, 9_000, 3_000):
            source.hold(first, first + 3_000)
            for _ in range(2):
                for start in range(first, first + 3_000, 300):
                    source.read_into(out, start)
                    assert np.array_equal(out, array[start : start + 300])
        straddling = np.empty(500, "<i4")
        source.read_into(straddling, 8_800)
        assert np.array_equal(straddling, array[8_800:9_300])
        with pytest.raises(ValueError, match=r"not held"):
            source.read_into(out, 100)
        with pytest.raises(ValueError, match=r"before it was held"):
            source.hold(9_000, 9_500)
        source.close()
        source.close()


def test_a_span_is_held_whatever_the_reads_were_cut_into() -> None:
    array = np.arange(1_000, dtype="<i2")
    with pipe_of(saved(array)) as fd:
        source = open_source("-", stdin=fd)
        source.hold(100, 200)
        out = np.empty(900, "<i2")
        source.read_into(out, 50)
        again = np.empty(100, "<i2")
        source.read_into(again, 100)
        assert np.array_equal(again, array[100:200])
        assert np.array_equal(out, array[50:950])
        source.close()


def test_no_room_for_a_held_span_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(directory: str) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(atomic, "unnamed_file", refuse)
    with pipe_of(saved(make((6,), "<f4"))) as fd:
        source = open_source("-", stdin=fd)
        with pytest.raises(LimitError, match=r"TMPDIR"):
            source.hold(0, 6)


@pytest.mark.slow
def test_hdf5_on_a_pipe_is_spooled(tmp_path: Any) -> None:
    array = make((300, 40), "<f4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = array
        file.create_dataset("b", data=array, chunks=(7, 9), compression="gzip")
        file["text"] = "words"
    data = (tmp_path / "x.h5").read_bytes()
    with pipe_of(data) as fd:
        listing = open_sources("-", stdin=fd)
        assert listing.skipped == 1
        for name, source in zip("ab", listing, strict=True):
            assert source.name == f"<stdin>::/{name}"
            assert np.array_equal(read_all(source, 5_000), array)
            source.verify_unchanged()
    with pipe_of(data) as fd, pytest.raises(InputError, match=r"<stdin>: holds 2 tensors: /a, /b"):
        open_source("-", stdin=fd)


def test_a_signal_ends_a_read_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    readable, writable = os.pipe()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    old = signal.signal(signal.SIGUSR1, stop)
    old_fd = signal.set_wakeup_fd(wake_write)
    monkeypatch.setattr(signals, "wakeup_fd", lambda: wake_read)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Stop):
            open_source("-", stdin=readable)
    finally:
        timer.join()
        signal.set_wakeup_fd(old_fd)
        signal.signal(signal.SIGUSR1, old)
        for fd in (readable, writable, wake_read, wake_write):
            os.close(fd)


def test_a_wake_up_without_a_signal_only_goes_on_waiting() -> None:
    readable, writable = os.pipe()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.write(wake_write, b"x")
    timer = threading.Timer(0.05, os.write, (writable, b"data"))
    timer.start()
    buffer = bytearray(10)
    assert interruptible_read(readable, memoryview(buffer), wake_read) == 4
    timer.join()
    for fd in (readable, writable, wake_read, wake_write):
        os.close(fd)


@pytest.mark.parametrize("shape", [(40, 50), (), (0, 3)])
def test_a_stream_on_stdout_is_what_numpy_would_save(tmp_path: Any, shape: tuple[int, ...]) -> None:
    array = make(shape, "<f4")
    with open(tmp_path / "out", "wb") as file:
        sink = open_sink("-", shape=shape, dtype=array.dtype, stdout=file.fileno())
        assert os.fstat(file.fileno()).st_size == 0
        flat = array.reshape(-1)
        for start in range(0, flat.size, 300):
            sink.write_from(flat[start : start + 300], start)
        sink.commit()
        sink.abort()
        if flat.size:
            with pytest.raises(ValueError, match=r"cannot follow"):
                sink.write_from(flat, 0)
    assert (tmp_path / "out").read_bytes() == saved(array)


def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    array = make((800_000,), "<f4")
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    got: list[bytes] = []

    def drain() -> None:
        while data := os.read(readable, 50_000):
            got.append(data)

    thread = threading.Thread(target=drain)
    thread.start()
    sink = open_sink("-", shape=array.shape, dtype=array.dtype, stdout=writable)
    sink.write_from(array, 0)
    sink.commit()
    os.close(writable)
    thread.join()
    os.close(readable)
    assert b"".join(got) == saved(array)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="only Linux lets a pipe be widened")
def test_pipes_are_widened_on_both_sides() -> None:
    array = make((10,), "<f4")
    for open_one in (
        lambda _, fd: open_source("-", stdin=fd),
        lambda fd, _: open_sink("-", shape=(10,), dtype=array.dtype, stdout=fd),
    ):
        readable, writable = os.pipe()
        os.write(writable, saved(array))
        before = fcntl.fcntl(readable, fcntl.F_GETPIPE_SZ)
        open_one(writable, readable)
        assert (before, fcntl.fcntl(readable, fcntl.F_GETPIPE_SZ)) == (1 << 16, 1 << 20)
        os.close(readable)
        os.close(writable)


def test_a_reader_that_went_away_and_a_full_device_are_told_apart() -> None:
    array = make((10,), "<f4")
    readable, writable = os.pipe()
    os.close(readable)
    with pytest.raises(BrokenPipeError):
        open_sink("-", shape=(10,), dtype=array.dtype, stdout=writable).write_from(array, 0)
    os.close(writable)
    with open("/dev/full", "wb", buffering=0) as full:
        sink = open_sink("-", shape=(10,), dtype=array.dtype, stdout=full.fileno())
        with pytest.raises(OutputError, match=r"<stdout>: cannot be written .*No space"):
            sink.write_from(array, 0)


def test_a_file_on_stdout_for_which_the_disk_has_no_room_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    shape = (1 << 50,)
    with (tmp_path / "y.npy").open("wb", buffering=0) as file:
        sink = open_sink("-", shape=shape, dtype=np.dtype("f4"), stdout=file.fileno())
        with pytest.raises(OutputError, match=r"<stdout>: cannot be written .*No space"):
            sink.write_from(make((10,), "<f4"), 0)
        assert file.tell() == 0


def test_binary_data_never_go_to_a_terminal() -> None:
    leader, follower = os.openpty()
    with pytest.raises(ParameterError, match=r"<stdout>: is a terminal"):
        open_sink("-", shape=(1,), dtype=np.dtype("f4"), stdout=follower)
    os.close(leader)
    os.close(follower)


def as_numpy_draws(dist: str, seed: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    fill: Any = rng.random if dist == "uniform" else rng.standard_normal
    whole: NDArray[Any] = np.asarray(fill(shape, dtype=np.float64 if dtype == "float64" else np.float32)).astype(dtype)
    return whole


@pytest.mark.parametrize("dist", ["uniform", "normal"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_drawn_tensor_is_numpys_bit_for_bit_in_any_pieces(dist: Any, dtype: str) -> None:
    expected = as_numpy_draws(dist, 7, dtype, (37, 2_001))
    for piece in (997, 40_000, 100_000):
        got = read_all(RandomSource((37, 2_001), dist, 7, dtype), piece)
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dist", ["uniform", "normal"])
def test_a_held_span_is_drawn_again(dist: Any, dtype: str) -> None:
    expected = as_numpy_draws(dist, 3, dtype, (9_999,))
    source = RandomSource((9_999,), dist, 3, dtype)
    out = np.empty(333, dtype)
    for first in range(0, 9_999, 3_333):
        source.hold(first, first + 3_333)
        for start in [*range(first, first + 3_333, 333)[:-1]] * 2 + [first + 111]:
            source.read_into(out, start)
            assert out.tobytes() == expected[start : start + 333].tobytes()
    straddling = np.empty(400, dtype)
    source.read_into(straddling, 9_500)
    assert straddling.tobytes() == expected[9_500:9_900].tobytes()
    with pytest.raises(ValueError, match=r"not held"):
        source.read_into(out, 0)
    with pytest.raises(ValueError, match=r"before it was held"):
        source.hold(0, 10)
    source.verify_unchanged()
    source.close()


def test_a_seed_is_chosen_and_told_where_none_is_given() -> None:
    source = RandomSource((64, 16))
    assert source.name == "random 64x16"
    assert np.array_equal(read_all(source), as_numpy_draws("uniform", source.seed, "float64", (64, 16)))
    assert RandomSource((), seed=1).name == "random"
    with pytest.raises(ParameterError, match=r"int32 cannot be drawn"):
        RandomSource((3,), dtype="int32")
    with pytest.raises(ParameterError, match=r"negative"):
        RandomSource((3,), seed=-1)


def test_a_tensor_larger_than_memory_can_be_begun() -> None:
    out = np.empty(3)
    RandomSource((1 << 20, 1 << 30), "uniform", 0).read_into(out, 0)
    assert np.array_equal(out, np.random.default_rng(0).random(3))


def test_the_rest_of_an_array_is_skipped_only_when_asked() -> None:
    with pipe_of(saved(make((10,), "<f4"))) as fd:
        source = open_source("-", stdin=fd)
        assert isinstance(source, StreamSource)
        source.finish()
        source.finish()
        source.verify_unchanged()


def test_a_spool_that_is_full_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with pipe_of(saved(make((6,), "<f4"))) as fd:
        source = open_source("-", stdin=fd)
        source.hold(0, 6)
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(LimitError, match=r"cannot be kept in .* \(No space left"):
            read_all(source)
        monkeypatch.undo()
        source.close()


def test_reading_what_was_let_go_is_a_bug_that_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    with pipe_of(saved(make((600,), "<f4"))) as fd:
        source = open_source("-", stdin=fd)
        source.hold(0, 600)
        out = np.empty(300, "<f4")
        source.read_into(out, 0)
        monkeypatch.setattr("gncli.io.formats.npy.read_fully", lambda *_: 0)
        with pytest.raises(ValueError, match=r"let go"):
            source.read_into(out, 0)
        source.close()


def test_a_pipe_that_is_full_is_waited_for() -> None:
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += os.write(writable, bytes(4096))
    reader = threading.Timer(0.1, os.read, (readable, filled))
    reader.start()
    write_fully(writable, memoryview(b"the rest"))
    reader.join()
    assert os.read(readable, 100) == b"the rest"
    os.close(readable)
    os.close(writable)
