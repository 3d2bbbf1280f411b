"""Objects on Google Cloud Storage and Azure, read by obstore from a server that answers as these do."""

from __future__ import annotations

import json
import types
from typing import Any

import numpy as np
import pytest

from gncli.inputs import Network
from gncli.io import open_source
from gncli.io.remote import obstores
from gncli.io.remote.client import Failure, State
from gncli.io.urls import Url
from tests.files import saved
from tests.io.remote.conftest import Command
from tests.servers import Store, changed, dropped, grown, once, status, truncated

LARGE = np.random.default_rng(0).standard_normal((1 << 18,))  # 2 MiB


@pytest.fixture(params=["gs", "az"])
def scheme(request: pytest.FixtureRequest, web: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let obstore find the server as the environment says."""
    account = {"gcs_base_url": web.url, "disable_oauth": True, "client_email": "", "private_key": ""}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps({**account, "private_key_id": ""}))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_ENDPOINT", web.url)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
    obstores.store.cache_clear()
    yield request.param
    obstores.store.cache_clear()


def test_an_object_is_read_in_ranges_that_depend_on_its_etag(scheme: str, web: Store, gncli: Command) -> None:
    web.objects["/bucket/a/x.npy"] = saved(LARGE)
    name = f"{scheme}://bucket/a/x.npy"
    answer = gncli("stats", name, "-s", "max", "--format", "value")
    assert answer == (0, f"{LARGE.max()}\n", "")
    etag = web.headers("/bucket/a/x.npy")["ETag"]
    assert [asked.headers.get("if-match") for asked in web.asked] == [None, etag]
    assert web.nbytes <= 1.02 * LARGE.nbytes


FAULTS: dict[str, tuple[int, Any, int, str]] = {
    "404": (1, status(404), 3, "there is no such object (404)"),
    "403": (1, status(403), 3, "--anonymous reads a public"),
    "503": (1, status(503), 3, "after 1 retry"),
    "dropped": (2, dropped, 3, "after 1 retry"),
    "truncated": (2, truncated, 3, "after 1 retry"),
    "changed": (2, changed, 6, "was changed while it was read"),
    "grown": (2, grown, 6, "was changed while it was read"),
    "gone": (2, status(404), 6, "was changed while it was read"),
    "whole": (2, status(200, {}, b"x"), 3, "cannot be read ("),
    "bad": (1, status(400), 3, "cannot be read ("),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_have_the_statuses_that_they_have_elsewhere(case: str, scheme: str, web: Store, gncli: Command) -> None:
    web.objects["/bucket/x.npy"] = saved(LARGE)
    number, fault, expected, problem = FAULTS[case]
    web.faults.append(once(fault, number, times=100))
    code, out, err = gncli("stats", f"{scheme}://bucket/x.npy", "--retries", "1")
    assert (code, out, err.count("\n")) == (expected, "", 1)
    assert problem in err


def test_what_passes_is_retried(scheme: str, web: Store, gncli: Command) -> None:
    web.objects["/bucket/x.npy"] = saved(LARGE)
    for fault in (status(503), status(429), dropped, truncated):
        web.faults[:] = [once(fault, 2)]
        answer = gncli("stats", f"{scheme}://bucket/x.npy", "-s", "max", "--format", "value")
        assert answer == (0, f"{LARGE.max()}\n", "")


def test_encoded_bytes_are_refused(scheme: str, web: Store, gncli: Command) -> None:
    web.objects["/bucket/x.npy"] = content = saved(LARGE)
    headers = {**web.headers("/bucket/x.npy"), "Content-Encoding": "gzip"}
    headers["Content-Range"] = f"bytes 0-65535/{len(content)}"
    web.faults.append(status(206, headers, content[:65536]))
    code, out, err = gncli("stats", f"{scheme}://bucket/x.npy")
    assert (code, out) == (3, "")
    assert "encoded (gzip)" in err


def test_an_empty_object_is_empty(scheme: str, web: Store, gncli: Command) -> None:
    web.objects["/bucket/x.npy"] = b""
    name = f"{scheme}://bucket/x.npy"
    assert gncli("stats", name) == (3, "", f"gncli: error: {name}: is empty (0 bytes)\n")


def test_a_key_that_obstore_cannot_say_is_refused(scheme: str, gncli: Command) -> None:
    name = f"{scheme}://bucket/a//x.npy"
    problem = "cannot be read (obstore reads no key with an empty part (//))"
    assert gncli("stats", name) == (3, "", f"gncli: error: {name}: {problem}\n")


def test_a_store_that_is_not_configured_says_what_to_set(gncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    obstores.store.cache_clear()
    code, out, err = gncli("stats", "az://container/x.npy")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "set AZURE_STORAGE_ACCOUNT_NAME" in err


def test_anonymous_reading_signs_nothing(scheme: str, web: Store, gncli: Command) -> None:
    web.objects["/bucket/x.npy"] = saved(LARGE)
    with open_source(f"{scheme}://bucket/x.npy") as source:
        assert source.shape == LARGE.shape
    assert gncli("stats", f"{scheme}://bucket/x.npy", "--anonymous", "-s", "shape", "--format", "value")[0] == 0


def test_a_stream_that_is_short_is_no_result(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Obstore checks both itself; should it ever not, nothing is made up."""
    remote = obstores.Obstore(Url(scheme, "bucket", "x"), Network(retries=0))
    meta = {"size": 9, "e_tag": '"a"', "last_modified": "t"}
    for found, problem in (((0, 3), "the store sends bytes"), ((0, 4), "the connection broke after 3 of 4 bytes")):
        answer = types.SimpleNamespace(meta=meta, range=found, stream=lambda **_: [b"abc"])
        monkeypatch.setattr(remote, "_asked", lambda _, answer=answer: answer)
        with pytest.raises(Failure, match=problem):
            remote.fetch(memoryview(bytearray(4)), 0, State(9, '"a"', "t"))
