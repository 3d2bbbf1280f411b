"""Objects on Azure, written: in blocks that nobody sees before a list of them is put there, on a condition.

Notes
-----
The few requests are made by the client of `http`, to an address that is signed (a SAS). A signature is about the
object, so that one address serves all blocks. With the key of the account it is made here, since obstore signs no name
that a URL encodes; a SAS token is the signature itself; with any other credentials, which obstore finds, it signs.

The id of a block says which run it is of, when it was sent, and its number: Azure tells nothing else of blocks, and
removes none before a list is put there without them, or a week has passed.
"""

from __future__ import annotations

import math
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, urlencode

from gncli import __version__
from gncli.inputs import Network
from gncli.io.remote.client import MARK, Failure, OpenUpload, believed, clock, one_line, tried
from gncli.io.remote.http import answered
from gncli.io.remote.obstores import ObstoreOutput, called
from gncli.io.remote.upload import MOST_PARTS
from gncli.io.urls import Url

SIGNED = timedelta(hours=1)
_VERSION = "2020-12-06"  # of the protocol: blocks may have 4,000 MiB since 2019-12-12
_NAME = re.compile(rb"<Name>([A-Za-z0-9+/]{52})</Name>")  # of a block of gncli, or of another one as long
_ID = re.compile(rb"gncli-([0-9a-f]{16})-(\d{10})-\d{5}")


class _Block(NamedTuple):
    """A block that is there, of an upload of gncli."""

    upload: str
    sent: datetime


class AzureObject(ObstoreOutput):
    """An object on Azure that is written.

    Parameters
    ----------
    url : Url
        The object.
    network : Network
        Retries, the limit of requests, and whether there are credentials.
    """

    most_nbytes = MOST_PARTS * (4000 << 20)
    kept = "Azure alone removes the blocks, a week after the last one, or when a run writes this object"

    def __init__(self, url: Url, network: Network) -> None:
        super().__init__(url, network)
        self._signed: dict[str, tuple[str, float]] = {}

    def begin_upload(self, mark: str, part_nbytes: int) -> str:
        """Return the mark, which is the id of an upload; only look whether there are credentials and the container."""
        self._blocks()
        return mark

    def upload_part(self, upload: str, number: int, content: bytearray | BinaryIO) -> str:
        """Put a block there, and return its id."""
        name = b64encode(f"gncli-{upload}-{datetime.now(UTC).timestamp():010.0f}-{number:05}".encode()).decode()
        self._answer("PUT", f"comp=block&blockid={quote(name, safe='')}", content)
        return name

    def complete_upload(self, upload: str, etags: list[str], mark: str, *, create: bool) -> None:
        """Make the object appear, of all blocks; with `create` only if there is none of its name."""
        blocks = "".join(f"<Latest>{name}</Latest>" for name in etags)
        content = bytearray(f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode())
        condition = {"If-None-Match": "*"} if create else {}
        headers = {f"x-ms-meta-{MARK}": mark, **condition}
        believed(self, mark, lambda: self._answer("PUT", "comp=blocklist", content, headers))

    def abort_upload(self, upload: str) -> None:
        """Leave the blocks to Azure: it removes none that it is told to."""

    def uploads(self) -> list[OpenUpload]:
        """Return the uploads of gncli to this very object that have blocks, the oldest first."""
        begun: dict[str, datetime] = {}
        for block in self._blocks():
            begun[block.upload] = min(block.sent, begun.get(block.upload, block.sent))
        return sorted((OpenUpload(*each) for each in begun.items()), key=lambda upload: upload.begun)

    def last_sign(self, upload: OpenUpload) -> datetime:
        """Return when an upload sent its last block, by the clock of its run."""
        return max((block.sent for block in self._blocks() if block.upload == upload.id), default=upload.begun)

    def _blocks(self) -> list[_Block]:
        """Return the blocks that were sent to this object, and are in no list yet.

        Raises
        ------
        Failure
            If there is no such container.
        """
        try:
            text = self._answer("GET", "comp=blocklist&blocklisttype=uncommitted")
        except Failure as failure:
            if failure.status == 404 and "ContainerNotFound" not in failure.problem:
                return []
            raise
        found = []
        for name in _NAME.findall(text):
            match = _ID.fullmatch(b64decode(name))
            if match:
                found.append(_Block(match[1].decode(), datetime.fromtimestamp(int(match[2]), UTC)))
        return found

    def _answer(
        self,
        method: str,
        query: str,
        content: bytearray | BinaryIO | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """Return the body of the answer to a request about the object, retries included."""
        about = {"User-Agent": f"gncli/{__version__}", "x-ms-version": _VERSION, **headers}
        if content is not None:
            nbytes = len(content) if isinstance(content, bytearray) else os.fstat(content.fileno()).st_size
            about["Content-Length"] = str(nbytes)

        def attempt() -> bytes:
            answer = answered(method, f"{self._address(method)}&{query}", about, content)
            if answer.response.status in (200, 201):
                return answer.whole()
            failure = answer.failure()
            if "BlobAlreadyExists" in failure.problem:  # with 409, where others say 412
                failure.status = 412
            raise failure

        return tried(attempt, self.network)

    def _address(self, method: str) -> str:
        """Return an address of the object that is signed for a method; it is used for half of its time."""
        address, end = self._signed.get(method, ("", -math.inf))
        if clock() >= end:
            end = clock() + SIGNED.total_seconds() / 2
            address = self._sign(method)
            self._signed[method] = address, end
        return address

    def _sign(self, method: str) -> str:
        import obstore
        from obstore.store import AzureStore

        token = key = ""
        if not self.network.anonymous:
            token = _given("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")
            key = _given("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")

        def sign() -> str:
            client = AzureStore(self.url.host, account_key="") if token or key else self._store
            signed: str = obstore.sign(client, method, self._key, SIGNED)  # type: ignore[call-overload]
            return signed

        try:
            address, _, signature = called(sign).partition("?")
            if token:  # what was signed with no key only tells the address
                signature = token.removeprefix("?")
            elif key:
                resource = f"/blob/{_given('AZURE_STORAGE_ACCOUNT_NAME')}/{self.url.host}/{self._key}"
                signature = signed(resource, method, key, datetime.now(UTC) + SIGNED)
        except (Failure, ValueError) as error:
            raise Failure(one_line(str(error)), 403, temporary=getattr(error, "temporary", None)) from error
        if "%" in address and not (token or key):
            hint = "with AZURE_STORAGE_ACCOUNT_KEY it can be; or choose a name of letters, digits and -._"
            raise Failure("obstore signs no key with characters that a URL encodes", hint=hint)
        return f"{address}?{signature}"


def signed(resource: str, method: str, key: str, end: datetime) -> str:
    """Return the query that allows requests of a method about an object until `end`: a service SAS.

    Parameters
    ----------
    resource : str
        The object, as ``/blob/account/container/name``.
    method : str
        ``PUT`` or ``GET``.
    key : str
        The key of the account, in base64.
    end : datetime
        When it ends.

    Raises
    ------
    ValueError
        If the key is no base64.

    Notes
    -----
    Microsoft's "Create a service SAS", for `_VERSION`: the fields that are signed, a line each, most of them empty.
    """
    import hmac

    allowed, until = {"PUT": "w", "GET": "r"}[method], end.strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [allowed, "", until, resource, "", "", "", _VERSION, "b", *[""] * 7]
    digest = hmac.digest(b64decode(key, validate=True), "\n".join(lines).encode(), "sha256")
    return urlencode({"sv": _VERSION, "se": until, "sr": "b", "sp": allowed, "sig": b64encode(digest).decode()})


def _given(*names: str) -> str:
    """Return the first of these variables that is set."""
    return next(filter(None, map(os.environ.get, names)), "")
