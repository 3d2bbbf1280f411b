"""``--plot`` and ``--report``: the files beside the output appear whole, in the right order, and over nothing."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

from gncli.errors import OutputError
from gncli.names import REPORT_FORMS
from gncli.report import plot
from tests.marks import slow_but
from tests.runs import Run

X = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
PLAIN = {"txt": "table", "json": "json", "jsonl": "jsonl", "csv": "csv", "md": "markdown"}


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FORMAT", "COLOR", "PRECISION"):
        monkeypatch.delenv(f"GNCLI_{name}", raising=False)
    np.save("x.npy", X)
    np.save("y.npy", X + np.float32(1e-3))
    np.save("shape.npy", X[0])


def listed() -> list[str]:
    return sorted(set(os.listdir()) - {"x.npy", "y.npy", "shape.npy"})


COMMANDS = {
    "stats x.npy": 0,
    "stats x.npy y.npy absent.npy": 3,
    "stats x.npy --by C -s mean,nan": 0,
    "stats x.npy y.npy --by N,C": 0,
    "stats x.npy --expect mean==0": 1,
    "normalize x.npy -G 2 --layout NCL --stages": 0,
    "diff x.npy y.npy --by C --hist": 1,
    "diff x.npy x.npy": 0,
    "diff x.npy shape.npy": 1,
    "random 3x4 --seed 1 -o z.npy": 0,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("suffix", slow_but(PLAIN, "txt", "json"))
def test_a_report_in_a_file_is_the_one_of_that_form_on_stdout(run: Run, command: str, suffix: str) -> None:
    shown = command.replace(" --hist", "") if suffix in ("csv", "md") else command
    status, wanted, _ = run(shown, "-f", "--format", PLAIN[suffix]) if suffix != "txt" else run(shown, "-f")
    assert status == COMMANDS[command]
    for form in ("table", "jsonl"):
        status, out, _ = run(command, "-f", "--format", form, "--report", f"r.{suffix}")
        assert status == COMMANDS[command]
        assert out == run(command, "-f", "--format", form)[1]
        assert Path(f"r.{suffix}").read_text(encoding="utf-8") == wanted


def test_a_report_of_objects_counts_zeros_and_the_table_beside_it_does_not_show_them(run: Run) -> None:
    _, out, _ = run("stats x.npy --report r.json")
    assert "Zeros" not in out
    (tensor,) = json.loads(Path("r.json").read_text())["tensors"]
    assert tensor["zeros"] == 0
    run("stats x.npy -s shape --report s.json")
    assert "zeros" not in json.loads(Path("s.json").read_text())["tensors"][0]


@pytest.mark.slow
def test_cells_that_a_table_leaves_out_are_in_the_file(run: Run) -> None:
    np.save("many.npy", np.zeros((700, 3)))
    _, out, _ = run("stats many.npy --by 0,1 --report r.csv")
    assert "... 1,100 more; --format csv for all" in out
    with open("r.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 2101
    _, out, _ = run("stats many.npy --by 0,1 --report r.json")
    assert "... 1,100 more; --format csv for all" in out
    assert len(json.loads(Path("r.json").read_text())["tensors"][0]["cells"]) == 2100
    np.save("many.npy", np.zeros(100_001))
    assert run("stats many.npy --by 0 --report more.json")[0] == 5
    assert run("diff many.npy many.npy --by 0 --report more.json")[0] == 5
    assert listed() == ["many.npy", "r.csv", "r.json"]


HOSTILE = "<script>alert(1)</script>&\x1b[31m]]>{}@font-face { }.npy"


@pytest.mark.parametrize("command", ["stats", "normalize -G 2 --layout NCL", "diff x.npy"])
def test_a_picture_of_a_table_is_made_of_text_whatever_a_name_says(run: Run, command: str) -> None:
    os.makedirs(HOSTILE.rpartition("/")[0])
    np.save(HOSTILE, X)
    status, out, err = run(command, "--report", "r.svg", "--color", "never", "--", HOSTILE)
    assert (status, err) == (0, "") and "\x1b" not in out
    page = Path("r.svg").read_text(encoding="utf-8")
    assert "<script" not in page and "\x1b" not in page
    assert "&lt;script&gt;" in page and "http" not in re.sub(r'xmlns="[^"]*"|<!--.*?-->', "", page, flags=re.DOTALL)
    title = f"gncli {command.split()[0]} "
    root = ElementTree.fromstring(page)
    found = "\n".join("".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text"))
    found = found.replace("\N{NO-BREAK SPACE}", " ")
    assert title in found and r"\x1b[31m]]>{}@font-face { }.npy" in found.replace("...", "")


def test_a_picture_of_a_table_is_as_wide_as_it_and_shows_colours(run: Run) -> None:
    names = [f"{'n' * 60}{i}.npy" for i in range(3)]
    for name in names:
        np.save(name, X)
    run("stats --report r.svg", *names)
    page = Path("r.svg").read_text(encoding="utf-8").replace("&#160;", " ")
    assert all(f">{name}<" in page.replace(" ", "") for name in names)
    assert f"gncli stats {names[0]}"[:20] in page
    assert "fill" in page and page.count("@font-face") == 0


@pytest.mark.slow
def test_what_stands_beside_the_output_is_there_with_it(run: Run) -> None:
    pytest.importorskip("matplotlib")
    line = "normalize x.npy -G 2 --layout NCL -o z.npy --save-moments m.npz --plot p.png --report r.txt"
    assert run(line)[0] == 0
    assert listed() == ["m.npz", "p.png", "r.txt", "z.npy"]
    assert "written to z.npy" in Path("r.txt").read_text(encoding="utf-8")
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    status, out, err = run("normalize x.npy -G 2 --layout NCL -o - --plot q.svg --report q.json -q")
    assert (status, err, "NUMPY" in out) == (0, "", True)
    assert json.loads(Path("q.json").read_text())["output"] == "-"


@pytest.mark.slow
def test_a_check_that_fails_is_shown_in_both(run: Run) -> None:
    pytest.importorskip("matplotlib")
    np.save("big.npy", np.array([[1, 2, 3, 60000]], np.float16))
    line = "normalize big.npy -G 1 --gamma 60000 -o z.npy --plot p.svg --report r.md"
    status, _, err = run(line)
    assert (status, err) == (
        1,
        "gncli: error: big.npy: the check failed: 1 result beyond the largest float16; nothing was written\n",
    )
    assert listed() == ["big.npy", "p.svg", "r.md"]
    assert "check: FAILED" in Path("p.svg").read_text(encoding="utf-8")


REFUSED = [
    ("stats x.npy --plot p.gif", 2, "'p.gif' ends in none of .png, .svg, .pdf"),
    ("stats x.npy --log", 2, "--log is about a picture; give --plot FILE too"),
    ("diff x.npy x.npy --title A --width 3", 2, "--title and --width are about a picture; give --plot FILE too"),
    ("stats x.npy --plot p.png --width 1", 2, "1.0 is not in the range 2.5<=x<=40.0"),
    ("stats x.npy --report r", 2, "'r' ends in none of .txt, .json, .jsonl, .csv, .md, .svg, .html"),
    ("stats x.npy --report old.txt", 4, "old.txt: already exists; --force replaces it"),
    ("stats x.npy --plot old.svg", 4, "old.svg: already exists; --force replaces it"),
    ("stats in.svg --plot in.svg -f", 4, "in.svg: is the same file as the input in.svg; choose another name"),
    ("stats in.svg --report link.txt -f", 4, "link.txt: is the same file as the input in.svg; choose another name"),
    ("diff x.npy in.svg --plot in.svg -f", 4, "in.svg: is the same file as the input in.svg; choose another name"),
    ("normalize x.npy -G 2 --layout NCL --gamma in.svg::/a --report in.svg -f", 4,
     "in.svg: is the same file as the input in.svg::/a; choose another name"),
    ("stats x.npy --plot a.svg --report a.svg", 4,
     "a.svg: is the same file as the output a.svg; choose another name for one of them"),
    ("normalize x.npy -G 2 --layout NCL -o out.svg.h5::/z --report link.html -f", 4,
     "link.html: is the same file as the output out.svg.h5::/z; choose another name for one of them"),
    ("normalize x.npy -G 2 --layout NCL --executor dask --plot p.svg", 2,
     "histograms are not made by a cluster; leave out --hist and --plot, or --executor dask"),
    ("stats x.npy --report absent/r.txt", 4,
     "absent/r.txt: cannot be written (No such file or directory); there is no folder absent"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("line", "status", "said"), REFUSED)
def test_what_may_not_be_written_is_refused_before_anything_is_read(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str, status: int, said: str
) -> None:
    Path("old.txt").write_text("old")
    Path("old.svg").write_text("old")
    np.save("in.npy", X)
    os.rename("in.npy", "in.svg")
    os.link("in.svg", "link.txt")
    Path("out.svg.h5").write_text("")
    os.symlink("out.svg.h5", "link.html")
    before = listed()
    monkeypatch.setattr("gncli.io.RawFile", None)  # what would read
    found, out, err = run(line)
    assert (found, out) == (status, "")
    assert said in err and err.count("\n") == 1
    assert listed() == before
    assert Path("old.txt").read_text() == Path("old.svg").read_text() == "old"


def test_force_replaces_and_keeps_what_was_there_if_it_fails(run: Run) -> None:
    Path("r.txt").write_text("old")
    assert run("stats absent.npy --report r.txt -f")[0] == 3
    assert Path("r.txt").read_text() == "old"
    assert run("stats x.npy --report r.txt -f")[0] == 0
    assert Path("r.txt").read_text(encoding="utf-8").startswith("╭")
    assert listed() == ["r.txt"]


@pytest.mark.slow
def test_a_picture_that_cannot_be_made_costs_no_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")

    def failing(report: object, form: str) -> bytes:
        raise OutputError("cannot be drawn", subject="p.png")

    monkeypatch.setattr(plot, "draw", failing)
    before = Path("x.npy").read_bytes()
    for output in ("--in-place", "-o z.npy --save-moments m.npz"):
        status, out, err = run(f"normalize x.npy -G 2 --layout NCL {output} --plot p.png --report r.txt")
        assert (status, out, err) == (4, "", "gncli: error: p.png: cannot be drawn\n")
        assert listed() == [] and Path("x.npy").read_bytes() == before
    assert run("diff x.npy y.npy -o z.npy --plot p.png")[0] == 4
    assert listed() == []


def test_without_matplotlib_nothing_is_read_or_begun(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for command in ("stats x.npy", "normalize x.npy", "diff x.npy y.npy"):
        assert run(f"{command} --plot p.png --report r.txt") == (
            2, "", "gncli: error: --plot needs matplotlib, which is not installed; pip install 'gncli[plot]'\n"
        )  # fmt: skip
    assert listed() == []


def test_a_signal_leaves_nothing_beside_the_output() -> None:
    command = [sys.executable, "-m", "gncli", "stats", "-", "--report", "r.html"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 30
        while not listed() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [name.startswith(".r.html.") for name in listed()] == [True]
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == -signal.SIGTERM
    assert listed() == []


def test_every_suffix_has_a_form_and_all_that_is_written_is_utf_8(run: Run) -> None:
    with h5py.File("é.h5", "w") as file:
        file["größe"] = X
    for suffix in REPORT_FORMS:
        assert run(f"stats é.h5::/größe --report r{suffix}")[0] == 0
        text = Path(f"r{suffix}").read_text(encoding="utf-8").replace("&#160;", " ")
        assert ("größe" in text) == (suffix not in (".json", ".jsonl"))
