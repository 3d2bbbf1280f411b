"""`gncli.report.page`: what a page says, that no name becomes markup in it, and how it works in a real browser."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gncli import __version__
from gncli.cli import main
from gncli.report import document_of, render
from gncli.report.page import Origin
from gncli.report.records import Broken, Cells, Histogram, StatsReport
from gncli.report.style import Style
from tests import browser
from tests.report.samples import DIFFERS_BY, HOLED, NORMALIZED, PARAMETERS, REPORTS, SEVERAL, VALUES, X

if TYPE_CHECKING:
    from gncli.report import Report

ORIGIN = Origin("gncli stats x.npy", "1.2.3", "2026-01-02T03:04:05+00:00", [("x.npy", 1234), ("-", None)])
TAGS = set(
    "html head meta title style body h1 h2 section p div table thead tbody tr th td figure figcaption strong br svg "
    "path span footer dl dt dd script".split()
)
VOID = {"meta", "br"}


class Parsed(HTMLParser):
    """A page as a browser reads it.

    Attributes
    ----------
    found : list of (str, dict)
        Every element's tag and attributes, in order.
    texts : list of (str, str)
        Every text with the tag that it stands in.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that is open."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if data.strip():
            self.texts.append((self._open[-1], data))

    def of(self, tag: str) -> list[str]:
        """Return the texts in elements of a kind."""
        return [text for inside, text in self.texts if inside == tag]


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_has_the_cells_and_lines_of_the_table_and_refers_to_nothing(name: str) -> None:
    page = render(REPORTS[name], "html", None, ORIGIN)
    parsed = Parsed(page)
    assert {tag for tag, _ in parsed.found} <= TAGS
    assert not any(
        key in ("src", "href", "srcset", "action", "onclick", "style") for _, of in parsed.found for key in of
    )
    assert not re.search("@import|url\\(|https?:", page)

    def words(text: str) -> set[str]:
        return set(re.findall(r"[\w.+-]*\w", text))

    shown = re.sub(
        "[╭─┬╮│├┼┤╰┴╯]", " ", "\n".join(line for line in render(REPORTS[name], "table").splitlines() if "▁" not in line)
    )
    said = " ".join(text for tag, text in parsed.texts if tag not in ("style", "script"))
    assert words(shown) - words(said) <= ({"8", "16"} if name == "differs_by" else set())  # of the drawn histogram


def test_a_page_says_what_failed_first_and_where_it_came_from_last() -> None:
    broken = Broken(("x.npy: nan is 3, expected == 0",), 2)
    parsed = Parsed(render(replace(SEVERAL, broken=broken), "html", None, ORIGIN))
    assert ("section", {"class": "answer bad"}) in parsed.found
    assert parsed.of("p")[:3] == [
        r"=bad.npy: 64 bytes are missing\n; copy it again",
        "expectation failed: x.npy: nan is 3, expected == 0",
        "expectation failed: 1 more",
    ]
    tags = [tag for tag, _ in parsed.texts]
    assert tags.index("p") < tags.index("th")
    assert list(zip(parsed.of("dt"), parsed.of("dd"), strict=True)) == [
        ("command", "gncli stats x.npy"),
        ("gncli", "1.2.3"),
        ("date", "2026-01-02T03:04:05+00:00"),
        ("input", "x.npy (1,234 bytes)"),
        ("input", "-"),
    ]
    parsed = Parsed(render(NORMALIZED, "html"))
    assert ("section", {"class": "answer good"}) in parsed.found and "footer" not in dict(parsed.found)
    assert "section" not in dict(Parsed(render(StatsReport((X,)), "html")).found)  # nothing failed, and no verdict


def test_a_cell_keeps_the_exact_value_of_a_number_that_is_rounded() -> None:
    parsed = Parsed(render(StatsReport((X, HOLED), ("mean", "size")), "html", Style(precision=3)))
    cells = [(of.get("data-value"), of["class"]) for tag, of in parsed.found if tag == "td"]
    assert cells[:3] == [(None, "left"), (repr(VALUES["mean"]), "right"), (None, "right")]
    assert parsed.of("td")[:3] == ["x.npy", "0.5", "64"]
    infinite = replace(DIFFERS_BY.cells.kept[1], max_abs=float("inf"))  # type: ignore[union-attr]
    cells_of = replace(DIFFERS_BY.cells, kept=(infinite,))  # type: ignore[type-var]
    assert 'data-value="Infinity"' in render(replace(DIFFERS_BY, cells=cells_of), "html")


def test_a_histogram_is_one_path_and_a_count_above_0_shows() -> None:
    page = render(replace(DIFFERS_BY, histogram=Histogram((-0.5, 0.0, 0.25, 0.5), (1, 0, 1000))), "html")
    assert 'd="M0 100V99h1V100h1V0h1V100z"' in page
    assert 'aria-label="3 bins, at most 1,000 elements in one, from -0.5 to 0.5"' in page
    assert Parsed(page).of("span") == ["-0.5", "0.5"]
    nothing = render(replace(DIFFERS_BY, histogram=Histogram((), ())), "html")
    assert "no finite elements, no histogram" in Parsed(nothing).of("p")
    many = render(replace(DIFFERS_BY, histogram=Histogram(tuple(map(float, range(2049))), (1,) * 2048)), "html")
    assert "512 bins, at most 4 elements in one" in many


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "'&amp;<!--",
        "</title></style></td>",
        "\x1b[1m\udcff",
    ],
)
def test_no_name_becomes_markup(name: str) -> None:
    origin = Origin(f"gncli {name}", name, name, [(name, 1)])
    honest = Origin("gncli x", "x", "x", [("x", 1)])
    differs = replace(DIFFERS_BY, a=replace(DIFFERS_BY.a, name=name), output=name, notes=(name,))
    plain = replace(DIFFERS_BY, a=replace(DIFFERS_BY.a, name="x"), output="x", notes=("x",))
    pairs: list[tuple[Report, Report]] = [
        (replace(SEVERAL, tensors=(X, replace(X, name=name)), skipped=((name, 1),), broken=Broken((name,), 1)),
         replace(SEVERAL, tensors=(X, replace(X, name="x")), skipped=(("x", 1),), broken=Broken(("x",), 1))),
        (replace(NORMALIZED, input=name, output=name, parameters=replace(PARAMETERS, gamma=name)),
         replace(NORMALIZED, input="x", output="x", parameters=replace(PARAMETERS, gamma="x"))),
        (differs, plain),
    ]  # fmt: skip
    for hostile, harmless in pairs:
        page = render(hostile, "html", None, origin)
        assert all(character.isprintable() or character == "\n" for character in page)
        parsed, tame = Parsed(page), Parsed(render(harmless, "html", None, honest))
        assert [(tag, sorted(of)) for tag, of in parsed.found] == [(tag, sorted(of)) for tag, of in tame.found]


# The page of a command.


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make two folders of tensors: one pair is identical, one the same, two differ, one by a NaN; and go there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    for folder, add in (("a", np.float32(0)), ("b", np.float32(1e-7))):
        os.mkdir(folder)
        np.save(f"{folder}/equal.npy", x)
        np.save(f"{folder}/near.npy", x + add)
        np.save(f"{folder}/w.10.npy", x + x * (10**6 * add))
        np.save(f"{folder}/w.9.npy", np.where(x > 1, np.nan, x) if add else x)
        np.save(f"{folder}/shape.npy", x if add else x[:2])
    return tmp_path


def test_a_page_of_many_pairs_draws_those_that_differ(sides: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("b/bad.npy").write_bytes(b"\x93NUMPY\x01")
    assert main(["diff", "a", "b", "--report", "r.html", "-q"]) == 3
    capfd.readouterr()
    parsed = Parsed(Path("r.html").read_text(encoding="utf-8"))
    assert parsed.of("strong") == ["w.9", "w.10"]
    assert parsed.of("p")[0].startswith("DIFFERENT: 1 identical, 1 same, 3 different, 1 unreadable")
    assert parsed.of("p")[2].startswith("bad: ")
    size = sum(path.stat().st_size for path in Path("b").iterdir())
    assert parsed.of("dd") == [
        "gncli diff a b --report r.html -q", __version__, "1970-01-02T00:00:00+00:00",
        f"a ({sum(path.stat().st_size for path in Path('a').iterdir()):,} bytes)", f"b ({size:,} bytes)",
    ]  # fmt: skip


def test_a_page_of_one_pair_draws_it_if_it_differs(sides: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, drawn in (("w.10", ["a - b"]), ("near", []), ("shape", [])):
        status = main(["diff", f"a/{name}.npy", f"b/{name}.npy", "--report", "r.html", "--bins", "7", "-f"])
        page = Path("r.html").read_text(encoding="utf-8")
        assert (status, Parsed(page).of("strong")) == (int(name != "near"), drawn)
        assert ("7 bins" in page) == bool(drawn)
        assert "█" not in capfd.readouterr().out  # --hist was not given


@pytest.mark.slow
@pytest.mark.parametrize("form", ["png", "svg"])
def test_a_page_has_the_picture_inline(sides: Path, capfd: pytest.CaptureFixture[str], form: str) -> None:
    pytest.importorskip("matplotlib")
    assert main(["diff", "a/w.10.npy", "b/w.10.npy", "--plot", f"p.{form}", "--report", "r.html", "-q"]) == 1
    capfd.readouterr()
    page = Path("r.html").read_text(encoding="utf-8")
    picture = page.partition('<div class="picture">')[2].partition("</div>")[0]
    assert picture.startswith("<svg") and "elements in a bin" in picture and "<metadata" not in picture
    assert ".picture *{" in picture and "figcaption" not in page.partition("</style>")[2]


def test_no_page_is_left_if_there_is_nothing_to_say(sides: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "absent.npy", "--report", "r.html"]) == 3
    assert capfd.readouterr().err == "gncli: error: absent.npy: cannot be read (No such file or directory)\n"
    assert not Path("r.html").exists()


@pytest.mark.slow
def test_a_page_has_more_rows_than_a_table(sides: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.zeros(1100))
    np.save("y.npy", np.ones(1100))
    for command in (["stats", "x.npy"], ["diff", "x.npy", "y.npy"]):
        main([*command, "--by", "0", "--report", "r.html", "-f"])
        assert "... 100 more; --format csv for all" in capfd.readouterr().out
        page = Path("r.html").read_text(encoding="utf-8")
        assert page.count("<tr><td") >= 1100 and "more; --format" not in page
    document = document_of(replace(DIFFERS_BY, cells=Cells(("C",), DIFFERS_BY.cells.kept * 3, 6)))  # type: ignore[union-attr]
    (_, cells) = document.sheets(quiet=True, most=4)
    assert (len(cells.rows), cells.under[0]) == (4, "... 2 more; --format csv for all")


# In a browser.

needs_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    with browser.opened(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def rows(png: bytes) -> set[bytes]:
    """Return the rows of an image that differ, filtered as they are stored."""
    _, height = struct.unpack(">II", png[16:24])
    parts, at = b"", 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            parts += png[at + 8 : at + 8 + size]
        at += size + 12
    raw = zlib.decompress(parts)
    step = len(raw) // height
    return {raw[row * step : (row + 1) * step] for row in range(height)}


@needs_browser
def test_a_browser_sorts_the_columns_and_has_no_complaints(tab: browser.Tab, sides: Path) -> None:
    main(["diff", "a", "b", "--report", "r.html", "-q"])
    tab.show(sides / "r.html")
    names = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent).join(' ')"
    click = "document.querySelectorAll('th button')[{}].click(), document.querySelectorAll('th')[{}].ariaSort"
    assert tab.says(names) == "equal near shape w.9 w.10"
    for column, turns in {
        0: [("ascending", "equal near shape w.9 w.10"), ("descending", "w.10 w.9 shape near equal")],
        2: [("descending", "w.10 near equal w.9 shape"), ("ascending", "equal w.9 near w.10 shape")],
        5: [("descending", "w.10 w.9 equal near shape")],
    }.items():
        for turn, order in turns:
            assert (tab.says(click.format(column, column)), tab.says(names)) == (turn, order)
    assert tab.says(click.format(5, 5)) == "ascending"
    assert (tab.says(click.format(5, 5)), tab.says(names)) == ("none", "equal near shape w.9 w.10")
    assert (tab.complaints, tab.asked) == ([], [(sides / "r.html").as_uri()])


@needs_browser
def test_a_browser_shows_it_on_a_phone_and_a_desk_light_and_dark(tab: browser.Tab, sides: Path) -> None:
    main(["stats", "a", "absent.npy", "--hist", "-s", "all", "--report", "r.html", "-q"])
    grounds = []
    for size in (browser.PHONE, browser.DESK):
        for dark in (False, True):
            tab.show(sides / "r.html", size, dark=dark)
            shot = tab.screenshot()
            assert struct.unpack(">II", shot[16:24]) == size and len(rows(shot)) > 100
            assert tab.says("document.documentElement.scrollWidth") <= size[0]  # tables scroll, the page does not
            assert tab.says("getComputedStyle(document.body).fontSize") == "16px"
            grounds.append(tab.says("getComputedStyle(document.body).backgroundColor"))
            assert tab.says("document.querySelector('.answer').getBoundingClientRect().bottom") < size[1]
            assert not tab.complaints
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 24, 28)"] * 2


@needs_browser
def test_a_browser_runs_no_script_but_that_of_the_page(tab: browser.Tab, sides: Path) -> None:
    page = render(SEVERAL, "html").replace("</h1>", "</h1><script>window.ran = 1</script><img src=x onerror='ran = 2'>")
    (sides / "r.html").write_text(page, encoding="utf-8")
    tab.show(sides / "r.html")
    assert tab.says("window.ran") is None and tab.says("document.querySelectorAll('th button').length") > 3
    assert len(tab.complaints) >= 2  # each was refused
