"""Objects below a prefix that are written like the files of a folder, which is there when the last of them is.

Notes
-----
A store renames nothing, so objects are put where they belong. What makes a folder of them is what describes it, which
comes after all others, that of its root last: before that nobody takes them for one.

Next to the prefix is a claim, an object that a store makes for one run alone (If-None-Match). Each object is put only
where nothing is, and with the mark of its run. So the objects of two runs are not mixed. A run whose claim was taken
over, though it goes on, finds that out, at the latest after it has described the folder, and takes that back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from gncli import __version__, signals
from gncli.errors import OutputError
from gncli.io.atomic import OutputFile, spool_file, writing
from gncli.io.pipe import Spool
from gncli.io.remote.client import Failure, Found, State, Stored, Uploading, check_quiet
from gncli.io.remote.file import RemoteFile, identity_of
from gncli.io.remote.upload import LAST_SECONDS, PARTS_SECONDS, Sending
from gncli.io.source import Files, FolderNames, NewFolder, Source, Writable
from gncli.text import printable
from gncli.threads import Threads

CLAIM = ".gncli-claim"
PARTS = "parts-"  # what the mark of a run begins with that is done in parts, by several processes
SENDING = 4  # objects that wait for their turn or are on their way, each in a file
AT_ONCE = 1000  # objects that are removed before the next ones are named


class ObjectFolder(NewFolder):
    """Objects below a prefix, put by any thread, that are no folder before `commit`.

    Parameters
    ----------
    remote : Uploading
        The prefix.
    names : FolderNames
        Which objects describe the folder, and which are those of a run.
    name : str
        The output as the user typed it.
    force : bool
        Whether what exists may be replaced: it is removed before the first object is put.
    inputs : sequence of Source
        What is being read: nothing that holds one of these may be replaced.

    Raises
    ------
    OutputError
        If something exists there, holds an input, is being written, or cannot be written.

    Notes
    -----
    As for `MultipartFile`, but for the objects themselves, calls are made by a thread of its own.
    """

    def __init__(
        self, remote: Uploading, names: FolderNames, *, name: str, force: bool = False, inputs: Sequence[Source] = ()
    ) -> None:
        self.name = name
        self._remote, self._names, self._claim = remote, names, _claim_of(remote)
        self._mark = os.urandom(8).hex()
        self._calls = Threads(1)
        self._sending = Sending(remote, name, SENDING)
        self._last: list[tuple[str, bytes]] = []
        self._claimed = self._removing = self._prepared = self._whole = self._ended = False
        try:
            self._do(partial(self._begin, force, inputs))
        except BaseException:
            self.abort()
            raise

    def _do(self, call: Callable[[], None], seconds: float | None = None) -> None:
        with self._remote.writing(self.name):
            self._calls.submit(call).result(seconds)

    def _begin(self, force: bool, inputs: Sequence[Source]) -> None:
        """Refuse what may not be written; claim the prefix."""
        claim, self._old = self._claim.head(), _found(self._remote)
        if claim is not None:
            _check_quiet(self.name, self._remote, claim, self._old, ever=claim.mark.startswith(PARTS))
        self._check_replaceable(claim is not None, force, inputs)
        if claim is not None:
            self._claim.delete()
        signals.cleanups[self] = self._removed  # before the store knows of it
        self._claimed = True
        try:
            self._claim.put(f"gncli {__version__} writes what this is the claim of\n".encode(), self._mark, create=True)
        except Failure as failure:
            if failure.status != 412:
                raise
            raise OutputError("is being written by another run", subject=self.name) from failure
        if _found(self._remote) != self._old:  # whoever had the claim before
            raise OutputError("was created by someone else meanwhile", subject=self.name)

    def _check_replaceable(self, claimed: bool, force: bool, inputs: Sequence[Source]) -> None:
        known = {source.identity[:2]: source.name for source in inputs if source.identity}
        for each in self._old:
            here = identity_of(str(self._remote.url.below(each.name)), State(each.nbytes, each.etag, ""))
            if here[:2] in known:
                problem = f"holds the input {known[here[:2]]}"
                raise OutputError(problem, subject=self.name, hint="choose another name")
        left = claimed and len(_left(self._old, self._names)) == len(self._old)
        self.replaces = bool(self._old) and not left
        if self.replaces and not force:
            raise OutputError("already exists", subject=self.name, hint="--force replaces it")
        if self._old and left:
            nbytes = sum(each.nbytes for each in self._old)
            some = "1 object" if len(self._old) == 1 else f"{len(self._old):,} objects"
            self.notes = (f"{self.name}: {some} of a run that was killed ({nbytes:,} bytes) are replaced",)

    def _check_held(self) -> None:
        if not _held(self._claim, self._mark):
            raise _taken_over(self.name)

    def _prepare(self) -> None:
        """Remove what is there, what describes it first."""
        self._check_held()
        self._removing = bool(self._old)
        _remove(self._remote, self._names, [each.name for each in self._old])
        self._removing, self._prepared = False, True

    def file(self, key: str) -> ObjectFile:
        """Return a new object, by its key below the prefix, which is sent when it is committed."""
        return ObjectFile(self.name, partial(self._send, key))

    def _send(self, key: str, spool: Spool) -> None:
        self._sending.check()
        if not self._prepared:
            self._do(self._prepare)
        self._sending.send(partial(self._send_now, key, os.dup(spool.fd)))

    def _send_now(self, key: str, fd: int) -> None:
        with open(fd, "rb") as content:
            if not self._ended:
                _put(self._remote, self.name, key, content, self._mark)
                self._sent(key, os.fstat(content.fileno()).st_size)

    def _sent(self, key: str, nbytes: int) -> None:
        """Take note of an object that was put."""

    def elsewhere(self) -> partial[ObjectsElsewhere]:
        """Return what puts objects in another process."""
        if not self._prepared:
            self._do(self._prepare)
        client = partial(type(self._remote), self._remote.url, self._remote.network)
        return partial(ObjectsElsewhere, client, self._names, self.name, self._mark)

    def describe(self, key: str, data: bytes) -> None:
        """Add a small object that is put after all others: the last one of these makes a folder of them."""
        self._last.append((key, data))

    def commit(self) -> None:
        """Put what describes the folder; a second time, do nothing.

        Raises
        ------
        OutputError
            If that fails, or somebody else has written there. All that was put is then removed.
        """
        if self._ended:
            return
        try:
            self._sending.check(None)
            self._do(self._complete)
        except BaseException:
            self.abort()
            raise
        self._end()

    def _complete(self) -> None:
        if self._prepared:
            self._check_held()
        else:
            self._prepare()
        for key, data in self._last:
            _put(self._remote, self.name, key, data, self._mark)
        if not _held(self._claim, self._mark):  # taken over after the last look: it is not what this run has put
            _remove(self._remote, self._names, [key for key, _ in self._last], self._mark)
            raise _taken_over(self.name)
        self._whole = True
        with suppress(Failure):  # one that stays is removed by `left_over`
            self._claim.delete()

    def abort(self) -> None:
        """Remove what was put; after `commit` or a second `abort`, do nothing.

        What cannot be removed now stays for `gncli clean`.
        """
        if self._claimed and not self._ended:
            self._ended = True
            quiet = self._sending.ended(None)
            with suppress(OutputError):
                self._do(partial(self._empty, quiet=quiet))
        self._end()

    def _end(self) -> None:
        self._ended = True
        signals.cleanups.pop(self, None)
        self._calls.rest()

    def _empty(self, *, quiet: bool) -> None:
        """Remove what was put, and the claim, unless they are of another run by now.

        If something may still come (not `quiet`), or a part of what was there before is left, the claim stays, by which
        the next run and `left_over` know it.
        """
        if self._whole:
            raise OutputError("was committed just now", subject=self.name)
        if not _held(self._claim, self._mark):
            return
        if self._prepared:
            self._remove_own()
        if quiet and not (self._removing and not _whole(_found(self._remote), self._names)):
            self._claim.delete()
            if self._prepared:  # what a worker has put meanwhile; from now on it finds no claim, and removes it itself
                self._remove_own()

    def _remove_own(self) -> None:
        _remove(self._remote, self._names, [each.name for each in _found(self._remote)], self._mark)

    def _removed(self) -> str:
        """Remove what was put, after a signal, and return the output as it is shown."""
        self._ended = True
        quiet = self._sending.ended(PARTS_SECONDS)
        self._do(partial(self._empty, quiet=quiet), LAST_SECONDS)
        return printable(self.name)

    def scratch(self) -> OutputFile:
        """Return a file without a name in $TMPDIR, for intermediate data."""
        with writing(self.name):
            return OutputFile(spool_file(), self.name, lasting=False)

    def files(self) -> Iterator[str]:
        """Yield the keys of the objects that will be replaced."""
        return (each.name for each in self._old)

    def replaced(self, key: str) -> RemoteFile:
        """Return the reader of an object that will be replaced."""
        return RemoteFile(self._remote.below(key), self.name)


class ObjectsElsewhere(Files):
    """A worker's end of objects below a prefix: it puts whole ones, as long as the claim is that of the run.

    Parameters
    ----------
    client : callable
        Returns the client of the prefix.
    names : FolderNames
        Which objects describe the folder.
    name : str
        The output as the user typed it, for errors.
    mark : str
        The mark of the run. An object that has it already was put by another worker, with the same bytes.
    """

    def __init__(self, client: Callable[[], Uploading], names: FolderNames, name: str, mark: str) -> None:
        self.name = name
        self._remote, self._names, self._mark = client(), names, mark
        self._sending = Sending(self._remote, name, SENDING)

    def file(self, key: str) -> ObjectFile:
        """Return a new object, by its key below the prefix, which is sent when it is committed."""
        return ObjectFile(self.name, partial(self._send, key))

    def _send(self, key: str, spool: Spool) -> None:
        self._sending.check()
        self._sending.send(partial(self._send_now, key, os.dup(spool.fd)))

    def _send_now(self, key: str, fd: int) -> None:
        with open(fd, "rb") as content:
            certain = _put(self._remote, self.name, key, content, self._mark)
        if not _held(_claim_of(self._remote), self._mark):
            # Who began the run has removed what it found; or it is whole, with what another worker has put.
            if certain and not _whole(_found(self._remote), self._names):
                _remove(self._remote, self._names, [key], self._mark)
            raise _taken_over(self.name)

    def commit(self) -> None:
        """Wait until all objects are there."""
        self._sending.check(None)


class ObjectFile(Writable):
    """An object that is gathered in an unlinked file in $TMPDIR, and sent when it is committed.

    Parameters
    ----------
    name : str
        The output, for errors.
    send : callable
        Takes the file.
    """

    def __init__(self, name: str, send: Callable[[Spool], None]) -> None:
        self._send, self._spool = send, Spool(name)

    def write(self, view: memoryview, offset: int) -> None:
        """Write `view` at `offset`."""
        self._spool.write(view, offset)

    def commit(self) -> None:
        """Let the object be sent."""
        self._send(self._spool)

    def abort(self) -> None:
        """Let go of the file; what is being sent of it is sent."""
        self._spool.close()


def left_over(remote: Uploading, names: FolderNames, name: str, *, force: bool) -> list[tuple[str, int]]:
    """Remove what a run has left below a prefix, and its claim, and return the name and the size of each object.

    Where there is no claim, or a whole folder, the objects are nobody's to remove.
    """
    claim, place = _claim_of(remote), str(remote.url)
    with remote.writing(name):
        said = claim.head()
        if said is None:
            return []
        found = _found(remote)
        if not force:
            _check_quiet(name, remote, said, found, ever=said.mark.startswith(PARTS))
        # A run that goes on nevertheless finds that it was taken over.
        claim.put(f"gncli {__version__} removes what this was the claim of\n".encode(), os.urandom(8).hex())
        gone = _left(_found(remote), names)
        _remove(remote, names, [each.name for each in gone])
        claim.delete()
    return [*((f"{place}/{each.name}", each.nbytes) for each in gone), (f"{place}{CLAIM}", said.state.nbytes)]


def _claim_of(remote: Uploading) -> Uploading:
    """Return the client of the claim of a prefix."""
    url = remote.url
    return type(remote)(url._replace(key=f"{url.key}{CLAIM}"), remote.network)


def _held(remote: Uploading, mark: str) -> bool:
    """Return whether an object, or a claim, is that of a run."""
    found = remote.head()
    return found is not None and found.mark == mark


def _taken_over(name: str) -> OutputError:
    return OutputError("was taken over by another run", subject=name, hint="write it under another name")


def _put(remote: Uploading, name: str, key: str, content: bytes | BinaryIO, mark: str) -> bool:
    """Put an object below a prefix, where nothing is, and return what `Uploading.put` does."""
    try:
        return remote.below(key).put(content, mark, create=True)
    except Failure as failure:
        if failure.status != 412:
            raise
        raise OutputError(f"was created by someone else meanwhile: {key}", subject=name) from failure


def _found(remote: Uploading) -> list[Stored]:
    """Return the objects below a prefix, without the one that consoles make for a folder itself."""
    return [each for each in remote.contents() if each.name]


def _left(found: list[Stored], names: FolderNames) -> list[Stored]:
    """Return those of the objects below a claimed prefix that a run has left; none of a whole folder."""
    return [] if _whole(found, names) else [each for each in found if names.made.fullmatch(each.name)]


def _whole(found: list[Stored], names: FolderNames) -> bool:
    """Return whether the root of a folder is described."""
    return any("/" not in each.name and names.describing.fullmatch(each.name) for each in found)


def _check_quiet(name: str, remote: Uploading, claim: Found, found: list[Stored], *, ever: bool = False) -> None:
    """Raise OutputError if the run of a claim may go on, or if parts of it may come at any time: `ever`."""
    last = max([claim.modified, *(each.modified for each in found)])
    way = f"gncli clean --force {remote.url} removes what it left"
    kept = f"--assemble puts its parts together; {way}" if ever else ""
    check_quiet(name, "an upload", claim.modified, last, way, kept)


def _remove(remote: Uploading, names: FolderNames, keys: list[str], mark: str = "") -> None:
    """Remove objects below a prefix, or those with a mark, what describes it first, several at once.

    The threads are those of nobody else, so that this never waits for what a signal has interrupted.
    """

    def remove(key: str) -> None:
        each = remote.below(key)
        if not mark or _held(each, mark):
            each.delete()

    pool = Threads(remote.network.requests)
    try:
        for first in (True, False):
            some = [key for key in keys if (names.describing.fullmatch(key) is not None) is first]
            for at in range(0, len(some), AT_ONCE):
                for gone in [pool.submit(remove, key) for key in some[at : at + AT_ONCE]]:
                    gone.result()
    finally:
        pool.rest()
