"""Objects on Google Cloud Storage, written: under a temporary name, and then copied to their own.

Notes
-----
obstore completes an upload without a condition, and tells neither its id nor its parts. So the parts go, in their
order, to an object of another name next to OUT; the store then copies it to OUT, on the condition that there is none
without ``--force``, and it is removed. A copy within a bucket moves no data.

What is aborted is completed as it is, under the temporary name, and removed: an upload that ended otherwise would stay,
and nothing here could find it.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from typing import BinaryIO

from gncli.inputs import Network
from gncli.io.remote.client import MARK, Failure, OpenUpload, believed, tried
from gncli.io.remote.obstores import ObstoreOutput, called, store
from gncli.io.remote.upload import MOST_IN_MEMORY, MOST_PARTS
from gncli.io.urls import Url
from gncli.threads import Threads

AHEAD = 2  # parts that wait although it is the turn of one of them
SENDING = 3  # parts on their way, each in memory


class Feed:
    """Parts that come in any order from many threads, and are taken in their order by one."""

    def __init__(self) -> None:
        self._parts: dict[int, bytearray] = {}
        self._next = 1
        self._ended = False
        self._changed = threading.Condition()

    def give(self, number: int, content: bytearray) -> None:
        """Add a part; wait while there are enough, one of which is taken next.

        Raises
        ------
        Failure
            If nobody takes parts any more.
        """
        with self._changed:
            self._parts[number] = content
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended or self._next not in self._parts or len(self._parts) < AHEAD)
            if self._ended:
                raise Failure("the upload has ended")

    def end(self) -> None:
        """Let nobody take another part, and nobody wait."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def last(self, number: int) -> None:
        """Wait until all parts up to this one were taken, then end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._next > number)
        self.end()

    def __iter__(self) -> Iterator[bytearray]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._next in self._parts)
                if self._ended:
                    return
                part = self._parts.pop(self._next)
                self._next += 1
                self._changed.notify_all()
            yield part


class GoogleObject(ObstoreOutput):
    """An object on Google Cloud Storage that is written.

    Parameters
    ----------
    url : Url
        The object.
    network : Network
        Retries, the limit of requests, and whether there are credentials.
    """

    most_nbytes = MOST_PARTS * MOST_IN_MEMORY

    def __init__(self, url: Url, network: Network) -> None:
        super().__init__(url, network)
        self._feed = Feed()
        self._putting = Threads(1)
        self._put: Future[None] | None = None

    def begin_upload(self, mark: str, part_nbytes: int) -> str:
        """Begin to write the object of the temporary name, which is returned."""
        import obstore

        temporary, retrying = f"{self._key}.gncli-{mark}", store(self.url._replace(key=""), self.network, retried=True)

        def put() -> None:
            try:
                called(
                    lambda: obstore.put(
                        retrying,
                        temporary,
                        iter(self._feed),
                        attributes={MARK: mark},
                        use_multipart=True,
                        chunk_size=part_nbytes,
                        max_concurrency=SENDING,
                    )
                )
            finally:
                self._feed.end()

        self._put = self._putting.submit(put)
        return temporary

    def upload_part(self, upload: str, number: int, content: bytearray | BinaryIO) -> str:
        """Hand on a part when it is its turn; what became of it is known when all have been."""
        assert isinstance(content, bytearray)  # no part is larger than `MOST_IN_MEMORY`
        try:
            self._feed.give(number, content)
        except Failure:
            self._arrived()  # which says why
            raise
        return ""

    def _arrived(self) -> None:
        """Wait until the temporary object is there, or raise the failure that it ended with."""
        assert self._put is not None  # `begin_upload` comes first
        self._put.result()

    def complete_upload(self, upload: str, etags: list[str], mark: str, *, create: bool) -> None:
        """Make the object appear, by a copy in the store; with `create` only if there is none of its name."""
        import obstore

        self._feed.last(len(etags))
        self._arrived()
        copied = lambda: called(lambda: obstore.copy(self._store, upload, self._key, overwrite=not create))  # noqa: E731
        believed(self, mark, lambda: tried(copied, self.network))
        with suppress(Failure):  # what stays is found by `uploads`
            self._delete(upload)

    def abort_upload(self, upload: str) -> None:
        """Remove the temporary object; one that is no more is no failure."""
        self._feed.end()
        if self._put is not None:
            with suppress(Failure):
                self._arrived()
        self._delete(upload)

    def uploads(self) -> list[OpenUpload]:
        """Return the temporary objects of this very object, the oldest first; an upload to one cannot be listed."""
        import obstore

        folder, begin = posixpath.dirname(self._key), f"{self._key}.gncli-"
        found = tried(lambda: called(lambda: obstore.list_with_delimiter(self._store, folder)), self.network)
        known = [OpenUpload(each["path"], each["last_modified"]) for each in found["objects"]]
        return sorted((each for each in known if each.id.startswith(begin)), key=lambda each: each.begun)

    def last_sign(self, upload: OpenUpload) -> datetime:
        """Return when a temporary object was complete."""
        return upload.begun
