"""A folder as one container: which files it has, what they are called, and what becomes of those that are damaged."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from gncli.cli import main
from gncli.errors import InputError, LimitError
from gncli.inputs import Policy
from gncli.io import folder as folders
from gncli.io import member_names, open_source, open_sources, stored_nbytes
from gncli.names import FORMS
from gncli.report.records import Failure
from tests.archives import ARRAY, entry, tensors
from tests.arrays import assert_same_bits
from tests.files import read_all
from tests.runs import stats

pytestmark = pytest.mark.usefixtures("unrehearsed")  # with the child: tests/io/test_hostile.py


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files of each kind, and others."""
    top = tmp_path / "d"
    (top / "sub").mkdir(parents=True)
    for at in (10, 9, 2):
        np.save(top / f"layer{at}.npy", ARRAY * at)
    np.savez(top / "sub" / "a.npz", x10=ARRAY, x9=ARRAY * 2, words=np.array(["a"]))
    with h5py.File(top / "sub" / "b.h5", "w") as file:
        file["g/x"] = ARRAY * 3
    (top / "sub" / "c.safetensors").write_bytes(tensors({"w": entry()}, ARRAY.tobytes()))
    (top / "README.md").write_text("no tensor")
    for hidden in (".x.npy", ".git/x.npy"):
        (top / hidden).parent.mkdir(exist_ok=True)
        (top / hidden).write_bytes(b"")
    (top / "link").symlink_to("sub")
    return top


NAMES = ["layer2", "layer9", "layer10", "sub/a.npz::x9", "sub/a.npz::x10", "sub/b.h5::/g/x", "sub/c.safetensors::w"]


def names(folder: Path) -> list[str]:
    return [source.name.removeprefix(f"{folder}::") for source in open_sources(str(folder))]


def test_every_tensor_has_a_name_by_which_it_can_be_opened(folder: Path) -> None:
    listing = open_sources(str(folder))
    assert (listing.many, listing.skipped) == (True, 1)
    values = [read_all(source) for source in listing]
    assert names(folder) == NAMES
    for name, expected in zip(NAMES, values, strict=True):
        assert_same_bits(read_all(open_source(f"{folder}::{name}")), expected)
    assert_same_bits(read_all(open_source(f"{folder}/::sub/b.h5::g/x")), ARRAY * 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("layer3", "no such tensor; the file has layer"),
        ("layer2::x", "a .npy holds one tensor, without a name"),
        ("sub/a.npz", "no such array; the file has x10, x9"),
        ("sub/a.npz::y", "no such array; the file has x10, x9"),
        ("../d/layer2", "no such tensor"),
        ("README.md", "no such tensor"),
    ],
)
def test_a_name_that_is_none_is_refused_with_those_there_are(folder: Path, name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(f"{folder}::{name}")
    assert str(caught.value).startswith(f"{folder}::{name}: {said}")


def test_a_damaged_file_is_a_row_and_the_others_go_on(folder: Path) -> None:
    (folder / "layer3.npy").write_bytes(b"\x93NUM")
    (folder / "sub" / "bad.npz").write_bytes(b"PK\3\4")
    report = stats([str(folder)], workers=1)
    failed = {found.name: found.message for found in report.tensors if isinstance(found, Failure)}
    assert failed == {
        f"{folder}::layer3": "is neither .npy, .npz, .pt, .safetensors, HDF5 nor .safetensors.index.json (it "
        "begins with b'\\x93NUM')",
        f"{folder}::sub/bad.npz": "is damaged: the zip archive has no end: it is truncated, or bytes follow it",
    }
    assert (report.status, len(report.tensors), report.skipped) == (3, 9, ((str(folder), 1),))
    assert [tensor.name for tensor in stats([str(folder)], match="layer1*").tensors] == [f"{folder}::layer10"]
    assert [tensor.name for tensor in stats([str(folder)], match="sub/b.h5::*").tensors] == [f"{folder}::{NAMES[5]}"]


def test_its_names_are_suggested(folder: Path) -> None:
    assert member_names(str(folder), 1) == NAMES


def test_hostile_names_reach_no_terminal(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for name in (b"\x1b[31mred", b"\xff", b"=cmd()", b"a\nb", b"[bold]", b"x::y"):
            with open(bytes(tmp_path / side) + b"/" + name + b".npy", "wb") as file:
                np.save(file, ARRAY)
    for command in (["stats", str(tmp_path / "a")], ["diff", str(tmp_path / "a"), str(tmp_path / "b")]):
        for form in FORMS:
            status = main([*command, "--format", form])
            said = capfdbinary.readouterr()
            assert (status, said.err) == (0, b"")
            assert not {*said.out} & {*range(32)} - {10}
            said.out.decode("utf-8")
    assert len(stats([str(tmp_path / "a")], match="x::*").tensors) == 1
    assert read_all(open_source(f"{tmp_path / 'a'}::x::y")).shape == (2, 3)


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    (folder / "layer2.NPY").write_bytes(b"")
    with pytest.raises(InputError, match=r"has two tensors of the name layer2: layer2.(npy|NPY) and layer2.(npy|NPY)"):
        open_sources(str(folder))


def test_an_index_stands_for_the_shards_next_to_it(folder: Path) -> None:
    sub = folder / "sub"
    (sub / "m-1-of-1.safetensors").write_bytes(tensors({"w": entry()}, ARRAY.tobytes()))
    (sub / "m.safetensors.index.json").write_text('{"weight_map": {"w": "m-1-of-1.safetensors"}}')
    assert names(folder) == [*NAMES[:-1], "sub/m.safetensors.index.json::w"]
    assert (
        len(open_sources(str(sub)).only().shape) == 2
    )  # where it is the only one at the top, it stands for the folder
    (sub / "n.safetensors.index.json").write_text('{"weight_map": {}}')
    assert names(folder) == [*NAMES[:-1], "sub/m.safetensors.index.json::w"]


def test_an_empty_folder_and_one_with_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"holds no numeric tensor \(0 others\)"):
        open_sources(str(tmp_path))
    np.savez(tmp_path / "a.npz", x=ARRAY, y=ARRAY)
    monkeypatch.setattr(folders, "MAX_MEMBERS", 1)
    with pytest.raises(LimitError, match="has more than 1 tensors"):
        open_sources(str(tmp_path))
    np.save(tmp_path / "b.npy", ARRAY)
    with pytest.raises(LimitError, match="has more than 1 files of tensors"):
        open_sources(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(folder: Path) -> None:
    (folder / "sub").chmod(0)
    try:
        with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
            open_sources(str(folder))
    finally:
        (folder / "sub").chmod(0o700)


def test_a_folder_that_is_gone_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"d: cannot be read \(Permission denied\)"):
        folders.opened(str(folder), "d", Policy())


def test_the_bytes_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.npy").write_bytes(b"123")
    (tmp_path / "y.txt").write_bytes(b"4567")
    assert stored_nbytes(str(tmp_path)) == 7
    assert stored_nbytes(f"{tmp_path / 'y.txt'}::name") == 4
    assert [stored_nbytes(name) for name in ("-", str(tmp_path / "none"), str(tmp_path / "none" / "x::y"))] == [
        None
    ] * 3
