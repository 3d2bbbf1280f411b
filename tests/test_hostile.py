"""Damaged and hostile files, whole command lines over them: one line and a status of the contract, or the array."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gncli.errors import InputError
from gncli.io import hdf5, open_source
from gncli.io.npy import size_error
from gncli.io.probe import serve
from gncli.policy import Policy
from tests.faults import Do, Run, piped, runner
from tests.test_faults import COMPILER
from tests.test_io_npy import GOOD, make, parse, read_all, saved, with_header

pytestmark = pytest.mark.slow

FOUND = Path(__file__).parent / "fuzz" / "found"


@pytest.fixture(scope="module")
def do() -> Iterator[Do]:
    with runner() as do:
        yield do


# The table of inputs: what is made, the status, what is said, and whether a pipe says it too.

Make = Callable[[Path], Any]


def npy(old: str, new: str, data: bytes = bytes(24)) -> Make:
    assert old in GOOD
    return lambda path: path.write_bytes(with_header(GOOD.replace(old, new), data=data))


def h5(build: Callable[[Any], Any], **options: Any) -> Make:
    def write(path: Path) -> None:
        with h5py.File(path, "w", **options) as file:
            build(file)

    return write


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(".", "a", (4,))
    file.create_virtual_dataset("a", layout)


def patched(build: Callable[[Any], Any], old: bytes, new: bytes) -> Make:
    """Return how to make a file with the bytes `old`, which must be in it, made `new`."""

    def write(path: Path) -> None:
        h5(build)(path)
        data = path.read_bytes()
        assert data.count(old) == 1, data.count(old)
        path.write_bytes(data.replace(old, new))

    return write


def deflated(file: Any) -> None:
    file.create_dataset("a", data=np.arange(8.0), chunks=(4,), compression="gzip", compression_opts=7)


def external(file: Any) -> None:
    file.create_dataset("a", (1,), "f8", external=[("/etc/hostname", 0, 8)])


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(os.path.relpath(path))


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", with_header(GOOD) + bytes(1 << 20))


FILTER = b"\x01\x00\x08\x00\x01\x00\x01\x00deflate\x00"  # id, length of the name, flags, number of values, the name

INPUTS: dict[str, tuple[Make, int, str, bool]] = {
    "objects": (npy("'<f4'", "'|O'"), 3, "Python objects", True),
    "a structure": (npy("'<f4'", "[('a', '<f4')]"), 3, "records", True),
    "raw bytes": (npy("'<f4'", "'|V4'"), 3, "raw or structured records", True),
    "bfloat16": (npy("'<f4'", "'|V2'"), 3, "bfloat16 saved as raw bytes?", True),
    "strings": (npy("'<f4'", "'<U1'"), 3, "strings, not numbers", True),
    "no bytes": (npy("'<f4'", "'|S0'"), 3, "byte strings", True),
    "dates": (npy("'<f4'", "'<M8[s]'"), 3, "dates, not numbers (dtype <M8[s]); save them as integers", True),
    "complex": (npy("'<f4'", "'<c8'"), 3, "save .real and .imag, or abs(), instead", True),
    "a negative dimension": (npy("(2, 3)", "(-2, 3)"), 3, "no tuple of sizes", True),
    "a boolean dimension": (npy("(2, 3)", "(True, 3)"), 3, "no tuple of sizes", True),
    "dimensions that overflow": (npy("(2, 3)", "(4294967296, 4294967296)"), 3, "no machine can hold", True),
    "a header of 4 GiB": (lambda p: p.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), 3, "4,294,967,295", True),
    "a key twice": (npy("(2, 3), }", "(2, 3), 'shape': (3, 2), }"), 3, "not as NumPy writes it", True),
    "too few data": (npy("(2, 3)", "(2, 3)", bytes(23)), 3, "declares 24 bytes of data (float32 (2, 3)), 23", True),
    "too many data": (npy("(2, 3)", "(2, 3)", bytes(25)), 3, "24 bytes of data", False),
    "a FIFO": (os.mkfifo, 3, "is a FIFO; to read a pipe, give - and redirect it", False),
    "a directory": (Path.mkdir, 3, "is a directory", False),
    "a socket": (listening, 3, "No such device or address", False),
    "a device": (lambda path: path.symlink_to("/dev/zero"), 3, "is a device", False),
    "an .npz": (bomb, 3, "zip", True),
    "a pickle": (lambda path: path.write_bytes(b"\x80\x04\x95"), 3, "pickle, which would run code", True),
    "nothing": (lambda path: path.write_bytes(b""), 3, "is empty", True),
    "sparse HDF5": (
        h5(lambda f: f.create_dataset("a", (1 << 33,), "u1", chunks=(1 << 20,))),
        5,
        "--allow-sparse",
        True,
    ),
    "a huge chunk": (h5(lambda f: f.create_dataset("a", (9 << 23,), "u1", chunks=(9 << 23,))), 5, "--max-chunk", True),
    "external storage": (h5(external), 3, "keeps its data in other files", True),
    "a virtual dataset of itself": (h5(virtual), 3, "is a virtual dataset", True),
    "an unknown filter": (patched(deflated, FILTER, b"\xff\x7f" + FILTER[2:]), 3, "filter 32767, which is not", True),
    "a filter of a package": (patched(deflated, FILTER, b"\x0f\x7d" + FILTER[2:]), 3, "32015 (Zstandard)", True),
    "a file that crashes libhdf5": (
        lambda p: p.write_bytes((FOUND / "scaleoffset.h5").read_bytes()),
        3,
        "SIGSEGV",
        True,
    ),
}


@pytest.mark.parametrize("what", INPUTS)
def test_what_is_refused_is_refused_in_one_line(
    what: str, do: Do, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, status, said, piped = INPUTS[what]
    monkeypatch.chdir(tmp_path)
    build(Path("x"))
    for run in [Run(["stats", "x"], str(tmp_path))] + [Run(["stats", "-"], str(tmp_path), stdin="x")] * piped:
        end = do(run)
        assert (end.status, said in end.err, end.err.count("\n")) == (status, True, 1 if status else 0), end
        assert "Traceback" not in end.err
        if status and what != "a file that crashes libhdf5":  # whose other datasets are fine
            assert end.out == ""
            assert end.err.startswith(f"gncli: error: {'<stdin>' if run.stdin else 'x'}: ")


LINKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "external": (lambda f: f.update({"a": h5py.ExternalLink("other.h5", "/a")}), "is an external link"),
    "through one": (
        lambda f: f.update({"b": h5py.ExternalLink("other.h5", "/"), "a": h5py.SoftLink("/b/a")}),
        "is an external link",
    ),
    "dangling": (lambda f: f.update({"a": h5py.SoftLink("/nowhere")}), "no such dataset"),
    "cyclic": (lambda f: f.update({"a": h5py.SoftLink("/b"), "b": h5py.SoftLink("/a")}), "goes through more than 40"),
}


@pytest.mark.parametrize("what", LINKS)
def test_a_link_that_leads_out_or_nowhere_is_refused_by_each_component(what: str, do: Do, tmp_path: Path) -> None:
    build, said = LINKS[what]
    h5(lambda file: file.update({"a": [1.0]}))(tmp_path / "other.h5")
    h5(build)(tmp_path / "x.h5")
    end = do(Run(["stats", "x.h5::a"], str(tmp_path)))
    assert (end.status, end.out, end.err.startswith(f"gncli: error: x.h5::a: {said}")) == (3, "", True), end
    assert end.err.count("\n") == 1


def test_the_options_that_lift_a_limit_lift_it(do: Do, tmp_path: Path) -> None:
    h5(lambda f: f.create_dataset("a", (5 << 30,), "u1", chunks=(32 << 20,)))(tmp_path / "sparse.h5")
    h5(lambda f: f.create_dataset("a", (66 << 20,), "u1", chunks=(66 << 20,)))(tmp_path / "chunk.h5")
    for arguments in (["sparse.h5", "--allow-sparse", "-s", "size"], ["chunk.h5", "--max-chunk", "66M"]):
        assert do(Run(["stats", *arguments], str(tmp_path))).status == 0
        assert do(Run(["stats", arguments[0]], str(tmp_path))).status == 5
        assert do(Run(["normalize", arguments[0], "--layout", "C"], str(tmp_path))).status == 5


@pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a plugin with")
def test_a_plugin_is_code_and_not_loaded_unless_asked_for(tmp_path: Path) -> None:
    assert COMPILER is not None
    (tmp_path / "plugins").mkdir()
    ran = tmp_path / "ran"
    source = (
        f'#include <stdio.h>\n__attribute__((constructor)) static void run(void) {{ fclose(fopen("{ran}", "w")); }}'
    )
    (tmp_path / "plugin.c").write_text(source)
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-o", tmp_path / "plugins" / "libplugin.so", tmp_path / "plugin.c"], check=True
    )
    INPUTS["a filter of a package"][0](tmp_path / "x.h5")
    for more, loaded in (([], False), (["--allow-plugins"], True)):
        done = subprocess.run(
            [sys.executable, "-m", "gncli", "stats", str(tmp_path / "x.h5"), *more],
            env=os.environ | {"HDF5_PLUGIN_PATH": str(tmp_path / "plugins"), "HDF5_PLUGIN_PRELOAD": "/"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 3, done
        assert b"32015 (Zstandard)" in done.stderr, done
        assert ran.exists() == loaded, more


# A crash and a hang, made on purpose: what a rehearsal does, the process in whose stead it did it survives.


@pytest.mark.parametrize("way", ["forked", "spawned"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "libhdf5 crashes on it (SIGSEGV in a trial run)"),
        ("import os; os.abort()", "libhdf5 crashes on it (SIGABRT in a trial run)"),
        ("while True: pass", "libhdf5 does not come back from it (SIGPROF in a trial run)"),
        ("import sys; sys.modules['os']._exit(0)", "libhdf5 crashes on it (SIGKILL in a trial run)"),
    ],
)
def test_a_crash_or_a_hang_ends_another_process(
    code: str, said: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Saboteur(hdf5.Hdf5Rehearsal):
        def __call__(self, request: str) -> None:
            if request.startswith("read"):
                exec(code)

        def __repr__(self) -> str:  # what a Python of its own is given
            return f"type('S', (), {{'__call__': lambda s, r: r.startswith('read') and exec({code!r})}})()"

    monkeypatch.setattr(hdf5, "Hdf5Rehearsal", Saboteur)
    monkeypatch.setattr("gncli.io.probe.CPU_SECONDS", 0.2)
    Saboteur.__module__ = "gncli.io.probe"
    if way == "spawned":
        monkeypatch.setattr("sys.platform", "darwin")
        if "while" in code:
            pytest.skip("five seconds")
    h5(lambda file: file.update({"a": [1.0]}))(tmp_path / "x.h5")
    with pytest.raises(InputError) as caught:
        open_source(str(tmp_path / "x.h5"))
    assert said in str(caught.value)


def test_the_other_process_reads_what_this_one_will(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    h5(lambda file: file.create_dataset("g/a", data=np.arange(40), chunks=(4,), scaleoffset=0))(path)
    fd = os.open(path, os.O_RDONLY)
    rehearsal = hdf5.Hdf5Rehearsal(fd, str(path), "x.h5", Policy())
    for request in ("open", "list", "read g/a"):
        rehearsal(request)
    with pytest.raises(InputError, match=r"no such dataset"):
        rehearsal("read b")
    assert rehearsal._container is not None
    rehearsal._container.close()
    os.close(fd)


REBEGUN = """
import os, signal
from gncli.io.probe import Probe

class Sometimes:
    fd = 0

    def __call__(self, request):
        if request == "die":
            os.kill(os.getpid(), signal.SIGBUS)
        raise ValueError("which is no reason to die")

probe = Probe(Sometimes())
print(*(int(probe.ask(request)) for request in ("live", "die", "live", "die")), int(probe.close()))
"""


def test_a_probe_that_died_is_begun_again() -> None:
    # In a process of its own, since one that has other threads would not fork.
    done = subprocess.run([sys.executable, "-c", REBEGUN], capture_output=True, text=True, timeout=60, check=False)
    bus = int(signal.SIGBUS)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"0 {bus} 0 {bus} 0\n", "")


def test_the_other_process_answers_each_request_and_leaves_signals_to_its_parent() -> None:
    asked = []

    class Failing:
        fd = 0

        def __call__(self, request: str) -> None:
            asked.append((request, signal.getsignal(signal.SIGINT), signal.getitimer(signal.ITIMER_PROF)[0] > 0))
            raise ValueError("which is no reason to die")

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPROF)
    before = {signum: signal.getsignal(signum) for signum in wanted}
    core = resource.getrlimit(resource.RLIMIT_CORE)
    ours, theirs = socket.socketpair()
    try:
        ours.sendall(b'"open"\n"read \\udcff"\n')
        ours.shutdown(socket.SHUT_WR)
        serve(Failing(), theirs)
        assert ours.recv(10) == b".."
    finally:
        ours.close()
        resource.setrlimit(resource.RLIMIT_CORE, core)
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert asked == [("open", signal.SIG_IGN, True), ("read \udcff", signal.SIG_IGN, True)]
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0


# Changes and cuts, byte by byte.

HEADERS = {
    "version 1": saved(make((2, 3), "<f4")),
    "version 2": saved(make((2, 3), "<f8"), (2, 0)),
    "version 3": saved(make((4, 1, 5), ">i2"), (3, 0)),
    "Fortran": saved(make((3, 4), "<f4", "F")),
    "0-d": saved(make((), "<f8")),
    "empty": saved(make((0,), "<i4")),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_changed_byte_in_a_header_is_refused_or_harmless_but_for_three(what: str) -> None:
    whole = HEADERS[what]
    good = parse(whole)
    silent = []
    for place in range(good.offset):
        for byte in set(range(256)) - {whole[place]}:
            changed = whole[:place] + bytes([byte]) + whole[place + 1 :]
            try:
                header = parse(changed)
                if header.offset + header.nbytes != len(whole):
                    raise size_error(header, len(whole) - header.offset, "x.npy")
            except InputError:
                continue
            if header != good or header.dtype.str != good.dtype.str:
                silent.append((place, chr(byte)))
    # The type, in the same number of bytes; where there are no data, in any number of them.
    assert len(silent) <= (3 if good.nbytes else 6), silent
    assert all(whole[: good.offset].index(b"descr") < place < good.offset for place, _ in silent)


def flipped_files(directory: Path) -> dict[str, Path]:
    """Return two small HDF5 files, in the old format and in the new one, with a bit of everything."""

    def build(file: Any) -> None:
        file.create_dataset("a", data=np.arange(60.0), chunks=(30,), compression="gzip", shuffle=True)
        file.create_dataset("b", data=np.arange(60), chunks=(30,), scaleoffset=0)
        file["c"] = np.arange(5, dtype="i2")

    paths = {"earliest": directory / "old.h5", "v110": directory / "new.h5"}
    for libver, path in paths.items():
        h5(build, libver=(libver, "v110"))(path)
    return paths


@pytest.mark.parametrize("libver", ["earliest", "v110"])
@pytest.mark.parametrize("step", [16, pytest.param(1, marks=pytest.mark.soak)])
def test_a_changed_byte_in_hdf5_is_never_a_crash_or_a_hang(libver: str, step: int, do: Do, tmp_path: Path) -> None:
    whole = flipped_files(tmp_path)[libver].read_bytes()
    draw = random.Random(0)
    for place in range(0, len(whole), step):
        changed = bytearray(whole)
        changed[place] ^= draw.randrange(1, 256)
        (tmp_path / "x.h5").write_bytes(changed)
        end = do(Run(["stats", "x.h5", "--workers", "1", "--format", "value"], str(tmp_path), quick=True))
        assert end.status in (0, 3, 5), (place, changed[place], end)
        assert "Traceback" not in end.err, (place, changed[place], end)


@pytest.mark.parametrize("what", [*HEADERS, "earliest", "v110"])
def test_a_file_cut_anywhere_is_refused_and_so_is_a_pipe(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = HEADERS[what] if what in HEADERS else flipped_files(tmp_path)[what].read_bytes()
    path = tmp_path / "x"
    path.write_bytes(whole)
    # All of them in one process: forked for each, they would take minutes.
    monkeypatch.setattr("gncli.io.hdf5.Probe", lambda _: types.SimpleNamespace(ask=lambda _: 0, close=lambda: 0))
    name = f"{path}::c" if what not in HEADERS else str(path)
    assert read_all(open_source(name)) is not None

    def attempt() -> int:
        for length in range(len(whole) - 1, -1, -1):
            os.truncate(path, length)
            with pytest.raises(InputError):
                read_all(open_source(name))
            reader = piped(whole[:length])
            with pytest.raises(InputError):
                read_all(open_source("-", stdin=reader))
            os.close(reader)
        return 0

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = attempt()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
