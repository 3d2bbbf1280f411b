"""Random commands: files of hostile numbers, and options that fit them, for `normalize`, `backward`, `stats`, `diff`.

A command is drawn from a seed alone, so that one that failed is made again by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.arrays import DTYPES, hostile
from tests.norms import GRADIENTS, MAKERS, SHAPES, Case, cases

Array = NDArray[Any]
Rng = np.random.Generator
BARE = ["silu", "gelu", "gelu-tanh", "relu"]
NARROW = ["bfloat16", "float8_e4m3fn", "float8_e5m2"]
STATISTICS = ["all", "nan,zeros,first_nan", "mean,std,kurtosis,sum"]
PERCENTILES = ["median", "all,median,p1,p99.9,l2,skewness"]


class Command(NamedTuple):
    """A command line, without what cannot change its result; the files that it reads, and those that it may write."""

    words: list[str]
    files: dict[str, Array]
    made: list[str]

    def write(self) -> None:
        """Write the files that it reads here."""
        for name, array in self.files.items():
            np.save(name, array)


def command(name: str, seed: int) -> Command:
    """Return a command of gncli with this name."""
    rng = np.random.default_rng(seed)
    layout = str(rng.choice(list(SHAPES)))
    shape = enlarged(rng, layout)
    x = tensor(rng, shape, MAKERS)
    return COMMANDS[name](rng, layout, shape, x)


def elsewhere(rng: Rng) -> list[str]:
    """Return options that change no result."""
    return ["--tile", str(int(2 ** rng.uniform(10, 22))), "--workers", str(rng.integers(1, 5))]


def enlarged(rng: Rng, layout: str) -> tuple[int, ...]:
    """Return a shape for the layout, at times one with cells of several tiles."""
    shape = list(SHAPES[layout])
    if rng.random() < 0.3:
        axis = int(rng.choice([axis for axis, letter in enumerate(layout) if letter != "C"]))
        shape[axis] *= int(2 ** rng.uniform(1, 10))
    return tuple(shape)


def tensor(rng: Rng, shape: tuple[int, ...], makers: dict[str, Callable[[Rng, tuple[int, ...]], Array]]) -> Array:
    """Return numbers of one of the kinds of `makers`, or hostile ones; at times some are made equal, huge or dead."""
    if rng.random() < 0.3:
        x = hostile(rng, str(rng.choice(DTYPES)), shape)
    else:
        x = makers[str(rng.choice(list(makers)))](rng, shape)
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            match int(rng.integers(8)):
                case 0:
                    x = np.maximum(x, 0)
                case 1:
                    x.reshape(-1)[rng.integers(x.size)] = 10.0 ** rng.integers(-5, 30)
                case 2:
                    x[:1] = x.reshape(-1)[0]
    return np.asfortranarray(x) if rng.random() < 0.25 else np.ascontiguousarray(x)


def normalize(rng: Rng, layout: str, shape: tuple[int, ...], x: Array) -> Command:
    """Return ``gncli normalize``."""
    case = cases(rng, layout, shape)
    words, files = norm(rng, case, layout, shape)
    words += ["--dtype", str(rng.choice(["float16", "float32", "float64", *NARROW]))]
    words += overflow(rng, words[-1])
    if rng.random() < 0.3:
        words += ["--activation", str(rng.choice(BARE))]
    elif rng.random() < 0.1:
        words += ["--round-before-affine"]
    words += ["--hist", str(rng.choice(["exponent", "log"]))] if rng.random() < 0.1 else []
    words += ["--stages"] if rng.random() < 0.1 else []
    words += ["-o", "y.safetensors" if words[words.index("--dtype") + 1] in NARROW else "y.npy"]
    return Command(["normalize", "x.npy", *words], {"x.npy": x, **files}, [words[-1]])


def backward(rng: Rng, layout: str, shape: tuple[int, ...], x: Array) -> Command:
    """Return ``gncli backward``."""
    case = cases(rng, layout, shape)
    words, files = norm(rng, case, layout, shape)
    dy = tensor(rng, shape, GRADIENTS)
    dy = dy if dy.dtype.kind == "f" else dy.astype(np.float32)
    dy = np.asfortranarray(dy) if not x.flags.c_contiguous else np.ascontiguousarray(dy)
    words += ["--dtype", str(rng.choice(["float16", "float32", "float64", *NARROW]))]
    words += overflow(rng, words[-1])
    words += ["--param-dtype", str(rng.choice(["float16", "float32", "float64"]))]
    if rng.random() < 0.3:
        words += ["--activation", str(rng.choice(BARE))]
    dx = "dx.safetensors" if words[words.index("--dtype") + 1] in NARROW else "dx.npy"
    made = [dx, "dgamma.npy", "dbeta.npy"]
    words += ["--dx", dx, "--dgamma", made[1], "--dbeta", made[2]]
    return Command(["backward", "x.npy", "dy.npy", *words], {"x.npy": x, "dy.npy": dy, **files}, made)


def norm(rng: Rng, case: Case, layout: str, shape: tuple[int, ...]) -> tuple[list[str], dict[str, Array]]:
    """Return the options of a norm, with gamma and beta, and the files that they name."""
    chosen, files = case.norm, dict[str, Array]()
    words = ["--layout", layout, "--eps", repr(chosen.eps), "--denominator", chosen.denominator]
    words += ["--rms"] if chosen.rms else []
    parameters = tuple(shape[axis] for axis in case.axes)
    if chosen.given:
        channels = (shape[layout.index("C")],)
        files |= {"mean.npy": spread(rng, channels), "var.npy": np.abs(spread(rng, channels))}
        words += ["--mean", "mean.npy", "--var", "var.npy"]
    elif chosen.over:
        words += [f"--over={chosen.over}"]
    else:
        words += ["-G", str(chosen.num_groups), *(["--interleaved"] if chosen.interleaved else [])]
    if rng.random() < 0.6:
        files |= {"gamma.npy": spread(rng, parameters), "beta.npy": spread(rng, parameters)}
        words += ["--gamma", "gamma.npy", "--beta", "beta.npy"]
        words += [f"--gamma-axes={case.scaling.gamma_axes}"] if case.scaling.gamma_axes else []
        words += ["--gamma-offset", "1"] if rng.random() < 0.2 else []
    elif rng.random() < 0.3:
        words += ["--beta", str(rng.choice([-45, -12, 1e-30, 3]))]
    return words, files


def spread(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Return numbers, at times of many sizes."""
    least, most = rng.choice([[0, 0], [-5, 5], [-300, 300]], p=[0.5, 0.45, 0.05])
    made: Array = rng.normal(size=shape) * 10.0 ** rng.uniform(least, most, shape)
    if rng.random() < 0.5 and np.abs(made).max(initial=0) < 1e38:
        return made.astype(np.float32)
    return made


def overflow(rng: Rng, dtype: str) -> list[str]:
    """Return what a dtype needs to overflow."""
    return ["--overflow", str(rng.choice(["saturate", "nonfinite"]))] if dtype in NARROW else []


def stats(rng: Rng, layout: str, _: tuple[int, ...], x: Array) -> Command:
    """Return ``gncli stats``."""
    few = x.size < 1000  # percentiles of many cells take more passes with a small --tile, and too many are refused
    words = ["-s", str(rng.choice(STATISTICS + PERCENTILES * few))]
    if rng.random() < 0.5:
        words += ["--layout", layout, "--by", str(rng.choice(list(layout)))]
    elif rng.random() < 0.3:
        words += ["--hist", str(rng.choice(["exponent", "log"])), "--bins", str(rng.integers(1, 300))]
    words += ["--as", "float16,bfloat16,float8_e5m2:16"] if rng.random() < 0.2 else []
    return Command(["stats", "x.npy", *words], {"x.npy": x}, [])


def diff(rng: Rng, layout: str, shape: tuple[int, ...], x: Array) -> Command:
    """Return ``gncli diff``."""
    if rng.random() < 0.5:
        other = tensor(rng, shape, MAKERS)
    else:
        other = x.copy(order="K")
        places = rng.integers(0, x.size, 1 + x.size // 50)
        with np.errstate(all="ignore"):
            other.reshape(-1)[places] = tensor(rng, shape, MAKERS).reshape(-1)[places].astype(x.dtype)
    words = str(rng.choice(["", "--max-ulp 2", "--exact", "--nan-differs", "--faithful", "--rtol 0 --atol 0"])).split()
    words += ["--layout", layout, "--by", str(rng.choice(list(layout)))] if rng.random() < 0.4 else []
    words += ["--hist", "exponent"] if rng.random() < 0.2 else []
    return Command(["diff", "x.npy", "other.npy", *words], {"x.npy": x, "other.npy": other}, [])


COMMANDS: dict[str, Callable[[Rng, str, tuple[int, ...], Array], Command]] = {
    "normalize": normalize,
    "backward": backward,
    "stats": stats,
    "diff": diff,
}


def drawn(name: str, count: int) -> Iterator[tuple[int, Command, list[str]]]:
    """Yield `count` commands with their seeds, and options that change nothing of each."""
    for seed in range(count):
        yield seed, command(name, seed), elsewhere(np.random.default_rng([seed, 1]))
