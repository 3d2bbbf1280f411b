"""Pictures of a report: histograms, and maps of its cells, as PNG or SVG. matplotlib is imported here alone.

Notes
-----
A report goes in, the bytes of a file come out; what is shown was computed before. The same report gives the same bytes
on the same machine: there is no date in a file, and nobody's matplotlibrc counts. Magnitudes are in viridis and
cividis, which are ordered by lightness too; means in PuOr around 0; series differ by hatch and line as well as colour,
so that a picture can be read in gray and by the colour-blind. Where nothing is finite, a map is hatched.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gncli.errors import ParameterError
from gncli.kernels.heatmap import Heatmap
from gncli.names import NONFINITE, statistic
from gncli.report.lines import check_line, done_line
from gncli.report.records import MOST_DRAWN, Histogram, NormalizeReport, Report, StatsReport, TensorStats
from gncli.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from gncli.report.verdict import DiffReport

MOST_BARS = 512  # of a histogram: more bins than a picture has room for are drawn together

WIDTH = 7.2  # inches: the text of a page of A4 or Letter
DPI = 200
MARGIN = 0.08  # inches
BODY, SMALL, HEAD = 8.0, 6.5, 10.0  # points
HISTOGRAM = 1.9  # inches of height
LEAST, MOST = 0.45, 2.6  # inches of height of a map

INK, SOFT = "0.15", "0.4"
BLUE, PALE, RED = "#0072B2", "#c9dfef", "#D55E00"  # of Okabe and Ito, for the colour-blind
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
FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans SC", "Noto Sans JP", "Source Han Sans", "WenQuanYi Zen Hei",
    "Hiragino Sans", "PingFang SC", "Arial Unicode MS", "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari",
    "Noto Emoji", "Symbola",
)  # fmt: skip
"""Fonts that are asked for what DejaVu Sans, which comes with matplotlib, does not have, where they are installed."""

AXES = {"N": "sample N", "C": "channel C", "G": "group G"}
COUNTED = {"N": "samples", "C": "channels", "G": "groups"}


def require() -> None:
    """Import matplotlib, so that its absence is met before anything is computed.

    Raises
    ------
    ParameterError
        If it cannot be imported.
    """
    # What it has to say of a home that cannot be written, or of somebody's settings, is no business of a picture.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    backend = os.environ.pop("MPLBACKEND", None)  # a wrong one would end the import
    try:
        import matplotlib.figure  # noqa: F401  # what draws
    except ImportError as error:
        problem = "--plot needs matplotlib, which is not installed"
        raise ParameterError(problem, hint="pip install 'gncli[plot]'") from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def draw(report: Report | DiffReport, form: str) -> bytes:
    """Return the picture of `report`, as a file.

    Parameters
    ----------
    report : StatsReport, NormalizeReport or DiffReport
        Whose tensors have a `Picture`.
    form : str
        ``png`` or ``svg``.

    Raises
    ------
    ParameterError
        If matplotlib is not installed.
    """
    require()
    with _settings():
        return _Page(_sheet(report), form).saved()


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # an SVG is read with other fonts
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, "font.family": "sans-serif", "font.sans-serif": families})
        yield


# --- what is shown ---------------------------------------------------------------------------------------------------


class _Series(NamedTuple):
    """A histogram among those on the same axes."""

    label: str
    histogram: Histogram


class _Map(NamedTuple):
    """A map of cells, and what is said over it."""

    title: str
    kind: str
    heatmap: Heatmap
    scale: float = 0.0  # what the range has to hold at least: numbers far below it are rounding


class _Block(NamedTuple):
    """What belongs to one tensor, or to one pair of them."""

    title: str
    series: Sequence[_Series]
    unit: str
    maps: Sequence[Sequence[_Map]]


class _Sheet(NamedTuple):
    """A whole picture in words and numbers."""

    title: str
    blocks: Sequence[_Block]
    caption: Sequence[str]


def _sheet(report: Report | DiffReport) -> _Sheet:
    if isinstance(report, StatsReport):
        return _of_stats(report)
    return _of_normalize(report) if isinstance(report, NormalizeReport) else _of_diff(report)


def _of_stats(report: StatsReport) -> _Sheet:
    tensors = [found for found in report.tensors if isinstance(found, TensorStats)]
    shown = [found for found in tensors if found.picture is not None][:MOST_DRAWN]
    blocks = [_block(found, alone=len(shown) == 1) for found in shown]
    caption = [_described(found) for found in shown] if len(shown) == 1 else []
    caption += _caption(blocks)
    if len(shown) < len(tensors):
        caption.append(f"{len(shown)} of {len(tensors):,} tensors are drawn")
    if report.failures:
        caption.append(f"{len(report.failures):,} could not be read")
    seed = [] if report.seed is None else [f"seed {report.seed}"]
    title = shown[0].name if len(shown) == 1 else f"{len(shown)} tensors"
    return _Sheet(title, blocks, [*caption, *seed])


def _block(found: TensorStats, *, alone: bool) -> _Block:
    assert found.picture is not None
    picture = found.picture
    maps = [_Map(name, kind, picture.maps[kind]) for kind, name in _NAMES.items() if kind in picture.maps]
    title = "" if alone else f"{found.name}   {found.dtype} {found.shape}"
    return _Block(title, [_Series("", picture.histogram)], "value", [_scaled_maps(maps)] if maps else [])


_NAMES = {"mean": "mean", "std": "deviation", "max_abs": "largest |a - b|"}


def _of_normalize(report: NormalizeReport) -> _Sheet:
    before, after = report.before.picture, report.after.picture
    assert before is not None and after is not None
    stages = {"before": before, "after": after}
    series = [_Series(name, picture.histogram) for name, picture in stages.items()]
    columns = [
        _scaled_maps([_Map(f"{_NAMES[kind]}, {stage}", kind, picture.maps[kind]) for kind in ("mean", "std")])
        for stage, picture in stages.items()
    ]
    block = _Block("", series, "value", list(zip(*columns, strict=True)))
    caption = [_described(report.before), done_line(report.parameters), check_line(report), *_caption([block])]
    return _Sheet(f"Group Normalization of {report.input}", [block], caption)


def _of_diff(report: DiffReport) -> _Sheet:
    title = f"{'SAME' if report.equal else 'DIFFERENT'}: {report.a.name} - {report.b.name}"
    operands = [f"{side}: {operand.dtype} {operand.shape}" for side, operand in (("a", report.a), ("b", report.b))]
    said = [report.verdict, ", ".join(operands)]
    if report.picture is None:  # of different shapes
        return _Sheet(title, [], said)
    maps = [[_Map(_NAMES[kind], kind, heatmap)] for kind, heatmap in report.picture.maps.items()]
    block = _Block("", [_Series("", report.picture.histogram)], "a - b", maps)
    if report.nan_mismatches or report.inf_mismatches:
        said.append(
            f"{report.nan_mismatches:,} differ by a NaN, {report.inf_mismatches:,} by an infinity: "
            "such cells are orange with a cross"
        )
    return _Sheet(title, [block], [*said, *_caption([block])])


def _scaled_maps(maps: Sequence[_Map]) -> list[_Map]:
    """Return maps of means that know the deviations beside them: a mean far below these is no more than rounding."""
    deviations = [number for each in maps if each.kind == "std" for number in _finite(each.heatmap)]
    return [each._replace(scale=max(deviations, default=0.0) / 100) for each in maps]


def _described(found: TensorStats) -> str:
    """Return what a tensor is, and what of it is in no histogram."""
    counts = {statistic(name).label: found.values.get(name) for name in NONFINITE}
    left_out = [f"{count:,} {label}" for label, count in counts.items() if isinstance(count, int) and count]
    out = f"; not in the histogram: {', '.join(left_out)}" if left_out else ""
    return f"{found.dtype} {found.shape}, {found.size:,} element{'' if found.size == 1 else 's'}{out}"


def _caption(blocks: Sequence[_Block]) -> list[str]:
    """Return what is to be known about the histograms and maps of `blocks`."""
    said: list[str] = []
    series = [each for block in blocks for each in block.series]
    counted = {(len(each.histogram.counts), len(each.histogram.merged(MOST_BARS).counts)) for each in series}
    for bins, drawn in sorted(counted - {(0, 0)}):
        more = f", drawn as {drawn:,}" if drawn < bins else ""
        said.append(f"histogram of {bins:,} bin{'' if bins == 1 else 's'}{more}")
    maps = [each for block in blocks for row in block.maps for each in row]
    for each in {(one.heatmap.names, one.heatmap.sizes): one for one in maps}.values():
        named = [along for along in zip(*each.heatmap[:3], strict=True) if along[0]]
        said.append("maps of " + " x ".join(f"{size:,} {_counted(name)}" for name, size, _ in named))
        if math.prod(each.heatmap.merged) > 1:
            how = "largest" if each.kind == "max_abs" else "mean"
            said[-1] += f", a field is the {how} of {' x '.join(str(merged) for _, _, merged in named)} cells"
    if any(math.isnan(number) for each in maps for row in each.heatmap.rows for number in row):
        said.append("hatched: nothing finite")
    return ["; ".join(said)] if said else []


def _finite(heatmap: Heatmap) -> list[float]:
    return [number for row in heatmap.rows for number in row if math.isfinite(number)]


# --- how it is drawn -------------------------------------------------------------------------------------------------


class _Page:
    """The figure of one picture."""

    def __init__(self, sheet: _Sheet, form: str) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(WIDTH, 1.0), dpi=DPI, layout="constrained")
        self._renderer = FigureCanvasAgg(self.figure).get_renderer()
        self._form = form
        self._title = self._spelled(sheet.title)
        heads = self._folded(self._title, HEAD, "bold")
        caption = [line for text in sheet.caption for line in self._folded(self._spelled(text, 2000), SMALL)]
        titles = [
            self._folded(self._spelled(block.title), BODY, "bold") if block.title else [] for block in sheet.blocks
        ]
        heights = [
            _height(block) + len(title) * 1.4 * BODY / 72 for block, title in zip(sheet.blocks, titles, strict=True)
        ]
        words = (len(heads) * 1.4 * HEAD + len(caption) * 1.4 * SMALL) / 72
        self.figure.set_size_inches(WIDTH, sum(heights) + words + 6 * MARGIN)
        edge = MARGIN / WIDTH
        self.figure.suptitle("\n".join(heads), x=edge, ha="left", fontsize=HEAD, fontweight="bold")
        style: dict[str, Any] = {"fontsize": SMALL, "color": SOFT, "linespacing": 1.35}
        self.figure.supxlabel("\n".join(caption), x=edge, ha="left", **style)
        if not sheet.blocks:
            self.figure.add_subplot().set_axis_off()  # or nothing would be laid out
            return
        parts = self.figure.subfigures(len(sheet.blocks), 1, squeeze=False, height_ratios=heights)
        for (part,), block, title in zip(parts, sheet.blocks, titles, strict=True):
            if title:
                part.suptitle("\n".join(title), x=edge, ha="left", fontsize=BODY, fontweight="bold")
            _draw_block(part, block)

    def _folded(self, text: str, size: float, weight: str = "normal") -> list[str]:
        """Return `text` in lines that fit the width of the page: broken at words, or anywhere if it must be."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(size=size, weight=weight)

        def fits(line: str) -> bool:
            width, _, _ = self._renderer.get_text_width_height_descent(line, font, False)
            return bool(width <= (WIDTH - 2.5 * MARGIN) * DPI)

        lines = []
        while not fits(text):
            most = bisect.bisect_left(range(1, len(text)), True, key=lambda length: not fits(text[:length]))
            end = text.rfind(" ", 1, most + 1)
            lines.append(text[:end] if end > 0 else text[:most])
            text = text[end + 1 :] if end > 0 else text[most:]
        return [*lines, text]

    def _spelled(self, text: str, limit: int = 300) -> str:
        """Return `text` on one line; in a PNG characters that no font here has are escaped, not drawn as boxes."""
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
        metadata: dict[str, Any] = {"Software": "gncli", "Title": self._title}
        if self._form == "svg":
            metadata = {"Creator": "gncli", "Date": None, "Title": self._title}
        self.figure.savefig(written, format=self._form, dpi=DPI, metadata=metadata)
        return written.getvalue()


def _height(block: _Block) -> float:
    """Return the inches that a block takes, with labels and titles."""
    return HISTOGRAM + sum(_map_height(row) + 0.62 for row in block.maps)


def _map_height(row: Sequence[_Map]) -> float:
    """Return the inches of height of the maps of a row: fields are square, as far as the page allows."""
    heatmap = row[0].heatmap
    short, long = sorted(heatmap.sizes)
    fields = min(-(-size // merged) for size, merged in zip(heatmap.sizes, heatmap.merged, strict=True))
    width = WIDTH / len(row) - 1.2
    return min(MOST, max(LEAST, 1.5 * fields / DPI, width * short / max(long, 1)))


def _draw_block(part: SubFigure, block: _Block) -> None:
    columns = max((len(row) for row in block.maps), default=1)
    ratios = [HISTOGRAM, *(_map_height(row) + 0.62 for row in block.maps)]
    grid = part.add_gridspec(len(ratios), columns, height_ratios=ratios)
    _draw_histograms(part.add_subplot(grid[0, :]), block)
    for below, row in enumerate(block.maps, start=1):
        for column, each in enumerate(row):
            _draw_map(part, part.add_subplot(grid[below, column]), each)


def _draw_histograms(axes: Axes, block: _Block) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    known = [each for each in block.series if each.histogram.counts]
    exponent = _exponent([edge for each in known for edge in each.histogram.edges])
    axes.set_xlabel(f"{block.unit} (1e{exponent})" if exponent else block.unit)
    axes.set_ylabel("elements in a bin")
    if not known:
        return _empty(axes, "no finite elements")
    looks: list[dict[str, Any]] = [
        {"fill": True, "facecolor": PALE, "edgecolor": BLUE, "linewidth": 0.7},
        {"fill": False, "edgecolor": RED, "linewidth": 1.3},
    ]
    if len(block.series) > 1:
        looks[0]["hatch"] = "////"
    for (label, histogram), look in zip(block.series, looks, strict=False):
        shown = histogram.merged(MOST_BARS)
        axes.stairs(shown.counts, _by_power(shown.edges, exponent), label=label or None, **look)
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    if len(block.series) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.6)
    return None


def _draw_map(part: SubFigure, axes: Axes, each: _Map) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    names, sizes, merged, rows = each.heatmap
    if sizes[0] > sizes[1]:  # what is longer lies
        names, sizes, merged, rows = names[::-1], sizes[::-1], merged[::-1], tuple(zip(*rows, strict=True))
    axes.set_title(each.title)
    if known := _finite(each.heatmap):
        axes.set_title(f"{min(known):.4g} to {max(known):.4g}", loc="right", fontsize=SMALL, color=SOFT)
    _label(axes.set_xlabel, axes.xaxis, names[1], sizes[1])
    _label(axes.set_ylabel, axes.yaxis, names[0], sizes[0])
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.patch.set(facecolor="0.95", edgecolor="0.6", hatch="xxxx", linewidth=0)
    crossed = [(x, y) for y, row in enumerate(rows) for x, number in enumerate(row) if number == math.inf]
    if not known and not crossed:
        return _empty(axes, "no cells" if not math.prod(sizes) else "nothing finite")
    largest = max([abs(number) for number in known] + [each.scale * (each.kind == "mean")], default=0.0) or 1.0
    exponent = _exponent([largest])
    (limit,) = _by_power([largest], exponent)
    step = 10.0 ** (math.floor(math.log10(limit)) - 1)
    limit = math.ceil(limit / step - 1e-6) * step
    named = {"mean": "PuOr_r", "std": "cividis", "max_abs": "viridis"}[each.kind]
    colors = colormaps[named].with_extremes(bad=(1.0, 1.0, 1.0, 0.0), over=RED)
    mappable = ScalarMappable(Normalize(-limit if each.kind == "mean" else 0.0, limit), colors)
    # Coloured here, field by field, so that nothing is interpolated; what is infinite lies over the range.
    fields = [[2 * limit if value == math.inf else value for value in _by_power(row, exponent)] for row in rows]
    right, bottom = len(rows[0]) * merged[1] - 0.5, len(rows) * merged[0] - 0.5
    axes.imshow(
        mappable.to_rgba(fields, bytes=True),
        extent=(-0.5, right, bottom, -0.5),
        aspect="auto",
        interpolation="nearest",
    )
    axes.set(xlim=(-0.5, sizes[1] - 0.5), ylim=(sizes[0] - 0.5, -0.5))
    at = [(x * merged[1] + (merged[1] - 1) / 2, y * merged[0] + (merged[0] - 1) / 2) for x, y in crossed]
    axes.scatter([x for x, _ in at], [y for _, y in at], s=12, c="black", marker="x", linewidths=0.8)
    bar = part.colorbar(mappable, ax=axes, pad=0.02, aspect=max(6.0, 9.0 * _map_height([each]) / LEAST / 2))
    bar.ax.yaxis.set_major_locator(MaxNLocator(3))
    bar.outline.set_linewidth(0.6)
    if exponent:
        bar.set_label(f"1e{exponent}", fontsize=SMALL)
    return None


def _label(put: Callable[[str], object], axis: Any, name: str, size: int) -> None:
    """Label an axis of a map, of which each entry is a whole number."""
    from matplotlib.ticker import MaxNLocator

    put(_axis(name))
    axis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    if size <= 6:
        axis.set_ticks(range(size) if name else [])


def _axis(name: str) -> str:
    return AXES.get(name, f"axis {name}" if name.isdecimal() else name)


def _counted(name: str) -> str:
    return COUNTED.get(name, f"along {_axis(name)}")


def _empty(axes: Axes, said: str) -> None:
    """Say on axes why there is nothing on them."""
    axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color=SOFT, backgroundcolor="white")
    axes.set(xticks=[], yticks=[])


def _exponent(values: Sequence[float]) -> int:
    """Return the power of ten that numbers are shown in, 0 where they can be read as they are.

    Examples
    --------
    >>> _exponent([0.0, -255.0]), _exponent([1e6]), _exponent([3e-9, 0.0]), _exponent([])
    (0, 6, -9, 0)
    """
    largest = max(map(abs, values), default=0.0)
    return 0 if largest == 0 or 1e-3 <= largest < 1e5 else math.floor(math.log10(largest))


def _by_power(values: Sequence[float], exponent: int) -> list[float]:
    """Return `values` over a power of ten, in two steps, since one alone may leave float64."""
    half = exponent // 2
    return [value / 10.0**half / 10.0 ** (exponent - half) for value in values]
