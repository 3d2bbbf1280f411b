"""An output on a store that several processes write: the objects of a .zarr, or ranges of one object on S3.

Beside ``s3://bucket/y.npy`` there are objects ``y.npy.gncli-parts/...`` until it is complete: a record of each part, as
in a folder of parts, and on S3 ``upload``, which says into which multipart upload all of them write.

Notes
-----
The grain of a part is a part of the upload. So a part of the work uploads what lies whole in its range, and the bytes
at both ends go into its record; whoever completes the upload puts the ends of neighbours together, and the header.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from gncli import signals
from gncli.errors import ChangedError, OutputError, ParameterError
from gncli.inputs import ON_NETWORK, Network, Policy
from gncli.io.atomic import AtomicFile
from gncli.io.formats import npz_sink, written
from gncli.io.remote import folder_left_over, uploading, uploads_left_over
from gncli.io.remote.client import Failure, too_large
from gncli.io.remote.folder import PARTS, ObjectFolder
from gncli.io.remote.s3 import S3Object
from gncli.io.remote.upload import MultipartFile, part_nbytes
from gncli.io.shared import Edge, Place, Ranged, Record, SharedFiles, SharedFolder, Written, place_of, read_record
from gncli.io.source import NewFile, Source
from gncli.io.urls import is_url, parsed
from gncli.text import printable

UPLOAD = "upload"  # the name of the record of the upload


class SharedPrefix(SharedFolder):
    """The objects of the parts of an output on a store; as a `SharedFolder`.

    Parameters
    ----------
    output : str
        The output, as the user typed it.
    network : Network
        Retries, and whether there are credentials.

    Attributes
    ----------
    object : Uploading
        The output.
    """

    def __init__(self, output: str, network: Network = ON_NETWORK) -> None:
        self.output = output
        place = written(output)[1]
        self.path = self.shown = f"{place}.gncli-parts"
        self._network = network
        self.object = uploading(parsed(place)[0], output, network)
        self._objects = uploading(parsed(self.path)[0], output, network)

    def names(self) -> list[tuple[str, int]]:
        """Return the names and the sizes of the objects that are there."""
        with self._objects.writing(self.shown):
            return [
                (name, nbytes) for name, nbytes in self._objects.listed(flat=True) if name == UPLOAD or place_of(name)
            ]

    def places(self) -> list[Place]:
        """Return the records that are there, in order."""
        return sorted(filter(None, (place_of(name) for name, _ in self.names())))

    def read(self, place: Place) -> Record:
        """Return a record; see `read_record`."""
        name = f"{self.path}/{place.name}"
        return read_record(name, name, Policy(network=self._network))

    def save(self, place: Place, about: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a record; an older one of the same place is replaced."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, place.name)
            Record(self.output, about, arrays).save(npz_sink(AtomicFile(path, name=self.output)))
            with open(path, "rb") as file, self._objects.writing(self.output):
                self._objects.below(place.name).put(file.read())

    def begin_store(self, *, alone: bool, force: bool, inputs: Sequence[Source]) -> SharedFiles:
        """Return the objects that the parts write; see `SharedObjects`."""
        return SharedObjects(self, inputs)

    def emptied(self) -> list[tuple[str, int]]:
        """Remove the objects of parts, the one about the upload last, and return them: name and bytes."""
        names = sorted(self.names(), key=lambda each: each[0] == UPLOAD)
        with self._objects.writing(self.output):
            for name, _ in names:
                self._objects.below(name).delete()
        return [(f"{self.shown}/{name}", nbytes) for name, nbytes in names]


class SharedUpload(SharedPrefix):
    """The upload of the parts of an object on S3, and their records; for the parameters see `SharedPrefix`."""

    object: S3Object

    def upload(self, nbytes: int) -> tuple[str, str]:
        """Return the id and the mark of the upload of all parts, which is begun by the first who asks.

        Raises
        ------
        OutputError
            If it is one to an object of another size.
        """
        part = part_nbytes(nbytes)
        with self.object.writing(self.output):
            found = self._begun()
            if found is None:
                mark = os.urandom(8).hex()
                mine = self.object.begin_upload(mark, part)
                about: dict[str, Any] = {"upload": mine, "mark": mark, "nbytes": nbytes, "part": part}
                try:
                    self._objects.below(UPLOAD).put(json.dumps(about).encode(), create=True)
                except Failure as failure:  # somebody else was first
                    if failure.status != 412:
                        raise
                found = self._begun() or about
                if found["upload"] != mine:
                    self.object.abort_upload(mine)
        if (found["nbytes"], found["part"]) != (nbytes, part):
            raise OutputError("parts of another size are being written", subject=self.output)
        return found["upload"], found["mark"]

    def _begun(self) -> dict[str, Any] | None:
        try:
            _, text = self._objects.below(UPLOAD).begun(0, 1 << 12)
        except Failure as failure:
            if failure.status == 404:
                return None
            raise
        found: dict[str, Any] = json.loads(text)
        return found

    def begin(self, *, alone: bool, force: bool, inputs: Sequence[Source]) -> NewFile:
        """Return the object that the parts write; see `SharedObject`."""
        return SharedObject(self, alone=alone, force=force, inputs=inputs)


class SharedObject(Ranged, MultipartFile):
    """The object that the parts of an output write.

    Parameters
    ----------
    folder : SharedUpload
        Which upload it is.
    alone : bool
        Whether this process writes what is outside of all ranges too, such as a header, and may commit.
    force, inputs
        As of `MultipartFile`.
    """

    def __init__(self, folder: SharedUpload, *, alone: bool, force: bool, inputs: Sequence[Source]) -> None:
        self._folder, self._alone = folder, alone
        self._listed: dict[int, str] | None = None
        self._earlier: dict[int, str] = {}  # the ETags of parts of the ranges before
        super().__init__(folder.object, name=folder.output, force=force, inputs=inputs)

    def allocate(self, nbytes: int) -> None:
        """Join the upload of an object of this size, or begin it."""
        if nbytes > self._remote.most_nbytes:
            raise too_large(nbytes, self._remote.most_nbytes, self.name)
        self._nbytes, self._part_nbytes = nbytes, part_nbytes(nbytes)
        upload, self._mark = self._folder.upload(nbytes)
        self._begun = Future()
        self._begun.set_result(upload)
        self.limits(0, 0)

    def grains(self, start: int, stop: int) -> tuple[int, int]:
        """Return where the first part of the upload begins, and the last one ends, that lie in a range."""
        whole = stop if stop == self._nbytes else stop // self._part_nbytes * self._part_nbytes
        return -(-start // self._part_nbytes) * self._part_nbytes, whole

    def limits(self, start: int, stop: int) -> None:
        """Set the range of bytes that is written from now on, and forget what was."""
        super().limits(start, stop)
        self._earlier |= self._etags
        self._etags = {}

    def finish(self) -> tuple[list[Written], list[Edge]]:
        """Wait until what was written has arrived, and return it, and the ends of the range, sorted by offset."""
        self._sending.check(None)
        sent = sorted(self._etags.items())
        return [Written([*part], self._size_of(part[0]), 0) for part in sent], sorted(self._edges)

    def holds(self, run: Written) -> bool:
        """Return whether the upload has a part as it was written."""
        number, etag = run.place
        found = self._etags.get(number) or self._earlier.get(number) or self._arrived().get(number)
        return found == str(etag)

    def _arrived(self) -> dict[int, str]:
        """Return the ETags of the parts that had arrived, of all processes, when it was first asked."""
        if self._listed is None:
            with self._remote.writing(self.name):
                self._listed = self._folder.object.parts(self._upload)
        return self._listed

    def commit(self) -> None:
        """Complete the upload, and remove the records; a second time, do nothing.

        Raises
        ------
        OutputError
            If a part is not there. As for `MultipartFile`: then all parts stay.
        """
        if self._ended:
            return
        self._sending.check(None)
        self._etags = {**self._arrived(), **self._earlier, **self._etags}
        if len(self._etags) < -(-self._nbytes // self._part_nbytes):
            raise OutputError("its upload lacks a part", subject=self.name, hint="--resume does what is missing")
        super().commit()
        self._folder.emptied()

    def _abort(self, seconds: float | None = None) -> None:
        """Leave the upload for the next run."""


class SharedObjects(SharedFiles, ObjectFolder):
    """The objects below a prefix that the parts of an output write, each whole ones, under one claim.

    Parameters
    ----------
    folder : SharedPrefix
        Where their records are.
    inputs : sequence of Source
        As of `ObjectFolder`.

    Notes
    -----
    Nothing is replaced, also with `force`: what one part removed could be what another has just put. The mark of the
    claim says which run it is of (`SharedFolder.run`), so whoever has it puts the same bytes.
    """

    def __init__(self, folder: SharedPrefix, inputs: Sequence[Source]) -> None:
        self._folder = folder
        self._written: list[Written] = []
        self._listed: dict[str, str] | None = None
        format_ = written(folder.output)[0]
        assert format_ and format_.files
        super().__init__(folder.object, format_.files, name=folder.output, inputs=inputs)

    def _begin(self, force: bool, inputs: Sequence[Source]) -> None:
        """Join the parts that have claimed the prefix, or claim it."""
        ours = f"{PARTS}{self._folder.run}-"
        self._mark = f"{ours}{self._mark}"
        claim = self._claim.head()
        if claim is None:
            try:
                super()._begin(False, inputs)
            except OutputError as error:
                claim = self._claim.head()
                if claim is None:
                    error.hint = "remove it, or choose another name: parts replace nothing"
                    raise
        if claim is not None:
            if not claim.mark.startswith(PARTS):
                hint = f"wait for it; gncli clean {self._remote.url} removes what it left"
                raise OutputError("is being written by another run", subject=self.name, hint=hint)
            if not claim.mark.startswith(ours):
                way_out = f"gncli clean --force {self._remote.url} removes them"
                raise ChangedError("parts of another run are there", subject=self.name, hint=way_out)
            self._mark, self.replaces = claim.mark, False
            signals.cleanups[self] = self._removed
        self._claimed = self._prepared = True

    def _sent(self, key: str, nbytes: int) -> None:
        """Take note of an object that was put."""
        found = self._remote.below(key).head()
        self._written.append(Written([key, found.state.etag if found else ""], nbytes, 0))

    def finish(self) -> tuple[list[Written], list[Edge]]:
        """Wait until what was written has arrived, and return it, sorted by key; there are no ends of a range."""
        self._sending.check(None)
        found, self._written = sorted(self._written), []
        return found, []

    def holds(self, run: Written) -> bool:
        """Return whether an object is there as it was put."""
        if self._listed is None:
            with self._remote.writing(self.name):
                self._listed = {each.name: each.etag for each in self._remote.contents()}
        key, etag = map(str, run.place)
        return self._listed.get(key) == etag

    def commit(self) -> None:
        """Put what describes the store, and remove the records; a second time, do nothing."""
        if not self._ended:
            super().commit()
            with suppress(OutputError):  # those that stay are removed by `objects_left_over`
                self._folder.emptied()

    def _empty(self, *, quiet: bool) -> None:
        """Leave what was put for the next run."""
        if self._whole:
            super()._empty(quiet=quiet)


def shared_folder(output: str, network: Network) -> SharedFolder:
    """Return where the parts of an output are.

    Raises
    ------
    ParameterError
        If it is one object, on a store where no upload is shared.
    """
    if not is_url(output):
        return SharedFolder(output)
    format_ = written(output)[0]
    if format_ and format_.files:
        return SharedPrefix(output, network)
    if parsed(output, ParameterError)[0].scheme != "s3":
        problem = "cannot be written in parts"
        raise ParameterError(problem, subject=output, hint="a .zarr can, on s3:// and in a folder a .npy too")
    return SharedUpload(output, network)


def objects_left_over(output: str, *, force: bool) -> list[str]:
    """Remove what runs have left of an output on a store, and return a line about each object or upload.

    Parameters
    ----------
    output : str
        The output.
    force : bool
        Whether that is removed too which may be of a run that goes on.

    Raises
    ------
    OutputError
        If something may be of a run that goes on, or the store does not list or remove it.
    ParameterError
        If such objects are not written.
    """
    format_, lines = written(output)[0], []
    gone: list[tuple[str, int]] = []
    if format_ and format_.files:
        gone = folder_left_over(output, format_.files, force=force)
    else:
        lines = [f"removed an upload that was begun at {begun}" for begun in uploads_left_over(output, force=force)]
    with suppress(ParameterError):  # where nothing is written in parts
        gone += shared_folder(output, ON_NETWORK).emptied()
    return lines + [f"removed {printable(name)} ({nbytes:,} bytes)" for name, nbytes in gone]
