"""Objects on stores: what is read of them, and written to them, as of files.

``https://`` takes the standard library alone; ``s3://`` boto3; ``gs://`` and ``az://`` obstore. Each is imported when
the first such object is opened.
"""

from __future__ import annotations

from gncli.inputs import ON_NETWORK, Network
from gncli.io.remote.client import Remote
from gncli.io.remote.file import RemoteFile
from gncli.io.urls import Url

__all__ = ["RemoteFile", "open_object", "remote_of"]


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
