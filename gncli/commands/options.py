"""The options that commands share, each one named object with its default, help and environment variable.

Each parses once, at the edge, into a value that cannot be wrong; nobody checks again. The environment sets how a
report looks and how fast it comes, never a number in it or a file that is written.
"""

from __future__ import annotations

import functools
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from gncli.commands import suggest
from gncli.commands.about import helpful
from gncli.commands.terminal import is_terminal
from gncli.errors import ParameterError
from gncli.names import (
    ACTIVATIONS,
    DIFFERENCES,
    FORMS,
    MAX_CHUNK,
    OF_PRECISION,
    PICTURE_FORMS,
    REPORT_FORMS,
    STATISTICS,
    TARGETS,
    TENSOR_SUFFIXES,
    Distribution,
    Scale,
    compression_of,
    difference_names,
    layouts_of,
    losses,
    nearest,
    shape_of,
    statistic,
    statistic_names,
)

if TYPE_CHECKING:
    from gncli.inputs import Draw, Network, Policy
    from gncli.kernels.affine import Scaling
    from gncli.kernels.groupnorm import GroupNorm
    from gncli.tasks.expect import Condition
    from gncli.tasks.requests import Choice, Criteria, Cutting, Execution, Output, Pairing, Parts

    _ParamType = click.ParamType[Any]
else:  # older releases of click cannot be subscripted
    _ParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

OBJECT_FORMATS = frozenset({"json", "jsonl"})  # whose objects always count zeros: a comparison an element
HIST_FORMS = ("table", "plain", "json", "jsonl")  # that have a place for a histogram
DIFFERENCE_KEYS = ("name", *DIFFERENCES)  # what cells and pairs are ordered by
FOREIGN_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # which NumPy lacks
FLOAT_DTYPES = ("float16", "float32", "float64", *FOREIGN_DTYPES)
OVERFLOWS = ("saturate", "nonfinite")


class Integer(click.IntRange):
    """An integer between bounds, which the help page shows; click would not name what is not one in one way.

    Parameters
    ----------
    least, most : int, optional
        The bounds; without `most` there is none above.
    hint : str
        What an error says besides.
    """

    name = "integer"

    def __init__(self, least: int, most: int | None = None, hint: str = "") -> None:
        super().__init__(least, most)
        self.bounds = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        self.hint = hint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the integer."""
        try:
            return int(super().convert(value, None, None))
        except click.BadParameter:
            self.fail(f"{str(value)!r} is not an integer {self.bounds}{self.hint}", param, ctx)


class Word(_ParamType):
    """One word of a few."""

    name = "word"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the words, as the help page shows them."""
        return f"[{'|'.join(self.words)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word."""
        if value not in self.words:
            hint = nearest(value, self.words) or "choose one"
            self.fail(f"{value!r} is none of {', '.join(self.words)}; {hint}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Return the words that begin so."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]


class Shape(_ParamType):
    """A shape: ``64,16,112,112``, ``64x16x112x112`` or ``(64, 16, 112, 112)``; ``()`` for a scalar."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the lengths of the axes."""
        if isinstance(value, tuple):
            return value
        try:
            shape = shape_of(value)
        except ValueError:
            self.fail(f"{value!r} is not a shape; write 64,16,112,112 or 64x16x112x112", param, ctx)
        if math.prod(length or 1 for length in shape) >= 2**60:  # so that no dtype's bytes overflow an off_t
            self.fail(f"{value!r} has too many elements", param, ctx)
        return shape


class StatisticNames(_ParamType):
    """Statistics by name, comma-separated, in the order to show; ``all`` is every one."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names of statistics, each once."""
        if isinstance(value, tuple):
            return value
        try:
            return statistic_names(value)
        except KeyError as error:
            self.fail(error.args[0], param, ctx)


class Roundings(_ParamType):
    """Dtypes to round to, comma-separated, each with a scale or without."""

    name = "dtypes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the statistics that say what is lost."""
        try:
            return losses(value)
        except KeyError as error:
            self.fail(error.args[0], param, ctx)


class ConditionText(_ParamType):
    """A condition on statistics, or on numbers of a comparison: ``abs(mean) < 1e-6``."""

    name = "condition"

    def __init__(self, *, of_differences: bool = False) -> None:
        self.of_differences = of_differences

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Condition:
        """Return the condition."""
        from gncli.tasks.expect import OF_DIFFERENCES, OF_STATISTICS, Condition, ExpectationError, parse

        if isinstance(value, Condition):
            return value
        try:
            return parse(value, OF_DIFFERENCES if self.of_differences else OF_STATISTICS)
        except ExpectationError as error:
            self.fail(str(error), param, ctx)


class SortKey(_ParamType):
    """A statistic, with ``-`` before it for the largest first."""

    name = "stat"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name of the statistic, with its sign."""
        try:
            statistic(value.removeprefix("-"))
        except KeyError as error:
            self.fail(error.args[0], param, ctx)
        return str(value)


class DifferenceName(_ParamType):
    """A number of a cell or pair, or its name, with ``-`` before it for the largest first."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the key, with its sign."""
        if (key := value.removeprefix("-")) not in DIFFERENCE_KEYS:
            hint = nearest(key, DIFFERENCE_KEYS) or "choose"
            self.fail(f"{key!r} orders no pairs; {hint} ({', '.join(DIFFERENCE_KEYS)})", param, ctx)
        return str(value)


class DifferenceNames(_ParamType):
    """Numbers of a cell or pair, comma-separated, in the order to show."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names, each once."""
        try:
            return difference_names(value)
        except KeyError as error:
            self.fail(error.args[0], param, ctx)


class Rename(_ParamType):
    """A regular expression and what replaces it: ``REGEX=TEXT``, split at the first ``=``."""

    name = "rename"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return both."""
        pattern, sign, text = value.partition("=")
        try:
            re.compile(pattern)
        except re.error as error:
            self.fail(f"{pattern!r} is not a regular expression ({error})", param, ctx)
        if not sign or not pattern:
            self.fail(f"{value!r} is not REGEX=TEXT", param, ctx)
        return pattern, text


class DtypeName(_ParamType):
    """A floating dtype that can be drawn and written."""

    name = "dtype"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return its name."""
        if value not in FLOAT_DTYPES:
            hint = nearest(value, FLOAT_DTYPES) or "choose one of"
            self.fail(f"{value!r} is not a dtype for this; {hint} ({', '.join(FLOAT_DTYPES)})", param, ctx)
        return str(value)


class NumberOrTensor(_ParamType):
    """A finite number, else a TENSOR; a file whose name is a number is ``./1``."""

    name = "number|tensor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return the number, or the name."""
        try:
            number = float(value)
        except ValueError:
            return str(value)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not finite", param, ctx)
        return number


class Epsilon(_ParamType):
    """A number that may be added to a variance."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number: finite, at least 0."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            self.fail(f"{value!r} is not a finite number of at least 0", param, ctx)
        return number


class Fraction(_ParamType):
    """A part of the whole: 0 to 1."""

    name = "fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= 1:
            self.fail(f"{value!r} is not a number from 0 to 1", param, ctx)
        return number


class FileOf(_ParamType):
    """A file that is written, by a suffix that says its form."""

    name = "file"

    def __init__(self, forms: Collection[str]) -> None:
        self.forms = forms

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path."""
        if suffix_of(value) not in self.forms:
            hint = nearest(suffix_of(value), self.forms)
            self.fail(f"{value!r} ends in none of {', '.join(self.forms)}{f'; {hint}' if hint else ''}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Return files that have such a suffix."""
        return suggest.files(*self.forms)(ctx, param, incomplete)


class Bytes(_ParamType):
    """A number of bytes: ``65536``, ``64K``, ``1M``, ``1MiB``; the units are powers of 1024."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes, at least 1."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,12})(?:([kmg])(?:ib)?)?", value.strip(), re.IGNORECASE)
        nbytes = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[(match[2] or "").lower()] if match else 0
        if nbytes < 1:
            self.fail(f"{value!r} is not a number of bytes; write 65536, 64K or 1M", param, ctx)
        return nbytes


class PartText(_ParamType):
    """One part of several: ``2/7``."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return which part, from 1 on, of how many."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is no part; write I/N, such as 2/7, with I from 1 to N", param, ctx)
        return int(match[1]), int(match[2])


class Compression(_ParamType):
    """A way to compress: ``gzip``, ``zstd``, or one of them with ``=LEVEL``."""

    name = "method"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the way and its level, as ``gzip=4``."""
        try:
            way, level = compression_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return f"{way}={level}"


def command_line() -> str:
    """Return the command line that is run, as a shell takes it."""
    return shlex.join(["gncli", *click.get_current_context().obj])


def suffix_of(path: str) -> str:
    """Return the suffix of a file that is written, in small letters."""
    return os.path.splitext(path)[1].lower()


def gathered(argument: str, make: Callable[..., object], *decorators: Decorator[Any]) -> Decorator[Any]:
    """Return one decorator that adds several options, whose values become one argument of the command.

    Parameters
    ----------
    argument : str
        The name of the argument.
    make : callable
        Takes the values of the options by name, and returns the argument.
    *decorators : callable
        The options, in the order of the help page.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def gathering(*args: Any, **given: Any) -> Any:
            values = {name: given.pop(name) for name in names}
            return command(*args, **given, **{argument: make(**values)})

        before = len(getattr(gathering, "__click_params__", ()))
        added: Any = _together(*decorators)(gathering)
        names = [param.name for param in added.__click_params__[before:]]
        return cast("Callable[..., Any]", added)

    return decorate


def _together(*decorators: Decorator[F]) -> Decorator[F]:
    """Return one decorator that adds several options, in the order of the help page."""
    return lambda command: reduce(lambda done, decorator: decorator(done), reversed(decorators), command)


# What every command has.

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Options": (),
    "Other norms": (
        *("denominator", "interleaved", "over", "rms", "mean", "var"),
        *("gamma_axes", "gamma_per_group", "gamma_offset", "round_before_affine", "activation"),
    ),
    "The verdict": (
        *("rtol", "atol", "max_fraction", "nan_differs", "allow_vacuous"),
        *("baseline", "factor", "max_ulp", "near_zero", "faithful", "exact"),
    ),
    "Expectations": ("expect", "manifest"),
    "Which tensors and cells": ("files_from", "null", "match", "where", "sort", "top", "total"),
    "Many pairs": ("renames", "fail_fast", "only_different", "unchanged", "changed"),
    "Histograms and pictures": ("hist", "bins", "plot", "title", "log", "width"),
    "Work in parts": ("part", "measure", "assemble", "resume"),
    "A random tensor": ("random", "dist", "seed"),
    "Output": ("form", "report_file", "precision", "color", "quiet"),
    "Computation": ("executor", "scheduler", "workers", "tile"),
    "Object stores and web servers": ("anonymous", "requests", "retries"),
    "Limits on the input": ("max_chunk", "allow_sparse", "allow_plugins"),
}
"""The sections of a help page, and the options in each; the first one has all that no other names."""


class Command(click.Command):
    """A command whose help page has its options in sections, what it is for first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, in which a word may follow some options."""
        for param in self.params:
            args = param.spelled(args) if isinstance(param, Worded) else args
        ctx.allow_extra_args = True  # of which this says more than click
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        if rest and not ctx.resilient_parsing:
            hint = f"it takes {' '.join(self.collect_usage_pieces(ctx))}"
            if rest[0].endswith(TENSOR_SUFFIXES):
                hint = "-o writes a file" if any("-o" in param.opts for param in self.params) else hint
            elif "/" in rest[0]:
                hint = "a tensor in a file is named FILE::NAME"
            raise click.UsageError(f"{rest[0]!r} is one too many; {hint}", ctx)
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        section_of = {name: title for title, names in SECTIONS.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in SECTIONS}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None and isinstance(param, click.Option):  # of arguments there is nothing more to say
                rows[section_of.get(param.name or "", "Options")].append(row)
        for title, some in rows.items():
            if some:
                with formatter.section(title):
                    formatter.write_dl(some)


# What a command prints.


class Look(NamedTuple):
    """How a report is shown, on stdout and in a file."""

    form: str
    report_file: str | None
    precision: int | None
    color: str
    quiet: int

    @property
    def file_form(self) -> str | None:
        """The form of the report in the file, if there is one."""
        return None if self.report_file is None else REPORT_FORMS[suffix_of(self.report_file)]

    @property
    def forms(self) -> list[str]:
        """The forms of the report on stdout, and in the file."""
        return [self.form, *filter(None, [self.file_form])]

    @property
    def zeros(self) -> bool:
        """Whether a form counts zeros."""
        return not OBJECT_FORMATS.isdisjoint(self.forms)


class Worded(click.Option):
    """An option with a word of a few after it, or with none: then it means the first one.

    What follows is its value only if it is one of these words, or is near one and names no file; a file of such a name
    is ``./log``.
    """

    def spelled(self, args: list[str]) -> list[str]:
        """Return the arguments with the word of this option in one with it."""
        words: tuple[str, ...] = tuple(cast("Any", self.type).words)
        found: list[str] = []
        rest = iter(args)
        for arg in rest:
            if arg == "--":
                return [*found, arg, *rest]
            follows = bool(found) and found[-1] == f"{self.opts[0]}={words[0]}"
            if follows and (arg in words or (arg.isalpha() and nearest(arg, words) and not os.path.lexists(arg))):
                found[-1] = f"{self.opts[0]}={arg}"
            else:
                found.append(f"{arg}={words[0]}" if arg in self.opts else arg)
        return found


class Charts(NamedTuple):
    """The histogram in a report, and the picture in a file."""

    hist: Scale | None
    bins: int
    plot: str | None
    title: str | None
    log: bool
    width: float | None

    def drawn(self) -> dict[str, Any]:
        """Return how the picture is drawn, as the arguments of `gncli.report.plot.draw`.

        Raises
        ------
        click.UsageError
            If that was said, but no picture was asked for.
        """
        given = {"title": self.title, "log": self.log or None, "width": self.width}
        said = {name: value for name, value in given.items() if value is not None}
        if said and self.plot is None:
            named = " and ".join(f"--{name}" for name in said)
            raise click.UsageError(f"{named} {'is' if len(said) == 1 else 'are'} about a picture; give --plot FILE too")
        return said

    def shown(self, form: str) -> int | None:
        """Return the bins of the histogram in a report, None where there is to be none."""
        if self.hist and form not in HIST_FORMS:
            raise click.UsageError(f"{form} has no place for a histogram; choose --format {', '.join(HIST_FORMS)}")
        return self.bins if self.hist else None

    @property
    def scale(self) -> Scale:
        """The bins of the histogram in a report."""
        return self.hist or "linear"

    @property
    def picture(self) -> int | None:
        """The bins of the histograms of the picture, None where there is none."""
        return None if self.plot is None else self.bins


form = click.option(
    "--format",
    "form",
    type=Word(FORMS),
    metavar="FORM",
    default="table",
    envvar="GNCLI_FORMAT",
    help=f"{', '.join(FORMS)}; default: table.",
)
precision = click.option(
    "--precision",
    type=Integer(1, 17),
    metavar="N",
    envvar="GNCLI_PRECISION",
    help="Significant digits in tables; default: 8, and 5 where a table has a row per tensor, cell or pair.",
)
color = click.option(
    "--color",
    type=Word(["auto", "always", "never"]),
    metavar="WHEN",
    default="auto",
    envvar="GNCLI_COLOR",
    help="Colour in tables: auto, always, never; default: auto.",
)
report_file = click.option(
    "--report",
    "report_file",
    type=FileOf(REPORT_FORMS),
    metavar="FILE",
    help=f"Write the report to FILE as well: {', '.join(REPORT_FORMS)}; .html is a page with tables that sort.",
)
quiet = click.option(
    "-q",
    "--quiet",
    count=True,
    help="Print only data on stdout: diff prints its verdict alone, stats with --expect only what failed, and with "
    "--plot, --report or -o there is no table. -qq prints nothing.",
)

statistics = click.option(
    "-s",
    "--stat",
    "statistics",
    type=StatisticNames(),
    metavar="NAMES",
    help=f"Statistics to show, in this order, comma-separated: {' '.join(STATISTICS)}, pNN for a percentile (p99.9); "
    f"all: every one except median, percentiles, sha256 and {' '.join(OF_PRECISION)}. gncli help statistics has the "
    "formulas.",
    shell_complete=suggest.statistics,
)
_as = click.option(
    "--as",
    "roundings",
    type=Roundings(),
    metavar="DTYPES",
    help="Show what rounding to these dtypes would lose: how many elements overflow, become 0, become subnormal, and "
    "the signal-to-noise ratio. DTYPE or DTYPE:SCALE, which multiplies them first, comma-separated: "
    f"float16,float8_e4m3fn:16. DTYPE is {', '.join(TARGETS)}. Each is a statistic too: -s float16.snr.",
    shell_complete=suggest.words(*TARGETS),
)
describing = gathered(
    "statistics",
    lambda statistics, roundings: tuple(dict.fromkeys((*(statistics or ()), *(roundings or ())))),
    statistics,
    _as,
)

# What stats and diff are about: cells, histograms, expectations, several tensors.

by = click.option(
    "--by",
    metavar="AXES",
    help="Show one row per cell: C for channels; N,C for the channels of each sample; 0,1 for axes by number; group, "
    "with --groups, for the groups of each sample.",
    shell_complete=suggest.cuts,
)
bins = click.option(
    "--bins",
    type=Integer(1, 1 << 16),
    metavar="INT",
    default=64,
    help="Number of bins of the histogram; default: 64.",
)
plot = click.option(
    "--plot",
    type=FileOf(PICTURE_FORMS),
    metavar="FILE",
    help=f"Draw histograms, and maps of cells, to FILE: {', '.join(PICTURE_FORMS)}; this takes one more pass.",
)
title = click.option("--title", metavar="TEXT", help="Write TEXT above the picture, instead of what was drawn.")
log = click.option(
    "--log", is_flag=True, help="Draw counts, deviations and differences in the picture on logarithmic scales."
)
width = click.option(
    "--width",
    type=click.FloatRange(2.5, 40.0),
    metavar="INCHES",
    help="Width of the picture; default: 7.2, a page. A column of a paper is about 3.4.",
)
hist = click.option(
    "--hist",
    cls=Worded,
    type=Word(["linear", "exponent", "log"]),
    metavar="[exponent|log]",
    help="Draw a histogram; exponent: of absolute values, one bin per power of two; log: of absolute values, on a "
    "logarithmic scale. This takes one more pass over the data.",
)
charts = gathered("charts", Charts, hist, bins, plot, title, log, width)
expect = click.option(
    "--expect",
    type=ConditionText(),
    multiple=True,
    metavar="'EXPR'",
    help="Exit with status 1 unless this holds (with --by: in every cell), such as 'nan == 0' or 'abs(mean) < 1e-6 or "
    "max <= 6*std'; EXPR is that of --where. May be repeated.",
    shell_complete=suggest.expectations,
)
expect_manifest = click.option(
    "--expect-manifest",
    "manifest",
    metavar="FILE",
    help="Exit with status 1 unless the tensors are those of FILE, which --format jsonl -s shape,dtype,sha256 wrote.",
)
match = click.option(
    "--match", metavar="GLOB", help="Show only tensors whose name matches, with or without the FILE:: part."
)


def _choice(where: Condition | None, sort: str | None, top: int | None) -> Choice:
    from gncli.tasks.requests import Choice

    return Choice(where=where, sort=sort, top=top)


_top = click.option(
    "--top", type=Integer(1), metavar="N", help="Show the first N only, in the order of --sort if it is given."
)
choosing = gathered(
    "choice",
    _choice,
    click.option(
        "--where",
        type=ConditionText(),
        metavar="'EXPR'",
        help="Show only tensors, or with --by cells, of which this holds: 'zeros/size > 0.5', 'max > 6*std and nan == "
        "0', 'dtype == float16 or shape == 64,16,8,8'. --expect and --total are then about these. What cannot be read "
        "is always shown.",
        shell_complete=suggest.expectations,
    ),
    click.option(
        "--sort",
        type=SortKey(),
        metavar="STAT",
        help="Order tensors, or with --by the cells of all tensors, by a statistic; -STAT: largest first. What cannot "
        "be read comes first.",
        shell_complete=suggest.orders,
    ),
    _top,
)
total = click.option("--total", is_flag=True, help="Add a row for all tensors together.")

# How fast, in how much memory. No default here: the engine knows the machine.

workers = click.option(
    "--workers",
    type=Integer(1, 1024),
    metavar="N",
    envvar="GNCLI_WORKERS",
    help="Number of threads; it does not change the result; default: one per CPU.",
)
tile = click.option(
    "--tile",
    type=Bytes(),
    metavar="BYTES",
    envvar="GNCLI_TILE",
    help="Bytes of input that a thread works on at a time; they do not change the result; default: 2M.",
)
executor = click.option(
    "--executor",
    type=Word(["threads", "dask"]),
    default="threads",
    help="What does the work: threads, or a dask cluster; default: threads.",
)
scheduler = click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Address of the dask cluster, HOST:8786; default: processes on this machine.",
)


def _execution(
    workers: int | None, tile: int | None, executor: str = "threads", scheduler: str | None = None
) -> Execution:
    from gncli.tasks.requests import Execution

    return Execution(workers=workers, tile=tile, executor=executor, scheduler=scheduler)


_looking = gathered("look", Look, form, report_file, precision, color, quiet)
common = _together(_looking, gathered("execution", _execution, workers, tile), helpful)
"""What every command has whose work stays in this process."""
distributable = _together(_looking, gathered("execution", _execution, executor, scheduler, workers, tile), helpful)
"""What a command has whose work may go to a cluster."""

# Drawn tensors. None stands for the default where --random must have been given too.

random = click.option(
    "--random", type=Shape(), metavar="SHAPE", help="Use a random tensor of this shape: 64,16,112,112."
)
dist = click.option(
    "--dist",
    type=Word(["uniform", "normal"]),
    metavar="DIST",
    help="Distribution: uniform on [0, 1), or normal; default: uniform.",
)
seed = click.option(
    "--seed",
    type=Integer(0),
    metavar="INT",
    help="Seed of NumPy's default_rng; default: one is chosen and shown.",
)
dtype = click.option(
    "--dtype",
    type=DtypeName(),
    shell_complete=suggest.words(*FLOAT_DTYPES),
    metavar="DTYPE",
    help=f"Dtype of the random tensor: {', '.join(FLOAT_DTYPES)}; default: float64.",
)

# What an input may do.

_as_dtype = click.option(
    "--as-dtype",
    type=Word(FOREIGN_DTYPES),
    metavar="DTYPE",
    help=f"What the raw elements (V2, V1) of a .npy are, which does not say it: {', '.join(FOREIGN_DTYPES)}.",
)
_allow_plugins = click.option(
    "--allow-plugins", is_flag=True, help="Let HDF5 load filter plugins, which are code, from HDF5_PLUGIN_PATH."
)
_allow_sparse = click.option(
    "--allow-sparse",
    is_flag=True,
    help="Read a tensor that declares over 4 GiB and 1000 times (.npz, .pt: 100 times) what its file stores.",
)
_max_chunk = click.option(
    "--max-chunk",
    type=Bytes(),
    metavar="BYTES",
    default=MAX_CHUNK,
    help="Refuse an HDF5 dataset with larger chunks; default: 64M.",
)


_anonymous = click.option(
    "--anonymous", is_flag=True, help="Read s3://, gs:// and az:// without credentials: a public bucket."
)
_requests = click.option(
    "--requests",
    type=Integer(1, 256),
    metavar="N",
    default=8,
    help="Requests in flight at once to s3://, gs://, az:// and https://, each of 8 MiB of memory; default: 8.",
)
_retries = click.option(
    "--retries",
    type=Integer(0, 100),
    metavar="N",
    default=5,
    help="Retries of a request that failed for a reason that may pass, such as 503; all end in a minute; default: 5.",
)


def _network(requests: int, retries: int, anonymous: bool = False) -> Network:
    from gncli.inputs import Network

    return Network(anonymous=anonymous, requests=requests, retries=retries)


def _policy(as_dtype: str | None, allow_plugins: bool, allow_sparse: bool, max_chunk: int, **network: Any) -> Policy:
    from gncli.inputs import Policy

    return Policy(
        plugins=allow_plugins,
        sparse=allow_sparse,
        max_chunk=max_chunk,
        as_dtype=as_dtype,
        network=_network(**network),
    )


networking = gathered("network", _network, _requests, _retries)
permitting = gathered(
    "policy", _policy, _as_dtype, _allow_plugins, _allow_sparse, _max_chunk, _anonymous, _requests, _retries
)


# What is written.

output = click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="Write FILE.npy, FILE.h5[::NAME], FILE.safetensors[::NAME], FILE.zarr[::NAME], or - (.npy on stdout). All but "
    "HDF5 may be on a store: s3://bucket/y.zarr.",
    shell_complete=suggest.outputs,
)
compression = click.option(
    "--compression",
    type=Compression(),
    metavar="WAY[=LEVEL]",
    help="Compress an OUT that is HDF5, by gzip (0 to 9, default: 4), or Zarr, by zstd (1 to 22, default: 3).",
    shell_complete=suggest.compressions,
)
force = click.option("-f", "--force", is_flag=True, help="Replace files that exist.")

in_place = click.option(
    "--in-place", is_flag=True, help="Replace the input, a .npy, by the result, at the end; instead of -o."
)


npy_bits = click.option(
    "--npy-bits",
    is_flag=True,
    help="Write bfloat16 or float8 to a .npy all the same, as raw elements (V2, V1); reading them takes --as-dtype.",
)
overflow = click.option(
    "--overflow",
    type=Word(OVERFLOWS),
    metavar="HOW",
    help="What a result beyond the largest float8 becomes: saturate (the largest), nonfinite (infinity, or NaN in "
    "float8_e4m3fn). float8 needs it, bfloat16 takes it; overflows are then counted, and no failure.",
)


def _output(
    output: str | None,
    force: bool = False,
    in_place: bool = False,
    compression: int | None = None,
    npy_bits: bool = False,
    overflow: str | None = None,
) -> Output:
    from gncli.tasks.requests import Output

    return Output(
        path=output,
        force=force,
        in_place=in_place,
        compression=compression,
        npy_bits=npy_bits,
        overflow=overflow,
    )


def writing(*decorators: Decorator[Any]) -> Decorator[Any]:
    """Return one decorator that adds `output` and more options about it, as one argument ``output``."""
    return gathered("output", _output, *decorators)


# Work in parts.


def _parts(part: tuple[int, int] | None, assemble: bool, measure: bool = False, resume: bool = False) -> Parts | None:
    if (part is not None) + assemble + resume > 1:
        raise click.UsageError("one of --part, --assemble and --resume")
    if measure and part is None:
        raise click.UsageError("--measure is about a part; give --part I/N too")
    from gncli.tasks.requests import Parts

    if part is not None:
        return Parts(kind="measure" if measure else "part", part=part[0], parts=part[1])
    kind = "assemble" if assemble else "resume" if resume else None
    return None if kind is None else Parts(kind=kind)


parts = gathered(
    "parts",
    _parts,
    click.option(
        "--part",
        type=PartText(),
        metavar="I/N",
        help="Do part I of N only, beside OUT, as one job of an array; jobs share nothing but a file system, or a "
        "store. A part that is done is not done again.",
    ),
    click.option(
        "--measure",
        is_flag=True,
        help="With --part: only measure groups that are larger than a part; all parts do this before the first does "
        "the rest.",
    ),
    click.option(
        "--assemble", is_flag=True, help="Put all parts together: check them, show the report, and make OUT visible."
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Work so that a run that was killed can go on: what parts have done is not done again.",
    ),
)
"""What ``normalize`` takes about parts."""


class StatisticsParts(NamedTuple):
    """How ``stats`` works in parts, and where a part is written."""

    asked: Parts | None
    output: str | None


def _statistics_parts(part: tuple[int, int] | None, assemble: bool, output: str | None) -> StatisticsParts:
    asked = _parts(part, assemble)
    if (part is None) != (output is None):
        raise click.UsageError("--part and -o FILE.npz go together")
    if asked is not None:
        option, refused = ("--part", _OF_ASSEMBLY) if asked.part else ("--assemble", _OF_PARTS)
        context = click.get_current_context()
        for param in context.command.params:
            source = context.get_parameter_source(param.name or "")
            if param.name in (*refused, *_OF_NEITHER) and source is click.core.ParameterSource.COMMANDLINE:
                hint = {_OF_ASSEMBLY: "give it to --assemble", _OF_PARTS: "the parts say it"}.get(refused)
                hint = hint if param.name in refused else "leave it out"
                raise click.UsageError(f"{param.opts[-1]} does not go with {option}; {hint}")
    return StatisticsParts(asked, output)


_OF_ASSEMBLY = ("expect", "where", "sort", "top", "total")
_OF_PARTS = ("statistics", "roundings", "ddof", "by", "num_groups", "group_size", "layout")
_OF_NEITHER = ("hist", "bins", "plot", "title", "log", "width", "manifest", "match", "random", "executor", "scheduler")


parts_of_statistics = gathered(
    "parts",
    _statistics_parts,
    click.option(
        "--part",
        type=PartText(),
        metavar="I/N",
        help="Measure part I of N of one TENSOR only, as one job of an array, and write what was found to -o FILE.npz.",
    ),
    click.option(
        "--assemble", is_flag=True, help="Each TENSOR is a FILE.npz of --part: show the report of all parts together."
    ),
    click.option(
        "-o",
        "--output",
        metavar="FILE.npz",
        help="With --part: the file for what was found.",
        shell_complete=suggest.files(".npz"),
    ),
)
"""What ``stats`` takes about parts."""


# Group Normalization.

groups = click.option(
    "-G",
    "--groups",
    "num_groups",
    type=Integer(1, hint="; say -G 1, 2, 4 ..., which divides the number of channels; 32 is the default"),
    metavar="INT",
    help="Number of groups (num_groups); it must divide the number of channels; default: 32.",
)
group_size = click.option(
    "--group-size",
    type=Integer(1),
    metavar="INT",
    help="Number of channels per group; instead of --groups.",
)
eps = click.option(
    "--eps",
    type=Epsilon(),
    default=1e-5,
    help="Added to the variance, inside the root; default: 1e-5.",
)
layout = click.option(
    "--layout",
    metavar="LETTERS",
    help="One letter per axis, such as NHWC: C for channels; N or B for samples, if there are several; any of H W D L "
    "T S X Y Z for space. Default: NC, NCL, NCHW, NCDHW for 2 to 5 axes.",
    shell_complete=suggest.layouts,
)
gamma = click.option(
    "--gamma",
    type=NumberOrTensor(),
    default=1.0,
    help="Scale: a number, or a TENSOR of shape (C,), or (1, C, 1, 1) and alike; default: 1.",
    shell_complete=suggest.tensors,
)
beta = click.option(
    "--beta",
    type=NumberOrTensor(),
    default=0.0,
    help="Shift: a number, or a TENSOR of shape (C,), or (1, C, 1, 1) and alike; default: 0.",
    shell_complete=suggest.tensors,
)
denominator = click.option(
    "--denominator",
    type=Word(["std", "variance"]),
    metavar="NAME",
    default="std",
    help="std divides by sqrt(var + eps), variance by var + eps; default: std.",
)

interleaved = click.option(
    "--interleaved", is_flag=True, help="Put channel c into group c % G, as MLX does; default: blocks of C/G channels."
)

over = click.option(
    "--over",
    metavar="AXES",
    help="Reduce over these axes, instead of groups, by letter or number: D or -1 for layer norm of NTD; H,W for "
    "instance norm; N,H,W for batch norm in training.",
)
rms = click.option("--rms", is_flag=True, help="Do not subtract the mean: x / sqrt(mean(x^2) + eps).")
mean = click.option(
    "--mean",
    type=NumberOrTensor(),
    help="With --var: take this mean of each channel, a number or a TENSOR of shape (C,); batch norm in inference.",
    shell_complete=suggest.tensors,
)
var = click.option(
    "--var",
    type=NumberOrTensor(),
    help="With --mean: take this variance of each channel, a number or a TENSOR of shape (C,).",
    shell_complete=suggest.tensors,
)
gamma_axes = click.option(
    "--gamma-axes",
    metavar="AXES",
    help="Axes of the tensor that gamma and beta have, such as C or -1; default: C, or with --over the reduced axes.",
)
gamma_per_group = click.option("--gamma-per-group", is_flag=True, help="gamma and beta have shape (G,), as in ONNX 18.")

gamma_offset = click.option(
    "--gamma-offset",
    type=float,
    metavar="FLOAT",
    default=0.0,
    help="Added to gamma: with 1 the factor is 1 + gamma, as in Gemma; default: 0.",
)
round_before_affine = click.option(
    "--round-before-affine",
    is_flag=True,
    help="Round the standardized values to the dtype of the output before gamma and beta, as T5 and Llama do, and the "
    "result again.",
)
activation = click.option(
    "--activation",
    type=Word(ACTIVATIONS),
    metavar="NAME",
    help="Apply relu, silu, gelu or gelu-tanh after gamma and beta, and round once.",
)


def check_grouping(num_groups: int | None, group_size: int | None) -> None:
    """Raise if the groups are said in both ways."""
    if num_groups is not None and group_size is not None:
        raise click.UsageError("either --groups or --group-size, not both")


class Formula(NamedTuple):
    """Group Normalization, or another norm of its family, and the affine map after it."""

    norm: GroupNorm
    gamma: float | str
    beta: float | str
    mean: float | str | None
    var: float | str | None

    @property
    def others(self) -> tuple[float | str, ...]:
        """The numbers and tensors besides the input."""
        return tuple(each for each in (self.gamma, self.beta, self.mean, self.var) if each is not None)


def _formula(
    num_groups: int | None,
    group_size: int | None,
    mean: float | str | None = None,
    var: float | str | None = None,
    **given: Any,
) -> Formula:
    check_grouping(num_groups, group_size)
    if (mean is None) != (var is None):
        raise click.UsageError("--mean and --var go together")
    from gncli.kernels.groupnorm import GroupNorm

    gamma, beta = given.pop("gamma"), given.pop("beta")
    norm = GroupNorm(num_groups, group_size, given=mean is not None, **given)
    return Formula(norm, gamma, beta, mean, var)


def _scaling(**given: Any) -> Scaling:
    from gncli.kernels.affine import Scaling

    return Scaling(**given)


_grouped = (groups, group_size, eps, layout, gamma, beta, denominator, interleaved)
grouping = gathered("formula", _formula, *_grouped)
"""What a command has that is about Group Normalization."""
normalizing = _together(
    gathered("formula", _formula, *_grouped, over, rms, mean, var),
    gathered("scaling", _scaling, gamma_axes, gamma_per_group, gamma_offset, round_before_affine, activation),
)
"""What a command has that applies any norm of the family."""


def _cutting(by: str | None, num_groups: int | None, group_size: int | None, layout: str | None) -> Cutting:
    from gncli.tasks.requests import Cutting

    check_grouping(num_groups, group_size)
    cutting = Cutting(by=by, layout=layout, num_groups=num_groups, group_size=group_size)
    if by is None and cutting != Cutting():
        raise click.UsageError("--groups, --group-size and --layout are about cells; give --by too")
    return cutting


cutting = gathered("cutting", _cutting, by, groups, group_size, layout)


def _layouts(by: str | None, num_groups: int | None, group_size: int | None, layout: str | None) -> Compared:
    """Return the cells of two tensors, and their layouts if both are given."""
    first, both = layouts_of(layout)
    return Compared(_cutting(by, num_groups, group_size, None if by is None and both else first), both)


class Compared(NamedTuple):
    """The cells of two tensors, and their layouts, if those are given."""

    cutting: Cutting
    layouts: tuple[str, str] | None


_layout_of_both = click.option(
    "--layout",
    metavar="A[,B]",
    help="Layouts of A and B, such as NCHW,NHWC: the axes of B are taken in the order of those of A, by their letters. "
    "One layout, with --by, is that of both.",
    shell_complete=suggest.layouts,
)
compared = gathered("compared", _layouts, by, groups, group_size, _layout_of_both)


def _criteria(
    baseline: str | None,
    factor: float | None,
    max_ulp: int | None,
    near_zero: float | None,
    faithful: bool,
    exact: bool,
    allow_vacuous: bool,
) -> Criteria:
    from gncli.tasks.requests import Criteria

    return Criteria(
        baseline=baseline,
        factor=factor,
        max_ulp=max_ulp,
        near_zero=near_zero,
        faithful=faithful,
        exact=exact,
        allow_vacuous=allow_vacuous,
    )


criteria = gathered(
    "criteria",
    _criteria,
    click.option(
        "--baseline",
        metavar="C",
        help="C is what an accepted implementation gives in the dtype of A: SAME if max |A - B| <= FACTOR * "
        "max |C - B| + max(ATOL, rounding floor); --atol is then 0 by default.",
        shell_complete=suggest.tensors,
    ),
    click.option("--factor", type=Epsilon(), help="FACTOR of --baseline; default: 2."),
    click.option(
        "--max-ulp",
        type=Integer(0),
        metavar="N",
        help="SAME if A is at most N units in the last place from B, rounded to the dtype of A; without --atol and "
        "--rtol, instead of their defaults. Integers are compared exactly.",
    ),
    click.option(
        "--near-zero",
        type=Epsilon(),
        metavar="X",
        help="With --max-ulp: below X, |a - b| may be N times the spacing at X; default: the smallest normal number.",
    ),
    click.option(
        "--faithful",
        is_flag=True,
        help="SAME if each element is one of the two neighbours of B's in the dtype of A, as truncation and stochastic "
        "rounding give them.",
    ),
    click.option("--exact", is_flag=True, help="SAME if dtype, shape and all bits are equal, those of -0 and NaN too."),
    click.option(
        "--allow-vacuous",
        is_flag=True,
        help="Allow SAME where a tensor of zeros would be SAME too; otherwise that is INCONCLUSIVE.",
    ),
)


def _pairing(
    renames: tuple[tuple[str, str], ...],
    match: str | None,
    fail_fast: bool,
    only_different: bool,
    unchanged: tuple[str, ...],
    changed: tuple[str, ...],
) -> Pairing:
    from gncli.tasks.requests import Pairing

    return Pairing(
        renames=renames,
        match=match,
        fail_fast=fail_fast,
        only_different=only_different,
        unchanged=unchanged,
        changed=changed,
    )


pairing = gathered(
    "pairing",
    _pairing,
    click.option(
        "--map",
        "renames",
        type=Rename(),
        multiple=True,
        metavar="'REGEX=TEXT'",
        help="Replace REGEX by TEXT in the names of A, as Python's re.sub does. May be repeated.",
    ),
    click.option("--match", metavar="GLOB", help="Compare only tensors whose name matches."),
    click.option("--fail-fast", is_flag=True, help="Stop at the first difference."),
    click.option("--only-different", is_flag=True, help="Leave out pairs that are the same."),
    click.option(
        "--expect-unchanged",
        "unchanged",
        multiple=True,
        metavar="GLOB",
        help="Exit with status 1 if a tensor whose name matches is not identical. May be repeated. Then pairs that "
        "match no such option may differ.",
    ),
    click.option(
        "--expect-changed",
        "changed",
        multiple=True,
        metavar="GLOB",
        help="Exit with status 1 if a tensor whose name matches is identical. May be repeated.",
    ),
)


numbers = click.option(
    "-s",
    "--stat",
    "statistics",
    type=DifferenceNames(),
    metavar="NAMES",
    help=f"Numbers to show, in this order, comma-separated: {' '.join(DIFFERENCES)}. rel is |a - b| / |b|; slope and "
    "offset are those of the least-squares line a = slope b + offset.",
    shell_complete=suggest.words(*DIFFERENCES),
)
choosing_differences = gathered(
    "choice",
    _choice,
    click.option(
        "--where",
        type=ConditionText(of_differences=True),
        metavar="'EXPR'",
        help="Show only cells or pairs of which this holds, by the names of -s: 'outside/size > 0.01', 'max > 6*rmse', "
        "of pairs also 'dtype == float16 or shape == 64,16,8,8'. What cannot be read is always shown.",
        shell_complete=suggest.words(*DIFFERENCES),
    ),
    click.option(
        "--sort",
        type=DifferenceName(),
        metavar="NAME",
        help="Order cells or pairs by one of these numbers, or by name; -NAME: largest first. What cannot be read "
        "comes first. Default: -max for cells, name for pairs.",
        shell_complete=suggest.words(*DIFFERENCE_KEYS, *(f"-{key}" for key in DIFFERENCE_KEYS)),
    ),
    _top,
)

rtol = click.option(
    "--rtol",
    type=Epsilon(),
    help="Relative tolerance; default: depends on the dtype, as in torch.testing.assert_close.",
)
atol = click.option("--atol", type=Epsilon(), help="Absolute tolerance; default: as for --rtol.")
max_fraction = click.option(
    "--max-fraction",
    type=Fraction(),
    metavar="F",
    default=0.0,
    help="SAME if at most this fraction of the elements is outside; default: 0.",
)
nan_differs = click.option("--nan-differs", is_flag=True, help="Count two NaNs as different.")


def named_tensors(names: tuple[str, ...], draw: Draw | None, *others: float | str) -> tuple[str, ...]:
    """Return the tensors that were named: stdin where none is, and it is no terminal."""
    command = click.get_current_context().command_path
    if draw is not None and names:
        raise click.UsageError(f"either a TENSOR or --random, not both: {names[0]}")
    if draw is None and not names:
        if is_terminal(sys.stdin):
            raise ParameterError(
                f"no TENSOR; name a file ({command} x.npy), pipe one in ({command} - < x.npy), "
                f"or draw one ({command} --random 64,16,112,112)"
            )
        names = ("-",)
    piped = (*names, *others).count("-")
    if piped > 1:
        raise click.UsageError(f"standard input can be read once, but - was given {piped} times")
    if piped and is_terminal(sys.stdin):
        raise click.UsageError("- is standard input, and that is a terminal; pipe a tensor in")
    return names


class Named(NamedTuple):
    """A file that names tensors, if there is one."""

    files_from: str | None
    null: bool

    def tensors(self, names: tuple[str, ...], draw: Draw | None) -> tuple[str, ...]:
        """Return the tensors that were named on the command line, then those in the file."""
        if self.files_from is None:
            if self.null:
                raise click.UsageError("--null is about the names in a file; give --files-from FILE too")
            return named_tensors(names, draw)
        if draw is not None:
            raise click.UsageError("either --files-from or --random, not both")
        named_tensors((*names, self.files_from), None)
        from gncli.io import read_names

        return named_tensors((*names, *read_names(self.files_from, null=self.null)), None, self.files_from)


naming = gathered(
    "named",
    Named,
    click.option(
        "--files-from",
        metavar="FILE",
        help="Describe the tensors that FILE names too, one per line; - is stdin: find . -name '*.npy' | gncli "
        "stats --files-from -",
    ),
    click.option("--null", is_flag=True, help="Names in FILE end with a NUL, as find -print0 writes them."),
)


class Drawing(NamedTuple):
    """A random tensor in place of a TENSOR, if there is one."""

    random: tuple[int, ...] | None
    dist: Distribution | None
    seed: int | None

    def draw(self, dtype: str | None) -> Draw | None:
        """Return what to draw, or None without --random, when nothing about a draw may be given either."""
        if self.random is not None:
            from gncli.inputs import Draw

            return Draw(self.random, dist=self.dist or Draw.dist, seed=self.seed, dtype=dtype or Draw.dtype)
        for name, value in {"dist": self.dist, "seed": self.seed, "dtype": dtype}.items():
            if value is not None:
                raise click.UsageError(f"--{name} is about a drawn tensor; give --random SHAPE too")
        return None


drawing = gathered("drawing", Drawing, random, dist, seed)
