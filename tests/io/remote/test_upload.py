"""Objects that are written: whole or not at all, whatever the store, the network and signals do."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gncli import signals
from gncli.errors import LimitError, OutputError
from gncli.inputs import Network
from gncli.io.remote import client, s3, upload
from gncli.io.remote.s3 import S3Object
from gncli.io.remote.upload import MultipartFile, part_nbytes
from gncli.io.urls import Url
from tests.files import saved
from tests.io.remote.conftest import Command
from tests.marks import slow_but
from tests.processes import killed_in_an_upload
from tests.servers import Asked, Handler, Store, dropped, lost, of, once, status

X = np.random.default_rng(0).standard_normal((8, 8, 64, 64), dtype=np.float32)  # 1 MiB: 8 parts here
PART = 1 << 17


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let parts be small, here and in moto."""
    monkeypatch.setattr(upload, "LEAST_PART", PART)
    monkeypatch.setattr(upload, "MIB", 1 << 10)


def new(front: Store, bucket: Any, key: str = "y.npy", **options: Any) -> MultipartFile:
    network = options.pop("network", Network())
    return MultipartFile(S3Object(Url("s3", bucket.name, key), network), name=f"s3://{bucket.name}/{key}", **options)


def keys(bucket: Any) -> list[str]:
    return [each.key for each in bucket.objects.all()]


def uploads(bucket: Any) -> int:
    return len(list(bucket.multipart_uploads.all()))


@pytest.mark.parametrize("suffix", slow_but([".npy", ".safetensors"], ".npy"))
def test_an_object_is_read_normalized_and_written_like_a_file(
    suffix: str, bucket: Any, front: Store, gncli: Command, tmp_path: Path
) -> None:
    bucket.put_object(Key="a//x.npy", Body=saved(X))
    np.save(tmp_path / "x.npy", X)
    name = f"s3://{bucket.name}/a//y{suffix}"
    options = ("-G", "4", "--format", "json")
    code, out, err = gncli("normalize", f"s3://{bucket.name}/a//x.npy", "-o", name, *options)
    assert (code, err) == (0, "")
    local = gncli("normalize", str(tmp_path / "x.npy"), "-o", str(tmp_path / f"y{suffix}"), *options)
    assert re.sub(r'"(input|output|name)": ".*?"', "", out) == re.sub(r'"(input|output|name)": ".*?"', "", local[1])
    assert bucket.Object(f"a//y{suffix}").get()["Body"].read() == (tmp_path / f"y{suffix}").read_bytes()
    assert uploads(bucket) == 0
    assert [asked.method for asked in front.asked if "uploadId" in asked.path].count("PUT") == 9
    assert not signals.cleanups


@pytest.mark.slow
def test_an_existing_object_is_replaced_by_force_alone(bucket: Any, front: Store, gncli: Command) -> None:
    bucket.put_object(Key="x.npy", Body=saved(X))
    bucket.put_object(Key="y.npy", Body=b"old")
    place = f"s3://{bucket.name}"
    command = ("normalize", f"{place}/x.npy", "-G", "4", "-q", "-o")
    answer = gncli(*command, f"{place}/y.npy")
    assert answer == (4, "", f"gncli: error: {place}/y.npy: already exists; --force replaces it\n")
    assert bucket.Object("y.npy").get()["Body"].read() == b"old"
    assert gncli(*command, f"{place}/y.npy", "--force")[0] == 0
    assert bucket.Object("y.npy").content_length == len(saved(X))
    problem = f"is the same object as the input {place}/x.npy; choose another name"
    assert gncli(*command, f"{place}/x.npy", "--force") == (4, "", f"gncli: error: {place}/x.npy: {problem}\n")
    assert bucket.Object("x.npy").get()["Body"].read() == saved(X)


@pytest.mark.slow
def test_a_safetensors_with_more_in_it_is_not_replaced(bucket: Any, front: Store, gncli: Command) -> None:
    bucket.put_object(Key="x.npy", Body=saved(X))
    place = f"s3://{bucket.name}"
    command = ("normalize", f"{place}/x.npy", "-G", "4", "-q", "--force", "-o")
    assert gncli(*command, f"{place}/y.safetensors::a")[0] == 0
    assert gncli(*command, f"{place}/y.safetensors::a")[0] == 0
    answer = gncli(*command, f"{place}/y.safetensors::b")
    problem = "holds more than b, and would lose a; choose another name"
    assert answer == (4, "", f"gncli: error: {place}/y.safetensors::b: {problem}\n")
    assert uploads(bucket) == 0


REFUSED = {
    "s3://bucket/y.h5": "HDF5 is not written to a store; write a .npy, a .safetensors or a .zarr, or write",
    "s3://bucket/y.txt": ".txt is not a format that can be written",
    "s3://bucket/y.npy::a": ".npy::a is not a format that can be written",
    "s3://bucket/y.zarr::/../a": "'/../a' is no name for an array",
    "https://host/y.zarr": "is on a web server, which is only read; write to s3:// or to a file",
    "https://host/y.npy": "is on a web server, which is only read; write to s3:// or to a file",
    "ftp://host/y.npy": "ftp:// is not read or written",
    "file::s3://bucket/y.npy": "is a chain of fsspec, which is not followed",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_is_refused_before_the_first_byte(name: str, gncli: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    code, out, err = gncli("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"gncli: error: {name}: {REFUSED[name]}")


def test_reports_pictures_and_moments_are_written_to_files(gncli: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    problem = "is on a store, and this is written to a file; write it to a file, and copy that"
    for option, name in (("--save-moments", "s3://bucket/m.npz"), ("--report", "s3://bucket/r.json")):
        answer = gncli("normalize", str(tmp_path / "x.npy"), "-G", "4", option, name)
        assert answer == (4, "", f"gncli: error: {name}: {problem}\n")


def test_runs_come_in_any_order_from_any_thread(bucket: Any, front: Store) -> None:
    content = np.random.default_rng(1).bytes(5 * PART + 77)
    cuts = sorted({0, len(content), *np.random.default_rng(2).integers(0, len(content), 40).tolist()})
    runs = list(itertools.pairwise(cuts))
    np.random.default_rng(3).shuffle(runs)
    with new(front, bucket, network=Network(requests=2)) as file:
        file.allocate(len(content))
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(file.write, memoryview(content)[a:b], a) for a, b in runs]:
                done.result()
        assert keys(bucket) == []
        file.commit()
        file.commit()
    assert bucket.Object("y.npy").get()["Body"].read() == content
    parts = sorted(int(len_) for len_ in _lengths(front))
    assert parts == [77, *[PART] * 5]
    assert max(map(int, re.findall(r"partNumber=(\d+)", " ".join(asked.path for asked in front.asked)))) == 6


def _lengths(front: Store) -> list[str]:
    sent = [asked for asked in front.asked if asked.method == "PUT"]
    return [each.headers.get("x-amz-decoded-content-length", each.headers.get("content-length", "")) for each in sent]


def test_large_parts_are_gathered_in_a_file(bucket: Any, front: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MOST_IN_MEMORY", PART - 1)
    content = os.urandom(2 * PART + 5)
    front.faults.append(once(of("PUT", "partNumber=1", status(503))))  # it is read again
    with new(front, bucket) as file:
        file.allocate(len(content))
        file.write(memoryview(content)[7:], 7)
        file.write(memoryview(content)[:7], 0)
        file.commit()
    assert bucket.Object("y.npy").get()["Body"].read() == content


def test_parts_are_equal_and_at_most_9500(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "LEAST_PART", 16 << 20)
    monkeypatch.setattr(upload, "MIB", 1 << 20)
    for nbytes in (0, 1, 16 << 20, 1 << 37, 152_000 << 20, (152_000 << 20) + 1, 5 << 40):
        part = part_nbytes(nbytes)
        assert part % (1 << 20) == 0
        assert part >= 16 << 20
        assert -(-nbytes // part) <= 9500


def test_an_object_beyond_the_limit_is_refused_at_once(bucket: Any, front: Store, gncli: Command) -> None:
    with new(front, bucket) as file, pytest.raises(LimitError) as caught:
        file.allocate((5 << 40) + 1)
    assert "would have 5,497,558,138,881 bytes, and an object may have 5,497,558,138,880; write a .zarr" in str(
        caught.value
    )
    assert uploads(bucket) == 0
    assert [asked.method for asked in front.asked] == ["HEAD"]


def test_two_runs_cannot_both_win(bucket: Any, front: Store) -> None:
    for late in (False, True):  # before the last look, and after it
        bucket.objects.all().delete()
        front.faults.clear()
        with new(front, bucket) as file:
            file.allocate(3)
            file.write(memoryview(b"new"), 0)

            def other(*_: object) -> bool:
                bucket.put_object(Key="y.npy", Body=b"old")
                return False

            if late:
                front.faults.append(of("POST", "uploadId", other))
            else:
                other()
            with pytest.raises(OutputError, match="was created by someone else meanwhile"):
                file.commit()
        assert bucket.Object("y.npy").get()["Body"].read() == b"old"
        assert uploads(bucket) == 0


def test_a_store_without_conditions_is_asked_before_and_completed_without(bucket: Any, front: Store) -> None:
    def ignorant(handler: Handler, asked: Asked) -> bool:
        if "if-none-match" not in asked.headers:
            return False
        handler.say(501)
        return True

    front.faults.append(of("POST", "uploadId", ignorant))
    with new(front, bucket) as file:
        file.allocate(3)
        file.write(memoryview(b"new"), 0)
        file.commit()
    assert bucket.Object("y.npy").get()["Body"].read() == b"new"
    assert [asked.method for asked in front.asked] == ["HEAD", "POST", "PUT", "HEAD", "POST", "POST"]


def test_a_lost_answer_to_a_completion_that_worked_is_no_error(bucket: Any, front: Store) -> None:
    front.faults += [of("POST", "uploadId", once(lost)), of("POST", "uploadId", status(404))]
    with new(front, bucket) as file:
        file.allocate(3)
        file.write(memoryview(b"new"), 0)
        file.commit()
    assert bucket.Object("y.npy").get()["Body"].read() == b"new"


FAULTS: dict[str, tuple[Any, str]] = {
    "403 at the look": (of("HEAD", "y.npy", status(403)), "cannot be written (403 Forbidden); set AWS_PROFILE, or"),
    "403 at the beginning": (of("POST", "uploads", status(403)), "cannot be written (403 "),
    "404 at the beginning": (of("POST", "uploads", status(404)), "cannot be written (404 "),
    "403 of a part": (of("PUT", "partNumber=3", status(403)), "cannot be written (403 "),
    "503 of a part": (
        of("PUT", "partNumber=3", status(503)),
        "cannot be written (503 Service Unavailable, after 1",
    ),
    "429 of a part": (
        of("PUT", "partNumber=3", status(429)),
        "cannot be written (429 Too Many Requests, after 1",
    ),
    "a part is dropped": (
        of("PUT", "partNumber=3", dropped),
        "cannot be written (the connection broke, or none was made, ",
    ),
    "503 at the end": (
        of("POST", "uploadId", status(503)),
        "cannot be written (503 Service Unavailable, after 1",
    ),
    "409 at the end": (of("POST", "uploadId", status(409)), "cannot be written (409 "),
    "400 at the end": (of("POST", "uploadId", status(400)), "cannot be written (400 Bad Request)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", slow_but(FAULTS, "503 of a part", "a part is dropped", "409 at the end"))
def test_what_fails_is_one_line_and_status_4_and_leaves_nothing(
    case: str, bucket: Any, front: Store, gncli: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    fault, problem = FAULTS[case]
    front.faults.append(fault)
    name = f"s3://{bucket.name}/y.npy"
    code, out, err = gncli("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", name, "--retries", "1", "-q")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith(f"gncli: error: {name}: {problem}")
    assert keys(bucket) == []
    assert uploads(bucket) == 0
    assert not signals.cleanups


def test_random_takes_the_options_of_the_network(bucket: Any, front: Store, gncli: Command) -> None:
    front.faults.append(of("PUT", "partNumber", status(503)))
    name = f"s3://{bucket.name}/y.npy"
    answer = gncli("random", "2,2", "--seed", "0", "-o", name, "--retries", "2", "--requests", "1", "-q")
    problem = "cannot be written (503 Service Unavailable, after 2 retries)"
    assert answer == (4, "", f"gncli: error: {name}: {problem}\n")
    assert [*client._pools] == [1]


def test_what_passes_is_retried(bucket: Any, front: Store, gncli: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    name = f"s3://{bucket.name}/y.npy"
    front.faults += [
        once(of("POST", "uploads", status(500))),
        once(of("PUT", "partNumber=2", dropped)),
        once(of("PUT", "partNumber=4", status(503))),
        once(of("POST", "uploadId", status(503))),
    ]
    assert gncli("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", name, "-q") == (0, "", "")
    assert bucket.Object("y.npy").content_length == len(saved(X))
    assert uploads(bucket) == 0


@pytest.mark.slow
def test_an_upload_that_cannot_be_aborted_is_left_for_clean(
    bucket: Any, front: Store, gncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", X)
    name = f"s3://{bucket.name}/y.npy"
    front.faults += [of("PUT", "partNumber=3", status(403)), of("DELETE", "uploadId", status(403))]
    assert gncli("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", name, "-q")[0] == 4
    assert uploads(bucket) == 1
    code, out, err = gncli("clean", name, "--force")
    assert (code, out) == (4, "")
    assert "403" in err
    front.faults.clear()
    bucket.Object("y.npy.other").initiate_multipart_upload()
    code, out, err = gncli("clean", name)
    assert (code, out, uploads(bucket)) == (4, "", 2)
    said = r"an upload was begun at [-\d]+ [:\d]+ \w+, and got something \d+ s ago; wait for the run that writes it"
    assert re.match(f"gncli: error: {name}: {said}, or end it; --force removes it now\n$", err)
    monkeypatch.setattr(client, "QUIET_SECONDS", 0)
    code, out, err = gncli("clean", name)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"removed an upload that was begun at \d{4}-\d\d-\d\d \d\d:\d\d \w+\n", out)
    assert [each.object_key for each in bucket.multipart_uploads.all()] == ["y.npy.other"]
    assert gncli("clean", name) == (0, f"{name}: nothing is left over\n", "")
    code, out, err = gncli("clean", "https://host/y.npy")
    assert (code, out) == (2, "")
    assert err.startswith("gncli: error: https://host/y.npy: is on a web server, which is only read; ")
    front.faults.append(of("GET", "uploads", status(403)))
    assert gncli("clean", name)[0] == 4


COMMANDS = {
    "normalize": ("normalize", "{x}", "-G", "4", "-o", "{out}", "-q"),
    "diff": ("diff", "{x}", "{x}", "-o", "{out}", "-q", "--format", "value"),
    "backward": ("backward", "{x}", "{x}", "-G", "4", "--dx", "{out}", "-q"),
    "random": ("random", "2,2", "--seed", "0", "-o", "{out}", "-q"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", slow_but(COMMANDS, next(iter(COMMANDS))))
def test_the_next_run_names_an_upload_that_is_left_over(
    command: str, bucket: Any, front: Store, gncli: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X[:1])
    name = f"s3://{bucket.name}/y.npy"
    words = [word.format(x=tmp_path / "x.npy", out=name) for word in COMMANDS[command]]
    hint = f"of a run that failed, was killed or goes on; gncli clean {name} removes what is left over"
    for some in ("an upload is", "2 uploads are"):
        bucket.Object("y.npy").initiate_multipart_upload()
        assert gncli(*words, "-f")[::2] == (0, f"gncli: {name}: {some} open, {hint}\n")
        assert keys(bucket) == ["y.npy"]
    front.faults.append(of("GET", "uploads", status(403)))  # what may not be listed is not told
    assert gncli(*words, "-f")[::2] == (0, "")


def test_the_last_sign_of_an_upload_is_its_newest_part(
    bucket: Any, front: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_ = S3Object(Url("s3", bucket.name, "y"), Network())
    pages: list[dict[str, Any]] = [
        {"Parts": [{"LastModified": 5}, {"LastModified": 7}], "IsTruncated": True, "NextPartNumberMarker": 2},
        {"Parts": [{"LastModified": 6}]},
        {},
    ]
    asked: list[dict[str, Any]] = []

    def call(_: str, **parameters: Any) -> dict[str, Any]:
        asked.append(parameters)
        return pages[len(asked) - 1]

    monkeypatch.setattr(object_, "_call", call)
    assert object_.last_sign(client.OpenUpload("a", 1)) == 7  # type: ignore[arg-type]
    assert asked[1]["PartNumberMarker"] == 2
    assert object_.last_sign(client.OpenUpload("a", 1)) == 1  # type: ignore[arg-type]


def test_open_uploads_are_listed_to_the_last_page(bucket: Any, front: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    object_ = S3Object(Url("s3", bucket.name, "y"), Network())
    pages: list[dict[str, Any]] = [
        {"Uploads": [{"Key": "y", "UploadId": "b", "Initiated": 2}], "IsTruncated": True}
        | {"NextKeyMarker": "y", "NextUploadIdMarker": "b"},
        {"Uploads": [{"Key": "yz", "UploadId": "c", "Initiated": 0}, {"Key": "y", "UploadId": "a", "Initiated": 1}]},
    ]
    asked: list[dict[str, str]] = []

    def call(_: str, **parameters: str) -> dict[str, Any]:
        asked.append(parameters)
        return pages[len(asked) - 1]

    monkeypatch.setattr(object_, "_call", call)
    assert [each.id for each in object_.uploads()] == ["a", "b"]
    assert asked[1]["KeyMarker"] == "y"


def test_a_signal_in_the_middle_aborts_the_upload(bucket: Any, front: Store) -> None:
    file = new(front, bucket)
    file.allocate(3 * PART)
    file.write(memoryview(bytes(PART + 5)), 0)
    assert signals.cleanups[file]() == f"s3://{bucket.name}/y.npy"
    assert uploads(bucket) == 0
    file.write(memoryview(bytes(PART)), PART)  # what a worker still does: nothing is sent
    file.commit()
    file.abort()
    signals.cleanups.clear()
    assert keys(bucket) == []


def test_a_signal_after_the_commit_says_nothing_of_the_output(bucket: Any, front: Store) -> None:
    file = new(front, bucket)
    file.allocate(3)
    removed = signals.cleanups[file]
    file.write(memoryview(b"new"), 0)
    file.commit()
    with pytest.raises(OutputError):
        removed()
    assert keys(bucket) == ["y.npy"]


def test_scratch_for_another_order_is_a_file_without_a_name(
    bucket: Any, front: Store, gncli: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    for place in (f"s3://{bucket.name}", str(tmp_path)):
        options = ("-G", "4", "-q", "-o", f"{place}/y.safetensors")
        assert gncli("normalize", str(tmp_path / "x.npy"), *options) == (0, "", "")
    expected = (tmp_path / "y.safetensors").read_bytes()
    assert bucket.Object("y.safetensors").get()["Body"].read() == expected


@pytest.mark.parametrize("signum", slow_but([signal.SIGKILL, signal.SIGINT]))
def test_a_run_that_is_killed_leaves_nothing_under_the_name(
    signum: int, bucket: Any, front: Store, gncli: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    name = f"s3://{bucket.name}/y.npy"
    begun = threading.Event()

    def slow(*_: object) -> bool:
        begun.set()
        time.sleep(0.3)
        return False

    front.faults.append(of("PUT", "partNumber=[3-9]", slow))
    words = ["normalize", str(tmp_path / "x.npy"), "-G", "4", "-q", "-o", name]
    code, out, err = killed_in_an_upload(words, begun, signum)
    assert (code, out) == (-signum, "")
    assert keys(bucket) == []
    front.faults.clear()
    if signum == signal.SIGINT:
        assert err == f"gncli: interrupted; {name} was not written\n"
        assert uploads(bucket) == 0
    else:
        assert uploads(bucket) == 1
        assert gncli("clean", name, "--force")[0] == 0
        assert uploads(bucket) == 0
    assert gncli(*words) == (0, "", "")
    assert bucket.Object("y.npy").content_length == len(saved(X))


def test_clients_are_those_of_the_options(front: Store) -> None:
    assert s3._client(False, 8) is s3._client(False, 8)
    assert s3._client(True, 8) is not s3._client(False, 8)
    assert {429, 503} <= client.TEMPORARY
