"""What looked right and was not: one test per trap that a new user fell into, from the command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.cli import main
from gncli.kernels import native
from gncli.kernels.loops import loops

Gncli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gncli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Gncli:
    """Return a function that runs a command line in an empty folder; its status, stdout and stderr come back."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        return main(list(arguments)), *capfd.readouterr()

    return run


@pytest.fixture(params=["plain", *native.BODIES])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each kernel that runs here."""
    if request.param not in ("plain", *native.bodies()):
        pytest.skip(f"{request.param} does not run here")
    monkeypatch.setenv("GNCLI_KERNEL", request.param)
    loops.cache_clear()
    yield
    loops.cache_clear()


def saved(*shape: int, scale: float = 1.0) -> NDArray[np.float64]:
    """Save normal numbers, times `scale`, as x.npy, and return the numbers."""
    x = np.random.default_rng(0).normal(size=shape)
    np.save("x.npy", x * scale)
    return x


def test_danger_1_the_batch_of_a_layout_is_no_space(gncli: Gncli) -> None:
    """B was taken as space: 8 groups for a whole batch."""
    saved(4, 6, 6, 8)
    status, out, err = gncli("normalize", "x.npy", "--layout", "BHWC", "-G", "2", "--format", "json")
    assert (status, err) == (0, "")
    assert json.loads(out)["verified"]["groups"] == 4 * 2
    status, out, err = gncli("normalize", "x.npy", "--layout", "QHWC", "-G", "2")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "N or B is the batch" in err


def test_danger_2_channels_last_without_a_layout_are_noticed(gncli: Gncli) -> None:
    """-G 2 split 14 rows of pixels as if they were channels, and said nothing."""
    saved(2, 14, 14, 64)
    status, out, err = gncli("normalize", "x.npy", "-G", "2")
    assert (status, err) == (0, "")
    assert "x.npy: the layout is NCHW by default: if the channels are last, say --layout NHWC" in out
    status, out, err = gncli("normalize", "x.npy")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "--layout NHWC" in err


@pytest.mark.slow
def test_danger_3_one_dead_channel_is_seen_in_a_picture(gncli: Gncli) -> None:
    """A field was the mean of its cells, on a scale from 0: a dead channel was as good as its neighbours."""
    pytest.importorskip("matplotlib")
    x = np.random.default_rng(0).normal(size=(2, 600, 8))
    x[:, 100] = 0
    np.save("x.npy", x)
    for by in ("C", "N,C"):
        status, out, err = gncli("stats", "x.npy", "--by", by, "--plot", "x.svg", "-f", "-q")
        assert (status, out, err) == (0, "", "")
        picture = Path("x.svg").read_text()
        assert "0 at C 100 to " in picture or "0 at N 0, C 100 to " in picture
        assert "exactly 0" in picture
    status, out, err = gncli("normalize", "x.npy", "-G", "4", "--layout", "NCL", "--plot", "x.svg", "-f", "-q")
    assert (status, out, err) == (0, "", "")
    assert "deviation - 1, after" in Path("x.svg").read_text()


def test_danger_4_the_check_says_what_eps_and_nan_did(gncli: Gncli) -> None:
    """It said ok of new NaN, and nothing of an eps that was as large as the variance."""
    x = saved(2, 8, 6, 6, scale=2e-3) * 2e-3
    status, out, err = gncli("normalize", "x.npy", "-G", "2")
    assert (status, err) == (0, "")
    *_, check, note = out.splitlines()
    assert check.startswith("check: ok, 4 groups, worst error ")
    assert note.startswith("eps is up to ") and "their deviation is" in note and "check" not in note
    x[0, 1, 2, 3] = np.nan
    np.save("x.npy", x)
    status, out, err = gncli("normalize", "x.npy", "-G", "2", "--eps", "0")
    assert (status, err) == (0, "")
    assert "check: 3 of 4 groups ok; 1 group held NaN or infinity and became NaN (143 elements)" in out
    status, out, err = gncli("normalize", "x.npy", "-G", "2", "--eps", "0", "--format", "json")
    verified = json.loads(out)["verified"]
    assert (status, err, verified["ok"], verified["new_nan"]) == (0, "", True, 143)
    assert {"mean_error_ratio", "var_error_ratio", "mean_error", "var_error"} <= set(verified)


def test_danger_5_columns_do_not_depend_on_the_data(gncli: Gncli) -> None:
    """A script that read the seventh column read another where a tensor held a NaN, or a file could not be read."""
    x = saved(2, 8)
    x[0, 0] = np.nan
    np.save("nan.npy", x)
    splits: dict[str, Callable[[str], list[str]]] = {
        "csv": lambda line: line.split(","),
        "markdown": lambda line: line.split("|"),
    }
    for form, split in splits.items():
        runs = [gncli("stats", *names, "--format", form) for names in (["x.npy"], ["nan.npy"], ["x.npy", "absent.npy"])]
        assert [status for status, _, _ in runs] == [0, 0, 3]
        heads = [split(out.splitlines()[0]) for _, out, _ in runs]
        assert heads[0] == heads[1] == heads[2]
    np.savez("x.npz", a=x, b=x)
    status, out, err = gncli("diff", "x.npz", "x.npz", "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert (status, err, {row["error"] for row in rows}) == (0, "", {""})
    status, out, err = gncli("diff", "x.npy", "x.npy", "--format", "csv")
    (row,) = csv.DictReader(out.splitlines())
    assert (status, err, row["equal"]) == (0, "", "true")
    status, out, err = gncli("stats", "x.npy")
    assert (status, err) == (0, "")
    assert all(label in out for label in ("NaN", "+Infinity", "-Infinity"))


@pytest.mark.usefixtures("gncli")
def test_danger_6_a_report_is_not_written_over_a_tensor() -> None:
    """`normalize x.npy > y.npy` left a table in y.npy."""
    saved(2, 8, 6, 6)
    command = [sys.executable, "-m", "gncli", "normalize", "x.npy", "-G", "2"]
    with open("y.npy", "wb") as y:
        done = subprocess.run(command, stdout=y, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, Path("y.npy").stat().st_size) == (2, 0)
    assert done.stderr == (
        "gncli: error: stdout is the file y.npy, and the report would be written there; say -o y.npy, or -o -\n"
    )


@pytest.mark.usefixtures("kernel")
def test_danger_7_tiny_and_huge_numbers_keep_their_statistics(gncli: Gncli) -> None:
    """At 1e-170 the deviation was 0, and with --eps 0 numbers came out as they went in; at 1e308 NumPy warned."""
    unit = saved(2, 4, 50)
    wanted = {"std": unit.std(), "l2": np.sqrt((unit**2).sum()), "kurtosis": _kurtosis(unit)}
    for scale in (1e-170, 1e-90, 1e90):
        saved(2, 4, 50, scale=scale)
        status, out, err = gncli("stats", "x.npy", "-s", ",".join(wanted), "--format", "value")
        found = dict(zip(wanted, map(float, out.split()), strict=True))
        assert (status, err) == (0, "")
        for name, power in (("std", scale), ("l2", scale), ("kurtosis", 1.0)):
            assert found[name] == pytest.approx(wanted[name] * power, rel=1e-12)
    saved(2, 4, 50, scale=1e-170)
    done = gncli("normalize", "x.npy", "-G", "2", "--eps", "0", "-o", "y.npy", "-q")
    assert done == (0, "", "")
    groups = unit.reshape(2, 2, -1)
    expected = (groups - groups.mean(axis=2, keepdims=True)) / groups.std(axis=2, keepdims=True)
    np.testing.assert_allclose(np.load("y.npy").reshape(2, 2, -1), expected, rtol=1e-12, atol=1e-14)
    np.save("x.npy", [1.79e308, -1.79e308, 1e308])
    status, out, err = gncli("stats", "x.npy", "-s", "var,l2,std", "--format", "value")
    assert (status, err) == (0, "")
    assert float(out.split()[2]) == pytest.approx(np.std([1.79, -1.79, 1.0]) * 1e308)


def _kurtosis(x: NDArray[np.float64]) -> float:
    gaps = x - x.mean()
    return float((gaps**4).mean() / (gaps**2).mean() ** 2 - 3)
