"""Assertions for tests in Python; the message of one that fails is the report of ``gncli diff``."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np

from gncli import io
from gncli.api import diff, group_norm, group_norm_backward, in_words_of_python, opened
from gncli.kernels.groupnorm import DEFAULT_EPS
from gncli.report.diff_records import DiffReport
from gncli.report.pair_records import PairsReport

__all__ = ["assert_close", "assert_group_norm", "assert_group_norm_backward"]


@in_words_of_python
def assert_close(
    actual: Any,
    reference: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    baseline: Any = None,
    factor: float = 2.0,
    max_ulp: int | None = None,
    layout: str | None = None,
) -> None:
    """Raise unless `actual` agrees with `reference`, by the rules of ``gncli diff``.

    Parameters
    ----------
    actual, reference : array_like, str or PathLike
        Arrays: what NumPy takes, or what speaks DLPack on the CPU, such as tensors of PyTorch, bfloat16 too. Or files,
        also of several tensors, which are paired by name.
    rtol, atol : float, optional
        An element is outside where ``|actual - reference| > atol + rtol |reference|``; by default those of the coarser
        dtype, as ``torch.testing.assert_close`` has them.
    baseline : array_like, str or PathLike, optional
        What an accepted implementation gives in the dtype of `actual`: the largest error may be `factor` times its own,
        and the rounding floor.
    factor : float
        Used with `baseline`.
    max_ulp : int, optional
        The largest distance in units of the dtype of `actual` from `reference`, which is rounded once to that dtype.
    layout : str, optional
        ``"NCHW,NHWC"``: the layouts of `actual` and of `reference`, whose axes are taken in the order of the former.

    Raises
    ------
    AssertionError
        If they differ, or nothing can be concluded. The message has the verdict, the worst element with its index and
        both values, and the tolerance that would pass.
    ParameterError
        If a parameter is wrong, or does not fit the tensors.
    InputError
        If a tensor cannot be read, is not numeric, or is masked.

    Examples
    --------
    >>> import numpy as np
    >>> assert_close(np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-9]))
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(opened(x, name)) for x, name in ((actual, "actual"), (reference, "reference"))]
        accepted = None if baseline is None else stack.enter_context(opened(baseline, "baseline"))
        used = None if baseline is None else factor
        report = diff(*sides, rtol=rtol, atol=atol, baseline=accepted, factor=used, max_ulp=max_ulp, layout=layout)
    if report.status:
        raise AssertionError(_said(report))


@in_words_of_python
def assert_group_norm(
    y: Any,
    x: Any,
    num_groups: int,
    *,
    gamma: Any = None,
    beta: Any = None,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    max_ulp: int = 1,
    near_zero: float | None = None,
) -> None:
    """Raise unless `y` is the Group Normalization of `x` (Wu & He 2018), element by element.

    Parameters
    ----------
    y : array_like, str or PathLike
        The result to test: float16, bfloat16, float32 or float64.
    x : array_like, str or PathLike
        The tensor that it was made of. It is normalized in memory, in float64.
    num_groups : int
        The number of groups; it must divide the number of channels.
    gamma, beta : array_like of shape (C,), or float, optional
        Scale and shift after the normalization; 1 and 0 by default.
    eps : float
        Added to the variance, inside the root.
    layout : str, optional
        One letter per axis, such as ``"NHWC"``; by default NC, NCL, NCHW or NCDHW for 2 to 5 axes.
    max_ulp : int
        The largest distance in units of the dtype of `y` from the result, which is rounded once to that dtype.
    near_zero : float, optional
        Below it, the units are those at this value: 1 for a kernel that computes in the dtype of `y`, whose errors do
        not shrink with the element. By default the smallest normal number.

    Raises
    ------
    AssertionError
        If an element is farther away. The message has the verdict, and the worst element, its index and both values.
    ParameterError
        If a parameter is wrong, or does not fit the tensors.
    InputError
        If a tensor cannot be read, is not numeric, or is masked.

    Examples
    --------
    >>> assert_group_norm([[-1.0, 1.0, -1.0, 1.0]], [[1.0, 3.0, 10.0, 30.0]], 2, eps=0)
    """
    __tracebackhide__ = True
    with contextlib.ExitStack() as stack:
        result = stack.enter_context(opened(y, "y"))
        source = stack.enter_context(stack.enter_context(opened(x, "x")).only())
        exact = group_norm(source, num_groups, eps, layout, gamma, beta, dtype=np.float64)
        report = diff(result, io.lent(exact, "group norm of x"), max_ulp=max_ulp, near_zero=near_zero)
    if report.status:
        raise AssertionError(_said(report))


@in_words_of_python
def assert_group_norm_backward(
    gradients: Any,
    x: Any,
    dy: Any,
    num_groups: int,
    *,
    gamma: Any = None,
    beta: Any = None,
    activation: str | None = None,
    eps: float = DEFAULT_EPS,
    layout: str | None = None,
    max_ulp: int = 1,
) -> None:
    """Raise unless `gradients` are those of Group Normalization, element by element.

    Parameters
    ----------
    gradients : sequence of three array_like, str, PathLike or None
        The results to test: dx, dgamma and dbeta, each float16, bfloat16, float32 or float64; None is not tested.
    x, dy : array_like, str or PathLike
        The input of the forward pass, and the gradient of its output, which the results were made of.
    num_groups : int
        The number of groups; it must divide the number of channels.
    gamma, beta : array_like of shape (C,), or float, optional
        The scale and the offset of the forward pass; 1 and 0 by default.
    activation : {"relu", "silu", "gelu", "gelu-tanh"}, optional
        What follows them in the forward pass.
    eps : float
        Added to the variance, inside the root.
    layout : str, optional
        One letter per axis, such as ``"NHWC"``; by default NC, NCL, NCHW or NCDHW for 2 to 5 axes.
    max_ulp : int
        The largest distance in units of the dtype of a result from the exact one, rounded once to that dtype. dgamma
        and dbeta are sums that may cancel; a kernel needs more where they do.

    Raises
    ------
    AssertionError
        If an element is farther away. The message begins with which gradient it is, then has the verdict, and the worst
        element, its index and both values.
    ParameterError
        If a parameter is wrong, or does not fit the tensors.
    InputError
        If a tensor cannot be read, is not numeric, or is masked, or `dy` is not floating-point.

    Examples
    --------
    >>> assert_group_norm_backward(
    ...     ([[0.0, 0.0]], [-1.0, 2.0], [1.0, 2.0]), x=[[1.0, 3.0]], dy=[[1.0, 2.0]], num_groups=1, eps=0
    ... )
    """
    __tracebackhide__ = True
    names = ("dx", "dgamma", "dbeta")
    with contextlib.ExitStack() as stack:
        source, upstream = (
            stack.enter_context(stack.enter_context(opened(of, name)).only()) for of, name in ((x, "x"), (dy, "dy"))
        )
        options = {"beta": beta, "activation": activation, "dtype": np.float64, "param_dtype": np.float64}
        exact = group_norm_backward(source, upstream, num_groups, eps, layout, gamma, **options)
        for name, found, right in zip(names, gradients, exact, strict=True):
            if found is None:
                continue
            result = stack.enter_context(opened(found, name))
            report = diff(result, io.lent(right, f"exact {name}"), max_ulp=max_ulp)
            if report.status:
                raise AssertionError(f"{name}: {_said(report)}")


def _said(report: DiffReport | PairsReport) -> str:
    """Return a report with the verdict first, which a summary of failed tests shows; of pairs those that fail."""
    if isinstance(report, PairsReport):
        report = replace(report, rows=tuple(row for row in report.rows if row.fails or row.error))
    facts, _, verdict = str(report).rpartition("\n\n" if isinstance(report, PairsReport) else "\n")
    return f"{verdict}\n{facts}"
