"""What to expect at 100 workers and 10 TB: ``python -m tests.benchmarks.scale``.

Nothing that large is run. An item of work is, by one worker on this machine, with the file in the page cache; so are
what comes back from it, what the caller does with that, and what dask takes for an item that does nothing. The rest is
multiplication, and the table says which rows are which.
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
        Of what is sent to a worker, and of what comes back without the edges.
    edge_nbytes : int
        Of what a worker leaves to the caller to write.
    merge_seconds, edge_seconds, task_seconds : float
        For the caller to merge what came back, to write the edges, and for dask to hand out and collect a task.
    """

    item_nbytes: int
    item_seconds: float
    order_nbytes: int
    result_nbytes: int
    edge_nbytes: int
    merge_seconds: float
    edge_seconds: float
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
    found: dict[str, list[float]] = {
        name: [] for name in ("work", "order", "result", "edges", "edge seconds", "merging")
    }

    class Timed(cluster.ClusterEngine):
        """Does the work here, and looks at the clock."""

        def run(self, job, source, regions):  # type: ignore[no-untyped-def]
            order, (sink,) = cluster._order(job, source, self, self._policy)
            for batch in cluster._batches(regions, item_nbytes // 4):
                started = time.perf_counter()
                results, (edges,) = cluster.work(order, batch)
                done = time.perf_counter()
                found["work"].append(done - started)
                for offset, data in edges:
                    sink.file.write(memoryview(data), offset)
                found["edge seconds"].append(time.perf_counter() - done)
                found["order"].append(len(order))
                found["result"].append(len(pickle.dumps(results)))
                found["edges"].append(sum(len(data) for _, data in edges))
                for pair in zip(batch, results, strict=True):
                    started = time.perf_counter()
                    yield pair
                    found["merging"].append(time.perf_counter() - started)

    source = open_source(path)
    grouping = GroupNorm(4).on(source.shape, source.order)
    channels = grouping.channels
    affine = Affine(np.ones(channels), np.zeros(channels), grouping.channel_shape)
    sink = open_sink(os.path.join(directory, "y.npy"), shape=source.shape, dtype=source.dtype)
    try:
        # Some items are smaller, since visits are aligned; so the constants are for a byte, times those of an item.
        Normalization(source, sink, grouping, affine, FLOATS[source.dtype.name], Timed(work=item_nbytes)).run()
    finally:
        sink.abort()
        source.close()
    items = len(found["work"])
    part = item_nbytes / (4 * samples * 4 * SHAPE[0] * SHAPE[1] * SHAPE[2])
    return Constants(
        item_nbytes,
        part * sum(found["work"]),
        round(sum(found["order"]) / items),
        round(part * sum(found["result"])),
        round(sum(found["edges"]) / items),
        part * sum(found["merging"]),
        sum(found["edge seconds"]) / items,
        _task_seconds(tasks),
    )


def _task_seconds(tasks: int) -> float:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as local,
        distributed.Client(local) as client,
    ):
        executor = client.get_executor(pure=False)
        executor.submit(int).result()
        started = time.perf_counter()
        for future in [executor.submit(int) for _ in range(tasks)]:
            future.result()
        return (time.perf_counter() - started) / tasks


def expectation(constants: Constants, workers: int, nbytes: float, bandwidth: float) -> list[tuple[str, str]]:
    """Return the rows of the table: what, and how much.

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
    caller = items * (constants.merge_seconds + constants.edge_seconds + constants.task_seconds)
    transfer = 2 * nbytes / bandwidth
    longest = max((computing, "the workers"), (caller, "the caller"), (transfer, "the file system"))
    return [
        ("measured: an item of work", f"{constants.item_nbytes / 2**20:,.0f} MiB, {constants.item_seconds:.2f} s"),
        ("measured: sent to a worker, an item", f"{constants.order_nbytes / 1e3:,.1f} kB"),
        ("measured: moments back, an item", f"{constants.result_nbytes / 1e3:,.1f} kB"),
        ("measured: edges back, an item", f"{constants.edge_nbytes / 1e3:,.0f} kB"),
        ("measured: the caller merges, an item", f"{constants.merge_seconds * 1e3:.2f} ms"),
        ("measured: the caller writes edges, an item", f"{constants.edge_seconds * 1e3:.2f} ms"),
        ("measured: dask, an item", f"{constants.task_seconds * 1e3:.2f} ms"),
        ("items of work", f"{items:,.0f}"),
        ("moments moved to the caller", f"{items * constants.result_nbytes / 1e6:,.0f} MB"),
        ("edges moved to the caller", f"{items * constants.edge_nbytes / 1e9:,.1f} GB"),
        (f"{workers} workers compute for", f"{computing:,.0f} s"),
        ("the caller is busy for", f"{caller:,.0f} s"),
        ("the workers could use", f"{2 * nbytes / computing / 1e9:,.0f} GB/s of the file system"),
        (f"the file system, at {bandwidth / 1e9:g} GB/s, takes", f"{transfer:,.0f} s"),
        ("so the limit is", f"{longest[1]}: {longest[0] / 60:,.0f} minutes"),
    ]


def main() -> int:
    """Measure, multiply, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--terabytes", type=float, default=10)
    parser.add_argument("--bandwidth", type=float, default=20, help="of the file system, GB/s, both ways together (20)")
    parser.add_argument("--item", type=int, default=256, help="MiB of an item of work (256)")
    parser.add_argument("--tasks", type=int, default=2000, help="empty items, to see what dask takes for one (2000)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gncli-scale-") as directory:
        constants = measure(directory, given.item << 20, given.tasks)
    table = Table(
        title=f"normalize, {given.terabytes:g} TB of float32, {given.workers} workers",
        title_justify="left",
        box=box.ROUNDED,
        show_header=False,
    )
    for row in expectation(constants, given.workers, given.terabytes * 1e12, given.bandwidth * 1e9):
        table.add_row(*row)
    Console(width=100, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
