"""An object on a store as a file that is read by offset: few large requests, side by side, and the next ones ahead."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, wait
from email.utils import parsedate_to_datetime
from hashlib import sha256

from gncli import progress
from gncli.io.pipe import PIECE as COPIED
from gncli.io.pipe import Spool
from gncli.io.rawfile import RawFile
from gncli.io.remote.client import Failure, Remote, State, submitted
from gncli.io.source import Identity, StoredFile

REQUEST = 8 << 20  # bytes that one request asks for: its latency is then small, and many are in flight
BLOCK = 64 << 10  # bytes of the first request, and of one about something small
LARGE = 1 << 20  # bytes from which on a read goes past the blocks, into the buffer of the reader
MOST_BLOCKS = 4  # that are kept after they were read

DEVICE = -1
"""The device of an object, which is that of no file."""


def identity_of(place: str, state: State) -> Identity:
    """Return what distinguishes this state of an object from another, and from all other objects and files."""
    digest = sha256(f"{place}\0{state.etag}\0{state.modified if not state.strong else ''}".encode(errors="replace"))
    try:
        seconds = parsedate_to_datetime(state.modified).timestamp()
    except (TypeError, ValueError):
        seconds = 0.0
    return Identity(DEVICE, int.from_bytes(digest.digest()[:7]), state.nbytes, int(seconds) * 10**9, 0)


class _Block:
    """A run of bytes that was asked for, and is on its way or here.

    Parameters
    ----------
    remote, state
        The object.
    first, nbytes : int
        The run.
    """

    def __init__(self, remote: Remote, state: State, first: int, nbytes: int) -> None:
        self.first, self.stop, self.left = first, first + nbytes, nbytes
        self._data = memoryview(bytearray(nbytes))
        self._future = submitted(lambda: remote.fetch(self._data, first, state), remote.network)

    def copy(self, view: memoryview, at: int) -> int:
        """Copy bytes from `at` on into `view`, as far as they are here, and return how many."""
        self._future.result()
        count = min(len(view), self.stop - at)
        view[:count] = self._data[at - self.first : at - self.first + count]
        return count


class _Object:
    """What all readers of an object share: its client, its state, and the small blocks that were read last.

    Parameters
    ----------
    remote : Remote
        The client.
    state : State
        What it was when it was opened.
    known : bytes
        What came then.
    at : int
        Where these bytes begin.
    """

    def __init__(self, remote: Remote, state: State, known: bytes, at: int = 0) -> None:
        self.remote, self.state, self.known, self.at = remote, state, known, at
        self._asked: list[_Block] = []  # for by exact ranges
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._next, self._window = at + len(known), BLOCK
        self._lock = threading.Lock()

    def holds(self, first: int, stop: int) -> bool:
        """Return whether these bytes came when it was opened."""
        return self.at <= first and stop <= self.at + len(self.known)

    def ask(self, first: int, nbytes: int) -> None:
        """Ask for a run of bytes that will be read once."""
        with self._lock:
            self._asked.append(_Block(self.remote, self.state, first, nbytes))

    def take(self, view: memoryview, at: int) -> int:
        """Copy bytes from `at` on into `view`, as far as `ask` asked for them, and return how many."""
        with self._lock:
            block = next((block for block in self._asked if block.first <= at < block.stop), None)
        if block is None:
            return 0
        count = block.copy(view, at)
        with self._lock:
            block.left -= count
            if block.left <= 0 and block in self._asked:
                self._asked.remove(block)
        return count

    def block(self, at: int, nbytes: int) -> _Block:
        """Return a block that holds the byte `at`, and `nbytes` or more if it is new.

        Blocks that follow each other double, up to a whole request: many small reads in a row cost few requests.
        """
        with self._lock:
            for block in self._blocks.values():
                if block.first <= at < block.stop:
                    self._blocks.move_to_end(block.first)
                    return block
            self._window = min(2 * self._window, REQUEST) if at == self._next else BLOCK
            length = min(max(self._window, nbytes), self.state.nbytes - at)
            block = self._blocks[at] = _Block(self.remote, self.state, at, length)
            self._next = at + length
            if len(self._blocks) > MOST_BLOCKS:
                self._blocks.popitem(last=False)
            return block


class RemoteFile(StoredFile):
    """An object on a store, open for reading by offset, from any thread.

    Parameters
    ----------
    remote : Remote
        Its client.
    name : str
        The object as the user typed it, for errors.

    Raises
    ------
    InputError
        If there is none, it may not be read, or its server knows no ranges.
    """

    path = None

    def __init__(self, remote: Remote, name: str) -> None:
        with remote.reading(name):
            state, first = submitted(lambda: remote.opened(BLOCK), remote.network).result()
        self._adopt(_Object(remote, state, first), name)

    @classmethod
    def begun(cls, remote: Remote, name: str, state: State, known: bytes, at: int) -> RemoteFile:
        """Return the reader of an object in the state in which it was asked for, and the bytes from `at` on came."""
        file = cls.__new__(cls)
        file._adopt(_Object(remote, state, known, at), name)
        return file

    def _adopt(self, object_: _Object, name: str) -> None:
        self._object, self.name = object_, name
        self._remote, self._state = self._object.remote, self._object.state
        self.identity = identity_of(str(self._remote.url), self._state)
        self._ahead: dict[int, _Block] = {}  # announced, by its place in the order of requests
        self._announced = 0
        self._lock = threading.Lock()

    def duplicate(self) -> RemoteFile:
        """Return another reader of the same object in the same state."""
        other = RemoteFile.__new__(RemoteFile)
        other._adopt(self._object, self.name)
        return other

    def will_read(self, offset: int, nbytes: int) -> None:
        """Ask for exactly these bytes now, which are then read once, by this reader or another of the same object."""
        self._object.ask(offset, nbytes)

    def will_need(self, offset: int, nbytes: int, stop: int) -> None:
        """Ask for these bytes now; the last request goes on, if it is not whole, but not past `stop`.

        Requests lie on a grid, so that runs of any length take no more of them than all bytes together.
        """
        with self._lock:
            if offset < self._announced:  # another pass
                self._ahead.clear()
            self._announced = offset
            for number in range(offset // REQUEST, -(-(offset + nbytes) // REQUEST)):
                if number not in self._ahead:
                    first = max(offset, number * REQUEST)
                    end = min(stop, (number + 1) * REQUEST)
                    if not self._object.holds(first, end):
                        self._ahead[number] = _Block(self._remote, self._state, first, end - first)

    def read(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on.

        Raises
        ------
        ChangedError
            If the object is not what it was when it was opened.
        InputError
            If it cannot be read.
        """
        direct: list[Future[None]] = []
        done = 0
        try:
            with self._remote.reading(self.name):
                if offset + len(view) > self._state.nbytes:
                    raise Failure("was changed while it was read", changed=True)
                while done < len(view):
                    done += self._read_some(view[done:], offset + done, direct)
                for future in direct:
                    future.result()
        finally:
            wait(direct)  # nothing may be written into the buffer of a reader who has gone

    def _read_some(self, view: memoryview, at: int, direct: list[Future[None]]) -> int:
        """Fill the beginning of `view`, or let a request of `direct` do it, and return how many bytes that is."""
        known, place = self._object.known, at - self._object.at
        if 0 <= place < len(known):
            count = min(len(view), len(known) - place)
            view[:count] = known[place : place + count]
            return count
        number = at // REQUEST
        with self._lock:
            block = self._ahead.get(number)
        if block is not None and block.first <= at < block.stop:
            count = block.copy(view, at)
            with self._lock:
                block.left -= count
                if block.left <= 0:
                    self._ahead.pop(number, None)
            return count
        if count := self._object.take(view, at):
            return count
        if len(view) < LARGE:
            return self._object.block(at, len(view)).copy(view, at)
        count = min(len(view), (number + 1) * REQUEST - at)
        count += len(view) - count if len(view) - count < LARGE else 0
        piece, remote, state = view[:count], self._remote, self._state
        direct.append(submitted(lambda: remote.fetch(piece, at, state), remote.network))
        return count

    def head(self, nbytes: int, offset: int = 0) -> bytes:
        """Return up to `nbytes` bytes from `offset` on: fewer only at the end of the object."""
        data = bytearray(max(0, min(nbytes, self._state.nbytes - offset)))
        if data:
            self.read(memoryview(data), offset)
        return bytes(data)

    def local(self) -> RawFile:
        """Return a copy in $TMPDIR, which has no name."""
        with self:
            spool = Spool(self.name)
            try:
                progress.begin("copy", self.name, self._state.nbytes)
                buffer = memoryview(bytearray(COPIED))
                for at in range(0, self._state.nbytes, COPIED):
                    piece = buffer[: self._state.nbytes - at]
                    if at % REQUEST == 0:
                        self.will_need(at, min(2 * REQUEST, self._state.nbytes - at), self._state.nbytes)
                    self.read(piece, at)
                    spool.write(piece, at)
                    progress.advance(len(piece))
                self.verify_unchanged()
                return spool.file(copied=True)
            finally:
                spool.close()

    def beside(self, name: str, subject: str | None = None) -> RemoteFile:
        """Return the object of that name in the same folder.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        remote = self._remote.beside(name)
        try:
            return RemoteFile(remote, subject or str(remote.url))
        except OSError as error:
            if isinstance(error.__cause__, Failure) and error.__cause__.status == 404:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
            raise

    def neighbours(self) -> list[str]:
        """Return no names: a web server lists none, and a listing of a bucket may lack what is new."""
        return []

    def verify_unchanged(self) -> None:
        """Raise ChangedError if the object is not what it was when it was opened.

        Where its ETag is strong, each request depended on it: all that was read is of that state, and nothing is asked.
        """
        if not self._state.strong and self._state.nbytes:
            self.ask_again()

    def ask_again(self) -> None:
        """Raise ChangedError if the object, which is not empty, is not what it was now."""
        remote, state = self._remote, self._state
        with remote.reading(self.name):
            submitted(lambda: remote.fetch(memoryview(bytearray(1)), 0, state), remote.network).result()

    def close(self) -> None:
        """Let go of what was asked for, and not read."""
        with self._lock:
            self._ahead.clear()
