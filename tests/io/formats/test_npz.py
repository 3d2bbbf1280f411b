"""The .npz reader: what NumPy writes is read as NumPy reads it, stored or deflated; whatever else is refused."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gncli.api import normalize_file
from gncli.errors import ChangedError, GncliError, InputError, LimitError, ParameterError
from gncli.inputs import STRICT, Policy
from gncli.io import is_npy, open_source, open_sources
from gncli.io.formats.npz import DeflatedSource
from gncli.io.formats.zip import Inflater
from gncli.io.rawfile import RawSource
from gncli.run import cluster
from tests.archives import ARRAY, NPY, Packed, wide, zipped
from tests.arrays import assert_same_bits
from tests.damaged import FULL, NPZ_FILES, SIZE, TORN, wide_extra
from tests.faults import piped
from tests.files import DTYPES, SHAPES, make, read_all, saved
from tests.marks import examples, slow_but
from tests.runs import diff, stats

SAVE: dict[str, Callable[..., None]] = {"stored": np.savez, "deflated": np.savez_compressed}


def opened(path: Path, member: str | None = None, policy: Policy = STRICT) -> Any:
    return open_source(str(path) if member is None else f"{path}::{member}", policy=policy)


@pytest.mark.parametrize("how", SAVE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_order_and_shape_is_read_as_numpy_reads_it(tmp_path: Path, dtype: str, how: str) -> None:
    path = tmp_path / "x.npz"
    arrays = {f"{number}{order}": make(shape, dtype, order) for number, shape in enumerate(SHAPES) for order in "CF"}
    SAVE[how](path, **arrays)
    with np.load(path) as theirs:
        for name in arrays:
            source = opened(path, name)
            got = read_all(source)
            source.verify_unchanged()
            source.close()
            assert source.name == f"{path}::{name}"
            assert isinstance(source, RawSource if how == "stored" else DeflatedSource)
            assert source.sequential == (how == "deflated")
            assert_same_bits(got, theirs[name])


def test_members_are_listed_in_the_order_of_the_archive_and_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    arrays: dict[str, Any] = {"deep/b": ARRAY}
    np.savez(path, ARRAY, zz=ARRAY, objects=np.array([{}], object), words=np.array("a"), **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
        archive.mkdir("folder")
    listing = open_sources(str(path))
    assert [source.name.partition("::")[2] for source in listing] == ["zz", "deep/b", "arr_0"]
    assert listing.skipped == 3
    for name in ("zz", "zz.npy", "deep/b"):
        assert read_all(opened(path, name)).tolist() == ARRAY.tolist()
    with pytest.raises(InputError, match=r"holds 3 tensors: zz, deep/b, arr_0; name one, as FILE::NAME"):
        opened(path)
    with pytest.raises(InputError, match=r"x.npz::ar_0: no such array; did you mean arr_0\?"):
        opened(path, "ar_0")
    for name, problem in (("objects", "Python objects"), ("words", "strings"), ("readme.txt", "ends inside the .npy")):
        with pytest.raises(InputError, match=f"x.npz::{name}: .*{problem}"):
            opened(path, name)


@pytest.mark.parametrize("how", SAVE)
def test_a_lone_array_needs_no_name_and_a_lone_refused_one_says_why(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.npz"
    SAVE[how](path, a=ARRAY)
    assert opened(path).name == str(path)
    assert [source.name for source in open_sources(str(path))] == [str(path)]
    SAVE[how](path, a=np.array([{}, []], object))
    for open_it in (open_source, lambda name: next(open_sources(name))):
        with pytest.raises(InputError, match=r"x.npz: holds Python objects, which only unpickling could read"):
            open_it(str(path))
    np.savez(path)
    with pytest.raises(InputError, match=r"x.npz: holds no numeric tensor \(0 others\)"):
        opened(path)


def test_a_member_without_a_name_has_its_suffix_for_one(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(zipped(Packed(".npy")))
    assert read_all(opened(path, ".npy")).tolist() == ARRAY.tolist()


def test_names_may_be_any(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    names = ["\x1b[31m", "ä", "a::b", " "]
    arrays: dict[str, Any] = dict.fromkeys(names, ARRAY)
    np.savez(path, **arrays)
    assert [source.name.partition("::")[2] for source in open_sources(str(path))] == names
    path.write_bytes(
        zipped(Packed(local={"name": b"\xff.npy", "flags": 2048}, central={"name": b"\xff.npy", "flags": 2048}))
    )
    assert read_all(opened(path, "\udcff")).tolist() == ARRAY.tolist()


@pytest.mark.slow
@given(st.data())
def test_a_deflated_array_is_read_from_anywhere_and_best_from_what_is_held(data: st.DataObject) -> None:
    array = np.random.default_rng(0).integers(0, 9, 50_000).astype("<i4")
    whole = zipped(Packed(data=saved(array), method=8))
    reader = piped(whole)
    source = open_source("-", stdin=reader)
    os.close(reader)
    assert isinstance(source, DeflatedSource)
    for _ in range(4):
        start = data.draw(st.integers(0, array.size))
        stop = data.draw(st.integers(start, array.size))
        if data.draw(st.booleans()):
            source.hold(start, stop)
        out = np.empty(stop - start, array.dtype)
        source.read_into(out, start)
        assert np.array_equal(out, array[start:stop])
    source.close()


@pytest.mark.slow
def test_a_held_span_is_inflated_from_its_own_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 99, 1 << 20).astype("<i4")
    np.savez_compressed(tmp_path / "x.npz", a=array)
    source = opened(tmp_path / "x.npz")
    came = 0
    inflated = Inflater._inflated

    def counted(self: Inflater, most: int) -> bytes:
        nonlocal came
        piece = inflated(self, most)
        came += len(piece)
        return piece

    monkeypatch.setattr(Inflater, "_inflated", counted)
    out = np.empty(1 << 18, array.dtype)
    for span in range(4):
        source.hold(span << 18, span + 1 << 18)
        for _ in range(2):
            source.read_into(out, span << 18)
            assert np.array_equal(out, array[span << 18 : span + 1 << 18])
    assert came == 2 * array.nbytes
    source.close()


@pytest.mark.parametrize("visit", [None, 300])
def test_a_member_gives_what_a_npy_gives(tmp_path: Path, visit: int | None) -> None:
    x = np.random.default_rng(0).normal(5, 2, (3, 8, 7, 9)).astype(np.float32)
    gamma = np.linspace(0.5, 2, 8)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "s.npz", x=x, gamma=gamma)
    np.savez_compressed(tmp_path / "d.npz", x=np.asfortranarray(x), c=x, gamma=gamma)
    tile = None if visit is None else visit // 8

    def result(tensor: str) -> tuple[Any, Any, Any]:
        out = tmp_path / "y.npy"
        report = normalize_file(
            str(tmp_path / tensor), num_groups=2, gamma=str(tmp_path / "s.npz::gamma"), output=str(out), force=True,
            save_moments=str(tmp_path / "m.npz"), bins=8, tile=tile,
        )  # fmt: skip
        described = stats([str(tmp_path / tensor)], statistics=("mean", "median", "p9"), tile=tile).tensors[0]
        return np.load(out), report.before.histogram, described

    y, bars, described = result("x.npy")
    for tensor in ("s.npz::x", "d.npz::c"):
        got, theirs, other = result(tensor)
        assert_same_bits(got, y)
        assert (theirs, other.values) == (bars, described.values)
    assert_same_bits(result("d.npz::x")[0], y)
    moments = {name: read_all(opened(tmp_path / "m.npz", name)) for name in ("mean", "var", "rstd")}
    assert np.allclose(moments["rstd"], 1 / np.sqrt(moments["var"] + 1e-5))
    for a, b in (("s.npz::x", "d.npz::x"), ("d.npz::c", "d.npz::x"), ("d.npz::c", "x.npy")):
        report = diff(str(tmp_path / a), str(tmp_path / b), atol=0, rtol=0, bins=4, tile=tile)
        assert report.equal
        assert report.notes == (() if b == "x.npy" else report.notes)


def test_a_deflated_array_is_kept_only_where_another_order_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", c=ARRAY, f=np.asfortranarray(ARRAY))
    name = str(tmp_path / "d.npz")
    assert diff(f"{name}::c", f"{name}::c", bins=3).notes == ()
    (kept,) = diff(f"{name}::c", f"{name}::f").notes
    assert kept == f"{name}::f: kept in a file in $TMPDIR, to be read more than once"


def test_a_pipe_is_spooled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=ARRAY, b=ARRAY + 1)
    reader = piped((tmp_path / "x.npz").read_bytes())
    found = {source.name: read_all(source).tolist() for source in open_sources("-", stdin=reader)}
    os.close(reader)
    assert found == {"<stdin>::a": ARRAY.tolist(), "<stdin>::b": (ARRAY + 1).tolist()}


def test_a_member_is_no_file_to_be_normalized_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.zeros((1, 2, 3), np.float32)
    np.savez("x.npz", x=x)
    np.savez("y.npz", x=x)
    os.rename("y.npz", "y.npy")
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    for name in ("x.npz::x.npy", "y.npy"):
        assert not is_npy(name)
        with pytest.raises(ParameterError, match=r"in_place=True needs a \.npy file"):
            normalize_file(name, num_groups=1, in_place=True)
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before
    assert not is_npy("-")


def test_a_worker_opens_a_stored_member_again_and_a_deflated_one_is_for_one_process(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=ARRAY, b=ARRAY + 1)
    np.savez_compressed(tmp_path / "d.npz", a=ARRAY)
    source = opened(tmp_path / "s.npz", "b")
    try:
        again = cluster._reopened(cluster._reopening(source, STRICT))
        assert again is not source
        assert read_all(again).tolist() == (ARRAY + 1).tolist()
    finally:
        cluster._reopened.cache_clear()
    with pytest.raises(ParameterError, match="cannot be read by several processes"):
        cluster._reopening(opened(tmp_path / "d.npz"), STRICT)


def everything(text: str, policy: Policy = STRICT, stdin: int | None = None) -> list[Any]:
    return [read_all(source, 4).tolist() for source in open_sources(text, policy=policy, stdin=stdin)]


@pytest.mark.parametrize("what", NPZ_FILES)
def test_what_is_damaged_is_refused_in_one_line(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, error, said = NPZ_FILES[what]
    monkeypatch.chdir(tmp_path)
    Path("x.npz").write_bytes(data)
    with pytest.raises(error) as caught:
        everything("x.npz")
    assert said in str(caught.value)
    assert str(caught.value).startswith("x.npz: ")
    with pytest.raises(GncliError):
        read_all(open_source("x.npz::a"))
    if len(data) < 1 << 15:
        reader = piped(data)
        with pytest.raises(error, match=r"^<stdin>: "):
            everything("-", stdin=reader)
        os.close(reader)


def test_the_archives_made_here_are_good_unless_something_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    sizes = {"size": FULL, "stored": FULL, "at": FULL}
    other = wide_extra(1, 2, kind=9)
    good = [
        zipped(Packed()),
        zipped(Packed(method=8)),
        zipped(Packed(), gap=b"in between"),
        zipped(Packed(local={"flags": 8, "crc": 0, "stored": 0, "size": 0}, central={"flags": 8}), gap=bytes(12)),
        zipped(Packed(central=sizes | {"extra": other + wide_extra(SIZE, SIZE, 0)})),
        zipped(Packed(local={"size": FULL, "stored": FULL, "extra": wide_extra(SIZE, SIZE)})),
        zipped(Packed(central={"disk": 0xFFFF, "comment": b"why not"})),
        wide(Packed()),
    ]
    for data in good:
        path.write_bytes(data)
        assert everything(str(path)) == [ARRAY.tolist()]
        with np.load(path) as theirs:
            assert theirs["a"].tolist() == ARRAY.tolist()
    path.write_bytes(zipped(Packed(), comment=b"PK\5\6 and what zipfile takes for an end"))
    assert everything(str(path)) == [ARRAY.tolist()]
    path.write_bytes(zipped(Packed(method=8, body=b"\0\0\0\xff\xff" * 14_000 + TORN)))  # that many empty blocks
    assert everything(str(path)) == [ARRAY.tolist()]


def test_archives_of_64_bits_that_python_writes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    for save in SAVE.values():
        save(path, a=ARRAY, b=ARRAY)
        assert b"PK\x06\x06" in path.read_bytes()
        assert everything(str(path)) == [ARRAY.tolist()] * 2


def test_an_archive_that_was_written_to_a_pipe_is_read(tmp_path: Path) -> None:
    class Forwards(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = Forwards()
        with zipfile.ZipFile(out, "w", method) as archive:
            archive.writestr("a.npy", NPY)
        (tmp_path / "x.npz").write_bytes(out.data)
        assert everything(str(tmp_path / "x.npz")) == [ARRAY.tolist()]


def test_a_bomb_is_read_by_whoever_means_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.zeros(1 << 16))
    monkeypatch.setattr("gncli.io.formats.zip.SPARSE_NBYTES", 1 << 10)
    with pytest.raises(LimitError, match=r"declares 524,416 bytes and stores \d+; --allow-sparse reads it"):
        opened(path)
    assert not read_all(opened(path, policy=Policy(sparse=True)), 1 << 12).any()
    np.savez_compressed(path, a=np.random.default_rng(0).random(1 << 10))
    assert opened(path).shape == (1 << 10,)


def test_a_directory_of_any_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=ARRAY)
    monkeypatch.setattr("gncli.io.formats.zip.MAX_DIRECTORY_NBYTES", 20)
    with pytest.raises(LimitError, match=r"has a directory of 1 members and 51 bytes; the limits are 100,000 and 20"):
        opened(path)


@pytest.mark.parametrize("how", SAVE)
def test_an_archive_cut_anywhere_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.npz"
    SAVE[how](path, a=ARRAY, b=ARRAY)
    for length in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(InputError):
            everything(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("how", slow_but(SAVE, "stored"))
def test_a_changed_byte_is_refused_or_harmless_but_for_stored_data(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.npz"
    SAVE[how](path, a=ARRAY, b=ARRAY)
    whole = path.read_bytes()
    right = everything(str(path))
    data = (
        [at + length for at in (whole.index(NPY[:10]), whole.rindex(NPY[:10])) for length in range(len(NPY))]
        if how == "stored"
        else []
    )
    silent = set()
    for place in range(len(whole)):
        for bit in (0, 2, 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with suppress(InputError, LimitError):
                listing = open_sources(str(path))
                # What became a member of another kind is passed over, and that is said.
                if [read_all(source).tolist() for source in listing] != right and not listing.skipped:
                    silent.add(place)
    assert not silent - set(data), silent - set(data)


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(st.binary(max_size=200), st.sampled_from([0, 1, 2]))
def test_any_bytes_give_arrays_or_an_error_of_ours(data: bytes, where: int) -> None:
    whole = zipped(Packed(method=8), Packed("b.npy"))
    place = [4, whole.index(b"PK\1\2") + 4, len(whole) - 18][where]
    end = place + len(data) if where < 2 else len(whole)
    reader = piped(whole[:place] + data + whole[end:])
    with suppress(GncliError):
        everything("-", stdin=reader)
    os.close(reader)


def test_an_archive_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random(1 << 17))
    source = opened(path)
    os.truncate(path, 1 << 15)
    with pytest.raises(ChangedError, match="became shorter while it was read"):
        read_all(source, 1 << 12)
    with pytest.raises(ChangedError, match="was changed"):
        source.verify_unchanged()
    source.close()
