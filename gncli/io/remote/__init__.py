"""Objects on stores: what is read of them, and written to them, as of files.

``https://`` takes the standard library alone; ``s3://`` boto3; ``gs://`` and ``az://`` obstore. Each is imported when
the first such object is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from gncli.errors import ParameterError
from gncli.inputs import ON_NETWORK, Network
from gncli.io.remote.client import Failure, Remote, Uploading, check_quiet, minute
from gncli.io.remote.file import RemoteFile
from gncli.io.source import FolderNames, NewFile, NewFolder, Source
from gncli.io.urls import Url, parsed

__all__ = [
    "RemoteFile",
    "begin_folder",
    "begin_object",
    "folder_left_over",
    "open_object",
    "open_uploads",
    "remote_of",
    "uploading",
    "uploads_left_over",
]


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
    from gncli.io.remote.upload import MultipartFile

    return MultipartFile(uploading(url, name, network), name=name, force=force, inputs=inputs)


def begin_folder(
    url: Url,
    names: FolderNames,
    name: str,
    *,
    force: bool = False,
    inputs: Sequence[Source] = (),
    network: Network = ON_NETWORK,
) -> NewFolder:
    """Return the objects below a prefix, begun; for the parameters and errors see `ObjectFolder`.

    Raises
    ------
    ParameterError
        If such objects are not written.
    """
    from gncli.io.remote.folder import ObjectFolder

    return ObjectFolder(_folder(url, name, network), names, name=name, force=force, inputs=inputs)


def folder_left_over(output: str, names: FolderNames, *, force: bool = False) -> list[tuple[str, int]]:
    """Remove what a killed run has left below a prefix, and return the name and the size of each object.

    Parameters
    ----------
    output : str
        The prefix.
    names : FolderNames
        Which objects are of a run.
    force : bool
        Whether they are removed too if the last of them was put there within the last hour.

    Raises
    ------
    OutputError
        If they may be of a run that goes on, or the store does not list or remove them.
    ParameterError
        If such objects are not written.
    """
    from gncli.io.remote.folder import left_over

    return left_over(_folder(parsed(output, ParameterError)[0], output, ON_NETWORK), names, output, force=force)


def _folder(url: Url, name: str, network: Network) -> Uploading:
    return uploading(url._replace(key=url.key.rstrip("/")), name, network)


def uploading(url: Url, name: str, network: Network) -> Uploading:
    """Return the client of an object that is written, or raise ParameterError if such ones are not."""
    if url.web:
        raise ParameterError("is on a web server, which is only read", subject=name, hint="write to s3:// or to a file")
    if url.scheme == "s3":
        from gncli.io.remote.s3 import S3Object

        return S3Object(url, network)
    if url.scheme == "gs":
        from gncli.io.remote.google import GoogleObject

        return GoogleObject(url, network)
    from gncli.io.remote.azure import AzureObject

    return AzureObject(url, network)


def open_uploads(url: Url, name: str, network: Network) -> tuple[str, ...]:
    """Return a note where other runs have left uploads to an object, or write it; none where that is not told."""
    with suppress(Failure, ParameterError):
        remote = uploading(url, name, network._replace(retries=0))
        count = len(remote.uploads())
        if count:
            some = "an upload is" if count == 1 else f"{count:,} uploads are"
            end = remote.kept or f"gncli clean {name} removes what is left over"
            return (f"{name}: {some} open, of a run that failed, was killed or goes on; {end}",)
    return ()


def uploads_left_over(output: str, network: Network = ON_NETWORK, *, force: bool = False) -> list[str]:
    """Remove the open uploads to an object, and return when each was begun, the oldest first.

    Parameters
    ----------
    output : str
        The object.
    network : Network
        Retries, and whether there are credentials.
    force : bool
        Whether those are removed too that got a part within the last hour.

    Raises
    ------
    OutputError
        If one may be of a run that goes on, or the store removes them only by itself: nothing is removed then. If the
        store does not list or remove them.
    ParameterError
        If such objects are not written.
    """
    url, _ = parsed(output, ParameterError)
    remote = uploading(url, output, network)
    with remote.writing(output):
        found = remote.uploads()
        for upload in () if force and not remote.kept else found:
            last = remote.last_sign(upload)
            check_quiet(output, "an upload", upload.begun, last, "--force removes it now", remote.kept)
        for upload in found:
            remote.abort_upload(upload.id)
    return [minute(upload.begun) for upload in found]


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
