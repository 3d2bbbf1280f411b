"""Transcripts: ``$ gncli ...`` and what comes back, run again and compared: in the README, its pages, and the goldens.

In a transcript a line that begins with ``$`` is a command, given to bash; the lines after it are its stdout, then those
of stderr after ``2>``, then ``[status 3]`` if that is not 0. ``python -m tests.transcripts FILE ...`` writes anew what
comes back, to be read before it is committed. A command that needs no shell is run in this process, by the function
that the program is: to start Python and import NumPy takes ten times as long as most of them.

A recipe is another kind: a block of ``sh`` to be pasted into an empty directory, and after it a block of ``text``, what
a terminal shows then; ``[...]`` stands for what varies, a part of a line or any number of lines. It is kept by hand.

Notes
-----
The last bit of a float64 depends on the processor, and what should be zero is noise of 1e-17. So numbers are compared
as numbers, to seven digits or 1e-9, and lines of a table whatever their width; everything else must be equal.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
from numpy.typing import NDArray

from gncli.cli import main
from tests.archives import entry, tensors

ROOT = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")
ALONE = re.compile(r"""gncli( ([\w./:,=+%@-]+|'[^']*'|"[^"$`\\]*"))*""")
FENCE = re.compile(r"```console\n(.*?)```", re.DOTALL)
RECIPE = re.compile(r"^## ([^\n]+)$|^```sh\n(.*?)^```\n+(?:^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
VARIES = "[...]"


@dataclass
class Step:
    """A command, and what should come back."""

    command: str
    expected: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    """Return the steps of a transcript."""
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:]))
        elif found:
            found[-1].expected.append(line)
    for step in found:
        while step.expected and not step.expected[-1]:
            step.expected.pop()
    return found


def blocks(markdown: str) -> Iterator[str]:
    """Yield the transcripts of a Markdown page."""
    return (match.group(1) for match in FENCE.finditer(markdown))


@dataclass
class Recipe:
    """A script, and what a terminal shows of it; under which heading it stands."""

    title: str
    script: str
    shown: list[str]


def recipes(markdown: str) -> list[Recipe]:
    """Return the recipes of a Markdown page; each must say what it shows."""
    found, title = [], ""
    for heading, script, shown in RECIPE.findall(markdown):
        title = heading or title
        if script:
            assert shown, f"{title!r} does not say what its script shows"
            found.append(Recipe(title, script, shown.splitlines()))
    return found


def environment() -> dict[str, str]:
    """Return an environment in which gncli is found, and nothing of this one's terminal is; its kernel stays."""
    kept = {k: v for k, v in os.environ.items() if k == "GNCLI_KERNEL" or not k.startswith(("GNCLI_", "COLUMNS"))}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONUNBUFFERED"):
        kept.pop(name, None)
    path = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent), kept["PATH"]])
    return kept | {"PATH": path, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "TERM": "dumb"}


def outcome(command: str, folder: Path) -> list[str]:
    """Run `command` in `folder`, and return what comes back as a transcript shows it."""
    if ALONE.fullmatch(command):
        status, out, err = _called(shlex.split(command)[1:], folder)
    else:
        done = _run(["bash", "-o", "pipefail", "-c", command], folder, stderr=subprocess.PIPE)
        status, out, err = done.returncode, done.stdout, done.stderr
    lines = out.decode().splitlines()
    lines += [f"2> {line}".rstrip() for line in err.decode().splitlines()]
    return lines + ([f"[status {status}]"] if status else [])


def screen(script: str, folder: Path) -> list[str]:
    """Run `script` in `folder`, up to the first failure, and return what a terminal shows."""
    done = _run(["bash", "-eu", "-o", "pipefail", "-c", script], folder, stderr=subprocess.STDOUT)
    return done.stdout.decode().splitlines() + ([f"[status {done.returncode}]"] if done.returncode else [])


def _called(arguments: list[str], folder: Path) -> tuple[int, bytes, bytes]:
    """Run gncli in this process, in `folder`; return its status, and what it wrote to descriptors 1 and 2."""
    kept = [os.dup(fd) for fd in range(3)]
    streams = sys.stdout, sys.stderr
    with open(os.devnull, "rb") as null, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            for fd, file in enumerate((null, out, err)):
                os.dup2(file.fileno(), fd)
            with (
                open(1, "w", encoding="utf-8", closefd=False) as sys.stdout,
                open(2, "w", encoding="utf-8", closefd=False) as sys.stderr,
                mock.patch.dict(os.environ, environment(), clear=True),
                contextlib.chdir(folder),
            ):
                status = main(arguments)
        finally:
            sys.stdout, sys.stderr = streams
            for fd, was in enumerate(kept):
                os.dup2(was, fd)
                os.close(was)
        said, complained = (os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0) for file in (out, err))
        return status, said, complained


def _run(command: list[str], folder: Path, stderr: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        timeout=120,
        check=False,
    )


def compare(expected: list[str], found: list[str]) -> None:
    """Raise AssertionError unless the lines say the same."""
    expected = _admitted(expected, found)
    assert [_shape(line) for line in found] == [_shape(line) for line in expected], "\n".join(["", *found])
    for want, have in zip(expected, found, strict=True):
        if want == have:
            continue
        noise = (
            "of the rounding bound" in want or "_error" in want
        )  # how near to the bound it came is up to the processor
        for a, b in zip(NUMBER.findall(want), NUMBER.findall(have), strict=True):
            far = abs(float(a) - float(b))
            assert noise or far <= max(1e-9, 1e-7 * abs(float(a))), f"{a} became {b} in\n{have}"


def _admitted(expected: list[str], found: list[str]) -> list[str]:
    """Return `expected` with what was found in the place of what varies."""
    if VARIES in expected:
        start = expected.index(VARIES)
        end = start + max(0, len(found) - len(expected) + 1)
        expected = [*expected[:start], *found[start:end], *expected[start + 1 :]]
    beside = [*found, *[""] * len(expected)]
    return [
        have if VARIES in want and _fits(want, have) else want for want, have in zip(expected, beside, strict=False)
    ]


def _fits(want: str, have: str) -> bool:
    return bool(re.fullmatch(re.escape(want).replace(re.escape(VARIES), ".*"), have))


def _shape(line: str) -> str:
    return re.sub(r" +", " ", re.sub("─+", "─", NUMBER.sub("#", line)))


def prepare(folder: Path) -> None:
    """Make the inputs that transcripts name, in `folder`."""
    (folder / "sample_data").symlink_to(ROOT / "sample_data")
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 8, (2, 16, 3, 3)).astype(np.float32)
    np.save(folder / "x.npy", x)
    broken = x.copy()
    broken[1, 5, 0, 0], broken[0, 2, 1, 1] = np.nan, np.inf
    np.save(folder / "nan.npy", broken)
    np.save(folder / "empty.npy", np.zeros((0, 4, 2), np.float32))
    np.save(folder / "scalar.npy", np.float64(2.5))
    np.save(folder / "bool.npy", np.array([True, False, True, True]))
    np.save(folder / "int.npy", np.array([[2**62, 2**62 + 2]]))
    np.save(folder / "constant.npy", np.full((2, 4, 5), 0.3))
    np.save(folder / "allnan.npy", np.full((2, 4), np.nan, np.float32))
    np.save(folder / "complex.npy", np.ones(3, np.complex64))
    np.save(folder / "objects.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    (folder / "short.npy").write_bytes((folder / "x.npy").read_bytes()[:500])
    np.save(folder / "half.npy", (x * 1000).astype(np.float16))
    np.save(folder / "gamma.npy", np.linspace(0.5, 2, 16))
    np.save(folder / "wrong.npy", np.ones((4, 4)))
    np.savez(folder / "two.npz", x=x, objects=np.array([{}], object), bias=np.arange(16.0))
    np.savez_compressed(folder / "deflated.npz", x=x, bias=np.arange(16.0))
    np.savez(folder / "lone.npz", np.array([{}], object))
    for name in ("small.safetensors", "small.nc", "checkpoint.pt", "torch.pt", "torch.safetensors"):
        (folder / name).symlink_to(ROOT / "tests" / "data" / name)
    (folder / "folder" / "deep").mkdir(parents=True)
    for at in (2, 10):
        np.save(folder / "folder" / f"layer{at}.npy", x[:, :at])
    (folder / "folder" / "deep" / "two.npz").write_bytes((folder / "two.npz").read_bytes())
    (folder / "folder" / "deep" / "short.npy").write_bytes((folder / "short.npy").read_bytes())
    checkpoint(folder / "checkpoint", {"layers.9.weight": x, "layers.10.weight": x[0], "head.bias": x[0, :, 0, 0]})
    with h5py.File(folder / "two.h5", "w", libver=("v110", "v110")) as file:
        file.create_dataset("a", data=x)
        file.create_group("deep").create_dataset("b", data=np.arange(6.0).reshape(1, 6))
        file.create_dataset("words", data=["not", "numbers"])


def checkpoint(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write float32 arrays as a checkpoint of one shard per array, with its index."""
    folder.mkdir()
    weight_map, total = {}, 0
    for at, (name, array) in enumerate(arrays.items()):
        shard = f"model-{at + 1:05}-of-{len(arrays):05}.safetensors"
        weight_map[name], total = shard, total + array.nbytes
        (folder / shard).write_bytes(tensors({name: entry("F32", array.shape, 0, array.nbytes)}, array.tobytes()))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def update(page: Path) -> None:
    """Write anew what the transcripts of `page` give."""
    text = page.read_text(encoding="utf-8")
    markdown = page.suffix == ".md"
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))

        def again(transcript: str) -> str:
            said = transcript.partition("$ ")[0]
            shown = ["\n".join([f"$ {s.command}", *outcome(s.command, Path(name))]) for s in steps(transcript)]
            return said + ("\n" if markdown else "\n\n").join(shown) + "\n"

        new = FENCE.sub(lambda match: f"```console\n{again(match.group(1))}```", text) if markdown else again(text)
    page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        update(Path(argument))
