"""The table of errors in ``gncli/docs/reference.md``: every sentence that gncli can end with, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gncli
from gncli import errors

PACKAGE = Path(gncli.__file__).parent
VALUE = "…"
"""What stands for a value in a sentence."""

STATUS = {name: kind.status for name, kind in vars(errors).items() if hasattr(kind, "status")}
USAGE = {"UsageError": 2, "fail": 2, "ExpectationError": 2, "KeyError": 2}
"""What becomes a usage error of click, the last two by way of `gncli.commands.options`."""

MEANING = {
    1: "the answer is no",
    2: "usage",
    3: "an input cannot be read, is malformed, or is refused",
    4: "an output cannot be written",
    5: "a limit",
    6: "an input changed while it was read",
}
ABOUT = {
    "commands": "command line",
    "names.py": "statistics",
    "tasks/expect.py": "expectations",
    "io/formats/npy.py": ".npy",
    "io/formats/npz.py": ".npz",
    "io/formats/zip.py": ".npz",
    "io/formats/pickled.py": ".pt",
    "io/formats/pytorch.py": ".pt",
    "io/formats/safetensors.py": ".safetensors",
    "io/formats/sharded.py": ".safetensors.index.json",
    "io/formats/hdf5": "HDF5",
    "io/formats": "files",
    "io/random.py": "random tensors",
    "io/pipe.py": "pipes",
    "io/lending.py": "Python",
    "io": "files",
    "kernels": "groups and layouts",
    "report/plot.py": "pictures",
    "run/cluster.py": "cluster",
    "run/executors.py": "cluster",
    "run": "cells",
    "tasks": "commands",
    "api.py": "Python",
    "report": "Python",
}
"""What a sentence is about, by the place it is said in: the first that fits."""


@dataclass(frozen=True, order=True)
class Refusal:
    """One row of the table."""

    status: int
    about: str
    sentence: str
    hint: str


def sentences(node: ast.expr | None, scope: ast.AST) -> list[str]:
    """Return what a text may be: both branches of a choice, and what was assigned to a local name."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in values)]
        case ast.IfExp(body=body, orelse=orelse):
            return [*sentences(body, scope), *sentences(orelse, scope)]
        case ast.BoolOp(values=values):
            return [text for value in values for text in sentences(value, scope)]
        case ast.Name(id=name):
            return [
                text
                for found in ast.walk(scope)
                if isinstance(found, ast.Assign)
                and any(isinstance(t, ast.Name) and t.id == name for t in found.targets)
                for text in sentences(found.value, scope)
            ]
    return []


def called(node: ast.Call) -> str:
    """Return the name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def argument(node: ast.Call, name: str) -> ast.expr | None:
    """Return an argument that was given by name."""
    return next((keyword.value for keyword in node.keywords if keyword.arg == name), None)


def functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef, ast.Call]]:
    """Yield the calls, each with the innermost function around it."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            inner = {
                node
                for nested in ast.walk(function)
                if isinstance(nested, ast.FunctionDef) and nested is not function
                for node in ast.walk(nested)
            }
            yield from ((function, n) for n in ast.walk(function) if isinstance(n, ast.Call) and n not in inner)


def refusals() -> list[Refusal]:
    """Return every refusal in the package, each once."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        about = next((about for start, about in ABOUT.items() if place.startswith(start)), "gncli")
        calls = list(functions(ast.parse(path.read_text(encoding="utf-8"))))
        makers: dict[str, tuple[int, str]] = {}  # functions that put their first argument into the sentence of an error
        for function, call in calls:
            status = (STATUS | USAGE).get(called(call))
            if status is None or not call.args:
                continue
            some = sentences(call.args[0], function)
            first = next((argument.arg for argument in function.args.args if argument.arg != "self"), "")
            if ast.unparse(call.args[0]) == first and not some:
                makers[function.name] = status, VALUE
                continue
            if len(some) == 1 and f"{{{first}}}" in ast.unparse(call.args[0]) and some[0].count(VALUE) == 1:
                makers[function.name] = status, some[0]
                continue
            hints = sentences(argument(call, "hint"), function)
            found |= {Refusal(status, about, text.strip(), "; or: ".join(hints)) for text in some}
        for function, call in calls:
            if called(call) in makers and call.args:
                status, template = makers[called(call)]
                found |= {
                    Refusal(status, about, template.replace(VALUE, text), "")
                    for text in sentences(call.args[0], function)
                }
    return sorted(found)


def tables() -> str:
    """Return the tables, in Markdown: one for each status."""
    rows = refusals()
    parts = []
    for status, meaning in MEANING.items():
        lines = [
            f"| {row.about} | {row.sentence} | {row.hint} |".replace("|  |", "| |")
            for row in rows
            if row.status == status
        ]
        parts.append(
            "\n".join([f"\n### Status {status}: {meaning}\n", "| about | error | hint |", "|---|---|---|", *lines])
        )
    return "\n".join(parts) + "\n"
