"""What is measured, against what, and how fast it is meant to be."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
SAFE = "copy (dd conv=fsync)"
COMPLETION = ["env", "_GNCLI_COMPLETE=bash_complete", "_GNCLI_LINE=gncli stats --"]


def gncli() -> list[str]:
    """Return how gncli is started: the script beside this Python, as a user does, or else the module."""
    script = os.path.join(os.path.dirname(sys.executable), "gncli")
    return [script] if os.path.exists(script) else [sys.executable, "-m", "gncli"]


@dataclass(frozen=True)
class Place:
    """What a command is made of: ``{names}`` of inputs, the output, and the interpreters."""

    inputs: dict[str, str]
    output: str
    torch: str

    def fill(self, words: list[str]) -> list[str]:
        """Return the words of a command, the names in braces filled in."""
        filled = []
        for word in words:
            for name, path in {**self.inputs, "OUT": self.output, "TORCH": self.torch}.items():
                word = word.replace("{" + name + "}", path)
            filled.append(word)
        return filled


@dataclass(frozen=True)
class Target:
    """A ratio that is aimed at.

    Attributes
    ----------
    of, to : str
        The competitors whose ratio it is.
    most : float
        What the ratio may be at most; `least` the other way.
    """

    of: str
    to: str
    most: float | None = None
    least: float | None = None

    def met(self, ratio: float) -> bool:
        """Return whether it is reached."""
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)

    @property
    def text(self) -> str:
        """The target in a few characters."""
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"


@dataclass(frozen=True)
class Case:
    """Competitors that do the same, in turns.

    Attributes
    ----------
    inputs : tuple of str
        Of `tests.benchmarks.inputs`.
    competitors : dict
        Commands by what they are called in the table.
    targets : tuple of Target
    most_nbytes, within_nbytes : int, optional
        The peak memory that is aimed at, and how much the competitors may differ in it.
    """

    inputs: tuple[str, ...]
    competitors: dict[str, list[str]]
    targets: tuple[Target, ...] = ()
    most_nbytes: int | None = None
    within_nbytes: int | None = None


def _normalize(name: str, *options: str, groups: int = 4) -> list[str]:
    return [*gncli(), "normalize", "{" + name + "}", "-G", str(groups), "-o", "{OUT}.npy", "-q", *options]


def _stats(name: str, *options: str) -> list[str]:
    return [*gncli(), "stats", "{" + name + "}", *options]


def _copies(name: str) -> dict[str, list[str]]:
    """Return a copy, and one that is safe on the disk at the end, as gncli's output is: the targets are about that."""
    copy = ["dd", "if={" + name + "}", "of={OUT}.npy", "bs=1M"]
    return {"copy (dd)": copy, SAFE: [*copy, "conv=fsync"]}


def _python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def _shell(line: str) -> list[str]:
    return ["sh", "-c", line]


def _against_copy(name: str, most: float, *options: str, groups: int = 4) -> Case:
    competitors = {"gncli normalize": _normalize(name, *options, groups=groups), **_copies(name)}
    return Case((name,), competitors, (Target("gncli normalize", SAFE, most),))


def _uint8() -> Case:
    competitors = {"gncli normalize": _normalize("uint8", "--dtype", "float32"), **_copies("float32")}
    return Case(("uint8", "float32"), competitors, (Target("gncli normalize", SAFE, 1.3),))


def _narrower(dtype: str, written: str, *options: str) -> Case:
    """Return the case of a narrower result, against a read of the input and a safe copy of what is written."""
    ours = [*gncli(), "normalize", "{float32}", "-G", "4", "--dtype", dtype, "-o", "{OUT}.safetensors", "-q", *options]
    copy = f"cat '{{float32}}' > /dev/null; dd if='{{{written}}}' of='{{OUT}}.npy' bs=1M conv=fsync"
    competitors = {"gncli normalize": ours, SAFE: _shell(copy)}
    return Case(("float32", written), competitors, (Target("gncli normalize", SAFE, 2),))


def _over(*options: str) -> Case:
    ours = [*gncli(), "normalize", "{float32}", *options, "-o", "{OUT}.npy", "-q"]
    return Case(("float32",), {"gncli normalize": ours, **_copies("float32")}, (Target("gncli normalize", SAFE, 1.1),))


def _activation(name: str) -> Case:
    competitors = {name: _normalize("float32", "--activation", name), "without": _normalize("float32")}
    return Case(("float32",), competitors, (Target(name, "without", 1.5),))


def _backward() -> Case:
    torch = ["{TORCH}", os.path.join(HERE, "pytorch_backward.py"), "{float32}", "{reference}", "{OUT}.npy", "4"]
    copy = "cat '{float32}' > /dev/null; dd if='{reference}' of='{OUT}.npy' bs=1M conv=fsync"
    competitors = {
        "gncli backward": [*gncli(), "backward", "{float32}", "{reference}", "-G", "4", "--dx", "{OUT}.npy", "-q"],
        SAFE: _shell(copy),
        "PyTorch's autograd": torch,
    }
    targets = (Target("gncli backward", SAFE, 2), Target("PyTorch's autograd", "gncli backward", least=4))
    return Case(("float32", "reference"), competitors, targets)


def _against_h5py(name: str) -> Case:
    whole = _python("import h5py, sys; h5py.File(sys.argv[1])['x'][()]", "{" + name + "}")
    competitors = {
        "gncli stats": _stats(name),
        "gncli normalize": _normalize(name),
        "h5py, whole read": whole,
    }
    return Case(
        (name,),
        competitors,
        (
            Target("h5py, whole read", "gncli stats", least=1.7),
            Target("h5py, whole read", "gncli normalize", least=1.7),
        ),
    )


def _first() -> Case:
    script = [os.path.join(HERE, "article.py"), "{float32}", "{OUT}.npy", "4"]
    torch = ["{TORCH}", os.path.join(HERE, "pytorch.py"), *script[1:]]
    competitors = {
        "gncli normalize": _normalize("float32"),
        **_copies("float32"),
        "PyTorch's group_norm": torch,
        "the article's code": [sys.executable, *script],
    }
    targets = (
        Target("gncli normalize", SAFE, 1.1),
        Target("PyTorch's group_norm", "gncli normalize", least=4),
        Target("the article's code", "gncli normalize", least=8),
    )
    return Case(("float32",), competitors, targets)


def _proof() -> Case:
    unproved = [sys.executable, os.path.join(HERE, "unproved.py")]
    competitors = {
        "gncli normalize": _normalize("float32"),
        "without enclosure and check": [*unproved, *_normalize("float32")[len(gncli()) :]],
    }
    return Case(("float32",), competitors, (Target("gncli normalize", "without enclosure and check", 1.15),))


def _start() -> Case:
    competitors = {
        "gncli --version": [*gncli(), "--version"],
        "gncli --help": [*gncli(), "--help"],
        "completion of options": [*COMPLETION, *gncli()],
        "import click": _python("import click"),
    }
    return Case((), competitors, tuple(Target(name, "import click", 1.3) for name in list(competitors)[:3]))


def _tiny() -> Case:
    imports = "import numpy, click, rich.table, rich.console"
    competitors = {
        "gncli stats": _stats("tiny"),
        "gncli normalize": [*gncli(), "normalize", "{tiny}", "-G", "4"],
        imports: _python(imports),
    }
    return Case(("tiny",), competitors, tuple(Target(name, imports, 1.25) for name in list(competitors)[:2]))


def _against_cat(name: str, most: float, *options: str, command: list[str] | None = None) -> Case:
    ours = command or _stats(name, *options)
    label = " ".join(("gncli", *(w for w in ours[1:] if not w.startswith("{"))))
    competitors = {label: ours, "cat > /dev/null": _shell("cat '{" + name + "}' > /dev/null")}
    return Case((name,), competitors, (Target(label, "cat > /dev/null", most),))


def _pipe() -> Case:
    ours = shlex.join(gncli())
    competitors = {
        "cat x | gncli > y": _shell(f"cat '{{float32}}' | {ours} normalize - -G 4 -o - > '{{OUT}}.npy'"),
        "cat x | cat > y": _shell("cat '{float32}' | cat > '{OUT}.npy'"),
    }
    return Case(("float32",), competitors, (Target("cat x | gncli > y", "cat x | cat > y", 1.6),))


def _workers() -> Case:
    competitors = {
        "1 worker": _normalize("float32", "--workers", "1"),
        "2 workers": _normalize("float32", "--workers", "2"),
    }
    return Case(("float32",), competitors, (Target("1 worker", "2 workers", least=1.6),))


def _against_zarr(name: str) -> Case:
    """Return the case of a store, against those who read it whole and compute nothing."""
    theirs = "import sys, zarr; zarr.open_array(sys.argv[1], mode='r')[...]"
    spec = "{'driver': 'zarr3', 'kvstore': {'driver': 'file', 'path': sys.argv[1]}}"
    competitors = {
        "gncli stats": _stats(name, "-s", "mean"),
        "zarr-python": _python(theirs, "{" + name + "}"),
        "tensorstore": _python(
            f"import sys, tensorstore as t; t.open({spec}).result().read().result()", "{" + name + "}"
        ),
    }
    targets = (Target("gncli stats", "zarr-python", 1.3), Target("gncli stats", "tensorstore", 1.3))
    return Case((name,), competitors, targets)


def _memory() -> Case:
    names = ("0.8 GB sparse", "8 GB sparse")
    competitors = {name: [*gncli(), "normalize", "{" + name + "}", "-G", "4"] for name in names}
    return Case(names, competitors, most_nbytes=150_000_000, within_nbytes=8_000_000)


def _many_chunks() -> Case:
    competitors = {"16,384 chunks": _stats("16,384 chunks"), "256 chunks": _stats("256 chunks")}
    return Case(tuple(competitors), competitors, (Target("16,384 chunks", "256 chunks", 1.25),))


def _diff(a: str, b: str, most: float | None) -> Case:
    both = f"'{{{a}}}' '{{{b}}}' > /dev/null"
    competitors = {
        "gncli diff": _shell(f"{shlex.join(gncli())} diff {both}; test $? -le 1"),
        "cat A B > /dev/null": _shell(f"cat {both}"),
    }
    targets = () if most is None else (Target("gncli diff", "cat A B > /dev/null", most),)
    return Case(tuple(dict.fromkeys((a, b))), competitors, targets)


def _hist() -> Case:
    numpy = "import sys, numpy as np; np.histogram(np.load(sys.argv[1]), bins=64)"
    competitors = {"gncli stats --hist": _stats("float32", "--hist"), "np.histogram": _python(numpy, "{float32}")}
    return Case(("float32",), competitors, (Target("gncli stats --hist", "np.histogram", 1),))


CASES: dict[str, Callable[[], Case]] = {
    "normalize float32": _first,
    "normalize float64": lambda: _against_copy("float64", 1.1),
    "normalize float16": lambda: _against_copy("float16", 2),
    "normalize uint8 to float32": _uint8,
    "normalize to bfloat16": lambda: _narrower("bfloat16", "float16"),
    "normalize to float8": lambda: _narrower("float8_e4m3fn", "uint8", "--overflow", "saturate"),
    "normalize --over C,H,W": lambda: _over("--over", "C,H,W"),
    "normalize --rms": lambda: _over("-G", "4", "--rms"),
    "normalize --activation silu": lambda: _activation("silu"),
    "backward": _backward,
    "normalize NHWC": lambda: _against_copy("nhwc", 1.2, "--layout", "NHWC"),
    "normalize F-ordered": lambda: _against_copy("fortran", 1.3),
    "normalize, one large group": lambda: _against_copy("large groups", 1.3, groups=1),
    "normalize, many tiny groups": lambda: _against_copy("tiny groups", 3, groups=32),
    "normalize, many small groups": lambda: _against_copy("small groups", 1.3, groups=32),
    "normalize in a pipe": _pipe,
    "enclosure and check": _proof,
    "workers": _workers,
    "HDF5, chunks of samples": lambda: _against_h5py("chunks of samples"),
    "HDF5, chunks across groups": lambda: _against_h5py("chunks across groups"),
    "HDF5, chunks of h5py's choice": lambda: _against_h5py("chunks of h5py's choice"),
    "HDF5, many chunks": _many_chunks,
    "Zarr": lambda: _against_zarr("Zarr"),
    "Zarr, zstd": lambda: _against_zarr("Zarr, zstd"),
    "memory": _memory,
    "start": _start,
    "tiny": _tiny,
    "stats": lambda: _against_cat("3 GB", 1.6),
    "stats -s all": lambda: _against_cat("3 GB", 2.5, "-s", "all"),
    "stats -s median": lambda: _against_cat("3 GB", 6, "-s", "median"),
    "stats --by C, NCHW": lambda: _against_cat("3 GB", 2, "--by", "C"),
    "stats --by C, NHWC": lambda: _against_cat("nhwc", 2, "--by", "C", "--layout", "NHWC"),
    "diff": lambda: _diff("float32", "reference", 4),
    "diff, equal": lambda: _diff("float32", "float32", 4),
    "diff of 200 pairs": lambda: _diff("200 tensors", "200 other tensors", 5),
    "diff of 200 equal pairs": lambda: _diff("200 tensors", "200 tensors", 3),
    "diff of 50,000 pairs": lambda: _diff("50,000 tensors", "50,000 other tensors", None),
    "diff of 50,000 equal pairs": lambda: _diff("50,000 tensors", "50,000 tensors", None),
    "stats --hist": lambda: _against_cat("3 GB", 3.5, "--hist"),
    "histogram": _hist,
}
