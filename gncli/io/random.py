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

Distribution = Literal["uniform", "normal"]

_PIECE = 1 << 15  # elements that are drawn at a time


class _Draws:
    """A generator that knows how many elements it has drawn."""

    def __init__(self, dist: Distribution, dtype: np.dtype[Any], seed: int) -> None:
        self.position = 0
        self._generator = np.random.default_rng(seed)
        self._fill: Callable[..., object] = (
            self._generator.random if dist == "uniform" else self._generator.standard_normal
        )
        self._drawn: Any = np.float64 if dtype.itemsize == 8 else np.float32  # float16 is the float32 draw, rounded
        self._scratch = np.empty(_PIECE, self._drawn)

    def draw(self, out: NDArray[Any]) -> None:
        for start in range(0, out.size, _PIECE):
            piece = out[start : start + _PIECE]
            drawn = piece if piece.dtype == self._drawn else self._scratch[: piece.size]
            self._fill(dtype=self._drawn, out=drawn)
            if drawn is not piece:
                piece[...] = drawn
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
    dtype : dtype-like
        float16, float32 or float64; float16 is the float32 draw, rounded.

    Attributes
    ----------
    seed : int
        The seed that was given or chosen.

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
        dtype: np.dtype[Any] | str = "float64",
    ) -> None:
        self.name = " ".join(["random", "x".join(map(str, shape))]).rstrip()
        self.shape = shape
        self.dist: Distribution = dist
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float16, np.float32, np.float64):
            raise ParameterError(f"{self.dtype} cannot be drawn", hint="choose float16, float32 or float64")
        if seed is not None and seed < 0:
            raise ParameterError(f"the seed {seed} is negative", hint="choose one from 0 on")
        self.seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
        self._draws = _Draws(dist, self.dtype, self.seed)
        self._again = _Draws(dist, self.dtype, self.seed)
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

    def again(self) -> RandomSource:
        """Return the same tensor, drawn anew from its seed."""
        return RandomSource(self.shape, self.dist, self.seed, self.dtype)
