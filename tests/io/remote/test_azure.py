"""Objects on Azure, written: a server of the standard library stands for it."""

from __future__ import annotations

import hmac
import os
import re
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest

from gncli import signals
from gncli.errors import LimitError, OutputError
from gncli.inputs import Network
from gncli.io.remote import azure, http, obstores, upload
from gncli.io.remote.azure import AzureObject
from gncli.io.remote.upload import MultipartFile
from gncli.io.urls import Url
from tests.azure import KEY, Azure, block_id, error
from tests.files import saved
from tests.io.remote.conftest import Command
from tests.marks import slow_but
from tests.processes import killed_in_an_upload
from tests.servers import Asked, Handler, Store, dropped, of, once, status

X = np.random.default_rng(0).standard_normal((8, 8, 64, 64), dtype=np.float32)  # 1 MiB: 9 blocks here
PART = 1 << 17
NAME = "az://box/a/y.npy"
PATH = "/box/a/y.npy"


@pytest.fixture
def store(web: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_ENDPOINT", web.url)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    monkeypatch.setattr(upload, "LEAST_PART", PART)
    monkeypatch.setattr(upload, "MIB", 1 << 10)
    obstores.store.cache_clear()
    yield Azure(web)
    obstores.store.cache_clear()


def new(**options: Any) -> MultipartFile:
    network = options.pop("network", Network())
    return MultipartFile(AzureObject(Url("az", "box", "a/y.npy"), network), name=NAME, **options)


COMMANDS = {
    "normalize": (("normalize", "x.npy", "-G", "4", "-q"), "-o"),
    "diff": (("diff", "x.npy", "x.npy", "-q"), "-o"),
    "backward": (("backward", "x.npy", "dy.npy", "-G", "4", "-q"), "--dx"),
    "random": (("random", "4,8,64,64", "--seed", "0", "-q"), "-o"),
}


@pytest.mark.parametrize("command", slow_but(COMMANDS, "normalize"))
def test_an_object_has_the_bytes_that_a_file_has(
    command: str, web: Store, store: Azure, gncli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("dy.npy", X[::-1])
    words, option = COMMANDS[command]
    answer = gncli(*words, option, "y.npy")
    assert answer[::2] == (0, "")
    assert gncli(*words, option, NAME) == answer
    assert web.objects == {PATH: (tmp_path / "y.npy").read_bytes()}
    assert store.blocks == {}
    sent = [asked for asked in web.asked if "comp=block&" in asked.path]
    assert sorted(int(asked.headers["content-length"]) for asked in sent) == [128, *[PART] * 8]
    assert not signals.cleanups


def test_an_existing_object_is_replaced_by_force_alone(
    web: Store, store: Azure, gncli: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    web.objects[PATH] = b"old"
    words = ("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", NAME, "-q")
    assert gncli(*words) == (4, "", f"gncli: error: {NAME}: already exists; --force replaces it\n")
    assert web.objects[PATH] == b"old"
    assert gncli(*words, "--force") == (0, "", "")
    assert len(web.objects[PATH]) == len(saved(X))


def test_runs_come_in_any_order_from_any_thread(web: Store, store: Azure) -> None:
    data = np.random.default_rng(1).bytes(5 * PART + 5)
    runs = [(at, data[at : at + PART // 3]) for at in range(0, len(data), PART // 3)]
    with new(network=Network(requests=2)) as file, ThreadPoolExecutor(4) as pool:
        file.allocate(len(data))
        list(pool.map(lambda run: file.write(memoryview(run[1]), run[0]), runs[::-1]))
        assert web.objects == {}
        file.commit()
        file.commit()
    assert web.objects == {PATH: data}


def test_large_parts_are_gathered_in_a_file(web: Store, store: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MOST_IN_MEMORY", PART - 1)
    data = os.urandom(2 * PART + 5)
    web.faults.insert(0, of("PUT", "comp=block&", once(status(503))))  # it is read again
    with new() as file:
        file.allocate(len(data))
        file.write(memoryview(data)[7:], 7)
        file.write(memoryview(data)[:7], 0)
        file.commit()
    assert web.objects == {PATH: data}


def test_an_object_beyond_the_limit_is_refused_at_once(web: Store, store: Azure) -> None:
    with new() as file, pytest.raises(LimitError, match=re.escape("an object may have 39,845,888,000,000")):
        file.allocate(1 << 46)
    assert [asked.method for asked in web.asked] == ["HEAD"]


@pytest.mark.parametrize("late", [False, True])
def test_of_two_runs_one_wins(late: bool, web: Store, store: Azure) -> None:
    """The other one comes before the last look, or after it."""

    def other(*_: object) -> bool:
        web.objects[PATH] = b"old"
        return False

    with new() as file:
        file.allocate(3)
        file.write(memoryview(b"new"), 0)
        if late:
            web.faults.insert(0, of("PUT", "comp=blocklist", other))
        else:
            other()
        with pytest.raises(OutputError, match="was created by someone else meanwhile"):
            file.commit()
    assert web.objects == {PATH: b"old"}


def test_a_run_that_replaces_ends_one_that_goes_on(web: Store, store: Azure) -> None:
    with new(force=True) as one, new(force=True) as other:
        for file, data in ((one, b"one"), (other, b"two")):
            file.allocate(3)
            file.write(memoryview(data), 0)
            file._sending.check(None)  # both have arrived
        one.commit()
        with pytest.raises(OutputError, match=re.escape("cannot be written (400 InvalidBlockList)")):
            other.commit()
    assert web.objects == {PATH: b"one"}


@pytest.mark.parametrize("force", [False, True])
def test_a_lost_answer_to_a_list_that_arrived_is_no_error(force: bool, web: Store, store: Azure) -> None:
    def lost(handler: Handler, asked: Asked) -> bool:
        answer = handler.say
        handler.say = lambda *_: None  # type: ignore[method-assign]
        store(handler, asked)
        handler.say = answer  # type: ignore[method-assign]
        handler.drop()
        return True

    web.faults.insert(0, of("PUT", "comp=blocklist", once(lost)))
    with new(force=force) as file:
        file.allocate(3)
        file.write(memoryview(b"new"), 0)
        file.commit()
    assert web.objects == {PATH: b"new"}


def short(handler: Handler, _: Asked) -> bool:
    handler.say(200, b"<BlockList>", {"Content-Length": "999"})
    handler.close_connection = True
    return True


FAULTS: dict[str, tuple[Any, str]] = {
    "403 at the look": (of("HEAD", PATH, status(403)), r".*403.*; set AZURE_STORAGE_ACCOUNT_NAME"),
    "403 of the list": (of("GET", "blocklist", status(403)), r"403 Forbidden\); set AZURE_STORAGE_ACCOUNT_NAME"),
    "403 of a block": (
        of("PUT", "comp=block&", status(403, {}, error("AuthorizationPermissionMismatch"))),
        r"403 AuthorizationPermissionMismatch\); set AZURE_STORAGE_ACCOUNT_NAME",
    ),
    "503 of a block": (
        of("PUT", "comp=block&", status(503, {}, error("ServerBusy"))),
        r"503 ServerBusy, after 1 retry\)\n",
    ),
    "a block is dropped": (of("PUT", "comp=block&", dropped), r"the connection broke, after 1 retry\)\n"),
    "a block is redirected": (of("PUT", "comp=block&", status(307, {"Location": "/"})), r"307 Temporary Redirect\)\n"),
    "412 at the end": (of("PUT", "comp=blocklist", status(412)), r"was created by someone else meanwhile\n"),
    "500 at the end": (of("PUT", "comp=blocklist", status(500)), r"500 Internal Server Error, after 1 retry\)\n"),
    "short list": (
        of("GET", "blocklist", short),
        r"the connection broke, after 1 retry\)\n",
    ),
}


@pytest.mark.parametrize("case", slow_but(FAULTS, "403 of a block", "a block is dropped", "412 at the end"))
def test_what_fails_is_one_line_and_status_4_and_leaves_no_object(
    case: str, web: Store, store: Azure, gncli: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    fault, problem = FAULTS[case]
    web.faults.insert(0, fault)
    code, out, err = gncli("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", NAME, "--retries", "1", "-q")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert re.match(rf"gncli: error: {NAME}: (cannot be written \()?{problem}", err)
    assert web.objects == {}
    assert not signals.cleanups


def test_what_passes_is_retried(web: Store, store: Azure, gncli: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    web.faults[:0] = [
        of("GET", "blocklist", once(dropped, 2)),
        of("PUT", "comp=block&", once(dropped, 3)),
        of("PUT", "comp=block&", once(status(503), 5)),
        of("PUT", "comp=blocklist", once(status(503))),
    ]
    assert gncli("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", NAME, "-q") == (0, "", "")
    assert len(web.objects[PATH]) == len(saved(X))


@pytest.mark.parametrize(("name", "expected"), slow_but([("TIMEOUT", 0), ("CALL_TIMEOUT", 4)], ("CALL_TIMEOUT", 4)))
def test_what_is_sent_has_more_time_for_its_answer(
    name: str, expected: int, web: Store, store: Azure, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> bool:
        time.sleep(1)
        return False

    web.faults.insert(0, of("PUT", "comp=block&", slow))
    monkeypatch.setattr(http, name, 0.5)
    code, out, err = gncli("random", "2,2", "--seed", "0", "-o", NAME, "--retries", "0", "-q")
    problem = f"gncli: error: {NAME}: cannot be written (no answer in 0 s)\n"
    assert (code, out, err) == (expected, "", problem if expected else "")


def test_a_container_that_is_not_there_is_told_before_the_first_block(web: Store, store: Azure, gncli: Command) -> None:
    name = "az://nowhere/y.npy"
    answer = gncli("random", "2,2", "--seed", "0", "-o", name, "-q")
    assert answer == (4, "", f"gncli: error: {name}: cannot be written (404 ContainerNotFound)\n")
    assert "PUT" not in [asked.method for asked in web.asked]


@pytest.mark.parametrize("name", ["y #1?.npy", "%20é+&.npy"])
def test_a_signature_by_the_key_of_the_account_is_about_any_name(
    name: str, web: Store, store: Azure, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure, "datetime", Frozen)
    assert gncli("random", "2,2", "--seed", "0", "-o", f"az://box/{name}", "-q") == (0, "", "")
    assert [*web.objects] == [f"/box/{name}"]
    end = Frozen.now(UTC) + azure.SIGNED
    for asked in web.asked:
        if "comp=" in asked.path:
            method = asked.method
            assert f"?{azure.signed(f'/blob/account/box/{name}', method, KEY, end)}&comp=" in asked.path


class Frozen(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> Frozen:
        """Return one time."""
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


def test_the_fields_that_are_signed_are_those_that_azure_expects() -> None:
    """The HMAC of the same lines by ``openssl dgst -sha256 -mac HMAC``; Azurite 3.35 takes such signatures."""
    lines = ["w", "", "2026-01-02T03:04:05Z", "/blob/account/box/a b.npy", "", "", "", "2020-12-06", "b", *[""] * 7]
    signature = b64encode(hmac.digest(b"key", "\n".join(lines).encode(), "sha256")).decode()
    assert signature == "RixuYkAgBAnBTP8IaS33iZiEjIEvi7/0T3ySSJpD2+M="
    query = azure.signed("/blob/account/box/a b.npy", "PUT", KEY, Frozen.now(UTC))
    expected = {"sv": "2020-12-06", "se": "2026-01-02T03:04:05Z", "sr": "b", "sp": "w", "sig": signature}
    assert dict(parse_qsl(query)) == expected


def test_an_account_key_that_is_none_is_refused(store: Azure, gncli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "no key")
    code, out, err = gncli("clean", NAME)
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY" in err


def test_a_key_that_obstore_signs_wrongly_is_refused(
    web: Store, store: Azure, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")  # whose key obstore knows
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", web.url)
    assert gncli("random", "2,2", "--seed", "0", "-o", "az://box/y-1.npy", "-q") == (0, "", "")
    name = "az://box/y 1.npy"
    hint = "with AZURE_STORAGE_ACCOUNT_KEY it can be; or choose a name of letters, digits and -._"
    problem = f"cannot be written (obstore signs no key with characters that a URL encodes); {hint}"
    assert gncli("random", "2,2", "--seed", "0", "-o", name) == (4, "", f"gncli: error: {name}: {problem}\n")


@pytest.mark.parametrize("variable", ["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"])
def test_a_token_is_a_signature_of_any_key(
    variable: str, web: Store, store: Azure, gncli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv(variable, "?token=a%2Fb")
    assert gncli("random", "2,2", "--seed", "0", "-o", "az://box/y #1.npy", "-q") == (0, "", "")
    assert [*web.objects] == ["/box/y #1.npy"]
    sent = [asked.path for asked in web.asked if asked.method == "PUT"]
    assert {path.partition("&")[0] for path in sent} == {"/box/y%20%231.npy?token=a%2Fb"}


def test_nothing_is_written_without_credentials(web: Store, store: Azure, gncli: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    words = ("normalize", str(tmp_path / "x.npy"), "-G", "4", "-o", NAME, "-q", "--anonymous")
    code, out, err = gncli(*words)
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert re.search(r"while skipping signatures .*; set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY", err)
    assert web.objects == {}


def test_an_address_is_signed_anew_in_half_of_its_time(store: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((0.0, 0.0, 1799.0, 1799.0, 1799.0, 1800.0, 1800.0))
    monkeypatch.setattr(azure, "clock", lambda: next(now))
    object_ = AzureObject(Url("az", "box", "y"), Network())
    signed: list[str] = []
    monkeypatch.setattr(object_, "_sign", lambda method: signed.append(method) or "address")  # type: ignore[func-returns-value]
    for method in ("PUT", "PUT", "GET", "PUT"):
        assert object_._address(method) == "address"
    assert signed == ["PUT", "GET", "PUT"]


def put_blocks(store: Azure, *ids: str) -> None:
    store.blocks[PATH] = {b64encode(each.encode()).decode(): b"12345" for each in ids}


def test_blocks_that_stay_are_told_of_and_no_run_removes_them(web: Store, store: Azure, gncli: Command) -> None:
    now = datetime.now(UTC)
    assert gncli("clean", NAME) == (0, f"{NAME}: nothing is left over\n", "")
    put_blocks(store, "short", "x" * 39)
    assert gncli("clean", NAME) == (0, f"{NAME}: nothing is left over\n", "")
    begun = [block_id("b" * 16, now - timedelta(days=each), number) for number, each in enumerate((2, 1, 3))]
    put_blocks(store, "x" * 39, *begun, block_id("a" * 16, now - timedelta(days=2.5), 0))
    kept = "Azure alone removes the blocks, a week after the last one, or when a run writes this object"
    for force in ((), ("--force",)):
        code, out, err = gncli("clean", NAME, *force)
        assert (code, out) == (4, "")
        said = rf"an upload was begun at {now - timedelta(days=3):%Y-%m-%d %H:%M} UTC, and got something 864\d\d s ago"
        assert re.fullmatch(rf"gncli: error: {NAME}: {said}; {kept}\n", err)
    words = ("random", "2,2", "--seed", "0", "-o", NAME, "-q")
    note = f"gncli: {NAME}: 2 uploads are open, of a run that failed, was killed or goes on; {kept}\n"
    assert gncli(*words) == (0, "", note)
    assert store.blocks == {}
    assert gncli("clean", NAME) == (0, f"{NAME}: nothing is left over\n", "")
    web.faults.insert(0, of("GET", "blocklist", status(403)))
    assert gncli("clean", NAME)[:2] == (4, "")
    assert gncli(*words, "-f")[0] == 4  # what may not be listed is not written: nothing else tells of the container


@pytest.mark.parametrize("signum", slow_but([signal.SIGKILL, signal.SIGINT]))
def test_a_run_that_is_killed_leaves_nothing_under_the_name(
    signum: int, web: Store, store: Azure, gncli: Command, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    begun = threading.Event()

    def slow(*_: object) -> bool:
        begun.set()
        time.sleep(0.3)
        return False

    web.faults.insert(0, of("PUT", "comp=block&", once(slow, 3, times=100)))
    words = ["normalize", str(tmp_path / "x.npy"), "-G", "4", "-q", "-o", NAME]
    said = f"gncli: interrupted; {NAME} was not written\n" if signum == signal.SIGINT else ""
    assert killed_in_an_upload(words, begun, signum) == (-signum, "", said)
    assert web.objects == {}
    assert store.blocks[PATH]
    web.faults[:] = [store]
    assert gncli(*words)[:2] == (0, "")
    assert len(web.objects[PATH]) == len(saved(X))
    assert store.blocks == {}
