"""`gncli.commands.options`: what is typed becomes a value that cannot be wrong, or a usage error with a hint."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click
import pytest

from gncli.commands import options
from gncli.commands.terminal import colored as colors
from gncli.commands.terminal import width as width_of_stdout
from gncli.errors import ParameterError
from gncli.inputs import Draw
from gncli.names import ALL_STATISTICS
from gncli.tasks.expect import parse

VALID: list[tuple[Any, str, object]] = [
    (options.Shape(), "64,16,112,112", (64, 16, 112, 112)),
    (options.Shape(), "64x16x112x112", (64, 16, 112, 112)),
    (options.Shape(), "7", (7,)),
    (options.Shape(), "0,3", (0, 3)),
    (options.Shape(), "()", ()),
    (options.StatisticNames(), "mean", ("mean",)),
    (options.StatisticNames(), "max, mean,max", ("max", "mean")),
    (options.StatisticNames(), "all", ALL_STATISTICS),
    (options.StatisticNames(), "p99.9,median", ("p99.9", "median")),
    (options.SortKey(), "-std", "-std"),
    (options.DtypeName(), "float16", "float16"),
    (options.Fraction(), "0.25", 0.25),
    (options.ConditionText(), "abs(mean) < 1e-6", parse("abs(mean) < 1e-6")),
    (options.NumberOrTensor(), "1", 1.0),
    (options.NumberOrTensor(), "-2.5e-3", -0.0025),
    (options.NumberOrTensor(), "g.npy", "g.npy"),
    (options.NumberOrTensor(), "./1", "./1"),
    (options.NumberOrTensor(), "-", "-"),
    (options.Epsilon(), "1e-5", 1e-5),
    (options.Epsilon(), "0", 0.0),
    (options.Bytes(), "65536", 65536),
    (options.Bytes(), "64K", 65536),
    (options.Bytes(), "1m", 1 << 20),
    (options.Bytes(), "1MiB", 1 << 20),
    (options.Bytes(), "2G", 2 << 30),
]

INVALID: list[tuple[Any, str, str]] = [
    (options.Shape(), "", "'' is not a shape; write 64,16,112,112 or 64x16x112x112"),
    (options.Shape(), "64,", "'64,' is not a shape; write 64,16,112,112 or 64x16x112x112"),
    (options.Shape(), "-1,2", "'-1,2' is not a shape; write 64,16,112,112 or 64x16x112x112"),
    (options.Shape(), "6_4", "'6_4' is not a shape; write 64,16,112,112 or 64x16x112x112"),
    (options.Shape(), "٣", "'٣' is not a shape; write 64,16,112,112 or 64x16x112x112"),
    (options.Shape(), "1x" * 64 + "1", f"'{'1x' * 64}1' is not a shape; write 64,16,112,112 or 64x16x112x112"),
    (options.Shape(), "4294967296,4294967296", "'4294967296,4294967296' has too many elements"),
    (options.StatisticNames(), "maen", "'maen' is not a statistic; did you mean mean?"),
    (options.StatisticNames(), "mean,sdt", "'sdt' is not a statistic; did you mean std?"),
    (options.StatisticNames(), "", "'' is not a statistic; gncli help statistics has them all"),
    (options.StatisticNames(), "p101", "'p101' is not a percentile; write p0 to p100, such as p99.9"),
    (options.StatisticNames(), "p-1", "'p-1' is not a percentile; write p0 to p100, such as p99.9"),
    (options.SortKey(), "-stdd", "'stdd' is not a statistic; did you mean std?"),
    (
        options.DtypeName(),
        "flaot32",
        "'flaot32' is not a dtype for this; did you mean float32? "
        "(float16, float32, float64, bfloat16, float8_e4m3fn, float8_e5m2)",
    ),
    (
        options.DtypeName(),
        "x",
        "'x' is not a dtype for this; choose one of (float16, float32, float64, bfloat16, float8_e4m3fn, float8_e5m2)",
    ),
    (options.Fraction(), "2", "'2' is not a number from 0 to 1"),
    (options.Fraction(), "x", "'x' is not a number from 0 to 1"),
    (
        options.ConditionText(),
        "mean < ?",
        "expected a number, at character 8: mean <  >>> ?",
    ),
    (
        options.ConditionText(of_differences=True),
        "std < 1",
        "'std' is no difference; choose "
        "(size, outside, nan, inf, max, mean, rmse, rel, cosine, slope, offset), at character 1:  >>> std < 1",
    ),
    (options.NumberOrTensor(), "nan", "'nan' is not finite"),
    (options.NumberOrTensor(), "-inf", "'-inf' is not finite"),
    (options.Epsilon(), "-1e-5", "'-1e-5' is not a finite number of at least 0"),
    (options.Epsilon(), "inf", "'inf' is not a finite number of at least 0"),
    (options.Epsilon(), "nan", "'nan' is not a finite number of at least 0"),
    (options.Epsilon(), "x", "'x' is not a finite number of at least 0"),
    (options.Bytes(), "0", "'0' is not a number of bytes; write 65536, 64K or 1M"),
    (options.Bytes(), "1T", "'1T' is not a number of bytes; write 65536, 64K or 1M"),
    (options.Bytes(), "1.5M", "'1.5M' is not a number of bytes; write 65536, 64K or 1M"),
    (options.Bytes(), "-1", "'-1' is not a number of bytes; write 65536, 64K or 1M"),
]


@pytest.mark.parametrize(("kind", "text", "value"), VALID)
def test_what_is_typed_becomes_a_value(kind: Any, text: str, value: object) -> None:
    assert kind.convert(text, None, None) == value
    assert kind.convert(value, None, None) == value


@pytest.mark.parametrize(("kind", "text", "message"), INVALID)
def test_what_cannot_be_a_value_says_how_to_type_one(kind: Any, text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert caught.value.message == message


def test_a_draw_has_numpys_defaults() -> None:
    assert options.Drawing((2,), None, None).draw(None) == Draw((2,), dist="uniform", seed=None, dtype="float64")
    assert options.Drawing((), "normal", 3).draw("float16") == Draw((), dist="normal", seed=3, dtype="float16")
    assert options.Drawing(None, None, None).draw(None) is None


@pytest.mark.parametrize(
    ("given", "option"),
    [(("normal", None, None), "--dist"), ((None, 0, None), "--seed"), ((None, None, "x"), "--dtype")],
)
def test_an_option_about_a_draw_needs_one(given: tuple[Any, Any, Any], option: str) -> None:
    with pytest.raises(click.UsageError, match=f"^{option} is about a drawn tensor; give --random SHAPE too$"):
        options.Drawing(None, *given[:2]).draw(given[2])


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture
def context() -> Any:
    with click.Context(click.Command("stats"), info_name="gncli stats") as context:
        yield context


@pytest.mark.parametrize("stdin", [io.StringIO(), None])
@pytest.mark.usefixtures("context")
def test_no_tensor_means_stdin_where_that_is_no_terminal(monkeypatch: pytest.MonkeyPatch, stdin: Any) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    assert options.named_tensors((), None) == ("-",)
    assert options.named_tensors((), Draw((2,))) == ()
    assert options.named_tensors(("a", "-"), None, 1.0, "g.npy") == ("a", "-")


@pytest.mark.usefixtures("context")
def test_no_tensor_on_a_terminal_shows_the_three_ways_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(ParameterError) as caught:
        options.named_tensors((), None)
    assert str(caught.value) == (
        "no TENSOR; name a file (gncli stats x.npy), pipe one in (gncli stats - < x.npy), "
        "or draw one (gncli stats --random 64,16,112,112)"
    )
    with pytest.raises(click.UsageError, match=r"that is a terminal; pipe a tensor in$"):
        options.named_tensors(("-",), None)


@pytest.mark.usefixtures("context")
def test_standard_input_is_read_once_and_a_draw_is_instead_of_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for names, others in [(("-", "-"), ()), (("-",), ("-",)), ((), ("-", 1.0)), (("x",), ("-", "-"))]:
        with pytest.raises(click.UsageError, match="standard input can be read once, but - was given 2 times"):
            options.named_tensors(names, None, *others)
    with pytest.raises(click.UsageError, match=r"either a TENSOR or --random, not both: x\.npy"):
        options.named_tensors(("x.npy",), Draw((2,)))


@pytest.mark.parametrize(
    ("choice", "terminal", "environment", "colored"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, choice: str, terminal: bool, environment: dict[str, str], colored: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert colors(choice, terminal) is colored


def test_the_width_is_that_of_the_terminal_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, child = os.openpty()
    try:
        with open(child, "w", closefd=False) as terminal:
            monkeypatch.setattr(sys, "stdout", terminal)
            import fcntl
            import struct
            import termios

            fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 91, 0, 0))
            assert width_of_stdout() == 91
            monkeypatch.setattr(sys, "stdout", None)
            assert width_of_stdout() is None
            monkeypatch.setattr(sys, "stdout", io.StringIO())
            assert width_of_stdout() is None
    finally:
        os.close(parent)
        os.close(child)


def test_a_compression_is_gzip_with_a_level() -> None:
    compression = options.Compression()
    ways = {"gzip": "gzip=4", "gzip=0": "gzip=0", "zstd": "zstd=3", "zstd=22": "zstd=22", 7: "gzip=7"}
    assert [compression.convert(way, None, None) for way in ways] == list(ways.values())
    for wrong in ("lzf", "gzip=10", "gzip=", "GZIP", "zstd=0", "zstd=23"):
        with pytest.raises(click.BadParameter, match="is no compression; write gzip or gzip=LEVEL"):
            compression.convert(wrong, None, None)


@pytest.mark.parametrize(("columns", "width"), [("100", 100), ("0", None), ("", None), ("-5", None), ("9" * 99, None)])
def test_columns_are_heeded_where_stdout_is_no_terminal(
    columns: str, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", columns)
    assert width_of_stdout() == width
