"""The choice of the engine: threads of this process, or a cluster, whose module is imported only if it is used."""

from __future__ import annotations

from gncli.errors import ParameterError
from gncli.inputs import STRICT, Policy
from gncli.run.engine import Engine


def engine_on(
    executor: str = "threads",
    scheduler: str | None = None,
    workers: int | None = None,
    tile: int | None = None,
    policy: Policy = STRICT,
) -> Engine:
    """Return the engine for the executor ``"threads"``, or ``"dask"`` with the address of a scheduler.

    Raises
    ------
    ParameterError
        If a scheduler is set for threads, or dask.distributed is not installed.
    """
    if executor == "dask":
        from gncli.run.cluster import ClusterEngine

        return ClusterEngine(scheduler, workers, tile, policy)
    if scheduler is not None:
        raise ParameterError("--scheduler goes with --executor dask")
    return Engine(workers, tile)
