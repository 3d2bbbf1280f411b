"""What the report of ``explain`` says: a row per hypothesis, and the verdict in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gncli.kernels.conventions import Convention, plain, said
from gncli.names import Value
from gncli.report.document import MOST_ROWS, Answer, Block, Document, Foldable, Sheet
from gncli.report.explain_records import ExplainReport, Hypothesis
from gncli.report.poster import Poster
from gncli.report.records import Histogram
from gncli.report.style import UNDEFINED
from gncli.text import printable, strict

NORMS = {"group": "group norm", "batch": "batch norm", "position": "layer norm over C"}
"""What a norm is called, by whose statistics it takes."""

LABELS = {"outside": "Outside", "max_abs": "Max Error", "max_ulp": "Max ULP", "rmse": "RMSE"}
"""The numbers of a hypothesis, each with its label."""


class ExplainDocument(Document):
    """What ``explain`` found."""

    def __init__(self, report: ExplainReport) -> None:
        self.report = report

    @property
    def title(self) -> str:
        """The command and its operands."""
        return printable(f"gncli explain {self.report.y.name} {self._given}")

    @property
    def line(self) -> str:
        """The first sentence of the verdict."""
        return self.verdict()[0]

    @property
    def _given(self) -> str:
        return f"--input {self.report.given.name}" if self.report.is_input else self.report.given.name

    def aside(self) -> list[str]:
        """Return notes."""
        return [printable(note) for note in self.report.notes]

    def verdict(self) -> list[str]:
        """Return the verdict: what the output is, what reproduces it, and what else it may be."""
        report, found = self.report, self.report.found
        y = printable(report.y.name)
        if found is None:
            near = report.hypotheses[0]
            words = printable(near.words) or "what you asked for"
            return [
                f"UNEXPLAINED: none of {report.tried:,} hypotheses gives every element of {y}",
                f"the nearest is {words}: {near.outside:,} of {near.size:,} elements beyond rounding, "
                f"the largest error {near.max_abs:.3g}",
            ]
        given = printable(report.given.name)
        of = given if report.is_input else f"the input of {given}"
        norm = NORMS[found.convention.over]
        said = ", ".join(_described(found.convention, report))
        lines = [f"{y} is {norm} of {of} with {said}; every element {_closeness(found)}"]
        if not found.words:
            lines.append("that is what you asked for")
        elif found.options is None:
            lines.append("gncli normalize has no option for a part of it")
        elif not found.options:
            lines.append("without --interleaved gncli normalize reproduces it")
        else:
            lines.append(f"{printable(found.options)} reproduces it")
        others = [printable(one.words) or "what you asked for" for one in report.hypotheses[1:]]
        if others:
            lines.append(f"the data cannot tell it from {_listed(others)}")
        return lines

    def answer(self) -> Answer:
        """Return the verdict."""
        return Answer(self.report.status == 0, self.verdict())

    def histograms(self) -> list[tuple[str, Histogram]]:
        """Return none."""
        return []

    def sheets(self, *, quiet: bool, most: int = MOST_ROWS) -> list[Sheet]:
        """Return one table."""
        return [self.sheet(most)._replace(under=[*([] if quiet else self.aside()), *self.verdict()])]

    def sheet(self, most: int = MOST_ROWS) -> Sheet:
        """Return the table with a row per hypothesis; under it the verdict."""
        rows: list[list[Value]] = [
            [Foldable(_named(one)), Foldable(printable(_options(one))), *_numbers(one)]
            for one in self.report.hypotheses[:most]
        ]
        header = ["Hypothesis", "Options", *LABELS.values()]
        return Sheet(header, rows, [False, False, *([True] * len(LABELS))], under=self.verdict())

    def blocks(self) -> Iterator[Block]:
        """Return a paragraph per hypothesis, and the verdict."""
        for one in self.report.hypotheses:
            entries: list[tuple[str, Value]] = [("Hypothesis", _named(one)), ("Options", printable(_options(one)))]
            yield Block([*entries, *zip(LABELS.values(), _numbers(one), strict=True)])
        yield Block([], None, "\n".join(self.verdict()))

    def values(self) -> Iterator[Value]:
        """Return the options that reproduce the output; None if there are none."""
        yield None if self.report.found is None else self.report.found.options

    def body(self) -> dict[str, object]:
        """Return all there is."""
        return {"command": "explain"} | strict(self.report.as_dict()) | {"verdict": self.verdict()}

    def objects(self) -> Iterator[dict[str, object]]:
        """Return an object per hypothesis."""
        return (strict(one.as_dict()) for one in self.report.hypotheses)

    def rows(self) -> Iterator[Sequence[object]]:
        """Return a row per hypothesis."""
        yield ["changes", "options", "size", *LABELS]
        for one in self.report.hypotheses:
            yield [one.words, one.options, one.size, *_numbers(one)]

    def poster(self) -> Poster:
        """Return a page without panels: there are no pictures of hypotheses."""
        return Poster(self.title, [], self.verdict())


def _named(one: Hypothesis) -> str:
    return printable(one.words) or "as you asked"


def _options(one: Hypothesis) -> str:
    return UNDEFINED if one.options is None else one.options


def _numbers(one: Hypothesis) -> list[Value]:
    return [getattr(one, name) for name in LABELS]


def _described(convention: Convention, report: ExplainReport) -> Iterator[str]:
    """Yield the parts of a convention, and for those that were asked for otherwise, how."""
    asked = report.asked
    kind = "interleaved " if convention.interleaved else "contiguous " if asked.interleaved else ""
    groups = f"{convention.groups} {kind}group{'s' * (convention.groups > 1)}"
    parts = {"eps": f"eps {plain(convention.eps)}", "groups": groups, "layout": convention.layout}
    if convention.over != "group":
        del parts["groups"]
    for field, words in parts.items():
        wanted = getattr(asked, field)
        yield (
            words
            if getattr(convention, field) == wanted
            else f"{words} (you asked for {plain(wanted) if field == 'eps' else wanted})"
        )
    rest = asked._replace(**{field: getattr(convention, field) for field in (*parts, "over", "interleaved")})
    if words := said(convention, rest, report.names)[0]:
        yield words


def _closeness(found: Hypothesis) -> str:
    if found.max_ulp <= 1:
        return "within 1 ULP"
    return f"within rounding, the largest error {found.max_abs:.2g}"


def _listed(words: Sequence[str]) -> str:
    return "; or ".join(["; ".join(words[:-1]), words[-1]][not words[:-1] :])
