"""The task of ``gncli random``: draw a tensor, write it, and describe it."""

from __future__ import annotations

import contextlib
from typing import Any, Self

from numpy.typing import NDArray

from gncli import io
from gncli.inputs import Draw
from gncli.io.random import RandomSource
from gncli.io.source import Sink, Source, Wrapping
from gncli.kernels.floats import FLOATS, chosen
from gncli.report.records import Rounded, StatsReport
from gncli.run.engine import Engine
from gncli.tasks.requests import Random
from gncli.tasks.survey import describe, measured


class RandomRun:
    """A run of ``random``: entering it opens the output and checks everything; then call `report` and `commit`.

    Parameters
    ----------
    request : Random
        The tensor and the options.
    """

    def __init__(self, request: Random) -> None:
        self.request = request
        self._stack = contextlib.ExitStack()
        self._sink: Sink | None = None

    def __enter__(self) -> Self:
        draw, output = self.request.draw, self.request.output
        with contextlib.ExitStack() as stack:
            made = chosen(draw.dtype, FLOATS[Draw.dtype], output.overflow)
            self._source = RandomSource(draw.shape, draw.dist, draw.seed, made.name)
            self._engine = stack.enter_context(Engine(self.request.execution.workers, self.request.execution.tile))
            if output.path is not None:
                self._sink = io.open_sink(
                    output.path,
                    shape=self._source.shape,
                    dtype=made,
                    attributes={"dist": draw.dist, "seed": self._source.seed},
                    force=output.force,
                    compression=output.compression,
                    npy_bits=output.npy_bits,
                    network=self.request.network,
                )
                stack.callback(self._sink.abort)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def report(self) -> StatsReport:
        """Draw and write the tensor, and return its statistics; the output is not yet visible under its name.

        Raises
        ------
        OutputError
            If the output cannot be written.
        """
        request, source = self.request, self._source
        drawn = source if self._sink is None else _Tee(source, self._sink)
        stats = describe(drawn, self._engine, measured(request.statistics, zeros=request.zeros))
        return StatsReport(
            tensors=(stats,),
            selected=request.statistics,
            seed=source.seed if request.draw.seed is None else None,
            command="random",
            output=request.output.path,
            rounded=self._rounded(),
            notes=(*(() if self._sink is None else self._sink.notes), *self._engine.notes),
        )

    def _rounded(self) -> Rounded | None:
        """Return what became of the draws: none of them is beyond the largest number."""
        made = self._source.made
        overflow = self.request.output.overflow
        return Rounded(made.name, overflow, 0, self._source.became_zero) if made.foreign else None

    def commit(self) -> None:
        """Make the tensor visible under its name, if it was written."""
        if self._sink is not None:
            self._sink.commit()


class _Tee(Wrapping):
    """A sequential source that writes what is read from it to a sink."""

    def __init__(self, source: Source, sink: Sink) -> None:
        super().__init__(source)
        self._sink, self._written = sink, 0

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` from the source, and write the elements that have not been written yet."""
        self.inner.read_into(out, start)
        new = out[max(0, self._written - start) :]
        if new.size:
            self._sink.write_from(new, start + out.size - new.size)
            self._written = start + out.size
