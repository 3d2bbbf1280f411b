"""Reports of every kind, for the tests of their forms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gncli.errors import InputError
from gncli.kernels.groupnorm import Check
from gncli.report.diff_records import DiffCell, DiffReport, Operand, Ulps, Worst
from gncli.report.gates import Shapes, WithinTolerance
from gncli.report.normalize_records import NormalizeReport, Parameters, Stage
from gncli.report.records import Cell, Cells, Failure, Histogram, StatsReport, TensorStats, Total

if TYPE_CHECKING:
    from gncli.report import Report

VALUES = {
    "mean": 0.5000566322329019,
    "std": 0.2886874123456789,
    "var": 0.0833404220,
    "min": 1.2e-08,
    "max": 0.99999998,
    "nan": 0,
    "posinf": 0,
    "neginf": 0,
}
X = TensorStats((4, 16), "float64", VALUES, "x.npy")
Y = TensorStats((4, 16), "float32", VALUES | {"mean": 5.643295e-17, "std": 3.4636999368667603}, "x.npy")
HOLED = TensorStats((2, 3), "int64", VALUES | {"mean": None, "std": math.inf, "min": -(2**62), "nan": 3}, "[b]\x1b[1m|")
EMPTY = TensorStats((0,), "float16", dict.fromkeys(VALUES, None) | {"nan": 0, "posinf": 0, "neginf": 0}, "empty")
BAD = Failure("=bad.npy", InputError("64 bytes are missing\n", subject="=bad.npy", hint="copy it again"))
PARAMETERS = Parameters(
    groups=4, group_size=4, eps=1e-5, layout="NC", denominator="std", gamma=1.0, beta=0.0, dtype="float32"
)
CHECK = Check(groups=16, mean_error=0.0213, var_error=0.034, proved=60, settled=4)

ONE = StatsReport((X,))
SEVERAL = StatsReport((X, HOLED, BAD), skipped=(("d.h5", 2),))
NORMALIZED = NormalizeReport(input="x.npy", output=None, parameters=PARAMETERS, before=X, after=Y, check=CHECK)
STAGED = replace(
    NORMALIZED,
    stages=tuple(
        Stage(name, stats)
        for name, stats in [
            ("input", X),
            ("reshaped", replace(X, shape=(4, 4, 4))),
            ("mean", replace(X, shape=(4, 4, 1))),
            ("var", replace(X, shape=(4, 4, 1))),
            ("normalized", replace(Y, shape=(4, 4, 4))),
            ("output", Y),
        ]
    ),
)

TOTAL = replace(SEVERAL, total=Total(VALUES, 128, 384))

KEPT = tuple(Cell({"N": 0, "G": g}, replace(X, shape=(1, 4)), f"channels {4 * g}-{4 * g + 3}") for g in range(2))
CELLS = StatsReport((replace(X, cells=Cells(("N", "G"), KEPT, 16)),), by=True)

DIFFERS = DiffReport(
    Operand("x.npy", (4, 16), "float32"),
    Operand("[b]\x1b[1m|", (4, 16), "float32"),
    rtol=1.3e-6,
    atol=1e-5,
    compared=True,
    size=64,
    nan_mismatches=1,
    outside=3,
    first_mismatch=(0, 3),
    worst=Worst((2, 1), 0.5, 0.25, 0.25),
    mean_abs=0.0123456789012345,
    rmse=0.03,
    psnr=None,
    cosine=0.99999,
    ulp=Ulps(0.0, 12.5, 65535.0, 65535),
    smallest_atol=None,
    gates=(WithinTolerance(rtol=1.3e-6, atol=1e-5, outside=3, size=64),),
    output="d.npy",
    notes=("a note",),
)
DIFFERING = tuple(
    DiffCell(
        place={"C": c},
        note="",
        size=4,
        outside=3 * c,
        nan_mismatches=c,
        inf_mismatches=0,
        max_abs=0.25 if c else None,
        mean_abs=0.1 if c else None,
        rmse=0.2 if c else None,
    )
    for c in range(2)
)
DIFFERS_BY = replace(
    DIFFERS,
    cells=Cells(("C",), DIFFERING, 2),
    most_different=DIFFERING[1],
    histogram=Histogram((-0.25, 0.0, 0.25), (8, 16)),
)
SHAPES = DiffReport(Operand("x.npy", (4, 16), "float32"), Operand("y.npy", (64,), "int8"), rtol=0.0, atol=0.0)
SHAPES = replace(SHAPES, gates=(Shapes((4, 16), (64,)),))

REPORTS: dict[str, Report] = {
    "one": ONE,
    "several": SEVERAL,
    "total": TOTAL,
    "cells": CELLS,
    "normalized": NORMALIZED,
    "staged": STAGED,
    "differs": DIFFERS,
    "differs_by": DIFFERS_BY,
    "shapes": SHAPES,
}
