"""The names of objects on stores: the one place that takes a URL apart."""

from __future__ import annotations

import re
from typing import NamedTuple

from gncli.errors import GncliError, InputError

_URL = re.compile(r"(?:[a-z0-9+.-]+::)*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_CHAIN = re.compile(r"::[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)
_HOSTS = {"s3": "bucket", "gs": "bucket", "az": "container", "https": "host", "http": "host"}
_MEANT = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "abfs": "az", "abfss": "az", "azure": "az", "adl": "az"}


class Url(NamedTuple):
    """The name of an object on a store.

    Parameters
    ----------
    scheme : str
        ``s3``, ``gs``, ``az``, ``https`` or, on this machine alone, ``http``.
    host : str
        The bucket, the container, or the host with its port.
    key : str
        The name of the object there, as the store has it; for https, the path and the query, as it was typed.

    Examples
    --------
    >>> url, _ = parsed("s3://bucket/run 7/x.npy")
    >>> url, str(url.beside("y.npy"))
    (Url(scheme='s3', host='bucket', key='run 7/x.npy'), 's3://bucket/run 7/y.npy')
    """

    scheme: str
    host: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.key}"

    @property
    def web(self) -> bool:
        """Whether it is on a web server, and no object store."""
        return self.scheme in ("https", "http")

    def beside(self, name: str) -> Url:
        """Return the URL of the object `name` in the same folder."""
        path = self.key.partition("?")[0] if self.web else self.key
        folder, slash, _ = path.rpartition("/")
        return self._replace(key=f"{folder}{slash}{name}")

    def below(self, name: str) -> Url:
        """Return the URL of the object `name` in the folder that this is; what follows a ? stays.

        Examples
        --------
        >>> str(Url("s3", "bucket", "a.zarr/").below("c/0")), str(Url("https", "host", "a.zarr?sig=1").below("b c/0"))
        ('s3://bucket/a.zarr/c/0', 'https://host/a.zarr/b%20c/0?sig=1')
        """
        if not self.web:
            return self._replace(key=f"{self.key.removesuffix('/')}/{name}")
        from urllib.parse import quote

        path, mark, query = self.key.partition("?")
        return self._replace(key=f"{path.removesuffix('/')}/{quote(name)}{mark}{query}")

    def names_folder(self, suffixes: tuple[str, ...]) -> bool:
        """Return whether it is a folder of objects: it ends with a slash, or a part of its path has such a suffix.

        Examples
        --------
        >>> [Url("s3", "bucket", key).names_folder((".zarr",)) for key in ("a.zarr", "a.zarr/g/b", "a/", "a.zarr.npy")]
        [True, True, True, False]
        """
        path = self.key.partition("?")[0] if self.web else self.key
        return path.endswith("/") or any(part.lower().endswith(suffixes) for part in path.split("/"))


def is_url(text: str) -> bool:
    """Return whether a name is a URL, or a chain of them.

    Examples
    --------
    >>> is_url("s3://bucket/x.npy"), is_url("simplecache::s3://bucket/x.npy"), is_url("x.npz::a"), is_url("C:/x.npy")
    (True, True, False, False)
    """
    return _URL.match(text) is not None


def split(text: str) -> tuple[str, str | None]:
    """Return the object and the name in it: they are separated by the last ``::``, and without one there is no name.

    Examples
    --------
    >>> split("s3://bucket/a::b.npz::x"), split("https://host/x.npy?a=1")
    (('s3://bucket/a::b.npz', 'x'), ('https://host/x.npy?a=1', None))
    """
    place, mark, name = text.rpartition("::")
    return (place, name) if mark and is_url(place) else (text, None)


def parsed(text: str, error: type[GncliError] = InputError) -> tuple[Url, str | None]:
    """Return the object that a URL names, and the name of a tensor in it, if it has one.

    Parameters
    ----------
    text : str
        The URL.
    error : type
        What is raised about a URL that is not read.
    """
    match = _URL.match(text)
    assert match is not None  # `is_url`
    if match.start(1) or _CHAIN.search(text):
        hint = "name the object itself; its tensors are named URL::NAME"
        raise error("is a chain of fsspec, which is not followed", subject=text, hint=hint)
    place, name = split(text)
    scheme, (host, _, key) = match[1].lower(), place[match.end() :].partition("/")
    if scheme not in _HOSTS:
        known = _MEANT.get(scheme)
        hint = f"did you mean {known}://?" if known else "it is s3://, gs://, az:// or https://"
        raise error(f"{scheme}:// is not read or written", subject=text, hint=hint)
    if not host or not key or key.startswith("?"):
        raise error(f"names no {_HOSTS[scheme] if not host else 'object'}", subject=text, hint=f"{scheme}://HOST/KEY")
    if "@" in host:
        hint = "credentials come from the environment alone"
        raise error("has a user or a password in it", subject=f"{scheme}://{host.rpartition('@')[2]}/{key}", hint=hint)
    if scheme == "http" and not _LOOPBACK.fullmatch(host):
        problem = "http:// is not read from another machine, since anyone on the way can change what it sends"
        raise error(problem, subject=text, hint="use https://")
    if name is not None and not name.strip("/"):
        raise error("has no name after the ::", subject=text)
    return Url(scheme, host, key), name
