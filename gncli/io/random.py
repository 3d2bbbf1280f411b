"""Random tensors: bit for bit what NumPy's Generator gives for the seed, drawn in pieces, never held whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gncli.errors import ParameterError
from gncli.io.source import Source
from gncli.kernels.floats import FLOATS, Float

Distribution = Literal["uniform", "normal"]

_PIECE = 1 << 15  # elements that are drawn at a time


class _Draws:
    """A generator that knows how many elements it has drawn."""

    def __init__(self, dist: Distribution, made: Float, seed: int) -> None:
        self.position = self.became_zero = 0
        self._made = made
        self._generator = np.random.default_rng(seed)
        self._fill: Callable[..., object] = (
            self._generator.random if dist == "uniform" else self._generator.standard_normal
        )
        self._drawn: Any = np.float64 if made.mantissa == 52 else np.float32  # of narrower ones the draw is rounded
        self._scratch = np.empty(_PIECE, self._drawn)

    def draw(self, out: NDArray[Any]) -> None:
        for start in range(0, out.size, _PIECE):
            piece = out[start : start + _PIECE]
            drawn = piece if self._made.name == np.dtype(self._drawn).name else self._scratch[: piece.size]
            self._fill(dtype=self._drawn, out=drawn)
            if drawn is not piece:
                self._made.round_into(drawn.astype(np.float64), piece)
                self.became_zero += int(np.count_nonzero((piece == 0) & (drawn != 0)))
        self.position += out.size

    def skip(self, count: int) -> None:
        for start in range(0, count, _PIECE):
            self._fill(dtype=self._drawn, out=self._scratch[: count - start])
        self.position += count

    def state(self) -> tuple[int, Any]:
        return self.position, self._generator.bit_generator.state

    def restore(self, state: tuple[int, Any]) -> None:
        self.position, self._generator.bit_generator.state = state


class RandomSource(Source):
    """A random tensor.

    Parameters
    ----------
    shape : tuple of int
        Its shape; ``()`` is one number.
    dist : {"uniform", "normal"}
        ``Generator.random``, uniform on [0, 1), or ``Generator.standard_normal``.
    seed : int, optional
        The argument of ``np.random.default_rng``, at least 0; without it, a seed is chosen.
    dtype : str
        float16, float32, float64, bfloat16, float8_e4m3fn or float8_e5m2. A float64 is drawn as such; the others are
        the float32 draw, rounded once. No draw is beyond the largest of them.

    Attributes
    ----------
    seed : int
        The seed that was given or chosen.
    made : Float
        The dtype.

    Raises
    ------
    ParameterError
        If the seed is negative, or the dtype is another one.
    """

    sequential = True
    seed: int

    def __init__(
        self,
        shape: tuple[int, ...],
        dist: Distribution = "uniform",
        seed: int | None = None,
        dtype: str = "float64",
    ) -> None:
        self.name = " ".join(["random", "x".join(map(str, shape))]).rstrip()
        self.shape = shape
        self.dist: Distribution = dist
        if dtype not in FLOATS:
            *names, last = FLOATS
            raise ParameterError(f"{dtype} cannot be drawn", hint=f"choose {', '.join(names)} or {last}")
        self.made = FLOATS[dtype]
        self.dtype, self.stored_as = self.made.dtype, self.made if self.made.foreign else None
        if seed is not None and seed < 0:
            raise ParameterError(f"the seed {seed} is negative", hint="choose one from 0 on")
        self.seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
        self._draws = _Draws(dist, self.made, self.seed)
        self._again = _Draws(dist, self.made, self.seed)
        self._held = self._again.state()
        self._lock = threading.Lock()

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` with the elements from `start` on: the next ones, or ones that were held."""
        with self._lock:
            behind = min(out.size, max(0, self._draws.position - start))
            if behind:
                self._reread(out[:behind], start)
            if behind < out.size:
                self._draws.skip(start + behind - self._draws.position)
                self._draws.draw(out[behind:])

    def hold(self, start: int, stop: int) -> None:
        """Keep the generator's state at `start`, so that what follows can be drawn again."""
        with self._lock:
            if start < self._draws.position:
                raise ValueError(f"element {start} was drawn before it was held")
            self._draws.skip(start - self._draws.position)
            self._held = self._draws.state()

    def _reread(self, out: NDArray[Any], start: int) -> None:
        if start < self._held[0]:
            raise ValueError(f"element {start} was not held")
        if self._again.position < self._held[0] or self._again.position > start:
            self._again.restore(self._held)
        self._again.skip(start - self._again.position)
        self._again.draw(out)

    @property
    def became_zero(self) -> int:
        """How many of the numbers that were drawn so far are not 0, and were rounded to it."""
        return self._draws.became_zero

    def again(self) -> RandomSource:
        """Return the same tensor, drawn anew from its seed."""
        return RandomSource(self.shape, self.dist, self.seed, self.made.name)
