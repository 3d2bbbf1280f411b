"""The SHA-256 of a tensor is what docs/numbers.md says, by every road, and a manifest of them finds what changed."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.cli import main
from gncli.errors import InputError, LimitError, OutputError
from gncli.inputs import Draw
from gncli.io import ArraySource, Source, fingerprint, open_source, transposition
from gncli.io.fingerprint import Fingerprint
from gncli.io.source import Wrapping
from gncli.report.records import TensorStats
from tests import transcripts
from tests.archives import entry, tensors
from tests.arrays import spoiled
from tests.faults import piped
from tests.files import DTYPES, saved
from tests.marks import slow_but
from tests.runs import random, stats, the_one

PAGE = (transcripts.ROOT / "gncli" / "docs" / "numbers.md").read_text(encoding="utf-8")
SHAPES: list[tuple[int, ...]] = [(), (7,), (2, 3), (3, 1, 4), (0,), (2, 0, 3), (50, 3, 31), (2, 3, 5, 7)]


def definition() -> Any:
    """Return the function in docs/numbers.md."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    names: dict[str, Any] = {}
    exec(code, names)
    return names["sha256"]


DEFINED = definition()


def found(tensor: str, **options: Any) -> Any:
    return the_one(stats([tensor], **({"statistics": ("sha256",)} | options))).value("sha256")


@pytest.mark.parametrize("dtype", slow_but(DTYPES, "|u1", ">f4", "<f8"))
def test_it_is_the_definition_in_every_order_alone_and_with_other_statistics(dtype: str, tmp_path: Path) -> None:
    path = str(tmp_path / "x.npy")
    for shape in SHAPES:
        for order in "CF":
            x = spoiled(shape, dtype, order)
            np.save(path, x)
            expected = DEFINED(x)
            assert found(path) == expected, (shape, order)
            for names in (("mean", "sha256"), ("sha256", "p99", "median")):
                assert found(path, statistics=names, workers=4, tile=64) == expected, (shape, order, names)
            assert found(path, statistics=("sha256", "mean"), bins=3) == expected


@pytest.mark.slow
def test_every_format_has_the_same(tmp_path: Path) -> None:
    x = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    np.save(tmp_path / "a.npy", np.asfortranarray(x.astype(">f4")))
    np.savez_compressed(tmp_path / "b.npz", x=x)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("x", data=x, dtype=">f4", chunks=(2, 3, 4), compression="gzip")
    (tmp_path / "d.safetensors").write_bytes(tensors({"x": entry("F32", x.shape, 0, x.nbytes)}, x.tobytes()))
    report = stats([str(tmp_path)], statistics=("shape", "sha256"))
    assert len(report.tensors) == 4
    assert {tensor.value("sha256") for tensor in report.tensors if isinstance(tensor, TensorStats)} == {DEFINED(x)}
    assert report.notes == (f"{tmp_path}::a: put into C order in a file in $TMPDIR, to be hashed",)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_what_numpy_does_not_have_is_hashed_as_it_is_stored(kind: str, tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    itemsize = 2 if kind == "BF16" else 1
    raw = np.arange(256 * itemsize, dtype=f"u{itemsize}") * (127 if itemsize == 2 else 1)
    name = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}[kind]
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensors({"x": entry(kind, raw.shape, 0, raw.nbytes)}, raw.tobytes()))
    expected = DEFINED(raw.view(getattr(ml_dtypes, name)))
    assert found(str(path)) == found(str(path), statistics=("sha256", "mean"), tile=64) == expected
    raw[[5, 6]] = raw[[6, 5]]
    path.write_bytes(tensors({"x": entry(kind, raw.shape, 0, raw.nbytes)}, raw.tobytes()))
    assert found(str(path)) != expected


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_pipe_is_hashed_in_the_same_pass(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = spoiled((40, 3, 5), "<f4", order)
    for names in (("sha256",), ("sha256", "mean"), ("p99", "sha256")):
        kept, end = os.dup(0), piped(saved(x) * 2)
        os.dup2(end, 0)
        try:
            report = stats(["-"], statistics=names)
        finally:
            os.dup2(kept, 0)
            os.close(kept)
            os.close(end)
        digests = [tensor.value("sha256") for tensor in report.tensors if isinstance(tensor, TensorStats)]
        assert digests == [DEFINED(x)] * 2


def test_a_random_tensor_has_one_as_it_is_written(tmp_path: Path) -> None:
    path = str(tmp_path / "x.npy")
    report = random(Draw((3, 500), seed=1), statistics=("sha256",), output=path)
    assert the_one(report).value("sha256") == found(path) == DEFINED(np.load(path))


class Shuffled(Wrapping):
    """A tensor whose later runs are read before the first one is."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.later = threading.Event()

    def read_into(self, out: NDArray[Any], start: int) -> None:
        if start == 0:
            assert self.later.wait(10)
        self.inner.read_into(out, start)
        if start:
            self.later.set()


def test_a_run_that_was_read_early_waits_for_those_before_it() -> None:
    x = np.arange(100.0)
    with Fingerprint(Shuffled(ArraySource(x))) as source:
        threads = [threading.Thread(target=source.read_into, args=(np.empty(50), start)) for start in (0, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        source.read_into(np.empty(20), 40)  # a second time
        assert source.hex() == DEFINED(x)


class Failing(Shuffled):
    """A tensor whose first run cannot be read, once a later one was."""

    def read_into(self, out: NDArray[Any], start: int) -> None:
        super().read_into(out, start)
        if start == 0:
            raise InputError("cannot be read")


def test_a_run_that_waits_for_one_that_fails_goes_on() -> None:
    with Fingerprint(Failing(ArraySource(np.arange(100.0)))) as source:
        early = threading.Thread(target=source.read_into, args=(np.empty(50), 50))
        early.start()
        with pytest.raises(InputError):
            source.read_into(np.empty(50), 0)
        early.join(10)
        assert not early.is_alive()


def test_what_was_not_read_yet_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "PIECE_NBYTES", 100)
    x = np.arange(100.0).reshape(10, 10)
    for array in (x, x.T):
        with Fingerprint(ArraySource(array)) as source:
            source.read_into(np.empty(30), 0)
            assert source.hex() == DEFINED(array)


def test_without_room_for_a_copy_it_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(self: object, nbytes: int) -> None:
        raise OutputError("cannot be written (No space left on device)", subject="x")

    monkeypatch.setattr("gncli.io.atomic.OutputFile.allocate", allocate)
    np.save(tmp_path / "x.npy", np.asfortranarray(np.ones((2, 3))))
    with pytest.raises(LimitError) as caught, open_source(str(tmp_path / "x.npy")) as source:
        Fingerprint(source)
    assert "cannot be copied to $TMPDIR: cannot be written (No space left on device); set TMPDIR" in str(caught.value)


def test_a_large_tensor_is_put_into_c_order_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPOOLED_NBYTES", "REGION_NBYTES", "PASSED_NBYTES"):
        monkeypatch.setattr(transposition, name, 512)
    for shape in ((2, 3000), (3000, 2), (7, 11, 13, 3)):
        x = np.asfortranarray(np.random.default_rng(0).random(shape))
        np.save(tmp_path / "x.npy", x)
        assert found(str(tmp_path / "x.npy"), tile=100, workers=3, statistics=("mean", "sha256")) == DEFINED(x)


# Manifests.


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of three tensors, in the current one, whose manifest is m.jsonl."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    for at in (1, 2, 10):
        np.save(folder / f"w{at}.npy", np.full(at, at, np.float32))
    names = ("shape", "dtype", "sha256")
    lines = [
        json.dumps(tensor.as_dict(names))
        for tensor in stats(["model"], statistics=names).tensors
        if isinstance(tensor, TensorStats)
    ]
    Path("m.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def broken(tensor: str = "model", **options: Any) -> list[str]:
    report = stats([tensor], statistics=("shape",), manifest="m.jsonl", **options)
    assert report.broken.total == len(report.broken.first)
    assert report.status == int(report.broken.total > 0)
    return list(report.broken.first)


def test_the_same_tensors_are_what_the_manifest_says_wherever_they_lie(model: Path) -> None:
    assert broken() == []
    model.rename(model.with_name("moved"))
    assert broken("moved") == []
    assert broken("moved", match="w1*") == []


def test_what_differs_is_missing_or_is_new_is_named(model: Path) -> None:
    one = DEFINED(np.full(1, 1, np.float32))
    np.save(model / "w1.npy", np.full(1, 2, np.float32))
    np.save(model / "w2.npy", np.full(3, 2, np.float32))
    (model / "w10.npy").rename(model / "w11.npy")
    changed = f"model::w1: its sha256 is {found('model::w1')}, and the manifest has {one}"
    assert broken() == [
        changed,
        "model::w2: its shape is (3,), and the manifest has (2,)",
        "model::w11: is new: the manifest does not have it",
        "model::w10: is missing: the manifest has it",
    ]
    assert broken(match="w1") == [changed]
    np.save(model / "w2.npy", np.full(2, 2, np.float64))
    assert broken(match="w2") == ["model::w2: its dtype is float64, and the manifest has float32"]


def test_names_of_several_places_are_compared_whole(model: Path) -> None:
    np.save("w1.npy", np.full(1, 1, np.float32))
    report = stats(["model", "w1.npy"], manifest="m.jsonl")
    assert report.broken.first == ("w1.npy: is new: the manifest does not have it",)
    model.rename(model.with_name("moved"))
    assert stats(["moved", "w1.npy"], manifest="m.jsonl").broken.total == 7


def test_a_tensor_that_cannot_be_read_is_neither_missing_nor_new(model: Path) -> None:
    (model / "w2.npy").write_bytes(b"\x93NUM")
    report = stats(["model"], manifest="m.jsonl")
    assert (report.broken.total, report.status) == (0, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "has a line that is not JSON (line 1); make one with gncli stats"),
        ("[" * 100_000, "has a line that is not JSON (line 1)"),
        ("[]", "has a line without name and sha256 (line 1)"),
        ('{"name": "a"}', "has a line without name and sha256 (line 1)"),
        ('{"name": "a", "sha256": "b"}', "has a line without name and sha256 (line 1)"),
        (f'{{"name": "a", "sha256": "{"0" * 64}"}}\n' * 2, "has a twice (line 2)"),
        ("", "is a manifest of no tensor"),
    ],
)
def test_what_is_no_manifest_is_refused(model: Path, text: str, said: str) -> None:
    Path("m.jsonl").write_text(text)
    with pytest.raises(InputError) as caught:
        broken()
    assert str(caught.value).startswith(f"m.jsonl: {said}")


def test_bytes_that_are_no_text_and_a_long_file_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("m.jsonl").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"m.jsonl: is no text \(invalid start byte at byte 0\)"):
        broken()
    monkeypatch.setattr("gncli.io.MAX_TEXT_NBYTES", 0)
    with pytest.raises(LimitError, match="is 1 bytes long; the limit is 0"):
        broken()


@pytest.mark.parametrize("option", [["-s", "sha256"], ["--expect-manifest", "m.jsonl"]])
def test_a_fingerprint_is_about_whole_tensors(
    model: Path, option: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", "model", "--by", "0", *option]) == 2
    assert "a fingerprint is about whole tensors; leave out --by" in capfd.readouterr().err
