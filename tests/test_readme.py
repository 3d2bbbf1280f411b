"""The README: every transcript, example and picture in it is run again; for links and names see `test_docs`."""

from __future__ import annotations

import contextlib
import doctest
import html
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import gncli
from gncli.cli import main
from gncli.commands.group import gncli as group
from gncli.io import open_sources
from tests import browser, transcripts
from tests.files import read_all

README = transcripts.ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
PICTURES = {"normalize.svg": "--report", "normalized.svg": "--plot"}
"""What draws each picture of the README, of the same command."""


def draw(name: str, folder: Path) -> Path:
    """Draw a picture of the README in `folder`; return it."""
    command = ["normalize", "sample_data/activations.npy", "--groups", "4", "-q", "--force"]
    assert main([*command, PICTURES[name], str(folder / name)]) == 0
    return folder / name


def photograph(folder: Path) -> None:
    """Take the picture of a page in a browser, which must be installed, for `folder`."""
    with tempfile.TemporaryDirectory() as place, browser.opened(Path(place, "profile")) as tab:
        shutil.copy(folder / "activations.npy", place)
        with contextlib.chdir(place):
            assert main("normalize activations.npy -G 4 --report page.html --plot page.svg".split()) == 0
        tab.show(Path(place, "page.html"), (800, 1310))
        (folder / "page.png").write_bytes(tab.screenshot())


def words(svg: Path) -> list[str]:
    """Return the text in a picture, a line each, but for ticks; how it is set in type is its library's own matter."""
    found = re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text(encoding="utf-8"))
    shown = [html.unescape(text).replace("\N{NO-BREAK SPACE}", " ") for text in found]
    return [text for text in shown if re.search(r"[^-\d.,e\s\N{MINUS SIGN}]", text) and " to " not in text]


def checkpoint(folder: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a checkpoint in shards by name."""
    found = {}
    for source in open_sources(str(folder)):
        with contextlib.closing(source):
            found[source.name.rpartition("::")[2]] = read_all(source)
    return found


@pytest.mark.slow
def test_every_transcript_gives_what_it_shows(tmp_path: Path) -> None:
    transcripts.prepare(tmp_path)
    steps = [step for block in transcripts.blocks(TEXT) for step in transcripts.steps(block)]
    assert len(steps) >= 3
    for step in steps:
        transcripts.compare(step.expected, transcripts.outcome(step.command, tmp_path))


def test_the_python_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(transcripts.ROOT)
    failed, tried = doctest.testfile(str(README), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert tried >= 6 and not failed


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_what_the_command_makes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    if PICTURES[name] == "--plot":
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(transcripts.ROOT)
    kept = Path("sample_data", name)
    assert f"]({kept})" in TEXT and kept.stat().st_size <= 60 << 10
    assert len(words(kept)) > 15
    transcripts.compare(words(kept), words(draw(name, tmp_path)))


def test_it_is_short_enough_to_be_read() -> None:
    assert len(TEXT.splitlines()) <= 200


def test_the_commands_that_it_shows_without_their_output_can_be_typed() -> None:
    (block,) = re.findall(r"^```sh\n(gncli .*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    answers = re.findall(r"^\|[^|]+\| `(gncli .+?)`", TEXT, re.MULTILINE)
    stages = [stage for line in [*block.splitlines(), *answers] for stage in re.split(r" \\?\| ", line)]
    assert len(stages) == 13
    for stage in stages:
        _, name, *words = shlex.split(stage)
        assert group.commands[name].make_context(name, words).params, stage


def test_the_public_names_are_there_and_no_others_are() -> None:
    for name in gncli.__all__:
        assert getattr(gncli, name).__doc__
        assert name in dir(gncli)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gncli.nothing


def test_the_layer_of_a_real_network_agrees_with_pytorch() -> None:
    with h5py.File(transcripts.ROOT / "sample_data" / "digits.h5") as file:
        for layer in ("norm1", "norm2"):
            x, gamma, beta, theirs = (file[layer][name][...] for name in ("input", "gamma", "beta", "output"))
            ours = gncli.group_norm(x, file[layer].attrs["num_groups"], gamma=gamma, beta=beta)
            assert np.abs(ours - theirs).max() < 4e-6  # PyTorch's own rounding


def test_the_checkpoints_are_of_that_network_before_and_after_an_epoch_in_which_its_norms_were_frozen() -> None:
    folder = transcripts.ROOT / "sample_data"
    before, after = (checkpoint(folder / name) for name in ("before", "after"))
    with h5py.File(folder / "digits.h5") as file:
        for name, values in before.items():
            layer, part = name.split(".")
            called = {"weight": "gamma", "bias": "beta"} if layer.startswith("norm") else {"weight": "kernel"}
            assert np.array_equal(values, file[layer][called.get(part, part)])
            assert np.array_equal(after[name], values) == layer.startswith("norm")
    assert len(before) == len(after) == 10
    assert sum(path.stat().st_size for name in ("before", "after") for path in (folder / name).iterdir()) < 300_000


if __name__ == "__main__":
    for each in PICTURES:
        draw(each, transcripts.ROOT / "sample_data")
    if browser.CHROMIUM is not None:
        photograph(transcripts.ROOT / "sample_data")
