"""Completion, in the real shells: what TAB makes of a line, as the shell then reads it; and that nothing is run."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from gncli.cli import main
from gncli.commands import completion as completion_command
from gncli.commands import options
from gncli.commands import suggest as completion
from gncli.commands.group import gncli
from gncli.commands.shells import SHELLS, VARIABLE, Word, answer, script
from gncli.kernels.layout import Layout
from tests.terminal import Terminal, take_terminal
from tests.transcripts import ROOT, environment

NAMES = (
    "my data",
    "$(touch RUN)",
    "`touch RUN`",
    "semi;colon",
    "it's",
    "esc\x1b[31m",
    "new\nline",
    "conv/kernel:0",
    "é/ü",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("completion")
    shutil.copy(ROOT / "sample_data" / "digits.h5", made / "digits.h5")
    with h5py.File(made / "names.h5", "w") as file:
        for name in NAMES:
            file[name] = np.zeros(3)
    np.savez(made / "two.npz", alpha=np.zeros(2), beta=np.zeros(2))
    (made / "my dir").mkdir()
    (made / "my dir" / "a b.h5").symlink_to(made / "digits.h5")
    for name in ("notes.txt", "only.NPY", ".hidden.npy", "new\nline.npy", "out$(touch RUN).npy"):
        (made / "my dir" / name).touch()
    (made / "x.npy").touch()
    return made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for what is in a file: on a busy machine a second is too short."""
    monkeypatch.setattr(completion, "SECONDS", 60.0)


# --- in the shells ---------------------------------------------------------------------------------------------------


STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {script}"),
    "zsh": (["zsh", "-f", "-i"], "bindkey -e; autoload -Uz compinit; compinit -u -D; source {script}"),
    "fish": (["fish", "-N", "-i"], "source {script}"),
}


class Session:
    """A shell on a pseudo-terminal, in which lines are typed, completed, and read back as the words they say."""

    def __init__(self, shell: str, folder: Path, script_file: Path) -> None:
        start, first = STARTS[shell]
        self._count = 0
        self._terminal = Terminal(columns=300)
        ours = self._terminal.fd
        self._shell = subprocess.Popen(
            start,
            cwd=folder,
            stdin=ours,
            stdout=ours,
            stderr=ours,
            env=environment() | {"HOME": str(folder), "TERM": "xterm"},
            preexec_fn=take_terminal,
        )
        self._fd = self._terminal.ours
        self._run(first.format(script=script_file))

    def words(self, line: str) -> list[str]:
        """Return the words that the shell reads in `line` after a TAB."""
        said = self._run(f"{line}\t\x01printf '\\n<%s>\\n' ")
        return [shown[1:-1] for shown in said.split("\r\n") if shown.startswith("<") and shown.endswith(">")]

    def _run(self, typed: str) -> str:
        """Type a line and Enter, and return what comes until the next one has run."""
        self._count += 1
        os.write(self._fd, f"{typed}\r".encode())
        os.write(self._fd, f"echo do''ne{self._count}\r".encode())
        said, end = b"", time.monotonic() + 30
        while f"done{self._count}".encode() not in said:
            assert time.monotonic() < end, said
            if select.select([self._fd], [], [], 1)[0]:
                said += os.read(self._fd, 1 << 16)
        return said.decode()

    def close(self) -> None:
        """Hang up."""
        self._shell.kill()
        self._shell.wait()
        self._terminal.close()


@pytest.fixture(scope="module", params=SHELLS)
def session(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    file = tmp_path_factory.mktemp("script") / "script"
    file.write_text(script(request.param))
    made = Session(request.param, folder, file)
    yield made
    made.close()


LINES = {
    "gncli norm": ["gncli", "normalize"],
    "gncli stats --form": ["gncli", "stats", "--format"],
    "gncli stats --format mark": ["gncli", "stats", "--format", "markdown"],
    "gncli stats --format=mark": ["gncli", "stats", "--format=markdown"],
    "gncli random 3 --dist no": ["gncli", "random", "3", "--dist", "normal"],
    "gncli random 3 --dtype float1": ["gncli", "random", "3", "--dtype", "float16"],
    "gncli normalize x.npy --layout ND": ["gncli", "normalize", "x.npy", "--layout", "NDHWC"],
    "gncli stats x.npy -s mean,skew": ["gncli", "stats", "x.npy", "-s", "mean,skewness"],
    "gncli stats x.npy --sort -kurt": ["gncli", "stats", "x.npy", "--sort", "-kurtosis"],
    "gncli stats x.npy --sort=-kurt": ["gncli", "stats", "x.npy", "--sort=-kurtosis"],
    "gncli stats x.npy --expect kurt": ["gncli", "stats", "x.npy", "--expect", "kurtosis"],
    "gncli stats dig": ["gncli", "stats", "digits.h5"],
    "gncli stats my\\ dir/on": ["gncli", "stats", "my dir/only.NPY"],
    "gncli stats my\\ dir/no": ["gncli", "stats", "my dir/no"],
    "gncli stats ~/dig": ["gncli", "stats", "{folder}/digits.h5"],
    "gncli stats my\\ dir/ou": ["gncli", "stats", "my dir/out$(touch RUN).npy"],
    "gncli normalize x.npy -o y/../dig": ["gncli", "normalize", "x.npy", "-o", "y/../dig"],
    "gncli normalize x.npy --save-moments tw": ["gncli", "normalize", "x.npy", "--save-moments", "two.npz"],
    "gncli stats digits.h5::/norm1/g": ["gncli", "stats", "digits.h5::/norm1/gamma"],
    "gncli stats digits.h5::norm1/g": ["gncli", "stats", "digits.h5::norm1/gamma"],
    "gncli stats digits.h5::/nor": ["gncli", "stats", "digits.h5::/norm"],
    "gncli stats digits.h5::/zzz": ["gncli", "stats", "digits.h5::/zzz"],
    "gncli stats 'digits.h5::/norm1/g": ["gncli", "stats", "digits.h5::/norm1/gamma"],
    'gncli stats "digits.h5::/norm1/g': ["gncli", "stats", "digits.h5::/norm1/gamma"],
    "gncli stats my\\ dir/a\\ b.h5::/norm1/g": ["gncli", "stats", "my dir/a b.h5::/norm1/gamma"],
    "gncli stats ~/digits.h5::/norm1/g": ["gncli", "stats", "{folder}/digits.h5::/norm1/gamma"],
    "gncli normalize x.npy --gamma digits.h5::/norm1/g": [
        "gncli", "normalize", "x.npy", "--gamma", "digits.h5::/norm1/gamma",
    ],
    "gncli normalize x.npy --gamma=digits.h5::/norm1/g": [
        "gncli", "normalize", "x.npy", "--gamma=digits.h5::/norm1/gamma",
    ],
    "gncli diff x.npy two.npz::al": ["gncli", "diff", "x.npy", "two.npz::alpha"],
    "gncli stats names.h5::/conv/kernel:": ["gncli", "stats", "names.h5::/conv/kernel:0"],
    "gncli stats names.h5::/my": ["gncli", "stats", "names.h5::/my data"],
    "gncli stats names.h5::/\\$": ["gncli", "stats", "names.h5::/$(touch RUN)"],
    "gncli stats names.h5::/\\`": ["gncli", "stats", "names.h5::/`touch RUN`"],
    "gncli stats names.h5::/se": ["gncli", "stats", "names.h5::/semi;colon"],
    "gncli stats names.h5::/it": ["gncli", "stats", "names.h5::/it's"],
    "gncli stats names.h5::/é": ["gncli", "stats", "names.h5::/é/ü"],
    "gncli stats names.h5::/esc": ["gncli", "stats", "names.h5::/esc"],
    "gncli stats names.h5::/new": ["gncli", "stats", "names.h5::/new"],
}  # fmt: skip
HOMELY = {"gncli stats ~/dig", "gncli stats ~/digits.h5::/norm1/g"}


@pytest.mark.slow
def test_a_tab_completes_what_was_typed_in_each_shell(session: Session, folder: Path) -> None:
    wrong = {}
    for line, expected in LINES.items():
        words = [word.format(folder=folder) if line in HOMELY else word for word in expected]
        found = session.words(line)
        if found != words and not (line in HOMELY and found == [w.replace(str(folder), "~") for w in words]):
            wrong[line] = found
    assert not wrong
    assert not list(folder.rglob("RUN"))


@pytest.mark.slow
def test_bash_goes_on_itself_where_a_variable_is_to_be_expanded(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script("bash"))
    bash = Session("bash", folder, tmp_path / "script")
    assert bash.words("gncli stats $HOME/dig") == ["gncli", "stats", f"{folder}/digits.h5"]
    bash.close()


# --- what is answered ------------------------------------------------------------------------------------------------


def asked(line: str, monkeypatch: pytest.MonkeyPatch, breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """Return the lines that the script of bash gets."""
    monkeypatch.setenv("_GNCLI_LINE", line)
    monkeypatch.setenv("_GNCLI_BREAKS", breaks)
    return answer(gncli, "bash_complete").splitlines()


ANSWERS: dict[str, list[str]] = {
    "gncli ra": ["plain,random"],
    "gncli --ver": ["plain,--version"],
    "gncli stats -s mean,nan,n": ["plain,mean,nan,nbytes", "plain,mean,nan,neginf", "plain,mean,nan,not_stored"],
    "gncli stats -s p9": ["plain,p99", "plain,p99.9"],
    "gncli stats --by N": ["plain,N", "plain,N,C"],
    "gncli stats --expect abs\\(me": ["plain,abs\\(mean\\)", "plain,abs\\(median\\)"],
    "gncli stats --expect 'abs(me": ["plain,abs(mean)", "plain,abs(median)"],
    "gncli stats --expect 'mean <": [],
    "gncli normalize --compression gzip=9": ["plain,9"],
    "gncli stats --workers ": [],
    "gncli stats m": ["file,my dir"],
    "gncli stats ./m": ["file,./my dir"],
    "gncli stats my\\ dir/.": ["file,my dir/.hidden.npy"],
    "gncli stats 'my dir/": ["file,my dir/a b.h5", "file,my dir/only.NPY", "file,my dir/out$(touch RUN).npy"],
    "gncli stats nowhere/": [],
    "gncli stats $HOME/": ["shell,"],
    "gncli stats '$HOME/": [],
    "gncli stats dig'it": [],
    "gncli stats 'dig'it": [],
    "gncli stats names.h5::/$": [],
    "gncli stats nothing.h5::/a": [],
    "gncli stats x.npy::/a": [],
    "gncli stats my\\ dir::/a": [],
    'gncli stats "names.h5::/`': [],
    'gncli stats "names.h5::/it': ["plain,names.h5::/it's"],
    "gncli stats 'names.h5::/it": [],
    "gncli completion f": ["plain,fish"],
    "gncli normalize --report y": [],
    "gncli nothing ": [
        f"plain,{name}"
        for name in ("backward", "clean", "completion", "diff", "explain", "help", "normalize", "random", "stats")
    ],
}


def test_the_script_of_bash_is_told_what_to_put_in_the_place_of_its_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert {line: asked(line, monkeypatch) for line in ANSWERS} == ANSWERS


def test_zsh_is_told_a_pattern_of_files_and_fish_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for words, zsh, fish in [
        (["ra"], ["plain", "random"], ["plain,random"]),
        (["stats", "--sort=-kurt"], ["plain", "-kurtosis", "_"], ["plain,--sort=-kurtosis"]),
        (["stats", "names.h5::/my"], ["plain", "names.h5::/my data", "_"], ["plain,names.h5::/my data"]),
        (["normalize", "--gamma=di"], ["file", PATTERN, "_"], ["plain,--gamma=digits.h5"]),
        (["stats", "m"], ["file", PATTERN, "_"], ["plain,my dir/"]),
        (["stats", ""], ["file", PATTERN, "_"], [f"plain,{n}" for n in (*FILES,)]),
    ]:
        monkeypatch.setenv("COMP_WORDS", " ".join(["gncli", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert answer(gncli, "zsh_complete").splitlines()[: len(zsh)] == zsh
        monkeypatch.setenv("COMP_CWORD", words[-1])
        assert [line.partition("\t")[0] for line in answer(gncli, "fish_complete").splitlines()] == fish


PATTERN = "(#i)*(.npy|.npz|.pt|.pth|.bin|.safetensors|.h5|.hdf5|.nc|.safetensors.index.json|.zarr)(-.)"
FILES = ("digits.h5", "my dir/", "names.h5", "two.npz", "x.npy")


def test_a_word_is_whole_where_bash_does_not_break_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for line, expected in {
        "gncli stats digits.h5::/norm1/g": "plain,digits.h5::/norm1/gamma",
        "gncli normalize --gamma=digits.h5::/norm1/g": "plain,--gamma=digits.h5::/norm1/gamma",
        "gncli normalize --gamma=dig": "file,--gamma=digits.h5",
    }.items():
        assert asked(line, monkeypatch, breaks=" ") == [expected]


def test_a_file_whose_name_has_colons_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a::b.npz", x=np.zeros(1), y=np.zeros(1))
    assert asked("gncli stats a::b.npz", monkeypatch) == ["file,b.npz"]
    assert asked("gncli stats a::b.npz::x", monkeypatch) == ["plain,x"]


def test_a_quote_or_a_backslash_belongs_to_its_word() -> None:
    for line, expected in {
        "": ("", "", ""),
        "gncli ": ("", "", ""),
        r"a b\ c": ("b c", "b c", ""),
        "a 'b c": ("b c", "b c", "'"),
        r'a "b\"c:d': ('b"c:d', 'b"c:d', '"'),
        r"a 'b\c": (r"b\c", r"b\c", "'"),
        r"a b:c\:d": ("b:c:d", "c:d", ""),
        "a --b=c": ("--b=c", "c", ""),
        "a --b='c:d": ("--b=c:d", "c:d", "'"),
    }.items():
        word = Word.last_of(line, "=:")
        assert word is not None and (word.text, word.tail, word.quote) == expected, line
    assert Word.last_of("a 'b'", "=:") is None


@pytest.mark.parametrize("instruction", ["bash_source", "powershell_complete", "bash", ""])
def test_who_asks_for_what_no_script_asks_gets_nothing(instruction: str) -> None:
    assert answer(gncli, instruction) == ""


# --- files that are not to be trusted --------------------------------------------------------------------------------


def python(code: str, line: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    asking = {"_GNCLI_LINE": line, "_GNCLI_BREAKS": "=:", VARIABLE: "bash_complete", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nfrom gncli.cli import main\nsys.exit(main([]))"],
        env=environment() | asking | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", ["a crash", "a hang"])
def test_a_file_that_libhdf5_does_not_survive_has_no_suggestions(what: str, folder: Path) -> None:
    doing = "os.abort()" if what == "a crash" else "exec('while True: pass')"
    code = (
        "import os\nimport gncli.commands.suggest\ngncli.commands.suggest.SECONDS = 1.5\n"
        "from gncli.io.formats.hdf5.guard import Hdf5Rehearsal\n"
        f"Hdf5Rehearsal.__call__ = lambda *given: {doing}"
    )
    started = time.perf_counter()
    done = python(code, f"gncli stats {folder}/digits.h5::/n")
    ways = {0} if what == "a crash" else {0, -signal.SIGALRM}  # whichever of the two limits comes first
    assert done.returncode in ways and (done.stdout, done.stderr) == (b"", b"")
    assert time.perf_counter() - started < 20


@pytest.mark.slow
def test_what_takes_longer_than_a_second_in_all_is_given_up(folder: Path) -> None:
    code = (
        "import gncli.commands.suggest, gncli.io\ngncli.commands.suggest.SECONDS = 0.2\n"
        "gncli.io.member_names = lambda *given: sum(range(10**12))"  # in C, where no handler of Python's can run
    )
    done = python(code, f"gncli stats {folder}/digits.h5::/n")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGALRM, b"", b"")


def test_a_file_that_cannot_be_read_has_no_suggestions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    os.mkfifo(tmp_path / "fifo.h5")
    for name in ("bad.h5", "bad.npz", "fifo.h5"):
        assert asked(f"gncli stats {name}::/a", monkeypatch) == []
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


# --- its price, and the command --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_names_inside_a_file_cost_the_import_of_numpy(folder: Path) -> None:
    code = (
        "import atexit, gncli.commands.suggest\ngncli.commands.suggest.SECONDS = 60\n"
        "atexit.register(lambda: print(sorted({'numpy', 'h5py', 'rich'} & set(sys.modules))))"
    )
    for line, expected in {
        "gncli stats --form": ["plain,--format", "[]"],
        f"gncli stats {folder}/dig": [f"file,{folder}/digits.h5", "[]"],
        f"gncli stats {folder}/digits.h5::/norm1/g": ["plain,/norm1/gamma", "['h5py', 'numpy']"],
    }.items():
        done = python(code, line)
        assert (done.returncode, done.stdout.decode().splitlines(), done.stderr) == (0, expected, b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script_and_how_to_install_it(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["completion", shell])
    shown, said = capfd.readouterr()
    assert (status, shown, said) == (0, script(shell), "")
    comments = [line for line in shown.splitlines() if line.startswith("#")]
    assert any(f"gncli completion {shell} >" in line for line in comments) and VARIABLE in shown


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_takes_the_script(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    done = subprocess.run([shell, "-n"], input=script(shell).encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_is_suggested_exists() -> None:
    assert tuple(SHELLS) == completion_command.SHELLS
    assert all(str(Layout.of(letters, (1,) * len(letters))) == letters for letters in completion.LAYOUTS)
    convert = options.StatisticNames().convert
    assert all(convert(name, None, None) for name in (*completion.PERCENTILES, "all"))
    assert all(options.Compression().convert(way, None, None) for way in completion.WAYS)
