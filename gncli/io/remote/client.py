"""What all clients of stores share: threads for requests, retries, and what failures are called."""

from __future__ import annotations

import random
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import BinaryIO, NamedTuple, Self, TypeVar

from gncli import progress
from gncli.errors import ChangedError, GncliError, InputError, LimitError, OutputError, ParameterError
from gncli.inputs import Network
from gncli.io.urls import Url
from gncli.threads import Threads

TIMEOUT = 10.0  # seconds in which something must arrive
CALL_TIMEOUT = 20  # the same of what is sent: a store may need some for a part, or to put an object together
PATIENCE = 40.0  # seconds after the first attempt in which another one may begin: all end within a minute
PAUSE = 0.2  # seconds before the second attempt; it doubles
LONGEST_PAUSE = 8.0  # seconds
SLOWEST = 1 << 10  # bytes per second; what is slower counts as silent
QUIET_SECONDS = 3600  # after the last thing that a run has sent; then it is taken as one that was killed

MARK = "gncliupload"
"""The key of the metadata that tell which upload an object came from: an identifier, as Azure wants it."""

TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
"""The statuses after which a request is sent again."""

clock = time.monotonic
pause = time.sleep

Result = TypeVar("Result")


class Failure(Exception):
    """A request did not give what it asked for.

    Parameters
    ----------
    problem : str
        What happened, in one line.
    status : int, optional
        The status of the answer, if one came.
    temporary : bool, optional
        Whether it may work the next time; by default it follows from the status.
    changed : bool
        Whether the object is not what it was when it was opened.
    wait : float
        Seconds for which the server asks to wait.
    empty : bool
        Whether the object turned out to have no bytes.
    hint : str, optional
        What to do.
    """

    def __init__(
        self,
        problem: str,
        status: int | None = None,
        *,
        temporary: bool | None = None,
        changed: bool = False,
        empty: bool = False,
        wait: float = 0.0,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem, self.status, self.hint, self.wait = problem, status, hint, wait
        self.changed, self.empty = changed, empty
        self.temporary = status in TEMPORARY if temporary is None else temporary
        self.retries = 0

    @property
    def told(self) -> str:
        """What happened, and after how many retries."""
        if not self.retries:
            return self.problem
        return f"{self.problem}, after {self.retries} {'retry' if self.retries == 1 else 'retries'}"


def one_line(text: object) -> str:
    """Return the message of a client in one line that is not too long."""
    return re.sub(r"\s+", " ", str(text)).strip()[:200]


def tried(attempt: Callable[[], Result], network: Network) -> Result:
    """Return the result of `attempt`, which is called again as long as what it raises may pass."""
    began = clock()
    number = 0
    while True:
        try:
            return attempt()
        except Failure as failure:
            failure.retries = number
            number += 1
            if not failure.temporary or number > network.retries or clock() - began > PATIENCE:
                raise
            progress.retrying(f"retry {number} of {network.retries}: {failure.problem}")
            wait = max(failure.wait, PAUSE * 2.0 ** (number - 1) * random.uniform(0.5, 1.0))  # noqa: S311
            pause(min(LONGEST_PAUSE, wait))


_pools: dict[int, Threads] = {}
_submitting = threading.Lock()


def submitted(work: Callable[[], Result], network: Network) -> Future[Result]:
    """Return the future of a request, which one of the threads for requests makes.

    Notes
    -----
    No other thread makes requests. Their number is the limit of requests in flight, and each keeps its connections.
    They live as long as the process, so that what forks sees that there are threads, and spawns instead.
    """
    with _submitting:
        pool = _pools.setdefault(network.requests, Threads(network.requests))
        return pool.submit(work)


class State(NamedTuple):
    """What distinguishes one state of an object from another.

    Parameters
    ----------
    nbytes : int
        Its size.
    etag, modified : str
        The headers ETag and Last-Modified; empty where the server sends none.
    """

    nbytes: int
    etag: str
    modified: str

    @property
    def strong(self) -> bool:
        """Whether the ETag changes with every byte, so that a request can depend on it."""
        return bool(self.etag) and not self.etag.startswith("W/")

    def check(self, found: State) -> None:
        """Raise Failure if an answer is about another state of the object."""
        same_time = self.strong or not (self.modified and found.modified) or self.modified == found.modified
        if found.nbytes != self.nbytes or (self.etag and found.etag and self.etag != found.etag) or not same_time:
            raise Failure("was changed while it was read", changed=True)


class Remote(ABC):
    """An object on a store, as its client reads it: a base class.

    Parameters
    ----------
    url : Url
        The object.
    network : Network
        Retries, the limit of requests, and whether there are credentials.

    Attributes
    ----------
    hint : str
        What to do where the store refuses it.
    part : str
        What errors add to the name of a folder: the object in it; empty where the object has a name of its own.
    """

    hint: str
    part = ""

    def __init__(self, url: Url, network: Network) -> None:
        self.url, self.network = url, network

    def beside(self, name: str) -> Self:
        """Return the client of the object `name` in the same folder."""
        return type(self)(self.url.beside(name), self.network)

    def below(self, name: str) -> Self:
        """Return the client of the object `name` in the folder that this is."""
        other = type(self)(self.url.below(name), self.network)
        other.part = name
        return other

    def opened(self, nbytes: int) -> tuple[State, bytes]:
        """Return the state of the object, and its first `nbytes` bytes, or all of a smaller one; as `begun`."""
        return self.begun(0, nbytes)

    @abstractmethod
    def begun(self, first: int, nbytes: int) -> tuple[State, bytes]:
        """Return the state of the object, and `nbytes` bytes of it, or all of a smaller one, retries included.

        Parameters
        ----------
        first : int
            0, or ``-nbytes`` for the last bytes.
        nbytes : int
            How many bytes, more than 0.

        Raises
        ------
        Failure
            If it cannot be read in ranges.
        """

    @abstractmethod
    def listed(self, *, flat: bool) -> Iterator[tuple[str, int]]:
        """Yield the name and the size of each object in the folder that this is.

        Parameters
        ----------
        flat : bool
            Whether those in folders below it are told too, and not these folders, with a slash at the end.

        Raises
        ------
        Failure
            If the store does not list it.
        """

    @abstractmethod
    def fetch(self, view: memoryview, first: int, state: State) -> None:
        """Fill `view` with the bytes from `first` on, of the object in that state, retries included.

        Raises
        ------
        Failure
            If it cannot be read, or is not in that state.
        """

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Turn a failure inside into an error about `name`."""
        try:
            yield
        except Failure as failure:
            if failure.changed:
                problem = f"{failure.told}: {self.part}" if self.part else failure.told
                raise ChangedError(problem, subject=name) from failure
            raise self._error(InputError, "read", failure, name) from failure

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Turn a failure inside into an error about `name`."""
        try:
            yield
        except Failure as failure:
            raise self._error(OutputError, "written", failure, name) from failure

    def _error(self, kind: type[GncliError], done: str, failure: Failure, name: str) -> GncliError:
        if failure.status == 404 and done == "read":
            return kind("there is no such object (404)", subject=name, hint=failure.hint)
        hint = failure.hint or (self.hint if failure.status in (401, 403) else None)
        told = f"{self.part}: {failure.told}" if self.part else failure.told
        return kind(f"cannot be {done} ({told})", subject=name, hint=hint)


class OpenUpload(NamedTuple):
    """An upload that was neither completed nor aborted.

    Parameters
    ----------
    id : str
        What the store calls it.
    begun : datetime.datetime
        When it was begun.
    """

    id: str
    begun: datetime


class Stored(NamedTuple):
    """An object in a folder, as a listing tells of it.

    Parameters
    ----------
    name : str
        Its key, without that of the folder.
    nbytes : int
        Its size.
    etag : str
        Its ETag.
    modified : datetime.datetime
        When it was put there.
    """

    name: str
    nbytes: int
    etag: str
    modified: datetime


class Found(NamedTuple):
    """An object that is there.

    Parameters
    ----------
    state : State
        Its state.
    mark : str
        The mark that it was put there with; empty if it has none.
    modified : datetime.datetime
        When it was put there.
    """

    state: State
    mark: str
    modified: datetime


class Uploading(Remote):
    """An object on a store that is put there whole, or in parts, and then appears when they are complete: a base class.

    Attributes
    ----------
    most_nbytes : int
        The largest object that is written.
    kept : str
        What becomes of an upload that nobody can remove; empty where it can be removed.
    """

    most_nbytes: int
    kept = ""

    @abstractmethod
    def head(self) -> Found | None:
        """Return what the object is; None if there is none."""

    @abstractmethod
    def put(self, content: bytes | BinaryIO, mark: str = "", *, create: bool = False) -> bool:
        """Put the object there, whole, and with this mark; with `create` only if there is none of its name.

        Returns
        -------
        bool
            Whether it was put for certain; otherwise one with this mark is there, from this call or an earlier one.

        Raises
        ------
        Failure
            With status 412, if there is one.
        """

    @abstractmethod
    def delete(self) -> None:
        """Remove the object; one that is no more is no failure."""

    @abstractmethod
    def contents(self) -> Iterator[Stored]:
        """Yield the objects in the folder that this is, and in those below it."""

    @abstractmethod
    def begin_upload(self, mark: str, part_nbytes: int) -> str:
        """Return the id of a new upload, whose object will have this mark, and parts of this size but the last."""

    @abstractmethod
    def upload_part(self, upload: str, number: int, content: bytearray | BinaryIO) -> str:
        """Put a part there, by its number from 1 on, and return its ETag; what was there of this number is replaced."""

    @abstractmethod
    def complete_upload(self, upload: str, etags: list[str], mark: str, *, create: bool) -> None:
        """Make the object appear, of all parts; with `create` only if there is none of its name.

        Raises
        ------
        Failure
            With status 412, if there is one.
        """

    @abstractmethod
    def abort_upload(self, upload: str) -> None:
        """Remove the parts of an upload; one that is no more is no failure."""

    @abstractmethod
    def uploads(self) -> list[OpenUpload]:
        """Return the open uploads to this very object, the oldest first."""

    @abstractmethod
    def last_sign(self, upload: OpenUpload) -> datetime:
        """Return when an upload got its last part, or was begun."""


def believed(remote: Uploading, mark: str, complete: Callable[[], object]) -> bool:
    """Put an object there, unless it is, and return whether that is certain.

    The answer may be lost, and the mark of the object tells whose it is.
    """
    try:
        complete()
        return True
    except Failure:
        found = None
        with suppress(Failure):
            found = remote.head()
        if found is None or not mark or found.mark != mark:
            raise
        return False


def check_quiet(name: str, what: str, begun: datetime, last: datetime, way: str, kept: str = "") -> None:
    """Raise OutputError if what was begun got something within the last hour, and so may go on, or if it is `kept`."""
    quiet = (datetime.now(UTC) - last).total_seconds()
    if kept or quiet < QUIET_SECONDS:
        problem = f"{what} was begun at {minute(begun)}, and got something {max(0, quiet):.0f} s ago"
        hint = kept or f"wait for the run that writes it, or end it; {way}"
        raise OutputError(problem, subject=name, hint=hint)


def minute(time: datetime) -> str:
    """Return a time as it is shown."""
    return f"{time:%Y-%m-%d %H:%M %Z}".strip()


def require(library: str, url: Url) -> None:
    """Raise ParameterError if the client of a store is not installed."""
    if find_spec(library) is None:
        problem = f"{url.scheme}:// needs {library}, which is not installed"
        raise ParameterError(problem, hint="pip install 'gncli[cloud]'")


def too_large(nbytes: int, most: int, name: str) -> LimitError:
    """Return the error about an object that is larger than its store allows."""
    problem = f"would have {nbytes:,} bytes, and an object may have {most:,}"
    return LimitError(problem, subject=name, hint="write a .zarr, which is many objects")
