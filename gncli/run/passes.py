"""Passes over a source: one that measures it, and the one or two that normalize it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gncli import progress
from gncli.errors import LimitError
from gncli.io.source import Sink, Source
from gncli.kernels.extras import Extras
from gncli.kernels.groupnorm import (
    Affine,
    Check,
    Grouping,
    Standardization,
    all_checks,
    check,
    factor,
    normalize_region,
    standardization,
)
from gncli.kernels.moments import Floats, Fold, Moments, Tree, concatenate, fold_axes, measure_region
from gncli.kernels.partition import Axis, Partition
from gncli.kernels.walk import Region, Walk
from gncli.run.engine import Engine

MAX_OPEN_CELLS = 1 << 20  # cells whose moments are held at once where the storage order keeps them open: 100 bytes each


def measure(
    source: Source,
    partition: Partition,
    engine: Engine,
    *,
    zeros: bool = False,
    extras: Extras | None = None,
) -> Moments:
    """Return the moments of the cells of `partition`, in storage order, from one pass over `source`.

    Raises
    ------
    LimitError
        If more than `MAX_OPEN_CELLS` cells are open at once.
    """
    return concatenate(list(measure_spans(source, partition, engine, zeros=zeros, extras=extras)))


def measure_spans(
    source: Source,
    partition: Partition,
    engine: Engine,
    *,
    zeros: bool = False,
    extras: Extras | None = None,
) -> Iterator[Moments]:
    """Yield the moments of the cells of `partition`, in storage order, as whole spans of them become known.

    Parameters
    ----------
    source : Source
        Read once.
    partition : Partition
        Of its elements.
    engine : Engine
    zeros : bool
        Whether zeros are counted.
    extras : Extras, optional
        What else is wanted.

    Raises
    ------
    LimitError
        If more than `MAX_OPEN_CELLS` cells are open at once.
    """
    if not partition.size:
        nothing = Moments.nothing(source.dtype, zeros=zeros)
        nothing = nothing if extras is None else extras.nothing(nothing, source.dtype)
        yield nothing.each(lambda array: np.repeat(array, partition.num_cells))
        return
    walk = _walk(partition, source)
    tile, visit = engine.tile_of(source.dtype), engine.visit_of(source)
    kernel = None if extras is None else extras.measure

    def job(region: Region, values: NDArray[Any]) -> Moments:
        return measure_region(walk, region, values, tile, zeros=zeros, extras=kernel)

    fold = Fold(walk, top=1)
    for region, moments in engine.run(job, source, walk.regions(visit)):
        if region.axis == 0:
            yield moments
            continue
        fold.push(region, moments)
        if fold.result is not None:
            yield fold.result
            fold = Fold(walk, top=1)


def _walk(partition: Partition, source: Source) -> Walk:
    walk = Walk.of(partition)
    if walk.span_cells > MAX_OPEN_CELLS:
        raise LimitError(
            f"{walk.span_cells} cells are open at once in this storage order, more than {MAX_OPEN_CELLS}",
            subject=source.name,
            hint="store the tensor in another order, or in parts",
        )
    return walk


class _Cells(NamedTuple):
    """What the passes know of some whole cells."""

    before: Moments
    mapping: Standardization
    z: Moments
    y: Moments


class _Mapped(NamedTuple):
    """What is left of a visit that has been normalized: moments, merged as far as it reaches, and its bytes if due."""

    z: Moments
    y: Moments
    result: NDArray[Any] | None


@dataclass(frozen=True)
class Outcome:
    """What a run of Group Normalization found. Moments are settled, of shape (1,).

    Attributes
    ----------
    before, after : Moments
        Of the input and of the output.
    normalized : Moments
        Of the standardized values, before gamma and beta.
    means, variances : Moments
        Of the groups' means and variances, as values themselves; of nothing unless the stages were to be kept.
    check : Check
        Of the standardized values.
    kept : tuple of three ndarray of float64, shape (N, G), or None
        Of each group the mean, the variance, and the factor that deviations were multiplied by.
    """

    before: Moments
    after: Moments
    normalized: Moments
    means: Moments
    variances: Moments
    check: Check
    kept: tuple[Floats, ...] | None = None


OnCells = Callable[[tuple[Floats, ...]], None]
"""Takes mean and deviation before, mean and deviation after, of the next cells in storage order."""


class _Summary(NamedTuple):
    """What a run keeps of some whole spans."""

    nodes: dict[str, Moments]
    check: Check
    kept: tuple[Floats, ...] | None
    shown: tuple[Floats, ...] | None


class Normalization:
    """Group Normalization of a source, into a sink if there is one.

    Whole spans of cells are dealt with. A span that fits a visit is read once and walked twice in tiles, for its
    moments and for the map; a larger one is read twice, visit by visit, with the same kernels.

    Parameters
    ----------
    source : Source
    sink : Sink or None
        Takes the result; by default only what is found out about it counts.
    grouping : Grouping
        What to do.
    affine : Affine
        Gamma and beta.
    dtype : numpy.dtype
        Of the result.
    engine : Engine
    keep : bool
        Whether the moments of each group are kept: 24 bytes a group.
    stages : bool
        Whether the means and variances of the groups are measured as values.
    zeros : bool
        Whether zeros are counted, before and after.
    verify : bool
        Whether standardized values are measured apart from the result where `affine` changes them.
    on_cells : callable, optional
        Takes what a picture shows of the cells, as they are complete.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink | None,
        grouping: Grouping,
        affine: Affine,
        dtype: np.dtype[Any],
        engine: Engine,
        *,
        keep: bool = False,
        stages: bool = False,
        zeros: bool = False,
        verify: bool = True,
        on_cells: OnCells | None = None,
    ) -> None:
        self.source, self.sink, self.grouping, self.affine = source, sink, grouping, affine
        self.dtype, self.engine = dtype, engine
        self.keep, self.stages, self.zeros = keep, stages, zeros
        self.apart = verify and not affine.identity
        self.shows = on_cells is not None
        self.tile = engine.tile_of(source.dtype)
        self._trees: defaultdict[str, Tree] = defaultdict(Tree)
        self._kept: list[tuple[Floats, ...]] = []
        self._check = all_checks([])
        self._on_cells = on_cells

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker in another process needs to know: not what has been found so far."""
        return self.__dict__ | {"_trees": None, "_kept": None, "_on_cells": None}

    def run(self) -> Outcome:
        """Do it, and return what was found.

        Raises
        ------
        GncliError
            If the source cannot be read, or the sink written.
        """
        if self.grouping.partition.size:
            self.walk = _walk(self.grouping.partition, self.source)
            visit = self.engine.visit_of(self.source)
            once, spans = self.walk.cut(visit) == 0, self.walk.units[0].size
            nbytes = self.grouping.partition.size * self.source.dtype.itemsize
            progress.begin("normalize", self.source.name, nbytes, 1 if once else 2, spans)
            if once:
                self._run_whole(visit)
            else:
                for span in range(spans):
                    self._run_span(visit, span)
        return self._outcome()

    def _run_whole(self, visit: int) -> None:
        def job(region: Region, values: NDArray[Any]) -> tuple[_Summary, NDArray[Any] | None]:
            before = self._measure(region, values).settled()
            mapping = standardization(before, self.grouping.norm)
            mapped = self._map(region, values, mapping)
            return self._summary(_Cells(before, mapping, mapped.z, mapped.y), region.last - region.first), mapped.result

        for region, (summary, result) in self.engine.run(job, self.source, self.walk.regions(visit)):
            self._write_in_turn(region, result)
            self._take(summary)

    def _run_span(self, visit: int, span: int) -> None:
        start = span * self.walk.span
        self.source.hold(start, start + self.walk.span)
        spans = range(span, span + 1)
        fold = Fold(self.walk, top=1)
        for region, moments in self.engine.run(self._measure, self.source, self.walk.regions(visit, spans)):
            fold.push(region, moments)
        assert fold.result is not None  # every region of the span was pushed
        before = fold.result.settled()
        mapping = standardization(before, self.grouping.norm)

        def job(region: Region, values: NDArray[Any]) -> _Mapped:
            return self._map(region, values, mapping)

        z, y = Fold(self.walk, top=1), Fold(self.walk, top=1)
        for region, mapped in self.engine.run(job, self.source, self.walk.regions(visit, spans)):
            self._write_in_turn(region, mapped.result)
            z.push(region, mapped.z)
            y.push(region, mapped.y)
        assert z.result is not None and y.result is not None  # as above
        self._take(self._summary(_Cells(before, mapping, z.result, y.result), 1))

    def _measure(self, region: Region, values: NDArray[Any]) -> Moments:
        return measure_region(self.walk, region, values, self.tile, zeros=self.zeros)

    def _map(self, region: Region, values: NDArray[Any], mapping: Standardization) -> _Mapped:
        """Normalize a visit, and write it unless that must be done in turn."""
        buffers, walk = self.engine.buffers, self.walk
        y = buffers.take(values.size, self.dtype)
        z = buffers.take(values.size, self.dtype) if self.apart else None
        normalize_region(walk, region, values, mapping, self.affine, self.tile, z=z, y=y)
        # Standardized values have a mean of nearly 0, which saves the kernel a pass.
        center = 0.0 if self.affine.identity else None
        y_moments = measure_region(walk, region, y, self.tile, zeros=self.zeros, center=center)
        z_moments = y_moments
        if z is not None:
            z_moments = measure_region(walk, region, z, self.tile, center=0.0)
            buffers.give(z)
        if self.sink is not None and self.sink.sequential:
            return _Mapped(z_moments, y_moments, y)
        if self.sink is not None:
            self.sink.write_from(y, region.start)
        buffers.give(y)
        return _Mapped(z_moments, y_moments, None)

    def _write_in_turn(self, region: Region, result: NDArray[Any] | None) -> None:
        if result is not None and self.sink is not None:
            self.sink.write_from(result, region.start)
            self.engine.buffers.give(result)

    def _summary(self, cells: _Cells, spans: int) -> _Summary:
        """Return what is left of `spans` whole spans: a node of each tree, the check, and what is kept of each cell."""
        nodes = {"before": cells.before, "after": cells.y}
        if self.apart:
            nodes["normalized"] = cells.z
        kept = shown = None
        if self.shows:
            after = cells.y.settled()
            shown = (cells.before.mean, cells.before.std(), after.mean, after.std())
        if self.keep or self.stages:
            mean, var = cells.before.mean, cells.before.var()
            if self.keep:
                kept = (mean, var, factor(cells.mapping))
            if self.stages:
                nodes |= {"means": Moments.of_values(mean), "variances": Moments.of_values(var)}
        inner = (Axis(False, spans), Axis(False, cells.before.n.size // spans))
        folded = {name: fold_axes(moments, inner, keep_first=False) for name, moments in nodes.items()}
        return _Summary(folded, check(cells.before, cells.z, cells.y, self.grouping.norm, self.dtype), kept, shown)

    def _take(self, summary: _Summary) -> None:
        for name, node in summary.nodes.items():
            self._trees[name].push(node)
        self._check = all_checks([self._check, summary.check])
        if summary.kept is not None:
            self._kept.append(summary.kept)
        if self._on_cells is not None and summary.shown is not None:
            self._on_cells(summary.shown)

    def _outcome(self) -> Outcome:
        def total(name: str, dtype: np.dtype[Any]) -> Moments:
            found = self._trees[name].total()
            return Moments.nothing(dtype, zeros=self.zeros) if found is None else found.settled()

        after = total("after", self.dtype)
        double = np.dtype(np.float64)
        kept = None
        if self.keep:
            parts = zip(*self._kept, strict=True) if self._kept else (self._undefined(),) * 3
            kept = tuple(self.grouping.partition.arrange(np.concatenate(part)) for part in parts)
        return Outcome(
            before=total("before", self.source.dtype),
            after=after,
            normalized=total("normalized", self.dtype) if self.apart else after,
            means=total("means", double),
            variances=total("variances", double),
            check=self._check,
            kept=kept,
        )

    def _undefined(self) -> list[Floats]:
        """Return the moments of the cells of a tensor without elements."""
        return [np.full(self.grouping.partition.num_cells, np.nan)]
