"""Histograms in characters: eighth blocks, or ASCII where a terminal has nothing else. Standard library only."""

from __future__ import annotations

from gncli.report.records import Histogram

HEIGHT = 8
EIGHTHS = " ▁▂▃▄▅▆▇█"
ASCII_EIGHTHS = " ...::::#"
FRAME = ("│", "└", "─")
ASCII_FRAME = ("|", "+", "-")
NARROWEST = 16  # columns of bars, however narrow the terminal


def bars(histogram: Histogram, width: int, *, blocks: bool = True, precision: int = 8) -> list[str]:
    """Return the lines of a drawing `width` columns wide: the largest count at its top left, the ends under it.

    Parameters
    ----------
    histogram : Histogram
        Where it has more bins than there are columns, neighbours are drawn as one.
    width : int
        Columns to fill.
    blocks : bool
        Whether there are eighth blocks, or ASCII alone.
    precision : int
        Significant digits of the ends.

    Examples
    --------
    >>> for line in bars(Histogram((0.0, 1.0, 2.0), (8, 16)), 20, blocks=False)[-4:]:
    ...     print(line)
      |#################
      |#################
     0+-----------------
       0               2
    """
    if not histogram.counts:
        return ["no finite elements, no histogram"]
    side, corner, line = FRAME if blocks else ASCII_FRAME
    steps = EIGHTHS if blocks else ASCII_EIGHTHS
    margin = max(len(f"{max(histogram.counts):,}"), 2)
    room = max(width - margin - 1, NARROWEST)
    counts = histogram.merged(room).counts
    margin = max(margin, len(f"{max(counts):,}"))
    room = max(width - margin - 1, NARROWEST)
    most = max(counts)
    # What there is shows, however little it is.
    levels = [max(1, round(8 * HEIGHT * count / most)) if count else 0 for count in counts]
    columns = [levels[column * len(levels) // room] for column in range(room)]
    rows = [
        "".join(steps[min(8, max(0, level - 8 * row))] for level in columns).rstrip()
        for row in range(HEIGHT - 1, -1, -1)
    ]
    labels = [f"{most:,}".rjust(margin), *[" " * margin] * (HEIGHT - 1)]
    low, high = (f"{edge:.{precision}g}" for edge in (histogram.edges[0], histogram.edges[-1]))
    ends = low + high.rjust(max(room - len(low), len(high) + 1))
    return [
        *(f"{label}{side}{row}" for label, row in zip(labels, rows, strict=True)),
        "0".rjust(margin) + corner + line * room,
        " " * (margin + 1) + ends,
    ]
