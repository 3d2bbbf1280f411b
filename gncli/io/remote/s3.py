"""Objects on S3 and what speaks like it, by boto3: it finds credentials and regions, signs, and uploads.

Notes
-----
A read is a GET of an address that boto3 has signed, made by the client of `http`. So a range goes straight into the
buffer of its reader, and its answer is checked as that of any web server; the client of boto3 has its own retries and
buffers. One signature serves all ranges: it is about the object, not about headers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, BinaryIO, Self, TypeVar

from gncli.inputs import Network
from gncli.io.remote.client import (
    CALL_TIMEOUT,
    MARK,
    Failure,
    Found,
    OpenUpload,
    State,
    Stored,
    Uploading,
    believed,
    one_line,
    require,
    tried,
)
from gncli.io.remote.http import Http
from gncli.io.urls import Url

SIGNED_SECONDS = 3600

Result = TypeVar("Result")


class S3Object(Http, Uploading):
    """An object on S3: how it is read, and how it is put there in parts.

    Parameters
    ----------
    url : Url
        The object.
    network : Network
        Retries, the limit of requests, and whether there are credentials.

    Raises
    ------
    ParameterError
        If boto3 is not installed.
    """

    most_nbytes = 5 << 40
    hint = (
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN); "
        "--anonymous reads a public bucket"
    )

    def __init__(self, url: Url, network: Network) -> None:
        super().__init__(url, network)
        require("boto3", url)

    @property
    def _client(self) -> Any:
        return _client(self.network.anonymous, self.network.requests)

    def address(self) -> str:
        """Return an address of the object that is signed."""

        def sign() -> str:
            signed: str = self._client.generate_presigned_url(
                "get_object", Params=self._place, ExpiresIn=SIGNED_SECONDS
            )
            return signed

        return _called(sign)

    @property
    def _place(self) -> dict[str, str]:
        return {"Bucket": self.url.host, "Key": self.url.key}

    def _call(self, method: str, **parameters: Any) -> Any:
        """Return the answer of the store to a call of its API, retries included."""
        return tried(lambda: _called(lambda: getattr(self._client, method)(**parameters)), self.network)

    def below(self, name: str) -> Self:
        """Return the client of the object `name` in the folder that this is."""
        other = super().below(name)
        other.hint = f"{self.hint}; without s3:ListBucket, S3 says 403 of a chunk that is not there"
        return other

    def opened(self, nbytes: int) -> tuple[State, bytes]:
        """Return the state of the object, and its first `nbytes` bytes; boto3 learns the region of its bucket first."""
        self._call("head_object", **self._place)
        return super().opened(nbytes)

    def listed(self, *, flat: bool) -> Iterator[tuple[str, int]]:
        """Yield the name and the size of each object in the folder that this is."""
        if flat:
            yield from ((each.name, each.nbytes) for each in self.contents())
            return
        for page in self._pages(Delimiter="/"):
            yield from ((each["Prefix"].removeprefix(self._inside), 0) for each in page.get("CommonPrefixes", ()))
            yield from ((each.name, each.nbytes) for each in self._contents(page))

    def contents(self) -> Iterator[Stored]:
        """Yield the objects in the folder that this is, and in those below it."""
        for page in self._pages():
            yield from self._contents(page)

    def _contents(self, page: dict[str, Any]) -> Iterator[Stored]:
        for each in page.get("Contents", ()):
            name = each["Key"].removeprefix(self._inside)
            yield Stored(name, each["Size"], each["ETag"], each["LastModified"])

    @property
    def _inside(self) -> str:
        return f"{self.url.key.removesuffix('/')}/"

    def _pages(self, **given: str) -> Iterator[dict[str, Any]]:
        more: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Bucket=self.url.host, Prefix=self._inside, **given, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def head(self) -> Found | None:
        """Return what the object is; None if there is none."""
        try:
            found = self._call("head_object", **self._place)
        except Failure as failure:
            if failure.status == 404:
                return None
            raise
        headers = found["ResponseMetadata"]["HTTPHeaders"]
        state = State(found["ContentLength"], found.get("ETag", ""), headers.get("last-modified", ""))
        return Found(state, found.get("Metadata", {}).get(MARK, ""), found["LastModified"])

    def begin_upload(self, mark: str, part_nbytes: int) -> str:
        """Return the id of a new upload, whose object will have `mark` in its metadata."""
        begun: str = self._call("create_multipart_upload", **self._place, Metadata={MARK: mark})["UploadId"]
        return begun

    def upload_part(self, upload: str, number: int, content: Any) -> str:
        """Return the ETag of a part, counted from 1, after it has arrived; `content` is bytes or an open file."""

        def attempt() -> str:
            if hasattr(content, "seek"):
                content.seek(0)
            parameters = {**self._place, "UploadId": upload, "PartNumber": number, "Body": content}
            etag: str = _called(lambda: self._client.upload_part(**parameters))["ETag"]
            return etag

        return tried(attempt, self.network)

    def complete_upload(self, upload: str, etags: list[str], mark: str, *, create: bool) -> None:
        """Make the object appear, of all parts; with `create` only if there is none of its name."""
        parts = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]}
        parameters = {**self._place, "UploadId": upload, "MultipartUpload": parts}

        def complete(condition: dict[str, str]) -> None:
            self._call("complete_multipart_upload", **parameters, **condition)

        believed(self, mark, lambda: _conditional(complete, create=create))

    def abort_upload(self, upload: str) -> None:
        """Remove the parts of an upload; one that is no more is no failure."""
        try:
            self._call("abort_multipart_upload", **self._place, UploadId=upload)
        except Failure as failure:
            if failure.status != 404:
                raise

    def uploads(self) -> list[OpenUpload]:
        """Return the open uploads to this very object, the oldest first."""
        found = [OpenUpload(each["UploadId"], each["Initiated"]) for each in self._listed()]
        return sorted(found, key=lambda upload: upload.begun)

    def last_sign(self, upload: OpenUpload) -> datetime:
        """Return when an upload got its last part, or was begun."""
        signs: list[datetime] = [upload.begun, *(part["LastModified"] for part in self._parts(upload.id))]
        return max(signs)

    def parts(self, upload: str) -> dict[int, str]:
        """Return the ETags of the parts that an upload has, by their numbers from 0 on."""
        return {part["PartNumber"] - 1: part["ETag"] for part in self._parts(upload)}

    def _parts(self, upload: str) -> Iterator[dict[str, Any]]:
        more: dict[str, int] = {}
        while True:
            page = self._call("list_parts", **self._place, UploadId=upload, **more)
            yield from page.get("Parts", ())
            if not page.get("IsTruncated"):
                return
            more = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def put(self, content: bytes | BinaryIO, mark: str = "", *, create: bool = False) -> bool:
        """Put the object there, whole, and with this mark; with `create` only if there is none of its name."""
        parameters = {**self._place, "Body": content, "Metadata": {MARK: mark} if mark else {}}

        def attempt(condition: dict[str, str]) -> None:
            if not isinstance(content, bytes):
                content.seek(0)
            try:
                _called(lambda: self._client.put_object(**parameters, **condition))
            except Failure as failure:
                failure.temporary |= failure.status == 409  # another request about it was on its way
                raise

        def put(condition: dict[str, str]) -> None:
            tried(lambda: attempt(condition), self.network)

        return believed(self, mark, lambda: _conditional(put, create=create))

    def delete(self) -> None:
        """Remove the object; one that is no more is no failure."""
        self._call("delete_object", **self._place)

    def _listed(self) -> Iterator[dict[str, Any]]:
        marks: dict[str, str] = {}
        while True:
            place = {"Bucket": self.url.host, "Prefix": self.url.key}
            page = self._call("list_multipart_uploads", **place, **marks)
            yield from (each for each in page.get("Uploads", ()) if each["Key"] == self.url.key)
            if not page.get("IsTruncated"):
                return
            marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _conditional(send: Callable[[dict[str, str]], None], *, create: bool) -> None:
    """Send what makes an object, with `create` on the condition that there is none; without, if none are known."""
    try:
        send({"IfNoneMatch": "*"} if create else {})
    except Failure as failure:
        if failure.status != 501 or not create:
            raise
        send({})


@functools.cache
def _client(anonymous: bool, requests: int) -> Any:
    from boto3.session import Session
    from botocore import UNSIGNED
    from botocore.config import Config

    from gncli import __version__

    config = Config(
        signature_version=UNSIGNED if anonymous else "s3v4",
        retries={"total_max_attempts": 1},  # `tried` counts them, and says so
        connect_timeout=5,
        read_timeout=CALL_TIMEOUT,
        max_pool_connections=requests + 1,
        user_agent_extra=f"gncli/{__version__}",
    )
    return Session().client("s3", config=config)


def _called(call: Callable[[], Result]) -> Result:
    """Return the result of a call of boto3; its errors are failures.

    Raises
    ------
    Failure
        If it fails.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ReadTimeoutError,
    )

    try:
        return call()
    except ClientError as error:
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = answer.get("Error", {}).get("Code", "")
        said = answer.get("Error", {}).get("Message", "") if code == str(status) else code
        raise Failure(one_line(f"{status} {said}"), status) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise Failure("no credentials are found", 403) from error
    except ReadTimeoutError as error:
        raise Failure(f"no answer in {CALL_TIMEOUT} s", temporary=True) from error
    except HTTPClientError as error:
        raise Failure("the connection broke, or none was made", temporary=True) from error
    except (BotoCoreError, ValueError) as error:
        raise Failure(one_line(error)) from error
