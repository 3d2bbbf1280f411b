"""The import rules of the house, read from the source: who may import whom, and where each framework lives."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gncli

PACKAGE = Path(gncli.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the top of the house down: a module imports only from what stands below it, or beside it in its own folder.
STOREYS = [
    ["__main__"],
    ["cli"],
    ["commands"],
    ["plot"],
    ["options", "report"],
    ["shells"],
    ["completion"],
    ["operations"],
    ["inspection", "difference"],
    ["survey"],
    ["passes", "cells", "pairs"],
    ["executors"],
    ["cluster"],
    ["engine"],
    ["io"],
    ["compare"],
    ["groupnorm", "extras", "statistics", "histogram", "heatmap"],
    ["percentiles"],
    ["moments"],
    ["tiles", "room"],
    ["partition"],
    ["layout"],
    ["threads"],
    ["drawing", "expect"],
    ["verdict"],
    ["process", "describe", "policy"],
    ["vocabulary", "progress"],
    ["text", "errors"],
    ["__init__"],
]
COMMANDS = {f"commands/{path.name}" for path in (PACKAGE / "commands").glob("*.py")}
HOMES = {
    "click": {"cli.py", "options.py", "shells.py", "completion.py", *COMMANDS},
    "rich": {"report/table.py", "progress.py"},
    "h5py": {f"io/hdf5/{name}.py" for name in ("reading", "writing")},
    "distributed": {"cluster.py"},
    "matplotlib": {"plot.py"},
}
LIGHT = [
    "cli.py",
    *sorted(COMMANDS),
    "options.py",
    "completion.py",
    "shells.py",
    "process.py",
    "progress.py",
    "vocabulary.py",
    "describe.py",
    "verdict.py",
    "plot.py",
    "policy.py",
    "text.py",
    "errors.py",
    "report/__init__.py",
    "__init__.py",
]
HEAVY = {"numpy", "h5py", "rich", "matplotlib"}


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def storey(module: str) -> int:
    name = module.split("/")[0].removesuffix(".py")
    return next(level for level, names in enumerate(STOREYS) if name in names)


def imports(node: ast.AST) -> Iterator[str]:
    """Yield the modules that a statement imports, with what it takes from gncli and gncli.io spelled out."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        spelled = node.module in ("gncli", "gncli.io")
        yield from (f"{node.module}.{alias.name}" if spelled else node.module for alias in node.names)


def all_imports(path: Path) -> list[str]:
    return [name for node in ast.walk(ast.parse(path.read_text())) for name in imports(node)]


def run_on_import(path: Path) -> list[str]:
    """Return what is imported when the module is: neither in functions nor for type checkers alone."""
    body = [
        node
        for node in ast.parse(path.read_text()).body
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        and not isinstance(node, ast.FunctionDef)
    ]
    return [name for node in body for name in imports(node)]


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_imports_point_down_the_house(path: Path) -> None:
    own = storey(place(path))
    for name in all_imports(path):
        if name.startswith("gncli.") and name != "gncli.__version__":
            other = storey(name.split(".")[1])
            beside = "/" in place(path) and place(path).split("/")[0] == name.split(".")[1]
            # __init__ offers the public names, of which it knows the homes alone
            lazy = place(path) == "__init__.py"
            assert other > own or beside or lazy, f"{place(path)} imports {name}"


@pytest.mark.parametrize("framework", HOMES)
def test_each_framework_has_one_home(framework: str) -> None:
    users = {place(path) for path in MODULES for name in all_imports(path) if name.split(".")[0] == framework}
    assert users == HOMES[framework]


@pytest.mark.parametrize("module", LIGHT)
def test_the_command_line_imports_nothing_heavy(module: str) -> None:
    assert not {name.split(".")[0] for name in run_on_import(PACKAGE / module)} & HEAVY


def test_only_io_opens_files() -> None:
    openers = {"open", "openat"}
    for path in MODULES:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        used = {
            call.attr if isinstance(call, ast.Attribute) else call.id
            for call in calls
            if (isinstance(call, ast.Attribute) and ast.unparse(call.value) in ("os", "io", "Path"))
            or isinstance(call, ast.Name)
        }
        assert place(path).startswith("io/") or place(path) == "process.py" or not used & openers, place(path)


def test_nothing_unpickles_or_evaluates() -> None:
    for path in MODULES:
        source = path.read_text()
        names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        assert not names & {"eval", "exec", "pickle", "mmap"}, place(path)
        assert "allow_pickle=True" not in source, place(path)
        # What a worker unpickles came from the process that sent it work, over dask's own connection.
        assert not {"pickle", "cloudpickle"} & set(all_imports(path)) or place(path) == "cluster.py", place(path)


def test_every_module_has_its_place() -> None:
    for path in MODULES:
        storey(place(path))
