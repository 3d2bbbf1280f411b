"""Objects on S3, read through boto3's signatures."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from gncli.io import open_source
from tests.files import saved
from tests.io.remote.conftest import Command
from tests.marks import slow_but
from tests.servers import Store, dropped, of, once, status

SMALL = np.random.default_rng(0).standard_normal((4, 8, 5, 5), dtype=np.float32)

KEYS = ["x.npy", "a b/x.npy", "a//b.npy", "a?b#c%25%d.npy", "é/ü.npy", "a::b/x.npy", "-x", "a/../b.npy", "a+b&c=d.npy"]


@pytest.mark.parametrize("key", slow_but(KEYS, "a?b#c%25%d.npy", "é/ü.npy", "a::b/x.npy"))
def test_a_key_may_hold_anything(key: str, bucket: Any, front: Store, gncli: Command) -> None:
    bucket.put_object(Key=key, Body=saved(SMALL))
    name = f"s3://{bucket.name}/{key}"
    if "::" in key:  # the last :: separates the name of a tensor
        assert gncli("stats", name)[::2] == (3, f"gncli: error: {name}: there is no such object (404)\n")
    else:
        assert gncli("stats", name, "-s", "shape", "--format", "value") == (0, "4,8,5,5\n", "")
        assert "if-match" not in front.asked[1].headers
        assert len(front.asked) == 2


def test_every_range_depends_on_the_etag(bucket: Any, front: Store, gncli: Command) -> None:
    large = np.zeros((4, 1 << 15), np.float64)
    bucket.put_object(Key="x.npy", Body=saved(large))
    assert gncli("stats", f"s3://{bucket.name}/x.npy", "-s", "max", "--format", "value") == (0, "0.0\n", "")
    etag = bucket.Object("x.npy").e_tag
    assert [asked.headers.get("if-match") for asked in front.asked] == [None, None, etag]

    def change(*_: object) -> bool:
        bucket.put_object(Key="x.npy", Body=saved(large + 1))
        return False

    front.faults.append(once(change, 3))
    name = f"s3://{bucket.name}/x.npy"
    assert gncli("stats", name) == (6, "", f"gncli: error: {name}: was changed while it was read\n")


def test_what_is_not_there_is_said(bucket: Any, front: Store, gncli: Command) -> None:
    for name in (f"s3://{bucket.name}/x.npy", "s3://no-such-bucket-here/x.npy"):
        assert gncli("stats", name) == (3, "", f"gncli: error: {name}: there is no such object (404)\n")
    code, out, err = gncli("stats", "s3://b!/x.npy")
    assert (code, out) == (3, "")
    assert "nvalid" in err


def test_a_refusal_says_what_to_set(bucket: Any, front: Store, gncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_object(Key="x.npy", Body=saved(SMALL), ACL="public-read")
    name = f"s3://{bucket.name}/x.npy"
    hint = (
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN); "
        "--anonymous reads a public bucket"
    )
    front.faults.append(of("HEAD", "x.npy", status(403)))
    assert gncli("stats", name) == (3, "", f"gncli: error: {name}: cannot be read (403 Forbidden); {hint}\n")
    front.faults.clear()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    problem = "cannot be read (no credentials are found)"
    from gncli.io.remote import s3

    s3._client.cache_clear()
    assert gncli("stats", name) == (3, "", f"gncli: error: {name}: {problem}; {hint}\n")
    assert gncli("stats", name, "--anonymous", "-s", "shape", "--format", "value") == (0, "4,8,5,5\n", "")
    assert "Signature" not in front.asked[-1].path
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    s3._client.cache_clear()
    assert "no credentials are found" in gncli("stats", name)[2]


def test_calls_of_the_store_are_retried(bucket: Any, front: Store, gncli: Command) -> None:
    bucket.put_object(Key="x.npy", Body=saved(SMALL))
    name = f"s3://{bucket.name}/x.npy"
    for fault in (status(503), dropped):
        front.faults[:] = [once(of("HEAD", "", fault))]
        assert gncli("stats", name, "-s", "shape", "--format", "value") == (0, "4,8,5,5\n", "")
    front.faults[:] = [of("HEAD", "", status(503))]
    problem = "cannot be read (503 Service Unavailable, after 1 retry)"
    assert gncli("stats", name, "--retries", "1") == (3, "", f"gncli: error: {name}: {problem}\n")


def test_a_silent_store_is_given_up(bucket: Any, front: Store, gncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from gncli.io.remote import s3

    monkeypatch.setattr(s3, "CALL_TIMEOUT", 0.1)
    front.latency = 0.5
    name = f"s3://{bucket.name}/x.npy"
    assert gncli("stats", name, "--retries", "0")[::2] == (
        3,
        f"gncli: error: {name}: cannot be read (no answer in 0.1 s)\n",
    )


def test_a_missing_client_says_what_to_install(gncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, module in (("s3://bucket/x.npy", "boto3"), ("gs://bucket/x.npy", "obstore")):
        for name in [name for name in sys.modules if name.split(".")[0] == module]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)
        problem = f"{url[:5]} needs {module}, which is not installed; pip install 'gncli[cloud]'"
        assert gncli("stats", url) == (2, "", f"gncli: error: {problem}\n")


@pytest.mark.slow
def test_two_states_and_two_objects_have_two_identities(bucket: Any, front: Store) -> None:
    for key in ("x.npy", "y.npy"):
        bucket.put_object(Key=key, Body=saved(SMALL))
    identities = set()
    for key in ("x.npy", "y.npy", "x.npy"):
        with open_source(f"s3://{bucket.name}/{key}") as source:
            assert source.identity is not None
            identities.add(source.identity)
            assert source.identity.nbytes == len(saved(SMALL))
            assert source.identity.mtime_ns > 10**18
    assert len(identities) == 2
    bucket.put_object(Key="x.npy", Body=saved(SMALL + 1))
    with open_source(f"s3://{bucket.name}/x.npy") as source:
        assert source.identity not in identities


@pytest.mark.slow
def test_after_a_request_there_are_threads_so_that_nothing_forks(bucket: Any, front: Store) -> None:
    """What forks, the trial run of HDF5, looks whether there are threads; a client must not be forked."""
    bucket.put_object(Key="x.npy", Body=saved(SMALL))
    code = f"""
import os, threading
def refuse(): raise SystemExit("forked")
os.register_at_fork(before=refuse)
from gncli.io import open_source
assert threading.active_count() == 1
with open_source("s3://{bucket.name}/x.npy"): pass
assert threading.active_count() > 1
import h5py, numpy, sys
with h5py.File(sys.argv[1], "w") as file: file["a"] = numpy.arange(3.0)
with open_source(sys.argv[1]) as source: print(source.shape)
"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, f"{folder}/x.h5"], capture_output=True, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(3,)\n", "")
