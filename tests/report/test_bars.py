"""`gncli.report.bars`: histograms in characters."""

from __future__ import annotations

from gncli.report.bars import HEIGHT, NARROWEST, bars
from gncli.report.records import Histogram
from gncli.report.style import Style


def test_a_count_above_zero_shows_however_small_it_is() -> None:
    lines = bars(Histogram((0.0, 1.0, 2.0, 3.0), (1_000_000, 1, 0)), Style(width=30))
    assert len(lines) == HEIGHT + 2
    assert lines[0] == "1,000,000│███████"
    assert lines[HEIGHT - 1] == "         │███████▁▁▁▁▁▁▁"
    assert lines[-1] == "          0                  3"


def test_more_bins_than_columns_are_drawn_together_on_any_terminal() -> None:
    histogram = Histogram(tuple(map(float, range(1001))), (7,) * 1000)
    for width in (1, 40, 200):
        lines = bars(histogram, Style(width=width, encoding="ascii", precision=2))
        assert max(map(len, lines)) == max(width, NARROWEST + len(lines[0].partition("|")[0]) + 1)
        assert all(line.isascii() for line in lines)
        assert lines[-1].split() == ["0", "1e+03"]


def test_nothing_finite_has_no_histogram() -> None:
    assert bars(Histogram((), ()), Style()) == ["no finite elements, no histogram"]
