"""Objects on a web server: the same results as from files, in few requests, and every wrong answer an error."""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gncli.errors import ChangedError
from gncli.inputs import Network, Policy
from gncli.io import open_source
from gncli.io.remote import client, file, http, open_object
from gncli.io.remote.client import Failure, State
from gncli.io.urls import parsed
from gncli.report.records import TensorStats
from gncli.run import cluster
from tests.files import saved
from tests.io.remote.conftest import Command
from tests.marks import slow_but
from tests.pickles import torch_file, view
from tests.runs import stats
from tests.servers import (
    Asked,
    Handler,
    Store,
    changed,
    dropped,
    grown,
    ignorant,
    in_flight,
    of,
    once,
    status,
    truncated,
)

REQUEST = 1 << 18

rng = np.random.default_rng(0)
SMALL = rng.standard_normal((4, 8, 5, 5), dtype=np.float32)
LARGE = rng.standard_normal((3, 64, 32, 64), dtype=np.float32)  # 1.5 MiB: 6 requests here


def values(url: str, **options: Any) -> list[Any]:
    """Return the values of each tensor of an object, by two workers."""
    report = stats([url], workers=2, **options)
    assert not report.failures
    return [tensor.values for tensor in report.tensors if isinstance(tensor, TensorStats)]


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests and visits be small, so that small tensors take several."""
    monkeypatch.setattr(file, "REQUEST", REQUEST)
    monkeypatch.setattr(file, "BLOCK", 4096)
    monkeypatch.setattr(file, "LARGE", 1 << 17)
    monkeypatch.setattr("gncli.run.engine.DEFAULT_TILE", 1 << 16)


def archive(**arrays: Any) -> bytes:
    made = io.BytesIO()
    np.savez_compressed(made, **arrays)
    return made.getvalue()


def safetensors(**arrays: Any) -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def hdf5(tmp_path: Path) -> bytes:
    with h5py.File(tmp_path / "made.h5", "w") as made:
        made["a"] = SMALL
        made.create_dataset("b", data=SMALL, chunks=(1, 8, 5, 5), compression="gzip")
    return (tmp_path / "made.h5").read_bytes()


FORMATS: dict[str, Callable[[Path], bytes]] = {
    "x.npy": lambda _: saved(SMALL),
    "x.npz": lambda _: archive(a=SMALL, b=SMALL[:2]),
    "x.safetensors": lambda _: safetensors(a=SMALL, b=SMALL[:2]),
    "x.pt": lambda _: torch_file(view()),
    "x.h5": hdf5,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_report_as_from_a_file(
    name: str, web: Store, gncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = FORMATS[name](tmp_path)
    (tmp_path / name).write_bytes(content)
    web.objects[f"/{name}"] = content
    options = ("-s", "all,median", "--format", "json")
    expected = gncli("stats", name, *options)
    found = gncli("stats", f"{web.url}/{name}", *options)
    assert found[0] == expected[0] == 0
    assert found[1].replace(f"{web.url}/", "") == expected[1]
    copied = f"gncli: {web.url}/x.h5: copied to a file in $TMPDIR, since HDF5 is not read in ranges\n"
    assert (copied in found[2]) == (name == "x.h5")


def test_a_member_is_read_by_its_name_alone(web: Store, gncli: Command) -> None:
    web.objects["/m.safetensors"] = safetensors(a=LARGE, b=SMALL)
    assert gncli("stats", f"{web.url}/m.safetensors::b", "-s", "shape", "--format", "value") == (0, "4,8,5,5\n", "")
    assert web.nbytes <= 1 << 13
    wanted = float(SMALL.astype(np.float64).max())
    answer = gncli("stats", f"{web.url}/m.safetensors::b", "-s", "max", "--format", "value")
    assert answer == (0, f"{wanted}\n", "")
    assert gncli("stats", f"{web.url}/m.safetensors::c")[::2] == (
        3,
        f"gncli: error: {web.url}/m.safetensors::c: no such tensor; the file has a, b\n",
    )


def test_a_checkpoint_in_shards_is_read_by_its_index(web: Store, gncli: Command) -> None:
    web.objects["/m/one-00001-of-00002.safetensors"] = safetensors(a=SMALL)
    web.objects["/m/one-00002-of-00002.safetensors"] = safetensors(b=SMALL[:1])
    index = {"weight_map": {"a": "one-00001-of-00002.safetensors", "b": "one-00002-of-00002.safetensors"}}
    web.objects["/m/one.safetensors.index.json"] = json.dumps(index).encode()
    url = f"{web.url}/m/one.safetensors.index.json"
    assert gncli("stats", url, "-s", "shape", "--format", "value") == (0, "4,8,5,5\n1,8,5,5\n", "")
    del web.objects["/m/one-00002-of-00002.safetensors"]
    problem = "names the shard one-00002-of-00002.safetensors, which is not there; it must lie next to the index"
    assert gncli("stats", url) == (3, "", f"gncli: error: {url}: {problem}\n")
    web.faults.append(of("GET", "00002", status(403)))
    assert "(403 Forbidden)" in gncli("stats", url)[2]


def test_large_tensors_take_as_many_requests_as_there_are_8_mib(web: Store) -> None:
    content = saved(LARGE)
    web.objects["/x.npy"] = content

    found = values(f"{web.url}/x.npy", statistics=("mean", "median", "sha256"))
    local = np.median(LARGE.astype(np.float64))
    assert found[0]["median"] == pytest.approx(local, abs=0)
    passes = web.nbytes / len(content)
    assert passes == pytest.approx(round(passes), rel=0.02)
    assert len(web.ranges) <= passes * len(content) / REQUEST + 10
    assert max(last - first + 1 for first, last in web.ranges) <= REQUEST + (1 << 17)


def test_bfloat16_is_asked_for_in_whole_requests(web: Store) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [LARGE.size], "data_offsets": [0, 2 * LARGE.size]}}).encode()
    web.objects["/x.safetensors"] = len(header).to_bytes(8, "little") + header + bytes(2 * LARGE.size)

    assert values(f"{web.url}/x.safetensors", statistics=("zeros",))[0]["zeros"] == LARGE.size
    assert len(web.ranges) <= 2 * LARGE.size / REQUEST + 3


def test_a_deflated_member_is_read_in_growing_requests(web: Store) -> None:
    content = archive(a=LARGE)
    web.objects["/x.npz"] = content

    assert values(f"{web.url}/x.npz")[0]["mean"] == pytest.approx(LARGE.mean(dtype=np.float64))
    assert len(web.ranges) <= len(content) / REQUEST + 12
    assert web.nbytes <= 1.02 * len(content) + (1 << 16)  # the end of an archive is looked for


def test_many_small_tensors_in_a_row_take_few_requests(web: Store) -> None:
    arrays = {f"t{number:03d}": np.full(1024, number, np.float32) for number in range(200)}
    content = safetensors(**arrays)
    web.objects["/x.safetensors"] = content

    found = values(f"{web.url}/x.safetensors", statistics=("mean",))
    assert [each["mean"] for each in found] == list(range(200))
    assert len(web.ranges) <= 14
    assert web.nbytes <= 1.02 * len(content) + (1 << 16)  # the end of an archive is looked for


def test_a_read_without_a_plan_goes_into_the_buffer_of_its_reader(web: Store) -> None:
    web.objects["/x.npy"] = saved(LARGE)
    with open_source(f"{web.url}/x.npy") as source:
        out = np.empty(LARGE.size - 5, np.float32)
        source.read_into(out, 5)
        np.testing.assert_array_equal(out, LARGE.reshape(-1)[5:])
        assert len(web.ranges) <= 8
        source.will_need(10, 20)
        source.will_need(0, 10)
        source.will_need(0, LARGE.size)
        source.will_need(0, LARGE.size)
        source.read_into(out, 0)
        np.testing.assert_array_equal(out, LARGE.reshape(-1)[:-5])


def test_requests_in_flight_are_limited_and_hide_latency(web: Store) -> None:
    """Here 24 requests of a server that waits before each: in turn they would take 24 waits."""
    web.objects["/x.npy"] = saved(rng.integers(0, 9, (6, 1 << 17), dtype=np.int64))  # 6 MiB
    most = in_flight(web, 0.02)

    policy = Policy(network=Network(requests=3))
    assert values(f"{web.url}/x.npy", policy=policy)[0]["max"] == 8
    assert most() == 3


WRONG: dict[str, tuple[Any, str]] = {
    "404": (status(404), "there is no such object (404)"),
    "403": (status(403), "cannot be read (403 Forbidden); gncli sends no credentials to a web server; use a URL that"),
    "401": (status(401), "cannot be read (401 Unauthorized); gncli sends no credentials"),
    "a code of S3": (
        status(403, body=b"<Error><Code>ExpiredToken</Code></Error>"),
        "cannot be read (403 ExpiredToken)",
    ),
    "200": (
        lambda handler, asked: handler.say(200, handler.server.store.objects[asked.path]) or True,
        "cannot be read (200: the server sends all of it for a range); download it, and name the file",
    ),
    "400": (status(400), "cannot be read (400 Bad Request)"),
    "encoded": (
        status(206, {"Content-Encoding": "gzip", "Content-Range": "bytes 0-1/2"}, b"xx"),
        "cannot be read (the server sends bytes that are encoded (gzip))",
    ),
    "without a range": (status(206, {}, b"xx"), "cannot be read (the server sends no range (not named))"),
    "a range of units": (status(206, {"Content-Range": "lines 0-1/2"}, b"xx"), "sends no range (lines 0-1/2)"),
    "an unknown size": (status(206, {"Content-Range": "bytes 0-1/*"}, b"xx"), "sends no range (bytes 0-1/*)"),
    "another range": (status(206, {"Content-Range": "bytes 1-2/9"}, b"xx"), "sends bytes 1 to 2 for the first 4,096"),
    "fewer bytes": (status(206, {"Content-Range": "bytes 0-1/9"}, b"xx"), "sends bytes 0 to 1 for the first 4,096"),
    "another length": (status(206, {"Content-Range": "bytes 0-8/9"}, b"xx"), "sends 2 bytes as bytes 0-8/9"),
    "503 for ever": (status(503), "cannot be read (503 Service Unavailable, after 2 retries)"),
    "429 for ever": (status(429), "cannot be read (429 Too Many Requests, after 2 retries)"),
    "dropped for ever": (dropped, "cannot be read (the connection broke, after 2 retries)"),
    "truncated for ever": (truncated, "cannot be read (the connection broke, after 2 retries)"),
    "redirected in a circle": (
        lambda handler, asked: handler.say(302, b"", {"Location": asked.path}) or True,
        "cannot be read (it is redirected more than 5 times)",
    ),
    "redirected to plain http": (
        status(302, {"Location": "http://example.org/x.npy"}),
        "cannot be read (it is redirected to http://example.org/x.npy, which is not followed)",
    ),
    "redirected to a file": (
        status(302, {"Location": "file:///etc/passwd"}),
        "is redirected to file:///etc/passwd, which",
    ),
    "redirected nowhere": (status(302), "which is not followed)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_at_opening_is_one_line_and_status_3(case: str, web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = saved(SMALL)
    fault, problem = WRONG[case]
    web.faults.append(fault)
    code, out, err = gncli("stats", f"{web.url}/x.npy", "--retries", "2")
    assert (code, out) == (3, "")
    assert err.startswith(f"gncli: error: {web.url}/x.npy: ")
    assert problem in err
    assert err.count("\n") == 1


CHANGES: dict[str, tuple[Any, str]] = {
    "another object": (changed, "was changed while it was read"),
    "another object, and no conditions": (ignorant, "was changed while it was read"),
    "a longer one": (grown, "was changed while it was read"),
    "a shorter one": (status(416), "was changed while it was read"),
    "gone": (status(404), "was removed while it was read"),
    "gone for good": (status(410), "was removed while it was read"),
}


@pytest.mark.parametrize("etags", slow_but(["strong", "weak", "none"], "strong"))
@pytest.mark.parametrize("case", CHANGES)
def test_an_object_that_changes_under_the_run_is_status_6(case: str, etags: str, web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = saved(LARGE)
    web.etags = etags
    fault, problem = CHANGES[case]
    web.faults.append(once(fault, 3, times=9))
    assert gncli("stats", f"{web.url}/x.npy") == (6, "", f"gncli: error: {web.url}/x.npy: {problem}\n")
    conditions = {asked.headers.get("if-match") for asked in web.asked[1:]}
    assert (conditions == {None}) == (etags != "strong")


def test_without_a_strong_etag_the_object_is_looked_at_once_more(web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = saved(SMALL)
    web.etags = "none"
    web.faults.append(once(changed, 2))
    assert gncli("stats", f"{web.url}/x.npy")[0] == 6
    web.etags = "strong"
    web.asked.clear()
    assert gncli("stats", f"{web.url}/x.npy")[0] == 0
    assert len(web.asked) == 1  # a small object comes with the first request


PASSING: dict[str, Any] = {
    "503": status(503),
    "503, wait": status(503, {"Retry-After": "0"}),
    "500": status(500),
    "502": status(502),
    "504": status(504),
    "408": status(408),
    "429": status(429, {"Retry-After": "soon"}),
    "dropped": dropped,
    "truncated": truncated,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_retried_and_the_result_is_right(case: str, web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = saved(LARGE)
    expected = f"{LARGE.max().item()}\n"
    for number in (1, 3):  # at opening, and in the middle
        web.asked.clear()
        web.faults[:] = [once(PASSING[case], number)]
        assert gncli("stats", f"{web.url}/x.npy", "-s", "max", "--format", "value") == (0, expected, "")
    if case == "truncated":  # it goes on where the connection broke
        assert web.nbytes <= 1.2 * len(web.objects["/x.npy"])


def test_a_read_that_breaks_for_ever_is_status_3(web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = saved(LARGE)
    web.faults.append(once(dropped, 2, times=1000))
    code, out, err = gncli("stats", f"{web.url}/x.npy", "--retries", "1")
    assert (code, out) == (3, "")
    assert err == f"gncli: error: {web.url}/x.npy: cannot be read (the connection broke, after 1 retry)\n"


def test_strange_answers_in_the_middle_are_status_3(web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = content = saved(LARGE)
    strange = {"Content-Range": f"bytes 0-1/{len(content)}", "ETag": web.headers("/x.npy")["ETag"]}
    for fault, problem in (
        (status(206, strange, b"xx"), "the server sends bytes 0 to 1 for "),
        (status(403), "403 Forbidden"),
        (status(200), "200: the server sends all of it for a range"),
    ):
        web.faults[:] = [once(fault, 2, times=1000)]
        code, out, err = gncli("stats", f"{web.url}/x.npy")
        assert (code, out) == (3, "")
        assert problem in err


def test_more_bytes_than_asked_for_are_an_error(web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = content = saved(SMALL)

    def chunked(handler: Handler, asked: Asked) -> bool:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in (content, *extra):
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")
        return True

    extra: list[bytes] = []
    web.faults.append(chunked)
    assert gncli("stats", f"{web.url}/x.npy", "-s", "shape", "--format", "value") == (0, "4,8,5,5\n", "")
    extra.append(b"more")
    problem = f"cannot be read (sends more than the {len(content):,} bytes asked for)"
    assert gncli("stats", f"{web.url}/x.npy") == (3, "", f"gncli: error: {web.url}/x.npy: {problem}\n")


def test_an_empty_object_is_empty(web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = b""
    answer = (3, "", f"gncli: error: {web.url}/x.npy: is empty (0 bytes)\n")
    assert gncli("stats", f"{web.url}/x.npy") == answer
    web.faults.append(status(416))
    problem = f"cannot be read (416 {HTTPStatus(416).phrase})"  # which is another one since Python 3.13
    assert gncli("stats", f"{web.url}/x.npy") == (3, "", f"gncli: error: {web.url}/x.npy: {problem}\n")


def test_redirections_are_followed_and_again_when_their_address_is_stale(web: Store, gncli: Command) -> None:
    web.objects["/signed"] = saved(LARGE)

    def moved(handler: Handler, asked: Asked) -> bool:
        if asked.path == "/x.npy":
            handler.say(302, b"", {"Location": "/signed"})
        return asked.path == "/x.npy"

    web.faults += [moved, once(of("GET", "signed", status(403)), 2)]
    expected = f"{LARGE.max().item()}\n"
    assert gncli("stats", f"{web.url}/x.npy", "-s", "max", "--format", "value", "--requests", "1") == (0, expected, "")
    assert [asked.path for asked in web.asked].count("/x.npy") == 2


def test_a_connection_that_the_server_has_closed_is_opened_again(web: Store, gncli: Command) -> None:
    web.objects["/x.npy"] = saved(SMALL)

    def closing(handler: Handler, asked: Asked) -> bool:
        handler.answer(asked)
        handler.close_connection = True
        return True

    web.faults.append(closing)
    for _ in range(3):  # one thread, so the same connection; no retry is needed
        answer = gncli(
            "stats", f"{web.url}/x.npy", "-s", "shape", "--format", "value", "--retries", "0", "--requests", "1"
        )
        assert answer == (0, "4,8,5,5\n", "")


@pytest.mark.slow
def test_a_server_that_is_silent_or_drips_is_given_up(
    web: Store, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TIMEOUT", 0.2)
    web.objects["/x.npy"] = content = saved(LARGE)
    done = threading.Event()

    def silent(handler: Handler, _: Asked) -> bool:
        done.wait(5)
        handler.drop()
        return True

    def dripping(handler: Handler, asked: Asked) -> bool:
        handler.send_response(206)
        for key, value in handler.server.store.headers(asked.path).items():
            handler.send_header(key, value)
        assert asked.range is not None
        first, last = asked.range
        handler.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        handler.end_headers()
        while not done.wait(0.02):
            handler.wfile.write(b"x")
        handler.drop()
        return True

    for fault, problem in ((silent, "no answer in 0 s"), (dripping, "the connection broke after ")):
        done.clear()
        web.faults[:] = [once(fault, 2, times=1000)]
        code, out, err = gncli("stats", f"{web.url}/x.npy", "--retries", "0")
        done.set()
        assert (code, out) == (3, "")
        assert problem in err


def test_a_slow_server_that_goes_on_is_waited_for(web: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", 0.05)
    web.objects["/x.npy"] = content = saved(SMALL)

    def slow(handler: Handler, _: Asked) -> bool:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for at in range(0, len(content), 500):
            handler.wfile.write(content[at : at + 500])
            time.sleep(0.02)
        return True

    web.faults.append(slow)
    with open_source(f"{web.url}/x.npy") as source:
        assert source.shape == SMALL.shape


def test_what_cannot_be_reached_says_why(gncli: Command) -> None:
    for url, problem in (
        ("http://127.0.0.1:1/x.npy", "Connection refused"),
        ("https://host.invalid/x.npy", "not known"),
        ("https://127.0.0.1:1/x\ny.npy", "Connection refused"),
    ):
        code, out, err = gncli("stats", url, "--retries", "0")
        assert (code, out) == (3, "")
        assert problem in err or "resolution" in err
        assert err.count("\n") == 1


def test_retries_wait_longer_each_time_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    said: list[str] = []
    monkeypatch.setattr(client, "PAUSE", 0.2)
    monkeypatch.setattr(client, "pause", waits.append)
    monkeypatch.setattr("gncli.progress.retrying", said.append)

    def fail(wait: float = 0.0) -> None:
        raise Failure("503 Slow Down", 503, wait=wait)

    with pytest.raises(Failure) as caught:
        client.tried(fail, Network(retries=8))
    assert caught.value.told == "503 Slow Down, after 8 retries"
    assert all(0.1 * 2**k <= wait <= min(8.0, 0.2 * 2**k) for k, wait in enumerate(waits[:6]))
    assert max(waits) <= client.LONGEST_PAUSE
    assert said[0] == "retry 1 of 8: 503 Slow Down"
    waits.clear()
    with pytest.raises(Failure):
        client.tried(lambda: fail(3.0), Network(retries=2))
    assert waits == [3.0, 3.0]
    now = iter([0.0, 10.0, client.PATIENCE + 1])
    monkeypatch.setattr(client, "clock", lambda: next(now))
    with pytest.raises(Failure) as caught:
        client.tried(fail, Network(retries=100))
    assert caught.value.retries == 1


def test_a_state_is_compared_by_what_it_has() -> None:
    strong, weak, bare = State(1, '"a"', "t"), State(1, 'W/"a"', "t"), State(1, "", "t")
    strong.check(State(1, '"a"', "later"))  # a copy in another place may have another time
    bare.check(bare)
    bare.check(State(1, '"a"', ""))
    for state, other in (
        (strong, State(1, '"b"', "t")),
        (strong, State(2, '"a"', "t")),
        (weak, State(1, 'W/"b"', "t")),
        (weak, State(1, 'W/"a"', "later")),
        (bare, State(1, "", "later")),
    ):
        with pytest.raises(Failure):
            state.check(other)


def test_the_proxy_of_the_environment_is_used_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    made = http._connection("https", "host:443")
    assert (made.host, made.port, made._tunnel_host) == ("proxy.example", 3128, "host")  # type: ignore[attr-defined]
    monkeypatch.setenv("https_proxy", "proxy.example:3129")
    assert http._connection("https", "host").port == 3129
    monkeypatch.setenv("no_proxy", "host")
    assert http._connection("https", "host").host == "host"
    assert http._connection("http", "localhost").host == "localhost"


def test_two_objects_are_compared_and_a_web_server_is_not_written_to(web: Store, gncli: Command) -> None:
    web.objects["/a.npy"] = web.objects["/b.npy"] = saved(SMALL)
    code, out, _ = gncli("diff", f"{web.url}/a.npy", f"{web.url}/b.npy")
    assert code == 0
    assert re.search("SAME", out)
    assert gncli("normalize", f"{web.url}/a.npy", "-G", "2", "--in-place")[::2] == (
        2,
        f"gncli: error: {web.url}/a.npy: --in-place needs a .npy file; write to another file with -o\n",
    )


def test_a_worker_of_a_cluster_opens_the_same_object(web: Store) -> None:
    web.objects["/x.npy"] = saved(SMALL)
    with open_source(f"{web.url}/x.npy") as source:
        place = cluster._reopening(source, Policy())
        assert place.text == source.name
        cluster._reopened(place).close()
        cluster._reopened.cache_clear()
        web.objects["/x.npy"] = saved(SMALL + 1)
        with pytest.raises(ChangedError):
            cluster._reopened(place)


def test_tensors_are_compared_in_requests_that_are_announced(web: Store, gncli: Command) -> None:
    web.objects["/a.npy"], web.objects["/b.npy"] = saved(LARGE), saved(LARGE + 1)
    assert gncli("diff", f"{web.url}/a.npy", f"{web.url}/b.npy", "--atol", "2")[0] == 0
    assert len(web.ranges) <= 2 * (LARGE.nbytes / REQUEST + 3)


def test_a_copy_in_a_file_holds_every_byte(web: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "COPIED", 1 << 17)
    web.objects["/x.npy"] = content = saved(LARGE)
    with open_object(parsed(f"{web.url}/x.npy")[0], "x").local() as copy:
        assert copy.copied
        assert copy.head(len(content) + 1) == content


def test_past_the_end_there_is_nothing_to_read(web: Store) -> None:
    web.objects["/x.npy"] = content = saved(SMALL)
    with open_object(parsed(f"{web.url}/x.npy")[0], "x") as object_:
        object_.will_need(0, 10, len(content))
        assert object_.head(10, len(content) - 3) == content[-3:]
        assert object_.head(10, len(content) + 3) == b""
        with pytest.raises(ChangedError):
            object_.read(memoryview(bytearray(10)), len(content) - 3)
    assert len(web.asked) == 1


def test_a_connection_is_used_for_many_requests(web: Store) -> None:
    web.objects["/x.npy"] = saved(LARGE)
    places = set()

    def noted(handler: Handler, _: Asked) -> bool:
        places.add(handler.client_address)
        return False

    web.faults.append(noted)
    values(f"{web.url}/x.npy", policy=Policy(network=Network(requests=2)))
    assert len(web.asked) > 5
    assert len(places) <= 2


def test_gzip_of_a_whole_object_is_named(web: Store, gncli: Command) -> None:
    web.objects["/x.npy.gz"] = gzip.compress(saved(SMALL))
    assert "is compressed with gzip" in gncli("stats", f"{web.url}/x.npy.gz")[2]
