"""The names of the command line: statistics, file suffixes and forms of a report.

Everything that parsing a command line and showing a help page needs is here. Only the standard library is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

Number = int | float | None
"""A statistic: None where it is undefined, such as the mean of an empty tensor."""

Value = str | tuple[int, ...] | Number
Distribution = Literal["uniform", "normal"]
Scale = Literal["linear", "exponent", "log"]
"""The bins of a histogram: of x, all of one width; of |x|, one per power of two, or of one width in log |x|."""


class Statistic(NamedTuple):
    """One row of the registry.

    Parameters
    ----------
    label : str
        The name in a report.
    reads : bool, default: True
        Whether the data must be read; otherwise the header is enough.
    numeric : bool, default: True
        Whether its value is a single number.
    percentile : float, optional
        The percentile, 0 to 100; None for other statistics.
    short : str, default: ""
        The name above a column of a table of many, where `label` would be wider than its numbers.
    """

    label: str
    reads: bool = True
    numeric: bool = True
    percentile: float | None = None
    short: str = ""


class Difference(NamedTuple):
    """A number that says how two tensors, or two cells of them, differ.

    Parameters
    ----------
    field : str
        Its name in JSON and CSV.
    label : str
        Its name in a report.
    """

    field: str
    label: str


STATISTICS: Mapping[str, Statistic] = {
    "object_type": Statistic("Object Type", reads=False, numeric=False),
    "shape": Statistic("Shape", reads=False, numeric=False),
    "dimensions": Statistic("Dimensions", reads=False, numeric=False),
    "dtype": Statistic("Data Type", reads=False, numeric=False, short="Type"),
    "size": Statistic("Size", reads=False),
    "nbytes": Statistic("Bytes", reads=False),
    "mean": Statistic("Mean"),
    "std": Statistic("Standard Deviation", short="Std"),
    "var": Statistic("Variance"),
    "min": Statistic("Min"),
    "max": Statistic("Max"),
    "argmin": Statistic("Index of Min", numeric=False),
    "argmax": Statistic("Index of Max", numeric=False),
    "sum": Statistic("Sum"),
    "median": Statistic("Median", percentile=50.0),
    "nan": Statistic("NaN"),
    "posinf": Statistic("+Infinity", short="+Inf"),
    "neginf": Statistic("-Infinity", short="-Inf"),
    "first_nan": Statistic("First NaN", numeric=False),
    "first_inf": Statistic("First Infinity", numeric=False),
    "zeros": Statistic("Zeros"),
    "l1": Statistic("L1 Norm"),
    "l2": Statistic("L2 Norm"),
    "skewness": Statistic("Skewness"),
    "kurtosis": Statistic("Kurtosis"),
    "absmax": Statistic("Largest |x|", short="Max |x|"),
    "rms": Statistic("Root Mean Square", short="RMS"),
    "zero_fraction": Statistic("Fraction of Zeros", short="Zeros/n"),
    "subnormal": Statistic("Subnormal"),
    "smallest_nonzero": Statistic("Smallest Nonzero |x|", short="Min |x|>0"),
    "at_max": Statistic("At Max"),
    "at_min": Statistic("At Min"),
    "distinct": Statistic("Distinct Values", short="Distinct"),
    "sha256": Statistic("SHA-256", numeric=False),
    "not_stored": Statistic("Chunks Not Stored", reads=False, short="Not Stored"),
}
"""Every statistic by the name that ``--stat`` takes, in the order of the help page, without percentiles."""

OF_PRECISION = ("absmax", "rms", "zero_fraction", "subnormal", "smallest_nonzero", "at_max", "at_min", "distinct")
"""Those that say how a tensor uses its dtype."""

ALL_STATISTICS = tuple(
    name
    for name, row in STATISTICS.items()
    if row.percentile is None and name not in ("dimensions", "sha256", "not_stored", *OF_PRECISION)
)
"""What ``-s all`` stands for."""

DEFAULT_STATISTICS = ("object_type", "shape", "dtype", "mean", "std", "min", "max")
NAMED_STATISTICS = ("object_type", "shape", "dimensions", "dtype", "mean", "std", "min", "max")
"""The default statistics of a tensor whose axes have names."""

DIFFERENCES: Mapping[str, Difference] = {
    "size": Difference("size", "Size"),
    "outside": Difference("outside", "Outside"),
    "nan": Difference("nan_mismatches", "NaN Mismatches"),
    "inf": Difference("inf_mismatches", "Infinity Mismatches"),
    "max": Difference("max_abs", "Max |a - b|"),
    "mean": Difference("mean_abs", "Mean |a - b|"),
    "rmse": Difference("rmse", "RMSE"),
    "rel": Difference("rel", "|a - b| / |b|"),
    "cosine": Difference("cosine", "Cosine"),
    "slope": Difference("slope", "Slope"),
    "offset": Difference("offset", "Offset"),
}
"""Every number of ``diff -s`` by its name, in the order of the help page."""

FITTED = ("slope", "offset")
"""Those that take a line fitted to the pairs: a = slope b + offset."""

CELL_DIFFERENCES = ("size", "outside", "nan", "inf", "max", "mean", "rmse")
"""The default ones of a cell."""

PAIR_DIFFERENCES = ("max", "rel", "cosine", "outside")
"""The default ones of a pair of many."""

CELL_STATISTICS = ("mean", "std", "min", "max")
NONFINITE = ("nan", "posinf", "neginf")

TENSOR_SUFFIXES = (
    ".npy",
    ".npz",
    ".pt",
    ".pth",
    ".bin",
    ".safetensors",
    ".h5",
    ".hdf5",
    ".nc",
    ".safetensors.index.json",
    ".zarr",
)
"""The suffixes of files and folders that hold tensors, the same as in `gncli.io.formats`."""

OUTPUT_SUFFIXES = (".npy", ".safetensors", ".h5", ".hdf5", ".zarr")
"""The suffixes of files and folders that tensors are written to."""

COMPRESSIONS: Mapping[str, tuple[range, int]] = {"gzip": (range(10), 4), "zstd": (range(1, 23), 3)}
"""The ways to compress, with their levels and the default one."""

MAX_CHUNK = 64 << 20
"""The default limit for an HDF5 chunk in bytes; a whole chunk must fit in memory."""


def compression_of(value: int | str) -> tuple[str, int]:
    """Return the way to compress and its level: of ``gzip``, ``gzip=LEVEL``, ``zstd``, ``zstd=LEVEL``, or gzip's level.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> compression_of("zstd"), compression_of("gzip=9"), compression_of(0)
    (('zstd', 3), ('gzip', 9), ('gzip', 0))
    """
    way, _, level = (f"gzip={value}" if isinstance(value, int) else value).partition("=")
    levels, default = COMPRESSIONS.get(way, (range(0), 0))
    wanted = int(level) if re.fullmatch("[0-9]{1,2}", level) else default if value == way else -1
    if wanted not in levels:
        raise ValueError(f"{value!r} is no compression; write gzip or gzip=LEVEL, from 0 to 9, or zstd=LEVEL, to 22")
    return way, wanted


FORMS = ("table", "plain", "value", "json", "jsonl", "csv", "markdown")
"""The forms of a report on stdout; each is a function of `gncli.report.forms` or `gncli.report.table`."""

REPORT_FORMS: Mapping[str, str] = {
    ".txt": "table",
    ".json": "json",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".md": "markdown",
    ".svg": "svg",
    ".html": "html",
}
"""The form of a report in a file, by its suffix."""

PICTURE_FORMS: Mapping[str, str] = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
"""The form of a picture by the suffix of its file."""


DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
)
"""The dtypes of tensors, as reports name them."""


ACTIVATIONS = ("relu", "silu", "gelu", "gelu-tanh")
"""What may follow a norm; the number of each in `native.c` is its place here, and 1."""

TARGETS = ("float16", "float32", "bfloat16", "float8_e4m3fn", "float8_e5m2")
"""The dtypes that elements may be rounded to, to see what is lost."""

LOSSES: Mapping[str, str] = {
    "overflow": "Overflow",
    "zero": "Become 0",
    "subnormal": "Become Subnormal",
    "snr": "SNR (dB)",
}
"""What is said of a rounding, by the last part of the name of a statistic: ``float16.overflow``."""


class Cast(NamedTuple):
    """A dtype that all elements are rounded to, after a scaling.

    Parameters
    ----------
    dtype : str
        One of `TARGETS`.
    scale : float
        What elements are multiplied by first.
    """

    dtype: str
    scale: float = 1.0


def cast_of(text: str) -> Cast:
    """Return what ``DTYPE`` or ``DTYPE:SCALE`` says.

    Raises
    ------
    KeyError
        If it is neither; its message says why.

    Examples
    --------
    >>> cast_of("float8_e4m3fn:16")
    Cast(dtype='float8_e4m3fn', scale=16.0)
    """
    dtype, colon, scale = text.partition(":")
    if dtype not in TARGETS:
        raise KeyError(
            f"{dtype!r} is no dtype to round to; {nearest(dtype, TARGETS) or 'choose'} ({', '.join(TARGETS)})"
        )
    if not colon:
        return Cast(dtype)
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", scale) or not 1e-30 <= float(scale) <= 1e30:
        raise KeyError(f"{scale!r} is no scale; write a number from 1e-30 to 1e30, such as {dtype}:16")
    return Cast(dtype, float(scale))


def loss_of(name: str) -> tuple[Cast, str] | None:
    """Return the rounding that a statistic is about, and what of it; None for other statistics.

    Examples
    --------
    >>> loss_of("bfloat16.snr"), loss_of("mean")
    ((Cast(dtype='bfloat16', scale=1.0), 'snr'), None)
    """
    text, dot, what = name.rpartition(".")
    if not dot or what not in LOSSES:
        return None
    return cast_of(text), what


def casts(names: Iterable[str]) -> tuple[Cast, ...]:
    """Return the roundings that statistics are about, each once, in one order whatever that of `names` is."""
    return tuple(sorted({found[0] for found in map(loss_of, names) if found is not None}))


def losses(text: str) -> tuple[str, ...]:
    """Return the statistics that ``--as`` stands for: all of each dtype.

    Raises
    ------
    KeyError
        If there is no such dtype, or scale.

    Examples
    --------
    >>> losses("bfloat16, float16:2")[3:5]
    ('bfloat16.snr', 'float16:2.overflow')
    """
    targets = [part.strip() for part in text.split(",")]
    for target in targets:
        cast_of(target)
    return tuple(dict.fromkeys(f"{target}.{what}" for target in targets for what in LOSSES))


def statistic(name: str) -> Statistic:
    """Return the statistic of that name, such as ``std``, a percentile, such as ``p99.9``, or ``float16.snr``.

    Raises
    ------
    KeyError
        If there is no such statistic; its message names the nearest one.

    Examples
    --------
    >>> statistic("p99.9").label, statistic("std").label
    ('Percentile 99.9', 'Standard Deviation')
    """
    if name in STATISTICS:
        return STATISTICS[name]
    if re.fullmatch(r"p[0-9]{1,3}(\.[0-9]{1,15})?", name) and float(name[1:]) <= 100:
        return Statistic(f"Percentile {name[1:]}", percentile=float(name[1:]))
    if (loss := loss_of(name)) is not None:
        return Statistic(f"{name.rpartition('.')[0]} {LOSSES[loss[1]]}")
    if re.fullmatch(r"p-?[0-9.]+", name):
        raise KeyError(f"{name!r} is not a percentile; write p0 to p100, such as p99.9")
    hint = nearest(name, [*STATISTICS, "all"]) or "gncli help statistics has them all"
    raise KeyError(f"{name!r} is not a statistic; {hint}")


def statistic_names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of statistics, each once; ``all`` stands for most of them, and a text is split at its commas.

    Raises
    ------
    KeyError
        If there is no such statistic; its message names the nearest one.

    Examples
    --------
    >>> statistic_names("mean, p99"), statistic_names(["std", "std"])
    (('mean', 'p99'), ('std',))
    """
    names: list[str] = []
    for name in (part.strip() for part in (given.split(",") if isinstance(given, str) else given)):
        if name != "all":
            statistic(name)
        names += ALL_STATISTICS if name == "all" else [name]
    return tuple(dict.fromkeys(names))


def layouts_of(given: str | None) -> tuple[str | None, tuple[str, str] | None]:
    """Return the layout of A, and those of both if `given` has two.

    Examples
    --------
    >>> layouts_of("NCHW"), layouts_of("NCHW, NHWC")
    (('NCHW', None), ('NCHW', ('NCHW', 'NHWC')))
    """
    first, comma, second = (part.strip() for part in (given or "").partition(","))
    return first or None, (first, second) if comma else None


def difference_names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of `DIFFERENCES`, each once; a text is split at its commas.

    Raises
    ------
    KeyError
        If there is no such number; its message names the nearest one.

    Examples
    --------
    >>> difference_names("slope, max"), difference_names(["rel", "rel"])
    (('slope', 'max'), ('rel',))
    """
    names = [name.strip() for name in (given.split(",") if isinstance(given, str) else given)]
    for name in names:
        if name not in DIFFERENCES:
            hint = nearest(name, DIFFERENCES) or "choose"
            raise KeyError(f"{name!r} is no difference; {hint} ({', '.join(DIFFERENCES)})")
    return tuple(dict.fromkeys(names))


MOST_MEANT = 3  # names that are suggested because they begin as what was typed


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the question that suggests the names that begin so, if they are few, or the nearest; None if none is near.

    Examples
    --------
    >>> nearest("flaot32", ["float32", "float64"]), nearest("float", ["float32", "float64"])
    ('did you mean float32?', 'did you mean float32 or float64?')
    """
    import difflib  # imported only when a name is wrong

    every, typed = {one.lstrip("-"): one for one in known}, name.lstrip("-").lower()
    near = [one for one in every if typed and one.startswith(typed)]
    if not 1 <= len(near) <= MOST_MEANT:
        near = difflib.get_close_matches(typed, list(every), n=1)
    return f"did you mean {' or '.join(every[one] for one in near)}?" if near else None


def shape_text(shape: tuple[int, ...]) -> str:
    """Return `shape` as it is typed on the command line.

    Examples
    --------
    >>> shape_text((64, 16, 112, 112)), shape_text(())
    ('64,16,112,112', '()')
    """
    return ",".join(map(str, shape)) or "()"


def shape_of(text: str) -> tuple[int, ...]:
    """Return the shape that `text` is: ``64,16,112,112``, ``64x16x112x112`` or ``(64, 16, 112, 112)``; ``()``.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> shape_of("64x16"), shape_of("(64,)"), shape_of("()")
    ((64, 16), (64,), ())
    """
    inner = text[1:-1].removesuffix(",") if text[:1] + text[-1:] == "()" else text  # as tables print it
    lengths = () if text == "()" else re.split(", ?|x", inner)
    if not all(re.fullmatch(r"[0-9]{1,18}", length) for length in lengths) or len(lengths) > 64:
        raise ValueError(text)
    return tuple(map(int, lengths))


# --- the same in Python ----------------------------------------------------------------------------------------------

_IN_PYTHON: Mapping[str, str] = {
    "-G": "num_groups",
    "--groups": "num_groups",
    "-o": "output",
    "-s": "statistics",
    "--stat": "statistics",
    "--hist": "bins",
    "--map": "rename",
    "--as-dtype": "policy=Policy(as_dtype={})",
    "--max-chunk": "policy=Policy(max_chunk={})",
    "--allow-plugins": "policy=Policy(plugins=True)",
    "--allow-sparse": "policy=Policy(sparse=True)",
    "--no-verify": "verify=False",
    **{
        f"--{name.replace('_', '-')}": f"{name}=True"
        for name in (
            "allow_vacuous",
            "exact",
            "fail_fast",
            "faithful",
            "force",
            "gamma_per_group",
            "in_place",
            "interleaved",
            "nan_differs",
            "npy_bits",
            "rms",
            "round_before_affine",
            "stages",
        )
    },
    "--format csv": ".cells",
}
"""What Python calls an option, if it is not ``like_this`` for ``--like-this``, with the value if it has one."""

_WORDS = r"group|threads|dask|csv|saturate|nonfinite|b?float[0-9]\w*|u?int[0-9]+"
_VALUE = rf"'[^']*'|[-+]?[0-9](?:[\w.+-]*\w)?|[A-Z]+(?:,[A-Z]+)*\b|(?:{_WORDS})\b"
_OPTION = re.compile(rf"(?<![\w-])(--[a-z][a-z0-9-]*|-[Gos])(?![\w-])(?: ({_VALUE}))?")


def in_python(text: str) -> str:
    """Return a sentence for the command line as one for Python: with parameters in place of options.

    Examples
    --------
    >>> in_python("--force replaces it"), in_python("say --layout NHWC, or -G 4")
    ('force=True replaces it', "say layout='NHWC', or num_groups=4")
    >>> in_python("--layout NCHW,NHWC takes its axes in that order")
    "layout='NCHW,NHWC' takes its axes in that order"
    """
    return _OPTION.sub(_in_python, text)


def _in_python(match: re.Match[str]) -> str:
    option, value = match.groups()
    if value is not None and match[0] in _IN_PYTHON:
        return _IN_PYTHON[match[0]]
    name = _IN_PYTHON.get(option, option.strip("-").replace("-", "_"))
    if "{}" not in name:
        if "=" in name:  # it takes no value: what follows is the next word
            return match[0].replace(option, name, 1)
        name += "={}"
    if value is None:
        return name.partition("=")[0]
    return name.format(value if value[0] in "+-'0123456789" else repr(value))
