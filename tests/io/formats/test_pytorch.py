"""Files of PyTorch: what torch.save writes is read as torch.load reads it, and no pickle runs anything."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gncli.cli import main
from gncli.errors import GncliError, InputError, LimitError
from gncli.inputs import STRICT, Policy
from gncli.io import open_source, open_sources
from gncli.io.dtypes import FOREIGN
from gncli.io.formats import pickled as reader
from gncli.io.rawfile import RawSource
from gncli.io.source import Source
from gncli.io.strided import StridedSource
from gncli.run import cluster
from tests import data
from tests.archives import ARRAY, Packed, entry, tensors, zipped
from tests.arrays import assert_same_bits
from tests.damaged import PYTORCH_FILES
from tests.faults import piped
from tests.files import read_all
from tests.marks import examples
from tests.pickles import DATA, Call, Name, Raw, Stored, pickled, storage, torch_file, view
from tests.runs import diff

HERE = Path(data.__file__).parent
CHECKPOINT = str(HERE / "checkpoint.pt")
X = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
KINDS = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
WIDE = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def everything(text: str, policy: Policy = STRICT, stdin: int | None = None) -> dict[str, NDArray[Any]]:
    found = {}
    for source in open_sources(text, policy=policy, stdin=stdin):
        with source:
            found[source.name.rpartition("::")[2]] = read_all(source, 4)
    return found


def of(path: Path, value: Any, records: dict[str, bytes] | None = None) -> str:
    path.write_bytes(torch_file(value, records))
    return str(path)


# What the real PyTorch wrote


@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_of_numpy_is_read(kind: str) -> None:
    with open_source(f"{CHECKPOINT}::kinds.{kind}") as source:
        assert isinstance(source, RawSource)
        assert_same_bits(read_all(source), np.arange(6).reshape(2, 3).astype(kind))


@pytest.mark.parametrize("kind", WIDE)
def test_a_dtype_that_numpy_does_not_have_is_widened(kind: str) -> None:
    with open_source(f"{CHECKPOINT}::kinds.{kind}") as source:
        assert (source.dtype_name, source.dtype.name) == (kind, "float32")
        assert read_all(source).tolist() == [[0, 1, 2], [3, 4, 5]]


VIEWS: dict[str, tuple[NDArray[Any], type[Source]]] = {
    "0": (X, RawSource),
    "1": (X.transpose(3, 2, 1, 0), RawSource),
    "2": (X, StridedSource),
    "3": (X[1, ::2, :, 3], StridedSource),
    "4": (np.broadcast_to(X[0, 0, 0], (3, 5)), StridedSource),
    "6.0": (X[0, 0, 0, 0], RawSource),
    "6.1": (np.zeros((0, 3), np.float32), RawSource),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_read_by_its_offset_and_strides(name: str) -> None:
    values, kind = VIEWS[name]
    with open_source(f"{CHECKPOINT}::views.{name}") as source:
        assert isinstance(source, kind)
        assert source.shape == values.shape
        assert read_all(source).tolist() == values.tolist()
    with open_source(f"{CHECKPOINT}::views.5") as source:  # bfloat16, transposed
        assert read_all(source).tolist() == X.transpose(0, 3, 2, 1).tolist()


def test_a_transposed_tensor_is_read_in_its_own_memory_order() -> None:
    with open_source(f"{CHECKPOINT}::views.1") as source:
        assert (source.order, source.shape) == ("F", (5, 4, 3, 2))


OTHERS = {
    "kinds.complex64": "holds complex numbers, which have no order and no group norm (dtype complex64)",
    "negated": "is a view whose elements PyTorch negates on use; save it after .resolve_neg()",
    "sparse": "is no tensor, but what torch._utils._rebuild_sparse_tensor makes; save the tensors alone",
    "epoch": "is no tensor, but a plain value",
    "arguments.betas": "is no tensor, but plain values",
    "arguments.device": "is no tensor, but what torch.device makes",
    "arguments.array": "is no tensor, but what numpy._core.multiarray._reconstruct makes",
    "arguments.lrs": "no such tensor; the file has",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_tensor_is_passed_over_and_says_why_when_it_is_named(name: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(f"{CHECKPOINT}::{name}")
    assert str(caught.value).startswith(f"{CHECKPOINT}::{name}: {OTHERS[name]}")


def test_tensors_are_named_by_their_path_and_others_are_counted() -> None:
    listing = open_sources(CHECKPOINT)
    names = ["state_dict.layer1.weight", *(f"kinds.{kind}" for kind in (*KINDS, *WIDE))]
    names += [f"views.{view}" for view in ("0", "1", "2", "3", "4", "5", "6.0", "6.1")] + ["parameter"]
    assert listing.members == names
    assert listing.skipped == len(OTHERS) - 1 + 1  # and arguments.lr
    listing.close()


def test_every_command_takes_a_checkpoint(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weight = f"{CHECKPOINT}::state_dict.layer1.weight"
    out = str(tmp_path / "y.npy")
    for command in (
        ["stats", weight, "-s", "shape", "--format", "value"],
        ["normalize", weight, "-G", "2", "-o", out, "--format", "value"],
        ["diff", weight, str(HERE / "torch.pth"), "--format", "value"],
    ):
        assert (main(command), capfd.readouterr().err) == (0, ""), command
    assert np.load(out).shape == (2, 4)


def test_checkpoints_are_paired_with_each_other_and_with_other_formats(tmp_path: Path) -> None:
    report = diff(str(HERE / "torch.pth"), str(HERE / "torch.safetensors"))
    assert report.equal
    both = {"w": ARRAY, "b": ARRAY + 1}
    of(tmp_path / "a.pt", {"w": view(), "b": view(storage("1"))}, {"data/1": (ARRAY + 1).tobytes()})
    header = {"w": entry(), "b": entry(first=24, last=48)}
    (tmp_path / "b.safetensors").write_bytes(tensors(header, b"".join(array.tobytes() for array in both.values())))
    for folder in ("c", "d"):
        (tmp_path / folder).mkdir()
        shutil.copy(tmp_path / "a.pt", tmp_path / folder / "model.bin")
        (tmp_path / folder / "merges.bin").write_bytes(b"of another kind")
        os.mkfifo(tmp_path / folder / "pipe.bin")
    assert list(everything(str(tmp_path / "c"))) == ["b", "w"]
    for a, b in (("a.pt", "b.safetensors"), ("c", "d")):
        assert main(["diff", str(tmp_path / a), str(tmp_path / b), "--format", "json"]) == 0


def test_pairs_are_counted_in_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a = of(tmp_path / "a.pt", {"w": view(), "b": view(shape=(6,), strides=(1,))})
    b = of(tmp_path / "b.pt", {"w": view(), "c": view()})
    assert main(["diff", a, b, "--format", "json"]) == 1
    said = json.loads(capfd.readouterr().out)
    assert [pair["verdict"] for pair in said["pairs"]] == ["only in A", "only in B", "identical"]


def test_a_lone_tensor_needs_no_name(tmp_path: Path) -> None:
    path = of(tmp_path / "x.pt", view())
    with open_source(path) as source:
        assert source.name == path
        assert_same_bits(read_all(source), ARRAY)
    path = of(tmp_path / "x.pt", Raw(b"ca.b\nModel\n)\x81}b"))
    with pytest.raises(InputError, match=r"x.pt: is no tensor, but an object of a.b.Model; save the tensors alone"):
        open_source(path)
    with pytest.raises(InputError, match=r"x.pt: holds no numeric tensor \(0 others\)"):
        open_source(of(tmp_path / "x.pt", {}))
    path = of(tmp_path / "x.pt", {"model": Call("a.b Model"), "epoch": 3})
    with pytest.raises(
        InputError, match=r"x.pt: holds no numeric tensor \(2 others\); save the tensors alone: torch.s"
    ):
        open_source(path)


torch_kinds = [*KINDS, *WIDE]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_real_torch_writes_the_other_end(tmp_path: Path, protocol: int) -> None:
    torch = pytest.importorskip("torch")
    rng = random.Random(protocol)
    path = tmp_path / "x.pt"
    base = torch.arange(720).reshape(2, 3, 4, 5, 6)
    given: dict[str, Any] = {}
    for number in range(30):
        x = base.to(getattr(torch, rng.choice(torch_kinds))).permute(rng.sample(range(5), 5))
        for axis in range(5):
            start = rng.randrange(x.shape[axis])
            x = x.narrow(axis, start, rng.randrange(x.shape[axis] - start + 1))
        given[f"x{number}"] = x[..., :: rng.choice([1, 2])]
    torch.save({"a": given, "l": [base, (base[0], {3: base})], "s": {1, 2}, "b": b"x"}, path, pickle_protocol=protocol)
    found = everything(str(path))
    assert list(found) == [*(f"a.{name}" for name in given), "l.0", "l.1.0", "l.1.1.3"]
    for name, x in given.items():
        assert found[f"a.{name}"].tolist() == x.to(torch.float64).tolist()


def test_deflated_pickles_are_inflated_and_a_worker_opens_a_tensor_again(tmp_path: Path) -> None:
    pickle_, tensor = Packed("a/data.pkl", pickled({"x": view()}), method=8), Packed("a/data/0", DATA)
    (tmp_path / "x.pt").write_bytes(zipped(pickle_, tensor))
    with open_source(str(tmp_path / "x.pt")) as source:
        try:
            assert_same_bits(read_all(cluster._reopened(cluster._reopening(source, STRICT))), ARRAY)
        finally:
            cluster._reopened.cache_clear()


# Strides


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_any_view_is_read_as_numpy_reads_it(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("views") / "x.pt"
    whole = np.arange(300, dtype="<u2")
    shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
    strides = tuple(data.draw(st.integers(0, 20)) for _ in shape)
    offset = data.draw(st.integers(0, 40))
    big = data.draw(st.booleans())
    records = {
        "data/0": whole.astype(">u2").tobytes() if big else whole.tobytes(),
        "byteorder": b"big" if big else b"little",
    }
    kind = data.draw(st.sampled_from(["uint16", "bfloat16"]))
    untyped = storage("0", whole.nbytes, "torch.storage UntypedStorage")
    value = view(untyped, offset, shape, strides, Name(f"torch {kind}"), of="torch._utils _rebuild_tensor_v3")
    expected = np.lib.stride_tricks.as_strided(whole[offset:], shape, [2 * stride for stride in strides])
    with open_source(of(path, value, records)) as source:
        piece = data.draw(st.integers(1, 7))
        got = read_all(source, piece)
        stored = np.empty(got.size, source.stored_dtype)
        source.read_stored(stored, 0)
    if kind == "uint16":
        assert got.tolist() == expected.tolist()
    else:
        wide = np.empty(expected.size, np.float32)
        FOREIGN["BF16"].widen(np.ascontiguousarray(expected, "<u2").reshape(-1), wide)
        assert got.tobytes("K" if source.order == "C" else "A") == wide.tobytes() or source.order == "F"
    in_order = expected.T if source.order == "F" else expected
    assert (
        stored.view(stored.dtype.newbyteorder("<" if source.dtype.byteorder != ">" else ">")).tolist()
        == in_order.reshape(-1).tolist()
    )


@pytest.mark.parametrize("window", [4, 16, 40, 1 << 20])
def test_a_wide_view_is_read_through_small_windows(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gncli.io.strided.WINDOW_NBYTES", window)
    x = np.arange(60, dtype="<f4")
    value = view(storage("0", 60), 1, (3, 2, 4), (1, 24, 5))
    with open_source(of(tmp_path / "x.pt", value, {"data/0": x.tobytes()})) as source:
        expected = np.lib.stride_tricks.as_strided(x[1:], (3, 2, 4), (4, 96, 20))
        assert read_all(source, 24).tolist() == expected.tolist()


# What is damaged or hostile


@pytest.mark.parametrize("what", PYTORCH_FILES)
def test_what_is_damaged_is_refused_in_one_line(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, error, said = PYTORCH_FILES[what]
    monkeypatch.chdir(tmp_path)
    Path("x.pt").write_bytes(content)
    with pytest.raises(error) as caught:
        everything("x.pt")
    assert said in str(caught.value)
    assert str(caught.value).startswith("x.pt: ")
    assert "\n" not in str(caught.value)
    end = piped(content)
    with pytest.raises(error, match=r"^<stdin>: "):
        everything("-", stdin=end)
    os.close(end)


def test_the_files_made_here_are_good_unless_something_is_changed(tmp_path: Path) -> None:
    inside = Call(
        "torch._tensor _rebuild_from_type_v2",
        (Name("torch._utils _rebuild_tensor"), Name("a B"), view().arguments[:4], {}),
    )
    good = {
        "x": view(),
        "parameter": Call("torch._utils _rebuild_parameter", (view(), True, None)),
        "with state": Call("torch._utils _rebuild_parameter_with_state", (view(), True, None, {"a": 1})),
        "of a class": inside,
        "not negated": view(None, 0, (2, 3), (3, 1), {"neg": False, "conj": True}),
        "attributes": Raw(pickled(view())[2:-1] + b"}b"),
        "ordered": Raw(b"ccollections\nOrderedDict\n)R(X\1\0\0\0yNu}X\1\0\0\0zNsb"),
        "dropped": Raw(b"N0(K\1K\0021N"),
    }
    found = everything(of(tmp_path / "x.pt", good))
    assert list(found) == list(good)[:6]
    assert all(array.tolist() == ARRAY.tolist() for array in found.values())


def test_no_name_of_a_pickle_is_ever_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {ran}",)

    (tmp_path / "x.pt").write_bytes(torch_file(pickle.dumps({"a": Code()}, 2)))
    monkeypatch.setattr(os, "system", None)
    with pytest.raises(InputError, match=r"is no tensor, but what posix.system makes"):
        open_source(f"{tmp_path / 'x.pt'}::a")
    assert not ran.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_plain_value_of_python_is_passed_over(protocol: int, tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append((loop,))
    deep: Any = ()
    values: dict[Any, Any] = {
        "none": None, "flags": [True, False], "numbers": [0, -1, 256, 70_000, -(2**40), 2**80, 1.5],
        "bytes": [b"", b"ab", b"a" * 300], "text": ["", "ä", "x" * 300], "sets": [set(), {1}, frozenset({2})],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], "nested": {"a": {"b": [{}]}}, "complex": 1j,
        (1, 2): "key", None: 3, 7: [4], 2**70: 5, "deep": deep, "range": range(3), "buffer": bytearray(b"a"),
    }  # fmt: skip
    content = pickle.dumps(values, protocol)
    told, others = reader.contents(content, "x")
    assert told == {}
    assert {"none", "flags", "numbers", "tuples.4", "complex", "[9]", "[10]", "7", "[12]", "range"} <= others.keys()
    with pytest.raises(LimitError, match="has names of more than 500 characters"):
        reader.contents(pickle.dumps(loop, protocol), "x")


def test_the_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    many = pickled({str(number): None if number else [] for number in range(50)})
    shared = Raw(b"]q\0" + b"0](h\0h\0eq\0" * 40)
    wide = Raw(b"](" + b"K\1" * 60 + b"eq\0" + b"0](" + b"h\0" * 60 + b"e")
    monkeypatch.setattr(reader, "MAX_OPERATIONS", 2000)
    for value, said in (
        (Raw(b"]0" * 1500 + b"N"), "has a pickle of more than 2,000 operations"),
        (shared, "has more than 100,000 tensors and other values"),
        (wide, "has more than 100,000 tensors and other values"),
        ({"a" * 501: view()}, "has names of more than 500 characters"),
        ({2**62: {"a" * 490: view()}}, "has names of more than 500 characters"),
    ):
        with pytest.raises(LimitError, match=said):
            reader.contents(pickled(value), "x")
    monkeypatch.setattr(reader, "MAX_MEMBERS", 40)
    with pytest.raises(LimitError, match="has more than 40 tensors and other values"):
        reader.contents(many, "x")


def test_a_view_of_far_more_elements_than_its_storage_is_read_by_whoever_means_it(tmp_path: Path) -> None:
    path = of(tmp_path / "x.pt", view(storage("0", 6), 0, (1 << 31, 6), (0, 1)))
    with pytest.raises(LimitError, match=r"x.pt: declares 51,539,607,552 bytes and stores 24; --allow-sparse reads it"):
        open_source(path)
    with open_source(path, policy=Policy(sparse=True)) as source:
        out = np.empty(6, np.float32)
        source.read_into(out, 6 * ((1 << 31) - 1))
        assert out.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_pickle_of_any_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gncli.io.formats.pytorch.MAX_PICKLE_NBYTES", 20)
    with pytest.raises(LimitError, match=r"has 101 bytes of data.pkl; the limit is 20"):
        open_source(of(tmp_path / "x.pt", {"x": 1, "y": "z" * 60, "z": 3}))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    of(path, {"x": view()})
    for length in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(InputError):
            everything(str(path))


def test_a_pickle_cut_anywhere_is_refused() -> None:
    whole = pickled({"x": view(), "y": [1, (2, "a")]})
    for length in range(len(whole)):
        with pytest.raises(InputError, match="is damaged: byte"):
            reader.contents(whole[:length], "x")


CODES = [operation.code.encode("latin-1") for operation in pickletools.opcodes]


@pytest.mark.slow
@settings(max_examples=examples(400), deadline=None)
@given(st.lists(st.one_of(st.sampled_from(CODES), st.binary(max_size=3)), max_size=30), st.integers(0, 200))
def test_any_operations_give_contents_or_an_error_of_ours(codes: list[bytes], place: int) -> None:
    whole = pickled({"x": view(), "y": [1, (2, "a"), Stored(None)]})
    for content in (b"\x80\x02" + b"".join(codes) + b".", whole[:place] + b"".join(codes) + whole[place:]):
        with suppress(GncliError):
            reader.contents(content, "x")


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, 400), st.integers(0, 7))
def test_a_changed_bit_gives_contents_or_an_error_of_ours(place: int, bit: int) -> None:
    whole = bytearray(
        pickled({"x": view(), "y": [1, (2, "a")], "z": Call("torch._utils _rebuild_parameter", (view(),))})
    )
    whole[place % len(whole)] ^= 1 << bit
    with suppress(GncliError):
        reader.contents(bytes(whole), "x")
