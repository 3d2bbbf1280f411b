"""The import rules of the house, read from the source: who may import whom, and where each framework lives."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gncli
from tests.__main__ import CLUSTER

PACKAGE = Path(gncli.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = Path(__file__).parent

# From the top of the house down. A module imports from what stands below it, or from its own package.
STOREYS = [
    ["__main__", "cli"],
    ["commands", "testing"],
    ["api"],
    ["tasks"],
    ["run"],
    ["io", "report"],
    ["kernels"],
    ["errors", "text", "names", "inputs", "descriptors", "signals", "progress", "threads", "__init__"],
]
# The same inside `io`: nobody knows a format but `formats`, and no format knows another: only a .npz is made of .npy,
# a file of PyTorch is a zip archive too, and a checkpoint in shards is made of .safetensors.
STOREYS_OF_IO = [
    ["__init__"],
    ["shared_objects"],
    ["shared"],
    ["folder"],
    ["formats/__init__"],
    ["formats/npz", "formats/pytorch", "formats/sharded"],
    ["formats"],
    ["remote/__init__"],
    ["remote/azure", "remote/folder", "remote/google"],
    ["remote/upload"],
    ["remote/obstores", "remote/s3", "remote/file"],
    ["remote/http"],
    ["remote/client"],
    ["fingerprint"],
    ["pairs"],
    ["assembly"],
    ["chunked", "lending", "part", "strided", "transposition"],
    ["atomic_folder", "pipe", "arrays", "foreign", "random"],
    ["ranges"],
    ["atomic", "rawfile", "source", "dtypes", "urls"],
]
COMMANDS = {f"commands/{path.name}" for path in (PACKAGE / "commands").glob("*.py")}
HOMES = {
    "click": COMMANDS - {f"commands/{name}.py" for name in ("__init__", "side_files", "terminal")},
    "rich": {"report/table.py", "progress.py"},
    "h5py": {f"io/formats/hdf5/{name}.py" for name in ("reading", "datasets", "writing")},
    "distributed": {"run/cluster.py"},
    "matplotlib": {"report/plot.py"},
    "boto3": {"io/remote/s3.py"},
    "obstore": {f"io/remote/{name}.py" for name in ("azure", "google", "obstores")},
}
LIGHT = [
    "cli.py",
    *sorted(COMMANDS),
    *(f"{name}.py" for name in STOREYS[-1]),
    "report/__init__.py",
    "report/plot.py",
    "report/records.py",
    "report/diff_records.py",
    "report/explain_records.py",
    "tasks/__init__.py",
]
HEAVY = {"numpy", "h5py", "rich", "matplotlib"}


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def storey(module: str, storeys: list[list[str]]) -> int:
    return next(level for level, names in enumerate(storeys) if any(f"{module}/".startswith(f"{n}/") for n in names))


def imports(node: ast.AST) -> Iterator[str]:
    """Yield the modules that a statement imports, each with the names that are taken from it."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def all_imports(path: Path) -> list[str]:
    return [name for node in nodes(path) for name in imports(node)]


def run_on_import(path: Path) -> list[str]:
    """Return what is imported when the module is: neither in functions nor for type checkers alone."""
    body = [
        node
        for node in tree(path).body
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        and not isinstance(node, ast.FunctionDef)
    ]
    return [name for node in body for name in imports(node)]


def module_of(name: str) -> str:
    """Return the module, as a path in the package without its suffix, that `gncli.a.b` is or has a name of."""
    parts = name.split(".")[1:]
    while parts and not ((PACKAGE.joinpath(*parts).with_suffix(".py")).is_file() or PACKAGE.joinpath(*parts).is_dir()):
        parts.pop()
    found = "/".join(parts)
    return f"{found}/__init__".lstrip("/") if PACKAGE.joinpath(*parts).is_dir() else found


def test_imports_point_down_the_house() -> None:
    for path in MODULES[1:]:  # the first is __init__, which offers the public names, of which it knows the homes alone
        own = place(path).removesuffix(".py")
        for other in {module_of(name) for name in all_imports(path) if name.split(".")[0] == "gncli"}:
            assert_points_down(own, other)


def assert_points_down(own: str, other: str) -> None:
    """Raise if a module may not import another."""
    room, neighbour = own.split("/")[0], other.split("/")[0]
    format_ = other.startswith("io/formats/") and other != "io/formats/__init__"
    assert not format_ or own.startswith("io/formats/"), f"{own} knows the format {other}"
    if room != neighbour:
        ground = storey(own, STOREYS) == storey(other, STOREYS) == len(STOREYS) - 1
        top = own in ("__main__", "cli")
        assert storey(other, STOREYS) > storey(own, STOREYS) or ground or top, f"{own} imports {other}"
    elif room == "io" and own.split("/")[:3] != other.split("/")[:3]:
        inside, beside = own.removeprefix("io/"), other.removeprefix("io/")
        ground = storey(inside, STOREYS_OF_IO) == storey(beside, STOREYS_OF_IO) == len(STOREYS_OF_IO) - 1
        assert storey(beside, STOREYS_OF_IO) > storey(inside, STOREYS_OF_IO) or ground, f"{own} imports {other}"


def test_no_constant_of_a_module_is_given_two_values() -> None:
    for path in MODULES:
        names = [
            name.id
            for node in tree(path).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for name in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(name, ast.Name) and name.id.isupper()
        ]
        assert len(names) == len(set(names)), place(path)


def test_no_import_is_by_string() -> None:
    for path in MODULES:
        calls = {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}
        by_string = any("import_module" in call or call == "__import__" for call in calls)
        assert not by_string or place(path) in ("__init__.py", "commands/group.py"), place(path)  # names, commands


TASKS = ("diff", "explain", "normalize", "random", "stats")


@pytest.mark.parametrize("task", TASKS)
def test_the_seam_between_a_command_and_its_task_is_typed(task: str) -> None:
    """A command imports its task by name, and hands over keywords that mypy knows: no Any, and no ``**given``."""
    path = PACKAGE / "commands" / f"{task}.py"
    assert f"gncli.tasks.{task}.{task.capitalize()}Run" in all_imports(path)
    assert not {"Any", "typing.Any"} & {ast.unparse(node) for node in nodes(path) if isinstance(node, ast.expr)}
    assert not [node for node in nodes(path) if isinstance(node, ast.keyword) and node.arg is None]
    assert not [node for node in nodes(path) if isinstance(node, ast.arguments) and node.kwarg]


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
        calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
        used = {
            call.attr if isinstance(call, ast.Attribute) else call.id
            for call in calls
            if (isinstance(call, ast.Attribute) and ast.unparse(call.value) in ("os", "io", "Path"))
            or isinstance(call, ast.Name)
        }
        # native.py compares the compiled library with the source that lies beside it.
        allowed = place(path).startswith("io/") or place(path) in ("descriptors.py", "kernels/native.py")
        assert allowed or not used & openers, place(path)


def test_nothing_unpickles_or_evaluates() -> None:
    for path in MODULES:
        source = path.read_text()
        names = {node.id for node in nodes(path) if isinstance(node, ast.Name)}
        assert not names & {"eval", "exec", "pickle", "mmap"}, place(path)
        assert "allow_pickle=True" not in source, place(path)
        # What a worker unpickles came from the process that sent it work, over dask's own connection.
        found = {name.split(".")[0] for name in all_imports(path)}
        assert not {"pickle", "cloudpickle"} & found or place(path) == "run/cluster.py", place(path)


def test_kernels_know_numpy_and_no_other_layer() -> None:
    """Of gncli they use errors, kinds and names of values, and how a finite number is read; of the world nothing."""
    names = ("Value", "Cast", "Scale", "casts", "loss_of", "ACTIVATIONS")
    allowed = {f"gncli.names.{name}" for name in names} | {"gncli.text.finite"}
    for path in (path for path in MODULES if place(path).startswith("kernels/")):
        if place(path) == "kernels/build.py":  # runs a compiler, and is run where nothing is installed
            assert {name.split(".")[0] for name in all_imports(path)} <= sys.stdlib_module_names | {"hatchling"}
            continue
        for name in set(all_imports(path)) - allowed - ({"os"} if place(path) == "kernels/loops.py" else set()):
            root = name.split(".")[0]
            known = name.startswith(("gncli.kernels.", "gncli.errors.")) or root in sys.stdlib_module_names - OUTSIDE
            assert known or root == "numpy", f"{place(path)} imports {name}"


# What kernels do not touch: files, processes, threads, signals, other machines.
OUTSIDE = frozenset("asyncio io multiprocessing os pathlib shutil signal socket subprocess tempfile threading".split())


def test_what_computes_and_what_reads_prints_nothing() -> None:
    for path in (path for path in MODULES if place(path).split("/")[0] in ("kernels", "run", "io")):
        used = {ast.unparse(node) for node in nodes(path) if isinstance(node, ast.Attribute | ast.Name)}
        assert not used & {"print", "sys.stdout", "sys.stderr", "os.write"}, place(path)
        assert not {"sys.stdout", "sys.stderr", "os.write", "warnings.warn"} & set(all_imports(path)), place(path)


def test_functions_are_short_and_take_few_parameters() -> None:
    """A body, without its docstring, has at most 90 lines; commands and the public API alone take many parameters."""
    long, many = set(), set()
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef):
                first = node.body[ast.get_docstring(node) is not None and len(node.body) > 1].lineno
                long |= {f"{place(path)}: {node.name}"} if (node.end_lineno or 0) - first >= 90 else set()
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                public = place(path).startswith("commands/") or node.name in gncli.__all__
                many |= {f"{place(path)}: {node.name}"} if len(given) > 12 and not public else set()
    assert not long, long
    assert len(many) <= 2, many


def test_the_top_of_the_house_has_few_rooms() -> None:
    rooms = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    assert len(rooms) <= 20


@pytest.mark.slow
def test_what_tests_share_is_in_modules_of_helpers() -> None:
    """No module imports a test module: what several need is in files, arrays, processes, damaged and their like."""
    for path in TESTS.rglob("*.py"):
        named = {part for name in all_imports(path) if name.startswith("tests.") for part in name.split(".")}
        assert not {part for part in named if part.startswith("test_")}, path


def test_the_tests_with_a_cluster_are_in_the_files_that_the_gate_names() -> None:
    pattern = re.compile(r"^(?:@|pytestmark = )pytest\.mark\.cluster", re.MULTILINE)
    marked = [path for path in TESTS.rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))]
    assert {path.relative_to(TESTS.parent).as_posix() for path in marked} == {*CLUSTER}
