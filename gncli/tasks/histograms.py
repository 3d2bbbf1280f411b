"""Histograms: edges from statistics of the tensors that share them, then the counts, from one more pass each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli.io.source import Sink, Source
from gncli.kernels import histogram
from gncli.kernels.counts import BinCounts
from gncli.kernels.moments import Floats
from gncli.kernels.partition import whole
from gncli.names import Scale, Value
from gncli.report.records import Histogram
from gncli.run.engine import Engine
from gncli.run.plan import Plan

Count = Callable[[Floats], NDArray[np.int64]]


class Bars(NamedTuple):
    """A histogram that is asked for.

    Attributes
    ----------
    bins : int
        The number of bins; with the scale ``exponent`` there are as many as powers of two.
    scale : {"linear", "exponent", "log"}
        The bins: of x, or of |x| by powers of two or by its logarithm.
    """

    bins: int
    scale: Scale = "linear"

    @classmethod
    def of(cls, bins: int | None, scale: Scale = "linear") -> tuple[Bars, ...]:
        """Return the histogram with so many bins; nothing where that is None."""
        return () if bins is None else (cls(bins, scale),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The statistics that it takes and that are not always measured."""
        return () if self.scale == "linear" else (*self._ends, "zeros")

    @property
    def _ends(self) -> tuple[str, str]:
        """The statistics that are the first edge and the last one."""
        return ("min", "max") if self.scale == "linear" else ("smallest_nonzero", "absmax")

    def edges(self, *tensors: Mapping[str, Value]) -> Floats:
        """Return the edges around the elements of tensors with these statistics; none if there is nothing to count."""
        ends: Any = [[found[name] for name in self._ends] for found in tensors]
        known = [(float(low), float(high)) for low, high in ends if low is not None and high is not None]
        if not known:
            return np.empty(0)
        low, high = min(low for low, _ in known), max(high for _, high in known)
        if self.scale == "linear":
            return histogram.edges(low, high, self.bins)
        return histogram.magnitude_edges(low, high, self.scale, self.bins)

    def drawn(self, edges: Floats, found: Mapping[str, Value], count: Count) -> Histogram:
        """Return the histogram of a tensor with the statistics `found`; `count` counts its elements between edges."""
        zeros: Any = 0 if self.scale == "linear" else found["zeros"]
        if not edges.size:
            return Histogram((), (), self.scale, zeros)
        counts = count(edges) if self.scale == "linear" else histogram.folded(count(histogram.both_signs(edges)))
        return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), self.scale, zeros)


def counted(source: Source, engine: Engine, edges: Floats) -> NDArray[np.int64]:
    """Return the number of elements of `source` in each bin between `edges`, from one pass."""
    plan = Plan.of(source, whole(source.shape), engine, lambda _walk, _once: ("histogram",)).begin()
    return plan.total(BinCounts(histogram.Bins(edges, source.dtype))).number


class CountingSink(Sink):
    """A sink that keeps only the counts of the tensor between edges.

    Parameters
    ----------
    edges : ndarray of float64
        The edges.
    dtype : numpy.dtype
        The dtype that is written.
    """

    def __init__(self, edges: Floats, dtype: np.dtype[Any]) -> None:
        self._bins = histogram.Bins(edges, dtype)
        self.counts = np.zeros(self._bins.size, np.int64)
        self._lock = threading.Lock()

    def write_from(self, data: NDArray[Any], start: int) -> None:
        """Count `data`."""
        counts = self._bins.count(data)
        with self._lock:
            self.counts += counts
