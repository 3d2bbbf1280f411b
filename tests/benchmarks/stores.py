"""What reading and writing objects costs on this machine: ``python -m tests.benchmarks.stores``.

A server of the standard library, in a process of its own, sends a tensor that it makes up, at once or after a wait, as
a store does whose answers take long. Writing is to moto's S3. The limit is the server, so what counts is the number of
requests and of bytes, the memory, and how much of the latency is left.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from gncli.io.formats.npy import header_bytes
from tests import servers

COUNT = re.compile(r"maximum resident (\d+)")


class Run(NamedTuple):
    """A run: seconds, requests, bytes that were asked for, and the most memory in MiB."""

    seconds: float
    requests: int
    nbytes: int
    memory: int


class Made(servers.Store):
    """A server of one tensor, which is no array in memory: a block, over and over."""

    def __init__(self, header: bytes, size: int, latency: float) -> None:
        super().__init__()
        self.header, self.size, self.wait = header, size, latency
        self.block = np.random.default_rng(0).standard_normal(1 << 21, dtype=np.float32).tobytes()
        self.faults.append(self.send)

    def send(self, handler: servers.Handler, asked: servers.Asked) -> bool:
        assert asked.range is not None
        first, last = asked.range[0], min(asked.range[1], self.size - 1)
        time.sleep(self.wait)
        handler.send_response(206)
        handler.send_header("ETag", '"made"')
        handler.send_header("Content-Range", f"bytes {first}-{last}/{self.size}")
        handler.send_header("Content-Length", str(last + 1 - first))
        handler.end_headers()
        head = self.header[first : last + 1]
        handler.wfile.write(head)
        at = first + len(head)
        while at <= last:
            place = at % len(self.block)
            piece = memoryview(self.block)[place : place + last + 1 - at]
            handler.wfile.write(piece)
            at += len(piece)
        return True


def serve(header: bytes, size: int, latency: float, pipe: Connection) -> None:
    server = Made(header, size, latency)
    pipe.send(server.url)
    pipe.recv()
    pipe.send((len(server.ranges), server.nbytes))


def run(words: list[str], nbytes: int, latency: float) -> Run:
    """Return how a command does that reads a tensor of so many bytes."""
    rows = nbytes // (4 << 14)
    header = header_bytes((rows, 1 << 14), np.dtype("<f4"), "C")
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(header, len(header) + (rows << 16), latency, theirs))
    server.start()
    url = f"{ours.recv()}/x.npy"
    code = (
        "import sys, resource; from gncli.cli import main; "
        f"status = main({[word.replace('URL', url) for word in words]!r}); "
        "print('maximum resident', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); "
        "sys.exit(status)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    ours.send(None)
    requests, asked = ours.recv()
    server.join()
    memory = COUNT.search(done.stderr)
    assert memory is not None
    return Run(seconds, requests, asked, int(memory[1]) >> 10)


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--requests", type=int, default=8)
    asked = parser.parse_args()
    nbytes = asked.mib << 20
    words = ["stats", "URL", "-s", "mean,std", "--requests", str(asked.requests)]
    fast = min(run(words, nbytes, 0.0) for _ in range(3))
    slow = min(run(words, nbytes, 0.05) for _ in range(2))
    limit = 1.5 * (0.05 * slow.requests / asked.requests + fast.seconds)
    for name, found in (("at once", fast), ("after 50 ms", slow)):
        print(
            f"{name}: {found.seconds:.2f} s, {found.requests} requests for {nbytes / (8 << 20):.0f} x 8 MiB, "
            f"{found.nbytes / nbytes:.4f} of the bytes, {found.memory} MiB"
        )
    print(f"limit with the latency: {limit:.2f} s; {os.cpu_count()} processors, {asked.requests} requests in flight")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
