"""An object that is written in parts and appears under its name whole, or not at all: a multipart upload."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import BinaryIO, TypeVar

from gncli import signals
from gncli.errors import OutputError
from gncli.io.atomic import OutputFile, spool_file, writing
from gncli.io.pipe import Spool
from gncli.io.remote.client import Failure, Uploading, submitted, too_large
from gncli.io.remote.file import RemoteFile, identity_of
from gncli.io.source import NewFile, Source
from gncli.text import printable
from gncli.threads import Threads

MIB = 1 << 20
LEAST_PART = 16 * MIB  # bytes
MOST_PARTS = 9_500  # of the 10,000 that S3 allows
MOST_IN_MEMORY = 64 * MIB  # bytes of a part; a larger one is gathered in a file
SENDING = 4  # whole parts that wait for their turn or are on their way; who has the next one waits
LAST_SECONDS = 15  # for an abort after a signal
PARTS_SECONDS = 2  # for parts that are on their way when their upload is aborted

Result = TypeVar("Result")


def part_nbytes(nbytes: int) -> int:
    """Return the size of the parts of an object, all but the last.

    Examples
    --------
    >>> part_nbytes(0) >> 20, part_nbytes(1 << 40) >> 20
    (16, 111)
    """
    return max(LEAST_PART, -(-nbytes // (MOST_PARTS * MIB)) * MIB)


class _Part:
    """A part that runs of bytes fill, in any order.

    Parameters
    ----------
    nbytes : int
        Its size.
    name : str
        The output, for errors.
    """

    def __init__(self, nbytes: int, name: str) -> None:
        self.missing = nbytes
        self._spool = Spool(name) if nbytes > MOST_IN_MEMORY else None
        self._data = bytearray() if self._spool else bytearray(nbytes)

    def write(self, view: memoryview, at: int) -> None:
        """Put `view` where it belongs."""
        if self._spool is None:
            self._data[at : at + len(view)] = view
        else:
            self._spool.write(view, at)

    def content(self) -> bytearray | BinaryIO:
        """Return what is uploaded."""
        return self._data if self._spool is None else open(os.dup(self._spool.fd), "rb")

    def close(self) -> None:
        """Let go of the bytes."""
        self._data = bytearray()
        if self._spool is not None:
            self._spool.close()


class Sending:
    """What is sent to a store by the threads for requests, a few things at a time.

    Parameters
    ----------
    remote : Uploading
        The store.
    name : str
        The output, for errors.
    most : int
        How many wait for their turn or are on their way; who has the next one waits.
    """

    def __init__(self, remote: Uploading, name: str, most: int) -> None:
        self._remote, self._name = remote, name
        self._lock = threading.Lock()
        self._room = threading.Semaphore(most)
        self._sent: list[Future[None]] = []

    def send(self, work: Callable[[], None]) -> None:
        """Send something, which `work` does."""
        self._room.acquire()

        def send() -> None:
            try:
                work()
            finally:
                self._room.release()

        sent = submitted(send, self._remote.network)
        with self._lock:
            self._sent.append(sent)

    def check(self, seconds: float | None = 0) -> None:
        """Raise OutputError if something could not be sent; wait so long for what is on its way, or until it ends."""
        with self._lock:
            sent = list(self._sent)
        done, _ = wait(sent, seconds)
        with self._remote.writing(self._name):
            for future in done:
                future.result()
        with self._lock:
            self._sent = [future for future in self._sent if future not in done]

    def wait(self, seconds: float | None) -> bool:
        """Wait until nothing is on its way, for so long at most, and return whether something was."""
        wait(self._sent, seconds)
        return bool(self._sent)

    def ended(self, seconds: float | None) -> bool:
        """Wait as long, and return whether nothing is on its way any more."""
        return not wait(self._sent, seconds).not_done


class MultipartFile(NewFile):
    """A new object, written at any offset by any thread, that nobody sees before `commit`.

    Parameters
    ----------
    remote : Uploading
        The object.
    name : str
        The output as the user typed it.
    force : bool
        Whether an existing object may be replaced.
    inputs : sequence of Source
        What is being read: none of these objects may be replaced.

    Raises
    ------
    OutputError
        If the object exists, is an input, or cannot be written.

    Notes
    -----
    The calls of the upload itself are made by a thread of its own. So after a signal the upload can be aborted while
    parts are on their way, and nothing that the signal has interrupted is needed for it.
    """

    def __init__(self, remote: Uploading, *, name: str, force: bool = False, inputs: Sequence[Source] = ()) -> None:
        self.name = name
        self._remote, self._force = remote, force
        self._mark = os.urandom(8).hex()
        self._calls = Threads(1)
        self._begun: Future[str] | None = None
        self._lock = threading.Lock()
        self._sending = Sending(remote, name, SENDING)
        self._open: dict[int, _Part] = {}
        self._etags: dict[int, str] = {}
        self._ended = False
        with remote.writing(name):
            found = self._called(remote.head)
        self.replaces = found is not None
        if found is not None:
            here = identity_of(str(remote.url), found.state)
            for source in inputs:
                if source.identity is not None and source.identity[:2] == here[:2]:
                    problem = f"is the same object as the input {source.name}"
                    raise OutputError(problem, subject=name, hint="choose another name")
            if not force:
                raise OutputError("already exists", subject=name, hint="--force replaces it")

    def _called(self, call: Callable[[], Result], seconds: float | None = None) -> Result:
        return self._calls.submit(call).result(seconds)

    def allocate(self, nbytes: int) -> None:
        """Begin the upload of an object of this size.

        Raises
        ------
        LimitError
            If no objects so large are written to the store.
        OutputError
            If the store refuses it.
        """
        if nbytes > self._remote.most_nbytes:
            raise too_large(nbytes, self._remote.most_nbytes, self.name)
        self._nbytes, self._part_nbytes = nbytes, part_nbytes(nbytes)
        signals.cleanups[self] = self._removed  # before the store knows of it
        self._begun = self._calls.submit(lambda: self._remote.begin_upload(self._mark, self._part_nbytes))
        with self._remote.writing(self.name):
            self._begun.result()

    def write(self, view: memoryview, offset: int) -> None:
        """Write `view` at `offset`; a part that is whole then is sent.

        Raises
        ------
        OutputError
            If a part could not be sent.
        """
        self._sending.check()
        done = 0
        while done < len(view):
            number, at = divmod(offset + done, self._part_nbytes)
            size = self._size_of(number)
            piece = view[done : done + size - at]
            with self._lock:
                part = self._open.get(number)
                if part is None:
                    part = self._open[number] = _Part(size, self.name)
            part.write(piece, at)
            with self._lock:
                part.missing -= len(piece)
                whole = not part.missing
                if whole:
                    del self._open[number]
            if whole:
                self._sending.send(partial(self._send_now, number, part))
            done += len(piece)

    def _size_of(self, number: int) -> int:
        return min(self._part_nbytes, self._nbytes - number * self._part_nbytes)

    def _send_now(self, number: int, part: _Part) -> None:
        try:
            if not self._ended:
                content = part.content()
                try:
                    self._etags[number] = self._remote.upload_part(self._upload, number + 1, content)
                finally:
                    if not isinstance(content, bytearray):
                        content.close()
        finally:
            part.close()

    @property
    def _upload(self) -> str:
        assert self._begun is not None  # `allocate` comes first
        return self._begun.result()

    def commit(self) -> None:
        """Make the object visible under its name; a second time, do nothing.

        Raises
        ------
        OutputError
            If that fails, or, without `force`, there is an object of that name now. Nothing has changed then.
        """
        if self._begun is None or self._ended:
            return
        try:
            self._sending.check(None)
            etags = [self._etags[number] for number in range(-(-self._nbytes // self._part_nbytes))]
            with self._remote.writing(self.name):
                if not self._force and self._called(self._remote.head) is not None:
                    raise Failure("", 412)
                create = not self._force
                self._called(lambda: self._remote.complete_upload(self._upload, etags, self._mark, create=create))
        except BaseException as error:
            self.abort()
            if isinstance(error.__cause__, Failure) and error.__cause__.status == 412:
                raise OutputError("was created by someone else meanwhile", subject=self.name) from error
            raise
        self._ended = True
        signals.cleanups.pop(self, None)
        self._calls.rest()

    def abort(self) -> None:
        """Remove what was uploaded; after `commit` or a second `abort`, do nothing.

        An upload that cannot be aborted now stays for `gncli clean`.
        """
        if self._begun is not None and not self._ended:
            self._ended = True
            with suppress(Failure):
                self._abort()
            signals.cleanups.pop(self, None)
        self._calls.rest()

    def _abort(self, seconds: float | None = None) -> None:
        """Abort the upload, and once more after parts that were on their way: a store may keep those."""
        assert self._begun is not None
        upload = self._begun.result(seconds)
        self._called(lambda: self._remote.abort_upload(upload), seconds)
        if self._sending.wait(PARTS_SECONDS):
            self._called(lambda: self._remote.abort_upload(upload), seconds)

    def _removed(self) -> str:
        """Remove what was uploaded, after a signal, and return the output as it is shown."""
        if self._ended:
            raise OutputError("was committed just now", subject=self.name)
        self._ended = True
        self._abort(LAST_SECONDS)
        return printable(self.name)

    def scratch(self) -> OutputFile:
        """Return a file without a name in $TMPDIR, for intermediate data."""
        with writing(self.name):
            return OutputFile(spool_file(), self.name, lasting=False)

    def replaced(self) -> RemoteFile:
        """Return the reader of the object that will be replaced."""
        return RemoteFile(self._remote, self.name)
