"""Outputs: whole or not at all, and never over what must not be lost."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gncli import signals
from gncli.errors import GncliError, OutputError, ParameterError
from gncli.io import Sink, atomic, open_npz, open_sink, open_source, same_file
from tests.files import in_threads
from tests.marks import slow_but

F4 = np.dtype("f4")


def begin(path: Path | str, **options: Any) -> Sink:
    return open_sink(str(path), shape=(4,), dtype=F4, **options)


def write(path: Path | str, value: float = 1.0, **options: Any) -> None:
    sink = begin(path, **options)
    sink.write_from(np.full(4, value, F4), 0)
    sink.commit()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.zeros(4, F4))
    return tmp_path / "x.npy"


def assert_only(directory: Path, *names: str) -> None:
    assert sorted(entry.name for entry in directory.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["y.npy", "y.h5"])
def test_nothing_is_seen_before_commit_or_after_abort(tmp_path: Path, name: str) -> None:
    sink = begin(tmp_path / name)
    assert not (tmp_path / name).exists()
    sink.write_from(np.ones(4, F4), 0)
    sink.abort()
    sink.abort()
    sink.commit()
    assert_only(tmp_path)
    write(tmp_path / name)
    assert_only(tmp_path, name)


def test_what_was_committed_stays(tmp_path: Path) -> None:
    sink = begin(tmp_path / "y.npy")
    sink.commit()
    sink.commit()
    sink.abort()
    assert_only(tmp_path, "y.npy")


def test_an_existing_file_is_replaced_only_by_force(old: Path) -> None:
    with pytest.raises(OutputError, match=r"x.npy: already exists; --force replaces it"):
        begin(old)
    assert np.load(old).sum() == 0
    write(old, force=True)
    assert np.load(old).sum() == 4
    assert_only(old.parent, "x.npy")


def test_an_input_is_never_an_output_but_in_place(old: Path) -> None:
    os.link(old, old.parent / "hard.npy")
    os.symlink(old, old.parent / "soft.npy")
    source, other = open_source(str(old)), open_source(str(old.parent / "hard.npy"))
    for name in ("x.npy", "hard.npy", "soft.npy"):
        with pytest.raises(OutputError, match=r"same file as the input .*--in-place"):
            begin(old.parent / name, force=True, inputs=[source])
    with pytest.raises(OutputError, match=r"is read too"):
        begin(old, in_place=True, inputs=[source, other])
    np.save(old.parent / "gamma.npy", np.ones(4))
    write(old, in_place=True, inputs=[source, open_source(str(old.parent / "gamma.npy"))])
    assert np.load(old).sum() == 4
    assert_only(old.parent, "x.npy", "hard.npy", "soft.npy", "gamma.npy")


def test_a_symlink_is_followed_to_its_target(tmp_path: Path, old: Path) -> None:
    (tmp_path / "sub").mkdir()
    link = tmp_path / "sub" / "link.npy"
    link.symlink_to("../x.npy")
    write(link, force=True)
    assert link.is_symlink()
    assert np.load(old).sum() == 4
    dangling = tmp_path / "sub" / "new.npy"
    dangling.symlink_to("../y.npy")
    write(dangling)
    assert np.load(tmp_path / "y.npy").sum() == 4
    loop = tmp_path / "loop.npy"
    loop.symlink_to("loop.npy")
    with pytest.raises(OutputError):
        begin(loop)


def test_permissions_are_those_of_the_umask_or_of_the_old_file(tmp_path: Path, old: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "y.npy")
        old.chmod(0o664)
        write(old, force=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "y.npy").stat().st_mode) == 0o640
    assert stat.S_IMODE(old.stat().st_mode) == 0o664


def test_what_is_no_file_or_has_no_directory_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "dir.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    os.symlink("/dev/null", tmp_path / "null.npy")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(os.path.relpath(tmp_path / "socket.npy"))
    cases = {
        "dir.npy": "is a directory",
        "pipe.npy": "is a FIFO",
        "null.npy": "is a device",
        "socket.npy": "is a socket",
        "none/y.npy": "No such file or directory",
        "x" * 300 + ".npy": "File name too long",
        "pipe.npy/y.npy": "Not a directory",
    }
    for name, problem in cases.items():
        with pytest.raises(OutputError, match=problem):
            begin(tmp_path / name, force=True)
        if name != "pipe.npy/y.npy":
            with pytest.raises((OutputError, ParameterError)):
                open_npz(
                    f"{tmp_path / name}"[:-3] + "npz" if name == "none/y.npy" else str(tmp_path / name), force=True
                )
    assert_only(tmp_path, "dir.npy", "pipe.npy", "null.npy", "socket.npy")


def test_a_read_only_directory_is_refused_first(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:  # who may write anywhere
            os.seteuid(65534)
        with pytest.raises(OutputError, match=r"Permission denied|No such file"):  # or it cannot even be come to
            begin(tmp_path / "y.npy")
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)
    assert_only(tmp_path)


def test_another_name_of_a_replaced_file_keeps_the_old_content(old: Path) -> None:
    os.link(old, old.parent / "hard.npy")
    write(old, force=True)
    assert np.load(old).sum() == 4
    assert np.load(old.parent / "hard.npy").sum() == 0


@pytest.mark.parametrize("name", ["y.txt", "/dev/null", "y", "y.npz", "y.npy::a", "y.h5x::a", ""])
def test_other_suffixes_are_usage_errors(name: str) -> None:
    with pytest.raises(ParameterError, match=r"choose FILE.npy"):
        begin(name, force=True)


@pytest.mark.parametrize("name", slow_but(["y.npy", "y.h5"], "y.npy"))
@pytest.mark.parametrize(
    "call", ["open", "posix_fallocate", "pwrite", "fsync", "replace", "close"], ids=lambda call: f"failing_{call}"
)
def test_a_call_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: str
) -> None:
    write(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    real = getattr(os, call)

    def fail(*args: Any, **options: Any) -> Any:
        if call == "open" and ".tmp" not in str(args[0]):
            return real(*args, **options)
        if call == "close":
            mine = any(os.path.samestat(os.fstat(args[0]), new.stat()) for new in tmp_path.glob("*.tmp"))
            real(*args)
            if not mine:  # of a trial run of the HDF5 library in a process of its own
                return None
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(GncliError, match=r"No space left"):
            write(tmp_path / name, 2.0, force=True)
    assert (tmp_path / name).read_bytes() == before
    assert_only(tmp_path, name)


def test_short_writes_and_systems_without_fallocate_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, view, offset: real(fd, view[:3], offset))

    def unsupported(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    write(tmp_path / "a.npy")
    monkeypatch.delattr(os, "posix_fallocate")
    write(tmp_path / "b.npy")
    assert np.load(tmp_path / "a.npy").tolist() == np.load(tmp_path / "b.npy").tolist() == [1, 1, 1, 1]


def test_an_error_without_a_number_still_says_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("24 requested and 12 written")

    sink = begin(tmp_path / "y.npy")
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(OutputError, match=r"cannot be written .24 requested and 12 written"):
        sink.write_from(np.ones(4, F4), 0)
    sink.abort()


def test_the_directory_is_synced_where_that_can_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open, real_fsync = os.open, os.fsync

    def no_directory(path: Any, *args: Any, **options: Any) -> int:
        if str(path) == str(tmp_path):
            raise PermissionError(errno.EACCES, "denied")
        return real_open(path, *args, **options)

    def failing(number: int) -> Any:
        def fsync(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(number, os.strerror(number))
            real_fsync(fd)

        return fsync

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_directory)
        write(tmp_path / "a.npy")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EINVAL))
        write(tmp_path / "b.npy")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(OutputError):
            write(tmp_path / "c.npy")
    assert_only(tmp_path, "a.npy", "b.npy", "c.npy")


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    sink = begin(tmp_path / "y.npy")
    (tmp_path / "y.npy").write_bytes(b"mine")
    with pytest.raises(OutputError) as caught:
        sink.commit()
    assert str(caught.value) == f"{tmp_path / 'y.npy'}: was created by someone else meanwhile"
    assert (tmp_path / "y.npy").read_bytes() == b"mine"
    assert_only(tmp_path, "y.npy")


def test_threads_write_one_file(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random(100_000, np.float32)
    sink = open_sink(str(tmp_path / "y.npy"), shape=(100_000,), dtype=F4)

    def work(part: int) -> None:
        for start in range(part * 500, 100_000, 2_000):
            sink.write_from(array[start : start + 500], start)

    in_threads(work, 4)
    sink.commit()
    assert np.array_equal(np.load(tmp_path / "y.npy"), array)


def test_moments_are_saved_whole_or_not_at_all(tmp_path: Path, old: Path) -> None:
    arrays = {"mean": np.arange(6.0).reshape(2, 3), "file": np.ones(2)}
    with open_npz(str(tmp_path / "m.npz")) as sink:
        sink.write({"mean": arrays["mean"]})
        sink.commit()
    with np.load(tmp_path / "m.npz") as found:
        assert np.array_equal(found["mean"], arrays["mean"])
    with pytest.raises(OutputError, match=r"already exists"):
        open_npz(str(tmp_path / "m.npz"))
    with pytest.raises(ParameterError, match=r"choose FILE.npz"):
        open_npz(str(tmp_path / "m.npy"))
    with open_npz(str(tmp_path / "m.npz"), force=True) as sink:
        sink.write({"var": np.ones(2)})
    with np.load(tmp_path / "m.npz") as found:
        assert list(found) == ["mean"]
    sink = open_npz(str(tmp_path / "m.npz"), force=True)
    sink.write({"var": np.ones(2)})
    sink.commit()
    with np.load(tmp_path / "m.npz") as found:
        assert list(found) == ["var"]
    assert_only(tmp_path, "m.npz", "x.npy")


def test_two_names_of_one_file_are_told(tmp_path: Path, old: Path) -> None:
    os.link(old, tmp_path / "hard.npy")
    os.symlink("new.npy", tmp_path / "soft.npy")
    assert same_file(str(old), str(tmp_path / "hard.npy"))
    assert same_file(str(tmp_path / "new.npy"), str(tmp_path / "soft.npy"))
    assert not same_file(str(old), str(tmp_path / "new.npy"))


def test_a_failure_while_beginning_removes_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.AtomicFile, "allocate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path / "y.npy")
    assert_only(tmp_path)


def test_what_a_signal_removes_is_named_unless_it_is_there(tmp_path: Path) -> None:
    for committed in (False, True):
        sink = begin(tmp_path / "y.npy")
        (remove,) = signals.cleanups.values()
        if committed:
            (left,) = tmp_path.iterdir()
            left.rename(tmp_path / "y.npy")
            with pytest.raises(FileNotFoundError):
                remove()
        else:
            assert remove() == str(tmp_path / "y.npy")
            assert_only(tmp_path)
        sink.abort()


def test_a_target_that_cannot_be_looked_at_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Any, *_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", denied)
        with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\)"):
            begin(tmp_path / "y.npy")


def test_a_file_without_a_name_has_none_where_the_system_must_give_it_one_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    before = dict(signals.cleanups)
    fd = atomic.unnamed_file(str(tmp_path))
    try:
        assert os.write(fd, b"data") == 4
        assert (os.fstat(fd).st_nlink, os.listdir(tmp_path), signals.cleanups) == (0, [], before)
    finally:
        os.close(fd)
    with pytest.raises(FileNotFoundError):
        atomic.unnamed_file(str(tmp_path / "none"))
    assert signals.cleanups == before


def test_no_folder_is_missed_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "open", refused)  # as in /proc
    with pytest.raises(OutputError, match=r"y\.npy: cannot be written \(No such file or directory\)$"):
        atomic.AtomicFile("y.npy", name="y.npy")


def test_a_link_into_a_folder_that_is_gone_names_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("y.npy").symlink_to(tmp_path / "gone" / "y.npy")
    with pytest.raises(
        OutputError, match=r"y\.npy: cannot be written \(No such file or directory\); there is no folder /.*/gone$"
    ):
        atomic.AtomicFile("y.npy", name="y.npy")
    assert list(tmp_path.iterdir()) == [tmp_path / "y.npy"]
