"""The family of norms: every option of `normalize` and `group_norm`, held to rational arithmetic and to frameworks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli import group_norm, normalize_file
from gncli.kernels.floats import FLOATS
from tests import exact
from tests.arrays import assert_same_bits, drawn

LAYOUTS = [
    ("NCHW", (2, 12, 3, 5)),
    ("NHWC", (2, 3, 5, 12)),
    ("CHW", (12, 4, 3)),
    ("CNHW", (12, 2, 3, 5)),
    ("NC", (4, 12)),
]


def cells_of(layout: str, shape: tuple[int, ...], groups: int, *, interleaved: bool = False) -> NDArray[np.int64]:
    """Return the number of the (sample, group) that each element is in."""
    index = np.indices(shape)
    c, channels = index[layout.index("C")], shape[layout.index("C")]
    n = index[layout.index("N")] if "N" in layout else np.zeros_like(c)
    return np.asarray(n * groups + (c % groups if interleaved else c // (channels // groups)))


def expected(
    x: NDArray[Any],
    cells: NDArray[np.int64],
    made: str,
    gamma: NDArray[Any] | float,
    beta: NDArray[Any] | float,
    eps: float = 1e-5,
    denominator: str = "std",
) -> NDArray[Any]:
    """Return the results, each correctly rounded, for cells of any shape; gamma and beta broadcast to `x`."""
    y = np.empty(x.shape, made)
    gamma, beta = np.broadcast_to(gamma, x.shape), np.broadcast_to(beta, x.shape)
    for cell in np.unique(cells):
        group = exact.Group.of(x[cells == cell], eps, denominator)
        for index in zip(*np.nonzero(cells == cell), strict=True):
            y[index] = group.rounded(x[index], float(gamma[index]), float(beta[index]), FLOATS[y.dtype.name])
    return y


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("layout", "shape"), LAYOUTS)
def test_interleaved_groups_hold_every_gth_channel(layout: str, shape: tuple[int, ...], order: str) -> None:
    rng = np.random.default_rng(0)
    gamma, beta = rng.standard_normal((2, 12))
    per_channel = [12 if letter == "C" else 1 for letter in layout]
    for groups in (1, 3, 4, 12):
        x = drawn(shape, "f4", order, groups, offset=20)
        y = group_norm(x, groups, layout=layout, gamma=gamma, beta=beta, interleaved=True)
        cells = cells_of(layout, shape, groups, interleaved=True)
        assert_same_bits(y, expected(x, cells, "f4", gamma.reshape(per_channel), beta.reshape(per_channel)))


def test_interleaved_groups_are_said_and_kept(tmp_path: Any) -> None:
    x = drawn((2, 12, 3, 5))
    np.save(tmp_path / "x.npy", x)
    report = normalize_file(
        str(tmp_path / "x.npy"),
        num_groups=4,
        interleaved=True,
        stages=True,
        save_moments=str(tmp_path / "m.npz"),
        output=str(tmp_path / "y.h5"),
    )
    assert report.check is not None
    assert report.check.ok
    assert [stage.stats.shape for stage in report.stages[1:4]] == [(2, 3, 4, 3, 5), (2, 1, 4, 1, 1), (2, 1, 4, 1, 1)]
    assert report.parameters.interleaved
    assert json.loads(json.dumps(report.parameters.as_dict()))["interleaved"] is True
    assert report.parameters.attributes()["interleaved"] is True
    means = np.load(tmp_path / "m.npz")["mean"]
    np.testing.assert_allclose(means, x.astype(float).reshape(2, 3, 4, 15).mean((1, 3)), rtol=1e-12)
