"""Objects on web servers, read in ranges by the standard library's client; what an object store has signed, too.

Notes
-----
Every answer is checked before its body is read: the status 206, the range, the size, that nothing is encoded, and that
the object is the one that was opened. So a server that knows no ranges is an error, and never a download of all of it.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from gncli import __version__
from gncli.inputs import Network
from gncli.io.remote.client import CALL_TIMEOUT, SLOWEST, TIMEOUT, Failure, Remote, State, clock, one_line, tried
from gncli.io.urls import Url, is_url, parsed

MOST_REDIRECTS = 5
MOVED = frozenset({301, 302, 303, 307, 308})
STALE = frozenset({401, 403, 404, 410})
"""What a signed address answers when its time is over."""

_PIECE = 1 << 18  # bytes that are received or sent at a time
_ERROR_NBYTES = 1 << 14  # of the body of an error that is read
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_EMPTY = re.compile(r"bytes \*/0|<ActualObjectSize>0</ActualObjectSize>")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_SAFE = "%/:=&?~!$,;'()*+@[]"


class _Kept(threading.local):
    """The connections of a thread, by scheme and host; they are closed when it ends."""

    def __init__(self) -> None:
        self.connections = _Connections()


class _Connections(dict[str, http.client.HTTPConnection]):
    def __del__(self) -> None:
        for connection in self.values():
            connection.close()


_kept = _Kept()


class Answer(NamedTuple):
    """The answer to a request: its body is not read yet.

    Parameters
    ----------
    response : HTTPResponse
        The status, the headers and the body.
    connection : HTTPConnection
        Which it came from.
    """

    response: http.client.HTTPResponse
    connection: http.client.HTTPConnection

    def header(self, name: str) -> str:
        """Return a header; empty where there is none."""
        return (self.response.getheader(name) or "").strip()

    def close(self) -> None:
        """Read no more of it: the connection is closed with it."""
        self.response.close()
        self.connection.close()

    def state(self, nbytes: int) -> State:
        """Return the state of the object that this is about."""
        return State(nbytes, self.header("ETag"), self.header("Last-Modified"))

    def failure(self) -> Failure:
        """Return what an answer says that is no part of the object."""
        status, reason = self.response.status, one_line(self.response.reason)
        text = ""
        with suppress(OSError, http.client.HTTPException):
            text = self.response.read(_ERROR_NBYTES).decode("utf-8", "replace")
        self.close()
        code = _CODE.search(text)
        wait = self.header("Retry-After")
        return Failure(
            " ".join(filter(None, (str(status), code[1] if code else reason))),
            status,
            empty=status == 416 and _EMPTY.search(f"{self.header('Content-Range')} {text}") is not None,
            wait=float(wait) if wait.isdecimal() and len(wait) < 4 else 0.0,
        )

    def whole(self) -> bytes:
        """Return all of the body.

        Raises
        ------
        Failure
            If it breaks off.
        """
        try:
            return self.response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Failure("the connection broke", temporary=True) from error

    def receive(self, view: memoryview) -> int:
        """Fill `view` with the body, as far as it comes, and return how many bytes came.

        Raises
        ------
        Failure
            If more comes.
        """
        done = last = 0
        began = clock()
        more = b""
        with suppress(OSError, http.client.HTTPException):
            while done < len(view) and (piece := self.response.read1(min(_PIECE, len(view) - done))):
                view[done : done + len(piece)] = piece
                done += len(piece)
                now = clock()
                if now - began > TIMEOUT:
                    if done - last < SLOWEST * TIMEOUT:
                        break
                    began, last = now, done
            if done == len(view) and self.response.length != 0:
                more = self.response.read1(1)
        if done < len(view) or more:
            self.close()
        else:
            self.response.close()  # and the connection is used again
        if more:
            raise Failure(f"sends more than the {len(view):,} bytes asked for")
        return done


class Http(Remote):
    """An object on a web server.

    Parameters
    ----------
    url : Url
        The object.
    network : Network
        Retries, and the limit of requests.
    """

    hint = "gncli sends no credentials to a web server; use a URL that is signed, or an object store's own"

    def __init__(self, url: Url, network: Network) -> None:
        super().__init__(url, network)
        self._address: str | None = None

    def address(self) -> str:
        """Return where the object is asked for, in full."""
        return f"{self.url.scheme}://{self.url.host}/{quote(self.url.key, safe=_SAFE)}"

    def begun(self, first: int, nbytes: int) -> tuple[State, bytes]:
        """Return the state of the object, and its first or last `nbytes` bytes, or all of a smaller one."""
        return tried(lambda: self._begun(first, nbytes), self.network)

    def _begun(self, first: int, nbytes: int) -> tuple[State, bytes]:
        try:
            answer = self._range(f"0-{nbytes - 1}" if first == 0 else str(first))
        except Failure as failure:
            if failure.empty:
                return State(0, "", ""), b""
            raise
        begin, last, total = self._part(answer)
        count = min(nbytes, total)
        if (begin, last) != ((0, count - 1) if first == 0 else (total - count, total - 1)):
            place = "first" if first == 0 else "last"
            raise self._strange(answer, f"bytes {begin:,} to {last:,} for the {place} {nbytes:,}")
        data = bytearray(count)
        if answer.receive(memoryview(data)) < count:
            raise Failure("the connection broke", temporary=True)
        return answer.state(total), bytes(data)

    def listed(self, *, flat: bool) -> Iterator[tuple[str, int]]:
        """Raise Failure: a web server lists nothing."""
        raise Failure("a web server lists no folders", 405, hint="name an array, as URL::/group/array")

    def fetch(self, view: memoryview, first: int, state: State) -> None:
        """Fill `view` with the bytes from `first` on; an attempt goes on where the one before it broke."""
        done = 0

        def attempt() -> None:
            nonlocal done
            begin, end = first + done, first + len(view) - 1
            try:
                answer = self._range(f"{begin}-{end}", state)
            except Failure as failure:
                raise self._while_reading(failure) from None
            found = self._part(answer)
            if found != (begin, end, state.nbytes):
                if found[2] != state.nbytes:
                    answer.close()
                    raise Failure("was changed while it was read", changed=True)
                raise self._strange(answer, f"bytes {found[0]:,} to {found[1]:,} for {begin:,} to {end:,}")
            try:
                state.check(answer.state(found[2]))
            except Failure:
                answer.close()
                raise
            done += answer.receive(view[done:])
            if done < len(view):
                raise Failure(f"the connection broke after {done:,} of {len(view):,} bytes", temporary=True)

        tried(attempt, self.network)

    def _while_reading(self, failure: Failure) -> Failure:
        """Return what a failure means of an object that was opened."""
        if failure.status in (404, 410):
            return Failure("was removed while it was read", failure.status, changed=True)
        if failure.status in (412, 416):
            return Failure("was changed while it was read", failure.status, changed=True)
        return failure

    def _range(self, wanted: str, state: State | None = None) -> Answer:
        """Return the answer to a request for a range, of RFC 9110, section 14.1.2: a part of the object."""
        headers = {"Range": f"bytes={wanted}", "User-Agent": f"gncli/{__version__}"}
        if state is not None and state.strong:
            headers["If-Match"] = state.etag
        kept = self._address is not None
        answer = self._asked(headers)
        if kept and answer.response.status in STALE:
            answer.close()
            self._address = None
            answer = self._asked(headers)
        if answer.response.status != 206:
            if answer.response.status == 200:
                answer.close()
                raise Failure("200: the server sends all of it for a range", 200, hint="download it, and name the file")
            raise answer.failure()
        return answer

    def _part(self, answer: Answer) -> tuple[int, int, int]:
        """Return the first and the last byte of an answer, and the size of the object."""
        encoding, length = answer.header("Content-Encoding"), answer.header("Content-Length")
        if encoding not in ("", "identity"):
            raise self._strange(answer, f"bytes that are encoded ({one_line(encoding)[:20]})")
        match = _RANGE.fullmatch(answer.header("Content-Range"))
        if match is None:
            raise self._strange(answer, f"no range ({one_line(answer.header('Content-Range'))[:40] or 'not named'})")
        first, last, total = map(int, match.groups())
        if not first <= last < total or (length and length != str(last - first + 1)):
            raise self._strange(answer, f"{length[:20]} bytes as {one_line(match[0])[:60]}")
        return first, last, total

    def _strange(self, answer: Answer, what: str) -> Failure:
        answer.close()
        return Failure(f"the server sends {what}")

    def _asked(self, headers: dict[str, str]) -> Answer:
        """Return the answer to a request, redirections followed; where they led is kept for the next one."""
        address = self._address or self.address()
        for _ in range(MOST_REDIRECTS + 1):
            answer = answered("GET", address, headers)
            if answer.response.status not in MOVED:
                self._address = address
                return answer
            answer.close()
            address = self._followed(address, answer.header("Location"))
        raise Failure(f"it is redirected more than {MOST_REDIRECTS} times")

    def _followed(self, address: str, location: str) -> str:
        """Return where a redirection leads: only over https, or from this machine to itself."""
        target = urljoin(address, location) if location else ""
        try:
            scheme = parsed(target)[0].scheme if is_url(target) else ""
        except OSError:
            scheme = ""
        if scheme not in ("https", urlsplit(address).scheme):
            raise Failure(f"it is redirected to {one_line(location)[:80] or 'nowhere'}, which is not followed")
        return target


def answered(method: str, address: str, headers: dict[str, str], content: bytearray | BinaryIO | None = None) -> Answer:
    """Return the answer of a server, over a connection that this thread has, or a new one.

    Parameters
    ----------
    method, address : str
        What is asked, and where.
    headers : dict of str to str
        Content-Length is among them if there is `content`.
    content : bytearray or open file, optional
        What is sent, from its beginning.

    Raises
    ------
    Failure
        If none comes.
    """
    parts = urlsplit(address)
    path = f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}"
    known = _kept.connections
    place = f"{parts.scheme}://{parts.netloc}"
    seconds = TIMEOUT if content is None else CALL_TIMEOUT
    connection = known.get(place)
    old = connection is not None and connection.sock is not None
    if connection is None:
        connection = known[place] = _connection(parts.scheme, parts.netloc)
    while True:
        try:
            connection.request(method, path, None if content is None else _pieces(content), headers)
            connection.sock.settimeout(seconds)
            return Answer(connection.getresponse(), connection)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            if old and not isinstance(error, TimeoutError):  # the server has closed it meanwhile
                old = False
                continue
            raise Failure(_why(error, seconds), temporary=not isinstance(error, _LASTING)) from error


def _pieces(content: bytearray | BinaryIO) -> Iterator[bytes | memoryview]:
    """Yield what is sent in pieces: the timeout of a connection is one of each call that sends."""
    if isinstance(content, bytearray):
        yield from (memoryview(content)[at : at + _PIECE] for at in range(0, len(content), _PIECE))
    else:
        content.seek(0)
        yield from iter(lambda: content.read(_PIECE), b"")


def _connection(scheme: str, netloc: str) -> http.client.HTTPConnection:
    """Return a connection, through the proxy that the environment names, not open yet."""
    make = http.client.HTTPConnection if scheme == "http" else _secure
    proxy = getproxies().get("https") if scheme == "https" and not proxy_bypass(netloc) else None
    if proxy is None:
        return make(netloc, timeout=TIMEOUT)
    connection = make(urlsplit(proxy).netloc or proxy, timeout=TIMEOUT)
    connection.set_tunnel(netloc)
    return connection


def _secure(netloc: str, timeout: float) -> http.client.HTTPConnection:
    return http.client.HTTPSConnection(netloc, timeout=timeout, context=ssl.create_default_context())


def _why(error: Exception, seconds: float) -> str:
    """Return why no answer came."""
    if isinstance(error, TimeoutError):
        return f"no answer in {seconds:.0f} s"
    if isinstance(error, (http.client.HTTPException, ConnectionResetError, BrokenPipeError)):
        return "the connection broke"
    return one_line(error.strerror or error if isinstance(error, OSError) else error) or type(error).__name__


_LASTING = (ssl.SSLCertVerificationError, socket.gaierror, ValueError, http.client.InvalidURL)
