"""Pictures of a report: histograms, and maps of its cells, as PNG or SVG. matplotlib is imported here alone.

Notes
-----
A report goes in, and the bytes of a file come out; all numbers were computed before. The same report gives the same
bytes on the same machine: a file has no date, and no matplotlibrc is read. Magnitudes are shown in viridis and cividis,
which are ordered by lightness too, and means in PuOr around their middle. Series differ by hatch and line as well as
colour. So a picture can be read in gray and by the colour-blind. Cells that are exactly 0, infinite, or have no number
have colours of their own, with a legend, and the colours of all others span what a few cells cannot stretch.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gncli.errors import ParameterError
from gncli.report import document_of
from gncli.report.poster import MOST_BARS, Map, Panel, Poster, Span, axis_title
from gncli.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, SubFigure

    from gncli.report import Report

WIDTH = 7.2  # inches: the text of a page of A4 or Letter
DPI = 200
MARGIN = 0.08  # inches
BODY, SMALL, HEAD = 8.0, 6.5, 10.0  # points
HISTOGRAM = 1.9  # inches of height
LEAST, MOST = 0.45, 2.6  # inches of height of a map
LINE, LEGEND = 0.9, 0.25  # inches of height of a line, and of a legend
LEAST_PANEL, LEAST_MAPPED, LEAST_MAP = 2.3, 3.4, 2.6  # inches of width of a panel, of one with maps, and of a map

INK, SOFT = "0.15", "0.4"
BLUE, PALE, RED = "#0072B2", "#c9dfef", "#D55E00"  # of Okabe and Ito, for the colour-blind
PINK, CYAN = "#E7298A", "#00B7EB"  # in no map of colours: exact zeros, and what has no number
HATCHED: Mapping[str, Any] = {"facecolor": CYAN, "edgecolor": "0.3", "hatch": "xxxx"}
SETTINGS: Mapping[str, Any] = {
    "font.size": BODY,
    "axes.titlesize": BODY,
    "axes.labelsize": BODY,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "figure.constrained_layout.h_pad": MARGIN,
    "figure.constrained_layout.w_pad": MARGIN,
    "grid.color": "0.88",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": BODY,
    "pdf.fonttype": 42,  # text is text here too
    "svg.fonttype": "none",  # text is text: it can be found, copied and read aloud
    "svg.hashsalt": "gncli",
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}
METADATA: Mapping[str, Mapping[str, Any]] = {
    "png": {"Software": "gncli"},
    "svg": {"Creator": "gncli", "Date": None},
    "pdf": {"Creator": "gncli", "CreationDate": None},
}
FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans SC", "Noto Sans JP", "Source Han Sans", "WenQuanYi Zen Hei",
    "Hiragino Sans", "PingFang SC", "Arial Unicode MS", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari",
    "Noto Emoji", "Symbola",
)  # fmt: skip
"""Fonts for characters that DejaVu Sans, which comes with matplotlib, does not have; used if they are installed."""


def require() -> None:
    """Import matplotlib, so that its absence is reported before anything is computed.

    Raises
    ------
    ParameterError
        If it cannot be imported.
    """
    # Silence its warnings about a HOME that cannot be written, and about matplotlibrc.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    backend = os.environ.pop("MPLBACKEND", None)  # an unknown one makes the import fail
    try:
        import matplotlib.figure  # noqa: F401  # it draws
    except ImportError as error:
        problem = "--plot needs matplotlib, which is not installed"
        raise ParameterError(problem, hint="pip install 'gncli[plot]'") from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    import numpy as np

    np.linalg.inv(
        np.eye(2)
    )  # OpenBLAS, which ends the process where it gets no memory, takes it before files are begun


def draw(report: Report, form: str, *, title: str | None = None, log: bool = False, width: float = WIDTH) -> bytes:
    """Return the picture of `report`, as a file.

    Parameters
    ----------
    report : StatsReport, NormalizeReport or DiffReport
        The report; its tensors have a `Picture`.
    form : {"png", "svg", "pdf"}
        What file it becomes.
    title : str, optional
        Stands above the picture; what stands there otherwise then begins the caption.
    log : bool, default: False
        Whether counts, deviations and differences are shown on logarithmic scales.
    width : float
        In inches.

    Raises
    ------
    ParameterError
        If matplotlib is not installed.
    """
    require()
    poster = document_of(report).poster()
    if title is not None:
        poster = Poster(title, poster.panels, [poster.title, *poster.caption])
    with _settings():
        return _Page(poster, form, log, width).saved()


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader of an SVG has other fonts
        warnings.filterwarnings("ignore", message="overflow encountered in (exp|power)")  # a logarithmic scale to 1e308
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, "font.family": "sans-serif", "font.sans-serif": families})
        yield


class _Page:
    """The figure of one picture."""

    def __init__(self, poster: Poster, form: str, log: bool, width: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(width, 1.0), dpi=DPI, layout="constrained")
        self._renderer = FigureCanvasAgg(self.figure).get_renderer()
        self._form = form
        self._title = self._spelled(poster.title)
        heads = self._folded(self._title, HEAD, width, "bold")
        caption = [line for text in poster.caption for line in self._folded(self._spelled(text, 2000), SMALL, width)]
        grid = _arranged(poster.panels, width)
        column = width / max(map(len, grid), default=1)
        tiles = [
            [_Tile(one, self._folded(self._spelled(one.title), BODY, column, "bold"), column, log) for one in row]
            for row in grid
        ]
        heights = [max(tile.height for tile in row) for row in tiles]
        words = (len(heads) * 1.4 * HEAD + len(caption) * 1.4 * SMALL) / 72
        self.figure.set_size_inches(width, sum(heights) + words + 6 * MARGIN)
        edge = MARGIN / width
        self.figure.suptitle("\n".join(heads), x=edge, ha="left", fontsize=HEAD, fontweight="bold")
        style: dict[str, Any] = {"fontsize": SMALL, "color": SOFT, "linespacing": 1.35}
        self.figure.supxlabel("\n".join(caption), x=edge, ha="left", **style)
        if not tiles:
            self.figure.add_subplot().set_axis_off()  # without axes nothing is laid out
            return
        parts = self.figure.subfigures(len(tiles), len(tiles[0]), squeeze=False, height_ratios=heights)
        for beside, row in zip(parts, tiles, strict=True):
            for part, tile in zip(beside, row, strict=False):
                tile.draw(part)

    def _folded(self, text: str, size: float, width: float, weight: str = "normal") -> list[str]:
        """Return `text` in lines that fit `width`; they break at words, or anywhere if they must."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(size=size, weight=weight)

        def fits(line: str) -> bool:
            long, _, _ = self._renderer.get_text_width_height_descent(line, font, False)
            return bool(long <= (width - 2.5 * MARGIN) * DPI)

        lines = []
        while not fits(text):
            most = bisect.bisect_left(range(1, len(text)), True, key=lambda length: not fits(text[:length]))
            end = text.rfind(" ", 1, most + 1)
            lines.append(text[:end] if end > 0 else text[:most])
            text = text[end + 1 :] if end > 0 else text[most:]
        return [*lines, text] if text else lines

    def _spelled(self, text: str, limit: int = 300) -> str:
        """Return `text` on one line; a PNG shows characters that no font has as escapes, not as boxes."""
        shown = printable(text, limit=limit)
        if shown.isascii() or self._form == "svg":
            return shown
        import matplotlib
        from matplotlib.font_manager import FontProperties, findfont, get_font

        families = matplotlib.rcParams["font.sans-serif"]
        known = {code for name in families for code in get_font(findfont(FontProperties(name))).get_charmap()}
        return "".join(c if ord(c) in known else c.encode("ascii", "backslashreplace").decode() for c in shown)

    def saved(self) -> bytes:
        """Return the file."""
        written = io.BytesIO()
        metadata: dict[str, Any] = {"Title": self._title, **METADATA[self._form]}
        self.figure.savefig(written, format=self._form, dpi=DPI, metadata=metadata)
        # A rotation by nothing stands at each text of an SVG.
        return (
            re.sub(rb' transform="rotate\(-0 [^"]*"', b"", written.getvalue())
            if self._form == "svg"
            else written.getvalue()
        )


def _arranged(panels: Sequence[Panel], width: float) -> list[Sequence[Panel]]:
    """Return panels in rows of a grid: as many beside each other as the width allows, in rows of about equal length."""
    least = LEAST_MAPPED if any(panel.maps for panel in panels) else LEAST_PANEL
    rows = -(-len(panels) // max(1, int(width / least)))
    columns = -(-len(panels) // max(1, rows))
    return [panels[start : start + columns] for start in range(0, len(panels), max(1, columns))]


class _Tile:
    """A panel on its part of the page."""

    def __init__(self, panel: Panel, title: Sequence[str], width: float, log: bool) -> None:
        self._panel, self._title, self._width, self._log = panel, title, width, log
        maps = [
            [each._replace(log=log and each.kind != "mean" and not each.offset) for each in row] for row in panel.maps
        ]
        narrow = width / max(map(len, maps), default=1) < LEAST_MAP
        self._rows = [[each] for row in maps for each in row] if narrow else maps
        self._marks = _marks([each for row in maps for each in row])
        self._heights = [HISTOGRAM, *map(self._row_height, self._rows)]

    @property
    def height(self) -> float:
        """The height in inches, with labels and titles."""
        return sum(self._heights) + (LEGEND if self._marks else 0.0) + len(self._title) * 1.4 * BODY / 72

    def _row_height(self, row: Sequence[Map]) -> float:
        """Return the height in inches of a row of maps, with labels, titles and notes."""
        return self._map_height(row) + 0.62 + 1.35 * SMALL / 72 * max(len(each.notes()) for each in row)

    def _map_height(self, row: Sequence[Map]) -> float:
        """Return the height in inches of a row of maps: fields are square, as far as the page allows."""
        heatmap = row[0].heatmap
        if row[0].lies:
            return LINE
        short, long = sorted(heatmap.sizes)
        fields = min(-(-size // merged) for size, merged in zip(heatmap.sizes, heatmap.merged, strict=True))
        width = self._width / len(row) - 1.2
        return min(MOST, max(LEAST, 1.5 * fields / DPI, width * short / max(long, 1)))

    def draw(self, part: SubFigure) -> None:
        """Draw the panel."""
        edge = MARGIN / self._width
        if self._title:
            part.suptitle("\n".join(self._title), x=edge, ha="left", fontsize=BODY, fontweight="bold")
        columns = max(map(len, self._rows), default=1)
        grid = part.add_gridspec(len(self._heights), columns, height_ratios=self._heights)
        _draw_histograms(part.add_subplot(grid[0, :]), self._panel, self._log)
        for below, row in enumerate(self._rows, start=1):
            for column, each in enumerate(row):
                axes = part.add_subplot(grid[below, :] if len(row) == 1 else grid[below, column])
                _head(axes, each)
                if each.lies:
                    _draw_line(axes, each)
                else:
                    _draw_map(part, axes, each, self._map_height(row))
        if self._marks:
            from matplotlib.patches import Patch

            known = [Patch(label=label, linewidth=0.5, **look) for label, look in self._marks.items()]
            part.legend(handles=known, loc="outside lower left", ncols=len(known), fontsize=SMALL, handlelength=1.2)


def _marks(maps: Sequence[Map]) -> dict[str, dict[str, Any]]:
    """Return how cells that have a colour of their own look, by what they are."""
    fields = [(value, each) for each in maps for row in each.fields() for value in row]
    zeros = {_zero(each) for value, each in fields if value == 0}
    found: dict[str, dict[str, Any]] = {f"exactly 0{more}": {"facecolor": look} for more, look in sorted(zeros)}
    if any(math.isnan(value) for value, _ in fields):
        found["nothing finite"] = dict(HATCHED)
    if any(value == math.inf for value, _ in fields):
        found["infinite"] = {"facecolor": RED}
    return found


def _draw_histograms(axes: Axes, panel: Panel, log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    known = [histogram for _, histogram in panel.series if histogram.counts]
    exponent = _exponent([edge for histogram in known for edge in histogram.edges])
    axes.set_xlabel(f"{panel.unit} (1e{exponent})" if exponent else panel.unit)
    axes.set_ylabel("elements in a bin")
    if not known:
        return _empty(axes, "no finite elements")
    looks: list[dict[str, Any]] = [
        {"fill": True, "facecolor": PALE, "edgecolor": BLUE, "linewidth": 0.7},
        {"fill": False, "edgecolor": RED, "linewidth": 1.3},
    ]
    if len(panel.series) > 1:
        looks[0]["hatch"] = "////"
    for (label, histogram), look in zip(panel.series, looks, strict=False):
        shown = histogram.merged(MOST_BARS)
        axes.stairs(shown.counts, _by_power(shown.edges, exponent), label=label or None, **look)
    axes.margins(x=0.01)
    if log:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)  # so that a single element is seen
        _tick_by_power(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}" if count % 1 == 0 else ""))
    if len(panel.series) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.6)
    return None


def _head(axes: Axes, each: Map) -> None:
    """Write above a map what it shows, and below the title the range of its numbers."""
    notes = each.notes()
    axes.set_title(each.title, pad=6 + 1.35 * SMALL * len(notes))
    style: dict[str, Any] = {"fontsize": SMALL, "color": SOFT, "linespacing": 1.35, "va": "bottom"}
    axes.annotate(
        "\n".join(notes), (0, 1), xytext=(0, 4), xycoords="axes fraction", textcoords="offset points", **style
    )


def _limits(each: Map, span: Span) -> tuple[float, float]:
    """Return the ends of the colours of a map, or of the axis of a line."""
    low, high = span.low, span.high
    if each.kind == "mean" and each.lies:
        low, high = min(low, each.middle - each.scale), max(high, each.middle + each.scale)
    elif each.kind == "mean":
        # Around the middle of the means, rounded, so that what is far below the deviations is nothing.
        half = max(each.middle - low, high - each.middle, each.scale) or abs(each.middle) or 1.0
        step = 10.0 ** math.floor(math.log10(half))
        centre = round(each.middle / step) * step
        half = max(centre - low, high - centre, each.scale) or half
        low, high = centre - half, centre + half
    if each.log and low == high:
        return low / 2, min(2 * low, sys.float_info.max)
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if low < high else (-1.0, 1.0)


def _draw_line(axes: Axes, each: Map) -> None:
    """Draw the cells of a single axis as a line, with a band where they share fields."""
    heatmap, shared, span = each.heatmap, each.heatmap.merged[1], each.span()
    (fields,) = each.fields()
    at = [x * shared + (shared - 1) / 2 for x in range(len(fields))]
    _label(axes.set_xlabel, axes.xaxis, heatmap.names[1], heatmap.sizes[1])
    if span is None and math.inf not in fields:
        return _empty(axes, "nothing finite" if fields else "no cells")
    low, high = _limits(each, span or Span(0.0, 1.0))
    exponent = 0 if each.log else _exponent([low, high])
    offset = each.offset
    rows = [heatmap.least[0], heatmap.mean[0], heatmap.largest[0], (low + offset, high + offset, 0.0)]
    least, mean, largest, (low, high, zero) = (_by_power([v - offset for v in row], exponent) for row in rows)
    axes.fill_between(at, least, largest, color=PALE, linewidth=0)
    axes.plot(at, mean, color=BLUE, linewidth=1.0, marker="o" if len(at) <= 64 else "", markersize=2.5)
    marks = [
        ([x for x, value in zip(at, largest, strict=True) if value > high], high, "^", BLUE),
        ([x for x, value in zip(at, least, strict=True) if value < low], low, "v", BLUE),
        ([x for x, value in zip(at, fields, strict=True) if math.isnan(value)], low, "s", CYAN),
        ([x for x, value in zip(at, fields, strict=True) if value == math.inf], high, "X", RED),
        ([x for x, value in zip(at, fields, strict=True) if value == 0], zero, "o", _zero(each)[1]),
    ]
    for places, height, marker, color in marks:
        axes.scatter(places, [min(max(height, low), high)] * len(places), s=14, c=color, marker=marker, zorder=3)
    axes.set_xlim(-0.5, heatmap.sizes[1] - 0.5)
    if each.log:
        axes.set_yscale("log")
        room = 10.0 ** (0.06 * (math.log10(high) - math.log10(low)))
        axes.set_ylim(low / room or low, min(high * room, sys.float_info.max))
    else:
        room = 0.06 * (high - low)
        axes.set_ylim(low - room, high + room)
    axes.grid(axis="y")
    _tick(axes.yaxis, each, 4)
    if exponent:
        axes.set_ylabel(f"1e{exponent}", fontsize=SMALL)
    return None


def _draw_map(part: SubFigure, axes: Axes, each: Map, height: float) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    heatmap = each.heatmap
    names, sizes, merged, rows = heatmap.names, heatmap.sizes, heatmap.merged, each.fields()
    if sizes[0] > sizes[1]:  # the longer side lies across
        names, sizes, merged, rows = names[::-1], sizes[::-1], merged[::-1], list(map(list, zip(*rows, strict=True)))
    _label(axes.set_xlabel, axes.xaxis, names[1], sizes[1])
    _label(axes.set_ylabel, axes.yaxis, names[0], sizes[0])
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.patch.set(linewidth=0, **HATCHED)
    crossed = [(x, y) for y, row in enumerate(rows) for x, number in enumerate(row) if number == math.inf]
    span = each.span()
    if span is None and not crossed:
        return _empty(axes, "nothing finite" if math.prod(sizes) else "no cells")
    low, high = _limits(each, span or Span(0.0, 1.0))
    exponent = 0 if each.log else _exponent([low, high])
    named = {"mean": "PuOr_r", "std": "cividis", "max_abs": "viridis"}[each.kind]
    colors = colormaps[named].with_extremes(bad=(1.0, 1.0, 1.0, 0.0))
    scale = LogNorm if each.log else Normalize
    mappable = ScalarMappable(scale(*_by_power([low, high], exponent)), colors)
    # Coloured here field by field, so that nothing is interpolated.
    shown = [[value - each.offset if math.isfinite(value) else math.nan for value in row] for row in rows]
    image = mappable.to_rgba([_by_power(row, exponent) for row in shown], bytes=True)
    for is_marked, color in ((0.0, _zero(each)[1]), (math.inf, RED)):
        image[[[value == is_marked for value in row] for row in rows]] = [*_bytes(color), 255]
    right, bottom = len(rows[0]) * merged[1] - 0.5, len(rows) * merged[0] - 0.5
    axes.imshow(image, extent=(-0.5, right, bottom, -0.5), aspect="auto", interpolation="nearest")
    axes.set(xlim=(-0.5, sizes[1] - 0.5), ylim=(sizes[0] - 0.5, -0.5))
    at = [(x * merged[1] + (merged[1] - 1) / 2, y * merged[0] + (merged[0] - 1) / 2) for x, y in crossed]
    axes.scatter([x for x, _ in at], [y for _, y in at], s=12, c="black", marker="x", linewidths=0.8)
    if span is None:
        return None
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    tall = max(6.0, 9.0 * height / LEAST / 2)
    bar = part.colorbar(mappable, ax=axes, pad=0.02, aspect=tall, extend=beyond[span.below > 0, span.above > 0])
    _tick(bar.ax.yaxis, each, 3)
    bar.outline.set_linewidth(0.6)
    if exponent:
        bar.set_label(f"1e{exponent}", fontsize=SMALL)
    return None


def _tick(axis: Axis, each: Map, most: int) -> None:
    """Put ticks on the axis that shows the numbers of a map."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if each.log:
        _tick_by_power(axis)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    else:
        axis.set_major_locator(MaxNLocator(most))


def _tick_by_power(axis: Axis) -> None:
    """Put ticks on a logarithmic axis: at powers of ten, and between them where it has few."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 1000 * low else (1.0, 2.0, 5.0), numticks=6))
    axis.set_minor_locator(NullLocator())


def _zero(each: Map) -> tuple[str, str]:
    """Return how exact zeros are called in the legend, and their colour: calm where tensors are equal there."""
    return (": equal", PALE) if each.kind == "max_abs" else ("", PINK)


def _bytes(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def _label(put: Callable[[str], object], axis: Any, name: str, size: int) -> None:
    """Label an axis of a map; its ticks are whole numbers."""
    from matplotlib.ticker import MaxNLocator

    put(axis_title(name))
    axis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    if size <= 6:
        axis.set_ticks(range(size) if name else [])


def _empty(axes: Axes, said: str) -> None:
    """Write on axes why they are empty."""
    axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color=SOFT, backgroundcolor="white")
    axes.set(xticks=[], yticks=[])


def _exponent(values: Sequence[float]) -> int:
    """Return the power of ten by which numbers are divided to be shown; 0 where they can be read as they are.

    Examples
    --------
    >>> _exponent([0.0, -255.0]), _exponent([1e6]), _exponent([3e-9, 0.0]), _exponent([])
    (0, 6, -9, 0)
    """
    largest = max(map(abs, values), default=0.0)
    return 0 if largest == 0 or 1e-3 <= largest < 1e5 else math.floor(math.log10(largest))


def _by_power(values: Sequence[float], exponent: int) -> list[float]:
    """Return `values` divided by a power of ten, in two steps, since the power alone may overflow."""
    half = exponent // 2
    return [value / 10.0**half / 10.0 ** (exponent - half) for value in values]
