"""A Zarr store on an object store or a web server: files are objects, asked for by their keys, several ahead.

Notes
-----
An array needs no listing: an object that is not there (404) is a chunk that is not stored, and any other refusal is an
error. Groups are listed by the consolidated metadata of the store, and where there are none by the store itself.

An object is read in one state, of its ETag, and each pass compares that with the one before. So at the end only those
objects are looked at again that were not there, or whose server has no strong ETags.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple

from gncli.errors import InputError
from gncli.io.formats.zarr.metadata import parsed
from gncli.io.formats.zarr.store import ABSENT, ARRAY, GROUP, KINDS, V3, Kind, Store, state_of
from gncli.io.remote import RemoteFile
from gncli.io.remote.client import Failure, Remote, State, submitted
from gncli.io.remote.file import REQUEST, identity_of
from gncli.io.source import Identity

NOT_LISTED = frozenset({401, 403, 405})  # the statuses of a store that tells what is there, but not all of it
CONSOLIDATED = ".zmetadata"
MOST_OPEN = 1 << 10  # objects that are opened often
MOST_OPEN_NBYTES = 16 << 20  # and of what came of them


class _Begun(NamedTuple):
    """An object that was asked for, and what came of it."""

    state: State
    at: int
    known: bytes


def _joined(*parts: str) -> str:
    return "/".join(filter(None, parts))


class ObjectStore(Store):
    """Objects below a prefix.

    Parameters
    ----------
    remote : Remote
        The client of the prefix.
    name : str
        What errors call it.
    described : dict, optional
        The files of metadata that were opened already, by their URL.
    """

    def __init__(self, remote: Remote, name: str, described: dict[str, RemoteFile | None] | None = None) -> None:
        super().__init__(name)
        self.ahead = remote.network.requests
        self._remote = remote
        self._described: dict[str, RemoteFile | None] = {} if described is None else described
        self._begun: OrderedDict[str, Future[_Begun | None]] = OrderedDict()
        self._often: OrderedDict[str, RemoteFile] = OrderedDict()
        self._lock = threading.Lock()
        self._strong = True

    def within(self, path: str, name: str) -> ObjectStore:
        """Return the store below a path."""
        return ObjectStore(self._remote.below(path) if path else self._remote, name, self._described)

    def kind(self, path: str) -> Kind | None:
        """Return what describes the node at a path; None if nothing does."""
        return next((kind for file, kind in KINDS if self._description(_joined(path, file)) is not None), None)

    def _description(self, key: str) -> RemoteFile | None:
        """Return a file of metadata, which is opened once; None if there is none."""
        remote = self._remote.below(key)
        place = str(remote.url)
        if place not in self._described:
            try:
                self._described[place] = RemoteFile(remote, self.name)
            except InputError as error:
                if not isinstance(error.__cause__, Failure) or error.__cause__.status != 404:
                    raise
                self._described[place] = None
        return self._described[place]

    def below(self, path: str) -> list[str]:
        """Return the names of the nodes in the group at a path, or of what may be nodes."""
        known = self._consolidated()
        if known is not None:
            inside = f"{path}/" if path else ""
            return sorted({node[len(inside) :].split("/")[0] for node in known if node.startswith(inside)} - {""})
        remote = self._remote.below(path) if path else self._remote
        with remote.reading(self.name):
            return sorted(name.removesuffix("/") for name, _ in remote.listed(flat=False) if name.endswith("/"))

    def _consolidated(self) -> set[str] | None:
        """Return the paths of all nodes, as the metadata of the store tell them; None where they do not."""
        if self._description(V3) is not None:
            found = parsed(self.metadata(V3)[1], self.name).get("consolidated_metadata")
        elif self._description(CONSOLIDATED) is not None:
            found = parsed(self.metadata(CONSOLIDATED)[1], self.name)
        else:
            return None
        nodes = found.get("metadata") if isinstance(found, dict) else None
        if not isinstance(nodes, dict):
            return None
        return {key.removesuffix(f"/{ARRAY}").removesuffix(f"/{GROUP}") for key in nodes}

    def files(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int]] | None:
        """Yield the key and the size of each object of which `wanted` holds; None if the store may not be listed."""
        listed = self._listed()
        try:
            first = next(listed, None)
        except InputError as error:
            if isinstance(error.__cause__, Failure) and error.__cause__.status in NOT_LISTED:
                return None
            raise
        return (each for each in itertools.chain(() if first is None else (first,), listed) if wanted(each[0]))

    def _listed(self) -> Iterator[tuple[str, int]]:
        with self._remote.reading(self.name):
            yield from self._remote.listed(flat=True)

    def looks(self, keys: Iterable[str]) -> Iterator[Identity | None]:
        """Yield the state of each object, several requests ahead; of one that will be opened, as it was then."""
        waiting: deque[tuple[str, Future[_Begun | None]]] = deque()
        for key in itertools.chain(keys, itertools.repeat("", self.ahead)):
            if key:
                with self._lock:
                    begun = self._begun.get(key)
                waiting.append((key, begun or self._ask(key, 0, 1)))
            if waiting and (not key or len(waiting) > self.ahead):
                place, future = waiting.popleft()
                found = self._came(place, future)
                if found is None:
                    with self._lock:
                        self._begun.pop(place, None)
                yield None if found is None else self._identity(place, found.state)

    def _ask(self, key: str, first: int, nbytes: int) -> Future[_Begun | None]:
        """Return the future of an object and the first or last bytes of it."""
        remote = self._remote.below(key)

        def begin() -> _Begun | None:
            try:
                state, known = remote.begun(first, nbytes)
            except Failure as failure:
                if failure.status == 404:
                    return None
                raise
            return _Begun(state, max(0, state.nbytes - len(known)) if first else 0, known)

        return submitted(begin, remote.network)

    def _came(self, key: str, future: Future[_Begun | None]) -> _Begun | None:
        with self._remote.below(key).reading(self.name):
            return future.result()

    def _identity(self, key: str, state: State) -> Identity:
        """Return what distinguishes a state of an object; where its ETag is strong, the time says nothing more."""
        self._strong = self._strong and (state.strong or not state.nbytes)
        return identity_of(str(self._remote.below(key).url), state._replace(modified="") if state.strong else state)

    def will_open(self, key: str, first: int, nbytes: int) -> None:
        """Ask for an object now, unless that was done already."""
        with self._lock:
            if key not in self._begun and key not in self._often:
                self._begun[key] = self._ask(key, first, nbytes)

    def will_read(self, key: str, state: int, offset: int, nbytes: int) -> None:
        """Ask for these bytes of an object now."""
        self.open(key, state, often=True).will_read(offset, nbytes)

    def open(self, key: str, state: int | None = None, *, often: bool = False) -> RemoteFile:
        """Return an object, which must be in this state, if one is given; without one it is a file of metadata."""
        if state is None:
            described = self._description(key)
            if described is None:
                raise self.lost(key)
            return described.duplicate()
        with self._lock:
            kept = self._often.get(key)
            if kept is not None:
                self._often.move_to_end(key)
                return kept.duplicate()
            begun = self._begun.pop(key, None)
        found = self._came(key, begun or self._ask(key, 0, 1 if often else REQUEST))
        if found is None:
            raise self.lost(key)
        if state_of(self._identity(key, found.state)) != state:
            raise self.changed(key)
        file = RemoteFile.begun(self._remote.below(key), self.name, found.state, found.known, found.at)
        if often:
            with self._lock:
                self._often[key] = file
                while len(self._often) > min(MOST_OPEN, MOST_OPEN_NBYTES // max(1, len(found.known)) + 1):
                    self._often.popitem(last=False)
        return file

    def check(self, states: Iterable[tuple[str, int]]) -> None:
        """Raise ChangedError if the metadata or one of the objects changed, as far as that is not known yet."""
        for file in filter(None, (self._described.get(str(self._remote.below(key).url)) for key in (V3, ARRAY))):
            file.ask_again()
        super().check((key, state) for key, state in states if state == ABSENT or not self._strong)

    def close(self) -> None:
        """Let go of what was asked for, and not read."""
        with self._lock:
            self._begun.clear()
            self._often.clear()
