"""The .safetensors reader: what its own library writes is read as it reads it; whatever else is refused."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gncli.api import group_norm, normalize_file
from gncli.errors import GncliError, InputError, LimitError
from gncli.io import open_source, open_sources
from gncli.io.dtypes import FOREIGN
from gncli.io.rawfile import RawSource
from gncli.kernels.plain import ulps
from gncli.tasks.judging import default_tolerance
from tests.archives import ARRAY, entry, tensors
from tests.arrays import assert_same_bits
from tests.damaged import SAFETENSORS_FILES
from tests.faults import piped
from tests.files import read_all
from tests.marks import examples
from tests.runs import diff, stats

SMALL = Path(__file__).parents[2] / "data" / "small.safetensors"
X = np.array([[0, 1, -2, 0.5], [3, 448, 2.0**-9, -0.375]], np.float32)
DATA = ARRAY.tobytes()


def opened(path: Path, member: str | None = None) -> Any:
    return open_source(str(path) if member is None else f"{path}::{member}")


def test_what_the_library_wrote_is_read() -> None:
    names = {
        "F32": "float32",
        "BF16": "bfloat16",
        "F16": "float16",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
    }
    listing = open_sources(str(SMALL))
    found = {source.name.rpartition("::")[2]: (source.dtype_name, read_all(source).tolist()) for source in listing}
    assert listing.skipped == 0
    assert {name: dtype for name, (dtype, _) in found.items()} == names
    for name, (_, values) in found.items():
        assert values == (X.tolist() if name != "F8_E5M2" else np.where(X == -0.375, -0.375, X).tolist())


def test_every_dtype_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    kinds = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
    arrays: dict[str, Any] = {kind: np.arange(24).reshape(2, 3, 4).astype(kind) for kind in kinds}
    arrays |= {"scalar": np.array(3.5), "empty": np.zeros((0, 3)), "ä\x1b": np.ones(2), "": np.zeros(1)}
    library.save_file(arrays, path, {"format": 'np {"a": "}"}'})
    theirs = library.load_file(path)
    listing = open_sources(str(path))
    for source in listing:
        assert isinstance(source, RawSource)
        assert_same_bits(read_all(source), theirs.pop(source.name.partition("::")[2]))
    assert list(theirs) == []
    assert read_all(opened(path, "i4")).tolist() == arrays["i4"].tolist()


@pytest.mark.parametrize("metadata", [None, {}, {"by": "hand"}])
def test_metadata_may_be_null_as_mlx_writes_it(tmp_path: Path, metadata: object) -> None:
    header = {"__metadata__": metadata, "x": entry()}
    (tmp_path / "x.safetensors").write_bytes(tensors(header, DATA))
    assert_same_bits(read_all(opened(tmp_path / "x.safetensors")), ARRAY)


@pytest.mark.parametrize("kind", FOREIGN)
def test_every_value_is_widened_as_other_libraries_do_and_back(kind: str) -> None:
    widening = FOREIGN[kind]
    raw = np.arange(1 << 8 * widening.stored.itemsize).astype(widening.stored)
    values = np.empty(raw.size, np.float32)
    widening.widen(raw, values)
    finite = np.isfinite(values)
    assert np.array_equal(widening.bits(values[finite]).view(raw.dtype), raw[finite])
    theirs = raw.view(getattr(pytest.importorskip("ml_dtypes"), widening.name)).astype(np.float32)
    assert_same_bits(values, theirs)


# Sign, exponent and mantissa in longhand: byte, and what it stands for.
VALUES = {
    "F8_E4M3": {0x00: 0.0, 0x01: 2.0**-9, 0x07: 7 * 2.0**-9, 0x08: 2.0**-6, 0x38: 1.0, 0x7E: 448.0, 0xB9: -1.125},
    "F8_E5M2": {0x00: 0.0, 0x01: 2.0**-16, 0x04: 2.0**-14, 0x3C: 1.0, 0x7B: 57344.0, 0x7C: np.inf, 0xFC: -np.inf},
    "BF16": {0x0000: 0.0, 0x0001: 2.0**-133, 0x3F80: 1.0, 0xC049: -3.140625, 0x7F80: np.inf, 0x8000: -0.0},
}
NANS = {"F8_E4M3": [0x7F, 0xFF], "F8_E5M2": [0x7D, 0x7F, 0xFE], "BF16": [0x7FC0, 0xFF81]}


@pytest.mark.parametrize("kind", FOREIGN)
def test_values_are_those_of_the_definition(kind: str) -> None:
    raw = np.array([*VALUES[kind], *NANS[kind]], FOREIGN[kind].stored)
    values = np.empty(raw.size, np.float32)
    FOREIGN[kind].widen(raw, values)
    count = len(VALUES[kind])
    assert_same_bits(values[:count], np.array(list(VALUES[kind].values()), np.float32))
    assert np.isnan(values[count:]).all()


@pytest.mark.parametrize("kind", FOREIGN)
def test_statistics_of_a_widened_tensor_are_those_of_its_values(tmp_path: Path, kind: str) -> None:
    widening = FOREIGN[kind]
    path = tmp_path / "x.safetensors"
    raw = np.random.default_rng(0).integers(0, 120, (3, 4, 50_000)).astype(widening.stored)
    if kind == "BF16":
        raw += 0x3F00
    path.write_bytes(tensors({"x": entry(kind, list(raw.shape), 0, raw.nbytes)}, raw.tobytes()))
    values = np.empty(raw.size, np.float32)
    widening.widen(raw.reshape(-1), values)
    np.save(tmp_path / "x.npy", values.reshape(raw.shape))
    wanted = ("mean", "std", "min", "max", "median", "p99.9", "first_nan", "kurtosis")
    ours, theirs = (stats([str(tmp_path / name)], statistics=wanted).tensors[0] for name in ("x.safetensors", "x.npy"))
    assert ours.values == theirs.values  # type: ignore[union-attr]
    assert (ours.dtype, ours.nbytes) == (widening.name, raw.nbytes)  # type: ignore[union-attr]
    by = stats([str(path)], by="C").tensors[0]
    assert by.cells.kept[0].stats.dtype == widening.name  # type: ignore[union-attr]
    source = opened(path)
    out = np.empty(300_001, np.float32)
    source.read_into(out, 17)
    assert_same_bits(out, values[17:300_018])


def test_what_numpy_lacks_is_normalized_to_another_dtype(tmp_path: Path) -> None:
    out = tmp_path / "y.npy"
    report = normalize_file(f"{SMALL}::BF16", num_groups=2, dtype="float16", output=str(out), stages=True)
    assert (report.before.dtype, report.after.dtype) == ("bfloat16", "float16")
    assert np.array_equal(np.load(out), group_norm(X, 2).astype(np.float16))


def test_gamma_may_be_bfloat16(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "g.safetensors").write_bytes(tensors({"g": entry("BF16", [4], 0, 8)}, b"\x80\x3f" * 4))
    report = normalize_file(str(tmp_path / "x.npy"), num_groups=2, gamma=str(tmp_path / "g.safetensors"))
    assert report.after.values == normalize_file(str(tmp_path / "x.npy"), num_groups=2).after.values


def test_distances_are_counted_in_the_dtype_that_is_stored(tmp_path: Path) -> None:
    for kind, one in (("BF16", 0x3F80), ("F8_E4M3", 0x38), ("F8_E5M2", 0x3C)):
        raw = FOREIGN[kind].stored
        a, b = np.array([one, one, 1, 1], raw), np.array([one, one + 3, 1 << 8 * raw.itemsize - 1, 2], raw)
        header = {"a": entry(kind, [4], 0, a.nbytes), "b": entry(kind, [4], a.nbytes, 2 * a.nbytes)}
        path = tmp_path / "x.safetensors"
        path.write_bytes(tensors(header, a.tobytes() + b.tobytes()))
        report = diff(f"{path}::a", f"{path}::b")
        assert report.ulp is not None
        assert (report.ulp.median, report.ulp.max) == (1.0, 3)
        assert (report.a.dtype, report.rtol) == (
            FOREIGN[kind].name,
            default_tolerance(FOREIGN[kind].name, "float64")[0],
        )
    assert diff(f"{SMALL}::BF16", f"{SMALL}::F32").ulp is None
    assert diff(f"{SMALL}::BF16", f"{SMALL}::F32").rtol == 1.6e-2
    assert ulps(X, X)[0] == X.size


def test_float8_values_any_distance_apart_are_counted(tmp_path: Path) -> None:
    """A distance of 8 and more overflowed the byte that it was limited in."""
    for kind, largest in (("F8_E4M3", 126), ("F8_E5M2", 123)):
        a, b = np.array([0, 0, largest], np.uint8), np.array([1, largest, largest | 128], np.uint8)
        header = {"a": entry(kind, [3], 0, 3), "b": entry(kind, [3], 3, 6)}
        path = tmp_path / "x.safetensors"
        path.write_bytes(tensors(header, a.tobytes() + b.tobytes()))
        report = diff(f"{path}::a", f"{path}::b")
        assert report.ulp is not None
        assert (report.ulp.median, report.ulp.max) == (largest, 2 * largest)


def test_tensors_are_listed_in_the_order_of_their_bytes_and_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    header = {
        "__metadata__": {"a": "b"},
        "second": entry(first=24, last=48),
        "first": entry(),
        "complex": entry("C64", [1], 48, 56),
        "four bits": entry("F4", [8], 56, 60),
    }
    path.write_bytes(tensors(json.dumps(header, indent=2) + " \n", DATA + DATA + bytes(12)))
    listing = open_sources(str(path))
    assert [source.name for source in listing] == [f"{path}::first", f"{path}::second"]
    assert listing.skipped == 2
    with pytest.raises(InputError, match=r"::complex: holds complex numbers, .* \(dtype C64\)"):
        opened(path, "complex")
    with pytest.raises(
        InputError, match=r"::four bits: holds elements of a type that is not read \(dtype F4\); save it"
    ):
        opened(path, "four bits")
    with pytest.raises(InputError, match=r"x.safetensors::secund: no such tensor; did you mean second\?$"):
        opened(path, "secund")
    with pytest.raises(InputError, match=r"holds 2 tensors: first, second; name one, as FILE::NAME"):
        opened(path)


def test_a_lone_tensor_needs_no_name_and_the_suffix_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(tensors({"x": entry()}, DATA))
    assert (opened(path).name, read_all(opened(path)).tolist()) == (str(path), ARRAY.tolist())
    path.write_bytes(tensors("{ }"))
    with pytest.raises(InputError, match=r"holds no numeric tensor \(0 others\)"):
        opened(path)


def test_a_pipe_is_spooled() -> None:
    reader = piped(SMALL.read_bytes())
    names = [source.name for source in open_sources("-", stdin=reader)]
    os.close(reader)
    assert names[0] == "<stdin>::F32"


@pytest.mark.parametrize("what", SAFETENSORS_FILES)
def test_what_is_damaged_is_refused_in_one_line(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, error, said = SAFETENSORS_FILES[what]
    monkeypatch.chdir(tmp_path)
    Path("x").write_bytes(data)
    for attempt in (lambda: list(open_sources("x")), lambda: open_source("x::x")):
        with pytest.raises(error) as caught:
            attempt()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    reader = piped(data)
    with pytest.raises(error, match=r"^<stdin>"):
        list(open_sources("-", stdin=reader))
    os.close(reader)


def test_the_library_refuses_what_is_refused_here(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors")
    path = tmp_path / "x"
    ours_alone = {"a key twice", "one more key", "a long entry", "a name twice", "too many axes", "metadata twice"}
    ours_alone |= {"a name twice, escaped", "two objects", "sizes that overflow beside 0"}
    for what in [what for what in SAFETENSORS_FILES if what not in ours_alone]:
        path.write_bytes(SAFETENSORS_FILES[what][0])
        with pytest.raises(library.SafetensorError), library.safe_open(path, "np"):
            pytest.fail(what)


def test_more_tensors_than_anyone_would_name_are_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(tensors({str(number): entry(shape=[0], last=0) for number in range(4)}))
    assert len(list(open_sources(str(path)))) == 4
    monkeypatch.setattr("gncli.io.formats.safetensors.MAX_MEMBERS", 3)
    with pytest.raises(LimitError, match="has more than 3 tensors"):
        open_sources(str(path))


def test_a_text_or_a_longer_header_is_another_format(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"12345678{", tensors("{}", length=100_000_001), b"[]", tensors("[]")):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"is neither .npy, .npz, .pt, .safetensors, HDF5 nor"):
            opened(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(SMALL.read_bytes())
    for length in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(InputError):
            list(open_sources(str(path)))


def test_a_changed_byte_in_the_header_is_refused_or_renames_or_retypes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = tensors({"x": entry(), "y": entry("I32", [6], 24, 48)}, DATA * 2)
    right = [((2, 3), np.dtype("f4")), ((6,), np.dtype("i4"))]
    for place in range(len(whole) - 48):
        for byte in {whole[place] ^ 1 << bit for bit in range(8)}:
            path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            with suppress(InputError):
                listing = open_sources(str(path))
                found = [(source.shape, source.dtype) for source in listing]
                same_bytes = all(int(np.prod(shape)) * dtype.itemsize == 24 for shape, dtype in found)
                assert found == right or listing.skipped or (same_bytes and [s for s, _ in found] == [(2, 3), (6,)])


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(st.text('{}[]",:\\ 0123456789xyBF16_dtypeshapedata_offsets', max_size=120), st.booleans())
def test_any_text_gives_tensors_or_an_error_of_ours(text: str, wrapped: bool) -> None:
    header = f'{{"x": {{{text}}}}}' if wrapped else "{" + text
    reader = piped(tensors(header, DATA))
    with suppress(GncliError):
        for source in open_sources("-", stdin=reader):
            read_all(source)
    os.close(reader)


@settings(max_examples=examples(200))
@given(st.binary(max_size=100))
def test_any_bytes_give_tensors_or_an_error_of_ours(data: bytes) -> None:
    reader = piped(len(data + b"{").to_bytes(8, "little") + b"{" + data + DATA)
    with suppress(GncliError):
        list(open_sources("-", stdin=reader))
    os.close(reader)
