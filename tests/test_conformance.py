"""Conformance: every layout, order, dtype and parameter, held to the longhand oracle, rounded once."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from gncli.kernels.floats import FLOATS
from gncli.run.engine import Engine
from tests import exact as exactly
from tests import oracle
from tests.arrays import Inline, assert_same_bits, drawn, normalized
from tests.marks import slow_but

# Twelve channels, so that 1, 3 and 12 groups are all different; at least 60 elements a group or few enough to be odd.
LAYOUTS = [
    ("NC", (7, 12)),
    ("CN", (12, 9)),
    ("NCL", (3, 12, 10)),
    ("NLC", (3, 70, 12)),
    ("NCHW", (3, 12, 5, 7)),
    ("NHWC", (3, 5, 7, 12)),
    ("NCDHW", (2, 12, 2, 3, 5)),
    ("NDHWC", (2, 2, 3, 5, 12)),
    ("CHW", (12, 9, 8)),
    ("HWC", (9, 8, 12)),
    ("CNHW", (12, 3, 5, 7)),
    ("NHCW", (3, 5, 12, 7)),
    ("WHCN", (7, 5, 12, 3)),
    ("C", (12,)),
    ("LC", (66, 12)),
    ("NCL", (4, 12, 1)),
    ("NCHW", (1, 12, 1, 80)),
]
QUICK = [case for case in LAYOUTS if case[0] in ("NHWC", "C")]
# dtype of the input, dtype of the output, offset of the input
KINDS = [
    ("?", "f4", 0),
    ("u1", "f4", 0),
    ("i1", "f2", 0),
    ("i2", "f4", 0),
    (">u2", "f4", 0),
    ("i4", "f8", 0),
    (">u4", "f4", 0),
    ("i8", "f8", 2**61),
    ("u8", "f4", 2**63),
    (">i8", "f8", -(2**62)),
    ("f2", "f2", 0),
    ("f2", "f2", 1e2),
    (">f2", "f4", 1e2),
    ("f4", "f4", 0),
    ("f4", "f4", 1e2),
    ("f4", "f4", 1e4),
    ("f4", "f4", 1e6),
    (">f4", "f4", 1e4),
    ("f4", "f8", 1e6),
    ("f4", "f2", 0),
    ("f8", "f8", 0),
    ("f8", "f8", 1e2),
    ("f8", "f8", 1e4),
    ("f8", "f8", 1e6),
    (">f8", "f4", 1e6),
]
# Groups of 200,000 values and more
LARGE = [("NCHW", (1, 4, 317, 320)), ("NHWC", (1, 317, 320, 4))]
LARGE_KINDS = [
    *[("f2", offset) for offset in (0, 1e2)],
    *[(dtype, offset) for dtype in ("f4", "f8") for offset in (0, 1e2, 1e4, 1e6)],
]
ORDERS: tuple[Literal["C", "F"], ...] = ("C", "F")
PEERS = [("NCHW", (4, 6, 9, 10)), ("NHWC", (4, 9, 10, 6)), ("CHW", (6, 30, 31)), ("CNHW", (6, 4, 9, 10))]
UNIT = 2.0**-53
ERROR = 2.0**-50  # of the oracle, more than longdouble has anywhere, and few enough elements to be decided by fractions

Decide = Callable[[tuple[Any, ...]], Any]


def decision(
    x: NDArray[Any],
    num_groups: int,
    layout: str,
    made: str,
    eps: float = 1e-5,
    denominator: str = "std",
    gamma: NDArray[Any] | None = None,
    beta: NDArray[Any] | None = None,
) -> Decide:
    """Return the function that decides an element by fractions."""
    channel, batch = layout.index("C"), layout.find("N")
    size = x.shape[channel] // num_groups

    @functools.cache
    def group(n: int, g: int) -> exactly.Group:
        at: list[Any] = [slice(None)] * x.ndim
        at[channel] = slice(g * size, (g + 1) * size)
        if batch >= 0:
            at[batch] = n
        return exactly.Group.of(x[tuple(at)], eps, denominator)

    def decide(index: tuple[Any, ...]) -> Any:
        c = int(index[channel])
        scale, shift = (default if of is None else float(of[c]) for of, default in ((gamma, 1.0), (beta, 0.0)))
        moments = group(int(index[batch]) if batch >= 0 else 0, c // size)
        return moments.rounded(x[index], scale, shift, FLOATS[np.dtype(made).name])

    return decide


class Tally:
    """How many float16 and float32 outputs there were, and how many were not the exact result rounded once.

    Longdouble decides where its error cannot matter; the rest, near-ties and exact zeros, is decided by fractions.
    """

    def __init__(self) -> None:
        self.total = self.misrounded = self.decided = 0

    def take(self, found: NDArray[Any], exact: NDArray[np.longdouble], what: object, decide: Decide) -> None:
        """Count the elements; `decide` gives the correctly rounded result at an index."""
        error = (np.abs(exact) + 1) * ERROR
        below, above = (oracle.rounded(exact + side, found.dtype) for side in (-error, error))
        near = below != above
        wrong = ~near & (found != below)
        self.total += found.size
        self.decided += int(near.sum())
        self.misrounded += int(wrong.sum())
        assert not wrong.any(), (what, found[wrong], exact[wrong])
        for index in zip(*np.nonzero(near), strict=True):
            right = decide(index)
            assert found[index] == right, (what, index, found[index], right)
            assert right != 0 or not np.signbit(found[index]) or exact[index] < 0, (what, index)


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """Give the tally of all the tests below, which is drawn up after the last of them."""
    kept = Tally()
    yield kept
    assert kept.misrounded == 0, (kept.misrounded, kept.total)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(1, executor=Inline())


def assert_within_units(
    found: NDArray[Any], exact: NDArray[np.longdouble], allowed: NDArray[Any], what: object
) -> None:
    """Raise unless each float64 is within so many units of 2**-53 of its value."""
    units = np.abs(found - exact) / UNIT
    assert (units <= allowed).all(), (what, float((units / allowed).max()))


@pytest.mark.parametrize("order", slow_but("CF", "F"))
@pytest.mark.parametrize(("layout", "shape"), slow_but(LAYOUTS, *QUICK))
def test_every_layout_dtype_and_parameter_is_the_oracle_rounded_once(
    layout: str, shape: tuple[int, ...], order: str, tally: Tally, engine: Engine
) -> None:
    rng = np.random.default_rng(99)
    gamma, beta = rng.standard_normal((2, 12))
    per_channel = [12 if letter == "C" else 1 for letter in layout]
    scale, shift = np.abs(gamma).reshape(per_channel), np.abs(beta).reshape(per_channel)
    parameters = itertools.product((1, 3, 12), ("std", "variance"), (False, True))
    for seed, (groups, denominator, affine) in enumerate(parameters):
        for dtype, made, offset in KINDS:
            x = drawn(shape, dtype, order, seed, offset=offset, span=120)
            eps = (1e-5, 1e-3)[seed % 2]
            scaling: dict[str, Any] = {"gamma": gamma, "beta": beta} if affine else {}
            exact = oracle.group_norm(x, groups, layout, eps, denominator=denominator, **scaling)
            y, outcome = normalized(x, groups, layout, engine, eps=eps, denominator=denominator, dtype=made, **scaling)
            what = (layout, shape, order, dtype, made, offset, groups, denominator, affine)
            assert (y.shape, y.dtype, y.flags.f_contiguous) == (x.shape, np.dtype(made), x.flags.f_contiguous), what
            assert outcome.check.ok, (what, outcome.check)
            if made != "f8":
                tally.take(y, exact, what, decision(x, groups, layout, made, eps, denominator, **scaling))
                continue
            z = np.abs(oracle.group_norm(x, groups, layout, eps, denominator=denominator))
            # Units are of the group's deviation, which is 1 after a division by it; the root halves an error of var.
            allowed = 8 * np.maximum(1.0, z) if denominator == "std" else 16 * np.maximum(max(1.0, float(z.max())), z)
            if affine:
                allowed = allowed * scale + 2 * (np.abs(exact) + shift) + 1
            assert_within_units(y, exact, allowed, what)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.slow
@pytest.mark.parametrize(("layout", "shape"), LARGE)
def test_large_groups_are_the_oracle_rounded_once(
    layout: str, shape: tuple[int, ...], order: str, tally: Tally
) -> None:
    with Engine(2, 1 << 18) as engine:
        for dtype, offset in LARGE_KINDS:
            x = drawn(shape, dtype, order, 7, offset=offset, span=120)
            assert x.size // 2 > 200_000
            exact = oracle.group_norm(x, 2, layout)
            y, outcome = normalized(x, 2, layout, engine)
            what = (layout, shape, order, dtype, offset)
            assert outcome.check.ok, (what, outcome.check)
            if dtype == "f8":
                assert_within_units(y, exact, 8 * np.maximum(1, np.abs(exact)), what)
            else:
                tally.take(y, exact, what, decision(x, 2, layout, dtype))


@pytest.mark.parametrize(("letters", "shape"), slow_but(LAYOUTS, *QUICK))
def test_every_layout_and_order_gives_the_same_result_to_rounding(
    letters: str, shape: tuple[int, ...], engine: Engine
) -> None:
    x = drawn(shape, "f4", seed=3, offset=1e4)
    y, _ = normalized(x, 3, letters, engine)
    for axes in itertools.islice(itertools.permutations(range(x.ndim)), 24):
        moved = "".join(letters[axis] for axis in axes)
        for order in ORDERS:
            other, _ = normalized(np.array(x.transpose(axes), order=order), 3, moved, engine)
            assert_same_bits(other, y.transpose(axes), (moved, order))


@pytest.mark.parametrize(("layout", "shape"), PEERS)
@pytest.mark.parametrize("offset", [0, 1e4])
def test_one_group_is_layer_normalization_over_channels_and_space(
    layout: str, shape: tuple[int, ...], offset: float, engine: Engine
) -> None:
    x = drawn(shape, "f8", seed=5, offset=offset)
    axes = tuple(axis for axis, letter in enumerate(layout) if letter != "N")
    wide = x.astype(np.longdouble)
    layer = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(normalized(x, 1, layout, engine)[0], layer.astype(float), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("layout", "shape"), PEERS)
@pytest.mark.parametrize("offset", [0, 1e4])
def test_a_group_a_channel_is_instance_normalization(
    layout: str, shape: tuple[int, ...], offset: float, engine: Engine
) -> None:
    x = drawn(shape, "f8", seed=5, offset=offset)
    axes = tuple(axis for axis, letter in enumerate(layout) if letter not in "NC")
    wide = x.astype(np.longdouble)
    instance = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(normalized(x, 6, layout, engine)[0], instance.astype(float), rtol=0, atol=1e-14)


def test_groups_are_blocks_of_neighbouring_channels(engine: Engine) -> None:
    x = np.array([[1.0, 3.0, 10.0, 30.0]])
    np.testing.assert_array_equal(normalized(x, 2, "NC", engine, eps=0)[0], [[-1, 1, -1, 1]])
