"""Zarr on stores: the same numbers as from a folder, one request per chunk, and no fault ever the fill value."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.store import MemoryStore

from gncli.errors import ChangedError, LimitError
from gncli.inputs import Network
from gncli.io import open_source
from gncli.io.formats.zarr import objects, reading
from gncli.io.formats.zarr.reading import ZarrSource
from gncli.io.remote import obstores
from gncli.io.remote.s3 import S3Object
from gncli.io.urls import Url
from tests.files import read_all
from tests.io.remote.conftest import Command
from tests.marks import slow_but
from tests.servers import (
    Fault,
    Store,
    changed,
    dropped,
    ignorant,
    in_flight,
    of,
    once,
    status,
    truncated,
)
from tests.stores import BYTES, CRC, crc, group, shard, sharded, store, v2, v3

X = np.random.default_rng(0).standard_normal((8, 8, 4, 4), dtype=np.float32)
ONES = np.ones(2, "<f4").tobytes()
GZIP = {"name": "gzip", "configuration": {"level": 1}}


def up(web: Store, folder: Path, at: str = "/x.zarr") -> str:
    """Put the files of a folder on the server, and return the URL of the store."""
    for file in folder.rglob("*"):
        if file.is_file():
            web.objects[f"{at}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()
    return f"{web.url}{at}"


def into(bucket: Any, folder: Path, at: str = "x.zarr") -> str:
    for file in folder.rglob("*"):
        if file.is_file():
            bucket.put_object(Key=f"{at}/{file.relative_to(folder).as_posix()}", Body=file.read_bytes())
    return f"s3://{bucket.name}/{at}"


def chunks_of(x: Any, chunk: int, encode: Callable[[bytes], bytes] = bytes) -> dict[str, bytes]:
    """Return the chunks of an array that is cut along its first axis, by their keys."""
    zeros = "_0" * (x.ndim - 1)
    return {f"c_{n}{zeros}": encode(x[n * chunk : (n + 1) * chunk].tobytes()) for n in range(-(-len(x) // chunk))}


def chunked(path: Path) -> None:
    store(
        path, v3(X.shape, (2, 8, 4, 4), codecs=[BYTES, GZIP, CRC]), **chunks_of(X, 2, lambda c: crc(gzip.compress(c)))
    )


def old(path: Path) -> None:
    store(
        path,
        v2(X.shape, (3, 8, 4, 4)),
        **{f"{n}.0.0.0": np.resize(X[3 * n : 3 * n + 3], (3, 8, 4, 4)) for n in (0, 1, 2)},
    )
    (path / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": ["n", "c", "h", "w"]}))


def in_shards(path: Path) -> None:
    rows = [row.tobytes() for row in X]
    files = {f"c_{n}_0_0_0": shard(*rows[4 * n : 4 * n + 4]) for n in (0, 1)}
    store(path, v3(X.shape, (4, 8, 4, 4), codecs=sharded((1, 8, 4, 4))), **files)


LAYOUTS = {"chunks": (chunked, 4), "version 2": (old, 3), "shards": (in_shards, 2)}


@pytest.mark.parametrize("layout", slow_but(LAYOUTS, "shards"))
def test_a_store_gives_the_report_and_the_bytes_that_a_folder_gives(
    layout: str, web: Store, gncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, files = LAYOUTS[layout]
    make(tmp_path / "x.zarr")
    url = up(web, tmp_path / "x.zarr")
    for words in (("stats", "{}", "-s", "all,median,not_stored"), ("stats", "{}", "--by", "N"), ("diff", "{}", "{}")):
        expected = gncli(*(word.format("x.zarr") for word in words), "--format", "json")
        web.asked.clear()
        found = gncli(*(word.format(url) for word in words), "--format", "json")
        assert (found[0], found[1].replace(url, "x.zarr"), found[2]) == expected
        assert expected[0] == 0
        assert not any(f"{web.url}/" in asked.path for asked in web.asked)
    written = []
    for name, out in (("x.zarr", "a.npy"), (url, "b.npy")):
        web.asked.clear()
        assert gncli("normalize", name, "-G", "2", "-o", out, "-q") == (0, "", "")
        written.append((tmp_path / out).read_bytes())
    assert written[0] == written[1]
    # At the beginning nothing is listed: each object is looked at, or of a shard its index is read.
    assert len([asked for asked in web.asked if "/c/" in asked.path or asked.path[-1].isdigit()]) <= 2 * files + 2


@pytest.mark.parametrize("layout", slow_but(LAYOUTS, "chunks"))
def test_each_chunk_takes_one_request(layout: str, web: Store, tmp_path: Path) -> None:
    make, files = LAYOUTS[layout]
    make(tmp_path)
    with open_source(up(web, tmp_path)) as source:
        web.asked.clear()
        source.will_need(0, X.size)  # of a shard the index
        np.testing.assert_array_equal(read_all(source, 100), X)
        assert source.not_stored == 0
        source.verify_unchanged()
        data = [asked for asked in web.asked if "zarr" not in asked.path.rsplit("/", 1)[1]]
        assert len(data) == files if layout != "shards" else len(data) <= files + 8
        web.asked.clear()
        source.will_need(0, X.size)  # all inner chunks of a shard together
        np.testing.assert_array_equal(read_all(source, 100), X)
        assert len(web.asked) == files
        assert source.not_stored == 0


def test_the_index_may_be_first_and_objects_larger_than_a_request(
    web: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WHOLE_NBYTES", 100)
    monkeypatch.setattr(objects, "REQUEST", 100)
    index = crc(np.array([(36, 8), (44, 8)], "<u8").tobytes())
    store(tmp_path / "s", v3((4,), (4,), codecs=sharded((2,), place="start")), c_0=index + ONES + 2 * ONES[:4])
    store(tmp_path / "l", v3((90,), (90,)), c_0=np.arange(90, dtype="<f4"))
    with open_source(up(web, tmp_path / "s")) as source:
        assert read_all(source).tolist() == [1, 1, 1, 1]
    with open_source(up(web, tmp_path / "l", "/l.zarr")) as source:
        assert read_all(source).tolist() == list(range(90))
    ranges = [asked.range for asked in web.asked if asked.path == "/l.zarr/c/0"]
    assert ranges == [(0, 99), (100, 359)]


def test_what_is_announced_is_limited_and_not_asked_for_twice(
    web: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_shards(tmp_path / "s")
    chunked(tmp_path / "c")
    monkeypatch.setattr(reading, "MAX_ANNOUNCED_NBYTES", 3 * X[0].nbytes)
    monkeypatch.setattr(objects, "MOST_OPEN_NBYTES", 1)  # one shard is kept
    for name in "sc":
        with open_source(up(web, tmp_path / name, f"/{name}.zarr")) as source:
            assert isinstance(source, ZarrSource)
            for _ in range(3):
                source.will_need(0, X.size)
                assert sum(source._announced.values()) <= 3 * X[0].nbytes
                source.will_need(0, X.size)
                np.testing.assert_array_equal(read_all(source, 100), X)
                assert not source._announced
                source.verify_unchanged()


@pytest.mark.slow
def test_requests_are_in_flight_side_by_side(web: Store, gncli: Command, tmp_path: Path) -> None:
    rows = np.arange(16, dtype="<f4")
    store(tmp_path, v3((16,), (1,)), **{f"c_{n}": rows[n : n + 1] for n in range(16)})
    most = in_flight(web, 0.05)
    given = ("--requests", "3", "-s", "max,not_stored", "--format", "value")
    assert gncli("stats", up(web, tmp_path), *given) == (0, "15.0\n0\n", "")
    assert most() == 3


# --- what is not there, and what cannot be read ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["chunks", "shards"])
def test_an_object_that_is_not_there_is_counted(layout: str, web: Store, gncli: Command, tmp_path: Path) -> None:
    if layout == "chunks":
        store(tmp_path, v3((8,), (2,)), c_0=ONES, c_1=ONES, c_3=ONES)
    else:
        store(tmp_path, v3((8,), (4,), codecs=sharded((2,))), c_0=shard(ONES, None), c_1=shard(ONES, ONES))
    url = up(web, tmp_path)
    note = f"gncli: {url}: 1 of 4 chunks is not stored; its elements are the fill value 0\n"
    for name in ("mean,not_stored", "not_stored"):
        assert gncli("stats", url, "-s", name, "--format", "value") == (
            0,
            "0.75\n1\n"[-2 if "," not in name else 0 :],
            note,
        )
    assert gncli("stats", url, "-s", "mean", "--format", "value", "--expect", "not_stored == 0")[0] == 1


FAULTS: dict[str, tuple[Fault, int, str]] = {
    "403": (status(403), 3, "cannot be read (c/1: 403 Forbidden); gncli sends no credentials"),
    "503": (status(503), 3, "cannot be read (c/1: 503 Service Unavailable, after 1 retry)"),
    "dropped": (dropped, 3, "cannot be read (c/1: the connection broke, after 1 retry)"),
    "truncated": (truncated, 3, "cannot be read (c/1: the connection broke, after 1 retry)"),
    "whole": (status(200, {}, ONES), 3, "cannot be read (c/1: 200: the server sends all of it for a range)"),
    "another range": (status(206, {"Content-Range": "bytes 1-2/9"}, b"xx"), 3, "sends bytes 1 to 2 for the first"),
}


@pytest.mark.parametrize("case", slow_but(FAULTS, "403", "truncated"))
def test_what_cannot_be_read_is_an_error_and_no_fill_value(
    case: str, web: Store, gncli: Command, tmp_path: Path
) -> None:
    store(tmp_path, v3((6,), (2,)), c_0=ONES, c_1=ONES, c_2=ONES)
    url = up(web, tmp_path)
    fault, code, said = FAULTS[case]
    web.faults.append(of("GET", "c/1", fault))
    found, out, err = gncli("stats", url, "--retries", "1")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert f"gncli: error: {url}: " in err
    assert said in err
    if code == 3 and "200" not in said:
        web.faults[:] = [once(of("GET", "c/1", status(503)))]
        assert gncli("stats", url, "-s", "max,not_stored", "--format", "value") == (0, "1.0\n0\n", "")


def test_a_silent_server_is_an_error(
    web: Store, gncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gncli.io.remote import http

    store(tmp_path, v3((2,), (2,)), c_0=ONES)
    monkeypatch.setattr(http, "TIMEOUT", 0.2)

    def silent(*_: object) -> bool:
        time.sleep(0.4)
        return False

    web.faults.append(of("GET", "c/0", silent))
    code, out, err = gncli("stats", up(web, tmp_path), "--retries", "0")
    assert (code, out) == (3, "")
    assert "cannot be read (c/0: no answer in 0 s)" in err


def test_damaged_bytes_are_damaged_chunks(web: Store, gncli: Command, tmp_path: Path) -> None:
    store(tmp_path / "c", v3((2,), (2,), codecs=[BYTES, CRC]), c_0=crc(ONES))
    store(tmp_path / "s", v3((4,), (4,), codecs=sharded((2,), BYTES, CRC)), c_0=shard(crc(ONES), crc(ONES)))
    store(tmp_path / "t", v3((2,), (2,)), c_0=ONES[:-1])
    store(tmp_path / "e", v3((2,), (2,)), c_0=b"")
    said = {
        ("c", 0): "the chunk at (0,) is damaged: its checksum does not match",
        ("s", 0): "the chunk at (0,) is damaged: its checksum does not match",
        ("s", -1): "the shard c/0 is damaged: the checksum of its index: its checksum does not match",
        ("t", 0): "the chunk at (0,) is damaged: it has 7 bytes, not 8",
        ("e", None): "the chunk at (0,) is damaged: it has 0 bytes, not 8",
    }
    for (name, at), problem in said.items():
        url = up(web, tmp_path / name, f"/{name}.zarr")
        content = bytearray(web.objects[f"/{name}.zarr/c/0"])
        if at is not None:
            content[at] ^= 1
        web.objects[f"/{name}.zarr/c/0"] = bytes(content)
        assert gncli("stats", url, "-s", "mean")[::2] == (3, f"gncli: error: {url}: cannot be read ({problem})\n")


# --- what changes ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("etags", ["strong", "weak", "none"])
@pytest.mark.parametrize("layout", ["chunks", "shards"])
@pytest.mark.parametrize("case", ["changed", "gone", "appeared", "metadata"])
def test_what_changes_between_two_passes_is_status_6(
    case: str, layout: str, etags: str, web: Store, tmp_path: Path
) -> None:
    if layout == "chunks":
        store(tmp_path, v3((6,), (2,)), c_0=ONES, c_1=ONES)
    else:
        store(tmp_path, v3((12,), (4,), codecs=sharded((2,))), c_0=shard(ONES, ONES), c_1=shard(ONES, None))
    web.etags = etags
    with open_source(up(web, tmp_path)) as source:
        source.will_need(0, 6)
        read_all(source, 100)
        source.verify_unchanged()
        web.modified += 1
        if case == "gone":
            del web.objects["/x.zarr/c/0"]
        elif case == "appeared":
            web.modified -= 1
            web.objects["/x.zarr/c/2"] = web.objects["/x.zarr/c/0"]
        else:
            key = "/x.zarr/c/0" if case == "changed" else "/x.zarr/zarr.json"
            web.objects[key] = bytes(len(web.objects[key]))
            if etags == "strong":
                web.modified -= 1
        source.will_need(0, 6)  # small objects that nobody asks for again are read from what came before
        with pytest.raises(ChangedError) as caught:
            read_all(source, 100)
            source.verify_unchanged()
        key = {"changed": "c/0", "gone": "c/0", "appeared": "c/2", "metadata": ""}[case]
        assert key in str(caught.value)


def test_attributes_that_are_lost_are_a_change(web: Store, gncli: Command, tmp_path: Path) -> None:
    old(tmp_path)
    url = up(web, tmp_path)
    web.faults.append(of("GET", "zattrs", once(status(404), 2)))
    assert gncli("stats", url) == (6, "", f"gncli: error: {url}: lost .zattrs while it was read\n")


@pytest.mark.parametrize("fault", [changed, ignorant])
def test_an_object_that_changes_while_it_is_read_is_status_6(
    fault: Fault, web: Store, gncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WHOLE_NBYTES", 100)
    monkeypatch.setattr(objects, "REQUEST", 100)
    store(tmp_path, v3((90,), (90,)), c_0=np.arange(90, dtype="<f4"))
    url = up(web, tmp_path)
    web.faults.append(of("GET", "c/0", once(fault, 3)))
    assert gncli("stats", url, "-s", "max") == (6, "", f"gncli: error: {url}: was changed while it was read: c/0\n")


# --- groups ----------------------------------------------------------------------------------------------------------


def several(root: Path, version: int, *, consolidated: bool) -> Path:
    """Write a store of two arrays, one of them in a group."""
    nodes: dict[str, Any] = {}
    if version == 3:
        group(root)
        group(root / "g")
        for name, value in (("a", 1), ("g/b c", 2)):
            store(root / name, v3((2,), (2,)), c_0=np.full(2, value, "<f4"))
            nodes[name] = v3((2,), (2,))
        nodes["g"] = {"zarr_format": 3, "node_type": "group"}
        if consolidated:
            found = {
                "zarr_format": 3,
                "node_type": "group",
                "consolidated_metadata": {"kind": "inline", "metadata": nodes},
            }
            (root / "zarr.json").write_text(json.dumps(found))
        return root
    for name, value in (("a", 1), ("g/b c", 2)):
        store(root / name, v2((2,), (2,)), **{"0": np.full(2, value, "<f4")})
        nodes[f"{name}/.zarray"] = v2((2,), (2,))
    for name in ("", "g/"):
        (root / f"{name}.zgroup").write_text('{"zarr_format": 2}')
        nodes[f"{name}.zgroup"] = {"zarr_format": 2}
    if consolidated:
        (root / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": nodes}))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3])
def test_consolidated_metadata_list_a_group(version: int, web: Store, gncli: Command, tmp_path: Path) -> None:
    url = up(web, several(tmp_path, version, consolidated=True))
    answer = (0, "/a,1.0,\n/g/b c,2.0,\n", "")
    code, out, err = gncli("stats", url, "-s", "mean", "--format", "csv")
    assert (code, out.replace(f"{url}::", "").partition("\n")[2], err) == answer
    for name in ("::/g/b c", "::g/b c", "/g/b c"):
        assert gncli("stats", f"{url}{name}", "-s", "mean", "--format", "value") == (0, "2.0\n", "")
    hint = "is a group, not an array; name one of /g/b c"
    assert gncli("stats", f"{url}::g")[::2] == (3, f"gncli: error: {url}::g: {hint}\n")


@pytest.mark.parametrize("version", [2, 3])
def test_a_web_server_lists_no_group(version: int, web: Store, gncli: Command, tmp_path: Path) -> None:
    root = several(tmp_path, version, consolidated=False)
    url = up(web, root)
    problem = "cannot be read (a web server lists no folders); name an array, as URL::/group/array"
    assert gncli("stats", url) == (3, "", f"gncli: error: {url}: {problem}\n")
    assert gncli("stats", f"{url}::/g/b c", "-s", "mean", "--format", "value") == (0, "2.0\n", "")
    assert gncli("stats", f"{url}::/g")[::2] == (3, f"gncli: error: {url}::/g: is a group, not an array\n")
    assert "no such array" in gncli("stats", f"{url}::/h")[2]
    odd = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": {"metadata": []}}
    web.objects["/x.zarr/zarr.json"] = json.dumps(odd).encode()
    assert gncli("stats", url) == (3, "", f"gncli: error: {url}: {problem}\n")


def test_what_is_no_store_says_so(web: Store, gncli: Command, tmp_path: Path) -> None:
    problem = "is no Zarr store: it has no zarr.json, .zarray or .zgroup"
    hint = "name the store itself, and an array in it as STORE::/group/array"
    for name in ("/x.zarr", "/a/x.zarr/", "/folder/"):
        url = f"{web.url}{name}"
        assert gncli("stats", url) == (3, "", f"gncli: error: {url}: {problem}; {hint}\n")
    web.faults.append(status(403))
    code, out, err = gncli("stats", f"{web.url}/x.zarr")
    assert (code, out) == (3, "")
    assert "cannot be read (zarr.json: 403 Forbidden)" in err


def test_the_query_of_a_url_goes_with_every_request(web: Store, tmp_path: Path) -> None:
    store(tmp_path, v3((2,), (2,)), c_0=ONES)
    up(web, tmp_path)
    web.objects.update({f"{path}?sig=1": content for path, content in web.objects.items()})
    with open_source(f"{web.url}/x.zarr?sig=1") as source:
        assert read_all(source).tolist() == [1, 1]
    assert {asked.path for asked in web.asked} == {"/x.zarr/zarr.json?sig=1", "/x.zarr/c/0?sig=1"}


def test_an_array_that_declares_too_much_is_refused(
    web: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SPARSE_NBYTES", 1000)
    monkeypatch.setattr(reading, "SPARSE_FACTOR", 10)
    store(tmp_path, v3((4000,), (400,)), c_3=bytes(1600))
    url = up(web, tmp_path)
    with open_source(url) as source:
        assert source.not_stored == 9
    web.objects["/x.zarr/c/3"] = bytes(1500)
    with pytest.raises(LimitError, match="declares 16,000 bytes and stores 1,500"):
        open_source(url)


# --- S3, and what obstore reads --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_arrays_and_groups_on_s3(
    bucket: Any, front: Store, gncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = several(tmp_path / "m", 3, consolidated=False)
    in_shards(root / "s")
    (root / "s" / "c" / "1" / "0" / "0" / "0").unlink()
    url = into(bucket, root, "p/x.zarr")
    expected = gncli("stats", "m", "-s", "shape,mean,not_stored", "--format", "csv")
    found = gncli("stats", url, "-s", "shape,mean,not_stored", "--format", "csv")
    assert (found[0], *(text.replace(url, "m") for text in found[1:])) == expected
    assert expected[0] == 0
    front.asked.clear()
    assert gncli("normalize", f"{url}::/s", "-G", "2", "-o", "y.npy", "-q")[0] == 0
    assert gncli("normalize", "m::/s", "-G", "2", "-o", "z.npy", "-q")[0] == 0
    assert (tmp_path / "y.npy").read_bytes() == (tmp_path / "z.npy").read_bytes()
    assert len(front.asked) < 20


def test_a_bucket_is_listed_to_its_last_page(
    bucket: Any, front: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, v3((20,), (2,)), **{f"c_{n}": ONES for n in range(9)})
    url = into(bucket, tmp_path)
    real = S3Object._call

    def call(self: S3Object, method: str, **parameters: Any) -> Any:
        return real(self, method, **parameters, **({"MaxKeys": 3} if method == "list_objects_v2" else {}))

    monkeypatch.setattr(S3Object, "_call", call)
    with open_source(url) as source:
        assert source.not_stored == 1


def test_where_a_bucket_may_not_be_listed_a_403_says_what_to_allow(
    bucket: Any, front: Store, gncli: Command, tmp_path: Path
) -> None:
    store(tmp_path, v3((4,), (2,)), c_0=ONES)
    url = into(bucket, tmp_path)
    front.faults.append(of("GET", "c/1|list-type", status(403)))
    code, out, err = gncli("stats", url)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "(c/1: 403 Forbidden)" in err
    assert err.endswith("without s3:ListBucket, S3 says 403 of a chunk that is not there\n")
    front.faults[:] = [of("GET", "list-type", status(503))]
    problem = "cannot be read (503 Service Unavailable, after 1 retry)"
    assert gncli("stats", url, "--retries", "1") == (3, "", f"gncli: error: {url}: {problem}\n")
    front.faults[:] = [of("GET", "list-type", status(403))]
    assert gncli("stats", url, "-s", "max", "--format", "value")[:2] == (0, "1.0\n")


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_arrays_and_groups_by_obstore(
    scheme: str, gncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryStore()
    monkeypatch.setattr(obstores, "store", lambda *_: memory)
    monkeypatch.chdir(tmp_path)
    root = several(tmp_path / "m", 2, consolidated=False)
    in_shards(root / "s")
    (root / "s" / "c" / "1" / "0" / "0" / "0").unlink()
    for file in root.rglob("*"):
        if file.is_file():
            obstore.put(memory, f"p/x.zarr/{file.relative_to(root).as_posix()}", file.read_bytes())
    url = f"{scheme}://bucket/p/x.zarr"
    expected = gncli("stats", "m", "-s", "shape,mean,not_stored", "--format", "csv")
    found = gncli("stats", f"{url}/", "-s", "shape,mean,not_stored", "--format", "csv")
    assert (found[0], *(text.replace(f"{url}/", "m") for text in found[1:])) == expected
    with open_source(f"{url}::/s") as source:
        read_all(source, 100)
        obstore.put(memory, "p/x.zarr/s/c/0/0/0/0", in_shards_again())
        source.will_need(0, X.size)
        with pytest.raises(ChangedError):
            read_all(source, 100)


def in_shards_again() -> bytes:
    return shard(*(row.tobytes() for row in X[4:]))


def test_a_listing_that_breaks_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MemoryStore()
    monkeypatch.setattr(obstores, "store", lambda *_: memory)
    for n in range(7):
        obstore.put(memory, f"x.zarr/c/{n}", b"x" * n)
    real, offsets = obstore.list, []

    def listing(store: Any, prefix: str, *, offset: str | None) -> Any:
        offsets.append(offset)
        found = iter(real(store, prefix, offset=offset, chunk_size=3))
        yield next(found)
        if len(offsets) < 3:
            raise OSError("connection reset")
        yield from found

    monkeypatch.setattr(obstore, "list", listing)
    remote = obstores.Obstore(Url("gs", "bucket", "x.zarr"), Network())
    assert list(remote.listed(flat=True)) == [(f"c/{n}", n) for n in range(7)]
    assert offsets == [None, "x.zarr/c/2", "x.zarr/c/5"]
