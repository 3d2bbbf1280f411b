"""What a picture shows, in words and numbers: panels of histograms and maps, and the sentences under them."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gncli.names import NONFINITE, statistic
from gncli.report.lines import place_line

if TYPE_CHECKING:
    from gncli.kernels.heatmap import Extreme, Heatmap
    from gncli.report.records import Histogram, TensorStats

MOST_BARS = 512  # of a histogram: where there are more bins, neighbours are drawn as one

NAMES = {"mean": "mean", "std": "deviation", "max_abs": "largest |a - b|"}
"""What a map shows, by the key of `Picture.maps`."""

AXES = {"N": "sample N", "C": "channel C", "G": "group G"}
COUNTED = {"N": "samples", "C": "channels", "G": "groups"}


BESIDE, FLATTENED = 0.02, 2.0  # see `span`


class Map(NamedTuple):
    """A map of cells, or of a single axis a line.

    Parameters
    ----------
    title : str
        What it shows.
    kind : str
        A key of `NAMES`, on which the colours depend.
    heatmap : Heatmap
        The numbers.
    shown : {"farthest", "least", "largest"}
        Which of the cells that share a field it shows; the farthest is that from the middle of all.
    scale : float, default: 0.0
        The least that the range of colours spans to either side of the middle of means; numbers far below it are
        rounding errors.
    offset : float, default: 0.0
        What is subtracted from each number: 1 for deviations that should be 1.
    log : bool, default: False
        Whether its scale is logarithmic; then no number is too far off to be shown.
    """

    title: str
    kind: str
    heatmap: Heatmap
    shown: str = "farthest"
    scale: float = 0.0
    offset: float = 0.0
    log: bool = False

    @property
    def lies(self) -> bool:
        """Whether it has a single axis."""
        return not self.heatmap.names[0]

    @property
    def middle(self) -> float:
        """The median of the numbers of the fields, NaN where there is none: what the farthest is far from."""
        import statistics

        found = _finite(self.heatmap.mean)
        return statistics.median(found) if found else math.nan

    def fields(self) -> list[list[float]]:
        """Return the number of each field, NaN where a cell of it has none, and infinity where one is infinite."""
        heatmap, middle = self.heatmap, self.middle
        pairs = [zip(*rows, strict=True) for rows in zip(heatmap.least, heatmap.largest, strict=True)]
        if self.shown == "farthest":
            found = [[low if middle - low > high - middle else high for low, high in row] for row in pairs]
        else:
            found = [[low if self.shown == "least" else high for low, high in row] for row in pairs]
        marks = zip(found, heatmap.nan, heatmap.infinite, strict=True)
        return [
            [math.inf if infinite else math.nan if nan else value for value, nan, infinite in zip(*row, strict=True)]
            for row in marks
        ]

    def span(self) -> Span | None:
        """Return the range of what is shown, in which exact zeros do not count on a map; None if nothing is finite."""
        fields = _finite(self.fields())
        known = [value - self.offset for value in fields if value or (self.lies and not self.log)]
        if not known:
            return Span(-self.offset, -self.offset) if fields else None
        return Span(min(known), max(known)) if self.log else span(known)

    def notes(self) -> list[str]:
        """Return the range of the numbers with its places, the cells that have a colour of their own, and the span."""
        heatmap = self.heatmap
        found = []
        if heatmap.extremes is not None:
            low, high = heatmap.extremes
            same = f"all {low.value - self.offset:.4g}"
            found.append(same if low.value == high.value else f"{self._at(low)} to {self._at(high)}")
        words = {"exactly 0": heatmap.zeros, "with nothing finite": heatmap.nans, "infinite": heatmap.infinities}
        marked = [f"{count:,} {word}" for word, count in words.items() if count]
        if marked:
            found.append(f"cells: {', '.join(marked)}")
        limits = self.span()
        if limits is not None and (beyond := limits.below + limits.above):
            found.append(
                f"{'axis' if self.lies else 'colours'} {limits.low:.4g} to {limits.high:.4g}, {beyond:,} beyond"
            )
        return found

    def _at(self, extreme: Extreme) -> str:
        place = place_line(dict(zip(self.heatmap.axes, extreme.place, strict=True))).replace("  ", ", ")
        return f"{extreme.value - self.offset:.4g} at {place}"


class Span(NamedTuple):
    """The range that is shown, and how many numbers lie below and above it."""

    low: float
    high: float
    below: int = 0
    above: int = 0


def span(numbers: Sequence[float]) -> Span:
    """Return the range of numbers, without those so far off that all others would look alike.

    Notes
    -----
    The bulk is all but 2 % at either end, and at least one number; shown is what lies within twice its range of it.

    Examples
    --------
    >>> span([1.0, 2.0, 3.0, 4.0]), span([1.0, 2.0, 3.0, 1000.0])
    (Span(low=1.0, high=4.0, below=0, above=0), Span(low=1.0, high=3.0, below=0, above=1))
    """
    ordered = sorted(numbers)
    left_out = max(1, int(BESIDE * len(ordered)))
    bulk = ordered[left_out:-left_out]
    room = FLATTENED * (bulk[-1] - bulk[0]) if bulk else 0.0
    if room == 0:
        return Span(ordered[0], ordered[-1])
    below, above = bisect.bisect_left(ordered, bulk[0] - room), bisect.bisect_right(ordered, bulk[-1] + room)
    return Span(ordered[below], ordered[above - 1], below, len(ordered) - above)


def maps_of(kind: str, heatmap: Heatmap, stage: str = "", offset: float = 0.0) -> Iterator[Map]:
    """Yield the maps that show a statistic: of deviations that share fields the least and the largest.

    Parameters
    ----------
    kind : str
        A key of `NAMES`.
    heatmap : Heatmap
        The numbers.
    stage : str, optional
        ``before`` or ``after``.
    offset : float, default: 0.0
        What is subtracted from each number.
    """
    name = NAMES[kind] + (f" - {offset:g}" if offset else "") + (f", {stage}" if stage else "")
    if kind == "std" and math.prod(heatmap.merged) > 1 and heatmap.names[0]:
        for shown in ("least", "largest"):
            yield Map(f"{shown} {name}", kind, heatmap, shown, offset=offset)
    else:
        yield Map(name, kind, heatmap, "largest" if kind == "max_abs" else "farthest", offset=offset)


class Panel(NamedTuple):
    """The part of a picture that belongs to one tensor, or to one pair of them.

    Parameters
    ----------
    title : str
        The heading, or nothing.
    series : sequence of (str, Histogram)
        Histograms on the same axes, each with its label.
    unit : str
        What the histograms count.
    maps : sequence of sequence of Map
        Rows of maps below the histograms.
    """

    title: str
    series: Sequence[tuple[str, Histogram]]
    unit: str
    maps: Sequence[Sequence[Map]]


class Poster(NamedTuple):
    """A whole picture: the title, the panels, and the sentences under them."""

    title: str
    panels: Sequence[Panel]
    caption: Sequence[str]


def scaled(maps: Sequence[Map]) -> list[Map]:
    """Return maps of means that know the deviations beside them: a mean far below these is a rounding error.

    A deviation that is far above the others does not count: it would make all means look alike.
    """
    deviations = [number for each in maps if each.kind == "std" for number in _finite(each.heatmap.largest)]
    scale = span(deviations).high / 100 if deviations else 0.0
    return [each._replace(scale=scale) for each in maps]


def described(found: TensorStats) -> str:
    """Return what a tensor is, and which of its elements are in no histogram."""
    counts = {statistic(name).label: found.values.get(name) for name in NONFINITE}
    left_out = [f"{count:,} {label}" for label, count in counts.items() if isinstance(count, int) and count]
    out = f"; not in the histogram: {', '.join(left_out)}" if left_out else ""
    return f"{found.dtype} {found.shape}, {found.size:,} element{'' if found.size == 1 else 's'}{out}"


def legend(panels: Sequence[Panel]) -> list[str]:
    """Return the line that explains the histograms and maps of `panels`."""
    said: list[str] = []
    series = [histogram for panel in panels for _, histogram in panel.series]
    counted = {(len(histogram.counts), len(histogram.merged(MOST_BARS).counts)) for histogram in series}
    for bins, drawn in sorted(counted - {(0, 0)}):
        more = f", drawn as {drawn:,}" if drawn < bins else ""
        said.append(f"histogram of {bins:,} bin{'' if bins == 1 else 's'}{more}")
    maps = [each for panel in panels for row in panel.maps for each in row]
    said += dict.fromkeys(map(_explained, maps))
    return ["; ".join(said)] if said else []


def _explained(each: Map) -> str:
    heatmap = each.heatmap
    named = [along for along in zip(heatmap.names, heatmap.sizes, heatmap.merged, strict=True) if along[0]]
    over = " x ".join(f"{size:,} {_counted(name)}" for name, size, _ in named)
    shared = " x ".join(str(merged) for _, _, merged in named)
    if each.lies:
        band = (
            "" if math.prod(heatmap.merged) == 1 else f", with a band from the least to the largest of {shared} cells"
        )
        return f"lines over {over}{band}"
    if math.prod(heatmap.merged) == 1:
        return f"maps of {over}"
    shows = (
        "largest" if each.kind == "max_abs" else "farthest from the middle, of deviations the least and the largest,"
    )
    return f"maps of {over}, a field is the {shows} of {shared} cells"


def _finite(rows: Sequence[Sequence[float]]) -> list[float]:
    return [number for row in rows for number in row if math.isfinite(number)]


def axis_title(name: str) -> str:
    """Return what an axis of a map is called: by its letter, or by its number."""
    return AXES.get(name, f"axis {name}" if name.isdecimal() else name)


def _counted(name: str) -> str:
    return COUNTED.get(name, f"along {axis_title(name)}")
