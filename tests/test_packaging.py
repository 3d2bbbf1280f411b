"""The wheel and the sdist: what is in them, and that they install and run where nothing else is.

They need the network, as the installation of the tests did. All is built and installed in temporary directories, with a
compiler that compiles nothing twice.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest

import gncli
from gncli.kernels.build import compiler
from tests import share
from tests.compiler import copying
from tests.transcripts import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOOLS = ("build", "check_wheel_contents", "twine")
SHOWN = (
    "stats x.npy y.npy -s all --hist",
    "diff x.npy y.npy --atol 10 --allow-vacuous",
    "stats x.npy --by C -s all,median",
)
FIRST = "stats x.npy -s mean --format value".split()

MISSING = [tool for tool in TOOLS if importlib.util.find_spec(tool) is None]

# What makes pip give up for want of a network, and not of a package.
NO_NETWORK = re.compile(r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|ConnectTimeout")

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "GNCLI_"))}


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; skip where it needed a network that is not there."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=CLEAN | copying() | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode and NO_NETWORK.search(done.stdout):
        pytest.skip("needs the network")
    assert done.returncode == 0, f"{command}:\n{done.stdout}"
    return done.stdout


def environment(folder: Path, *wanted: str | Path) -> Path:
    """Return the programs of a new environment in which nothing but `wanted` is installed."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    install(folder / "bin", *wanted)
    return folder / "bin"


def install(programs: Path, *wanted: str | Path) -> None:
    """Install what is wanted, by the pip of the tests, which is no part of the environment."""
    run(sys.executable, "-m", "pip", "--python", programs / "python", "install", "-q", *wanted, cwd=programs)


def lowest(requirements: list[str]) -> list[str]:
    """Return the requirements with each lower bound as the version."""
    return [re.sub(r">=", "==", requirement) for requirement in requirements]


def leftovers() -> list[str]:
    """Return what a build may leave in the tree."""
    return [name for name in os.listdir(ROOT) if name in ("build", "dist") or name.endswith(".egg-info")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the sdist, and of the wheel that was built from it."""
    if MISSING:
        pytest.skip(f"needs {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("dist")
    before = leftovers()
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    assert leftovers() == before
    return folder


def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def sdist(built: Path) -> Path:
    (found,) = built.glob("*.tar.gz")
    return found


def test_no_requirement_has_an_upper_bound() -> None:
    everything = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    assert not [one for one in everything if not re.fullmatch(r"[\w\[\],-]+(>=[\d.]+)?", one.split(";")[0])]


def test_everything_optional_is_in_all() -> None:
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert set(re.findall(r"\w+", everything)) == {"gncli", *PROJECT["optional-dependencies"]} - {"all", "test", "fuzz"}


@pytest.mark.slow
def test_what_is_built_passes_the_checks_of_the_package_index(built: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", wheel(built), sdist(built), cwd=built)
    run(sys.executable, "-m", "check_wheel_contents", wheel(built), cwd=built)


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_no_more(built: Path) -> None:
    with zipfile.ZipFile(wheel(built)) as archive:
        names = set(archive.namelist())
        folder = f"gncli-{gncli.__version__}.dist-info"
        metadata = archive.read(f"{folder}/METADATA").decode()
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gncli").rglob("*")
        if path.is_file() and not {"__pycache__", "share"} & {*path.parts}
    }
    data = f"gncli-{gncli.__version__}.data/data/share"
    package |= {f"{data}/{path}" for path in share.files()}
    library = {"gncli/kernels/native.bin"}
    assert names - library == package - library | {
        f"{folder}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    assert {"gncli/py.typed", "gncli/docs/recipes.md", "gncli/docs/reference.md"} <= names
    assert f"\nVersion: {gncli.__version__}\n" in metadata


@pytest.mark.slow
def test_the_sdist_holds_all_that_is_kept(built: Path) -> None:
    with tarfile.open(sdist(built)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".ci/run", "tests/golden/stats.txt"} <= names
    assert not [
        name
        for name in names
        if name.endswith((".pyc", ".so", "native.bin")) or name.startswith((".hypothesis", ".git/"))
    ]
    if (ROOT / ".git").exists():
        kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert {name for name in kept.splitlines() if (ROOT / name).exists()} <= names


@pytest.mark.slow
def test_the_wheel_runs_its_first_command_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "env", wheel(built))
    run(programs / "gncli", *"random 2,4 --seed 0 -o x.npy".split(), cwd=tmp_path)
    assert float(run(programs / "gncli", *FIRST, cwd=tmp_path)) == pytest.approx(0.5, abs=0.5)
    assert run(programs / "gncli", "--version", cwd=tmp_path) == f"gncli {gncli.__version__}\n"
    said = run(programs / "gncli", "normalize", "x.npy", "-G", "2", "-o", "y.h5", cwd=tmp_path)
    assert "check: ok, 4 groups" in said
    folders = {path.name for path in (tmp_path / "env").glob("lib/*/site-packages/*")}
    assert {"click", "gncli", "h5py", "numpy", "rich"} <= folders
    assert not folders & {"dask", "distributed", "isal", "matplotlib"}


@pytest.mark.slow
def test_the_sdist_installs_from_a_directory_with_a_space_and_runs(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a space"
    with tarfile.open(sdist(built)) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    command = re.search(r"```sh\n(python3 -m venv \.venv .*)\n```", (source / "README.md").read_text(encoding="utf-8"))
    assert command
    words = command[1].replace("python3", f"'{sys.executable}'", 1)
    said = run("bash", "-c", words, cwd=source)  # the README's first command, as it stands there
    assert "check: ok, 256 groups" in said


@pytest.mark.slow
def test_the_lowest_versions_that_are_admitted_run(built: Path, tmp_path: Path) -> None:
    if sys.version_info >= (3, 13):
        pytest.skip("NumPy 2.0 has no wheel for this Python")
    programs = environment(tmp_path / "env", *lowest(PROJECT["dependencies"]))
    install(programs, "--no-deps", sdist(built))
    run(sys.executable, "-m", "pip", "--python", programs / "python", "check", cwd=tmp_path)
    for words in (
        "random 2,4 --seed 0 -o x.npy",
        "normalize x.npy -G 2 -o y.h5::a/y --save-moments m.npz",
        "diff y.h5 y.h5",
    ):
        run(programs / "gncli", *words.split(), cwd=tmp_path)
    found = run(programs / "python", "-c", "import numpy; print(sorted(numpy.load('m.npz')))", cwd=tmp_path)
    assert found == "['mean', 'rstd', 'var']\n"  # to which np.savez of NumPy 2.0 would add one


@pytest.mark.slow
def test_the_wheels_with_and_without_compiled_loops_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    if compiler() is None:
        pytest.skip("needs a C compiler")
    assert re.fullmatch(r"gncli-[\d.]+-py3-none-(linux|macosx)_\w+\.whl", wheel(built).name)
    pure = tmp_path / "pure"
    without = CLEAN | {"CC": "/nowhere/cc", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir", "-w", str(pure)]
    done = subprocess.run(
        [*pip, str(sdist(built))], cwd=tmp_path, env=without, capture_output=True, text=True, check=True
    )
    shown = done.stdout + done.stderr
    assert shown.count("gncli runs without compiled loops, on NumPy: the C compiler could not be run") == 1
    (plain,) = pure.iterdir()
    assert plain.name == f"gncli-{gncli.__version__}-py3-none-any.whl"
    found = []
    for name, made in (("native", wheel(built)), ("pure", plain)):
        programs, folder = environment(tmp_path / name, made), tmp_path / f"of {name}"
        folder.mkdir()
        said = run(programs / "gncli", "--version", "-v", cwd=folder)
        assert ("kernel: plain" in said) == (name == "pure"), said
        for words in ("random 2,8,30,40 --seed 0 --dtype float32 -o x.npy", "normalize x.npy -G 2 --gamma 2 -o y.npy"):
            run(programs / "gncli", *words.split(), cwd=folder)
        reports = [run(programs / "gncli", *words.split(), "--format", "json", cwd=folder) for words in SHOWN]
        found.append(((folder / "y.npy").read_bytes(), reports))
    assert found[0] == found[1]


@pytest.mark.slow
def test_an_editable_install_compiles_in_place(built: Path, tmp_path: Path) -> None:
    if compiler() is None:
        pytest.skip("needs a C compiler")
    with tarfile.open(sdist(built)) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    programs = environment(tmp_path / "env", "-e", source)
    assert (source / "gncli" / "kernels" / "native.bin").exists()
    assert "kernel: plain" not in run(programs / "gncli", "--version", "-v", cwd=tmp_path)
