"""``gncli normalize`` in parts, which need no scheduler: one part, all of them put together, or a run that goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gncli import __version__, progress
from gncli.errors import ChangedError, InputError, ParameterError
from gncli.inputs import Draw
from gncli.io.foreign import Narrowed
from gncli.io.formats import written
from gncli.io.shared import Edge, Place, Record, SharedFolder, Written, shared_end
from gncli.io.shared_objects import shared_folder
from gncli.io.source import Sink, Source
from gncli.report.normalize_records import NormalizeReport
from gncli.report.part_records import PartReport
from gncli.run.engine import Engine
from gncli.run.parts import Cut, PartsEngine
from gncli.tasks.normalize import NormalizeRun
from gncli.tasks.requests import Normalize, Parts

PART_NBYTES = 1 << 30  # of the input, that a run which can go on does between two records

WORDS = {
    "gncli": "the version of gncli",
    "input": "the input (its size, time, and inode or ETag)",
    "elements": "the dtype of the input",
    "affine": "gamma or beta",
    "given": "--mean or --var",
    "moments": "--save-moments",
    "verify": "the check",
    "stages": "--stages",
}
"""What errors call the facts of a run that need more than their name."""


def identity_facts(source: Source) -> dict[str, Any]:
    """Return the facts that identify a tensor on every machine that sees its file.

    Raises
    ------
    ParameterError
        If it is no file, or one that can only be read forwards.
    """
    if source.sequential or source.identity is None:
        raise ParameterError("cannot be read in parts", subject=source.name, hint="store it in a .npy, and name that")
    _, inode, nbytes, mtime_ns, _ = source.identity
    return {
        "gncli": __version__,
        "input": [nbytes, mtime_ns, inode],
        "shape": list(source.shape),
        "elements": [source.dtype.str, source.dtype_name],
        "order": source.order,
    }


def digest_of(*arrays: NDArray[Any] | None) -> str:
    """Return a digest of small arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()[:32]


def check_same(record: Record, facts: dict[str, Any], hint: str) -> None:
    """Raise ChangedError if a record is of a run with other facts."""
    theirs = record.about["run"]
    for name in dict.fromkeys([*facts, *theirs]):
        then, now = theirs.get(name), facts.get(name)
        if then != now:
            told = "" if name in WORDS else f" ({then}, now {now})"
            problem = f"is of another run: {WORDS.get(name, name)} differs{told}"
            raise ChangedError(problem, subject=record.name, hint=hint)


def listed(parts: list[int], of: int) -> str:
    """Return parts in words.

    Examples
    --------
    >>> listed([3], 7), listed([1, 2, 3, 5], 7)
    ('part 3 of 7', 'parts 1 to 3 and 5 of 7')
    """
    runs: list[list[int]] = []
    for part in parts:
        if runs and part == runs[-1][-1] + 1:
            runs[-1].append(part)
        else:
            runs.append([part])
    words: list[str] = []
    for run in runs:
        words += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    text = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return f"part{'s' * (len(parts) > 1)} {text} of {of}"


class PartsRun(NormalizeRun):
    """A run of ``normalize`` in parts: entering it opens and checks everything.

    Then call `part`, which does one part; or `report` and `commit`, as of `NormalizeRun`, which put all together.

    Parameters
    ----------
    request : Normalize
        The tensor and the options.
    asked : Parts
        What is done of it.
    """

    def __init__(self, request: Normalize, asked: Parts) -> None:
        super().__init__(request._replace(zeros=True))  # the report may be asked for them when all are put together
        self.asked = asked
        self._alone = asked.kind in ("assemble", "resume")
        if not self._alone:
            self.request = self.request._replace(save_moments=None)  # they are kept in the record
        self._parts = asked.parts

    # --- opening ---

    def _make_engine(self) -> Engine:
        request = self.request
        if request.execution.executor != "threads":
            raise ParameterError("parts need no cluster", hint="leave out --executor dask")
        if self._bars:
            raise ParameterError("histograms are not made in parts", hint="leave out --hist and --plot")
        if isinstance(request.tensor, Draw) or request.tensor == "-":
            name = "<random>" if isinstance(request.tensor, Draw) else "<stdin>"
            raise ParameterError("cannot be read in parts", subject=name, hint="store it in a .npy, and name that")
        self._keeper = PartsEngine(request.execution.workers, request.execution.tile)
        return self._keeper

    def _open_outputs(self, stack: contextlib.ExitStack) -> None:
        output = self._path or ""
        identity = identity_facts(self._source)
        format_, _, member = written(output)
        if format_ is None or self._source.order not in format_.in_parts:
            hint = "-o FILE.npy can, and FILE.zarr unless the input is in Fortran order"
            raise ParameterError("cannot be written in parts", subject=output or None, hint=hint)
        self._folder = shared_folder(output, self.request.policy.network)
        self._facts: dict[str, Any] = json.loads(json.dumps(identity | self._own_facts() | {"member": member}))
        self._folder.run = hashlib.sha256(json.dumps(self._facts, sort_keys=True).encode()).hexdigest()[:16]
        self._join()
        super()._open_outputs(stack)
        normalization = self._normalization()
        self._plan = normalization.plan
        if not self._parts:
            nbytes = self._plan.partition.size * self._source.dtype.itemsize
            self._parts = max(1, -(-nbytes // PART_NBYTES))
        self._keeper.cut = self._cut = Cut.of(self._plan, self._parts)
        if self.asked.kind == "assemble":
            self._require("measure" if self._cut.divides else "part", range(1, self._parts + 1))
            self._require("part", range(1, self._parts + 1))

    def _join(self) -> None:
        """Refuse parts that are of another run, before anything is written."""
        places = self._folder.places()
        numbers = sorted({place.parts for place in places})
        if numbers and {*numbers} != {self._parts or numbers[0]}:
            ours = f", not of {self._parts}" if self._parts else ""
            problem = f"holds parts of {' and of '.join(map(str, numbers))}{ours}"
            raise ChangedError(problem, subject=self._folder.shown, hint=self._way_out)
        if self.asked.kind == "assemble" and not places:
            hint = "gncli normalize ... --part I/N makes them"
            raise InputError("there are no parts of it", subject=self._path, hint=hint)
        if places:
            self._parts = numbers[0]
            with contextlib.suppress(InputError):  # a damaged record is of no use, and is made again
                self._read(places[0])

    def _left_over(self, path: str) -> tuple[str, ...]:
        """Return no note: the parts are of this run."""
        return ()

    def _open_sink(self, path: str, folder: SharedFolder | None = None, *, alone: bool = False) -> Sink:
        sink = super()._open_sink(path, self._folder, alone=self._alone)
        self._shared = shared_end(sink.inner if isinstance(sink, Narrowed) else sink)
        return sink

    @property
    def _way_out(self) -> str:
        return f"gncli clean {self._path} removes them"

    def _own_facts(self) -> dict[str, Any]:
        """Return what changes a bit of what parts write or find, besides the input."""
        request, affine = self.request, self._affine
        named = {k: v for k, v in vars(self._parameters).items() if k not in ("gamma", "beta", "mean", "var", "cells")}
        return named | {
            "affine": digest_of(affine.gamma, affine.beta, affine.rest),
            "given": digest_of(*(self._given or ())),
            "moments": self._keeps,
            "compression": request.output.compression,
            "stages": request.stages,
            "verify": request.verify or request.stages,
        }

    def _read(self, place: Place) -> Record:
        """Return a record of this run.

        Raises
        ------
        InputError
            If it is damaged.
        ChangedError
            If it is of another run.
        """
        record = self._folder.read(place)
        check_same(record, self._facts, self._way_out)
        return record

    def _require(self, kind: str, parts: Iterable[int]) -> None:
        """Raise InputError if a record is missing."""
        there = set(self._folder.places())
        missing = [part for part in parts if Place(kind, part, self._parts) not in there]
        if missing:
            which = listed(missing, self._parts)
            problem = f"missing: {which}" if kind == "part" else f"not measured: {which}"
            option = " --measure" if kind == "measure" else ""
            hint = f"gncli normalize ... --part {missing[0]}/{self._parts}{option}"
            raise InputError(problem, subject=self._path, hint=hint)

    # --- one part ---

    def part(self) -> PartReport:
        """Do the part, unless it was done, and return what was done.

        Raises
        ------
        GncliError
            If the input cannot be read, the output written, or cells are larger than a part and were not measured.
        """
        part, measure = self.asked.part, self.asked.kind == "measure"
        nothing = measure and not self._cut.divides
        before = not nothing and self._done(part, measure=measure)
        start, stop = self._cut.run_of(part, self._plan)
        walk = self._plan.walk
        whole = not self._cut.divides and start % walk.span == stop % walk.span == 0
        steps = ("measured",) * (measure or not self._cut.divides) + ("written",) * (not measure)
        return PartReport(
            command="normalize",
            input=self._source.name,
            output=self._path or "",
            part=part,
            parts=self._parts,
            steps=() if nothing else steps,
            cells=(stop - start) // walk.span * walk.span_cells if whole else None,
            of_cells=self._plan.partition.num_cells,
            elements=stop - start,
            of_elements=self._plan.partition.size,
            cell="group" if self._parameters.groups is not None else "cell",
            before=before,
            notes=(*self._notes, *self._engine.notes),
        )

    def _done(self, part: int, *, measure: bool) -> bool:
        """Do a part, and return whether it was done before."""
        place = Place("measure" if measure else "part", part, self._parts)
        if place in self._folder.places() and self._intact(place):
            return True
        start, stop = self._cut.run_of(part, self._plan)
        first, last = (start, stop) if measure else self._shared.reach(start, stop)
        if self._cut.divides and not measure:
            self._require("measure", self._cut.sharing(start, max(stop, last), self._plan))
            self._keeper.recalling(self._recorded, measured=True)
        beyond = last if self._cut.shares else -(-last // self._plan.walk.span) * self._plan.walk.span
        self._keeper.begin(part, stop, beyond)
        self._shared.limits(first, last)
        mine = partial(self._cut.overlaps, start, max(stop, last), self._plan)
        self._normalization().record(self._parts, mine, measure=measure, shares=self._cut.shares)
        self._source.verify_unchanged()
        runs, edges = self._shared.finish()
        visits, arrays = self._keeper.record()
        about = {"run": self._facts, "visits": visits, "written": runs, "edges": [[at, len(b)] for at, b in edges]}
        arrays["edges"] = np.frombuffer(b"".join(data for _, data in edges), np.uint8)
        self._folder.save(place, about, arrays)
        return False

    def _recorded(self, kind: str, part: int) -> Record:
        return self._read(Place(kind, part, self._parts))

    def _intact(self, place: Place, *, verify: bool = True) -> bool:
        """Return whether a record can be read, and the output has what it says, or unless `verify` as much as that."""
        try:
            record = self._read(place)
        except InputError:
            return False
        runs = [Written(*run) for run in record.about["written"]]
        progress.begin("verify", self._path or "", sum(run.nbytes for run in runs))
        holds = self._shared.holds if verify else self._shared.stores

        def looked_at(run: Written) -> bool:
            held = holds(run)
            progress.advance(run.nbytes)
            return held

        return self._keeper.all_hold(looked_at, runs)

    # --- all parts ---

    def report(self) -> NormalizeReport:
        """Put all parts together, and return the report of before and after.

        A run that goes on does first what is missing.

        Raises
        ------
        GncliError
            If a part is not what its record says; also as for `part`.
        """
        every = range(1, self._parts + 1)
        if self.asked.kind == "resume":
            for measure in (True, False) if self._cut.divides else (False,):
                for part in every:
                    self._done(part, measure=measure)
        else:
            verify = self.request.verify
            bad = [part for part in every if not self._intact(Place("part", part, self._parts), verify=verify)]
            if bad:
                problem = f"not what was recorded: {listed(bad, self._parts)}"
                raise InputError(problem, subject=self._path, hint=f"do it again: --part {bad[0]}/{self._parts}")
        self._keeper.begin(0)
        self._keeper.recalling(self._recorded, measured=self._cut.divides)
        return super().report()

    def commit(self) -> None:
        """Make the outputs visible under their names, unless the check failed: then the parts stay."""
        if self._holds:
            for part in range(1, self._parts + 1):
                self._shared.fill(_edges(self._recorded("part", part)))
        super().commit()


def _edges(record: Record) -> Iterator[Edge]:
    """Yield the ends of the range of a part."""
    data, done = record.arrays["edges"].tobytes(), 0
    for at, nbytes in record.about["edges"]:
        yield at, data[done : done + nbytes]
        done += nbytes
