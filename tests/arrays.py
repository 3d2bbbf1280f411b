"""Arrays through the passes: sources, sinks, executors and runs that the tests of the kernels share."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.io import ArraySink, ArraySource
from gncli.kernels.extras import RECORDS
from gncli.kernels.floats import FLOATS
from gncli.kernels.groupnorm import GroupNorm
from gncli.kernels.loops import loops
from gncli.kernels.moments import Moments, record
from gncli.kernels.partition import by_axes
from gncli.kernels.plain import Affine
from gncli.run.engine import Engine
from gncli.run.normalization import Normalization, Outcome
from tests.runs import measure

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">i4", ">u8", ">f2", ">f4", ">f8"]
SHAPE = (3, 6, 8, 9)


def hostile(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return values of any kind that a file may hold, at an address that need not be aligned."""
    kind = np.dtype(dtype)
    raw = np.empty(int(np.prod(shape)) * kind.itemsize + 1, np.uint8)
    values = raw[int(rng.integers(2)) :][: raw.size - 1].view(kind)
    if kind.kind in "iub":
        bits = rng.integers(0, 256, values.nbytes, dtype=np.uint8)
        values[...] = bits.view(kind) if kind.kind != "b" else bits[: values.size] > 127
        if rng.random() < 0.3:
            values[...] = rng.integers(0, 3, values.size)
        return values.reshape(shape)
    scale = 10.0 ** float(rng.choice([-310, -300, -200, -3, 0, 3, 150, 290] if kind.itemsize == 8 else [-3, 0, 3]))
    with np.errstate(over="ignore"):
        values[...] = rng.standard_normal(values.size) * scale + rng.choice([0.0, scale * 1e3])
    if rng.random() < 0.5:
        bad = rng.random(values.size) < rng.choice([0.01, 0.3, 1.0])
        values[bad] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324], int(bad.sum()))
    if rng.random() < 0.1:
        values[...] = rng.choice([0.0, -0.0, 0.25])
    return values.reshape(shape)


def moments_of(values: NDArray[Any], *, about_zero: bool = False) -> Moments:
    """Return the moments of `values` along axis 1, as the kernel measures them."""
    return record(loops().moments(values, about_zero))


class Forward(ArraySource):
    """An array that, like a pipe, is read once, in order, by the thread that made it; what is held is read again."""

    sequential = True

    def __init__(self, array: NDArray[Any], name: str = "") -> None:
        super().__init__(array, name)
        self.position, self.held, self.most_held = 0, (0, 0), 0
        self._thread = threading.get_ident()

    def read_into(self, out: NDArray[Any], start: int) -> None:
        assert threading.get_ident() == self._thread, "read by a worker"
        if start != self.position:
            assert self.position == self.held[1], f"jumped from {self.position} to {start}, {self.held} being held"
            assert start == self.held[0], f"went back to {start}, {self.held} being held"
        super().read_into(out, start)
        self.position = start + out.size

    def hold(self, start: int, stop: int) -> None:
        assert start == self.position, f"held {start} at {self.position}"
        self.held = (start, stop)
        self.most_held = max(self.most_held, stop - start)


class InTurn(ArraySink):
    """An array that, like standard output, is written once, in order, by the thread that made it."""

    sequential = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.position = 0
        self._thread = threading.get_ident()

    def write_from(self, data: NDArray[Any], start: int) -> None:
        assert threading.get_ident() == self._thread, "written by a worker"
        assert start == self.position, f"wrote {start} at {self.position}"
        super().write_from(data, start)
        self.position += data.size


class Inline(Executor):
    """An executor that has done each item by the time it was submitted."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.count += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # whatever it is, the future holds it
            future.set_exception(error)
        return future


def normalized(
    x: NDArray[Any],
    num_groups: int,
    layout: str,
    engine: Engine,
    *,
    eps: float = 1e-5,
    denominator: str = "std",
    gamma: NDArray[Any] | float = 1.0,
    beta: NDArray[Any] | float = 0.0,
    dtype: Any = None,
    forward: bool = False,
    **options: Any,
) -> tuple[NDArray[Any], Outcome]:
    """Return the group norm of `x`, and what was found on the way."""
    source = Forward(x) if forward else ArraySource(x)
    grouping = GroupNorm(num_groups, None, eps, layout, denominator).on(source.shape, source.order)
    scale, shift = (np.array(np.broadcast_to(v, grouping.channels), np.float64) for v in (gamma, beta))
    made = FLOATS[dtype if isinstance(dtype, str) and dtype in FLOATS else np.dtype(dtype or x.dtype).name]
    sink = (InTurn if forward else ArraySink)(source.shape, made.dtype, source.order)
    affine = Affine(scale, shift, grouping.channel_shape)
    outcome = Normalization(source, sink, grouping, affine, made, engine, **options).run()
    return sink.array, outcome


def drawn(
    shape: Sequence[int] | int,
    dtype: str = "f4",
    order: str = "C",
    seed: int = 0,
    *,
    offset: float = 0,
    std: float = 1,
    span: int | None = None,
) -> NDArray[Any]:
    """Return random values: floats around `offset`; integers of the whole range, or `span` of them from `offset` on."""
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    native = kind.newbyteorder("=")
    values: NDArray[Any]
    if kind.kind == "f":
        values = rng.standard_normal(shape) * std + offset
    elif kind.kind == "b":
        values = rng.random(shape) < 0.3
    elif span is None:
        values = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, native, endpoint=True)
    else:
        values = rng.integers(0, span, shape).astype(native) + native.type(offset)
    return np.asarray(values.astype(kind), order="F" if order == "F" else "C")


def spoiled(shape: Sequence[int], dtype: str = "f4", order: str = "C", seed: int = 0) -> NDArray[Any]:
    """Return random values far from 0; among many floats some that are not finite, and extremes that come twice."""
    offset = {"f2": 10.0, "f4": 1e6, "f8": 1e6}.get(dtype.lstrip("<>"), 0.0)
    x = drawn(shape, dtype, order, seed, offset=offset)
    if x.dtype.kind == "f" and x.size > 30:
        places = np.random.default_rng(seed).choice(x.size, 12, replace=False)
        values = [np.nan, np.inf, -np.inf, np.nan, np.inf, -np.inf, *[np.nanmax(x)] * 3, *[np.nanmin(x)] * 3]
        for place, value in zip(places, values, strict=True):
            x[np.unravel_index(place, x.shape)] = value
    return x


def special(dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return values of a dtype with all that is odd in it: its extremes, several times, subnormals, zeros, NaN."""
    rng = np.random.default_rng(7)
    dtype = np.dtype(dtype)
    size = math.prod(shape)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape) > 0
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = rng.integers(-40 if dtype.kind == "i" else 0, 40, size).astype(dtype)
        for at, value in enumerate((info.max, info.max, info.min, 0, info.max - 1, 1)):
            x[at * 7 + 3] = value
        return x.reshape(shape)
    x = (rng.standard_normal(size) * 2.0 ** rng.integers(-30, 18, size)).astype(np.float32)
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    odd = [0.0, -0.0, np.nan, np.inf, -np.inf, np.inf, 1.0, 1.0]
    for at, one in enumerate(odd):
        x[at * 5 + 1] = one
    return x.reshape(shape)


def images(shape: Sequence[int] = SHAPE, dtype: str = "f4", seed: int = 0) -> NDArray[Any]:
    """Return a small batch of images whose values lie about 50."""
    return drawn(shape, dtype, seed=seed, offset=50, std=20, span=100)


def measured(x: NDArray[Any], axes: tuple[int, ...], tile: int = 1 << 20, workers: int = 1) -> Moments:
    """Return the moments, with every extra, of the cells along `axes`."""
    source = ArraySource(x)
    with Engine(workers, tile=tile, visit=4 * tile) as engine:
        return measure(source, by_axes(x.shape, source.order, axes), engine, *RECORDS)


def plain(*values: Any) -> tuple[Any, ...]:
    """Return arrays of one value, and numbers, as Python's own."""
    return tuple(np.asarray(value).item() if isinstance(value, np.ndarray | np.generic) else value for value in values)


def assert_same_bits(a: NDArray[Any], b: NDArray[Any], what: object = "") -> None:
    """Raise unless the arrays are the same to the bit, dtype and shape included (all NaN are one)."""
    assert (a.dtype, a.shape) == (b.dtype, b.shape), (what, a.dtype, b.dtype, a.shape, b.shape)
    if a.dtype == object:  # Python's integers
        assert a.tolist() == b.tolist(), what
        return
    different = ~((a == b) & (np.signbit(a) == np.signbit(b)) | (a != a) & (b != b))
    assert not different.any(), (what, int(different.sum()), a[different][:3], b[different][:3])


def assert_same_moments(a: Moments, b: Moments, what: object = "") -> None:
    """Raise unless the moments are the same to the bit; counts and powers that are not kept are zeros."""
    assert [type(extra) for extra in a.extras] == [type(extra) for extra in b.extras], what
    pairs: list[tuple[Any, Any, Any]] = [(a[:-1], b[:-1], Moments._fields[:-1])]
    pairs += [(left, right, getattr(left, "_fields", ())) for left, right in zip(a.extras, b.extras, strict=True)]
    for one, other, names in pairs:
        for name, left, right in zip(names, one, other, strict=True):
            if name == "distinct":
                assert [values.tolist() for values in left] == [values.tolist() for values in right], what
            elif left is not None or right is not None:
                zeros = np.zeros_like(right if left is None else left)
                assert_same_bits(zeros if left is None else left, zeros if right is None else right, (what, name))
