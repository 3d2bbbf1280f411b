"""`gncli explain`: every convention, alone and in pairs, is named from an output that longhand NumPy makes with it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.commands.explain import explain
from gncli.errors import InputError, LimitError, ParameterError
from gncli.kernels.conventions import Convention
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import GroupNorm
from gncli.report.explain_records import ExplainReport
from gncli.tasks import explain as task
from gncli.tasks.explain import ExplainRun
from gncli.tasks.requests import Execution, Explain
from tests.marks import slow_but

FAULTS: dict[str, dict[str, Any]] = {
    "eps 0.001": {"eps": 1e-3},
    "eps 0": {"eps": 0.0},
    "2 groups": {"groups": 2},
    "1 group": {"groups": 1},
    "8 groups": {"groups": 8},
    "interleaved groups": {"interleaved": True},
    "division by var + eps without the root": {"root": False},
    "N - 1 for N in the variance": {"ddof": 1},
    "no gamma": {"scale": "1"},
    "no beta": {"shift": "0"},
    "gamma and beta swapped": {"scale": "beta", "shift": "gamma"},
    "1 + gamma for gamma": {"scale": "1 + gamma"},
    "a rounding before gamma and beta": {"rounded": True},
    "the statistics of the batch": {"over": "batch"},
    "the statistics over C at each position": {"over": "position"},
    "relu at the end": {"activation": "relu"},
    "silu at the end": {"activation": "silu"},
    "gelu at the end": {"activation": "gelu"},
    "gelu-tanh at the end": {"activation": "gelu-tanh"},
}
"""What longhand NumPy does, by what explain says of it."""

OPTIONS = {
    "eps 0.001": "--eps 0.001",
    "2 groups": "--groups 2",
    "interleaved groups": "--interleaved",
    "division by var + eps without the root": "--denominator variance",
    "N - 1 for N in the variance": None,
    "no gamma": "--gamma 1",
    "1 + gamma for gamma": "--gamma-offset 1",
    "a rounding before gamma and beta": "--round-before-affine",
    "the statistics over C at each position": "--over C",
    "silu at the end": "--activation silu",
}

LAYOUTS = {"torch": "NCHW", "keras": "NHWC"}


def tensor(layout: str = "NCHW", seed: int = 0, channels: int = 8) -> NDArray[Any]:
    """Return float32 activations whose samples and channels have deviations of 0.05 to 3."""
    rng = np.random.default_rng(seed)
    cells = (3, channels, 1, 1)
    x = rng.normal(size=(3, channels, 6, 7)) * rng.uniform(0.05, 3, cells) + rng.normal(size=cells)
    return np.ascontiguousarray(np.einsum(f"NCHW->{layout}", x.astype(np.float32)))


GAMMA = np.random.default_rng(1).uniform(0.5, 1.5, 8).astype(np.float32)
BETA = np.random.default_rng(2).normal(size=8).astype(np.float32)


def activated(u: NDArray[Any], activation: str) -> NDArray[Any]:
    """Return what follows the norm, in longhand."""
    if activation == "relu":
        return np.where(u > 0, u, 0)
    if activation == "silu":
        return np.asarray(u / (1 + np.exp(-u)))
    if activation == "gelu":
        return np.asarray(u * (1 + np.reshape([math.erf(value / 2**0.5) for value in u.flat], u.shape)) / 2)
    if activation == "gelu-tanh":
        return np.asarray(u * (1 + np.tanh((2 / np.pi) ** 0.5 * (u + 0.044715 * u * u * u))) / 2)
    return u


def made(
    x: NDArray[Any],
    layout: str,
    *,
    groups: int = 4,
    eps: float = 1e-5,
    interleaved: bool = False,
    root: bool = True,
    ddof: int = 0,
    scale: str = "gamma",
    shift: str = "beta",
    rounded: bool = False,
    over: str = "group",
    activation: str = "",
    dtype: str = "float32",
) -> NDArray[Any]:
    """Return an output in longhand."""
    wide = np.einsum(f"{layout}->NCHW", x.astype(np.float64))
    n, c, h, w = wide.shape
    axes: tuple[int, ...]
    if over == "batch":
        cells, axes = wide, (0, 2, 3)
    elif over == "position":
        cells, axes = wide, (1,)
    elif interleaved:
        cells, axes = wide.reshape(n, c // groups, groups, h, w), (1, 3, 4)
    else:
        cells, axes = wide.reshape(n, groups, c // groups, h, w), (2, 3, 4)
    total = cells.var(axes, keepdims=True, ddof=ddof) + eps
    z = ((cells - cells.mean(axes, keepdims=True)) / (np.sqrt(total) if root else total)).reshape(wide.shape)
    if rounded:
        z = z.astype(dtype).astype(np.float64)
    gamma, beta = (np.resize(values, c).astype(np.float64)[:, None, None] for values in (GAMMA, BETA))
    factors = {"gamma": gamma, "beta": beta, "1 + gamma": 1 + gamma, "1": 1.0, "0": 0.0}
    u = z * factors[scale] + factors[shift]
    y = activated(u, activation)
    return np.ascontiguousarray(np.einsum(f"NCHW->{layout}", y)).astype(dtype)


def explained(
    folder: Path, y: NDArray[Any], given: NDArray[Any], *, affine: bool = True, is_input: bool = True, **norm: Any
) -> ExplainReport:
    """Return the report about `y`, with 4 groups and eps 1e-5 unless `norm` says otherwise."""
    for name, array in {"y": y, "x": given, "gamma": GAMMA, "beta": BETA}.items():
        np.save(folder / f"{name}.npy", array)
    request = Explain(
        y=str(folder / "y.npy"),
        given=str(folder / "x.npy"),
        is_input=is_input,
        norm=GroupNorm(**{"num_groups": 4} | norm),
        gamma=str(folder / "gamma.npy") if affine else 1.0,
        beta=str(folder / "beta.npy") if affine else 0.0,
        execution=Execution(workers=1),
    )
    with ExplainRun(request) as run:
        return run.report()


def all_words(report: ExplainReport) -> list[str]:
    """Return in words what explains the output: one hypothesis, and those that the data cannot tell from it."""
    return [one.words for one in report.hypotheses if one.explains]


def words(report: ExplainReport) -> str:
    """Return the explanation in words, and fail if there is none."""
    assert report.found is not None, [(one.words, one.outside) for one in report.hypotheses]
    assert report.found.size == math.prod(report.y.shape)
    assert report.status == 0
    return report.found.words


def dtype_for(*faults: str) -> str:
    """Return the dtype of an output that shows the faults: a rounding to float32 is lost in float32 arithmetic."""
    return "float16" if "a rounding before gamma and beta" in faults else "float32"


@pytest.mark.parametrize("framework", slow_but(LAYOUTS, "keras"))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, framework: str, tmp_path: Path) -> None:
    layout = LAYOUTS[framework]
    x = tensor(layout)
    report = explained(tmp_path, made(x, layout, dtype=dtype_for(fault), **FAULTS[fault]), x, layout=layout)
    assert fault in all_words(report)
    assert words(report) == fault or fault == "eps 0"  # which is eps 1e-12 on these data
    assert report.found is not None
    assert report.found.rounding <= 0.5
    assert report.found.options == OPTIONS.get(fault, report.found.options)


def compatible(one: str, two: str) -> bool:
    """Return whether two faults do not contradict each other."""
    merged = [*FAULTS[one], *FAULTS[two]]
    cells = {"groups", "interleaved", "over"}
    return len(set(merged)) == len(merged) and not ("over" in merged and len(cells & set(merged)) > 1)


PAIRS = [pair for pair in itertools.combinations(FAULTS, 2) if compatible(*pair)]
HIDDEN = {"1 group, interleaved groups": "1 group", "8 groups, interleaved groups": "8 groups"}
"""Pairs of which one has no effect beside the other."""


@pytest.mark.parametrize(
    "pair", slow_but([(pair,) for pair in PAIRS], *((pair,) for pair in PAIRS[::15])), ids=" and ".join
)
def test_a_pair_of_faults_is_named(pair: tuple[str, str], tmp_path: Path) -> None:
    layout = ("NCHW", "NHWC")[PAIRS.index(pair) % 2]
    x = tensor(layout)
    y = made(x, layout, dtype=dtype_for(*pair), **FAULTS[pair[0]], **FAULTS[pair[1]])
    wanted = HIDDEN.get(", ".join(pair), ", ".join(pair))
    assert set(wanted.split(", ")) in [
        set(said.split(", ")) for said in all_words(explained(tmp_path, y, x, layout=layout))
    ]


@pytest.mark.parametrize(("asked", "other"), [("NCHW", "NHWC"), ("NHWC", "NCHW")])
def test_another_layout_is_named(asked: str, other: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(3, 8, 6, 8)).astype(np.float32)
    x *= np.random.default_rng(4).uniform(0.1, 2, (3, 8, 1, 8)).astype(np.float32)
    report = explained(tmp_path, made(x, other), x, layout=asked)
    assert words(report) == f"layout {other}"
    report = explained(tmp_path, made(x, other, eps=1e-3), x, layout=asked)
    assert words(report) == f"eps 0.001, layout {other}"


def test_without_a_batch_axis_there_are_two_layouts(tmp_path: Path) -> None:
    x = tensor()[0][:, :, :6]
    y = made(np.ascontiguousarray(x.transpose(2, 0, 1))[None], "NCHW", groups=2, scale="1", shift="0")[0].transpose(
        1, 2, 0
    )
    report = explained(tmp_path, np.ascontiguousarray(y), x, affine=False, layout="CHW", num_groups=2)
    assert words(report) == "layout HWC"


def test_the_mlx_default_against_keras(tmp_path: Path) -> None:
    x = tensor("NHWC")
    report = explained(tmp_path, made(x, "NHWC", interleaved=True, eps=1e-3), x, layout="NHWC")
    assert words(report) == "eps 0.001, interleaved groups"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_was_asked_for_is_no_fault(dtype: str, tmp_path: Path) -> None:
    x = tensor()
    report = explained(tmp_path, made(x, "NCHW", dtype=dtype), x)
    assert words(report) == ""
    assert report.found is not None and report.found.options == ""


@pytest.mark.parametrize("eps", slow_but([0.02, 0.0123, 3e-4], 0.0123))
@pytest.mark.parametrize("companion", ["", "silu at the end", "N - 1 for N in the variance"])
def test_an_unusual_eps_is_fitted(eps: float, companion: str, tmp_path: Path) -> None:
    x = tensor()
    report = explained(tmp_path, made(x, "NCHW", eps=eps, **FAULTS.get(companion, {})), x)
    assert words(report) == ", ".join(filter(None, [f"eps {eps!r}", companion]))


def test_what_data_cannot_tell_apart_is_named(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 8, 6, 7)).astype(np.float32)  # of unit variance
    y = made(x, "NCHW", eps=1e-6, scale="1", shift="0", dtype="float16")
    report = explained(tmp_path, y, x, affine=False)
    assert words(report) == ""
    assert {"eps 1e-06", "eps 1e-12", "eps 0"} <= set(all_words(report))
    assert "eps 0.001" not in all_words(report)
    report = explained(tmp_path, y, x, affine=False, eps=1e-3)
    assert {"eps 1e-05", "eps 1e-06"} <= set(all_words(report))


def test_what_no_convention_explains_is_listed_by_its_distance(tmp_path: Path) -> None:
    x = tensor()
    report = explained(tmp_path, made(x, "NCHW", eps=1e-3) + np.float32(0.01), x)
    assert report.status == 1 and report.found is None
    assert len(report.hypotheses) == task.NEAREST
    assert "eps" in report.hypotheses[0].words
    assert [one.rmse for one in report.hypotheses] == sorted(one.rmse for one in report.hypotheses)
    assert report.hypotheses[0].outside > 0.9 * x.size
    assert report.tried > 200


def test_one_wrong_element_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "SAMPLE", 256)  # so that the sample does not hold it
    x = tensor()
    y = made(x, "NCHW", eps=1e-3)
    y[1, 2, 3, 4] += 1e-3
    report = explained(tmp_path, y, x)
    assert report.status == 1
    assert report.hypotheses[0].words == "eps 0.001"
    assert report.hypotheses[0].outside == 1
    assert report.hypotheses[0].max_abs == pytest.approx(1e-3, rel=1e-2)


def test_the_best_of_a_sample_need_not_be_the_best_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "SAMPLE", 128)
    x = np.ones((8, 8, 6, 8), np.float32) + tensor(seed=5)[:1, :, :, :1] * 0
    x[-1] = np.random.default_rng(0).normal(size=(8, 6, 8))
    report = explained(tmp_path, made(x, "NCHW", eps=1e-3), x)
    assert "eps 0.001" in all_words(report)


def test_nan_and_overflow_are_where_they_belong(tmp_path: Path) -> None:
    x = tensor()
    x[0, 0, 0, 0], x[1, 3, 2, 2] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        assert words(explained(tmp_path, made(x, "NCHW", groups=2), x)) == "2 groups"
    spike = np.zeros((2, 8, 64, 64), np.float32)
    spike[:, :, 0, 0] = 1e-3
    with np.errstate(over="ignore"):
        y = made(spike, "NCHW", eps=1e-12, root=False, dtype="float16")
    assert np.isinf(y).any()
    report = explained(tmp_path, y, spike, denominator="variance", eps=1e-12)
    assert "" in all_words(report)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2"])
def test_an_output_of_a_dtype_that_numpy_lacks_is_explained(dtype: str, tmp_path: Path) -> None:
    kind, x = FLOATS[dtype], tensor()
    np.save(tmp_path / "x.npy", x)
    y = np.empty(x.shape, np.float32)
    kind.round_into(np.asarray(made(x, "NCHW", eps=0.1, scale="1", shift="0", dtype="float64")), y)
    bits = np.empty(x.shape, kind.stored)
    kind.narrow(y, bits)
    name = {"bfloat16": "BF16", "float8_e5m2": "F8_E5M2"}[dtype]
    header = json.dumps({"y": {"dtype": name, "shape": list(x.shape), "data_offsets": [0, bits.nbytes]}}).encode()
    (tmp_path / "y.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    request = Explain(
        y=str(tmp_path / "y.safetensors"), given=str(tmp_path / "x.npy"), is_input=True, norm=GroupNorm(4)
    )
    with ExplainRun(request) as run:
        report = run.report()
    assert report.y.dtype == dtype
    assert "eps 0.1" in all_words(report)


def test_a_saturated_output_is_explained(tmp_path: Path) -> None:
    x = tensor()
    y = made(x, "NCHW", scale="1", shift="0", dtype="float64") * 1e5
    report = explained(
        tmp_path, np.clip(y, -65504, 65504).astype(np.float16), (x * 1e5).astype(np.float32), affine=False
    )
    assert report.status == 1  # it is 1e5 times what was asked for
    factor = np.full(8, 1e5)
    np.save(tmp_path / "factor.npy", factor)
    np.save(tmp_path / "y.npy", np.clip(y, -65504, 65504).astype(np.float16))
    np.save(tmp_path / "x.npy", x)
    for gamma in (str(tmp_path / "factor.npy"), 1e5):
        request = Explain(
            y=str(tmp_path / "y.npy"), given=str(tmp_path / "x.npy"), is_input=True, norm=GroupNorm(4), gamma=gamma
        )
        with ExplainRun(request) as run:
            assert words(run.report()) == ""


def test_a_default_layout_that_may_be_wrong_is_noted(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 16)).astype(np.float32)
    report = explained(tmp_path, x, x, affine=False, num_groups=1)
    assert [note for note in report.notes if "the layout is NCHW by default" in note]


def test_every_option_of_the_norm_is_what_was_asked_for() -> None:
    """A new option of the formula is a field of the convention, or explain would ignore it."""
    fields = {"num_groups": "groups", "group_size": "groups"}
    known = {fields.get(field.name, field.name) for field in dataclasses.fields(GroupNorm)}
    assert known - {"rms", "given"} <= set(Convention._fields)
    offered = {name for parameter in explain.params for name in parameter.opts}
    assert not {"--over", "--rms", "--mean", "--var"} & offered


@pytest.mark.parametrize("is_input", [True, False])
@pytest.mark.parametrize("channels", [8, 1])
@pytest.mark.parametrize(("ours", "theirs"), [("NCHW", "NHWC"), ("NHWC", "NCHW")])
def test_tensors_of_two_layouts_are_compared_by_their_letters(
    ours: str, theirs: str, channels: int, is_input: bool, tmp_path: Path
) -> None:
    x = tensor(ours, channels=channels)
    y = made(x, ours, eps=0.1, groups=channels, scale="1", shift="0")
    given = x if is_input else made(x, ours, groups=channels, scale="1", shift="0")
    y = np.ascontiguousarray(np.einsum(f"{ours}->{theirs}", y))
    report = explained(tmp_path, y, given, is_input=is_input, affine=False, layout=ours, num_groups=channels)
    assert "eps 0.1" in all_words(report)
    assert f"are taken as {ours}, and those of " in report.notes[0] and report.notes[0].endswith(f" as {theirs}")


def test_memory_orders_and_byte_orders_do_not_matter(tmp_path: Path) -> None:
    x = tensor()
    y = made(x, "NCHW", eps=1e-3)
    for one, two in itertools.product((x, np.asfortranarray(x), x.astype(">f4")), (y, np.asfortranarray(y))):
        assert words(explained(tmp_path, two, one)) == "eps 0.001"


def test_constant_groups_and_integers_are_inputs_too(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 200, (3, 8, 6, 7)).astype(np.uint8)
    x[1] = 7
    assert words(explained(tmp_path, made(x, "NCHW", groups=2), x)) == "2 groups"


# Two outputs.

UNSEEN = ("a rounding before gamma and beta", "the statistics over C at each position")


@pytest.mark.parametrize("fault", slow_but([fault for fault in FAULTS if fault not in UNSEEN], "2 groups"))
def test_a_fault_is_named_from_two_outputs(fault: str, tmp_path: Path) -> None:
    layout = ("NCHW", "NHWC")[list(FAULTS).index(fault) % 2]
    x = tensor(layout)
    report = explained(tmp_path, made(x, layout, **FAULTS[fault]), made(x, layout), is_input=False, layout=layout)
    assert words(report) == fault or (fault == "eps 0" and fault in all_words(report))


@pytest.mark.parametrize(("asked", "other"), [("NCHW", "NHWC"), ("NHWC", "NCHW")])
def test_another_layout_is_named_from_two_outputs(asked: str, other: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(3, 8, 16, 8)).astype(np.float32)
    x *= np.random.default_rng(4).uniform(0.1, 2, (3, 8, 1, 8)).astype(np.float32)
    report = explained(tmp_path, made(x, other), made(x, asked), is_input=False, layout=asked)
    assert words(report) == f"layout {other}"


NO_ROOT = "division by var + eps without the root"
NOT_INSIDE = {NO_ROOT, "1 group", "2 groups", "interleaved groups", "the statistics of the batch"}
ALIKE = {("eps 0.001", NO_ROOT), ("eps 0", NO_ROOT), (NO_ROOT, "N - 1 for N in the variance")}
"""What two outputs do not show: an activation after the first ones, and the second fault of each of the pairs."""


def seen(one: str, two: str) -> bool:
    """Return whether two outputs show a pair of faults."""
    activated = "activation" in FAULTS[two]
    return not {one, two} & {*UNSEEN} and not (activated and one in NOT_INSIDE) and (one, two) not in ALIKE


SEEN = [pair for pair in PAIRS if seen(*pair)]


@pytest.mark.slow
@pytest.mark.parametrize("pair", slow_but(zip(SEEN[::4]), *zip(SEEN[::40])), ids=" and ".join)
def test_a_pair_of_faults_is_named_from_two_outputs(pair: tuple[str, str], tmp_path: Path) -> None:
    layout = ("NCHW", "NHWC")[SEEN.index(pair) // 4 % 2]
    x = tensor(layout)
    y = made(x, layout, **FAULTS[pair[0]], **FAULTS[pair[1]])
    report = explained(tmp_path, y, made(x, layout), is_input=False, layout=layout)
    wanted = HIDDEN.get(", ".join(pair), ", ".join(pair))
    assert set(wanted.split(", ")) in [set(said.split(", ")) for said in all_words(report)]


def test_a_gamma_of_0_is_refused_from_two_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    x = tensor()
    monkeypatch.setitem(globals(), "GAMMA", np.where(np.arange(8) == 3, 0, GAMMA))
    y = made(x, "NCHW", eps=1e-3)
    assert words(explained(tmp_path, y, x)) == "eps 0.001"
    with pytest.raises(ParameterError, match=r"gamma is 0 for channel 3, so .*x.npy does not show its input"):
        explained(tmp_path, y, made(x, "NCHW"), is_input=False)
    assert capfd.readouterr() == ("", "")


def test_outputs_of_half_precision_are_explained_as_far_as_they_go(tmp_path: Path) -> None:
    x = tensor()
    reference = made(x, "NCHW", dtype="float16")
    report = explained(tmp_path, made(x, "NCHW", groups=2, dtype="float16"), reference, is_input=False)
    assert words(report) == "2 groups"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("activation", ["", "relu"])
def test_the_means_of_outputs_are_known_to_their_rounding(dtype: str, activation: str, tmp_path: Path) -> None:
    x = np.random.default_rng(9).normal(size=(2, 8, 20, 20)).astype(np.float32)
    plain: dict[str, Any] = {"scale": "1", "shift": "0", "dtype": dtype}
    reference = made(x, "NCHW", **plain)
    report = explained(
        tmp_path, made(x, "NCHW", activation=activation, **plain), reference, is_input=False, affine=False
    )
    assert words(report) == (f"{activation} at the end" if activation else "")
    report = explained(
        tmp_path, made(x, "NCHW", eps=1e-6, activation=activation, **plain), reference, is_input=False, affine=False
    )
    rivals = {"float16": {"", "eps 1e-06"}, "float32": {"eps 1e-06"}}[dtype]
    wanted = {", ".join(filter(None, [one, activation and f"{activation} at the end"])) for one in rivals}
    assert wanted & set(all_words(report)), "eps 1e-5 and 1e-6 on unit variance: float16 cannot tell them apart"
    assert ("" in all_words(report)) is (dtype == "float16" and not activation)


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_a_reference_may_have_divided_by_the_variance(eps: float, tmp_path: Path) -> None:
    x = tensor()
    reference = made(x, "NCHW", root=False, eps=eps)
    report = explained(tmp_path, made(x, "NCHW", eps=eps), reference, is_input=False, denominator="variance", eps=eps)
    assert words(report) == "division by the root of var + eps"


# What cannot be explained.


@pytest.mark.parametrize(
    ("y", "given", "options", "error", "said"),
    [
        (np.zeros((2, 8, 3), "f4"), np.zeros((2, 8, 4), "f4"), {}, ParameterError, "has shape (2, 8, 3), and "),
        (np.zeros((2, 8, 3), "i4"), np.zeros((2, 8, 3), "f4"), {}, InputError, "holds int32, and the output"),
        (np.zeros((2, 8, 3)), np.zeros((2, 8, 3), "i4"), {"is_input": False}, InputError, "holds int32, and the"),
        (np.zeros((0, 8, 3)), np.zeros((0, 8, 3)), {}, InputError, "has no elements"),
        (np.zeros((2, 8, 3)), np.zeros((2, 8, 3)), {"num_groups": 3}, ParameterError, "cannot be split into 3 groups"),
        (np.zeros((2, 4, 3)), np.zeros((2, 4, 3)), {}, ParameterError, "gamma has shape (8,)"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    y: NDArray[Any], given: NDArray[Any], options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as raised:
        explained(tmp_path, y, given, **options)
    assert said in str(raised.value)


def test_more_cells_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = tensor()
    monkeypatch.setattr(task, "MAX_OPEN_CELLS", 24)
    assert words(explained(tmp_path, made(x, "NCHW", groups=2), x)) == "2 groups"  # positions are left out
    monkeypatch.setattr(task, "MAX_OPEN_CELLS", 23)
    with pytest.raises(LimitError, match="has more than 23 channels of samples"):
        explained(tmp_path, made(x, "NCHW"), x)
