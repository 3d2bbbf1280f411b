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
from gncli.kernels.heatmap import Heatmap
from gncli.report import document_of, plot
from gncli.report.lines import verdict_line
from gncli.report.records import MOST_DRAWN, Histogram, Picture, StatsReport, TensorStats
from tests import transcripts
from tests.marks import slow_but
from tests.runs import diff, normalize, stats

pytest.importorskip("matplotlib")

RED, YELLOW = (213, 94, 0), (254, 232, 56)  # of the line after, and of the largest deviations


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
    right = image[:, image.shape[1] // 2 :]
    assert count(right, YELLOW) > 40_000  # after, all deviations are the largest
    assert count(right, YELLOW) > 3 * count(image[:, : image.shape[1] // 2], YELLOW)
    found = words(plot.draw(report, "svg"))
    for said in (
        "Group Normalization of x.npy", "before", "after", "value", "elements in a bin", "sample N", "group G",
        "mean, before", "mean, after", "deviation, before", "deviation, after", "float32 (6, 8, 5), 240 elements",
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
        assert before.maps["mean"][:3] == (("N", "G"), (3, 4), (1, 1))
        np.testing.assert_allclose(before.maps["mean"].rows, groups.mean(2), rtol=1e-6)
        np.testing.assert_allclose(before.maps["std"].rows, groups.std(2), rtol=1e-6)
        np.testing.assert_allclose(after.maps["mean"].rows, np.full((3, 4), 3.0), rtol=1e-6)
        np.testing.assert_allclose(after.maps["std"].rows, np.full((3, 4), 2.0), rtol=1e-4)


@pytest.mark.slow
def test_a_picture_is_the_same_bytes_each_time(saved: Callable[..., str]) -> None:
    report = stats([saved(normal(4, 8, 5))], by="N,C", picture=16)
    for form in ("png", "svg"):
        first = plot.draw(report, form)
        assert first == plot.draw(report, form)
        assert b"matplotlib.org" not in first and b"dc:date" not in first


X = normal(4, 6, 5)
HOLED = np.where(np.arange(120).reshape(4, 6, 5) < 30, np.nan, X)
WHOLES = {
    "none": (np.zeros((0, 4, 3)), ["no finite elements", "no cells"]),
    "nan": (np.full((2, 4, 3), np.nan), ["no finite elements", "nothing finite", "hatched: nothing finite"]),
    "constant": (np.full((2, 4, 3), 0.3), ["0.3 to 0.3", "0 to 0"]),
    "one": (np.ones((1, 1, 1)), ["float64 (1, 1, 1), 1 element", "maps of 1 samples x 1 groups"]),
    "holed": (HOLED, ["hatched: nothing finite", "not in the histogram: 30 NaN"]),
    "huge": (X.astype(float) * 1e307, ["value (1e307)", "1e307"]),
    "tiny": (X.astype(float) * 1e-310, ["value (1e-308)"]),
}


@pytest.mark.parametrize("case", slow_but(WHOLES, "nan"))
def test_whatever_is_in_a_tensor_can_be_drawn(saved: Callable[..., str], case: str) -> None:
    x, said = WHOLES[case]
    report = normalize(saved(x), num_groups=1, layout="NCL", picture=8)
    text = "\n".join(words(plot.draw(report, "svg")))
    for each in said:
        assert each in text


def test_several_tensors_stand_below_each_other_as_many_as_a_page_bears(saved: Callable[..., str]) -> None:
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
    assert "histogram of 64 bins; maps of 6 channels" in words((tmp_path / "x.svg").read_bytes())


def test_many_cells_share_fields_and_the_caption_says_so(saved: Callable[..., str]) -> None:
    x = normal(700, 3, 2)
    report = stats([saved(x)], by="N,C", picture=2000)
    (found,) = report.tensors
    assert isinstance(found, TensorStats) and found.picture is not None
    means = x.astype(float).mean(2)
    np.testing.assert_allclose(found.picture.maps["mean"].rows[0], means[:3].mean(0), rtol=1e-6)
    caption = document_of(report).poster().caption
    assert caption[-1] == (
        "histogram of 2,000 bins, drawn as 500; maps of 700 samples x 3 channels, a field is the mean of 3 x 1 cells"
    )
    assert count(pixels(plot.draw(report, "png")), (0, 34, 78), 60) > 10


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


def test_the_map_of_a_difference_shows_the_largest_and_where_values_do_not_match(saved: Callable[..., str]) -> None:
    a, b = X.copy(), X.copy()
    a[1, 2, 3] += 0.5
    a[2, 4, 1], b[3, 0, 0] = np.nan, np.inf
    a[0, 0], b[0, 0] = np.nan, np.nan
    report = diff(saved(a), saved(b, "b.npy"), picture=10)
    assert report.picture is not None
    wanted = np.zeros((4, 6))
    wanted[1, 2], wanted[2, 4], wanted[3, 0], wanted[0, 0] = 0.5, np.inf, np.inf, np.nan
    np.testing.assert_allclose(report.picture.maps["max_abs"].rows, wanted, rtol=1e-6)
    image = pixels(plot.draw(report, "png"))
    assert count(image, RED) > 2000
    found = words(plot.draw(report, "svg"))
    for said in ("DIFFERENT: x.npy - b.npy", verdict_line(report), "largest |a - b|", "0 to 0.5", "a - b"):
        assert said in found
    assert "1 differ by a NaN, 1 by an infinity: such cells are orange with a cross" in found


def test_tensors_of_different_shapes_have_no_more_than_a_verdict(saved: Callable[..., str]) -> None:
    report = diff(saved(np.zeros(3)), saved(np.zeros(4), "b.npy"), picture=10)
    assert words(plot.draw(report, "svg"))[0] == "DIFFERENT: x.npy - b.npy"
    assert pixels(plot.draw(report, "png")).shape[0] > 100


NAME = r"$\frac{1}{0}$ <b>&amp;</b> " + "\x1b[31m\n\u202e中文 " + "W" * 100 + ".npy"


@pytest.mark.slow
def test_a_name_is_drawn_as_it_is_and_never_acted_on() -> None:
    maps = {name: Heatmap(("N", "C"), (1, 2), (1, 1), ((1.0, 2.0),)) for name in ("mean", "std")}
    picture = Picture(Histogram((0.0, 1.0), (2,)), maps)
    tensor = TensorStats((1, 2), "float64", {"nan": 0}, NAME, picture=picture)
    report = StatsReport((tensor,))
    svg = plot.draw(report, "svg")
    assert r"$\frac{1}{0}$ <b>&amp;</b> \x1b[31m\n\u202e中文" in "".join(words(svg))
    assert b"<b>" not in svg and b"\x1b" not in svg
    image = pixels(plot.draw(report, "png"))
    assert (image[:, -10:] == 255).all()
    with plot._settings():
        spelled = plot._Page(document_of(report).poster(), "png")._title
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
