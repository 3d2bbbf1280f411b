"""What does the work: threads of this process, or a cluster, whose module is imported where one is asked for."""

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
    """Return the engine that runs on ``"threads"``, or on ``"dask"`` with the scheduler at that address.

    Raises
    ------
    ParameterError
        If there is a scheduler for threads, or no package for dask.
    """
    if executor == "dask":
        from gncli.run.cluster import ClusterEngine

        return ClusterEngine(scheduler, workers, tile, policy)
    if scheduler is not None:
        raise ParameterError("--scheduler goes with --executor dask")
    return Engine(workers, tile)
