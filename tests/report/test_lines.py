"""`gncli.report.lines`: the sentences under a table."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gncli.kernels.groupnorm import Check
from gncli.report import aside, render
from gncli.report.lines import check_line, damping_lines
from gncli.report.normalize_records import Parameters
from gncli.report.records import StatsReport
from tests.report.samples import CHECK, DIFFERS, NORMALIZED, PARAMETERS, X


def test_what_is_said_beside_the_data() -> None:
    report = StatsReport((X,), skipped=(("a\x1b.h5", 1), ("b.h5", 2)), seed=7)
    assert aside(report) == [
        "seed 7 (chosen; --seed 7 draws the same again)",
        r"a\x1b.h5: 1 dataset skipped, not numeric",
        "b.h5: 2 datasets skipped, not numeric",
    ]
    assert aside(replace(NORMALIZED, seed=7)) == aside(report)[:1]
    assert aside(DIFFERS) == ["a note"]
    assert render(report, "table").endswith("\n".join(["", *aside(report), ""]))


def test_what_was_computed_where_the_moments_are_given() -> None:
    given = replace(PARAMETERS, groups=None, group_size=None, cells=(16,), mean="mean.npy", var=0.5)
    assert "16 channels, mean mean.npy, var 0.5, eps" in render(replace(NORMALIZED, parameters=given), "table")


def test_where_a_result_went() -> None:
    assert "\nwritten to y.npy\n" in render(replace(NORMALIZED, output="y.npy"), "table")
    assert "\nwritten to y.npy\n" in render(StatsReport((X,), command="random", output="y.npy"), "table")
    failed = replace(NORMALIZED, output="y.npy", check=replace(CHECK, overflowed=1))
    assert "\nnothing written to y.npy\n" in render(failed, "table")


CHECKS = [
    (
        CHECK,
        PARAMETERS,
        "check: ok, 16 groups, worst error 3.4 % of the rounding bound; "
        "64 elements proved correctly rounded, 4 of them settled in higher precision",
    ),
    (Check(1, None, None, proved=1, settled=0), PARAMETERS, "check: ok, 1 group; 1 element proved correctly rounded"),
    (
        Check(1, 0.5, 0.25, proved=65_536, settled=0),
        PARAMETERS,
        "check: ok, 1 group, worst error 50 % of the rounding bound; 65,536 elements proved correctly rounded",
    ),
    (
        Check(8, 0.5, 0.25, constant_groups=1, nonfinite_groups=2),
        replace(PARAMETERS, gamma="g.npy"),
        "check: ok, 8 groups, worst error 50 % of the rounding bound before gamma and beta, "
        "1 constant, 2 with NaN or infinity",
    ),
    (
        Check(4, None, None, nonfinite_groups=4),
        replace(PARAMETERS, beta=2.0),
        "check: ok, 4 groups, 4 with NaN or infinity",
    ),
    (Check(0, None, None), PARAMETERS, "check: ok, 0 groups"),
    (
        Check(256, 0.01, 0.5, constant_groups=2, nonfinite_groups=1, new_nan=2047, proved=520_000, settled=0),
        PARAMETERS,
        "check: 255 of 256 groups ok; 1 group held NaN or infinity and became NaN (2,047 elements), worst error 50 % "
        "of the rounding bound, 2 constant; 520,000 elements proved correctly rounded",
    ),
    (
        Check(1000, 0.5, 0.5, nonfinite_groups=1000, new_nan=1),
        PARAMETERS,
        "check: 0 of 1,000 groups ok; 1,000 groups held NaN or infinity and became NaN (1 element), worst error 50 % "
        "of the rounding bound",
    ),
    (
        Check(4, 2.0, 0.5, nonfinite_groups=1, new_nan=5),
        PARAMETERS,
        "check: FAILED: the mean of a group is off by 2 times the rounding bound; 4 groups, 1 with NaN or infinity",
    ),
    (
        Check(1, 0.022, 0.5, constant_groups=1, overflowed=3),
        replace(PARAMETERS, gamma=1e6, dtype="float16"),
        "check: FAILED: 3 results beyond the largest float16; "
        "1 group, worst error 50 % of the rounding bound before gamma and beta, 1 constant",
    ),
    (
        Check(16, 2.0, 0.5),
        PARAMETERS,
        "check: FAILED: the mean of a group is off by 2 times the rounding bound; 16 groups",
    ),
    (
        Check(16, math.nan, math.inf, overflowed=1),
        PARAMETERS,
        "check: FAILED: the mean of a group is undefined and the variance of a group is undefined and "
        "1 result beyond the largest float32; 16 groups",
    ),
    (None, PARAMETERS, "check: skipped (--no-verify)"),
]


@pytest.mark.parametrize(("check", "parameters", "line"), CHECKS)
def test_the_check_says_how_near_to_its_bound_it_came_and_what_failed(
    check: Check | None, parameters: Parameters, line: str
) -> None:
    assert check_line(replace(NORMALIZED, check=check, parameters=parameters)) == line


@pytest.mark.parametrize(
    ("check", "ok"),
    [
        (Check(1, 0.0, 1.0), True),
        (Check(1, 1.01, 0.0), False),
        (Check(1, 0.0, 1.01), False),
        (Check(1, math.nan, 0.0), False),
        (Check(1, 0.0, 0.0, overflowed=1), False),
        (Check(0, None, None), True),
    ],
)
def test_a_check_holds_within_its_allowance_and_without_overflow(check: Check, ok: bool) -> None:
    assert check.ok is ok
    assert replace(NORMALIZED, check=check).status == (0 if ok else 1)
    assert check.as_dict()["ok"] is ok


@pytest.mark.parametrize(
    ("check", "denominator", "lines"),
    [
        (None, "std", []),
        (Check(4, 0.5, 0.5), "std", []),
        (Check(4, 0.5, 0.5, damped_groups=1, eps_share=0.715), "variance", []),
        (
            Check(4, 0.5, 0.5, damped_groups=1, eps_share=0.715),
            "std",
            ["eps is 72 % of var + eps in 1 group: its deviation is 0.53, not 1"],
        ),
        (
            Check(64, 0.5, 0.5, damped_groups=32, eps_share=0.11),
            "std",
            ["eps is up to 11 % of var + eps in 32 groups: their deviation is as little as 0.94, not 1"],
        ),
    ],
)
def test_a_large_eps_is_noted_without_the_word_check(check: Check | None, denominator: str, lines: list[str]) -> None:
    report = replace(NORMALIZED, check=check, parameters=replace(PARAMETERS, denominator=denominator))
    assert damping_lines(report) == lines
    assert all(f"\n{line}\n" in render(report, "table") for line in lines)
    assert "check" not in "".join(lines)
