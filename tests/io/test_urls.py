"""The names of objects on stores."""

from __future__ import annotations

import pytest

from gncli.errors import InputError, ParameterError
from gncli.io.urls import Url, is_url, parsed, split

PARSED: dict[str, tuple[Url, str | None]] = {
    "s3://bucket/x.npy": (Url("s3", "bucket", "x.npy"), None),
    "S3://bucket/x.npy": (Url("s3", "bucket", "x.npy"), None),
    "s3://bucket/a//b?c#d%25 é.npz::x/y": (Url("s3", "bucket", "a//b?c#d%25 é.npz"), "x/y"),
    "s3://bucket/a::b.npz::x": (Url("s3", "bucket", "a::b.npz"), "x"),
    "gs://bucket/x.npy": (Url("gs", "bucket", "x.npy"), None),
    "az://container/x.npy": (Url("az", "container", "x.npy"), None),
    "https://host:8443/x.npy?a=1&b=2": (Url("https", "host:8443", "x.npy?a=1&b=2"), None),
    "https://host/x.safetensors?a=1::w": (Url("https", "host", "x.safetensors?a=1"), "w"),
    "http://localhost/x.npy": (Url("http", "localhost", "x.npy"), None),
    "http://127.0.0.1:80/x.npy": (Url("http", "127.0.0.1:80", "x.npy"), None),
    "http://[::1]:80/x.npz::a": (Url("http", "[::1]:80", "x.npz"), "a"),
}

REFUSED: dict[str, str] = {
    "simplecache::s3://bucket/x.npy": "is a chain of fsspec, which is not followed; name the object itself",
    "zip://x.npy::s3://bucket/x.zip": "is a chain of fsspec, which is not followed",
    "ftp://host/x.npy": "ftp:// is not read or written; it is s3://, gs://, az:// or https://",
    "gcs://bucket/x.npy": "gcs:// is not read or written; did you mean gs://?",
    "s3:///x.npy": "names no bucket",
    "az://": "names no container",
    "s3://bucket": "names no object",
    "https://host/": "names no object",
    "https://host/?a=1": "names no object",
    "http://host/x.npy": "http:// is not read from another machine, since anyone on the way can change what it sends",
    "http://127.0.0.1.example.org/x.npy": "http:// is not read from another machine",
    "s3://bucket/x.npz::": "has no name after the ::",
    "s3://bucket/x.h5::/": "has no name after the ::",
}


@pytest.mark.parametrize("text", PARSED)
def test_a_url_names_an_object_and_perhaps_a_tensor(text: str) -> None:
    assert parsed(text) == PARSED[text]
    assert is_url(text)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_such_name_is_refused_by_name(text: str) -> None:
    for kind in (InputError, ParameterError):
        with pytest.raises(kind) as caught:
            parsed(text, kind)
        assert str(caught.value).startswith(f"{text}: {REFUSED[text]}")


def test_a_password_is_refused_and_not_said_again() -> None:
    with pytest.raises(InputError) as caught:
        parsed("https://me:secret@host/x.npy")
    assert str(caught.value) == (
        "https://host/x.npy: has a user or a password in it; credentials come from the environment alone"
    )


@pytest.mark.parametrize("text", ["x.npy", "x.npz::a", "/a:/b", "a:b//c", "C:/x.npy", "-"])
def test_files_are_no_urls(text: str) -> None:
    assert not is_url(text)


def test_a_name_is_split_without_a_look_at_its_scheme() -> None:
    assert split("nonsense://x::y") == ("nonsense://x", "y")
    assert split("x.npz::y") == ("x.npz::y", None)


def test_what_lies_beside_an_object_has_its_folder_and_no_query() -> None:
    assert str(parsed("https://host/a/b.json?x=1")[0].beside("c.safetensors")) == "https://host/a/c.safetensors"
    assert str(parsed("s3://bucket/a?/b.json")[0].beside("c")) == "s3://bucket/a?/c"
    assert str(parsed("s3://bucket/b.json")[0].beside("c")) == "s3://bucket/c"
