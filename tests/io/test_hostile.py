"""Damaged and hostile files, whole command lines over them: one line and a status of the contract, or the array."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from gncli.errors import ChangedError, InputError, LimitError
from gncli.inputs import Policy
from gncli.io import open_source
from gncli.io.formats.hdf5 import guard, names_in
from gncli.io.formats.hdf5.rehearsal import EXTRA_NBYTES, Child, Died, _Process, serve
from gncli.io.formats.npy import size_error
from tests.archives import Packed, zipped
from tests.damaged import NPZ_FILES, SAFETENSORS_FILES
from tests.faults import COMPILER, Do, Run, piped, runner
from tests.files import GOOD, make, parse, read_all, saved, with_header

pytestmark = pytest.mark.slow

FOUND = Path(__file__).parents[1] / "fuzz" / "found"


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


def padded(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", with_header(GOOD) + bytes(1 << 20))


def archive(what: str) -> Make:
    return lambda path: path.write_bytes(NPZ_FILES[what][0])


def header(what: str) -> Make:
    return lambda path: path.write_bytes(SAFETENSORS_FILES[what][0])


def index(**shard_of: object) -> Make:
    return lambda path: path.write_text(json.dumps({"weight_map": shard_of}))


def linked(path: Path) -> None:
    index(a="s")(path)
    Path("s").symlink_to("/etc/hostname")


FILTER = b"\x01\x00\x08\x00\x01\x00\x01\x00deflate\x00"  # id, length of the name, flags, number of values, the name

INPUTS: dict[str, tuple[Make, int, str, bool]] = {
    "objects": (npy("'<f4'", "'|O'"), 3, "Python objects", True),
    "a structure": (npy("'<f4'", "[('a', '<f4')]"), 3, "records", True),
    "raw bytes": (npy("'<f4'", "'|V4'"), 3, "raw or structured records", True),
    "bfloat16": (npy("'<f4'", "'|V2'"), 3, "if they are bfloat16, say --as-dtype bfloat16", True),
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
    "an empty folder": (Path.mkdir, 3, "holds no numeric tensor (0 others)", False),
    "a socket": (listening, 3, "No such device or address", False),
    "a device": (lambda path: path.symlink_to("/dev/zero"), 3, "is a device", False),
    "an .npz with more than it declares": (padded, 3, "has bytes after the array", True),
    "an .npz that is encrypted": (archive("encrypted"), 3, "is encrypted", True),
    "an .npz of another method": (archive("bzip2"), 3, "compressed by zip method 12 (bzip2)", True),
    "an .npz with two of a name": (archive("two of a name"), 3, "more than one member a.npy", True),
    "an .npz whose members overlap": (archive("members that overlap"), 3, "members that overlap", True),
    "an .npz that is cut": (archive("no end"), 3, "it is truncated, or bytes follow it", True),
    "an .npz with a wrong checksum": (archive("a wrong checksum"), 3, "not have the checksum declared", True),
    "an .npz bomb": (archive("a bomb"), 5, "declares 5,368,709,120 bytes and stores", True),
    "an .npz of objects": (
        lambda p: p.write_bytes(zipped(Packed(data=with_header(GOOD.replace("<f4", "|O"))))),
        3,
        "objects",
        True,
    ),
    "a .safetensors that is cut": (header("data cut"), 3, "declares 24 bytes of data, 23 are there", True),
    "a .safetensors with bytes after": (header("bytes after"), 3, "bytes after the tensors", True),
    "a .safetensors beyond its end": (header("a length beyond the file"), 3, "header is 99,999 bytes long", True),
    "a .safetensors that is no JSON": (header("deep brackets"), 3, "is not JSON", True),
    "an index of a path": (index(a="../x"), 3, "'../x', which is not the name of a file in its folder", False),
    "an index of an absolute path": (index(a="/etc/hostname"), 3, "is not the name of a file", False),
    "an index of its folder": (index(a="."), 3, "gives a to '.', which is not the name of a file", False),
    "an index of numbers": (index(a=1), 3, "gives a to 1, which is not", False),
    "an index of a link": (linked, 3, "the shard s, which is a link out of its folder; copy the file", False),
    "an index of itself": (index(a="x"), 3, "x: is no .safetensors, and the index names it as a shard", False),
    "an index of what is not there": (index(a="b"), 3, "names the shard b, which is not there", False),
    "an index of nothing": (lambda p: p.write_text('{"a": 1}'), 3, "x: is JSON, and no index of shards: it", False),
    "an index of deep brackets": (lambda p: p.write_text('{"a":' + "[" * 9999), 3, "is not JSON", False),
    "an index of many brackets": (lambda p: p.write_text("{" + "[" * 200_000), 5, "more than 100,000 tensors", False),
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
        "::/s: cannot be read (",
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
            assert end.err.startswith(f"gncli: error: {'<stdin>' if run.stdin else 'x'}")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to RLIMIT_AS")
def test_a_file_does_not_make_libhdf5_take_all_memory(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    h5(lambda file: file.update({"g/a": [1.0]}), libver=("earliest", "v110"))(path)
    data = bytearray(path.read_bytes())
    # The heap that holds the names of /g: it declares 4 GiB, and so does the file, which has a hole of that size.
    large = 4 << 30
    heap = data.rindex(b"HEAP")
    data[heap + 8 : heap + 16] = large.to_bytes(8, "little")
    data[40:48] = (large + len(data)).to_bytes(8, "little")
    path.write_bytes(data)
    os.truncate(path, large + len(data))
    end = do(Run(["stats", "x.h5"], str(tmp_path)))
    assert (end.status, end.out, end.err.count("\n")) == (3, "", 1), end
    assert end.err.startswith("gncli: error: x.h5: cannot be listed ("), end


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


# A crash and a hang, made on purpose: they end the child, and this process survives.


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
def test_a_crash_or_a_hang_ends_the_child(
    code: str, said: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Saboteur(guard.Hdf5Rehearsal):
        def __call__(self, task: str, member: str) -> object:
            if task in ("read", "read alone"):
                exec(code)
            return [["/a"], []]

        def __repr__(self) -> str:  # evaluated in a Python of its own
            call = f"lambda s, task, m: exec({code!r}) if task.startswith('read') else [['/a'], []]"
            return f"type('S', (), {{'nbytes': 0, '__call__': {call}}})()"

    monkeypatch.setattr(guard, "Hdf5Rehearsal", Saboteur)
    monkeypatch.setattr("gncli.io.formats.hdf5.rehearsal.CPU_SECONDS", 0.2)
    Saboteur.__module__ = "gncli.io.formats.hdf5.rehearsal"
    if way == "spawned":
        monkeypatch.setattr("sys.platform", "darwin")
        if "while" in code:
            pytest.skip("five seconds")
    h5(lambda file: file.update({"a": [1.0]}))(tmp_path / "x.h5")
    with pytest.raises(InputError) as caught:
        open_source(str(tmp_path / "x.h5"))
    assert said in str(caught.value)


def test_the_child_reads_what_this_process_will(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    h5(lambda file: file.create_dataset("g/a", data=np.arange(40), chunks=(4,), scaleoffset=0))(path)
    fd = os.open(path, os.O_RDONLY)
    rehearsal = guard.Hdf5Rehearsal(fd, str(path), "x.h5", Policy(max_chunk=1000))
    assert rehearsal.nbytes == 4000
    assert rehearsal("open", "") is None
    assert rehearsal("list", "") == (["/g/a"], [])
    assert rehearsal("others", "g/b") == ["/g/a"]
    assert rehearsal("read", "g/a") == []
    assert rehearsal("read alone", "g/a") is None
    with pytest.raises(InputError, match=r"no such dataset"):
        rehearsal("read", "b")
    os.close(fd)


REBEGUN = """
import os, signal
from gncli.io.formats.hdf5.rehearsal import Child, Died

class Sometimes:
    fd = nbytes = 0

    def __call__(self, task, member):
        if task == "die":
            os.kill(os.getpid(), signal.SIGBUS)
        return member

def asked(task):
    try:
        return child.ask(task, "alive")
    except Died as death:
        return int(death.signum)

child = Child(Sometimes())
print(*(asked(task) for task in ("live", "die", "live", "die")), child.close())
"""


def test_a_child_that_died_is_started_again() -> None:
    # In a process of its own, since one that has other threads would not fork.
    done = subprocess.run([sys.executable, "-c", REBEGUN], capture_output=True, text=True, timeout=60, check=False)
    bus = int(signal.SIGBUS)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"alive {bus} alive {bus} 0\n", "")


class Doomed:
    """An object of which Python ignores the exception, and prints it."""

    def __del__(self) -> None:
        raise RuntimeError("Can't decrement id ref count")


class Odd:
    """A rehearsal that notes its tasks, and fails in all the ways that there are."""

    fd = nbytes = 0

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, task: str, member: str) -> object:
        given = (task, member, signal.getsignal(signal.SIGINT), signal.getitimer(signal.ITIMER_PROF)[0] > 0)
        self.asked.append(given)
        match task:
            case "limit":
                raise LimitError("has more than 3 links", subject="x.h5", hint="name one")
            case "memory":
                raise MemoryError
            case "surprise":
                raise OverflowError("Python int too large to convert to C long")
            case "destructor":
                Doomed()
            case "much":
                return "x" * 100
        return [["/a", "\udcff"], []]


TROUBLE = ("limit", "memory", "surprise", "destructor", "much")


@contextmanager
def served() -> Iterator[None]:
    """Undo what `serve` makes of the process that it is in."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPROF)
    before = {signum: signal.getsignal(signum) for signum in wanted}
    limits = {limit: resource.getrlimit(limit) for limit in (resource.RLIMIT_CORE, resource.RLIMIT_AS)}
    try:
        yield
    finally:
        for limit, values in limits.items():
            resource.setrlimit(limit, values)
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_the_child_answers_each_request_and_leaves_signals_to_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gncli.io.formats.hdf5.rehearsal.MAX_ANSWER_NBYTES", 80)
    requests = [("list", ""), ("read", "\udcff"), *((task, "") for task in TROUBLE)]
    odd, hook = Odd(), sys.unraisablehook
    failed = "makes libhdf5 fail in a trial run"
    ours, theirs = socket.socketpair()
    with ours, served():
        for request in requests:
            ours.sendall(json.dumps(request).encode() + b"\n")
        ours.shutdown(socket.SHUT_WR)
        serve(odd, theirs)
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
        if sys.platform == "linux":
            assert EXTRA_NBYTES < resource.getrlimit(resource.RLIMIT_AS)[0] < EXTRA_NBYTES + (64 << 30)
        answers = [json.loads(line) for line in ours.makefile()]
    assert answers == [
        {"answer": [["/a", "\udcff"], []]},
        {"answer": [["/a", "\udcff"], []]},
        {"error": [5, "has more than 3 links", "name one"]},
        {"error": [5, "would take more memory than any file should", None]},
        {"error": [3, f"{failed} (Python int too large to convert to C long)", None]},
        {"error": [3, f"{failed} (Can't decrement id ref count)", None]},
        {"error": [5, "has names of 115 bytes together", None]},
    ]
    assert odd.asked == [(*request, signal.SIG_IGN, True) for request in requests]
    assert sys.unraisablehook is hook
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0


# An answer of the child is trusted as little as the file that it read.
MESSAGES: list[tuple[bytes, object]] = [
    (b'{"answer": [["/a"], []]}\n', [["/a"], []]),
    (b"{}\n", Died),
    (b'{"error": [5, "is too large", null]}\n', LimitError),
    (b'{"error": [6, "was changed", "try again"]}\n', ChangedError),
    (b'{"error": [70, "x", null]}\n', Died),
    (b'{"error": [3, 3, null]}\n', Died),
    (b'{"error": "x"}\n', Died),
    (b'{"surprise": 1}\n', Died),
    (b"[]\n", Died),
    (b"[" * 70_000 + b"\n", Died),
    (b"\xff\n", Died),
    (b'{"answer": "' + b"x" * 200_000 + b'"}\n', Died),
    (b"", Died),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES, ids=range(len(MESSAGES)))
def test_an_answer_of_the_child_is_checked(message: bytes, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gncli.io.formats.hdf5.rehearsal.MAX_ANSWER_NBYTES", 100_000)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            theirs.recv(100)
            theirs.sendall(message)
        finally:
            os._exit(0)
    theirs.close()
    child = Child(Odd())
    child._socket = ours
    child._process = _Process(pid, lambda: -min(0, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    try:
        if isinstance(expected, type):
            with pytest.raises(expected) as caught:
                child.ask("list")
            if isinstance(caught.value, Died):
                assert caught.value.signum == signal.SIGKILL
        else:
            assert child.ask("list") == expected
    finally:
        child.close()
    assert child.close() == 0


@pytest.mark.parametrize("answer", [None, [], [[], [], []], [["/a"], [1]], ["/a", "/b"], {"names": []}])
def test_a_listing_that_makes_no_sense_is_refused(answer: Any) -> None:
    child: Any = SimpleNamespace(ask=lambda *_: answer)
    with pytest.raises(InputError, match=r"^x.h5: cannot be read \(the answer of a trial run makes no sense\)$"):
        guard._listed(child, "x.h5")


def test_a_child_that_cannot_be_started_is_an_error_about_the_file() -> None:
    def ask(*_: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    child: Any = SimpleNamespace(ask=ask)
    with pytest.raises(InputError) as caught:
        guard._listed(child, "x.h5")
    assert str(caught.value) == "x.h5: cannot be tried in a child process (Resource temporarily unavailable)"


ONCE = """
import os, sys
from gncli.io.formats.hdf5 import reading
real = reading.Hdf5File._walk
def walk(self):
    os.write(int(sys.argv[2]), b"other " if os.getpid() != main else b"this ")
    return real(self)
main, reading.Hdf5File._walk = os.getpid(), walk
from gncli.io import open_sources
listing = open_sources(sys.argv[1])
print(sum(1 for _ in listing), listing.skipped)
"""


def test_a_file_is_listed_once_and_by_the_child(tmp_path: Path) -> None:
    path, said = tmp_path / "x.h5", tmp_path / "said"
    h5(lambda file: file.update({"a": [1.0], "g/b": [2.0], "t": "text"}))(path)
    with said.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", ONCE, path, str(out.fileno())],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            pass_fds=(out.fileno(),),
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 1\n", "")
    assert said.read_bytes() == b"other "


LATE = """
import sys, time
from gncli.errors import LimitError
from gncli.io.formats.hdf5 import guard, names_in
class Late(guard.Hdf5Rehearsal):
    def __call__(self, task, member):
        time.sleep(60)
guard.Hdf5Rehearsal = Late
started = time.perf_counter()
try:
    names_in(sys.argv[1], 0.2)
except LimitError as error:
    print(error)
print(time.perf_counter() - started < 2)
"""


def test_names_come_in_time_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    h5(lambda file: file.update({"a": [1.0], "g/b": [2.0], "t": "text"}))(path)
    assert names_in(str(path), 60) == ["/a", "/g/b"]
    done = subprocess.run([sys.executable, "-c", LATE, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: takes longer than 0.2 s\nTrue\n", "")
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    with pytest.raises(InputError, match=r"x.h5: cannot be opened as HDF5"):
        names_in(str(path), 60)


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
def test_a_file_cut_anywhere_is_refused_and_so_is_a_pipe(what: str, tmp_path: Path, unrehearsed: None) -> None:
    whole = HEADERS[what] if what in HEADERS else flipped_files(tmp_path)[what].read_bytes()
    path = tmp_path / "x"
    path.write_bytes(whole)
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
            sys.settrace(None)  # what it covers is not saved
            code = attempt()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
