"""Histograms in characters: eighth blocks, or ASCII where a terminal has nothing else."""

from __future__ import annotations

import math

from gncli.report.records import Histogram
from gncli.report.style import Style

HEIGHT = 8
EIGHTHS = " ▁▂▃▄▅▆▇█"
ASCII_EIGHTHS = " ...::::#"
FRAME = ("│", "└", "─")
ASCII_FRAME = ("|", "+", "-")
NARROWEST = 16  # columns of bars, however narrow the terminal
PIPE_WIDTH = 80  # columns where there is no terminal


def bars(histogram: Histogram, style: Style) -> list[str]:
    """Return the lines of a drawing as wide as the terminal: the largest count at its top left, the ends below it.

    Where there are more bins than columns, neighbours are drawn as one.

    Examples
    --------
    >>> for line in bars(Histogram((0.0, 1.0, 2.0), (8, 16)), Style(width=20, encoding="ascii"))[-4:]:
    ...     print(line)
      |#################
      |#################
     0+-----------------
       0               2
    """
    if not histogram.counts:
        return [nothing_to_draw(histogram)]
    width, blocks = style.width or PIPE_WIDTH, style.fits(EIGHTHS + "".join(FRAME))
    side, corner, line = FRAME if blocks else ASCII_FRAME
    steps = EIGHTHS if blocks else ASCII_EIGHTHS
    margin = max(len(f"{max(histogram.counts):,}"), 2)
    room = max(width - margin - 1, NARROWEST)
    counts = histogram.merged(room).counts
    margin = max(margin, len(f"{max(counts):,}"))
    room = max(width - margin - 1, NARROWEST)
    most = max(counts)
    # A count above 0 shows, however small it is.
    levels = [max(1, round(8 * HEIGHT * count / most)) if count else 0 for count in counts]
    columns = [levels[column * len(levels) // room] for column in range(room)]
    rows = [
        "".join(steps[min(8, max(0, level - 8 * row))] for level in columns).rstrip()
        for row in range(HEIGHT - 1, -1, -1)
    ]
    labels = [f"{most:,}".rjust(margin), *[" " * margin] * (HEIGHT - 1)]
    low, high = ends_of(histogram, style)
    ends = low + high.rjust(max(room - len(low), len(high) + 1))
    return [
        *(f"{label}{side}{row}" for label, row in zip(labels, rows, strict=True)),
        "0".rjust(margin) + corner + line * room,
        " " * (margin + 1) + ends,
        *scale_lines(histogram),
    ]


def nothing_to_draw(histogram: Histogram) -> str:
    """Return why there is no histogram."""
    return f"no finite elements{' but zeros' if histogram.zeros else ''}, no histogram"


def ends_of(histogram: Histogram, style: Style) -> tuple[str, str]:
    """Return the first and the last edge, as powers of two if all of them are."""
    first, last = histogram.edges[0], histogram.edges[-1]
    if histogram.scale == "exponent":
        return f"2^{math.frexp(first)[1] - 1}", f"2^{math.frexp(last)[1] - (math.frexp(last)[0] == 0.5)}"
    return style.rounded(first), style.rounded(last)


def scale_lines(histogram: Histogram) -> list[str]:
    """Return the line that says what a histogram of absolute values shows; none for other histograms."""
    how = {"exponent": "one bin per power of two", "log": "bins of one width in their logarithm"}.get(histogram.scale)
    return [] if how is None else [f"of absolute values, {how}; {histogram.zeros:,} zeros are in no bin"]
