"""bfloat16 and float8 from end to end: drawn, normalized, subtracted; written, and read again."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli import Draw, NormalizeReport, OutputError, ParameterError, io, normalize_file
from gncli.cli import main
from gncli.inputs import Policy
from gncli.kernels.floats import FLOATS, Float
from gncli.kernels.groupnorm import verify_region
from gncli.report.lines import check_failures
from gncli.tasks.diff import DiffRun
from gncli.tasks.random import RandomRun
from gncli.tasks.requests import Diff, Output, Random
from tests import exact
from tests.arrays import assert_same_bits
from tests.exact import nearest
from tests.files import read_all, write_npy
from tests.marks import slow_but

Run = Callable[..., tuple[int, str, str]]
FOREIGN = [kind for kind in FLOATS.values() if kind.foreign]
X = np.random.default_rng(7).standard_normal((2, 4, 5, 3)).astype(np.float32)
OVERFLOW: dict[str, Any] = {"overflow": "saturate"}


@pytest.fixture
def gncli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return what runs a command in the directory of the test, and returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(list(arguments))
        return (status, *capfd.readouterr())

    return run


def expected(x: NDArray[Any], kind: Float, gamma: float = 1.0) -> NDArray[Any]:
    """Return the group norm in 2 groups, each element correctly rounded; what overflows is infinite."""
    groups = x.reshape(x.shape[0], 2, 2, -1)
    found = [exact.group_norm(group, 1e-5, [gamma] * 2, [0.0] * 2, kind.name) for sample in groups for group in sample]
    return np.array(found, kind.dtype).reshape(x.shape)


def read(name: str, kind: Float | None = None) -> NDArray[Any]:
    policy = Policy(as_dtype=None if kind is None else kind.name)
    with io.open_source(name, policy=policy) as source:
        return read_all(source, 64)


def normalized(x: str, **options: Any) -> NormalizeReport:
    return normalize_file(x, num_groups=2, **options)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.name)
def test_a_result_is_written_in_its_dtype_and_read_again(tmp_path: Path, kind: Float, order: Any) -> None:
    x = write_npy(tmp_path, np.asarray(X, order=order))
    tensors, bits = str(tmp_path / "y.safetensors"), str(tmp_path / "y.npy")
    report = normalized(x, dtype=kind.name, output=f"{tensors}::layer/y", **OVERFLOW)
    assert (report.after.dtype, report.parameters.dtype, report.check and report.check.ok) == (kind.name,) * 2 + (True,)
    y = expected(X, kind)
    assert_same_bits(read(tensors), y)
    normalized(x, dtype=kind.name, output=bits, npy_bits=True, **OVERFLOW)
    assert_same_bits(read(bits, kind), y)
    raw = np.load(bits)
    assert (raw.dtype, raw.shape, raw.flags.f_contiguous) == (f"V{kind.stored.itemsize}", X.shape, order == "F")
    # A tensor of the dtype is normalized to it by default, in place too.
    report = normalized(bits, output=None, in_place=True, npy_bits=True, policy=Policy(as_dtype=kind.name), **OVERFLOW)
    assert report.before.dtype == report.after.dtype == kind.name
    assert_same_bits(read(bits, kind), expected(y, kind))


def test_a_safetensors_file_holds_one_tensor_and_the_parameters(tmp_path: Path) -> None:
    x, out = write_npy(tmp_path, np.asarray(X, order="F")), tmp_path / "y.safetensors"
    for made, name in (("float16", "F16"), ("float32", "F32"), ("float64", "F64"), ("bfloat16", "BF16")):
        normalized(x, dtype=made, output=str(out), force=True)
        data = out.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        kind = FLOATS[made]
        nbytes = X.size * kind.stored.itemsize
        assert json.loads(data[8 : 8 + length]) == {
            "__metadata__": {
                "num_groups": "2",
                "eps": "1e-05",
                "layout": "NCHW",
                "denominator": "std",
                "gamma": "1.0",
                "beta": "0.0",
            },
            "data": {"dtype": name, "shape": list(X.shape), "data_offsets": [0, nbytes]},
        }
        assert (length % 8, len(data)) == (0, 8 + length + nbytes)
        if made != "float64":
            assert_same_bits(read(str(out)), expected(X, kind))
    drawn = tmp_path / "drawn.safetensors"
    with RandomRun(Random(draw=Draw((), seed=1), output=Output(path=str(drawn)))) as run:
        run.report()
        run.commit()
    assert read(str(drawn)) == np.random.default_rng(1).random()


def test_a_safetensors_file_with_other_tensors_is_not_replaced(tmp_path: Path) -> None:
    x, out = write_npy(tmp_path, X), tmp_path / "y.safetensors"
    normalized(x, output=f"{out}::a")
    before = out.read_bytes()
    for options, message in (
        ({"output": f"{out}::a"}, "already exists; force=True replaces it"),
        ({"output": f"{out}::b", "force": True}, "holds more than b, and would lose a; choose another name"),
    ):
        with pytest.raises(OutputError) as caught:
            normalized(x, **options)
        assert str(caught.value).endswith(message)
    for member in ("", "__metadata__"):
        with pytest.raises(ParameterError, match=r"names no tensor after ::; write FILE.safetensors::NAME"):
            normalized(x, output=f"{out}::{member}", force=True)
    assert out.read_bytes() == before
    out.write_bytes(b"no tensors")
    with pytest.raises(OutputError, match="holds what cannot be listed, and would be lost"):
        normalized(x, output=str(out), force=True)
    out.write_bytes(b"")
    normalized(x, output=str(out), force=True)
    assert_same_bits(read(str(out)), expected(X, FLOATS["float32"]))


REFUSED = [
    (
        {"dtype": "float8_e4m3fn"},
        "float8_e4m3fn has two conventions for a result beyond its largest number, 448; "
        "say overflow='saturate' (it becomes 448) or overflow='nonfinite' (it becomes NaN)",
    ),
    ({"dtype": "float16", "overflow": "saturate"}, "overflow is about bfloat16 and float8, and the result is float16"),
    ({"dtype": "bfloat16", "output": "y.npy"}, "y.npy: .npy cannot name bfloat16; write to FILE.safetensors, or say"),
    ({"dtype": "bfloat16", "output": "y.h5"}, "y.h5: HDF5 cannot name bfloat16; write to FILE.safetensors"),
    ({"output": "y.npy", "npy_bits": True}, "y.npy: npy_bits=True is about a .npy of bfloat16 or float8; leave it out"),
    (
        {"dtype": "bfloat16", "output": "y.safetensors", "npy_bits": True},
        "y.safetensors: npy_bits=True is about a .npy of bfloat16 or float8; leave it out",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    x = write_npy(tmp_path, X)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError) as caught:
        normalized(x, **options)
    assert message in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy"]


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.name)
@pytest.mark.parametrize("overflow", ["saturate", "nonfinite"])
def test_an_overflow_is_counted_and_becomes_what_was_asked_for(tmp_path: Path, kind: Float, overflow: str) -> None:
    x, out = write_npy(tmp_path, X), tmp_path / "y.safetensors"
    gamma = kind.largest / 1.5
    report = normalized(x, dtype=kind.name, gamma=gamma, output=str(out), overflow=overflow)
    y = expected(X, kind, gamma)
    overflowed = int(np.isinf(y).sum())
    check = report.check
    assert check is not None
    assert (check.ok, check.overflowed > 0, check.overflowed, check.misrounded) == (True, True, overflowed, 0)
    assert report.parameters.overflow == overflow
    assert (check.proved or 0) + (check.settled or 0) == (y.size if overflow == "saturate" else y.size - overflowed)
    stands = {"saturate": kind.largest, "nonfinite": np.inf if kind.infinite else np.nan}[overflow]
    y[np.isinf(y)] = np.copysign(stands, y[np.isinf(y)])
    assert_same_bits(read(str(out)), y)
    assert report.after.value("max") == np.nanmax(y[np.isfinite(y)])


def test_an_overflow_of_bfloat16_fails_the_check_unless_it_is_allowed(tmp_path: Path, gncli: Run) -> None:
    x, out = write_npy(tmp_path, X), tmp_path / "y.safetensors"
    status, stdout, stderr = gncli("normalize", x, "-G2", "--dtype", "bfloat16", "--gamma", "3e38", "-o", str(out))
    assert status == 1
    assert "check: FAILED: " in stdout
    assert "beyond the largest bfloat16; nothing was written" in stderr
    assert not out.exists()


def test_an_element_that_is_not_the_rounding_of_its_value_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, out = write_npy(tmp_path, X), tmp_path / "y.safetensors"
    monkeypatch.setattr("gncli.run.normalization.verify_region", lambda *given: (*verify_region(*given)[:2], 3, 0))
    report = normalized(x, dtype="bfloat16", output=str(out))
    assert report.check is not None
    assert (report.check.ok, report.check.misrounded) == (False, 3)
    assert not out.exists()
    assert check_failures(report) == ["3 elements not rounded to the nearest bfloat16"]


def test_what_became_zero_is_said(tmp_path: Path, gncli: Run) -> None:
    x = write_npy(tmp_path, X)
    status, out, err = gncli(
        "normalize", x, "-G2", "--dtype", "float8_e5m2", "--gamma", "1e-5", "--overflow", "saturate"
    )
    y = expected(X, FLOATS["float8_e5m2"], 1e-5)
    count = int((y == 0).sum())
    assert (status, err) == (0, "")
    assert count > 1
    assert f"; {count} became 0\n" in out


def test_raw_elements_are_read_as_what_they_are_said_to_be_and_never_guessed(tmp_path: Path, gncli: Run) -> None:
    bits = np.arange(12, dtype=np.uint16).reshape(3, 4) + np.uint16(0x3F80)
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    write_npy(tmp_path, bits.view("V2"), "x.npy")
    np.savez(tmp_path / "stored.npz", x=bits.view("V2"))
    np.savez_compressed(tmp_path / "deflated.npz", x=bits.view("V2"))
    write_npy(tmp_path, bits.view("u1").view("V1"), "small.npy")
    bf16, e5m2 = FLOATS["bfloat16"], FLOATS["float8_e5m2"]
    for name in ("x.npy", "stored.npz", "deflated.npz"):
        assert_same_bits(read(str(tmp_path / name), bf16), values)
    wide = np.empty(24, np.float32)
    e5m2.widen(bits.view("u1").reshape(-1), wide)
    assert_same_bits(read(str(tmp_path / "small.npy"), e5m2), wide.reshape(3, 8))
    (tmp_path / "both.npy").write_bytes((tmp_path / "x.npy").read_bytes() * 2)
    with (tmp_path / "both.npy").open("rb") as file:
        streams = io.open_sources("-", policy=Policy(as_dtype="bfloat16"), stdin=file.fileno())
        for source in streams:
            assert_same_bits(read_all(source, 7), values)
    status, out, err = gncli("stats", "x.npy")
    assert (status, out) == (3, "")
    assert err.startswith(
        "gncli: error: x.npy: holds raw elements of 2 bytes (dtype |V2); if they are bfloat16, say --as"
    )
    status, out, err = gncli("stats", "small.npy", "--as-dtype", "bfloat16")
    assert (status, out) == (3, "")
    assert "holds raw elements of 1 byte (dtype |V1), which are no bfloat16; say --as-dtype float8_e4m3fn" in err


def test_a_pipe_carries_raw_elements_where_that_is_asked_for(tmp_path: Path) -> None:
    kind, out = FLOATS["bfloat16"], tmp_path / "y.npy"
    with out.open("wb") as file:
        options: dict[str, Any] = {"shape": (3,), "dtype": kind, "stdout": file.fileno()}
        with pytest.raises(ParameterError, match=r"<stdout>: \.npy cannot name bfloat16; write to FILE.safetensors"):
            io.open_sink("-", **options)
        sink = io.open_sink("-", npy_bits=True, **options)
        assert sink.sequential
        sink.write_from(np.array([1, 2, 3], np.float32), 0)
        sink.commit()
    assert read(str(out), kind).tolist() == [1, 2, 3]


@pytest.mark.parametrize("made", slow_but(FLOATS, "float16", "bfloat16"))
def test_a_difference_is_rounded_once_from_the_exact_one(tmp_path: Path, made: str) -> None:
    rng, kind = np.random.default_rng(3), FLOATS[made]
    a = np.exp(rng.normal(0, 9, 300)).astype(np.float32)
    b = np.where(rng.random(300) < 0.5, a * np.float32(1 + 2**-8), rng.normal(0, 9, 300).astype(np.float32))
    # Half of a unit of bfloat16, and a part that float64 does not hold: a second rounding would go the other way.
    a[:2], b[:2] = (1 + 2.0**-8), (-(2.0**-60), 2.0**-60)
    out = tmp_path / "d.safetensors"
    request = Diff(
        a=write_npy(tmp_path, a, "a.npy"),
        b=write_npy(tmp_path, b.astype(np.float32), "b.npy"),
        dtype=made,
        output=Output(path=str(out), overflow="nonfinite" if kind.foreign else None),
    )
    with DiffRun(request) as run:
        report: Any = run.report()
        run.commit()
    right = np.array([nearest(Fraction(float(p)) - Fraction(float(q)), kind) for p, q in zip(a, b, strict=True)])
    counts = int(np.isinf(right).sum()), int(((right == 0) & (a != b)).sum())
    if kind.foreign:
        kind.resolve(right, "nonfinite")
        assert (report.rounded.overflowed, report.rounded.became_zero) == counts
        assert report.as_dict()["rounded"]["dtype"] == made
    else:
        assert report.rounded is None
    np.testing.assert_array_equal(read(str(out)), right)


def test_differences_of_64_bit_integers_are_rounded_once(tmp_path: Path) -> None:
    a = np.array([2**63 - 1, -(2**63), 2**53 + 1, 2**24 + 1])
    b = np.array([-(2**63), 2**63 - 1, -(2**53), 0])
    out = str(tmp_path / "d.npy")
    request = Diff(a=write_npy(tmp_path, a, "a.npy"), b=write_npy(tmp_path, b, "b.npy"), output=Output(path=out))
    with DiffRun(request) as run:
        run.report()
        run.commit()
    assert np.load(out).tolist() == [float(int(p) - int(q)) for p, q in zip(a, b, strict=True)]


@pytest.mark.parametrize("dist", ["uniform", "normal"])
@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.name)
def test_a_draw_is_the_float32_draw_rounded_once(tmp_path: Path, gncli: Run, kind: Float, dist: Any) -> None:
    out = tmp_path / "x.safetensors"
    draw = Draw((40, 50), dist=dist, seed=4, dtype=kind.name)
    with RandomRun(Random(draw=draw, output=Output(path=str(out), overflow="saturate"), statistics=("sha256",))) as run:
        report = run.report()
        run.commit()
    rng = np.random.default_rng(4)
    drawn = rng.random(2000, np.float32) if dist == "uniform" else rng.standard_normal(2000, np.float32)
    y = np.array([nearest(Fraction(float(number)), kind) for number in drawn]).reshape(40, 50)
    assert_same_bits(read(str(out)), y)
    assert report.rounded is not None
    assert report.rounded.as_dict() == {
        "dtype": kind.name,
        "overflow": "saturate",
        "overflowed": 0,
        "became_zero": int((y == 0).sum()),
    }
    status, found, _ = gncli("stats", str(out), "-s", "sha256", "--format", "value")
    assert (status, found) == (0, f"{report.tensors[0].value('sha256')}\n")  # type: ignore[union-attr]


def test_what_a_draw_cannot_be_is_refused(gncli: Run) -> None:
    with (
        pytest.raises(ParameterError, match="float8_e5m2 has two conventions"),
        RandomRun(Random(draw=Draw((3,), dtype="float8_e5m2"))),
    ):
        pass
    status, out, err = gncli("diff", "a.npy", "b.npy", "--dtype", "bfloat16")
    assert (status, out) == (2, "")
    assert "--dtype is about a - b in a file; give -o OUT too" in err
