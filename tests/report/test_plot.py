"""Pictures: what is drawn, from real tensors, and that nothing of the machine's or of a name's gets in the way."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.errors import ParameterError
from gncli.inputs import Draw
from gncli.kernels.heatmap import Plane
from gncli.report import document_of, plot
from gncli.report.lines import verdict_line
from gncli.report.poster import Map, Panel, maps_of, span
from gncli.report.records import MOST_DRAWN, Histogram, Picture, StatsReport, TensorStats
from tests import transcripts
from tests.marks import slow_but
from tests.runs import diff, normalize, stats

pytest.importorskip("matplotlib")

RED, PINK, CYAN = (213, 94, 0), (231, 41, 138), (0, 183, 235)  # the line after and infinities, exact zeros, and NaN


def words(svg: bytes) -> list[str]:
    """Return the texts of an SVG, which must be XML."""
    root = ElementTree.fromstring(svg)
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def pixels(png: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(image: NDArray[np.uint8], color: tuple[int, int, int], within: int = 6) -> int:
    """Return how many pixels have nearly that colour."""
    return int((np.abs(image.astype(int) - color).max(axis=2) <= within).sum())


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that saves an array, by default as x.npy in the working directory."""
    monkeypatch.chdir(tmp_path)

    def save(x: Any, name: str = "x.npy") -> str:
        np.save(name, np.asarray(x))
        return name

    return save


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.slow
def test_a_normalization_is_a_histogram_and_four_maps(saved: Callable[..., str]) -> None:
    report = normalize(saved(normal(6, 8, 5) * 3 + 1), num_groups=4, layout="NCL", picture=20)
    image = pixels(plot.draw(report, "png"))
    assert image.shape[1] == round(plot.WIDTH * plot.DPI)
    assert (image[0] == 255).all() and (image[-1] == 255).all() and (image[:, -1] == 255).all()
    assert count(image, RED) > 1000
    assert not count(image, CYAN)
    found = words(plot.draw(report, "svg"))
    for said in (
        "Group Normalization of x.npy", "before", "after", "value", "elements in a bin", "sample N", "group G",
        "mean, before", "mean, after", "deviation, before", "deviation - 1, after", "float32 (6, 8, 5), 240 elements",
        "layout NCL, 4 groups of 2 channels, eps 1e-05, gamma 1, beta 0, denominator std, dtype float32",
        "histogram of 20 bins; maps of 6 samples x 4 groups",
    ):  # fmt: skip
        assert said in found


def test_the_maps_hold_the_moments_of_the_groups_in_any_layout(saved: Callable[..., str]) -> None:
    x = normal(8, 3, 5)
    for layout, given in (("CNL", x), ("CNL", np.asfortranarray(x)), ("NCL", np.moveaxis(x, 1, 0))):
        report = normalize(saved(given), group_size=2, layout=layout, picture=4, gamma=2.0, beta=3.0)
        groups = np.moveaxis(x, 1, 0).reshape(3, 4, -1).astype(float)
        before, after = report.before.picture, report.after.picture
        assert before is not None and after is not None
        assert before.histogram.edges == after.histogram.edges
        assert sum(before.histogram.counts) == sum(after.histogram.counts) == x.size
        assert before.maps["mean"][:4] == (("N", "G"), ("N", "G"), (3, 4), (1, 1))
        np.testing.assert_allclose(before.maps["mean"].mean, groups.mean(2), rtol=1e-6)
        np.testing.assert_allclose(before.maps["std"].mean, groups.std(2), rtol=1e-6)
        np.testing.assert_allclose(after.maps["mean"].mean, np.full((3, 4), 3.0), rtol=1e-6)
        np.testing.assert_allclose(after.maps["std"].mean, np.full((3, 4), 2.0), rtol=1e-4)


@pytest.mark.slow
def test_a_picture_is_the_same_bytes_each_time(saved: Callable[..., str]) -> None:
    report = stats([saved(normal(4, 8, 5))], by="N,C", picture=16)
    for form in ("png", "svg", "pdf"):
        first = plot.draw(report, form)
        assert first == plot.draw(report, form)
        assert b"dc:date" not in first and b"CreationDate" not in first
        assert b"matplotlib.org" not in first or form == "pdf"  # where it is the producer


X = normal(4, 6, 5)
HOLED = np.where(np.arange(120).reshape(4, 6, 5) < 30, np.nan, X)
WHOLES = {
    "none": (np.zeros((0, 4, 3)), ["no finite elements", "no cells"]),
    "nan": (np.full((2, 4, 3), np.nan), ["no finite elements", "nothing finite", "cells: 2 with nothing finite"]),
    "constant": (np.full((2, 4, 3), 0.3), ["all 0.3", "all 0", "all -1", "cells: 2 exactly 0", "exactly 0"]),
    "one": (np.ones((1, 1, 1)), ["float64 (1, 1, 1), 1 element", "maps of 1 samples x 1 groups"]),
    "holed": (HOLED, ["nothing finite", "not in the histogram: 30 NaN"]),
    "huge": (X.astype(float) * 1e307, ["value (1e307)", "1e307"]),
    "tiny": (X.astype(float) * 1e-310, ["value (1e-308)"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", slow_but(WHOLES, "nan"))
def test_whatever_is_in_a_tensor_can_be_drawn(saved: Callable[..., str], case: str) -> None:
    x, said = WHOLES[case]
    report = normalize(saved(x), num_groups=1, layout="NCL", picture=8)
    text = "\n".join(words(plot.draw(report, "svg")))
    for each in said:
        assert each in text


@pytest.mark.slow
def test_several_tensors_stand_in_a_grid_as_many_as_a_page_bears(saved: Callable[..., str]) -> None:
    names = [saved(normal(3, 4, 2, seed=i), f"{i}.npy") for i in range(MOST_DRAWN + 2)]
    report = stats([*names[:2], "absent.npy"], by="C", picture=8)
    found = words(plot.draw(report, "svg"))
    for said in ("2 tensors", "0.npy   float32 (3, 4, 2)", "channel C", "mean", "deviation", "1 could not be read"):
        assert said in found
    many = stats(names, picture=8)
    kept = [tensor for tensor in many.tensors if isinstance(tensor, TensorStats) and tensor.picture is not None]
    assert len(kept) == MOST_DRAWN
    poster = document_of(many).poster()
    assert len(poster.panels) == MOST_DRAWN
    assert poster.caption[-1] == f"{MOST_DRAWN} of {MOST_DRAWN + 2} tensors are drawn"
    by_mean = stats(names, picture=8, sort="-mean")
    assert all(isinstance(tensor, TensorStats) and tensor.picture is not None for tensor in by_mean.tensors)
    assert [panel.title.partition(" ")[0] for panel in document_of(by_mean).poster().panels] == [
        tensor.name for tensor in by_mean.tensors[:MOST_DRAWN]
    ]


def test_a_histogram_of_the_terminal_and_one_of_a_picture_are_asked_for_apart(saved: Callable[..., str]) -> None:
    name = saved(X)
    for bins, picture in ((8, None), (None, 8), (8, 8)):
        report = normalize(name, num_groups=2, layout="NCL", bins=bins, picture=picture)
        (one,) = stats([name], bins=bins, picture=picture).tensors
        both = diff(name, name, bins=bins, picture=picture)
        assert isinstance(one, TensorStats)
        for found in (report.before, report.after, one, both):
            assert (found.histogram is not None, found.picture is not None) == (bins is not None, picture is not None)


def test_the_file_of_all_tensors_is_named_once(saved: Callable[..., str]) -> None:
    np.savez("x.npz", a=X, b=X)
    poster = document_of(stats(["x.npz"], picture=8)).poster()
    assert (poster.title, [panel.title.split()[0] for panel in poster.panels]) == ("2 tensors of x.npz", ["a", "b"])


def test_a_seed_that_was_chosen_is_in_the_caption() -> None:
    report = stats([], random=Draw((3, 4)), picture=8)
    assert document_of(report).poster().caption[-1] == f"seed {report.seed}"


@pytest.mark.slow
def test_cells_of_a_pipe_and_their_histogram_come_from_what_was_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    command = [sys.executable, "-m", "gncli", "stats", "-", "--by", "C", "-s", "mean", "--plot", "x.svg"]
    with open(tmp_path / "x.npy", "rb") as pipe:
        done = subprocess.run(command, stdin=pipe, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0 and b"C 5" in done.stdout
    assert "histogram of 64 bins; lines over 6 channels" in words((tmp_path / "x.svg").read_bytes())


@pytest.mark.slow
def test_many_cells_share_fields_and_none_is_lost(saved: Callable[..., str]) -> None:
    x = normal(700, 5, 4)
    x[333, 2], x[20, 1], x[100, 3], x[50, 4] = 0.0, np.nan, 300 * x[100, 3], 1000.0
    report = stats([saved(x)], by="N,C", picture=2000)
    (found,) = report.tensors
    assert isinstance(found, TensorStats) and found.picture is not None
    maps = {each.title: each for row in document_of(report).poster().panels[0].maps for each in row}
    cells = {"mean": x.astype(float).mean(2), "deviation": x.astype(float).std(2)}
    for title, one in maps.items():
        numbers = cells[title.split()[-1]].reshape(-1)[: 699 * 5].reshape(233, 3, 5)
        far = {"farthest": abs(numbers - one.middle), "least": -numbers, "largest": numbers}[one.shown]
        wanted = np.take_along_axis(numbers, far.argmax(axis=1)[:, None], axis=1)[:, 0]
        np.testing.assert_allclose(
            one.fields()[:233], np.where(np.isnan(numbers).any(axis=1), np.nan, wanted), rtol=1e-6
        )
    assert list(maps) == ["mean", "least deviation", "largest deviation"]
    low = cells["mean"][~np.isnan(cells["mean"])].min()
    place = "N {}, C {}".format(*np.argwhere(cells["mean"] == low)[0])
    assert maps["mean"].notes()[:2] == [
        f"{low:.4g} at {place} to 1000 at N 50, C 4", "cells: 1 exactly 0, 1 with nothing finite"
    ]  # fmt: skip
    assert maps["mean"].notes()[2].startswith("colours -") and maps["mean"].notes()[2].endswith(" beyond")
    assert maps["least deviation"].notes()[0].startswith("0 at N 50, C 4 to ")
    assert document_of(report).poster().caption[-1] == (
        "histogram of 2,000 bins, drawn as 500; maps of 700 samples x 5 channels, a field is the farthest from the "
        "middle, of deviations the least and the largest, of 3 x 1 cells"
    )
    image = pixels(plot.draw(report, "png"))
    assert count(image, PINK) > 50 and count(image, CYAN) > 50


@pytest.mark.slow
def test_cells_along_one_axis_are_a_line_with_a_band(saved: Callable[..., str]) -> None:
    x = normal(2, 600, 8)
    x[:, 100], x[:, 200], x[:, 300] = 0, np.nan, 90 * x[:, 300]
    report = stats([saved(x)], by="C", picture=4)
    ((mean, deviation),) = document_of(report).poster().panels[0].maps
    assert mean.lies and deviation.lies
    assert deviation.notes()[0].startswith("0 at C 100 to ") and deviation.notes()[0].endswith(" at C 300")
    assert deviation.notes()[2].startswith("axis ") and deviation.notes()[2].endswith(" beyond")
    found = words(plot.draw(report, "svg"))
    assert "histogram of 4 bins; lines over 600 channels, with a band from the least to the largest of 3 cells" in found
    image = pixels(plot.draw(report, "png"))
    assert count(image, PINK) > 50 and count(image, CYAN) > 50
    assert count(image, (0, 34, 78), 30) == 0  # no field of a map


@pytest.mark.slow
def test_a_line_of_differences_marks_infinities(saved: Callable[..., str]) -> None:
    a, b = normal(9, 2), normal(9, 2, seed=1)
    a[4, 0] = np.nan
    assert document_of(diff(saved(a), saved(b, "b.npy"), picture=4, by="0")).poster().panels[0].maps[0][0].lies
    a[:], b[:] = np.nan, 0.0
    for by in ("0", "0,1"):
        svg = plot.draw(diff(saved(a), saved(b, "b.npy"), picture=4, by=by), "svg")
        assert f"cells: {9 * (1 + by.count('1'))} infinite" in words(svg)
        assert svg.count(b"#d55e00") > (9 if by == "0" else 0)  # a map is an image


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (np.full((2, 3), np.nan), ["nothing finite", "cells: 3 with nothing finite"]),
        (np.arange(6.0).reshape(2, 3) * 1e200, ["1e200", "lines over 3 channels"]),
        (np.zeros((2, 0)), ["no cells"]),
    ],
)
def test_a_line_can_be_drawn_of_anything(saved: Callable[..., str], numbers: NDArray[Any], said: list[str]) -> None:
    text = "\n".join(words(plot.draw(stats([saved(numbers)], by="1", picture=4), "svg"))).replace(
        "along axis 1", "channels"
    )
    assert all(each in text for each in said)


def heights(svg: bytes, said: bytes) -> list[float]:
    """Return how far below the top each text begins that is `said`."""
    return [float(y) for y in re.findall(rb'<text [^>]*y="([\d.]+)"[^>]*>' + said, svg)]


@pytest.mark.slow
def test_title_and_width_are_chosen(saved: Callable[..., str]) -> None:
    report = stats([saved(normal(4, 2))], by="0", picture=4)
    narrow = plot.draw(report, "svg", title="Figure <3>", width=3.0)
    assert {"Figure <3>", "x.npy"} <= set(words(narrow)) and b'width="216pt"' in narrow
    mean, deviation = heights(narrow, b"axis 0")
    assert mean < deviation - 50  # the maps stand below each other
    mean, deviation = heights(plot.draw(report, "svg", width=10.0), b"axis 0")
    assert mean == deviation


@pytest.mark.slow
def test_scales_can_be_logarithmic(saved: Callable[..., str]) -> None:
    x = np.repeat([1.0, 1e-3, 0.0, np.nan, 1e3], 2).reshape(5, 2) * [[1, -1]]
    found = words(plot.draw(stats([saved(x)], by="0", picture=4), "svg", log=True))
    assert {"0.001", "0.1", "10", "1"} <= set(found)
    equal = stats([saved(np.array([[1.0, -1.0]] * 3))], by="0", picture=4)
    assert {"0.5", "1", "2"} <= set(words(plot.draw(equal, "svg", log=True)))


@pytest.mark.slow
def test_no_field_of_a_logarithmic_map_lies_beyond_its_colours(saved: Callable[..., str]) -> None:
    report = stats([saved(np.exp(normal(6, 5, 3) * 9))], by="0,1", picture=4)
    ((_, deviation),) = document_of(report).poster().panels[0].maps
    known = [value for row in deviation.fields() for value in row]
    assert deviation._replace(log=True).span() == (min(known), max(known), 0, 0)
    assert "100" in words(plot.draw(report, "svg", log=True))


@pytest.mark.slow
@pytest.mark.parametrize("by", ["0", "0,1"])
def test_a_logarithmic_scale_spans_all_of_float64(saved: Callable[..., str], by: str) -> None:
    report = stats([saved(np.array([[[1e308, -1e308]], [[1e-320, -1e-320]]]))], by=by, picture=4)
    assert any("1e-320 at " in said for said in words(plot.draw(report, "svg", log=True)))


@pytest.mark.parametrize(
    ("count", "mapped", "width", "rows"),
    [
        (0, False, 7.2, []),
        (1, True, 7.2, [1]),
        (2, True, 7.2, [2]),
        (4, False, 7.2, [2, 2]),
        (10, False, 7.2, [3, 3, 3, 1]),
        (5, True, 7.2, [2, 2, 1]),
        (3, False, 2.5, [1, 1, 1]),
        (12, False, 40.0, [12]),
    ],
)
def test_panels_stand_in_a_grid(count: int, mapped: bool, width: float, rows: list[int]) -> None:
    plane = Plane(("C",), (2,))
    maps = [list(maps_of("mean", plane.heatmap()))] if mapped else []
    panels = [Panel(str(at), [], "value", maps) for at in range(count)]
    grid = plot._arranged(panels, width)
    assert [len(row) for row in grid] == rows
    assert [panel for row in grid for panel in row] == panels


SPANS: dict[str, tuple[list[float], tuple[float, float, int, int]]] = {
    "one": ([3.0], (3.0, 3.0, 0, 0)),
    "two": ([3.0, 1e9], (3.0, 1e9, 0, 0)),
    "equal, and one": ([1.0] * 9 + [50.0], (1.0, 50.0, 0, 0)),
    "below and above": ([-100.0, 1.0, 1.5, 2.0, 100.0], (1.0, 2.0, 1, 1)),
    "near enough": ([-1.0, 1.0, 2.0, 4.0], (-1.0, 4.0, 0, 0)),
    "a cluster": ([float(i) for i in range(100)] + [1e3] * 2, (0.0, 99.0, 0, 2)),
    "many are no few": ([float(i) for i in range(100)] + [1e3] * 30, (0.0, 1e3, 0, 0)),
    "overflowing": ([-1.7e308, -1e308, 1e308, 1.7e308], (-1.7e308, 1.7e308, 0, 0)),
}


@pytest.mark.parametrize("case", SPANS)
def test_a_few_far_numbers_do_not_stretch_the_colours(case: str) -> None:
    numbers, wanted = SPANS[case]
    assert span(numbers) == wanted


def test_after_is_shown_by_how_far_its_deviation_is_from_1(saved: Callable[..., str]) -> None:
    """It was a map of one colour."""
    name = saved(normal(6, 8, 50))

    def maps(**more: Any) -> dict[str, Map]:
        report = normalize(name, **{"num_groups": 4, "layout": "NCL", "picture": 4, **more})
        return {each.title: each for row in document_of(report).poster().panels[0].maps for each in row}

    after = maps()["deviation - 1, after"]
    known, limits = [value for row in after.fields() for value in row], after.span()
    assert limits is not None and (limits.low, limits.high) == (min(known) - 1, max(known) - 1)
    assert -1e-4 < limits.low < limits.high < 0
    given = {"num_groups": None, "given": True, "mean": 0.0, "var": 1.0}
    for more in ({"gamma": 2.0}, {"denominator": "variance"}, {"rms": True}, given):
        assert "deviation, after" in maps(**more)


DIFFS: list[tuple[tuple[int, ...], dict[str, Any], tuple[tuple[str, str], tuple[int, int]] | None]] = [
    ((), {}, None),
    ((7,), {}, (("", "0"), (1, 7))),
    ((3, 4), {}, (("N", "C"), (3, 4))),
    ((3, 4, 2, 2, 1, 2), {}, (("0", "1"), (3, 4))),
    ((0, 4), {}, (("N", "C"), (0, 4))),
    ((3, 4, 2), {"by": "2"}, (("", "2"), (1, 2))),
    ((1 << 11, (1 << 9) + 1), {}, (("", "0"), (1, 1 << 11))),  # a cell an element would be too many
    (((1 << 20) + 1,), {}, None),
]


@pytest.mark.parametrize(("shape", "options", "shown"), DIFFS)
def test_a_difference_is_mapped_by_what_comes_near_to_sample_and_channel(
    saved: Callable[..., str], shape: tuple[int, ...], options: dict[str, Any], shown: object
) -> None:
    x = np.zeros(shape, np.int8)
    report = diff(saved(x), saved(x, "y.npy"), picture=8, **options)
    assert report.picture is not None
    heatmap = report.picture.maps.get("max_abs")
    assert (None if heatmap is None else (heatmap.names, heatmap.sizes)) == shown
    assert not report.cells or options
    assert document_of(report).poster().title == "SAME: x.npy - y.npy"


@pytest.mark.slow
def test_the_map_of_a_difference_shows_the_largest_and_where_values_do_not_match(saved: Callable[..., str]) -> None:
    a, b = X.copy(), X.copy()
    a[1, 2, 3] += 0.5
    a[2, 4, 1], b[3, 0, 0] = np.nan, np.inf
    a[0, 0], b[0, 0] = np.nan, np.nan
    report = diff(saved(a), saved(b, "b.npy"), picture=10)
    assert report.picture is not None
    maps = [each for row in document_of(report).poster().panels[0].maps for each in row]
    wanted = np.zeros((4, 6))
    wanted[1, 2], wanted[2, 4], wanted[3, 0], wanted[0, 0] = 0.5, np.inf, np.inf, np.nan
    np.testing.assert_allclose([each.fields() for each in maps], [wanted], rtol=1e-6)
    image = pixels(plot.draw(report, "png"))
    assert count(image, RED) > 2000
    found = words(plot.draw(report, "svg"))
    assert "0 at N 0, C 1 to 0.5 at N 1, C 2" in found
    for said in ("DIFFERENT: x.npy - b.npy", verdict_line(report), "largest |a - b|", "a - b", "infinite"):
        assert said in found
    assert "1 differ by a NaN, 1 by an infinity: such cells are orange with a cross" in found


def test_a_deviation_far_above_the_others_does_not_make_all_means_look_alike(saved: Callable[..., str]) -> None:
    x = np.random.default_rng(0).standard_normal((16, 64, 7))
    x[:, 40] *= 1e6  # 16 of 1,024 cells
    ((mean, _),) = document_of(stats([saved(x)], picture=8, by="N,C")).poster().panels[0].maps
    shown = mean.span()
    assert shown is not None and shown.below + shown.above > 0
    low, high = plot._limits(mean, shown)
    assert max(-low, high) < 4


def test_tensors_of_different_shapes_have_no_more_than_a_verdict(saved: Callable[..., str]) -> None:
    report = diff(saved(np.zeros(3)), saved(np.zeros(4), "b.npy"), picture=10)
    assert words(plot.draw(report, "svg"))[0] == "DIFFERENT: x.npy - b.npy"
    assert pixels(plot.draw(report, "png")).shape[0] > 100


NAME = r"$\frac{1}{0}$ <b>&amp;</b> " + "\x1b[31m\n\u202e中文 " + "W" * 100 + ".npy"


@pytest.mark.slow
def test_a_name_is_drawn_as_it_is_and_never_acted_on() -> None:
    plane = Plane(("N", "C"), (1, 2))
    plane.add(np.array([[0, 0], [0, 1]]), np.array([1.0, 2.0]))
    maps = {name: plane.heatmap() for name in ("mean", "std")}
    picture = Picture(Histogram((0.0, 1.0), (2,)), maps)
    tensor = TensorStats((1, 2), "float64", {"nan": 0}, NAME, picture=picture)
    report = StatsReport((tensor,))
    svg = plot.draw(report, "svg")
    assert r"$\frac{1}{0}$ <b>&amp;</b> \x1b[31m\n\u202e中文" in "".join(words(svg))
    assert b"<b>" not in svg and b"\x1b" not in svg
    image = pixels(plot.draw(report, "png"))
    assert (image[:, -10:] == 255).all()
    with plot._settings():
        spelled = plot._Page(document_of(report).poster(), "png", False, 7.2)._title
    assert r"\x1b[31m\n\u202e" in spelled and ("中" in spelled or r"\u4e2d" in spelled)


def test_without_matplotlib_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "kept")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ParameterError) as caught:
        plot.require()
    assert str(caught.value) == "--plot needs matplotlib, which is not installed; pip install 'gncli[plot]'"
    assert os.environ["MPLBACKEND"] == "kept"


@pytest.mark.slow
def test_settings_of_the_machine_change_nothing_and_nothing_is_said_of_them(saved: Callable[..., str]) -> None:
    name = saved(X)
    Path("matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nno such key: 1\n")
    environment = transcripts.environment() | {
        "HOME": "/dev/null",
        "MPLBACKEND": "no such thing",
        "TMPDIR": os.getcwd(),
    }
    for kept in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        environment.pop(kept, None)
    command = [sys.executable, "-m", "gncli", "stats", name, "--plot", "x.svg", "-s", "size"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path("x.svg").read_bytes() == plot.draw(stats([name], picture=64), "svg")
    assert sorted(os.listdir()) == ["matplotlibrc", "x.npy", "x.svg"]


def test_numbers_near_the_ends_of_float64_keep_their_digits() -> None:
    assert plot._exponent([5e-324]) == -324
    assert plot._by_power([5e-324], -324) == [pytest.approx(4.94, rel=1e-3)]
    assert plot._by_power([1.7e308, -1e308], 308) == [pytest.approx(1.7), pytest.approx(-1.0)]


def test_text_is_found_in_an_svg_with_any_font(saved: Callable[..., str]) -> None:
    svg = plot.draw(stats([saved(X)], picture=8), "svg").decode()
    fonts = re.findall(r"font(?:-family)?: ([^;\"]*'[^;\"]*)", svg)
    assert len(fonts) > 10 and all(font.endswith("sans-serif") for font in fonts)
