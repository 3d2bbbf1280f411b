"""What to expect of many workers and 10 TB: ``python -m tests.benchmarks.scale``.

Nothing that large is run. An item of work is, by one worker on this machine, with the file in the page cache; so are
what the caller does for it, and what dask takes for an item that does nothing. The table is multiplication.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

SHAPE = (64, 112, 112)  # of a sample


class Constants(NamedTuple):
    """What was measured, for one item of work.

    Attributes
    ----------
    item_nbytes : int
        Of input.
    item_seconds : float
        Until a worker has read, normalized, written and fsynced it.
    order_nbytes, result_nbytes : int
        Of what is sent to a worker, and of what comes back.
    order_seconds, merge_seconds, task_seconds : float
        For the caller to make the order, to merge what came back, and for dask to hand out and collect a task.
    """

    item_nbytes: int
    item_seconds: float
    order_nbytes: int
    result_nbytes: int
    order_seconds: float
    merge_seconds: float
    task_seconds: float


def measure(directory: str, item_nbytes: int, tasks: int) -> Constants:
    """Return the constants of this machine."""
    import pickle

    import numpy as np

    from gncli.io import open_sink, open_source
    from gncli.kernels.floats import FLOATS
    from gncli.kernels.groupnorm import GroupNorm
    from gncli.kernels.plain import Affine
    from gncli.run import cluster
    from gncli.run.normalization import Normalization

    samples = item_nbytes // (4 * SHAPE[0] * SHAPE[1] * SHAPE[2])
    path = os.path.join(directory, "x.npy")
    np.save(path, np.random.default_rng(0).standard_normal((4 * samples, *SHAPE), np.float32))
    found: dict[str, list[float]] = {name: [] for name in ("work", "order", "result", "ordering", "merging")}

    class Timed(cluster.ClusterEngine):
        """Does the work here, and looks at the clock."""

        def run(self, source, steps):  # type: ignore[no-untyped-def]
            orders = cluster._Orders(source, self, self._policy)
            for item in cluster._items(steps, item_nbytes // 4, orders.may_end):
                started = time.perf_counter()
                order = orders.order(item)
                ordered = time.perf_counter()
                results = cluster.work(order)
                found["work"].append(time.perf_counter() - ordered)
                found["ordering"].append(ordered - started)
                found["order"].append(len(order))
                found["result"].append(len(pickle.dumps(results)))
                for pair in zip(item, results, strict=True):
                    started = time.perf_counter()
                    yield pair
                    found["merging"].append(time.perf_counter() - started)

    source = open_source(path)
    grouping = GroupNorm(4).on(source.shape, source.order)
    channels = grouping.channels
    affine = Affine(np.ones(channels), np.zeros(channels), grouping.channel_shape)
    sink = open_sink(os.path.join(directory, "y.npy"), shape=source.shape, dtype=source.dtype)
    try:
        Normalization(source, sink, grouping, affine, FLOATS[source.dtype.name], Timed()).run()
    finally:
        sink.abort()
        source.close()
    # Some items are smaller, since they end with a visit; so the constants are for a byte, times those of an item.
    part = item_nbytes / (4 * samples * 4 * SHAPE[0] * SHAPE[1] * SHAPE[2])
    order_nbytes, result_nbytes = (round(part * sum(found[name])) for name in ("order", "result"))
    return Constants(
        item_nbytes,
        part * sum(found["work"]),
        order_nbytes,
        result_nbytes,
        part * sum(found["ordering"]),
        part * sum(found["merging"]),
        _task_seconds(tasks, order_nbytes),
    )


def _task_seconds(tasks: int, order_nbytes: int) -> float:
    import distributed

    from gncli.run import cluster

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as local,
        distributed.Client(local) as client,
    ):
        cluster._begun(client, cluster.done(client, len, b"")).result()
        orders = [os.urandom(order_nbytes) for _ in range(tasks)]
        started = time.perf_counter()
        for future in [cluster._begun(client, cluster.done(client, len, order)) for order in orders]:
            future.result()
        return (time.perf_counter() - started) / tasks


def expectation(constants: Constants, workers: int, nbytes: float, bandwidth: float) -> list[tuple[str, str]]:
    """Return the computed rows of the table: what, and how much.

    Parameters
    ----------
    constants : Constants
        Of an item.
    workers : int
        Processors that work at once.
    nbytes : float
        Of input.
    bandwidth : float
        Bytes a second that the file system takes and gives, together.
    """
    items = -(-nbytes // constants.item_nbytes)
    computing = items * constants.item_seconds / workers
    caller = items * (constants.order_seconds + constants.merge_seconds + constants.task_seconds)
    transfer = 2 * nbytes / bandwidth
    longest = max((computing, "the workers"), (caller, "the caller"), (transfer, "the file system"))
    return [
        ("items of work", f"{items:,.0f}"),
        ("orders sent", f"{items * constants.order_nbytes / 1e6:,.0f} MB"),
        ("moments moved to the caller", f"{items * constants.result_nbytes / 1e6:,.0f} MB"),
        ("the workers compute for", f"{computing:,.0f} s"),
        ("the caller is busy for", f"{caller:,.0f} s"),
        ("the workers could use", f"{2 * nbytes / computing / 1e9:,.1f} GB/s of the file system"),
        (f"the file system, at {bandwidth / 1e9:g} GB/s, takes", f"{transfer:,.0f} s"),
        ("so the limit is", f"{longest[1]}: {longest[0] / 60:,.0f} minutes"),
    ]


def main() -> int:
    """Measure, multiply, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--terabytes", type=float, default=10)
    parser.add_argument("--bandwidth", type=float, default=20, help="of the file system, GB/s, both ways together (20)")
    parser.add_argument("--item", type=int, default=256, help="MiB of an item of work (256)")
    parser.add_argument("--tasks", type=int, default=2000, help="empty items, to see what dask takes for one (2000)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gncli-scale-") as directory:
        constants = measure(directory, given.item << 20, given.tasks)
    sent, back = (f"{nbytes / 1e3:,.1f} kB" for nbytes in (constants.order_nbytes, constants.result_nbytes))
    print(f"measured: an item of {given.item:,} MiB takes a worker {constants.item_seconds:.2f} s")
    print(f"measured: {sent} are sent, {back} come back")
    times = (constants.order_seconds, constants.task_seconds, constants.merge_seconds)
    order, task, merge = (f"{seconds * 1e3:.2f} ms" for seconds in times)
    print(f"measured: the caller makes the order in {order}, dask takes {task}, merging takes {merge}")
    table = Table(
        title=f"computed: normalize, {given.terabytes:g} TB of float32",
        title_justify="left",
        box=box.ROUNDED,
    )
    table.add_column("")
    columns = []
    for workers in given.workers:
        table.add_column(f"{workers:,} workers" if workers > 1 else "1 worker")
        columns.append(expectation(constants, workers, given.terabytes * 1e12, given.bandwidth * 1e9))
    for rows in zip(*columns, strict=True):
        table.add_row(rows[0][0], *(value for _, value in rows))
    Console(width=160, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
