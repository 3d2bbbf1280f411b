"""What an error says where a name was meant otherwise: the next thing to type."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from gncli.cli import main
from gncli.io import _meant
from gncli.io.source import not_found
from tests.archives import ARRAY, Packed, zipped
from tests.files import saved

HINTS: dict[str, str] = {
    "x.h5:/g/a": "cannot be read (No such file or directory); a tensor in a file is named x.h5::g/a",
    "x.h5/g/a": "cannot be read (Not a directory); a tensor in a file is named x.h5::g/a",
    "x.h5 /g/a": "cannot be read (No such file or directory); a tensor in a file is named x.h5::g/a",
    "/gradient": "cannot be read (No such file or directory); a tensor in a file is named FILE::/gradient",
    "no/norm/x": "cannot be read (No such file or directory); there is no folder no/norm; a tensor in a file is named "
    "FILE::no/norm/x",
    "x.h5::g/b": "no such dataset; did you mean /g/a?",
    "gone.index.json": "names the shard a-00001-of-00002.bin, which is not there; it must lie next to the index",
    "x.np": "cannot be read (No such file or directory); did you mean x.npy?",
    "sub/weigth.npy": "cannot be read (No such file or directory); did you mean sub/weight.npy?",
    "y*.npy": "cannot be read (No such file or directory); no file matches this pattern",
    "sub/[x].npy": "cannot be read (No such file or directory); no file matches this pattern",
    "su?/*.npy": "cannot be read (No such file or directory); a shell reads this pattern: leave out the quotes",
    "x.h5::*g*": "no such dataset; --match '*g*' chooses tensors by a pattern",
    "nothing.like.it": "cannot be read (No such file or directory)",
    "absent/x.npy": "cannot be read (No such file or directory); there is no folder absent",
    "sub/weight": "cannot be read (No such file or directory); did you mean sub/weight.npy?",
    "ftp://host/x.npy": "ftp:// is not read or written; it is s3://, gs://, az:// or https://",
    "x.npy.gz": "is compressed with gzip; gunzip -c FILE | gncli stats -",
    "x.npy.zst": "is compressed with Zstandard; zstd -dc FILE | gncli stats -",
    "x.keras": "is a model of Keras; extract its weights: unzip FILE model.weights.h5, and give that",
    "empty": "holds no numeric tensor (0 others); only files that end as those of a format do are looked at: .npy, ",
    "torch.index.json": "is no .safetensors, and the index names it as a shard; shards of PyTorch are read as a folder",
    "lone.pt::x": "no such tensor; the file has one tensor, without a name: leave out the ::NAME",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from tests.pickles import torch_file, view

    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("x.npy", "sub/weight.npy"):
        np.save(name, ARRAY)
    with h5py.File("x.h5", "w") as file:
        file["g/a"] = ARRAY
    (tmp_path / "x.npy.gz").write_bytes(gzip.compress(saved(ARRAY)))
    (tmp_path / "x.npy.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    (tmp_path / "x.keras").write_bytes(zipped(Packed("config.json", b"{}"), Packed("model.weights.h5", b"")))
    (tmp_path / "lone.pt").write_bytes(torch_file(view()))
    (tmp_path / "torch.index.json").write_text('{"weight_map": {"a": "a-00001-of-00001.bin"}}')
    (tmp_path / "gone.index.json").write_text('{"weight_map": {"a": "a-00001-of-00002.bin"}}')
    (tmp_path / "a-00001-of-00001.bin").write_bytes(torch_file(view()))
    return tmp_path


@pytest.mark.parametrize("typed", HINTS)
def test_what_was_meant_is_hinted_at(typed: str, files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    subject = "a-00001-of-00001.bin" if typed == "torch.index.json" else typed
    assert main(["stats", typed]) == 3
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"gncli: error: {subject}: {HINTS[typed]}"), err
    if HINTS[typed].endswith(")"):
        assert err == f"gncli: error: {typed}: {HINTS[typed]}\n"


def test_a_pattern_for_a_name_is_answered_by_the_option() -> None:
    error = not_found("/*g*", ["/a", "/g"], "dataset", "x.h5")
    assert str(error) == "x.h5: no such dataset; --match '*g*' chooses tensors by a pattern"


def test_names_come_with_the_nearest_first_and_none_is_left_out() -> None:
    assert not_found("aa", ["b", "a"], "array", "z.npz").hint == "the file has a, b"


def test_a_name_in_other_letters_is_nearer_than_a_name_of_others(files: Path) -> None:
    for name in ("w.npy", "y.npy", "x.txt", "q.txt", "q.npy"):
        Path(name).write_bytes(b"")
    assert [_meant(name) for name in ("X.npy", "q")] == ["did you mean x.npy?", "did you mean q.npy?"]


def test_nothing_is_meant_by_the_address_of_an_object_that_is_none() -> None:
    assert _meant("gs://bucket/*.npy") is None  # a library may raise FileNotFoundError for it


def test_a_hint_costs_nothing_where_the_file_is_there(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.rename("x.npy", "x.h5:old.npy")
    assert main(["stats", "x.h5:old.npy", "-s", "size", "--format", "value"]) == 0
    assert capfd.readouterr() == ("6\n", "")


@pytest.mark.parametrize(
    ("typed", "shape"),
    [("(64,16)", "64,16"), ("(64, 16)", "64,16"), ("(3,)", "3"), ("()", "()"), ("2x3", "2,3"), ("(2x3)", "2,3")],
)
def test_a_shape_is_taken_as_tables_print_it(typed: str, shape: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--random", typed, "--seed", "0", "-s", "shape", "--format", "value"]) == 0
    assert capfd.readouterr() == (f"{shape}\n", "")


@pytest.mark.parametrize("typed", ["(", ")", "", "(,)", "(64,16", "((2))", "2,,3"])
def test_what_is_no_shape_is_refused(typed: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--random", typed]) == 2
    assert "is not a shape; write 64,16,112,112 or 64x16x112x112" in capfd.readouterr().err


def test_a_number_that_is_none_is_not_an_integer(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["normalize", "x.npy", "-G", "four"]) == 2
    said = "'four' is not an integer of at least 1; say -G 1, 2, 4 ..., which divides the number of channels; 32 is the"
    assert said in capfd.readouterr().err
