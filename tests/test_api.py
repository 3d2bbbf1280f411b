"""The public Python names, on arrays."""

from __future__ import annotations

import copy
import html
import inspect
import math
import pickle
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import gncli
from gncli.api import diff, get_stats, group_norm, normalize_file, stats
from gncli.commands.group import gncli as group
from gncli.errors import InputError, LimitError, OutputError, ParameterError
from gncli.inputs import Draw
from gncli.names import in_python
from tests import oracle
from tests.arrays import assert_same_bits, images
from tests.lenders import Holder, Speaker


def test_the_package_offers_its_names() -> None:
    assert gncli.group_norm is group_norm
    assert gncli.get_stats is get_stats
    assert gncli.normalize_file is normalize_file
    assert (gncli.stats, gncli.diff) == (stats, diff)
    assert dir(gncli) == gncli.__all__ == sorted(gncli.__all__)
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
    with pytest.raises(ParameterError, match=r"gamma has shape \(3,\); the tensor needs \(6,\)"):
        group_norm(x, 2, gamma=np.ones(3))
    with pytest.raises(ParameterError, match=r"beta has shape \(1, 6\); the tensor needs \(6,\)"):
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


def test_errors_are_what_python_calls_them(tmp_path: Path) -> None:
    """So that a caller who knows nothing of gncli catches them; `errno` and its like are unset."""
    with pytest.raises(ValueError, match="6 channels cannot be split into 4 groups"):
        group_norm(images(), 4)
    with pytest.raises(OSError, match="cannot be read") as reading:
        normalize_file(str(tmp_path / "none.npy"))
    again = pickle.loads(pickle.dumps(reading.value))  # as a cluster sends it
    assert (type(again), str(again), again.subject) == (InputError, str(reading.value), str(tmp_path / "none.npy"))
    (tmp_path / "y.npy").write_bytes(b"")
    np.save(tmp_path / "x.npy", images())
    with pytest.raises(OSError, match=r"y.npy: already exists") as writing:
        normalize_file(str(tmp_path / "x.npy"), num_groups=3, output=str(tmp_path / "y.npy"))
    assert type(writing.value) is OutputError
    assert writing.value.errno is None
    assert not issubclass(LimitError, OSError | ValueError)


def test_other_arrays_are_normalized(tmp_path: Path) -> None:
    x = images()
    y = group_norm(x, 3)
    assert_same_bits(group_norm(Speaker(x), 3, gamma=Speaker(np.ones(6))), y)
    np.testing.assert_allclose(group_norm(x, 3, dtype="f8"), group_norm(x.astype("f8"), 3), rtol=1e-13, strict=True)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    assert_same_bits(group_norm(Speaker(bits, 4), 3, dtype=np.float16), group_norm(wide, 3, dtype=np.float16))
    assert_same_bits(group_norm(Speaker(bits, 4), 3), group_norm(wide, 3))
    with pytest.raises(ParameterError, match="int8 cannot hold the result; choose float16, float32 or float64"):
        group_norm(x, 3, dtype=np.int8)
    with pytest.raises(ParameterError, match="bfloat16 cannot hold the result"):
        group_norm(x, 3, dtype="bfloat16")
    with pytest.raises(InputError, match=r"^gamma: is a masked array"):
        group_norm(x, 3, gamma=np.ma.ones(6))
    with pytest.raises(InputError, match=r"^x: is a masked array"):
        get_stats(np.ma.ones(6))
    assert not list(tmp_path.iterdir())


def test_statistics_are_attributes_and_items() -> None:
    x = images()
    s = stats(x, "mean,p99.9,zeros,argmax")
    assert (s.shape, s.dtype, s.size, s.name) == (x.shape, "float32", x.size, "x")
    assert s.mean == s["mean"] == s.value("mean") == pytest.approx(x.mean(dtype="f8"), rel=1e-12)
    assert s["p99.9"] == np.percentile(x.astype("f8"), 99.9)
    assert s["argmax"] == s.argmax == np.unravel_index(x.argmax(), x.shape)
    assert (s["shape"], s["notes"], s["nan"]) == (x.shape, (), 0)
    assert {"mean", "std", "zeros", "shape", "cells"} <= set(dir(s))
    assert "p99.9" not in dir(s)
    again = pickle.loads(pickle.dumps(copy.deepcopy(s)))
    assert (again, again.mean) == (s, s.mean)
    with pytest.raises(AttributeError, match="'medain' is not a statistic; did you mean median"):
        s.medain  # noqa: B018
    for name in ("median", "p50"):
        assert not hasattr(s, name)
        with pytest.raises(KeyError, match=f"'{name}' was not measured; ask for statistics='{name}'"):
            s[name]
    with pytest.raises(KeyError, match="is not a statistic"):
        s["_shown"]


def test_statistics_of_cells(tmp_path: Path) -> None:
    x = images()
    for by in ("C", 1, ["C"], "c"):
        s = stats(x, by=by)
        assert [cell.std for cell in s.cells] == pytest.approx(x.std((0, 2, 3), dtype="f8"), rel=1e-12)
        assert len(s.cells) == s.cells.total == x.shape[1]
        cell = s.cells[3]
        assert (*cell.place.values(), cell["mean"], cell["place"]) == (3, cell.mean, cell.place)
    assert s.cells[1:3] == (s.cells[1], s.cells[2])
    assert stats(x, by=["N", "C"]).cells.total == x.shape[0] * x.shape[1]
    assert stats(x, by="group", num_groups=3).cells[0].note == "channels 0-1"
    assert stats(x, by="C", layout="NHWC").cells.total == x.shape[3]
    assert not hasattr(cell, "nothing")
    assert not hasattr(cell, "_nothing")
    assert copy.deepcopy(cell) == cell
    np.save(tmp_path / "x.npy", x)
    assert stats(tmp_path / "x.npy", by="C").cells == stats(str(tmp_path / "x.npy"), by="C").cells


def test_statistics_of_a_random_tensor_and_of_files_of_several(tmp_path: Path) -> None:
    assert stats(Draw((2, 3), seed=0)).mean == stats(np.random.default_rng(0).random((2, 3))).mean
    np.savez(tmp_path / "x.npz", a=images(), b=np.zeros(3), c=["no"])
    report = stats(tmp_path / "x.npz", "zeros")
    assert [tensor.zeros for tensor in report] == [report["a"].zeros, 3]
    assert len(report) == 2
    assert report[f"{tmp_path / 'x.npz'}::b"] is report["b"] is report.tensors[1]
    assert report["status"] == 0
    assert [tensor.size for tensor in stats(tmp_path / "x.npz", match="b")["tensors"]] == [3]
    assert stats(f"{tmp_path}/x.npz::b").size == 3
    with pytest.raises(KeyError, match=r"'tensor' is not known; did you mean tensors?"):
        report["tensor"]
    (tmp_path / "bad.npy").write_bytes(b"")
    assert stats(tmp_path)["bad"].error.status == 3
    with pytest.raises(InputError, match=r"bad.npy"):
        stats(tmp_path / "bad.npy")


def test_differences_of_arrays_and_files(tmp_path: Path) -> None:
    x = images()
    y = x.copy()
    y[1, 2, 3, 4] += 0.5
    np.save(tmp_path / "y.npy", y)
    for a, b in ((y, x), (tmp_path / "y.npy", Speaker(x)), (str(tmp_path / "y.npy"), Holder(x))):
        d = diff(a, b)
        assert (d.equal, d.outside, d.worst.index, d["max_abs"]) == (False, 1, (1, 2, 3, 4), d.worst["difference"])
        assert (d.worst.a, d.worst.b) == (y[1, 2, 3, 4], x[1, 2, 3, 4])
        assert diff(a, b, atol=d.smallest_atol).equal
    assert diff(y, x, by="C").most_different.place == {"C": 2}
    assert diff(y, x, by="C").cells[2]["outside"] == 1
    assert diff(x, x[:1])["max_abs"] is None
    assert diff([1, 2], [1, 2]).equal
    diff(y, x, output=tmp_path / "d.npy")
    assert_same_bits(np.load(tmp_path / "d.npy"), y - x)
    with pytest.raises(OutputError, match="already exists; force=True replaces it"):
        diff(y, x, output=tmp_path / "d.npy")
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    assert diff(Speaker(bits + 1, 4), Speaker(bits, 4)).ulp.max == 1
    assert diff(Speaker(bits, 4), x).equal
    with pytest.raises(InputError, match=r"^b: is a masked array"):
        diff(x, np.ma.array(x))


def test_differences_of_many_pairs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w1=np.arange(3.0), w2=np.arange(4.0), w3=np.arange(2.0))
    np.savez(tmp_path / "b.npz", v1=np.arange(3.0), v2=np.arange(4.0) * 2, v3=np.arange(2.0))
    d = diff(tmp_path / "a.npz", tmp_path / "b.npz", rename={"w": "v"})
    assert [row.verdict for row in d] == ["identical", "different", "identical"]
    assert len(d) == 3
    assert (d["v2"].max_abs, d["v2"]["rel"], d["v1"].rel, d["equal"]) == (3.0, 0.5, 0, False)
    assert diff(tmp_path / "a.npz", tmp_path / "b.npz", rename={"w": "v"}, match="v[13]").equal
    assert diff(tmp_path / "a.npz", tmp_path / "b.npz", rename={"w": "v"}, fail_fast=True).left == 1
    assert not hasattr(d["v1"], "nothing")
    with pytest.raises(ParameterError, match=r"fail_fast=True.* are about files or folders"):
        diff([1], [1], fail_fast=True)
    with pytest.raises(ParameterError, match="by is about two tensors, and there are many"):
        diff(tmp_path / "a.npz", tmp_path / "a.npz", by="C")


WAYS_OUT = "32 is the default; say num_groups with one of 1, 2, 3, 6, or layout='NHWC'"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda x: group_norm(x, 5), "6 channels cannot be split into 5 groups; choose one of 1, 2, 3, 6"),
        (lambda x: stats(x, by="group"), f"x: 6 channels cannot be split into 32 groups; {WAYS_OUT}"),
        (lambda x: stats(x, by="C", num_groups=3), "x: num_groups needs by='group'; add by='group', or leave out"),
        (lambda x: stats(x[None, None], by="C"), "x: a tensor of 6 axes (1x1x2x6x4x32) has no usual layout; say"),
        (lambda x: stats(x, "medain"), "'medain' is not a statistic; did you mean median?"),
        (lambda x: diff(x, x, statistics="slop"), "'slop' is no difference; did you mean slope? (size, outside"),
        (lambda x: normalize_file(Draw((2, 6)), num_groups=3, output="x.npz"), "x.npz: "),
        (lambda x: stats(x, ddof=2), "ddof is 2; give 0 to 1"),
        (lambda x: normalize_file(Draw((2, 6)), bins=0), "bins is 0; give 1 to 65536"),
        (lambda x: diff(x, x, rtol=-1.0), "rtol is -1.0; give a finite number, at least 0"),
        (lambda x: diff(x, x, atol=math.nan), "atol is nan; give a finite number, at least 0"),
        (lambda x: diff(x, x, max_fraction=2, workers=0), "max_fraction is 2; give 0 to 1"),
    ],
)  # fmt: skip
def test_errors_speak_python(call: Any, problem: str) -> None:
    with pytest.raises(ParameterError) as caught:
        call(np.zeros((2, 6, 4, 32)))
    assert str(caught.value).startswith(problem)
    assert "--" not in str(caught.value)


def test_every_option_has_its_name_in_python() -> None:
    """Or Python has none: how a report looks, where it is written, what is printed."""
    functions: dict[str, Any] = {"stats": stats, "diff": diff, "normalize": normalize_file}
    for command, function in functions.items():
        known, found = set(inspect.signature(function).parameters), set()
        for option in (each for each in group.commands[command].params if isinstance(each, click.Option)):
            for name in option.opts:
                spoken, _, value = in_python(name).partition("=")
                found |= {spoken} & known
                assert option.is_flag or not value, name
        assert found >= known - {"x", "a", "b", "tensor", "policy", "num_groups", "statistics", "zeros"}, command
    assert in_python("--max-chunk 9 reads them") == "policy=Policy(max_chunk=9) reads them"
    assert in_python("--layout NCHW,NHWC, or --over N,C") == "layout='NCHW,NHWC', or over='N,C'"
    assert in_python("see --max-chunk") == "see policy"
    assert in_python("... 3 more; --format csv for all") == "... 3 more; .cells for all"
    assert in_python("say -s 'a b', --by group or -x--y") == "say statistics='a b', by='group' or -x--y"


def test_notes_speak_python() -> None:
    x = np.zeros((1, 14, 14, 32))
    note = "x: the layout is NCHW by default: if the channels are last, say layout='NHWC'"
    assert stats(x, by="C").notes == (note,)
    assert f"<p>{html.escape(note)}</p>" in stats(x, by="C")._repr_html_()


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
    assert get_stats([1, 2, 3]).value("mean") == 2.0
    assert get_stats(np.asfortranarray(images())).value("mean") == get_stats(images().T.copy()).value("mean")
