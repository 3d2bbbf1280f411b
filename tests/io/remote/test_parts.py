"""Parts of a run that upload into one object: the bytes and the report of one process, however it was cut or killed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gncli.errors import OutputError
from gncli.io.remote import client, upload
from gncli.io.remote.s3 import S3Object
from gncli.io.shared_objects import SharedObject, SharedUpload
from gncli.run import parts as run_parts
from gncli.tasks import parts as tasks_parts
from tests.io.remote.conftest import Command
from tests.marks import slow_but
from tests.processes import uncovered
from tests.servers import Asked, Handler, Store, of, once, status

PART = 1 << 12


@pytest.fixture(autouse=True)
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let visits, parts of uploads, and those of a run that goes on be small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(upload, "LEAST_PART", PART)
    monkeypatch.setattr(upload, "MIB", 1 << 10)
    monkeypatch.setattr(run_parts, "VISIT_NBYTES", 1 << 11)
    monkeypatch.setattr(tasks_parts, "PART_NBYTES", 1 << 14)
    np.save("x.npy", np.random.default_rng(0).normal(3, 20, (30, 8, 9, 9)).astype("f4"))  # 76 KiB: 19 parts
    np.save("large.npy", np.random.default_rng(0).normal(3, 20, (1, 4, 70, 70)).astype("f4"))


def keys(bucket: Any) -> list[str]:
    return [each.key for each in bucket.objects.all()]


def uploads(bucket: Any) -> int:
    return len(list(bucket.multipart_uploads.all()))


CASES = {
    "groups that fit a part": ("x.npy", "-G 4", 3, PART),
    "a part is smaller than one of the upload": ("x.npy", "-G 4", 4, 8 * PART),
    "groups larger than a part": ("large.npy", "-G 1 --save-moments m.npz", 3, PART),
}


@pytest.mark.parametrize("case", slow_but(CASES, next(iter(CASES))))
def test_parts_in_any_order_give_the_bytes_and_the_report_of_one_process(
    case: str, bucket: Any, front: Store, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, options, parts, nbytes = CASES[case]
    monkeypatch.setattr(upload, "LEAST_PART", nbytes)
    line = ["normalize", name, *options.split()]
    out = "s3://bucket/y.npy".replace("bucket", bucket.name)
    one = gncli(*line, "-o", "y.npy")
    assert one[0] == 0
    moments = Path("m.npz").read_bytes() if "m.npz" in options else b""
    for which in reversed(range(1, parts + 1)) if "larger" in case else ():
        assert gncli(*line, "-o", out, "--part", f"{which}/{parts}", "--measure", "-q")[0] == 0
    for which in reversed(range(1, parts + 1)):
        assert gncli(*line, "-o", out, "--part", f"{which}/{parts}", "-q")[::2] == (0, "")
        assert "y.npy" not in keys(bucket)
    assert uploads(bucket) == 1
    again = gncli(*line, "-o", out, "--part", f"1/{parts}", "--format", "json")
    assert '"before": true' in again[1]
    found = gncli(*line, "-o", out, "--assemble", "-f")
    assert (found[0], found[1].replace(out, "y.npy"), found[2]) == one
    assert bucket.Object("y.npy").get()["Body"].read() == Path("y.npy").read_bytes()
    assert not moments or Path("m.npz").read_bytes() == moments
    assert (keys(bucket), uploads(bucket)) == (["y.npy"], 0)


@pytest.mark.slow
def test_a_run_goes_on_where_it_ended(bucket: Any, front: Store, gncli: Command) -> None:
    out = f"s3://{bucket.name}/y.npy"
    line = ("normalize", "x.npy", "-G", "4", "-o", out, "--resume", "-q")
    assert gncli(*line[:4], "-o", "y.npy", "-q")[0] == 0
    front.faults.append(of("PUT", "partNumber=12", status(403)))
    assert gncli(*line)[0] == 4
    assert uploads(bucket) == 1
    assert f"{out.partition(bucket.name + '/')[2]}.gncli-parts/upload" in keys(bucket)
    front.faults.clear()
    front.asked.clear()
    assert gncli(*line) == (0, "", "")
    sent = {int(found[1]) for asked in front.asked if (found := re.search(r"partNumber=(\d+)", asked.path))}
    assert 12 in sent and not {2, 3} & sent  # what was done is not done again
    assert bucket.Object("y.npy").get()["Body"].read() == Path("y.npy").read_bytes()
    assert (keys(bucket), uploads(bucket)) == (["y.npy"], 0)


@pytest.mark.slow
def test_what_is_missing_or_not_what_was_recorded_is_named(bucket: Any, front: Store, gncli: Command) -> None:
    out = f"s3://{bucket.name}/y.npy"
    line = ("normalize", "x.npy", "-G", "4", "-o", out)
    hint = "gncli normalize ... --part I/N makes them"
    assert gncli(*line, "--assemble") == (3, "", f"gncli: error: {out}: there are no parts of it; {hint}\n")
    assert gncli(*line, "--part", "1/2", "-q")[0] == 0
    missing = "missing: part 2 of 2; gncli normalize ... --part 2/2"
    assert gncli(*line, "--assemble") == (3, "", f"gncli: error: {out}: {missing}\n")
    assert gncli(*line, "--part", "2/2", "-q")[0] == 0
    other = gncli(*line[:3], "8", *line[4:], "--part", "1/2")
    assert (other[0], "is of another run: groups differs (4, now 8)" in other[2]) == (6, True)
    assert "holds parts of 2, not of 3" in gncli(*line, "--part", "1/3")[2]
    held = next(iter(bucket.multipart_uploads.all()))
    held.Part(4).upload(Body=bytes(PART))
    bad = "not what was recorded: part 1 of 2; do it again: --part 1/2"
    assert gncli(*line, "--assemble") == (3, "", f"gncli: error: {out}: {bad}\n")
    assert gncli(*line, "--part", "1/2", "-q")[0] == 0
    bucket.put_object(Key="y.npy", Body=b"other")
    assert "already exists" in gncli(*line, "--assemble", "-q")[2]
    assert gncli(*line, "--assemble", "-q", "--force") == (0, "", "")
    assert (keys(bucket), uploads(bucket)) == (["y.npy"], 0)


@pytest.mark.slow
def test_an_upload_that_is_gone_is_an_error(bucket: Any, front: Store, gncli: Command) -> None:
    out = f"s3://{bucket.name}/y.npy"
    line = ("normalize", "x.npy", "-G", "4", "-o", out)
    for which in (1, 2):
        assert gncli(*line, "--part", f"{which}/2", "-q")[0] == 0
    next(iter(bucket.multipart_uploads.all())).abort()
    code, report, err = gncli(*line, "--assemble")
    assert (code, report, err.count("\n")) == (4, "", 1)
    assert "404" in err
    code, report, err = gncli("clean", out)
    assert (code, err) == (0, "")
    assert [line.partition(" (")[0] for line in report.splitlines()] == [
        f"removed {out}.gncli-parts/{name}" for name in ("part-1-of-2.npz", "part-2-of-2.npz", "upload")
    ]
    assert keys(bucket) == []


@pytest.mark.slow
def test_what_is_left_over_is_cleaned(
    bucket: Any, front: Store, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"s3://{bucket.name}/y.npy"
    bucket.put_object(Key="y.npy.gncli-parts/other", Body=b"mine")
    assert gncli("normalize", "x.npy", "-G", "4", "-o", out, "--part", "1/2", "-q")[0] == 0
    assert gncli("clean", out)[0] == 4  # the part may go on
    monkeypatch.setattr(client, "QUIET_SECONDS", 0)
    code, report, err = gncli("clean", out)
    assert (code, len(report.splitlines()), err) == (0, 3, "")
    assert (keys(bucket), uploads(bucket)) == (["y.npy.gncli-parts/other"], 0)


@pytest.mark.slow
def test_of_two_who_begin_one_upload_stays(bucket: Any, front: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    out = f"s3://{bucket.name}/y.npy"
    first, second = SharedUpload(out), SharedUpload(out)
    mine = first.upload(5 * PART)
    looks = iter([None, second._begun()])  # it looks, and there is nothing yet
    monkeypatch.setattr(second, "_begun", lambda: next(looks))
    assert second.upload(5 * PART) == mine
    assert uploads(bucket) == 1
    with pytest.raises(OutputError, match="parts of another size are being written"):
        SharedUpload(out).upload(6 * PART)


@pytest.mark.slow
def test_an_upload_that_lacks_a_part_is_not_completed(
    bucket: Any, front: Store, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"s3://{bucket.name}/y.npy"
    line = ("normalize", "x.npy", "-G", "4", "-o", out, "--no-verify", "-q")
    for which in (1, 2):
        assert gncli(*line, "--part", f"{which}/2")[0] == 0
    real = S3Object.parts
    monkeypatch.setattr(S3Object, "parts", lambda *given: {n: e for n, e in real(*given).items() if n != 3})
    problem = "not what was recorded: part 1 of 2; do it again: --part 1/2"
    assert gncli(*line, "--assemble") == (3, "", f"gncli: error: {out}: {problem}\n")
    monkeypatch.setattr(SharedObject, "stores", lambda *_: True)  # as if it were lost only then
    problem = "its upload lacks a part; --resume does what is missing"
    assert gncli(*line, "--assemble") == (4, "", f"gncli: error: {out}: {problem}\n")
    assert "y.npy" not in keys(bucket)


@pytest.mark.parametrize("name", ["gs://bucket/y.npy", "az://bucket/y.npy"])
def test_where_no_upload_is_shared_parts_are_refused(name: str, gncli: Command) -> None:
    hint = "a .zarr can, on s3:// and in a folder a .npy too"
    answer = gncli("normalize", "x.npy", "-G", "4", "-o", name, "--part", "1/2")
    assert answer == (2, "", f"gncli: error: {name}: cannot be written in parts; {hint}\n")


def test_an_object_beyond_the_limit_is_refused(
    bucket: Any, front: Store, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Object, "most_nbytes", 1000)
    answer = gncli("normalize", "x.npy", "-G", "4", "-o", f"s3://{bucket.name}/y.npy", "--part", "1/2")
    assert (answer[0], "an object may have 1,000" in answer[2]) == (5, True)
    assert (keys(bucket), uploads(bucket)) == ([], 0)


@pytest.mark.slow
def test_a_second_commit_does_nothing(bucket: Any, front: Store) -> None:
    folder = SharedUpload(f"s3://{bucket.name}/y.npy")
    file = SharedObject(folder, alone=True, force=False, inputs=())
    file.allocate(3)
    file.write(memoryview(b"abc"), 0)
    file.commit()
    file.commit()
    assert bucket.Object("y.npy").get()["Body"].read() == b"abc"
    assert (keys(bucket), uploads(bucket)) == (["y.npy"], 0)


@pytest.mark.slow
def test_a_record_that_cannot_be_read_or_put_is_an_error(bucket: Any, front: Store, gncli: Command) -> None:
    out = f"s3://{bucket.name}/y.npy"
    line = ("normalize", "x.npy", "-G", "4", "-o", out, "--part", "1/2", "--retries", "0", "-q")
    for method, pattern in (("PUT", "part-1-of-2"), ("PUT", "gncli-parts/upload"), ("GET", "gncli-parts/upload")):
        front.faults[:] = [of(method, pattern, once(status(403)))]
        code, report, err = gncli(*line)
        assert (code, report, err.count("\n")) == (4, "", 1)
        assert "403" in err
        for each in bucket.multipart_uploads.all():
            each.abort()
        bucket.objects.all().delete()


KILLED = """
import os, sys
from gncli.io.remote import upload
from gncli.run import parts
from gncli.tasks import parts as tasks
upload.LEAST_PART, upload.MIB, parts.VISIT_NBYTES, tasks.PART_NBYTES = {part}, 1 << 10, 1 << 11, 1 << 14
from gncli.cli import main
sys.exit(main({words}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", slow_but(["a part", "a record", "before the end", "after the end"], "a record"))
def test_a_kill_at_any_time_leaves_the_object_whole_or_absent(
    when: str, bucket: Any, front: Store, gncli: Command
) -> None:
    out = f"s3://{bucket.name}/y.npy"
    words = ["normalize", "x.npy", "-G", "4", "-o", out, "--resume", "-q"]
    assert gncli(*words[:4], "-o", "y.npy", "-q")[0] == 0
    process: list[subprocess.Popen[bytes]] = []

    def kill(handler: Handler, asked: Asked) -> bool:
        if when == "after the end":
            handler.hand_on(asked, handler.body)
        process[0].send_signal(signal.SIGKILL)
        process[0].wait(30)
        return True

    method, pattern = {
        "a part": ("PUT", "partNumber=9"),
        "a record": ("PUT", "part-3-of"),
    }.get(when, ("POST", "uploadId"))
    front.faults.append(of(method, pattern, once(kill)))
    code = KILLED.format(part=PART, words=words)
    process.append(subprocess.Popen([sys.executable, "-c", code], env=uncovered()))
    assert process[0].wait(60) == -signal.SIGKILL
    front.faults.clear()
    whole = when == "after the end"
    assert ("y.npy" in keys(bucket)) == whole
    if not whole:
        assert gncli(*words) == (0, "", "")
    assert bucket.Object("y.npy").get()["Body"].read() == Path("y.npy").read_bytes()
    assert gncli("clean", out)[0] == 0
    assert (keys(bucket), uploads(bucket)) == (["y.npy"], 0)
