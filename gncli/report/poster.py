"""What a picture shows, in words and numbers: panels of histograms and maps, and the sentences under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gncli.names import NONFINITE, statistic

if TYPE_CHECKING:
    from gncli.kernels.heatmap import Heatmap
    from gncli.report.records import Histogram, TensorStats

MOST_BARS = 512  # of a histogram: where there are more bins, neighbours are drawn as one

NAMES = {"mean": "mean", "std": "deviation", "max_abs": "largest |a - b|"}
"""What a map shows, by the key of `Picture.maps`."""

AXES = {"N": "sample N", "C": "channel C", "G": "group G"}
COUNTED = {"N": "samples", "C": "channels", "G": "groups"}


class Map(NamedTuple):
    """A map of cells.

    Parameters
    ----------
    title : str
        What it shows.
    kind : str
        A key of `NAMES`, on which the colours depend.
    heatmap : Heatmap
        The numbers.
    scale : float, default: 0.0
        The least that the range of colours spans; numbers far below it are rounding errors.
    """

    title: str
    kind: str
    heatmap: Heatmap
    scale: float = 0.0


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
    """Return maps of means that know the deviations beside them: a mean far below these is a rounding error."""
    deviations = [number for each in maps if each.kind == "std" for number in finite_fields(each.heatmap)]
    return [each._replace(scale=max(deviations, default=0.0) / 100) for each in maps]


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
    said += map(_explained, {(one.heatmap.names, one.heatmap.sizes): one for one in maps}.values())
    if any(math.isnan(number) for each in maps for row in each.heatmap.rows for number in row):
        said.append("hatched: nothing finite")
    return ["; ".join(said)] if said else []


def _explained(each: Map) -> str:
    heatmap = each.heatmap
    named = [along for along in zip(heatmap.names, heatmap.sizes, heatmap.merged, strict=True) if along[0]]
    said = "maps of " + " x ".join(f"{size:,} {_counted(name)}" for name, size, _ in named)
    if math.prod(heatmap.merged) == 1:
        return said
    how = "largest" if each.kind == "max_abs" else "mean"
    return f"{said}, a field is the {how} of {' x '.join(str(merged) for _, _, merged in named)} cells"


def finite_fields(heatmap: Heatmap) -> list[float]:
    """Return the finite numbers of a map."""
    return [number for row in heatmap.rows for number in row if math.isfinite(number)]


def axis_title(name: str) -> str:
    """Return what an axis of a map is called: by its letter, or by its number."""
    return AXES.get(name, f"axis {name}" if name.isdecimal() else name)


def _counted(name: str) -> str:
    return COUNTED.get(name, f"along {axis_title(name)}")
