"""How native.c is compiled: without warnings, without undefined behaviour, and never to the harm of an install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gncli.cli import main
from gncli.kernels import build, native
from tests.transcripts import ROOT

STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-O1")
SANITIZED = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
CHECKED = ("test_loops*.py", "test_law.py", "test_limbs.py", "test_map.py", "test_tally.py")  # what is not slow
NO_COMPILER = pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("program", ["gcc", "clang"])
def test_it_compiles_without_warnings(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    monkeypatch.setenv("CC", program)
    assert build.compiled(tmp_path / "native.bin", *STRICT) is None


@pytest.mark.slow
@NO_COMPILER
@pytest.mark.parametrize("chosen", ["not slow and not soak", pytest.param("not soak", marks=pytest.mark.soak)])
def test_no_loop_does_what_c_leaves_undefined(chosen: str, tmp_path: Path) -> None:
    found = subprocess.run(
        [*(build.compiler() or []), "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip("needs libasan, as gcc has it")
    library = tmp_path / "native.bin"
    assert build.compiled(library, *SANITIZED) is None
    files = [str(path) for name in CHECKED for path in (ROOT / "tests" / "kernels").glob(name)]
    code = (
        "import sys, pytest; from gncli.kernels import native; native.LIBRARY = sys.argv[1]; assert native.bodies();"
        "raise SystemExit(pytest.main(['-q', '-x', '-p', 'no:cacheprovider', '-n', '0', '-m', *sys.argv[2:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(library), chosen, *files],
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": found, "ASAN_OPTIONS": "detect_leaks=0", "COVERAGE_PROCESS_CONFIG": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "runtime error" not in done.stdout


def test_what_is_no_library_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "native.bin"
    monkeypatch.setattr(native, "LIBRARY", str(library))
    assert (native.bodies(), native.why_not()) == ((), "native.c was not compiled")
    library.write_bytes(b"no library")
    assert (native.bodies(), native.why_not()) == ((), OTHER)
    monkeypatch.delenv("GNCLI_KERNEL", raising=False)
    assert main(["--version", "-v"]) == 0
    out, err = capfd.readouterr()
    assert (out.splitlines()[-2:], err) == (["kernel: plain", f"note: {OTHER}"], "")


OTHER = "native.bin does not belong to this native.c; python -m gncli.kernels.build compiles it again"
BODY = """#include <stdint.h>
#pragma GCC visibility push(default)
int supports(int);
int supports(int body) { return body == 0; }
"""
STAMP = "extern const uint32_t source;\nconst uint32_t source = SOURCE;\n"


@NO_COMPILER
@pytest.mark.parametrize(
    ("compiled", "now", "found"),
    [
        (BODY + STAMP, BODY + STAMP, (("baseline",), "")),
        (BODY + STAMP, BODY + STAMP + "/* changed */\n", ((), OTHER)),
        (BODY, BODY, ((), OTHER)),  # it does not say of which source it is
    ],
)
def test_a_library_of_another_source_is_not_used(
    compiled: str, now: str, found: tuple[tuple[str, ...], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, library = tmp_path / "native.c", tmp_path / "native.bin"
    source.write_text(compiled)
    monkeypatch.setattr(build, "SOURCE", source)
    monkeypatch.setattr(native, "LIBRARY", str(library))
    monkeypatch.setattr(native, "_SOURCES", (str(source), build.__file__))
    assert build.compiled(library) is None
    source.write_text(now)
    assert (native.bodies(), native.why_not()) == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["native.bin", "native.c"]


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        ("", "no C compiler was found"),
        ("/nowhere/cc -m64", "the C compiler could not be run ([Errno 2] No such file or directory: '/nowhere/cc')"),
        ("'cc", "the C compiler could not be run (No closing quotation)"),
        ("FOLDER/broken", "FOLDER/broken failed: a \ufffd"),
        ("FOLDER/idle", "the C compiler could not be run ([Errno 2] No such file or directory: "),
    ],
)
def test_what_cannot_be_compiled_leaves_what_was_there_and_says_why(
    compiler: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_compiler(monkeypatch)
    for name, does in (("broken", "printf 'a \\377\\n'; exit 1"), ("idle", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("CC", compiler.replace("FOLDER", str(tmp_path)))
    library = tmp_path / "native.bin"
    library.write_text("old")
    said = build.compiled(library)
    assert said is not None
    assert said.startswith(why.replace("FOLDER", str(tmp_path)))
    assert library.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "idle", "native.bin"]


def test_what_is_compiled_takes_the_place_of_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, library = tmp_path / "my cc", tmp_path / "native.bin"
    program.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho made > "$2"\n')
    program.chmod(0o755)
    library.write_text("old\n")
    monkeypatch.setenv("CC", f"'{program}' -m64")
    assert build.compiled(library) is None
    assert library.read_text() == "made\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my cc", "native.bin"]


def hook() -> tuple[Any, list[str]]:
    """Return the hook as hatchling makes it, and what it will have said."""
    said: list[str] = []
    made: Any = object.__new__(build.NativeHook)
    vars(made)["app"] = SimpleNamespace(display_warning=said.append)
    return made, said


@pytest.mark.parametrize("version", ["standard", "editable"])
def test_an_install_without_a_compiler_is_pure(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch)
    made, said = hook()
    data: dict[str, Any] = {"force_include": {}}
    made.initialize(version, data)
    made.finalize(version, data, "")
    assert data == {"force_include": {}}
    assert said == ["gncli runs without compiled loops, on NumPy: no C compiler was found"]


def test_a_wheel_holds_the_library_and_an_editable_install_has_it_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[Path] = []
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "native.bin")
    monkeypatch.setattr(build, "compiled", targets.append)
    for version in ("standard", "editable"):
        made, said = hook()
        data: dict[str, Any] = {"force_include": {}}
        made.initialize(version, data)
        made.finalize(version, data, "")
        assert (data["pure_python"], data["tag"], said) == (False, build.wheel_tag(), [])
        included = {} if version == "editable" else {str(targets[0]): "gncli/kernels/native.bin"}
        assert data["force_include"] == included
    assert targets[1] == tmp_path / "native.bin"
    assert not targets[0].parent.exists()


def test_the_tag_is_that_of_the_platform_and_of_every_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, tag in (("linux-x86_64", "linux_x86_64"), ("macosx-11.0-universal2", "macosx_11_0_arm64")):
        monkeypatch.setattr("sysconfig.get_platform", lambda name=name: name)
        monkeypatch.setattr("platform.machine", lambda: "arm64")
        assert build.wheel_tag() == f"py3-none-{tag}"
