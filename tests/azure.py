"""What Azure does with blocks, for a server on the loopback: they are put there, and a list of them is the object."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers import Asked, Handler, Store

KEY = "a2V5"
MARK = "x-ms-meta-gncliupload"


class Azure:
    """Answers what is asked for blocks, and of objects that were made of them; the rest is left to the server.

    `blocks` are in no list yet, by path and id; `marks` are those of the objects.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.blocks: dict[str, dict[str, bytes]] = {}
        self.marks: dict[str, str] = {}
        store.faults.append(self)

    def __call__(self, handler: Handler, asked: Asked) -> bool:
        parts = urlsplit(asked.path)
        path, query = unquote(parts.path), {key: values[0] for key, values in parse_qs(parts.query).items()}
        what = (asked.method, query.get("comp"))
        if what[1] and query.get("sp") != ("w" if asked.method == "PUT" else "r") and "token" not in query:
            handler.say(403, error("AuthorizationPermissionMismatch"))
        elif what[1] and path.startswith("/nowhere/"):
            handler.say(404, error("ContainerNotFound"))
        elif what == ("PUT", "block"):
            self.blocks.setdefault(path, {})[query["blockid"]] = handler.body
            handler.say(201)
        elif what == ("PUT", "blocklist"):
            self._listed(handler, asked, path)
        elif what == ("GET", "blocklist"):
            self._told(handler, path)
        elif asked.method == "HEAD" and path in self.store.objects:
            headers = {**self.store.headers(path), MARK: self.marks.get(path, "")}
            handler.say(200, self.store.objects[path], headers)
        else:
            return False
        return True

    def _listed(self, handler: Handler, asked: Asked, path: str) -> None:
        names = re.findall(r"<Latest>(.*?)</Latest>", handler.body.decode())
        blocks = self.blocks.get(path, {})
        if "if-none-match" in asked.headers and path in self.store.objects:
            handler.say(409, error("BlobAlreadyExists"))
        elif set(names) - set(blocks):
            handler.say(400, error("InvalidBlockList"))
        else:
            self.store.objects[path] = b"".join(blocks[name] for name in names)
            self.marks[path] = asked.headers[MARK]
            self.blocks.pop(path, None)
            handler.say(201)

    def _told(self, handler: Handler, path: str) -> None:
        if path not in self.store.objects and path not in self.blocks:
            handler.say(404, error("BlobNotFound"))
            return
        told = (f"<Block><Name>{name}</Name><Size>{len(data)}</Size></Block>" for name, data in self._of(path))
        handler.say(200, f"<BlockList><UncommittedBlocks>{''.join(told)}</UncommittedBlocks></BlockList>".encode())

    def _of(self, path: str) -> list[tuple[str, bytes]]:
        return sorted(self.blocks.get(path, {}).items())


def error(code: str) -> bytes:
    """Return the body of a refusal."""
    return f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code></Error>'.encode()


def block_id(mark: str, sent: datetime, number: int) -> str:
    """Return the id of a block of gncli, as text."""
    return f"gncli-{mark}-{sent.astimezone(UTC).timestamp():010.0f}-{number:05}"
