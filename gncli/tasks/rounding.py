"""Results that are rounded to a dtype once, and what became of them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli.kernels.exact import rounded
from gncli.kernels.floats import Float
from gncli.kernels.moments import Floats
from gncli.report.records import Rounded


class Rounding:
    """Rounds results, from any thread, and counts what overflowed, and what became 0 and is not.

    Parameters
    ----------
    made : Float
        The dtype of the results.
    overflow : {"saturate", "nonfinite"}, optional
        What becomes of results that overflow.
    """

    def __init__(self, made: Float, overflow: str | None) -> None:
        self.made, self.overflow = made, overflow
        self.overflowed = self.became_zero = 0
        self._lock = threading.Lock()

    def rounded(self, high: Floats, low: Floats) -> NDArray[Any]:
        """Return ``high + low``, rounded once to the nearest number, ties to even."""
        found = rounded(high, low, self.made)
        if self.made.foreign:
            overflowed = self.made.resolve(found, self.overflow)
            became_zero = int(np.count_nonzero((found == 0) & (high != 0)))
            with self._lock:
                self.overflowed += overflowed
                self.became_zero += became_zero
        return found

    def report(self) -> Rounded | None:
        """Return the counts; None for a dtype that NumPy has."""
        if not self.made.foreign:
            return None
        return Rounded(self.made.name, self.overflow, self.overflowed, self.became_zero)
