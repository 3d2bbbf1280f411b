"""A report as one page of HTML: tables that sort, pictures, and where it came from. It loads nothing and calls nobody.

Notes
-----
A page is built of `element`, which escapes all text that is not `Markup` already, so no name becomes markup. Its policy
(Content-Security-Policy) allows its own script, by the hash of it, and nothing else: were a name not escaped, a browser
would still not run it. Without scripts the page is the same, but its tables do not sort.
"""

from __future__ import annotations

import base64
import hashlib
import html as entities
import re
from collections.abc import Sequence
from typing import NamedTuple

from gncli.names import Value
from gncli.report.bars import ends_of, nothing_to_draw, scale_lines
from gncli.report.document import MOST_ROWS_OF_A_PAGE, Document, Sheet
from gncli.report.poster import MOST_BARS
from gncli.report.records import Histogram
from gncli.report.style import Style
from gncli.text import printable

STYLE = """
:root { color-scheme: light dark; --page: #fff; --shade: #f3f5f7; --line: #d3d9de; --ink: #1c2126; --soft: #59636e;
  --bar: #0072b2; --good: #11652b; --bad: #a8201a }
@media (prefers-color-scheme: dark) { :root { --page: #14181c; --shade: #1e2429; --line: #39424a; --ink: #e4e9ed;
  --soft: #9aa6b1; --bar: #56b4e9; --good: #5fd07f; --bad: #ff8a80 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 80rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.25rem; margin: 0 0 .75rem }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem }
p { margin: .25rem 0 }
.answer { border-left: .3rem solid var(--good); background: var(--shade); padding: .5rem .75rem; margin: 0 0 1rem }
.answer.bad { border-color: var(--bad) }
.answer.bad p:first-child { color: var(--bad) }
.answer.good p:first-child { color: var(--good) }
.wide { overflow-x: auto; margin: 1rem 0 .5rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal }
caption { text-align: left; font-weight: bold }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: left; vertical-align: top }
th, .right { white-space: nowrap }
.right { text-align: right }
tr > :first-child { position: sticky; left: 0; min-width: 7rem; background: var(--page); padding-left: 0;
  overflow-wrap: anywhere }
tbody tr:hover, tbody tr:hover > :first-child { background: var(--shade) }
th button { all: unset; cursor: pointer; font-weight: inherit }
th button:focus-visible { outline: 2px solid var(--bar) }
th button::after { content: "\\2195"; color: var(--soft); padding-left: .25rem; font-weight: normal }
th[aria-sort=ascending] button::after { content: "\\2191"; color: var(--ink) }
th[aria-sort=descending] button::after { content: "\\2193"; color: var(--ink) }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1.5rem }
figure { margin: 0 }
figure svg { display: block; width: 100%; height: 8rem; border-bottom: 1px solid var(--line); fill: var(--bar) }
.ends { display: flex; justify-content: space-between; gap: 1rem; color: var(--soft); font-size: .875rem }
.picture { background: #fff; overflow-x: auto; margin: 1rem 0 }
.picture svg { max-width: 100%; height: auto }
footer { margin-top: 2rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .875rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem }
dd { margin: 0 }
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const names = new Intl.Collator("en", {numeric: true});
  heads.forEach((head, at) => {
    const counts = head.classList.contains("right");
    const turns = counts ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
    const text = row => row.cells[at].dataset.value ?? row.cells[at].textContent;
    const keys = new Map(rows.map(row => [row, counts ? Number(text(row)) : text(row)]));
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const turn = turns[(turns.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      heads.forEach(other => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", turn);
      const sign = turn === "descending" ? -1 : 1;
      const compare = (a, b) => counts
        ? Number.isNaN(a) - Number.isNaN(b) || sign * ((a > b) - (a < b)) : sign * names.compare(a, b);
      const order = turn === "none" ? rows : [...rows].sort((a, b) => compare(keys.get(a), keys.get(b)));
      body.append(...order);
    });
  });
}
"""


class Markup(str):
    """HTML; any other text is escaped before it becomes part of a page."""

    __slots__ = ()


class Origin(NamedTuple):
    """Where a page came from, and its picture.

    Parameters
    ----------
    command : str
        The command line.
    version : str
        That of gncli.
    date : str
        When it was made, in UTC, as in ISO 8601.
    inputs : sequence of (str, int or None)
        The files that were read, as they were named, and their bytes; None where they are unknown, as of a pipe.
    picture : str, optional
        The SVG that ``--plot`` draws.
    """

    command: str
    version: str
    date: str
    inputs: Sequence[tuple[str, int | None]] = ()
    picture: str | None = None


def escaped(text: str) -> Markup:
    """Return `text` as it stands in a page, between tags or in an attribute.

    Examples
    --------
    >>> print(escaped('<b>"&"'), escaped(Markup("<b>")))
    &lt;b&gt;&quot;&amp;&quot; <b>
    """
    return text if isinstance(text, Markup) else Markup(entities.escape(text))


def element(tag: str, *inside: str, **attributes: str) -> Markup:
    """Return an element; a trailing ``_`` of an attribute's name is left out, and any other becomes ``-``.

    Examples
    --------
    >>> print(element("p", "a < b", Markup("<br>"), class_="x"))
    <p class="x">a &lt; b<br></p>
    """
    named = [f' {name.rstrip("_").replace("_", "-")}="{escaped(value)}"' for name, value in attributes.items()]
    return Markup(f"<{tag}{''.join(named)}>{''.join(map(escaped, inside))}</{tag}>")


def html(document: Document, style: Style, origin: Origin | None = None) -> str:
    """Return the page of a document: what failed or the verdict first, then tables and pictures, and its origin.

    Parameters
    ----------
    document : Document
        What the report says.
    style : Style
        Its precision is used; a cell keeps its exact number too, by which its column is sorted.
    origin : Origin, optional
        Where the report came from.
    """
    good, said = document.answer()
    parts = [element("h1", document.title)]
    if said:
        parts.append(element("section", *_lines(said), class_=f"answer {'good' if good else 'bad'}"))
    for sheet in document.sheets(quiet=False, most=MOST_ROWS_OF_A_PAGE):
        parts += [_table(sheet, style), *_lines([line for line in sheet.under if line not in said])]
    if origin is not None and origin.picture is not None:
        parts.append(element("div", _inline(origin.picture), class_="picture"))
    if drawn := document.histograms():
        parts += [
            element("h2", "Histograms"),
            element("div", *(_figure(*one, style) for one in drawn), class_="figures"),
        ]
    if origin is not None:
        parts.append(_footer(origin))
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = [
        Markup('<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{escaped(policy)}">\n'),
        element("title", document.title),
        element("style", Markup(STYLE)),
    ]
    body = element("body", Markup("\n"), Markup("\n".join(parts)), Markup("\n"), element("script", Markup(SCRIPT)))
    return f"<!DOCTYPE html>\n{element('html', element('head', *head), Markup(chr(10)), body, lang='en')}\n"


def _lines(lines: Sequence[str]) -> list[Markup]:
    return [element("p", line) for line in lines]


def _table(sheet: Sheet, style: Style) -> Markup:
    """Return a table; it sorts if each of its columns has a title."""
    sorts = all(sheet.header)
    titles = [
        element("th", title, scope="col", class_="right" if right else "left")
        for title, right in zip(sheet.header, sheet.right, strict=True)
    ]
    head = element("thead", element("tr", *titles)) if any(sheet.header) else ""
    rows = [
        element(
            "tr", *(_cell(value, right, style, wide=sheet.wide) for value, right in zip(row, sheet.right, strict=True))
        )
        for row in sheet.rows
    ]
    above = element("caption", sheet.above) if sheet.above else ""
    inside = Markup("\n").join([above, head, element("tbody", Markup("\n".join(rows)))])
    table = element("table", Markup(inside), **({"class_": "sorts"} if sorts else {}))
    return element("div", table, class_="wide")


def _cell(value: Value, right: bool, style: Style, *, wide: bool) -> Markup:
    """Return a cell as a table shows it; a float that is rounded there keeps its exact value."""
    shown = style.rounded(value, wide=wide)
    exact = {"data_value": repr(value).replace("inf", "Infinity")} if isinstance(value, float) else {}
    return element("td", shown, class_="right" if right else "left", **exact)


def _figure(name: str, histogram: Histogram, style: Style) -> Markup:
    """Return a histogram: bars as one path, as wide as the page allows; a count above 0 shows, however small it is."""
    if not histogram.counts:
        return element("figure", element("figcaption", printable(name)), element("p", nothing_to_draw(histogram)))
    merged = histogram.merged(MOST_BARS)
    most = max(merged.counts)
    heights = [max(1.0, 100 * count / most) if count else 0.0 for count in merged.counts]
    steps = "".join(f"V{100 - height:.4g}h1" for height in heights)
    low, high = ends_of(merged, style)
    said = f"{len(merged.counts):,} bins, at most {most:,} element{'' if most == 1 else 's'} in one"
    bars = element(
        "svg",
        element("path", d=f"M0 100{steps}V100z"),
        viewBox=f"0 0 {len(heights)} 100",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{said}, from {low} to {high}",
    )
    ends = element("p", element("span", low), element("span", high), class_="ends")
    said = "; ".join([said, *scale_lines(merged)])
    caption = element("figcaption", element("strong", printable(name)), Markup("<br>"), said)
    return element("figure", caption, bars, ends)


def _inline(picture: str) -> Markup:
    """Return a picture without its prolog and metadata, and with a style that is its own."""
    found = re.sub(r"<metadata>.*?</metadata>", "", picture[picture.index("<svg") :], flags=re.DOTALL)
    return Markup(found.replace('<style type="text/css">*{', '<style type="text/css">.picture *{'))


def _footer(origin: Origin) -> Markup:
    said = [("command", origin.command), ("gncli", origin.version), ("date", origin.date)]
    for name, nbytes in origin.inputs:
        said.append(("input", name if nbytes is None else f"{name} ({nbytes:,} bytes)"))
    terms = [
        element(tag, printable(text, limit=None)) for pair in said for tag, text in zip(("dt", "dd"), pair, strict=True)
    ]
    return element("footer", element("dl", *terms))
