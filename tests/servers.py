"""Servers on the loopback: one of the standard library that makes every mistake, and moto's S3."""

from __future__ import annotations

import functools
import hashlib
import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote

from tests.processes import uncovered

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


class Asked(NamedTuple):
    """A request that came: its method, its path and its headers, in small letters."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        """The first and the last byte that are asked for; before 0 where they are counted from the end."""
        match = re.fullmatch(r"bytes=(-?\d+)(?:-(\d+))?", self.headers.get("range", ""))
        return (int(match[1]), int(match[2] or -1)) if match else None


Fault = Callable[["Handler", Asked], bool]
"""Answers a request wrongly, and returns whether it did."""


class Handler(BaseHTTPRequestHandler):
    """Answers ranges of objects in memory, or hands requests on to another server."""

    protocol_version = "HTTP/1.1"
    server: Server
    body = b""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked = Asked(self.command, self.path, {key.lower(): value for key, value in self.headers.items()})
        store = self.server.store
        with store.lock:
            store.asked.append(asked)
            faults = list(store.faults)
        if store.latency:
            time.sleep(store.latency)
        size = int(asked.headers.get("content-length", 0))
        body = self.body = self.rfile.read(size)
        if len(body) < size:  # whoever sent it was killed
            self.close_connection = True
            return
        for fault in faults:
            if fault(self, asked):
                return
        if store.upstream is not None:
            self.hand_on(asked, body)
        else:
            self.answer(asked)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def answer(self, asked: Asked) -> None:
        store = self.server.store
        asked = asked._replace(path=unquote(asked.path) if asked.path not in store.objects else asked.path)
        found = store.objects.get(asked.path)
        if found is None:
            self.say(404)
            return
        headers = store.headers(asked.path)
        wanted = asked.headers.get("if-match")
        if wanted is not None and wanted != headers.get("ETag"):
            self.say(412)
        elif asked.range is None:
            self.say(200, found, headers)
        elif asked.range[0] >= len(found):
            self.say(416, b"", {"Content-Range": f"bytes */{len(found)}"})
        else:
            first, last = asked.range[0], min(asked.range[1], len(found) - 1)
            if first < 0:
                first, last = max(0, len(found) + first), len(found) - 1
            headers["Content-Range"] = f"bytes {first}-{last}/{len(found)}"
            self.say(206, found[first : last + 1], headers)

    def say(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hand_on(self, asked: Asked, body: bytes) -> None:
        assert self.server.store.upstream is not None
        # moto reads a body in pieces only from its own server, and signs nothing itself.
        with closing(http.client.HTTPConnection(self.server.store.upstream, timeout=30)) as connection:
            connection.request(asked.method, asked.path, body, {**asked.headers, "connection": "close"})
            response = connection.getresponse()
            content = response.read()
        headers = {k: v for k, v in response.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
        if asked.method != "HEAD":
            headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
        self.say(response.status, content, headers)

    def drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    store: Store

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that has closed the connection."""


@functools.lru_cache
def _digest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Store:
    """A server of objects in memory, by their path; or one in front of another server.

    `faults` are asked first; `asked` is what came.
    """

    def __init__(self, upstream: str | None = None) -> None:
        self.upstream = upstream
        self.objects: dict[str, bytes] = {}
        self.modified = 1_700_000_000.0
        self.etags = "strong"  # "weak", "none"
        self.latency = 0.0
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.store = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.place = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.place}"

    def headers(self, path: str) -> dict[str, str]:
        digest = _digest(self.objects[path])
        etag = {"strong": {"ETag": f'"{digest}"'}, "weak": {"ETag": f'W/"{digest[:4]}"'}, "none": {}}[self.etags]
        return {**etag, "Last-Modified": formatdate(self.modified, usegmt=True)}

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [asked.range for asked in self.asked if asked.range is not None]

    @property
    def nbytes(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def once(fault: Fault, number: int = 1, times: int = 1) -> Fault:
    """Return a fault that only some of the requests meet, from the one with this number on."""
    count = 0
    lock = threading.Lock()

    def counted(handler: Handler, asked: Asked) -> bool:
        nonlocal count
        with lock:
            count += 1
            hit = number <= count < number + times
        return hit and fault(handler, asked)

    return counted


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Fault:
    def fault(handler: Handler, _: Asked) -> bool:
        handler.say(code, body, headers)
        return True

    return fault


def of(method: str, pattern: str, fault: Fault) -> Fault:
    """Return a fault of requests with this method, whose path has the pattern."""
    return lambda handler, asked: (
        asked.method == method and re.search(pattern, asked.path) is not None and fault(handler, asked)
    )


def dropped(handler: Handler, _: Asked) -> bool:
    handler.drop()
    return True


def lost(handler: Handler, asked: Asked) -> bool:
    """Do what is asked, and let the answer be lost."""
    answer = handler.say
    handler.say = lambda *_: None  # type: ignore[method-assign]
    handler.hand_on(asked, handler.body)
    handler.say = answer  # type: ignore[method-assign]
    handler.drop()
    return True


def truncated(handler: Handler, asked: Asked) -> bool:
    """Send the first half of what is asked for, and close the connection."""
    asked = asked._replace(path=unquote(asked.path))
    found = handler.server.store.objects[asked.path]
    assert asked.range is not None
    first, last = asked.range[0], min(asked.range[1], len(found) - 1)
    handler.send_response(206)
    for key, value in handler.server.store.headers(asked.path).items():
        handler.send_header(key, value)
    handler.send_header("Content-Range", f"bytes {first}-{last}/{len(found)}")
    handler.send_header("Content-Length", str(last - first + 1))
    handler.end_headers()
    handler.wfile.write(found[first : (first + last) // 2])
    handler.wfile.flush()
    handler.drop()
    return True


def changed(handler: Handler, asked: Asked) -> bool:
    """Change the object under the run, and answer."""
    store = handler.server.store
    asked = asked._replace(path=unquote(asked.path))
    with store.lock:
        content = bytearray(store.objects[asked.path])
        content[-1] ^= 1
        store.objects[asked.path] = bytes(content)
        store.modified += 1
    handler.answer(asked)
    return True


def ignorant(handler: Handler, asked: Asked) -> bool:
    """Change the object, and answer without a look at If-Match, as simple servers do."""
    return changed(handler, asked._replace(headers={k: v for k, v in asked.headers.items() if k != "if-match"}))


def grown(handler: Handler, asked: Asked) -> bool:
    store = handler.server.store
    asked = asked._replace(path=unquote(asked.path))
    store.objects[asked.path] += b"x"
    handler.answer(asked._replace(headers={k: v for k, v in asked.headers.items() if k != "if-match"}))
    return True


def in_flight(store: Store, seconds: float) -> Callable[[], int]:
    """Have each answer wait for so long; return what tells how many requests there were at once, at most."""
    flying, most, lock = 0, 0, threading.Lock()

    def slow(handler: Handler, asked: Asked) -> bool:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        time.sleep(seconds)
        handler.answer(asked)
        with lock:
            flying -= 1
        return True

    store.faults.append(slow)
    return lambda: most


@contextmanager
def served(upstream: str | None = None) -> Iterator[Store]:
    store = Store(upstream)
    try:
        yield store
    finally:
        store.close()


MOTO = """
import logging, sys
from moto.s3 import models
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
models.S3_UPLOAD_PART_MIN_SIZE = 1
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@contextmanager
def moto() -> Iterator[str]:
    """Serve S3 by moto, where parts of uploads may be small, and yield its host and port.

    It is a process of its own, which ends with the one that began it.
    """
    command = [sys.executable, "-c", MOTO]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=uncovered()
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
