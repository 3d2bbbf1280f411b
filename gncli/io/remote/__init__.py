"""Objects on stores: what is read of them, and written to them, as of files.

``https://`` takes the standard library alone; ``s3://`` boto3; ``gs://`` and ``az://`` obstore. Each is imported when
the first such object is opened.
"""

from __future__ import annotations

from collections.abc import Sequence

from gncli.errors import ParameterError
from gncli.inputs import ON_NETWORK, Network
from gncli.io.remote.client import Remote
from gncli.io.remote.file import RemoteFile
from gncli.io.source import NewFile, Source
from gncli.io.urls import Url, parsed

__all__ = ["RemoteFile", "begin_object", "open_object", "remote_of", "uploads_left_over"]


def remote_of(url: Url, network: Network = ON_NETWORK) -> Remote:
    """Return the client of an object.

    Raises
    ------
    ParameterError
        If what it needs is not installed.
    """
    if url.web:
        from gncli.io.remote.http import Http

        return Http(url, network)
    if url.scheme == "s3":
        from gncli.io.remote.s3 import S3Object

        return S3Object(url, network)
    from gncli.io.remote.obstores import Obstore

    return Obstore(url, network)


def begin_object(
    url: Url, name: str, *, force: bool = False, inputs: Sequence[Source] = (), network: Network = ON_NETWORK
) -> NewFile:
    """Return a new object, begun; for the parameters and errors see `MultipartFile`.

    Raises
    ------
    ParameterError
        If such objects are not written.
    """
    if url.web:
        raise ParameterError("is on a web server, which is only read", subject=name, hint="write to s3:// or to a file")
    if url.scheme != "s3":
        problem = f"{url.scheme}:// is read, and not written: obstore makes no upload that appears on a condition"
        raise ParameterError(problem, subject=name, hint="write to a file, and copy that")
    from gncli.io.remote.s3 import S3Object
    from gncli.io.remote.upload import MultipartFile

    return MultipartFile(S3Object(url, network), name=name, force=force, inputs=inputs)


def uploads_left_over(output: str, network: Network = ON_NETWORK) -> list[str]:
    """Remove all open uploads to an object, and return when each was begun, the oldest first.

    Raises
    ------
    OutputError
        If the store does not list or remove them.
    ParameterError
        If such objects are not written.
    """
    url, _ = parsed(output, ParameterError)
    if url.scheme != "s3":
        problem = f"{url.scheme}:// is not written, so no upload is open there"
        raise ParameterError(problem, subject=output, hint="name an object on s3://")
    from gncli.io.remote.s3 import S3Object

    remote = S3Object(url, network)
    gone: list[str] = []
    with remote.writing(output):
        for upload in remote.uploads():
            remote.abort_upload(upload.id)
            gone.append(f"{upload.begun:%Y-%m-%d %H:%M %Z}".strip())
    return gone


def open_object(url: Url, name: str, network: Network = ON_NETWORK) -> RemoteFile:
    """Return an object, open for reading, which errors call `name`.

    Raises
    ------
    InputError
        If there is none, it may not be read, or its server knows no ranges.
    ParameterError
        If what it needs is not installed.
    """
    return RemoteFile(remote_of(url, network), name)
