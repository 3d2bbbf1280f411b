"""The report of ``backward``: the check in a sentence, and what only some forms show."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from gncli.kernels.affine import Scaling
from gncli.kernels.gradients import GradientCheck
from gncli.kernels.groupnorm import GroupNorm
from gncli.report import document_of, render
from gncli.report.backward_document import BackwardDocument, gradient_check_line
from gncli.report.backward_records import BackwardReport
from gncli.tasks.backward import BackwardRun
from gncli.tasks.requests import Backward


def report(folder: Path, shape: tuple[int, ...] = (2, 4, 3)) -> BackwardReport:
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    np.save(folder / "x.npy", x)
    np.save(folder / "dy.npy", np.sqrt(x))
    request = Backward(
        x=str(folder / "x.npy"), dy=str(folder / "dy.npy"), norm=GroupNorm(2, eps=1e-3), scaling=Scaling()
    )
    with BackwardRun(request) as run:
        return run.report()


def test_a_failed_check_names_what_failed(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert found.status == 0 and found.output is None
    failed = BackwardReport(**vars(found) | {"check": GradientCheck(4, 2.5, math.inf, overflowed=1)})
    assert failed.status == 1
    assert gradient_check_line(failed) == (
        "check: FAILED: mean(dx) of a group is off by 2.5 times its bound and mean(dx z) of a group is undefined "
        "and 1 result beyond the largest float32; 4 groups"
    )


def test_a_report_has_a_line_a_page_and_no_picture(tmp_path: Path) -> None:
    found = report(tmp_path)
    document = document_of(found)
    assert isinstance(document, BackwardDocument)
    assert repr(found).startswith(f"<BackwardReport {tmp_path}/x.npy, {tmp_path}/dy.npy: check: ok, 4 groups")
    assert document.poster().panels == [] and document.histograms() == []
    page = render(found, "html")
    assert f"gncli backward {tmp_path}/x.npy" in page and "check: ok, 4 groups" in page


def test_where_the_moments_are_given_the_elements_that_became_nan_are_counted(tmp_path: Path) -> None:
    x = np.ones((2, 4, 3), np.float32)
    dy = np.where(np.arange(24).reshape(x.shape) == 5, np.nan, x)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "dy.npy", dy)
    request = Backward(
        x=str(tmp_path / "x.npy"),
        dy=str(tmp_path / "dy.npy"),
        norm=GroupNorm(given=True),
        scaling=Scaling(),
        mean=0.0,
        var=1.0,
    )
    with BackwardRun(request) as run:
        notes = run.report().notes
    assert notes[-1] == "dx is NaN in 1 of 24 elements, dgamma in 1 and dbeta in 1 of 4 elements"


def test_a_layout_that_may_be_another_is_noted(tmp_path: Path) -> None:
    found = report(tmp_path, (2, 4, 4, 8))
    assert ["say --layout NHWC" in note for note in found.notes] == [True]
