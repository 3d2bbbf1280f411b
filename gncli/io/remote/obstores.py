"""Objects on Google Cloud Storage and Azure, as obstore reads them."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from gncli import __version__
from gncli.inputs import Network
from gncli.io.remote.client import (
    MARK,
    PATIENCE,
    TIMEOUT,
    Failure,
    Found,
    Remote,
    State,
    Stored,
    Uploading,
    believed,
    one_line,
    require,
    tried,
)
from gncli.io.urls import Url

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_STATUS = re.compile(r"status(?: code)?:? ?\"?(\d{3})")
_TEMPORARY = re.compile(r"timed out|timeout|connection|connect error|IncompleteMessage|error decoding|body", re.I)
_ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
_HINTS = {
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS; --anonymous reads a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN; "
    "--anonymous reads a public container",
}


@functools.cache
def store(url: Url, network: Network, *, retried: bool = False) -> ObjectStore:
    """Return obstore's client for the bucket or the container of a URL, whose paths are keys there.

    Parameters
    ----------
    url : Url
        Its own, without a key.
    network : Network
        Whether there are credentials, and how often is retried.
    retried : bool
        Whether the client itself retries; otherwise it is done here.

    Raises
    ------
    ParameterError
        If obstore is not installed.
    Failure
        If it is not configured: an account of Azure, say.
    """
    require("obstore", url)
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    make: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[url.scheme]
    seconds = timedelta(seconds=TIMEOUT)
    client = {
        "timeout": "600s" if retried else "60s",
        "read_timeout": seconds,
        "connect_timeout": seconds,
        "user_agent": f"gncli/{__version__}",
        "allow_http": os.environ.get(_ALLOW_HTTP[url.scheme], "").lower() in ("1", "true"),
    }
    unsigned = {"skip_signature": True} if network.anonymous else {}
    try:
        retries = {"max_retries": network.retries if retried else 0, "retry_timeout": timedelta(seconds=PATIENCE)}
        made: ObjectStore = make(url.host, client_options=client, retry_config=retries, **unsigned)
    except (BaseError, ValueError) as error:
        raise Failure(_first_line(error), 403) from error
    return made


class Obstore(Remote):
    """An object on Google Cloud Storage or Azure.

    Parameters
    ----------
    url : Url
        The object.
    network : Network
        Retries, the limit of requests, and whether there are credentials.
    """

    def __init__(self, url: Url, network: Network) -> None:
        super().__init__(url, network)
        require("obstore", url)
        self.hint = _HINTS[url.scheme]

    def begun(self, first: int, nbytes: int) -> tuple[State, bytes]:
        """Return the state of the object, and its first or last `nbytes` bytes, or all of a smaller one."""

        def attempt() -> tuple[State, bytes]:
            try:
                found = self._asked({"range": (0, nbytes) if first == 0 else self._last(nbytes)})
            except Failure as failure:
                if failure.status == 416:
                    return State(0, "", ""), b""
                raise
            return state_of(found), bytes(called(found.bytes))

        return tried(attempt, self.network)

    def fetch(self, view: memoryview, first: int, state: State) -> None:
        """Fill `view` with the bytes from `first` on; an attempt goes on where the one before it broke."""
        done = 0

        def attempt() -> None:
            nonlocal done
            begin, end = first + done, first + len(view)
            condition = {"if_match": state.etag} if state.strong else {}
            try:
                found = self._asked({"range": (begin, end), **condition})
            except Failure as failure:
                if failure.status in (404, 412, 416):
                    raise Failure("was changed while it was read", failure.status, changed=True) from None
                raise
            state.check(state_of(found))
            if tuple(found.range) != (begin, end):
                raise Failure(f"the store sends bytes {found.range} for {(begin, end)}")
            pieces = iter(found.stream(min_chunk_size=1 << 18))
            while (piece := called(lambda: next(pieces, None))) is not None:
                view[done : done + len(piece)] = memoryview(piece)
                done += len(piece)
            if done < len(view):
                raise Failure(f"the connection broke after {done:,} of {len(view):,} bytes", temporary=True)

        tried(attempt, self.network)

    def head(self) -> Found | None:
        """Return what the object is; None if there is none."""
        try:
            found = tried(lambda: self._asked({"head": True}), self.network)
        except Failure as failure:
            if failure.status == 404:
                return None
            raise
        return Found(state_of(found), found.attributes.get(MARK, ""), found.meta["last_modified"])

    def _last(self, nbytes: int) -> Any:
        """Return the range of the last bytes; Azure knows it only by its place."""
        import obstore

        if self.url.scheme != "az":
            return {"suffix": nbytes}
        size = called(lambda: obstore.head(self._store, self._key))["size"]
        return max(0, size - nbytes), max(1, size)

    def listed(self, *, flat: bool) -> Iterator[tuple[str, int]]:
        """Yield the name and the size of each object in the folder that this is; a retry goes on where it broke."""
        import obstore

        folder = self._key
        if flat:
            yield from ((each.name, each.nbytes) for each in self.contents())
        else:
            below = tried(lambda: called(lambda: obstore.list_with_delimiter(self._store, folder)), self.network)
            yield from ((f"{path.removeprefix(folder).strip('/')}/", 0) for path in below["common_prefixes"])
            yield from ((each["path"].removeprefix(folder).strip("/"), each["size"]) for each in below["objects"])

    def contents(self) -> Iterator[Stored]:
        """Yield the objects in the folder that this is, and in those below it; a retry goes on where it broke."""
        import obstore

        folder = self._key
        stream: Any = None
        last = None

        def batch() -> Any:
            nonlocal stream
            stream = obstore.list(self._store, folder, offset=last) if stream is None else stream
            try:
                return called(lambda: next(stream, ()))
            except Failure:
                stream = None
                raise

        while found := tried(batch, self.network):
            for each in found:
                name = each["path"].removeprefix(folder).strip("/")
                yield Stored(name, each["size"], each["e_tag"] or "", each["last_modified"])
            last = found[-1]["path"]

    @property
    def _store(self) -> ObjectStore:
        return store(self.url._replace(key=""), self.network)

    @property
    def _key(self) -> str:
        key = self.url.key.removesuffix("/")
        if key != "/".join(filter(None, key.split("/"))):
            raise Failure("obstore reads no key with an empty part (//)")
        return key

    def _asked(self, options: dict[str, Any]) -> Any:
        import obstore

        found = called(lambda: obstore.get(self._store, self._key, options=options))  # type: ignore[arg-type]
        encoding = found.attributes.get("Content-Encoding")
        if encoding:
            raise Failure(f"the store sends bytes that are encoded ({one_line(encoding)[:20]})")
        return found


class ObstoreOutput(Obstore, Uploading):
    """An object on Google Cloud Storage or Azure that is written: a base class."""

    def put(self, content: bytes | BinaryIO, mark: str = "", *, create: bool = False) -> bool:
        """Put the object there, whole, and with this mark; with `create` only if there is none of its name."""
        import obstore

        options: Any = {"mode": "create" if create else "overwrite", "attributes": {MARK: mark} if mark else None}

        # Of a file obstore makes two copies in memory.
        data = content if isinstance(content, bytes) else content.read()

        def attempt() -> None:
            called(lambda: obstore.put(self._store, self._key, data, use_multipart=False, **options))

        return believed(self, mark, lambda: tried(attempt, self.network))

    def delete(self) -> None:
        """Remove the object; one that is no more is no failure."""
        self._delete(self._key)

    def _delete(self, key: str) -> None:
        import obstore

        try:
            tried(lambda: called(lambda: obstore.delete(self._store, key)), self.network)
        except Failure as failure:
            if failure.status != 404:
                raise


def state_of(found: Any) -> State:
    """Return the state of an object that obstore asked for."""
    meta = found.meta
    return State(meta["size"], meta["e_tag"] or "", str(meta["last_modified"]))


def _first_line(error: Exception) -> str:
    """Return what obstore says of an error: its texts go on with the source of each error, and a dump of all."""
    return one_line(str(error).partition("\n\nDebug source")[0].rpartition(" - ")[2])


def called(call: Any) -> Any:
    """Return the result of a call of obstore; its errors are failures."""
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        NotFoundError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )

    statuses = {
        FileNotFoundError: 404,
        AlreadyExistsError: 412,
        NotFoundError: 404,
        PreconditionError: 412,
        PermissionDeniedError: 403,
        UnauthenticatedError: 401,
    }
    try:
        return call()
    except (BaseError, OSError) as error:
        status = statuses.get(type(error))
        said = _STATUS.search(str(error))
        if status is None and said:
            status = int(said[1])
        known = status is None and _TEMPORARY.search(str(error)) is not None
        raise Failure(_first_line(error), status, temporary=known or None) from error
