"""What the tests of stores share: servers, a bucket, and a command line whose threads end with the test."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from gncli.cli import main
from gncli.io.remote import client, s3
from tests import servers

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def rested(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End what a process keeps for its requests: other tests look whether there are threads."""
    monkeypatch.setattr(client, "PAUSE", 0.001)
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in servers.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    yield
    s3._client.cache_clear()
    while client._pools:
        client._pools.popitem()[1].rest()


@pytest.fixture
def web() -> Iterator[servers.Store]:
    with servers.served() as store:
        yield store


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """A store, for which boto3 reads its descriptions of services once, and not for each client anew."""
    with servers.moto() as place:
        from botocore import session

        with mock.patch.object(session, "create_loader", functools.cache(session.create_loader)):
            yield place


@pytest.fixture
def front(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.Store]:
    """A server in front of S3, which makes mistakes and notes what is asked for."""
    with servers.served(endpoint) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        yield store


@pytest.fixture(scope="session")
def buckets(endpoint: str) -> Iterator[Any]:
    """The store as boto3's resource: without gncli, and without the server in front."""
    import boto3

    keys = {key.lower(): value for key, value in servers.CREDENTIALS.items() if key.startswith(("AWS_A", "AWS_S"))}
    session = boto3.session.Session(keys["aws_access_key_id"], keys["aws_secret_access_key"], region_name="us-east-1")
    resource = session.resource("s3", endpoint_url=f"http://{endpoint}")
    yield resource
    resource.meta.client.close()


@pytest.fixture
def bucket(buckets: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A new bucket."""
    made = buckets.create_bucket(Bucket=f"b{os.getpid()}-{abs(hash(request.node.nodeid)) % 10**10}")
    yield made
    for upload in made.multipart_uploads.all():
        upload.abort()
    made.objects.all().delete()
    made.delete()


@pytest.fixture
def gncli(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process, and return its status, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main(list(words))
        out, err = capfd.readouterr()
        return status, out, err

    return run
