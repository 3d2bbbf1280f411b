"""``gncli stats`` in parts: one part is measured and written to a record, or the records of all are put together."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from gncli import io
from gncli.errors import ChangedError, InputError, LimitError, ParameterError
from gncli.io.shared import Record, Remembered, RememberedFile, read_record
from gncli.io.source import Source
from gncli.kernels.extras import is_extra
from gncli.names import DEFAULT_STATISTICS, statistic
from gncli.report.part_records import PartReport
from gncli.run.engine import Engine
from gncli.run.parts import Cut, PartsEngine
from gncli.run.plan import Plan
from gncli.tasks.by import By, cut
from gncli.tasks.parts import check_same, identity_facts, listed
from gncli.tasks.requests import Cutting, Parts, Stats
from gncli.tasks.stats import StatsRun
from gncli.tasks.survey import FINGERPRINT, Wanted, measured, plans, record

ONE_RUN = "give the parts of one run"


def measure_part(request: Stats, asked: Parts, output: str, *, force: bool = False) -> PartReport:
    """Measure one part of a tensor, and write what was found.

    Parameters
    ----------
    request : Stats
        The tensor, the statistics and the cells.
    asked : Parts
        Which part.
    output : str
        The .npz to write. A record of this part of this run is replaced, as a job that is run again would have it.
    force : bool
        Whether any other file of this name may be replaced.

    Raises
    ------
    GncliError
        If the tensor cannot be read in parts, or the record cannot be written.
    """
    if len(request.tensors) != 1:
        raise ParameterError(f"a part is of one TENSOR, not of {len(request.tensors)}", hint="name one")
    (name,) = request.tensors
    if name == "-":
        raise ParameterError("cannot be read in parts", subject="<stdin>", hint="store it in a .npy, and name that")
    if FINGERPRINT in request.statistics:
        raise ParameterError("a fingerprint is not measured in parts", hint=f"leave out {FINGERPRINT}")
    # Zeros are always counted, since the report may be asked for them.
    wanted = Wanted(measured(request.statistics or DEFAULT_STATISTICS, zeros=True), request.ddof)
    listing = io.open_sources(name, policy=request.policy)
    with (
        PartsEngine(request.execution.workers, request.execution.tile) as engine,
        contextlib.closing(listing.only()) as source,
    ):
        facts = json.loads(json.dumps(_facts(request, source) | {"measured": wanted.statistics}))
        force = force or _is_of_part(output, facts, asked)
        with io.open_npz(output, force=force, inputs=[source]) as sink:
            plan, _ = next(plans(source, _by(request.cutting, source), engine, wanted))
            if plan.source is not source:
                problem = f"{plan.partition.num_cells:,} cells and more are too many to be open in a part"
                raise LimitError(problem, subject=source.name, hint="ask for fewer cells")
            engine.cut, engine.part = Cut.of(plan, asked.parts), asked.part
            if wanted.reads:
                record(plan.begin(asked.parts), wanted)
            source.verify_unchanged()
            visits, arrays = engine.record()
            about = {
                "run": facts,
                "part": asked.part,
                "name": source.name,
                "others": listing.skipped,
                "cut": engine.cut,
                "visits": visits,
            }
            Record(output, about, arrays).save(sink)
        return _report(asked, source, output, engine, plan)


def _is_of_part(path: str, facts: dict[str, Any], asked: Parts) -> bool:
    """Return whether a file is a record of this part of this run."""
    try:
        about = read_record(path, path).about
    except InputError:
        return False
    return (about["run"], about.get("part"), about.get("cut", [0])[0]) == (facts, asked.part, asked.parts)


def _by(cutting: Cutting, source: Source) -> By:
    if cutting.by is None:
        return By(source.shape, source.order, (), ())
    try:
        return cut(cutting, source.shape, source.order)
    except ParameterError as error:
        raise error.about(source.name) from None


def _facts(request: Stats, source: Source) -> dict[str, Any]:
    """Return what all parts must have in common."""
    return (
        identity_facts(source)
        | Remembered.facts(source)
        | {
            "statistics": request.statistics,
            "ddof": request.ddof,
            **request.cutting._asdict(),
        }
    )


def _report(asked: Parts, source: Source, output: str, engine: PartsEngine, plan: Plan) -> PartReport:
    start, stop = engine.cut.run_of(asked.part, plan)
    walk = plan.walk
    whole = start % walk.span == stop % walk.span == 0
    return PartReport(
        command="stats",
        input=source.name,
        output=output,
        part=asked.part,
        parts=asked.parts,
        steps=("measured",),
        cells=(stop - start) // walk.span * walk.span_cells if whole else None,
        of_cells=plan.partition.num_cells,
        elements=stop - start,
        of_elements=plan.partition.size,
        cell="cell",
        notes=engine.notes,
    )


def _is_measured(name: str) -> bool:
    """Return whether a statistic takes more than moments."""
    return name == FINGERPRINT or is_extra(name) or statistic(name).percentile is not None


class Assembly:
    """The records of all parts of a tensor.

    Parameters
    ----------
    request : Stats
        The records, in any order, as its tensors.

    Attributes
    ----------
    request : Stats
        The same about the tensor: what was measured, and of which cells, is said by the records.

    Raises
    ------
    ChangedError
        If they are not of one run.
    InputError
        If one is missing, or cannot be read.
    ParameterError
        If a part is given twice.
    """

    def __init__(self, request: Stats) -> None:
        self._paths: dict[int, str] = {}
        abouts: list[dict[str, Any]] = []
        for path in map(io.name_of, request.tensors):
            found = read_record(path, path)
            about = {name: fact for name, fact in found.about.items() if name != "visits"}
            if "name" not in about:
                raise InputError("is a part of normalize", subject=path, hint="gncli normalize ... --assemble")
            abouts.append(about)
            check_same(found, abouts[0]["run"], ONE_RUN)
            if about["cut"] != abouts[0]["cut"]:
                problem = f"is a part of {about['cut'][0]}, not of {abouts[0]['cut'][0]}"
                raise ChangedError(problem, subject=path, hint=ONE_RUN)
            if about["part"] in self._paths:
                problem = f"is the same part as {self._paths[about['part']]}"
                raise ParameterError(problem, subject=path, hint="give each part once")
            self._paths[about["part"]] = path
        first = min(abouts, key=lambda about: about["part"])
        self._cut, self.facts = Cut(*first["cut"]), first["run"]
        missing = [part for part in range(1, self._cut.parts + 1) if part not in self._paths]
        if missing:
            problem = f"missing: {listed(missing, self._cut.parts)}"
            raise InputError(problem, subject=first["name"], hint="gncli stats ... --part I/N -o FILE.npz measures one")
        self.request = request._replace(
            tensors=(io.Listing(RememberedFile(self.facts, first["others"]), first["name"]),),
            statistics=tuple(self.facts["statistics"]),
            ddof=self.facts["ddof"],
            cutting=Cutting(**{name: self.facts[name] for name in request.cutting._asdict()}),
        )

    def run(self, request: Stats) -> StatsRun:
        """Return the run that puts the parts together, for `request` with other limits.

        Raises
        ------
        ParameterError
            If it asks for what was not measured.
        """
        return _AssembledRun(request, self)

    def engine(self, request: Stats) -> PartsEngine:
        """Return the engine that recalls the parts."""
        engine = PartsEngine(request.execution.workers, request.execution.tile)
        engine.cut = self._cut
        engine.recalling(lambda _, part: read_record(self._paths[part], self._paths[part]), measured=False)
        return engine


class _AssembledRun(StatsRun):
    """A run of ``stats`` whose tensor was measured in parts."""

    def __init__(self, request: Stats, assembly: Assembly) -> None:
        super().__init__(request)
        self._assembly = assembly
        known, asked = tuple(assembly.facts["measured"]), self._wanted.statistics
        unknown = [name for name in asked if name not in known and _is_measured(name)]
        if unknown:
            raise ParameterError(f"the parts did not measure {', '.join(unknown)}", hint="name it in -s of each part")
        self._wanted = self._wanted._replace(statistics=tuple(dict.fromkeys((*known, *asked))))

    def _make_engine(self) -> Engine:
        return self._assembly.engine(self.request)
