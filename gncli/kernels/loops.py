"""Which loops run: those in C if they were compiled, else those in NumPy. Both give the same bits."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gncli.errors import LimitError, ParameterError
from gncli.kernels import native, plain
from gncli.kernels.floats import Float
from gncli.kernels.plain import (
    Affine,
    Blocks,
    Factors,
    Floats,
    Gradient,
    GradientInTwo,
    Integers,
    MappedGradient,
    Reals,
    Standard,
    Standardization,
    Tolerance,
    Verified,
)


class Loops(Protocol):
    """The loops over elements; `gncli.kernels.plain` says what each returns."""

    def moments(
        self, values: NDArray[Any], about_zero: bool = False, wanted: Collection[str] = (), by: Reals | None = None
    ) -> Mapping[str, NDArray[Any]]:
        """See `plain.moments`."""

    def bounds(self, n: Floats, lo: Floats, m2: Floats, added: Floats, part: float, lost: Floats | None) -> Floats:
        """See `plain.bounds`."""

    def ratios(
        self, expected: Floats, shift: Floats, mean: Floats, var: Floats, summed: Floats, u: float, s: Floats
    ) -> tuple[float, float]:
        """See `plain.ratios`."""

    def pool(self, sets: Sequence[Floats]) -> Floats:
        """See `plain.pool`."""

    def column_digits(self, values: NDArray[np.float32], top: int) -> tuple[Integers, NDArray[np.bool_]]:
        """See `plain.column_digits`."""

    def digits(self, values: NDArray[np.float32]) -> Integers:
        """See `plain.digits`."""

    def limbs(self, values: NDArray[Any], center: Floats, unit: Floats) -> tuple[Integers, NDArray[np.bool_]]:
        """See `plain.limbs`."""

    def between(self, values: NDArray[Any], first: NDArray[np.uint32], upper: NDArray[np.uint64]) -> Integers:
        """See `plain.between`."""

    def steps(self, values: NDArray[Any], cells: Integers, num_cells: int) -> Integers:
        """See `plain.steps`."""

    def steps_on_paths(
        self, values: NDArray[Any], cells: Integers, top: NDArray[np.bool_], paths: NDArray[np.uint64], level: int
    ) -> Integers:
        """See `plain.steps_on_paths`."""

    def fletcher32(self, data: NDArray[np.uint8]) -> int:
        """See `plain.fletcher32`."""

    def normalize(
        self,
        values: NDArray[Any],
        length: int,
        cells: Standardization,
        affine: Affine | None,
        start: int,
        made: Float,
        y: NDArray[Any],
    ) -> Integers:
        """See `plain.normalize`."""

    def tally(self, a: NDArray[Any], b: NDArray[Any], tolerance: Tolerance) -> Mapping[str, NDArray[Any]]:
        """See `plain.tally`."""

    def ulps(
        self, a: NDArray[Any], b: NDArray[Any], bits: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    ) -> Integers:
        """See `plain.ulps`."""

    def verify(
        self,
        values: NDArray[Any],
        blocks: Blocks,
        cells: Standardization,
        affine: Affine | None,
        start: int,
        made: Float,
        y: NDArray[Any],
        checked: np.dtype[Any],
        *,
        about_zero: bool,
    ) -> Verified:
        """See `plain.verify`."""

    def audit(self, w: Floats, made: Float, y: NDArray[np.float32]) -> tuple[int, int]:
        """See `plain.audit`."""

    def gradient(
        self,
        g: Reals,
        z: Floats,
        errors: Floats | None,
        blocks: Blocks,
        cells: Gradient,
        made: Float,
        out: NDArray[Any] | None,
    ) -> MappedGradient:
        """See `plain.gradient`."""

    def standardize_in_two(
        self, values: NDArray[Any], length: int, cells: Standardization, z: Floats, low: Floats
    ) -> None:
        """See `plain.standardize_in_two`."""

    def multiply_in_two(self, a: Floats, a_low: Floats, b: Floats, b_low: Floats, found: Floats, low: Floats) -> None:
        """See `plain.multiply_in_two`."""

    def gradient_in_two(
        self,
        g: Floats,
        g_low: Floats,
        z: Floats,
        z_low: Floats,
        length: int,
        cells: GradientInTwo,
        bound: Floats,
        lower: Floats,
    ) -> None:
        """See `plain.gradient_in_two`."""

    def derivative(self, name: str, u: Floats, bound: Floats) -> None:
        """See `plain.derivative`."""

    def slopes(self, name: str, x: Floats, factors: Factors, standard: Standard) -> tuple[Floats, Floats, Floats]:
        """See `plain.slopes`."""

    def derivative_in_two(self, name: str, u: Floats, low: Floats, error: Floats) -> None:
        """See `plain.derivative_in_two`."""

    def largest(self, a: Reals, b: Reals | None) -> float:
        """See `plain.largest`."""

    def levels(self, a: Reals, b: Reals | None, shape: tuple[int, ...], units: Floats) -> tuple[Integers, bool]:
        """See `plain.levels`."""

    def unshuffle(self, data: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
        """See `plain.unshuffle`."""

    def narrow(self, kind: Float, values: NDArray[np.float32], out: NDArray[Any]) -> None:
        """See `plain.narrow`."""


@functools.cache
def loops() -> Loops:
    """Return the loops that ``GNCLI_KERNEL`` names, or else the fastest that run here.

    See `kernel` for the errors.
    """
    return _named(kernel())


def _named(name: str) -> Loops:
    return plain if name == "plain" else native.Native(name)


def kernel() -> str:
    """Return the name of what computes: ``plain`` (NumPy), or the body of `native.c`, such as ``avx2``.

    It changes no number. ``GNCLI_KERNEL`` chooses; by default it is the fastest that runs here.

    Returns
    -------
    str
        ``plain``, ``baseline``, ``avx2`` or ``avx512``.

    Raises
    ------
    ParameterError
        If there is no kernel of the name in ``GNCLI_KERNEL``.
    LimitError
        If it does not run here.

    Examples
    --------
    >>> kernel() in ("plain", "baseline", "avx2", "avx512")
    True
    """
    asked = os.environ.get("GNCLI_KERNEL", "")
    here = native.bodies()
    best = here[-1] if here else "plain"
    known = ("plain", "native", *native.BODIES)
    if asked and asked not in known:
        raise ParameterError(f"there is no kernel {asked!r}", subject="GNCLI_KERNEL", hint=f"choose {', '.join(known)}")
    if asked in ("", "plain"):
        return asked or best
    found = best if asked == "native" else asked
    if found not in here:
        usable = ", ".join(("plain", *(("native", *here) if here else ())))
        raise LimitError(f"the kernel {asked} does not run here", subject="GNCLI_KERNEL", hint=f"choose {usable}")
    return found
