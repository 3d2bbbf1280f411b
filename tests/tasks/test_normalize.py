"""What `normalize` does to files, and what it says of them."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.api import group_norm, normalize_file
from gncli.errors import ChangedError, GncliError, InputError, OutputError, ParameterError
from gncli.inputs import Draw
from gncli.kernels.groupnorm import Check, output_float
from gncli.report.normalize_records import NormalizeReport
from gncli.run.normalization import Normalization
from tests import oracle
from tests.arrays import SHAPE, assert_same_bits, images
from tests.files import listed, write_npy
from tests.runs import normalize, stats

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
    (np.array([1, 2, math.nan, 4, 5, 6]), InputError, "{what} is nan for channel 2; all its values must be finite"),
    (np.array([1, 2, 3, 4, 5, -math.inf]), InputError, "{what} is -inf for channel 5; all its values must be finite"),
    (np.ones(6, complex), InputError, "complex numbers"),
]


def check_of(report: NormalizeReport) -> Check:
    assert report.check is not None
    return report.check


@pytest.mark.parametrize(("dtype", "made"), OUTPUT_DTYPES)
def test_the_output_has_the_dtype_of_a_floating_input_and_else_what_numpy_promotes_to(
    tmp_path: Path, dtype: str, made: str
) -> None:
    assert output_float(np.dtype(dtype)).dtype == np.dtype(made)
    x = images(dtype=dtype) if dtype != "?" else images() > 50
    out = str(tmp_path / "y.npy")
    report = normalize_file(write_npy(tmp_path, x), num_groups=3, output=out)
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
    normalize_file(write_npy(tmp_path, x), num_groups=3, output=out, dtype=dtype)
    assert np.load(out).dtype == np.dtype(dtype)
    np.testing.assert_allclose(np.load(out), oracle.group_norm(x, 3, "NCHW").astype(float), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_output_lies_in_memory_as_the_input_does(tmp_path: Path, order: Any) -> None:
    x = np.asarray(images(), order=order)
    out = str(tmp_path / "y.npy")
    normalize_file(write_npy(tmp_path, x), num_groups=3, output=out, workers=3, tile=500)
    assert np.load(out).flags.f_contiguous == (order == "F")
    assert_same_bits(np.load(out), group_norm(images(), 3))


def test_the_report_says_what_was_done(tmp_path: Path) -> None:
    x = images()
    path, out = write_npy(tmp_path, x), str(tmp_path / "y.npy")
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
        "interleaved": False,
        "cells": [3, 3],
        "over": None,
        "rms": False,
        "mean": None,
        "var": None,
        "gamma_axes": None,
        "gamma_per_group": False,
        "gamma_offset": 0.0,
        "round_before_affine": False,
        "activation": None,
        "overflow": None,
    }
    y = np.load(out)
    assert report.before.value("mean") == pytest.approx(x.astype(float).mean(), rel=1e-13)
    assert report.after.value("std") == pytest.approx(y.astype(float).std(), rel=1e-12)
    assert (report.before.name, report.after.name) == (path, out)
    assert check_of(report).groups == 9
    assert check_of(report).ok
    assert listed(tmp_path) == ["x.npy", "y.npy"]


def test_without_an_output_the_report_is_a_dry_run(tmp_path: Path) -> None:
    report = normalize_file(write_npy(tmp_path, images()), num_groups=3)
    assert (report.output, report.after.name, report.status) == (None, "", 0)
    assert listed(tmp_path) == ["x.npy"]


def test_without_verifying_there_is_no_check(tmp_path: Path) -> None:
    report = normalize_file(write_npy(tmp_path, images()), num_groups=3, verify=False)
    assert (report.check, report.status) == (None, 0)
    with_stages = normalize_file(write_npy(tmp_path, images()), num_groups=3, verify=False, stages=True, gamma=5.0)
    assert with_stages.check is None
    assert with_stages.stages[4].stats.value("std") == pytest.approx(1, rel=1e-3)


def test_zeros_are_counted_before_and_after(tmp_path: Path) -> None:
    report = normalize_file(write_npy(tmp_path, np.zeros((2, 4, 5))), num_groups=2, zeros=True)
    assert (report.before.value("zeros"), report.after.value("zeros")) == (40, 40)


def test_gamma_and_beta_come_from_files(tmp_path: Path) -> None:
    x = images()
    gamma, beta = np.random.default_rng(1).standard_normal((2, 6)).astype("f4")
    container = str(tmp_path / "p.h5")
    with h5py.File(container, "w") as file:
        file["norm/gamma"], file["norm/beta"] = gamma, beta.astype(">f8")
    out = str(tmp_path / "y.npy")
    path = write_npy(tmp_path, x)
    report = normalize_file(
        path, num_groups=3, output=out, gamma=f"{container}::norm/gamma", beta=f"{container}::/norm/beta"
    )
    expected = oracle.rounded(oracle.group_norm(x, 3, "NCHW", gamma=gamma, beta=beta), "f4")
    assert_same_bits(np.load(out), expected)
    assert report.parameters.gamma == f"{container}::norm/gamma"
    normalize_file(path, num_groups=3, output=out, force=True, gamma=write_npy(tmp_path, gamma, "g.npy"), beta=0.5)
    assert_same_bits(np.load(out), group_norm(x, 3, gamma=gamma, beta=0.5))


@pytest.mark.parametrize("what", ["gamma", "beta"])
@pytest.mark.parametrize(("values", "error", "sentence"), WRONG_AFFINE)
def test_gamma_and_beta_that_do_not_fit_are_refused(
    tmp_path: Path, what: str, values: NDArray[Any], error: type[GncliError], sentence: str
) -> None:
    given = write_npy(tmp_path, values, "g.npy")
    affine: dict[str, Any] = {what: given}
    with pytest.raises(error) as caught:
        normalize_file(write_npy(tmp_path, images()), num_groups=3, output=str(tmp_path / "y.npy"), **affine)
    assert caught.value.subject == given
    assert sentence.format(what=what) in str(caught.value)
    assert listed(tmp_path) == ["g.npy", "x.npy"]


def test_parameters_that_do_not_fit_name_the_tensor(tmp_path: Path) -> None:
    path = write_npy(tmp_path, np.ones((2, 16, 3)))
    with pytest.raises(ParameterError) as caught:
        normalize_file(path, num_groups=5)
    assert str(caught.value) == f"{path}: 16 channels cannot be split into 5 groups; choose one of 1, 2, 4, 8, 16"
    with pytest.raises(ParameterError, match="eps is -1"):
        normalize_file(path, eps=-1.0)


def test_a_file_is_normalized_in_place(tmp_path: Path) -> None:
    x = images()
    path = write_npy(tmp_path, x)
    report = normalize_file(path, num_groups=3, in_place=True)
    assert report.output == path
    assert_same_bits(np.load(path), group_norm(x, 3))
    assert listed(tmp_path) == ["x.npy"]


def test_a_failed_check_of_a_dry_run_is_reported(tmp_path: Path) -> None:
    report = normalize_file(write_npy(tmp_path, images(dtype="f2")), num_groups=3, gamma=60000.0)
    assert (report.status, report.output) == (1, None)
    assert listed(tmp_path) == ["x.npy"]


def test_what_was_streamed_to_standard_output_stays_there_when_the_check_fails(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    x = images(dtype="f2")
    report = normalize_file(write_npy(tmp_path, x), num_groups=3, gamma=60000.0, output="-")
    assert (report.status, report.output) == (1, "-")
    streamed = np.load(io.BytesIO(capfdbinary.readouterr().out))
    assert_same_bits(streamed, group_norm(x, 3, gamma=60000.0))


def test_only_a_npy_of_the_same_dtype_is_normalized_in_place(tmp_path: Path) -> None:
    container = str(tmp_path / "x.h5")
    with h5py.File(container, "w") as file:
        file["x"] = images()
    for tensor in (container, Draw(SHAPE)):
        with pytest.raises(
            ParameterError, match=r"in_place=True needs a \.npy file; write to another file with output"
        ):
            normalize_file(tensor, num_groups=3, in_place=True)
    path = write_npy(tmp_path, images(dtype="u1"))
    with pytest.raises(
        ParameterError, match="in_place=True would turn uint8 into float32; write to another file with output"
    ):
        normalize_file(path, num_groups=3, in_place=True)
    with pytest.raises(ParameterError, match="in_place=True would turn float32 into float16"):
        normalize_file(write_npy(tmp_path, images()), num_groups=3, in_place=True, dtype="float16")
    assert listed(tmp_path) == ["x.h5", "x.npy"]


@pytest.mark.parametrize("output", [True, False])
@pytest.mark.parametrize("layout", ["NCHW", "CHW", "CNHW"])
def test_moments_are_saved_by_sample_and_group(tmp_path: Path, layout: str, output: bool) -> None:
    extents = {"N": 3, "C": 6, "H": 8, "W": 9}
    x = images(tuple(extents[letter] for letter in layout), "f8")
    out = str(tmp_path / "m.npz")
    normalize_file(
        write_npy(tmp_path, x),
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
    assert listed(tmp_path) == ["m.npz", "x.npy", "y.npy"] if output else ["m.npz", "x.npy"]


def test_moments_are_not_saved_over_anything_that_is_in_use(tmp_path: Path) -> None:
    path = write_npy(tmp_path, images())
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
    assert listed(tmp_path) == ["m.npz", "x.npy", "y.npy"]


def test_a_failed_check_leaves_no_file_and_says_so(tmp_path: Path) -> None:
    path, out = write_npy(tmp_path, images(dtype="f2")), str(tmp_path / "y.npy")
    moments = str(tmp_path / "m.npz")
    report = normalize_file(path, num_groups=3, gamma=60000.0, output=out, save_moments=moments)
    assert (report.status, report.output) == (1, None)
    assert check_of(report).overflowed > 0
    assert report.after.value("posinf") or report.after.value("neginf")
    assert listed(tmp_path) == ["x.npy"]
    report = normalize_file(path, num_groups=3, gamma=60000.0, output=out, verify=False)  # who asks for it gets it
    assert (report.status, report.output) == (0, out)
    assert np.isinf(np.load(out)).any()


def test_a_failed_check_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images()
    path = write_npy(tmp_path, x)
    monkeypatch.setattr("gncli.run.normalization.check", lambda *args: Check(1, 2.0, 0.0))
    report = normalize_file(path, num_groups=3, in_place=True)
    assert (report.status, report.output) == (1, None)
    assert_same_bits(np.load(path), x)
    assert listed(tmp_path) == ["x.npy"]


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npy(tmp_path, images())
    monkeypatch.setattr("gncli.run.normalization.check", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        normalize_file(path, num_groups=3, output=str(tmp_path / "y.npy"), save_moments=str(tmp_path / "m.npz"))
    assert listed(tmp_path) == ["x.npy"]


def test_an_input_that_changed_while_it_was_normalized_gives_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npy(tmp_path, images())
    cells = Normalization.__iter__

    def touched(self: Any) -> Any:
        os.utime(path, ns=(1, 1))
        return cells(self)

    monkeypatch.setattr(Normalization, "__iter__", touched)
    with pytest.raises(ChangedError):
        normalize_file(path, num_groups=3, output=str(tmp_path / "y.npy"))
    assert listed(tmp_path) == ["x.npy"]


def test_the_stages_of_the_walkthrough_have_their_shapes_and_statistics(tmp_path: Path) -> None:
    x = images()
    report = normalize_file(
        write_npy(tmp_path, x), num_groups=3, stages=True, gamma=2.0, output=str(tmp_path / "y.npy")
    )
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
    report = normalize_file(write_npy(tmp_path, x), num_groups=3, output=out + "::a/y", gamma=2.0, workers=2, tile=1000)
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
    report = normalize_file(write_npy(tmp_path, x), num_groups=3, output=out)
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
        write_npy(tmp_path, np.empty(shape)), num_groups=3, output=out, save_moments=moments, stages=True
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
    path = write_npy(tmp_path, x)
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


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"gamma": float("nan")}, "gamma is nan; give a finite number, or a tensor"),
        ({"beta": float("inf")}, "beta is inf; give a finite number, or a tensor"),
        (
            {"dtype": "int32"},
            "int32 cannot hold the result; choose float16, float32, float64, bfloat16, float8_e4m3fn or float8_e5m2",
        ),
    ],
)
def test_what_cannot_make_a_result_is_refused(named: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    with pytest.raises(ParameterError) as error:
        normalize(str(tmp_path / "x.npy"), num_groups=2, **named)
    assert str(error.value) == said


def test_a_default_layout_is_doubted_in_a_note_where_the_last_axis_looks_like_channels(tmp_path: Path) -> None:
    path = write_npy(tmp_path, np.arange(2 * 14 * 14 * 64, dtype="f4").reshape(2, 14, 14, 64))
    note = f"{path}: the layout is NCHW by default: if the channels are last, say --layout NHWC"
    assert normalize(path, num_groups=2).notes == stats([path], by="C").notes == (note,)
    assert stats([path], by="group", num_groups=2).notes == (note,)
    assert (
        normalize(path, num_groups=2, layout="NCHW").notes == stats([path], by="1").notes == stats([path]).notes == ()
    )
    assert stats([path], by="C", layout="NCHW").notes == ()


@pytest.mark.parametrize("given", [None, (0.5, 4.0)])
def test_float64_after_a_smooth_activation_is_proved_and_says_so(
    tmp_path: Path, given: tuple[float, float] | None
) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 50))
    np.save(tmp_path / "x.npy", x)
    norm: dict[str, Any] = {"layout": "NCL"} | ({"num_groups": 2} if given is None else {"given": True})
    path = str(tmp_path / "x.npy")
    mean, var = given or (None, None)
    y = group_norm(x, 2 if given is None else None, mean=mean, var=var, layout="NCL", activation="silu")
    u = group_norm(x, 2 if given is None else None, mean=mean, var=var, layout="NCL")
    assert np.abs(y - u / (1 + np.exp(-u))).max() < 1e-15
    report = normalize(path, activation="silu", mean=mean, var=var, **norm)
    assert (check_of(report).proved, check_of(report).settled) == (x.size, 0)
