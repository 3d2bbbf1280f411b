"""Operations: what each command does to files, and what it says of them; and the Python API."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import gncli
from gncli.api import get_stats, group_norm, normalize_file
from gncli.errors import ChangedError, GncliError, InputError, OutputError, ParameterError
from gncli.inputs import Draw
from gncli.io import ArraySource
from gncli.kernels.groupnorm import Check, output_dtype
from gncli.names import STATISTICS
from gncli.report.records import NormalizeReport, TensorStats
from gncli.run.engine import Engine
from gncli.run.normalization import Normalization
from gncli.run.plan import Plan
from gncli.tasks.survey import describe
from tests import oracle
from tests.arrays import SHAPE, assert_same_bits, images, plain
from tests.runs import normalize, random, stats

# dtype of the input, dtype of the output
OUTPUT_DTYPES = [
    ("f2", "f2"),
    (">f2", "f2"),
    ("f4", "f4"),
    (">f8", "f8"),
    ("?", "f4"),
    ("i1", "f4"),
    ("u1", "f4"),
    ("i2", "f4"),
    (">u2", "f4"),
    ("i4", "f8"),
    ("u4", "f8"),
    ("i8", "f8"),
    (">u8", "f8"),
]
# gamma or beta as saved, and what is said of it
WRONG_AFFINE: list[tuple[NDArray[Any], type[GncliError], str]] = [
    (np.ones(4), ParameterError, "{what} has shape (4,); the tensor needs (6,)"),
    (np.ones((6, 1)), ParameterError, "{what} has shape (6, 1); the tensor needs (6,)"),
    (np.array(1.0), ParameterError, "{what} has shape (); the tensor needs (6,)"),
    (np.array([1, 2, math.nan, 4, 5, 6]), InputError, "{what} is nan for channel 2; all its values must be finite"),
    (np.array([1, 2, 3, 4, 5, -math.inf]), InputError, "{what} is -inf for channel 5; all its values must be finite"),
    (np.ones(6, complex), InputError, "complex numbers"),
]


def saved(folder: Path, array: NDArray[Any], name: str = "x.npy") -> str:
    path = folder / name
    np.save(path, array)
    return str(path)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def the_one(report: Any) -> TensorStats:
    """Return the statistics of the only tensor of a report."""
    (found,) = report.tensors
    assert isinstance(found, TensorStats)
    return found


def check_of(report: NormalizeReport) -> Check:
    assert report.check is not None
    return report.check


# --- stats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "u1", ">i2", "i8", "?"])
def test_statistics_are_those_of_numpy_in_float64(tmp_path: Path, dtype: str) -> None:
    x = images(dtype=dtype) if dtype != "?" else images() > 50
    found = the_one(stats([saved(tmp_path, x)], statistics=[name for name in STATISTICS if name != "sum"]))
    wide = x.astype(np.float64)
    assert (found.shape, found.dtype, found.size, found.nbytes) == (x.shape, x.dtype.name, x.size, x.nbytes)
    assert found.name == str(tmp_path / "x.npy")
    assert found.value("mean") == pytest.approx(wide.mean(), rel=1e-14)
    assert found.value("std") == pytest.approx(wide.std(), rel=1e-13)
    assert found.value("var") == pytest.approx(wide.var(), rel=1e-13)
    assert (found.value("min"), found.value("max")) == (x.min().item(), x.max().item())
    assert isinstance(found.value("min"), float if x.dtype.kind == "f" else int)
    assert found.value("zeros") == (x == 0).sum()
    json.dumps(found.as_dict())


def test_degrees_of_freedom_change_deviation_and_variance(tmp_path: Path) -> None:
    found = the_one(stats([saved(tmp_path, np.array([1.0, 2.0, 6.0]))], ddof=1))
    assert (found.value("std"), found.value("var")) == (math.sqrt(7), 7.0)
    single = the_one(stats([saved(tmp_path, np.array([5.0]))], ddof=1))
    assert (single.value("mean"), single.value("std"), single.value("var")) == (5.0, None, None)


def test_what_is_not_finite_is_counted_and_skipped(tmp_path: Path) -> None:
    x = np.array([math.nan, 1.0, math.inf, 3.0, -math.inf, math.inf])
    found = the_one(stats([saved(tmp_path, x)]))
    assert [found.value(name) for name in ("nan", "posinf", "neginf")] == [1, 2, 1]
    assert [found.value(name) for name in ("mean", "std", "min", "max")] == [2.0, 1.0, 1.0, 3.0]


@pytest.mark.parametrize("x", [np.empty((0, 3)), np.empty(0, np.int64), np.full(4, math.nan), np.full(2, math.inf)])
def test_statistics_of_nothing_are_undefined(tmp_path: Path, x: NDArray[Any]) -> None:
    found = the_one(stats([saved(tmp_path, x)]))
    assert [found.value(name) for name in ("mean", "std", "var", "min", "max")] == [None] * 5


def test_a_variance_that_leaves_float64_is_undefined_and_its_root_is_not(tmp_path: Path) -> None:
    found = the_one(stats([saved(tmp_path, np.array([1e300, 3e300]))]))
    assert plain(found.value("mean"), found.value("std"), found.value("var")) == (2e300, pytest.approx(1e300), None)


def test_zeros_are_counted_only_where_they_are_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, np.array([0.0, -0.0, 1.0]))
    assert not the_one(stats([path])).has("zeros")
    assert the_one(stats([path], statistics=["zeros"])).value("zeros") == 2


def test_a_description_reads_no_data(tmp_path: Path) -> None:
    class Unreadable(ArraySource):
        def read_into(self, out: NDArray[Any], start: int) -> None:
            raise AssertionError

    with Engine(1) as engine:
        found = describe(Unreadable(np.ones((2, 3), np.float16)), engine, ("shape", "dtype", "size", "nbytes"))
        assert [found.value(name) for name in ("shape", "dtype", "size", "nbytes")] == [(2, 3), "float16", 6, 12]
        with pytest.raises(AssertionError):
            describe(Unreadable(np.ones((2, 3))), engine, ("shape", "mean"))


def test_a_tensor_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    first, last = saved(tmp_path, np.ones(3), "a.npy"), saved(tmp_path, np.ones(4), "d.npy")
    cut = tmp_path / "b.npy"
    cut.write_bytes(Path(first).read_bytes()[:-1])
    report = stats([first, str(cut), str(tmp_path / "gone.npy"), last])
    assert [isinstance(found, TensorStats) for found in report.tensors] == [True, False, False, True]
    assert [failure.name for failure in report.failures] == [str(cut), str(tmp_path / "gone.npy")]
    assert report.status == 3


def test_all_numeric_tensors_of_a_container_are_described_and_others_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        file["a"], file["b/c"] = np.arange(3.0), np.arange(4)
        file["text"] = "words"
    report = stats([path])
    assert [found.name for found in report.tensors] == [f"{path}::/a", f"{path}::/b/c"]
    assert report.skipped == ((path, 1),)
    assert report.status == 0


def test_a_drawn_tensor_is_described_and_its_seed_told_where_it_was_chosen() -> None:
    report = stats([], random=Draw((50, 7), dist="normal", seed=3))
    x = np.random.default_rng(3).standard_normal((50, 7))
    assert the_one(report).value("min") == x.min()
    assert report.seed is None
    chosen = stats([], random=Draw((50,), dist="uniform"))
    assert chosen.seed is not None
    assert the_one(chosen).value("max") == np.random.default_rng(chosen.seed).random(50).max()


def test_an_input_that_changed_while_it_was_read_gives_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, images())
    reduce = Plan.reduce

    def touched(*args: Any, **kwargs: Any) -> Any:
        found = list(reduce(*args, **kwargs))
        os.utime(path, ns=(1, 1))
        return iter(found)

    monkeypatch.setattr(Plan, "reduce", touched)
    report = stats([path])
    assert isinstance(report.failures[0].error, ChangedError)
    assert report.status == 6


# --- random ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dist", "dtype"), [("uniform", "float64"), ("normal", "float32"), ("uniform", "float16")])
def test_what_is_drawn_is_what_numpy_draws_and_is_written_while_it_is_measured(
    tmp_path: Path, dist: Any, dtype: str
) -> None:
    out = str(tmp_path / "x.npy")
    report = random(
        Draw((40, 50), dist=dist, seed=7, dtype=dtype), output=out, statistics=["mean", "max"], workers=2, tile=1000
    )
    generator = np.random.default_rng(7)
    draw = generator.random if dist == "uniform" else generator.standard_normal
    x = draw((40, 50), dtype=np.float64 if dtype == "float64" else np.float32).astype(dtype)
    assert_same_bits(np.load(out), x)
    assert the_one(report).value("mean") == pytest.approx(x.astype(float).mean(), rel=1e-13)
    assert the_one(report).value("max") == x.max()
    assert (report.seed, report.output, report.command, report.status) == (None, out, "random", 0)


def test_a_draw_without_an_output_writes_nothing_and_tells_its_seed(tmp_path: Path) -> None:
    report = random(Draw((10,)))
    assert isinstance(report.seed, int)
    assert the_one(report).value("max") == np.random.default_rng(report.seed).random(10).max()
    assert names(tmp_path) == []


def test_a_drawn_hdf5_dataset_says_how_it_was_drawn(tmp_path: Path) -> None:
    out = str(tmp_path / "x.h5")
    random(Draw((4, 5), dist="normal", seed=7), output=out)
    with h5py.File(out) as file:
        assert dict(file["data"].attrs) == {"dist": "normal", "seed": 7}
        np.testing.assert_array_equal(file["data"][:], np.random.default_rng(7).standard_normal((4, 5)))


def test_an_existing_file_is_replaced_by_force_alone(tmp_path: Path) -> None:
    out = saved(tmp_path, np.ones(3))
    with pytest.raises(OutputError):
        random(Draw((10,), seed=1), output=out)
    assert np.load(out).tolist() == [1, 1, 1]
    random(Draw((10,), seed=1), output=out, force=True)
    assert np.load(out).shape == (10,)
    with pytest.raises(OutputError):
        normalize_file(Draw((2, 4)), num_groups=2, output=out)
    assert names(tmp_path) == ["x.npy"]


# --- normalize -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "made"), OUTPUT_DTYPES)
def test_the_output_has_the_dtype_of_a_floating_input_and_else_what_numpy_promotes_to(
    tmp_path: Path, dtype: str, made: str
) -> None:
    assert output_dtype(np.dtype(dtype)) == np.dtype(made)
    x = images(dtype=dtype) if dtype != "?" else images() > 50
    out = str(tmp_path / "y.npy")
    report = normalize_file(saved(tmp_path, x), num_groups=3, output=out)
    y = np.load(out)
    assert y.dtype == np.dtype(made)
    assert report.parameters.dtype == np.dtype(made).name == report.after.dtype
    assert report.before.dtype == x.dtype.name
    if made != "f8":
        assert_same_bits(y, oracle.rounded(oracle.group_norm(x, 3, "NCHW"), made))
    assert_same_bits(group_norm(x, 3), y)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_dtype_of_the_output_can_be_chosen(tmp_path: Path, dtype: str) -> None:
    out = str(tmp_path / "y.npy")
    x = images(dtype="f8")
    normalize_file(saved(tmp_path, x), num_groups=3, output=out, dtype=dtype)
    assert np.load(out).dtype == np.dtype(dtype)
    np.testing.assert_allclose(np.load(out), oracle.group_norm(x, 3, "NCHW").astype(float), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_output_lies_in_memory_as_the_input_does(tmp_path: Path, order: Any) -> None:
    x = np.asarray(images(), order=order)
    out = str(tmp_path / "y.npy")
    normalize_file(saved(tmp_path, x), num_groups=3, output=out, workers=3, tile=500)
    assert np.load(out).flags.f_contiguous == (order == "F")
    assert_same_bits(np.load(out), group_norm(images(), 3))


def test_the_report_says_what_was_done(tmp_path: Path) -> None:
    x = images()
    path, out = saved(tmp_path, x), str(tmp_path / "y.npy")
    report = normalize_file(path, group_size=2, eps=1e-3, denominator="variance", output=out, gamma=2.0, beta=-1.0)
    assert (report.input, report.output, report.status, report.stages, report.seed) == (path, out, 0, (), None)
    assert report.parameters.as_dict() == {
        "groups": 3,
        "group_size": 2,
        "eps": 1e-3,
        "layout": "NCHW",
        "denominator": "variance",
        "gamma": 2.0,
        "beta": -1.0,
        "dtype": "float32",
    }
    y = np.load(out)
    assert report.before.value("mean") == pytest.approx(x.astype(float).mean(), rel=1e-13)
    assert report.after.value("std") == pytest.approx(y.astype(float).std(), rel=1e-12)
    assert (report.before.name, report.after.name) == (path, out)
    assert check_of(report).groups == 9
    assert check_of(report).ok
    assert names(tmp_path) == ["x.npy", "y.npy"]


def test_without_an_output_the_report_is_a_dry_run(tmp_path: Path) -> None:
    report = normalize_file(saved(tmp_path, images()), num_groups=3)
    assert (report.output, report.after.name, report.status) == (None, "", 0)
    assert names(tmp_path) == ["x.npy"]


def test_without_verifying_there_is_no_check(tmp_path: Path) -> None:
    report = normalize_file(saved(tmp_path, images()), num_groups=3, verify=False)
    assert (report.check, report.status) == (None, 0)
    with_stages = normalize_file(saved(tmp_path, images()), num_groups=3, verify=False, stages=True, gamma=5.0)
    assert with_stages.check is None
    assert with_stages.stages[4].stats.value("std") == pytest.approx(1, rel=1e-3)


def test_zeros_are_counted_before_and_after(tmp_path: Path) -> None:
    report = normalize_file(saved(tmp_path, np.zeros((2, 4, 5))), num_groups=2, zeros=True)
    assert (report.before.value("zeros"), report.after.value("zeros")) == (40, 40)


def test_gamma_and_beta_come_from_files(tmp_path: Path) -> None:
    x = images()
    gamma, beta = np.random.default_rng(1).standard_normal((2, 6)).astype("f4")
    container = str(tmp_path / "p.h5")
    with h5py.File(container, "w") as file:
        file["norm/gamma"], file["norm/beta"] = gamma, beta.astype(">f8")
    out = str(tmp_path / "y.npy")
    path = saved(tmp_path, x)
    report = normalize_file(
        path, num_groups=3, output=out, gamma=f"{container}::norm/gamma", beta=f"{container}::/norm/beta"
    )
    expected = oracle.rounded(oracle.group_norm(x, 3, "NCHW", gamma=gamma, beta=beta), "f4")
    assert_same_bits(np.load(out), expected)
    assert report.parameters.gamma == f"{container}::norm/gamma"
    normalize_file(path, num_groups=3, output=out, force=True, gamma=saved(tmp_path, gamma, "g.npy"), beta=0.5)
    assert_same_bits(np.load(out), group_norm(x, 3, gamma=gamma, beta=0.5))


@pytest.mark.parametrize("what", ["gamma", "beta"])
@pytest.mark.parametrize(("values", "error", "sentence"), WRONG_AFFINE)
def test_gamma_and_beta_that_do_not_fit_are_refused(
    tmp_path: Path, what: str, values: NDArray[Any], error: type[GncliError], sentence: str
) -> None:
    given = saved(tmp_path, values, "g.npy")
    affine: dict[str, Any] = {what: given}
    with pytest.raises(error) as caught:
        normalize_file(saved(tmp_path, images()), num_groups=3, output=str(tmp_path / "y.npy"), **affine)
    assert caught.value.subject == given
    assert sentence.format(what=what) in str(caught.value)
    assert names(tmp_path) == ["g.npy", "x.npy"]


def test_parameters_that_do_not_fit_name_the_tensor(tmp_path: Path) -> None:
    path = saved(tmp_path, np.ones((2, 16, 3)))
    with pytest.raises(ParameterError) as caught:
        normalize_file(path, num_groups=5)
    assert str(caught.value) == f"{path}: 16 channels cannot be split into 5 groups; choose one of 1, 2, 4, 8, 16"
    with pytest.raises(ParameterError, match="eps is -1"):
        normalize_file(path, eps=-1.0)


def test_a_file_is_normalized_in_place(tmp_path: Path) -> None:
    x = images()
    path = saved(tmp_path, x)
    report = normalize_file(path, num_groups=3, in_place=True)
    assert report.output == path
    assert_same_bits(np.load(path), group_norm(x, 3))
    assert names(tmp_path) == ["x.npy"]


def test_a_failed_check_of_a_dry_run_is_reported(tmp_path: Path) -> None:
    report = normalize_file(saved(tmp_path, images(dtype="f2")), num_groups=3, gamma=60000.0)
    assert (report.status, report.output) == (1, None)
    assert names(tmp_path) == ["x.npy"]


def test_what_was_streamed_to_standard_output_stays_there_when_the_check_fails(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    x = images(dtype="f2")
    report = normalize_file(saved(tmp_path, x), num_groups=3, gamma=60000.0, output="-")
    assert (report.status, report.output) == (1, "-")
    streamed = np.load(io.BytesIO(capfdbinary.readouterr().out))
    assert_same_bits(streamed, group_norm(x, 3, gamma=60000.0))


def test_only_a_npy_of_the_same_dtype_is_normalized_in_place(tmp_path: Path) -> None:
    container = str(tmp_path / "x.h5")
    with h5py.File(container, "w") as file:
        file["x"] = images()
    for tensor in (container, Draw(SHAPE)):
        with pytest.raises(ParameterError, match=r"--in-place needs a \.npy file; write to another file with -o"):
            normalize_file(tensor, num_groups=3, in_place=True)
    path = saved(tmp_path, images(dtype="u1"))
    with pytest.raises(ParameterError, match="--in-place would turn uint8 into float32; write to another file with -o"):
        normalize_file(path, num_groups=3, in_place=True)
    with pytest.raises(ParameterError, match="--in-place would turn float32 into float16"):
        normalize_file(saved(tmp_path, images()), num_groups=3, in_place=True, dtype="float16")
    assert names(tmp_path) == ["x.h5", "x.npy"]


@pytest.mark.parametrize("output", [True, False])
@pytest.mark.parametrize("layout", ["NCHW", "CHW", "CNHW"])
def test_moments_are_saved_by_sample_and_group(tmp_path: Path, layout: str, output: bool) -> None:
    extents = {"N": 3, "C": 6, "H": 8, "W": 9}
    x = images(tuple(extents[letter] for letter in layout), "f8")
    out = str(tmp_path / "m.npz")
    normalize_file(
        saved(tmp_path, x),
        num_groups=2,
        layout=layout,
        save_moments=out,
        output=str(tmp_path / "y.npy") if output else None,
    )
    with np.load(out) as found:
        assert sorted(found) == ["mean", "rstd", "var"]
        axes = [layout.index(letter) for letter in "NC" if letter in layout]
        grouped = np.moveaxis(x, axes, range(len(axes))).reshape(3 if "N" in layout else 1, 2, -1)
        assert {array.dtype.str for array in found.values()} == {"<f8"}
        assert found["mean"].shape == found["var"].shape == found["rstd"].shape == grouped.shape[:2]
        np.testing.assert_allclose(found["mean"], grouped.mean(axis=2), rtol=1e-14)
        np.testing.assert_allclose(found["var"], grouped.var(axis=2), rtol=1e-13)
        np.testing.assert_allclose(found["rstd"], 1 / np.sqrt(grouped.var(axis=2) + 1e-5), rtol=1e-13)
    assert names(tmp_path) == ["m.npz", "x.npy", "y.npy"] if output else ["m.npz", "x.npy"]


def test_moments_are_not_saved_over_anything_that_is_in_use(tmp_path: Path) -> None:
    path = saved(tmp_path, images())
    with pytest.raises(ParameterError, match=r"choose FILE\.npz"):
        normalize_file(path, num_groups=3, save_moments=str(tmp_path / "m.npy"))
    kept = tmp_path / "m.npz"
    kept.write_bytes(b"kept")
    with pytest.raises(OutputError):
        normalize_file(path, num_groups=3, save_moments=str(kept))
    assert kept.read_bytes() == b"kept"
    output = tmp_path / "y.npy"
    os.link(kept, output)
    with pytest.raises(OutputError, match="is the output too; choose another name for one of them"):
        normalize_file(path, num_groups=3, save_moments=str(kept), output=str(output), force=True)
    assert output.read_bytes() == kept.read_bytes() == b"kept"
    assert names(tmp_path) == ["m.npz", "x.npy", "y.npy"]


def test_a_failed_check_leaves_no_file_and_says_so(tmp_path: Path) -> None:
    path, out = saved(tmp_path, images(dtype="f2")), str(tmp_path / "y.npy")
    moments = str(tmp_path / "m.npz")
    report = normalize_file(path, num_groups=3, gamma=60000.0, output=out, save_moments=moments)
    assert (report.status, report.output) == (1, None)
    assert check_of(report).overflowed > 0
    assert report.after.value("posinf") or report.after.value("neginf")
    assert names(tmp_path) == ["x.npy"]
    report = normalize_file(path, num_groups=3, gamma=60000.0, output=out, verify=False)  # who asks for it gets it
    assert (report.status, report.output) == (0, out)
    assert np.isinf(np.load(out)).any()


def test_a_failed_check_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images()
    path = saved(tmp_path, x)
    monkeypatch.setattr("gncli.run.normalization.check", lambda *args: Check(1, 2.0, 0.0))
    report = normalize_file(path, num_groups=3, in_place=True)
    assert (report.status, report.output) == (1, None)
    assert_same_bits(np.load(path), x)
    assert names(tmp_path) == ["x.npy"]


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, images())
    monkeypatch.setattr("gncli.run.normalization.check", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        normalize_file(path, num_groups=3, output=str(tmp_path / "y.npy"), save_moments=str(tmp_path / "m.npz"))
    assert names(tmp_path) == ["x.npy"]


def test_an_input_that_changed_while_it_was_normalized_gives_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, images())
    cells = Normalization.__iter__

    def touched(self: Any) -> Any:
        os.utime(path, ns=(1, 1))
        return cells(self)

    monkeypatch.setattr(Normalization, "__iter__", touched)
    with pytest.raises(ChangedError):
        normalize_file(path, num_groups=3, output=str(tmp_path / "y.npy"))
    assert names(tmp_path) == ["x.npy"]


def test_the_stages_of_the_walkthrough_have_their_shapes_and_statistics(tmp_path: Path) -> None:
    x = images()
    report = normalize_file(saved(tmp_path, x), num_groups=3, stages=True, gamma=2.0, output=str(tmp_path / "y.npy"))
    assert [(stage.name, stage.stats.shape) for stage in report.stages] == [
        ("input", (3, 6, 8, 9)),
        ("reshaped", (3, 3, 2, 8, 9)),
        ("mean", (3, 3, 1, 1, 1)),
        ("var", (3, 3, 1, 1, 1)),
        ("normalized", (3, 3, 2, 8, 9)),
        ("output", (3, 6, 8, 9)),
    ]
    entered, reshaped, means, variances, normalized, output = (stage.stats for stage in report.stages)
    grouped = x.astype(np.float64).reshape(3, 3, -1)
    assert entered.values == reshaped.values == report.before.values
    assert means.value("mean") == pytest.approx(grouped.mean(axis=2).mean(), rel=1e-13)
    assert variances.value("max") == pytest.approx(grouped.var(axis=2).max(), rel=1e-13)
    assert normalized.value("std") == pytest.approx(1, rel=1e-6)
    assert output.value("std") == pytest.approx(2, rel=1e-6)
    assert output == report.after


def test_the_article_divides_by_the_variance() -> None:
    draw = Draw((64, 16, 28, 28), seed=0)
    article = normalize_file(draw, num_groups=4, denominator="variance")
    assert article.after.value("mean") == pytest.approx(0, abs=1e-15)
    assert article.after.value("std") == pytest.approx(3.4637, abs=2e-3)
    assert article.after.value("max") == pytest.approx(6.07, abs=0.5)
    paper = normalize_file(draw, num_groups=4)
    assert paper.after.value("std") == pytest.approx(math.sqrt(1 / (1 + 12e-5)), rel=1e-6)
    assert article.seed is None
    assert isinstance(normalize_file(Draw((2, 4)), num_groups=2).seed, int)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_hdf5_output_holds_one_dataset_and_the_parameters(tmp_path: Path, order: Any) -> None:
    x = np.asarray(images(), order=order)
    out = str(tmp_path / "y.h5")
    report = normalize_file(saved(tmp_path, x), num_groups=3, output=out + "::a/y", gamma=2.0, workers=2, tile=1000)
    assert report.output == out + "::a/y"
    with h5py.File(out) as file:
        dataset = file["a/y"]
        assert_same_bits(dataset[:], group_norm(x, 3, gamma=2.0))
        assert dict(dataset.attrs) == {
            "num_groups": 3,
            "eps": 1e-5,
            "layout": "NCHW",
            "denominator": "std",
            "gamma": "2.0",
            "beta": "0.0",
        }


def test_a_nan_poisons_its_group_and_is_reported(tmp_path: Path) -> None:
    x = images()
    plain = group_norm(x, 3)
    x[1, 2, 3, 4] = math.nan
    out = str(tmp_path / "y.npy")
    report = normalize_file(saved(tmp_path, x), num_groups=3, output=out)
    y = np.load(out)
    assert np.isnan(y[1, 2:4]).all()
    y[1, 2:4] = plain[1, 2:4]
    assert_same_bits(y, plain)
    assert (check_of(report).nonfinite_groups, report.status) == (1, 0)
    assert (report.before.value("nan"), report.after.value("nan")) == (1, 144)


@pytest.mark.parametrize("shape", [(0, 6, 8), (3, 6, 0)])
def test_an_empty_tensor_gives_an_empty_output(tmp_path: Path, shape: tuple[int, ...]) -> None:
    out, moments = str(tmp_path / "y.npy"), str(tmp_path / "m.npz")
    report = normalize_file(
        saved(tmp_path, np.empty(shape)), num_groups=3, output=out, save_moments=moments, stages=True
    )
    assert np.load(out).shape == shape
    assert report.status == 0
    assert report.before.value("mean") is None
    assert report.after.value("max") is None
    with np.load(moments) as found:
        assert found["mean"].shape == (shape[0], 3)
    assert group_norm(np.empty(shape), 3).shape == shape


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_same_bytes_and_the_same_numbers_for_any_worker_and_tile(tmp_path: Path, workers: int) -> None:
    x = images((4, 6, 70, 71))
    path = saved(tmp_path, x)
    found = []
    for place, (count, tile) in enumerate(((workers, 1 << 16), (1, None), (3, 3000))):
        out = str(tmp_path / f"{place}.npy")
        report = normalize_file(path, num_groups=3, output=out, workers=count, tile=tile, stages=True, beta=1.0)
        document = (
            report.before.values,
            report.after.values,
            check_of(report),
            [s.stats.values for s in report.stages],
        )
        found.append((Path(out).read_bytes(), document))
    assert found[0] == found[1] == found[2]


# --- the Python API --------------------------------------------------------------------------------------------------


def test_the_package_offers_its_names() -> None:
    assert gncli.group_norm is group_norm
    assert gncli.get_stats is get_stats
    assert gncli.normalize_file is normalize_file
    assert set(gncli.__all__) <= set(dir(gncli))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gncli.nothing  # noqa: B018


def test_arrays_of_any_memory_order_are_normalized() -> None:
    x = images()
    y = group_norm(x, 3)
    assert_same_bits(y, oracle.rounded(oracle.group_norm(x, 3, "NCHW"), "f4"))
    fortran = group_norm(np.asfortranarray(x), 3)
    assert fortran.flags.f_contiguous
    assert_same_bits(fortran, y)
    strided = np.repeat(x, 2, axis=3)[..., ::2]
    assert not (strided.flags.c_contiguous or strided.flags.f_contiguous)
    assert_same_bits(group_norm(strided, 3), y)
    assert_same_bits(group_norm(x[::-1], 3), y[::-1])
    assert_same_bits(group_norm(x.transpose(0, 2, 3, 1), 3, layout="nhwc").transpose(0, 3, 1, 2), y)
    assert_same_bits(group_norm(x.tolist(), 3).astype("f4"), y)


def test_an_input_is_left_as_it_is() -> None:
    x = images()
    copy = x.copy()
    x.flags.writeable = False
    group_norm(x, 3, gamma=2.0)
    get_stats(x)
    assert_same_bits(x, copy)


def test_gamma_and_beta_are_numbers_or_one_a_channel() -> None:
    x = images()
    gamma, beta = np.random.default_rng(2).standard_normal((2, 6))
    expected = oracle.rounded(oracle.group_norm(x, 2, "NCHW", 1e-3, gamma, beta, "variance"), "f4")
    assert_same_bits(group_norm(x, 2, 1e-3, None, gamma, beta, "variance"), expected)
    assert_same_bits(group_norm(x, 2, gamma=2.0), group_norm(x, 2, gamma=np.full(6, 2.0)))
    with pytest.raises(ParameterError, match=r"gamma has shape \(3,\), and x needs \(6,\)"):
        group_norm(x, 2, gamma=np.ones(3))
    with pytest.raises(ParameterError, match=r"beta has shape \(1, 6\), and x needs \(6,\)"):
        group_norm(x, 2, beta=np.ones((1, 6)))


@pytest.mark.parametrize("values", [["a"], [1j], [None], np.array(["2020-01-01"], "M8[D]"), np.zeros(1, "i4,i4")])
def test_what_is_not_numeric_is_refused(values: Any) -> None:
    array = np.asarray(values)
    with pytest.raises(InputError):
        get_stats(array)
    with pytest.raises(InputError):
        group_norm(array, 1, layout="C")


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ParameterError, match="6 channels cannot be split into 4 groups; choose one of 1, 2, 3, 6"):
        group_norm(images(), 4)
    with pytest.raises(ParameterError, match="eps is nan"):
        group_norm(images(), 3, eps=math.nan)
    with pytest.raises(ParameterError, match="layout CHW has 3 letters, the tensor 4 axes"):
        group_norm(images(), 3, layout="CHW")


def test_statistics_read_as_the_lines_of_the_article() -> None:
    assert str(get_stats(np.array([[1.0, 2.0, 6.0]], np.float32))) == "\n".join(
        [
            "Object Type:  <class 'numpy.ndarray'>",
            "Shape:  (1, 3)",
            "Data Type:  float32",
            "Mean:  3.0",
            f"Standard Deviation:  {math.sqrt(14 / 3)}",
            "Min:  1.0",
            "Max:  6.0",
        ]
    )
    assert get_stats(np.array([True, False])).value("max") == 1
    assert get_stats(np.array(2**63, np.uint64)).value("max") == 2**63
    assert get_stats([1, 2, 3]).value("mean") == 2.0  # type: ignore[arg-type]
    assert get_stats(np.asfortranarray(images())).value("mean") == get_stats(images().T.copy()).value("mean")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"gamma": float("nan")}, "gamma is nan; give a finite number, or a tensor"),
        ({"beta": float("inf")}, "beta is inf; give a finite number, or a tensor"),
        ({"dtype": "int32"}, "int32 cannot hold the result; choose float16, float32 or float64"),
    ],
)
def test_what_cannot_make_a_result_is_refused(named: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    with pytest.raises(ParameterError) as error:
        normalize(str(tmp_path / "x.npy"), num_groups=2, **named)
    assert str(error.value) == said
