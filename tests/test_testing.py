"""The assertions for tests in Python: what passes, and what one that fails says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gncli
from gncli.api import group_norm
from gncli.errors import InputError, ParameterError
from gncli.testing import assert_close, assert_group_norm
from tests.arrays import images
from tests.lenders import Speaker


def bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the bits of float32 values rounded to bfloat16, to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def failure(call: Any, *args: Any, **kwargs: Any) -> str:
    """Return the message of an assertion that fails."""
    with pytest.raises(AssertionError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_the_package_offers_them() -> None:
    assert gncli.testing.assert_close is assert_close
    assert gncli.testing.__all__ == ["assert_close", "assert_group_norm", "assert_group_norm_backward"]


def test_what_agrees_passes(tmp_path: Path) -> None:
    x = images()
    np.save(tmp_path / "x.npy", x)
    assert_close(x, x)
    assert_close(Speaker(x), tmp_path / "x.npy", rtol=0, atol=0)
    assert_close(x.astype("f2"), x)
    assert_close(x.transpose(0, 2, 3, 1), x, layout="NHWC,NCHW")
    assert_close(np.nextafter(x, np.float32(9)), x, max_ulp=1)
    assert_close(x.astype("f2"), x, baseline=x.astype("f2"))
    assert_close(x + np.float32(0.01), x.astype("f8"), baseline=x - np.float32(0.001), factor=20.0)


def test_the_message_of_a_failure_is_the_report() -> None:
    x = images().astype("f8")
    y = x.copy()
    y[1, 2, 3, 4] += 0.5
    lines = failure(assert_close, y, x).splitlines()
    assert re.fullmatch(
        r"DIFFERENT: 1 of 1,296 elements outside \|a - b\| <= 1e-07 \+ 1e-07 \|b\|; .*passes.*", lines[0]
    )
    assert lines[1] == "a:  actual, float64 (3, 6, 8, 9)"
    said = dict(line.split(":  ", 1) for line in lines[2:])
    assert said["b, the reference"] == "reference, float64 (3, 6, 8, 9)"
    assert said["at"] == "(1, 2, 3, 4)"
    assert (float(said["a"]), float(said["b"])) == (y[1, 2, 3, 4], x[1, 2, 3, 4])
    atol = float(said["Smallest atol"])
    assert f"atol={atol!r}" in lines[0]
    assert "--" not in "\n".join(lines)
    assert_close(y, x, atol=atol)
    with pytest.raises(AssertionError):
        assert_close(y, x, atol=atol * 0.99)


def test_criteria_are_those_of_diff() -> None:
    x = images()
    apart = np.nextafter(np.nextafter(x, np.float32(9)), np.float32(9))
    assert_close(apart, x, max_ulp=2)
    assert failure(assert_close, apart, x, max_ulp=1).startswith("DIFFERENT: ")
    assert failure(assert_close, x + np.float32(0.01), x.astype("f8"), baseline=x - np.float32(0.001)).startswith(
        "DIFF"
    )
    assert failure(assert_close, np.zeros_like(x), x, atol=1000.0).startswith("INCONCLUSIVE: ")
    assert failure(assert_close, x, x.transpose(0, 2, 3, 1)).startswith("DIFFERENT: shapes ")
    with pytest.raises(ParameterError, match="rtol"):
        assert_close(x, x, baseline=x, rtol=1e-3)
    with pytest.raises(InputError, match=r"^actual: is a masked array"):
        assert_close(np.ma.array(x), x)
    with pytest.raises(InputError, match=r"^baseline: is a masked array"):
        assert_close(x, x, baseline=np.ma.array(x))


def test_files_of_several_tensors_are_compared_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w1=np.arange(3.0), w2=np.arange(4.0))
    np.savez(tmp_path / "b.npz", w1=np.arange(3.0), w2=np.arange(4.0) * 2)
    assert_close(tmp_path / "a.npz", tmp_path / "a.npz")
    message = failure(assert_close, tmp_path / "a.npz", tmp_path / "b.npz")
    assert message.startswith("DIFFERENT: 1 identical, 1 different\nfirst different: w2: ")
    assert "Name:  w2" in message
    assert "Name:  w1" not in message


@pytest.mark.parametrize("dtype", ["f2", "f4", "bfloat16"])
def test_a_group_norm_passes_and_another_does_not(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, (gamma, beta) = rng.standard_normal((3, 6, 8, 9)).astype("f4"), rng.standard_normal((2, 6))

    def made(num_groups: int = 3, eps: float = 1e-5, layout: str | None = None) -> Any:
        y = group_norm(x, num_groups, eps, layout, gamma, beta, dtype="f8")
        return Speaker(bfloat16(y), 4) if dtype == "bfloat16" else y.astype(dtype)

    assert_group_norm(made(), x, 3, gamma=gamma, beta=Speaker(beta))
    assert_group_norm(made(), x, 3, gamma=gamma, beta=beta, max_ulp=0 if dtype != "bfloat16" else 1)
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    assert_group_norm(made(), tmp_path / "x.npy", 3, gamma=gamma, beta=beta)
    for wrong in (made(2), made(6), made(eps=0.1)):
        message = failure(assert_group_norm, wrong, x, 3, gamma=gamma, beta=beta)
        assert message.startswith("DIFFERENT: ")
        assert "group norm of x, float64 (3, 6, 8, 9)" in message
    with pytest.raises(ParameterError, match="6 channels cannot be split into 4 groups"):
        assert_group_norm(made(), x, 4)


def test_a_kernel_that_computes_in_float32_is_measured_in_units_of_1() -> None:
    x = np.random.default_rng(4).standard_normal((4, 6, 20, 20)).astype("f4")
    cells = x.reshape(4, 3, -1)
    y = (cells - cells.mean(-1, keepdims=True)) / np.sqrt(cells.var(-1, keepdims=True) + np.float32(1e-5))
    y = y.reshape(x.shape)
    assert_group_norm(y, x, 3, max_ulp=4, near_zero=1)
    assert "elements beyond 4 ULP" in failure(assert_group_norm, y, x, 3, max_ulp=4)
    y[0, 0, 0, 0] += 1e-6
    assert "DIFFERENT: 1 of " in failure(assert_group_norm, y, x, 3, max_ulp=4, near_zero=1)


def test_tensors_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(images())
    for dtype in (torch.float32, torch.bfloat16):
        tensor = x.to(dtype).requires_grad_()
        theirs = torch.nn.functional.group_norm(tensor, 3)
        assert_close(theirs, group_norm(tensor, 3, dtype="f8"), baseline=theirs)
        assert_close(theirs, theirs)
    assert_group_norm(torch.from_numpy(group_norm(x, 3)), x, 3, max_ulp=0)
    assert failure(assert_group_norm, torch.nn.functional.group_norm(x, 2), x, 3).startswith("DIFFERENT: ")
