"""What ``gncli random`` does: draw a tensor, write it, and describe it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from gncli import io
from gncli.io.source import Sink, Source, Wrapping
from gncli.names import Draw
from gncli.report.records import StatsReport
from gncli.run.engine import Engine
from gncli.tasks.survey import describe, measured


def chosen_seed(draw: Draw, source: Source) -> int | None:
    """Return the seed, if it was not the user who said it."""
    return source.seed if draw.seed is None else None


def random(
    draw: Draw,
    *,
    output: str | None = None,
    force: bool = False,
    compression: int | None = None,
    statistics: Sequence[str] = (),
    zeros: bool = False,
    before_commit: Callable[[StatsReport], None] | None = None,
    workers: int | None = None,
    tile: int | None = None,
) -> StatsReport:
    """Draw a tensor, write it to `output` (if that is not None), and return its statistics.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    source = io.RandomSource(draw.shape, draw.dist, draw.seed, draw.dtype)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(Engine(workers, tile))
        sink = None
        if output is not None:
            attributes = {"dist": draw.dist, "seed": source.seed}
            sink = io.open_sink(
                output,
                shape=source.shape,
                dtype=source.dtype,
                attributes=attributes,
                force=force,
                compression=compression,
            )
            stack.callback(sink.abort)
        found = describe(_Tee(source, sink) if sink else source, engine, measured(statistics, zeros=zeros))
        seed = chosen_seed(draw, source)
        report = StatsReport(
            (found,), tuple(statistics), seed=seed, command="random", output=output, notes=engine.notes
        )
        if before_commit is not None:
            before_commit(report)
        if sink:
            sink.commit()
    return report


class _Tee(Wrapping):
    """A sequential source that writes what is read from it to a sink."""

    def __init__(self, source: Source, sink: Sink) -> None:
        super().__init__(source)
        self._sink, self._written = sink, 0

    def read_into(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` from the source, and write what of it has not been written yet."""
        self.inner.read_into(out, start)
        new = out[max(0, self._written - start) :]
        if new.size:
            self._sink.write_from(new, start + out.size - new.size)
            self._written = start + out.size
